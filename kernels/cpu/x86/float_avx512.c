// SPDX-License-Identifier: MIT
/*
 * F32, F16 and BF16 weights, float vectors, and half conversions, with AVX-512. The types'
 * dequantize is AVX2's.
 *
 * What does not fill a register at an end is loaded under a mask, as zeros elsewhere: such lanes
 * add nothing. Budget: vector instructions for 16 weights, two of which start in a cycle. F32: FMA,
 * for 64 bytes; what L2 gives, measured 22 bytes a cycle. F16: convert (2), FMA; BF16: widen,
 * shift, FMA: 32 bytes in 1.5 cycles, 21 a cycle, measured 18 and 16. DRAM gives a core about 4.6:
 * what counts is how rows are read, see ROWS.
 */
#include "kernels/cpu/x86/avx512.h"

/*
 * Rows at a time, one of each third of a call's rows, but see one_stream(): as many streams, each
 * of which the hardware prefetches in its page; see blocks32_avx512.c.
 */
#define ROWS	    3
#define TO_L1_AHEAD 1024
#define TO_L2_AHEAD 2048

/* 16 elements of each type, from any address, and those that `m` has a bit for. */
FLATTEN __m512 all_f32(const void *w)
{
	return _mm512_loadu_ps(w);
}

FLATTEN __m512 some_f32(const void *w, __mmask16 m)
{
	return _mm512_maskz_loadu_ps(m, w);
}

FLATTEN __m512 all_f16(const void *w)
{
	return _mm512_cvtph_ps(load256(w));
}

FLATTEN __m512 some_f16(const void *w, __mmask16 m)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, w));
}

FLATTEN __m512 widen_bf16(__m256i w)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(w), 16));
}

FLATTEN __m512 all_bf16(const void *w)
{
	return widen_bf16(load256(w));
}

FLATTEN __m512 some_bf16(const void *w, __mmask16 m)
{
	return widen_bf16(_mm256_maskz_loadu_epi16(m, w));
}

typedef __m512 (*all_fn)(const void *w);
typedef __m512 (*some_fn)(const void *w, __mmask16 m);

/* The lowest n bits, n < 64. */
FLATTEN uint64_t low_bits(size_t n)
{
	return ((uint64_t)1 << n) - 1;
}

/* What comes soon of as many rows: 64 elements that are `bytes`. */
FLATTEN void prefetch_rows(const uint8_t *w, size_t stride, size_t rows, size_t bytes)
{
	if (rows == 1)
		prefetch_one(w, bytes, ONE_AHEAD);
	UNROLL
	for (size_t r = 0; rows > 1 && r < rows; r++)
		prefetch(w + r * stride, bytes, TO_L1_AHEAD, TO_L2_AHEAD);
}

/*
 * Rows that are `stride` bytes apart, and their outputs out_stride floats. Four accumulators: an
 * FMA has a latency of four cycles, and two start in each. weights: they come from DRAM.
 */
FLATTEN void dot(const uint8_t *w, size_t stride, size_t rows, const float *x, size_t n, float *out,
		 size_t out_stride, size_t size, all_fn all, some_fn some, bool weights)
{
	__m512 acc[ROWS][4];
	size_t i = 0;

	UNROLL
	for (size_t r = 0; r < rows; r++)
		for (size_t k = 0; k < 4; k++)
			acc[r][k] = _mm512_setzero_ps();
	for (; i + 64 <= n; i += 64) {
		if (weights)
			prefetch_rows(w + i * size, stride, rows, 64 * size);
		UNROLL
		for (size_t k = 0; k < 4; k++) {
			__m512 v = _mm512_loadu_ps(x + i + 16 * k);

			UNROLL
			for (size_t r = 0; r < rows; r++)
				acc[r][k] = _mm512_fmadd_ps(
					all(w + r * stride + (i + 16 * k) * size), v, acc[r][k]);
		}
	}
	for (size_t k = 0; i + 16 * k < n; k++) {
		__mmask16 m = (__mmask16)(low_bits(n - i) >> 16 * k);
		__m512 v = _mm512_maskz_loadu_ps(m, x + i + 16 * k);

		UNROLL
		for (size_t r = 0; r < rows; r++)
			acc[r][0] = _mm512_fmadd_ps(some(w + r * stride + (i + 16 * k) * size, m),
						    v, acc[r][0]);
	}
	UNROLL
	for (size_t r = 0; r < rows; r++)
		out[r * out_stride] = _mm512_reduce_add_ps(_mm512_add_ps(
			_mm512_add_ps(acc[r][0], acc[r][1]), _mm512_add_ps(acc[r][2], acc[r][3])));
}

#define TYPE_FLOAT(type, size)                                                                     \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		const uint8_t *row = w;                                                            \
		size_t third = one_stream() ? 0 : n_rows / ROWS, r = 0;                            \
                                                                                                   \
		for (; r < third; r++, row += stride)                                              \
			dot(row, third *stride, ROWS, act, n, out + r, third, size, all_##type,    \
			    some_##type, true);                                                    \
		row += (ROWS - 1) * third * stride;                                                \
		for (r = ROWS * third; r < n_rows; r++, row += stride)                             \
			dot(row, 0, 1, act, n, out + r, 1, size, all_##type, some_##type, true);   \
	}                                                                                          \
                                                                                                   \
	TYPE_OPS(type, ACT_F32)

TYPE_FLOAT(f32, 4);
TYPE_FLOAT(f16, 2);
TYPE_FLOAT(bf16, 2);

float avx512_dot_f32(const float *a, const float *b, size_t n)
{
	float out;

	dot((const uint8_t *)a, 0, 1, b, n, &out, 1, 4, all_f32, some_f32, false);
	return out;
}

FLATTEN __m256i to_f16(__m512 v)
{
	return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}

void avx512_f32_to_f16(const float *x, uint16_t *y, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		_mm256_storeu_si256((__m256i *)(void *)(y + i), to_f16(all_f32(x + i)));
	if (i < n) {
		__mmask16 m = (__mmask16)low_bits(n - i);

		_mm256_mask_storeu_epi16(y + i, m, to_f16(some_f32(x + i, m)));
	}
}

void avx512_f16_to_f32(const uint16_t *x, float *y, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		_mm512_storeu_ps(y + i, all_f16(x + i));
	if (i < n) {
		__mmask16 m = (__mmask16)low_bits(n - i);

		_mm512_mask_storeu_ps(y + i, m, some_f16(x + i, m));
	}
}
