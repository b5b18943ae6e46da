// SPDX-License-Identifier: MIT
/*
 * Packed rows of 32-element blocks with AVX2: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4.
 *
 * A block column is unpacked in two *parts* of 16 elements, as unsigned bytes, into four code
 * vectors for each half of the group, or eight of a wide type; see packed_avx2.h for what becomes
 * of them. Eight at a time leave registers to multiply with: so a broadcast serves both halves of
 * the group, except of wide types, and sums of the first part wait in memory for the second.
 *
 * Codes are unsigned by an offset, off: what that adds to a sum, off * sum(activation codes), does
 * not depend on the rows, so it is taken once a call from the tile, and subtracted from every sum.
 * The sums are exact integers.
 *
 * Budget of half a column and a token, in instructions for three vector ports:
 *
 *	narrow	8 products, 7 additions, 1 to 32 bits: 16
 *	medium	8 products, 6 additions, 2 to 32 bits, 1 addition: 17
 *	wide	16 products, 12 additions, 4 to 32 bits, 3 additions: 35
 *
 * and for all 3 to scale; an offset adds one, a minimum one. The scales take 2 each, unpacking what
 * stands beside it. Cycles of a column that follow, then what was measured in L2 with gcc:
 *
 *		bytes	T = 1: cycles, bytes/cycle	T = 16: cycles, products/cycle
 *	Q4_0	288	23	12.7	9.2		223	37	30
 *	Q4_1	320	24	13.3	9.2		224	37	28
 *	Q5_0	352	45	7.8	6.3		255	32	25
 *	Q5_1	384	47	8.2	6.6		257	32	25
 *	Q8_0	544	49	11.2	8.8		439	19	16
 *	IQ4_NL	288	46	6.3	5.3		436	19	15
 *	MXFP4	272	29	9.3	7.5		239	34	27
 *
 * DRAM gives a core 14 GB/s, 4 bytes a cycle at 3.5 GHz. What is left of the ports' time goes to
 * loads (1.7 a cycle were measured) and stores: with a broadcast for each half, 14 loads and one
 * store a token instead of 7 and two, Q4_0 with 16 tokens had 26 products a cycle.
 */
#include "kernels/cpu/x86/packed_avx2.h"

/* What a type's codes allow; see packed_avx2.h. */
enum width {
	NARROW, /* <= 15: two chains fit in one sum of 16 bits */
	MEDIUM, /* <= 32 */
	WIDE,	/* code vectors 0-3 the low nibbles, 4-7 the high ones */
};

/*
 * Fills a part's four code vectors, eight of a wide type, from where the codes of half a column
 * begin, those of the 16 rows being 64 bytes apart.
 */
typedef void (*unpack_fn)(const uint8_t *w, int part, __m256i *q);
/* The scales of 8 rows, of group half @h */
typedef __m256 (*scale_fn)(const uint8_t *w, int h);

/* For so many sums of a column and a token room is made at once: 8 KiB of stack. */
#define MAX_STARTS 2048

