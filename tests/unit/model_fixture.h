/* SPDX-License-Identifier: MIT */
/*
 * Models that are wrong in exactly one way, for the tests of userspace/model and
 * userspace/decode: a copy of a good file with a few edits.
 *
 * Paths of good files are relative to the top of the tree, where tests are run.
 */
#ifndef WEIR_TESTS_MODEL_FIXTURE_H
#define WEIR_TESTS_MODEL_FIXTURE_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "gguf/gguf.h"

#define GOLDEN(name) "tests/golden/" name ".gguf"

/* ---- a folder for what a test program writes ---- */

static char tmp_dir[PATH_MAX / 2];

static inline int make_tmp_dir(void **state)
{
	const char *base = getenv("TMPDIR");

	snprintf(tmp_dir, sizeof(tmp_dir), "%s/weir-test-XXXXXX", base && *base ? base : "/tmp");
	return mkdtemp(tmp_dir) ? 0 : -1;
}

static inline int remove_tmp_dir(void **state)
{
	char cmd[PATH_MAX];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", tmp_dir);
	return system(cmd);
}

/* Good until the next but three. */
static inline const char *in_tmp_dir(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned int next;
	char *p = path[next++ % ARRAY_SIZE(path)];

	snprintf(p, PATH_MAX, "%s/%s", tmp_dir, name);
	return p;
}

/* ---- what a sentence says ---- */

static inline void says(const struct err *err, const char *what)
{
	if (!strstr(err->text, what))
		fail_msg("'%s' does not say '%s'", err->text, what);
}

/* One line that names its file and moves no cursor. */
static inline void is_sentence_about(const struct err *err, const char *path)
{
	says(err, strrchr(path, '/') + 1); /* long folders are cut */
	for (const char *p = err->text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			fail_msg("byte 0x%02x in '%s'", (unsigned char)*p, err->text);
}

/* ---- edits ---- */

enum edit_kind {
	EDIT_END,
	EDIT_DROP_KEY,
	EDIT_SET_KEY, /* replaced where it stands, or added */
	EDIT_DROP_TENSOR,
	EDIT_DROP_TENSORS, /* all of them */
	EDIT_SET_TENSOR,   /* another type or shape, or one more; all zeros without data */
};

struct edit {
	enum edit_kind kind;
	const char *name;
	struct gguf_kv kv;
	uint32_t type, n_dims;
	uint64_t ne[GGUF_MAX_DIMS];
	const void *data;
};

#define EDITS(...) ((const struct edit[]){__VA_ARGS__, {0}})
#define DROP_KEY(k)                                                                                \
	{                                                                                          \
		.kind = EDIT_DROP_KEY, .name = (k)                                                 \
	}
#define SET_KEY(k, ...)                                                                            \
	{                                                                                          \
		.kind = EDIT_SET_KEY, .name = (k), .kv = { __VA_ARGS__ }                           \
	}
#define SET_U32(k, v)	   SET_KEY(k, .type = GGUF_U32, .u64 = (v))
#define SET_F32(k, v)	   SET_KEY(k, .type = GGUF_F32, .f64 = (v))
#define SET_BYTES(k, s, n) SET_KEY(k, .type = GGUF_STRING, .str = {(s), (n)})
#define SET_STR(k, s)	   SET_BYTES(k, s, strlen(s))
/* @t: type of the elements; the rest: their values */
#define SET_ARRAY(k, t, c, ...)                                                                    \
	SET_KEY(k, .type = GGUF_ARRAY,                                                             \
		.arr = {(t), sizeof((c[]){__VA_ARGS__}) / sizeof(c), {(c[]){__VA_ARGS__}}})
#define DROP_TENSOR(n)                                                                             \
	{                                                                                          \
		.kind = EDIT_DROP_TENSOR, .name = (n)                                              \
	}
#define DROP_TENSORS                                                                               \
	{                                                                                          \
		.kind = EDIT_DROP_TENSORS                                                          \
	}
#define SET_DATA(n, t, d, ...)                                                                     \
	{                                                                                          \
		.kind = EDIT_SET_TENSOR, .name = (n), .type = (t), .data = (d),                    \
		.n_dims = sizeof((uint64_t[]){__VA_ARGS__}) / 8,                                   \
		.ne = { __VA_ARGS__ }                                                              \
	}
#define SET_TENSOR(n, t, ...) SET_DATA(n, t, NULL, __VA_ARGS__)

static inline const struct edit *edit_of(const struct edit *e, enum edit_kind a, enum edit_kind b,
					 const char *name)
{
	for (; e->kind; e++)
		if ((e->kind == a || e->kind == b) && (!e->name || !strcmp(e->name, name)))
			return e;
	return NULL;
}

static inline void write_keys(struct gguf_writer *w, const struct gguf *g, const struct edit *edits)
{
	for (uint64_t i = 0; i < g->n_kv; i++) {
		const char *key = g->kv[i].key.p;

		if (!edit_of(edits, EDIT_DROP_KEY, EDIT_SET_KEY, key))
			assert_int_equal(gguf_write_kv(w, &g->kv[i]), 0);
	}
	for (const struct edit *e = edits; e->kind; e++) {
		struct gguf_kv kv = e->kv;

		if (e->kind != EDIT_SET_KEY)
			continue;
		kv.key = (struct gguf_str){e->name, strlen(e->name)};
		assert_int_equal(gguf_write_kv(w, &kv), 0);
	}
}

/* Declares the tensors; from[i] is where the i-th one's bytes come from. */
static inline uint64_t declare_tensors(struct gguf_writer *w, const struct gguf *g,
				       const struct edit *edits, const struct gguf_tensor **from,
				       const void **data)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];

		if (edit_of(edits, EDIT_DROP_TENSOR, EDIT_DROP_TENSORS, t->name.p) ||
		    edit_of(edits, EDIT_SET_TENSOR, EDIT_SET_TENSOR, t->name.p))
			continue;
		assert_int_equal(gguf_write_tensor(w, t->name.p, t->type, t->n_dims, t->ne), 0);
		from[n] = t;
		data[n++] = NULL;
	}
	for (const struct edit *e = edits; e->kind; e++) {
		if (e->kind != EDIT_SET_TENSOR)
			continue;
		assert_int_equal(gguf_write_tensor(w, e->name, e->type, e->n_dims, e->ne), 0);
		from[n] = NULL;
		data[n++] = e->data;
	}
	return n;
}

