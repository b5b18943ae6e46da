// SPDX-License-Identifier: MIT
/*
 * The order of bytes in a packed group; see packed.h.
 *
 * What lies at byte `at` of a row lies at 16 * at of its group, the units of 16 rows one behind the
 * other. So packing and unpacking are the same copy with the sides exchanged. Sizes and the number
 * of rows are constants where it is compiled, so that a unit is one load and one store; four units
 * of 4 bytes of four rows are four of each, of 16 bytes, with a transposition between them. In
 * cache, whole groups of quantized rows were packed at 18 to 28 GB/s and unpacked at 13 to 26.
 */
#include "kernels/packed.h"

#include <stdbool.h>
#include <string.h>

#define MAX_FIELDS 4

#define FLATTEN	 static inline __attribute__((always_inline))
#define UNROLL16 _Pragma("GCC unroll 16") /* clang does it by itself */

/* The fields of a block, in the order in which they lie there; len 0 after the last. */
struct field {
	uint8_t len; /* bytes */
	uint8_t unit;
};

static const struct field fields[WT_COUNT][MAX_FIELDS] = {
	[WT_F32] = {{4, 4}},
	[WT_F16] = {{2, 2}},
	[WT_BF16] = {{2, 2}},
	[WT_Q4_0] = {{2, 2}, {16, 4}},
	[WT_Q4_1] = {{4, 2}, {16, 4}},
	[WT_Q5_0] = {{2, 2}, {20, 4}},
	[WT_Q5_1] = {{4, 2}, {20, 4}},
	[WT_Q8_0] = {{2, 2}, {32, 4}},
	[WT_Q2_K] = {{16, 1}, {64, 4}, {4, 2}},
	[WT_Q3_K] = {{108, 4}, {2, 2}},
	[WT_Q4_K] = {{4, 2}, {140, 4}},
	[WT_Q5_K] = {{4, 2}, {172, 4}},
	[WT_Q6_K] = {{192, 4}, {16, 1}, {2, 2}},
	[WT_IQ4_NL] = {{2, 2}, {16, 4}},
	[WT_IQ4_XS] = {{4, 2}, {132, 4}},
	[WT_MXFP4] = {{1, 1}, {16, 4}},
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

/* One field of rows r0 .. r1-1 of a column. */
FLATTEN void move_field(uint8_t *to, const uint8_t *from, bool pack, size_t len, size_t unit,
			size_t stride, size_t r0, size_t r1)
{
	const size_t to_byte = pack ? PACK_ROWS : 1, to_row = pack ? unit : stride;
	const size_t from_byte = pack ? 1 : PACK_ROWS, from_row = pack ? stride : unit;
	size_t at = 0;

	for (; unit == 4 && !r0 && r1 == PACK_ROWS && at + 16 <= len; at += 16) {
		UNROLL16
		for (size_t r = 0; r < PACK_ROWS; r += 4)
			transpose(to + at * to_byte + r * to_row, pack ? 4 * PACK_ROWS : stride,
				  from + at * from_byte + r * from_row,
				  pack ? stride : 4 * PACK_ROWS);
	}
	for (; at < len; at += unit) {
		UNROLL16
		for (size_t r = r0; r < r1; r++)
			memcpy(to + at * to_byte + r * to_row, from + at * from_byte + r * from_row,
			       unit);
	}
}

/* Rows r0 .. r1-1 of n weights into a group, or out of it. */
FLATTEN void move_rows(enum wtype type, void *to, const void *from, bool pack, size_t stride,
		       size_t r0, size_t r1, size_t n)
{
	const size_t n_block = n / wtype_info(type)->block_elems;
	const uint8_t *in = from;
	uint8_t *out = to;

	for (size_t b = 0; b < n_block; b++)
		for (const struct field *f = fields[type]; f < fields[type] + MAX_FIELDS && f->len;
		     f++) {
			if (f->unit == 4)
				move_field(out, in, pack, f->len, 4, stride, r0, r1);
			else if (f->unit == 2)
				move_field(out, in, pack, f->len, 2, stride, r0, r1);
			else
				move_field(out, in, pack, f->len, 1, stride, r0, r1);
			out += f->len * (pack ? PACK_ROWS : 1);
			in += f->len * (pack ? 1 : PACK_ROWS);
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
