// SPDX-License-Identifier: MIT
/*
 * Packed rows of 256-element blocks with AVX2: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * Words: a *column* is the block column of a group (packed.h), a *sub-block* its part that shares a
 * scale, 16 or 32 elements; a *register* i of half a block is the 32 elements from 32 i on. Code
 * vectors and chains: packed_avx2.h. Here vpmaddwd multiplies a chain with its sub-block's scale,
 * so that everything is an exact integer until a column ends:
 *
 *	minimums	msum = sum of minimum * bsums, two sub-blocks at a time
 *	an offset	a chain begins with -offset * (sum of its 16 activations)
 *
 *	row += d_act * (d * sum - dmin * msum)
 *
 * Budget of half a column and a token, in instructions for three vector ports: for each of eight
 * registers 8 products and
 *
 *	one sum		7 additions, 1 scaled, 1 addition
 *	else		6 additions, 2 scaled, 2 additions; 2 more with an offset
 *	split		8 products more, 14 additions, 4 scaled, 4 additions
 *
 * 9 or 17 for minimums, 3 at the end; scales, and beside each type what unpacking takes. Cycles of
 * a column, bytes or products a cycle that follow, and what was measured in L2 with gcc:
 *
 *		column	T = 1: cycles, bytes/cycle	T = 16: cycles, products/cycle
 *	Q2_K	1344	219	6.1	4.6		1859	35	25
 *	Q3_K	1760	333	5.3	4.1		1963	33	24
 *	Q4_K	2304	181	12.7	8.8		1661	39	29
 *	Q5_K	2816	309	9.1	6.5		1869	35	27
 *	Q6_K	3360	313	10.7	6.6		1943	34	24
 *	IQ4_XS	2176	381	5.7	5.0		3451	19	16
 *
 * DRAM gives a core 14 GB/s, 4 bytes a cycle at 3.5 GHz. What is left of the ports' time goes to
 * loads, of which every product has one: 1.7 a cycle were measured.
 */
#include "kernels/cpu/x86/packed_avx2.h"

/* How a register's two chains and the scales go together. */
enum form {
	ONE_SUM,    /* a scale, and codes <= 15: both chains fit in one sum of 16 bits */
	ONE_SCALE,  /* a scale for both chains */
	TWO_SCALES, /* each a sub-block */
	SPLIT,	    /* 16 elements twice: chains of their low and of their high nibbles */
};

/* What half a column has for all tokens, beside its codes; a row a lane. */
struct scales {
	__m256i sub[16]; /* each as two 16-bit numbers; SPLIT: those of low, of high, of low .. */
	__m256i minimums[8]; /* of two sub-blocks */
	__m256 d, dmin;
};

/*
 * Code vectors of register i of a half block. w: a column, 32 bytes on for the group's second half,
 * so that 8 rows' units of 4 bytes are where it says; part: of a SPLIT one, which 16 elements.
 */
typedef void (*codes_fn)(const uint8_t *w, int half, int i, int part, __m256i q[8]);
/* w: a column; h: which half of the group */
typedef void (*scales_fn)(const uint8_t *w, int h, struct scales *s);

struct type256 {
	size_t bytes; /* of a column */
	int sub;
	enum form form;
	int off; /* 0: minimums */
	codes_fn codes;
	scales_fn get_scales;
};

FLATTEN __m256i and_bytes(__m256i v, uint8_t mask)
{
	return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* v | (w & mask) */
FLATTEN __m256i or_bytes(__m256i v, __m256i w, uint8_t mask)
{
	return _mm256_or_si256(v, and_bytes(w, mask));
}

/* A pick of bytes in each lane; at: those of lane 0, 0x80 for a zero; step: 4 for each not zero. */
FLATTEN __m256i pick_bytes(__m256i v, uint32_t at, uint32_t step)
{
	const __m128i lanes = _mm_set_epi32((int)(at + 3 * step), (int)(at + 2 * step),
					    (int)(at + step), (int)at);

	return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(lanes));
}

