/* SPDX-License-Identifier: MIT */
/*
 * Weight types: what a GGUF tensor's type number means in bytes.
 *
 * Numbers are GGUF's own (ggml_type). A row of a tensor is a whole number of blocks;
 * a block holds `block_elems` weights in `block_bytes` bytes.
 */
#ifndef WEIR_KERNELS_TYPES_H
#define WEIR_KERNELS_TYPES_H

#include <stdint.h>

enum wtype {
	WT_F32 = 0,
	WT_F16 = 1,
	WT_Q4_0 = 2,
	WT_Q4_1 = 3,
	WT_Q5_0 = 6,
	WT_Q5_1 = 7,
	WT_Q8_0 = 8,
	WT_Q2_K = 10,
	WT_Q3_K = 11,
	WT_Q4_K = 12,
	WT_Q5_K = 13,
	WT_Q6_K = 14,
	WT_IQ4_NL = 20,
	WT_IQ4_XS = 23,
	WT_BF16 = 30,
	WT_MXFP4 = 39,
	WT_COUNT = 40,
};

struct wtype_info {
	const char *name; /* "Q4_K"; NULL for a number that this build does not know */
	uint32_t block_elems;
	uint32_t block_bytes;
};

/* NULL for an unknown or removed type number. */
const struct wtype_info *wtype_info(uint32_t type);

/* Case-insensitive; -1 where no type has that name. */
int wtype_by_name(const char *name);

#endif
