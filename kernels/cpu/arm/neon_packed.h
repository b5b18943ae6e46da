/* SPDX-License-Identifier: MIT */
/*
 * Pieces that the NEON kernels for packed rows (packed.h) share. Private to kernels/cpu/arm.
 *
 * Lane = row: a *quad* is four neighbouring rows of a group, a q register one number, or four
 * codes, of each of them. 16 bytes of a tile hold four codes of four tokens (of two tokens twice,
 * of one four times), which SDOT with a lane takes one by one. So no sum is ever taken across
 * lanes.
 *
 * Two pipes take vector instructions, and four instructions are decoded a cycle (neon.h). A MOVI of
 * zero counts as an instruction, but takes no pipe.
 *
 * n_tok is a compile-time constant inside: PACKED_KERNEL() makes one function out of a template.
 * What is done for a row and a token is the same for every n_tok, rounding by rounding; where sums
 * are integers, the way to them may differ.
 */
#ifndef WEIR_KERNELS_CPU_ARM_NEON_PACKED_H
#define WEIR_KERNELS_CPU_ARM_NEON_PACKED_H

#include "kernels/cpu/arm/neon.h"
#include "kernels/cpu/packed.h"

#define QUADS 4 /* of a group */

packed_kernel neon_packed_f32, neon_packed_f16, neon_packed_bf16;
packed_kernel neon_packed_q4_0, neon_packed_q4_1, neon_packed_q5_0, neon_packed_q5_1,
	neon_packed_q8_0, neon_packed_iq4_nl, neon_packed_mxfp4;
packed_kernel neon_packed_q2_k, neon_packed_q3_k, neon_packed_q4_k, neon_packed_q5_k,
	neon_packed_q6_k, neon_packed_iq4_xs;

/* Of *_i8mm.c. */
packed_kernel neon_i8mm_packed_q4_0, neon_i8mm_packed_q4_1, neon_i8mm_packed_q5_0,
	neon_i8mm_packed_q5_1, neon_i8mm_packed_q8_0, neon_i8mm_packed_iq4_nl,
	neon_i8mm_packed_mxfp4;
packed_kernel neon_i8mm_packed_q2_k, neon_i8mm_packed_q3_k, neon_i8mm_packed_q4_k,
	neon_i8mm_packed_q5_k, neon_i8mm_packed_q6_k, neon_i8mm_packed_iq4_xs;

/*
 * Defines the packed_kernel `name`, out of a FLATTEN function with its parameters that takes n_tok
 * as a constant.
 */
#define PACKED_KERNEL(name, template)                                                              \
	void name(const void *w, size_t n_groups, const void *tile, size_t n_tok, size_t n,        \
		  float *out, size_t out_stride)                                                   \
	{                                                                                          \
		switch (n_tok) {                                                                   \
		case 1:                                                                            \
			return template(w, n_groups, tile, 1, n, out, out_stride);                 \
		case 2:                                                                            \
			return template(w, n_groups, tile, 2, n, out, out_stride);                 \
		case 4:                                                                            \
			return template(w, n_groups, tile, 4, n, out, out_stride);                 \
		case 8:                                                                            \
			return template(w, n_groups, tile, 8, n, out, out_stride);                 \
		default:                                                                           \
			return template(w, n_groups, tile, 16, n, out, out_stride);                \
		}                                                                                  \
	}

/*
 * With few tokens, what codes have too much is taken off the sums, once for a sum; with many, off
 * the codes, once for all tokens.
 */
#define FEW 4

/* Made where it is used; gcc would keep a zero in a register and copy it, which takes a pipe. */
FLATTEN int32x4_t zero_sum(void)
{
	int32x4_t v;

	__asm__ volatile("movi %0.2d, #0" : "=w"(v));
	return v;
}

/*
 * Hides from gcc what it knows of a pointer: it would load ahead, keep what was loaded for the next
 * use, and for that put sums on the stack.
 */