/* Byte @from of each lane as two 16-bit numbers; twice256: times 256, where it is signed. */
FLATTEN __m256i twice(__m256i v, int from)
{
	return pick_bytes(v, 0x80008000u + 0x00010001u * (uint32_t)from, 0x00040004);
}

FLATTEN __m256i twice256(__m256i v, int from)
{
	return pick_bytes(v, 0x00800080u + 0x01000100u * (uint32_t)from, 0x04000400);
}

/* The same for a signed byte, at two instructions. */
FLATTEN __m256i twice_signed(__m256i v, int from)
{
	return _mm256_srai_epi16(twice256(v, from), 8);
}

/* Bytes @a and @a + 1 of each lane to 16-bit numbers. */
FLATTEN __m256i two_bytes(__m256i v, int a)
{
	return pick_bytes(v, 0x80018000u + 0x00010001u * (uint32_t)a, 0x00040004);
}

/* A unit of one byte of 8 rows, in both bytes of two 16-bit numbers a lane. */
FLATTEN __m256i unit_all(const uint8_t *p)
{
	const __m256i at = _mm256_set_epi32(0x07070707, 0x06060606, 0x05050505, 0x04040404,
					    0x03030303, 0x02020202, 0x01010101, 0);
	long long rows;

	memcpy(&rows, p, sizeof(rows));
	return _mm256_shuffle_epi8(_mm256_set1_epi64x(rows), at);
}

FLATTEN __m256 times(__m256 v, float f)
{
	return _mm256_mul_ps(v, _mm256_set1_ps(f));
}

/* Bits 2 i and 2 i + 1 of each byte. */
FLATTEN __m256i two_bits(__m256i v, int i)
{
	return and_bytes(i ? _mm256_srli_epi16(v, 2 * i) : v, 3);
}

/* shift for three of four, and: 112 for half a column; scales 52 */
FLATTEN void codes_q2_k(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	UNROLL16
	for (int k = 0; k < 8; k++)
		q[k] = two_bits(load256(w + q2_k_step(half, i, k)), i);
}

FLATTEN void scales_q2_k(const uint8_t *w, int h, struct scales *s)
{
	UNROLL16
	for (int p = 0; p < 8; p++) {
		__m256i a = unit_all(w + 64 + 32 * p + HALF_ROWS * h);
		__m256i b = unit_all(w + 64 + 32 * p + 16 + HALF_ROWS * h);

		s->sub[2 * p] = _mm256_and_si256(a, _mm256_set1_epi16(15));
		s->sub[2 * p + 1] = _mm256_and_si256(b, _mm256_set1_epi16(15));
		s->minimums[p] = _mm256_srli_epi16(_mm256_blend_epi16(a, b, 0xaa), 12);
	}
	s->d = eight_halves(w + 16 * h);
	s->dmin = eight_halves(w + 32 + 16 * h);
}

/*
 * That, and third bits (shift, and, or): 296; scales 41. They are 256-fold: 16 sub-blocks of up to
 * 16 * 4 * 127 times 32 * 256 fit in 31 bits.
 */
FLATTEN void codes_q3_k(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	const int to = 2 - i - 4 * half;

	UNROLL16
	for (int k = 0; k < 8; k++) {
		__m256i v = load256(w + q3_k_step(half, i, k));
		__m256i high = load256(w + q3_k_step(0, i, k) + 64);

		high = to > 0 ? _mm256_slli_epi16(high, to) : _mm256_srli_epi16(high, -to);
		q[k] = or_bytes(two_bits(v, i), high, 4);
	}
}

