// SPDX-License-Identifier: MIT
/*
 * NEON: types of 256-element blocks.
 *
 * A type is described by its *codes* (128 weights to eight groups), its *scales* for
 * dequantize, and by one function that adds a block's dot product to four running floats:
 *
 *	w = d * sc * (code - bias), less dmin * mn where the type has minimums
 *
 * In a dot product the sums of a block are integers to the end: four sums of groups or of
 * sub-blocks, times four scales, are added up in four lanes, which a block's d then multiplies.
 * Biases and minimums are products of scales with the activation's sums of 16 (bsums).
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon.h"

/* 128 weights, in their order. */
struct codes128 {
	int8x16_t group[8];
};

/* For dequantize: a scale and a minimum for each of the 16 groups. */
struct scales256 {
	int8_t sc[16];
	int8_t mn[16];
	float d;
	float dmin;
};

/* The activation at a block: 256 q, their d, their 16 sums. */
struct act256 {
	const int8_t *q;
	float d;
	const int16_t *bsums;
};

typedef struct codes128 (*codes128_fn)(const uint8_t *block, int half);
typedef void (*scales256_fn)(const uint8_t *block, struct scales256 *s);
typedef float32x4_t (*add_block_fn)(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
				    struct act256 a);

/* --- parts of a dot product ------------------------------------------------------------- */

/* acc + the sums of four groups times their scales */
FLATTEN int32x4_t add_4_groups(int32x4_t acc, struct sums4 *sums, const int8x16_t group[4],
			       const int8_t *q, int32x4_t sc)
{
	sums4_add(sums, 0, group[0], q);
	sums4_add(sums, 1, group[1], q + 16);
	sums4_add(sums, 2, group[2], q + 32);
	sums4_add(sums, 3, group[3], q + 48);
	return vmlaq_s32(acc, sums4_take(sums), sc);
}

/* The sixteen groups of a block, with a signed scale each. */
FLATTEN int32x4_t add_16_groups(struct sums4 *sums, struct codes128 c0, struct codes128 c1,
				const int8_t *q, int8x16_t sc)
{
	int16x8_t first = vmovl_s8(vget_low_s8(sc)), last = vmovl_high_s8(sc);
	int32x4_t isum = vdupq_n_s32(0);

	isum = add_4_groups(isum, sums, c0.group, q, vmovl_s16(vget_low_s16(first)));
	isum = add_4_groups(isum, sums, c0.group + 4, q + 64, vmovl_high_s16(first));
	isum = add_4_groups(isum, sums, c1.group, q + 128, vmovl_s16(vget_low_s16(last)));
	return add_4_groups(isum, sums, c1.group + 4, q + 192, vmovl_high_s16(last));
}

/* acc + the sums of four sub-blocks of 32 times their scales */
FLATTEN int32x4_t add_4_subblocks(int32x4_t acc, struct sums4 *sums, struct codes128 c,
				  const int8_t *q, int32x4_t sc)
{
	sums4_add(sums, 0, c.group[0], q);
	sums4_add(sums, 0, c.group[1], q + 16);
	sums4_add(sums, 1, c.group[2], q + 32);
	sums4_add(sums, 1, c.group[3], q + 48);
	sums4_add(sums, 2, c.group[4], q + 64);
	sums4_add(sums, 2, c.group[5], q + 80);
	sums4_add(sums, 3, c.group[6], q + 96);
	sums4_add(sums, 3, c.group[7], q + 112);
	return vmlaq_s32(acc, sums4_take(sums), sc);
}

/* acc + a * b, eight products in four lanes */
FLATTEN int32x4_t add_8_products(int32x4_t acc, int16x8_t a, int16x8_t b)
{
	return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(a), vget_low_s16(b)), a, b);
}

/* The sum of 16 scales or minimums times bsums, in four lanes. */
FLATTEN int32x4_t times_bsums(int8x16_t sc, const int16_t *bsums)
{
	int32x4_t acc = vdupq_n_s32(0);

	acc = add_8_products(acc, vmovl_s8(vget_low_s8(sc)), vld1q_s16(bsums));
	return add_8_products(acc, vmovl_high_s8(sc), vld1q_s16(bsums + 8));
}

/* The sums of 32 from the sums of 16. */
FLATTEN int16x8_t bsums32(const int16_t *bsums)
{
	return vpaddq_s16(vld1q_s16(bsums), vld1q_s16(bsums + 8));
}

