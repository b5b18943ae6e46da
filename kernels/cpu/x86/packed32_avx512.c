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
 * convert and two multiplications (d_act, d); a minimum adds one. The scales take 2 each (MXFP4:
 * 3), unpacking what stands beside it. Cycles and what follows, then what was measured in L2 with
 * gcc:
 *
 *		bytes	T = 1: cycles, bytes/cycle	T = 16: cycles, products/cycle
 *	Q4_0	288	12.5	23	17		95	86	76
 *	Q4_1	320	14	23	18		104	79	75
 *	Q5_0	352	22.5	16	13		105	78	72
 *	Q5_1	384	24	16	14		114	72	69
 *	Q8_0	544	10.5	52	22		93	88	81
 *	IQ4_NL	288	12.5	23	17		95	86	75
 *	MXFP4	272	13	21	15		95.5	86	76
 *
 * DRAM gives a core 5 bytes a cycle. What is left of the ports' time goes to the loads, of which
 * there are as many as products (two of 512 bits a cycle; every other column of most types lies
 * half a cache line off).
 */
#include <stdbool.h>

#include "kernels/cpu/x86/packed_avx512.h"

/*
 * A line of codes into its code vectors: the j-th and 4 + j-th of a column with four lines, or the
 * j-th of one with eight. high: the fifth bits, those of the line's first vector lowest.
 */
typedef void (*line_fn)(const uint8_t *line, __m512i high, __m512i q[2]);
typedef __m512 (*scale_fn)(const uint8_t *w);

struct type32 {
	size_t bytes;	    /* of a column */
	size_t scale_bytes; /* of it: d, or d and m */
	bool has_m;
	bool fifth;   /* then a line of fifth bits */
	size_t lines; /* then so many of codes */
	line_fn line;
	int off;
	scale_fn scale;
};

/*
 * One token reads SIDE groups side by side, but see one_stream(): as many streams, each of which
 * the hardware prefetches in its page. They take turns of a line, in a loop that is not unrolled:
 * so the loads are few, and of each the addresses grow evenly, which is what the prefetcher of L1
 * goes by. Two cores, share of what plain reading got in the same run, each way at its best
 * distance; skew: each some columns behind the last:
 *
 *		unrolled: one	four	four, skew	rolled: three	four
 *	Q4_0	92		97	100		106		104
 *	Q8_0				94		109		109
 *	MXFP4				102		108		108
 *
 * Into L1 what is NEAR ahead, into L2 what is FAR ahead: 1024 and 2048 up to 6% slower.
 */
#define SIDE 3
#define NEAR 2048
#define FAR  3072

/* For so many sums of a column and a token room is made at once: 8 KiB of stack. */
#define MAX_STARTS 2048

/* and, shift and and: 12 in all */
FLATTEN void nibble_line(const uint8_t *line, __m512i high, __m512i q[2])
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i both = load_once(line);

	q[0] = _mm512_and_si512(both, low);
	q[1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
}

/*
 * A multishift takes eight bits from any place for every byte: from 4 below, so that the fifth bit
 * comes to lie where it belongs. It wraps within 64 bits, two rows: what comes from elsewhere is
 * masked. Twice multishift and or-and, and a rotation, more: 32 in all
 */
FLATTEN void five_bit_line(const uint8_t *line, __m512i high, __m512i q[2])
{
	const __m512i bit4 = _mm512_set1_epi8(16);

	nibble_line(line, high, q);
	UNROLL16
	for (int i = 0; i < 2; i++) {
		const long long at = 0x1010101010101010 * i + 0x1f1e1d1c3f3e3d3c;
		__m512i fifth = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(at), high);

		q[i] = _mm512_ternarylogic_epi32(q[i], fifth, bit4, 0xf8); /* a | (b & c) */
	}
}

/* Signed bytes, 128 up: 8 in all */
FLATTEN void byte_line(const uint8_t *line, __m512i high, __m512i q[2])
{
	q[0] = _mm512_xor_si512(load512(line), _mm512_set1_epi8((char)0x80));
}

/*
 * Codebooks, their numbers `off` up. vpermb looks at six bits of a byte: with a table that repeats
 * every 16, the two too many need no masking. look-up, shift and look-up: 12 in all
 */