FLATTEN void scales_q3_k(const uint8_t *w, int h, struct scales *s)
{
	const uint8_t *p = w + 32 + 32 * h;
	__m256i a = load256(p), b = load256(p + 64), c = load256(p + 128);
	__m256i quad[4] = {
		or_bytes(and_bytes(a, 15), _mm256_slli_epi32(c, 4), 0x30),
		or_bytes(and_bytes(b, 15), _mm256_slli_epi32(c, 2), 0x30),
		or_bytes(and_bytes(_mm256_srli_epi32(a, 4), 15), c, 0x30),
		or_bytes(and_bytes(_mm256_srli_epi32(b, 4), 15), _mm256_srli_epi32(c, 2), 0x30),
	};

	UNROLL16
	for (int j = 0; j < 16; j++)
		s->sub[j] = twice256(_mm256_sub_epi8(quad[j / 4], _mm256_set1_epi8(32)), j % 4);
	s->d = times(eight_halves(w + 16 * h), 0x1p-8f);
}

/* and, and shift for a half of them: 96; scales 27 */
FLATTEN void codes_q4_k(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	UNROLL16
	for (int k = 0; k < 8; k++) {
		__m256i v = load256(w + q4_k_step(half, i, k));

		q[k] = and_bytes(i % 2 ? _mm256_srli_epi16(v, 4) : v, 15);
	}
}

/* q4_k_scales() for 8 rows */
FLATTEN void scales_q4_k(const uint8_t *w, int h, struct scales *s)
{
	const uint8_t *p = w + 64 + 32 * h;
	__m256i a = load256(p), b = load256(p + 64), c = load256(p + 128);
	__m256i sc[2] = {
		and_bytes(a, 0x3f),
		or_bytes(and_bytes(c, 15), _mm256_srli_epi32(a, 2), 0x30),
	};
	__m256i mn[2] = {
		and_bytes(b, 0x3f),
		or_bytes(and_bytes(_mm256_srli_epi32(c, 4), 15), _mm256_srli_epi32(b, 2), 0x30),
	};

	UNROLL16
	for (int j = 0; j < 8; j++)
		s->sub[j] = twice(sc[j / 4], j % 4);
	UNROLL16
	for (int p = 0; p < 4; p++)
		s->minimums[p] = two_bytes(mn[p / 2], 2 * (p % 2));
	s->d = eight_halves(w + 16 * h);
	s->dmin = eight_halves(w + 32 + 16 * h);
}

/* that, and fifth bits (shift, and, or): 280 */
FLATTEN void codes_q5_k(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	const int to = 4 - i - 4 * half;

	UNROLL16
	for (int k = 0; k < 8; k++) {
		__m256i v = load256(w + q5_k_step(half, i, k) + 64 * (i / 2));
		__m256i high = load256(w + q5_k_step(0, i, k) + 128);

		high = to > 0 ? _mm256_slli_epi16(high, to) : _mm256_srli_epi16(high, -to);
		q[k] = or_bytes(and_bytes(i % 2 ? _mm256_srli_epi16(v, 4) : v, 15), high, 16);
	}
}

/* and, and shift for a half; high bits (shift for three of four, and, or): 272; scales 34 */
FLATTEN void codes_q6_k(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	UNROLL16
	for (int k = 0; k < 8; k++) {
		__m256i v = load256(w + q6_k_step(half, i, k) + 64 * (i % 2));
		__m256i high = load256(w + q6_k_step(half, i, k) + 128);

		if (i >= 2)
			v = _mm256_srli_epi16(v, 4);
		if (i < 2)
			high = _mm256_slli_epi16(high, 4 - 2 * i);
		else if (i == 3)
			high = _mm256_srli_epi16(high, 2);
		q[k] = or_bytes(and_bytes(v, 15), high, 0x30);
	}
}

FLATTEN void scales_q6_k(const uint8_t *w, int h, struct scales *s)
{
	UNROLL16
	for (int j = 0; j < 16; j++)
		s->sub[j] = _mm256_srai_epi16(unit_all(w + 32 + 16 * j + HALF_ROWS * h), 8);
	s->d = eight_halves(w + 16 * h);
}

