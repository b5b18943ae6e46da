// SPDX-License-Identifier: MIT
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

void sort_doubles(double *x, size_t n)
{
	if (n)
		qsort(x, n, sizeof(*x), compare_double);
}

static int strbuf_reserve(struct strbuf *b, size_t extra)
{
	size_t need, cap;
	char *p;

	if (add_overflow(b->len, extra, &need) || add_overflow(need, 1, &need))
		return -ENOMEM;
	if (need <= b->cap)
		return 0;
	cap = MAX(need, b->cap * 2);
	p = realloc(b->p, cap);
	if (!p)
		return -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int strbuf_add(struct strbuf *b, const void *p, size_t len)
{
	int r = strbuf_reserve(b, len);

	if (r)
		return r;
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
	b->p[b->len] = '\0';
	return 0;
}

int strbuf_puts(struct strbuf *b, const char *s)
{
	return strbuf_add(b, s, strlen(s));
}

int strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = strbuf_reserve(b, (size_t)n);
	if (r)
		return r;
	va_start(ap, fmt);
	vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void strbuf_free(struct strbuf *b)
{
	free(b->p);
	*b = (struct strbuf){0};
}

int parse_size(const char *s, uint64_t whole, uint64_t *out, struct err *err)
{
	static const char units[] = "KMGT";
	const char *unit;
	double x;
	char *end;

	errno = 0;
	x = strtod(s, &end);
	if (end == s || errno || !isfinite(x) || x < 0)
		goto bad;
	if (end[0] == '%' && !end[1]) {
		x = x / 100 * (double)whole;
	} else if (end[0]) {
		unit = strchr(units, toupper((unsigned char)end[0]));
		if (!unit || (end[1] && strcmp(end + 1, "B") && strcmp(end + 1, "iB")))
			goto bad;
		x *= exp2(10.0 * (double)(unit - units + 1));
	}
	if (x >= 0x1p63)
		goto bad;
	*out = (uint64_t)x;
	return 0;
bad:
	return err_set(err, -EINVAL, "'%s' is not a size: write bytes, or 512M, 2G, 50%%", s);
}

const char *format_bytes(uint64_t bytes, char buf[static 32])
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double x = (double)bytes;
	unsigned int i = 0;

	while (x >= 999.5 && i + 1 < ARRAY_SIZE(unit)) {
		x /= 1000;
		i++;
	}
	snprintf(buf, 32, i == 0 ? "%.0f %s" : i < 3 ? "%.1f %s" : "%.2f %s", x, unit[i]);
	return buf;
}
