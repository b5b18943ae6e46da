// SPDX-License-Identifier: MIT
/*
 * Packed rows of 256-element blocks with AVX-512 VNNI: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * Words: a *column* is the block column of 16 rows (packed.h), a *sub-block* its part that shares a
 * scale, 16 or 32 elements; a *register* i of a half column is the 32 elements from 32 i on, eight
 * code vectors of four elements a row.
 *
 * Codes are unsigned bytes, as vpdpbusd wants them. A sub-block's sum of products is an exact
 * integer; with its scale it goes to the column's sum of the token, in one of two ways: in float
 * (convert, multiply and add), or in integers (vpdpwssd), where sub-block sums fit in 16 bits. What
 * codes lack to be what they stand for:
 *
 *	minimums	msum = sum of minimum * bsums, in integers, two sub-blocks at a time
 *	an offset	a sub-block's sum begins with -offset * bsums
 *
 *	row += d_act * (d * sum - dmin * msum)
 *
 * Scales are used as they come out of the bytes most cheaply: times a power of two, which d makes
 * good (exactly: nothing here over- or underflows).
 *
 * Budget of a column, in instructions for the two vector ports: for each of T tokens 64 products, 2
 * (in integers: 1) for each sub-block, 4 or 8 for minimums, 2 to 5 at the end; the scales, and
 * beside each type what unpacking takes. Cycles, bytes or products a cycle that follow, and what
 * was measured in L2 with gcc:
 *
 *		column	T = 1: cycles, bytes/cycle	T = 16: cycles, products/cycle
 *	Q2_K	1344	110	12	8.6		815	80	53
 *	Q3_K	1760	179	9.8	7.7		801	82	55
 *	Q4_K	2304	94	24	14		754	87	67
 *	Q5_K	2816	172	16	11		831	79	60
 *	Q6_K	3360	170	20	12		904	72	51
 *	IQ4_XS	2176	104	21	14		718	91	70
 *
 * ("Products" of the table are those of one row, element and token.) DRAM gives a core 5 bytes a
 * cycle. What is left of the ports' time goes to loads, of which every vpdpbusd has one: of those,
 * 2 a cycle were measured with registers alone, 1.7 with broadcasts. A loop that does nothing but
 * the sub-blocks of 16 tokens gets 84 of the table's products with 32 elements each, 70 with 16.
 */
#include <stdbool.h>

#include "kernels/cpu/x86/packed_avx512.h"

/* How sub-blocks are added up. */
enum how {
	IN_FLOAT,
	IN_INT,
};

/* A type's codes: with minimums, or with an offset to subtract. */
enum zero {
	MINIMUMS = 0,
	OFFSET_4 = 4,
	OFFSET_32 = 32,
	OFFSET_128 = 128,
};

/*
 * One token reads some groups side by side, as many streams of DRAM in turns of a step; see
 * packed32_avx512.c, and one_stream() for where not. Two cores, share of what plain reading got
 * in the same run, each at its best distance:
 *
 *		one	two	three	four
 *	Q2_K	93	91	96
 *	Q3_K	78	91	88
 *	Q4_K	101	98	102	101
 *	Q5_K	88	94	99
 *	Q6_K	92	101	103
 *	IQ4_XS	100	101	104	107
 *
 * What is so far ahead of that goes into L1, what is 1024 farther into L2.
 */
#define MAX_SIDE 4

/* What a column has for all tokens, beside its codes; a row a lane. */
struct scales {
	__m512i sub[16];     /* floats, or integers in the lanes' lower halves */
	__m512i minimums[8]; /* of two sub-blocks a lane */
	__m512 d, dmin;
};

/*
 * Of a step (packed.h) that begins with register @base, the code vector of register @base + i;
 * second: of unit k + 4 where that is in the same bytes.
 */
typedef __m512i (*codes_fn)(const uint8_t *column, int half, int base, int i, int k, bool second);
typedef void (*scales_fn)(const uint8_t *column, struct scales *s);
typedef size_t (*step_fn)(int half, int i, int k);

