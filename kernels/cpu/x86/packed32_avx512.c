// SPDX-License-Identifier: MIT
/*
 * Packed rows of 32-element blocks with AVX-512 VNNI: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4.
 *
 * A block column of 16 rows is unpacked into eight *code vectors*: the j-th holds elements
 * 4j .. 4j+3 of every row, as unsigned bytes. vpdpbusd multiplies one with the same four codes of
 * a token, in all lanes, and adds up. Unsigned they are by an offset, off: what that adds to each
 * sum, off * sum(activation codes), does not depend on the rows, so it is taken once a call from
 * the tile (start_sums()), and every sum begins with its negative. The sums are exact integers.
 *
 * Budget of a column, in instructions for the two vector ports: for each of T tokens 8 products,
 * convert and two multiplications (d_act, d); a minimum adds one; one token has two sums to add.
 * The scales take 2 each (MXFP4: 3), unpacking what stands beside it. Cycles and what follows,
 * then what was measured in L2 with gcc:
 *
 *		bytes	T = 1: cycles, bytes/cycle	T = 16: cycles, products/cycle
 *	Q4_0	288	13	22	20		95	86	76
 *	Q4_1	320	14.5	22	22		104	79	75
 *	Q5_0	352	21	17	16		103	80	72
 *	Q5_1	384	22.5	17	17		112	73	69
 *	Q8_0	544	11	49	23		93	88	81
 *	IQ4_NL	288	13	22	20		95	86	75
 *	MXFP4	272	13.5	20	18		95.5	86	76
 *
 * DRAM gives a core 5 bytes a cycle. What is left of the ports' time goes to the loads, of which
 * there are as many as products (two of 512 bits a cycle; every other column of most types lies
 * half a cache line off).
 */
#include <stdbool.h>

#include "kernels/cpu/x86/packed_avx512.h"

/* Fills the eight code vectors from where a column's codes begin. */
typedef void (*unpack_fn)(const uint8_t *w, __m512i q[8]);
typedef __m512 (*scale_fn)(const uint8_t *w);

/* For so many sums of a column and a token room is made at once: 8 KiB of stack. */
#define MAX_STARTS 2048

/* and, shift and and of each of 4 vectors: 12 */
FLATTEN void nibble_vectors(const uint8_t *w, __m512i q[8])
{
	const __m512i low = _mm512_set1_epi8(15);

	UNROLL16
	for (int j = 0; j < 4; j++) {
		__m512i both = load_once(w + 64 * j);

		q[j] = _mm512_and_si512(both, low);
		q[4 + j] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
	}
}

/*
 * After the fifth bits (64 bytes: 32 bits a row), the nibbles. A multishift takes eight bits from
 * any place for every byte: from 4 below, so that the fifth bit comes to lie where it belongs.
 * It wraps within 64 bits, two rows: what comes from elsewhere is masked. and, multishift,
 * or-and of 8 vectors, a shift of 4: 28
 */
FLATTEN void five_bit_vectors(const uint8_t *w, __m512i q[8])
{
	const __m512i bit4 = _mm512_set1_epi8(16);
	__m512i high = load_once(w);

	nibble_vectors(w + 64, q);
	UNROLL16
	for (int j = 0; j < 8; j++) {
		const long long at = 0x0101010101010101 * (4 * j) + 0x1f1e1d1c3f3e3d3c;
		__m512i fifth = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(at), high);

		q[j] = _mm512_ternarylogic_epi32(q[j], fifth, bit4, 0xf8); /* a | (b & c) */
	}
}

/* Signed bytes, 128 up: 8 */
FLATTEN void byte_vectors(const uint8_t *w, __m512i q[8])
{
	UNROLL16
	for (int j = 0; j < 8; j++)
		q[j] = _mm512_xor_si512(load512(w + 64 * j), _mm512_set1_epi8((char)0x80));
}

/*
 * Codebooks, their numbers `off` up. vpermb looks at six bits of a byte: with a table that repeats
 * every 16, the two too many need no masking. look-up, shift and look-up of 4 vectors: 12
 */
FLATTEN void look_up_vectors(const int8_t codebook[16], int off, const uint8_t *w, __m512i q[8])
{
	const __m512i table = _mm512_add_epi8(_mm512_broadcast_i32x4(load128(codebook)),
					      _mm512_set1_epi8((char)off));

	UNROLL16
	for (int j = 0; j < 4; j++) {
		__m512i both = load_once(w + 64 * j);

		q[j] = _mm512_permutexvar_epi8(both, table);
		q[4 + j] = _mm512_permutexvar_epi8(_mm512_srli_epi16(both, 4), table);
	}
}

