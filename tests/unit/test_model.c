// SPDX-License-Identifier: MIT
/*
 * model_open(): what it reads from a file, and how it refuses one.
 *
 * Files are copies of the golden models with one thing changed. Those parse as GGUF: what is
 * wrong with them is for the model to find, and to say in a sentence that names file and thing.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "model_fixture.h"

#include "model/model.h"

#define LLAMA GOLDEN("llama.f32")
#define QWEN2 GOLDEN("qwen2.f32")
#define QWEN3 GOLDEN("qwen3.f32")

struct opened {
	struct gguf *g;
	struct model *m;
};

static struct opened open_model(const char *path)
{
	struct opened o = {0};
	struct err err = {""};

	if (gguf_open(path, &o.g, &err) || model_open(o.g, &o.m, &err))
		fail_msg("%s", err.text);
	assert_non_null(o.m);
	return o;
}

static struct opened open_edited(const char *from, const struct edit *edits)
{
	return open_model(edit_model(from, "edited.gguf", edits));
}

static void close_model(struct opened *o)
{
	model_close(o->m);
	gguf_close(o->g);
}

/* @what, @what2: parts of the sentence; the second may be NULL */
static void refused(const char *from, const struct edit *edits, int code, const char *what,
		    const char *what2)
{
	const char *path = edit_model(from, "broken.gguf", edits);
	struct model *m = NULL;
	struct err err = {""};
	struct gguf *g = NULL;
	int r;

	if (gguf_open(path, &g, &err))
		fail_msg("%s", err.text);
	r = model_open(g, &m, &err);
	if (r != code)
		fail_msg("code %d, not %d (%s): %s", r, code, what, err.text);
	assert_null(m);
	says(&err, what);
	if (what2)
		says(&err, what2);
	is_sentence_about(&err, path);
	gguf_close(g);
}

/* ---- what a good file gives ---- */