FLATTEN __m256i low_nibbles(__m256i v)
{
	return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

FLATTEN __m256i high_nibbles(__m256i v)
{
	return low_nibbles(_mm256_srli_epi16(v, 4));
}

/* 4 and 8 for the parts */
FLATTEN void nibble_vectors(const uint8_t *w, int part, __m256i *q)
{
	UNROLL16
	for (int j = 0; j < 4; j++) {
		__m256i both = load256(w + 64 * j);

		q[j] = part ? high_nibbles(both) : low_nibbles(both);
	}
}

/*
 * After the fifth bits (32 bits a row), the nibbles. The byte that has a vector's four is copied
 * to all of its lane; each keeps its own bit, and a look-up makes that 16. 21 and 25
 */
FLATTEN void five_bit_vectors(const uint8_t *w, int part, __m256i *q)
{
	const __m256i own = _mm256_set1_epi32(0x08040201);
	const __m256i table = _mm256_broadcastsi128_si256(
		_mm_set_epi8(0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 16, 16, 0));
	const __m256i lane =
		_mm256_broadcastsi128_si256(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
	__m256i high[2] = {load256(w)};

	high[1] = _mm256_srli_epi32(high[0], 4);
	nibble_vectors(w + 64, part, q);
	UNROLL16
	for (int j = 0; j < 4; j++) {
		const __m256i at =
			_mm256_add_epi8(lane, _mm256_set1_epi8((char)(2 * part + j / 2)));
		__m256i bit = _mm256_and_si256(_mm256_shuffle_epi8(high[j % 2], at), own);

		q[j] = _mm256_or_si256(q[j], _mm256_shuffle_epi8(table, bit));
	}
}

/* Signed bytes, 128 up: 16 for each part */
FLATTEN void byte_vectors(const uint8_t *w, int part, __m256i *q)
{
	UNROLL16
	for (int j = 0; j < 4; j++) {
		__m256i v = _mm256_xor_si256(load256(w + 64 * (4 * part + j)),
					     _mm256_set1_epi8((char)0x80));

		q[j] = low_nibbles(v);
		q[4 + j] = high_nibbles(v);
	}
}

/* 14 for each part */
FLATTEN void iq4_nl_vectors(const uint8_t *w, int part, __m256i *q)
{
	const __m256i table = _mm256_add_epi8(_mm256_broadcastsi128_si256(load128(iq4_codebook)),
					      _mm256_set1_epi8((char)0x80));
	const __m256i low = low_nibbles(table), high = high_nibbles(table);

	UNROLL16
	for (int j = 0; j < 4; j++) {
		__m256i both = load256(w + 64 * j);
		__m256i at = part ? high_nibbles(both) : low_nibbles(both);

		q[j] = _mm256_shuffle_epi8(low, at);
		q[4 + j] = _mm256_shuffle_epi8(high, at);
	}
}

/* The codebook's numbers 12 up: 8 and 12 */
FLATTEN void mxfp4_vectors(const uint8_t *w, int part, __m256i *q)
{
	const __m256i table = _mm256_add_epi8(_mm256_broadcastsi128_si256(load128(mxfp4_codebook)),
					      _mm256_set1_epi8(12));

	nibble_vectors(w, part, q);
	UNROLL16
	for (int j = 0; j < 4; j++)
		q[j] = _mm256_shuffle_epi8(table, q[j]);
}

FLATTEN __m256 scale_half(const uint8_t *w, int h)
{
	return eight_halves(w + 16 * h);
}

/*
 * mxfp4_scale(), but denormal scales (e < 2) count as zero: files have them in blocks of zeros
 * only, and an FMA with a denormal operand takes a hundred cycles.
 */
FLATTEN __m256 scale_e8m0(const uint8_t *w, int h)
{
	__m128i e = _mm_subs_epu8(_mm_loadl_epi64((const __m128i *)(w + HALF_ROWS * h)),
				  _mm_set1_epi8(1));

	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(e), 23));
}

/* Where a tile's parts are, for the columns at hand. */
struct tile {
	const int8_t *q;
	const float *d, *s;
	const int32_t *start; /* -off * sum of codes, [column][T] */
};

/* A type: what the template is made out of. */
struct type32 {
	size_t bytes, scale_bytes; /* of a column; of its scales */
	unpack_fn unpack;
	scale_fn scale;
	enum width width;
	int off;
	bool has_m;
};

/* What 8 rows, a half, of a column have for all tokens. */
struct half_column {
	__m256i q[8]; /* of the part at hand */
	__m256 d, m;
};

/* What a half's code vectors of a part give with a token's codes; 16-bit sums of a narrow type. */
FLATTEN __m256i products(const __m256i *q, const int8_t *act, size_t T, enum width width)
{
	const __m256i one = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);
	__m256i a = chain(q, act, T);

	if (width == NARROW)
		return a;
	a = _mm256_madd_epi16(a, one);
	if (width == MEDIUM)
		return a;
	return _mm256_add_epi32(a, _mm256_madd_epi16(chain(q + 4, act, T), sixteen));
}

/* *acc += d * (d_act * sum), and m * s_act */
FLATTEN void finish(__m256 *acc, __m256i sum, const struct half_column *c, struct tile x, size_t t,
		    struct type32 type)
{
	__m256 v;

	if (type.width == NARROW)
		sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
	if (type.off)
		sum = _mm256_add_epi32(sum, all_32(x.start + t));
	v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), all_floats(x.d + t));
	*acc = _mm256_fmadd_ps(v, c->d, *acc);
	if (type.has_m)
		*acc = _mm256_fmadd_ps(c->m, all_floats(x.s + t), *acc);
}

/* A token and a part, of halves h0 .. h1-1; the second part finishes. acc, sums: [2][T] */
FLATTEN void add_token(__m256 *acc, __m256i *sums, const struct half_column c[2], struct tile x,
		       size_t t, size_t T, int h0, int h1, int part, struct type32 type)
{
	UNROLL16
	for (int h = h0; h < h1; h++) {
		__m256i *sum = sums + (size_t)h * T + t;
		__m256i p = products(c[h].q, x.q + 16 * T * (size_t)part + 4 * t, T, type.width);

		if (!part)
			*sum = p;
		else if (type.width == NARROW)
			finish(acc + (size_t)h * T + t, _mm256_add_epi16(*sum, p), c + h, x, t,
			       type);
		else
			finish(acc + (size_t)h * T + t, _mm256_add_epi32(*sum, p), c + h, x, t,
			       type);
	}
}

