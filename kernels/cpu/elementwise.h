/* SPDX-License-Identifier: MIT */
/*
 * Operations on vectors of float, for any instruction set: written in the compiler's own vector
 * types, of VEC_BYTES. A file defines VEC_BYTES, ISA(name) and HALF(bits), an IEEE half as float,
 * includes this, and gets the functions ISA(mul_norm) and so on (cpu.h says what they do) with the
 * instructions that it is compiled for.
 *
 * No multiplication is fused with an addition, so that all instruction sets give the same bits,
 * sums excepted.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES (VEC_BYTES / sizeof(float))

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t uvec __attribute__((vector_size(VEC_BYTES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

INLINE void store(float *p, vec v)
{
	memcpy(p, &v, sizeof(v));
}

/* n < LANES of them; the others are zero. */
INLINE vec load_part(const float *p, size_t n)
{
	vec v = {0};

	memcpy(&v, p, n * sizeof(*p));
	return v;
}

INLINE void store_part(float *p, vec v, size_t n)
{
	memcpy(p, &v, n * sizeof(*p));
}

INLINE vec all(float x)
{
	return x - (vec){0};
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
	return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/*
 * e^x to 2 units in the last place: x = k ln 2 + r, |r| <= ln 2 / 2, e^x = 2^k e^r, and e^r by its
 * Taylor series to r^7, whose rest is below 6e-9. Adding 1.5 * 2^23 rounds to an integer and leaves
 * it in the lower bits. ln 2 comes in two parts, the first of which times k is exact. 0 below
 * -87.3, where the result would be no normal number; above 88.3 it stays e^88.3. NaN stays NaN.
 * 24 operations.
 */
INLINE vec exp_of(vec x)
{
	const float round = 0x1.8p23f;
	vec top = choose(x > all(88.3f), all(88.3f), x);
	vec t = top * all(1.44269504f) + all(round), k = t - all(round);
	vec r = (top - k * all(0x1.62e4p-1f)) - k * all(0x1.7f7d1cp-20f);
	vec e = all(1.0f / 5040);
	uvec two_k = ((uvec)t - (uvec)all(round) + 127) << 23;

	e = e * r + all(1.0f / 720);
	e = e * r + all(1.0f / 120);
	e = e * r + all(1.0f / 24);
	e = e * r + all(1.0f / 6);
	e = e * r + all(0.5f);
	e = e * r + all(1.0f);
	e = e * r + all(1.0f);
	return choose(x < all(-87.3f), all(0), e * (vec)two_k);
}

/* Lanes in halves, so that every instruction set with as many adds them in one order. */
INLINE float sum_of(vec v)
{
	float a[LANES];

	store(a, v);
	for (size_t n = LANES / 2; n; n /= 2)
		for (size_t i = 0; i < n; i++)
			a[i] += a[i + n];
	return a[0];
}

/* y += x */
void ISA(add)(float *y, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(y + i, load(y + i) + load(x + i));
	store_part(y + i, load_part(y + i, n - i) + load_part(x + i, n - i), n - i);
}

/* y = a y + b x */
void ISA(blend)(float *y, float a, const float *x, float b, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(y + i, load(y + i) * all(a) + load(x + i) * all(b));
	store_part(y + i, load_part(y + i, n - i) * all(a) + load_part(x + i, n - i) * all(b),
		   n - i);
}

/* y = a x */
void ISA(scale)(float *y, const float *x, float a, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(y + i, load(x + i) * all(a));
	store_part(y + i, load_part(x + i, n - i) * all(a), n - i);
}

/* y = x scale w; y may be x */
void ISA(mul_norm)(float *y, const float *x, float scale, const float *w, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(y + i, load(x + i) * all(scale) * load(w + i));
	store_part(y + i, load_part(x + i, n - i) * all(scale) * load_part(w + i, n - i), n - i);
}

INLINE vec silu_mul(vec gate, vec up)
{
	/* below, e^-gate stays where it was: as good as no gate at all */
	return choose(gate < all(-88.3f), all(0), gate / (all(1) + exp_of(-gate))) * up;
}

/* gate = gate / (1 + e^-gate) up */
void ISA(swiglu)(float *gate, const float *up, size_t n)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(gate + i, silu_mul(load(gate + i), load(up + i)));
	store_part(gate + i, silu_mul(load_part(gate + i, n - i), load_part(up + i, n - i)), n - i);
}

/* n is a multiple of 16. A NaN may be passed over. */
float ISA(max)(const float *x, size_t n)
{
	vec m = load(x);
	float a[LANES];

	for (size_t i = LANES; i < n; i += LANES)
		m = choose(load(x + i) > m, load(x + i), m);
	store(a, m);
	for (size_t i = 1; i < LANES; i++)
		a[0] = a[i] > a[0] ? a[i] : a[0];
	return a[0];
}

/* x = e^(x - max), n a multiple of 16. Returns their sum, to which zeros at either end add nothing.
 */
float ISA(exp_sum)(float *x, float max, size_t n)
{
	vec sum = {0};

	for (size_t i = 0; i < n; i += LANES) {
		vec e = exp_of(load(x + i) - all(max));

		store(x + i, e);
		sum += e;
	}
	return sum_of(sum);
}

/*
 * n positions' blocks of 32 codes (Q8_0, as in a plain file) as two groups of 16 dimensions, packed
 * float: out[2][n][16].
 */
void ISA(spread_q8_0)(const void *blocks, float *out, size_t n)
{
	typedef int8_t codes __attribute__((vector_size(LANES)));
	const uint8_t *b = blocks;

	for (size_t p = 0; p < n; p++, b += 34) {
		uint16_t half;
		float d;

		memcpy(&half, b, sizeof(half));
		d = HALF(half);
		for (size_t i = 0; i < 32; i += LANES) {
			codes q;

			memcpy(&q, b + 2 + i, sizeof(q));
			store(out + (i / 16 * n + p) * 16 + i % 16,
			      __builtin_convertvector(q, vec) * all(d));
		}
	}
}