struct type256 {
	size_t bytes; /* of a column */
	int sub;
	enum how how;
	enum zero zero;
	int registers; /* that a step has units of */
	bool doubled;  /* it has two of each */
	codes_fn codes;
	scales_fn get_scales;
	step_fn step;
	size_t side, ahead; /* see MAX_SIDE */
};

FLATTEN __m512i bytes(uint8_t v)
{
	return _mm512_set1_epi8((char)v);
}

FLATTEN __m512i and_bytes(__m512i v, uint8_t mask)
{
	return _mm512_and_si512(v, bytes(mask));
}

/* v | (w & mask) */
FLATTEN __m512i or_bytes(__m512i v, __m512i w, uint8_t mask)
{
	return _mm512_ternarylogic_epi32(v, w, bytes(mask), 0xf8);
}

FLATTEN __m512i lane_numbers(void)
{
	return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

/* A pick of bytes in each lane; at: those of lane 0, 0x80 for a zero; step: 4 for each not zero. */
FLATTEN __m512i pick_bytes(__m512i v, uint32_t at, uint32_t step)
{
	const __m128i lanes = _mm_set_epi32((int)(at + 3 * step), (int)(at + 2 * step),
					    (int)(at + step), (int)at);

	return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(lanes));
}

/* Byte @from of each lane to byte @to, alone. */
FLATTEN __m512i move_byte(__m512i v, int from, int to)
{
	const uint32_t others = 0x80808080u & ~(0xffu << 8 * to);

	return pick_bytes(v, others | (uint32_t)from << 8 * to, 4u << 8 * to);
}

/* Bytes @a and @a + 1 of each lane to 16-bit numbers. */
FLATTEN __m512i two_bytes(__m512i v, int a)
{
	return pick_bytes(v, 0x80018000u + 0x00010001u * (uint32_t)a, 0x00040004);
}

/* Four units of one byte to four bytes a lane. */
FLATTEN __m512i four_units(const uint8_t *p)
{
	const __m512i row = _mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(0x01010101));

	return _mm512_permutexvar_epi8(_mm512_add_epi32(row, _mm512_set1_epi32(0x30201000)),
				       load512(p));
}

FLATTEN __m512i to_float(__m512i v)
{
	return _mm512_castps_si512(_mm512_cvtepi32_ps(v));
}

FLATTEN __m512 times(__m512 v, float f)
{
	return _mm512_mul_ps(v, _mm512_set1_ps(f));
}

/*
 * Registers 1 and 3 have their codes fourfold, which saves half the shifts; the scales of the
 * others are fourfold, too. A sub-block's sum is at most 16 * 12 * 127. and, and shift for a half
 * of them: 96, or 80 where two registers share the shift (add_few()); scales 47
 */
FLATTEN __m512i codes_q2_k(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	__m512i v = load512(column + q2_k_step(half, base, k));

	if (i >= 2)
		v = _mm512_srli_epi16(v, 4);
	return and_bytes(v, i % 2 ? 12 : 3);
}

FLATTEN void scales_q2_k(const uint8_t *column, struct scales *s)
{
	UNROLL16
	for (int q = 0; q < 4; q++) {
		__m512i both = four_units(column + 64 + 64 * q);
		__m512i sc = and_bytes(both, 15), sc4 = _mm512_slli_epi16(sc, 2);
		__m512i mn = and_bytes(_mm512_srli_epi16(both, 4), 15);

		s->sub[4 * q] = move_byte(sc4, 0, 0);
		s->sub[4 * q + 1] = move_byte(sc4, 1, 0);
		s->sub[4 * q + 2] = move_byte(sc, 2, 0);
		s->sub[4 * q + 3] = move_byte(sc, 3, 0);
		s->minimums[2 * q] = two_bytes(mn, 0);
		s->minimums[2 * q + 1] = two_bytes(mn, 2);
	}
	s->d = times(load_halves(column), 0x1p-2f);
	s->dmin = load_halves(column + 32);
}

/*
 * shift for three of four, and; rotate the third bit into place, or: 240; scales 35. The scales are
 * 256-fold: 16 sub-blocks of up to 16 * 4 * 127, less the offset, times 32 * 256 fit in 31 bits.
 */
