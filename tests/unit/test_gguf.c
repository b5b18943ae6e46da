// SPDX-License-Identifier: MIT
/*
 * The GGUF reader, split sets, typed look-ups and writer.
 *
 * Files are built byte by byte in memory, so that each can be wrong in exactly one way. What a
 * refusal must do is tested as the user meets it: the code, and a sentence that names file,
 * entry and offset. Memory is copied to a block of its exact size, so that a sanitizer sees the
 * first byte that is read beyond it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "gguf/gguf.h"

/* ---- building files ---- */

static void put(struct strbuf *b, const void *p, size_t n)
{
	assert_int_equal(strbuf_add(b, p, n), 0);
}

static void u8(struct strbuf *b, uint8_t v)
{
	put(b, &v, sizeof(v));
}

static void u32(struct strbuf *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void u64(struct strbuf *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

static void str(struct strbuf *b, const char *s)
{
	u64(b, strlen(s));
	put(b, s, strlen(s));
}

static void header(struct strbuf *b, uint32_t version, uint64_t n_tensor, uint64_t n_kv)
{
	put(b, "GGUF", 4);
	u32(b, version);
	u64(b, n_tensor);
	u64(b, n_kv);
}

static void key(struct strbuf *b, const char *name, uint32_t type)
{
	str(b, name);
	u32(b, type);
}

static void array(struct strbuf *b, uint32_t type, uint64_t n)
{
	u32(b, type);
	u64(b, n);
}

static void kv_u32(struct strbuf *b, const char *name, uint32_t v)
{
	key(b, name, GGUF_U32);
	u32(b, v);
}

static void tensor(struct strbuf *b, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
		   uint64_t off)
{
	str(b, name);
	u32(b, 2);
	u64(b, ne0);
	u64(b, ne1);
	u32(b, type);
	u64(b, off);
}

static void pad(struct strbuf *b, size_t align)
{
	while (b->len % align)
		u8(b, 0);
}

static void zeros(struct strbuf *b, size_t n)
{
	while (n--)
		u8(b, 0);
}

/* One value of every type, two tensors with a gap between them; nothing after the last byte. */
#define FULL_KV 17

static void full(struct strbuf *b, uint32_t version)
{
	const uint64_t big = UINT64_MAX;
	const int64_t low = INT64_MIN;
	const float f32 = 1.5f;
	const double f64 = 0.1;

	header(b, version, 2, FULL_KV);
	key(b, "t.u8", GGUF_U8);
	u8(b, 200);
	key(b, "t.i8", GGUF_I8);
	u8(b, (uint8_t)-7);
	key(b, "t.u16", GGUF_U16);
	put(b, &(uint16_t){60000}, 2);
	key(b, "t.i16", GGUF_I16);
	put(b, &(int16_t){-30000}, 2);
	key(b, "t.u32", GGUF_U32);
	u32(b, 4000000000u);
	key(b, "t.i32", GGUF_I32);
	u32(b, (uint32_t)-5);
	key(b, "t.f32", GGUF_F32);
	put(b, &f32, 4);
	key(b, "t.true", GGUF_BOOL);
	u8(b, 1);
	key(b, "t.string", GGUF_STRING);
	str(b, "hello");
	key(b, "t.u64", GGUF_U64);
	put(b, &big, 8);
	key(b, "t.i64", GGUF_I64);
	put(b, &low, 8);
	key(b, "t.f64", GGUF_F64);
	put(b, &f64, 8);
	key(b, "a.u16", GGUF_ARRAY);
	array(b, GGUF_U16, 3);
	put(b, (uint16_t[]){1, 2, 65535}, 6);
	key(b, "a.bool", GGUF_ARRAY);
	array(b, GGUF_BOOL, 2);
	put(b, (uint8_t[]){1, 0}, 2);
	key(b, "a.string", GGUF_ARRAY);
	array(b, GGUF_STRING, 2);
	u64(b, 3);
	put(b, "a\0b", 3);
	str(b, "");
	key(b, "a.empty", GGUF_ARRAY);
	array(b, GGUF_F64, 0);
	key(b, "a.nested", GGUF_ARRAY);
	array(b, GGUF_ARRAY, 2);
	array(b, GGUF_I32, 1);
	u32(b, (uint32_t)-9);
	array(b, GGUF_STRING, 1);
	str(b, "in");
	tensor(b, "x.weight", WT_Q4_0, 64, 3, 128);
	tensor(b, "y.weight", WT_F32, 5, 2, 0);
	pad(b, 32);
	zeros(b, 128 + 2 * 3 * 18);
}

/* ---- opening ---- */

#define NAME "dir/model.gguf"

static int open_mem(const struct strbuf *b, struct gguf **g, struct err *err)
{
	void *copy = malloc(b->len ? b->len : 1);
	int ret;

	assert_non_null(copy);
	if (b->len)
		memcpy(copy, b->p, b->len);
	memset(err, 0, sizeof(*err));
	ret = gguf_open_mem(copy, b->len, NAME, g, err);
	free(copy);
	return ret;
}

static struct gguf *open_valid(struct strbuf *b)
{
	struct gguf *g = NULL;
	struct err err;

	if (open_mem(b, &g, &err))
		fail_msg("a valid file was refused: %s", err.text);
	strbuf_free(b);
	return g;
}

static void says(const struct err *err, const char *what)
{
	if (!strstr(err->text, what))
		fail_msg("the sentence should say '%s': %s", what, err->text);
}

/* @...: what the sentence must say beside the file's name, NULL-terminated */
static void refused(struct strbuf *b, int code, ...)
{
	struct gguf *g = NULL;
	const char *what;
	struct err err;
	va_list ap;
	int ret;

	ret = open_mem(b, &g, &err);
	if (!ret)
		fail_msg("a bad file was opened");
	if (ret != code)
		fail_msg("code %d instead of %d: %s", ret, code, err.text);
	assert_null(g);
	says(&err, NAME);
	va_start(ap, code);
	while ((what = va_arg(ap, const char *)))
		says(&err, what);
	va_end(ap);
	if (strchr(err.text, '\n'))
		fail_msg("more than one line: %s", err.text);
	strbuf_free(b);
}

/* ---- files ---- */

static char dir[] = "/tmp/weir-test-gguf-XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char cmd[sizeof(dir) + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static unsigned int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void save(const char *name, struct strbuf *b)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	if (b->len)
		assert_int_equal(fwrite(b->p, 1, b->len, f), b->len);
	assert_int_equal(fclose(f), 0);
	strbuf_free(b);
}

static void file_refused(const char *name, int code, const char *what)
{
	struct gguf *g = NULL;
	struct err err = {""};
	int ret;

	ret = gguf_open(in_dir(name), &g, &err);
	if (ret != code)
		fail_msg("code %d instead of %d: %s", ret, code, err.text);
	assert_null(g);
	says(&err, what);
}

static unsigned int files_in_dir(void)
{
	DIR *d = opendir(dir);
	unsigned int n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* ---- valid files ---- */

static void check_full(const struct gguf *g)
{
	const struct gguf_tensor *t;
	const struct gguf_kv *kv;

	assert_int_equal(g->n_kv, FULL_KV);
	assert_int_equal(gguf_find(g, "t.u8")->u64, 200);
	assert_int_equal(gguf_find(g, "t.i8")->i64, -7);
	assert_int_equal(gguf_find(g, "t.u16")->u64, 60000);
	assert_int_equal(gguf_find(g, "t.i16")->i64, -30000);
	assert_int_equal(gguf_find(g, "t.u32")->u64, 4000000000u);
	assert_int_equal(gguf_find(g, "t.i32")->i64, -5);
	assert_true(gguf_find(g, "t.f32")->f64 == 1.5);
	assert_true(gguf_find(g, "t.true")->b);
	assert_string_equal(gguf_find(g, "t.string")->str.p, "hello");
	assert_true(gguf_find(g, "t.u64")->u64 == UINT64_MAX);
	assert_true(gguf_find(g, "t.i64")->i64 == INT64_MIN);
	assert_true(gguf_find(g, "t.f64")->f64 == 0.1);
	kv = gguf_find(g, "a.u16");
	assert_int_equal(kv->arr.n, 3);
	assert_int_equal(((const uint16_t *)kv->arr.num)[2], 65535);
	kv = gguf_find(g, "a.bool");
	assert_int_equal(((const uint8_t *)kv->arr.num)[0], 1);
	assert_int_equal(((const uint8_t *)kv->arr.num)[1], 0);
	kv = gguf_find(g, "a.string");
	assert_int_equal(kv->arr.str[0].len, 3);
	assert_memory_equal(kv->arr.str[0].p, "a\0b", 4); /* and the NUL that follows */
	assert_int_equal(kv->arr.str[1].len, 0);
	assert_int_equal(gguf_find(g, "a.empty")->arr.n, 0);
	kv = gguf_find(g, "a.nested");
	assert_int_equal(kv->arr.type, GGUF_ARRAY);
	assert_int_equal(((const int32_t *)kv->arr.arr[0].num)[0], -9);
	assert_string_equal(kv->arr.arr[1].str[0].p, "in");
	assert_null(gguf_find(g, "t.u"));
	assert_null(gguf_find(g, "t.u88"));

	assert_int_equal(g->n_tensor, 2);
	assert_int_equal(g->n_file, 1);
	assert_int_equal(g->file[0].alignment, 32);
	assert_int_equal(g->file[0].data_off % 32, 0);
	t = gguf_find_tensor(g, "x.weight");
	assert_ptr_equal(t, &g->tensor[0]);
	assert_int_equal(t->type, WT_Q4_0);
	assert_int_equal(t->n_dims, 2);
	assert_int_equal(t->ne[0], 64);
	assert_int_equal(t->ne[1], 3);
	assert_int_equal(t->ne[2], 1);
	assert_int_equal(t->ne[3], 1);
	assert_int_equal(t->row_bytes, 36);
	assert_int_equal(t->n_rows, 3);
	assert_int_equal(t->size, 108);
	assert_int_equal(t->off, g->file[0].data_off + 128);
	assert_int_equal(t->off + t->size, g->file[0].size);
	assert_int_equal(gguf_find_tensor(g, "y.weight")->off, g->file[0].data_off);
	assert_null(gguf_find_tensor(g, "z.weight"));
}

static void test_versions_2_and_3_open(void **state)
{
	for (uint32_t version = 2; version <= 3; version++) {
		struct strbuf b = {0};
		struct gguf *g;

		full(&b, version);
		g = open_valid(&b);
		assert_int_equal(g->version, version);
		check_full(g);
		gguf_close(g);
	}
}

static void test_file_reads_like_memory(void **state)
{
	struct strbuf b = {0};
	struct gguf *g = NULL;
	struct err err;

	full(&b, 3);
	save("full.gguf", &b);
	assert_int_equal(gguf_open(in_dir("full.gguf"), &g, &err), 0);
	check_full(g);
	assert_string_equal(g->file[0].path, in_dir("full.gguf"));
	gguf_close(g);
	gguf_close(NULL);
}

static void test_vocabulary_without_tensors_opens(void **state)
{
	struct strbuf b = {0};
	struct gguf *g;

	header(&b, 3, 0, 1);
	kv_u32(&b, "llama.vocab_size", 7);
	g = open_valid(&b);
	assert_int_equal(g->n_tensor, 0);
	assert_null(gguf_find_tensor(g, "x"));
	gguf_close(g);

	header(&b, 3, 0, 0);
	g = open_valid(&b);
	assert_null(gguf_find(g, "x"));
	gguf_close(g);
}

/* Longer than the reader's buffer, in strings and in one value. */
static void test_large_metadata_survives(void **state)
{
	enum { N = 100000, BYTES = 3 << 20 };
	struct strbuf b = {0};
	struct gguf *g = NULL;
	struct gguf_array a;
	char text[32];
	struct err err;

	header(&b, 3, 0, 3);
	key(&b, "tokens", GGUF_ARRAY);
	array(&b, GGUF_STRING, N);
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "token-%d", i * 7);
		str(&b, text);
	}
	key(&b, "bytes", GGUF_ARRAY);
	array(&b, GGUF_U8, BYTES);
	for (int i = 0; i < BYTES; i++)
		u8(&b, (uint8_t)(i % 251));
	kv_u32(&b, "last", 42);
	save("large.gguf", &b);
	assert_int_equal(gguf_open(in_dir("large.gguf"), &g, &err), 0);
	assert_int_equal(gguf_array(g, "tokens", GGUF_STRING, &a, &err), 0);
	assert_int_equal(a.n, N);
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "token-%d", i * 7);
		assert_string_equal(a.str[i].p, text);
	}
	assert_int_equal(gguf_array(g, "bytes", GGUF_U8, &a, &err), 0);
	for (int i = 0; i < BYTES; i++)
		if (((const uint8_t *)a.num)[i] != i % 251)
			fail_msg("byte %d differs", i);
	assert_int_equal(gguf_find(g, "last")->u64, 42);
	gguf_close(g);
}

