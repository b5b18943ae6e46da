/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 * Bytes that are no character are never an error here; they have length 0.
 */
#ifndef WEIR_TEXT_UTF8_H
#define WEIR_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that a character beginning with @lead has; 0: no character begins so. */
static inline size_t utf8_need(unsigned char lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2)
		return 0;
	if (lead < 0xe0)
		return 2;
	if (lead < 0xf0)
		return 3;
	return lead < 0xf5 ? 4 : 0;
}

/* How many of the n bytes at p belong to the character that begins there, complete or not. */
static inline size_t utf8_have(const char *p, size_t n)
{
	const unsigned char *s = (const unsigned char *)p;
	size_t need = n ? utf8_need(s[0]) : 0;
	unsigned char lo = 0x80, hi = 0xbf;
	size_t i;

	if (!need)
		return 0;
	/* The second byte's range rules out overlong forms, surrogates and > U+10FFFF. */
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	for (i = 1; i < need && i < n; i++) {
		if (s[i] < lo || s[i] > hi)
			break;
		lo = 0x80;
		hi = 0xbf;
	}
	return i;
}

/* Length of the character at p, 1 to 4; 0 where the bytes are none, or are cut off. */
static inline size_t utf8_len(const char *p, size_t n)
{
	size_t need = n ? utf8_need((unsigned char)p[0]) : 0;

	return need && utf8_have(p, n) == need ? need : 0;
}

/* Code point of the character at p, whose length utf8_len() has given. */
static inline uint32_t utf8_decode(const char *p, size_t len)
{
	const unsigned char *s = (const unsigned char *)p;

	switch (len) {
	case 1:
		return s[0];
	case 2:
		return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
	case 3:
		return (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
	default:
		return (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 |
		       (s[3] & 0x3fu);
	}
}

/* Bytes at the end of p[0 .. n) that begin a character without completing it: 0 to 3. */
static inline size_t utf8_open_tail(const char *p, size_t n)
{
	size_t k;

	for (k = 1; k <= 3 && k <= n; k++) {
		const char *s = p + n - k;

		if (utf8_need((unsigned char)*s) > k && utf8_have(s, k) == k)
			return k;
	}
	return 0;
}

#endif