#define FORGET(p) __asm__ volatile("" : "+r"(p))

/* SDOT with lane @lane; from intrinsics gcc 12 copies sums from register to register in between. */
#define SDOT_LANE(how, sum, codes, act, lane)                                                      \
	__asm__ how("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sum) : "w"(codes), "w"(act))

/* Unit @unit of a tile's codes, which holds four codes of one token, times a code vector. */
FLATTEN int32x4_t add_unit(int32x4_t sum, int8x16_t codes, const int8_t *q, size_t unit)
{
	int8x16_t act = vld1q_s8(q + unit / 4 * 16);

	switch (unit % 4) {
	case 0:
		SDOT_LANE(, sum, codes, act, 0);
		break;
	case 1:
		SDOT_LANE(, sum, codes, act, 1);
		break;
	case 2:
		SDOT_LANE(, sum, codes, act, 2);
		break;
	default:
		SDOT_LANE(, sum, codes, act, 3);
	}
	return sum;
}

/* The same, in the order that is written: in long code gcc runs out of registers otherwise. */
FLATTEN int32x4_t add_unit_next(int32x4_t sum, int8x16_t codes, const int8_t *q, size_t unit)
{
	int8x16_t act = vld1q_s8(q + unit / 4 * 16);

	switch (unit % 4) {
	case 0:
		SDOT_LANE(volatile, sum, codes, act, 0);
		break;
	case 1:
		SDOT_LANE(volatile, sum, codes, act, 1);
		break;
	case 2:
		SDOT_LANE(volatile, sum, codes, act, 2);
		break;
	default:
		SDOT_LANE(volatile, sum, codes, act, 3);
	}
	return sum;
}

/* T floats of T tokens, the ones from t - t % 4 on. */
FLATTEN float32x4_t token_floats(const float *p, size_t t, size_t T)
{
	if (T == 1)
		return vsetq_lane_f32(*p, vdupq_n_f32(0), 0);
	if (T == 2)
		return vcombine_f32(vld1_f32(p), vdup_n_f32(0));
	return vld1q_f32(p + t / 4 * 4);
}

/* v * p[t] */
FLATTEN float32x4_t times_token(float32x4_t v, const float *p, size_t t, size_t T)
{
	float32x4_t f = token_floats(p, t, T);

	switch (t % 4) {
	case 0:
		return vmulq_laneq_f32(v, f, 0);
	case 1:
		return vmulq_laneq_f32(v, f, 1);
	case 2:
		return vmulq_laneq_f32(v, f, 2);
	default:
		return vmulq_laneq_f32(v, f, 3);
	}
}

/* sum + v * p[t] */
FLATTEN float32x4_t add_times_token(float32x4_t sum, float32x4_t v, const float *p, size_t t,
				    size_t T)
{
	float32x4_t f = token_floats(p, t, T);

	switch (t % 4) {
	case 0:
		return vfmaq_laneq_f32(sum, v, f, 0);
	case 1:
		return vfmaq_laneq_f32(sum, v, f, 1);
	case 2:
		return vfmaq_laneq_f32(sum, v, f, 2);
	default:
		return vfmaq_laneq_f32(sum, v, f, 3);
	}
}

/* Units of 2 bytes, halves, of four rows. */
FLATTEN float32x4_t four_halves(const void *p)
{
	return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

FLATTEN int8x16_t as_codes(uint8x16_t v)
{
	return vreinterpretq_s8_u8(v);
}

/*
 * SMMLA multiplies eight codes of each of two rows with eight of each of two tokens: half as many
 * instructions as SDOT, and the same integers. It is for 8 and 16 tokens: what follows is compiled
 * a second time for it, with SMMLA true (*_i8mm.c); fewer tokens are left to SDOT.
 *
 * Operands and sums are *pairs*, in 16 bytes:
 *
 *	of codes	c[2k] has units 2k and 2k + 1 of rows 0 and 1 of a quad, c[2k + 1] of
 *			rows 2 and 3
 *	of a tile	units 2k and 2k + 1 of tokens 0 and 1, then of 2 and 3, and so on
 *	of sums		s[2i] has rows 0 and 1, each with tokens 2i and 2i + 1; s[2i + 1] has
 *			rows 2 and 3
 */
#ifdef __ARM_FEATURE_MATMUL_INT8
#define SMMLA true
FLATTEN int32x4_t add_pairs(int32x4_t sum, int8x16_t codes, int8x16_t act)
{
	return vmmlaq_s32(sum, codes, act);
}

#define I8MM_KERNEL(type)                                                                          \
	void neon_i8mm_packed_##type(const void *w, size_t n_groups, const void *tile,             \
				     size_t n_tok, size_t n, float *out, size_t out_stride)        \
	{                                                                                          \
		if (n_tok == 16)                                                                   \
			dot_##type(w, n_groups, tile, 16, n, out, out_stride);                     \
		else if (n_tok == 8)                                                               \
			dot_##type(w, n_groups, tile, 8, n, out, out_stride);                      \
		else                                                                               \
			neon_packed_##type(w, n_groups, tile, n_tok, n, out, out_stride);          \
	}
#define KERNEL(type) I8MM_KERNEL(type)
#else
#define SMMLA false
FLATTEN int32x4_t add_pairs(int32x4_t sum, int8x16_t codes, int8x16_t act)
{
	return sum; /* not compiled where SMMLA is false */
}

#define KERNEL(type) PACKED_KERNEL(neon_packed_##type, dot_##type)
#endif

/* @n code vectors, an even number, to pairs. */
FLATTEN void pair_codes(int8x16_t *c, size_t n)
{
	UNROLL
	for (size_t k = 0; k < n; k += 2) {
		int32x4_t a = vreinterpretq_s32_s8(c[k]), b = vreinterpretq_s32_s8(c[k + 1]);

		c[k] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
		c[k + 1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
	}
}

/* A stretch of a tile, @units (an even number) of T tokens, to pairs: as many bytes. */
FLATTEN void pair_tokens(const int8_t *q, size_t units, size_t T, int8_t *pairs)
{
	for (size_t u = 0; u < units; u += 2, q += 8 * T, pairs += 8 * T)
		for (size_t i = 0; i < 4 * T; i += 16) {
			int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(q + i));
			int32x4_t b = vreinterpretq_s32_s8(vld1q_s8(q + 4 * T + i));

			vst1q_s8(pairs + 2 * i, vreinterpretq_s8_s32(vzip1q_s32(a, b)));
			vst1q_s8(pairs + 2 * i + 16, vreinterpretq_s8_s32(vzip2q_s32(a, b)));
		}
}

/*
 * @n code vectors times tokens t to t + 3, all in pairs; x: where the tile's pairs for them begin.
 */
FLATTEN void mul_pairs(int32x4_t s[4], const int8x16_t *c, size_t n, const int8_t *x, size_t t,
		       size_t T)
{
	UNROLL
	for (size_t i = 0; i < 4; i++)
		s[i] = zero_sum();
	UNROLL
	for (size_t k = 0; k < 2 * n; k++)
		s[k % 4] = add_pairs(s[k % 4], c[k / 4 * 2 + k % 2],
				     vld1q_s8(x + k / 4 * 8 * T + 8 * t + k / 2 % 2 * 16));
}

/* Sums in pairs to sums of a quad's rows, a vector a token. */
FLATTEN void unpair_sums(int32x4_t *s, size_t T)
{
	UNROLL
	for (size_t t = 0; t < T; t += 2) {
		int32x4_t a = s[t], b = s[t + 1];

		s[t] = vuzp1q_s32(a, b);
		s[t + 1] = vuzp2q_s32(a, b);
	}
}

#endif
