/* SPDX-License-Identifier: MIT */
/*
 * Packed rows of 32-element blocks: the source of the SDOT kernels, and of the SMMLA kernels where
 * it is compiled for those (neon_packed.h). neon_packed32_dotprod.c says how it works. Private to
 * kernels/cpu/arm.
 */
#ifndef WEIR_KERNELS_CPU_ARM_NEON_PACKED32_H
#define WEIR_KERNELS_CPU_ARM_NEON_PACKED32_H

#include "kernels/cpu/arm/neon_packed.h"

/* Fills the eight code vectors of a quad whose first unit of codes is at @w. */
typedef void (*unpack_fn)(const uint8_t *w, bool centred, int8x16_t q[8]);
/* Of the units at @w, where a column begins, those of a quad. */
typedef float32x4_t (*scale_fn)(const uint8_t *w, size_t quad);

/* Sums of a column and a token that start_sums() makes at once (8 KiB); what a stretch has. */
#define MAX_STARTS 2048
#define MAX_MANY   512

FLATTEN uint8x16_t unit_at(const uint8_t *w, int j)
{
	return vld1q_u8(w + 64 * j);
}

/* Two for a unit, centred three: the upper bit inverted makes a nibble signed. */
FLATTEN void q4_0_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	UNROLL
	for (int j = 0; j < 4; j++) {
		uint8x16_t v = unit_at(w, j);

		if (centred) {
			v = veorq_u8(v, vdupq_n_u8(0x88));
			q[j] = as_codes(vshlq_n_u8(v, 4));
			q[4 + j] = as_codes(vandq_u8(v, vdupq_n_u8(0xf0)));
		} else {
			q[j] = as_codes(vandq_u8(v, vdupq_n_u8(15)));
			q[4 + j] = as_codes(vshrq_n_u8(v, 4));
		}
	}
}

FLATTEN void q4_1_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	q4_0_vectors(w, false, q);
}

/*
 * After the fifth bits (a unit: 32 bits a row), the nibbles. Each element gets a byte of ones or
 * zeros, made from its fifth bit, and one instruction inserts the nibble. Of the inverted bits that
 * is q - 16; of the bits it is q but for the three upper ones.
 */
FLATTEN void five_bit_vectors(const uint8_t *w, bool inverted, int8x16_t q[8])
{
	static const uint8_t byte_of[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
	static const uint8_t bit_of[16] = {1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
	const uint8x16_t even = vld1q_u8(bit_of), odd = vshlq_n_u8(even, 4);
	uint8x16_t high = vld1q_u8(w), ones[8];

	if (inverted)
		high = vmvnq_u8(high);
	UNROLL
	for (int j = 0; j < 4; j++) {
		uint8x16_t index = vaddq_u8(vld1q_u8(byte_of), vdupq_n_u8((uint8_t)j));
		uint8x16_t bytes = vqtbl1q_u8(high, index);

		ones[2 * j] = vtstq_u8(bytes, even);
		ones[2 * j + 1] = vtstq_u8(bytes, odd);
	}
	UNROLL
	for (int j = 0; j < 4; j++) {
		uint8x16_t v = unit_at(w + 64, j);

		q[j] = as_codes(vbslq_u8(vdupq_n_u8(15), v, ones[j]));
		q[4 + j] = as_codes(vsriq_n_u8(ones[4 + j], v, 4));
	}
}

/* q - 16, either way. */
FLATTEN void q5_0_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	five_bit_vectors(w, true, q);
}

FLATTEN void q5_1_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	five_bit_vectors(w, !centred, q);
	UNROLL
	for (int j = 0; j < 8 && centred; j++)
		q[j] = vandq_s8(q[j], vdupq_n_s8(31));
}

FLATTEN void q8_0_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	UNROLL
	for (int j = 0; j < 8; j++)
		q[j] = as_codes(unit_at(w, j));
}

