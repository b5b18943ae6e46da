// SPDX-License-Identifier: MIT
/*
 * NEON: what the machine must have, the tables of types, and the activation's quantization.
 */
#ifdef __aarch64__

#include <asm/hwcap.h>
#include <float.h>
#include <sys/auxv.h>

#include "kernels/cpu/arm/neon_packed.h"

/* SDOT, and half precision in vector and scalar instructions. */
static int supported(void)
{
	const unsigned long need = HWCAP_ASIMDDP | HWCAP_ASIMDHP | HWCAP_FPHP;

	return (getauxval(AT_HWCAP) & need) == need;
}

/* That, and SMMLA: Neoverse V1 and later, not Cortex-A78AE. */
static int supported_i8mm(void)
{
	return supported() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
}

/* The largest magnitude of x[n] as bits: so ordered, infinity and NaN are above all numbers. */
FLATTEN uint32_t top_magnitude(const float *x, size_t n)
{
	uint32x4_t top = vdupq_n_u32(0), mask = vdupq_n_u32(0x7fffffff);

	for (size_t i = 0; i < n; i += 4)
		top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), mask));
	return vmaxvq_u32(top);
}

/* Four x to integers of at most 127, half to even. */
FLATTEN int32x4_t round4(const float *x, float scale)
{
	return vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), scale));
}

/* As the reference does: NaN for a group that is not finite, zero for one that is too small. */
FLATTEN float quantize_group(const float *x, int8_t *q, size_t n)
{
	uint32_t top = top_magnitude(x, n);
	float amax = f32_from_bits(top), scale = 127.0f / amax;

	if (top >= 0x7f800000 || scale > FLT_MAX) {
		memset(q, 0, n);
		return top >= 0x7f800000 ? f32_from_bits(0x7fc00000) : 0;
	}
	for (size_t i = 0; i < n; i += 16) {
		int16x8_t low = vcombine_s16(vmovn_s32(round4(x + i, scale)),
					     vmovn_s32(round4(x + i + 4, scale)));
		int16x8_t high = vcombine_s16(vmovn_s32(round4(x + i + 8, scale)),
					      vmovn_s32(round4(x + i + 12, scale)));

		vst1q_s8(q + i, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
	}
	return amax / 127.0f;
}

FLATTEN int16_t sum16(const int8_t *q)
{
	return vaddlvq_s8(vld1q_s8(q));
}

static void quantize_q8_32(const float *x, void *act, size_t n)
{
	int8_t *q = act;
	float *d = (void *)((char *)act + act_d_off(n));
	float *s = (void *)((char *)act + act_s_off(n));

	for (size_t b = 0; b < n / 32; b++) {
		const int8_t *group = q + b * 32;

		d[b] = quantize_group(x + b * 32, q + b * 32, 32);
		s[b] = d[b] * (float)(sum16(group) + sum16(group + 16));
	}
}

static void quantize_q8_256(const float *x, void *act, size_t n)
{
	int8_t *q = act;
	float *d = (void *)((char *)act + act_d_off(n));
	int16_t *bsums = (void *)((char *)act + act_bsums_off(n));

	for (size_t b = 0; b < n / 256; b++)
		d[b] = quantize_group(x + b * 256, q + b * 256, 256);
	for (size_t g = 0; g < n / 16; g++)
		bsums[g] = sum16(q + g * 16);
}

/* What neon and neon-i8mm share: all but the packed kernels. */
#define NEON_COMMON                                                                                \
	.types =                                                                                   \
		{                                                                                  \
			[WT_F32] = &neon_f32,	    [WT_F16] = &neon_f16,                          \
			[WT_BF16] = &neon_bf16,	    [WT_Q4_0] = &neon_q4_0,                        \
			[WT_Q4_1] = &neon_q4_1,	    [WT_Q5_0] = &neon_q5_0,                        \
			[WT_Q5_1] = &neon_q5_1,	    [WT_Q8_0] = &neon_q8_0,                        \
			[WT_Q2_K] = &neon_q2_k,	    [WT_Q3_K] = &neon_q3_k,                        \
			[WT_Q4_K] = &neon_q4_k,	    [WT_Q5_K] = &neon_q5_k,                        \
			[WT_Q6_K] = &neon_q6_k,	    [WT_IQ4_NL] = &neon_iq4_nl,                    \
			[WT_IQ4_XS] = &neon_iq4_xs, [WT_MXFP4] = &neon_mxfp4,                      \
	},                                                                                         \
	.packs = true,                                                                             \
	.quantize_act =                                                                            \
		{                                                                                  \
			[ACT_Q8_32] = quantize_q8_32,                                              \
			[ACT_Q8_256] = quantize_q8_256,                                            \
	},                                                                                         \
	.dot_f32 = neon_dot_f32, ELEMENTWISE(neon), .f32_to_f16 = neon_f32_to_f16,                 \
	.f16_to_f32 = neon_f16_to_f32

const struct cpu_isa cpu_isa_neon = {
	.name = "neon",
	.supported = supported,
	.packed =
		{
			[WT_F32] = neon_packed_f32,
			[WT_F16] = neon_packed_f16,
			[WT_BF16] = neon_packed_bf16,
			[WT_Q4_0] = neon_packed_q4_0,
			[WT_Q4_1] = neon_packed_q4_1,
			[WT_Q5_0] = neon_packed_q5_0,
			[WT_Q5_1] = neon_packed_q5_1,
			[WT_Q8_0] = neon_packed_q8_0,
			[WT_Q2_K] = neon_packed_q2_k,
			[WT_Q3_K] = neon_packed_q3_k,
			[WT_Q4_K] = neon_packed_q4_k,
			[WT_Q5_K] = neon_packed_q5_k,
			[WT_Q6_K] = neon_packed_q6_k,
			[WT_IQ4_NL] = neon_packed_iq4_nl,
			[WT_IQ4_XS] = neon_packed_iq4_xs,
			[WT_MXFP4] = neon_packed_mxfp4,
		},
	NEON_COMMON,
};

/* Float types, plain rows, and few tokens are neon's. */
const struct cpu_isa cpu_isa_neon_i8mm = {
	.name = "neon-i8mm",
	.supported = supported_i8mm,
	.packed =
		{
			[WT_F32] = neon_packed_f32,
			[WT_F16] = neon_packed_f16,
			[WT_BF16] = neon_packed_bf16,
			[WT_Q4_0] = neon_i8mm_packed_q4_0,
			[WT_Q4_1] = neon_i8mm_packed_q4_1,
			[WT_Q5_0] = neon_i8mm_packed_q5_0,
			[WT_Q5_1] = neon_i8mm_packed_q5_1,
			[WT_Q8_0] = neon_i8mm_packed_q8_0,
			[WT_Q2_K] = neon_i8mm_packed_q2_k,
			[WT_Q3_K] = neon_i8mm_packed_q3_k,
			[WT_Q4_K] = neon_i8mm_packed_q4_k,
			[WT_Q5_K] = neon_i8mm_packed_q5_k,
			[WT_Q6_K] = neon_i8mm_packed_q6_k,
			[WT_IQ4_NL] = neon_i8mm_packed_iq4_nl,
			[WT_IQ4_XS] = neon_i8mm_packed_iq4_xs,
			[WT_MXFP4] = neon_i8mm_packed_mxfp4,
		},
	NEON_COMMON,
};

#endif
