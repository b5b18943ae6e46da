// SPDX-License-Identifier: MIT
/*
 * NEON: float types, and the float vectors of attention.
 *
 * A type is described by how 16 of its weights, and one, become floats. A dot product keeps
 * four sums of four lanes, 16 weights a step, and adds what is left over one by one: its order
 * depends on n alone.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon.h"

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

FLATTEN float dot(const uint8_t *w, const float *x, size_t n, size_t elem_bytes, load16_fn load16,
		  load1_fn load1)
{
	float32x4_t acc0 = vdupq_n_f32(0), acc1 = acc0, acc2 = acc0, acc3 = acc0;
	size_t i = 0;
	float sum;

	for (; i + 16 <= n; i += 16, w += 16 * elem_bytes) {
		float32x4x4_t v = load16(w);

		acc0 = vfmaq_f32(acc0, v.val[0], vld1q_f32(x + i));
		acc1 = vfmaq_f32(acc1, v.val[1], vld1q_f32(x + i + 4));
		acc2 = vfmaq_f32(acc2, v.val[2], vld1q_f32(x + i + 8));
		acc3 = vfmaq_f32(acc3, v.val[3], vld1q_f32(x + i + 12));
	}
	sum = vaddvq_f32(vaddq_f32(vaddq_f32(acc0, acc1), vaddq_f32(acc2, acc3)));
	for (; i < n; i++, w += elem_bytes)
		sum += load1(w) * x[i];
	return sum;
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
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot((const uint8_t *)w + r * stride, act, n, elem_bytes,          \
				     load16_##type, load1_##type);                                 \
	}                                                                                          \
                                                                                                   \
	const struct type_ops neon_##type = {ACT_F32, dequantize_##type, dot_rows_##type}

/*
 * Budgets, for 16 weights:
 *			instructions	vector	cycles	bytes a cycle
 *	F32		12		4	4	16 (the latency of a fused multiply-add)
 *	F16, BF16	15		8	4	8
 */
TYPE_FLOAT(f32, 4);
TYPE_FLOAT(f16, 2);
TYPE_FLOAT(bf16, 2);

float neon_dot_f32(const float *a, const float *b, size_t n)
{
	return dot((const uint8_t *)a, b, n, 4, load16_f32, load1_f32);
}

float neon_dot_f16_f32(const uint16_t *a, const float *b, size_t n)
{
	return dot((const uint8_t *)a, b, n, 2, load16_f16, load1_f16);
}

/* Fused in every lane and in the rest: an element's result does not depend on its place. */
void neon_axpy_f16(float a, const uint16_t *x, float *y, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		float32x4x4_t v = load16_f16((const uint8_t *)(x + i));

		vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), v.val[0], a));
		vst1q_f32(y + i + 4, vfmaq_n_f32(vld1q_f32(y + i + 4), v.val[1], a));
		vst1q_f32(y + i + 8, vfmaq_n_f32(vld1q_f32(y + i + 8), v.val[2], a));
		vst1q_f32(y + i + 12, vfmaq_n_f32(vld1q_f32(y + i + 12), v.val[3], a));
	}
	for (; i < n; i++)
		y[i] = __builtin_fmaf(a, load_half(x + i), y[i]);
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
