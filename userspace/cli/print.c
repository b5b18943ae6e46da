// SPDX-License-Identifier: MIT
/*
 * What goes to stdout where the words are a model's or a user's.
 *
 * They may be any bytes. JSON is always valid: bytes that are no UTF-8 become U+FFFD, a number
 * that is none becomes null. Text for a terminal holds no control character: those become dots.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "cli/cli.h"
#include "text/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

json_t *json_text(const char *p, size_t len)
{
	struct strbuf b = {0};
	json_t *j = NULL;
	int r = strbuf_puts(&b, "");

	for (size_t i = 0; !r && i < len;) {
		size_t n = utf8_len(p + i, len - i), bad = utf8_have(p + i, len - i);

		/* a character that is cut off is replaced as one */
		r = n ? strbuf_add(&b, p + i, n) : strbuf_puts(&b, REPLACEMENT);
		i += n ? n : MAX(bad, (size_t)1);
	}
	if (!r)
		j = json_stringn(b.p, b.len);
	strbuf_free(&b);
	return j;
}

json_t *json_number(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

json_t *json_u64(uint64_t x)
{
	char digits[24];

	if (x <= INT64_MAX)
		return json_integer((json_int_t)x);
	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)x);
	return json_string(digits);
}

int cli_print_json(json_t *o, struct err *err)
{
	char *s = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;

	json_decref(o);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory for the JSON object");
	/* what cannot be written is noticed at the end, as for all output */
	puts(s);
	free(s);
	return 0;
}

size_t print_clean(const char *p, size_t len)
{
	size_t columns = 0;

	for (size_t i = 0; i < len; columns++) {
		size_t n = utf8_len(p + i, len - i);
		uint32_t c = n ? utf8_decode(p + i, n) : 0;

		/* U+0080 to U+009F are control characters too: U+009B begins a sequence */
		if (c < ' ' || (c >= 0x7f && c < 0xa0))
			putchar('.');
		else
			fwrite(p + i, 1, n, stdout);
		i += n ? n : 1;
	}
	return columns;
}
