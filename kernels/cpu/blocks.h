/* SPDX-License-Identifier: MIT */
/*
 * The bytes of one block of every quantized weight type, as GGUF stores them.
 *
 * Private to kernels/cpu. Every member is a byte array, so that a block has no alignment and
 * no padding: rows begin at any address. Numbers in it are little-endian; "half" is an IEEE
 * half. Words: a block of 256 (a *super-block*) is cut into *sub-blocks* of 16 or 32, each with
 * an integer scale, some with an integer minimum.
 */
#ifndef WEIR_KERNELS_CPU_BLOCKS_H
#define WEIR_KERNELS_CPU_BLOCKS_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blocks are read in place");

/* w = d * (q - 8); byte j holds elements j (low nibble) and j + 16 (high): all 4-bit types */
struct block_q4_0 {
	uint8_t d[2];
	uint8_t qs[16];
};

/* w = d * q + m */
struct block_q4_1 {
	uint8_t d[2];
	uint8_t m[2];
	uint8_t qs[16];
};

/* w = d * (q - 16); bit j of qh is the fifth bit of element j */
struct block_q5_0 {
	uint8_t d[2];
	uint8_t qh[4];
	uint8_t qs[16];
};

/* w = d * q + m */
struct block_q5_1 {
	uint8_t d[2];
	uint8_t m[2];
	uint8_t qh[4];
	uint8_t qs[16];
};

/* w = d * q, q signed */
struct block_q8_0 {
	uint8_t d[2];
	uint8_t qs[32];
};

/* w = d * iq4_codebook[q] */
struct block_iq4_nl {
	uint8_t d[2];
	uint8_t qs[16];
};

/* w = 2^(e - 128) * mxfp4_codebook[q]; the codebook is doubled, hence not e - 127 */
struct block_mxfp4 {
	uint8_t e;
	uint8_t qs[16];
};

/*
 * w = d * sc * q - dmin * mn for each of 16 sub-blocks of 16.
 * scales[i]: sc in the low nibble, mn in the high.
 * qs: each half of 128 elements has 32 bytes; bits 2s and 2s+1 of byte l are element 32 s + l.
 */
struct block_q2_k {
	uint8_t scales[16];
	uint8_t qs[64];
	uint8_t d[2];
	uint8_t dmin[2];
};

/*
 * w = d * (sc - 32) * (q - 4) for each of 16 sub-blocks of 16.
 * qs as in Q2_K; bit i of hmask[l] is the third bit of element 32 i + l.
 * scales: 16 numbers of 6 bits, see q3_k_scales().
 */
struct block_q3_k {
	uint8_t hmask[32];
	uint8_t qs[64];
	uint8_t scales[12];
	uint8_t d[2];
};

/*
 * w = d * sc * q - dmin * mn for each of 8 sub-blocks of 32.
 * scales: 8 times sc and mn of 6 bits, see q4_k_scales().
 * qs: 32 bytes for two sub-blocks, the first in the low nibbles.
 */
struct block_q4_k {
	uint8_t d[2];
	uint8_t dmin[2];
	uint8_t scales[12];
	uint8_t qs[128];
};

/* Q4_K with a fifth bit: bit i of qh[l] belongs to element l of sub-block i. */
struct block_q5_k {
	uint8_t d[2];
	uint8_t dmin[2];
	uint8_t scales[12];
	uint8_t qh[32];
	uint8_t qs[128];
};

/*
 * w = d * sc * (q - 32) for each of 16 sub-blocks of 16, sc signed.
 * Each half of 128 elements has 64 bytes of ql and 32 of qh. Element 32 i + l of a half has its
 * low four bits in ql[32 (i % 2) + l] (low nibble for i < 2, else high) and its high two in
 * bits 2i and 2i+1 of qh[l].
 */
struct block_q6_k {
	uint8_t ql[128];
	uint8_t qh[64];
	int8_t scales[16];
	uint8_t d[2];
};

/*
 * w = d * (sc - 32) * iq4_codebook[q] for each of 8 sub-blocks of 32.
 * sc of sub-block i: low four bits in nibble i of scales_l, high two in bits 2i, 2i+1 of scales_h.
 * qs: 16 bytes a sub-block, laid out as in Q4_0.
 */
