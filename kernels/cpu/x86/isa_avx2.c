// SPDX-License-Identifier: MIT
/* The AVX2 instruction set's table: AVX2, FMA and F16C, as in every x86-64-v3 CPU. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/x86/avx2.h"
#include "kernels/cpu/x86/packed_avx2.h"

const struct cpu_isa cpu_isa_avx2 = {
	.name = "avx2",
	.supported = x86_has_avx2,
	.types =
		{
			[WT_F32] = &avx2_f32,
			[WT_F16] = &avx2_f16,
			[WT_BF16] = &avx2_bf16,
			[WT_Q4_0] = &avx2_q4_0,
			[WT_Q4_1] = &avx2_q4_1,
			[WT_Q5_0] = &avx2_q5_0,
			[WT_Q5_1] = &avx2_q5_1,
			[WT_Q8_0] = &avx2_q8_0,
			[WT_Q2_K] = &avx2_q2_k,
			[WT_Q3_K] = &avx2_q3_k,
			[WT_Q4_K] = &avx2_q4_k,
			[WT_Q5_K] = &avx2_q5_k,
			[WT_Q6_K] = &avx2_q6_k,
			[WT_IQ4_NL] = &avx2_iq4_nl,
			[WT_IQ4_XS] = &avx2_iq4_xs,
			[WT_MXFP4] = &avx2_mxfp4,
		},
	.packed =
		{
			[WT_F32] = avx2_packed_f32,
			[WT_F16] = avx2_packed_f16,
			[WT_BF16] = avx2_packed_bf16,
			[WT_Q4_0] = avx2_packed_q4_0,
			[WT_Q4_1] = avx2_packed_q4_1,
			[WT_Q5_0] = avx2_packed_q5_0,
			[WT_Q5_1] = avx2_packed_q5_1,
			[WT_Q8_0] = avx2_packed_q8_0,
			[WT_Q2_K] = avx2_packed_q2_k,
			[WT_Q3_K] = avx2_packed_q3_k,
			[WT_Q4_K] = avx2_packed_q4_k,
			[WT_Q5_K] = avx2_packed_q5_k,
			[WT_Q6_K] = avx2_packed_q6_k,
			[WT_IQ4_NL] = avx2_packed_iq4_nl,
			[WT_IQ4_XS] = avx2_packed_iq4_xs,
			[WT_MXFP4] = avx2_packed_mxfp4,
		},
	.quantize_act =
		{
			[ACT_Q8_32] = avx2_quantize_q8_32,
			[ACT_Q8_256] = avx2_quantize_q8_256,
		},
	.packs = true,
	.dot_f32 = avx2_dot_f32,
	ELEMENTWISE(avx2),
	.f32_to_f16 = avx2_f32_to_f16,
	.f16_to_f32 = avx2_f16_to_f32,
};
