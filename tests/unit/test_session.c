// SPDX-License-Identifier: MIT
/*
 * A session: the same bits from every source, budget, batch and number of threads; what is
 * refused and how it says so; and that a session goes on after a refusal as if nothing had been.
 *
 * Logits are compared bit for bit. A *transcript* is the logits after a prompt and after each of
 * the tokens that follow it one by one.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <sys/time.h>

#include "model_fixture.h"

#include "decode/session.h"
#include "gguf/synth.h"

#define LLAMA GOLDEN("llama.q8_0")

/* Those of tests/golden/hf.manifest: any will do. */
static const int32_t tokens[] = {1,   281, 284, 111, 51,  266, 32,  77,	 42,  93,
				 155, 36,  229, 71,  227, 93,  229, 277, 276, 78,
				 51,  266, 32,	77,  258, 249, 187, 249, 150, 195,
				 275, 191, 16,	212, 213, 66,  250, 52,	 227, 251};
#define N_TOKENS (sizeof(tokens) / sizeof(tokens[0]))
#define N_PROMPT 29

/* Sanitizers end a program that asks for more memory than there is, unless told not to. */
#define SEEN_BY_RUNTIME __attribute__((visibility("default")))

SEEN_BY_RUNTIME const char *__asan_default_options(void);
SEEN_BY_RUNTIME const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static struct session_params params(const char *path)
{
	return (struct session_params){
		.path = path, .source = "mmap", .n_threads = 1, .kv_type = KV_AUTO};
}

static struct session *open_session(const struct session_params *p)
{
	struct session *s = NULL;
	struct err err = {""};

	if (session_open(p, &s, &err))
		fail_msg("%s: %s", p->path, err.text);
	assert_non_null(s);
	return s;
}

/* @what, @what2: parts of the sentence; the second may be NULL */
static void open_refused(const struct session_params *p, int code, const char *what,
			 const char *what2)
{
	struct session *s = NULL;
	struct err err = {""};
	int r = session_open(p, &s, &err);

	if (r != code)
		fail_msg("code %d, not %d (%s): %s", r, code, what, err.text);
	assert_null(s);
	says(&err, what);
	if (what2)
		says(&err, what2);
}

static void feed(struct session *s, const int32_t *id, size_t n)
{
	struct err err = {""};

	if (session_feed(s, id, n, &err))
		fail_msg("%s", err.text);
}

static void feed_refused(struct session *s, const int32_t *id, size_t n, int code, const char *what,
			 const char *what2)
{
	struct err err = {""};
	int r = session_feed(s, id, n, &err);

	if (r != code)
		fail_msg("code %d, not %d (%s): %s", r, code, what, err.text);
	says(&err, what);
	if (what2)
		says(&err, what2);
}

static size_t n_vocab(const struct session *s)
{
	return s->model->hp.n_vocab;
}

static float *copy_logits(const struct session *s)
{
	float *x = malloc(n_vocab(s) * sizeof(float));

	assert_non_null(x);
	memcpy(x, session_logits(s), n_vocab(s) * sizeof(float));
	return x;
}

static void same_logits(const struct session *s, const float *want, const char *what)
{
	const float *got = session_logits(s);

	for (size_t i = 0; i < n_vocab(s); i++)
		if (memcmp(&got[i], &want[i], sizeof(float)))
			fail_msg("%s: logit %zu is %.9g, not %.9g", what, i, (double)got[i],
				 (double)want[i]);
}

/*
 * Tokens one by one, and as a batch: where plain rows are packed on the way for a batch, sums are
 * added up in another order, and now and then an activation is rounded to the next code.
 */
static void near_logits(const struct session *s, const float *got, const float *want)
{
	float most = 0;

	for (size_t i = 0; i < n_vocab(s); i++)
		most = fmaxf(most, fabsf(want[i]));
	for (size_t i = 0; i < n_vocab(s); i++)
		if (!(fabsf(got[i] - want[i]) <= 0.01f * most))
			fail_msg("logit %zu is %.9g, not about %.9g", i, (double)got[i],
				 (double)want[i]);
}

