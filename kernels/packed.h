/* SPDX-License-Identifier: MIT */
/*
 * The packed layout: rows in groups of 16, so that one load of an activation feeds 16 rows and
 * every lane of a vector works for a row of its own.
 *
 * A group holds the same bytes as its 16 rows, in another order, block column by block column.
 * A block column is the blocks that the 16 rows have at the same place. Every field of the block
 * (cpu/blocks.h) is cut into *units* of 1, 2 or 4 bytes, and a unit of all 16 rows lies together:
 *
 *	field		unit	16 rows of a unit are
 *	scales d, m	2	16 halves
 *	codes		4	a vector of 64 bytes, 4 codes (8 of them, or parts) a lane
 *	8-bit scales	1	16 bytes
 *
 * Units lie in the order in which one token's kernel needs them. Scales come first: d, then those
 * of sub-blocks. Then codes, in *steps* (below), so that a loop over steps reads on and on: with
 * fields one behind the other, two or three of them read in turns, the kernels of 256-element
 * blocks read DRAM 3 to 10% slower (20% with Q3_K).
 *
 * So Q4_0 (d, then 16 bytes of codes) is 32 bytes of d, then four times 64 bytes of codes: low
 * nibbles of the j-th are elements 4j .. 4j+3 of all rows, high ones 16 + 4j .. A matrix whose
 * number of rows is no multiple of 16 ends with a group that is filled up with zero bytes.
 *
 * One order for all instruction sets: 16 rows are a zmm register, two of ymm, four of NEON. So a
 * packed file (docs/format.md) is the same for every machine.
 */
#ifndef WEIR_KERNELS_PACKED_H
#define WEIR_KERNELS_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/types.h"

#define PACK_ROWS 16

/*
 * Steps of a 256-element block. A block is two halves of 128 elements, a half four registers of 32,
 * and unit k of 8 of register i the elements 32 i + 4 k .. 32 i + 4 k + 3 of it. The vectors of
 * codes that a step has, and where in the column it begins:
 *
 *	Q2_K	of unit k, 1: the four i in two bits each
 *	Q3_K	1 such vector; in half 0, 1 of high bits, which both halves share
 *	Q4_K	of unit k of a pair of registers, 1: nibbles of i = 0 (low) and 1, or 2 and 3
 *	Q5_K	of unit k, 2: nibbles of i = 0 and 1, then of 2 and 3; in half 0, 1 of fifth bits,
 *		which both halves share
 *	Q6_K	of unit k, 3: nibbles of i = 0 (low) and 2, then of 1 and 3; two high bits of each
 *	IQ4_XS	of units k (low) and k + 4 of a register, k < 4: 1 of nibbles
 */
static inline size_t q2_k_step(int half, int i, int k)
{
	return (size_t)(320 + 64 * (8 * half + k));
}

static inline size_t q3_k_step(int half, int i, int k)
{
	return (size_t)(224 + (half ? 1024 + 64 * k : 128 * k));
}

static inline size_t q4_k_step(int half, int i, int k)
{
	return (size_t)(256 + 64 * (16 * half + 8 * (i / 2) + k));
}

static inline size_t q5_k_step(int half, int i, int k)
{
	return (size_t)(256 + (half ? 1536 + 128 * k : 192 * k));
}

static inline size_t q6_k_step(int half, int i, int k)
{
	return (size_t)(288 + 192 * (8 * half + k));
}

static inline size_t iq4_xs_step(int half, int i, int k)
{
	return (size_t)(128 + 64 * (16 * half + 4 * i + k));
}

/* Rows that the groups of a matrix have, those that fill up the last one included. */
static inline uint64_t pack_rows_up(uint64_t n_rows)
{
	return (n_rows + PACK_ROWS - 1) & ~(uint64_t)(PACK_ROWS - 1);
}

/*
 * @rows: n_rows <= 16 rows of n weights, @stride bytes apart; @group: 16 rows' bytes, written
 * whole. A matrix of the float types is packed in units of one weight.
 */
void pack_group(enum wtype type, const void *rows, size_t stride, size_t n_rows, size_t n,
		void *group);
/* The reverse: the first @n_rows rows of a group, to @rows. */
void unpack_group(enum wtype type, const void *group, size_t n_rows, size_t n, void *rows,
		  size_t stride);
/* Row @r of a group alone, from a row's bytes. */
void pack_row(enum wtype type, const void *row, size_t r, size_t n, void *group);
/* The reverse: @out gets a row's bytes. */
void unpack_row(enum wtype type, const void *group, size_t r, size_t n, void *out);

#endif