FLATTEN void look_up_vectors(const int8_t codebook[16], const uint8_t *w, int8x16_t q[8])
{
	const int8x16_t table = vld1q_s8(codebook);

	UNROLL
	for (int j = 0; j < 4; j++) {
		uint8x16_t v = unit_at(w, j);

		q[j] = vqtbl1q_s8(table, vandq_u8(v, vdupq_n_u8(15)));
		q[4 + j] = vqtbl1q_s8(table, vshrq_n_u8(v, 4));
	}
}

FLATTEN void iq4_nl_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	look_up_vectors(iq4_codebook, w, q);
}

FLATTEN void mxfp4_vectors(const uint8_t *w, bool centred, int8x16_t q[8])
{
	look_up_vectors(mxfp4_codebook, w, q);
}

FLATTEN float32x4_t scale_half(const uint8_t *w, size_t quad)
{
	return four_halves(w + 8 * quad);
}

/* mxfp4_scale(), but e < 2, which files have in blocks of zeros only, counts as zero. */
FLATTEN float32x4_t scale_e8m0(const uint8_t *w, size_t quad)
{
	uint8x8_t e = vreinterpret_u8_u32(vdup_n_u32(load_u32(w + 4 * quad)));
	uint16x4_t wide = vget_low_u16(vmovl_u8(vqsub_u8(e, vdup_n_u8(1))));

	return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(wide), 23));
}

/* start[b * T + t] = -off * sum of token t's codes of column b */
FLATTEN void start_sums(const int8_t *q, size_t columns, size_t T, int off, int32_t *start)
{
	const int8x16_t offs = vdupq_n_s8((int8_t)-off);

	for (size_t b = 0; b < columns; b++, start += T) {
		int32x4_t s = vdupq_n_s32(0);

		for (size_t i = 0; i < 2 * T; i++, q += 16)
			s = vdotq_s32(s, offs, vld1q_s8(q));
		if (T == 1)
			*start = vaddvq_s32(s);
		else if (T == 2)
			vst1_s32(start, vadd_s32(vget_low_s32(s), vget_high_s32(s)));
		else
			vst1q_s32(start, s);
	}
}

/* Where a tile's parts are, for the columns at hand. */
struct tile {
	const int8_t *q;
	const float *d, *s;
	const int32_t *start;
};

/* What makes a type, beside its functions. */
struct type {
	size_t block_bytes, scale_bytes; /* of a block; of a column, d and m */
	int off;
	int shift;
	bool has_m;
};

/* Up to four tokens, from t on: acc += d * (d_act * sum of products), m * s_act with a minimum. */
FLATTEN void add_tokens(float32x4_t *acc, const int8x16_t q[8], struct tile *x, size_t t, size_t T,
			float32x4_t d, float32x4_t m, struct type type)
{
	const size_t count = T < 4 ? T : 4;
	int32x4_t p[4];

	if (T >= 4)
		FORGET(x->q);
	if (SMMLA) {
		mul_pairs(p, q, 8, x->q, t, T);
		unpair_sums(p, 4);
	}
	UNROLL
	for (size_t i = 0; i < count && !SMMLA; i++)
		p[i] = type.off && T <= FEW ? vdupq_n_s32(x->start[t + i]) : zero_sum();
	UNROLL
	for (size_t k = 0; k < 8 * count && !SMMLA; k++)
		p[k % count] =
			add_unit(p[k % count], q[k / count], x->q, k / count * T + t + k % count);
	UNROLL
	for (size_t i = 0; i < count; i++) {
		float32x4_t v =
			type.shift && T > FEW ? vcvtq_n_f32_s32(p[i], 4) : vcvtq_f32_s32(p[i]);

		acc[t + i] = vfmaq_f32(acc[t + i], times_token(v, x->d, t + i, T), d);
		if (type.has_m)
			acc[t + i] = add_times_token(acc[t + i], m, x->s, t + i, T);
	}
}