FLATTEN __m512i codes_q3_k(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	__m512i v = load512(column + q3_k_step(half, base, k));
	__m512i high = load512(column + q3_k_step(0, base, k) + 64);

	if (i == 1)
		v = _mm512_srli_epi16(v, 2);
	else if (i == 2)
		v = _mm512_srli_epi16(v, 4);
	else if (i == 3)
		v = _mm512_srli_epi16(v, 6);
	high = _mm512_rolv_epi32(high, _mm512_set1_epi32(2 - i - 4 * half));
	return or_bytes(and_bytes(v, 3), high, 4);
}

FLATTEN void scales_q3_k(const uint8_t *column, struct scales *s)
{
	__m512i a = load512(column + 32), b = load512(column + 96), c = load512(column + 160);
	__m512i quad[4] = {
		or_bytes(and_bytes(a, 15), _mm512_slli_epi32(c, 4), 0x30),
		or_bytes(and_bytes(b, 15), _mm512_slli_epi32(c, 2), 0x30),
		or_bytes(and_bytes(_mm512_srli_epi32(a, 4), 15), c, 0x30),
		or_bytes(and_bytes(_mm512_srli_epi32(b, 4), 15), _mm512_srli_epi32(c, 2), 0x30),
	};

	UNROLL16
	for (int j = 0; j < 16; j++)
		s->sub[j] = move_byte(_mm512_sub_epi8(quad[j / 4], bytes(32)), j % 4, 1);
	s->d = times(load_halves(column), 0x1p-8f);
}

/* and: 64; the high nibbles are 16-fold, so the scales of the low ones are, too: 36 */
FLATTEN __m512i codes_q4_k(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	__m512i v = load512(column + q4_k_step(half, base, k));

	return and_bytes(v, i % 2 ? 0xf0 : 15);
}

/* q4_k_scales() for all rows: the scales, four a lane, and of @s what belongs to minimums. */
FLATTEN void six_bit_scales(const uint8_t *column, __m512i sc[2], struct scales *s)
{
	__m512i a = load512(column + 64), b = load512(column + 128), c = load512(column + 192);
	__m512i mn[2] = {
		and_bytes(b, 0x3f),
		or_bytes(and_bytes(_mm512_srli_epi32(c, 4), 15), _mm512_srli_epi32(b, 2), 0x30),
	};

	sc[0] = and_bytes(a, 0x3f);
	sc[1] = or_bytes(and_bytes(c, 15), _mm512_srli_epi32(a, 2), 0x30);
	UNROLL16
	for (int p = 0; p < 4; p++)
		s->minimums[p] = two_bytes(mn[p / 2], 2 * (p % 2));
	s->dmin = load_halves(column + 32);
}

FLATTEN void scales_q4_k(const uint8_t *column, struct scales *s)
{
	__m512i sc[2];

	six_bit_scales(column, sc, s);
	UNROLL16
	for (int j = 0; j < 8; j++) {
		__m512i v = move_byte(sc[j / 4], j % 4, 0);

		s->sub[j] = to_float(j % 2 ? v : _mm512_slli_epi32(v, 4));
	}
	s->d = times(load_halves(column), 0x1p-4f);
}

/* and, and shift for a half of them; rotate the fifth bit into place, or: 224; scales 31 */
FLATTEN __m512i codes_q5_k(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	__m512i v = load512(column + q5_k_step(half, base, k) + 64 * (i / 2));
	__m512i high = load512(column + q5_k_step(0, base, k) + 128);

	if (i % 2)
		v = _mm512_srli_epi16(v, 4);
	high = _mm512_rolv_epi32(high, _mm512_set1_epi32(4 - i - 4 * half));
	return or_bytes(and_bytes(v, 15), high, 16);
}

FLATTEN void scales_q5_k(const uint8_t *column, struct scales *s)
{
	__m512i sc[2];

	six_bit_scales(column, sc, s);
	UNROLL16
	for (int j = 0; j < 8; j++)
		s->sub[j] = to_float(move_byte(sc[j / 4], j % 4, 0));
	s->d = load_halves(column);
}

/* and, and shift for a half; shift the high bits into place for three of four, or: 208; scales 33
 */