/* acc + isum * d * (the activation's d) */
FLATTEN float32x4_t add_scaled(float32x4_t acc, int32x4_t isum, const uint8_t *d, struct act256 a)
{
	return vfmaq_n_f32(acc, vcvtq_f32_s32(isum), load_half(d) * a.d);
}

/* acc + sum * d * (the activation's d) - msum * dmin * (the activation's d) */
FLATTEN float32x4_t add_scaled_min(float32x4_t acc, float32x4_t sum, int32x4_t msum,
				   const uint8_t *d_dmin, struct act256 a)
{
	float32x4_t scale = vmulq_n_f32(halves_to_f32(load_u32(d_dmin)), a.d);

	acc = vfmaq_laneq_f32(acc, sum, scale, 0);
	return vfmsq_laneq_f32(acc, vcvtq_f32_s32(msum), scale, 1);
}

/* --- Q4_K, Q5_K ------------------------------------------------------------------------- */

/* Their first 16 bytes are alike. */
static void scales_q4_k(const uint8_t *block, struct scales256 *s)
{
	const struct block_q4_k *b = (const void *)block;
	uint8_t sm[16];

	q4_k_scales(b->scales, sm);
	for (int i = 0; i < 16; i++) {
		s->sc[i] = (int8_t)sm[i / 2];
		s->mn[i] = (int8_t)sm[8 + i / 2];
	}
	s->d = load_half(b->d);
	s->dmin = load_half(b->dmin);
}

static void scales_q5_k(const uint8_t *block, struct scales256 *s)
{
	scales_q4_k(block, s);
}

/* Scales and minimums of eight sub-blocks. */
struct scales8 {
	int32x4_t sc[2];
	int16x8_t sc16;
	int16x8_t mn;
};

/*
 * q4_k_scales() of blocks.h, on eight bytes at once: bytes 0-3 of `first` (sub-blocks 0-3) and
 * of `last` (4-7) are scales, bytes 4-7 minimums.
 */
FLATTEN struct scales8 unpack_scales8(const uint8_t scales[12])
{
	uint64_t ab = load_u64(scales), c = load_u32(scales + 8);
	uint64_t first = ab & 0x3f3f3f3f3f3f3f3f;
	uint64_t last = ((c | c << 28) & 0x0f0f0f0f0f0f0f0f) | (ab >> 2 & 0x3030303030303030);
	uint64x2_t sm0 = vreinterpretq_u64_u16(vmovl_u8(vcreate_u8(first)));
	uint64x2_t sm1 = vreinterpretq_u64_u16(vmovl_u8(vcreate_u8(last)));
	struct scales8 s;

	s.sc16 = vreinterpretq_s16_u64(vzip1q_u64(sm0, sm1));
	s.mn = vreinterpretq_s16_u64(vzip2q_u64(sm0, sm1));
	s.sc[0] = vmovl_s16(vget_low_s16(s.sc16));
	s.sc[1] = vmovl_high_s16(s.sc16);
	return s;
}

/* Groups k and k + 2 of two sub-blocks. */
FLATTEN void nibbles_at(const uint8_t *qs, int k, int8x16_t group[4])
{
	uint8x16_t v = vld1q_u8(qs + k * 16);

	group[k] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
	group[k + 2] = vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

FLATTEN struct codes128 codes_q4_k(const uint8_t *block, int half)
{
	const uint8_t *qs = ((const struct block_q4_k *)block)->qs + half * 64;
	struct codes128 c;

	nibbles_at(qs, 0, c.group);
	nibbles_at(qs, 1, c.group);
	nibbles_at(qs + 32, 0, c.group + 4);
	nibbles_at(qs + 32, 1, c.group + 4);
	return c;
}

FLATTEN float32x4_t add_q4_k(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			     struct act256 a)
{
	const struct block_q4_k *b = (const void *)block;
	struct scales8 s = unpack_scales8(b->scales);
	int32x4_t isum = vdupq_n_s32(0), msum = vdupq_n_s32(0);

	isum = add_4_subblocks(isum, sums, codes_q4_k(block, 0), a.q, s.sc[0]);
	isum = add_4_subblocks(isum, sums, codes_q4_k(block, 1), a.q + 128, s.sc[1]);
	msum = add_8_products(msum, s.mn, bsums32(a.bsums));
	return add_scaled_min(acc, vcvtq_f32_s32(isum), msum, b->d, a);
}

/*
 * Groups k and k + 2 of two sub-blocks: q - 16, which is a nibble with all bits above it set
 * where the fifth bit is clear. clear: the inverted qh; bit: of the first of the sub-blocks.
 */
FLATTEN void five_bits_at(const uint8_t *qs, int k, uint8x16_t clear, int bit, int8x16_t group[4])
{
	uint8x16_t v = vld1q_u8(qs + k * 16);
	uint8x16_t low = vtstq_u8(clear, vdupq_n_u8(1 << bit));
	uint8x16_t high = vtstq_u8(clear, vdupq_n_u8(2 << bit));

	group[k] = vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(15), v, low));
	group[k + 2] = vreinterpretq_s8_u8(vsriq_n_u8(high, v, 4));
}

