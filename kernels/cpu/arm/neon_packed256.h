/* SPDX-License-Identifier: MIT */
/*
 * Packed rows of 256-element blocks: the source of the SDOT kernels, and of the SMMLA kernels where
 * it is compiled for those (neon_packed.h). neon_packed256_dotprod.c says how it works. Private to
 * kernels/cpu/arm.
 */
#ifndef WEIR_KERNELS_CPU_ARM_NEON_PACKED256_H
#define WEIR_KERNELS_CPU_ARM_NEON_PACKED256_H

#include "kernels/cpu/arm/neon_packed.h"

/* A type's codes: with minimums, or with an offset to subtract, or just right. */
enum zero {
	MINIMUMS = -1,
	NO_OFFSET = 0,
	OFFSET_4 = 4,
	OFFSET_32 = 32,
};

/* What a column has for all tokens, beside its codes. */
struct scales {
	int32x4_t sub[16][QUADS];
	int8x16_t minimums[4][QUADS]; /* of four sub-blocks a lane */
	float32x4_t d[QUADS], dmin[QUADS];
};

/* Of the half column @half (0 or 1) of the quad at @w, the k-th code vector of register i. */
typedef uint8x16_t (*codes_fn)(const uint8_t *w, int half, int i, int k);
typedef void (*scales_fn)(const uint8_t *column, struct scales *s);

FLATTEN uint8x16_t and_bytes(uint8x16_t v, uint8_t mask)
{
	return vandq_u8(v, vdupq_n_u8(mask));
}

/*
 * The lower `bits` bits of v, and above them those of w: SLI, which v does not survive, or BIT,
 * which w does not. The one that is a fresh result is the one to lose, or gcc makes a copy.
 */
FLATTEN uint8x16_t insert_above(uint8x16_t v, uint8x16_t w, int bits)
{
	return bits == 2 ? vsliq_n_u8(v, w, 2) : vsliq_n_u8(v, w, 4);
}

FLATTEN uint8x16_t insert_below(uint8x16_t w, uint8x16_t v, int bits)
{
	return vbslq_u8(vdupq_n_u8((uint8_t)((1 << bits) - 1)), v, w);
}

/* Bit @from of every byte to bit @to; what is beside it comes along. */
FLATTEN uint8x16_t move_bit(uint8x16_t v, int from, int to)
{
	return from > to ? v >> (from - to) : v << (to - from);
}

/* Units of one byte to a number a lane. */
FLATTEN void spread_u8(uint8x16_t v, int32x4_t out[QUADS])
{
	uint16x8_t low = vmovl_u8(vget_low_u8(v)), high = vmovl_high_u8(v);

	out[0] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low)));
	out[1] = vreinterpretq_s32_u32(vmovl_high_u16(low));
	out[2] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high)));
	out[3] = vreinterpretq_s32_u32(vmovl_high_u16(high));
}

FLATTEN void spread_s8(int8x16_t v, int32x4_t out[QUADS])
{
	int16x8_t low = vmovl_s8(vget_low_s8(v)), high = vmovl_high_s8(v);

	out[0] = vmovl_s16(vget_low_s16(low));
	out[1] = vmovl_high_s16(low);
	out[2] = vmovl_s16(vget_low_s16(high));
	out[3] = vmovl_high_s16(high);
}

/* Byte j of each lane, signed. */
FLATTEN int32x4_t byte_of(int8x16_t v, int j)
{
	return vreinterpretq_s32_s8(v) << (24 - 8 * j) >> 24;
}

FLATTEN void load_d(const uint8_t *w, float32x4_t d[QUADS])
{
	UNROLL
	for (int quad = 0; quad < QUADS; quad++)
		d[quad] = four_halves(w + 8 * quad);
}

/*
 * Codes where they lie: those of registers 1 and 2 are 4-fold and 16-fold, the scales of the
 * others make up for it, and the column's sum is 16-fold.
 */
FLATTEN uint8x16_t codes_q2_k(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t v = vld1q_u8(w + q2_k_step(half, i, k));

	return i == 3 ? v >> 6 : and_bytes(v, (uint8_t)(3 << 2 * i));
}

