// SPDX-License-Identifier: MIT
/*
 * Types of 256-element blocks with AVX2: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * A type is described by how half a block unpacks into four registers of 32 bytes, and by its
 * scales. The dot of a block stays in integers until its end:
 *
 *	isum = sum over the eight registers of scale * (bytes q . activation)
 *	msum = sum over the sixteen groups of 16 of minimum * bsums
 *	row += d * d_act * isum - dmin * d_act * msum
 *
 * Codes with an offset (Q3_K: 4, Q6_K: 32) are multiplied as they are stored; offset * scale *
 * bsums, also in integers, is subtracted from isum.
 *
 * Budget: of a block's vector instructions, 32 are common to all types (for each of 8 registers
 * maddubs, scale shuffle, madd, add), and 10 end a block (d, dmin, d_act, conversions, FMAs).
 * Beside each type: what it unpacks with, and its sum. At four instructions in a cycle of 3 GHz, 70
 * for the 144 bytes of Q4_K are 24 GB/s.
 */
#include <stdbool.h>

#include "kernels/cpu/x86/avx2.h"

/* A type's codes: unsigned with minimums, unsigned with an offset to subtract, or signed. */
enum zero {
	MINIMUMS = 0,
	OFFSET_4 = 4,
	OFFSET_32 = 32,
	SIGNED = -1,
};

/*
 * Scales of a block as 16-bit numbers. Register j of the block holds groups 2j (low half) and
 * 2j + 1 (high half) of 16 elements:
 */
struct scales {
	__m256i by_register; /* number j of each 128-bit half: its scale in register j */
	__m256i by_group;    /* number g: group g's minimum; its scale where there is an offset */
};

typedef void (*half_fn)(const void *block, int half, __m256i q[4]);
typedef void (*scales_fn)(const void *block, struct scales *s);
typedef const uint8_t *(*d_fn)(const void *block);

FLATTEN __m256i and_all(__m256i v, char mask)
{
	return _mm256_and_si256(v, _mm256_set1_epi8(mask));
}

/* 16 scales of one byte to by_register: those of even groups first. */
FLATTEN __m256i pair_up(__m128i scales)
{
	const __m128i even_odd = _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);

	return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_odd));
}

/* Number j of each half, in all of its places. */
FLATTEN __m256i scale_of_register(const struct scales *s, int j)
{
	/* bytes 2j and 2j + 1, over and over */
	return _mm256_shuffle_epi8(s->by_register, _mm256_set1_epi16((short)(0x0100 + 0x0202 * j)));
}

/* Two-bit codes: bits 2i and 2i + 1 of each byte are register i's. */
FLATTEN void two_bits(__m256i v, __m256i q[4])
{
	q[0] = and_all(v, 3);
	q[1] = and_all(_mm256_srli_epi16(v, 2), 3);
	q[2] = and_all(_mm256_srli_epi16(v, 4), 3);
	q[3] = and_all(_mm256_srli_epi16(v, 6), 3);
}

/* 16 for both halves, 7 for the scales: 66 in all */
FLATTEN void half_q2_k(const void *block, int half, __m256i q[4])
{
	const struct block_q2_k *b = block;

	two_bits(load256(b->qs + 32 * half), q);
}

FLATTEN void scales_q2_k(const void *block, struct scales *s)
{
	__m128i both = load128(((const struct block_q2_k *)block)->scales);
	const __m128i low = _mm_set1_epi8(15);

	s->by_register = pair_up(_mm_and_si128(both, low));
	s->by_group = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), low));
}

/* 38 for both halves (third bits: shift, mask, or), 12 for the scales: 94 in all */
FLATTEN void half_q3_k(const void *block, int half, __m256i q[4])
{
	const struct block_q3_k *b = block;
	__m256i high = load256(b->hmask);

	/* Bit i of the lower or upper half of each byte is register i's, and is worth 4. */
	if (half)
		high = _mm256_srli_epi16(high, 4);
	two_bits(load256(b->qs + 32 * half), q);
	q[0] = _mm256_or_si256(q[0], and_all(_mm256_slli_epi16(high, 2), 4));
	q[1] = _mm256_or_si256(q[1], and_all(_mm256_slli_epi16(high, 1), 4));
	q[2] = _mm256_or_si256(q[2], and_all(high, 4));
	q[3] = _mm256_or_si256(q[3], and_all(_mm256_srli_epi16(high, 1), 4));
}

