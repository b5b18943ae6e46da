// SPDX-License-Identifier: MIT
#include "stream/dram.h"

typedef uint64_t vec __attribute__((vector_size(32), aligned(32)));

/*
 * Ahead of the loads: into L1 what is `near`, into L2 what is `far`. Hardware prefetches such a
 * stream too, but one core gets 10 to 20% more from DRAM this way, as kernels that prefetch do.
 * Zen 5 wants one request for a line, and gets 78 GB/s with two cores so, 67 to 72 with two
 * requests.
 */
struct ahead {
	size_t near, far; /* far: 0 for none */
};

static const struct ahead usual = {1536, 3584};

/* Four sums, so that no addition waits for the one before; inlined into each way to compile it. */
static inline __attribute__((always_inline)) uint64_t sum(const void *p, size_t n,
							  struct ahead ahead)
{
	const vec *v = p, *end = v + n / sizeof(vec);
	vec a = {0}, b = {0}, c = {0}, d = {0};

	for (; v < end; v += DRAM_READ_UNIT / sizeof(vec)) {
		for (size_t i = 0; i < DRAM_READ_UNIT; i += 64) {
			/* near the end, of what is not ours: a prefetch never faults */
			__builtin_prefetch((const void *)((uintptr_t)v + ahead.near + i), 0, 3);
			if (ahead.far)
				__builtin_prefetch((const void *)((uintptr_t)v + ahead.far + i), 0,
						   2);
		}
		a += v[0] ^ v[4];
		b += v[1] ^ v[5];
		c += v[2] ^ v[6];
		d += v[3] ^ v[7];
	}
	a += b + c + d;
	return a[0] + a[1] + a[2] + a[3];
}

#ifdef __x86_64__
static uint64_t __attribute__((target("avx2"))) sum_avx2(const void *p, size_t n)
{
	static const struct ahead amd = {4096, 0};

	return sum(p, n, __builtin_cpu_is("amd") ? amd : usual);
}
#endif

uint64_t dram_read(const void *p, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return sum_avx2(p, n);
#endif
	return sum(p, n, usual);
}
