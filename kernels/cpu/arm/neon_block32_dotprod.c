// SPDX-License-Identifier: MIT
/*
 * NEON: types of 32-element blocks.
 *
 * A type is described by two functions: its *codes* (one block to two vectors of int8) and its
 * *scales* (four consecutive blocks to four d and four m), and by a bias:
 *
 *	w = d * (code - bias), plus m where the type has an offset
 *
 * A dot product goes through a row four blocks at a time, lane i of every vector belonging to
 * block i of the four. With the activation's d and s as ad and as:
 *
 *	d * (ad * (sum of code * q) - bias * as), plus m * as where the type has an offset
 *
 * A row whose blocks are no multiple of four ends with a copy of what is left, filled up with
 * zeros.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon.h"

struct scales4 {
	float32x4_t d;
	float32x4_t m; /* where the type has an offset */
};

typedef int8x16x2_t (*codes32_fn)(const uint8_t *block);
typedef struct scales4 (*scales4_fn)(const uint8_t *blocks);

/* Four numbers of 16 bits, `step` bytes apart. */
FLATTEN uint64_t gather_u16(const uint8_t *p, size_t step)
{
	uint32_t low = load_u16(p) | (uint32_t)load_u16(p + step) << 16;
	uint32_t high = load_u16(p + 2 * step) | (uint32_t)load_u16(p + 3 * step) << 16;

	return low | (uint64_t)high << 32;
}

/* Two numbers of 32 bits. */
FLATTEN uint64_t gather_u32(const uint8_t *p, size_t step)
{
	return load_u32(p) | (uint64_t)load_u32(p + step) << 32;
}

/* Blocks that begin with d. */
FLATTEN struct scales4 scales_d(const uint8_t *blocks, size_t step)
{
	return (struct scales4){.d = halves_to_f32(gather_u16(blocks, step))};
}

/* Blocks that begin with d and m. */
FLATTEN struct scales4 scales_dm(const uint8_t *blocks, size_t step)
{
	uint64x1_t low = vcreate_u64(gather_u32(blocks, step));
	uint64x1_t high = vcreate_u64(gather_u32(blocks + 2 * step, step));
	float16x8_t dm = vreinterpretq_f16_u64(vcombine_u64(low, high));
	float16x8_t d = vuzp1q_f16(dm, dm);
	float16x8_t m = vuzp2q_f16(dm, dm);

	return (struct scales4){
		.d = vcvt_f32_f16(vget_low_f16(d)),
		.m = vcvt_f32_f16(vget_low_f16(m)),
	};
}

FLATTEN int8x16x2_t nibbles(const uint8_t *qs)
{
	uint8x16_t v = vld1q_u8(qs);

	return (int8x16x2_t){{
		vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))),
		vreinterpretq_s8_u8(vshrq_n_u8(v, 4)),
	}};
}

FLATTEN int8x16x2_t lookup(const int8_t codebook[16], const uint8_t *qs)
{
	int8x16_t table = vld1q_s8(codebook);
	int8x16x2_t q = nibbles(qs);

	return (int8x16x2_t){{
		vqtbl1q_s8(table, vreinterpretq_u8_s8(q.val[0])),
		vqtbl1q_s8(table, vreinterpretq_u8_s8(q.val[1])),
	}};
}

/*
 * The codes are q - 16: a nibble whose upper bits are all set where the fifth bit is clear. So
 * each element gets a byte of ones or zeros, made from the inverted fifth bits, and one
 * instruction inserts the nibble.
 */
FLATTEN int8x16x2_t five_bits(const uint8_t *qh, const uint8_t *qs)
{
	static const uint8_t byte_of[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
	static const uint8_t bit_of[16] = {1, 2, 4, 8, 16, 32, 64, 128,
					   1, 2, 4, 8, 16, 32, 64, 128};
	uint8x16_t index = vld1q_u8(byte_of);
	uint8x16_t bits = vld1q_u8(bit_of);
	uint8x16_t v = vld1q_u8(qs);
	uint8x16_t clear = vmvnq_u8(vld1q_u8(qh)); /* the block goes on behind the four bytes */
	uint8x16_t low = vtstq_u8(vqtbl1q_u8(clear, index), bits);
	uint8x16_t high = vtstq_u8(vqtbl1q_u8(clear, vaddq_u8(index, vdupq_n_u8(2))), bits);

	low = vbslq_u8(vdupq_n_u8(15), v, low);
	high = vsriq_n_u8(high, v, 4);
	return (int8x16x2_t){{vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)}};
}

