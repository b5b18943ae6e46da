// SPDX-License-Identifier: MIT
/*
 * Finding keys and tensors by name, and metadata as the types that callers want.
 */
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/internal.h"
#include "kernels/packed.h"

static const struct {
	const char *name;
	uint32_t size; /* of a number; 0: not a number */
} types[GGUF_TYPE_COUNT] = {
	[GGUF_U8] = {"u8", 1},	     [GGUF_I8] = {"i8", 1},	[GGUF_U16] = {"u16", 2},
	[GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},	[GGUF_I32] = {"i32", 4},
	[GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
	[GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},	[GGUF_I64] = {"i64", 8},
	[GGUF_F64] = {"f64", 8},
};

/* Weight types of other programs, so that a refusal can name them. */
static const struct {
	uint32_t id;
	const char *name;
	bool removed;
} foreign[] = {
	{4, "Q4_2", true},	  {5, "Q4_3", true},	    {9, "Q8_1", false},
	{15, "Q8_K", false},	  {16, "IQ2_XXS", false},   {17, "IQ2_XS", false},
	{18, "IQ3_XXS", false},	  {19, "IQ1_S", false},	    {21, "IQ3_S", false},
	{22, "IQ2_S", false},	  {24, "I8", false},	    {25, "I16", false},
	{26, "I32", false},	  {27, "I64", false},	    {28, "F64", false},
	{29, "IQ1_M", false},	  {31, "Q4_0_4_4", true},   {32, "Q4_0_4_8", true},
	{33, "Q4_0_8_8", true},	  {34, "TQ1_0", false},	    {35, "TQ2_0", false},
	{36, "IQ4_NL_4_4", true}, {37, "IQ4_NL_4_8", true}, {38, "IQ4_NL_8_8", true},
	{40, "NVFP4", false},	  {41, "Q1_0", false},	    {42, "Q2_0", false},
};

uint32_t gguf_number_size(uint32_t type)
{
	return type < GGUF_TYPE_COUNT ? types[type].size : 0;
}

const char *gguf_type_name(enum gguf_type type)
{
	return (uint32_t)type < GGUF_TYPE_COUNT ? types[type].name : "unknown";
}

static int refuse_type(uint32_t type, struct err *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		if (foreign[i].id != type)
			continue;
		if (foreign[i].removed)
			return err_set(
				why, -EOPNOTSUPP,
				"has weight type %u (%s), which was removed from the format: "
				"get a newer conversion of this model",
				type, foreign[i].name);
		return err_set(why, -EOPNOTSUPP,
			       "has weight type %u (%s), which weir does not run: get another "
			       "quantization of this model",
			       type, foreign[i].name);
	}
	return err_set(
		why, -EOPNOTSUPP,
		"has weight type %u, which is unknown: the file is damaged or newer than weir",
		type);
}

int gguf_measure(struct gguf_tensor *t, bool packed_file, struct err *why)
{
	const struct wtype_info *info;
	uint64_t n = 1, rows;

	t->packed = packed_file && (t->type & GGUF_PACKED);
	if (t->packed)
		t->type &= ~GGUF_PACKED;
	info = wtype_info(t->type);
	if (!info)
		return refuse_type(t->type, why);
	if (t->packed && info->block_elems == 1)
		return err_set(why, -EINVAL,
			       "has packed rows of weight type %u (%s), which is never packed",
			       t->type, info->name);
	for (uint32_t i = 0; i < t->n_dims; i++) {
		if (!t->ne[i])
			return err_set(why, -EINVAL, "has dimension %u of size 0", i);
		if (mul_overflow(n, t->ne[i], &n) || n > INT64_MAX)
			return err_set(why, -EINVAL, "has more elements than 63 bits can count");
	}
	if (t->ne[0] % info->block_elems)
		return err_set(why, -EINVAL,
			       "has rows of %" PRIu64
			       " elements, which is no multiple of the %u in a %s block",
			       t->ne[0], info->block_elems, info->name);
	t->n_rows = n / t->ne[0];
	rows = t->packed ? pack_rows_up(t->n_rows) : t->n_rows;
	if (mul_overflow(t->ne[0] / info->block_elems, (uint64_t)info->block_bytes,
			 &t->row_bytes) ||
	    mul_overflow(t->row_bytes, rows, &t->size) || t->size > INT64_MAX)
		return err_set(why, -EINVAL, "has more bytes than 63 bits can count");
	return 0;
}

