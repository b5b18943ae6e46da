// SPDX-License-Identifier: MIT
/*
 * One GGUF file -> struct gguf. Split sets are put together in split.c.
 *
 * The layout, all little-endian:
 *
 *	"GGUF", u32 version, u64 n_tensor, u64 n_kv
 *	n_kv times	string key, u32 type, value
 *	n_tensor times	string name, u32 n_dims, u64 ne[n_dims], u32 type, u64 offset
 *	zeros up to a multiple of general.alignment: here the tensor data starts
 *
 * where a string is u64 length and bytes, an array u32 type, u64 count and values. Versions 2
 * and 3 differ in nothing that matters here. A packed file begins with "WEIR" and a version of its
 * own; its data is aligned to 4 KiB, and a type number may have GGUF_PACKED in it.
 *
 * Invariants: nothing is believed before it is checked against what is left of the file; tables
 * of keys and tensors grow as entries are read, not by the counts that the file claims. Bytes
 * come by pread() through a buffer, so that a file that shrinks meanwhile is an error, not a
 * SIGBUS. Every sentence names the file, the entry and the offset.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/internal.h"

#define BUF_SIZE (1u << 20)

/* Least bytes that an element takes in the file. */
#define MIN_STRING 8u
#define MIN_ARRAY  12u

enum part {
	PART_HEADER,
	PART_KV,
	PART_TENSOR,
};

struct reader {
	struct gguf_model *m;
	struct gguf_file *file;
	struct err *err;

	int fd;		  /* -1: all of it is in memory */
	const uint8_t *p; /* next byte */
	const uint8_t *end;
	uint8_t *buf;	  /* BUF_SIZE, or NULL in memory */
	uint64_t end_off; /* offset in the file of `end` */

	/* where we are, for messages */
	enum part part;
	uint64_t entry;
	uint64_t n_entries;
	struct gguf_str name; /* len 0 while it is not read yet */
};

static uint64_t pos(const struct reader *r)
{
	return r->end_off - (uint64_t)(r->end - r->p);
}

/* "metadata entry 3 of 20 'llama.block_count'" */
static void describe(const struct reader *r, char *buf, size_t size)
{
	int n;

	if (r->part == PART_HEADER) {
		snprintf(buf, size, "the header");
		return;
	}
	n = snprintf(buf, size, "%s %" PRIu64 " of %" PRIu64,
		     r->part == PART_KV ? "metadata entry" : "tensor entry", r->entry + 1,
		     r->n_entries);
	if (r->name.len)
		snprintf(buf + n, size - (size_t)n, " '%s'", SHOW(r->name));
}

/* Sets the sentence "FILE: ENTRY, offset OFF: REASON". */
#define fail(r, code, off, ...)                                                                    \
	({                                                                                         \
		struct err why_;                                                                   \
		err_set(&why_, 0, __VA_ARGS__);                                                    \
		fail_at(r, code, off, why_.text);                                                  \
	})

static int fail_at(const struct reader *r, int code, uint64_t off, const char *why)
{
	char where[192];

	describe(r, where, sizeof(where));
	return err_set(r->err, code, "'%s': %s, offset %" PRIu64 ": %s", SHOW_PATH(r->file->path),
		       where, off, why);
}

static int no_memory(const struct reader *r)
{
	return err_set(r->err, -ENOMEM, "'%s': not enough memory for its metadata",
		       SHOW_PATH(r->file->path));
}

/* Are there n more bytes? Asked before memory is taken for them. */
static int need(const struct reader *r, uint64_t n, const char *what)
{
	uint64_t at = pos(r), left = r->file->size - at;

	if (n > left)
		return fail(r, -EINVAL, at,
			    "%s needs %" PRIu64 " bytes, but the file ends %" PRIu64
			    " bytes too early: it is incomplete or damaged, download it again",
			    what, n, n - left);
	if (n > GGUF_MAX_HEADER || at > GGUF_MAX_HEADER - n)
		return fail(r, -EINVAL, at,
			    "%s ends more than 1 GiB into the file, which no model's metadata does",
			    what);
	return 0;
}

