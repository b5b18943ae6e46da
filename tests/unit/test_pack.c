// SPDX-License-Identifier: MIT
/*
 * pack_model(): what a packed file holds and in which order, and that all comes back; what the
 * model room makes of packed tensors, wrong ones included.
 */
#include <errno.h>
#include <inttypes.h>

#include "model_fixture.h"

#include "gguf/synth.h"
#include "model/model.h"
#include "model/pack.h"

static struct pack_result run(const char *model, const char *out, bool unpack)
{
	struct pack_params p = {.model = model, .out = out, .unpack = unpack};
	struct pack_result r;
	struct err err = {""};

	if (pack_model(&p, &r, &err))
		fail_msg("%s", err.text);
	return r;
}

static struct gguf *open_gguf(const char *path)
{
	struct gguf *g = NULL;
	struct err err = {""};

	if (gguf_open(path, &g, &err))
		fail_msg("%s", err.text);
	return g;
}

/* A row as a plain file has it; to be freed. */
static uint8_t *read_row(const struct gguf *g, const struct gguf_tensor *t, uint64_t row)
{
	uint8_t *all = malloc(t->size), *out = malloc(t->row_bytes);
	struct err err = {""};

	assert_true(all && out);
	if (gguf_read_tensor(g, t, all, &err))
		fail_msg("%s", err.text);
	if (t->packed)
		unpack_row(t->type, all + row / PACK_ROWS * PACK_ROWS * t->row_bytes,
			   row % PACK_ROWS, t->ne[0], out);
	else
		memcpy(out, all + row * t->row_bytes, t->row_bytes);
	free(all);
	return out;
}

/* First, last and a few rows between: all of them are tests/cli/packed.py's business. */
static void same_tensors(const struct gguf *a, const struct gguf *b)
{
	assert_int_equal(a->n_tensor, b->n_tensor);
	for (uint64_t i = 0; i < a->n_tensor; i++) {
		const struct gguf_tensor *t = &a->tensor[i], *u = gguf_find_tensor(b, t->name.p);

		assert_non_null(u);
		assert_int_equal(t->type, u->type);
		assert_memory_equal(t->ne, u->ne, sizeof(t->ne));
		for (uint64_t row = 0; row < t->n_rows; row += row % 2 ? 13 : t->n_rows / 2 + 1) {
			uint8_t *x = read_row(a, t, row), *y = read_row(b, u, row);

			assert_memory_equal(x, y, t->row_bytes);
			free(x);
			free(y);
		}
	}
}

static const char *synth(const char *name, enum wtype type, bool tied)
{
	struct synth_params p = {
		.path = in_tmp_dir(name),
		.arch = tied ? "qwen2" : "llama",
		.n_layer = 2,
		.n_embd = 256,
		.n_ff = 512,
		.n_head = 64,
		.n_head_kv = 1,
		.n_vocab = 301,
		.n_ctx = 64,
		.type = type,
		.output_type = SYNTH_OUTPUT_DEFAULT,
		.tied = tied,
		.seed = 3,
	};
	struct err err = {""};

	if (synth_model(&p, &err))
		fail_msg("%s", err.text);
	return p.path;
}

/* ---- what a packed file holds ---- */

static void test_tensors_lie_in_the_order_of_use(void **state)
{
	static const char *const want[] = {"token_embd.weight", "blk.0.attn_norm.weight",
					   "blk.0.attn_q.weight", "blk.0.attn_k.weight"};
	const char *out = in_tmp_dir("order.weir");
	struct gguf *g;
	uint64_t end = 0;

	/* llama3 has rope_freqs.weight, which is no part of a pass */
	run(GOLDEN("llama3.q8_0"), out, false);
	g = open_gguf(out);
	assert_true(g->packed_file);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_string_equal(g->tensor[i].name.p, want[i]);
	assert_string_equal(g->tensor[g->n_tensor - 1].name.p, "rope_freqs.weight");
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];

		assert_int_equal(t->off, i ? align_up(end, 4096) : g->file[0].data_off);
		assert_int_equal(t->packed, t->n_rows > 1 && strcmp(t->name.p, want[0]));
		end = t->off + t->size;
	}
	gguf_close(g);
}

static void test_every_type_comes_back(void **state)
{
	for (int type = 0; type < WT_COUNT; type++) {
		const char *packed = in_tmp_dir("type.weir"), *back = in_tmp_dir("back.gguf");
		const char *model;
		struct pack_result r;
		struct gguf *a, *b, *c;

		if (!wtype_info((uint32_t)type))
			continue;
		model = synth("type.gguf", (enum wtype)type, type % 2);
		r = run(model, packed, false);
		assert_int_equal(r.n_packed > 0, wtype_info((uint32_t)type)->block_elems > 1);
		run(packed, back, true);
		a = open_gguf(model);
		b = open_gguf(packed);
		c = open_gguf(back);
		assert_true(!a->packed_file && b->packed_file && !c->packed_file);
		same_tensors(a, b);
		same_tensors(a, c);
		assert_int_equal(a->n_kv, c->n_kv);
		for (uint64_t i = 0; i < a->n_kv; i++)
			assert_string_equal(a->kv[i].key.p, c->kv[i].key.p);
		gguf_close(a);
		gguf_close(b);
		gguf_close(c);
	}
}

