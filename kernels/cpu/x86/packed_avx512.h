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

packed_kernel avx512_packed_f32, avx512_packed_f16, avx512_packed_bf16;
packed_kernel avx512_packed_q4_0, avx512_packed_q4_1, avx512_packed_q5_0, avx512_packed_q5_1,
	avx512_packed_q8_0, avx512_packed_iq4_nl, avx512_packed_mxfp4;
packed_kernel avx512_packed_q2_k, avx512_packed_q3_k, avx512_packed_q4_k, avx512_packed_q5_k,
	avx512_packed_q6_k, avx512_packed_iq4_xs;

/* Before a loop over tokens or code vectors: at most 16 turns, and no array becomes memory. */
#ifdef __clang__
#define UNROLL16 _Pragma("clang loop unroll(full)")
#else
#define UNROLL16 _Pragma("GCC unroll 16")
#endif

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
 * A unit of 4 bytes of all rows, for more than one use: gcc would make each use a load of its own,
 * and every other column's units lie across two cache lines, so that a load is two already.
 */
FLATTEN __m512i load_once(const void *p)
{
	__m512i v = load512(p);

	__asm__("" : "+v"(v));
	return v;
}

/*
 * For weights that come from DRAM: what is NEAR ahead into L1, what is FAR ahead into L2, whose
 * buffers are more. Either alone, at whatever distance, was 5 to 10% slower; FAR at a page (4096)
 * 2 to 5% slower for most types, NEAR between 1024 and 2048 alike.
 */
#define PREFETCH_NEAR 1536
#define PREFETCH_FAR  3584

FLATTEN void prefetch_column(const uint8_t *w, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64) {
		_mm_prefetch((const char *)w + PREFETCH_NEAR + i, _MM_HINT_T0);
		_mm_prefetch((const char *)w + PREFETCH_FAR + i, _MM_HINT_T1);
	}
}

/* What lies ahead of the first column, so that it is under way while a call gets ready. */
FLATTEN void prefetch_first(const uint8_t *w)
{
	for (size_t i = 0; i < PREFETCH_NEAR; i += 64)
		_mm_prefetch((const char *)w + i, _MM_HINT_T0);
	for (size_t i = PREFETCH_NEAR; i < PREFETCH_FAR; i += 64)
		_mm_prefetch((const char *)w + i, _MM_HINT_T1);
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