FLATTEN struct codes128 codes_q5_k(const uint8_t *block, int half)
{
	const struct block_q5_k *b = (const void *)block;
	const uint8_t *qs = b->qs + half * 64;
	uint8x16_t clear0 = vmvnq_u8(vld1q_u8(b->qh)), clear1 = vmvnq_u8(vld1q_u8(b->qh + 16));
	struct codes128 c;

	FENCE(clear0, clear1);
	five_bits_at(qs, 0, clear0, half * 4, c.group);
	five_bits_at(qs, 1, clear1, half * 4, c.group);
	five_bits_at(qs + 32, 0, clear0, half * 4 + 2, c.group + 4);
	five_bits_at(qs + 32, 1, clear1, half * 4 + 2, c.group + 4);
	return c;
}

FLATTEN float32x4_t add_q5_k(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			     struct act256 a)
{
	const struct block_q5_k *b = (const void *)block;
	struct scales8 s = unpack_scales8(b->scales);
	int16x8_t sums32 = bsums32(a.bsums);
	int32x4_t isum = vdupq_n_s32(0), msum = vdupq_n_s32(0);

	isum = add_8_products(isum, vshlq_n_s16(s.sc16, 4), sums32); /* the bias of -16 */
	isum = add_4_subblocks(isum, sums, codes_q5_k(block, 0), a.q, s.sc[0]);
	isum = add_4_subblocks(isum, sums, codes_q5_k(block, 1), a.q + 128, s.sc[1]);
	msum = add_8_products(msum, s.mn, sums32);
	return add_scaled_min(acc, vcvtq_f32_s32(isum), msum, b->d, a);
}

/* --- Q2_K ------------------------------------------------------------------------------- */

static void scales_q2_k(const uint8_t *block, struct scales256 *s)
{
	const struct block_q2_k *b = (const void *)block;

	for (int i = 0; i < 16; i++) {
		s->sc[i] = b->scales[i] & 15;
		s->mn[i] = b->scales[i] >> 4;
	}
	s->d = load_half(b->d);
	s->dmin = load_half(b->dmin);
}

/* Codes cut out where they are, that is times 1, 4 and 16; the last ones moved to the right. */
FLATTEN void two_bits_at(const uint8_t *qs, int k, int8x16_t group[8])
{
	uint8x16_t v = vld1q_u8(qs + k * 16);

	group[k] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(3)));
	group[k + 2] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(3 << 2)));
	group[k + 4] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(3 << 4)));
	group[k + 6] = vreinterpretq_s8_u8(vshrq_n_u8(v, 6));
}

FLATTEN struct codes128 cut_q2_k(const uint8_t *block, int half)
{
	const uint8_t *qs = ((const struct block_q2_k *)block)->qs + half * 32;
	struct codes128 c;

	two_bits_at(qs, 0, c.group);
	two_bits_at(qs, 1, c.group);
	return c;
}

FLATTEN struct codes128 codes_q2_k(const uint8_t *block, int half)
{
	struct codes128 c = cut_q2_k(block, half);

	for (int k = 0; k < 2; k++) {
		c.group[k + 2] = vshrq_n_s8(c.group[k + 2], 2);
		c.group[k + 4] = vshrq_n_s8(c.group[k + 4], 4);
	}
	return c;
}

/* Bytes 4i .. 4i+3 as 32-bit numbers. */
FLATTEN int32x4_t widen_4_bytes(uint8x16_t v, uint32_t i)
{
	/* An index beyond 15 looks up zero. */
	const uint32x4_t index = {
		0xffffff00 + 4 * i,
		0xffffff01 + 4 * i,
		0xffffff02 + 4 * i,
		0xffffff03 + 4 * i,
	};

	return vreinterpretq_s32_u8(vqtbl1q_u8(v, vreinterpretq_u8_u32(index)));
}