FLATTEN int8x16x2_t codes_q4_0(const uint8_t *block)
{
	return nibbles(((const struct block_q4_0 *)block)->qs);
}

FLATTEN int8x16x2_t codes_q4_1(const uint8_t *block)
{
	return nibbles(((const struct block_q4_1 *)block)->qs);
}

FLATTEN int8x16x2_t codes_q5_0(const uint8_t *block)
{
	const struct block_q5_0 *b = (const void *)block;

	return five_bits(b->qh, b->qs);
}

FLATTEN int8x16x2_t codes_q5_1(const uint8_t *block)
{
	const struct block_q5_1 *b = (const void *)block;

	return five_bits(b->qh, b->qs);
}

FLATTEN int8x16x2_t codes_q8_0(const uint8_t *block)
{
	const uint8_t *qs = ((const struct block_q8_0 *)block)->qs;

	return (int8x16x2_t){{
		vreinterpretq_s8_u8(vld1q_u8(qs)),
		vreinterpretq_s8_u8(vld1q_u8(qs + 16)),
	}};
}

FLATTEN int8x16x2_t codes_iq4_nl(const uint8_t *block)
{
	return lookup(iq4_codebook, ((const struct block_iq4_nl *)block)->qs);
}

FLATTEN int8x16x2_t codes_mxfp4(const uint8_t *block)
{
	return lookup(mxfp4_codebook, ((const struct block_mxfp4 *)block)->qs);
}

FLATTEN struct scales4 scales_q4_0(const uint8_t *blocks)
{
	return scales_d(blocks, sizeof(struct block_q4_0));
}

FLATTEN struct scales4 scales_q4_1(const uint8_t *blocks)
{
	return scales_dm(blocks, sizeof(struct block_q4_1));
}

FLATTEN struct scales4 scales_q5_0(const uint8_t *blocks)
{
	return scales_d(blocks, sizeof(struct block_q5_0));
}

FLATTEN struct scales4 scales_q5_1(const uint8_t *blocks)
{
	return scales_dm(blocks, sizeof(struct block_q5_1));
}

FLATTEN struct scales4 scales_q8_0(const uint8_t *blocks)
{
	return scales_d(blocks, sizeof(struct block_q8_0));
}

FLATTEN struct scales4 scales_iq4_nl(const uint8_t *blocks)
{
	return scales_d(blocks, sizeof(struct block_iq4_nl));
}

/*
 * mxfp4_scale() of four blocks: (e - 1) << 23 is a float of 2^(e - 128) from e = 2 on, and below
 * (e + 1) << 21 is; each is the larger of the two where it is right.
 */
FLATTEN struct scales4 scales_mxfp4(const uint8_t *blocks)
{
	const size_t step = sizeof(struct block_mxfp4);
	uint32_t e = blocks[0] | (uint32_t)blocks[step] << 8 | (uint32_t)blocks[2 * step] << 16 |
		     (uint32_t)blocks[3 * step] << 24;
	uint8x8_t bytes = vcreate_u8(e);
	int32x4_t exps = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
	int32x4_t normal = vsubq_s32(vshlq_n_s32(exps, 23), vdupq_n_s32(1 << 23));
	int32x4_t denormal = vaddq_s32(vshlq_n_s32(exps, 21), vdupq_n_s32(1 << 21));

	return (struct scales4){.d = vreinterpretq_f32_s32(vmaxq_s32(normal, denormal))};
}

FLATTEN void dequantize32(const uint8_t *w, float *y, size_t n, size_t block_bytes, int bias,
			  bool has_m, codes32_fn codes)
{
	for (size_t i = 0; i < n; i += 32, w += block_bytes) {
		int8x16x2_t c = codes(w);
		float d, m = 0;

		if (block_bytes == sizeof(struct block_mxfp4))
			d = mxfp4_scale(w[0]);
		else
			d = load_half(w);
		if (has_m)
			m = load_half(w + 2);
		for (int k = 0; k < 2; k++)
			store_group(y + i + k * 16, vsubq_s8(c.val[k], vdupq_n_s8(bias)), d, has_m,
				    m);
	}
}

/* The activation, at some block. */
struct act32 {
	const int8_t *q;
	const float *d;
	const float *s;
};

