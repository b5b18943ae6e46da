/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a synth model's tensors (synth.h): for synth.c, and for measuring kernels.
 */
#ifndef WEIR_GGUF_SYNTH_FILL_H
#define WEIR_GGUF_SYNTH_FILL_H

#include <stdint.h>

#include "kernels/types.h"

enum fill_kind {
	FILL_WEIGHTS, /* mean 0, standard deviation 1/sqrt(n_in) */
	FILL_NORM,    /* F32 in [0.75, 1.25) */
	FILL_BIAS,    /* F32 in [-1/32, 1/32) */
};

struct fill {
	uint32_t type; /* enum wtype */
	uint32_t block_bytes;
	enum fill_kind kind;
	uint64_t key;	  /* of the tensor's random stream */
	uint16_t d[64];	  /* IEEE halves around the scale that gives the standard deviation */
	uint16_t m[64];	  /* and around the offset that gives mean 0 with d[] of that index */
	float step;	  /* float types: one unit of the random integer */
	uint8_t exponent; /* MXFP4: the lower one of the two, and how often of 256 the upper */
	uint8_t upper;
};

/* @n_in: elements of a row; @key: any number that differs from tensor to tensor */
void fill_init(struct fill *f, uint32_t type, enum fill_kind kind, uint64_t n_in, uint64_t key);

/* Bytes off .. off+n-1 of the tensor, whatever else of it is made, by whom and when */
void fill_range(const struct fill *f, void *dst, uint64_t off, uint64_t n);

#endif
