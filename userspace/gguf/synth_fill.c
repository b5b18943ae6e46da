// SPDX-License-Identifier: MIT
/*
 * Random blocks of every weight type.
 *
 * A tensor is first filled with a stream of random bits, of which word i is a hash of (key, i):
 * any stretch can be made by any thread. Then whatever must not be random is put in place, per
 * block: scales, and what keeps sub-scales away from 0. All quants are uniform, so the standard
 * deviation of a type's weights in units of its scale d is known (`sd_milli` below), and d
 * follows from n_in. Everything is integer arithmetic, or exact or correctly rounded float
 * multiplication: the same bits on every machine.
 */
#include <string.h>

#include "base/util.h"
#include "gguf/synth_fill.h"

#define GROUP		8u /* blocks: a multiple of 8 bytes for every type */
#define MAX_BLOCK_BYTES 210u

/*
 * Standard deviation of a weight in thousandths of d. With q uniform in n steps its variance is
 * (n^2-1)/12; a product of independent factors with mean 0 multiplies their mean squares; a
 * random minimum m beside a random scale s adds (offset * (s - m))^2.
 */
static const struct {
	uint32_t sd_milli;
	uint32_t offset2; /* twice the mean quant that a minimum must take away, in d */
} shape[WT_COUNT] = {
	[WT_Q4_0] = {4637, 0},	    /* q - 8 */
	[WT_Q4_1] = {4610, 15},	    /* q - 7.5 */
	[WT_Q5_0] = {9247, 0},	    /* q - 16 */
	[WT_Q5_1] = {9233, 31},	    /* q - 15.5 */
	[WT_Q8_0] = {73902, 0},	    /* q */
	[WT_Q2_K] = {13982, 3},	    /* s q - 1.5 m; s, m in 8..15 */
	[WT_Q3_K] = {43339, 0},	    /* (s - 32)(q - 4) */
	[WT_Q4_K] = {243613, 15},   /* s q - 7.5 m; s, m in 32..63 */
	[WT_Q5_K] = {490485, 31},   /* s q - 15.5 m; s, m in 32..63 */
	[WT_Q6_K] = {1365687, 0},   /* s (q - 32) */
	[WT_IQ4_NL] = {67439, 0},   /* code(q) */
	[WT_IQ4_XS] = {1246251, 0}, /* (s - 32) code(q) */
};

/* splitmix64's finalizer: every bit of x sways every bit of the result. */
static inline uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t stream_word(uint64_t key, uint64_t i)
{
	return mix(key + i * 0x9e3779b97f4a7c15ull);
}

/* @word: index of the first; @n: bytes */
static void fill_stream(uint64_t key, uint64_t word, uint8_t *dst, uint64_t n)
{
	uint64_t v;

	for (; n >= sizeof(v); n -= sizeof(v), dst += sizeof(v)) {
		v = stream_word(key, word++);
		memcpy(dst, &v, sizeof(v));
	}
	if (n) {
		v = stream_word(key, word);
		memcpy(dst, &v, n);
	}
}

/* floor(sqrt(x)), one bit at a time */
static uint64_t isqrt(uint64_t x)
{
	uint64_t root = 0;

	for (int bit = 31; bit >= 0; bit--) {
		uint64_t r = root | 1ull << bit;

		if (r * r <= x)
			root = r;
	}
	return root;
}

/* The IEEE half at or next below x * 2^-40, for 0 <= x < 2^55; denormals included. */
static uint16_t fixed_to_half(uint64_t x)
{
	int msb = x ? 63 - __builtin_clzll(x) : 0;

	if (msb < 40 - 14) /* below the smallest normal one: in units of 2^-24 */
		return (uint16_t)(x >> (40 - 24));
	return (uint16_t)((msb - 40 + 15) << 10 | ((x >> (msb - 10)) & 0x3ff));
}

