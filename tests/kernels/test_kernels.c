// SPDX-License-Identifier: MIT
/*
 * The CPU kernels of every instruction set that this machine can run, against three judges:
 * the floats that the PyPI package gguf makes of the same blocks (vectors.h), the scalar
 * reference, and sums in double precision.
 *
 * Freestanding (libc and libm only), so that it also runs alone on a device or under qemu.
 * Buffers lie between two inaccessible pages: a kernel that reads or writes one byte too many
 * faults, and the test that called it fails by name.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/packed.h"
#include "tests/kernels/vectors.h"
#include "tests/tap.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* How far a dot product may be from the exact one, in units of the sum of |w| |a|. */
#define TOLERANCE 1e-5

static const struct cpu_isa *scalar;

/* xorshift64*: the same numbers on every machine. */
static uint64_t rng_state;

static uint32_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return (uint32_t)(rng_state * 0x2545f4914f6cdd1d >> 32);
}

static float rng_float(void) /* in [-1, 1) */
{
	return (float)(int32_t)rng() * 0x1p-31f;
}

static void rng_bytes(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rng();
}

static uint32_t bits_of(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

static float float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static bool same_float(float a, float b)
{
	return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

/* Memory between two inaccessible pages. */
struct guarded {
	uint8_t *map;
	size_t map_bytes;
	uint8_t *p; /* the bytes asked for: they end where the page behind begins */
};

static struct guarded guarded_alloc(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t inner = (bytes + page - 1) / page * page;
	struct guarded g = {.map_bytes = inner + 2 * page};

	g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g.map == MAP_FAILED || mprotect(g.map, page, PROT_NONE) ||
	    mprotect(g.map + page + inner, page, PROT_NONE)) {
		perror("guarded memory");
		exit(1);
	}
	g.p = g.map + page + inner - bytes;
	return g;
}

/* The same, but starting where the page before ends. */
static struct guarded guarded_alloc_front(size_t bytes)
{
	struct guarded g = guarded_alloc(bytes);

	g.p = g.map + sysconf(_SC_PAGESIZE);
	return g;
}

static void guarded_free(struct guarded *g)
{
	munmap(g->map, g->map_bytes);
}

static sigjmp_buf fault_jump;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(fault_jump, 1);
}

/* One test of one instruction set, and where it is about a type, of that type. */
typedef bool (*test_fn)(const struct cpu_isa *isa, enum wtype type);

static void run_test(const char *what, test_fn test, const struct cpu_isa *isa, enum wtype type)
{
	const char *type_name = type < WT_COUNT ? wtype_info(type)->name : "-";

	rng_state = 88172645463325252;
	if (sigsetjmp(fault_jump, 1)) {
		tap_note("touched memory outside its buffers");
		tap_ok(false, "%s %s: %s", isa->name, type_name, what);
		return;
	}
	tap_ok(test(isa, type), "%s %s: %s", isa->name, type_name, what);
}

/* Where a type's blocks have their halves; 0 ends the list, stored as offset + 1. */
static const uint8_t half_at[WT_COUNT][2] = {
	[WT_Q4_0] = {1},    [WT_Q4_1] = {1, 3},	  [WT_Q5_0] = {1},   [WT_Q5_1] = {1, 3},
	[WT_Q8_0] = {1},    [WT_Q2_K] = {81, 83}, [WT_Q3_K] = {109}, [WT_Q4_K] = {1, 3},
	[WT_Q5_K] = {1, 3}, [WT_Q6_K] = {209},	  [WT_IQ4_NL] = {1}, [WT_IQ4_XS] = {1},
};

static void put_u16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* Any codes, scales of the size that weights have: a row whose dot product is finite. */
static void random_row(enum wtype type, uint8_t *row, size_t n)
{
	const struct wtype_info *info = wtype_info(type);
	size_t blocks = n / info->block_elems;

	rng_bytes(row, blocks * info->block_bytes);
	for (size_t b = 0; b < blocks; b++) {
		uint8_t *p = row + b * info->block_bytes;
		float f = rng_float();

		if (type == WT_F32)
			memcpy(p, &f, sizeof(f));
		else if (type == WT_F16)
			put_u16(p, float_to_half(f));
		else if (type == WT_BF16)
			put_u16(p, (uint16_t)(bits_of(f) >> 16));
		else if (type == WT_MXFP4)
			p[0] = 120 + rng() % 8;
		for (int k = 0; k < 2 && half_at[type][k]; k++)
			put_u16(p + half_at[type][k] - 1,
				float_to_half((rng() % 8 ? 0.01f : -0.01f) * (1.1f + rng_float())));
	}
}

static size_t row_bytes(enum wtype type, size_t n)
{
	const struct wtype_info *info = wtype_info(type);

	return n / info->block_elems * info->block_bytes;
}

/* --- dequantize ------------------------------------------------------------------------- */

static bool test_vectors(const struct cpu_isa *isa, enum wtype type)
{
	for (size_t v = 0; v < ARRAY_SIZE(vectors); v++) {
		const struct vector *vec = &vectors[v];
		bool same = true;
		float *y;

		if (vec->type != type)
			continue;
		y = malloc(vec->n * sizeof(*y));
		isa->types[type]->dequantize(vec->blocks, y, vec->n);
		for (size_t i = 0; i < vec->n && same; i++) {
			same = same_float(y[i], float_of(vec->bits[i]));
			if (!same)
				tap_note("element %zu: %08x, gguf says %08x", i, bits_of(y[i]),
					 vec->bits[i]);
		}
		free(y);
		return same;
	}
	tap_note("vectors.h lacks this type");
	return false;
}

/* Random bytes, scales included; 1, 2, 3, ... blocks; rows and results against guard pages. */
static bool test_dequantize_random(const struct cpu_isa *isa, enum wtype type)
{
	const struct wtype_info *info = wtype_info(type);
	bool same = true;

	for (size_t blocks = 1; blocks <= 80 && same; blocks++) {
		size_t n = blocks * info->block_elems, bytes = blocks * info->block_bytes;
		struct guarded w = blocks % 2 ? guarded_alloc(bytes) : guarded_alloc_front(bytes);
		struct guarded y = guarded_alloc(n * sizeof(float));
		struct guarded want = guarded_alloc(n * sizeof(float));
		const float *a = (const float *)(void *)y.p, *b = (const float *)(void *)want.p;

		rng_bytes(w.p, bytes);
		isa->types[type]->dequantize(w.p, (float *)(void *)y.p, n);
		scalar->types[type]->dequantize(w.p, (float *)(void *)want.p, n);
		for (size_t i = 0; i < n && same; i++) {
			same = same_float(a[i], b[i]);
			if (!same)
				tap_note("%zu blocks, element %zu: %08x, scalar %08x", blocks, i,
					 bits_of(a[i]), bits_of(b[i]));
		}
		guarded_free(&w);
		guarded_free(&y);
		guarded_free(&want);
	}
	return same;
}

/* --- dot_rows --------------------------------------------------------------------------- */

static void put_act(enum act_kind kind, const float *x, uint8_t *act, size_t n)
{
	if (kind == ACT_F32)
		memcpy(act, x, n * sizeof(*x));
	else
		scalar->quantize_act[kind](x, act, n);
}

