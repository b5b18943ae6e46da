// SPDX-License-Identifier: MIT
/*
 * The generator: which tokens come, which bytes of them, and when it ends.
 *
 * Most tests run a *chain*: a model without attention or feed-forward whose output matrix says
 * which token follows which, so that a test chooses what is generated. Its vocabulary is that of
 * the golden models: <unk> <s> </s>, the 256 bytes, some pieces.
 */
#include <errno.h>
#include <math.h>

#include "model_fixture.h"

#include "decode/generate.h"

#define LLAMA GOLDEN("llama.f32")

enum { BOS = 1, EOS = 2, N_VOCAB = 288 };
#define BYTE(b) (3 + (b)) /* the token of a byte */

static const struct sampler_params greedy = {.temp = 0, .top_p = 1, .repeat_penalty = 1};

/* ---- chains ---- */

/* Zeros everywhere but where a token is followed by the next one of @chain. */
static const char *write_chain(const char *name, const int32_t *chain, size_t n)
{
	static float ones[N_VOCAB], same[N_VOCAB][N_VOCAB], follows[N_VOCAB][N_VOCAB];
	const uint64_t d = N_VOCAB;

	memset(same, 0, sizeof(same));
	memset(follows, 0, sizeof(follows));
	for (size_t i = 0; i < N_VOCAB; i++)
		ones[i] = same[i][i] = 1;
	for (size_t i = 0; i + 1 < n; i++)
		follows[chain[i + 1]][chain[i]] = 1;
	return edit_model(LLAMA, name,
			  EDITS(DROP_TENSORS, SET_U32("llama.block_count", 1),
				SET_U32("llama.embedding_length", d),
				SET_U32("llama.rope.dimension_count", 72),
				SET_DATA("token_embd.weight", WT_F32, same, d, d),
				SET_DATA("output.weight", WT_F32, follows, d, d),
				SET_DATA("output_norm.weight", WT_F32, ones, d),
				SET_DATA("blk.0.attn_norm.weight", WT_F32, ones, d),
				SET_DATA("blk.0.ffn_norm.weight", WT_F32, ones, d),
				SET_TENSOR("blk.0.attn_q.weight", WT_F32, d, d),
				SET_TENSOR("blk.0.attn_k.weight", WT_F32, d, d / 2),
				SET_TENSOR("blk.0.attn_v.weight", WT_F32, d, d / 2),
				SET_TENSOR("blk.0.attn_output.weight", WT_F32, d, d),
				SET_TENSOR("blk.0.ffn_gate.weight", WT_F32, d, 128),
				SET_TENSOR("blk.0.ffn_up.weight", WT_F32, d, 128),
				SET_TENSOR("blk.0.ffn_down.weight", WT_F32, 128, d)));
}

struct fixture {
	struct session *s;
	struct generator g;
	struct strbuf out;
};

static struct session_params params(const char *path)
{
	return (struct session_params){.path = path,
				       .source = "mmap",
				       .n_threads = 1,
				       .kv_type = KV_AUTO,
				       .need_text = true};
}

static void open_with(struct fixture *f, const struct session_params *p,
		      const struct sampler_params *sampling)
{
	struct err err = {""};

	*f = (struct fixture){0};
	if (session_open(p, &f->s, &err) || generator_open(&f->g, f->s, sampling, &err))
		fail_msg("%s", err.text);
	assert_int_equal(strbuf_puts(&f->out, ""), 0);
}

/* A chain that is about to give chain[1]. */
static void open_chain(struct fixture *f, const int32_t *chain, size_t n)
{
	const struct session_params p = params(write_chain("chain.gguf", chain, n));
	struct err err = {""};

	open_with(f, &p, &greedy);
	if (generator_prompt(&f->g, chain, 1, &err))
		fail_msg("%s", err.text);
}