/* ---- damage anywhere ---- */

static void test_truncation_at_every_byte_is_refused(void **state)
{
	struct strbuf b = {0};
	struct gguf *g = NULL;
	struct err err, file_err;
	const char *path = in_dir("cut.gguf");
	int fd, ret;

	full(&b, 3);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, b.p, b.len), b.len);
	while (b.len) {
		b.len--;
		ret = open_mem(&b, &g, &err);
		if (ret != -EINVAL)
			fail_msg("cut to %zu bytes: code %d, %s", b.len, ret, err.text);
		says(&err, NAME);
		says(&err, "download it again");
		assert_int_equal(ftruncate(fd, (off_t)b.len), 0);
		ret = gguf_open(path, &g, &file_err);
		if (ret != -EINVAL)
			fail_msg("file cut to %zu bytes: code %d", b.len, ret);
		says(&file_err, strchr(err.text, ':')); /* the same reason, another name */
	}
	close(fd);
	strbuf_free(&b);
}

static void test_missing_bytes_are_counted(void **state)
{
	struct strbuf b = {0};
	char end[32];

	full(&b, 3);
	snprintf(end, sizeof(end), "ends at %zu", b.len);
	b.len -= 30;
	refused(&b, -EINVAL, "x.weight", end, "30 are missing", "download it again", NULL);
}

/* Any byte may hold anything: opening fails or succeeds, and never reads beyond the end. */
static void test_every_byte_changed_never_crashes(void **state)
{
	static const uint8_t value[] = {0, 1, 8, 9, 0x7f, 0x80, 0xff};
	struct strbuf b = {0};
	struct gguf *g;
	struct err err;

	full(&b, 3);
	for (size_t i = 0; i < b.len; i++) {
		char was = b.p[i];

		for (size_t k = 0; k < ARRAY_SIZE(value); k++) {
			b.p[i] = (char)value[k];
			g = NULL;
			if (open_mem(&b, &g, &err))
				assert_true(err.text[0]);
			gguf_close(g);
		}
		b.p[i] = was;
	}
	strbuf_free(&b);
}

/* ---- the header ---- */

static void test_other_formats_are_named(void **state)
{
	struct strbuf b = {0};

	put(&b, "PK\3\4 and more", 13);
	refused(&b, -EINVAL, "not a GGUF file", "50 4b 03 04", "offset 0", NULL);
	put(&b, "version https://git-lfs.github.com/spec/v1", 42);
	refused(&b, -EINVAL, "Git LFS", NULL);
	refused(&b, -EINVAL, "empty", NULL);
	put(&b, "GG", 2);
	refused(&b, -EINVAL, "magic", "2 bytes too early", NULL);
}

static void test_other_versions_are_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 1, 0, 0);
	refused(&b, -EOPNOTSUPP, "version 1", "too old", "offset 4", NULL);
	header(&b, 0, 0, 0);
	refused(&b, -EOPNOTSUPP, "version 0", NULL);
	header(&b, 4, 0, 0);
	refused(&b, -EOPNOTSUPP, "version 4", "update weir", "offset 4", NULL);
	header(&b, 0x03000000, 0, 0);
	refused(&b, -EOPNOTSUPP, "big-endian", "is 3", NULL);
	header(&b, 0x02000000, 0, 0);
	refused(&b, -EOPNOTSUPP, "big-endian", "is 2", NULL);
}

static void test_huge_counts_are_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, UINT64_MAX);
	refused(&b, -EINVAL, "metadata entries is 18446744073709551615", "offset 16", NULL);
	header(&b, 3, UINT64_MAX, 0);
	refused(&b, -EINVAL, "tensors is 18446744073709551615", "offset 8", NULL);
	header(&b, 3, 1 << 20, 0);
	refused(&b, -EINVAL, "tensor entry 1 of 1048576", "offset 24", NULL);
	header(&b, 3, 0, 1 << 20);
	kv_u32(&b, "a", 1);
	kv_u32(&b, "b", 1);
	refused(&b, -EINVAL, "metadata entry 3 of", NULL);
}

/* ---- metadata ---- */