/* and, two look-ups, and shift for a half: 224; scales 41 */
FLATTEN void codes_iq4_xs(const uint8_t *w, int half, int i, int part, __m256i q[8])
{
	const __m256i table = _mm256_add_epi8(_mm256_broadcastsi128_si256(load128(iq4_codebook)),
					      _mm256_set1_epi8((char)0x80));
	const __m256i low = and_bytes(table, 15);
	const __m256i high = and_bytes(_mm256_srli_epi16(table, 4), 15);

	UNROLL16
	for (int k = 0; k < 4; k++) {
		__m256i v = load256(w + iq4_xs_step(half, i, k));

		v = and_bytes(part ? _mm256_srli_epi16(v, 4) : v, 15);
		q[k] = _mm256_shuffle_epi8(low, v);
		q[4 + k] = _mm256_shuffle_epi8(high, v);
	}
}

/*
 * The even scales, and the odd ones, four a lane. Of a row's 16 high bits each byte has two scales
 * of either: what is not in place is shifted there.
 */
FLATTEN void scales_iq4_xs(const uint8_t *w, int h, struct scales *s)
{
	const __m256i place = _mm256_set1_epi32(0x00300030), next = _mm256_set1_epi32(0x30003000);
	__m256i low = load256(w + 64 + 32 * h), sc[2];
	/* of lane r, bytes 0 0 1 1 of its two */
	__m256i high =
		pick_bytes(_mm256_cvtepu16_epi32(load128(w + 32 + 16 * h)), 0x01010000, 0x04040404);

	sc[0] = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(high, 4), place),
				_mm256_and_si256(high, next));
	sc[1] = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(high, 2), place),
				_mm256_and_si256(_mm256_srli_epi16(high, 2), next));
	sc[0] = or_bytes(sc[0], low, 15);
	sc[1] = or_bytes(sc[1], _mm256_srli_epi16(low, 4), 15);
	UNROLL16
	for (int j = 0; j < 8; j++) {
		__m256i v = _mm256_sub_epi8(sc[j % 2], _mm256_set1_epi8(32));

		s->sub[2 * j] = twice_signed(v, j / 2);
		s->sub[2 * j + 1] = _mm256_slli_epi16(s->sub[2 * j], 4);
	}
	s->d = eight_halves(w + 16 * h);
}

/* ---- what tokens need, beside their codes ---- */

/* T, or 8, of the bsums. */
FLATTEN __m128i load_bsums(const int16_t *p, size_t T)
{
	if (T >= 8)
		return load128(p);
	if (T == 4)
		return _mm_loadl_epi64((const __m128i *)p);
	return _mm_cvtsi32_si128(T == 2 ? (int)load_u32(p) : load_u16(p));
}

/* Pairs to multiply with two minimums; up to 3 numbers more are written. */
FLATTEN void pair_bsums(const int16_t *bsums, size_t T, int sub, int32_t *out)
{
	const size_t groups = (size_t)sub / 16; /* of a sub-block */

	for (size_t p = 0; p < 8 / groups; p++, bsums += 2 * groups * T) {
		UNROLL16
		for (size_t t = 0; t < T; t += 8, out += T < 8 ? T : 8) {
			__m128i a = load_bsums(bsums + t, T);
			__m128i b = load_bsums(bsums + groups * T + t, T);

			if (groups == 2) {
				a = _mm_add_epi16(a, load_bsums(bsums + T + t, T));
				b = _mm_add_epi16(b, load_bsums(bsums + 3 * T + t, T));
			}
			_mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi16(a, b));
			if (T >= 8)
				_mm_storeu_si128((__m128i *)(out + 4), _mm_unpackhi_epi16(a, b));
		}
	}
}

/* For minimums, pairs of bsums; else what chains begin with, one of each 16 elements. */
FLATTEN void prepare(const int8_t *q, const int16_t *bsums, size_t T, struct type256 type,
		     int32_t *out)
{
	if (!type.off) {
		pair_bsums(bsums, T, type.sub, out);
		return;
	}
	for (size_t i = 0; i < 16; i++)
		sum_codes(q + 16 * T * i, 4, T, type.off, true, out + T * i);
}