/* Logits of a fresh, plain session after @n tokens: what others must equal. */
static float *plain_logits(const char *path, size_t n)
{
	struct session_params p = params(path);
	struct session *s = open_session(&p);
	float *x;

	feed(s, tokens, n);
	x = copy_logits(s);
	session_close(s);
	return x;
}

/* ---- the same bits ---- */

#define N_STEPS (N_TOKENS - N_PROMPT + 1)

/* [N_STEPS][n_vocab] */
static float *transcript(struct session *s)
{
	size_t n = n_vocab(s);
	float *x = malloc(N_STEPS * n * sizeof(float));

	assert_non_null(x);
	feed(s, tokens, N_PROMPT);
	memcpy(x, session_logits(s), n * sizeof(float));
	for (size_t i = 1; i < N_STEPS; i++) {
		feed(s, &tokens[N_PROMPT + i - 1], 1);
		memcpy(x + i * n, session_logits(s), n * sizeof(float));
	}
	return x;
}

static void check_transcript(const struct session_params *p, const float *want)
{
	struct session *s = open_session(p);
	float *x = transcript(s);
	size_t n = n_vocab(s);

	for (size_t i = 0; i < N_STEPS * n; i++)
		if (memcmp(&x[i], &want[i], sizeof(float)))
			fail_msg("%s from %s, budget %s, %d threads: logit %zu of step %zu differs",
				 p->path, p->source, p->budget ? p->budget : "none", p->n_threads,
				 i % n, i / n);
	free(x);
	session_close(s);
}

/* The least budget, as the refusal of a smaller one gives it in bytes. */
static uint64_t least_budget(const char *path)
{
	struct session_params p = params(path);
	unsigned long long least = 0;
	struct session *s = NULL;
	struct err err = {""};
	const char *at;

	p.source = "uring";
	p.budget = "1";
	assert_int_equal(session_open(&p, &s, &err), -ENOSPC);
	at = strrchr(err.text, '(');
	assert_non_null(at);
	assert_int_equal(sscanf(at, "(%llu bytes)", &least), 1);
	return least;
}

/* The whole matrix of choices for one model, against mmap with one thread. */
static void check_same_bits(const char *path)
{
	char least[32], more[32];
	const char *const budget[] = {NULL, "100%", more, least};
	struct session_params p = params(path);
	struct session *s = open_session(&p);
	float *want = transcript(s);
	uint64_t bytes = least_budget(path);

	session_close(s);
	snprintf(least, sizeof(least), "%" PRIu64, bytes);
	snprintf(more, sizeof(more), "%" PRIu64, bytes + bytes / 16);
	p.source = "uring";
	p.budget = least;
	s = open_session(&p);
	assert_true(s->plan->alpha > 0.3); /* or nothing would stream here */
	session_close(s);
	for (int n_threads = 1; n_threads <= 3; n_threads++) {
		p = params(path);
		p.n_threads = n_threads;
		check_transcript(&p, want);
		p.source = "uring";
		for (size_t i = 0; i < ARRAY_SIZE(budget); i++) {
			p.budget = budget[i];
			check_transcript(&p, want);
		}
	}
	free(want);
}

static const char *synth(const char *name, const char *arch, enum wtype type, uint32_t n_ctx)
{
	const char *path = in_tmp_dir(name);
	struct synth_params p = {
		.path = path,
		.arch = arch,
		.n_layer = 3,
		.n_embd = 256,
		.n_ff = 512,
		.n_head = 8,
		.n_head_kv = 2,
		.n_vocab = 300,
		.n_ctx = n_ctx,
		.type = type,
		.output_type = SYNTH_OUTPUT_DEFAULT,
		.seed = 3,
		.n_threads = 1,
	};
	struct err err = {""};

	if (synth_model(&p, &err))
		fail_msg("%s", err.text);
	return path;
}