/* Scales are taken times 16, 4, 1, 16 where codes are times 1, 4, 16, 1: isum is 16-fold. */
FLATTEN float32x4_t add_q2_k(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			     struct act256 a)
{
	static const int8_t shifts[16] = {4, 4, 2, 2, 0, 0, 4, 4, 4, 4, 2, 2, 0, 0, 4, 4};
	const struct block_q2_k *b = (const void *)block;
	uint8x16_t v = vld1q_u8(b->scales);
	uint8x16_t sc = vshlq_u8(vandq_u8(v, vdupq_n_u8(15)), vld1q_s8(shifts));
	struct codes128 c0 = cut_q2_k(block, 0), c1 = cut_q2_k(block, 1);
	int32x4_t isum = vdupq_n_s32(0), msum;

	isum = add_4_groups(isum, sums, c0.group, a.q, widen_4_bytes(sc, 0));
	isum = add_4_groups(isum, sums, c0.group + 4, a.q + 64, widen_4_bytes(sc, 1));
	isum = add_4_groups(isum, sums, c1.group, a.q + 128, widen_4_bytes(sc, 2));
	isum = add_4_groups(isum, sums, c1.group + 4, a.q + 192, widen_4_bytes(sc, 3));
	msum = times_bsums(vreinterpretq_s8_u8(vshrq_n_u8(v, 4)), a.bsums);
	return add_scaled_min(acc, vcvtq_n_f32_s32(isum, 4), msum, b->d, a);
}

/* --- Q3_K ------------------------------------------------------------------------------- */

static void scales_q3_k(const uint8_t *block, struct scales256 *s)
{
	const struct block_q3_k *b = (const void *)block;

	q3_k_scales(b->scales, s->sc);
	s->d = load_half(b->d);
}

/* q - 4: the low two bits of v, with all bits above them set where the third bit is clear. */
FLATTEN int8x16_t three_bits(uint8x16_t v, uint8x16_t clear, int bit)
{
	uint8x16_t top = vtstq_u8(clear, vdupq_n_u8(1 << bit));

	return vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(3), v, top));
}

FLATTEN void three_bits_at(const uint8_t *qs, int half, int k, uint8x16_t clear, int8x16_t group[8])
{
	uint8x16_t v = vld1q_u8(qs + half * 32 + k * 16);

	group[k] = three_bits(v, clear, half * 4);
	group[k + 2] = three_bits(vshrq_n_u8(v, 2), clear, half * 4 + 1);
	group[k + 4] = three_bits(vshrq_n_u8(v, 4), clear, half * 4 + 2);
	group[k + 6] = three_bits(vshrq_n_u8(v, 6), clear, half * 4 + 3);
}

FLATTEN struct codes128 codes_q3_k(const uint8_t *block, int half)
{
	const struct block_q3_k *b = (const void *)block;
	uint8x16_t clear0 = vmvnq_u8(vld1q_u8(b->hmask)),
		   clear1 = vmvnq_u8(vld1q_u8(b->hmask + 16));
	struct codes128 c;

	FENCE(clear0, clear1);
	three_bits_at(b->qs, half, 0, clear0, c.group);
	three_bits_at(b->qs, half, 1, clear1, c.group);
	return c;
}

/* q3_k_scales() of blocks.h, on eight bytes at once. */
FLATTEN int8x16_t unpack_scales16(const uint8_t scales[12])
{
	uint64_t ab = load_u64(scales), c = load_u32(scales + 8);
	uint64_t first, last;

	c |= c << 30; /* the upper four bytes: the lower, moved to the right by two bits */
	first = (ab & 0x0f0f0f0f0f0f0f0f) | (c << 4 & 0x3030303030303030);
	last = (ab >> 4 & 0x0f0f0f0f0f0f0f0f) | (c & 0x3030303030303030);
	return vsubq_s8(vcombine_s8(vcreate_s8(first), vcreate_s8(last)), vdupq_n_s8(32));
}

FLATTEN float32x4_t add_q3_k(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			     struct act256 a)
{
	const struct block_q3_k *b = (const void *)block;
	struct codes128 c0 = codes_q3_k(block, 0), c1 = codes_q3_k(block, 1);

	return add_scaled(acc, add_16_groups(sums, c0, c1, a.q, unpack_scales16(b->scales)), b->d,
			  a);
}