/* An activation row of random numbers, in the type's format. */
static void random_act_row(enum act_kind kind, uint8_t *act, size_t n)
{
	float *x = malloc(n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = i / 32 % 7 == 6 ? 0 : 3 * rng_float() * rng_float();
	put_act(kind, x, act, n);
	free(x);
}

/* One between guard pages. */
static struct guarded random_act(enum act_kind kind, size_t n)
{
	struct guarded act = guarded_alloc(act_row_bytes(kind, n));

	random_act_row(kind, act.p, n);
	return act;
}

/* Element i of an activation row. */
static double act_at(enum act_kind kind, const uint8_t *act, size_t n, size_t i)
{
	const float *d = (const float *)(const void *)(act + act_d_off(n));

	switch (kind) {
	case ACT_Q8_32:
		return (double)(int8_t)act[i] * (double)d[i / 32];
	case ACT_Q8_256:
		return (double)(int8_t)act[i] * (double)d[i / 256];
	default:
		return (double)((const float *)(const void *)act)[i];
	}
}

/* The dot product of the numbers that row and activation stand for; *size: sum of |w| |a|. */
static double exact_dot(enum wtype type, const uint8_t *row, const uint8_t *act, size_t n,
			double *size)
{
	enum act_kind kind = scalar->types[type]->act;
	float *w = malloc(n * sizeof(*w));
	double sum = 0;

	scalar->types[type]->dequantize(row, w, n);
	*size = 0;
	for (size_t i = 0; i < n; i++) {
		double p = (double)w[i] * act_at(kind, act, n, i);

		sum += p;
		*size += fabs(p);
	}
	free(w);
	return sum;
}

/* Row lengths to try, in blocks: from one to more than any unrolled loop takes at once. */
static size_t shapes(enum wtype type, const size_t **blocks)
{
	static const size_t of_1[] = {1,  2,  3,  4,  5,  7,  8,  9,  15,  16,	 17,   24,   31,
				      32, 33, 40, 47, 48, 63, 64, 65, 127, 1000, 4096, 11007};
	static const size_t of_32[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 64, 129, 344};
	static const size_t of_256[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 43};

	switch (wtype_info(type)->block_elems) {
	case 1:
		*blocks = of_1;
		return ARRAY_SIZE(of_1);
	case 32:
		*blocks = of_32;
		return ARRAY_SIZE(of_32);
	default:
		*blocks = of_256;
		return ARRAY_SIZE(of_256);
	}
}

typedef bool (*shape_fn)(const struct cpu_isa *isa, enum wtype type, size_t n);

static bool each_shape(const struct cpu_isa *isa, enum wtype type, shape_fn fn)
{
	const size_t *blocks;
	size_t count = shapes(type, &blocks);

	for (size_t i = 0; i < count; i++)
		if (!fn(isa, type, blocks[i] * wtype_info(type)->block_elems))
			return false;
	return true;
}

static bool exact_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	struct guarded act = random_act(isa->types[type]->act, n);
	size_t bytes = row_bytes(type, n);
	uint8_t *row = malloc(bytes);
	bool ok = true;

	for (int repeat = 0; repeat < 8 && ok; repeat++) {
		float got, ref;
		double want, size;

		random_row(type, row, n);
		isa->types[type]->dot_rows(row, bytes, 1, act.p, n, &got);
		scalar->types[type]->dot_rows(row, bytes, 1, act.p, n, &ref);
		want = exact_dot(type, row, act.p, n, &size);
		ok = fabs(got - want) <= TOLERANCE * size &&
		     fabs((double)got - ref) <= TOLERANCE * size;
		if (!ok)
			tap_note("n %zu: %.9g, exact %.9g, scalar %.9g, sum of |w||a| %.9g", n, got,
				 want, ref, size);
	}
	free(row);
	guarded_free(&act);
	return ok;
}

static bool test_dot_exact(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, exact_at);
}

/* Scales of 1 and minimums of -1 everywhere. */
static void set_scales(enum wtype type, uint8_t *row, size_t n)
{
	const struct wtype_info *info = wtype_info(type);

	for (size_t b = 0; b < n / info->block_elems; b++) {
		uint8_t *p = row + b * info->block_bytes;

		if (type == WT_MXFP4)
			p[0] = 127;
		for (int k = 0; k < 2 && half_at[type][k]; k++)
			put_u16(p + half_at[type][k] - 1, k ? 0xbc00 : 0x3c00);
	}
}

/* Equal codes and the largest activations everywhere: what would overflow an integer sum. */
static bool extreme_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	static const uint8_t fills[] = {0xff, 0x00, 0x80, 0x7f, 0x88, 0xf0, 0x0f};
	enum act_kind kind = isa->types[type]->act;
	struct guarded act = guarded_alloc(act_row_bytes(kind, n));
	size_t bytes = row_bytes(type, n);
	float *x = malloc(n * sizeof(*x));
	uint8_t *row = malloc(bytes);
	bool ok = true;

	for (unsigned int i = 0; i < 3 * ARRAY_SIZE(fills) && ok; i++) {
		float got;
		double want, size;

		for (size_t k = 0; k < n; k++)
			x[k] = i % 3 == 0 ? 1 : i % 3 == 1 ? -1 : k % 2 ? 1 : -1;
		scalar->quantize_act[kind](x, act.p, n);
		memset(row, fills[i / 3], bytes);
		set_scales(type, row, n);
		want = exact_dot(type, row, act.p, n, &size);
		isa->types[type]->dot_rows(row, bytes, 1, act.p, n, &got);
		ok = fabs(got - want) <= TOLERANCE * size;
		if (!ok)
			tap_note("n %zu, bytes %02x: %.9g, exact %.9g", n, fills[i / 3], got, want);
	}
	free(x);
	free(row);
	guarded_free(&act);
	return ok;
}

static bool test_dot_extreme(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, extreme_at);
}

/*
 * 1 to 9 rows at odd strides and addresses, the last row against the guard page, results
 * against one, too: each result has the bits of the row computed alone.
 */
static bool rows_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	const struct type_ops *ops = isa->types[type];
	struct guarded act = random_act(ops->act, n);
	size_t bytes = row_bytes(type, n);
	bool ok = true;

	for (size_t n_rows = 1; n_rows <= 9 && ok; n_rows++) {
		size_t stride = bytes + (n_rows % 3 ? 2 * n_rows - 1 : 0);
		struct guarded w = guarded_alloc((n_rows - 1) * stride + bytes);
		struct guarded out = guarded_alloc(n_rows * sizeof(float));
		uint8_t *alone = malloc(bytes);
		float one;

		for (size_t r = 0; r < n_rows; r++)
			random_row(type, w.p + r * stride, n);
		ops->dot_rows(w.p, stride, n_rows, act.p, n, (float *)(void *)out.p);
		for (size_t r = 0; r < n_rows && ok; r++) {
			float got = ((float *)(void *)out.p)[r];

			memcpy(alone, w.p + r * stride, bytes);
			ops->dot_rows(alone, bytes, 1, act.p, n, &one);
			ok = bits_of(got) == bits_of(one);
			if (!ok)
				tap_note("n %zu, row %zu of %zu: %.9g, alone %.9g", n, r, n_rows,
					 got, one);
		}
		free(alone);
		guarded_free(&w);
		guarded_free(&out);
	}
	guarded_free(&act);
	return ok;
}

static bool test_dot_rows(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, rows_at);
}

/* A row that starts right behind an inaccessible page: nothing is read before it either. */
static bool front_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	struct guarded act = random_act(isa->types[type]->act, n);
	size_t bytes = row_bytes(type, n);
	struct guarded w = guarded_alloc_front(bytes);
	float out;

	random_row(type, w.p, n);
	isa->types[type]->dot_rows(w.p, bytes, 1, act.p, n, &out);
	guarded_free(&w);
	guarded_free(&act);
	return isfinite(out);
}

static bool test_dot_front(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, front_at);
}