#define OPEN_CHAIN(f, ...)                                                                         \
	open_chain(f, (const int32_t[]){__VA_ARGS__},                                              \
		   sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void close_fixture(struct fixture *f)
{
	generator_close(&f->g);
	session_close(f->s);
	strbuf_free(&f->out);
}

/* One step that must return @want; what is handed out so far is then @text. */
static void step(struct fixture *f, bool last, int want, const char *text)
{
	struct err err = {""};
	int r = generator_step(&f->g, last, &f->out, &err);

	if (r != want)
		fail_msg("%d, not %d, before '%s': %s", r, want, text, err.text);
	assert_string_equal(f->out.p, text);
}

/* ---- what ends it ---- */

static void test_text_comes_token_by_token_until_the_end(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BOS, BYTE('H'), BYTE('i'), BYTE('!'), EOS);
	step(&f, false, 1, "H");
	step(&f, false, 1, "Hi");
	step(&f, false, 1, "Hi!");
	step(&f, false, 0, "Hi!");
	step(&f, false, 0, "Hi!"); /* and stays ended */
	assert_int_equal(f.g.n_prompt, 1);
	assert_int_equal(f.g.n_decode, 3);
	assert_int_equal(f.s->n_past, 4);
	assert_true(f.g.prompt_ns > 0 && f.g.decode_ns > 0);
	close_fixture(&f);
}

static void test_another_prompt_goes_on_after_the_end(void **state)
{
	const int32_t again = BYTE('a');
	struct err err = {""};
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), BYTE('b'), EOS);
	step(&f, false, 1, "b");
	step(&f, false, 0, "b");
	assert_int_equal(generator_prompt(&f.g, &again, 1, &err), 0);
	step(&f, false, 1, "bb");
	step(&f, false, 0, "bb");
	close_fixture(&f);
}

static void test_benchmarks_go_on_after_the_end(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), EOS, BYTE('b'), BYTE('c'));
	f.g.ignore_end = true;
	step(&f, false, 1, ""); /* a control token has no text */
	step(&f, false, 1, "b");
	step(&f, false, 1, "bc");
	close_fixture(&f);
}

static void test_last_step_runs_no_pass(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), BYTE('b'), BYTE('c'), BYTE('d'));
	step(&f, false, 1, "b");
	step(&f, true, 1, "bc");
	assert_int_equal(f.s->n_past, 2);
	assert_int_equal(f.g.n_decode, 1);
	step(&f, false, 0, "bc");
	close_fixture(&f);
}

static void test_there_must_be_a_prompt(void **state)
{
	const struct session_params p = params(LLAMA);
	struct err err = {""};
	struct fixture f;

	open_with(&f, &p, &greedy);
	assert_int_equal(generator_step(&f.g, false, &f.out, &err), -EINVAL);
	says(&err, "no prompt");
	close_fixture(&f);
}

static void test_full_context_keeps_the_text_so_far(void **state)
{
	const int32_t chain[] = {BYTE('a'), BYTE('b'), BYTE('c'), BYTE('d'), BYTE('e')};
	struct session_params p = params(write_chain("short.gguf", chain, ARRAY_SIZE(chain)));
	struct err err = {""};
	struct fixture f;

	p.n_ctx = 2;
	open_with(&f, &p, &greedy);
	assert_int_equal(generator_prompt(&f.g, chain, 1, &err), 0);
	step(&f, false, 1, "b");
	step(&f, false, -ENOSPC, "bc");
	close_fixture(&f);
}

/* Every token is handed out once, however often a step is cancelled and tried again. */
static void test_cancelled_step_repeats_no_text(void **state)
{
	const int32_t chain[] = {BYTE('a'), BYTE('b'), BYTE('c'), EOS};
	struct session_params p = params(write_chain("chain.gguf", chain, ARRAY_SIZE(chain)));
	volatile int cancel = 0;
	struct err err = {""};
	struct fixture f;

	p.cancel = &cancel;
	open_with(&f, &p, &greedy);
	assert_int_equal(generator_prompt(&f.g, chain, 1, &err), 0);
	cancel = 1;
	assert_int_equal(generator_step(&f.g, false, &f.out, &err), -EINTR);
	assert_int_equal(generator_step(&f.g, false, &f.out, &err), -EINTR);
	cancel = 0;
	while (generator_step(&f.g, false, &f.out, &err) > 0)
		;
	assert_string_equal(f.out.p, "bc");
	close_fixture(&f);
}

