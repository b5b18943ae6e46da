/* SPDX-License-Identifier: MIT */
/*
 * CPU arithmetic on block-quantized weights: dequantize, and dot products of weight rows
 * with an activation.
 *
 * Words: a *row* is the n_in weights that one output needs, stored as blocks (types.h).
 * An *activation row* is the n_in inputs of one token in one of three formats:
 *
 *	ACT_F32     float x[n]
 *	ACT_Q8_32   int8 q[n], then float d[n/32], then float s[n/32]
 *	ACT_Q8_256  int8 q[n], then float d[n/256], then int16 bsums[n/16]
 *
 * Each of the parts starts at a multiple of 64 bytes from the row's start; the row starts
 * 64-byte aligned. x is about q*d; in ACT_Q8_32 s = d * sum(q) of the 32 (what a weight
 * with an offset or a minimum multiplies); in ACT_Q8_256 bsums[i] = sum of q[16i .. 16i+15].
 * Quantization: amax = max |x| of the group, d = amax/127, q = round-half-even(x * (127/amax));
 * a group of zeros has d = 0, q = 0.
 *
 * Every weight type is multiplied with one activation format (type_ops.act): float types
 * with ACT_F32, 32-element blocks with ACT_Q8_32, 256-element blocks with ACT_Q8_256.
 *
 * Instruction sets: `scalar` is the reference, written to be read; the others must agree
 * with it to float rounding (dequantize: bit for bit). cpu_isa_best() picks by what CPU and
 * operating system allow. A weight row may start at any byte address (17-byte blocks do);
 * its bytes end where the row ends: no kernel reads beyond them. No function here allocates,
 * waits or keeps state. NaN or infinite scales give NaN or infinite results, never a crash.
 */
#ifndef WEIR_KERNELS_CPU_H
#define WEIR_KERNELS_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/types.h"

enum act_kind {
	ACT_F32,
	ACT_Q8_32,
	ACT_Q8_256,
	ACT_KINDS,
};

static inline size_t act_align(size_t x)
{
	return (x + 63) & ~(size_t)63;
}

/* Offsets, in bytes from the row's start, of an activation row's parts. */
static inline size_t act_d_off(size_t n)
{
	return act_align(n);
}

static inline size_t act_s_off(size_t n) /* ACT_Q8_32: s */
{
	return act_d_off(n) + act_align(n / 32 * sizeof(float));
}

static inline size_t act_bsums_off(size_t n) /* ACT_Q8_256: bsums */
{
	return act_d_off(n) + act_align(n / 256 * sizeof(float));
}

/* Bytes of one activation row of n elements: a multiple of 64. */
static inline size_t act_row_bytes(enum act_kind kind, size_t n)
{
	switch (kind) {
	case ACT_Q8_32:
		return act_s_off(n) + act_align(n / 32 * sizeof(float));
	case ACT_Q8_256:
		return act_bsums_off(n) + act_align(n / 16 * sizeof(int16_t));
	default:
		return act_align(n * sizeof(float));
	}
}

struct type_ops {
	enum act_kind act;

	/* w: n weights (a multiple of block_elems); y: [n] float */
	void (*dequantize)(const void *w, float *y, size_t n);

	/*
	 * out[r] = dot(row r of w, act) for r in [0, n_rows).
	 * w: n_rows rows, each `stride` bytes after the one before; n: n_in.
	 * The result of a row depends on that row and the activation alone, never on how rows
	 * are grouped into calls: this is what makes output independent of threads and budgets.
	 */
	void (*dot_rows)(const void *w, size_t stride, size_t n_rows, const void *act, size_t n,
			 float *out);
};

/*
 * Packed rows (packed.h) times the activations of n_tok tokens:
 * out[t * out_stride + 16 g + r] = dot(row r of group g, token t) for g in [0, n_groups).
 * w: groups, one behind the other, 64-byte aligned where the types' bytes allow it; tile: of
 * n_tok tokens (1, 2, 4, 8 or 16), made for the type's activation format; n: n_in. A result
 * depends on that row and that token alone, neither on n_tok nor on n_groups.
 */
typedef void packed_kernel(const void *w, size_t n_groups, const void *tile, size_t n_tok, size_t n,
			   float *out, size_t out_stride);

struct cpu_isa {
	const char *name; /* "scalar", "avx2", "avx512", "neon", "neon-i8mm" */
	int (*supported)(void);

	/*
	 * Where kernels can walk one token's rows in either way: as one stream, or as several side
	 * by side. Chosen by CPU; no result depends on it. NULL where there is one way.
	 */
	bool *one_stream;

	/* types[t] is NULL only for a type number that wtype_info() does not know either. */
	const struct type_ops *types[WT_COUNT];
	packed_kernel *packed[WT_COUNT]; /* NULL where types[] is */
	bool packs; /* plain rows are packed on the way for a batch of tokens: it pays */

	/* x: [n] float -> one activation row of that kind (NULL for ACT_F32: a copy) */
	void (*quantize_act[ACT_KINDS])(const float *x, void *act, size_t n);

	float (*dot_f32)(const float *a, const float *b, size_t n);

	/* elementwise.h: no fused operations, the same bits from all of them but for sums and
	 * scalar exp */
	void (*add)(float *y, const float *x, size_t n);		     /* y += x */
	void (*blend)(float *y, float a, const float *x, float b, size_t n); /* y = a y + b x */
	void (*scale)(float *y, const float *x, float a, size_t n);	     /* y = a x */
	void (*mul_norm)(float *y, const float *x, float scale, const float *w,
			 size_t n);				/* y = x scale w; y may be x */
	void (*swiglu)(float *gate, const float *up, size_t n); /* gate = gate/(1+e^-gate) up */
	/* The largest of x, n a multiple of 16; a NaN may be passed over. */
	float (*max)(const float *x, size_t n);
	/*
	 * x = e^(x - max), n a multiple of 16; returns their sum. Multiples of 16 elements that
	 * are -infinity, before or behind, do not change it.
	 */
	float (*exp_sum)(float *x, float max, size_t n);
	/*
	 * n positions' blocks of Q8_0, as in a plain file, as two groups of 16 dimensions: packed
	 * float, out[2][n][16].
	 */
	void (*spread_q8_0)(const void *blocks, float *out, size_t n);

	void (*f32_to_f16)(const float *x, uint16_t *y, size_t n); /* to nearest even */
	void (*f16_to_f32)(const uint16_t *x, float *y, size_t n);
};

/* One activation row of that kind, of x: [n] float. */
static inline void act_make(const struct cpu_isa *isa, enum act_kind kind, const float *x,
			    void *act, size_t n)
{
	if (isa->quantize_act[kind])
		isa->quantize_act[kind](x, act, n);
	else
		memcpy(act, x, n * sizeof(float));
}

/* The best supported instruction set; WEIR_ISA=NAME in the environment overrides. */
const struct cpu_isa *cpu_isa_best(void);

/* By name, supported or not (NULL where this build does not have it); for tests. */
const struct cpu_isa *cpu_isa_by_name(const char *name);

/* i-th built-in instruction set, from scalar to best; NULL beyond the last. */
const struct cpu_isa *cpu_isa_at(unsigned int i);

/* Scalar conversions that every file of this folder may use. */
float half_to_float(uint16_t h);
uint16_t float_to_half(float f);

#endif