/* How many numbers a column and a token need of that. */
FLATTEN size_t prepared(struct type256 type)
{
	return type.off ? 16 : 128 / (size_t)type.sub;
}

/* What of a tile belongs to a column. */
struct tile {
	const int8_t *q;
	const float *d;
	const int32_t *ready; /* see prepare(): [][T] */
};

/* ---- half a column ---- */

/* A token's products with a register's, or part's, code vectors, scaled; n: register of 8. */
FLATTEN __m256i products(const __m256i q[8], const struct scales *s, struct tile x, size_t t,
			 size_t T, int n, int part, struct type256 type)
{
	const bool split = type.form == SPLIT;
	const int8_t *act = x.q + (32 * (size_t)n + 16 * (size_t)part) * T + 4 * t;
	const int32_t *start = x.ready + 2 * (size_t)n * T + t;
	__m256i a = chain(q, act, T), b = chain(q + 4, split ? act : act + 16 * T, T);

	if (type.form == ONE_SUM)
		return _mm256_madd_epi16(_mm256_add_epi16(a, b), s->sub[n]);
	if (type.off && !split)
		a = _mm256_add_epi16(a, all_32(start));
	if (type.off)
		b = _mm256_add_epi16(b, all_32(start + (split ? part : 1) * T));
	if (type.form == ONE_SCALE)
		return _mm256_add_epi32(_mm256_madd_epi16(a, s->sub[n]),
					_mm256_madd_epi16(b, s->sub[n]));
	return _mm256_add_epi32(_mm256_madd_epi16(a, s->sub[2 * n]),
				_mm256_madd_epi16(b, s->sub[2 * n + 1]));
}

/* Register i of half a block: all tokens' sums. */
FLATTEN void add_register(__m256i *sums, const uint8_t *w, const struct scales *s, struct tile x,
			  size_t T, int half, int i, int part, struct type256 type)
{
	const int n = 4 * half + i;
	__m256i q[8];

	/*
	 * Hidden from gcc, which would keep an address for every load, and these on the stack. With
	 * many tokens that does not matter, and what registers have in common is worth keeping.
	 */
	__asm__("" : "+r"(x.q), "+r"(x.ready));
	if (T <= 2)
		__asm__("" : "+r"(w));
	type.codes(w, half, i, part, q);
	if (T <= 2) {
		UNROLL16
		for (size_t t = 0; t < T; t++)
			sums[t] = _mm256_add_epi32(sums[t], products(q, s, x, t, T, n, part, type));
	} else {
		ROLLED
		for (size_t t = 0; t < T; t++)
			sums[t] = _mm256_add_epi32(sums[t], products(q, s, x, t, T, n, part, type));
	}
}

/* *acc += d_act * (d * sum - dmin * msum) */
FLATTEN void finish(__m256 *acc, __m256i sum, const struct scales *s, struct tile x, size_t t,
		    size_t T, struct type256 type)
{
	__m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), s->d);

	if (!type.off) {
		__m256i msum = _mm256_madd_epi16(s->minimums[0], all_32(x.ready + t));

		UNROLL16
		for (size_t p = 1; p < prepared(type); p++)
			msum = _mm256_add_epi32(
				msum,
				_mm256_madd_epi16(s->minimums[p], all_32(x.ready + p * T + t)));
		v = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(msum), s->dmin, v);
	}
	*acc = _mm256_fmadd_ps(v, all_floats(x.d + t), *acc);
}

/* One column of 8 rows. */
FLATTEN void add_half_column(__m256 *acc, const uint8_t *w, int h, struct tile x, size_t T,
			     struct type256 type)
{
	__m256i sums[TILE_MAX];
	struct scales s;