static void test_output_that_is_no_number_is_an_error(void **state)
{
	static float nan[64 * N_VOCAB];
	const int32_t prompt = BYTE('a');
	struct session_params p;
	struct err err = {""};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(nan); i++)
		nan[i] = NAN;
	p = params(edit_model(LLAMA, "nan.gguf",
			      EDITS(SET_DATA("output.weight", WT_F32, nan, 64, N_VOCAB))));
	open_with(&f, &p, &greedy);
	assert_int_equal(generator_prompt(&f.g, &prompt, 1, &err), -EDOM);
	says(&err, "not a number");
	close_fixture(&f);
}

/* ---- whole characters ---- */

static void test_text_never_ends_inside_a_character(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), BYTE(0xe2), BYTE(0x82), BYTE(0xac), BYTE(0xc3), BYTE(0xa9), EOS);
	step(&f, false, 1, "");
	step(&f, false, 1, "");
	step(&f, false, 1, "\xe2\x82\xac");
	step(&f, false, 1, "\xe2\x82\xac");
	step(&f, false, 1, "\xe2\x82\xac\xc3\xa9");
	step(&f, false, 0, "\xe2\x82\xac\xc3\xa9");
	close_fixture(&f);
}

static void test_held_back_bytes_come_with_the_end(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), BYTE('x'), BYTE(0xe2), BYTE(0x82), EOS);
	step(&f, false, 1, "x");
	step(&f, false, 1, "x");
	step(&f, false, 1, "x");
	step(&f, false, 0, "x\xe2\x82");
	step(&f, false, 0, "x\xe2\x82");
	close_fixture(&f);
}

static void test_held_back_bytes_come_with_the_last_step(void **state)
{
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('a'), BYTE(0xe2), BYTE(0x82), BYTE(0xac));
	step(&f, false, 1, "");
	step(&f, true, 1, "\xe2\x82");
	close_fixture(&f);
}

/* An answer that was cut short must not begin the next one. */
static void test_held_back_bytes_do_not_outlive_a_prompt(void **state)
{
	const int32_t again = BYTE('a');
	struct err err = {""};
	struct fixture f;

	OPEN_CHAIN(&f, BYTE('b'), BYTE(0xe2), BYTE('a'), BYTE('c'), EOS);
	step(&f, false, 1, ""); /* the first byte of three is held */
	assert_int_equal(generator_prompt(&f.g, &again, 1, &err), 0);
	step(&f, false, 1, "c");
	close_fixture(&f);
}

/* Rows of an embedding that was padded have no text; that is no lack of memory. */
static void test_token_without_text_is_not_out_of_memory(void **state)
{
	const int32_t chain[] = {BYTE('a'), 287, BYTE('b'), EOS};
	struct session_params p = params(write_chain("chain.gguf", chain, ARRAY_SIZE(chain)));
	struct err err = {""};
	static struct gguf_str text[280];
	static float score[280];
	static int32_t type[280];
	struct gguf *g = NULL;
	struct gguf_array a;
	struct fixture f;
	int r;

	/* a vocabulary that is 8 shorter than the embedding */
	assert_int_equal(gguf_open(p.path, &g, &err), 0);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &a, &err), 0);
	memcpy(text, a.str, sizeof(text));
	assert_int_equal(gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, &a, &err), 0);
	memcpy(score, a.num, sizeof(score));
	assert_int_equal(gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, &a, &err), 0);
	memcpy(type, a.num, sizeof(type));
	p.path = edit_model(p.path, "padded.gguf",
			    EDITS(SET_KEY("tokenizer.ggml.tokens", .type = GGUF_ARRAY,
					  .arr = {GGUF_STRING, 280, {.str = text}}),
				  SET_KEY("tokenizer.ggml.scores", .type = GGUF_ARRAY,
					  .arr = {GGUF_F32, 280, {.num = score}}),
				  SET_KEY("tokenizer.ggml.token_type", .type = GGUF_ARRAY,
					  .arr = {GGUF_I32, 280, {.num = type}})));
	gguf_close(g);
	open_with(&f, &p, &greedy);
	assert_int_equal(generator_prompt(&f.g, chain, 1, &err), 0);
	r = generator_step(&f.g, false, &f.out, &err);
	if (r == -ENOMEM)
		fail_msg("token 287 of 280: '%s'", err.text);
	close_fixture(&f);
}

