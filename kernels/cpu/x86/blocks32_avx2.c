// SPDX-License-Identifier: MIT
/*
 * Types of 32-element blocks with AVX2: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4.
 *
 * A type is described by how its block unpacks into 32 bytes and by its scales; dequantize and
 * dot_rows follow from that. The dot of one block, all types alike:
 *
 *	32 bytes q -> 16 sums of two products (vpmaddubsw) -> 8 of four (vpmaddwd) -> 8 floats,
 *	accumulated with the factor d * d_act.
 *
 * Budget: 8 vector instructions are common to all types (maddubs, madd, convert, FMA; d broadcast
 * and converted, d_act broadcast, multiply). An offset in the codes adds 2 (its own products,
 * subtracted: exact, unlike a correction in float), signed codes add 2 or 3 (abs, sign, a load), a
 * minimum adds 4. Beside each type: what it unpacks with, and its sum. At four instructions in a
 * cycle of 3 GHz, 13 for the 18 bytes of Q4_0 are 16 GB/s.
 */
#include <stdbool.h>

#include "kernels/cpu/x86/avx2.h"

/* Where the zero of a type's codes is: at this code, or q is signed. */
#define SIGNED (-1)

typedef __m256i (*codes_fn)(const void *block);
typedef __m256 (*scale_fn)(const void *block);

/* load, shift, mask: 13 in all; constants stay in registers */
FLATTEN __m256i codes_q4_0(const void *block)
{
	return nibbles(((const struct block_q4_0 *)block)->qs);
}

/* the same: 15 in all */
FLATTEN __m256i codes_q4_1(const void *block)
{
	return nibbles(((const struct block_q4_1 *)block)->qs);
}

/* 32 bits to 16 or 0 in 32 bytes: each byte of qh to eight places, in each place another bit. */
FLATTEN __m256i fifth_bits(const uint8_t qh[4])
{
	const __m256i spread =
		_mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	__m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(qh)), spread);

	return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit),
				_mm256_set1_epi8(16));
}

/* nibbles(), then broadcast, shuffle, mask, compare, mask, or: 19 in all */
FLATTEN __m256i codes_q5_0(const void *block)
{
	const struct block_q5_0 *b = block;

	return _mm256_or_si256(nibbles(b->qs), fifth_bits(b->qh));
}

/* the same: 21 in all */
FLATTEN __m256i codes_q5_1(const void *block)
{
	const struct block_q5_1 *b = block;

	return _mm256_or_si256(nibbles(b->qs), fifth_bits(b->qh));
}

/* memory operands of abs and sign: 11 in all */
FLATTEN __m256i codes_q8_0(const void *block)
{
	return load256(((const struct block_q8_0 *)block)->qs);
}

/* nibbles(), shuffle: 15 in all */
FLATTEN __m256i codes_iq4_nl(const void *block)
{
	return look_up(iq4_codebook, nibbles(((const struct block_iq4_nl *)block)->qs));
}

/* the same, 14 in all, and 8 scalar ones for the scale */
FLATTEN __m256i codes_mxfp4(const void *block)
{
	return look_up(mxfp4_codebook, nibbles(((const struct block_mxfp4 *)block)->qs));
}

/* d in all lanes; where the type has a minimum m, d in the even lanes and m in the odd. */
FLATTEN __m256 scale_d(const void *block)
{
	return half_all(block);
}

FLATTEN __m256 scale_dm(const void *block)
{
	return half_pairs(block);
}

FLATTEN __m256 scale_e8m0(const void *block)
{
	return _mm256_set1_ps(mxfp4_scale(((const struct block_mxfp4 *)block)->e));
}

FLATTEN void dequantize(const uint8_t *w, float *y, size_t n, size_t block_bytes, codes_fn codes,
			int offset, scale_fn scale, bool has_m)
{
	for (size_t b = 0; b < n / 32; b++, w += block_bytes, y += 32) {
		__m256 dm = scale(w);
		__m256 d = has_m ? _mm256_moveldup_ps(dm) : dm;
		__m256i q = codes(w);

		if (offset != SIGNED)
			q = _mm256_sub_epi8(q, _mm256_set1_epi8((char)offset));
		for (int i = 0; i < 4; i++) {
			__m256 v = _mm256_mul_ps(d, bytes_to_floats(q, i));

			if (has_m)
				v = _mm256_add_ps(v, _mm256_movehdup_ps(dm));
			_mm256_storeu_ps(y + 8 * i, v);
		}
	}
}