/* One quad of a column. */
FLATTEN void add_quad(float32x4_t *acc, const uint8_t *w, size_t quad, struct tile *x, size_t T,
		      struct type type, unpack_fn unpack, scale_fn scale)
{
	float32x4_t d = scale(w, quad), m = type.has_m ? four_halves(w + 32 + 8 * quad) : d;
	int8x16_t q[8];

	unpack(w + type.scale_bytes + 16 * quad, T > FEW, q);
	if (SMMLA)
		pair_codes(q, 8);
	add_tokens(acc, q, x, 0, T, d, m, type);
	if (T > 4)
		add_tokens(acc, q, x, 4, T, d, m, type);
	if (T > 8) {
		add_tokens(acc, q, x, 8, T, d, m, type);
		add_tokens(acc, q, x, 12, T, d, m, type);
	}
}

/* A stretch of columns, for `side` quads from @quad on. */
FLATTEN void add_columns(const uint8_t *w, size_t columns, size_t quad, size_t side, struct tile x,
			 size_t T, struct type type, unpack_fn unpack, scale_fn scale, bool first,
			 float *out, size_t out_stride)
{
	float32x4_t acc[16];

	UNROLL
	for (size_t i = 0; i < side * T; i++)
		acc[i] = first ? vdupq_n_f32(0) : vld1q_f32(out + i % T * out_stride + i / T * 4);
	for (size_t b = 0; b < columns; b++) {
		UNROLL
		for (size_t i = 0; i < side; i++)
			add_quad(acc + i * T, w, quad + i, &x, T, type, unpack, scale);
		w += PACK_ROWS * type.block_bytes;
		x.q += 32 * T;
		x.d += T;
		x.s += T;
		if (!SMMLA) /* which has none */
			x.start += T;
	}
	UNROLL
	for (size_t i = 0; i < side * T; i++)
		vst1q_f32(out + i % T * out_stride + i / T * 4, acc[i]);
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type type, unpack_fn unpack,
			scale_fn scale)
{
	const size_t column = PACK_ROWS * type.block_bytes, columns = n / 32;
	const size_t most = (T <= FEW ? MAX_STARTS : MAX_MANY) / T, side = T <= FEW ? QUADS : 1;
	const float *d = (const void *)((const char *)tile + act_d_off(n * T));
	const float *s = (const void *)((const char *)tile + act_s_off(n * T));
	int32_t start[SMMLA ? 1 : MAX_STARTS];
	int8_t pairs[SMMLA ? 32 * MAX_MANY : 1];

	for (size_t b = 0; b < columns; b += most) {
		size_t count = columns - b < most ? columns - b : most;
		struct tile x = {(const int8_t *)tile + b * 32 * T, d + b * T, s + b * T, start};

		if (type.off && T <= FEW)
			start_sums(x.q, count, T, type.off, start);
		if (SMMLA) {
			pair_tokens(x.q, 8 * count, T, pairs);
			x.q = pairs;
		}
		for (size_t g = 0; g < n_groups; g++)
			for (size_t quad = 0; quad < QUADS; quad += side)
				add_columns(w + (g * columns + b) * column, count, quad, side, x, T,
					    type, unpack, scale, !b, out + PACK_ROWS * g + 4 * quad,
					    out_stride);
	}
}

#define PACKED32(name, scale_bytes, off, shift, has_m, scale)                                      \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type type = {sizeof(struct block_##name), scale_bytes, off, shift,    \
					  has_m};                                                  \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type, name##_vectors, scale); \
	}                                                                                          \
	KERNEL(name)

PACKED32(q4_0, 32, 8, 4, false, scale_half)
PACKED32(q4_1, 64, 0, 0, true, scale_half)
PACKED32(q5_0, 32, 0, 0, false, scale_half)
PACKED32(q5_1, 64, -16, 0, true, scale_half)
PACKED32(q8_0, 32, 0, 0, false, scale_half)
PACKED32(iq4_nl, 32, 0, 0, false, scale_half)
PACKED32(mxfp4, 16, 0, 0, false, scale_e8m0)

#endif