static void test_same_bits_golden(void **state)
{
	check_same_bits(GOLDEN("llama.q8_0"));
	check_same_bits(GOLDEN("llama3.q8_0"));
	check_same_bits(GOLDEN("llama-tied.q8_0"));
	check_same_bits(GOLDEN("qwen2-yarn.f32"));
	check_same_bits(GOLDEN("qwen3.f32"));
}

static void test_same_bits_synth(void **state)
{
	check_same_bits(synth("q4_k.gguf", "llama", WT_Q4_K, 512));
	check_same_bits(synth("q4_0.gguf", "qwen2", WT_Q4_0, 512));
	check_same_bits(synth("q6_k.gguf", "qwen3", WT_Q6_K, 512));
}

/* alpha W a pass and not a byte more, at any budget that streams. */
static void test_a_pass_reads_what_the_plan_says(void **state)
{
	const char *path = synth("streamed.gguf", "llama", WT_Q4_K, 512);
	const uint64_t least = least_budget(path);

	for (uint64_t bytes = least; bytes < 2 * least; bytes += least / 4) {
		struct session_params p = params(path);
		struct source_stats before, after;
		uint64_t pass, ring;
		struct session *s;
		char budget[32];

		snprintf(budget, sizeof(budget), "%" PRIu64, bytes);
		p.source = "uring";
		p.budget = budget;
		s = open_session(&p);
		pass = s->plan->stream_bytes;
		ring = s->plan->n_slot * s->plan->slot_bytes; /* reading goes on ahead by it */
		assert_true(pass > ring);
		feed(s, tokens, N_PROMPT);
		s->src->ops->stats(s->src, &before);
		for (int i = 0; i < 30; i++)
			feed(s, &tokens[i], 1);
		s->src->ops->stats(s->src, &after);
		assert_in_range(after.stream_read_bytes - before.stream_read_bytes,
				30 * pass - ring, 30 * pass + ring);
		session_close(s);
	}
}

static void test_batch_size_does_not_show(void **state)
{
	static const uint32_t n_batch[] = {1, 2, 3, 7, 256};
	static const char *const path[] = {GOLDEN("llama.q8_0"), GOLDEN("llama.f32"),
					   GOLDEN("qwen2.q8_0"), GOLDEN("qwen3.f32")};

	for (size_t m = 0; m < ARRAY_SIZE(path); m++) {
		float *want = plain_logits(path[m], N_TOKENS);

		for (size_t i = 0; i < ARRAY_SIZE(n_batch); i++) {
			struct session_params p = params(path[m]);
			struct session *s;

			p.n_batch = n_batch[i];
			s = open_session(&p);
			feed(s, tokens, N_TOKENS);
			assert_int_equal(s->n_past, N_TOKENS);
			if (n_batch[i] > 1)
				same_logits(s, want, path[m]);
			else
				near_logits(s, session_logits(s), want);
			session_close(s);
		}
		free(want);
	}
}

/* Row t of all logits is what feeding the first t + 1 tokens gives. */
static void test_all_logits_are_those_of_each_position(void **state)
{
	struct session_params p = params(LLAMA), one = params(LLAMA);
	struct session *s, *each = open_session(&one);

	p.all_logits = true;
	s = open_session(&p);
	feed(s, tokens, 9);
	for (uint32_t t = 0; t < 9; t++) {
		feed(each, &tokens[t], 1);
		near_logits(each, session_logits(each), s->fwd->logits + t * n_vocab(s));
	}
	same_logits(s, s->fwd->logits + 8 * n_vocab(s), "the last");
	session_close(s);
	session_close(each);
}