FLATTEN void scales_q2_k(const uint8_t *column, struct scales *s)
{
	for (int q = 0; q < 4; q++) {
		uint16x8_t zip[4];
		uint8x16_t mn[4];

		UNROLL
		for (int j = 0; j < 4; j++) {
			uint8x16_t v = vld1q_u8(column + 64 + 64 * q + 16 * j);
			int i = q % 2 * 2 + j / 2;

			mn[j] = v >> 4;
			v = i % 3 ? and_bytes(v, 15) : v << 4;
			spread_u8(i == 1 ? v << 2 : v, s->sub[4 * q + j]);
		}
		zip[0] = vreinterpretq_u16_u8(vzip1q_u8(mn[0], mn[1]));
		zip[1] = vreinterpretq_u16_u8(vzip1q_u8(mn[2], mn[3]));
		zip[2] = vreinterpretq_u16_u8(vzip2q_u8(mn[0], mn[1]));
		zip[3] = vreinterpretq_u16_u8(vzip2q_u8(mn[2], mn[3]));
		s->minimums[q][0] = vreinterpretq_s8_u16(vzip1q_u16(zip[0], zip[1]));
		s->minimums[q][1] = vreinterpretq_s8_u16(vzip2q_u16(zip[0], zip[1]));
		s->minimums[q][2] = vreinterpretq_s8_u16(vzip1q_u16(zip[2], zip[3]));
		s->minimums[q][3] = vreinterpretq_s8_u16(vzip2q_u16(zip[2], zip[3]));
	}
	load_d(column, s->d);
	load_d(column + 32, s->dmin);
}

FLATTEN uint8x16_t codes_q3_k(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t v = vld1q_u8(w + q3_k_step(half, i, k));
	uint8x16_t high = vld1q_u8(w + q3_k_step(0, i, k) + 64);

	if (i == 0)
		return and_bytes(insert_below(move_bit(high, 4 * half, 2), v, 2), 7);
	return and_bytes(insert_above(v >> 2 * i, high >> (4 * half + i), 2), 7);
}

FLATTEN void scales_q3_k(const uint8_t *column, struct scales *s)
{
	const uint8x16_t two = vdupq_n_u8(0x30);

	UNROLL
	for (int quad = 0; quad < QUADS; quad++) {
		uint8x16_t a = vld1q_u8(column + 32 + 16 * quad);
		uint8x16_t b = vld1q_u8(column + 96 + 16 * quad);
		uint8x16_t c = vld1q_u8(column + 160 + 16 * quad);
		uint8x16_t four[4] = {
			vbslq_u8(two, c << 4, and_bytes(a, 15)),
			vbslq_u8(two, c << 2, and_bytes(b, 15)),
			vbslq_u8(two, c, a >> 4),
			vbslq_u8(two, c >> 2, b >> 4),
		};

		UNROLL
		for (int j = 0; j < 16; j++)
			s->sub[j][quad] =
				byte_of(vsubq_s8(as_codes(four[j / 4]), vdupq_n_s8(32)), j % 4);
	}
	load_d(column, s->d);
}

FLATTEN uint8x16_t codes_q4_k(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t v = vld1q_u8(w + q4_k_step(half, i, k));

	return i % 2 ? v >> 4 : and_bytes(v, 15);
}

/* q4_k_scales() for all rows. */
FLATTEN void scales_q4_k(const uint8_t *column, struct scales *s)
{
	UNROLL
	for (int quad = 0; quad < QUADS; quad++) {
		uint8x16_t a = vld1q_u8(column + 64 + 16 * quad);
		uint8x16_t b = vld1q_u8(column + 128 + 16 * quad);
		uint8x16_t c = vld1q_u8(column + 192 + 16 * quad);
		uint8x16_t low = and_bytes(a, 0x3f), high = vbslq_u8(vdupq_n_u8(15), c, a >> 2);

		UNROLL
		for (int j = 0; j < 4; j++) {
			s->sub[j][quad] = byte_of(as_codes(low), j);
			s->sub[4 + j][quad] = byte_of(as_codes(high), j);
		}
		s->minimums[0][quad] = as_codes(and_bytes(b, 0x3f));
		s->minimums[1][quad] = as_codes(vsriq_n_u8(b >> 2, c, 4));
	}
	load_d(column, s->d);
	load_d(column + 32, s->dmin);
}

