// SPDX-License-Identifier: MIT
/*
 * Activations to 8 bits, with AVX2: the same bits as scalar.c's, special cases included (a group
 * with an infinity or a NaN, and one too small to scale).
 */
#include <float.h>

#include "kernels/cpu/x86/avx2.h"

/* The largest |x| of n, a multiple of 8, as bits: integers order them, NaN above infinity. */
FLATTEN uint32_t top_magnitude(const float *x, size_t n)
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i top = _mm256_setzero_si256();
	__m128i t;

	for (size_t i = 0; i < n; i += 8)
		top = _mm256_max_epi32(top, _mm256_and_si256(load256(x + i), magnitude));
	t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
	t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
	t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
	return (uint32_t)_mm_cvtsi128_si32(t);
}

/* What to multiply a group by before rounding; sets its *d. 0 where all its q are 0. */
FLATTEN float group_scale(const float *x, size_t n, float *d)
{
	uint32_t top = top_magnitude(x, n);
	float amax = f32_from_bits(top), scale = 127.0f / amax;

	if (top >= 0x7f800000) {
		*d = f32_from_bits(0x7fc00000);
		return 0;
	}
	if (scale > FLT_MAX) {
		*d = 0;
		return 0;
	}
	*d = amax / 127.0f;
	return scale;
}

/* 8 floats to integers, to nearest even. A scale of 0 gives 0, even for infinity or NaN. */
FLATTEN __m256i round8(const float *x, float scale)
{
	__m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(scale)));

	return scale == 0 ? _mm256_setzero_si256() : v;
}

/* 32 floats to 32 bytes. */
FLATTEN __m256i round32(const float *x, float scale)
{
	/* The packs work in halves of the register; the permutation puts groups of 4 in order. */
	const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
	__m256i a = _mm256_packs_epi32(round8(x, scale), round8(x + 8, scale));
	__m256i b = _mm256_packs_epi32(round8(x + 16, scale), round8(x + 24, scale));

	return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
}

/* Sums of 16 bytes each: of the first in lane 0, of the second in lane 4 (32-bit lanes). */
FLATTEN __m256i sums16(__m256i q)
{
	__m256i s = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q),
				      _mm256_set1_epi16(1));

	s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
	return _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xb1));
}

void avx2_quantize_q8_32(const float *x, void *act, size_t n)
{
	int8_t *out = act;
	float *d = (void *)((char *)act + act_d_off(n));
	float *s = (void *)((char *)act + act_s_off(n));

	for (size_t b = 0; b < n / 32; b++) {
		float scale = group_scale(x + b * 32, 32, &d[b]);
		__m256i q = round32(x + b * 32, scale), sums = sums16(q);
		int sum = _mm256_extract_epi32(sums, 0) + _mm256_extract_epi32(sums, 4);

		_mm256_storeu_si256((__m256i *)(void *)(out + b * 32), q);
		s[b] = d[b] * (float)sum;
	}
}

void avx2_quantize_q8_256(const float *x, void *act, size_t n)
{
	int8_t *out = act;
	float *d = (void *)((char *)act + act_d_off(n));
	int16_t *bsums = (void *)((char *)act + act_bsums_off(n));

	for (size_t b = 0; b < n / 256; b++) {
		float scale = group_scale(x + b * 256, 256, &d[b]);

		for (size_t i = b * 256; i < (b + 1) * 256; i += 32) {
			__m256i q = round32(x + i, scale), sums = sums16(q);

			_mm256_storeu_si256((__m256i *)(void *)(out + i), q);
			bsums[i / 16] = (int16_t)_mm256_extract_epi32(sums, 0);
			bsums[i / 16 + 1] = (int16_t)_mm256_extract_epi32(sums, 4);
		}
	}
}
