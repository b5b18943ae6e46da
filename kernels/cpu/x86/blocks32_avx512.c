// SPDX-License-Identifier: MIT
/*
 * Types of 32-element blocks with AVX-512: dot_rows of Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4.
 * Their dequantize is AVX2's.
 *
 * A row is worked through in *steps* of four blocks: their low nibbles, one a byte, fill one
 * register, the high ones another; a *quarter* of a register is 16 codes of one block. Q8_0, whose
 * bytes fill a register with two blocks, has steps of two. Codes are unsigned, as vpdpbusd wants
 * them; *zero* is the code that stands for 0. The dot of a step is
 *
 *	start = -zero * sums of four of the activation
 *	p = start + codes x activation, four products a 32-bit lane
 *	row += (d * d_act of the lane's block) * float(p)
 *
 * so that an offset is subtracted in integers, exactly. What depends on the activation alone
 * (start, the order of its bytes, the spread of d_act) is made once for ROWS rows. No load touches
 * a byte beyond the step's last: every step is longer than a register, and is read from both its
 * ends. What is left over at a row's end is copied into a step that is zeros otherwise.
 *
 * Budget: vector instructions of a step, two of which start in a cycle (on ports 0 and 5; shuffles
 * only on 5). Common: vpdpbusd once for two blocks, convert, FMA: 4. Factors: shuffle, convert
 * halves (2), multiply: 4; a minimum adds 2 (add, spread). Once for ROWS rows: 6 (two shuffles of
 * bytes, two vpdpbusd, subtract, spread), 3 where zero is 0. Beside each type: its sum with its
 * share of what is made once; the bytes a cycle that follow; those measured with weights in L2.
 * DRAM gives a core about 4.6.
 */
#include <stdbool.h>

#include "kernels/cpu/x86/avx512.h"

/*
 * Rows at a time, one of each third of a call's rows, but see one_stream(): as many streams, each
 * of which the hardware prefetches in its page. Two cores, Q4_0, rows of 4096, share of what plain
 * reading gets in the same run: one stream 84%, two 93, two of rows that follow each other 87,
 * three 99 to 100, four 94: a quarter of the rows is often a multiple of a page, so that all want
 * the same lines of L1.
 */
#define ROWS	    3
#define TO_L1_AHEAD 1024
#define TO_L2_AHEAD 2048

/* The activation of a step: what the rows share. */
struct act_step {
	__m512i q[2]; /* as struct codes has the weights */
	__m512i start;
	__m512 d;  /* d_act of each lane's block */
	__m256 ds; /* d_act of the four blocks, then their s: for types with m */
};

/* The codes of a step; a step of two blocks has only the first register. */
struct codes {
	__m512i q[2];
};

/* What a row has added up so far. */
struct sums {
	__m512 q;
	__m256 m; /* m * s in the upper half; the lower is of no use */
};

typedef struct codes (*codes_fn)(const uint8_t *w);

/* The factors d * d_act of the lanes; adds m * s to the sums where the type has m. */
typedef __m512 (*factors_fn)(const uint8_t *w, const struct act_step *a, struct sums *sums);

/* Four numbers, each in all lanes of its quarter. */
#define QUARTERS(x0, x1, x2, x3)                                                                   \
	_mm512_set_epi32(x3, x3, x3, x3, x2, x2, x2, x2, x1, x1, x1, x1, x0, x0, x0, x0)

#define ALL_BYTES(x) ((int)(x)*0x01010101)

/* Block i's 16 bytes, which begin `at` bytes into it, in quarter i. Blocks 0-2 are in one load. */
FLATTEN __m512i qs_of_4(const uint8_t *w, size_t bytes, size_t at)
{
	const __m512i within = _mm512_set4_epi32(0x0f0e0d0c, 0x0b0a0908, 0x07060504, 0x03020100);
	const int first = ALL_BYTES(at), next = ALL_BYTES(bytes);
	__m512i index = _mm512_add_epi8(within, QUARTERS(first, first + next, first + 2 * next, 0));
	__m512i v = _mm512_permutexvar_epi8(index, load512(w));

	return _mm512_mask_broadcast_i32x4(v, 0xf000, load128(w + 3 * bytes + at));
}