static void test_bad_keys_are_refused(void **state)
{
	struct strbuf b = {0};
	char *longest = calloc(1, 65537);

	header(&b, 3, 0, 1);
	kv_u32(&b, "", 1);
	refused(&b, -EINVAL, "key is empty", "offset 24", NULL);

	header(&b, 3, 0, 1);
	u64(&b, 3);
	put(&b, "a\0b", 3);
	u32(&b, GGUF_U32);
	u32(&b, 1);
	refused(&b, -EINVAL, "NUL", NULL);

	header(&b, 3, 0, 1);
	u64(&b, UINT64_MAX);
	put(&b, "abc", 3);
	refused(&b, -EINVAL, "the key", "offset 32", "18446744073709551615", NULL);

	assert_non_null(longest);
	memset(longest, 'k', 65536);
	header(&b, 3, 0, 1);
	kv_u32(&b, longest, 1);
	refused(&b, -EINVAL, "65536", "65535", NULL);
	longest[65535] = '\0';
	header(&b, 3, 0, 1);
	kv_u32(&b, longest, 1);
	gguf_close(open_valid(&b));
	free(longest);
}

static void test_duplicate_keys_are_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 3);
	kv_u32(&b, "same", 1);
	kv_u32(&b, "other", 1);
	kv_u32(&b, "same", 2);
	refused(&b, -EINVAL, "'same' is there twice", "entries 1 and 3", NULL);
}

/* A name from the file may not move the cursor of the terminal on which it is shown. */
static void test_names_are_shown_without_control_bytes(void **state)
{
	struct strbuf b = {0};
	struct gguf *g;
	struct err err;

	header(&b, 3, 0, 1);
	key(&b, "evil\033[2J\n", 99);
	assert_int_equal(open_mem(&b, &g, &err), -EOPNOTSUPP);
	says(&err, "'evil?[2J?'");
	assert_null(strchr(err.text, '\033'));
	strbuf_free(&b);
}

static void test_unknown_value_types_are_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 1);
	key(&b, "k", 13);
	zeros(&b, 64);
	refused(&b, -EOPNOTSUPP, "'k'", "type 13", "offset 33", NULL);
	header(&b, 3, 0, 1);
	key(&b, "k", GGUF_ARRAY);
	array(&b, 13, 0);
	refused(&b, -EOPNOTSUPP, "'k'", "type 13", "offset 37", NULL);
}

static void test_bools_are_0_or_1(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 1);
	key(&b, "k", GGUF_BOOL);
	u8(&b, 2);
	refused(&b, -EINVAL, "'k'", "bool is 2", "offset 37", NULL);
	header(&b, 3, 0, 1);
	key(&b, "k", GGUF_ARRAY);
	array(&b, GGUF_BOOL, 3);
	put(&b, (uint8_t[]){1, 0, 255}, 3);
	refused(&b, -EINVAL, "'k'", "bool is 255", "offset 51", NULL);
}

static void test_huge_strings_and_arrays_are_refused(void **state)
{
	static const uint64_t huge[] = {1000,	    1ull << 32, 1ull << 61, (1ull << 61) + 1,
					1ull << 62, 1ull << 63, UINT64_MAX};
	struct strbuf b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(huge); i++) {
		header(&b, 3, 0, 1);
		key(&b, "k", GGUF_STRING);
		u64(&b, huge[i]);
		zeros(&b, 64);
		refused(&b, -EINVAL, "'k'", "the string", "offset 45", NULL);
		for (uint32_t type = 0; type < GGUF_TYPE_COUNT; type++) {
			header(&b, 3, 0, 1);
			key(&b, "k", GGUF_ARRAY);
			array(&b, type, huge[i]);
			zeros(&b, 64);
			refused(&b, -EINVAL, "'k'", "elements", "offset 37", NULL);
		}
	}
}

static void nested(struct strbuf *b, unsigned int depth)
{
	header(b, 3, 0, 1);
	key(b, "k", GGUF_ARRAY);
	while (--depth)
		array(b, GGUF_ARRAY, 1);
	array(b, GGUF_U8, 1);
	u8(b, 77);
}

static void test_nesting_has_a_limit(void **state)
{
	struct strbuf b = {0};
	const struct gguf_array *a;
	struct gguf *g;

	nested(&b, 4);
	g = open_valid(&b);
	a = &gguf_find(g, "k")->arr;
	a = &a->arr[0].arr[0].arr[0];
	assert_int_equal(((const uint8_t *)a->num)[0], 77);
	gguf_close(g);
	nested(&b, 5);
	refused(&b, -EINVAL, "'k'", "nested deeper", NULL);
	nested(&b, 100000);
	refused(&b, -EINVAL, "'k'", "nested deeper", NULL);
}

/* A sparse file costs its maker nothing, so its size justifies nothing. */
static void test_metadata_beyond_1_gib_is_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 1);
	key(&b, "k", GGUF_STRING);
	u64(&b, 3ull << 30);
	save("sparse.gguf", &b);
	assert_int_equal(truncate(in_dir("sparse.gguf"), 1ll << 32), 0);
	file_refused("sparse.gguf", -EINVAL, "1 GiB");
	header(&b, 3, 0, 1);
	key(&b, "k", GGUF_ARRAY);
	array(&b, GGUF_STRING, 1ull << 28);
	save("sparse.gguf", &b);
	assert_int_equal(truncate(in_dir("sparse.gguf"), 1ll << 32), 0);
	file_refused("sparse.gguf", -EINVAL, "1 GiB");
	assert_int_equal(unlink(in_dir("sparse.gguf")), 0);
}

/* ---- alignment ---- */

static void aligned(struct strbuf *b, uint32_t alignment)
{
	header(b, 3, 2, 1);
	kv_u32(b, "general.alignment", alignment);
	tensor(b, "a", WT_F32, 1, 1, 0);
	tensor(b, "b", WT_F32, 1, 1, alignment);
	pad(b, alignment);
	zeros(b, (size_t)alignment + 4);
}

static void test_alignments_are_honoured(void **state)
{
	static const uint32_t good[] = {8, 16, 32, 64, 4096, 1 << 20};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct strbuf b = {0};
		struct gguf *g;

		aligned(&b, good[i]);
		g = open_valid(&b);
		assert_int_equal(g->file[0].alignment, good[i]);
		assert_int_equal(g->file[0].data_off % good[i], 0);
		assert_int_equal(g->tensor[1].off, g->file[0].data_off + good[i]);
		gguf_close(g);
	}
}

static void test_bad_alignments_are_refused(void **state)
{
	static const uint32_t wrong[] = {0, 1, 4, 24, 33, 1 << 21, 1u << 31, UINT32_MAX};
	struct strbuf b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		header(&b, 3, 0, 1);
		kv_u32(&b, "general.alignment", wrong[i]);
		refused(&b, -EINVAL, "general.alignment", "power of two", NULL);
	}
	header(&b, 3, 0, 1);
	key(&b, "general.alignment", GGUF_STRING);
	str(&b, "32");
	refused(&b, -EINVAL, "general.alignment", "string", NULL);
}

/* ---- tensors ---- */

static void test_dimensions_are_1_to_4(void **state)
{
	static const uint32_t wrong[] = {0, 5, UINT32_MAX};
	struct strbuf b = {0};
	struct gguf *g;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		header(&b, 3, 1, 0);
		str(&b, "w");
		u32(&b, wrong[i]);
		zeros(&b, 100);
		refused(&b, -EINVAL, "'w'", "dimensions", "offset 33", NULL);
	}
	header(&b, 3, 1, 0);
	str(&b, "w");
	u32(&b, 4);
	for (uint64_t n = 2; n <= 5; n++)
		u64(&b, n);
	u32(&b, WT_F16);
	u64(&b, 0);
	pad(&b, 32);
	zeros(&b, 240);
	g = open_valid(&b);
	assert_int_equal(g->tensor[0].row_bytes, 4);
	assert_int_equal(g->tensor[0].n_rows, 60);
	assert_int_equal(g->tensor[0].size, 240);
	gguf_close(g);
}

static void one_tensor(struct strbuf *b, uint32_t type, uint64_t ne0, uint64_t ne1, uint64_t off)
{
	header(b, 3, 1, 0);
	tensor(b, "w", type, ne0, ne1, off);
	pad(b, 32);
	zeros(b, 1024);
}

static void test_impossible_shapes_are_refused(void **state)
{
	struct strbuf b = {0};

	one_tensor(&b, WT_F32, 0, 1, 0);
	refused(&b, -EINVAL, "'w'", "dimension 0 of size 0", NULL);
	one_tensor(&b, WT_F32, 4, 0, 0);
	refused(&b, -EINVAL, "'w'", "dimension 1 of size 0", NULL);
	one_tensor(&b, WT_F32, 1ull << 32, 1ull << 32, 0);
	refused(&b, -EINVAL, "'w'", "more elements than 63 bits", NULL);
	one_tensor(&b, WT_F32, 1ull << 63, 1, 0);
	refused(&b, -EINVAL, "'w'", "more elements than 63 bits", NULL);
	one_tensor(&b, WT_F32, 1ull << 62, 1, 0);
	refused(&b, -EINVAL, "'w'", "more bytes than 63 bits", NULL);
	one_tensor(&b, WT_F32, 1ull << 61, 1, 0);
	refused(&b, -EINVAL, "'w'", "more bytes than 63 bits", NULL);
	one_tensor(&b, WT_F32, 1ull << 31, 1ull << 31, 0);
	refused(&b, -EINVAL, "'w'", "more bytes than 63 bits", NULL);
	one_tensor(&b, WT_Q4_0, 48, 1, 0);
	refused(&b, -EINVAL, "'w'", "48", "multiple of the 32 in a Q4_0 block", NULL);
	one_tensor(&b, WT_Q4_K, 32, 8, 0);
	refused(&b, -EINVAL, "'w'", "32", "multiple of the 256 in a Q4_K block", NULL);
}