static void test_rewound_session_repeats_itself(void **state)
{
	struct session_params p = params(LLAMA);
	struct session *s = open_session(&p);
	float *at_20, *at_40, *other;

	feed(s, tokens, 20);
	at_20 = copy_logits(s);
	feed(s, tokens + 20, 20);
	at_40 = copy_logits(s);

	session_rewind(s, 20);
	assert_int_equal(s->n_past, 20);
	feed(s, tokens + 20, 20);
	same_logits(s, at_40, "rewound to 20");

	/* another ending, and back again: what was there leaves no trace */
	session_rewind(s, 20);
	feed(s, tokens, 10);
	other = copy_logits(s);
	session_rewind(s, 20);
	feed(s, tokens + 20, 20);
	same_logits(s, at_40, "rewound from elsewhere");
	assert_memory_not_equal(other, at_40, n_vocab(s) * sizeof(float));

	session_rewind(s, 0);
	feed(s, tokens, 20);
	same_logits(s, at_20, "rewound to the start");

	session_rewind(s, 1000);
	assert_int_equal(s->n_past, 20);
	session_close(s);
	free(at_20);
	free(at_40);
	free(other);
}

/* ---- limits ---- */

static void test_full_context_is_refused_and_holds(void **state)
{
	struct session_params p = params(LLAMA);
	float *want = plain_logits(LLAMA, 8);
	struct session *s;

	p.n_ctx = 8;
	s = open_session(&p);
	assert_int_equal(s->n_ctx, 8);
	feed_refused(s, tokens, 9, -ENOSPC, "9 more tokens", "context of 8");
	assert_int_equal(s->n_past, 0);
	feed(s, tokens, 8);
	same_logits(s, want, "after a refusal");
	feed_refused(s, tokens, 1, -ENOSPC, "holds 8", "-c");
	assert_int_equal(s->n_past, 8);
	session_rewind(s, 6);
	feed(s, tokens + 6, 2);
	same_logits(s, want, "rewound from the end");
	feed(s, tokens, 0);
	session_close(s);
	free(want);
}

static void test_token_out_of_range_is_refused(void **state)
{
	static const int32_t bad[] = {-1, 288, INT32_MAX, INT32_MIN};
	struct session_params p = params(LLAMA);
	float *want = plain_logits(LLAMA, 8);
	struct session *s;

	p.n_batch = 4;
	s = open_session(&p);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int32_t id[8];
		char text[32];

		memcpy(id, tokens, sizeof(id));
		id[5] = bad[i];
		snprintf(text, sizeof(text), "token %d", bad[i]);
		session_rewind(s, 0);
		feed_refused(s, id, 8, -EINVAL, text, "288");
		assert_int_equal(s->n_past, 4); /* the batch that was complete */
		feed(s, tokens + 4, 4);
		same_logits(s, want, "after a refusal");
	}
	session_close(s);
	free(want);
}

/* What choose_ctx() promises: the model's context, but no KV cache beyond an eighth of memory. */
static void test_default_context_is_the_models_capped_by_memory(void **state)
{
	struct session_params p = params(LLAMA);
	struct session *s = open_session(&p);

	assert_int_equal(s->n_ctx, 256);
	session_close(s);

	p.path = synth("endless.gguf", "llama", WT_Q8_0, 1u << 30);
	s = open_session(&p);
	assert_in_range(s->n_ctx, 256, (1u << 30) - 1);
	if (s->n_ctx > 256)
		assert_true(s->kv_bytes <= memory_available() / 4);
	session_close(s);

	p.n_ctx = 100;
	s = open_session(&p);
	assert_int_equal(s->n_ctx, 100);
	session_close(s);

	p.path = LLAMA;
	p.n_ctx = 300; /* longer than it was trained for is the user's choice */
	s = open_session(&p);
	assert_int_equal(s->n_ctx, 300);
	session_close(s);
}

/* Nobody gave a budget: the context is what is too large. */
static void test_impossible_context_is_named(void **state)
{
	struct session_params p = params(GOLDEN("qwen3.f32"));

	p.n_ctx = UINT32_MAX; /* 4 TiB */
	open_refused(&p, -ENOMEM, "context", "-c");
	p.source = "uring";
	open_refused(&p, -ENOMEM, "context", "-c");
}

