// SPDX-License-Identifier: MIT
/*
 * The order of bytes in a tile; see packed.h. Plain C: it is done once a batch of tokens.
 */
#include "kernels/cpu/packed.h"

#include <string.h>

/* @units of @bytes a token, from rows that lie @stride bytes apart */
static void interleave(const char *rows, size_t stride, size_t n_tok, size_t units, size_t bytes,
		       char *out)
{
	for (size_t u = 0; u < units; u++)
		for (size_t t = 0; t < n_tok; t++, out += bytes)
			memcpy(out, rows + t * stride + u * bytes, bytes);
}

void tile_make(enum act_kind kind, const void *rows, size_t stride, size_t n_tok, size_t n,
	       void *tile)
{
	const char *in = rows;
	char *out = tile;

	interleave(in, stride, n_tok, kind == ACT_F32 ? n : n / 4, 4, out);
	if (kind == ACT_Q8_32) {
		interleave(in + act_d_off(n), stride, n_tok, n / 32, 4, out + act_d_off(n * n_tok));
		interleave(in + act_s_off(n), stride, n_tok, n / 32, 4, out + act_s_off(n * n_tok));
	} else if (kind == ACT_Q8_256) {
		interleave(in + act_d_off(n), stride, n_tok, n / 256, 4,
			   out + act_d_off(n * n_tok));
		interleave(in + act_bsums_off(n), stride, n_tok, n / 16, 2,
			   out + act_bsums_off(n * n_tok));
	}
}