static void test_foreign_weight_types_are_refused_by_name(void **state)
{
	static const struct {
		uint32_t id;
		const char *say;
	} wrong[] = {
		{4, "removed"},	   {5, "removed"},	{31, "removed"},	 {32, "removed"},
		{33, "removed"},   {36, "removed"},	{37, "removed"},	 {38, "removed"},
		{16, "(IQ2_XXS)"}, {19, "(IQ1_S)"},	{29, "(IQ1_M)"},	 {40, "(NVFP4)"},
		{26, "(I32)"},	   {39 + 9, "unknown"}, {UINT32_MAX, "unknown"},
	};
	char id[24];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct strbuf b = {0};

		snprintf(id, sizeof(id), "type %u", wrong[i].id);
		one_tensor(&b, wrong[i].id, 256, 1, 0);
		refused(&b, -EOPNOTSUPP, "'w'", id, wrong[i].say, "offset", NULL);
	}
}

static void test_every_weight_type_opens(void **state)
{
	unsigned int n = 0;

	for (uint32_t type = 0; type < WT_COUNT; type++) {
		const struct wtype_info *info = wtype_info(type);
		struct strbuf b = {0};
		struct gguf *g;

		if (!info)
			continue;
		one_tensor(&b, type, 256, 1, 0);
		g = open_valid(&b);
		assert_int_equal(g->tensor[0].size, 256 / info->block_elems * info->block_bytes);
		gguf_close(g);
		n++;
	}
	assert_int_equal(n, 16);
}

static void test_offsets_are_checked(void **state)
{
	struct strbuf b = {0};

	one_tensor(&b, WT_F32, 4, 1, 16);
	refused(&b, -EINVAL, "'w'", "16 is no multiple of 32", "offset 57", NULL);
	one_tensor(&b, WT_F32, 4, 1, 1024);
	refused(&b, -EINVAL, "'w'", "16 are missing", NULL);
	one_tensor(&b, WT_F32, 4, 1, UINT64_MAX - 31);
	refused(&b, -EINVAL, "'w'", "beyond", NULL);
	one_tensor(&b, WT_F32, 4, 1, 1ull << 63);
	refused(&b, -EINVAL, "'w'", "missing", NULL);
}

static void two_tensors(struct strbuf *b, uint64_t off_a, uint64_t off_b)
{
	header(b, 3, 2, 0);
	tensor(b, "a", WT_F32, 16, 1, off_a);
	tensor(b, "b", WT_F32, 16, 1, off_b);
	pad(b, 32);
	zeros(b, 1024);
}

static void test_overlaps_are_refused_and_gaps_are_not(void **state)
{
	struct strbuf b = {0};

	two_tensors(&b, 0, 64);
	gguf_close(open_valid(&b));
	two_tensors(&b, 512, 96);
	gguf_close(open_valid(&b));
	two_tensors(&b, 0, 0);
	refused(&b, -EINVAL, "'a'", "'b'", "overlap at offset 128", NULL);
	two_tensors(&b, 64, 32);
	refused(&b, -EINVAL, "'b' and 'a'", "overlap at offset 192", NULL);
}

static void test_duplicate_tensors_are_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 2, 0);
	tensor(&b, "same", WT_F32, 4, 1, 0);
	tensor(&b, "same", WT_F32, 4, 1, 32);
	pad(&b, 32);
	zeros(&b, 64);
	refused(&b, -EINVAL, "'same' is there twice", "entries 1 and 2", NULL);
}

/* ---- typed look-ups ---- */

static void test_integers_of_every_width_are_accepted_where_they_fit(void **state)
{
	struct strbuf b = {0};
	struct err err;
	struct gguf *g;
	uint32_t v32 = 1;
	uint64_t v64 = 1;

	full(&b, 3);
	g = open_valid(&b);
	assert_int_equal(gguf_u32(g, "t.u8", &v32, &err), 0);
	assert_int_equal(v32, 200);
	assert_int_equal(gguf_u32(g, "t.u16", &v32, &err), 0);
	assert_int_equal(v32, 60000);
	assert_int_equal(gguf_u32(g, "t.u32", &v32, &err), 0);
	assert_int_equal(v32, 4000000000u);
	assert_int_equal(gguf_u64(g, "t.u64", &v64, &err), 0);
	assert_true(v64 == UINT64_MAX);
	v32 = 77;
	assert_int_equal(gguf_u32(g, "t.u64", &v32, &err), -EINVAL);
	says(&err, "'t.u64' is 18446744073709551615");
	says(&err, NAME);
	assert_int_equal(gguf_u32(g, "t.i32", &v32, &err), -EINVAL);
	says(&err, "'t.i32' is -5");
	assert_int_equal(gguf_u32(g, "t.f32", &v32, &err), -EINVAL);
	says(&err, "has type f32, not an integer");
	assert_int_equal(gguf_u64(g, "t.true", &v64, &err), -EINVAL);
	assert_int_equal(gguf_u64(g, "a.u16", &v64, &err), -EINVAL);
	assert_int_equal(gguf_u32(g, "none", &v32, &err), -ENOENT);
	says(&err, "no key 'none'");
	says(&err, NAME);
	assert_int_equal(v32, 77); /* failures leave what was there */
	assert_int_equal(gguf_u32(g, "none", &v32, NULL), -ENOENT);
	gguf_close(g);
}

static void test_floats_accept_every_number(void **state)
{
	struct strbuf b = {0};
	const double huge = 1e300, inf = INFINITY;
	struct gguf *g;
	struct err err;
	float f = 0;

	full(&b, 3);
	g = open_valid(&b);
	assert_int_equal(gguf_f32(g, "t.f32", &f, &err), 0);
	assert_true(f == 1.5f);
	assert_int_equal(gguf_f32(g, "t.f64", &f, &err), 0);
	assert_true(f == 0.1f);
	assert_int_equal(gguf_f32(g, "t.i8", &f, &err), 0);
	assert_true(f == -7.0f);
	assert_int_equal(gguf_f32(g, "t.u16", &f, &err), 0);
	assert_true(f == 60000.0f);
	assert_int_equal(gguf_f32(g, "t.string", &f, &err), -EINVAL);
	assert_int_equal(gguf_f32(g, "none", &f, &err), -ENOENT);
	assert_true(f == 60000.0f);
	gguf_close(g);

	header(&b, 3, 0, 2);
	key(&b, "huge", GGUF_F64);
	put(&b, &huge, 8);
	key(&b, "inf", GGUF_F64);
	put(&b, &inf, 8);
	g = open_valid(&b);
	assert_int_equal(gguf_f32(g, "huge", &f, &err), -EINVAL);
	says(&err, "1e+300");
	assert_int_equal(gguf_f32(g, "inf", &f, &err), 0);
	assert_true(isinf(f));
	gguf_close(g);
}

static void test_bools_strings_and_arrays_want_their_type(void **state)
{
	struct gguf_str s = {"was", 3};
	struct gguf_array a = {.n = 99};
	struct strbuf b = {0};
	struct gguf *g;
	struct err err;
	int64_t v = 0;
	bool yes = false;

	full(&b, 3);
	g = open_valid(&b);
	assert_int_equal(gguf_bool(g, "t.true", &yes, &err), 0);
	assert_true(yes);
	assert_int_equal(gguf_bool(g, "t.u8", &yes, &err), -EINVAL);
	says(&err, "has type u8, not bool");
	assert_int_equal(gguf_bool(g, "none", &yes, &err), -ENOENT);
	assert_int_equal(gguf_string(g, "t.u8", &s, &err), -EINVAL);
	assert_int_equal(gguf_string(g, "none", &s, &err), -ENOENT);
	assert_string_equal(s.p, "was");
	assert_int_equal(gguf_string(g, "t.string", &s, &err), 0);
	assert_string_equal(s.p, "hello");
	assert_int_equal(gguf_array(g, "t.u8", GGUF_U8, &a, &err), -EINVAL);
	assert_int_equal(gguf_array(g, "none", GGUF_U8, &a, &err), -ENOENT);
	assert_int_equal(gguf_array(g, "a.u16", GGUF_U8, &a, &err), -EINVAL);
	says(&err, "array of u16, not of u8");
	assert_int_equal(a.n, 99);
	assert_int_equal(gguf_array(g, "a.u16", GGUF_U16, &a, &err), 0);
	assert_true(gguf_array_int(&a, 2, &v));
	assert_int_equal(v, 65535);
	assert_false(gguf_array_int(&a, 3, &v));
	assert_int_equal(gguf_array(g, "a.string", GGUF_STRING, &a, &err), 0);
	assert_false(gguf_array_int(&a, 0, &v));
	gguf_close(g);
}

