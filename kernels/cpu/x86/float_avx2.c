// SPDX-License-Identifier: MIT
/*
 * F32, F16 and BF16 weights, float vectors, and half conversions, with AVX2, FMA and F16C.
 *
 * A row's end that does not fill a register is done element by element with the same fused
 * operations. Budget: 8 weights are a load (and conversion) and an FMA with a memory operand, so
 * that all three types run at the speed of the caches.
 */
#include <math.h>

#include "kernels/cpu/x86/avx2.h"

/* Eight elements, or one, of each type, from any address. */
FLATTEN __m256 eight_f32(const void *w)
{
	return _mm256_loadu_ps(w);
}

FLATTEN float one_f32(const void *w)
{
	return load_f32(w);
}

FLATTEN __m256 eight_f16(const void *w)
{
	return _mm256_cvtph_ps(load128(w));
}

FLATTEN float one_f16(const void *w)
{
	return _cvtsh_ss(load_u16(w));
}

FLATTEN __m256 eight_bf16(const void *w)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(w)), 16));
}

FLATTEN float one_bf16(const void *w)
{
	return f32_from_bits((uint32_t)load_u16(w) << 16);
}

typedef __m256 (*eight_fn)(const void *w);
typedef float (*one_fn)(const void *w);

/* Four accumulators: an FMA has the latency of four cycles or so, and two start in each. */
FLATTEN float dot(const uint8_t *w, const float *x, size_t n, size_t size, eight_fn eight,
		  one_fn one)
{
	__m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
			 _mm256_setzero_ps()};
	float sum;
	size_t i = 0;

	for (; i + 32 <= n; i += 32) {
		UNROLL
		for (size_t k = 0; k < 4; k++)
			acc[k] = _mm256_fmadd_ps(eight(w + (i + 8 * k) * size),
						 _mm256_loadu_ps(x + i + 8 * k), acc[k]);
	}
	for (; i + 8 <= n; i += 8)
		acc[0] = _mm256_fmadd_ps(eight(w + i * size), _mm256_loadu_ps(x + i), acc[0]);
	sum = sum_lanes(
		_mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), _mm256_add_ps(acc[2], acc[3])));
	for (; i < n; i++)
		sum = fmaf(one(w + i * size), x[i], sum);
	return sum;
}

FLATTEN void convert(const uint8_t *w, float *y, size_t n, size_t size, eight_fn eight, one_fn one)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, eight(w + i * size));
	for (; i < n; i++)
		y[i] = one(w + i * size);
}

#define TYPE_FLOAT(type, size)                                                                     \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		convert(w, y, n, size, eight_##type, one_##type);                                  \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot((const uint8_t *)w + r * stride, act, n, size, eight_##type,  \
				     one_##type);                                                  \
	}                                                                                          \
                                                                                                   \
	const struct type_ops avx2_##type = {                                                      \
		ACT_F32,                                                                           \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE_FLOAT(f32, 4);
TYPE_FLOAT(f16, 2);
TYPE_FLOAT(bf16, 2);

float avx2_dot_f32(const float *a, const float *b, size_t n)
{
	return dot((const uint8_t *)a, b, n, 4, eight_f32, one_f32);
}

void avx2_f32_to_f16(const float *x, uint16_t *y, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm_storeu_si128(
			(__m128i *)(void *)(y + i),
			_mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
	for (; i < n; i++)
		y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}

void avx2_f16_to_f32(const uint16_t *x, float *y, size_t n)
{
	convert((const uint8_t *)x, y, n, 2, eight_f16, one_f16);
}