FLATTEN __m512i codes_q6_k(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	__m512i v = load512(column + q6_k_step(half, base, k) + 64 * (i % 2));
	__m512i high = load512(column + q6_k_step(half, base, k) + 128);

	if (i >= 2)
		v = _mm512_srli_epi16(v, 4);
	if (i == 0)
		high = _mm512_slli_epi16(high, 4);
	else if (i == 1)
		high = _mm512_slli_epi16(high, 2);
	else if (i == 3)
		high = _mm512_srli_epi16(high, 2);
	return or_bytes(and_bytes(v, 15), high, 0x30);
}

FLATTEN void scales_q6_k(const uint8_t *column, struct scales *s)
{
	UNROLL16
	for (int j = 0; j < 16; j++)
		s->sub[j] = to_float(_mm512_cvtepi8_epi32(load128(column + 32 + 16 * j)));
	s->d = load_halves(column);
}

/*
 * Of a byte, vpermb looks at six bits: in a table that repeats every 16, the two too many need no
 * masking. look-up, and shift for a half of them: 96; scales 29
 */
FLATTEN __m512i codes_iq4_xs(const uint8_t *column, int half, int base, int i, int k, bool second)
{
	const __m512i table =
		_mm512_add_epi8(_mm512_broadcast_i32x4(load128(iq4_codebook)), bytes(128));
	__m512i v = load512(column + iq4_xs_step(half, base, k % 4));

	return _mm512_permutexvar_epi8(second ? _mm512_srli_epi16(v, 4) : v, table);
}

/*
 * A multishift takes eight bits from any place of 64, which are two rows, for every byte: low the
 * nibble that it asks for, high from 4 below the two bits, so that they come to lie above that.
 * The scales become the top bytes of their lanes: 2^24-fold.
 */
FLATTEN void scales_iq4_xs(const uint8_t *column, struct scales *s)
{
	__m512i high = _mm512_cvtepu16_epi32(load256(column + 32)), low = load512(column + 64);

	UNROLL16
	for (int q = 0; q < 2; q++) {
		const long long l = 0x2c2824200c080400 + 0x1010101010101010 * q;
		const long long h = 0x22201e1c02003e3c + 0x0808080808080808 * q;
		__m512i sc = and_bytes(_mm512_multishift_epi64_epi8(_mm512_set1_epi64(l), low), 15);

		sc = or_bytes(sc, _mm512_multishift_epi64_epi8(_mm512_set1_epi64(h), high), 0x30);
		sc = _mm512_sub_epi8(sc, bytes(32));
		UNROLL16
		for (int j = 0; j < 4; j++)
			s->sub[4 * q + j] = to_float(move_byte(sc, j, 3));
	}
	s->d = times(load_halves(column), 0x1p-24f);
}

/*
 * bsums lie as [16][T] 16-bit numbers. Where in them, for each of 16 lanes in the order [..][T],
 * the two are that are @groups / 2 groups apart: the lane's first group and a later one.
 */
FLATTEN __m512i pair_places(size_t T, int groups)
{
	__m512i lane = lane_numbers();
	__m512i row = _mm512_and_si512(lane, _mm512_set1_epi32(-(int)T));
	__m512i at = _mm512_add_epi32(lane, _mm512_mullo_epi32(row, _mm512_set1_epi32(groups - 1)));

	/* The second in the upper half of the lane. */
	return _mm512_add_epi32(_mm512_mullo_epi32(at, _mm512_set1_epi32(0x10001)),
				_mm512_set1_epi32((int)T * groups / 2 << 16));
}

/* 32 of the bsums, or what there is. */
FLATTEN __m512i load_bsums(const int16_t *p, size_t T)
{
	return T == 1 ? _mm512_zextsi256_si512(load256(p)) : load512(p);
}

/* Pairs of sub-blocks of 32: each of the two is the sum of two groups. */
FLATTEN void pairs_of_32(const int16_t *bsums, size_t T, int32_t *out)
{
	const __m512i at = pair_places(T, 4);
	const __m512i next = _mm512_add_epi16(at, _mm512_set1_epi16((short)T));

	UNROLL16
	for (size_t i = 0; i < (T + 3) / 4; i++) {
		__m512i a = load_bsums(bsums + 64 * i, T);
		__m512i b = T >= 4 ? load512(bsums + 64 * i + 32) : a;

		_mm512_storeu_si512(out + 16 * i,
				    _mm512_add_epi16(_mm512_permutex2var_epi16(a, at, b),
						     _mm512_permutex2var_epi16(a, next, b)));
	}
}