static void test_integer_arrays_of_every_width_are_read(void **state)
{
	static const uint32_t types[] = {GGUF_U8,  GGUF_I8,  GGUF_U16, GGUF_I16,
					 GGUF_U32, GGUF_I32, GGUF_U64, GGUF_I64};
	static const size_t width[] = {1, 1, 2, 2, 4, 4, 8, 8};
	const uint64_t all = UINT64_MAX;
	int64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		bool is_signed = i % 2;
		struct strbuf b = {0};
		struct gguf_array a;
		struct gguf *g;

		header(&b, 3, 0, 1);
		key(&b, "k", GGUF_ARRAY);
		array(&b, types[i], 2);
		put(&b, &(uint64_t){100}, width[i]);
		put(&b, &all, width[i]);
		g = open_valid(&b);
		assert_int_equal(gguf_array(g, "k", types[i], &a, NULL), 0);
		assert_true(gguf_array_int(&a, 0, &v));
		assert_int_equal(v, 100);
		if (types[i] == GGUF_U64) {
			assert_false(gguf_array_int(&a, 1, &v));
		} else {
			assert_true(gguf_array_int(&a, 1, &v));
			assert_true(v == (is_signed ? -1 : (int64_t)(all >> (64 - 8 * width[i]))));
		}
		gguf_close(g);
	}
}

static void test_type_names(void **state)
{
	assert_string_equal(gguf_type_name(GGUF_U8), "u8");
	assert_string_equal(gguf_type_name(GGUF_F64), "f64");
	assert_string_equal(gguf_type_name((enum gguf_type)13), "unknown");
}

/* ---- what can be in a file's place ---- */

static void test_what_is_no_file_is_refused(void **state)
{
	struct strbuf b = {0};

	file_refused("absent.gguf", -ENOENT, "No such file");
	assert_int_equal(mkdir(in_dir("folder.gguf"), 0700), 0);
	file_refused("folder.gguf", -EISDIR, "a directory");
	assert_int_equal(mkfifo(in_dir("pipe.gguf"), 0600), 0);
	file_refused("pipe.gguf", -EINVAL, "a pipe"); /* and does not wait for a writer */
	save("empty.gguf", &b);
	file_refused("empty.gguf", -EINVAL, "is empty");
	put(&b, "hello, world", 12);
	save("text.gguf", &b);
	file_refused("text.gguf", -EINVAL, "not a GGUF file");
	assert_int_equal(symlink(in_dir("nowhere"), in_dir("link.gguf")), 0);
	file_refused("link.gguf", -ENOENT, "link.gguf");
}

struct racing {
	const char *path;
	atomic_int stop;
};

static void *shrink_and_grow(void *arg)
{
	struct racing *r = arg;

	while (!atomic_load(&r->stop))
		if (truncate(r->path, 40) || truncate(r->path, 4 << 20))
			return r;
	return NULL;
}

/* With a mapping this would be SIGBUS. */
static void test_file_that_shrinks_is_an_error_at_worst(void **state)
{
	struct racing r = {.stop = 0};
	struct strbuf b = {0};
	char path[256];
	pthread_t thread;
	struct gguf *g;
	struct err err;
	void *failed;

	header(&b, 3, 0, 1);
	key(&b, "bytes", GGUF_ARRAY);
	array(&b, GGUF_U8, 3 << 20);
	zeros(&b, 3 << 20);
	save("racing.gguf", &b);
	snprintf(path, sizeof(path), "%s", in_dir("racing.gguf"));
	r.path = path; /* in_dir()'s is used again by save() and others */
	assert_int_equal(pthread_create(&thread, NULL, shrink_and_grow, &r), 0);
	for (int i = 0; i < 300; i++) {
		g = NULL;
		if (gguf_open(r.path, &g, &err))
			says(&err, "racing.gguf");
		gguf_close(g);
	}
	atomic_store(&r.stop, 1);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
}

static void test_unreadable_file_is_refused(void **state)
{
	struct strbuf b = {0};

	bool root = !geteuid();

	full(&b, 3);
	save("secret.gguf", &b);
	assert_int_equal(chmod(in_dir("secret.gguf"), 0), 0);
	if (root && seteuid(65534)) { /* root reads everything */
		print_message("SKIP unreadable file: root may not become another user here\n");
		skip();
	}
	file_refused("secret.gguf", -EACCES, "Permission denied");
	assert_int_equal(root ? seteuid(0) : 0, 0);
}

/* The reason must fit into the sentence beside the longest path. */
static void test_long_paths_leave_room_for_the_reason(void **state)
{
	char path[4096];
	struct gguf *g;
	struct err err;

	memset(path, 'x', sizeof(path));
	snprintf(path + 4000, sizeof(path) - 4000, "/the-model.gguf");
	assert_int_equal(gguf_open_mem("nonsense", 8, path, &g, &err), -EINVAL);
	says(&err, "/the-model.gguf'");
	says(&err, "instead of 'GGUF'");
}

/* ---- split models ---- */

struct part {
	const char *name;
	uint16_t no, count;
	uint32_t alignment;
	int32_t n_all; /* split.tensors.count; -1: none */
	const char *tensor;
};

static void save_part(const struct part *p)
{
	struct strbuf b = {0};

	header(&b, 3, p->tensor ? 1 : 0, 3u + (p->n_all >= 0) + !p->no);
	if (!p->no) {
		key(&b, "general.architecture", GGUF_STRING);
		str(&b, "llama");
	}
	key(&b, "split.no", GGUF_U16);
	put(&b, &p->no, 2);
	key(&b, "split.count", GGUF_U16);
	put(&b, &p->count, 2);
	if (p->n_all >= 0) {
		key(&b, "split.tensors.count", GGUF_I32);
		put(&b, &p->n_all, 4);
	}
	kv_u32(&b, "general.alignment", p->alignment);
	if (p->tensor)
		tensor(&b, p->tensor, WT_F32, 8, 2, 0);
	pad(&b, p->alignment);
	zeros(&b, p->tensor ? 64 : 0);
	save(p->name, &b);
}

static const struct part good_parts[] = {
	{"s-00001-of-00003.gguf", 0, 3, 32, 2, NULL},
	{"s-00002-of-00003.gguf", 1, 3, 64, 2, "one"},
	{"s-00003-of-00003.gguf", 2, 3, 4096, 2, "two"},
};

static void save_good_parts(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(good_parts); i++)
		save_part(&good_parts[i]);
}

static void test_split_model_opens_from_any_part(void **state)
{
	save_good_parts();
	for (size_t i = 0; i < ARRAY_SIZE(good_parts); i++) {
		const struct gguf_tensor *t;
		struct gguf *g = NULL;
		struct gguf_str arch;
		struct err err = {""};

		if (gguf_open(in_dir(good_parts[i].name), &g, &err))
			fail_msg("from %s: %s", good_parts[i].name, err.text);
		assert_int_equal(g->n_file, 3);
		assert_int_equal(g->n_tensor, 2);
		assert_int_equal(gguf_string(g, "general.architecture", &arch, &err), 0);
		assert_string_equal(g->file[0].path, in_dir("s-00001-of-00003.gguf"));
		t = gguf_find_tensor(g, "two");
		assert_non_null(t);
		assert_int_equal(t->file, 2);
		assert_int_equal(g->file[2].alignment, 4096);
		assert_int_equal(t->off, 4096);
		assert_string_equal(g->file[t->file].path, in_dir("s-00003-of-00003.gguf"));
		assert_int_equal(gguf_find_tensor(g, "one")->file, 1);
		gguf_close(g);
	}
}

static void test_missing_part_is_named(void **state)
{
	save_good_parts();
	unlink(in_dir("s-00003-of-00003.gguf"));
	file_refused("s-00001-of-00003.gguf", -ENOENT, "s-00003-of-00003.gguf' is missing");
	unlink(in_dir("s-00001-of-00003.gguf"));
	file_refused("s-00002-of-00003.gguf", -ENOENT, "s-00001-of-00003.gguf' is missing");
}

