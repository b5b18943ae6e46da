// SPDX-License-Identifier: MIT
/*
 * Types of 256-element blocks with AVX-512: dot_rows of Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 * Their dequantize is AVX2's.
 *
 * A block unpacks into four registers of 64 codes in the order of the elements, so that the
 * activation needs no arranging: the bytes that hold elements 0-31 and 32-63 at different bits are
 * loaded into both halves of a register, and each half is shifted and masked in its own way. A
 * *lane* is 16 bytes of a register; lane l of register i is group 4i + l of 16 elements. A block
 * stays in integers until its end (IQ4_XS almost: see there):
 *
 *	codes x activation -> 16 sums of four (vpdpbusd), each below 2^15
 *	two registers of 32 bits -> one of words (vpackssdw): lane l has four sums of each
 *	words x scales, two adjacent products added to isum (vpdpwssd)
 *	row += d * d_act * isum - dmin * d_act * (minimums x bsums)
 *
 * Codes with an offset (Q3_K: 4, Q6_K: 32) are multiplied as they are stored; isum starts from
 * -offset * scales x bsums instead of 0. Q2_K and Q3_K leave the codes of upper halves two bits
 * too far to the left, which saves shifts: lanes 2 and 3 of isum are four times what they should
 * be, and are divided when the row ends. The factors d * d_act of several blocks are made at once
 * and lie in memory, where the FMA's broadcast finds them.
 *
 * Budget: vector instructions of a block, of which two start in a cycle (ports 0 and 5; shifts
 * only on 0, shuffles only on 5). 12 are common to all types but IQ4_XS: 4 vpdpbusd, 2 vpackssdw,
 * 2 vpdpwssd, 2 shuffles of scales, conversion, FMA. Minimums add 3 (multiplication, conversion,
 * FMA), an offset 2 (two multiplications).
 *
 *	type     codes  scales  in all  bytes a cycle: by budget, measured in L2
 *	Q2_K       6      3       24       7.0     5.8
 *	Q3_K      14      5       33       6.7     5.8
 *	Q4_K       8      5       28      10.3     8.7
 *	Q5_K      16      5       36       9.8     8.7
 *	Q6_K      14      1       29      14.5    11.0
 *	IQ4_XS     6      6       28       9.7     8.4
 *
 * IQ4_XS: 28 with the activation's shuffles shared by two rows; see block_iq4_xs(). What the budget
 * leaves out: factors, the row's end, prefetches, and loads across two lines. Under AVX-512 the
 * core ran at 3.4 GHz; of two threads, each can read 4 to 5.4 bytes a cycle from DRAM.
 */
#include <stdbool.h>

#include "kernels/cpu/x86/avx512.h"

/* A type's codes: unsigned with minimums, or with an offset to subtract. */
enum zero {
	MINIMUMS = 0,
	OFFSET_4 = 4,
	OFFSET_32 = 32,
};

/* Scales of a block as words. */
struct scales {
	__m512i first;	  /* as packed: lane l has group l's four times, then group 4 + l's */
	__m512i second;	  /* the same for groups 8 + l and 12 + l */
	__m256i by_group; /* word g: group g's minimum; its scale where there is an offset */
};

typedef void (*codes_fn)(const void *block, __m512i q[4]);
typedef void (*scales_fn)(const void *block, struct scales *s);

/* 32 bytes in both halves, 16 bytes in all lanes. */
FLATTEN __m512i both_halves(const void *p)
{
	return _mm512_broadcast_i64x4(load256(p));
}

FLATTEN __m512i all_lanes(const void *p)
{
	return _mm512_broadcast_i32x4(load128(p));
}

/* 64 bytes that are used twice: GCC would load them twice, each time across two lines. */
FLATTEN __m512i load_once(const void *p)
{
	__m512i v = load512(p);

	__asm__("" : "+v"(v));
	return v;
}