static int compare(const char *a, uint64_t a_len, const char *b, uint64_t b_len)
{
	int d = memcmp(a, b, MIN(a_len, b_len));

	return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int compare_kv(const void *a, const void *b)
{
	const struct gguf_kv *x = *(const struct gguf_kv *const *)a;
	const struct gguf_kv *y = *(const struct gguf_kv *const *)b;

	return compare(x->key.p, x->key.len, y->key.p, y->key.len);
}

static int compare_tensor(const void *a, const void *b)
{
	const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
	const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;

	return compare(x->name.p, x->name.len, y->name.p, y->name.len);
}

int gguf_index_keys(struct gguf_model *m, struct err *err)
{
	const struct gguf *g = &m->pub;
	const struct gguf_kv **p;

	p = reallocarray(m->by_key, g->n_kv + 1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "'%s': not enough memory for %" PRIu64 " keys",
			       SHOW_PATH(g->file[0].path), g->n_kv);
	m->by_key = p;
	for (uint64_t i = 0; i < g->n_kv; i++)
		p[i] = &g->kv[i];
	qsort(p, g->n_kv, sizeof(*p), compare_kv);
	for (uint64_t i = 1; i < g->n_kv; i++)
		if (!compare_kv(&p[i - 1], &p[i]))
			return err_set(err, -EINVAL,
				       "'%s': key '%s' is there twice, as metadata entries %td and "
				       "%td",
				       SHOW_PATH(g->file[0].path), SHOW(p[i]->key),
				       MIN(p[i - 1], p[i]) - g->kv + 1,
				       MAX(p[i - 1], p[i]) - g->kv + 1);
	return 0;
}

int gguf_index_tensors(struct gguf_model *m, struct err *err)
{
	const struct gguf *g = &m->pub;
	const struct gguf_tensor **p;

	p = reallocarray(m->by_name, g->n_tensor + 1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "'%s': not enough memory for %" PRIu64 " tensors",
			       SHOW_PATH(g->file[0].path), g->n_tensor);
	m->by_name = p;
	for (uint64_t i = 0; i < g->n_tensor; i++)
		p[i] = &g->tensor[i];
	qsort(p, g->n_tensor, sizeof(*p), compare_tensor);
	for (uint64_t i = 1; i < g->n_tensor; i++)
		if (!compare_tensor(&p[i - 1], &p[i]))
			return err_set(
				err, -EINVAL,
				"'%s': tensor '%s' is there twice, as tensor entries %td and "
				"%td",
				SHOW_PATH(g->file[0].path), SHOW(p[i]->name),
				MIN(p[i - 1], p[i]) - g->tensor + 1,
				MAX(p[i - 1], p[i]) - g->tensor + 1);
	return 0;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	const struct gguf_kv want = {.key = {key, strlen(key)}}, *w = &want, **at;

	if (!g->n_kv)
		return NULL;
	at = bsearch(&w, gguf_priv(g)->by_key, g->n_kv, sizeof(*at), compare_kv);
	return at ? *at : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
	const struct gguf_tensor want = {.name = {name, strlen(name)}}, *w = &want, **at;

	if (!g->n_tensor)
		return NULL;
	at = bsearch(&w, gguf_priv(g)->by_name, g->n_tensor, sizeof(*at), compare_tensor);
	return at ? *at : NULL;
}

/* ---- typed look-ups ---- */

static int absent(const struct gguf *g, const char *key, struct err *err)
{
	return err_set(err, -ENOENT, "'%s' has no key '%s'", SHOW_PATH(g->file[0].path), key);
}

static int wrong_type(const struct gguf *g, const struct gguf_kv *kv, const char *want,
		      struct err *err)
{
	return err_set(err, -EINVAL, "'%s': key '%s' has type %s, not %s",
		       SHOW_PATH(g->file[0].path), SHOW(kv->key), gguf_type_name(kv->type), want);
}

static bool is_unsigned(enum gguf_type t)
{
	return t == GGUF_U8 || t == GGUF_U16 || t == GGUF_U32 || t == GGUF_U64;
}

static bool is_signed(enum gguf_type t)
{
	return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

static int get_uint(const struct gguf *g, const char *key, uint64_t max, uint64_t *out,
		    struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return absent(g, key, err);
	if (is_signed(kv->type) && kv->i64 < 0)
		return err_set(err, -EINVAL, "'%s': key '%s' is %" PRId64 ", below 0",
			       SHOW_PATH(g->file[0].path), SHOW(kv->key), kv->i64);
	if (!is_signed(kv->type) && !is_unsigned(kv->type))
		return wrong_type(g, kv, "an integer", err);
	if (kv->u64 > max)
		return err_set(err, -EINVAL, "'%s': key '%s' is %" PRIu64 ", above %" PRIu64,
			       SHOW_PATH(g->file[0].path), SHOW(kv->key), kv->u64, max);
	*out = kv->u64;
	return 0;
}

int gguf_u64(const struct gguf *g, const char *key, uint64_t *out, struct err *err)
{
	return get_uint(g, key, UINT64_MAX, out, err);
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *err)
{
	uint64_t v;
	int ret;

	ret = get_uint(g, key, UINT32_MAX, &v, err);
	if (!ret)
		*out = (uint32_t)v;
	return ret;
}

int gguf_f32(const struct gguf *g, const char *key, float *out, struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return absent(g, key, err);
	if (is_unsigned(kv->type)) {
		*out = (float)kv->u64;
	} else if (is_signed(kv->type)) {
		*out = (float)kv->i64;
	} else if (kv->type == GGUF_F32 || kv->type == GGUF_F64) {
		if (isfinite(kv->f64) && fabs(kv->f64) > (double)FLT_MAX)
			return err_set(err, -EINVAL,
				       "'%s': key '%s' is %g, which 32 bits do not hold",
				       SHOW_PATH(g->file[0].path), SHOW(kv->key), kv->f64);
		*out = (float)kv->f64;
	} else {
		return wrong_type(g, kv, "a number", err);
	}
	return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return absent(g, key, err);
	if (kv->type != GGUF_BOOL)
		return wrong_type(g, kv, "bool", err);
	*out = kv->b;
	return 0;
}

int gguf_string(const struct gguf *g, const char *key, struct gguf_str *out, struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return absent(g, key, err);
	if (kv->type != GGUF_STRING)
		return wrong_type(g, kv, "string", err);
	*out = kv->str;
	return 0;
}

int gguf_array(const struct gguf *g, const char *key, enum gguf_type type, struct gguf_array *out,
	       struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return absent(g, key, err);
	if (kv->type != GGUF_ARRAY)
		return wrong_type(g, kv, "array", err);
	if (kv->arr.type != type)
		return err_set(err, -EINVAL, "'%s': key '%s' is an array of %s, not of %s",
			       SHOW_PATH(g->file[0].path), SHOW(kv->key),
			       gguf_type_name(kv->arr.type), gguf_type_name(type));
	*out = kv->arr;
	return 0;
}

bool gguf_array_int(const struct gguf_array *a, uint64_t i, int64_t *out)
{
	if (i >= a->n)
		return false;
	switch (a->type) {
	case GGUF_U8:
		*out = ((const uint8_t *)a->num)[i];
		return true;
	case GGUF_I8:
		*out = ((const int8_t *)a->num)[i];
		return true;
	case GGUF_U16:
		*out = ((const uint16_t *)a->num)[i];
		return true;
	case GGUF_I16:
		*out = ((const int16_t *)a->num)[i];
		return true;
	case GGUF_U32:
		*out = ((const uint32_t *)a->num)[i];
		return true;
	case GGUF_I32:
		*out = ((const int32_t *)a->num)[i];
		return true;
	case GGUF_I64:
		*out = ((const int64_t *)a->num)[i];
		return true;
	case GGUF_U64:
		if (((const uint64_t *)a->num)[i] > INT64_MAX)
			return false;
		*out = (int64_t)((const uint64_t *)a->num)[i];
		return true;
	default:
		return false;
	}
}

int gguf_read_tensor(const struct gguf *g, const struct gguf_tensor *t, void *buf, struct err *err)
{
	const char *path = g->file[t->file].path;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t done = 0;
	ssize_t n = 0;
	int r = 0;

	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	while (done < t->size) {
		n = pread(fd, (char *)buf + done, t->size - done, (off_t)(t->off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	if (done < t->size)
		r = err_set(err, n < 0 ? -errno : -EIO,
			    "'%s': cannot read tensor %s at offset %llu: %s", path, t->name.p,
			    (unsigned long long)(t->off + done),
			    n < 0 ? strerror(errno) : "the file ends there");
	close(fd);
	return r;
}