FLATTEN void look_up_line(const int8_t codebook[16], int off, const uint8_t *line, __m512i q[2])
{
	const __m512i table = _mm512_add_epi8(_mm512_broadcast_i32x4(load128(codebook)),
					      _mm512_set1_epi8((char)off));
	__m512i both = load_once(line);

	q[0] = _mm512_permutexvar_epi8(both, table);
	q[1] = _mm512_permutexvar_epi8(_mm512_srli_epi16(both, 4), table);
}

FLATTEN void iq4_nl_line(const uint8_t *line, __m512i high, __m512i q[2])
{
	look_up_line(iq4_codebook, 128, line, q);
}

FLATTEN void mxfp4_line(const uint8_t *line, __m512i high, __m512i q[2])
{
	look_up_line(mxfp4_codebook, 12, line, q);
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

/* Where the lines of codes begin, and the line of fifth bits before them. */
FLATTEN const uint8_t *codes_of(const uint8_t *w, struct type32 type)
{
	return w + type.scale_bytes + (type.fifth ? 64 : 0);
}

FLATTEN __m512i fifth_bits(const uint8_t *w, struct type32 type)
{
	return type.fifth ? load_once(w + type.scale_bytes) : _mm512_setzero_si512();
}

/* The eight code vectors of a column. */
FLATTEN void unpack(const uint8_t *w, __m512i q[8], struct type32 type)
{
	const uint8_t *codes = codes_of(w, type);
	__m512i high = fifth_bits(w, type);

	UNROLL16
	for (size_t j = 0; j < type.lines; j++) {
		__m512i v[2];

		type.line(codes + 64 * j, high, v);
		q[j] = v[0];
		if (type.lines == 4)
			q[4 + j] = v[1];
		high = _mm512_ror_epi64(high, 4);
	}
}

/* acc + d * (d_act * sum of products), and m * s_act where the type has a minimum */
FLATTEN __m512 add_sum(__m512 acc, __m512i sum, __m512 d, __m512 m, struct tile x, size_t t,
		       struct type32 type)
{
	__m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), all_f32(x.d + t));

	acc = _mm512_fmadd_ps(v, d, acc);
	return type.has_m ? _mm512_fmadd_ps(m, all_f32(x.s + t), acc) : acc;
}

FLATTEN __m512i start_of(struct tile x, size_t t, struct type32 type)
{
	return type.off ? all_i32(x.start + t) : _mm512_setzero_si512();
}

FLATTEN __m512 minimum_of(const uint8_t *w, struct type32 type)
{
	return type.has_m ? load_halves(w + 32) : _mm512_setzero_ps();
}

/* One column times tokens. */
FLATTEN void add_column(__m512 acc[16], const uint8_t *w, struct tile x, size_t T,
			struct type32 type)
{
	__m512 d = type.scale(w), m = minimum_of(w, type);
	__m512i q[8];

	prefetch_column(w, type.bytes);
	unpack(w, q, type);
	UNROLL16
	for (size_t t = 0; t < T; t++) {
		__m512i sum = start_of(x, t, type);

		UNROLL16
		for (size_t j = 0; j < 8; j++)
			sum = dot4(sum, q[j], x.q + 4 * (T * j + t));
		acc[t] = add_sum(acc[t], sum, d, m, x, t, type);
	}
}

FLATTEN void prefetch_side(const uint8_t *w, size_t bytes, size_t side)
{
	if (side == 1)
		prefetch_one(w, bytes, ONE_AHEAD_EVEN);
	else
		prefetch(w, bytes, NEAR, FAR);
}

/* One column of each of `side` groups, `group` bytes apart, times one token. */
FLATTEN void add_side(__m512 *acc, const uint8_t *w, size_t side, size_t group, struct tile x,
		      struct type32 type)
{
	const uint8_t *codes = codes_of(w, type);
	__m512i sum[SIDE], high[SIDE];

	UNROLL16
	for (size_t z = 0; z < side; z++) {
		prefetch_side(w + z * group, (size_t)(codes - w), side);
		high[z] = fifth_bits(w + z * group, type);
		sum[z] = start_of(x, 0, type);
	}
	ROLLED
	for (size_t j = 0; j < type.lines; j++) {
		UNROLL16
		for (size_t z = 0; z < side; z++) {
			__m512i v[2];

			prefetch_side(codes + z * group + 64 * j, 64, side);
			type.line(codes + z * group + 64 * j, high[z], v);
			sum[z] = dot4(sum[z], v[0], x.q + 4 * j);
			if (type.lines == 4)
				sum[z] = dot4(sum[z], v[1], x.q + 16 + 4 * j);
			high[z] = _mm512_ror_epi64(high[z], 4);
		}
	}
	UNROLL16
	for (size_t z = 0; z < side; z++)
		acc[z] = add_sum(acc[z], sum[z], type.scale(w + z * group),
				 minimum_of(w + z * group, type), x, 0, type);
}