/* Words or bytes: one number in the lower half of a register, another in the upper. */
FLATTEN __m512i halves16(short low, short high)
{
	return _mm512_inserti64x4(_mm512_set1_epi16(low), _mm256_set1_epi16(high), 1);
}

FLATTEN __m512i halves8(int low, int high)
{
	return _mm512_inserti64x4(_mm512_set1_epi8((char)low), _mm256_set1_epi8((char)high), 1);
}

/* A number for each lane, in all of its dwords. */
FLATTEN __m512i lanes32(int l0, int l1, int l2, int l3)
{
	return _mm512_set_epi32(l3, l3, l3, l3, l2, l2, l2, l2, l1, l1, l1, l1, l0, l0, l0, l0);
}

/* Bits of a where mask has ones, else of b. */
FLATTEN __m512i choose(__m512i mask, __m512i a, __m512i b)
{
	return _mm512_ternarylogic_epi32(b, a, mask, 0xd8);
}

/* --- scales ------------------------------------------------------------------------------- */

/* Four times the word w. */
#define WORDS(w) ((long long)(0x0001000100010001ull * (w)))

/* Indices of vpermb that fetch word i of its source, and of vpshufb that make byte i a word. */
#define WORD(i) WORDS(0x0100 + 0x0202 * (i))
#define BYTE(i) WORDS(0x8000 + (i))

/* A packed register's order: what(group of the one, group of the other) for each lane. */
#define OF_16(what, g)                                                                             \
	_mm512_setr_epi64(what(g), what(g + 4), what(g + 1), what(g + 5), what(g + 2),             \
			  what(g + 6), what(g + 3), what(g + 7))
/* The same where two groups of 16 make a sub-block b of 32. */
#define OF_32(what, b)                                                                             \
	_mm512_setr_epi64(what(b), what(b + 2), what(b), what(b + 2), what(b + 1), what(b + 3),    \
			  what(b + 1), what(b + 3))

FLATTEN __m512i words_at(__m512i indices, __m256i words)
{
	return _mm512_permutexvar_epi8(indices, _mm512_castsi256_si512(words));
}

/*
 * 16 scales of which one byte of a word has the low bits, the other those above the lowest four.
 * shifts: of both bytes, from the start of their 64 bits. mask: of the bytes then.
 */
FLATTEN __m256i join_bits(__m256i bytes, __m256i shifts, __m256i mask)
{
	__m256i fields = _mm256_and_si256(_mm256_multishift_epi64_epi8(shifts, bytes), mask);

	return _mm256_maddubs_epi16(fields, _mm256_set1_epi16(0x1001));
}

/* Bytes low and high of word w of 64 bits, of which the numbers of join_bits() are made. */
#define BYTES(low, high)     ((short)((low) | (high) << 8))
#define SHIFTS(w, low, high) BYTES(16 * (w) + (low), (16 * (w) + 8 + (high)) & 63)

FLATTEN void scales_q2_k(const void *block, struct scales *s)
{
	const struct block_q2_k *b = block;
	__m512i sc = _mm512_and_si512(all_lanes(b->scales), _mm512_set1_epi8(15));

	s->first = _mm512_shuffle_epi8(sc, OF_16(BYTE, 0));
	s->second = _mm512_shuffle_epi8(sc, OF_16(BYTE, 8));
	s->by_group = _mm256_srli_epi16(_mm256_cvtepu8_epi16(load128(b->scales)), 4);
}