/* pread() of exactly n bytes. */
static int read_at(const struct reader *r, void *dst, uint64_t n, uint64_t off)
{
	uint8_t *to = dst;
	ssize_t got;

	while (n) {
		got = pread(r->fd, to, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(r, -errno, off, "read failed: %s", strerror(errno));
		if (!got)
			return fail(r, -EINVAL, off, "the file shrank while it was read");
		to += got;
		off += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

static int refill(struct reader *r)
{
	uint64_t n = MIN(r->file->size - r->end_off, (uint64_t)BUF_SIZE);
	int ret;

	ret = read_at(r, r->buf, n, r->end_off);
	if (ret)
		return ret;
	r->p = r->buf;
	r->end = r->buf + n;
	r->end_off += n;
	return 0;
}

static int get_slow(struct reader *r, void *dst, uint64_t n, const char *what)
{
	uint64_t have = (uint64_t)(r->end - r->p);
	uint8_t *to = dst;
	int ret;

	ret = need(r, n, what);
	if (ret)
		return ret;
	memcpy(to, r->p, have);
	to += have;
	n -= have;
	r->p = r->end;
	if (n >= BUF_SIZE) {
		ret = read_at(r, to, n, r->end_off);
		if (!ret)
			r->end_off += n;
		return ret;
	}
	ret = refill(r);
	if (ret)
		return ret;
	memcpy(to, r->p, n);
	r->p += n;
	return 0;
}

/* The next n bytes; @what names the field. */
static inline int get(struct reader *r, void *dst, uint64_t n, const char *what)
{
	if (n > (uint64_t)(r->end - r->p))
		return get_slow(r, dst, n, what);
	memcpy(dst, r->p, n);
	r->p += n;
	return 0;
}

static int get_str(struct reader *r, struct gguf_str *s, const char *what)
{
	uint64_t len;
	char *p;
	int ret;

	ret = get(r, &len, sizeof(len), "a string's length");
	if (!ret)
		ret = need(r, len, what);
	if (ret)
		return ret;
	p = arena_alloc(&r->m->arena, len + 1, 1);
	if (!p)
		return no_memory(r);
	ret = get(r, p, len, what);
	p[len] = '\0';
	s->p = p;
	s->len = ret ? 0 : len;
	return ret;
}

/* Keys and tensor names: strings that C can hold, not empty. */
static int get_name(struct reader *r, struct gguf_str *s, const char *what)
{
	uint64_t at = pos(r);
	int ret;

	ret = get_str(r, s, what);
	if (ret)
		return ret;
	if (!s->len)
		return fail(r, -EINVAL, at, "%s is empty", what);
	if (s->len > GGUF_MAX_KEY)
		return fail(r, -EINVAL, at, "%s has %" PRIu64 " bytes, at most %u are allowed",
			    what, s->len, GGUF_MAX_KEY);
	if (memchr(s->p, '\0', s->len))
		return fail(r, -EINVAL, at, "%s holds a NUL byte", what);
	return 0;
}

static int get_value_type(struct reader *r, uint32_t *type)
{
	uint64_t at = pos(r);
	int ret;

	ret = get(r, type, sizeof(*type), "the value's type");
	if (!ret && *type >= GGUF_TYPE_COUNT)
		return fail(r, -EOPNOTSUPP, at,
			    "value type %u is unknown: the file is damaged or newer than weir",
			    *type);
	return ret;
}

/* n numbers of a type; bools must be 0 or 1. */
static int get_numbers(struct reader *r, uint32_t type, uint64_t n, void *dst)
{
	uint64_t at = pos(r);
	const uint8_t *b = dst;
	int ret;

	ret = get(r, dst, n * gguf_number_size(type), "the value");
	if (ret || type != GGUF_BOOL)
		return ret;
	for (uint64_t i = 0; i < n; i++)
		if (b[i] > 1)
			return fail(r, -EINVAL, at + i, "a bool is %u, neither 0 nor 1", b[i]);
	return 0;
}

static int get_array(struct reader *r, struct gguf_array *a, unsigned int depth);

static int get_elements(struct reader *r, struct gguf_array *a, unsigned int depth)
{
	uint32_t size = gguf_number_size(a->type);
	struct gguf_array *arr;
	struct gguf_str *str;
	void *num;
	int ret = 0;

	if (a->type == GGUF_STRING) {
		str = arena_alloc(&r->m->arena, a->n * sizeof(*str), _Alignof(struct gguf_str));
		if (!str)
			return no_memory(r);
		a->str = str;
		for (uint64_t i = 0; i < a->n && !ret; i++)
			ret = get_str(r, &str[i], "a string of the array");
	} else if (a->type == GGUF_ARRAY) {
		arr = arena_alloc(&r->m->arena, a->n * sizeof(*arr), _Alignof(struct gguf_array));
		if (!arr)
			return no_memory(r);
		a->arr = arr;
		for (uint64_t i = 0; i < a->n && !ret; i++)
			ret = get_array(r, &arr[i], depth + 1);
	} else {
		num = arena_alloc(&r->m->arena, a->n * size, 8);
		if (!num)
			return no_memory(r);
		a->num = num;
		ret = get_numbers(r, a->type, a->n, num);
	}
	return ret;
}

static int get_array(struct reader *r, struct gguf_array *a, unsigned int depth)
{
	uint64_t at = pos(r), least, left;
	uint32_t type;
	int ret;

	if (depth > GGUF_MAX_DEPTH)
		return fail(r, -EINVAL, at, "arrays are nested deeper than %u", GGUF_MAX_DEPTH);
	ret = get_value_type(r, &type);
	if (!ret)
		ret = get(r, &a->n, sizeof(a->n), "the array's length");
	if (ret)
		return ret;
	a->type = type;
	least = type == GGUF_STRING  ? MIN_STRING
		: type == GGUF_ARRAY ? MIN_ARRAY
				     : gguf_number_size(type);
	left = r->file->size - pos(r);
	if (a->n > left / least)
		return fail(r, -EINVAL, at,
			    "an array claims %" PRIu64 " elements, but only %" PRIu64
			    " bytes are left: the file is incomplete or damaged, download it again",
			    a->n, left);
	ret = need(r, a->n * least, "the array");
	if (ret)
		return ret;
	return get_elements(r, a, depth);
}

/* Widens a number of the file to the union's 64 bits. */
static void set_number(struct gguf_kv *kv, const void *raw)
{
	union {
		uint8_t u8;
		int8_t i8;
		uint16_t u16;
		int16_t i16;
		uint32_t u32;
		int32_t i32;
		uint64_t u64;
		int64_t i64;
		float f32;
		double f64;
	} v = {0};

	memcpy(&v, raw, gguf_number_size(kv->type));
	switch (kv->type) {
	case GGUF_U8:
		kv->u64 = v.u8;
		break;
	case GGUF_U16:
		kv->u64 = v.u16;
		break;
	case GGUF_U32:
		kv->u64 = v.u32;
		break;
	case GGUF_I8:
		kv->i64 = v.i8;
		break;
	case GGUF_I16:
		kv->i64 = v.i16;
		break;
	case GGUF_I32:
		kv->i64 = v.i32;
		break;
	case GGUF_I64:
		kv->i64 = v.i64;
		break;
	case GGUF_F32:
		kv->f64 = (double)v.f32;
		break;
	case GGUF_F64:
		kv->f64 = v.f64;
		break;
	case GGUF_BOOL:
		kv->b = v.u8;
		break;
	default:
		kv->u64 = v.u64;
	}
}

static int get_kv(struct reader *r, struct gguf_kv *kv)
{
	uint8_t raw[8];
	uint32_t type;
	int ret;

	ret = get_name(r, &kv->key, "the key");
	if (ret)
		return ret;
	r->name = kv->key;
	ret = get_value_type(r, &type);
	if (ret)
		return ret;
	kv->type = type;
	switch (type) {
	case GGUF_STRING:
		return get_str(r, &kv->str, "the string");
	case GGUF_ARRAY:
		return get_array(r, &kv->arr, 1);
	default:
		ret = get_numbers(r, type, 1, raw);
		if (!ret)
			set_number(kv, raw);
		return ret;
	}
}

static int get_kvs(struct reader *r, uint64_t n)
{
	struct gguf *g = &r->m->pub;
	struct gguf_kv *kv;
	int ret;

	r->part = PART_KV;
	r->n_entries = n;
	for (uint64_t i = 0; i < n; i++) {
		r->entry = i;
		r->name.len = 0;
		kv = gguf_grow(g->kv, i, sizeof(*kv));
		if (!kv)
			return no_memory(r);
		g->kv = kv;
		ret = get_kv(r, &kv[i]);
		if (ret)
			return ret;
		g->n_kv = i + 1;
	}
	return gguf_index_keys(r->m, r->err);
}

static int set_alignment(struct reader *r)
{
	uint64_t a = GGUF_DEFAULT_ALIGNMENT;
	int ret;

	ret = gguf_u64(&r->m->pub, "general.alignment", &a, r->err);
	if (ret && ret != -ENOENT)
		return ret;
	if (a < GGUF_MIN_ALIGNMENT || a > GGUF_MAX_ALIGNMENT || (a & (a - 1)))
		return err_set(r->err, -EINVAL,
			       "'%s': general.alignment is %" PRIu64
			       ", it must be a power of two from %u to %u",
			       SHOW_PATH(r->file->path), a, GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
	/* what a packed file says of it is for the model that it is unpacked to */
	r->file->alignment = r->m->pub.packed_file ? PACKED_ALIGNMENT : (uint32_t)a;
	return 0;
}

static int get_tensor(struct reader *r, struct gguf_tensor *t)
{
	uint64_t at;
	struct err why;
	int ret;

	ret = get_name(r, &t->name, "the tensor's name");
	if (ret)
		return ret;
	r->name = t->name;
	at = pos(r);
	ret = get(r, &t->n_dims, sizeof(t->n_dims), "the number of dimensions");
	if (ret)
		return ret;
	if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
		return fail(r, -EINVAL, at, "has %u dimensions, 1 to %u are allowed", t->n_dims,
			    GGUF_MAX_DIMS);
	for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++)
		t->ne[i] = 1;
	ret = get(r, t->ne, t->n_dims * sizeof(t->ne[0]), "the shape");
	if (!ret)
		ret = get(r, &t->type, sizeof(t->type), "the weight type");
	if (ret)
		return ret;
	ret = gguf_measure(t, r->m->pub.packed_file, &why);
	if (ret)
		return fail(r, ret, at, "%s", why.text);
	at = pos(r);
	ret = get(r, &t->off, sizeof(t->off), "the data offset");
	if (!ret && t->off % r->file->alignment)
		return fail(r, -EINVAL, at, "data offset %" PRIu64 " is no multiple of %u", t->off,
			    r->file->alignment);
	return ret;
}

static int get_tensors(struct reader *r, uint64_t n)
{
	struct gguf *g = &r->m->pub;
	struct gguf_tensor *t;
	int ret;

	r->part = PART_TENSOR;
	r->n_entries = n;
	for (uint64_t i = 0; i < n; i++) {
		r->entry = i;
		r->name.len = 0;
		t = gguf_grow(g->tensor, i, sizeof(*t));
		if (!t)
			return no_memory(r);
		g->tensor = t;
		t[i].file = 0;
		ret = get_tensor(r, &t[i]);
		if (ret)
			return ret;
		g->n_tensor = i + 1;
	}
	return gguf_index_tensors(r->m, r->err);
}

/* From offsets in the data part to offsets in the file, which must hold them. */
static int place_tensors(struct reader *r)
{
	struct gguf *g = &r->m->pub;
	const struct gguf_tensor *last = NULL;
	uint64_t end, most = 0;

	r->file->data_off = align_up(pos(r), r->file->alignment);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		struct gguf_tensor *t = &g->tensor[i];

		if (add_overflow(t->off, r->file->data_off, &t->off) ||
		    add_overflow(t->off, t->size, &end))
			return err_set(r->err, -EINVAL,
				       "'%s': tensor '%s' lies beyond what an offset can say",
				       SHOW_PATH(r->file->path), SHOW(t->name));
		if (end > most) {
			most = end;
			last = t;
		}
	}
	if (most > r->file->size)
		return err_set(r->err, -EINVAL,
			       "'%s' is incomplete: tensor '%s' at offset %" PRIu64
			       " ends at %" PRIu64 ", but the file has %" PRIu64 " bytes, %" PRIu64
			       " are missing: download it again",
			       SHOW_PATH(r->file->path), SHOW(last->name), last->off, most,
			       r->file->size, most - r->file->size);
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
	const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;

	return (x->off > y->off) - (x->off < y->off);
}

static int refuse_overlaps(struct reader *r)
{
	struct gguf *g = &r->m->pub;
	const struct gguf_tensor **t;
	int ret = 0;

	if (!g->n_tensor)
		return 0;
	t = reallocarray(NULL, g->n_tensor, sizeof(*t));
	if (!t)
		return no_memory(r);
	for (uint64_t i = 0; i < g->n_tensor; i++)
		t[i] = &g->tensor[i];
	qsort(t, g->n_tensor, sizeof(*t), by_offset);
	for (uint64_t i = 1; i < g->n_tensor && !ret; i++)
		if (t[i]->off < t[i - 1]->off + t[i - 1]->size)
			ret = err_set(r->err, -EINVAL,
				      "'%s': tensors '%s' and '%s' overlap at offset %" PRIu64,
				      SHOW_PATH(r->file->path), SHOW(t[i - 1]->name),
				      SHOW(t[i]->name), t[i]->off);
	free(t);
	return ret;
}

/* Says what a file that is no GGUF most likely is. */
static int refuse_magic(const struct reader *r, const uint8_t magic[static 4])
{
	const char *path = r->file->path;

	if (!memcmp(magic, "vers", 4))
		return err_set(r->err, -EINVAL,
			       "'%s' is a Git LFS pointer, not the model: run 'git lfs pull' or "
			       "download the file itself",
			       SHOW_PATH(path));
	return err_set(r->err, -EINVAL,
		       "'%s' is not a GGUF file: at offset 0 it has bytes %02x %02x %02x %02x "
		       "instead of 'GGUF'",
		       SHOW_PATH(path), magic[0], magic[1], magic[2], magic[3]);
}

static int check_packed_version(const struct reader *r, uint32_t version)
{
	const char *path = r->file->path;

	if (version == PACKED_VERSION)
		return 0;
	if (!version)
		return err_set(r->err, -EINVAL,
			       "'%s' is a packed model of version 0 (offset 4), which there never "
			       "was: the file is damaged",
			       SHOW_PATH(path));
	if (version < PACKED_VERSION)
		return err_set(r->err, -EOPNOTSUPP,
			       "'%s' is a packed model of version %u (offset 4), older than the "
			       "version %u that this weir reads: pack the GGUF file again",
			       SHOW_PATH(path), version, PACKED_VERSION);
	return err_set(r->err, -EOPNOTSUPP,
		       "'%s' is a packed model of version %u (offset 4), newer than the version %u "
		       "that this weir knows: update weir",
		       SHOW_PATH(path), version, PACKED_VERSION);
}

static int check_version(const struct reader *r, uint32_t version)
{
	const char *path = r->file->path;

	if (version == 2 || version == 3)
		return 0;
	if (version && !(version & 0xffff))
		return err_set(r->err, -EOPNOTSUPP,
			       "'%s' is a big-endian GGUF file (version at offset 4 is %u): weir "
			       "reads little-endian ones, convert it or download that variant",
			       SHOW_PATH(path), __builtin_bswap32(version));
	if (version < 2)
		return err_set(
			r->err, -EOPNOTSUPP,
			"'%s' is GGUF version %u (offset 4), which is too old: get a file of "
			"version 2 or 3",
			SHOW_PATH(path), version);
	return err_set(
		r->err, -EOPNOTSUPP,
		"'%s' is GGUF version %u (offset 4), newer than the version 3 that this weir "
		"knows: update weir",
		SHOW_PATH(path), version);
}

/* Bounds how long a hostile file keeps us, sorting names included. */
static int get_count(struct reader *r, uint64_t *n, const char *what)
{
	uint64_t at = pos(r);
	int ret;

	ret = get(r, n, sizeof(*n), what);
	if (!ret && *n > GGUF_MAX_ENTRIES)
		return fail(r, -EINVAL, at, "%s is %" PRIu64 ", at most %u are allowed", what, *n,
			    GGUF_MAX_ENTRIES);
	return ret;
}

static int parse(struct reader *r)
{
	struct gguf *g = &r->m->pub;
	uint64_t n_tensor, n_kv;
	uint8_t magic[4];
	int ret;

	if (!r->file->size)
		return err_set(r->err, -EINVAL, "'%s' is empty: download it again",
			       SHOW_PATH(r->file->path));
	ret = get(r, magic, sizeof(magic), "the magic 'GGUF'");
	if (ret)
		return ret;
	g->packed_file = !memcmp(magic, PACKED_MAGIC, 4);
	if (!g->packed_file && memcmp(magic, GGUF_MAGIC, 4))
		return refuse_magic(r, magic);
	ret = get(r, &g->version, sizeof(g->version), "the version");
	if (!ret)
		ret = g->packed_file ? check_packed_version(r, g->version)
				     : check_version(r, g->version);
	if (!ret)
		ret = get_count(r, &n_tensor, "the number of tensors");
	if (!ret)
		ret = get_count(r, &n_kv, "the number of metadata entries");
	if (!ret)
		ret = get_kvs(r, n_kv);
	if (!ret)
		ret = set_alignment(r);
	if (!ret)
		ret = get_tensors(r, n_tensor);
	if (!ret)
		ret = place_tensors(r);
	if (!ret)
		ret = refuse_overlaps(r);
	return ret;
}

struct gguf_model *gguf_model_new(const char *path)
{
	struct gguf_model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->pub.file = calloc(1, sizeof(*m->pub.file));
	if (m->pub.file) {
		m->pub.n_file = 1;
		m->pub.file->path = strdup(path);
	}
	if (!m->pub.file || !m->pub.file->path) {
		gguf_model_free(m);
		return NULL;
	}
	return m;
}

void gguf_model_free(struct gguf_model *m)
{
	if (!m)
		return;
	for (uint32_t i = 0; i < m->pub.n_file; i++)
		free(m->pub.file[i].path);
	free(m->pub.file);
	free(m->pub.kv);
	free(m->pub.tensor);
	free(m->by_key);
	free(m->by_name);
	arena_free(&m->arena);
	free(m);
}

int gguf_read_mem(const void *data, size_t size, const char *name, struct gguf_model **out,
		  struct err *err)
{
	struct gguf_model *m = gguf_model_new(name);
	struct reader r = {
		.m = m,
		.err = err,
		.fd = -1,
		.p = data,
		.end = (const uint8_t *)data + size,
		.end_off = size,
	};
	int ret;

	if (!m)
		return err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(name));
	r.file = m->pub.file;
	r.file->size = size;
	ret = parse(&r);
	if (ret)
		gguf_model_free(m);
	else
		*out = m;
	return ret;
}

static int not_regular(const char *path, mode_t mode, struct err *err)
{
	const char *what = S_ISDIR(mode)    ? "a directory"
			   : S_ISFIFO(mode) ? "a pipe"
			   : S_ISSOCK(mode) ? "a socket"
					    : "a device";

	return err_set(err, S_ISDIR(mode) ? -EISDIR : -EINVAL, "'%s' is %s: name a GGUF file",
		       SHOW_PATH(path), what);
}

static int cannot_open(const char *path, struct err *err)
{
	int code = -errno;

	return err_set(err, code, "cannot open '%s': %s", SHOW_PATH(path), strerror(-code));
}

/* A pipe is not even opened: that would hang, or wake who writes to it. */
static int open_regular(const char *path, uint64_t *size, struct err *err)
{
	struct stat st;
	int fd, ret;

	if (stat(path, &st))
		return cannot_open(path, err);
	if (!S_ISREG(st.st_mode))
		return not_regular(path, st.st_mode, err);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return cannot_open(path, err);
	if (fstat(fd, &st))
		ret = cannot_open(path, err);
	else if (!S_ISREG(st.st_mode))
		ret = not_regular(path, st.st_mode, err);
	else
		ret = fd;
	if (ret < 0)
		close(fd);
	else
		*size = (uint64_t)st.st_size;
	return ret;
}

int gguf_read_path(const char *path, struct gguf_model **out, struct err *err)
{
	struct reader r = {.err = err};
	uint64_t size = 0;
	int ret;

	r.fd = open_regular(path, &size, err);
	if (r.fd < 0)
		return r.fd;
	r.m = gguf_model_new(path);
	r.buf = malloc(MIN(size + 1, (uint64_t)BUF_SIZE));
	if (!r.m || !r.buf) {
		ret = err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(path));
		goto out;
	}
	r.p = r.end = r.buf;
	r.file = r.m->pub.file;
	r.file->size = size;
	ret = parse(&r);
out:
	free(r.buf);
	close(r.fd);
	if (ret)
		gguf_model_free(r.m);
	else
		*out = r.m;
	return ret;
}
