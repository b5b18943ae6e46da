// SPDX-License-Identifier: MIT
/*
 * The order of bytes in a packed group; see packed.h.
 *
 * Packing and unpacking are the same copy with the sides exchanged. Sizes and the number of rows
 * are constants where it is compiled, so that a unit is one load and one store; four units of 4
 * bytes of four rows are four of each, of 16 bytes, with a transposition between them. In cache,
 * whole groups of quantized rows were packed at 18 to 28 GB/s and unpacked at 13 to 26.
 */
#include "kernels/packed.h"

#include <stdbool.h>
#include <string.h>

#define MAX_RUNS 8

#define FLATTEN	 static inline __attribute__((always_inline))
#define UNROLL16 _Pragma("GCC unroll 16") /* clang does it by itself */

/*
 * Units of a block that lie one behind the other in a row, and as far apart from each other in a
 * column. len 0 after the last.
 */
struct run {
	uint8_t from, len; /* bytes of a block */
	uint8_t unit;	   /* bytes */
	uint8_t to, step;  /* the first unit lies at 16 * to of the column, the next 16 * step on */
};

#define RUN(from, len, unit, to)                                                                   \
	{                                                                                          \
		from, len, unit, to, unit                                                          \
	}

/* See packed.h; the order in which they come here does not matter. */
static const struct run runs[WT_COUNT][MAX_RUNS + 1] = {
	[WT_F32] = {RUN(0, 4, 4, 0)},
	[WT_F16] = {RUN(0, 2, 2, 0)},
	[WT_BF16] = {RUN(0, 2, 2, 0)},
	[WT_Q4_0] = {RUN(0, 2, 2, 0), RUN(2, 16, 4, 2)},
	[WT_Q4_1] = {RUN(0, 4, 2, 0), RUN(4, 16, 4, 4)},
	[WT_Q5_0] = {RUN(0, 2, 2, 0), RUN(2, 20, 4, 2)},
	[WT_Q5_1] = {RUN(0, 4, 2, 0), RUN(4, 20, 4, 4)},
	[WT_Q8_0] = {RUN(0, 2, 2, 0), RUN(2, 32, 4, 2)},
	[WT_IQ4_NL] = {RUN(0, 2, 2, 0), RUN(2, 16, 4, 2)},
	[WT_MXFP4] = {RUN(0, 1, 1, 0), RUN(1, 16, 4, 1)},
	/* d and dmin, scales, codes */
	[WT_Q2_K] = {RUN(80, 4, 2, 0), RUN(0, 16, 1, 4), RUN(16, 64, 4, 20)},
	/* d, scales, low bits and high bits of half 0, low bits of half 1 */
	[WT_Q3_K] = {RUN(108, 2, 2, 0),
		     RUN(96, 12, 4, 2),
		     {32, 32, 4, 14, 8},
		     {0, 32, 4, 18, 8},
		     RUN(64, 32, 4, 78)},
	/* d and dmin, scales, codes */
	[WT_Q4_K] = {RUN(0, 4, 2, 0), RUN(4, 140, 4, 4)},
	/* d and dmin, scales, low bits and fifth bits of half 0, low bits of half 1 */
	[WT_Q5_K] = {RUN(0, 4, 2, 0),
		     RUN(4, 12, 4, 4),
		     {48, 32, 4, 16, 12},
		     {80, 32, 4, 20, 12},
		     {16, 32, 4, 24, 12},
		     {112, 32, 4, 112, 8},
		     {144, 32, 4, 116, 8}},
	/* d, scales, low bits and high bits of both halves */
	[WT_Q6_K] = {RUN(208, 2, 2, 0),
		     RUN(192, 16, 1, 2),
		     {0, 32, 4, 18, 12},
		     {32, 32, 4, 22, 12},
		     {128, 32, 4, 26, 12},
		     {64, 32, 4, 114, 12},
		     {96, 32, 4, 118, 12},
		     {160, 32, 4, 122, 12}},
	/* d and high bits of scales, their low bits, codes */
	[WT_IQ4_XS] = {RUN(0, 4, 2, 0), RUN(4, 132, 4, 4)},
};

typedef uint32_t vec4 __attribute__((vector_size(16)));

/* Four of the eight numbers of a and b. */
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vec4){__VA_ARGS__})
#endif