FLATTEN void scales_q3_k(const void *block, struct scales *s)
{
	const struct block_q3_k *b = block;
	/* The 12 bytes of the scales with two before and two behind them, all in the block. */
	__m256i v = _mm256_broadcastsi128_si256(load128((const uint8_t *)(b + 1) - 16));
	const __m256i bytes = _mm256_setr_epi16(
		BYTES(2, 10), BYTES(3, 11), BYTES(4, 12), BYTES(5, 13), BYTES(6, 10), BYTES(7, 11),
		BYTES(8, 12), BYTES(9, 13), BYTES(2, 10), BYTES(3, 11), BYTES(4, 12), BYTES(5, 13),
		BYTES(6, 10), BYTES(7, 11), BYTES(8, 12), BYTES(9, 13));
	const __m256i shifts = _mm256_setr_epi16(
		SHIFTS(0, 0, 0), SHIFTS(1, 0, 0), SHIFTS(2, 0, 0), SHIFTS(3, 0, 0), SHIFTS(0, 0, 2),
		SHIFTS(1, 0, 2), SHIFTS(2, 0, 2), SHIFTS(3, 0, 2), SHIFTS(0, 4, 4), SHIFTS(1, 4, 4),
		SHIFTS(2, 4, 4), SHIFTS(3, 4, 4), SHIFTS(0, 4, 6), SHIFTS(1, 4, 6), SHIFTS(2, 4, 6),
		SHIFTS(3, 4, 6));

	v = join_bits(_mm256_shuffle_epi8(v, bytes), shifts, _mm256_set1_epi16(0x030f));
	s->by_group = _mm256_sub_epi16(v, _mm256_set1_epi16(32));
	s->first = words_at(OF_16(WORD, 0), s->by_group);
	s->second = words_at(OF_16(WORD, 8), s->by_group);
}

/* Q4_K, Q5_K: 8 scales, then 8 minimums, of which each is for two groups. */
FLATTEN void six_bit_scales(const uint8_t *scales, struct scales *s)
{
	/* 12 bytes of scales and 4 of what follows them in the block */
	__m256i v = _mm256_broadcastsi128_si256(load128(scales));
	const __m256i bytes = _mm256_setr_epi16(
		BYTES(0, 0), BYTES(1, 1), BYTES(2, 2), BYTES(3, 3), BYTES(8, 0), BYTES(9, 1),
		BYTES(10, 2), BYTES(11, 3), BYTES(4, 4), BYTES(5, 5), BYTES(6, 6), BYTES(7, 7),
		BYTES(8, 4), BYTES(9, 5), BYTES(10, 6), BYTES(11, 7));
	const __m256i shifts = _mm256_setr_epi16(
		SHIFTS(0, 0, 0), SHIFTS(1, 0, 0), SHIFTS(2, 0, 0), SHIFTS(3, 0, 0), SHIFTS(0, 0, 6),
		SHIFTS(1, 0, 6), SHIFTS(2, 0, 6), SHIFTS(3, 0, 6), SHIFTS(0, 0, 0), SHIFTS(1, 0, 0),
		SHIFTS(2, 0, 0), SHIFTS(3, 0, 0), SHIFTS(0, 4, 6), SHIFTS(1, 4, 6), SHIFTS(2, 4, 6),
		SHIFTS(3, 4, 6));
	const __m256i mask =
		_mm256_setr_epi64x(WORDS(0x003f), WORDS(0x030f), WORDS(0x003f), WORDS(0x030f));
	const __m256i minimums =
		_mm256_setr_epi8(16, 17, 16, 17, 18, 19, 18, 19, 20, 21, 20, 21, 22, 23, 22, 23, 24,
				 25, 24, 25, 26, 27, 26, 27, 28, 29, 28, 29, 30, 31, 30, 31);

	v = join_bits(_mm256_shuffle_epi8(v, bytes), shifts, mask);
	s->first = words_at(OF_32(WORD, 0), v);
	s->second = words_at(OF_32(WORD, 4), v);
	s->by_group = _mm256_permutexvar_epi8(minimums, v);
}

FLATTEN void scales_q4_k(const void *block, struct scales *s)
{
	six_bit_scales(((const struct block_q4_k *)block)->scales, s);
}

FLATTEN void scales_q5_k(const void *block, struct scales *s)
{
	six_bit_scales(((const struct block_q5_k *)block)->scales, s);
}

FLATTEN void scales_q6_k(const void *block, struct scales *s)
{
	s->by_group = _mm256_cvtepi8_epi16(load128(((const struct block_q6_k *)block)->scales));
	s->first = words_at(OF_16(WORD, 0), s->by_group);
	s->second = words_at(OF_16(WORD, 8), s->by_group);
}