FLATTEN void iq4_nl_vectors(const uint8_t *w, __m512i q[8])
{
	look_up_vectors(iq4_codebook, 128, w, q);
}

FLATTEN void mxfp4_vectors(const uint8_t *w, __m512i q[8])
{
	look_up_vectors(mxfp4_codebook, 12, w, q);
}

FLATTEN __m512 scale_half(const uint8_t *w)
{
	return load_halves(w);
}

/*
 * mxfp4_scale(), but denormal scales (e < 2) count as zero: files have them in blocks of zeros
 * only, and an FMA with a denormal operand takes a hundred cycles. 3
 */
FLATTEN __m512 scale_e8m0(const uint8_t *w)
{
	__m128i e = _mm_subs_epu8(load128(w), _mm_set1_epi8(1));

	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu8_epi32(e), 23));
}

/* The even, or the odd, ones of the runs of T lanes that a and b have one behind the other. */
FLATTEN __m512i every_other(__m512i a, __m512i b, size_t T, int odd)
{
	_Alignas(64) int32_t at[16];

	for (size_t i = 0; i < 16; i++)
		at[i] = (int32_t)((2 * (i / T) + (size_t)odd) * T + i % T);
	return _mm512_permutex2var_epi32(a, load512(at), b);
}

/*
 * 16 starts, of 16 / T columns, out of the tile's next 8 lines, of which `dwords` are there: lines
 * of one column are summed lane by lane, then runs of T lanes in pairs.
 */
FLATTEN __m512i start_vector(const int8_t *q, size_t dwords, size_t T, int off)
{
	const size_t vectors = T < 2 ? 8 : 16 / T;
	const __m512i offs = _mm512_set1_epi8((char)off);
	__m512i s[8];

	UNROLL16
	for (size_t i = 0; i < 8; i++) {
		size_t left = dwords < 16 * i ? 0 : dwords - 16 * i, k = i * vectors / 8;
		__mmask16 there = left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
		__m512i a = _mm512_maskz_loadu_epi32(there, q + 64 * i);

		s[k] = _mm512_dpbusd_epi32(i * vectors % 8 ? s[k] : _mm512_setzero_si512(), offs,
					   a);
	}
	UNROLL16
	for (size_t width = vectors / 2; width; width /= 2) {
		UNROLL16
		for (size_t i = 0; i < width; i++)
			s[i] = _mm512_add_epi32(every_other(s[2 * i], s[2 * i + 1], T, 0),
						every_other(s[2 * i], s[2 * i + 1], T, 1));
	}
	return _mm512_sub_epi32(_mm512_setzero_si512(), s[0]);
}

/* start[b * T + t] = -off * sum of token t's codes of column b; room for 15 more. */
FLATTEN void start_sums(const int8_t *q, size_t columns, size_t T, int off, int32_t *start)
{
	size_t i = 0, dwords = columns * T;

	for (; i + 16 <= dwords; i += 16)
		_mm512_storeu_si512(start + i, start_vector(q + 32 * i, 128, T, off));
	if (i < dwords)
		_mm512_storeu_si512(start + i, start_vector(q + 32 * i, 8 * (dwords - i), T, off));
}

/* Where a tile's parts are, for the columns at hand. */
struct tile {
	const int8_t *q;
	const float *d, *s;
	const int32_t *start;
};

/* The sum of a column's products with one token's codes. One token waits for no other: 2 chains. */
FLATTEN __m512i products(const __m512i q[8], const int8_t *act, size_t T, __m512i start)
{
	__m512i p = start, odd = _mm512_setzero_si512();

	UNROLL16
	for (int j = 0; j < 8; j++) {
		if (T == 1 && j % 2)
			odd = dot4(odd, q[j], act + 4 * T * j);
		else
			p = dot4(p, q[j], act + 4 * T * j);
	}
	return T == 1 ? _mm512_add_epi32(p, odd) : p;
}

/* One column: acc += d * (d_act * sum of products), and m * s_act where the type has a minimum. */
FLATTEN void add_column(__m512 acc[16], const uint8_t *w, struct tile x, size_t T,
			size_t scale_bytes, unpack_fn unpack, int off, scale_fn scale, bool has_m)
{
	__m512 d = scale(w), m = has_m ? load_halves(w + 32) : d;
	__m512i q[8];

	unpack(w + scale_bytes, q);
	UNROLL16
	for (size_t t = 0; t < T; t++) {
		__m512i p = products(q, x.q + 4 * t, T,
				     off ? all_i32(x.start + t) : _mm512_setzero_si512());
		__m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(p), all_f32(x.d + t));

		acc[t] = _mm512_fmadd_ps(v, d, acc[t]);
		if (has_m)
			acc[t] = _mm512_fmadd_ps(m, all_f32(x.s + t), acc[t]);
	}
}