/* The 32 products of a block, summed in eights: at most 4 * 2 * 128 * 127 each. */
FLATTEN __m256 products(__m256i q, const int8_t *act, int offset)
{
	__m256i a = load256(act), p;

	if (offset == SIGNED)
		p = mul_signed(q, a);
	else
		p = mul_unsigned(q, a);
	if (offset > 0)
		p = _mm256_sub_epi16(p, mul_unsigned(_mm256_set1_epi8((char)offset), a));
	return _mm256_cvtepi32_ps(_mm256_madd_epi16(p, _mm256_set1_epi16(1)));
}

/* What a row has added up so far. */
struct sums {
	__m256 q; /* d * d_act * integer products */
	__m256 m; /* m * s in the odd lanes */
};

FLATTEN void add_block(struct sums *sums, const uint8_t *w, const int8_t *q, float d_act,
		       const float *s_act, codes_fn codes, int offset, scale_fn scale, bool has_m)
{
	__m256 dm = scale(w);
	__m256 d = has_m ? _mm256_moveldup_ps(dm) : dm;

	sums->q = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(d_act)),
				  products(codes(w), q, offset), sums->q);
	if (has_m)
		sums->m = _mm256_fmadd_ps(dm, _mm256_set1_ps(*s_act), sums->m);
}

/* Two blocks at a time, so that their FMAs do not wait for each other. */
FLATTEN float dot(const uint8_t *w, const void *act, size_t n, size_t block_bytes, codes_fn codes,
		  int offset, scale_fn scale, bool has_m)
{
	const int8_t *q = act;
	const float *d = (const void *)((const char *)act + act_d_off(n));
	const float *s = (const void *)((const char *)act + act_s_off(n));
	struct sums even = {_mm256_setzero_ps(), _mm256_setzero_ps()}, odd = even;
	size_t b = 0, blocks = n / 32;
	float sum;

	for (; b + 2 <= blocks; b += 2, w += 2 * block_bytes) {
		prefetch_ahead(w, 2 * block_bytes);
		add_block(&even, w, q + b * 32, d[b], s + b, codes, offset, scale, has_m);
		add_block(&odd, w + block_bytes, q + b * 32 + 32, d[b + 1], s + b + 1, codes,
			  offset, scale, has_m);
	}
	if (b < blocks)
		add_block(&even, w, q + b * 32, d[b], s + b, codes, offset, scale, has_m);
	sum = sum_lanes(_mm256_add_ps(even.q, odd.q));
	if (has_m) {
		__m256 m = _mm256_movehdup_ps(_mm256_add_ps(even.m, odd.m));

		sum += _mm256_cvtss_f32(m); /* all odd lanes are alike */
	}
	return sum;
}

#define TYPE(type, offset, scale, has_m)                                                           \
	static void dequantize_##type(const void *w, float *y, size_t n)                           \
	{                                                                                          \
		dequantize(w, y, n, sizeof(struct block_##type), codes_##type, offset, scale,      \
			   has_m);                                                                 \
	}                                                                                          \
                                                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		for (size_t r = 0; r < n_rows; r++)                                                \
			out[r] = dot((const uint8_t *)w + r * stride, act, n,                      \
				     sizeof(struct block_##type), codes_##type, offset, scale,     \
				     has_m);                                                       \
	}                                                                                          \
                                                                                                   \
	const struct type_ops avx2_##type = {                                                      \
		ACT_Q8_32,                                                                         \
		dequantize_##type,                                                                 \
		dot_rows_##type,                                                                   \
	}

TYPE(q4_0, 8, scale_d, false);
TYPE(q4_1, 0, scale_dm, true);
TYPE(q5_0, 16, scale_d, false);
TYPE(q5_1, 0, scale_dm, true);
TYPE(q8_0, SIGNED, scale_d, false);
TYPE(iq4_nl, SIGNED, scale_d, false);
TYPE(mxfp4, SIGNED, scale_e8m0, false);
