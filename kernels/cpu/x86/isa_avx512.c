// SPDX-License-Identifier: MIT
/* The AVX-512 instruction set's table; see x86_has_avx512() for what it needs. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/x86/avx2.h"
#include "kernels/cpu/x86/avx512.h"
#include "kernels/cpu/x86/packed_avx512.h"

bool avx512_one_stream;

__attribute__((constructor)) static void choose_streams(void)
{
	__builtin_cpu_init();
	avx512_one_stream = __builtin_cpu_is("amd");
}

const struct cpu_isa cpu_isa_avx512 = {
	.name = "avx512",
	.supported = x86_has_avx512,
	.one_stream = &avx512_one_stream,
	.types =
		{
			[WT_F32] = &avx512_f32,
			[WT_F16] = &avx512_f16,
			[WT_BF16] = &avx512_bf16,
			[WT_Q4_0] = &avx512_q4_0,
			[WT_Q4_1] = &avx512_q4_1,
			[WT_Q5_0] = &avx512_q5_0,
			[WT_Q5_1] = &avx512_q5_1,
			[WT_Q8_0] = &avx512_q8_0,
			[WT_Q2_K] = &avx512_q2_k,
			[WT_Q3_K] = &avx512_q3_k,
			[WT_Q4_K] = &avx512_q4_k,
			[WT_Q5_K] = &avx512_q5_k,
			[WT_Q6_K] = &avx512_q6_k,
			[WT_IQ4_NL] = &avx512_iq4_nl,
			[WT_IQ4_XS] = &avx512_iq4_xs,
			[WT_MXFP4] = &avx512_mxfp4,
		},
	.packed =
		{
			[WT_F32] = avx512_packed_f32,
			[WT_F16] = avx512_packed_f16,
			[WT_BF16] = avx512_packed_bf16,
			[WT_Q4_0] = avx512_packed_q4_0,
			[WT_Q4_1] = avx512_packed_q4_1,
			[WT_Q5_0] = avx512_packed_q5_0,
			[WT_Q5_1] = avx512_packed_q5_1,
			[WT_Q8_0] = avx512_packed_q8_0,
			[WT_Q2_K] = avx512_packed_q2_k,
			[WT_Q3_K] = avx512_packed_q3_k,
			[WT_Q4_K] = avx512_packed_q4_k,
			[WT_Q5_K] = avx512_packed_q5_k,
			[WT_Q6_K] = avx512_packed_q6_k,
			[WT_IQ4_NL] = avx512_packed_iq4_nl,
			[WT_IQ4_XS] = avx512_packed_iq4_xs,
			[WT_MXFP4] = avx512_packed_mxfp4,
		},
	.quantize_act =
		{
			[ACT_Q8_32] = avx2_quantize_q8_32,
			[ACT_Q8_256] = avx2_quantize_q8_256,
		},
	.packs = true,
	.dot_f32 = avx512_dot_f32,
	ELEMENTWISE(avx512),
	.f32_to_f16 = avx512_f32_to_f16,
	.f16_to_f32 = avx512_f16_to_f32,
};