static void test_plan_counts_groups(void **state)
{
	const char *packed = in_tmp_dir("plan.weir");
	struct model *m = NULL;
	struct err err = {""};
	struct gguf *g;

	run(synth("plan.gguf", WT_Q4_0, true), packed, false);
	g = open_gguf(packed);
	if (model_open(g, &m, &err))
		fail_msg("%s", err.text);
	assert_true(m->embd.t->packed);
	assert_int_equal(m->embd.t->n_rows, 301);
	for (uint32_t i = 0; i < m->n_plan; i++) {
		const struct plan_tensor *p = &m->plan[i];
		const struct gguf_tensor *t = m->plan_src[i];

		assert_int_equal(p->off, t->off);
		assert_int_equal(p->row_bytes * p->n_rows, t->size);
		assert_int_equal(p->row_bytes, t->row_bytes * (t->packed ? 16 : 1));
	}
	model_close(m);
	gguf_close(g);
}

/* ---- what is refused ---- */

/* A copy of a model's header, packed, with @name in groups too; its data are zeros. */
static const char *pack_too_much(const char *from, const char *name)
{
	const char *path = in_tmp_dir("much.weir");
	struct gguf *g = open_gguf(from);
	struct gguf_writer *w = NULL;
	struct err err = {""};

	assert_int_equal(gguf_writer_open_packed(path, &w, &err), 0);
	for (uint64_t i = 0; i < g->n_kv; i++)
		gguf_write_kv(w, &g->kv[i]);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];
		uint32_t type = strcmp(t->name.p, name) ? t->type : WT_Q8_0 | GGUF_PACKED;

		gguf_write_tensor(w, t->name.p, type, t->n_dims, t->ne);
	}
	if (gguf_write_header(w, &err) || gguf_writer_finish(w, &err))
		fail_msg("%s", err.text);
	gguf_close(g);
	return path;
}

static void test_only_matrices_of_a_pass_may_be_packed(void **state)
{
	static const char *const name[] = {"token_embd.weight", "blk.1.ffn_norm.weight",
					   "blk.0.attn_q.bias"};

	for (size_t i = 0; i < ARRAY_SIZE(name); i++) {
		const char *path = pack_too_much(GOLDEN("qwen2.f32"), name[i]);
		struct gguf *g = open_gguf(path);
		struct model *m = NULL;
		struct err err = {""};

		assert_int_equal(model_open(g, &m, &err), -EINVAL);
		assert_null(m);
		says(&err, name[i]);
		says(&err, "packed");
		is_sentence_about(&err, path);
		gguf_close(g);
	}
}

static void refused(const struct pack_params *p, int code, const char *what)
{
	struct pack_result r;
	struct err err = {""};

	assert_int_equal(pack_model(p, &r, &err), code);
	says(&err, what);
	if (access(p->out, F_OK) == 0 && !strstr(p->model, p->out))
		fail_msg("%s was made", p->out);
}

static void test_what_cannot_be_packed_is_refused(void **state)
{
	const char *model = synth("plain.gguf", WT_Q8_0, false), *packed = in_tmp_dir("p.weir");
	const char *out = in_tmp_dir("refused");

	run(model, packed, false);
	refused(&(struct pack_params){.model = packed, .out = out}, -EINVAL, "packed already");
	refused(&(struct pack_params){.model = model, .out = out, .unpack = true}, -EINVAL,
		"not packed");
	refused(&(struct pack_params){.model = model, .out = model}, -EINVAL, "itself");
	model = edit_model(GOLDEN("llama.q8_0"), "vocabulary.gguf", EDITS(DROP_TENSORS));
	refused(&(struct pack_params){.model = model, .out = out}, -EINVAL, "vocabulary");
	model = edit_model(GOLDEN("llama.q8_0"), "arch.gguf",
			   EDITS(SET_STR("general.architecture", "abacus")));
	refused(&(struct pack_params){.model = model, .out = out}, -EOPNOTSUPP, "abacus");
}

struct watcher {
	uint64_t done, total;
	unsigned int calls;
	int cancel;
	unsigned int cancel_at; /* call */
};

static void watch(void *arg, uint64_t done, uint64_t total)
{
	struct watcher *w = arg;

	assert_true(done > w->done && done <= total);
	w->done = done;
	w->total = total;
	w->cancel = ++w->calls == w->cancel_at;
}

static void test_progress_ends_at_the_total(void **state)
{
	struct watcher w = {0};
	struct pack_params p = {
		.model = synth("progress.gguf", WT_Q6_K, false),
		.out = in_tmp_dir("progress.weir"),
		.progress = watch,
		.arg = &w,
	};
	struct pack_result r;
	struct err err = {""};

	assert_int_equal(pack_model(&p, &r, &err), 0);
	assert_true(w.calls >= r.n_tensor);
	assert_int_equal(w.done, w.total);
	assert_int_equal(w.total, r.data_bytes);
}

static void test_interrupted_leaves_no_file(void **state)
{
	for (unsigned int at = 1; at < 20; at += 6) {
		struct watcher w = {.cancel_at = at};
		struct pack_params p = {
			.model = synth("long.gguf", WT_Q4_K, false),
			.out = in_tmp_dir("interrupted.weir"),
			.progress = watch,
			.arg = &w,
			.cancel = &w.cancel,
		};
		char left[PATH_MAX];

		refused(&p, -EINTR, "interrupted");
		snprintf(left, sizeof(left), "ls -A '%s' | grep -q '^\\.weir-'", tmp_dir);
		assert_int_not_equal(system(left), 0);
	}
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(tensors_lie_in_the_order_of_use),
		T(every_type_comes_back),
		T(plan_counts_groups),
		T(only_matrices_of_a_pass_may_be_packed),
		T(what_cannot_be_packed_is_refused),
		T(progress_ends_at_the_total),
		T(interrupted_leaves_no_file),
	};

	return cmocka_run_group_tests(tests, make_tmp_dir, remove_tmp_dir);
}