static inline void copy_data(struct gguf_writer *w, uint64_t i, FILE *in,
			     const struct gguf_tensor *from, const void *data)
{
	const struct gguf_tensor *t = gguf_writer_tensor(w, i);
	void *buf = NULL;

	if (from) {
		buf = malloc(t->size);
		assert_non_null(buf);
		assert_int_equal(fseeko(in, (off_t)from->off, SEEK_SET), 0);
		assert_int_equal(fread(buf, 1, t->size, in), t->size);
		data = buf;
	}
	if (data)
		assert_int_equal(pwrite(gguf_writer_fd(w), data, t->size, (off_t)t->off), t->size);
	free(buf);
}

/* Writes a copy of @from with @edits under @name in the test's folder; returns its path. */
static inline const char *edit_model(const char *from, const char *name, const struct edit *edits)
{
	const char *path = in_tmp_dir(name);
	const struct gguf_tensor **src;
	struct err err = {""};
	struct gguf_writer *w = NULL;
	struct gguf *g = NULL;
	const void **data;
	uint64_t n;
	FILE *in;

	if (gguf_open(from, &g, &err) || gguf_writer_open(path, 32, &w, &err))
		fail_msg("%s", err.text);
	in = fopen(from, "rb");
	src = calloc(g->n_tensor + 64, sizeof(*src));
	data = calloc(g->n_tensor + 64, sizeof(*data));
	assert_true(in && src && data);
	write_keys(w, g, edits);
	n = declare_tensors(w, g, edits, src, data);
	if (gguf_write_header(w, &err))
		fail_msg("%s", err.text);
	for (uint64_t i = 0; i < n; i++)
		copy_data(w, i, in, src[i], data[i]);
	if (gguf_writer_finish(w, &err))
		fail_msg("%s", err.text);
	fclose(in);
	free(src);
	free(data);
	gguf_close(g);
	return path;
}

#endif