/* Makes one scale, or float weight, of a row infinite or NaN; says whether it has such. */
static bool spoil_row(enum wtype type, uint8_t *row, size_t n, unsigned int how)
{
	static const uint16_t halves[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01};
	static const uint32_t floats[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f810000};
	const struct wtype_info *info = wtype_info(type);
	uint8_t *p = row + rng() % (n / info->block_elems) * info->block_bytes;
	unsigned int k = how / 4;

	if (type == WT_F32)
		memcpy(p, &floats[how % 4], 4);
	else if (type == WT_BF16)
		put_u16(p, (uint16_t)(floats[how % 4] >> 16));
	else if (type == WT_F16)
		put_u16(p, halves[how % 4]);
	else if (half_at[type][k])
		put_u16(p + half_at[type][k] - 1, halves[how % 4]);
	else
		return false;
	return true;
}

static bool not_finite_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	struct guarded act = random_act(isa->types[type]->act, n);
	size_t bytes = row_bytes(type, n);
	uint8_t *row = malloc(bytes);
	bool ok = true;

	for (unsigned int i = 0; i < 8 && ok; i++) {
		float got;

		random_row(type, row, n);
		if (!spoil_row(type, row, n, i))
			continue;
		isa->types[type]->dot_rows(row, bytes, 1, act.p, n, &got);
		ok = !isfinite(got);
		if (!ok)
			tap_note("n %zu: %.9g", n, got);
	}
	free(row);
	guarded_free(&act);
	return ok;
}

static bool test_not_finite(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, not_finite_at);
}

/* --- packed rows ------------------------------------------------------------------------ */

/* Every row comes back from its group; rows that a group lacks are zero bytes. */
static bool packing_at(const struct cpu_isa *isa, enum wtype type, size_t n)
{
	static const size_t rows[] = {1, 2, 7, 15, 16};
	size_t bytes = row_bytes(type, n), stride = bytes + 3;
	struct guarded back = guarded_alloc(bytes);
	bool ok = true;

	(void)isa;
	for (size_t k = 0; k < ARRAY_SIZE(rows) && ok; k++) {
		struct guarded w = guarded_alloc((rows[k] - 1) * stride + bytes);
		struct guarded group = guarded_alloc(PACK_ROWS * bytes);
		uint8_t *zeros = calloc(1, bytes);

		rng_bytes(w.p, (rows[k] - 1) * stride + bytes);
		pack_group(type, w.p, stride, rows[k], n, group.p);
		for (size_t r = 0; r < PACK_ROWS && ok; r++) {
			unpack_row(type, group.p, r, n, back.p);
			ok = !memcmp(back.p, r < rows[k] ? w.p + r * stride : zeros, bytes);
			if (!ok)
				tap_note("n %zu, row %zu of %zu", n, r, rows[k]);
		}
		free(zeros);
		guarded_free(&w);
		guarded_free(&group);
	}
	guarded_free(&back);
	return ok;
}

static bool test_packing(const struct cpu_isa *isa, enum wtype type)
{
	return each_shape(isa, type, packing_at);
}

/* Where packed.h says that `bytes` of unit u of token t of a tile's part are. */
static bool unit_is(const uint8_t *part, size_t n_tok, size_t u, size_t t, size_t bytes,
		    const uint8_t *want)
{
	return !memcmp(part + (u * n_tok + t) * bytes, want, bytes);
}

static bool token_is(enum act_kind kind, const uint8_t *tile, size_t n_tok, size_t t, size_t n,
		     const uint8_t *row)
{
	size_t group = kind == ACT_Q8_32 ? 32 : 256, all = n * n_tok;
	bool ok = true;

	for (size_t u = 0; u < (kind == ACT_F32 ? n : n / 4) && ok; u++)
		ok = unit_is(tile, n_tok, u, t, 4, row + 4 * u);
	for (size_t u = 0; u < n / group && kind != ACT_F32 && ok; u++)
		ok = unit_is(tile + act_d_off(all), n_tok, u, t, 4, row + act_d_off(n) + 4 * u);
	for (size_t u = 0; u < n / 32 && kind == ACT_Q8_32 && ok; u++)
		ok = unit_is(tile + act_s_off(all), n_tok, u, t, 4, row + act_s_off(n) + 4 * u);
	for (size_t u = 0; u < n / 16 && kind == ACT_Q8_256 && ok; u++)
		ok = unit_is(tile + act_bsums_off(all), n_tok, u, t, 2,
			     row + act_bsums_off(n) + 2 * u);
	return ok;
}

static bool tile_at(enum act_kind kind, size_t n_tok, size_t n)
{
	size_t bytes = act_row_bytes(kind, n), stride = bytes + 64;
	struct guarded rows = guarded_alloc((n_tok - 1) * stride + bytes);
	struct guarded tile = guarded_alloc(tile_bytes(kind, n, n_tok));
	bool ok = true;

	for (size_t t = 0; t < n_tok; t++)
		random_act_row(kind, rows.p + t * stride, n);
	tile_make(kind, rows.p, stride, n_tok, n, tile.p);
	for (size_t t = 0; t < n_tok && ok; t++) {
		ok = token_is(kind, tile.p, n_tok, t, n, rows.p + t * stride);
		if (!ok)
			tap_note("kind %d, n %zu, token %zu of %zu", kind, n, t, n_tok);
	}
	guarded_free(&rows);
	guarded_free(&tile);
	return ok;
}

static void test_tiles(void)
{
	bool ok = true;

	for (size_t n_tok = 1; n_tok <= TILE_MAX; n_tok *= 2)
		for (size_t n = 256; n <= 1280 && ok; n += 256)
			ok = tile_at(ACT_F32, n_tok, n + 1) && tile_at(ACT_Q8_32, n_tok, n + 32) &&
			     tile_at(ACT_Q8_256, n_tok, n);
	tap_ok(ok, "packed: a tile holds its tokens' activations, interleaved");
	tap_ok(tile_tokens(1) == 1 && tile_tokens(3) == 2 && tile_tokens(15) == 8 &&
		       tile_tokens(16) == 16 && tile_tokens(100) == 16,
	       "packed: the next tile takes the most tokens that are there");
}

/* Groups of packed rows, a tile, and room for the results, each between guard pages. */
struct packed_case {
	enum wtype type;
	enum act_kind kind;
	size_t n, n_groups, n_tok;
	size_t stride; /* of results: odd */
	uint8_t *rows, *acts;
	struct guarded w, tile, out;
};

/* Something that no kernel computes, between the results of two tokens. */
#define UNTOUCHED 0x7fc0beef

static float *result(const struct packed_case *c, size_t row, size_t t)
{
	return (float *)(void *)c->out.p + t * c->stride + row;
}

static const uint8_t *row_of(const struct packed_case *c, size_t row)
{
	return c->rows + row * row_bytes(c->type, c->n);
}

static const uint8_t *act_of(const struct packed_case *c, size_t t)
{
	return c->acts + t * act_row_bytes(c->kind, c->n);
}

/* Packs what is in rows and acts. */
static void pack_case(struct packed_case *c)
{
	size_t bytes = row_bytes(c->type, c->n);

	for (size_t g = 0; g < c->n_groups; g++)
		pack_group(c->type, row_of(c, g * PACK_ROWS), bytes, PACK_ROWS, c->n,
			   c->w.p + g * PACK_ROWS * bytes);
	tile_make(c->kind, c->acts, act_row_bytes(c->kind, c->n), c->n_tok, c->n, c->tile.p);
}