FLATTEN uint8x16_t codes_q5_k(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t v = vld1q_u8(w + q5_k_step(half, i, k) + 64 * (i / 2));
	uint8x16_t high = vld1q_u8(w + q5_k_step(0, i, k) + 128);

	if (i % 2 == 0)
		return and_bytes(insert_below(move_bit(high, 4 * half + i, 4), v, 4), 31);
	return and_bytes(insert_above(v >> 4, high >> (4 * half + i), 4), 31);
}

FLATTEN void scales_q5_k(const uint8_t *column, struct scales *s)
{
	scales_q4_k(column, s);
}

FLATTEN uint8x16_t codes_q6_k(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t v = vld1q_u8(w + q6_k_step(half, i, k) + 64 * (i % 2));
	uint8x16_t high = vld1q_u8(w + q6_k_step(half, i, k) + 128);

	if (i < 2)
		return and_bytes(insert_below(move_bit(high, 2 * i, 4), v, 4), 63);
	v = insert_above(v >> 4, high >> 2 * i, 4);
	return i == 3 ? v : and_bytes(v, 63);
}

FLATTEN void scales_q6_k(const uint8_t *column, struct scales *s)
{
	UNROLL
	for (int j = 0; j < 16; j++)
		spread_s8(vld1q_s8((const int8_t *)column + 32 + 16 * j), s->sub[j]);
	load_d(column, s->d);
}

FLATTEN uint8x16_t codes_iq4_xs(const uint8_t *w, int half, int i, int k)
{
	uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(iq4_codebook));
	uint8x16_t v = vld1q_u8(w + iq4_xs_step(half, i, k % 4));

	return vqtbl1q_u8(table, k < 4 ? and_bytes(v, 15) : v >> 4);
}

/*
 * Even sub-blocks have the low nibbles, a byte each, odd ones the high. Of the 16 upper bits, each
 * byte gets the half that has its two, shifted to above the nibble.
 */
FLATTEN void scales_iq4_xs(const uint8_t *column, struct scales *s)
{
	static const uint8_t half_of[16] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
	static const int8_t even_shift[16] = {4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0};
	const uint8x16_t index = vld1q_u8(half_of), two = vdupq_n_u8(0x30);
	const int8x16_t shift = vld1q_s8(even_shift);

	UNROLL
	for (int quad = 0; quad < QUADS; quad++) {
		uint8x8_t halves = vld1_u8(column + 32 + 8 * quad);
		uint8x16_t low = vld1q_u8(column + 64 + 16 * quad);
		uint8x16_t high = vqtbl1q_u8(vcombine_u8(halves, halves), index);
		uint8x16_t odd = vshlq_u8(high, vsubq_s8(shift, vdupq_n_s8(2)));
		int8x16_t sc[2];

		high = vshlq_u8(high, shift);
		sc[0] = as_codes(vbslq_u8(two, high, and_bytes(low, 15)));
		sc[1] = as_codes(vbslq_u8(two, odd, low >> 4));
		UNROLL
		for (int j = 0; j < 8; j++)
			s->sub[j][quad] = byte_of(vsubq_s8(sc[j % 2], vdupq_n_s8(32)), j / 2);
	}
	load_d(column, s->d);
}

/* What of a tile belongs to a column. */
struct tile {
	const int8_t *q;
	const float *d;
	const int8_t *ready; /* see prepare() */
};

/* What makes a type, beside its functions. */
struct type {
	size_t block_bytes;
	int sub; /* elements of a sub-block */
	enum zero zero;
	int shift; /* the column's sum is 2^shift-fold: 0 or 4 */
};

/* Bytes of prepare()'s for a column. */
FLATTEN size_t ready_bytes(struct type type, size_t T)
{
	return (type.zero == MINIMUMS ? 2 : 4) * T * 256 / (size_t)type.sub;
}

