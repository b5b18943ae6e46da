// SPDX-License-Identifier: MIT
/*
 * Packed rows of F32, F16 and BF16 weights with NEON: a column is one element of 16 rows.
 *
 * Elements come in runs of 64, each with a sum of its own, for the sake of rounding: a run's sum is
 * added to the row's when the run ends. For one token all 16 rows are done at a time, for more
 * tokens as many quads as make 16 sums in registers.
 *
 * Budget of an element and a quad, in vector instructions: one FMLA a token, and none (F32) or one
 * (F16, BF16) to convert; a load for the quad and one for four tokens. One token: 4 FMLA an element
 * wait for those of the element before, 4 cycles: 16 weights in 4 cycles, 16 or 8 bytes a cycle.
 * Sixteen tokens: 8 to 8.5 cycles for 64 products.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon_packed.h"

#define RUN 64

/* An element of four rows. */
typedef float32x4_t (*column_fn)(const uint8_t *w);

FLATTEN float32x4_t column_f32(const uint8_t *w)
{
	return vreinterpretq_f32_u8(vld1q_u8(w));
}

FLATTEN float32x4_t column_f16(const uint8_t *w)
{
	return four_halves(w);
}

FLATTEN float32x4_t column_bf16(const uint8_t *w)
{
	return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(w)), 16));
}

/* Sums of a run of `len` elements for `side` quads; sums[quad * T + token]. */
FLATTEN void add_run(float32x4_t *sums, const uint8_t *w, const float *x, size_t T, size_t side,
		     size_t len, size_t size, column_fn column)
{
	float32x4_t acc[16];

	UNROLL
	for (size_t k = 0; k < side * T; k++)
		acc[k] = vdupq_n_f32(0);
	for (size_t i = 0; i < len; i++, w += PACK_ROWS * size, x += T) {
		float32x4_t v[QUADS];

		UNROLL
		for (size_t quad = 0; quad < side; quad++)
			v[quad] = column(w + 4 * size * quad);
		UNROLL
		for (size_t k = 0; k < side * T; k++)
			acc[k] = add_times_token(acc[k], v[k / T], x, k % T, T);
	}
	UNROLL
	for (size_t k = 0; k < side * T; k++)
		sums[k] = vaddq_f32(sums[k], acc[k]);
}

FLATTEN void dot_quads(const uint8_t *w, const float *x, size_t T, size_t side, size_t n,
		       float *out, size_t out_stride, size_t size, column_fn column)
{
	const size_t run_bytes = RUN * PACK_ROWS * size;
	float32x4_t sums[16];

	for (size_t k = 0; k < side * T; k++)
		sums[k] = vdupq_n_f32(0);
	for (; n >= RUN; n -= RUN, w += run_bytes, x += RUN * T)
		add_run(sums, w, x, T, side, RUN, size, column);
	add_run(sums, w, x, T, side, n, size, column);
	for (size_t k = 0; k < side * T; k++)
		vst1q_f32(out + k % T * out_stride + k / T * 4, sums[k]);
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, size_t size, column_fn column)
{
	const size_t side = T <= 4 ? QUADS : 16 / T;

	for (size_t quad = 0; quad < QUADS * n_groups; quad += side)
		dot_quads(w + quad / QUADS * n * PACK_ROWS * size + quad % QUADS * 4 * size, tile,
			  T, side, n, out + 4 * quad, out_stride, size, column);
}

#define TYPE(name, size)                                                                           \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, size, column_##name);         \
	}                                                                                          \
	PACKED_KERNEL(neon_packed_##name, dot_##name)

TYPE(f32, 4)
TYPE(f16, 2)
TYPE(bf16, 2)

#endif