/* --- Q6_K ------------------------------------------------------------------------------- */

static void scales_q6_k(const uint8_t *block, struct scales256 *s)
{
	const struct block_q6_k *b = (const void *)block;

	memcpy(s->sc, b->scales, sizeof(s->sc));
	s->d = load_half(b->d);
}

/* q, from which the bias of 32 is still to be taken */
FLATTEN void six_bits_at(const struct block_q6_k *b, int half, int k, int8x16_t group[8])
{
	const uint8x16_t six = vdupq_n_u8(0x3f), top_two = vdupq_n_u8(0x30);
	uint8x16_t v0 = vld1q_u8(b->ql + half * 64 + k * 16);
	uint8x16_t v1 = vld1q_u8(b->ql + half * 64 + 32 + k * 16);
	uint8x16_t h0 = vld1q_u8(b->qh + half * 32 + k * 16);
	uint8x16_t h1 = vshrq_n_u8(h0, 2);
	uint8x16_t high0 = vshrq_n_u8(v0, 4), high1 = vshrq_n_u8(v1, 4);

	FENCE(high0, v0);
	FENCE(high1, v1);
	group[k] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(v0, h0, 4), six));
	group[k + 2] = vreinterpretq_s8_u8(vandq_u8(vsliq_n_u8(v1, h1, 4), six));
	group[k + 4] = vreinterpretq_s8_u8(vbslq_u8(top_two, h0, high0));
	group[k + 6] = vreinterpretq_s8_u8(vbslq_u8(top_two, h1, high1));
}

FLATTEN struct codes128 codes_q6_k(const uint8_t *block, int half)
{
	struct codes128 c;

	six_bits_at((const void *)block, half, 0, c.group);
	six_bits_at((const void *)block, half, 1, c.group);
	return c;
}

FLATTEN float32x4_t add_q6_k(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			     struct act256 a)
{
	const struct block_q6_k *b = (const void *)block;
	struct codes128 c0 = codes_q6_k(block, 0), c1 = codes_q6_k(block, 1);
	int8x16_t sc = vld1q_s8(b->scales);
	int32x4_t isum = add_16_groups(sums, c0, c1, a.q, sc);
	int32x4_t bias = vshlq_n_s32(times_bsums(sc, a.bsums), 5);

	return add_scaled(acc, vsubq_s32(isum, bias), b->d, a);
}

/* --- IQ4_XS ----------------------------------------------------------------------------- */

static void scales_iq4_xs(const uint8_t *block, struct scales256 *s)
{
	const struct block_iq4_xs *b = (const void *)block;
	int8_t sc[8];

	iq4_xs_scales(b, sc);
	for (int i = 0; i < 16; i++)
		s->sc[i] = sc[i / 2];
	s->d = load_half(b->d);
}

/* One sub-block of 32. */
FLATTEN void lookup_32(const uint8_t *qs, int8x16_t group[2])
{
	int8x16_t table = vld1q_s8(iq4_codebook);
	uint8x16_t v = vld1q_u8(qs);

	group[0] = vqtbl1q_s8(table, vandq_u8(v, vdupq_n_u8(15)));
	group[1] = vqtbl1q_s8(table, vshrq_n_u8(v, 4));
}

FLATTEN struct codes128 codes_iq4_xs(const uint8_t *block, int half)
{
	const uint8_t *qs = ((const struct block_iq4_xs *)block)->qs + half * 64;
	struct codes128 c;

	lookup_32(qs, c.group);
	lookup_32(qs + 16, c.group + 2);
	lookup_32(qs + 32, c.group + 4);
	lookup_32(qs + 48, c.group + 6);
	return c;
}

