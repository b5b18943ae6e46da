/* SPDX-License-Identifier: MIT */
/*
 * Packed rows (kernels/packed.h) times several tokens: the activations that they need.
 *
 * A *tile* is the activations of 1, 2, 4, 8 or 16 tokens, interleaved in the same way: what
 * cpu.h calls an activation row, with each of its parts in units (q: 4 bytes; float d, s and x:
 * one; bsums: one), the units of all tokens side by side. Its parts begin where those of a row
 * of n * n_tok elements would. A tile of one token is an activation row.
 */
#ifndef WEIR_KERNELS_CPU_PACKED_H
#define WEIR_KERNELS_CPU_PACKED_H

#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"

/* Most tokens of a tile; a power of two. */
#define TILE_MAX 16

/* Bytes of a tile; a multiple of 64. */
static inline size_t tile_bytes(enum act_kind kind, size_t n, size_t n_tok)
{
	return act_row_bytes(kind, n * n_tok);
}

/* Tokens of the tile to make of what is left of a batch: the most that are there whole. */
static inline size_t tile_tokens(size_t left)
{
	size_t t = TILE_MAX;

	while (t > left)
		t /= 2;
	return t;
}

/* @rows: n_tok activation rows, @stride bytes apart; n: elements of a row */
void tile_make(enum act_kind kind, const void *rows, size_t stride, size_t n_tok, size_t n,
	       void *tile);

#endif