static void test_hyper_parameters_are_those_of_the_file(void **state)
{
	static const struct {
		const char *path, *arch;
		uint32_t head_dim, n_rot;
		float eps;
		enum rope_style style;
	} want[] = {
		{GOLDEN("llama.f32"), "llama", 16, 16, 1e-5f, ROPE_NORM},
		{GOLDEN("llama.q8_0"), "llama", 16, 16, 1e-5f, ROPE_NORM},
		{GOLDEN("llama3.q8_0"), "llama", 16, 16, 1e-5f, ROPE_NORM},
		{GOLDEN("qwen2.q8_0"), "qwen2", 16, 16, 1e-5f, ROPE_NEOX},
		{GOLDEN("qwen3.f32"), "qwen3", 32, 32, 0.02f, ROPE_NEOX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct opened o = open_model(want[i].path);
		const struct hparams *hp = &o.m->hp;

		assert_string_equal(o.m->arch, want[i].arch);
		assert_int_equal(hp->n_layer, 2);
		assert_int_equal(hp->n_embd, 64);
		assert_int_equal(hp->n_ff, 128);
		assert_int_equal(hp->n_head, 4);
		assert_int_equal(hp->n_head_kv, 2);
		assert_int_equal(hp->head_dim, want[i].head_dim);
		assert_int_equal(hp->n_vocab, 288);
		assert_int_equal(hp->n_ctx_train, 256);
		assert_int_equal(hp->window, 0);
		assert_true(hp->rms_eps == want[i].eps);
		assert_true(hp->attn_scale == 1.0f / sqrtf((float)want[i].head_dim));
		assert_int_equal(hp->rope_style, want[i].style);
		assert_int_equal(hp->n_rot, want[i].n_rot);
		assert_true(hp->rope_mscale == 1);
		close_model(&o);
	}
}

static void test_optional_keys_have_defaults(void **state)
{
	struct opened o = open_edited(
		LLAMA, EDITS(DROP_KEY("llama.attention.head_count_kv"),
			     SET_TENSOR("blk.0.attn_k.weight", WT_F32, 64, 64),
			     SET_TENSOR("blk.0.attn_v.weight", WT_F32, 64, 64),
			     SET_TENSOR("blk.1.attn_k.weight", WT_F32, 64, 64),
			     SET_TENSOR("blk.1.attn_v.weight", WT_F32, 64, 64),
			     DROP_KEY("llama.context_length"), DROP_KEY("llama.rope.freq_base"),
			     DROP_KEY("llama.rope.dimension_count"), DROP_KEY("llama.vocab_size")));
	const struct hparams *hp = &o.m->hp;

	assert_int_equal(hp->n_head_kv, hp->n_head);
	assert_int_equal(hp->head_dim, 16); /* n_embd / n_head */
	assert_int_equal(hp->n_rot, 16);    /* head_dim */
	assert_true(hp->n_ctx_train > 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_true(hp->inv_freq[i] == (float)pow(10000, -2.0 * i / 16));
	close_model(&o);
}

static void test_optional_keys_are_read(void **state)
{
	struct opened o = open_edited(
		LLAMA, EDITS(SET_U32("llama.attention.sliding_window", 24),
			     SET_F32("llama.attention.scale", 0.5),
			     SET_U32("llama.attention.key_length", 16),
			     SET_U32("llama.attention.value_length", 16),
			     SET_U32("llama.rope.dimension_count", 8),
			     SET_F32("llama.rope.freq_base", 500000),
			     SET_KEY("llama.context_length", .type = GGUF_U64, .u64 = 131072)));
	const struct hparams *hp = &o.m->hp;

	assert_int_equal(hp->window, 24);
	assert_true(hp->attn_scale == 0.5f);
	assert_int_equal(hp->n_rot, 8);
	assert_int_equal(hp->n_ctx_train, 131072);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(hp->inv_freq[i] == (float)pow(500000, -2.0 * i / 8));
	close_model(&o);
}

/* Counts may be one number or one a layer. */
static void test_equal_counts_per_layer_are_one_count(void **state)
{
	struct opened o = open_edited(
		LLAMA, EDITS(SET_ARRAY("llama.attention.head_count", GGUF_I32, int32_t, 4, 4),
			     SET_ARRAY("llama.attention.head_count_kv", GGUF_U32, uint32_t, 2, 2),
			     SET_ARRAY("llama.feed_forward_length", GGUF_I64, int64_t, 128, 128)));

	assert_int_equal(o.m->hp.n_head, 4);
	assert_int_equal(o.m->hp.n_head_kv, 2);
	assert_int_equal(o.m->hp.n_ff, 128);
	close_model(&o);
}

static const char *plan_name(const struct model *m, uint32_t i)
{
	return m->plan_src[i]->name.p;
}

static void check_order(const struct model *m, const char *const *name, uint32_t n)
{
	for (uint32_t i = 0; i < n && i < m->n_plan; i++)
		assert_string_equal(plan_name(m, i), name[i]);
	assert_int_equal(m->n_plan, n);
}

/* What streams is read in this order, whatever the order in the file. */
static void test_tensors_are_listed_in_the_order_of_use(void **state)
{
#define LAYER(i)                                                                                   \
	"blk." i ".attn_norm.weight", "blk." i ".attn_q.weight", "blk." i ".attn_q.bias",          \
		"blk." i ".attn_k.weight", "blk." i ".attn_k.bias", "blk." i ".attn_v.weight",     \
		"blk." i ".attn_v.bias", "blk." i ".attn_output.weight",                           \
		"blk." i ".ffn_norm.weight", "blk." i ".ffn_gate.weight",                          \
		"blk." i ".ffn_up.weight", "blk." i ".ffn_down.weight"
	static const char *const qwen2[] = {"token_embd.weight", LAYER("0"), LAYER("1"),
					    "output_norm.weight", "output.weight"};
	struct opened o = open_model(QWEN2);

	check_order(o.m, qwen2, ARRAY_SIZE(qwen2));
	assert_int_equal(o.m->n_plan, o.g->n_tensor);
	for (uint32_t i = 0; i < o.m->n_plan; i++) {
		const struct gguf_tensor *t = o.m->plan_src[i];
		const struct plan_tensor *p = &o.m->plan[i];

		assert_int_equal(p->file, t->file);
		assert_int_equal(p->off, t->off);
		assert_int_equal(p->row_bytes, t->row_bytes);
		assert_int_equal(p->n_rows, t->n_rows);
		assert_int_equal(p->cls, i == 0		  ? PLAN_ROWS
					 : t->n_rows == 1 ? PLAN_SMALL
							  : PLAN_SWEEP);
	}
	close_model(&o);
#undef LAYER
}

/* A tied embedding is read by every pass, and so stands at the output's place, once. */
static void test_tied_embedding_is_listed_once(void **state)
{
	struct opened o = open_model(GOLDEN("llama-tied.q8_0"));
	uint32_t last = o.m->n_plan - 1;

	assert_int_equal(o.m->n_plan, o.g->n_tensor);
	assert_string_equal(plan_name(o.m, last), "token_embd.weight");
	assert_int_equal(o.m->plan[last].cls, PLAN_SWEEP);
	assert_int_equal(o.m->embd.plan, last);
	for (uint32_t i = 0; i < last; i++)
		assert_string_not_equal(plan_name(o.m, i), "token_embd.weight");
	close_model(&o);
}

/* Flop a token are twice this: matrices, but not the rows that an embedding looks up. */
static void test_weights_of_a_pass_are_counted(void **state)
{
	const uint64_t layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3;
	struct opened o = open_model(LLAMA);
	struct opened tied = open_edited(LLAMA, EDITS(DROP_TENSOR("output.weight")));

	assert_int_equal(o.m->n_weight, 2 * layer + 64 * 288);
	assert_int_equal(tied.m->n_weight, o.m->n_weight);
	close_model(&o);
	close_model(&tied);
}

/* ---- rotary embedding ---- */

static float inv_freq(const char *path, uint32_t i)
{
	struct opened o = open_model(path);
	float f = o.m->hp.inv_freq[i];

	close_model(&o);
	return f;
}

static void test_linear_rope_scaling_divides_frequencies(void **state)
{
	const float plain = inv_freq(LLAMA, 3);

	assert_true(inv_freq(GOLDEN("llama-linear.f32"), 3) == plain / 4);
	/* the key of old files */
	assert_true(inv_freq(edit_model(LLAMA, "edited.gguf",
					EDITS(SET_F32("llama.rope.scale_linear", 8))),
			     3) == plain / 8);
}

/* A converter that writes a factor and "none" means none. */
static void test_rope_scaling_none_ignores_the_factor(void **state)
{
	const char *path = edit_model(LLAMA, "edited.gguf",
				      EDITS(SET_STR("llama.rope.scaling.type", "none"),
					    SET_F32("llama.rope.scaling.factor", 4)));

	assert_true(inv_freq(path, 3) == inv_freq(LLAMA, 3));
}

static void test_llama3_divisors_divide_frequencies(void **state)
{
	static const float divisor[8] = {1, 1, 2, 4, 8, 8, 8, 8};
	struct opened plain = open_model(LLAMA);
	struct opened o =
		open_edited(LLAMA, EDITS(SET_DATA("rope_freqs.weight", WT_F32, divisor, 8)));

	for (uint32_t i = 0; i < 8; i++)
		assert_true(o.m->hp.inv_freq[i] == plain.m->hp.inv_freq[i] / divisor[i]);
	close_model(&o);
	close_model(&plain);
}

static void test_bad_llama3_divisors_are_refused(void **state)
{
	static const float zero[8] = {1, 1, 1, 0, 1, 1, 1, 1};
	static const float negative[8] = {1, 1, 1, 1, 1, 1, 1, -8};
	static const float nan[8] = {NAN, 1, 1, 1, 1, 1, 1, 1};

	refused(LLAMA, EDITS(SET_DATA("rope_freqs.weight", WT_F32, zero, 8)), -EINVAL,
		"rope_freqs.weight[3] is 0", NULL);
	refused(LLAMA, EDITS(SET_DATA("rope_freqs.weight", WT_F32, negative, 8)), -EINVAL,
		"rope_freqs.weight[7] is -8", NULL);
	refused(LLAMA, EDITS(SET_DATA("rope_freqs.weight", WT_F32, nan, 8)), -EINVAL,
		"rope_freqs.weight[0] is", "nan");
	refused(LLAMA, EDITS(SET_TENSOR("rope_freqs.weight", WT_F32, 16)), -EINVAL,
		"rope_freqs.weight", "8");
	refused(LLAMA, EDITS(SET_TENSOR("rope_freqs.weight", WT_F16, 8)), -EINVAL,
		"rope_freqs.weight", "float32");
}

/*
 * YaRN with 16 dimensions, base 10000, factor 4 over 64 positions: pair 0 turns 10 times and
 * keeps its frequency, the slow ones are interpolated whole.
 */
static void test_yarn_interpolates_slow_dimensions(void **state)
{
	struct opened plain = open_model(QWEN2), o = open_model(GOLDEN("qwen2-yarn.f32"));
	struct opened edited = open_edited(GOLDEN("qwen2-yarn.f32"),
					   EDITS(SET_F32("qwen2.rope.scaling.attn_factor", 2)));

	assert_true(o.m->hp.inv_freq[0] > 0.5f);
	assert_true(fabs(o.m->hp.inv_freq[7] * 4 / (float)pow(10000, -14.0 / 16) - 1) < 1e-6);
	assert_true(fabs(o.m->hp.rope_mscale - (1 + 0.1 * log(4))) < 1e-6);
	assert_true(fabs(edited.m->hp.rope_mscale - 2 * (1 + 0.1 * log(4))) < 1e-6);
	assert_true(plain.m->hp.rope_mscale == 1);
	close_model(&plain);
	close_model(&o);
	close_model(&edited);
}

static void test_unknown_rope_scaling_is_named(void **state)
{
	refused(LLAMA, EDITS(SET_STR("llama.rope.scaling.type", "longrope")), -EOPNOTSUPP,
		"'longrope'", "yarn");
	refused(LLAMA, EDITS(SET_STR("llama.rope.scaling.type", "")), -EOPNOTSUPP, "''", "yarn");
	refused(LLAMA, EDITS(SET_U32("llama.rope.scaling.type", 1)), -EINVAL,
		"llama.rope.scaling.type", "string");
}

static void test_impossible_rope_is_refused(void **state)
{
	static const double bad[] = {-1, NAN, INFINITY};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused(LLAMA, EDITS(SET_F32("llama.rope.scaling.factor", bad[i])), -EINVAL,
			"llama.rope.scaling.factor", NULL);
	refused(LLAMA, EDITS(SET_F32("llama.rope.freq_base", 0)), -EINVAL, "freq_base", NULL);
	refused(LLAMA, EDITS(SET_F32("llama.rope.freq_base", -1)), -EINVAL, "freq_base", "-1");
	refused(LLAMA, EDITS(SET_F32("llama.rope.freq_base", NAN)), -EINVAL, "freq_base", "nan");
	refused(LLAMA, EDITS(SET_U32("llama.rope.dimension_count", 7)), -EINVAL,
		"rope.dimension_count 7", "16");
	refused(LLAMA, EDITS(SET_U32("llama.rope.dimension_count", 18)), -EINVAL,
		"rope.dimension_count 18", "16");
	refused(GOLDEN("qwen2-yarn.f32"), EDITS(SET_F32("qwen2.rope.scaling.yarn_beta_fast", -1)),
		-EINVAL, "yarn", NULL);
	refused(GOLDEN("qwen2-yarn.f32"), EDITS(SET_F32("qwen2.rope.scaling.yarn_beta_slow", NAN)),
		-EINVAL, "yarn", NULL);
	refused(GOLDEN("qwen2-yarn.f32"),
		EDITS(SET_U32("qwen2.rope.scaling.original_context_length", 0)), -EINVAL, "yarn",
		NULL);
}

/* ---- tensors ---- */

/* Each tensor of a file, taken out; but for what a model may lack. */
static void check_each_is_needed(const char *path)
{
	struct err err = {""};
	struct gguf *g = NULL;

	assert_int_equal(gguf_open(path, &g, &err), 0);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const char *name = g->tensor[i].name.p;

		if (strcmp(name, "output.weight")) /* without it the embedding is tied */
			refused(path, EDITS(DROP_TENSOR(name)), -EINVAL, name, "missing");
	}
	gguf_close(g);
}

static void test_missing_tensor_is_named(void **state)
{
	check_each_is_needed(LLAMA);
}

/* Without its norms such a model would run, and write nonsense. */
static void test_missing_qwen3_norm_is_named(void **state)
{
	check_each_is_needed(QWEN3);
}

static void test_biases_are_optional(void **state)
{
	struct opened o = open_edited(
		QWEN2, EDITS(DROP_TENSOR("blk.0.attn_q.bias"), DROP_TENSOR("blk.0.attn_k.bias"),
			     DROP_TENSOR("blk.0.attn_v.bias"), DROP_TENSOR("blk.1.attn_q.bias"),
			     DROP_TENSOR("blk.1.attn_k.bias"), DROP_TENSOR("blk.1.attn_v.bias")));

	assert_int_equal(o.m->n_plan, o.g->n_tensor);
	close_model(&o);
}

static void test_missing_output_is_a_tied_embedding(void **state)
{
	struct opened o = open_edited(LLAMA, EDITS(DROP_TENSOR("output.weight")));

	assert_string_equal(plan_name(o.m, o.m->n_plan - 1), "token_embd.weight");
	close_model(&o);
}

/* Each tensor with one row or one column too many. */
static void check_each_shape(const char *path)
{
	struct err err = {""};
	struct gguf *g = NULL;

	assert_int_equal(gguf_open(path, &g, &err), 0);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];
		const char *name = t->name.p;
		uint64_t in = t->ne[0], out = t->n_rows;
		char is[64], should[64];

		snprintf(is, sizeof(is), "%s is %" PRIu64 " x %" PRIu64, name, in + 1, out);
		snprintf(should, sizeof(should), "%" PRIu64 " x %" PRIu64, in, out);
		refused(path, EDITS(SET_TENSOR(name, WT_F32, in + 1, out)), -EINVAL, is, should);
		if (!strcmp(name, "token_embd.weight"))
			continue; /* its rows are the vocabulary */
		snprintf(is, sizeof(is), "%s is %" PRIu64 " x %" PRIu64, name, in, out + 1);
		refused(path, EDITS(SET_TENSOR(name, WT_F32, in, out + 1)), -EINVAL, is, should);
	}
	gguf_close(g);
}

