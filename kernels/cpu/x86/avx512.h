/* SPDX-License-Identifier: MIT */
/*
 * Pieces that the AVX-512 kernels share, beside those of avx2.h. Private to kernels/cpu/x86.
 */
#ifndef WEIR_KERNELS_CPU_X86_AVX512_H
#define WEIR_KERNELS_CPU_X86_AVX512_H

#include <stdbool.h>

#include "kernels/cpu/x86/avx2.h"

extern const struct type_ops avx512_f32, avx512_f16, avx512_bf16;
extern const struct type_ops avx512_q4_0, avx512_q4_1, avx512_q5_0, avx512_q5_1, avx512_q8_0,
	avx512_iq4_nl, avx512_mxfp4;
extern const struct type_ops avx512_q2_k, avx512_q3_k, avx512_q4_k, avx512_q5_k, avx512_q6_k,
	avx512_iq4_xs;

extern bool avx512_one_stream; /* true on AMD's: Zen 5 has been measured */

float avx512_dot_f32(const float *a, const float *b, size_t n);
void avx512_f32_to_f16(const float *x, uint16_t *y, size_t n);
void avx512_f16_to_f32(const uint16_t *x, float *y, size_t n);

/* avx512_<type>, with dot_rows_<type> of its file; memory bounds dequantizing: that is AVX2's. */
#define TYPE_OPS(type, act)                                                                        \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		avx2_##type.dequantize(w, y, n);                                                   \
	}                                                                                          \
                                                                                                   \
	const struct type_ops avx512_##type = {act, dequantize_##type, dot_rows_##type}

FLATTEN __m512i load512(const void *p)
{
	return _mm512_loadu_si512(p);
}

/*
 * Does a core of this CPU read DRAM best in one stream, with one request for each line? Sapphire
 * Rapids does not: there each kernel reads the rows or groups of a call as several streams, which
 * the hardware's prefetchers follow in their pages, with requests into L1 and, farther ahead, into
 * L2. On Zen 5 either costs. GB/s, packed, of two cores whose plain reads got 78:
 *
 *		several streams	one, two requests	one, one request
 *	Q4_0	61		68			73
 *	Q8_0	63		68			76
 *	Q2_K	55		70			73
 *	Q3_K	51		68			70
 *	Q4_K	62		66			72
 *	Q5_K	55		67			67
 *	Q6_K	58		68			72
 *	IQ4_XS	62		67			71
 *	MXFP4	60		67			76
 *
 * Plain rows alike: Q4_0 62, 68, 72. Where both cores together get 45 all are at 98 to 102% of that
 * with one request, at 92 to 98% with several streams. Two groups side by side with one request
 * each get 64 (Q4_0) and 69 (Q8_0), and groups in turns, 9 KB of each, 61 and 67: what follows in
 * memory must be what is used next.
 */
FLATTEN bool one_stream(void)
{
	return avx512_one_stream;
}

/*
 * How far ahead, then. A plain read gets most from 4096, and packed 32-blocks, whose lines all take
 * the same little arithmetic, from little more. Elsewhere lines are asked for less evenly, and more
 * of them in the cache make up for that. The same machine, GB/s where plain reads got 75, into L1
 * and L2:
 *
 *		4096	6144	8192	12288
 *	Q8_0	74	73	73	72	packed
 *	Q4_0	74	74	72	71
 *	Q4_K	66	72	73	70
 *	Q5_K	66	71	75	74
 *	Q6_K	68	73	73	71
 *	IQ4_XS	67	73	76	73
 *	Q8_0	73	75	76		plain rows
 *	Q4_0	68	72	73
 *	Q4_K	69	74	76
 *	Q6_K	70	74	75
 *	MXFP4	66	70	69
 *
 * Decode of 7 billion weights, Q4_0, packed, into L1 alone (prefetch_one()), as shares of plain
 * reads: 0.91 to 0.92, 0.94, 0.93, 0.92.
 */
#define ONE_AHEAD      8192
#define ONE_AHEAD_EVEN 6144

/*
 * As many bytes into L1 that are `ahead`: it never faults. As what is used once and not again, so
 * that the activation, keys and values and all else that a token needs stays in L1 and L2: decode
 * of 7 billion weights, Q4_0, packed, gets 1.4% more of DRAM than with T0.
 */
FLATTEN void prefetch_one(const uint8_t *w, size_t bytes, size_t ahead)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)w + ahead + i, _MM_HINT_NTA);
}

/* As many bytes into L1 that are `near` ahead, and into L2 that are `far`: the same. */
FLATTEN void prefetch(const uint8_t *w, size_t bytes, size_t near, size_t far)
{
	for (size_t i = 0; i < bytes; i += 64) {
		_mm_prefetch((const char *)w + near + i, _MM_HINT_T0);
		_mm_prefetch((const char *)w + far + i, _MM_HINT_T1);
	}
}

#endif