/* shuffle, blend, shift, two masks: 5 */
FLATTEN struct codes nibbles_of_4(const uint8_t *w, size_t bytes, size_t at)
{
	const __m512i mask = _mm512_set1_epi8(15);
	__m512i v = qs_of_4(w, bytes, at);
	struct codes c;

	c.q[0] = _mm512_and_si512(v, mask);
	c.q[1] = _mm512_and_si512(_mm512_srli_epi32(v, 4), mask);
	return c;
}

/*
 * Nibbles to the codebook's numbers plus zero. vpermb looks at the low six bits of an index: with
 * the table four times in the register, the two above the nibble need no masking. Also 5.
 */
FLATTEN struct codes look_up_of_4(const uint8_t *w, size_t bytes, size_t at,
				  const int8_t codebook[16], int zero)
{
	const __m512i table = _mm512_add_epi8(_mm512_broadcast_i32x4(load128(codebook)),
					      _mm512_set1_epi8((char)zero));
	__m512i v = qs_of_4(w, bytes, at);
	struct codes c;

	c.q[0] = _mm512_permutexvar_epi8(v, table);
	c.q[1] = _mm512_permutexvar_epi8(_mm512_srli_epi32(v, 4), table);
	return c;
}

/*
 * A quarter for each of four blocks of 22 or 24 bytes: `within` has offsets from a block's start.
 * The first 64 bytes of the step hold blocks 0 and 1, the last 64 blocks 2 and 3. 2 shuffles.
 */
FLATTEN __m512i quarters_of_4(const uint8_t *w, size_t bytes, __m512i within)
{
	const size_t last = 4 * bytes - 64;
	__m512i index =
		_mm512_add_epi8(within, QUARTERS(0, ALL_BYTES(bytes), ALL_BYTES(2 * bytes - last),
						 ALL_BYTES(3 * bytes - last)));
	__m512i v = _mm512_permutexvar_epi8(index, load512(w));

	return _mm512_mask_permutexvar_epi8(v, 0xffffffff00000000, index, load512(w + last));
}

/* Each block's fifth bits, then d, then m where the type has it, in all 64-bit lanes of a quarter.
 */
FLATTEN __m512i heads_of_4(const uint8_t *w, size_t bytes)
{
	const long long d_qh = 0x0000010005040302, dm_qh = 0x0302010007060504;

	return quarters_of_4(w, bytes, _mm512_set1_epi64(bytes == 22 ? d_qh : dm_qh));
}

/*
 * vpmultishiftqb takes, for each code, the eight bits of `heads` of which its fifth bit is bit 4.
 * shuffles 2 and 2, shift, masks 2, multishifts 2, merges 2: 11
 */
FLATTEN struct codes five_bits_of_4(const uint8_t *w, size_t bytes)
{
	const __m512i within = _mm512_set4_epi32(0x0f0e0d0c, 0x0b0a0908, 0x07060504, 0x03020100);
	const __m512i low = _mm512_set4_epi32(0x0b0a0908, 0x07060504, 0x03020100, 0x3f3e3d3c);
	const __m512i high = _mm512_set4_epi32(0x1b1a1918, 0x17161514, 0x13121110, 0x0f0e0d0c);
	const __m512i mask = _mm512_set1_epi8(15), bit = _mm512_set1_epi8(16);
	__m512i at = _mm512_set1_epi8((char)(bytes - 16));
	__m512i v = quarters_of_4(w, bytes, _mm512_add_epi8(within, at));
	__m512i heads = heads_of_4(w, bytes);
	struct codes c;

	/* nibble | (bits & 16) */
	c.q[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(v, mask),
					   _mm512_multishift_epi64_epi8(low, heads), bit, 0xf8);
	c.q[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi32(v, 4), mask),
					   _mm512_multishift_epi64_epi8(high, heads), bit, 0xf8);
	return c;
}

