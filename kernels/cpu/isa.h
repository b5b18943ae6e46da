/* SPDX-License-Identifier: MIT */
/*
 * The instruction sets that a build may hold, and what they ask of CPU and operating system.
 * Private to kernels/cpu; select.c lists them.
 */
#ifndef WEIR_KERNELS_CPU_ISA_H
#define WEIR_KERNELS_CPU_ISA_H

#include "kernels/cpu/cpu.h"

extern const struct cpu_isa cpu_isa_scalar;

/* The reference for packed rows: for instruction sets that have nothing better for a type. */
packed_kernel scalar_packed_f32, scalar_packed_f16, scalar_packed_bf16, scalar_packed_q4_0,
	scalar_packed_q4_1, scalar_packed_q5_0, scalar_packed_q5_1, scalar_packed_q8_0,
	scalar_packed_q2_k, scalar_packed_q3_k, scalar_packed_q4_k, scalar_packed_q5_k,
	scalar_packed_q6_k, scalar_packed_iq4_nl, scalar_packed_iq4_xs, scalar_packed_mxfp4;

#define SCALAR_PACKED                                                                              \
	[WT_F32] = scalar_packed_f32, [WT_F16] = scalar_packed_f16,                                \
	[WT_BF16] = scalar_packed_bf16, [WT_Q4_0] = scalar_packed_q4_0,                            \
	[WT_Q4_1] = scalar_packed_q4_1, [WT_Q5_0] = scalar_packed_q5_0,                            \
	[WT_Q5_1] = scalar_packed_q5_1, [WT_Q8_0] = scalar_packed_q8_0,                            \
	[WT_Q2_K] = scalar_packed_q2_k, [WT_Q3_K] = scalar_packed_q3_k,                            \
	[WT_Q4_K] = scalar_packed_q4_k, [WT_Q5_K] = scalar_packed_q5_k,                            \
	[WT_Q6_K] = scalar_packed_q6_k, [WT_IQ4_NL] = scalar_packed_iq4_nl,                        \
	[WT_IQ4_XS] = scalar_packed_iq4_xs, [WT_MXFP4] = scalar_packed_mxfp4

/* elementwise.h: what a file that includes it defines, and a table's part with these. */
#define DECLARE_ELEMENTWISE(isa)                                                                   \
	void isa##_add(float *y, const float *x, size_t n);                                        \
	void isa##_blend(float *y, float a, const float *x, float b, size_t n);                    \
	void isa##_scale(float *y, const float *x, float a, size_t n);                             \
	void isa##_mul_norm(float *y, const float *x, float scale, const float *w, size_t n);      \
	void isa##_swiglu(float *gate, const float *up, size_t n);                                 \
	float isa##_max(const float *x, size_t n);                                                 \
	float isa##_exp_sum(float *x, float max, size_t n);                                        \
	void isa##_spread_q8_0(const void *blocks, float *out, size_t n)

#define ELEMENTWISE(isa)                                                                           \
	.add = isa##_add, .blend = isa##_blend, .scale = isa##_scale, .mul_norm = isa##_mul_norm,  \
	.swiglu = isa##_swiglu, .max = isa##_max, .exp_sum = isa##_exp_sum,                        \
	.spread_q8_0 = isa##_spread_q8_0

#ifdef __x86_64__
DECLARE_ELEMENTWISE(avx2);
DECLARE_ELEMENTWISE(avx512);
extern const struct cpu_isa cpu_isa_avx2, cpu_isa_avx512;

/* AVX2, FMA and F16C in the CPU, and ymm registers saved by the operating system. */
int x86_has_avx2(void);
/*
 * That, and AVX-512 F, BW, DQ, VL, VNNI and VBMI with zmm and mask registers saved: Ice Lake, Zen 4
 * and later. What came before runs AVX2, which its lower clock with zmm registers would not beat
 * by much.
 */
int x86_has_avx512(void);
#endif

#ifdef __aarch64__
DECLARE_ELEMENTWISE(neon);
extern const struct cpu_isa cpu_isa_neon, cpu_isa_neon_i8mm;
#endif

#endif