/* q3_k_scales() on all scales at once. */
FLATTEN void scales_q3_k(const void *block, struct scales *s)
{
	const struct block_q3_k *b = block;
	/* The 12 bytes of the scales with two before and two behind them, all in the block. */
	__m128i v = load128((const uint8_t *)(b + 1) - 16);
	__m128i low =
		_mm_shuffle_epi8(v, _mm_set_epi8(9, 8, 7, 6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2));
	__m128i high = _mm_shuffle_epi8(v, _mm_set1_epi32(0x0d0c0b0a));
	__m128i sc;

	low = _mm_srlv_epi32(low, _mm_set_epi32(4, 4, 0, 0));
	high = _mm_srlv_epi32(_mm_sllv_epi32(high, _mm_set_epi32(0, 0, 2, 4)),
			      _mm_set_epi32(2, 0, 0, 0));
	sc = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)),
			  _mm_and_si128(high, _mm_set1_epi8(0x30)));
	sc = _mm_sub_epi8(sc, _mm_set1_epi8(32));
	s->by_register = pair_up(sc);
	s->by_group = _mm256_cvtepi8_epi16(sc);
}

/* 16 for both halves, 10 for the scales: 70 in all */
FLATTEN void half_q4_k(const void *block, int half, __m256i q[4])
{
	const struct block_q4_k *b = block;

	UNROLL
	for (int i = 0; i < 2; i++) {
		__m256i v = load256(b->qs + 64 * half + 32 * i);

		q[2 * i] = and_all(v, 15);
		q[2 * i + 1] = and_all(_mm256_srli_epi16(v, 4), 15);
	}
}

/* q4_k_scales() on all scales at once; then sub-blocks of 32 into groups of 16. */
FLATTEN void six_bit_scales(const uint8_t *scales, struct scales *s)
{
	/* 12 bytes of scales a, b, c and 4 of what follows them in the block */
	__m128i v = load128(scales);
	__m128i ab = _mm_shuffle_epi32(v, 0x50), cc = _mm_shuffle_epi32(v, 0xaa), sm;

	ab = _mm_and_si128(_mm_srlv_epi32(ab, _mm_set_epi32(2, 0, 2, 0)),
			   _mm_set_epi32(0x30303030, 0x3f3f3f3f, 0x30303030, 0x3f3f3f3f));
	cc = _mm_and_si128(_mm_srlv_epi32(cc, _mm_set_epi32(4, 0, 0, 0)),
			   _mm_set_epi32(0x0f0f0f0f, 0, 0x0f0f0f0f, 0));
	sm = _mm_or_si128(ab, cc);
	s->by_register = _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(sm, sm));
	s->by_group = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(sm, sm));
}

FLATTEN void scales_q4_k(const void *block, struct scales *s)
{
	six_bit_scales(((const struct block_q4_k *)block)->scales, s);
}

/* Q4_K's, and shift, mask, or for each register's fifth bits: 98 in all */
FLATTEN void half_q5_k(const void *block, int half, __m256i q[4])
{
	const struct block_q5_k *b = block;
	__m256i high = load256(b->qh);

	/* Bit i of the lower or upper half of each byte is register i's, and is worth 16. */
	if (half)
		high = _mm256_srli_epi16(high, 4);
	UNROLL
	for (int i = 0; i < 2; i++) {
		__m256i v = load256(b->qs + 64 * half + 32 * i);

		q[2 * i] = and_all(v, 15);
		q[2 * i + 1] = and_all(_mm256_srli_epi16(v, 4), 15);
	}
	q[0] = _mm256_or_si256(q[0], and_all(_mm256_slli_epi16(high, 4), 16));
	q[1] = _mm256_or_si256(q[1], and_all(_mm256_slli_epi16(high, 3), 16));
	q[2] = _mm256_or_si256(q[2], and_all(_mm256_slli_epi16(high, 2), 16));
	q[3] = _mm256_or_si256(q[3], and_all(_mm256_slli_epi16(high, 1), 16));
}

FLATTEN void scales_q5_k(const void *block, struct scales *s)
{
	six_bit_scales(((const struct block_q5_k *)block)->scales, s);
}