static void set_scales(struct fill *f, uint64_t n_in)
{
	uint64_t d = (isqrt((1ull << 62) / n_in) << 9) * 1000 / shape[f->type].sd_milli;

	/* 0.75 to 1.25 times d, which is 2^40/sqrt(n_in)/sd here */
	for (uint64_t i = 0; i < ARRAY_SIZE(f->d); i++) {
		uint64_t x = d * (193 + 2 * i) / 256;

		f->d[i] = fixed_to_half(x);
		f->m[i] = fixed_to_half(x * shape[f->type].offset2 / 2);
	}
}

/*
 * MXFP4's scales are powers of two, and its mean square code is 137/16: two neighbouring
 * exponents are mixed so that the mean of 4^e is 16/137/n_in.
 */
static void set_exponents(struct fill *f, uint64_t n_in)
{
	uint64_t want = (1ull << 62) / n_in / 137 * 16; /* times 2^62 */
	int log2 = (63 - __builtin_clzll(want)) & ~1;
	uint64_t low = 1ull << log2;

	f->exponent = (uint8_t)(127 + (log2 - 62) / 2);
	f->upper = (uint8_t)((want - low) / 3 * 255 / low);
}

void fill_init(struct fill *f, uint32_t type, enum fill_kind kind, uint64_t n_in, uint64_t key)
{
	*f = (struct fill){
		.type = type,
		.block_bytes = wtype_info(type)->block_bytes,
		.kind = kind,
		.key = mix(key),
	};
	/* uniform in +-sqrt(3)/sqrt(n_in), as 24 (F32) or 16 random bits */
	f->step = (float)isqrt((3ull << 60) / n_in) * 0x1p-30f *
		  (type == WT_F32 ? 0x1p-23f : 0x1p-15f);
	if (type == WT_MXFP4)
		set_exponents(f, n_in);
	else if (shape[type].sd_milli)
		set_scales(f, n_in);
}

/* ---- per block: b points at random bits ---- */

static inline uint16_t load16(const uint8_t *b)
{
	uint16_t v;

	memcpy(&v, b, sizeof(v));
	return v;
}

static inline void store16(uint8_t *b, uint16_t v)
{
	memcpy(b, &v, sizeof(v));
}

static inline void or_bytes(uint8_t *b, uint64_t mask)
{
	uint64_t v;

	memcpy(&v, b, sizeof(v));
	v |= mask;
	memcpy(b, &v, sizeof(v));
}

/* A scale of random size and sign: for types whose other factor does not average to 0. */
static inline void put_signed_scale(const struct fill *f, uint8_t *d)
{
	uint16_t r = load16(d);

	store16(d, f->d[r & 63] | (r & 0x8000));
}

static inline void put_scale(const struct fill *f, uint8_t *d)
{
	store16(d, f->d[load16(d) & 63]);
}

/* @sign: 0x8000 where the format adds the offset, 0 where it subtracts it */
static inline void put_scale_and_offset(const struct fill *f, uint8_t *d, uint8_t *m, uint16_t sign)
{
	uint16_t r = load16(d) & 63;

	store16(d, f->d[r]);
	store16(m, f->m[r] | sign);
}

static void put_float(const struct fill *f, uint8_t *b)
{
	int32_t r;
	float x;

	memcpy(&r, b, sizeof(r));
	if (f->kind == FILL_NORM)
		x = (float)((r & 0x7ffff) + 0xc0000) * 0x1p-20f;
	else if (f->kind == FILL_BIAS)
		x = (float)((r & 0xffff) - 0x8000) * 0x1p-20f;
	else
		x = (float)(r >> 8) * f->step;
	memcpy(b, &x, sizeof(x));
}