/* --- codes -------------------------------------------------------------------------------- */

FLATTEN void codes_q2_k(const void *block, __m512i q[4])
{
	const struct block_q2_k *b = block;

	UNROLL
	for (int half = 0; half < 2; half++) {
		__m512i v = both_halves(b->qs + 32 * half);

		/* upper halves: four times the code */
		q[2 * half] = _mm512_and_si512(v, halves8(0x03, 0x0c));
		q[2 * half + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), halves8(0x03, 0x0c));
	}
}

FLATTEN void codes_q3_k(const void *block, __m512i q[4])
{
	const struct block_q3_k *b = block;
	const __m512i low = halves8(0x03, 0x0c), all = halves8(0x07, 0x1c);
	__m512i v0 = both_halves(b->qs), v1 = both_halves(b->qs + 32), high = both_halves(b->hmask);

	/* Third bits 2i and 2i + 1 to the places above the two bits of register i. */
	q[0] = choose(low, v0, _mm512_sllv_epi16(high, halves16(2, 3)));
	q[1] = choose(low, _mm512_srli_epi16(v0, 4), _mm512_sllv_epi16(high, halves16(0, 1)));
	q[2] = choose(low, v1, _mm512_srlv_epi16(high, halves16(2, 1)));
	q[3] = choose(low, _mm512_srli_epi16(v1, 4), _mm512_srlv_epi16(high, halves16(4, 3)));
	UNROLL
	for (int i = 0; i < 4; i++)
		q[i] = _mm512_and_si512(q[i], all);
}

FLATTEN void codes_q4_k(const void *block, __m512i q[4])
{
	const struct block_q4_k *b = block;

	UNROLL
	for (int i = 0; i < 4; i++) {
		__m512i v = both_halves(b->qs + 32 * i);

		q[i] = _mm512_and_si512(_mm512_srlv_epi16(v, halves16(0, 4)), _mm512_set1_epi8(15));
	}
}

FLATTEN void codes_q5_k(const void *block, __m512i q[4])
{
	const struct block_q5_k *b = block;
	__m512i high = both_halves(b->qh);
	/* Fifth bits 2i and 2i + 1 to bit 4. */
	const __m512i fifth[4] = {
		_mm512_sllv_epi16(high, halves16(4, 3)),
		_mm512_sllv_epi16(high, halves16(2, 1)),
		_mm512_srlv_epi16(high, halves16(0, 1)),
		_mm512_srlv_epi16(high, halves16(2, 3)),
	};

	UNROLL
	for (int i = 0; i < 4; i++) {
		__m512i v = _mm512_srlv_epi16(both_halves(b->qs + 32 * i), halves16(0, 4));

		q[i] = _mm512_and_si512(choose(_mm512_set1_epi8(15), v, fifth[i]),
					_mm512_set1_epi8(31));
	}
}

FLATTEN void codes_q6_k(const void *block, __m512i q[4])
{
	const struct block_q6_k *b = block;
	const __m512i low = _mm512_set1_epi8(15);

	UNROLL
	for (int half = 0; half < 2; half++) {
		__m512i v = load_once(b->ql + 64 * half), high = both_halves(b->qh + 32 * half);

		q[2 * half] = choose(low, v, _mm512_sllv_epi16(high, halves16(4, 2)));
		q[2 * half + 1] = choose(low, _mm512_srli_epi16(v, 4),
					 _mm512_srlv_epi16(high, halves16(0, 2)));
	}
	UNROLL
	for (int i = 0; i < 4; i++)
		q[i] = _mm512_and_si512(q[i], _mm512_set1_epi8(63));
}

/* --- a block's sums ------------------------------------------------------------------------- */

/* Multiplies words by a number, in one instruction even where the number is a power of two. */
FLATTEN __m256i times(__m256i words, short number)
{
	__m256i v = _mm256_set1_epi16(number);

	__asm__("" : "+x"(v));
	return _mm256_mullo_epi16(words, v);
}

