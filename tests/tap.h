/* SPDX-License-Identifier: MIT */
/*
 * The Test Anything Protocol for freestanding test programs: tap_ok() and tap_skip() print a
 * line each, tap_done() prints the plan and returns the exit status (0: all passed).
 * One thread, one program: the counters are this file's.
 */
#ifndef WEIR_TESTS_TAP_H
#define WEIR_TESTS_TAP_H

#include <stdarg.h>
#include <stdio.h>

static int tap_count, tap_failed;

static inline void tap_line(const char *result, const char *fmt, va_list ap)
{
	printf("%s %d - ", result, ++tap_count);
	vprintf(fmt, ap);
}

/* One test's outcome; returns it. */
__attribute__((format(printf, 2, 3))) static inline int tap_ok(int ok, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_line(ok ? "ok" : "not ok", fmt, ap);
	va_end(ap);
	putchar('\n');
	tap_failed += !ok;
	return ok;
}

/* A test that could not run, and why. */
__attribute__((format(printf, 2, 3))) static inline void tap_skip(const char *reason,
								  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_line("ok", fmt, ap);
	va_end(ap);
	printf(" # SKIP %s\n", reason);
}

/* A remark, for instance where and by how much a test failed. */
__attribute__((format(printf, 1, 2))) static inline void tap_note(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed ? 1 : 0;
}

#endif