/*
 * Columns of `side` groups, `group` bytes apart. That is often a multiple of a page, so that at the
 * same column all would want the same lines of L1: each group is some columns behind the last.
 */
FLATTEN void add_columns(const uint8_t *w, size_t side, size_t group, size_t columns, struct tile x,
			 size_t T, size_t bytes, size_t scale_bytes, unpack_fn unpack, int off,
			 scale_fn scale, bool has_m, bool first, float *out, size_t out_stride)
{
	const size_t skew = bytes < 400 ? 2 : 1; /* about 576 bytes */
	__m512 acc[16];

	UNROLL16
	for (size_t k = 0; k < side * T; k++)
		acc[k] = first ? _mm512_setzero_ps()
			       : _mm512_loadu_ps(out + PACK_ROWS * (k / T) + k % T * out_stride);
	for (size_t b = 0; b < columns + (side - 1) * skew; b++) {
		UNROLL16
		for (size_t k = 0; k < side; k++) {
			size_t c = b - k * skew;
			const uint8_t *column = w + k * group + c * bytes;
			struct tile y = {
				x.q + c * 32 * T,
				x.d + c * T,
				x.s + c * T,
				x.start + c * T,
			};

			if (side > 1 && c >= columns)
				continue;
			prefetch_streams(column, bytes, side);
			add_column(acc + k * T, column, y, T, scale_bytes, unpack, off, scale,
				   has_m);
		}
	}
	UNROLL16
	for (size_t k = 0; k < side * T; k++)
		_mm512_storeu_ps(out + PACK_ROWS * (k / T) + k % T * out_stride, acc[k]);
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, size_t block_bytes, size_t scale_bytes,
			unpack_fn unpack, int off, scale_fn scale, bool has_m)
{
	const size_t column = PACK_ROWS * block_bytes, columns = n / 32;
	_Alignas(64) int32_t start[MAX_STARTS];

	for (size_t b = 0; b < columns; b += MAX_STARTS / T) {
		size_t left = columns - b;
		size_t count = left < MAX_STARTS / T ? left : MAX_STARTS / T, g = 0;
		struct tile x = {
			.q = (const int8_t *)tile + b * 32 * T,
			.d = (const float *)(const void *)((const char *)tile + act_d_off(n * T)) +
			     b * T,
			.s = (const float *)(const void *)((const char *)tile + act_s_off(n * T)) +
			     b * T,
			.start = start,
		};

		prefetch_first(w + b * column);
		if (off)
			start_sums(x.q, count, T, off, start);
#define NEXT(side)                                                                                 \
	do {                                                                                       \
		add_columns(w + (g * columns + b) * column, side, columns * column, count, x, T,   \
			    column, scale_bytes, unpack, off, scale, has_m, !b,                    \
			    out + PACK_ROWS * g, out_stride);                                      \
		g += side;                                                                         \
	} while (0)
		while (T == 1 && n_groups - g >= SIDE)
			NEXT(SIDE);
		if (T == 1 && n_groups - g == 3)
			NEXT(3);
		if (T == 1 && n_groups - g == 2)
			NEXT(2);
		while (g < n_groups)
			NEXT(1);
#undef NEXT
	}
}

#define TYPE(type, scale_bytes, unpack, off, scale, has_m)                                         \
	FLATTEN void dot_##type(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, sizeof(struct block_##type),  \
			   scale_bytes, unpack, off, scale, has_m);                                \
	}                                                                                          \
	PACKED_KERNEL(avx512_packed_##type, dot_##type)

TYPE(q4_0, 32, nibble_vectors, 8, scale_half, false)
TYPE(q4_1, 64, nibble_vectors, 0, scale_half, true)
TYPE(q5_0, 32, five_bit_vectors, 16, scale_half, false)
TYPE(q5_1, 64, five_bit_vectors, 0, scale_half, true)
TYPE(q8_0, 32, byte_vectors, 128, scale_half, false)
TYPE(iq4_nl, 32, iq4_nl_vectors, 128, scale_half, false)
TYPE(mxfp4, 16, mxfp4_vectors, 12, scale_e8m0, false)