/* Sums of a block without d and dmin: 16 of the codes, 8 of the minimums. */
struct block_sums {
	__m512 q;
	__m256i m;
};

FLATTEN struct block_sums block_sums(const uint8_t *w, const int8_t *act, const int16_t *bsums,
				     codes_fn codes, scales_fn get_scales, enum zero zero)
{
	struct block_sums sums = {.m = _mm256_setzero_si256()};
	__m512i isum = _mm512_setzero_si512(), q[4];
	struct scales s;

	get_scales(w, &s);
	codes(w, q);
	if (zero == MINIMUMS)
		sums.m = _mm256_madd_epi16(s.by_group, load256(bsums));
	else
		isum = _mm512_zextsi256_si512(
			_mm256_madd_epi16(times(s.by_group, (short)-zero), load256(bsums)));
	UNROLL
	for (int i = 0; i < 4; i++)
		q[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q[i], load512(act + 64 * i));
	isum = _mm512_dpwssd_epi32(isum, _mm512_packs_epi32(q[0], q[1]), s.first);
	isum = _mm512_dpwssd_epi32(isum, _mm512_packs_epi32(q[2], q[3]), s.second);
	sums.q = _mm512_cvtepi32_ps(isum);
	return sums;
}

#define BLOCK(type, zero)                                                                          \
	FLATTEN struct block_sums block_##type(const uint8_t *w, const int8_t *act,                \
					       const int16_t *bsums)                               \
	{                                                                                          \
		return block_sums(w, act, bsums, codes_##type, scales_##type, zero);               \
	}

BLOCK(q2_k, MINIMUMS)
BLOCK(q3_k, OFFSET_4)
BLOCK(q4_k, MINIMUMS)
BLOCK(q5_k, MINIMUMS)
BLOCK(q6_k, OFFSET_32)

/* The scales of the 8 sub-blocks, each twice. */
FLATTEN __m256i scales_iq4_xs(const struct block_iq4_xs *b)
{
	uint64_t head; /* d, scales_h, scales_l */
	const __m256i shifts =
		_mm256_setr_epi16(BYTES(32, 16), BYTES(32, 16), BYTES(36, 18), BYTES(36, 18),
				  BYTES(40, 20), BYTES(40, 20), BYTES(44, 22), BYTES(44, 22),
				  BYTES(48, 24), BYTES(48, 24), BYTES(52, 26), BYTES(52, 26),
				  BYTES(56, 28), BYTES(56, 28), BYTES(60, 30), BYTES(60, 30));
	__m256i v;

	memcpy(&head, b, sizeof(head));
	v = join_bits(_mm256_set1_epi64x((long long)head), shifts, _mm256_set1_epi16(0x030f));
	return _mm256_sub_epi16(v, _mm256_set1_epi16(32));
}

/*
 * Codes are the codebook's numbers plus 128. A sub-block is a lane: its elements 0-15 are low
 * nibbles, 16-31 high ones, so that both may be added to the same sums. These exceed 16 bits and
 * become floats before they are multiplied by their scales. vpermb looks at six bits, of which the
 * upper two mean nothing here: the codebook is there four times.
 *
 * 2 shifts, 4 look-ups, 4 shuffles of the activation (2 where two rows share them), 4 vpdpbusd;
 * 2 each of conversions, shuffles of scales and FMAs; 6 for the scales, 3 for the zero of the
 * codes, 1 FMA with the factor.
 */
FLATTEN struct block_sums block_iq4_xs(const uint8_t *w, const int8_t *act, const int16_t *bsums)
{
	const struct block_iq4_xs *b = (const void *)w;
	const __m512i codebook =
		_mm512_xor_si512(all_lanes(iq4_codebook), _mm512_set1_epi8((char)128));
	__m256i sc = scales_iq4_xs(b);
	__m512i start = _mm512_zextsi256_si512(_mm256_madd_epi16(times(sc, -128), load256(bsums)));
	__m512 scales = _mm512_castps256_ps512(_mm256_cvtepi32_ps(_mm256_srai_epi32(sc, 16)));
	struct block_sums sums = {_mm512_cvtepi32_ps(start), _mm256_setzero_si256()};

	UNROLL
	for (int half = 0; half < 2; half++) {
		__m512i v = load_once(b->qs + 64 * half), p = _mm512_setzero_si512();
		__m512i a0 = load512(act + 128 * half), a1 = load512(act + 128 * half + 64);
		__m512i sub_blocks = lanes32(4 * half, 4 * half + 1, 4 * half + 2, 4 * half + 3);

		p = _mm512_dpbusd_epi32(p, _mm512_permutexvar_epi8(v, codebook),
					_mm512_shuffle_i64x2(a0, a1, 0x88));
		p = _mm512_dpbusd_epi32(p,
					_mm512_permutexvar_epi8(_mm512_srli_epi16(v, 4), codebook),
					_mm512_shuffle_i64x2(a0, a1, 0xdd));
		sums.q = _mm512_fmadd_ps(_mm512_permutexvar_ps(sub_blocks, scales),
					 _mm512_cvtepi32_ps(p), sums.q);
	}
	return sums;
}

/* --- rows --------------------------------------------------------------------------------- */

typedef struct block_sums (*block_fn)(const uint8_t *w, const int8_t *act, const int16_t *bsums);

/* What dot() knows of a type when it is compiled. */
struct layout {
	size_t bytes; /* of a block */
	size_t d_at;  /* of d in the block; where has_m, dmin follows */
	bool has_m;
	float upper; /* what the upper half of a row's sums is to be multiplied by */
	block_fn block;
};

/* The largest number of blocks whose factors are made at once: 16 measured worse from DRAM. */
#define BATCH 8

/* d * d_act, and dmin * d_act where the type has minimums. */
struct factors {
	float d[BATCH], dmin[BATCH];
} __attribute__((aligned(32)));

/* Of the next `blocks` blocks at w. */
FLATTEN void get_factors(struct factors *f, const struct layout *t, const uint8_t *w,
			 const float *d_act, size_t blocks)
{
	/* 32 bits of each block, with d and dmin; a d that ends the block is their upper half */
	const int shift = t->d_at + 4 > t->bytes ? 16 : 0;
	const void *first = w + t->d_at - shift / 8;
	const __m256i at = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
					      _mm256_set1_epi32((int)t->bytes));
	__mmask8 mask = (__mmask8)((1u << blocks) - 1);
	__m256i v = _mm256_mmask_i32gather_epi32(_mm256_setzero_si256(), mask, at, first, 1);
	__m256 da = _mm256_maskz_loadu_ps(mask, d_act);
	__m128i d = _mm256_cvtepi32_epi16(_mm256_srli_epi32(v, shift));

	_mm256_store_ps(f->d, _mm256_mul_ps(da, _mm256_cvtph_ps(d)));
	if (t->has_m) {
		__m128i dmin = _mm256_cvtepi32_epi16(_mm256_srli_epi32(v, 16));

		_mm256_store_ps(f->dmin, _mm256_mul_ps(da, _mm256_cvtph_ps(dmin)));
	}
}