/* Random rows and activations, packed; the buffers lie at the pages' ends or, `front`, starts. */
static struct packed_case new_case(enum wtype type, size_t n, size_t n_groups, size_t n_tok,
				   bool front)
{
	struct guarded (*alloc)(size_t) = front ? guarded_alloc_front : guarded_alloc;
	struct packed_case c = {
		.type = type,
		.kind = scalar->types[type]->act,
		.n = n,
		.n_groups = n_groups,
		.n_tok = n_tok,
		.stride = n_groups * PACK_ROWS + 5,
	};
	size_t rows = n_groups * PACK_ROWS, bytes = row_bytes(type, n);

	c.rows = malloc(rows * bytes);
	c.acts = aligned_alloc(64, n_tok * act_row_bytes(c.kind, n));
	c.w = alloc(rows * bytes);
	c.tile = alloc(tile_bytes(c.kind, n, n_tok));
	c.out = alloc(((n_tok - 1) * c.stride + rows) * sizeof(float));
	for (size_t r = 0; r < rows; r++)
		random_row(type, c.rows + r * bytes, n);
	for (size_t t = 0; t < n_tok; t++)
		random_act_row(c.kind, c.acts + t * act_row_bytes(c.kind, n), n);
	pack_case(&c);
	return c;
}

static void free_case(struct packed_case *c)
{
	free(c->rows);
	free(c->acts);
	guarded_free(&c->w);
	guarded_free(&c->tile);
	guarded_free(&c->out);
}

/* Computes, and says whether only results were written. */
static bool run_case(const struct cpu_isa *isa, const struct packed_case *c)
{
	size_t rows = c->n_groups * PACK_ROWS;
	bool ok = true;

	for (size_t i = 0; i < (c->n_tok - 1) * c->stride + rows; i++)
		*result(c, i, 0) = float_of(UNTOUCHED);
	isa->packed[c->type](c->w.p, c->n_groups, c->tile.p, c->n_tok, c->n, result(c, 0, 0),
			     c->stride);
	for (size_t t = 0; t + 1 < c->n_tok && ok; t++)
		for (size_t k = rows; k < c->stride && ok; k++) {
			ok = bits_of(*result(c, k, t)) == UNTOUCHED;
			if (!ok)
				tap_note("wrote behind the results of token %zu", t);
		}
	return ok;
}

/* Results as the double sum and the scalar reference have them. */
static bool right_results(const struct packed_case *c)
{
	size_t rows = c->n_groups * PACK_ROWS;
	float *ref = malloc(rows * c->n_tok * sizeof(*ref));
	bool ok = true;

	scalar->packed[c->type](c->w.p, c->n_groups, c->tile.p, c->n_tok, c->n, ref, rows);
	for (size_t i = 0; i < rows * c->n_tok && ok; i++) {
		size_t r = i % rows, t = i / rows;
		double got = *result(c, r, t), size;
		double want = exact_dot(c->type, row_of(c, r), act_of(c, t), c->n, &size);

		ok = fabs(got - want) <= TOLERANCE * size && fabs(got - ref[i]) <= TOLERANCE * size;
		if (!ok)
			tap_note("n %zu, row %zu of %zu, token %zu of %zu: %.9g, exact %.9g, "
				 "scalar %.9g, sum of |w||a| %.9g",
				 c->n, r, rows, t, c->n_tok, got, want, ref[i], size);
	}
	free(ref);
	return ok;
}

/* Row lengths to try, in blocks. The last ones are longer than what a kernel does at a time. */
static size_t packed_shapes(enum wtype type, const size_t **blocks)
{
	static const size_t of_1[] = {1, 2, 3, 8, 15, 16, 17, 63, 64, 65, 130, 1000};
	static const size_t of_32[] = {1, 2, 3, 4, 5, 8, 9, 129};
	static const size_t of_256[] = {1, 2, 3, 4, 9, 33};

	switch (wtype_info(type)->block_elems) {
	case 1:
		*blocks = of_1;
		return ARRAY_SIZE(of_1);
	case 32:
		*blocks = of_32;
		return ARRAY_SIZE(of_32);
	default:
		*blocks = of_256;
		return ARRAY_SIZE(of_256);
	}
}

typedef bool (*case_fn)(const struct cpu_isa *isa, struct packed_case *c);

static bool one_case(const struct cpu_isa *isa, enum wtype type, size_t blocks, size_t n_groups,
		     size_t n_tok, case_fn fn)
{
	size_t n = blocks * wtype_info(type)->block_elems;
	struct packed_case c = new_case(type, n, n_groups, n_tok, blocks % 2);
	bool ok = fn(isa, &c);

	if (!ok)
		tap_note("n %zu, %zu groups, %zu tokens", n, n_groups, n_tok);
	free_case(&c);
	return ok;
}

/*
 * Every length with every number of tokens; for one token as many groups as a kernel takes side by
 * side, and every rest; and rows longer than kernels make room for at once.
 */
static bool each_case(const struct cpu_isa *isa, enum wtype type, case_fn fn)
{
	const size_t *blocks;
	size_t count = packed_shapes(type, &blocks);

	for (size_t i = 0; i < count; i++)
		for (size_t n_tok = 1; n_tok <= TILE_MAX; n_tok *= 2)
			if (!one_case(isa, type, blocks[i], i < 3 ? 3 : 1, n_tok, fn))
				return false;
	for (size_t g = 2; g <= 9; g++)
		if (!one_case(isa, type, blocks[g % count], g, 1, fn))
			return false;
	return one_case(isa, type, 66000 / wtype_info(type)->block_elems, 6, 1, fn);
}

static bool right_case(const struct cpu_isa *isa, struct packed_case *c)
{
	return run_case(isa, c) && right_results(c);
}

static bool test_packed_exact(const struct cpu_isa *isa, enum wtype type)
{
	return each_case(isa, type, right_case);
}

/* The bits of each group and token alone. */
static bool alone_case(const struct cpu_isa *isa, struct packed_case *c)
{
	struct guarded tile = guarded_alloc(tile_bytes(c->kind, c->n, 1));
	size_t group_bytes = PACK_ROWS * row_bytes(c->type, c->n);
	bool ok = run_case(isa, c);

	for (size_t t = 0; t < c->n_tok && ok; t++) {
		tile_make(c->kind, act_of(c, t), 0, 1, c->n, tile.p);
		for (size_t g = 0; g < c->n_groups && ok; g++) {
			float alone[PACK_ROWS];

			isa->packed[c->type](c->w.p + g * group_bytes, 1, tile.p, 1, c->n, alone,
					     PACK_ROWS);
			ok = !memcmp(alone, result(c, g * PACK_ROWS, t), sizeof(alone));
			if (!ok)
				tap_note("group %zu, token %zu", g, t);
		}
	}
	guarded_free(&tile);
	return ok;
}

static bool test_packed_alone(const struct cpu_isa *isa, enum wtype type)
{
	return each_case(isa, type, alone_case);
}

/* What test_dot_extreme() does, a token for each pattern of activations. */
static bool extreme_case(const struct cpu_isa *isa, struct packed_case *c)
{
	static const uint8_t fills[] = {0xff, 0x00, 0x80, 0x7f, 0x88, 0xf0, 0x0f};
	size_t bytes = row_bytes(c->type, c->n);
	float *x = malloc(c->n * sizeof(*x));

	for (size_t t = 0; t < c->n_tok; t++) {
		for (size_t k = 0; k < c->n; k++)
			x[k] = t % 3 == 0 ? 1 : t % 3 == 1 ? -1 : k % 2 ? 1 : -1;
		put_act(c->kind, x, c->acts + t * act_row_bytes(c->kind, c->n), c->n);
	}
	free(x);
	for (size_t r = 0; r < c->n_groups * PACK_ROWS; r++) {
		memset(c->rows + r * bytes, fills[r % ARRAY_SIZE(fills)], bytes);
		set_scales(c->type, c->rows + r * bytes, c->n);
	}
	pack_case(c);
	return right_case(isa, c);
}

static bool test_packed_extreme(const struct cpu_isa *isa, enum wtype type)
{
	return each_case(isa, type, extreme_case);
}

