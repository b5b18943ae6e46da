/* SPDX-License-Identifier: MIT */
/*
 * What the files of the NEON instruction set share: vectors of 16 weights, their sums, their
 * way to floats. Private to kernels/cpu/arm.
 *
 * "NEON" here is ARMv8.2-A with SDOT and half-precision conversions; "i8mm" has the int8 matrix
 * multiply, too, and shares all but some kernels (neon_packed.h). The kernels are shaped for the
 * Cortex-A78AE: four instructions a cycle, of which two may be vector instructions. So a kernel's
 * *budget*, noted beside it, is its inner loop's count of instructions (a quarter of it is a bound
 * in cycles) and of vector instructions (half of it is another), as gcc 12 -O2 makes them; more
 * bytes a cycle than a core's share of DRAM brings are more than enough. The habits that follow:
 *
 * - Rows are read one after the other, in order of address: one stream for the prefetcher.
 * - Sums of four blocks or sub-blocks are reduced together (struct sums4): three pairwise
 *   additions make one vector of four sums, which the four scales then multiply at once.
 * - Scales are put together in general registers, which are idle otherwise.
 * - *Codes* are what SDOT multiplies: the weight's integers, up to a constant *bias* where
 *   that saves instructions. A bias is settled once a block with the activation's sums.
 *
 * Words: a *group* is 16 weights, one vector of codes.
 */
#ifndef WEIR_KERNELS_CPU_ARM_NEON_H
#define WEIR_KERNELS_CPU_ARM_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/isa.h"

/* For functions that take functions: each use becomes straight code. */
#define FLATTEN static inline __attribute__((always_inline))

/* Before a loop over tokens, quads or code vectors: no array becomes memory. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

/*
 * Vectors a and b are now whatever they are, says this to the compiler, and costs nothing. It
 * keeps an inversion from being folded into every use of its result, and what reads a vector
 * before what overwrites it (or the compiler makes a copy for the later reader).
 */
#define FENCE(a, b) __asm__("" : "+w"(a), "+w"(b))

/* neon_float_dotprod.c */
extern const struct type_ops neon_f32, neon_f16, neon_bf16;
float neon_dot_f32(const float *a, const float *b, size_t n);
void neon_f32_to_f16(const float *x, uint16_t *y, size_t n);
void neon_f16_to_f32(const uint16_t *x, float *y, size_t n);

/* neon_block32_dotprod.c */
extern const struct type_ops neon_q4_0, neon_q4_1, neon_q5_0, neon_q5_1, neon_q8_0, neon_iq4_nl,
	neon_mxfp4;

/* neon_block256_dotprod.c */
extern const struct type_ops neon_q2_k, neon_q3_k, neon_q4_k, neon_q5_k, neon_q6_k, neon_iq4_xs;

static inline uint64_t load_u64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline float load_half(const void *p)
{
	__fp16 h;

	memcpy(&h, p, sizeof(h));
	return h;
}

/* Four halves, the first in the lowest bits. */
static inline float32x4_t halves_to_f32(uint64_t halves)
{
	return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(halves)));
}

/*
 * Four running sums of products. SDOT can only add to its target, and clearing a target first
 * costs as much as the SDOT; so nothing is ever cleared: take() returns what has been added
 * since the last take(). The sums wrap around, the differences are exact.
 */
struct sums4 {
	int32x4_t partial[4];
	uint32x4_t taken;
};

FLATTEN void sums4_init(struct sums4 *s)
{
	for (int i = 0; i < 4; i++)
		s->partial[i] = vdupq_n_s32(0);
	s->taken = vdupq_n_u32(0);
}

/* Adds the products of 16 codes and 16 activations to sum i. */
FLATTEN void sums4_add(struct sums4 *s, int i, int8x16_t codes, const int8_t *q)
{
	s->partial[i] = vdotq_s32(s->partial[i], codes, vld1q_s8(q));
}

/* Lane i: what was added to sum i. */
FLATTEN int32x4_t sums4_take(struct sums4 *s)
{
	int32x4_t sums01 = vpaddq_s32(s->partial[0], s->partial[1]);
	int32x4_t sums23 = vpaddq_s32(s->partial[2], s->partial[3]);
	uint32x4_t now = vreinterpretq_u32_s32(vpaddq_s32(sums01, sums23));
	uint32x4_t added = vsubq_u32(now, s->taken);

	s->taken = now;
	return vreinterpretq_s32_u32(added);
}

/* y[i] = d * q[i], or d * q[i] + m: two roundings, as in the reference. */
FLATTEN void store_group(float *y, int8x16_t q, float d, bool has_m, float m)
{
	int16x8_t half[2] = {vmovl_s8(vget_low_s8(q)), vmovl_high_s8(q)};

	for (int i = 0; i < 2; i++) {
		float32x4_t a = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(half[i]))), d);
		float32x4_t b = vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(half[i])), d);

		/* Not + 0 where there is no offset: that would lose the sign of -0. */
		vst1q_f32(y + i * 8, has_m ? vaddq_f32(a, vdupq_n_f32(m)) : a);
		vst1q_f32(y + i * 8 + 4, has_m ? vaddq_f32(b, vdupq_n_f32(m)) : b);
	}
}

#endif