/*
 * Two rows are two streams for the hardware's prefetcher, too (but see one_stream()), and do with
 * one request, but for the large blocks of Q6_K. Distances measured best with two threads reading
 * from DRAM.
 */
#define TO_L1_AHEAD 3072
#define TO_L2_AHEAD 4608

FLATTEN void prefetch_block(const uint8_t *w, size_t bytes, int rows)
{
	if (rows == 1)
		prefetch_one(w, bytes, ONE_AHEAD);
	else if (bytes > 192)
		prefetch(w, bytes, TO_L1_AHEAD, TO_L2_AHEAD);
	else
		for (size_t i = 0; i < bytes; i += 64)
			_mm_prefetch((const char *)w + TO_L1_AHEAD + i, _MM_HINT_T0);
}

/* What a row has added up so far. */
struct sums {
	__m512 q;
	__m256 m;
};

FLATTEN void add_block(struct sums *sums, const struct block_sums *s, bool has_m, float d,
		       float dmin)
{
	sums->q = _mm512_fmadd_ps(_mm512_set1_ps(d), s->q, sums->q);
	if (has_m)
		sums->m = _mm256_fmadd_ps(_mm256_set1_ps(dmin), _mm256_cvtepi32_ps(s->m), sums->m);
}

FLATTEN float sum_row(const struct sums *sums, const struct layout *t)
{
	__m256 v = _mm256_fmadd_ps(_mm512_extractf32x8_ps(sums->q, 1), _mm256_set1_ps(t->upper),
				   _mm512_castps512_ps256(sums->q));

	return sum_lanes(t->has_m ? _mm256_sub_ps(v, sums->m) : v);
}