static void test_model_without_tokenizer_generates_no_text(void **state)
{
	struct session_params p =
		params(edit_model(LLAMA, "mute.gguf", EDITS(DROP_KEY("tokenizer.ggml.model"))));
	const int32_t prompt = 5;
	struct err err = {""};
	struct fixture f;

	p.need_text = false;
	open_with(&f, &p, &greedy);
	f.g.ignore_end = true;
	assert_int_equal(generator_prompt(&f.g, &prompt, 1, &err), 0);
	for (int i = 0; i < 5; i++)
		step(&f, i == 4, 1, "");
	assert_int_equal(f.g.n_decode, 4);
	close_fixture(&f);
}

/* ---- prompts of text ---- */

static void test_beginning_of_text_is_marked_once(void **state)
{
	const int32_t chain[] = {BYTE('a'), BYTE('b')};
	const struct session_params p = params(write_chain("chain.gguf", chain, 2));
	struct err err = {""};
	struct fixture f;
	size_t first, second;

	open_with(&f, &p, &greedy);
	assert_int_equal(generator_prompt_text(&f.g, "abc", 3, &first, &err), 0);
	assert_int_equal(f.s->n_past, first);
	assert_int_equal(generator_prompt_text(&f.g, "abc", 3, &second, &err), 0);
	assert_int_equal(second, first - 1);
	assert_int_equal(f.s->n_past, first + second);
	assert_int_equal(f.g.n_prompt, first + second);
	assert_int_equal(generator_prompt_text(&f.g, "abc", 3, NULL, &err), 0);
	assert_int_equal(generator_prompt_text(&f.g, "", 0, NULL, &err), -EINVAL);
	says(&err, "empty");
	assert_int_equal(f.s->n_past, first + 2 * second);
	close_fixture(&f);
}

/* ---- the same tokens ---- */

#define N_GEN 40

struct run {
	int32_t id[N_GEN];
};

/* The ids that the golden model goes on with. */
static struct run generate(const struct session_params *p, const struct sampler_params *sampling)
{
	const int32_t prompt[] = {BOS, 281, 284, 111, 51, 266, 32, 77};
	struct err err = {""};
	struct fixture f;
	struct run run;

