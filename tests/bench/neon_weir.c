// SPDX-License-Identifier: MIT
/*
 * weir's NEON kernels, once each, for tests/bench/neon.py to count: neon_weir [INSTRUCTION SET]
 */
#include "kernels/cpu/packed.h"
#include "tests/bench/neon_count.h"

/* Groups of a piece of rows that a prompt's tokens are multiplied with, at least. */
#define PIECE 3

static float many[16 * PIECE * ROWS] __attribute__((aligned(64)));
static const char *const names[ACT_KINDS] = {"F32", "Q8_32", "Q8_256"};

int main(int argc, char **argv)
{
	const struct cpu_isa *isa = cpu_isa_by_name(argc > 1 ? argv[1] : "neon");

	if (!isa)
		return 1;
	fill();
	for (int k = 0; k < ACT_KINDS; k++)
		if (isa->quantize_act[k])
			COUNT("quantize", names[k], N, 0, isa->quantize_act[k](x, act, N));
	for (uint32_t t = 0; t < WT_COUNT; t++) {
		const struct type_ops *ops = isa->types[t];
		const struct wtype_info *info = wtype_info(t);
		size_t stride, bytes;

		if (!ops)
			continue;
		stride = N / info->block_elems * info->block_bytes;
		bytes = stride * ROWS;
		COUNT("plain", info->name, N * ROWS, bytes,
		      ops->dot_rows(weights, stride, ROWS, act, N, out));
		COUNT("packed1", info->name, N * ROWS, bytes,
		      isa->packed[t](weights, 1, act, 1, N, out, ROWS));
		COUNT("packed16", info->name, N * ROWS * 16, bytes,
		      isa->packed[t](weights, 1, act, 16, N, out, ROWS));
		if (PIECE * bytes <= sizeof(weights))
			COUNT("piece16", info->name, PIECE * N * ROWS * 16, PIECE * bytes,
			      isa->packed[t](weights, PIECE, act, 16, N, many, PIECE * ROWS));
	}
	return 0;
}