FLATTEN vec4 load_vec4(const uint8_t *p)
{
	vec4 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

FLATTEN void store_vec4(uint8_t *p, vec4 v)
{
	memcpy(p, &v, sizeof(v));
}

/* Four times four units of 4 bytes; rows, @from_step bytes apart, become columns. */
FLATTEN void transpose(uint8_t *to, size_t to_step, const uint8_t *from, size_t from_step)
{
	vec4 a = load_vec4(from), b = load_vec4(from + from_step);
	vec4 c = load_vec4(from + 2 * from_step), d = load_vec4(from + 3 * from_step);
	vec4 ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);

	store_vec4(to, SHUFFLE(ab, cd, 0, 1, 4, 5));
	store_vec4(to + to_step, SHUFFLE(ab, cd, 2, 3, 6, 7));
	ab = SHUFFLE(a, b, 2, 6, 3, 7);
	cd = SHUFFLE(c, d, 2, 6, 3, 7);
	store_vec4(to + 2 * to_step, SHUFFLE(ab, cd, 0, 1, 4, 5));
	store_vec4(to + 3 * to_step, SHUFFLE(ab, cd, 2, 3, 6, 7));
}

/* Rows r0 .. r1-1 of a run of a column. @in, @out: where the block, or the column, begins. */
FLATTEN void move_run(uint8_t *out, const uint8_t *in, const struct run *run, bool pack,
		      size_t unit, size_t stride, size_t r0, size_t r1)
{
	const size_t step = PACK_ROWS * run->step; /* from unit to unit of a column */
	const size_t to_unit = pack ? step : unit, to_row = pack ? unit : stride;
	const size_t from_unit = pack ? unit : step, from_row = pack ? stride : unit;
	size_t left = run->len / unit;
	uint8_t *to = out + (pack ? PACK_ROWS * run->to : run->from);
	const uint8_t *from = in + (pack ? run->from : PACK_ROWS * run->to);

	for (; unit == 4 && !r0 && r1 == PACK_ROWS && left >= 4; left -= 4) {
		UNROLL16
		for (size_t r = 0; r < PACK_ROWS; r += 4)
			transpose(to + r * to_row, pack ? step : stride, from + r * from_row,
				  pack ? stride : step);
		to += 4 * to_unit;
		from += 4 * from_unit;
	}
	for (; left; left--) {
		UNROLL16
		for (size_t r = r0; r < r1; r++)
			memcpy(to + r * to_row, from + r * from_row, unit);
		to += to_unit;
		from += from_unit;
	}
}

/* Rows r0 .. r1-1 of n weights into a group, or out of it. */
FLATTEN void move_rows(enum wtype type, void *to, const void *from, bool pack, size_t stride,
		       size_t r0, size_t r1, size_t n)
{
	const struct wtype_info *info = wtype_info(type);
	const size_t n_block = n / info->block_elems, column = PACK_ROWS * info->block_bytes;
	const uint8_t *in = from;
	uint8_t *out = to;

	for (size_t b = 0; b < n_block; b++) {
		for (const struct run *run = runs[type]; run->len; run++) {
			if (run->unit == 4)
				move_run(out, in, run, pack, 4, stride, r0, r1);
			else if (run->unit == 2)
				move_run(out, in, run, pack, 2, stride, r0, r1);
			else
				move_run(out, in, run, pack, 1, stride, r0, r1);
		}
		out += pack ? column : info->block_bytes;
		in += pack ? info->block_bytes : column;
	}
}

void pack_group(enum wtype type, const void *rows, size_t stride, size_t n_rows, size_t n,
		void *group)
{
	const struct wtype_info *info = wtype_info(type);

	if (n_rows == PACK_ROWS) {
		move_rows(type, group, rows, true, stride, 0, PACK_ROWS, n);
		return;
	}
	memset(group, 0, PACK_ROWS * (n / info->block_elems) * info->block_bytes);
	move_rows(type, group, rows, true, stride, 0, n_rows, n);
}

void unpack_group(enum wtype type, const void *group, size_t n_rows, size_t n, void *rows,
		  size_t stride)
{
	if (n_rows == PACK_ROWS)
		move_rows(type, rows, group, false, stride, 0, PACK_ROWS, n);
	else
		move_rows(type, rows, group, false, stride, 0, n_rows, n);
}

void pack_row(enum wtype type, const void *row, size_t r, size_t n, void *group)
{
	/* keys come row by row */
	if (type == WT_F16) {
		const char *from = row;
		char *to = (char *)group + 2 * r;

		for (size_t i = 0; i < n; i++)
			memcpy(to + 2 * PACK_ROWS * i, from + 2 * i, 2);
		return;
	}
	move_rows(type, group, row, true, 0, r, r + 1, n);
}

void unpack_row(enum wtype type, const void *group, size_t r, size_t n, void *out)
{
	move_rows(type, out, group, false, 0, r, r + 1, n);
}