/* Halves as floats, times the activation's. */
FLATTEN __m512 times_d_act(__m256i d, const struct act_step *a)
{
	return _mm512_mul_ps(_mm512_cvtph_ps(d), a->d);
}

/* Each of four blocks' first two bytes for the four lanes of the block. */
FLATTEN __m512 d_of_4(const uint8_t *w, const struct act_step *a, size_t bytes)
{
	const int d0 = 0x01000100, next = ALL_BYTES(bytes);
	const int d1 = d0 + next, d2 = d1 + next, d3 = d2 + next;
	const __m256i index = _mm256_set_epi32(d3, d3, d2, d2, d1, d1, d0, d0);
	__m512i d = _mm512_permutexvar_epi8(_mm512_castsi256_si512(index), load512(w));

	return times_d_act(_mm512_castsi512_si256(d), a);
}

/* The same from the halves d of four blocks, then m of the four; adds m * s to the sums. */
FLATTEN __m512 d_and_m(__m128i dm, const struct act_step *a, struct sums *sums)
{
	__m256 v = _mm256_mul_ps(_mm256_cvtph_ps(dm), a->ds);

	sums->m = _mm256_add_ps(sums->m, v);
	return _mm512_permutexvar_ps(QUARTERS(0, 1, 2, 3), _mm512_castps256_ps512(v));
}

/* 15 for 72 bytes: 9.6 bytes a cycle; 8.5 measured */
FLATTEN struct codes codes_q4_0(const uint8_t *w)
{
	return nibbles_of_4(w, 18, 2);
}

FLATTEN __m512 factors_q4_0(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	(void)sums;
	return d_of_4(w, a, 18);
}

/* the same; 7.7 */
FLATTEN struct codes codes_iq4_nl(const uint8_t *w)
{
	return look_up_of_4(w, 18, 2, iq4_codebook, 127);
}

FLATTEN __m512 factors_iq4_nl(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	(void)sums;
	return d_of_4(w, a, 18);
}

/* 16 for 80 bytes: 10; 9.6 */
FLATTEN struct codes codes_q4_1(const uint8_t *w)
{
	return nibbles_of_4(w, 20, 4);
}

FLATTEN __m512 factors_q4_1(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	const __m128i index =
		_mm_setr_epi8(0, 1, 20, 21, 40, 41, 60, 61, 2, 3, 22, 23, 42, 43, 62, 63);
	__m512i dm = _mm512_permutexvar_epi8(_mm512_castsi128_si512(index), load512(w));

	return d_and_m(_mm512_castsi512_si128(dm), a, sums);
}

/* 14 for 68 bytes: 9.7; 7.6 */
FLATTEN struct codes codes_mxfp4(const uint8_t *w)
{
	return look_up_of_4(w, 17, 1, mxfp4_codebook, 12);
}

/* 2^(e - 128) * d_act: e becomes the last byte of the float 2^23 + e. 3 rather than 4. */
FLATTEN __m512 factors_mxfp4(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	const __m512i two_23 = _mm512_set1_epi32(0x4b000000);
	const __m512i index = QUARTERS(0, 17, 34, 51);
	__m512i e = _mm512_mask_permutexvar_epi8(two_23, 0x1111111111111111, index, load512(w));

	(void)sums;
	return _mm512_scalef_ps(
		a->d, _mm512_sub_ps(_mm512_castsi512_ps(e), _mm512_set1_ps(0x1p23f + 128)));
}

/* insert, flip signs; one vpdpbusd, and half of what is made once: 10 for 68 bytes: 13.6; 10.8 */
FLATTEN struct codes codes_q8_0(const uint8_t *w)
{
	__m512i v = _mm512_inserti64x4(_mm512_castsi256_si512(load256(w + 2)), load256(w + 36), 1);
	struct codes c;

	c.q[0] = _mm512_xor_si512(v, _mm512_set1_epi8(-128));
	return c;
}