/* A row with a scale that is not finite, and a token with an activation that is not. */
static bool spoilt_case(const struct cpu_isa *isa, struct packed_case *c)
{
	size_t bad_row = rng() % (c->n_groups * PACK_ROWS), bad_token = rng() % c->n_tok;
	size_t bytes = row_bytes(c->type, c->n);
	bool has_bad_row = spoil_row(c->type, c->rows + bad_row * bytes, c->n, rng() % 8);
	bool spoil_token = c->n_tok > 1, ok;
	float *x = calloc(c->n, sizeof(*x));

	x[rng() % c->n] = INFINITY;
	if (spoil_token)
		put_act(c->kind, x, c->acts + bad_token * act_row_bytes(c->kind, c->n), c->n);
	free(x);
	pack_case(c);
	ok = run_case(isa, c);
	for (size_t i = 0; i < c->n_groups * PACK_ROWS * c->n_tok && ok; i++) {
		size_t r = i / c->n_tok, t = i % c->n_tok;
		bool spoilt = (has_bad_row && r == bad_row) || (spoil_token && t == bad_token);

		ok = !isfinite(*result(c, r, t)) == spoilt;
		if (!ok)
			tap_note("row %zu, token %zu: %.9g", r, t, *result(c, r, t));
	}
	return ok;
}

static bool test_packed_not_finite(const struct cpu_isa *isa, enum wtype type)
{
	return each_case(isa, type, spoilt_case);
}

static void test_type(const struct cpu_isa *isa, enum wtype type)
{
	run_test("dequantize gives gguf's floats", test_vectors, isa, type);
	run_test("dequantize equals scalar on random blocks", test_dequantize_random, isa, type);
	run_test("dot is exact up to float rounding", test_dot_exact, isa, type);
	if (isa->types[type]->act != ACT_F32)
		run_test("dot of the largest codes does not overflow", test_dot_extreme, isa, type);
	run_test("a row's dot does not depend on its neighbours", test_dot_rows, isa, type);
	run_test("dot reads nothing before its row", test_dot_front, isa, type);
	run_test("a scale that is not finite shows in the dot", test_not_finite, isa, type);
	if (isa == scalar)
		run_test("a packed row unpacks to its bytes", test_packing, isa, type);
	run_test("packed: exact up to float rounding", test_packed_exact, isa, type);
	run_test("packed: a result depends on its row and token alone", test_packed_alone, isa,
		 type);
	if (isa->types[type]->act != ACT_F32)
		run_test("packed: the largest codes do not overflow", test_packed_extreme, isa,
			 type);
	run_test("packed: what is not finite shows in its row and token alone",
		 test_packed_not_finite, isa, type);
}

/* --- activations ------------------------------------------------------------------------ */

/* Inputs that tell roundings and special cases apart, one pattern a call. */
static void act_pattern(unsigned int pattern, float *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		switch (pattern) {
		case 0:
			x[i] = rng_float();
			break;
		case 1: /* amax = 127, so the factor is 1: ties, both ways */
			x[i] = i % 32 == 5 ? 127.0f : (float)(int)(rng() % 253) * 0.5f - 63.0f;
			break;
		case 2: /* the largest is negative */
			x[i] = i % 32 == 31 ? -127.0f : (float)(int)(rng() % 253) * 0.5f - 63.0f;
			break;
		case 3: /* any finite bits */
			x[i] = float_of(rng() & 0xff7fffff);
			break;
		case 4: /* denormals and what lies just above */
			x[i] = float_of(rng() & 0x80ffffff);
			break;
		case 5: /* around 4e-37, where 127 / amax becomes infinite */
			x[i] = rng_float() * 0x1p-120f;
			break;
		case 6: /* a few NaN and infinities */
			x[i] = rng() % 300 ? rng_float()
					   : float_of(0x7f800000 + rng() % 2 * 0x400000);
			break;
		default: /* zeros of either sign */
			x[i] = rng() % 2 ? 0.0f : -0.0f;
		}
	}
}

#define ACT_PATTERNS 8

static bool same_parts(enum act_kind kind, const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t group = kind == ACT_Q8_32 ? 32 : 256;
	const uint8_t *last_a = a + (kind == ACT_Q8_32 ? act_s_off(n) : act_bsums_off(n));
	const uint8_t *last_b = b + (kind == ACT_Q8_32 ? act_s_off(n) : act_bsums_off(n));

	return !memcmp(a, b, n) &&
	       !memcmp(a + act_d_off(n), b + act_d_off(n), n / group * sizeof(float)) &&
	       !memcmp(last_a, last_b,
		       kind == ACT_Q8_32 ? n / 32 * sizeof(float) : n / 16 * sizeof(int16_t));
}

/* cpu.h's formula, one element at a time, with libm's rounding. */
static bool right_group(const float *x, const int8_t *q, float d, size_t n)
{
	float amax = 0;
	bool finite = true;

	for (size_t i = 0; i < n; i++) {
		finite = finite && isfinite(x[i]);
		amax = fmaxf(amax, fabsf(x[i]));
	}
	for (size_t i = 0; i < n; i++) {
		float scale = 127.0f / amax;
		int want = finite && isfinite(scale) ? (int)nearbyintf(x[i] * scale) : 0;

		if (q[i] != want)
			return false;
	}
	if (!finite)
		return isnan(d);
	return d == (isfinite(127.0f / amax) ? amax / 127.0f : 0);
}

static bool right_act(enum act_kind kind, const float *x, const uint8_t *act, size_t n)
{
	size_t group = kind == ACT_Q8_32 ? 32 : 256, part = kind == ACT_Q8_32 ? 32 : 16;
	const int8_t *q = (const int8_t *)act;
	const float *d = (const float *)(const void *)(act + act_d_off(n));
	const float *s = (const float *)(const void *)(act + act_s_off(n));
	const int16_t *bsums = (const int16_t *)(const void *)(act + act_bsums_off(n));

	for (size_t b = 0; b < n / group; b++)
		if (!right_group(x + b * group, q + b * group, d[b], group))
			return false;
	for (size_t b = 0; b < n / part; b++) {
		int sum = 0;

		for (size_t i = 0; i < part; i++)
			sum += q[b * part + i];
		if (kind == ACT_Q8_32 ? !same_float(s[b], d[b] * (float)sum) : bsums[b] != sum)
			return false;
	}
	return true;
}

static bool check_quantize(const struct cpu_isa *isa, enum act_kind kind)
{
	size_t group = kind == ACT_Q8_32 ? 32 : 256;
	bool ok = true;

	for (unsigned int i = 0; i < 40 * ACT_PATTERNS && ok; i++) {
		size_t n = group * (1 + i / ACT_PATTERNS), bytes = act_row_bytes(kind, n);
		struct guarded x = guarded_alloc(n * sizeof(float));
		struct guarded got = guarded_alloc(bytes), want = guarded_alloc(bytes);
		float *in = (float *)(void *)x.p;

		act_pattern(i % ACT_PATTERNS, in, n);
		isa->quantize_act[kind](in, got.p, n);
		scalar->quantize_act[kind](in, want.p, n);
		ok = right_act(kind, in, got.p, n) && same_parts(kind, got.p, want.p, n);
		if (!ok)
			tap_note("pattern %u, n %zu", i % ACT_PATTERNS, n);
		guarded_free(&x);
		guarded_free(&got);
		guarded_free(&want);
	}
	return ok;
}

static bool test_quantize_32(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	return check_quantize(isa, ACT_Q8_32);
}

static bool test_quantize_256(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	return check_quantize(isa, ACT_Q8_256);
}

/* --- halves ----------------------------------------------------------------------------- */