	type.get_scales(w, h, &s);
	UNROLL16
	for (size_t t = 0; t < T; t++)
		sums[t] = _mm256_setzero_si256();
	UNROLL16
	for (int half = 0; half < 2; half++) {
		UNROLL16
		for (int i = 0; i < 4; i++) {
			add_register(sums, w + 32 * h, &s, x, T, half, i, 0, type);
			if (type.form == SPLIT)
				add_register(sums, w + 32 * h, &s, x, T, half, i, 1, type);
		}
	}
	if (T <= 2) {
		UNROLL16
		for (size_t t = 0; t < T; t++)
			finish(acc + t, sums[t], &s, x, t, T, type);
	} else {
		ROLLED
		for (size_t t = 0; t < T; t++)
			finish(acc + t, sums[t], &s, x, t, T, type);
	}
}

/* For so many numbers of prepare()'s room is made at once: 8 KiB of stack. */
#define MAX_READY 2048

FLATTEN void add_columns(const uint8_t *w, size_t columns, struct tile x, size_t T,
			 struct type256 type, bool first, float *out, size_t out_stride)
{
	__m256 acc[2 * TILE_MAX];

	UNROLL16
	for (size_t t = 0; t < T; t++) {
		float *p = out + t * out_stride;

		acc[t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(p);
		acc[T + t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(p + HALF_ROWS);
	}
	for (size_t b = 0; b < columns; b++) {
		for (int h = 0; h < 2; h++) {
			prefetch_column(w + (size_t)h * type.bytes / 2, type.bytes / 2);
			add_half_column(acc + (size_t)h * T, w, h, x, T, type);
		}
		w += type.bytes;
		x.q += 256 * T;
		x.d += T;
		x.ready += prepared(type) * T;
	}
	UNROLL16
	for (size_t t = 0; t < T; t++) {
		_mm256_storeu_ps(out + t * out_stride, acc[t]);
		_mm256_storeu_ps(out + t * out_stride + HALF_ROWS, acc[T + t]);
	}
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type256 type)
{
	const size_t columns = n / 256, numbers = prepared(type) * T, most = MAX_READY / numbers;
	const float *d = (const void *)((const char *)tile + act_d_off(n * T));
	const int16_t *bsums = (const void *)((const char *)tile + act_bsums_off(n * T));
	_Alignas(64) int32_t ready[MAX_READY + 3];

	for (size_t b = 0; b < columns; b += most) {
		size_t count = columns - b < most ? columns - b : most;
		struct tile x = {(const int8_t *)tile + b * 256 * T, d + b * T, ready};

		prefetch_first(w + b * type.bytes);
		for (size_t i = 0; i < count; i++)
			prepare(x.q + i * 256 * T, bsums + (b + i) * 16 * T, T, type,
				ready + i * numbers);
		for (size_t g = 0; g < n_groups; g++)
			add_columns(w + (g * columns + b) * type.bytes, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
	}
}

#define TYPE(name, sub, form, off, codes, get_scales)                                              \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type256 type = {PACK_ROWS * sizeof(struct block_##name),              \
					     sub,                                                  \
					     form,                                                 \
					     off,                                                  \
					     codes,                                                \
					     get_scales};                                          \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type);                        \
	}                                                                                          \
	PACKED_KERNEL(avx2_packed_##name, dot_##name)

TYPE(q2_k, 16, TWO_SCALES, 0, codes_q2_k, scales_q2_k)
TYPE(q3_k, 16, TWO_SCALES, 4, codes_q3_k, scales_q3_k)
TYPE(q4_k, 32, ONE_SUM, 0, codes_q4_k, scales_q4_k)
TYPE(q5_k, 32, ONE_SCALE, 0, codes_q5_k, scales_q4_k)
TYPE(q6_k, 16, TWO_SCALES, 32, codes_q6_k, scales_q6_k)
TYPE(iq4_xs, 32, SPLIT, 8, codes_iq4_xs, scales_iq4_xs)
