// SPDX-License-Identifier: MIT
/*
 * The reference: every weight type in plain C, written to be read.
 *
 * A quantized type is described once, by a function that *unpacks* one block into integers and
 * scales; dequantize and dot_rows both follow from it.
 *
 * What a dot product of quantized weights is, for the other instruction sets to match up to
 * float rounding: products within a block are summed as integers, exactly; scales are applied in
 * float; blocks are added up in float.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed.h"

#define FLATTEN static inline __attribute__((always_inline))

/* Types of 32-element blocks: w = d * q, or w = d * q + m where the type has an offset. */
struct unpacked32 {
	int8_t q[32];
	float d;
	float m;
};

typedef void (*unpack32_fn)(const void *block, struct unpacked32 *u);

static void unpack_nibbles(const uint8_t qs[16], int8_t q[32])
{
	for (int j = 0; j < 16; j++) {
		q[j] = qs[j] & 15;
		q[j + 16] = qs[j] >> 4;
	}
}

static void unpack_q4_0(const void *block, struct unpacked32 *u)
{
	const struct block_q4_0 *b = block;

	u->d = half_to_float(load_u16(b->d));
	unpack_nibbles(b->qs, u->q);
	for (int i = 0; i < 32; i++)
		u->q[i] -= 8;
}

static void unpack_q4_1(const void *block, struct unpacked32 *u)
{
	const struct block_q4_1 *b = block;

	u->d = half_to_float(load_u16(b->d));
	u->m = half_to_float(load_u16(b->m));
	unpack_nibbles(b->qs, u->q);
}

static void unpack_q5_0(const void *block, struct unpacked32 *u)
{
	const struct block_q5_0 *b = block;
	uint32_t qh = load_u32(b->qh);

	u->d = half_to_float(load_u16(b->d));
	unpack_nibbles(b->qs, u->q);
	for (int i = 0; i < 32; i++)
		u->q[i] = (u->q[i] | (qh >> i & 1) << 4) - 16;
}

static void unpack_q5_1(const void *block, struct unpacked32 *u)
{
	const struct block_q5_1 *b = block;
	uint32_t qh = load_u32(b->qh);

	u->d = half_to_float(load_u16(b->d));
	u->m = half_to_float(load_u16(b->m));
	unpack_nibbles(b->qs, u->q);
	for (int i = 0; i < 32; i++)
		u->q[i] |= (qh >> i & 1) << 4;
}

static void unpack_q8_0(const void *block, struct unpacked32 *u)
{
	const struct block_q8_0 *b = block;

	u->d = half_to_float(load_u16(b->d));
	memcpy(u->q, b->qs, sizeof(u->q));
}

static void unpack_iq4_nl(const void *block, struct unpacked32 *u)
{
	const struct block_iq4_nl *b = block;

	u->d = half_to_float(load_u16(b->d));
	unpack_nibbles(b->qs, u->q);
	for (int i = 0; i < 32; i++)
		u->q[i] = iq4_codebook[u->q[i]];
}

static void unpack_mxfp4(const void *block, struct unpacked32 *u)
{
	const struct block_mxfp4 *b = block;

	u->d = mxfp4_scale(b->e);
	unpack_nibbles(b->qs, u->q);
	for (int i = 0; i < 32; i++)
		u->q[i] = mxfp4_codebook[u->q[i]];
}

FLATTEN void dequantize32(const void *w, float *y, size_t n, size_t block_bytes, bool has_m,
			  unpack32_fn unpack)
{
	struct unpacked32 u;

	for (size_t b = 0; b < n / 32; b++) {
		unpack((const uint8_t *)w + b * block_bytes, &u);
		for (int i = 0; i < 32; i++) {
			float v = u.d * (float)u.q[i];

			/* Not v + 0 where there is no offset: that would lose the sign of -0. */
			y[b * 32 + i] = has_m ? v + u.m : v;
		}
	}
}

FLATTEN float dot32(const uint8_t *w, const void *act, size_t n, size_t block_bytes, bool has_m,
		    unpack32_fn unpack)
{
	const int8_t *aq = act;
	const float *ad = (const void *)((const char *)act + act_d_off(n));
	const float *as = (const void *)((const char *)act + act_s_off(n));
	struct unpacked32 u;
	float sum = 0;

	for (size_t b = 0; b < n / 32; b++) {
		int32_t isum = 0;

		unpack(w + b * block_bytes, &u);
		for (int i = 0; i < 32; i++)
			isum += u.q[i] * aq[b * 32 + i];
		sum += u.d * ad[b] * (float)isum;
		if (has_m)
			sum += u.m * as[b];
	}
	return sum;
}