/* What a half's bits mean, by IEEE 754's definition. */
static float half_value(uint16_t h)
{
	int exp = h >> 10 & 31, mant = h & 0x3ff;
	double v = exp == 31 ? (mant ? NAN : INFINITY)
			     : ldexp(exp ? mant + 1024 : mant, (exp ? exp : 1) - 25);

	return (float)(h & 0x8000 ? -v : v);
}

static bool test_half_to_float(const struct cpu_isa *isa, enum wtype type)
{
	uint16_t *h = malloc(65536 * sizeof(*h));
	float *y = malloc(65536 * sizeof(*y));
	bool ok = true;

	(void)type;
	for (unsigned int i = 0; i < 65536; i++)
		h[i] = (uint16_t)i;
	isa->f16_to_f32(h, y, 65536);
	for (unsigned int i = 0; i < 65536 && ok; i++) {
		ok = same_float(y[i], half_value(h[i])) &&
		     bits_of(y[i]) == bits_of(half_to_float(h[i]));
		if (!ok)
			tap_note("half %04x: %08x", i, bits_of(y[i]));
	}
	free(h);
	free(y);
	return ok;
}

/* Converts x[n] and compares with want[n]. */
static bool halves_are(const struct cpu_isa *isa, const float *x, const uint16_t *want, size_t n)
{
	uint16_t *got = malloc(n * sizeof(*got));
	bool ok = true;

	isa->f32_to_f16(x, got, n);
	for (size_t i = 0; i < n && ok; i++) {
		ok = got[i] == want[i] && float_to_half(x[i]) == want[i];
		if (!ok)
			tap_note("float %08x: %04x and %04x, not %04x", bits_of(x[i]), got[i],
				 float_to_half(x[i]), want[i]);
	}
	free(got);
	return ok;
}

/*
 * Every finite half h and the next one up: the halfway point between them goes to the even of
 * the two, its neighbours to the nearer. Above the largest, "the next" is infinity at 65536.
 */
static bool test_float_to_half(const struct cpu_isa *isa, enum wtype type)
{
	enum { PER_HALF = 8, N = 0x7c00 * PER_HALF };
	float *x = malloc(N * sizeof(*x));
	uint16_t *want = malloc(N * sizeof(*want));
	bool ok;

	(void)type;
	for (unsigned int h = 0; h < 0x7c00; h++) {
		float low = half_value((uint16_t)h);
		float high = h == 0x7bff ? 65536.0f : half_value((uint16_t)(h + 1));
		float tie = (low + high) / 2;
		const float in[] = {low, nextafterf(tie, low), tie, nextafterf(tie, high)};
		const unsigned int out[] = {h, h, h + (h & 1), h + 1};

		for (int k = 0; k < 4; k++) {
			x[h * PER_HALF + k] = in[k];
			want[h * PER_HALF + k] = (uint16_t)out[k];
			x[h * PER_HALF + 4 + k] = -in[k];
			want[h * PER_HALF + 4 + k] = (uint16_t)(out[k] | 0x8000);
		}
	}
	ok = halves_are(isa, x, want, N);
	free(x);
	free(want);
	return ok;
}

static bool test_float_to_half_special(const struct cpu_isa *isa, enum wtype type)
{
	static const struct {
		uint32_t x;
		uint16_t h;
	} cases[] = {
		{0x7f800000, 0x7c00},			    /* infinities */
		{0xff800000, 0xfc00}, {0x7f7fffff, 0x7c00}, /* too large */
		{0xc7800000, 0xfc00}, {0x00000001, 0x0000}, /* far too small */
		{0x80800000, 0x8000}, {0x33000000, 0x0000}, /* half of the least denormal: to even
							     */
		{0x33000001, 0x0001}, {0x7fc00000, 0x7e00}, /* NaN stays NaN, quiet, with what fits
							       of its payload */
		{0xffc02000, 0xfe01}, {0x7f800001, 0x7e00}, {0x7fa00000, 0x7f00},
		{0xffffffff, 0xffff},
	};
	float x[ARRAY_SIZE(cases)];
	uint16_t want[ARRAY_SIZE(cases)];

	(void)type;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		x[i] = float_of(cases[i].x);
		want[i] = cases[i].h;
	}
	return halves_are(isa, x, want, ARRAY_SIZE(cases));
}

/* Any float bits, any length, against the guard page. */
static bool test_float_to_half_random(const struct cpu_isa *isa, enum wtype type)
{
	bool ok = true;

	(void)type;
	for (size_t n = 0; n < 300 && ok; n++) {
		struct guarded x = guarded_alloc(n * sizeof(float));
		struct guarded h = guarded_alloc(n * sizeof(uint16_t));
		struct guarded back = guarded_alloc(n * sizeof(float));
		const uint16_t *halves = (const uint16_t *)(void *)h.p;
		const float *in = (const float *)(void *)x.p, *out = (const float *)(void *)back.p;

		rng_bytes(x.p, n * sizeof(float));
		isa->f32_to_f16(in, (uint16_t *)(void *)h.p, n);
		isa->f16_to_f32(halves, (float *)(void *)back.p, n);
		for (size_t i = 0; i < n && ok; i++) {
			ok = halves[i] == float_to_half(in[i]) &&
			     bits_of(out[i]) == bits_of(half_to_float(halves[i]));
			if (!ok)
				tap_note("n %zu, element %zu: float %08x, half %04x", n, i,
					 bits_of(in[i]), halves[i]);
		}
		guarded_free(&x);
		guarded_free(&h);
		guarded_free(&back);
	}
	return ok;
}

/* --- float vectors ---------------------------------------------------------------------- */

/* dot_f32 of n elements against doubles. */
static bool dot_at(const struct cpu_isa *isa, size_t n)
{
	struct guarded a = guarded_alloc(n * sizeof(float)), b = guarded_alloc(n * sizeof(float));
	float *fa = (float *)(void *)a.p, *fb = (float *)(void *)b.p;
	double dot = 0, size = 0;
	bool ok;

	for (size_t i = 0; i < n; i++) {
		fa[i] = rng_float();
		fb[i] = rng_float();
		dot += (double)fa[i] * fb[i];
		size += fabs((double)fa[i] * fb[i]);
	}
	ok = fabs(isa->dot_f32(fa, fb, n) - dot) <= TOLERANCE * size;
	if (!ok)
		tap_note("n %zu", n);
	guarded_free(&a);
	guarded_free(&b);
	return ok;
}

static bool test_dot_f32(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	for (size_t n = 0; n < 140; n++)
		if (!dot_at(isa, n))
			return false;
	return dot_at(isa, 1000) && dot_at(isa, 8192);
}

/* Two vectors of n: what the operations make of copies of them. */
struct pair {
	struct guarded y, x;
};

static struct pair new_pair(const float *y, const float *x, size_t n)
{
	struct pair p = {guarded_alloc(n * sizeof(float)), guarded_alloc(n * sizeof(float))};

	memcpy(p.y.p, y, n * sizeof(float));
	memcpy(p.x.p, x, n * sizeof(float));
	return p;
}

/* The same bits as the reference's: nothing there is fused or summed. */
static bool same_bits_at(const struct cpu_isa *isa, size_t n)
{
	const struct cpu_isa *scalar = cpu_isa_by_name("scalar");
	bool ok = true;

	for (int op = 0; op < 4 && ok; op++) {
		float y[300], x[300];
		struct pair got, want;

		for (size_t i = 0; i < n; i++) {
			y[i] = rng_float();
			x[i] = rng_float();
		}
		got = new_pair(y, x, n);
		want = new_pair(y, x, n);
		for (int ref = 0; ref < 2; ref++) {
			const struct cpu_isa *by = ref ? scalar : isa;
			float *py = (float *)(void *)(ref ? want : got).y.p;
			const float *px = (const float *)(void *)(ref ? want : got).x.p;

			if (op == 0)
				by->add(py, px, n);
			else if (op == 1)
				by->blend(py, 0.7f, px, -1.3f, n);
			else if (op == 2)
				by->scale(py, px, 0.3f, n);
			else
				by->mul_norm(py, py, 0.3f, px, n);
		}
		ok = !memcmp(got.y.p, want.y.p, n * sizeof(float));
		if (!ok)
			tap_note("operation %d, n %zu", op, n);
		guarded_free(&got.y);
		guarded_free(&got.x);
		guarded_free(&want.y);
		guarded_free(&want.x);
	}
	return ok;
}

