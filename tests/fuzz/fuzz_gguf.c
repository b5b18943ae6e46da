// SPDX-License-Identifier: MIT
/*
 * libFuzzer target: any bytes as a GGUF file, or as a packed one.
 *
 * A file that is refused must be refused with a sentence. One that opens must keep what gguf.h
 * promises: every string, number and element can be read, every key and tensor is found by its
 * name, tensors lie inside the file and apart from each other, and every typed look-up of every
 * key answers.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "kernels/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

/* Reads every byte, for the sanitizer. */
static unsigned int touch(const void *p, uint64_t n)
{
	const volatile uint8_t *b = p;
	unsigned int sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += b[i];
	return sum;
}

static void touch_str(const struct gguf_str *s)
{
	touch(s->p, s->len);
	check(s->p[s->len] == '\0');
}

static void touch_array(const struct gguf_array *a)
{
	static const uint8_t size[GGUF_TYPE_COUNT] = {
		[GGUF_U8] = 1,	[GGUF_I8] = 1,	[GGUF_U16] = 2, [GGUF_I16] = 2,
		[GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
		[GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
	};
	int64_t v;

	check(a->type < GGUF_TYPE_COUNT);
	if (a->type == GGUF_STRING) {
		for (uint64_t i = 0; i < a->n; i++)
			touch_str(&a->str[i]);
	} else if (a->type == GGUF_ARRAY) {
		for (uint64_t i = 0; i < a->n; i++)
			touch_array(&a->arr[i]);
	} else {
		touch(a->num, a->n * size[a->type]);
	}
	for (uint64_t i = 0; i < a->n; i++)
		gguf_array_int(a, i, &v);
	check(!gguf_array_int(a, a->n, &v));
}

static int of_either(int ret, enum gguf_type type, enum gguf_type want)
{
	return type == want ? ret == 0 : ret == -EINVAL;
}

static void look_up(const struct gguf *g, const struct gguf_kv *kv)
{
	const char *key = kv->key.p;
	struct gguf_array a;
	struct gguf_str s;
	struct err err;
	uint64_t u64;
	uint32_t u32;
	float f32;
	bool b;
	int ret;

	check(gguf_find(g, key) == kv);
	ret = gguf_u64(g, key, &u64, &err);
	check(ret == 0 || ret == -EINVAL);
	check(gguf_u32(g, key, &u32, &err) || (!ret && u64 == u32));
	ret = gguf_f32(g, key, &f32, &err);
	check(ret == 0 || ret == -EINVAL);
	check(of_either(gguf_bool(g, key, &b, &err), kv->type, GGUF_BOOL));
	check(of_either(gguf_string(g, key, &s, &err), kv->type, GGUF_STRING));
	for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
		ret = gguf_array(g, key, (enum gguf_type)type, &a, &err);
		check(ret == (kv->type == GGUF_ARRAY && kv->arr.type == (enum gguf_type)type
				      ? 0
				      : -EINVAL));
	}
	if (kv->type == GGUF_STRING)
		touch_str(&kv->str);
	if (kv->type == GGUF_ARRAY)
		touch_array(&kv->arr);
}

static void check_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
	const struct gguf_file *f = &g->file[t->file];
	const struct wtype_info *info = wtype_info(t->type);

	touch_str(&t->name);
	check(gguf_find_tensor(g, t->name.p) == t);
	check(info != NULL);
	check(t->n_dims >= 1 && t->n_dims <= GGUF_MAX_DIMS);
	check(t->n_rows == t->ne[1] * t->ne[2] * t->ne[3]);
	check(t->row_bytes == t->ne[0] / info->block_elems * info->block_bytes);
	check(!t->packed || (g->packed_file && info->block_elems > 1));
	check(t->size == t->row_bytes * (t->packed ? pack_rows_up(t->n_rows) : t->n_rows));
	check(t->size > 0);
	check(t->off % f->alignment == 0);
	check(t->off >= f->data_off && t->off <= f->size && t->size <= f->size - t->off);
	for (const struct gguf_tensor *u = g->tensor; u < t; u++)
		check(u->off + u->size <= t->off || t->off + t->size <= u->off);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gguf *g = NULL;
	struct err err = {""};
	int ret;

	ret = gguf_open_mem(data, size, "fuzz.gguf", &g, &err);
	if (ret) {
		check(ret == -EINVAL || ret == -EOPNOTSUPP);
		check(!g && strstr(err.text, "fuzz.gguf"));
		return 0;
	}
	check(g->n_file == 1 && g->file[0].size == size);
	check(!memcmp(data, g->packed_file ? "WEIR" : "GGUF", 4));
	check(!g->packed_file || g->file[0].alignment == 4096);
	for (uint64_t i = 0; i < g->n_kv; i++)
		look_up(g, &g->kv[i]);
	for (uint64_t i = 0; i < g->n_tensor; i++)
		check_tensor(g, &g->tensor[i]);
	check(!gguf_find(g, "no such key, said nobody"));
	gguf_close(g);
	return 0;
}
