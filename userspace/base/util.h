/* SPDX-License-Identifier: MIT */
/*
 * Small things that every room needs: alignment, overflow-checked arithmetic, time,
 * a growing byte string. Nothing here knows of models.
 */
#ifndef WEIR_BASE_UTIL_H
#define WEIR_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE_4K	      4096ull

#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) _a = (a);                                                            \
		__typeof__(b) _b = (b);                                                            \
		_a < _b ? _a : _b;                                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) _a = (a);                                                            \
		__typeof__(b) _b = (b);                                                            \
		_a > _b ? _a : _b;                                                                 \
	})

/* @align: a power of two */
static inline uint64_t align_down(uint64_t x, uint64_t align)
{
	return x & ~(align - 1);
}

/* @align: a power of two; the caller knows that x + align does not wrap */
static inline uint64_t align_up(uint64_t x, uint64_t align)
{
	return (x + align - 1) & ~(align - 1);
}

/* True where the result does not fit: the caller must not use *r then. */
#define add_overflow(a, b, r) __builtin_add_overflow(a, b, r)
#define mul_overflow(a, b, r) __builtin_mul_overflow(a, b, r)

/* Monotonic time in nanoseconds. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Ascending: x[n / 2] is the median then. */
void sort_doubles(double *x, size_t n);

/* A growing byte string; always NUL-terminated where p is not NULL. */
struct strbuf {
	char *p;
	size_t len, cap;
};

/* All return 0 or -ENOMEM and leave the string as it was on failure. */
int strbuf_add(struct strbuf *b, const void *p, size_t len);
int strbuf_puts(struct strbuf *b, const char *s);
int strbuf_printf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_free(struct strbuf *b);

struct err;

/**
 * parse_size() - a size as users write it
 * @s: "4096", "512M", "2G", "1.5G", "50%"; K, M, G and T are powers of 1024
 * @whole: what a percentage is of, in bytes
 * @out: bytes
 *
 * Return: 0, or -EINVAL with a sentence that quotes @s.
 */
int parse_size(const char *s, uint64_t whole, uint64_t *out, struct err *err);

/* "4.08 GB", "512.0 MB" (powers of 1000, as flash and DRAM bandwidths are quoted) */
const char *format_bytes(uint64_t bytes, char buf[static 32]);

#endif
