/* SPDX-License-Identifier: MIT */
/*
 * Pieces that the AVX2 kernels for packed rows (packed.h) share, and those of AVX-512 in part.
 * Private to kernels/cpu/x86.
 *
 * Lane = row: a ymm register holds one number, or four codes, of each of the 8 rows of a group's
 * *half*. Without VNNI four products of bytes are summed up in two steps, of which the first,
 * vpmaddubsw, makes 16-bit sums of two: unsigned codes times signed activations. Those of several
 * code vectors are added up in 16 bits, in a *chain*, before vpmaddwd makes 32-bit sums of a
 * chain's pairs, and multiplies by an integer scale where there is one. All of that is exact:
 *
 *	a code c makes pairs of up to 2 * 127 c: not saturated for c <= 128
 *	a chain has four code vectors: 8 * 127 c, which fits in 16 bits for c <= 32
 *	codes up to 63 with an offset of 32: a chain may wrap, but with -32 * (sum of activations)
 *	added to it what it ends with is a sum of 8 products of -32 .. 31, and right
 *	codes of 8 bits are cut into two of 4, each with a chain of its own
 *
 * Products and scales have ports 0 and 1, additions and logic these and port 5: three a cycle. The
 * broadcast of four activations is a load alone. A kernel's budget is instructions for the three.
 *
 * With more than two tokens the sums of each are in memory, and code vectors in registers, while
 * tokens pass by.
 */
#ifndef WEIR_KERNELS_CPU_X86_PACKED_AVX2_H
#define WEIR_KERNELS_CPU_X86_PACKED_AVX2_H

#include <stdbool.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/x86/avx2.h"

packed_kernel avx2_packed_f32, avx2_packed_f16, avx2_packed_bf16;
packed_kernel avx2_packed_q4_0, avx2_packed_q4_1, avx2_packed_q5_0, avx2_packed_q5_1,
	avx2_packed_q8_0, avx2_packed_iq4_nl, avx2_packed_mxfp4;
packed_kernel avx2_packed_q2_k, avx2_packed_q3_k, avx2_packed_q4_k, avx2_packed_q5_k,
	avx2_packed_q6_k, avx2_packed_iq4_xs;

/* Before a loop over tokens or code vectors: at most 16 turns, and no array becomes memory. */
#ifdef __clang__
#define UNROLL16 _Pragma("clang loop unroll(full)")
#define ROLLED	 _Pragma("clang loop unroll(disable)")
#else
#define UNROLL16 _Pragma("GCC unroll 16")
#define ROLLED	 _Pragma("GCC unroll 1")
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
 * For weights that come from DRAM: what is NEAR ahead into L1, what is FAR ahead into L2, whose
 * buffers are more. Either alone, at whatever distance, was 5 to 10% slower; 1536 and 3584 up to
 * 3%, 1536 and 8192 7%.
 */
#define PREFETCH_NEAR 3072
#define PREFETCH_FAR  5120

FLATTEN void prefetch_column(const uint8_t *w, size_t bytes)
{
	UNROLL16
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

#define HALF_ROWS (PACK_ROWS / 2)

/* Four activations of a token, or a prepared number, for all rows. */
FLATTEN __m256i all_32(const void *p)
{
	return _mm256_set1_epi32((int)load_u32(p));
}

/* A token's float for all rows. */
FLATTEN __m256 all_floats(const float *p)
{
	return _mm256_set1_ps(*p);
}

/* A unit of 2 bytes, a half, of 8 rows. */
FLATTEN __m256 eight_halves(const uint8_t *p)
{
	return _mm256_cvtph_ps(load128(p));
}

/* Four code vectors times 16 codes of a token: 16-bit sums, to be added in pairs. */
FLATTEN __m256i chain(const __m256i q[4], const int8_t *act, size_t T)
{
	__m256i s = _mm256_maddubs_epi16(q[0], all_32(act));

	UNROLL16
	for (size_t k = 1; k < 4; k++)
		s = _mm256_add_epi16(s, _mm256_maddubs_epi16(q[k], all_32(act + 4 * T * k)));
	return s;
}

/*
 * -off * (sum of a token's codes in `units` units of a tile), T numbers; up to 3 more are written.
 * pairs: two 16-bit numbers, as in a chain.
 */
FLATTEN void sum_codes(const int8_t *q, size_t units, size_t T, int off, bool pairs, int32_t *out)
{
	const __m256i one = _mm256_set1_epi8(1), by = _mm256_set1_epi16((short)-off);
	const __m128i one128 = _mm256_castsi256_si128(one), by128 = _mm256_castsi256_si128(by);

	if (T < 8) {
		__m128i s = _mm_setzero_si128();

		UNROLL16
		for (size_t i = 0; i < units * T / 4; i++)
			s = _mm_add_epi16(s, _mm_maddubs_epi16(one128, load128(q + 16 * i)));
		if (T < 4)
			s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4e));
		if (T < 2)
			s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0xb1));
		s = pairs ? _mm_mullo_epi16(s, by128) : _mm_madd_epi16(s, by128);
		_mm_storeu_si128((__m128i *)out, s);
		return;
	}
	UNROLL16
	for (size_t t = 0; t < T; t += 8) {
		__m256i s = _mm256_setzero_si256();

		UNROLL16
		for (size_t i = 0; i < units; i++)
			s = _mm256_add_epi16(
				s, _mm256_maddubs_epi16(one, load256(q + 4 * (i * T + t))));
		s = pairs ? _mm256_mullo_epi16(s, by) : _mm256_madd_epi16(s, by);
		_mm256_storeu_si256((__m256i *)(out + t), s);
	}
}

#endif