FLATTEN __m512 factors_q8_0(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	const int d0 = 0x01000100, d1 = d0 + ALL_BYTES(34);
	const __m256i index = _mm256_set_epi32(d1, d1, d1, d1, d0, d0, d0, d0);
	__m512i d = _mm512_permutexvar_epi8(_mm512_castsi256_si512(index), load512(w));

	(void)sums;
	return times_d_act(_mm512_castsi512_si256(d), a);
}

/* 21 for 88 bytes: 8.4; 7.2 */
FLATTEN struct codes codes_q5_0(const uint8_t *w)
{
	return five_bits_of_4(w, 22);
}

FLATTEN __m512 factors_q5_0(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	const int d0 = 0x05040504, d1 = d0 + ALL_BYTES(16), d2 = d1 + ALL_BYTES(16);
	const int d3 = d2 + ALL_BYTES(16);
	const __m256i index = _mm256_set_epi32(d3, d3, d2, d2, d1, d1, d0, d0);
	__m512i d = _mm512_permutexvar_epi8(_mm512_castsi256_si512(index), heads_of_4(w, 22));

	(void)sums;
	return times_d_act(_mm512_castsi512_si256(d), a);
}

/* 22 for 96 bytes: 8.7; 8.1 */
FLATTEN struct codes codes_q5_1(const uint8_t *w)
{
	return five_bits_of_4(w, 24);
}

FLATTEN __m512 factors_q5_1(const uint8_t *w, const struct act_step *a, struct sums *sums)
{
	const __m128i index =
		_mm_setr_epi8(4, 5, 20, 21, 36, 37, 52, 53, 6, 7, 22, 23, 38, 39, 54, 55);
	__m512i dm = _mm512_permutexvar_epi8(_mm512_castsi128_si512(index), heads_of_4(w, 24));

	return d_and_m(_mm512_castsi512_si128(dm), a, sums);
}

FLATTEN struct act_step act_of_4(const int8_t *q, const float *d, const float *s)
{
	__m512i x = load512(q), y = load512(q + 64);
	struct act_step a;

	a.q[0] = _mm512_shuffle_i64x2(x, y, 0x88); /* what low nibbles multiply */
	a.q[1] = _mm512_shuffle_i64x2(x, y, 0xdd);
	a.d = _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(d)), QUARTERS(0, 1, 2, 3));
	a.ds = _mm256_set_m128(_mm_loadu_ps(s), _mm_loadu_ps(d));
	return a;
}

FLATTEN struct act_step act_of_2(const int8_t *q, const float *d)
{
	__m128i both = _mm_loadl_epi64((const __m128i *)(const void *)d);
	struct act_step a;

	a.q[0] = load512(q);
	a.d = _mm512_permutevar_ps(_mm512_broadcast_f32x2(_mm_castsi128_ps(both)),
				   QUARTERS(0, 0, 1, 1));
	return a;
}

FLATTEN struct act_step load_act(const int8_t *q, const float *d, const float *s, size_t step,
				 int zero)
{
	struct act_step a = step == 4 ? act_of_4(q, d, s) : act_of_2(q, d);
	const __m512i none = _mm512_setzero_si512(), z = _mm512_set1_epi8((char)zero);
	__m512i sum = _mm512_dpbusd_epi32(none, z, a.q[0]);

	if (step == 4)
		sum = _mm512_dpbusd_epi32(sum, z, a.q[1]);
	a.start = zero ? _mm512_sub_epi32(none, sum) : none;
	return a;
}

FLATTEN void add_step(struct sums *sums, const uint8_t *w, const struct act_step *a, size_t step,
		      codes_fn codes, factors_fn factors)
{
	struct codes c = codes(w);
	__m512i p = _mm512_dpbusd_epi32(a->start, c.q[0], a->q[0]);

	if (step == 4)
		p = _mm512_dpbusd_epi32(p, c.q[1], a->q[1]);
	sums->q = _mm512_fmadd_ps(factors(w, a, sums), _mm512_cvtepi32_ps(p), sums->q);
}

FLATTEN float sum_up(const struct sums *sums, bool has_m)
{
	__m512 v = sums->q;

	if (has_m)
		v = _mm512_mask_add_ps(v, 0xf0, v, _mm512_castps256_ps512(sums->m));
	return _mm512_reduce_add_ps(v);
}