static inline uint32_t random_float_bits(const struct fill *f, const uint8_t *b)
{
	float x = (float)(int16_t)load16(b) * f->step;
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* Toward zero; what is below the smallest normal half becomes 0. */
static inline uint16_t float_bits_to_half(uint32_t bits)
{
	uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;

	if (rest < (127 - 14) << 23)
		return (uint16_t)sign;
	return (uint16_t)(sign | ((rest >> 13) - ((127 - 15) << 10)));
}

static void put_half(const struct fill *f, uint8_t *b)
{
	store16(b, float_bits_to_half(random_float_bits(f, b)));
}

static void put_bf16(const struct fill *f, uint8_t *b)
{
	store16(b, (uint16_t)(random_float_bits(f, b) >> 16));
}

static void put_mxfp4(const struct fill *f, uint8_t *b)
{
	b[0] = (uint8_t)(f->exponent + (b[0] < f->upper));
}

static void put_q2_k(const struct fill *f, uint8_t *b)
{
	or_bytes(b, 0x8888888888888888); /* scales and minimums: 8 to 15 */
	or_bytes(b + 8, 0x8888888888888888);
	put_scale_and_offset(f, b + 80, b + 82, 0);
}

/* Q4_K and Q5_K: d, dmin, then eight 6-bit scales and minimums with bit 5 set: 32 to 63 */
static void put_q45_k(const struct fill *f, uint8_t *b)
{
	or_bytes(b + 4, 0xa0a0a0a0a0a0a0a0);
	put_scale_and_offset(f, b, b + 2, 0);
}

#define FOR_EACH_BLOCK(call)                                                                       \
	do {                                                                                       \
		for (uint8_t *end = b + n * f->block_bytes; b < end; b += f->block_bytes)          \
			call;                                                                      \
	} while (0)

/* Groups of blocks that start on a whole word of the stream. */
static void fill_groups(const struct fill *f, uint8_t *b, uint64_t group, uint64_t n_groups)
{
	uint64_t block0 = group * GROUP, n = n_groups * GROUP;

	fill_stream(f->key, block0 * f->block_bytes / 8, b, n * f->block_bytes);
	switch (f->type) {
	case WT_F32:
		FOR_EACH_BLOCK(put_float(f, b));
		break;
	case WT_F16:
		FOR_EACH_BLOCK(put_half(f, b));
		break;
	case WT_BF16:
		FOR_EACH_BLOCK(put_bf16(f, b));
		break;
	case WT_Q4_0:
	case WT_Q5_0:
	case WT_IQ4_NL:
	case WT_IQ4_XS:
		FOR_EACH_BLOCK(put_signed_scale(f, b));
		break;
	case WT_Q4_1:
	case WT_Q5_1:
		FOR_EACH_BLOCK(put_scale_and_offset(f, b, b + 2, 0x8000));
		break;
	case WT_Q8_0:
		FOR_EACH_BLOCK(put_scale(f, b));
		break;
	case WT_Q2_K:
		FOR_EACH_BLOCK(put_q2_k(f, b));
		break;
	case WT_Q3_K:
		FOR_EACH_BLOCK(put_signed_scale(f, b + 108));
		break;
	case WT_Q4_K:
	case WT_Q5_K:
		FOR_EACH_BLOCK(put_q45_k(f, b));
		break;
	case WT_Q6_K:
		FOR_EACH_BLOCK(put_signed_scale(f, b + 208));
		break;
	case WT_MXFP4:
		FOR_EACH_BLOCK(put_mxfp4(f, b));
		break;
	}
}

void fill_range(const struct fill *f, void *dst, uint64_t off, uint64_t n)
{
	const uint64_t size = (uint64_t)GROUP * f->block_bytes;
	uint8_t group[GROUP * MAX_BLOCK_BYTES], *to = dst;
	uint64_t part;

	while (n) {
		if (off % size == 0 && n >= size) {
			part = n / size * size;
			fill_groups(f, to, off / size, n / size);
		} else {
			part = MIN(n, size - off % size);
			fill_groups(f, group, off / size, 1);
			memcpy(to, group + off % size, part);
		}
		to += part;
		off += part;
		n -= part;
	}
}
