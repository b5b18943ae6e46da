/* SPDX-License-Identifier: MIT */
/*
 * The packed layout: rows in groups of 16, so that one load of an activation feeds 16 rows and
 * every lane of a vector works for a row of its own.
 *
 * A group holds the same bytes as its 16 rows, in another order, block column by block column.
 * A block column is the blocks that the 16 rows have at the same place. Every field of the block
 * (cpu/blocks.h) is cut into *units* of 1, 2 or 4 bytes, and a unit of all 16 rows lies together:
 *
 *	for each field, for each unit of it, for row 0 .. 15: the unit's bytes
 *
 *	field		unit	16 rows of a unit are
 *	scales d, m	2	16 halves
 *	codes		4	a vector of 64 bytes, 4 codes (8 of them, or parts) a lane
 *	8-bit scales	1	16 bytes
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