static bool test_elementwise(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	for (size_t n = 0; n < 70; n++)
		if (!same_bits_at(isa, n))
			return false;
	return same_bits_at(isa, 300);
}

/* gate / (1 + e^-gate) up from the smallest to the largest gates, infinite and NaN ones too. */
static bool test_swiglu(const struct cpu_isa *isa, enum wtype type)
{
	static const float special[] = {0,	-0.0f, 1e-38f, -1e-30f, 87,    -87,	 88.5f,
					-88.5f, 104,   -104,   1000,	-1000, INFINITY, NAN};
	const size_t n_special = sizeof(special) / sizeof(*special);

	(void)type;
	for (size_t n = 0; n < 600; n++) {
		struct guarded g = guarded_alloc(n * sizeof(float));
		struct guarded u = guarded_alloc(n * sizeof(float));
		float *gate = (float *)(void *)g.p, *up = (float *)(void *)u.p;
		double want[600];
		bool ok = true;

		for (size_t i = 0; i < n; i++) {
			gate[i] = i < n_special ? special[i] : rng_float() * 90;
			up[i] = rng_float();
			want[i] = gate[i] / (1 + exp(-(double)gate[i])) * up[i];
		}
		isa->swiglu(gate, up, n);
		for (size_t i = 0; i < n && ok; i++) {
			ok = isnan(want[i]) ? isnan(gate[i])
			     : isinf(want[i])
				     ? isinf(gate[i])
				     : fabs(gate[i] - want[i]) <= 1e-6 * fabs(want[i]) + 1e-35;
			if (!ok)
				tap_note("n %zu, element %zu: %g, not %g", n, i, (double)gate[i],
					 want[i]);
		}
		guarded_free(&g);
		guarded_free(&u);
		if (!ok)
			return false;
	}
	return true;
}

/* max and exp_sum against doubles; what is -infinity at either end adds no bit. */
static bool test_exp_sum(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	for (size_t n = 64; n <= 512; n += 64) {
		struct guarded a = guarded_alloc(n * sizeof(float));
		struct guarded b = guarded_alloc((n + 128) * sizeof(float));
		float *x = (float *)(void *)a.p, *padded = (float *)(void *)b.p, top, sum;
		double want[512], whole = 0, max = -1e30;
		bool ok;

		for (size_t i = 0; i < n; i++) {
			x[i] = rng_float() * 40;
			max = x[i] > max ? x[i] : max;
		}
		for (size_t i = 0; i < n + 128; i++)
			padded[i] = i < 64 || i >= n + 64 ? -INFINITY : x[i - 64];
		for (size_t i = 0; i < n; i++)
			whole += want[i] = exp(x[i] - (float)max);
		top = isa->max(x, n);
		ok = top == max && isa->max(padded, n + 128) == top;
		sum = isa->exp_sum(x, top, n);
		ok = ok && isa->exp_sum(padded, top, n + 128) == sum &&
		     fabs(sum - whole) <= 1e-6 * whole;
		for (size_t i = 0; i < n && ok; i++)
			ok = fabs(x[i] - want[i]) <= 1e-6 * want[i] + 1e-37 &&
			     bits_of(padded[i + 64]) == bits_of(x[i]);
		for (size_t i = 0; i < 64 && ok; i++)
			ok = padded[i] == 0 && padded[n + 64 + i] == 0;
		if (!ok)
			tap_note("n %zu", n);
		guarded_free(&a);
		guarded_free(&b);
		if (!ok)
			return false;
	}
	return true;
}

static bool test_spread(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	for (size_t n = 1; n < 40; n++) {
		struct guarded w = guarded_alloc(n * 34);
		struct guarded y = guarded_alloc(n * 32 * sizeof(float));
		const float *out = (const float *)(void *)y.p;
		bool ok = true;

		rng_bytes(w.p, n * 34);
		for (size_t p = 0; p < n; p++) {
			uint16_t d = float_to_half(rng_float());

			memcpy(w.p + p * 34, &d, 2);
		}
		isa->spread_q8_0(w.p, (float *)(void *)y.p, n);
		for (size_t i = 0; i < n * 32 && ok; i++) {
			size_t p = i / 32, e = i % 32;
			float want = (float)(int8_t)w.p[p * 34 + 2 + e];

			want *= half_value((uint16_t)(w.p[p * 34] | w.p[p * 34 + 1] << 8));
			ok = out[(e / 16 * n + p) * 16 + e % 16] == want;
			if (!ok)
				tap_note("n %zu, position %zu, element %zu", n, p, e);
		}
		guarded_free(&w);
		guarded_free(&y);
		if (!ok)
			return false;
	}
	return true;
}

/* Attention multiplies values with weights that are zero before and behind what a query sees. */
static bool test_packed_zeros(const struct cpu_isa *isa, enum wtype type)
{
	const size_t n = 192, size = wtype_info(type)->block_bytes;

	for (size_t n_tok = 1; n_tok <= TILE_MAX; n_tok *= 2) {
		struct guarded w = guarded_alloc((n + 128) * PACK_ROWS * size);
		struct guarded x = guarded_alloc((n + 128) * n_tok * sizeof(float));
		float *tile = (float *)(void *)x.p, some[TILE_MAX * PACK_ROWS] = {0};
		float all[TILE_MAX * PACK_ROWS] = {0};
		bool ok;

		for (size_t i = 0; i < (n + 128) * PACK_ROWS; i++) {
			float f = rng_float();
			uint16_t h = float_to_half(f);

			memcpy(w.p + i * size, size == 4 ? (const void *)&f : &h, size);
		}
		for (size_t i = 0; i < (n + 128) * n_tok; i++)
			tile[i] = i / n_tok < 64 || i / n_tok >= n + 64 ? 0 : rng_float();
		isa->packed[type](w.p, 1, tile, n_tok, n + 128, all, PACK_ROWS);
		isa->packed[type](w.p + 64 * PACK_ROWS * size, 1, tile + 64 * n_tok, n_tok, n, some,
				  PACK_ROWS);
		ok = !memcmp(all, some, sizeof(all));
		if (!ok)
			tap_note("%zu tokens", n_tok);
		guarded_free(&w);
		guarded_free(&x);
		if (!ok)
			return false;
	}
	return true;
}

/* --- selection -------------------------------------------------------------------------- */

/* A type number has operations exactly where types.c knows it, and the right activation. */
static bool test_type_table(const struct cpu_isa *isa, enum wtype type)
{
	(void)type;
	for (unsigned int t = 0; t < WT_COUNT; t++) {
		const struct wtype_info *info = wtype_info(t);
		enum act_kind want;

		if (!info != !isa->types[t] || !info != !isa->packed[t]) {
			tap_note("type number %u", t);
			return false;
		}
		if (!info)
			continue;
		want = info->block_elems == 256	 ? ACT_Q8_256
		       : info->block_elems == 32 ? ACT_Q8_32
						 : ACT_F32;
		if (isa->types[t]->act != want) {
			tap_note("%s: wrong kind of activation", info->name);
			return false;
		}
	}
	return !isa->quantize_act[ACT_F32] && isa->quantize_act[ACT_Q8_32] &&
	       isa->quantize_act[ACT_Q8_256];
}