static void test_wrong_shape_is_named_with_the_right_one(void **state)
{
	check_each_shape(LLAMA);
	check_each_shape(QWEN2);
	check_each_shape(QWEN3);
}

static void test_vocabulary_and_output_must_agree(void **state)
{
	refused(LLAMA, EDITS(SET_TENSOR("token_embd.weight", WT_F32, 64, 287)), -EINVAL,
		"output.weight is 64 x 288", "64 x 287");
}

static void test_vocabulary_without_weights_is_refused(void **state)
{
	refused(LLAMA, EDITS(DROP_TENSORS), -EINVAL, "only a vocabulary", NULL);
	refused(QWEN3, EDITS(DROP_TENSORS), -EINVAL, "only a vocabulary", NULL);
}

/* Leaving these out would change the result. */
static void test_tensors_of_other_kinds_of_model_are_refused(void **state)
{
	static const char *const other[] = {
		"blk.0.ffn_gate_inp.weight",
		"blk.0.attn_qkv.weight",
		"blk.0.attn_sinks.weight",
		"blk.0.ffn_down.bias",
		"rope_factors_long.weight",
		"blk.0.post_attention_norm.weight",
		"output.bias",
	};

	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		refused(LLAMA, EDITS(SET_TENSOR(other[i], WT_F32, 64)), -EOPNOTSUPP, other[i],
			NULL);
}