static void test_least_budget_of_the_sentence_works(void **state)
{
	const char *path[] = {LLAMA, GOLDEN("qwen3.f32"),
			      synth("least.gguf", "llama", WT_Q4_0, 512)};

	for (size_t i = 0; i < ARRAY_SIZE(path); i++) {
		uint64_t least = least_budget(path[i]);
		struct session_params p = params(path[i]);
		char budget[32], sentence[64];
		struct session *s;

		p.source = "uring";
		p.budget = budget;
		snprintf(budget, sizeof(budget), "%" PRIu64, least);
		s = open_session(&p);
		assert_true(s->plan->pool_bytes <= least);
		session_close(s);
		snprintf(budget, sizeof(budget), "%" PRIu64, least / 2);
		snprintf(sentence, sizeof(sentence), "(%" PRIu64 " bytes)", least);
		open_refused(&p, -ENOSPC, "too small", sentence);
	}
}

/* Of what the pool of the whole model would be. */
static void test_percentage_is_of_the_model(void **state)
{
	const char *path[] = {LLAMA, GOLDEN("llama.f32"),
			      synth("percent.gguf", "llama", WT_Q8_0, 512)};

	for (size_t i = 0; i < ARRAY_SIZE(path); i++) {
		struct session_params p = params(path[i]);
		struct session *whole, *part;

		p.source = "uring";
		p.budget = "100%";
		whole = open_session(&p);
		p.budget = "80%";
		part = open_session(&p);
		assert_true(whole->plan->alpha == 0);
		assert_true(part->plan->alpha > 0);
		assert_true(part->plan->pool_bytes <= whole->plan->pool_bytes * 8 / 10 + PAGE_4K);
		session_close(whole);
		session_close(part);
	}
}

static void test_budget_is_kept(void **state)
{
	static const struct {
		const char *budget;
		uint64_t bytes;
	} b[] = {{"300K", 300 << 10}, {"0.5M", 512 << 10}, {"1M", 1 << 20}};
	struct session_params p = params(synth("kept.gguf", "llama", WT_Q8_0, 512));

	p.source = "uring";
	for (size_t i = 0; i < ARRAY_SIZE(b); i++) {
		struct session *s;

		p.budget = b[i].budget;
		s = open_session(&p);
		assert_true(s->plan->pool_bytes <= b[i].bytes);
		assert_true(s->plan->alpha > 0);
		session_close(s);
	}
}

static void test_budget_that_is_no_size_is_quoted(void **state)
{
	struct session_params p = params(LLAMA);

	p.source = "uring";
	p.budget = "plenty";
	open_refused(&p, -EINVAL, "plenty", NULL);
	p.budget = "-1G";
	open_refused(&p, -EINVAL, "-1G", NULL);
}

static void test_kv_cache_is_float_for_float_models(void **state)
{
	struct session_params p = params(GOLDEN("llama.f32"));
	struct session *f32 = open_session(&p), *f16, *forced;

	p.path = GOLDEN("llama.q8_0");
	f16 = open_session(&p);
	p.kv_type = WT_F32;
	forced = open_session(&p);
	assert_int_equal(f32->fwd->p.kv_type, WT_F32);
	assert_int_equal(f16->fwd->p.kv_type, WT_F16);
	assert_int_equal(forced->fwd->p.kv_type, WT_F32);
	/* 2 layers, K and V, 2 heads of 16, 256 positions */
	assert_int_equal(f32->kv_bytes, 2 * 2 * 2 * 16 * 256 * 4);
	assert_int_equal(f16->kv_bytes, f32->kv_bytes / 2);
	session_close(f32);
	session_close(f16);
	session_close(forced);
}

/* ---- cancelling ---- */

static volatile int cancel;

static void test_cancelled_feed_changes_nothing(void **state)
{
	static const char *const source[] = {"mmap", "uring"};
	float *want = plain_logits(LLAMA, 20);

	for (size_t i = 0; i < ARRAY_SIZE(source); i++) {
		struct session_params p = params(LLAMA);
		struct session *s;

		p.source = source[i];
		p.budget = "95K";
		p.cancel = &cancel;
		cancel = 0;
		s = open_session(&p);
		feed(s, tokens, 10);
		cancel = 1;
		feed_refused(s, tokens + 10, 10, -EINTR, "interrupted", NULL);
		assert_int_equal(s->n_past, 10);
		cancel = 0;
		feed(s, tokens + 10, 10);
		same_logits(s, want, "after a cancelled feed");
		session_close(s);
	}
	free(want);
}