	open_with(&f, p, sampling);
	f.g.ignore_end = true;
	if (generator_prompt(&f.g, prompt, ARRAY_SIZE(prompt), &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < N_GEN; i++) {
		run.id[i] = f.g.next;
		if (generator_step(&f.g, false, &f.out, &err) != 1)
			fail_msg("%s", err.text);
	}
	assert_int_equal(f.g.n_decode, N_GEN);
	close_fixture(&f);
	return run;
}

static void test_same_seed_gives_the_same_tokens(void **state)
{
	struct sampler_params warm = SAMPLER_DEFAULTS;
	struct session_params p = params(LLAMA);
	struct run a, b;

	warm.temp = 1.5f;
	warm.seed = 7;
	a = generate(&p, &warm);
	b = generate(&p, &warm);
	assert_memory_equal(&a, &b, sizeof(a));
	p.source = "uring";
	p.budget = "60%";
	p.n_threads = 3;
	b = generate(&p, &warm);
	assert_memory_equal(&a, &b, sizeof(a));
	warm.seed = 8;
	b = generate(&p, &warm);
	assert_memory_not_equal(&a, &b, sizeof(a));
}

/* Whatever the seed: the largest logit, fed back. */
static void test_greedy_takes_the_largest_logit(void **state)
{
	const int32_t prompt[] = {BOS, 281, 284, 111, 51, 266, 32, 77};
	const struct session_params p = params(LLAMA);
	struct sampler_params seeded = greedy;
	struct err err = {""};
	struct session *s = NULL;
	struct run a = generate(&p, &greedy), b;

	seeded.seed = 12345;
	b = generate(&p, &seeded);
	assert_memory_equal(&a, &b, sizeof(a));

	assert_int_equal(session_open(&p, &s, &err), 0);
	assert_int_equal(session_feed(s, prompt, ARRAY_SIZE(prompt), &err), 0);
	for (size_t i = 0; i < N_GEN; i++) {
		const float *x = session_logits(s);
		int32_t best = 0;

		for (int32_t id = 1; id < N_VOCAB; id++)
			if (x[id] > x[best])
				best = id;
		assert_int_equal(a.id[i], best);
		assert_int_equal(session_feed(s, &best, 1, &err), 0);
	}
	session_close(s);
}

static void test_impossible_sampling_is_refused(void **state)
{
	const struct session_params p = params(LLAMA);
	struct sampler_params bad = greedy;
	struct err err = {""};
	struct session *s = NULL;
	struct generator g;

	bad.temp = NAN;
	assert_int_equal(session_open(&p, &s, &err), 0);
	assert_int_equal(generator_open(&g, s, &bad, &err), -EINVAL);
	says(&err, "temperature");
	session_close(s);
}

/* What decoding reads is its share of the plan; prompts are counted apart. */
static void test_books_are_kept(void **state)
{
	const int32_t prompt[] = {BOS, 281, 284};
	struct session_params p = params(LLAMA);
	struct err err = {""};
	uint64_t ring, pass;
	struct fixture f;

	p.source = "uring";
	p.budget = "100K";
	open_with(&f, &p, &greedy);
	f.g.ignore_end = true;
	pass = f.s->plan->stream_bytes;
	ring = f.s->plan->n_slot * f.s->plan->slot_bytes;
	assert_true(pass > 0);
	assert_int_equal(generator_prompt(&f.g, prompt, 3, &err), 0);
	assert_int_equal(f.g.decode_read_bytes, 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(generator_step(&f.g, false, &f.out, &err), 1);
	assert_int_equal(f.g.n_prompt, 3);
	assert_int_equal(f.g.n_decode, 10);
	/* reads go on ahead by a ring; those that end between two steps are nobody's */
	assert_in_range(f.g.decode_read_bytes, 1, 10 * pass + ring);
	assert_true(f.g.prompt_wait_ns <= f.g.prompt_ns);
	assert_true(f.g.decode_wait_ns <= f.g.decode_ns);
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_comes_token_by_token_until_the_end),
		cmocka_unit_test(test_another_prompt_goes_on_after_the_end),
		cmocka_unit_test(test_benchmarks_go_on_after_the_end),
		cmocka_unit_test(test_last_step_runs_no_pass),
		cmocka_unit_test(test_there_must_be_a_prompt),
		cmocka_unit_test(test_full_context_keeps_the_text_so_far),
		cmocka_unit_test(test_cancelled_step_repeats_no_text),
		cmocka_unit_test(test_output_that_is_no_number_is_an_error),
		cmocka_unit_test(test_text_never_ends_inside_a_character),
		cmocka_unit_test(test_held_back_bytes_come_with_the_end),
		cmocka_unit_test(test_held_back_bytes_come_with_the_last_step),
		cmocka_unit_test(test_held_back_bytes_do_not_outlive_a_prompt),
		cmocka_unit_test(test_token_without_text_is_not_out_of_memory),
		cmocka_unit_test(test_model_without_tokenizer_generates_no_text),
		cmocka_unit_test(test_beginning_of_text_is_marked_once),
		cmocka_unit_test(test_same_seed_gives_the_same_tokens),
		cmocka_unit_test(test_greedy_takes_the_largest_logit),
		cmocka_unit_test(test_impossible_sampling_is_refused),
		cmocka_unit_test(test_books_are_kept),
	};

	return cmocka_run_group_tests(tests, make_tmp_dir, remove_tmp_dir);
}
