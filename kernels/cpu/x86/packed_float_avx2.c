// SPDX-License-Identifier: MIT
/*
 * Packed rows of F32, F16 and BF16 weights with AVX2: a column is one element of 16 rows, two
 * registers.
 *
 * Elements come in *rounds* of 64, that is four *runs* of 16. Each run of a round has a sum of its
 * own, for the sake of rounding, and for few tokens also because an FMA waits for the one before:
 * then runs are computed side by side, and else tokens, so that there are 8 sums in registers. What
 * is added to what does not depend on that. Elements behind the last round go to the first sum.
 *
 * Budget for an element of 16 rows: 2 FMAs a token on ports 0 and 1, the activation's broadcast
 * from memory; for four tokens none, 4 (F16) or 4 (BF16) to convert. F32 with 16 tokens: 16 cycles
 * for 256 products, 16 in a cycle; 13 were measured, F16 12.5, BF16 11. One token: a cycle for 64
 * bytes, and 2 of F16 and BF16 for 32; 30 and 13 bytes a cycle were measured in L2.
 */
#include "kernels/cpu/x86/packed_avx2.h"

#define RUN  16
#define RUNS 4 /* of a round */
#define SIDE 4 /* runs times tokens, side by side */

/* An element of 8 rows. */
typedef __m256 (*half_fn)(const uint8_t *w);

FLATTEN __m256 half_f32(const uint8_t *w)
{
	return _mm256_loadu_ps((const float *)(const void *)w);
}

FLATTEN __m256 half_f16(const uint8_t *w)
{
	return eight_halves(w);
}

FLATTEN __m256 half_bf16(const uint8_t *w)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(w)), 16));
}

/* `side` runs and `tokens` of the T tokens, from x on, of `len` elements each; to sums[run * T] on
 */
FLATTEN void add_runs(__m256 sums[][2], const uint8_t *w, const float *x, size_t T, size_t side,
		      size_t tokens, size_t len, size_t size, half_fn half)
{
	const size_t bytes = PACK_ROWS * size;
	__m256 acc[SIDE][2];

	UNROLL16
	for (size_t k = 0; k < side * tokens; k++)
		acc[k][0] = acc[k][1] = _mm256_setzero_ps();
	for (size_t i = 0; i < len; i++, w += bytes, x += T) {
		UNROLL16
		for (size_t run = 0; run < side; run++) {
			const uint8_t *p = w + run * RUN * bytes;
			__m256 a = half(p), b = half(p + bytes / 2);

			_mm_prefetch((const char *)p + PREFETCH_AHEAD, _MM_HINT_T0);
			UNROLL16
			for (size_t t = 0; t < tokens; t++) {
				__m256 v = all_floats(x + run * RUN * T + t);
				__m256 *to = acc[run * tokens + t];

				to[0] = _mm256_fmadd_ps(a, v, to[0]);
				to[1] = _mm256_fmadd_ps(b, v, to[1]);
			}
		}
	}
	UNROLL16
	for (size_t k = 0; k < side * tokens; k++) {
		__m256 *to = sums[k / tokens * T + k % tokens];

		to[0] = _mm256_add_ps(to[0], acc[k][0]);
		to[1] = _mm256_add_ps(to[1], acc[k][1]);
	}
}

FLATTEN __m256 add4(__m256 a, __m256 b, __m256 c, __m256 d)
{
	return _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
}

FLATTEN void dot_group(const uint8_t *w, const float *x, size_t T, size_t n, float *out,
		       size_t out_stride, size_t size, half_fn half)
{
	const size_t tokens = T < SIDE ? T : SIDE, side = SIDE / tokens;
	const size_t run_bytes = RUN * PACK_ROWS * size;
	__m256 sums[RUNS * TILE_MAX][2];
	size_t i = 0;

	for (size_t k = 0; k < RUNS * T; k++)
		sums[k][0] = sums[k][1] = _mm256_setzero_ps();
	for (; i + RUNS * RUN <= n; i += RUNS * RUN)
		for (size_t k = 0; k < RUNS; k += side, w += side * run_bytes, x += side * RUN * T)
			for (size_t t = 0; t < T; t += tokens)
				add_runs(sums + k * T + t, w, x + t, T, side, tokens, RUN, size,
					 half);
	for (size_t t = 0; t < T; t += tokens)
		add_runs(sums + t, w, x + t, T, 1, tokens, n - i, size, half);
	for (size_t t = 0; t < T; t++)
		for (size_t h = 0; h < 2; h++)
			_mm256_storeu_ps(out + t * out_stride + HALF_ROWS * h,
					 add4(sums[t][h], sums[T + t][h], sums[2 * T + t][h],
					      sums[3 * T + t][h]));
}

#define TYPE(type, size)                                                                           \
	FLATTEN void dot_##type(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		for (size_t g = 0; g < n_groups; g++)                                              \
			dot_group((const uint8_t *)w + g * n * PACK_ROWS * size, tile, T, n,       \
				  out + g * PACK_ROWS, out_stride, size, half_##type);             \
	}                                                                                          \
	PACKED_KERNEL(avx2_packed_##type, dot_##type)

TYPE(f32, 4)
TYPE(f16, 2)
TYPE(bf16, 2)