FLATTEN void add_block(struct sums4 *sums, int i, const uint8_t *block, const int8_t *q,
		       codes32_fn codes)
{
	int8x16x2_t c = codes(block);

	sums4_add(sums, i, c.val[0], q);
	sums4_add(sums, i, c.val[1], q + 16);
}

FLATTEN float32x4_t add_4_blocks(float32x4_t acc, struct sums4 *sums, const uint8_t *w,
				 struct act32 a, size_t block_bytes, int bias, bool has_m,
				 codes32_fn codes, scales4_fn scales)
{
	struct scales4 sc = scales(w);
	float32x4_t s = vld1q_f32(a.s), t;

	add_block(sums, 0, w, a.q, codes);
	add_block(sums, 1, w + block_bytes, a.q + 32, codes);
	add_block(sums, 2, w + 2 * block_bytes, a.q + 64, codes);
	add_block(sums, 3, w + 3 * block_bytes, a.q + 96, codes);
	t = vmulq_f32(vcvtq_f32_s32(sums4_take(sums)), vld1q_f32(a.d));
	if (bias)
		t = vfmsq_n_f32(t, s, bias);
	acc = vfmaq_f32(acc, t, sc.d);
	return has_m ? vfmaq_f32(acc, s, sc.m) : acc;
}

FLATTEN float dot_row32(const uint8_t *w, struct act32 a, size_t groups, size_t block_bytes,
			int bias, bool has_m, codes32_fn codes, scales4_fn scales)
{
	float32x4_t acc = vdupq_n_f32(0);
	struct sums4 sums;

	sums4_init(&sums);
	for (size_t i = 0; i < groups; i++) {
		acc = add_4_blocks(acc, &sums, w, a, block_bytes, bias, has_m, codes, scales);
		w += 4 * block_bytes;
		a.q += 128;
		a.d += 4;
		a.s += 4;
	}
	return vaddvq_f32(acc);
}

FLATTEN void dot_rows32(const uint8_t *w, size_t stride, size_t n_rows, const void *act, size_t n,
			float *out, size_t block_bytes, int bias, bool has_m, codes32_fn codes,
			scales4_fn scales)
{
	const struct act32 a = {
		act,
		(const void *)((const char *)act + act_d_off(n)),
		(const void *)((const char *)act + act_s_off(n)),
	};
	const size_t whole = n / 128, rest = n / 32 % 4;
	int8_t rest_q[128] = {0};
	float rest_d[4] = {0}, rest_s[4] = {0};
	uint8_t rest_w[4 * sizeof(struct block_q8_0)] = {0};
	const struct act32 rest_a = {rest_q, rest_d, rest_s};

	if (rest) {
		memcpy(rest_q, a.q + whole * 128, rest * 32);
		memcpy(rest_d, a.d + whole * 4, rest * sizeof(float));
		memcpy(rest_s, a.s + whole * 4, rest * sizeof(float));
	}
	for (size_t r = 0; r < n_rows; r++, w += stride) {
		out[r] = dot_row32(w, a, whole, block_bytes, bias, has_m, codes, scales);
		if (!rest)
			continue;
		memcpy(rest_w, w + whole * 4 * block_bytes, rest * block_bytes);
		out[r] += dot_row32(rest_w, rest_a, 1, block_bytes, bias, has_m, codes, scales);
	}
}

#define TYPE32(type, bias, has_m)                                                                  \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize32(w, y, n, sizeof(struct block_##type), bias, has_m, codes_##type);     \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		dot_rows32(w, stride, n_rows, act, n, out, sizeof(struct block_##type), bias,      \
			   has_m, codes_##type, scales_##type);                                    \
	}                                                                                          \
                                                                                                   \
	const struct type_ops neon_##type = {ACT_Q8_32, dequantize_##type, dot_rows_##type}

/*
 * Budgets, for 128 weights:
 *			instructions	vector	cycles	bytes a cycle
 *	Q4_0		52		27	13.5	5.3
 *	Q4_1		55		31	15.5	5.2
 *	Q5_0		74		46	23	3.8
 *	Q5_1		80		52	26	3.7
 *	Q8_0		50		22	12.5	10.9
 *	IQ4_NL		58		34	17	4.2
 *	MXFP4		65		40	20	3.4
 */
TYPE32(q4_0, 8, false);
TYPE32(q4_1, 0, true);
TYPE32(q5_0, 0, false);
TYPE32(q5_1, -16, true);
TYPE32(q8_0, 0, false);
TYPE32(iq4_nl, 0, false);
TYPE32(mxfp4, 0, false);

#endif