#ifdef __aarch64__
/* The int8 matrix multiply takes other ways to the same integers. */
static bool neon_bits_case(const struct cpu_isa *isa, struct packed_case *c)
{
	size_t rows = c->n_groups * PACK_ROWS;
	float *want = malloc(rows * c->n_tok * sizeof(*want));
	bool ok = run_case(isa, c);

	cpu_isa_by_name("neon")->packed[c->type](c->w.p, c->n_groups, c->tile.p, c->n_tok, c->n,
						 want, rows);
	for (size_t i = 0; i < rows * c->n_tok && ok; i++) {
		ok = bits_of(*result(c, i % rows, i / rows)) == bits_of(want[i]);
		if (!ok)
			tap_note("row %zu, token %zu: other bits than neon's", i % rows, i / rows);
	}
	free(want);
	return ok;
}

static bool test_neon_bits(const struct cpu_isa *isa, enum wtype type)
{
	return each_case(isa, type, neon_bits_case);
}
#endif

/* One token's rows walked as one stream have the bits that they have as several: packed groups. */
static bool one_stream_case(const struct cpu_isa *isa, struct packed_case *c)
{
	size_t rows = c->n_groups * PACK_ROWS;
	float *want;
	bool ok;

	if (c->n_tok != 1)
		return true;
	want = malloc(rows * sizeof(*want));
	*isa->one_stream = false;
	ok = run_case(isa, c);
	memcpy(want, result(c, 0, 0), rows * sizeof(*want));
	*isa->one_stream = true;
	ok = ok && run_case(isa, c) && right_results(c);
	for (size_t i = 0; i < rows && ok; i++) {
		ok = bits_of(*result(c, i, 0)) == bits_of(want[i]);
		if (!ok)
			tap_note("row %zu: other bits than as several streams", i);
	}
	free(want);
	return ok;
}

/* And plain rows: of so many bytes that every type walks them as several streams if it does. */
static bool one_stream_rows(const struct cpu_isa *isa, enum wtype type)
{
	enum { N_IN = 8448, ROWS = 41 };
	const struct type_ops *ops = isa->types[type];
	const size_t bytes = row_bytes(type, N_IN);
	struct guarded act = random_act(ops->act, N_IN), w = guarded_alloc(ROWS * bytes);
	float several[ROWS], one[ROWS];
	bool ok = true;

	for (size_t r = 0; r < ROWS; r++)
		random_row(type, w.p + r * bytes, N_IN);
	*isa->one_stream = false;
	ops->dot_rows(w.p, bytes, ROWS, act.p, N_IN, several);
	*isa->one_stream = true;
	ops->dot_rows(w.p, bytes, ROWS, act.p, N_IN, one);
	for (size_t r = 0; r < ROWS && ok; r++) {
		double size, want = exact_dot(type, w.p + r * bytes, act.p, N_IN, &size);

		ok = bits_of(one[r]) == bits_of(several[r]) &&
		     fabs(one[r] - want) <= TOLERANCE * size;
		if (!ok)
			tap_note("row %zu: %.9g as one stream, %.9g as several, exact %.9g", r,
				 one[r], several[r], want);
	}
	guarded_free(&w);
	guarded_free(&act);
	return ok;
}

static bool test_one_stream(const struct cpu_isa *isa, enum wtype type)
{
	const bool chosen = *isa->one_stream;
	const bool ok = one_stream_rows(isa, type) && each_case(isa, type, one_stream_case);

	*isa->one_stream = chosen;
	return ok;
}

static void test_isa(const struct cpu_isa *isa)
{
	if (!isa->supported()) {
		tap_skip("this machine does not support it", "%s", isa->name);
		return;
	}
	run_test("has every type of types.c and no other", test_type_table, isa, WT_COUNT);
	for (unsigned int t = 0; t < WT_COUNT; t++)
		if (wtype_info(t) && isa->types[t])
			test_type(isa, t);
	for (unsigned int t = 0; t < WT_COUNT && isa->one_stream; t++)
		if (wtype_info(t) && isa->types[t])
			run_test("one token: one stream, the bits of several", test_one_stream, isa,
				 t);
#ifdef __aarch64__
	for (unsigned int t = 0; t < WT_COUNT && !strcmp(isa->name, "neon-i8mm"); t++)
		if (wtype_info(t) && isa->types[t])
			run_test("packed: neon's bits", test_neon_bits, isa, t);
#endif
	run_test("activation of 32: formula, and scalar's bits", test_quantize_32, isa, WT_COUNT);
	run_test("activation of 256: formula, and scalar's bits", test_quantize_256, isa, WT_COUNT);
	run_test("half to float: all 65536", test_half_to_float, isa, WT_COUNT);
	run_test("float to half: to nearest, ties to even", test_float_to_half, isa, WT_COUNT);
	run_test("float to half: overflow, underflow, NaN", test_float_to_half_special, isa,
		 WT_COUNT);
	run_test("float to half and back: any bits, any length", test_float_to_half_random, isa,
		 WT_COUNT);
	run_test("dot_f32: any length", test_dot_f32, isa, WT_COUNT);
	run_test("add, blend, scale, mul_norm: scalar's bits, any length", test_elementwise, isa,
		 WT_COUNT);
	run_test("swiglu: any length, any gate", test_swiglu, isa, WT_COUNT);
	run_test("max, exp_sum: right, and -infinity adds no bit", test_exp_sum, isa, WT_COUNT);
	run_test("spread_q8_0: right, any length", test_spread, isa, WT_COUNT);
	run_test("packed: zeros before and behind add no bit", test_packed_zeros, isa, WT_F32);
	run_test("packed: zeros before and behind add no bit", test_packed_zeros, isa, WT_F16);
}

static void test_selection(void)
{
	const struct cpu_isa *isa, *best = NULL;

	unsetenv("WEIR_ISA");
	for (unsigned int i = 0; (isa = cpu_isa_at(i)); i++) {
		tap_ok(cpu_isa_by_name(isa->name) == isa, "selection: %s is found by name",
		       isa->name);
		if (isa->supported())
			best = isa;
	}
	tap_ok(cpu_isa_at(0) == cpu_isa_by_name("scalar"), "selection: scalar comes first");
	tap_ok(cpu_isa_best() == best, "selection: the best supported one (%s)", best->name);
	tap_ok(!cpu_isa_by_name("abacus"), "selection: no such name, nothing found");
	for (unsigned int i = 0; (isa = cpu_isa_at(i)); i++) {
		setenv("WEIR_ISA", isa->name, 1);
		tap_ok(cpu_isa_best() == (isa->supported() ? isa : best),
		       "selection: WEIR_ISA=%s is honoured where it can run", isa->name);
	}
	setenv("WEIR_ISA", "abacus", 1);
	tap_ok(cpu_isa_best() == best, "selection: an unknown WEIR_ISA is as if not set");
	unsetenv("WEIR_ISA");
#ifdef __x86_64__
	tap_ok(!cpu_isa_by_name("avx2")->supported() ==
		       !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")),
	       "selection: the compiler's run-time library agrees about AVX2");
#endif
}

/* An instruction set that the command line names alone must be there. */
int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_fault};
	const char *only = argc > 1 ? argv[1] : NULL;
	const struct cpu_isa *isa;

	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	scalar = cpu_isa_by_name("scalar");
	test_selection();
	test_tiles();
	for (unsigned int i = 0; (isa = cpu_isa_at(i)); i++)
		if (!only || !strcmp(isa->name, only))
			test_isa(isa);
	if (only) {
		isa = cpu_isa_by_name(only);
		tap_ok(isa && isa->supported(), "%s: this machine has it", only);
	}
	return tap_done();
}