/* Groups side by side have one token. */
FLATTEN void add_columns(const uint8_t *w, size_t side, size_t group, size_t columns, struct tile x,
			 size_t T, bool first, float *out, size_t out_stride, struct type32 type)
{
	__m512 acc[16];

	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		acc[n] = first ? _mm512_setzero_ps()
			       : _mm512_loadu_ps(out + PACK_ROWS * (n / T) + n % T * out_stride);
	for (size_t b = 0; b < columns; b++) {
		if (T == 1)
			add_side(acc, w, side, group, x, type);
		else
			add_column(acc, w, x, T, type);
		w += type.bytes;
		x.q += 32 * T;
		x.d += T;
		x.s += T;
		x.start += T;
	}
	UNROLL16
	for (size_t n = 0; n < side * T; n++)
		_mm512_storeu_ps(out + PACK_ROWS * (n / T) + n % T * out_stride, acc[n]);
}

FLATTEN void dot_groups(const uint8_t *w, size_t n_groups, const void *tile, size_t T, size_t n,
			float *out, size_t out_stride, struct type32 type)
{
	const size_t columns = n / 32, group = columns * type.bytes;
	const bool several = T == 1 && !one_stream();
	const char *floats = tile;
	_Alignas(64) int32_t start[MAX_STARTS];

	for (size_t b = 0; b < columns; b += MAX_STARTS / T) {
		size_t left = columns - b, g = 0;
		size_t count = left < MAX_STARTS / T ? left : MAX_STARTS / T;
		const uint8_t *from = w + b * type.bytes;
		struct tile x = {
			.q = (const int8_t *)tile + b * 32 * T,
			.d = (const float *)(const void *)(floats + act_d_off(n * T)) + b * T,
			.s = (const float *)(const void *)(floats + act_s_off(n * T)) + b * T,
			.start = start,
		};

		prefetch_first(from);
		if (type.off)
			start_sums(x.q, count, T, type.off, start);
		for (; several && n_groups - g >= SIDE; g += SIDE)
			add_columns(from + g * group, SIDE, group, count, x, T, !b,
				    out + PACK_ROWS * g, out_stride, type);
		for (; several && n_groups - g >= 2; g += 2)
			add_columns(from + g * group, 2, group, count, x, T, !b,
				    out + PACK_ROWS * g, out_stride, type);
		for (; g < n_groups; g++)
			add_columns(from + g * group, 1, group, count, x, T, !b,
				    out + PACK_ROWS * g, out_stride, type);
	}
}

#define TYPE(name, scale_bytes, has_m, fifth, lines, line, off, scale)                             \
	FLATTEN void dot_##name(const void *w, size_t n_groups, const void *tile, size_t T,        \
				size_t n, float *out, size_t out_stride)                           \
	{                                                                                          \
		const struct type32 type = {PACK_ROWS * sizeof(struct block_##name),               \
					    scale_bytes,                                           \
					    has_m,                                                 \
					    fifth,                                                 \
					    lines,                                                 \
					    line,                                                  \
					    off,                                                   \
					    scale};                                                \
                                                                                                   \
		dot_groups(w, n_groups, tile, T, n, out, out_stride, type);                        \
	}                                                                                          \
	PACKED_KERNEL(avx512_packed_##name, dot_##name)

TYPE(q4_0, 32, false, false, 4, nibble_line, 8, scale_half)
TYPE(q4_1, 64, true, false, 4, nibble_line, 0, scale_half)
TYPE(q5_0, 32, false, true, 4, five_bit_line, 16, scale_half)
TYPE(q5_1, 64, true, true, 4, five_bit_line, 0, scale_half)
TYPE(q8_0, 32, false, false, 8, byte_line, 128, scale_half)
TYPE(iq4_nl, 32, false, false, 4, iq4_nl_line, 128, scale_half)
TYPE(mxfp4, 16, false, false, 4, mxfp4_line, 12, scale_e8m0)