/* Eight sums of two neighbouring groups' bsums, out of [..][T]. */
FLATTEN int16x8_t pair_sums(const int16_t *bsums, size_t T)
{
	int16x8_t a = vld1q_s16(bsums), b = vld1q_s16(bsums + (T <= 8 ? 8 : T));
	int32x4_t a2 = vreinterpretq_s32_s16(a), b2 = vreinterpretq_s32_s16(b);
	int64x2_t a4 = vreinterpretq_s64_s16(a), b4 = vreinterpretq_s64_s16(b);

	switch (T) {
	case 1:
		return vpaddq_s16(a, b);
	case 2:
		return vaddq_s16(vreinterpretq_s16_s32(vuzp1q_s32(a2, b2)),
				 vreinterpretq_s16_s32(vuzp2q_s32(a2, b2)));
	case 4:
		return vaddq_s16(vreinterpretq_s16_s64(vuzp1q_s64(a4, b4)),
				 vreinterpretq_s16_s64(vuzp2q_s64(a4, b4)));
	default:
		return vaddq_s16(a, b);
	}
}

/* bytes: [sub-blocks][T], to units of four sub-blocks; up to 28 bytes more are written. */
FLATTEN void put_units(const uint8_t *bytes, size_t sub_blocks, size_t T, int8_t *out)
{
	for (size_t u = 0; u < sub_blocks; u += 4)
		for (size_t t = 0; t < T; t += 8) {
			const uint8_t *from = bytes + u * T + t;
			uint8x8x4_t v = {{vld1_u8(from), vld1_u8(from + T), vld1_u8(from + 2 * T),
					  vld1_u8(from + 3 * T)}};

			vst4_u8((uint8_t *)out + u * T + 4 * t, v);
		}
}

/* For minimums: all sub-blocks' h in units of four, then all l. */
FLATTEN void prepare_minimums(const int16_t *bsums, size_t T, size_t sub_blocks, int8_t *out)
{
	uint8_t h[16 * TILE_MAX + 8], l[16 * TILE_MAX + 8];

	for (size_t i = 0; i < sub_blocks * T; i += 8) {
		int16x8_t v;

		if (sub_blocks == 16)
			v = vld1q_s16(bsums + i);
		else if (T <= 8)
			v = pair_sums(bsums + 2 * i, T);
		else
			v = pair_sums(bsums + i / T * 2 * T + i % T, T);
		vst1_u8(h + i, vreinterpret_u8_s8(vshrn_n_s16(v, 7)));
		vst1_u8(l + i, vand_u8(vreinterpret_u8_s8(vmovn_s16(v)), vdup_n_u8(127)));
	}
	put_units(h, sub_blocks, T, out);
	put_units(l, sub_blocks, T, out + sub_blocks * T);
}

/* What a column's bsums are needed as; nothing where codes are right. */
FLATTEN void prepare(const int16_t *bsums, size_t T, struct type type, int8_t *out)
{
	if (type.zero == MINIMUMS)
		prepare_minimums(bsums, T, 256 / (size_t)type.sub, out);
	else if (type.zero != NO_OFFSET && T <= FEW)
		for (size_t i = 0; i < 16 * T; i += 4, out += 16)
			vst1q_s32((int32_t *)(void *)out,
				  vmull_n_s16(vld1_s16(bsums + i), (int16_t) - (int)type.zero));
}

/* What sum number n of a token begins with. */
FLATTEN int32x4_t start(struct tile x, size_t n, size_t T, struct type type)
{
	if (type.zero <= NO_OFFSET || T > FEW)
		return zero_sum();
	return vdupq_n_s32(((const int32_t *)(const void *)x.ready)[n]);
}

/* Half a column of `side` quads: code vectors that come from the same bytes one after the other. */
FLATTEN void add_few(int32x4_t *sums, const uint8_t *w, const struct scales *s, size_t quad,
		     size_t side, struct tile *x, size_t T, int half, int part, struct type type,
		     codes_fn codes)
{
	const int parts = 32 / type.sub, vectors = type.sub / 4;
	const size_t each = side * T, first = 32 * (size_t)half; /* unit */
	int32x4_t p[16];

	FORGET(x->q);
	UNROLL
	for (size_t n = 0; n < 4 * each; n++)
		p[n] = start(*x, ((4 * half + n / each) * parts + part) * T + n % T, T, type);
	UNROLL
	for (int k = vectors * part; k < vectors * (part + 1); k++) {
		UNROLL
		for (size_t i = 0; i < 4; i++) {
			const size_t unit = first + 8 * i + (size_t)k;
			int8x16_t c[2];

			UNROLL
			for (size_t n = 0; n < side; n++)
				c[n] = as_codes(codes(w + 16 * n, half, (int)i, k));
			UNROLL
			for (size_t n = 0; n < each; n++)
				p[i * each + n] = add_unit_next(p[i * each + n], c[n / T], x->q,
								unit * T + n % T);
		}
	}
	UNROLL
	for (size_t n = 0; n < 4 * each; n++)
		sums[n % each] = vmlaq_s32(
			sums[n % each], p[n],
			s->sub[(4 * half + (int)(n / each)) * parts + part][quad + n % each / T]);
}