FLATTEN void add_part(__m256 *acc, __m256i *sums, struct half_column c[2], const uint8_t *w,
		      struct tile x, size_t T, int h0, int h1, int part, struct type32 type)
{
	UNROLL16
	for (int h = h0; h < h1; h++)
		type.unpack(w + type.scale_bytes + 32 * h, part, c[h].q);
	if (T <= 2) {
		UNROLL16
		for (size_t t = 0; t < T; t++)
			add_token(acc, sums, c, x, t, T, h0, h1, part, type);
	} else {
		ROLLED
		for (size_t t = 0; t < T; t++)
			add_token(acc, sums, c, x, t, T, h0, h1, part, type);
	}
}

/* One column. Code vectors of 16 elements fill half of the registers: of both halves, or of one. */
FLATTEN void add_column(__m256 *acc, const uint8_t *w, struct tile x, size_t T, struct type32 type)
{
	__m256i sums[2 * TILE_MAX];
	struct half_column c[2];

	UNROLL16
	for (int h = 0; h < 2; h++) {
		c[h].d = type.scale(w, h);
		if (type.has_m)
			c[h].m = eight_halves(w + 32 + 16 * h);
	}
	if (type.width == WIDE) {
		add_part(acc, sums, c, w, x, T, 0, 1, 0, type);
		add_part(acc, sums, c, w, x, T, 0, 1, 1, type);
		add_part(acc, sums, c, w, x, T, 1, 2, 0, type);
		add_part(acc, sums, c, w, x, T, 1, 2, 1, type);
	} else {
		add_part(acc, sums, c, w, x, T, 0, 2, 0, type);
		add_part(acc, sums, c, w, x, T, 0, 2, 1, type);
	}
}

FLATTEN void add_columns(const uint8_t *w, size_t columns, struct tile x, size_t T,
			 struct type32 type, bool first, float *out, size_t out_stride)
{
	__m256 acc[2 * TILE_MAX];

	UNROLL16
	for (size_t t = 0; t < T; t++) {
		float *p = out + t * out_stride;

		acc[t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(p);
		acc[T + t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(p + HALF_ROWS);
	}
	for (size_t b = 0; b < columns; b++) {
		prefetch_column(w, type.bytes);
		add_column(acc, w, x, T, type);
		w += type.bytes;
		x.q += 32 * T;
		x.d += T;
		x.s += T;
		x.start += T;
	}
	UNROLL16
	for (size_t t = 0; t < T; t++) {
		_mm256_storeu_ps(out + t * out_stride, acc[t]);
		_mm256_storeu_ps(out + t * out_stride + HALF_ROWS, acc[T + t]);
	}
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type32 type)
{
	const size_t columns = n / 32;
	_Alignas(64) int32_t start[MAX_STARTS + 3];

	for (size_t b = 0; b < columns; b += MAX_STARTS / T) {
		size_t left = columns - b;
		size_t count = left < MAX_STARTS / T ? left : MAX_STARTS / T;
		struct tile x = {
			.q = (const int8_t *)tile + b * 32 * T,
			.d = (const float *)(const void *)((const char *)tile + act_d_off(n * T)) +
			     b * T,
			.s = (const float *)(const void *)((const char *)tile + act_s_off(n * T)) +
			     b * T,
			.start = start,
		};

		prefetch_first(w + b * type.bytes);
		for (size_t i = 0; type.off && i < count; i++)
			sum_codes(x.q + 32 * T * i, 8, T, type.off, false, start + T * i);
		for (size_t g = 0; g < n_groups; g++)
			add_columns(w + (g * columns + b) * type.bytes, count, x, T, type, !b,
				    out + PACK_ROWS * g, out_stride);
	}
}

#define TYPE(name, scale_bytes, unpack, scale, width, off, has_m)                                  \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type32 type = {PACK_ROWS * sizeof(struct block_##name),               \
					    scale_bytes,                                           \
					    unpack,                                                \
					    scale,                                                 \
					    width,                                                 \
					    off,                                                   \
					    has_m};                                                \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type);                        \
	}                                                                                          \
	PACKED_KERNEL(avx2_packed_##name, dot_##name)

TYPE(q4_0, 32, nibble_vectors, scale_half, NARROW, 8, false)
TYPE(q4_1, 64, nibble_vectors, scale_half, NARROW, 0, true)
TYPE(q5_0, 32, five_bit_vectors, scale_half, MEDIUM, 16, false)
TYPE(q5_1, 64, five_bit_vectors, scale_half, MEDIUM, 0, true)
TYPE(q8_0, 32, byte_vectors, scale_half, WIDE, 128, false)
TYPE(iq4_nl, 32, iq4_nl_vectors, scale_half, WIDE, 128, false)
TYPE(mxfp4, 16, mxfp4_vectors, scale_e8m0, MEDIUM, 12, false)