/* One row, or two, the second `apart` rows behind the first. */
FLATTEN void dot(const struct layout *t, int rows, const uint8_t *w, size_t stride, size_t apart,
		 const void *act, size_t n, float *out)
{
	const int8_t *q = act;
	const float *d_act = (const void *)((const char *)act + act_d_off(n));
	const int16_t *bsums = (const void *)((const char *)act + act_bsums_off(n));
	struct sums sums[2];
	struct factors f[2];

	UNROLL
	for (int r = 0; r < rows; r++)
		sums[r] = (struct sums){_mm512_setzero_ps(), _mm256_setzero_ps()};
	for (size_t left = n / 256, m; left; left -= m, d_act += m) {
		m = left < BATCH ? left : BATCH;
		UNROLL
		for (int r = 0; r < rows; r++)
			get_factors(&f[r], t, w + r * apart * stride, d_act, m);
		for (size_t i = 0; i < m; i++, w += t->bytes, q += 256, bsums += 16) {
			UNROLL
			for (int r = 0; r < rows; r++) {
				const uint8_t *block = w + r * apart * stride;
				struct block_sums s;

				prefetch_block(block, t->bytes, rows);
				s = t->block(block, q, bsums);
				add_block(&sums[r], &s, t->has_m, f[r].d[i], f[r].dmin[i]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < rows; r++)
		out[r * apart] = sum_row(&sums[r], t);
}

/*
 * Two streams are worth it from this many bytes on: each begins with lines that nobody prefetched.
 * A row's result is the same either way.
 */
#define TWO_STREAMS_FROM 65536

FLATTEN void dot_rows(const struct layout *t, const uint8_t *w, size_t stride, size_t n_rows,
		      const void *act, size_t n, float *out)
{
	const bool two = !one_stream() && n_rows * stride >= TWO_STREAMS_FROM;
	size_t r = 0, half = two ? n_rows / 2 : 0;

	for (; r < half; r++)
		dot(t, 2, w + r * stride, stride, half, act, n, out + r);
	for (r = 2 * half; r < n_rows; r++)
		dot(t, 1, w + r * stride, stride, 0, act, n, out + r);
}

#define TYPE(type, has_m, upper)                                                                   \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		const struct layout layout = {                                                     \
			sizeof(struct block_##type),                                               \
			offsetof(struct block_##type, d),                                          \
			has_m,                                                                     \
			upper,                                                                     \
			block_##type,                                                              \
		};                                                                                 \
                                                                                                   \
		dot_rows(&layout, w, stride, n_rows, act, n, out);                                 \
	}                                                                                          \
                                                                                                   \
	TYPE_OPS(type, ACT_Q8_256)

TYPE(q2_k, true, 0.25f);
TYPE(q3_k, false, 0.25f);
TYPE(q4_k, true, 1);
TYPE(q5_k, true, 1);
TYPE(q6_k, false, 1);
TYPE(iq4_xs, false, 1);