/* The last blocks, fewer than a step: as a step whose other blocks are zeros. */
FLATTEN void add_rest(struct sums *sums, size_t rows, const uint8_t *w, size_t stride,
		      const int8_t *q, const float *d, const float *s, size_t blocks, size_t bytes,
		      size_t step, int zero, codes_fn codes, factors_fn factors)
{
	int8_t rest_q[4 * 32] = {0};
	float rest_d[4] = {0}, rest_s[4] = {0};
	struct act_step a;

	memcpy(rest_q, q, blocks * 32);
	memcpy(rest_d, d, blocks * sizeof(*d));
	memcpy(rest_s, s, blocks * sizeof(*s));
	a = load_act(rest_q, rest_d, rest_s, step, zero);
	UNROLL
	for (size_t r = 0; r < rows; r++) {
		uint8_t rest_w[4 * sizeof(struct block_q8_0)] = {0};

		memcpy(rest_w, w + r * stride, blocks * bytes);
		add_step(&sums[r], rest_w, &a, step, codes, factors);
	}
}

/* Rows that are `stride` bytes apart, and their outputs out_stride floats. */
FLATTEN void dot(const uint8_t *w, size_t stride, size_t rows, const void *act, size_t n,
		 float *out, size_t out_stride, size_t bytes, size_t step, int zero, bool has_m,
		 codes_fn codes, factors_fn factors)
{
	const int8_t *q = act;
	const float *d = (const void *)((const char *)act + act_d_off(n));
	const float *s = (const void *)((const char *)act + act_s_off(n));
	size_t b = 0, blocks = n / 32;
	struct sums sums[ROWS];

	UNROLL
	for (size_t r = 0; r < rows; r++)
		sums[r] = (struct sums){_mm512_setzero_ps(), _mm256_setzero_ps()};
	for (; b + step <= blocks; b += step, w += step * bytes) {
		struct act_step a = load_act(q + b * 32, d + b, s + b, step, zero);

		UNROLL
		for (size_t r = 0; r < rows; r++) {
			if (rows == 1)
				prefetch_one(w, step * bytes, ONE_AHEAD);
			else
				prefetch(w + r * stride, step * bytes, TO_L1_AHEAD, TO_L2_AHEAD);
			add_step(&sums[r], w + r * stride, &a, step, codes, factors);
		}
	}
	if (b < blocks)
		add_rest(sums, rows, w, stride, q + b * 32, d + b, s + b, blocks - b, bytes, step,
			 zero, codes, factors);
	UNROLL
	for (size_t r = 0; r < rows; r++)
		out[r * out_stride] = sum_up(&sums[r], has_m);
}

#define DOT(type, rows, apart, step, zero, has_m)                                                  \
	dot((const uint8_t *)w + r * stride, (apart)*stride, rows, act, n, out + r, apart,         \
	    sizeof(struct block_##type), step, zero, has_m, codes_##type, factors_##type)

#define TYPE(type, step, zero, has_m)                                                              \
	static void dot_rows_##type(const void *w, size_t stride, size_t n_rows, const void *act,  \
				    size_t n, float *out)                                          \
	{                                                                                          \
		size_t r = 0, third = one_stream() ? 0 : n_rows / ROWS;                            \
                                                                                                   \
		for (; r < third; r++)                                                             \
			DOT(type, ROWS, third, step, zero, has_m);                                 \
		for (r = ROWS * third; r < n_rows; r++)                                            \
			DOT(type, 1, 1, step, zero, has_m);                                        \
	}                                                                                          \
                                                                                                   \
	TYPE_OPS(type, ACT_Q8_32)

TYPE(q4_0, 4, 8, false);
TYPE(q4_1, 4, 0, true);
TYPE(q5_0, 4, 16, false);
TYPE(q5_1, 4, 0, true);
TYPE(q8_0, 2, 128, false);
TYPE(iq4_nl, 4, 127, false);
TYPE(mxfp4, 4, 12, false);
