/* SPDX-License-Identifier: MIT */
/*
 * Pieces that the AVX2 kernels share. Private to kernels/cpu/x86.
 *
 * Words: "q" is a ymm register with 32 codes, one a byte, in the order of the elements. A block's
 * "budget" is the number of instructions that its share of the inner loop takes.
 */
#ifndef WEIR_KERNELS_CPU_X86_AVX2_H
#define WEIR_KERNELS_CPU_X86_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

#define FLATTEN static inline __attribute__((always_inline))

/* Before a loop whose array of registers must not become memory. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

extern const struct type_ops avx2_f32, avx2_f16, avx2_bf16;
extern const struct type_ops avx2_q4_0, avx2_q4_1, avx2_q5_0, avx2_q5_1, avx2_q8_0, avx2_iq4_nl,
	avx2_mxfp4;
extern const struct type_ops avx2_q2_k, avx2_q3_k, avx2_q4_k, avx2_q5_k, avx2_q6_k, avx2_iq4_xs;

void avx2_quantize_q8_32(const float *x, void *act, size_t n);
void avx2_quantize_q8_256(const float *x, void *act, size_t n);

float avx2_dot_f32(const float *a, const float *b, size_t n);
void avx2_f32_to_f16(const float *x, uint16_t *y, size_t n);
void avx2_f16_to_f32(const uint16_t *x, float *y, size_t n);

FLATTEN __m128i load128(const void *p)
{
	return _mm_loadu_si128(p);
}

FLATTEN __m256i load256(const void *p)
{
	return _mm256_loadu_si256(p);
}

/* A half in all lanes. */
FLATTEN __m256 half_all(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_set1_epi16((short)load_u16(p)));
}

/* Two adjacent halves in the even and the odd lanes. */
FLATTEN __m256 half_pairs(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_set1_epi32((int)load_u32(p)));
}

FLATTEN float sum_lanes(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	s = _mm_add_ss(s, _mm_movehdup_ps(s));
	return _mm_cvtss_f32(s);
}

/*
 * Weights come from DRAM, in order, once: the hardware's prefetcher alone lets a core read them
 * at a third of what it can. 2 KiB ahead is about a row of 4096 4-bit weights; 1 to 4 KiB
 * measured alike, 512 bytes was too late. Reading beyond the last row is harmless: a prefetch
 * never faults.
 */
#define PREFETCH_AHEAD 2048

FLATTEN void prefetch_ahead(const void *w, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)w + PREFETCH_AHEAD + i, _MM_HINT_T0);
}

/* 16 bytes of two codes each: low nibbles are elements 0-15, high ones 16-31. */
FLATTEN __m256i nibbles(const uint8_t *qs)
{
	const __m256i shift = _mm256_set_epi32(4, 4, 4, 4, 0, 0, 0, 0);
	__m256i both = _mm256_broadcastsi128_si256(load128(qs));

	return _mm256_and_si256(_mm256_srlv_epi32(both, shift), _mm256_set1_epi8(15));
}

/* Codes 0-15 to the signed numbers that they stand for. */
FLATTEN __m256i look_up(const int8_t codebook[16], __m256i q)
{
	return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(codebook)), q);
}

/* 16-bit sums of two products each, for unsigned q of at most 128: more could saturate. */
FLATTEN __m256i mul_unsigned(__m256i q, __m256i a)
{
	return _mm256_maddubs_epi16(q, a);
}

/* The same for signed q: its sign moves to a, which is never -128. |q| = 128 is right, too. */
FLATTEN __m256i mul_signed(__m256i q, __m256i a)
{
	return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
}

/* Eight signed bytes, from byte 8 * i of q, as floats. */
FLATTEN __m256 bytes_to_floats(__m256i q, int i)
{
	__m128i half = i < 2 ? _mm256_castsi256_si128(q) : _mm256_extracti128_si256(q, 1);

	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(i % 2 ? _mm_srli_si128(half, 8) : half));
}

#endif