static void set_cancel(int sig)
{
	cancel = 1;
}

/* Between any two operations of a pass, and while it waits for flash. */
static void test_feed_cancelled_anywhere_can_be_repeated(void **state)
{
	struct session_params p = params(synth("cancelled.gguf", "llama", WT_Q4_K, 512));
	float *want = plain_logits(p.path, N_TOKENS);
	unsigned int n_cancelled = 0;
	struct session *s;

	signal(SIGALRM, set_cancel);
	p.source = "uring";
	p.budget = "60%";
	p.n_threads = 2;
	p.n_batch = 8;
	p.cancel = &cancel;
	cancel = 0;
	s = open_session(&p);
	for (int us = 1; us < 40000; us += 1 + us / 8) {
		const struct itimerval timer = {.it_value.tv_usec = us};
		struct err err = {""};
		int r;

		session_rewind(s, 0);
		assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
		r = session_feed(s, tokens, N_TOKENS, &err);
		assert_int_equal(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL), 0);
		cancel = 0;
		if (r) {
			assert_int_equal(r, -EINTR);
			assert_int_equal(s->n_past % 8, 0);
			assert_true(s->n_past < N_TOKENS);
			n_cancelled++;
			feed(s, tokens + s->n_past, N_TOKENS - s->n_past);
		}
		same_logits(s, want, "after a cancelled feed");
	}
	assert_true(n_cancelled > 0);
	signal(SIGALRM, SIG_DFL);
	session_close(s);
	free(want);
}

static void test_open_can_be_cancelled(void **state)
{
	struct session_params p = params(LLAMA);

	p.source = "uring";
	p.cancel = &cancel;
	cancel = 1;
	open_refused(&p, -EINTR, "interrupted", NULL);
	cancel = 0;
}

/* ---- what else is refused ---- */

static void test_wrong_choices_are_named(void **state)
{
	struct session_params p = params(LLAMA);

	p.source = "tape";
	open_refused(&p, -EINVAL, "'tape'", "auto");
	p = params(LLAMA);
	p.n_threads = 5000;
	open_refused(&p, -EINVAL, "5000 threads", NULL);
	p = params(LLAMA);
	p.n_threads = -1;
	open_refused(&p, -EINVAL, "-1 threads", NULL);
	p = params(in_tmp_dir("nothing.gguf"));
	open_refused(&p, -ENOENT, "nothing.gguf", NULL);
}

static void test_model_without_tokenizer_runs_on_ids_alone(void **state)
{
	const char *path = edit_model(
		LLAMA, "mute.gguf",
		EDITS(DROP_KEY("tokenizer.ggml.model"), DROP_KEY("tokenizer.ggml.tokens")));
	float *want = plain_logits(LLAMA, 10);
	struct session_params p = params(path);
	struct session *s = open_session(&p);

	assert_null(s->tok);
	feed(s, tokens, 10);
	same_logits(s, want, "without a tokenizer");
	session_close(s);
	p.need_text = true;
	open_refused(&p, -EINVAL, "no tokenizer", NULL);
	free(want);
}

static void test_more_tokens_than_rows_are_refused(void **state)
{
	struct session_params p =
		params(edit_model(LLAMA, "rows.gguf",
				  EDITS(SET_TENSOR("token_embd.weight", WT_F32, 64, 287),
					SET_TENSOR("output.weight", WT_F32, 64, 287))));

	p.need_text = true;
	open_refused(&p, -EINVAL, "288 tokens", "287 rows");
}