/*
 * What a column's bsums are needed as, for each token: pairs to multiply with two minimums, or
 * what the sums of the sub-blocks begin with. Up to 12 numbers more are written than that.
 */
FLATTEN void prepare(const int16_t *bsums, size_t T, int sub, enum zero zero, int32_t *out)
{
	if (zero == MINIMUMS && sub == 32) {
		pairs_of_32(bsums, T, out);
		return;
	}
	if (zero != MINIMUMS && sub == 16) {
		UNROLL16
		for (size_t i = 0; i < T; i++) {
			__m512i v = _mm512_cvtepi16_epi32(load256(bsums + 16 * i));

			_mm512_storeu_si512(out + 16 * i,
					    _mm512_mullo_epi32(v, _mm512_set1_epi32(-(int)zero)));
		}
		return;
	}
	UNROLL16
	for (size_t i = 0; i < (T + 1) / 2; i++) {
		__m512i v =
			_mm512_permutexvar_epi16(pair_places(T, 2), load_bsums(bsums + 32 * i, T));

		if (zero != MINIMUMS)
			v = _mm512_madd_epi16(v, _mm512_set1_epi16((short)-(int)zero));
		_mm512_storeu_si512(out + 16 * i, v);
	}
}

/* How many numbers a column and a token need of that. */
FLATTEN size_t prepared(struct type256 type)
{
	return (type.zero == MINIMUMS ? 128 : 256) / (size_t)type.sub;
}

/* What of a tile belongs to a column. */
struct tile {
	const int8_t *q;
	const float *d;
	const int32_t *ready; /* see prepare() */
};

/* vpdpwssd with a broadcast; see dot4() */
FLATTEN __m512i dot2(__m512i sum, __m512i v, const int32_t *pair)
{
	__asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(v), "m"(*pair));
	return sum;
}

FLATTEN __m512i add_scaled(__m512i sum, __m512i products, __m512i scale, enum how how)
{
	if (how == IN_INT)
		return _mm512_dpwssd_epi32(sum, products, scale);
	return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_cvtepi32_ps(products),
						   _mm512_castsi512_ps(scale),
						   _mm512_castsi512_ps(sum)));
}

FLATTEN __m512i start(const int32_t *ready, size_t at, enum zero zero)
{
	return zero == MINIMUMS ? _mm512_setzero_si512() : all_i32(ready + at);
}

/* A token alone may have streams, few tokens have one. */
FLATTEN void prefetch_ahead_of(const uint8_t *w, size_t bytes, size_t side, size_t T,
			       struct type256 type)
{
	if (T == 1 && side > 1)
		prefetch(w, bytes, type.ahead, type.ahead + 1024);
	else if (T == 1)
		prefetch_one(w, bytes, ONE_AHEAD);
	else
		prefetch(w, bytes, PREFETCH_NEAR, PREFETCH_FAR);
}

/* As much as a step reads. */
FLATTEN void prefetch_step(const uint8_t *w, int half, int base, int k, size_t side, size_t T,
			   struct type256 type)
{
	const size_t at = type.step(half, base, k), next = type.step(half, base, k + 1);

	prefetch_ahead_of(w + at, next - at, side, T, type);
}

/*
 * Half a column of each of `side` groups, `group` bytes apart; part: of every register, the first
 * or the second sub-block. Each byte of codes is loaded once, in order, by loads whose addresses
 * grow evenly: unrolled, every load would come back to the next column only, too far on for the
 * prefetcher that goes by a load's strides. Rolled and read in order, Q6_K, three side by side, is
 * a tenth faster than with either alone.
 */
FLATTEN void add_few(__m512i *sums, const uint8_t *w, size_t side, size_t group,
		     const struct scales *s, struct tile x, size_t T, int half, int part,
		     struct type256 type)
{
	const int parts = 32 / type.sub, steps = type.doubled ? 4 : type.sub / 4;
	const size_t each = side * T, registers = (size_t)type.registers;
	const size_t vectors = type.doubled ? 2 * registers : registers;

