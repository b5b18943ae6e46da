// SPDX-License-Identifier: MIT
/*
 * NEON: float types, and the float vectors of attention.
 *
 * A type is described by how 16 of its weights, and one, become floats. A dot product keeps
 * four sums of four lanes, 16 weights a step, and adds what is left over one by one: its order
 * depends on n alone. Four rows at a time share what is loaded of the activations. Sums are of
 * single precision for F16 too: in half precision they would lose digits with the length of a row.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon.h"

/* Sums that fit in the registers: 16 of them, beside 16 activations and weights. */
#define ROWS_AT_ONCE 4

typedef float32x4x4_t (*load16_fn)(const uint8_t *w);
typedef float (*load1_fn)(const uint8_t *w);

FLATTEN float32x4x4_t load16_f32(const uint8_t *w)
{
	return (float32x4x4_t){{
		vreinterpretq_f32_u8(vld1q_u8(w)),
		vreinterpretq_f32_u8(vld1q_u8(w + 16)),
		vreinterpretq_f32_u8(vld1q_u8(w + 32)),
		vreinterpretq_f32_u8(vld1q_u8(w + 48)),
	}};
}

FLATTEN float load1_f32(const uint8_t *w)
{
	return load_f32(w);
}

FLATTEN float32x4x4_t load16_f16(const uint8_t *w)
{
	float16x8_t a = vreinterpretq_f16_u8(vld1q_u8(w));
	float16x8_t b = vreinterpretq_f16_u8(vld1q_u8(w + 16));

	return (float32x4x4_t){{
		vcvt_f32_f16(vget_low_f16(a)),
		vcvt_high_f32_f16(a),
		vcvt_f32_f16(vget_low_f16(b)),
		vcvt_high_f32_f16(b),
	}};
}

FLATTEN float load1_f16(const uint8_t *w)
{
	return load_half(w);
}

/* A bfloat16 is the upper half of a float. */
FLATTEN float32x4x4_t load16_bf16(const uint8_t *w)
{
	uint16x8_t a = vreinterpretq_u16_u8(vld1q_u8(w));
	uint16x8_t b = vreinterpretq_u16_u8(vld1q_u8(w + 16));
	uint16x8_t zero = vdupq_n_u16(0);

	return (float32x4x4_t){{
		vreinterpretq_f32_u16(vzip1q_u16(zero, a)),
		vreinterpretq_f32_u16(vzip2q_u16(zero, a)),
		vreinterpretq_f32_u16(vzip1q_u16(zero, b)),
		vreinterpretq_f32_u16(vzip2q_u16(zero, b)),
	}};
}

FLATTEN float load1_bf16(const uint8_t *w)
{
	return f32_from_bits((uint32_t)load_u16(w) << 16);
}

FLATTEN void to_f32(const uint8_t *w, float *y, size_t n, size_t elem_bytes, load16_fn load16,
		    load1_fn load1)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16, w += 16 * elem_bytes) {
		float32x4x4_t v = load16(w);

		vst1q_f32(y + i, v.val[0]);
		vst1q_f32(y + i + 4, v.val[1]);
		vst1q_f32(y + i + 8, v.val[2]);
		vst1q_f32(y + i + 12, v.val[3]);
	}
	for (; i < n; i++, w += elem_bytes)
		y[i] = load1(w);
}

/* R rows, @stride bytes apart, with the same x: each is the same sum whatever R is. */
FLATTEN void dot(const uint8_t *w, size_t stride, size_t R, const float *x, size_t n,
		 size_t elem_bytes, load16_fn load16, load1_fn load1, float *out)
{
	float32x4_t acc[ROWS_AT_ONCE][4];
	size_t i = 0;

	UNROLL
	for (size_t r = 0; r < R; r++)
		acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = vdupq_n_f32(0);
	for (; i + 16 <= n; i += 16, w += 16 * elem_bytes) {
		float32x4_t x0 = vld1q_f32(x + i), x1 = vld1q_f32(x + i + 4);
		float32x4_t x2 = vld1q_f32(x + i + 8), x3 = vld1q_f32(x + i + 12);
		const uint8_t *row = w;

		UNROLL
		for (size_t r = 0; r < R; r++) {
			float32x4x4_t v = load16(row);

			acc[r][0] = vfmaq_f32(acc[r][0], v.val[0], x0);
			acc[r][1] = vfmaq_f32(acc[r][1], v.val[1], x1);
			acc[r][2] = vfmaq_f32(acc[r][2], v.val[2], x2);
			acc[r][3] = vfmaq_f32(acc[r][3], v.val[3], x3);
			row += stride;
			/* The next row is loaded after these sums, or registers run out. */
			if (r + 1 < R)
				__asm__(""
					: "+r"(row), "+w"(acc[r][0]), "+w"(acc[r][1]),
					  "+w"(acc[r][2]), "+w"(acc[r][3]));
		}
	}
	UNROLL
	for (size_t r = 0; r < R; r++)
		out[r] = vaddvq_f32(vaddq_f32(vaddq_f32(acc[r][0], acc[r][1]),
					      vaddq_f32(acc[r][2], acc[r][3])));
	for (; i < n; i++, w += elem_bytes) {
		for (size_t r = 0; r < R; r++)
			out[r] += load1(w + r * stride) * x[i];
	}
}

FLATTEN void dot_rows(const uint8_t *w, size_t stride, size_t n_rows, const float *x, size_t n,
		      size_t elem_bytes, load16_fn load16, load1_fn load1, float *out)
{
	size_t r = 0;

	for (; r + ROWS_AT_ONCE <= n_rows; r += ROWS_AT_ONCE)
		dot(w + r * stride, stride, ROWS_AT_ONCE, x, n, elem_bytes, load16, load1, out + r);
	for (; r < n_rows; r++)
		dot(w + r * stride, stride, 1, x, n, elem_bytes, load16, load1, out + r);
}

#define TYPE_FLOAT(type, elem_bytes)                                                               \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		to_f32(w, y, n, elem_bytes, load16_##type, load1_##type);                          \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		dot_rows(w, stride, n_rows, act, n, elem_bytes, load16_##type, load1_##type, out); \
	}                                                                                          \
                                                                                                   \
	const struct type_ops neon_##type = {ACT_F32, dequantize_##type, dot_rows_##type}

/*
 * Budgets, for 16 weights of each of four rows; half of the vector instructions in cycles is the
 * bound of all three, or for F16, should its conversions take a pipe for two cycles, twice that.
 *			instructions	vector	cycles	bytes a cycle
 *	F32		33		16	10	25 (20 loads, two a cycle)
 *	F16, BF16	46		32	16	8
 */
TYPE_FLOAT(f32, 4);
TYPE_FLOAT(f16, 2);
TYPE_FLOAT(bf16, 2);

float neon_dot_f32(const float *a, const float *b, size_t n)
{
	float sum;

	dot((const uint8_t *)a, 0, 1, b, n, 4, load16_f32, load1_f32, &sum);
	return sum;
}

void neon_f32_to_f16(const float *x, uint16_t *y, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		float16x4_t low = vcvt_f16_f32(vld1q_f32(x + i));

		vst1q_u16(y + i,
			  vreinterpretq_u16_f16(vcvt_high_f16_f32(low, vld1q_f32(x + i + 4))));
	}
	for (; i < n; i++) {
		__fp16 h = x[i];

		memcpy(y + i, &h, sizeof(h));
	}
}

void neon_f16_to_f32(const uint16_t *x, float *y, size_t n)
{
	to_f32((const uint8_t *)x, y, n, 2, load16_f16, load1_f16);
}

#endif
