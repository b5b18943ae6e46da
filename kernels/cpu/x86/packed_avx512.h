/* SPDX-License-Identifier: MIT */
/*
 * Pieces that the AVX-512 kernels for packed rows (packed.h) share. Private to kernels/cpu/x86.
 *
 * Lane = row: a zmm register holds one number, or four codes, of each of a group's 16 rows. An
 * activation is the same for all rows: it comes as a broadcast from the tile, which the load
 * ports do alone. Two ports (p0, p5) take the 512-bit arithmetic: a kernel's budget is what they
 * have to do, in halves of a cycle.
 *
 * n_tok is a compile-time constant inside: PACKED_KERNEL() makes one function out of a template.
 * What is done for a row and a token is the same for every n_tok, rounding by rounding.
 */
#ifndef WEIR_KERNELS_CPU_X86_PACKED_AVX512_H
#define WEIR_KERNELS_CPU_X86_PACKED_AVX512_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/x86/avx512.h"
#include "kernels/cpu/x86/packed_avx2.h"

packed_kernel avx512_packed_f32, avx512_packed_f16, avx512_packed_bf16;
packed_kernel avx512_packed_q4_0, avx512_packed_q4_1, avx512_packed_q5_0, avx512_packed_q5_1,
	avx512_packed_q8_0, avx512_packed_iq4_nl, avx512_packed_mxfp4;
packed_kernel avx512_packed_q2_k, avx512_packed_q3_k, avx512_packed_q4_k, avx512_packed_q5_k,
	avx512_packed_q6_k, avx512_packed_iq4_xs;

/*
 * A unit of 4 bytes of all rows, for more than one use: gcc would make each use a load of its own,
 * and every other column's units lie across two cache lines, so that a load is two already.
 */
FLATTEN __m512i load_once(const void *p)
{
	__m512i v = load512(p);

	__asm__("" : "+v"(v));
	return v;
}

/* A unit of 2 bytes, a half, of all rows. */
FLATTEN __m512 load_halves(const void *p)
{
	return _mm512_cvtph_ps(load256(p));
}

/* A token's float, or integer, for all rows. */
FLATTEN __m512 all_f32(const float *p)
{
	return _mm512_set1_ps(*p);
}

FLATTEN __m512i all_i32(const int32_t *p)
{
	return _mm512_set1_epi32(*p);
}

/*
 * sum + unsigned codes of all rows times four signed ones of a token, in one instruction: from
 * intrinsics gcc makes two, a broadcast into a register first, and half the tokens in flight cost
 * a third of the speed.
 */
FLATTEN __m512i dot4(__m512i sum, __m512i q, const int8_t *act)
{
	__asm__("vpdpbusd %2%{1to16%}, %1, %0"
		: "+v"(sum)
		: "v"(q), "m"(*(const int32_t *)(const void *)act));
	return sum;
}

#endif