	ROLLED
	for (int base = 0; base < 4; base += type.registers) {
		const size_t sub = (size_t)((4 * half + base) * parts + part);
		__m512i p[16];

		UNROLL16
		for (size_t n = 0; n < registers * each; n++)
			p[n] = start(x.ready, (sub + n / each * (size_t)parts) * T + n % T,
				     type.zero);
		ROLLED
		for (int k = steps * part; k < steps * (part + 1); k++) {
			const int8_t *q = x.q + (128 * half + 32 * base + 4 * k) * (int)T;

			UNROLL16
			for (size_t z = 0; z < side; z++) {
				prefetch_step(w + z * group, half, base, k, side, T, type);
				UNROLL16
				for (size_t v = 0; v < vectors; v++) {
					const size_t i = v % registers, second = v / registers;
					__m512i c = type.codes(w + z * group, half, base, (int)i, k,
							       second);

					UNROLL16
					for (size_t t = 0; t < T; t++)
						p[i * each + z * T + t] = dot4(
							p[i * each + z * T + t], c,
							q + (32 * i + 16 * second) * T + 4 * t);
				}
			}
		}
		UNROLL16
		for (size_t n = 0; n < registers * each; n++)
			sums[n % each] = add_scaled(
				sums[n % each], p[n],
				s[n % each / T].sub[sub + n / each * (size_t)parts], type.how);
	}
}

/* The same of one group with many tokens: a sub-block's code vectors stay in registers. */
FLATTEN void add_many(__m512i sums[16], const uint8_t *w, const struct scales *s, struct tile x,
		      size_t T, int half, int part, struct type256 type)
{
	const int vectors = type.sub / 4;
	const size_t ahead = type.bytes * (size_t)type.sub / 256;

	UNROLL16
	for (int i = 0; i < 4; i++) {
		const int n = (4 * half + i) * (32 / type.sub) + part;
		const int8_t *q = x.q + (32 * (4 * half + i) + type.sub * part) * T;
		const int32_t *ready = x.ready + n * T;
		__m512i c[8];

		/*
		 * Hidden from gcc, which would keep what registers have in common, and an address
		 * for every load, and for that sums and addresses on the stack.
		 */
		__asm__("" : "+r"(w), "+r"(q), "+r"(ready));
		prefetch_column(w + n * (int)ahead, ahead);
		UNROLL16
		for (int k = 0; k < vectors; k++)
			c[k] = type.codes(w, half, i / type.registers * type.registers,
					  i % type.registers, vectors * part + k,
					  type.doubled && k >= 4);
		UNROLL16
		for (size_t t = 0; t < T; t++) {
			__m512i p = start(ready, t, type.zero);

			UNROLL16
			for (int k = 0; k < vectors; k++)
				p = dot4(p, c[k], q + 4 * (k * T + t));
			sums[t] = add_scaled(sums[t], p, s->sub[n], type.how);
		}
	}
}

/* d * sum, less dmin * msum */
FLATTEN __m512 finish(__m512i sum, const struct scales *s, const int32_t *pairs, size_t T,
		      struct type256 type)
{
	__m512 v = type.how == IN_INT ? _mm512_cvtepi32_ps(sum) : _mm512_castsi512_ps(sum);
	__m512i msum = _mm512_setzero_si512();

	v = _mm512_mul_ps(v, s->d);
	if (type.zero != MINIMUMS)
		return v;
	UNROLL16
	for (size_t p = 0; p < prepared(type); p++)
		msum = dot2(msum, s->minimums[p], pairs + p * T);
	return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(msum), s->dmin, v);
}