static void test_renamed_part_is_refused(void **state)
{
	save_part(&(struct part){"renamed.gguf", 0, 3, 32, 2, NULL});
	file_refused("renamed.gguf", -EINVAL, "does not end in '-00001-of-00003.gguf'");
	save_part(&(struct part){"renamed.gguf", 1, 3, 32, 2, NULL});
	file_refused("renamed.gguf", -EINVAL, "part 2 of 3");
}

static void test_parts_that_do_not_belong_together_are_refused(void **state)
{
	const char *first = "s-00001-of-00003.gguf";

	save_good_parts();
	save_part(&(struct part){"s-00002-of-00003.gguf", 2, 3, 32, 2, "one"});
	file_refused(first, -EINVAL, "do not belong together");
	save_part(&(struct part){"s-00002-of-00003.gguf", 1, 4, 32, 2, "one"});
	file_refused(first, -EINVAL, "do not belong together");
	save_part(&(struct part){"s-00002-of-00003.gguf", 1, 3, 32, 2, "two"});
	file_refused(first, -EINVAL, "'two' is there twice");
	save_part(&(struct part){"s-00002-of-00003.gguf", 1, 3, 32, 2, NULL});
	file_refused(first, -EINVAL, "hold 1 tensors, but split.tensors.count is 2");
	save_good_parts();
	save_part(&(struct part){first, 1, 3, 32, 2, NULL});
	file_refused("s-00002-of-00003.gguf", -EINVAL, "do not belong together");
	save_part(&(struct part){first, 3, 3, 32, 2, NULL});
	file_refused(first, -EINVAL, "split.no");
}

static void test_damaged_part_is_named(void **state)
{
	save_good_parts();
	assert_int_equal(truncate(in_dir("s-00002-of-00003.gguf"), 200), 0);
	file_refused("s-00001-of-00003.gguf", -EINVAL, "s-00002-of-00003.gguf");
}

static void test_split_count_of_one_is_a_plain_file(void **state)
{
	struct gguf *g = NULL;

	save_part(&(struct part){"single.gguf", 0, 1, 32, 1, "one"});
	assert_int_equal(gguf_open(in_dir("single.gguf"), &g, NULL), 0);
	assert_int_equal(g->n_file, 1);
	gguf_close(g);
}

static void test_part_without_number_is_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 1);
	kv_u32(&b, "split.count", 2);
	refused(&b, -EINVAL, "no key 'split.no'", NULL);
}

static void test_split_model_in_memory_is_refused(void **state)
{
	struct strbuf b = {0};

	header(&b, 3, 0, 2);
	kv_u32(&b, "split.no", 0);
	kv_u32(&b, "split.count", 2);
	refused(&b, -EINVAL, "part 1 of 2", NULL);
}

/* ---- packed files ---- */

static void packed_header(struct strbuf *b, uint32_t version, uint64_t n_tensor, uint64_t n_kv)
{
	put(b, "WEIR", 4);
	u32(b, version);
	u64(b, n_tensor);
	u64(b, n_kv);
}

/* A norm, a matrix of 17 rows in two groups, and a byte more or less than its data. */
#define Q4_0_17 (18 * 32)

static void packed(struct strbuf *b, uint32_t type, uint64_t off, int more)
{
	packed_header(b, 2, 2, 1);
	kv_u32(b, "general.alignment", 64);
	tensor(b, "norm", WT_F32, 4, 1, 0);
	tensor(b, "w", type, 32, 17, off);
	pad(b, 4096);
	zeros(b, (size_t)(4096 + Q4_0_17 + more));
}

static void test_packed_files_open(void **state)
{
	struct strbuf b = {0};
	const struct gguf_tensor *t;
	struct gguf *g;
	struct err err;
	uint32_t a;

	packed(&b, GGUF_PACKED | WT_Q4_0, 4096, 0);
	g = open_valid(&b);
	assert_true(g->packed_file);
	assert_int_equal(g->version, 2);
	assert_int_equal(g->file[0].alignment, 4096);
	assert_int_equal(g->file[0].data_off, 4096);
	assert_int_equal(gguf_u32(g, "general.alignment", &a, &err), 0);
	assert_int_equal(a, 64);
	t = gguf_find_tensor(g, "norm");
	assert_false(t->packed);
	assert_int_equal(t->size, 16);
	t = gguf_find_tensor(g, "w");
	assert_true(t->packed);
	assert_int_equal(t->type, WT_Q4_0);
	assert_int_equal(t->n_rows, 17);
	assert_int_equal(t->row_bytes, 18);
	assert_int_equal(t->size, Q4_0_17);
	gguf_close(g);
}

static void test_bad_packed_files_are_refused(void **state)
{
	struct strbuf b = {0};

	packed_header(&b, 0, 0, 0);
	refused(&b, -EINVAL, "version 0", "damaged", NULL);
	packed_header(&b, 1, 0, 0);
	refused(&b, -EOPNOTSUPP, "version 1", "pack the GGUF file again", NULL);
	packed_header(&b, 3, 0, 0);
	refused(&b, -EOPNOTSUPP, "version 3", "update weir", NULL);
	packed(&b, GGUF_PACKED | WT_Q4_0, 4096, -1);
	refused(&b, -EINVAL, "'w'", "1 are missing", NULL);
	packed(&b, GGUF_PACKED | WT_Q4_0, 64, 0);
	refused(&b, -EINVAL, "'w'", "no multiple of 4096", NULL);
	packed(&b, GGUF_PACKED | WT_F16, 4096, 4096);
	refused(&b, -EINVAL, "'w'", "F16", "never packed", NULL);
	packed(&b, GGUF_PACKED | 4, 4096, 4096);
	refused(&b, -EOPNOTSUPP, "'w'", "Q4_2", NULL);
	packed(&b, 2 * GGUF_PACKED | WT_Q4_0, 4096, 4096);
	refused(&b, -EOPNOTSUPP, "'w'", "131074", "unknown", NULL);
	packed_header(&b, 2, 0, 1);
	kv_u32(&b, "split.count", 2);
	refused(&b, -EINVAL, "split.count of 2", "one file", NULL);
	packed_header(&b, 2, 0, 1);
	kv_u32(&b, "general.alignment", 48);
	refused(&b, -EINVAL, "general.alignment", NULL);

	/* what fills up the last group counts: it lies where the next tensor begins */
	packed_header(&b, 2, 2, 0);
	tensor(&b, "long", GGUF_PACKED | WT_Q4_0, 32, 225, 0);
	tensor(&b, "next", WT_F32, 4, 1, 4096);
	pad(&b, 4096);
	zeros(&b, 8192);
	refused(&b, -EINVAL, "'long' and 'next' overlap", NULL);
	packed_header(&b, 2, 1, 0);
	tensor(&b, "w", GGUF_PACKED | WT_Q8_0, 32, INT64_MAX / 32, 0);
	refused(&b, -EINVAL, "'w'", "63 bits", NULL);
	header(&b, 3, 1, 0);
	tensor(&b, "w", GGUF_PACKED | WT_Q4_0, 32, 16, 0);
	pad(&b, 32);
	zeros(&b, 512);
	refused(&b, -EOPNOTSUPP, "'w'", "65538", "unknown", NULL);
}

/* ---- writing ---- */

static struct gguf_writer *writer(const char *name, uint32_t alignment)
{
	struct gguf_writer *w = NULL;
	struct err err = {""};

	if (gguf_writer_open(in_dir(name), alignment, &w, &err))
		fail_msg("%s", err.text);
	return w;
}

static struct gguf_kv kv(const char *name, enum gguf_type type)
{
	return (struct gguf_kv){.key = {name, strlen(name)}, .type = type};
}

static bool same_array(const struct gguf_array *a, const struct gguf_array *b)
{
	static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

	if (a->type != b->type || a->n != b->n)
		return false;
	for (uint64_t i = 0; i < a->n; i++) {
		if (a->type == GGUF_ARRAY && !same_array(&a->arr[i], &b->arr[i]))
			return false;
		if (a->type == GGUF_STRING && (a->str[i].len != b->str[i].len ||
					       memcmp(a->str[i].p, b->str[i].p, a->str[i].len)))
			return false;
	}
	return !size[a->type] || !memcmp(a->num, b->num, a->n * size[a->type]);
}

static bool same_kv(const struct gguf_kv *a, const struct gguf_kv *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case GGUF_STRING:
		return a->str.len == b->str.len && !memcmp(a->str.p, b->str.p, a->str.len);
	case GGUF_ARRAY:
		return same_array(&a->arr, &b->arr);
	case GGUF_BOOL:
		return a->b == b->b;
	default:
		return a->u64 == b->u64; /* the bits of floats too */
	}
}