static void test_broken_models_are_refused_with_nothing_left(void **state)
{
	struct session_params p =
		params(edit_model(LLAMA, "broken.gguf", EDITS(DROP_TENSOR("blk.1.ffn_up.weight"))));

	open_refused(&p, -EINVAL, "blk.1.ffn_up.weight", "broken.gguf");
	p.path = edit_model(LLAMA, "vocab.gguf", EDITS(DROP_TENSORS));
	open_refused(&p, -EINVAL, "only a vocabulary", "vocab.gguf");
}

/* ---- what a session tells ---- */

struct progress {
	uint64_t done, total;
	unsigned int calls;
};

static void watch(void *arg, uint64_t done, uint64_t total)
{
	struct progress *pr = arg;

	assert_true(done >= pr->done && done <= total);
	pr->done = done;
	pr->total = total;
	pr->calls++;
}

static void test_progress_reaches_what_is_pinned(void **state)
{
	struct session_params p = params(LLAMA);
	struct progress pr = {0};
	struct session *s;

	p.source = "uring";
	p.budget = "95K";
	p.progress = watch;
	p.arg = &pr;
	s = open_session(&p);
	assert_true(pr.calls > 0);
	assert_int_equal(pr.done, pr.total);
	assert_int_equal(pr.total, s->plan->pinned_bytes);
	assert_true(s->load_ns > 0);
	session_close(s);
}

/* A longer context is more to read from DRAM, by the bytes of its KV cache. */
static void test_prediction_counts_the_kv_cache(void **state)
{
	const struct machine m = {.dram_gb_s = 1, .flash_gb_s = 1e-3};
	struct session_params p = params(LLAMA);
	struct prediction empty, full;
	struct session *s;

	p.source = "uring";
	p.budget = "95K";
	s = open_session(&p);
	session_predict(s, &m, &empty);
	feed(s, tokens, N_TOKENS);
	session_predict(s, &m, &full);
	assert_true(empty.bound == BOUND_FLASH);
	assert_true(fabs(empty.t_flash * 1e6 - (double)s->plan->stream_bytes) < 1);
	assert_true(full.t_flash == empty.t_flash);
	assert_true(fabs((full.t_dram - empty.t_dram) * 1e9 -
			 (double)(2 * 2 * 2 * 16 * N_TOKENS * 2)) < 1);
	session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits_golden),
		cmocka_unit_test(test_same_bits_synth),
		cmocka_unit_test(test_a_pass_reads_what_the_plan_says),
		cmocka_unit_test(test_batch_size_does_not_show),
		cmocka_unit_test(test_all_logits_are_those_of_each_position),
		cmocka_unit_test(test_rewound_session_repeats_itself),
		cmocka_unit_test(test_full_context_is_refused_and_holds),
		cmocka_unit_test(test_token_out_of_range_is_refused),
		cmocka_unit_test(test_default_context_is_the_models_capped_by_memory),
		cmocka_unit_test(test_impossible_context_is_named),
		cmocka_unit_test(test_least_budget_of_the_sentence_works),
		cmocka_unit_test(test_percentage_is_of_the_model),
		cmocka_unit_test(test_budget_is_kept),
		cmocka_unit_test(test_budget_that_is_no_size_is_quoted),
		cmocka_unit_test(test_kv_cache_is_float_for_float_models),
		cmocka_unit_test(test_cancelled_feed_changes_nothing),
		cmocka_unit_test(test_feed_cancelled_anywhere_can_be_repeated),
		cmocka_unit_test(test_open_can_be_cancelled),
		cmocka_unit_test(test_wrong_choices_are_named),
		cmocka_unit_test(test_model_without_tokenizer_runs_on_ids_alone),
		cmocka_unit_test(test_more_tokens_than_rows_are_refused),
		cmocka_unit_test(test_broken_models_are_refused_with_nothing_left),
		cmocka_unit_test(test_progress_reaches_what_is_pinned),
		cmocka_unit_test(test_prediction_counts_the_kv_cache),
	};

	return cmocka_run_group_tests(tests, make_tmp_dir, remove_tmp_dir);
}