/* A column of each of `side` groups; acc: [side][T]. Many tokens have one group at a time. */
FLATTEN void add_column(__m512 *acc, const uint8_t *w, size_t side, size_t group, struct tile x,
			size_t T, struct type256 type)
{
	__m512i sums[16];
	struct scales s[MAX_SIDE];

	UNROLL16
	for (size_t z = 0; z < side; z++) {
		if (T <= 4)
			prefetch_ahead_of(w + z * group, type.step(0, 0, 0), side, T, type);
		type.get_scales(w + z * group, &s[z]);
	}
	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		sums[n] = _mm512_setzero_si512();
	for (int half = 0; half < 2; half++) {
		UNROLL16
		for (int part = 0; part < 32 / type.sub; part++) {
			if (T <= 4)
				add_few(sums, w, side, group, s, x, T, half, part, type);
			else
				add_many(sums, w, s, x, T, half, part, type);
		}
	}
	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		acc[n] = _mm512_fmadd_ps(finish(sums[n], &s[n / T], x.ready + n % T, T, type),
					 all_f32(x.d + n % T), acc[n]);
}

/* For so many numbers of prepare()'s room is made at once: 8 KiB of stack. */
#define MAX_READY 2048

FLATTEN void add_columns(const uint8_t *w, size_t side, size_t group, size_t columns, struct tile x,
			 size_t T, struct type256 type, bool first, float *out, size_t out_stride)
{
	__m512 acc[16];

	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		acc[n] = first ? _mm512_setzero_ps()
			       : _mm512_loadu_ps(out + PACK_ROWS * (n / T) + n % T * out_stride);
	for (size_t b = 0; b < columns; b++) {
		add_column(acc, w, side, group, x, T, type);
		w += type.bytes;
		x.q += 256 * T;
		x.d += T;
		x.ready += prepared(type) * T;
	}
	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		_mm512_storeu_ps(out + PACK_ROWS * (n / T) + n % T * out_stride, acc[n]);
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type256 type)
{
	const size_t columns = n / 256, group = columns * type.bytes;
	const size_t numbers = prepared(type) * T, most = MAX_READY / numbers;
	const bool several = T == 1 && !one_stream();
	const float *d = (const void *)((const char *)tile + act_d_off(n * T));
	const int16_t *bsums = (const void *)((const char *)tile + act_bsums_off(n * T));
	_Alignas(64) int32_t ready[MAX_READY + 12];

	for (size_t b = 0; b < columns; b += most) {
		const size_t count = columns - b < most ? columns - b : most;
		struct tile x = {(const int8_t *)tile + b * 256 * T, d + b * T, ready};
		const uint8_t *from = w + b * type.bytes;
		size_t g = 0;

		prefetch_first(from);
		for (size_t i = 0; i < count; i++)
			prepare(bsums + (b + i) * 16 * T, T, type.sub, type.zero,
				ready + i * numbers);
		/* constants, each of which makes a loop of its own */
		for (; several && type.side >= 4 && n_groups - g >= 4; g += 4)
			add_columns(from + g * group, 4, group, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
		for (; several && type.side >= 3 && n_groups - g >= 3; g += 3)
			add_columns(from + g * group, 3, group, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
		for (; several && n_groups - g >= 2; g += 2)
			add_columns(from + g * group, 2, group, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
		for (; g < n_groups; g++)
			add_columns(from + g * group, 1, group, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
	}
}

#define TYPE(name, sub, how, zero, registers, doubled, side, ahead)                                \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type256 type = {PACK_ROWS * sizeof(struct block_##name),              \
					     sub,                                                  \
					     how,                                                  \
					     zero,                                                 \
					     registers,                                            \
					     doubled,                                              \
					     codes_##name,                                         \
					     scales_##name,                                        \
					     name##_step,                                          \
					     side,                                                 \
					     ahead};                                               \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type);                        \
	}                                                                                          \
	PACKED_KERNEL(avx512_packed_##name, dot_##name)

TYPE(q2_k, 16, IN_INT, MINIMUMS, 4, false, 3, 1024)
TYPE(q3_k, 16, IN_INT, OFFSET_4, 4, false, 2, 2048)
TYPE(q4_k, 32, IN_FLOAT, MINIMUMS, 2, false, 3, 2048)
TYPE(q5_k, 32, IN_FLOAT, MINIMUMS, 4, false, 3, 1024)
TYPE(q6_k, 16, IN_FLOAT, OFFSET_32, 4, false, 3, 1024)
TYPE(iq4_xs, 32, IN_FLOAT, OFFSET_128, 1, true, 4, 1536)