/* ---- architecture ---- */

static void test_unknown_architecture_is_named(void **state)
{
	refused(LLAMA, EDITS(SET_STR("general.architecture", "falcon")), -EOPNOTSUPP, "'falcon'",
		"llama, qwen2 and qwen3");
	refused(LLAMA, EDITS(SET_STR("general.architecture", "")), -EOPNOTSUPP, "''", NULL);
	refused(LLAMA, EDITS(SET_STR("general.architecture", "llama4")), -EOPNOTSUPP, "'llama4'",
		NULL);
	refused(LLAMA, EDITS(SET_U32("general.architecture", 1)), -EINVAL, "general.architecture",
		"string");
}

/* What a file says must not reach the terminal as it is. */
static void test_names_from_the_file_move_no_cursor(void **state)
{
	refused(LLAMA, EDITS(SET_STR("general.architecture", "fal\x1b[2J\ncon")), -EOPNOTSUPP,
		"fal", NULL);
	refused(LLAMA, EDITS(SET_STR("llama.rope.scaling.type", "lo\x1b[2J\nng")), -EOPNOTSUPP,
		"lo", NULL);
}

static void test_long_names_leave_room_for_the_reason(void **state)
{
	char name[2000];

	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	refused(LLAMA, EDITS(SET_STR("general.architecture", name)), -EOPNOTSUPP, "aaa",
		"llama, qwen2 and qwen3");
	refused(LLAMA, EDITS(SET_STR("llama.rope.scaling.type", name)), -EOPNOTSUPP, "aaa",
		"not supported");
}