/* Everything that the reader gave goes through the writer and comes back the same. */
static void test_what_is_written_reads_back(void **state)
{
	static const uint32_t alignment[] = {8, 32, 64, 4096};

	for (size_t k = 0; k < ARRAY_SIZE(alignment); k++) {
		struct strbuf b = {0};
		struct gguf *in, *out = NULL;
		struct gguf_writer *w = writer("copy.gguf", alignment[k]);
		struct err err = {""};
		struct stat st;
		char byte;

		full(&b, 3);
		in = open_valid(&b);
		for (uint64_t i = 0; i < in->n_kv; i++)
			assert_int_equal(gguf_write_kv(w, &in->kv[i]), 0);
		for (uint64_t i = 0; i < in->n_tensor; i++)
			assert_int_equal(gguf_write_tensor(w, in->tensor[i].name.p,
							   in->tensor[i].type, in->tensor[i].n_dims,
							   in->tensor[i].ne),
					 0);
		if (gguf_write_header(w, &err))
			fail_msg("%s", err.text);
		for (uint64_t i = 0; i < in->n_tensor; i++)
			for (uint64_t at = 0; at < gguf_writer_tensor(w, i)->size; at++)
				assert_int_equal(
					pwrite(gguf_writer_fd(w), i ? "Y" : "X", 1,
					       (off_t)(gguf_writer_tensor(w, i)->off + at)),
					1);
		assert_null(gguf_writer_tensor(w, in->n_tensor));
		b.len = gguf_writer_size(w);
		assert_int_equal(gguf_writer_finish(w, &err), 0);

		if (gguf_open(in_dir("copy.gguf"), &out, &err))
			fail_msg("%s", err.text);
		assert_int_equal(stat(in_dir("copy.gguf"), &st), 0);
		assert_int_equal(st.st_size, b.len);
		b.len = 0;
		assert_int_equal(out->version, 3);
		assert_int_equal(out->file[0].alignment, alignment[k]);
		assert_int_equal(out->n_kv, in->n_kv + (alignment[k] != 32));
		for (uint64_t i = 0; i < in->n_kv; i++)
			if (!same_kv(&in->kv[i], gguf_find(out, in->kv[i].key.p)))
				fail_msg("key %s changed", in->kv[i].key.p);
		assert_int_equal(out->n_tensor, 2);
		for (uint64_t i = 0; i < 2; i++) {
			const struct gguf_tensor *t = &out->tensor[i];

			assert_string_equal(t->name.p, in->tensor[i].name.p);
			assert_memory_equal(t->ne, in->tensor[i].ne, sizeof(t->ne));
			assert_int_equal(t->type, in->tensor[i].type);
			assert_int_equal(t->off % alignment[k], 0);
			w = NULL;
			int fd = open(in_dir("copy.gguf"), O_RDONLY);

			assert_int_equal(pread(fd, &byte, 1, (off_t)(t->off + t->size - 1)), 1);
			assert_int_equal(byte, i ? 'Y' : 'X');
			close(fd);
		}
		gguf_close(in);
		gguf_close(out);
	}
}

static void test_short_forms_write_what_they_say(void **state)
{
	struct gguf_writer *w = writer("short.gguf", 32);
	struct gguf *g = NULL;
	struct gguf_str s;
	struct err err = {""};
	uint32_t v = 0;
	float f = 0;
	bool b = false;

	gguf_write_u32(w, "u", 7);
	gguf_write_f32(w, "f", 0.25f);
	gguf_write_bool(w, "b", true);
	gguf_write_str(w, "s", "text");
	assert_int_equal(gguf_write_header(w, &err), 0);
	assert_int_equal(gguf_writer_finish(w, &err), 0);
	assert_int_equal(gguf_open(in_dir("short.gguf"), &g, &err), 0);
	assert_int_equal(gguf_u32(g, "u", &v, &err), 0);
	assert_int_equal(v, 7);
	assert_int_equal(gguf_f32(g, "f", &f, &err), 0);
	assert_true(f == 0.25f);
	assert_int_equal(gguf_bool(g, "b", &b, &err), 0);
	assert_true(b);
	assert_int_equal(gguf_string(g, "s", &s, &err), 0);
	assert_string_equal(s.p, "text");
	gguf_close(g);
}

/* The writer is closed, the sentence checked, and nothing is left behind. */
static void write_refused(struct gguf_writer *w, int code, const char *what)
{
	struct err err = {""};
	int ret = gguf_write_header(w, &err);

	if (ret != code)
		fail_msg("code %d instead of %d: %s", ret, code, err.text);
	says(&err, what);
	says(&err, "bad.gguf");
	gguf_writer_close(w);
	file_refused("bad.gguf", -ENOENT, "bad.gguf");
}

static void test_writer_refuses_what_the_reader_would(void **state)
{
	const uint64_t ne[] = {48, 1}, huge[] = {1ull << 60, 1}, none[] = {0, 1};
	unsigned int before = files_in_dir();
	struct gguf_array deep[6] = {{.type = GGUF_U8}};
	struct gguf_writer *w;
	struct gguf_kv v;
	struct err err;
	char name[65];

	w = writer("bad.gguf", 32);
	gguf_write_u32(w, "same", 1);
	gguf_write_u32(w, "same", 1);
	write_refused(w, -EINVAL, "'same' is there twice");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "same", WT_F32, 2, ne);
	gguf_write_tensor(w, "same", WT_F32, 2, ne);
	write_refused(w, -EINVAL, "'same' is there twice");

	w = writer("bad.gguf", 32);
	assert_int_equal(gguf_write_u32(w, "", 1), -EINVAL);
	assert_int_equal(gguf_write_u32(w, "fine", 1), -EINVAL); /* the first failure sticks */
	write_refused(w, -EINVAL, "is empty");

	w = writer("bad.gguf", 32);
	v = kv("narrow", GGUF_U16);
	v.u64 = 65536;
	assert_int_equal(gguf_write_kv(w, &v), -EINVAL);
	write_refused(w, -EINVAL, "'narrow' is no valid u16");

	w = writer("bad.gguf", 32);
	v = kv("narrow", GGUF_I8);
	v.i64 = -129;
	gguf_write_kv(w, &v);
	write_refused(w, -EINVAL, "'narrow' is no valid i8");

	w = writer("bad.gguf", 32);
	v = kv("odd", (enum gguf_type)13);
	gguf_write_kv(w, &v);
	write_refused(w, -EINVAL, "'odd'");

	w = writer("bad.gguf", 32);
	for (size_t i = 1; i < ARRAY_SIZE(deep); i++)
		deep[i] = (struct gguf_array){GGUF_ARRAY, 1, {.arr = &deep[i - 1]}};
	v = kv("deep", GGUF_ARRAY);
	v.arr = deep[5];
	gguf_write_kv(w, &v);
	write_refused(w, -EINVAL, "'deep'");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "odd", WT_Q4_0, 1, ne);
	write_refused(w, -EINVAL, "'odd' has rows of 48 elements");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "odd", 4, 1, ne);
	write_refused(w, -EOPNOTSUPP, "removed");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "odd", WT_F32, 5, ne);
	write_refused(w, -EINVAL, "5 dimensions");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "odd", WT_F32, 1, none);
	write_refused(w, -EINVAL, "size 0");

	memset(name, 'n', sizeof(name));
	name[64] = '\0';
	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, name, WT_F32, 1, ne);
	write_refused(w, -EINVAL, "longer than 63");
	name[63] = '\0';
	w = writer("bad.gguf", 32);
	assert_int_equal(gguf_write_tensor(w, name, WT_F32, 1, ne), 0);
	gguf_writer_close(w);

	w = writer("bad.gguf", 32);
	gguf_write_u32(w, "general.alignment", 64);
	write_refused(w, -EINVAL, "general.alignment");
	w = writer("bad.gguf", 64);
	gguf_write_bool(w, "general.alignment", true);
	write_refused(w, -EINVAL, "general.alignment");

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "huge", WT_F32, 1, huge);
	write_refused(w, -EFBIG, "larger than a file");

	w = writer("bad.gguf", 32);
	gguf_write_u32(w, "fine", 1);
	assert_int_equal(gguf_writer_finish(w, &err), -EINVAL);
	says(&err, "header was never written");

	assert_int_equal(gguf_writer_open(in_dir("bad.gguf"), 48, &w, &err), -EINVAL);
	says(&err, "48");
	assert_int_equal(files_in_dir(), before);
}