/* Four tokens, from t on, times the code vectors of a sub-block; first: its first unit. */
FLATTEN void add_4_tokens(int32x4_t *sums, const int8x16_t c[8], int32x4_t scale, struct tile *x,
			  size_t first, size_t t, size_t T, size_t vectors)
{
	int32x4_t p[4];

	FORGET(x->q);
	UNROLL
	for (size_t n = 0; n < 4; n++)
		p[n] = zero_sum();
	UNROLL
	for (size_t n = 0; n < 4 * vectors; n++)
		p[n % 4] = add_unit_next(p[n % 4], c[n / 4], x->q, (first + n / 4) * T + t + n % 4);
	UNROLL
	for (size_t n = 0; n < 4; n++)
		sums[t + n] = vmlaq_s32(sums[t + n], p[n], scale);
}

/* The same with SMMLA; c, scale and sums are pairs. */
FLATTEN void add_4_in_pairs(int32x4_t *sums, const int8x16_t c[8], const int32x4_t scale[2],
			    struct tile *x, size_t first, size_t t, size_t T, size_t vectors)
{
	int32x4_t p[4];

	FORGET(x->q);
	mul_pairs(p, c, vectors, x->q + first * 4 * T, t, T);
	UNROLL
	for (size_t n = 0; n < 4; n++)
		sums[t + n] = vmlaq_s32(sums[t + n], p[n], scale[n % 2]);
}

/* Half a column of one quad with many tokens: a sub-block's code vectors stay in registers. */
FLATTEN void add_many(int32x4_t *sums, const uint8_t **w, const struct scales *s, size_t quad,
		      struct tile *x, size_t T, int half, int part, struct type type,
		      codes_fn codes)
{
	const int parts = 32 / type.sub, vectors = type.sub / 4;

	UNROLL
	for (int i = 0; i < 4; i++) {
		const int n = (4 * half + i) * parts + part;
		const size_t first = (size_t)(n * vectors);
		const int32x4_t scale = s->sub[n][quad];
		const int32x4_t pair[2] = {vzip1q_s32(scale, scale), vzip2q_s32(scale, scale)};
		int8x16_t c[8];

		FORGET(*w);
		UNROLL
		for (int k = 0; k < vectors; k++) {
			c[k] = as_codes(codes(*w, half, i, vectors * part + k));
			if (type.zero > NO_OFFSET)
				c[k] = vsubq_s8(c[k], vdupq_n_s8((int8_t)type.zero));
		}
		if (SMMLA)
			pair_codes(c, (size_t)vectors);
		UNROLL
		for (size_t t = 0; t < T; t += 4)
			if (SMMLA)
				add_4_in_pairs(sums, c, pair, x, first, t, T, (size_t)vectors);
			else
				add_4_tokens(sums, c, scale, x, first, t, T, (size_t)vectors);
	}
}

/* acc += d_act * (d * sum - dmin * msum) */
FLATTEN float32x4_t finish(float32x4_t acc, int32x4_t sum, const struct scales *s, size_t quad,
			   struct tile x, size_t t, size_t T, struct type type)
{
	const size_t units = 64 / (size_t)type.sub;
	float32x4_t v = type.shift ? vcvtq_n_f32_s32(sum, 4) : vcvtq_f32_s32(sum);
	int32x4_t msum = zero_sum();

	v = vmulq_f32(v, s->d[quad]);
	if (type.zero != MINIMUMS)
		return add_times_token(acc, v, x.d, t, T);
	UNROLL
	for (size_t u = 0; u < units; u++)
		msum = add_unit_next(msum, s->minimums[u][quad], x.ready, u * T + t);
	msum = vshlq_n_s32(msum, 7);
	UNROLL
	for (size_t u = 0; u < units; u++)
		msum = add_unit_next(msum, s->minimums[u][quad], x.ready, (units + u) * T + t);
	v = vfmsq_f32(v, vcvtq_f32_s32(msum), s->dmin[quad]);
	return add_times_token(acc, v, x.d, t, T);
}