/* iq4_xs_scales() of blocks.h: a lane of 16 bits for each sub-block. */
FLATTEN int16x8_t unpack_iq4_xs(const uint8_t *block)
{
	/* Bytes 4 and 5 of the block hold four low nibbles, 6 and 7 the others; 2 and 3 the rest.
	 */
	static const uint8_t nibbles_of[16] = {4, 5, 4, 5, 4, 5, 4, 5, 6, 7, 6, 7, 6, 7, 6, 7};
	const int16x8_t low_shift = {0, -4, -8, -12, 0, -4, -8, -12};
	const int16x8_t high_shift = {4, 2, 0, -2, -4, -6, -8, -10};
	uint8x16_t start = vld1q_u8(block);
	uint16x8_t low = vreinterpretq_u16_u8(vqtbl1q_u8(start, vld1q_u8(nibbles_of)));
	uint16x8_t high = vdupq_laneq_u16(vreinterpretq_u16_u8(start), 1);
	uint16x8_t sc =
		vbslq_u16(vdupq_n_u16(15), vshlq_u16(low, low_shift), vshlq_u16(high, high_shift));

	sc = vandq_u16(sc, vdupq_n_u16(0x3f));
	return vsubq_s16(vreinterpretq_s16_u16(sc), vdupq_n_s16(32));
}

FLATTEN float32x4_t add_iq4_xs(float32x4_t acc, struct sums4 *sums, const uint8_t *block,
			       struct act256 a)
{
	const struct block_iq4_xs *b = (const void *)block;
	struct codes128 c0 = codes_iq4_xs(block, 0), c1 = codes_iq4_xs(block, 1);
	int16x8_t sc = unpack_iq4_xs(block);
	int32x4_t isum = vdupq_n_s32(0);

	isum = add_4_subblocks(isum, sums, c0, a.q, vmovl_s16(vget_low_s16(sc)));
	isum = add_4_subblocks(isum, sums, c1, a.q + 128, vmovl_high_s16(sc));
	return add_scaled(acc, isum, b->d, a);
}

/* --- what all of them do ---------------------------------------------------------------- */

FLATTEN void dequantize128(const struct scales256 *s, struct codes128 c, int first_group, float *y,
			   int bias, bool has_min)
{
	for (int g = 0; g < 8; g++) {
		int8x16_t q = vsubq_s8(c.group[g], vdupq_n_s8(bias));
		float m = has_min ? s->dmin * (float)s->mn[first_group + g] : 0;

		store_group(y + g * 16, q, s->d * (float)s->sc[first_group + g], has_min, -m);
	}
}

FLATTEN void dequantize256(const uint8_t *w, float *y, size_t n, size_t block_bytes, int bias,
			   bool has_min, codes128_fn codes, scales256_fn scales)
{
	struct scales256 s;

	for (size_t i = 0; i < n; i += 256, w += block_bytes) {
		scales(w, &s);
		dequantize128(&s, codes(w, 0), 0, y + i, bias, has_min);
		dequantize128(&s, codes(w, 1), 8, y + i + 128, bias, has_min);
	}
}

FLATTEN float dot_row256(const uint8_t *w, const void *act, size_t n, size_t block_bytes,
			 add_block_fn add_block)
{
	const float *d = (const void *)((const char *)act + act_d_off(n));
	struct act256 a = {act, 0, (const void *)((const char *)act + act_bsums_off(n))};
	float32x4_t acc = vdupq_n_f32(0);
	struct sums4 sums;

	sums4_init(&sums);
	for (size_t i = 0; i < n / 256; i++) {
		a.d = d[i];
		acc = add_block(acc, &sums, w, a);
		w += block_bytes;
		a.q += 256;
		a.bsums += 16;
	}
	return vaddvq_f32(acc);
}

#define TYPE256(type, bias, has_min)                                                               \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize256(w, y, n, sizeof(struct block_##type), bias, has_min, codes_##type,   \
			      scales_##type);                                                      \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot_row256((const uint8_t *)w + r * stride, act, n,               \
					    sizeof(struct block_##type), add_##type);              \
	}                                                                                          \
                                                                                                   \
	const struct type_ops neon_##type = {ACT_Q8_256, dequantize_##type, dot_rows_##type}

/*
 * Budgets, for 256 weights:
 *			instructions	vector	cycles	bytes a cycle
 *	Q2_K		98		71	35.5	2.4
 *	Q3_K		135		97	48.5	2.3
 *	Q4_K		96		61	30.5	4.7
 *	Q5_K		124		87	43.5	4.0
 *	Q6_K		119		88	44	4.8
 *	IQ4_XS		104		74	37	3.7
 */
TYPE256(q2_k, 0, true);
TYPE256(q3_k, 0, false);
TYPE256(q4_k, 0, true);
TYPE256(q5_k, -16, true);
TYPE256(q6_k, 32, false);
TYPE256(iq4_xs, 0, false);

#endif