static void test_packed_files_read_back(void **state)
{
	const uint64_t ne[] = {32, 17};
	struct gguf_writer *w = NULL;
	const struct gguf_tensor *t;
	struct gguf *g = NULL;
	struct err err = {""};

	assert_int_equal(gguf_writer_open_packed(in_dir("packed.weir"), &w, &err), 0);
	gguf_write_u32(w, "general.alignment", 64);
	gguf_write_tensor(w, "plain", WT_Q4_0, 2, ne);
	gguf_write_tensor(w, "packed", WT_Q4_0 | GGUF_PACKED, 2, ne);
	assert_int_equal(gguf_write_header(w, &err), 0);
	assert_int_equal(gguf_writer_finish(w, &err), 0);
	assert_int_equal(gguf_open(in_dir("packed.weir"), &g, &err), 0);
	assert_true(g->packed_file);
	assert_int_equal(g->n_kv, 1);
	assert_int_equal(gguf_find(g, "general.alignment")->u64, 64);
	t = gguf_find_tensor(g, "plain");
	assert_true(!t->packed && t->size == 17 * 18);
	t = gguf_find_tensor(g, "packed");
	assert_true(t->packed && t->size == 32 * 18);
	assert_int_equal(t->type, WT_Q4_0);
	assert_int_equal(t->off % 4096, 0);
	gguf_close(g);

	w = writer("bad.gguf", 32);
	gguf_write_tensor(w, "w", WT_Q4_0 | GGUF_PACKED, 2, ne);
	write_refused(w, -EOPNOTSUPP, "unknown");
}

/* Wherever buffer and file are aligned or not, the bytes go where they belong. */
static void test_put_writes_at_any_offset(void **state)
{
	static const uint64_t at[][2] = {{0, 1},	{1, 4095},	{4096, 4096},
					 {8192, 12289}, {20481, 40000}, {60481, 519}};
	struct gguf_writer *w = NULL;
	struct err err = {""};
	uint8_t *want = malloc(61000), *buf = aligned_alloc(4096, 65536), got[61000];
	uint64_t off;

	assert_true(want && buf);
	for (size_t shift = 0; shift < 2; shift++) {
		w = writer("put.gguf", 4096);
		gguf_write_tensor(w, "t", WT_F32, 1, (uint64_t[]){61000 / 4});
		assert_int_equal(gguf_write_header(w, &err), 0);
		off = gguf_writer_tensor(w, 0)->off;
		memset(want, 0, 61000);
		for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
			uint8_t *from = buf + at[i][0] % 4096 + shift;

			memset(want + at[i][0], (int)(i + 1), at[i][1]);
			memcpy(from, want + at[i][0], at[i][1]);
			if (gguf_writer_put(w, from, off + at[i][0], at[i][1], &err))
				fail_msg("%s", err.text);
		}
		assert_int_equal(pread(gguf_writer_fd(w), got, 61000, (off_t)off), 61000);
		assert_memory_equal(got, want, 61000);
		gguf_writer_close(w);
	}
	free(want);
	free(buf);
}

static void test_disk_too_small_is_said_before_the_work(void **state)
{
	const uint64_t petabytes[] = {1ull << 48};
	unsigned int before = files_in_dir();
	struct gguf_writer *w = writer("bad.gguf", 32);

	gguf_write_tensor(w, "large", WT_F32, 1, petabytes);
	write_refused(w, -ENOSPC, "free some space");
	assert_int_equal(files_in_dir(), before);
}

static void test_abandoned_writer_leaves_the_old_file(void **state)
{
	const uint64_t ne[] = {32};
	struct strbuf b = {0};
	struct gguf_writer *w;
	struct gguf *g = NULL;
	unsigned int before;
	struct err err;

	full(&b, 3);
	save("kept.gguf", &b);
	before = files_in_dir();
	w = writer("kept.gguf", 32);
	gguf_write_tensor(w, "new", WT_F32, 1, ne);
	assert_int_equal(gguf_write_header(w, &err), 0);
	gguf_writer_close(w);
	assert_int_equal(files_in_dir(), before);
	assert_int_equal(gguf_open(in_dir("kept.gguf"), &g, &err), 0);
	check_full(g);
	gguf_close(g);
	gguf_writer_close(NULL);
}

/* Killed where nothing can be tidied: the name still shows the old file. */
static void test_killed_writer_leaves_the_old_file(void **state)
{
	const uint64_t ne[] = {32};
	struct strbuf b = {0};
	struct gguf_writer *w;
	struct gguf *g = NULL;
	struct err err;
	int status;
	pid_t pid;

	full(&b, 3);
	save("survivor.gguf", &b);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		w = writer("survivor.gguf", 32);
		gguf_write_tensor(w, "new", WT_F32, 1, ne);
		gguf_write_header(w, &err);
		raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(gguf_open(in_dir("survivor.gguf"), &g, &err), 0);
	check_full(g);
	gguf_close(g);
}

static void test_finished_file_replaces_what_a_link_points_at(void **state)
{
	struct strbuf b = {0};
	struct gguf_writer *w;
	struct gguf *g = NULL;
	struct stat st;
	struct err err;

	full(&b, 3);
	save("pointed.gguf", &b);
	assert_int_equal(symlink("pointed.gguf", in_dir("pointer.gguf")), 0);
	w = writer("pointer.gguf", 32);
	gguf_write_u32(w, "new", 1);
	assert_int_equal(gguf_write_header(w, &err), 0);
	assert_int_equal(gguf_writer_finish(w, &err), 0);
	assert_int_equal(lstat(in_dir("pointer.gguf"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(gguf_open(in_dir("pointed.gguf"), &g, &err), 0);
	assert_non_null(gguf_find(g, "new"));
	gguf_close(g);
}

static void test_targets_that_cannot_be_written_are_refused(void **state)
{
	struct gguf_writer *w = NULL;
	char longest[256];
	struct err err;

	assert_int_equal(mkdir(in_dir("target.gguf"), 0700), 0);
	assert_int_equal(gguf_writer_open(in_dir("target.gguf"), 32, &w, &err), -EISDIR);
	says(&err, "target.gguf");
	assert_int_equal(gguf_writer_open(in_dir("no/such/x.gguf"), 32, &w, &err), -ENOENT);
	says(&err, "no/such/x.gguf");
	assert_int_equal(gguf_writer_open("/dev/null", 32, &w, &err), -EINVAL);
	says(&err, "not a regular file");
	assert_null(w);

	/* the longest name that a folder takes leaves no room for a suffix */
	memset(longest, 'l', sizeof(longest));
	longest[255] = '\0';
	w = writer(longest, 32);
	assert_int_equal(gguf_write_header(w, &err), 0);
	assert_int_equal(gguf_writer_finish(w, &err), 0);
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(versions_2_and_3_open),
		T(file_reads_like_memory),
		T(vocabulary_without_tensors_opens),
		T(large_metadata_survives),
		T(truncation_at_every_byte_is_refused),
		T(missing_bytes_are_counted),
		T(every_byte_changed_never_crashes),
		T(other_formats_are_named),
		T(other_versions_are_refused),
		T(huge_counts_are_refused),
		T(bad_keys_are_refused),
		T(duplicate_keys_are_refused),
		T(names_are_shown_without_control_bytes),
		T(unknown_value_types_are_refused),
		T(bools_are_0_or_1),
		T(huge_strings_and_arrays_are_refused),
		T(nesting_has_a_limit),
		T(metadata_beyond_1_gib_is_refused),
		T(alignments_are_honoured),
		T(bad_alignments_are_refused),
		T(dimensions_are_1_to_4),
		T(impossible_shapes_are_refused),
		T(foreign_weight_types_are_refused_by_name),
		T(every_weight_type_opens),
		T(offsets_are_checked),
		T(overlaps_are_refused_and_gaps_are_not),
		T(duplicate_tensors_are_refused),
		T(integers_of_every_width_are_accepted_where_they_fit),
		T(floats_accept_every_number),
		T(bools_strings_and_arrays_want_their_type),
		T(integer_arrays_of_every_width_are_read),
		T(type_names),
		T(what_is_no_file_is_refused),
		T(file_that_shrinks_is_an_error_at_worst),
		T(unreadable_file_is_refused),
		T(long_paths_leave_room_for_the_reason),
		T(split_model_opens_from_any_part),
		T(missing_part_is_named),
		T(renamed_part_is_refused),
		T(parts_that_do_not_belong_together_are_refused),
		T(damaged_part_is_named),
		T(split_count_of_one_is_a_plain_file),
		T(part_without_number_is_refused),
		T(split_model_in_memory_is_refused),
		T(packed_files_open),
		T(bad_packed_files_are_refused),
		T(what_is_written_reads_back),
		T(packed_files_read_back),
		T(put_writes_at_any_offset),
		T(short_forms_write_what_they_say),
		T(writer_refuses_what_the_reader_would),
		T(disk_too_small_is_said_before_the_work),
		T(abandoned_writer_leaves_the_old_file),
		T(killed_writer_leaves_the_old_file),
		T(finished_file_replaces_what_a_link_points_at),
		T(targets_that_cannot_be_written_are_refused),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