struct block_iq4_xs {
	uint8_t d[2];
	uint8_t scales_h[2];
	uint8_t scales_l[4];
	uint8_t qs[128];
};

/* The same sizes as in types.c; test_kernels.c compares the two. */
_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct block_q4_1) == 20, "Q4_1");
_Static_assert(sizeof(struct block_q5_0) == 22, "Q5_0");
_Static_assert(sizeof(struct block_q5_1) == 24, "Q5_1");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0");
_Static_assert(sizeof(struct block_q2_k) == 84, "Q2_K");
_Static_assert(sizeof(struct block_q3_k) == 110, "Q3_K");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct block_q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "IQ4_NL");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "IQ4_XS");
_Static_assert(sizeof(struct block_mxfp4) == 17, "MXFP4");

static const int8_t iq4_codebook[16] = {
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
};

/* Twice the values of E2M1, so that they are integers. */
static const int8_t mxfp4_codebook[16] = {
	0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
};

static inline uint16_t load_u16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t load_u32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline float load_f32(const void *p)
{
	float v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline float f32_from_bits(uint32_t bits)
{
	return load_f32(&bits);
}

static inline uint32_t f32_bits(float f)
{
	return load_u32(&f);
}

/* 2^(e - 128): half of what E8M0 says, for the doubled codebook; below e = 2 it is denormal. */
static inline float mxfp4_scale(uint8_t e)
{
	return f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/*
 * Q4_K and Q5_K: sc in sm[0..7], mn in sm[8..15].
 * Bytes 0-3 hold sc of sub-blocks 0-3 in their low six bits, bytes 4-7 their mn; the two bits
 * left over in each are the high bits of sub-blocks 4-7, whose low four bits are the nibbles
 * of bytes 8-11 (sc low, mn high). Done on four bytes at once.
 */
static inline void q4_k_scales(const uint8_t scales[12], uint8_t sm[16])
{
	uint32_t a = load_u32(scales);
	uint32_t b = load_u32(scales + 4);
	uint32_t c = load_u32(scales + 8);
	uint32_t v[4] = {
		a & 0x3f3f3f3f,
		(c & 0x0f0f0f0f) | (a >> 2 & 0x30303030),
		b & 0x3f3f3f3f,
		(c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030),
	};

	memcpy(sm, v, sizeof(v));
}

/*
 * Q3_K: the 16 scales, 32 already subtracted.
 * Byte i of the first eight holds the low four bits of scales i and i + 8; bits 2k and 2k+1 of
 * byte 8 + j are the high bits of scale 4 k + j.
 */
static inline void q3_k_scales(const uint8_t scales[12], int8_t sc[16])
{
	uint32_t a = load_u32(scales);
	uint32_t b = load_u32(scales + 4);
	uint32_t c = load_u32(scales + 8);
	uint32_t v[4] = {
		(a & 0x0f0f0f0f) | (c << 4 & 0x30303030),
		(b & 0x0f0f0f0f) | (c << 2 & 0x30303030),
		(a >> 4 & 0x0f0f0f0f) | (c & 0x30303030),
		(b >> 4 & 0x0f0f0f0f) | (c >> 2 & 0x30303030),
	};

	/* Each byte is below 64: setting bit 7 keeps the borrow of one byte from the next. */
	for (int i = 0; i < 4; i++)
		v[i] = ((v[i] | 0x80808080) - 0x20202020) ^ 0x80808080;
	memcpy(sc, v, sizeof(v));
}

/* IQ4_XS: the 8 scales, 32 already subtracted. */
static inline void iq4_xs_scales(const struct block_iq4_xs *b, int8_t sc[8])
{
	uint32_t low = load_u32(b->scales_l);
	uint32_t high = load_u16(b->scales_h);

	for (int i = 0; i < 8; i++)
		sc[i] = (int8_t)((low >> 4 * i & 15) | (high >> 2 * i & 3) << 4) - 32;
}

#endif