#define TYPE32(type, has_m)                                                                        \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize32(w, y, n, sizeof(struct block_##type), has_m, unpack_##type);          \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot32((const uint8_t *)w + r * stride, act, n,                    \
				       sizeof(struct block_##type), has_m, unpack_##type);         \
	}                                                                                          \
                                                                                                   \
	static const struct type_ops ops_##type = {                                                \
		ACT_Q8_32,                                                                         \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE32(q4_0, false);
TYPE32(q4_1, true);
TYPE32(q5_0, false);
TYPE32(q5_1, true);
TYPE32(q8_0, false);
TYPE32(iq4_nl, false);
TYPE32(mxfp4, false);

/*
 * Types of 256-element blocks, in 16 groups of 16 (a sub-block of 32 is two alike):
 * w = d * sc * q, or w = d * sc * q - dmin * mn where the type has minimums.
 */
struct unpacked256 {
	int8_t q[256];
	int8_t sc[16];
	int8_t mn[16];
	float d;
	float dmin;
};

typedef void (*unpack256_fn)(const void *block, struct unpacked256 *u);

static void unpack_q2_k(const void *block, struct unpacked256 *u)
{
	const struct block_q2_k *b = block;

	u->d = half_to_float(load_u16(b->d));
	u->dmin = half_to_float(load_u16(b->dmin));
	for (int i = 0; i < 16; i++) {
		u->sc[i] = b->scales[i] & 15;
		u->mn[i] = b->scales[i] >> 4;
	}
	for (int i = 0; i < 256; i++)
		u->q[i] = b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

static void unpack_q3_k(const void *block, struct unpacked256 *u)
{
	const struct block_q3_k *b = block;

	u->d = half_to_float(load_u16(b->d));
	q3_k_scales(b->scales, u->sc);
	for (int i = 0; i < 256; i++) {
		int low = b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
		int high = b->hmask[i % 32] >> (i / 32) & 1;

		u->q[i] = low + 4 * high - 4;
	}
}

/* Sub-blocks of 32 into groups of 16. */
static void spread_scales(const uint8_t sm[16], struct unpacked256 *u)
{
	for (int i = 0; i < 16; i++) {
		u->sc[i] = sm[i / 2];
		u->mn[i] = sm[8 + i / 2];
	}
}

static void unpack_q4_k(const void *block, struct unpacked256 *u)
{
	const struct block_q4_k *b = block;
	uint8_t sm[16];

	u->d = half_to_float(load_u16(b->d));
	u->dmin = half_to_float(load_u16(b->dmin));
	q4_k_scales(b->scales, sm);
	spread_scales(sm, u);
	for (int i = 0; i < 256; i++)
		u->q[i] = b->qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

static void unpack_q5_k(const void *block, struct unpacked256 *u)
{
	const struct block_q5_k *b = block;
	uint8_t sm[16];

	u->d = half_to_float(load_u16(b->d));
	u->dmin = half_to_float(load_u16(b->dmin));
	q4_k_scales(b->scales, sm);
	spread_scales(sm, u);
	for (int i = 0; i < 256; i++) {
		int low = b->qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
		int high = b->qh[i % 32] >> (i / 32) & 1;

		u->q[i] = low + 16 * high;
	}
}

static void unpack_q6_k(const void *block, struct unpacked256 *u)
{
	const struct block_q6_k *b = block;

	u->d = half_to_float(load_u16(b->d));
	memcpy(u->sc, b->scales, sizeof(u->sc));
	for (int i = 0; i < 256; i++) {
		int half = i / 128;
		int low = b->ql[half * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
		int high = b->qh[half * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;

		u->q[i] = low + 16 * high - 32;
	}
}

static void unpack_iq4_xs(const void *block, struct unpacked256 *u)
{
	const struct block_iq4_xs *b = block;
	int8_t sc[8];

	u->d = half_to_float(load_u16(b->d));
	iq4_xs_scales(b, sc);
	for (int i = 0; i < 16; i++)
		u->sc[i] = sc[i / 2];
	for (int i = 0; i < 256; i++)
		u->q[i] = iq4_codebook[b->qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15];
}

FLATTEN void dequantize256(const void *w, float *y, size_t n, size_t block_bytes, bool has_min,
			   unpack256_fn unpack)
{
	struct unpacked256 u;

	for (size_t b = 0; b < n / 256; b++) {
		unpack((const uint8_t *)w + b * block_bytes, &u);
		for (int i = 0; i < 256; i++) {
			float v = u.d * (float)u.sc[i / 16] * (float)u.q[i];

			y[b * 256 + i] = has_min ? v - u.dmin * (float)u.mn[i / 16] : v;
		}
	}
}

FLATTEN float dot256(const uint8_t *w, const void *act, size_t n, size_t block_bytes, bool has_min,
		     unpack256_fn unpack)
{
	const int8_t *aq = act;
	const float *ad = (const void *)((const char *)act + act_d_off(n));
	const int16_t *bsums = (const void *)((const char *)act + act_bsums_off(n));
	struct unpacked256 u;
	float sum = 0;

	for (size_t b = 0; b < n / 256; b++) {
		int32_t isum = 0, msum = 0; /* at most 16 * 128 * 16 * 128 * 127: fits */

		unpack(w + b * block_bytes, &u);
		for (int g = 0; g < 16; g++) {
			int32_t gsum = 0;

			for (int i = g * 16; i < g * 16 + 16; i++)
				gsum += u.q[i] * aq[b * 256 + i];
			isum += u.sc[g] * gsum;
			if (has_min)
				msum += u.mn[g] * bsums[b * 16 + g];
		}
		sum += u.d * ad[b] * (float)isum;
		if (has_min)
			sum -= u.dmin * ad[b] * (float)msum;
	}
	return sum;
}

#define TYPE256(type, has_min)                                                                     \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize256(w, y, n, sizeof(struct block_##type), has_min, unpack_##type);       \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot256((const uint8_t *)w + r * stride, act, n,                   \
					sizeof(struct block_##type), has_min, unpack_##type);      \
	}                                                                                          \
                                                                                                   \
	static const struct type_ops ops_##type = {                                                \
		ACT_Q8_256,                                                                        \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE256(q2_k, true);
TYPE256(q3_k, false);
TYPE256(q4_k, true);
TYPE256(q5_k, true);
TYPE256(q6_k, false);
TYPE256(iq4_xs, false);

/*
 * Float types: "blocks" of one element. Summed in double, since one float accumulator for a
 * whole row loses more than the several of a vector register do.
 */
static float elem_f32(const void *w, size_t i)
{
	return load_f32((const uint8_t *)w + 4 * i);
}

static float elem_f16(const void *w, size_t i)
{
	return half_to_float(load_u16((const uint8_t *)w + 2 * i));
}

static float elem_bf16(const void *w, size_t i)
{
	return f32_from_bits((uint32_t)load_u16((const uint8_t *)w + 2 * i) << 16);
}

#define TYPE_FLOAT(type)                                                                           \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		for (size_t i = 0; i < n; i++)                                                     \
			y[i] = elem_##type(w, i);                                                  \
	}                                                                                          \
                                                                                                   \
	static float dot_##type(const void *w, const float *x, size_t n)                           \
	{                                                                                          \
		double sum = 0;                                                                    \
                                                                                                   \
		for (size_t i = 0; i < n; i++)                                                     \
			sum += (double)elem_##type(w, i) * (double)x[i];                           \
		return (float)sum;                                                                 \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot_##type((const uint8_t *)w + r * stride, act, n);              \
	}                                                                                          \
                                                                                                   \
	static const struct type_ops ops_##type = {                                                \
		ACT_F32,                                                                           \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE_FLOAT(f32);
TYPE_FLOAT(f16);
TYPE_FLOAT(bf16);

/*
 * One group of an activation to int8; returns d. Two cases besides cpu.h's formula: a group
 * with an infinity or a NaN gets d = NaN and q = 0, so that the result is NaN, too; a group so
 * small that 127/amax is infinite (below 4e-37) counts as zero.
 */
static float quantize_group(const float *x, int8_t *q, size_t n)
{
	/* As integers, magnitudes order like the floats, with infinity and NaN above them. */
	uint32_t top = 0;
	float amax, scale;

	for (size_t i = 0; i < n; i++) {
		uint32_t mag = f32_bits(x[i]) & 0x7fffffff;

		top = mag > top ? mag : top;
	}
	amax = f32_from_bits(top);
	scale = 127.0f / amax;
	if (top >= 0x7f800000 || scale > FLT_MAX) {
		memset(q, 0, n);
		return top >= 0x7f800000 ? f32_from_bits(0x7fc00000) : 0;
	}
	for (size_t i = 0; i < n; i++) {
		/* Adding 1.5 * 2^23 leaves no bits below 1: rounds half to even. */
		float rounded = x[i] * scale + 0x1.8p23f;

		q[i] = (int8_t)(int32_t)(rounded - 0x1.8p23f);
	}
	return amax / 127.0f;
}

static void quantize_q8_32(const float *x, void *act, size_t n)
{
	int8_t *q = act;
	float *d = (void *)((char *)act + act_d_off(n));
	float *s = (void *)((char *)act + act_s_off(n));

	for (size_t b = 0; b < n / 32; b++) {
		int sum = 0;

		d[b] = quantize_group(x + b * 32, q + b * 32, 32);
		for (size_t i = 0; i < 32; i++)
			sum += q[b * 32 + i];
		s[b] = d[b] * (float)sum;
	}
}

static void quantize_q8_256(const float *x, void *act, size_t n)
{
	int8_t *q = act;
	float *d = (void *)((char *)act + act_d_off(n));
	int16_t *bsums = (void *)((char *)act + act_bsums_off(n));

	for (size_t b = 0; b < n / 256; b++)
		d[b] = quantize_group(x + b * 256, q + b * 256, 256);
	for (size_t g = 0; g < n / 16; g++) {
		int16_t sum = 0;

		for (size_t i = 0; i < 16; i++)
			sum += q[g * 16 + i];
		bsums[g] = sum;
	}
}

static float dot_f32_f32(const float *a, const float *b, size_t n)
{
	return dot_f32(a, b, n);
}

/* ---- elementwise ---- */

static void scalar_add(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void scalar_blend(float *y, float a, const float *x, float b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = y[i] * a + x[i] * b;
}

static void scalar_scale(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * a;
}

static void scalar_mul_norm(float *y, const float *x, float scale, const float *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * scale * w[i];
}

static void scalar_swiglu(float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static float scalar_max(const float *x, size_t n)
{
	float m = x[0];

	for (size_t i = 1; i < n; i++)
		m = x[i] > m ? x[i] : m;
	return m;
}

static float scalar_exp_sum(float *x, float max, size_t n)
{
	float sum = 0;

	for (size_t i = 0; i < n; i++) {
		x[i] = expf(x[i] - max);
		sum += x[i];
	}
	return sum;
}

static void scalar_spread_q8_0(const void *blocks, float *out, size_t n)
{
	const uint8_t *b = blocks;

	for (size_t p = 0; p < n; p++, b += 34) {
		float d = half_to_float(load_u16(b));

		for (size_t i = 0; i < 32; i++)
			out[(i / 16 * n + p) * 16 + i % 16] = d * (float)(int8_t)b[2 + i];
	}
}

static void f32_to_f16(const float *x, uint16_t *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = float_to_half(x[i]);
}

static void f16_to_f32(const uint16_t *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = half_to_float(x[i]);
}

static int always(void)
{
	return 1;
}

/* ---- packed rows: a block at a time, as plain ones ---- */

/* Of token t, the part of a tile that block b is multiplied with: a row of one block. */
static void tile_block(enum act_kind kind, const void *tile, size_t n_tok, size_t n, size_t t,
		       size_t b, size_t elems, void *row)
{
	const uint32_t *words = tile; /* codes by four, or floats */
	const uint32_t *d = (const void *)((const char *)tile + act_d_off(n * n_tok));
	const uint32_t *s = (const void *)((const char *)tile + act_s_off(n * n_tok));
	const int16_t *bsums = (const void *)((const char *)tile + act_bsums_off(n * n_tok));
	size_t units = kind == ACT_F32 ? elems : elems / 4;
	char *to = row;

	for (size_t u = 0; u < units; u++)
		memcpy(to + 4 * u, &words[(b * units + u) * n_tok + t], 4);
	if (kind != ACT_F32)
		memcpy(to + act_d_off(elems), &d[b * n_tok + t], 4);
	if (kind == ACT_Q8_32)
		memcpy(to + act_s_off(elems), &s[b * n_tok + t], 4);
	for (size_t i = 0; kind == ACT_Q8_256 && i < elems / 16; i++)
		memcpy(to + act_bsums_off(elems) + 2 * i,
		       &bsums[(b * (elems / 16) + i) * n_tok + t], 2);
}

static void dot_packed(enum wtype type, const struct type_ops *ops, const void *w, size_t n_groups,
		       const void *tile, size_t n_tok, size_t n, float *out, size_t out_stride)
{
	const struct wtype_info *info = wtype_info(type);
	_Alignas(64) char act[1024];
	uint8_t block[256];

	for (size_t i = 0; i < n_groups * PACK_ROWS * n_tok; i++) {
		size_t g = i / n_tok / PACK_ROWS, r = i / n_tok % PACK_ROWS, t = i % n_tok;
		const uint8_t *column = (const uint8_t *)w +
					g * PACK_ROWS * info->block_bytes * (n / info->block_elems);
		float sum = 0, v;

		for (size_t b = 0; b < n / info->block_elems; b++) {
			unpack_row(type, column, r, info->block_elems, block);
			tile_block(ops->act, tile, n_tok, n, t, b, info->block_elems, act);
			ops->dot_rows(block, info->block_bytes, 1, act, info->block_elems, &v);
			sum += v;
			column += (size_t)PACK_ROWS * info->block_bytes;
		}
		out[t * out_stride + g * PACK_ROWS + r] = sum;
	}
}

/* Those of the float types, where a block is one element: attention's, so worth a loop. */
#define PACKED_FLOAT(type)                                                                         \
	void scalar_packed_##type(const void *w, size_t n_groups, const void *tile, size_t n_tok,  \
				  size_t n, float *out, size_t out_stride)                         \
	{                                                                                          \
		const float *x = tile;                                                             \
                                                                                                   \
		for (size_t i = 0; i < n_groups * PACK_ROWS * n_tok; i++) {                        \
			size_t g = i / n_tok / PACK_ROWS, r = i / n_tok % PACK_ROWS;               \
			size_t t = i % n_tok;                                                      \
			float sum = 0;                                                             \
                                                                                                   \
			for (size_t k = 0; k < n; k++)                                             \
				sum += elem_##type(w, (g * n + k) * PACK_ROWS + r) *               \
				       x[k * n_tok + t];                                           \
			out[t * out_stride + g * PACK_ROWS + r] = sum;                             \
		}                                                                                  \
	}

#define PACKED(wt, type)                                                                           \
	void scalar_packed_##type(const void *w, size_t n_groups, const void *tile, size_t n_tok,  \
				  size_t n, float *out, size_t out_stride)                         \
	{                                                                                          \
		dot_packed(wt, &ops_##type, w, n_groups, tile, n_tok, n, out, out_stride);         \
	}

PACKED_FLOAT(f32)
PACKED_FLOAT(f16)
PACKED_FLOAT(bf16)
PACKED(WT_Q4_0, q4_0)
PACKED(WT_Q4_1, q4_1)
PACKED(WT_Q5_0, q5_0)
PACKED(WT_Q5_1, q5_1)
PACKED(WT_Q8_0, q8_0)
PACKED(WT_Q2_K, q2_k)
PACKED(WT_Q3_K, q3_k)
PACKED(WT_Q4_K, q4_k)
PACKED(WT_Q5_K, q5_k)
PACKED(WT_Q6_K, q6_k)
PACKED(WT_IQ4_NL, iq4_nl)
PACKED(WT_IQ4_XS, iq4_xs)
PACKED(WT_MXFP4, mxfp4)

const struct cpu_isa cpu_isa_scalar = {
	.name = "scalar",
	.supported = always,
	.types =
		{
			[WT_F32] = &ops_f32,
			[WT_F16] = &ops_f16,
			[WT_BF16] = &ops_bf16,
			[WT_Q4_0] = &ops_q4_0,
			[WT_Q4_1] = &ops_q4_1,
			[WT_Q5_0] = &ops_q5_0,
			[WT_Q5_1] = &ops_q5_1,
			[WT_Q8_0] = &ops_q8_0,
			[WT_Q2_K] = &ops_q2_k,
			[WT_Q3_K] = &ops_q3_k,
			[WT_Q4_K] = &ops_q4_k,
			[WT_Q5_K] = &ops_q5_k,
			[WT_Q6_K] = &ops_q6_k,
			[WT_IQ4_NL] = &ops_iq4_nl,
			[WT_IQ4_XS] = &ops_iq4_xs,
			[WT_MXFP4] = &ops_mxfp4,
		},
	.packed = {SCALAR_PACKED},
	.quantize_act =
		{
			[ACT_Q8_32] = quantize_q8_32,
			[ACT_Q8_256] = quantize_q8_256,
		},
	.dot_f32 = dot_f32_f32,
	ELEMENTWISE(scalar),
	.f32_to_f16 = f32_to_f16,
	.f16_to_f32 = f16_to_f32,
};