/* acc: [QUADS][T] */
FLATTEN void add_column(float32x4_t *acc, const uint8_t *w, struct tile x, size_t T,
			struct type type, codes_fn codes, scales_fn get_scales)
{
	const size_t side = T <= 2 ? 2 : 1;
	struct scales s;

	get_scales(w, &s);
	for (size_t quad = 0; quad < QUADS; quad += side, acc += side * T) {
		const uint8_t *from = w + 16 * quad;
		int32x4_t sums[16];

		UNROLL
		for (size_t n = 0; n < side * T; n++)
			sums[n] = zero_sum();
		UNROLL
		for (int n = 0; n < 2 * 32 / type.sub; n++) {
			const int half = n * type.sub / 32, part = n % (32 / type.sub);

			if (T <= FEW)
				add_few(sums, from, &s, quad, side, &x, T, half, part, type, codes);
			else
				add_many(sums, &from, &s, quad, &x, T, half, part, type, codes);
		}
		if (SMMLA)
			unpair_sums(sums, T);
		UNROLL
		for (size_t n = 0; n < side * T; n++)
			acc[n] = finish(acc[n], sums[n], &s, quad + n / T, x, n % T, T, type);
	}
}

FLATTEN void add_columns(const uint8_t *w, size_t columns, struct tile x, size_t T,
			 struct type type, codes_fn codes, scales_fn get_scales, bool first,
			 float *out, size_t out_stride)
{
	float32x4_t acc[QUADS * TILE_MAX];

	for (size_t n = 0; n < QUADS * T; n++)
		acc[n] = first ? vdupq_n_f32(0) : vld1q_f32(out + n % T * out_stride + n / T * 4);
	for (size_t b = 0; b < columns; b++) {
		add_column(acc, w, x, T, type, codes, get_scales);
		w += PACK_ROWS * type.block_bytes;
		x.q += 256 * T;
		x.d += T;
		x.ready += ready_bytes(type, T);
	}
	for (size_t n = 0; n < QUADS * T; n++)
		vst1q_f32(out + n % T * out_stride + n / T * 4, acc[n]);
}

/* Columns of a stretch: T times so many. Room for prepare(), and for what it writes too much. */
#define MAX_COLUMNS 128
#define MAX_READY   (64 * MAX_COLUMNS + 32)

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type type, codes_fn codes,
			scales_fn get_scales)
{
	const size_t column = PACK_ROWS * type.block_bytes, columns = n / 256;
	const size_t most = MAX_COLUMNS / T;
	const float *d = (const void *)((const char *)tile + act_d_off(n * T));
	const int16_t *bsums = (const void *)((const char *)tile + act_bsums_off(n * T));
	_Alignas(16) int8_t ready[MAX_READY];
	int8_t pairs[SMMLA ? 256 * MAX_COLUMNS : 1];

	for (size_t b = 0; b < columns; b += most) {
		size_t count = columns - b < most ? columns - b : most;
		struct tile x = {(const int8_t *)tile + b * 256 * T, d + b * T, ready};

		if (SMMLA) {
			pair_tokens(x.q, 64 * count, T, pairs);
			x.q = pairs;
		}
		for (size_t i = 0; i < count; i++)
			prepare(bsums + (b + i) * 16 * T, T, type,
				ready + i * ready_bytes(type, T));
		for (size_t g = 0; g < n_groups; g++)
			add_columns(w + (g * columns + b) * column, count, x, T, type, codes,
				    get_scales, !b, out + PACK_ROWS * g, out_stride);
	}
}

#define TYPE(name, sub, zero, shift)                                                               \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type type = {sizeof(struct block_##name), sub, zero, shift};          \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type, codes_##name,           \
			   scales_##name);                                                         \
	}                                                                                          \
	KERNEL(name)

TYPE(q2_k, 16, MINIMUMS, 4)
TYPE(q3_k, 16, OFFSET_4, 0)
TYPE(q4_k, 32, MINIMUMS, 0)
TYPE(q5_k, 32, MINIMUMS, 0)
TYPE(q6_k, 16, OFFSET_32, 0)
TYPE(iq4_xs, 32, NO_OFFSET, 0)

#endif