/* 40 for both halves, 4 for the scales: 84 in all */
FLATTEN void half_q6_k(const void *block, int half, __m256i q[4])
{
	const struct block_q6_k *b = block;
	__m256i low0 = load256(b->ql + 64 * half), low1 = load256(b->ql + 64 * half + 32);
	__m256i high = load256(b->qh + 32 * half);

	q[0] = _mm256_or_si256(and_all(low0, 15), and_all(_mm256_slli_epi16(high, 4), 0x30));
	q[1] = _mm256_or_si256(and_all(low1, 15), and_all(_mm256_slli_epi16(high, 2), 0x30));
	q[2] = _mm256_or_si256(and_all(_mm256_srli_epi16(low0, 4), 15), and_all(high, 0x30));
	q[3] = _mm256_or_si256(and_all(_mm256_srli_epi16(low1, 4), 15),
			       and_all(_mm256_srli_epi16(high, 2), 0x30));
}

FLATTEN void scales_q6_k(const void *block, struct scales *s)
{
	__m128i sc = load128(((const struct block_q6_k *)block)->scales);

	s->by_register = pair_up(sc);
	s->by_group = _mm256_cvtepi8_epi16(sc);
}

/* 4 a register (nibbles, look-up), 3 for signs, 9 for the scales: 105 in all */
FLATTEN void half_iq4_xs(const void *block, int half, __m256i q[4])
{
	const struct block_iq4_xs *b = block;

	UNROLL
	for (int i = 0; i < 4; i++)
		q[i] = look_up(iq4_codebook, nibbles(b->qs + 64 * half + 16 * i));
}

/* iq4_xs_scales() on all scales at once. */
FLATTEN void scales_iq4_xs(const void *block, struct scales *s)
{
	const struct block_iq4_xs *b = block;
	__m128i low = _mm_cvtsi32_si128((int)load_u32(b->scales_l));
	__m128i high = _mm_set1_epi16((short)load_u16(b->scales_h)), sc;

	low = _mm_and_si128(_mm_unpacklo_epi8(low, _mm_srli_epi16(low, 4)), _mm_set1_epi8(15));
	/* Bits 2i and 2i + 1 to the top of number i, then down to bits 4 and 5. */
	high = _mm_mullo_epi16(high, _mm_set_epi16(1, 4, 16, 64, 256, 1024, 4096, 16384));
	high = _mm_slli_epi16(_mm_srli_epi16(high, 14), 4);
	sc = _mm_sub_epi16(_mm_or_si128(_mm_cvtepu8_epi16(low), high), _mm_set1_epi16(32));
	s->by_register = _mm256_broadcastsi128_si256(sc);
	s->by_group = _mm256_setzero_si256();
}

/* Where d is; where the type has minimums, dmin follows it. */
#define D_OF(type)                                                                                 \
	FLATTEN const uint8_t *d_##type(const void *block)                                         \
	{                                                                                          \
		return ((const struct block_##type *)block)->d;                                    \
	}

D_OF(q2_k)
D_OF(q3_k)
D_OF(q4_k)
D_OF(q5_k)
D_OF(q6_k)
D_OF(iq4_xs)

/* 32 codes of register j to floats: the first 16 of group 2j, the others of group 2j + 1. */
FLATTEN void store32(float *y, __m256i q, const float *d, const float *m, enum zero zero)
{
	if (zero > 0)
		q = _mm256_sub_epi8(q, _mm256_set1_epi8((char)zero));
	for (int i = 0; i < 4; i++) {
		__m256 v = _mm256_mul_ps(_mm256_set1_ps(d[i / 2]), bytes_to_floats(q, i));

		if (zero == MINIMUMS)
			v = _mm256_sub_ps(v, _mm256_set1_ps(m[i / 2]));
		_mm256_storeu_ps(y + 8 * i, v);
	}
}

/* The 16-bit numbers of v, from 8 * i on, as floats times d. */
FLATTEN __m256 times(__m256 d, __m256i v, int i)
{
	__m128i half = i ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);

	return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(half)));
}

