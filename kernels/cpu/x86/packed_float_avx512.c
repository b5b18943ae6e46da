// SPDX-License-Identifier: MIT
/*
 * Packed rows of F32, F16 and BF16 weights with AVX-512: a column is one element of 16 rows.
 *
 * Elements come in *rounds* of 64, that is four *runs* of 16. Each run of a round has a sum of its
 * own, for the sake of rounding, and for one token also because an FMA waits for the one before.
 * How many runs are computed side by side depends on n_tok, so that there are at most 16 sums in
 * registers; what is added to what does not. Elements behind the last round go to the first sum.
 *
 * Budget for an element of 16 rows: one FMA a token, with the activation as a broadcast from
 * memory, and none, 2 (F16) or 1 (BF16) to convert. 16 tokens: 8, 9, 8.5 cycles for 256 products,
 * 32, 28 and 30 in a cycle; 24 were measured for each. One token: 4 sums make an FMA a cycle, 64
 * or 32 bytes; 38 and 20 were measured in L2.
 */
#include "kernels/cpu/x86/packed_avx512.h"

#define RUN  16
#define RUNS 4 /* of a round */

/* An element of 16 rows. */
typedef __m512 (*column_fn)(const uint8_t *w);

FLATTEN __m512 column_f32(const uint8_t *w)
{
	return _mm512_loadu_ps(w);
}

FLATTEN __m512 column_f16(const uint8_t *w)
{
	return load_halves(w);
}

/* To the upper half of each lane. */
FLATTEN __m512 column_bf16(const uint8_t *w)
{
	const __m512i places = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16,
						10 << 16, 9 << 16, 8 << 16, 7 << 16, 6 << 16,
						5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
	__m512i v = _mm512_castsi256_si512(load256(w));

	return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, places, v));
}

/*
 * `side` runs, side by side, of `len` elements each; sums[run * T + token]. one: see one_stream();
 * lines are asked for in their order, and once, though columns are not used in it.
 */
FLATTEN void add_runs(__m512 *sums, const uint8_t *w, const float *x, size_t T, size_t side,
		      size_t len, size_t size, column_fn column, bool one)
{
	const size_t bytes = PACK_ROWS * size;
	__m512 acc[16];

	UNROLL16
	for (size_t k = 0; k < side * T; k++)
		acc[k] = _mm512_setzero_ps();
	for (size_t i = 0; i < len; i++, w += bytes, x += T) {
		__m512 v = _mm512_setzero_ps();

		if (one)
			prefetch_one(w + i * (side - 1) * bytes, side * bytes, ONE_AHEAD);
		UNROLL16
		for (size_t k = 0; k < side * T; k++) {
			size_t ahead = k / T * RUN, t = k % T;

			if (!t) {
				v = column(w + ahead * bytes);
				if (!one)
					_mm_prefetch((const char *)w + ahead * bytes +
							     PREFETCH_AHEAD,
						     _MM_HINT_T0);
			}
			acc[k] = _mm512_fmadd_ps(v, all_f32(x + ahead * T + t), acc[k]);
		}
	}
	UNROLL16
	for (size_t k = 0; k < side * T; k++)
		sums[k] = _mm512_add_ps(sums[k], acc[k]);
}

FLATTEN void dot_group(const uint8_t *w, const float *x, size_t T, size_t n, float *out,
		       size_t out_stride, size_t size, column_fn column, bool one)
{
	const size_t side = T < 16 / RUNS ? RUNS : 16 / T, run_bytes = RUN * PACK_ROWS * size;
	__m512 sums[RUNS * TILE_MAX];
	size_t i = 0;

	for (size_t k = 0; k < RUNS * T; k++)
		sums[k] = _mm512_setzero_ps();
	for (; i + RUNS * RUN <= n; i += RUNS * RUN)
		for (size_t k = 0; k < RUNS; k += side, w += side * run_bytes, x += side * RUN * T)
			add_runs(sums + k * T, w, x, T, side, RUN, size, column, one);
	add_runs(sums, w, x, T, 1, n - i, size, column, false);
	for (size_t t = 0; t < T; t++)
		_mm512_storeu_ps(out + t * out_stride,
				 _mm512_add_ps(_mm512_add_ps(sums[t], sums[T + t]),
					       _mm512_add_ps(sums[2 * T + t], sums[3 * T + t])));
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const float *x, size_t T, size_t n,
			float *out, size_t out_stride, size_t size, column_fn column, bool one)
{
	for (size_t g = 0; g < n_groups; g++)
		dot_group(w + g * n * PACK_ROWS * size, x, T, n, out + g * PACK_ROWS, out_stride,
			  size, column, one);
}

#define TYPE(type, size)                                                                           \
	FLATTEN void dot_##type(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const bool one = T == 1 && one_stream();                                           \
                                                                                                   \
		/* a constant in either, which makes a loop of its own */                          \
		if (one)                                                                           \
			dot_groups(w, n_groups, tile, T, n, out, out_stride, size, column_##type,  \
				   true);                                                          \
		else                                                                               \
			dot_groups(w, n_groups, tile, T, n, out, out_stride, size, column_##type,  \
				   false);                                                         \
	}                                                                                          \
	PACKED_KERNEL(avx512_packed_##type, dot_##type)

TYPE(f32, 4)
TYPE(f16, 2)
TYPE(bf16, 2)