/* ---- keys ---- */

static void test_missing_key_is_named(void **state)
{
	static const char *const needed[] = {
		"general.architecture",	      "llama.block_count",
		"llama.embedding_length",     "llama.feed_forward_length",
		"llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		refused(LLAMA, EDITS(DROP_KEY(needed[i])), -EINVAL, needed[i], NULL);
}

static void test_key_of_another_type_is_named(void **state)
{
	static const char *const number[] = {
		"llama.block_count",
		"llama.embedding_length",
		"llama.feed_forward_length",
		"llama.attention.head_count",
		"llama.attention.head_count_kv",
		"llama.attention.layer_norm_rms_epsilon",
		"llama.attention.key_length",
		"llama.attention.value_length",
		"llama.attention.sliding_window",
		"llama.attention.scale",
		"llama.context_length",
		"llama.rope.dimension_count",
		"llama.rope.freq_base",
		"llama.rope.scaling.factor",
	};

	for (size_t i = 0; i < ARRAY_SIZE(number); i++)
		refused(LLAMA, EDITS(SET_STR(number[i], "many")), -EINVAL, number[i], "string");
}

static void test_counts_that_differ_between_layers_are_refused(void **state)
{
	refused(LLAMA, EDITS(SET_ARRAY("llama.attention.head_count", GGUF_I32, int32_t, 4, 8)),
		-EOPNOTSUPP, "llama.attention.head_count", "differs between layers");
	refused(LLAMA, EDITS(SET_ARRAY("llama.attention.head_count_kv", GGUF_U8, uint8_t, 2, 0)),
		-EOPNOTSUPP, "llama.attention.head_count_kv", "differs between layers");
	refused(LLAMA, EDITS(SET_ARRAY("llama.feed_forward_length", GGUF_U32, uint32_t, 128, 64)),
		-EOPNOTSUPP, "llama.feed_forward_length", "differs between layers");
}

static void test_arrays_that_hold_no_counts_are_refused(void **state)
{
	refused(LLAMA, EDITS(SET_ARRAY("llama.attention.head_count", GGUF_F32, float, 4, 4)),
		-EINVAL, "llama.attention.head_count", "array of counts");
	refused(LLAMA, EDITS(SET_ARRAY("llama.attention.head_count", GGUF_I32, int32_t, -4, -4)),
		-EINVAL, "llama.attention.head_count", "array of counts");
	refused(LLAMA,
		EDITS(SET_ARRAY("llama.feed_forward_length", GGUF_U64, uint64_t, 1ull << 32)),
		-EINVAL, "llama.feed_forward_length", "array of counts");
	refused(LLAMA,
		EDITS(SET_KEY("llama.feed_forward_length", .type = GGUF_ARRAY,
			      .arr = {.type = GGUF_U32, .n = 0})),
		-EINVAL, "llama.feed_forward_length", "array of counts");
}

static void test_impossible_counts_are_refused(void **state)
{
	static const struct {
		const char *key;
		uint32_t v;
	} bad[] = {
		{"llama.block_count", 0},
		{"llama.block_count", UINT32_MAX},
		{"llama.embedding_length", 0},
		{"llama.embedding_length", UINT32_MAX},
		{"llama.feed_forward_length", 0},
		{"llama.feed_forward_length", UINT32_MAX},
		{"llama.attention.head_count", 0},
		{"llama.attention.head_count", 1u << 31},
		{"llama.attention.head_count_kv", 0},
		{"llama.attention.head_count_kv", UINT32_MAX},
		{"llama.attention.key_length", 0},
		{"llama.attention.key_length", UINT32_MAX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char sentence[80];

		snprintf(sentence, sizeof(sentence), "%s is %u", bad[i].key, bad[i].v);
		refused(LLAMA, EDITS(SET_U32(bad[i].key, bad[i].v)), -EINVAL, sentence, NULL);
	}
}

/* A context of no tokens is none to run in. */
static void test_context_of_0_is_refused(void **state)
{
	refused(LLAMA, EDITS(SET_U32("llama.context_length", 0)), -EINVAL, "llama.context_length",
		"0");
}

/* With either of these every logit is NaN. */
static void test_impossible_numbers_are_refused(void **state)
{
	refused(LLAMA, EDITS(SET_F32("llama.attention.layer_norm_rms_epsilon", NAN)), -EINVAL,
		"layer_norm_rms_epsilon", "nan");
	refused(LLAMA, EDITS(SET_F32("llama.attention.layer_norm_rms_epsilon", -1)), -EINVAL,
		"layer_norm_rms_epsilon", "-1");
	refused(LLAMA, EDITS(SET_F32("llama.attention.scale", NAN)), -EINVAL, "attention.scale",
		"nan");
}

static void test_impossible_head_counts_are_refused(void **state)
{
	refused(LLAMA, EDITS(SET_U32("llama.attention.head_count_kv", 3)), -EINVAL,
		"4 attention heads", "3 key/value heads");
	refused(LLAMA, EDITS(SET_U32("llama.attention.head_count_kv", 8)), -EINVAL,
		"4 attention heads", "8 key/value heads");
	/* more heads than dimensions */
	refused(LLAMA, EDITS(SET_U32("llama.attention.head_count", 128)), -EINVAL, "llama", NULL);
	/* 64 is no multiple of 6: the file would have to say how large a head is */
	refused(LLAMA,
		EDITS(SET_U32("llama.attention.head_count", 6),
		      DROP_KEY("llama.rope.dimension_count")),
		-EINVAL, "blk.0.attn_q.weight is 64 x 64", "64 x 60");
	/* 2^16 heads of 2^16: their product is 0 in 32 bits */
	refused(LLAMA,
		EDITS(SET_U32("llama.attention.head_count", 65536),
		      SET_U32("llama.attention.head_count_kv", 65536),
		      SET_U32("llama.attention.key_length", 65536),
		      SET_U32("llama.attention.value_length", 65536)),
		-EINVAL, "4294967296", NULL);
	refused(LLAMA, EDITS(SET_U32("llama.attention.value_length", 8)), -EOPNOTSUPP,
		"key_length 16", "value_length 8");
}

static void test_more_layers_than_the_file_has_are_missing(void **state)
{
	refused(LLAMA, EDITS(SET_U32("llama.block_count", 3)), -EINVAL, "blk.2.attn_norm.weight",
		"missing");
	refused(LLAMA, EDITS(SET_U32("llama.block_count", 65536)), -EINVAL,
		"blk.2.attn_norm.weight", "missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hyper_parameters_are_those_of_the_file),
		cmocka_unit_test(test_optional_keys_have_defaults),
		cmocka_unit_test(test_optional_keys_are_read),
		cmocka_unit_test(test_equal_counts_per_layer_are_one_count),
		cmocka_unit_test(test_tensors_are_listed_in_the_order_of_use),
		cmocka_unit_test(test_tied_embedding_is_listed_once),
		cmocka_unit_test(test_weights_of_a_pass_are_counted),
		cmocka_unit_test(test_linear_rope_scaling_divides_frequencies),
		cmocka_unit_test(test_rope_scaling_none_ignores_the_factor),
		cmocka_unit_test(test_llama3_divisors_divide_frequencies),
		cmocka_unit_test(test_bad_llama3_divisors_are_refused),
		cmocka_unit_test(test_yarn_interpolates_slow_dimensions),
		cmocka_unit_test(test_unknown_rope_scaling_is_named),
		cmocka_unit_test(test_impossible_rope_is_refused),
		cmocka_unit_test(test_missing_tensor_is_named),
		cmocka_unit_test(test_missing_qwen3_norm_is_named),
		cmocka_unit_test(test_biases_are_optional),
		cmocka_unit_test(test_missing_output_is_a_tied_embedding),
		cmocka_unit_test(test_wrong_shape_is_named_with_the_right_one),
		cmocka_unit_test(test_vocabulary_and_output_must_agree),
		cmocka_unit_test(test_vocabulary_without_weights_is_refused),
		cmocka_unit_test(test_tensors_of_other_kinds_of_model_are_refused),
		cmocka_unit_test(test_unknown_architecture_is_named),
		cmocka_unit_test(test_names_from_the_file_move_no_cursor),
		cmocka_unit_test(test_long_names_leave_room_for_the_reason),
		cmocka_unit_test(test_missing_key_is_named),
		cmocka_unit_test(test_key_of_another_type_is_named),
		cmocka_unit_test(test_counts_that_differ_between_layers_are_refused),
		cmocka_unit_test(test_arrays_that_hold_no_counts_are_refused),
		cmocka_unit_test(test_impossible_counts_are_refused),
		cmocka_unit_test(test_context_of_0_is_refused),
		cmocka_unit_test(test_impossible_numbers_are_refused),
		cmocka_unit_test(test_impossible_head_counts_are_refused),
		cmocka_unit_test(test_more_layers_than_the_file_has_are_missing),
	};

	return cmocka_run_group_tests(tests, make_tmp_dir, remove_tmp_dir);
}