FLATTEN void dequantize(const uint8_t *w, float *y, size_t n, size_t block_bytes, half_fn get,
			scales_fn get_scales, d_fn d_at, enum zero zero)
{
	for (size_t b = 0; b < n / 256; b++, w += block_bytes) {
		__m256 d = half_all(d_at(w));
		float even[8], odd[8], minimums[16] = {0};
		struct scales s;

		get_scales(w, &s);
		_mm256_storeu_ps(even, times(d, s.by_register, 0));
		_mm256_storeu_ps(odd, times(d, s.by_register, 1));
		if (zero == MINIMUMS) {
			__m256 dmin = half_all(d_at(w) + 2);

			_mm256_storeu_ps(minimums, times(dmin, s.by_group, 0));
			_mm256_storeu_ps(minimums + 8, times(dmin, s.by_group, 1));
		}
		for (int half = 0; half < 2; half++) {
			__m256i q[4];

			get(w, half, q);
			for (int i = 0; i < 4; i++, y += 32) {
				int j = 4 * half + i;
				const float dj[2] = {even[j], odd[j]};

				store32(y, q[i], dj, minimums + 2 * j, zero);
			}
		}
	}
}

/*
 * Scaled products of half a block, added to isum. The largest 16-bit sum of two is IQ4_XS's
 * 2 * 127 * 127; the largest 32-bit sum is Q6_K's 8 * 2 * 128 * 2 * 63 * 127.
 */
FLATTEN __m256i add_half(__m256i isum, const uint8_t *w, const int8_t *act, int half, half_fn get,
			 const struct scales *s, enum zero zero)
{
	__m256i q[4];

	get(w, half, q);
	UNROLL
	for (int i = 0; i < 4; i++) {
		__m256i a = load256(act + 128 * half + 32 * i);
		__m256i p = zero == SIGNED ? mul_signed(q[i], a) : mul_unsigned(q[i], a);

		p = _mm256_madd_epi16(p, scale_of_register(s, 4 * half + i));
		isum = _mm256_add_epi32(isum, p);
	}
	return isum;
}

FLATTEN float dot(const uint8_t *w, const void *act, size_t n, size_t block_bytes, half_fn get,
		  scales_fn get_scales, d_fn d_at, enum zero zero)
{
	const int8_t *q = act;
	const float *d_act = (const void *)((const char *)act + act_d_off(n));
	const int16_t *bsums = (const void *)((const char *)act + act_bsums_off(n));
	__m256 acc = _mm256_setzero_ps(), acc_min = _mm256_setzero_ps();

	for (size_t b = 0; b < n / 256; b++, w += block_bytes, q += 256, bsums += 16) {
		prefetch_ahead(w, block_bytes);
		__m256 da = _mm256_set1_ps(d_act[b]);
		__m256i isum = _mm256_setzero_si256(), msum = isum;
		struct scales s;

		get_scales(w, &s);
		isum = add_half(isum, w, q, 0, get, &s, zero);
		isum = add_half(isum, w, q, 1, get, &s, zero);
		if (zero != SIGNED)
			msum = _mm256_madd_epi16(s.by_group, load256(bsums));
		if (zero == MINIMUMS)
			acc_min = _mm256_fmadd_ps(_mm256_mul_ps(half_all(d_at(w) + 2), da),
						  _mm256_cvtepi32_ps(msum), acc_min);
		else if (zero == OFFSET_4 || zero == OFFSET_32)
			isum = _mm256_sub_epi32(isum,
						_mm256_slli_epi32(msum, zero == OFFSET_4 ? 2 : 5));
		acc = _mm256_fmadd_ps(_mm256_mul_ps(half_all(d_at(w)), da),
				      _mm256_cvtepi32_ps(isum), acc);
	}
	return sum_lanes(_mm256_sub_ps(acc, acc_min));
}

#define TYPE(type, zero)                                                                           \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize(w, y, n, sizeof(struct block_##type), half_##type, scales_##type,       \
			   d_##type, zero);                                                        \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot((const uint8_t *)w + r * stride, act, n,                      \
				     sizeof(struct block_##type), half_##type, scales_##type,      \
				     d_##type, zero);                                              \
	}                                                                                          \
                                                                                                   \
	const struct type_ops avx2_##type = {                                                      \
		ACT_Q8_256,                                                                        \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE(q2_k, MINIMUMS);
TYPE(q3_k, OFFSET_4);
TYPE(q4_k, MINIMUMS);
TYPE(q5_k, MINIMUMS);
TYPE(q6_k, OFFSET_32);
TYPE(iq4_xs, SIGNED);
