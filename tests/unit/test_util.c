// SPDX-License-Identifier: MIT
/*
 * userspace/base: sizes as users write and read them, byte strings, alignment, sentences.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/util.h"

#define WHOLE 1000000ull /* what percentages are of */

static void size_is(const char *text, uint64_t want)
{
	struct err err = {""};
	uint64_t got = ~want;
	int r = parse_size(text, WHOLE, &got, &err);

	if (r || got != want)
		print_error("parse_size(\"%s\"): %d, %llu (%s)\n", text, r, (unsigned long long)got,
			    err.text);
	assert_int_equal(r, 0);
	assert_int_equal(got, want);
}

static void size_is_refused(const char *text)
{
	char quoted[64];
	struct err err = {""};
	uint64_t got = 12345;
	int r = parse_size(text, WHOLE, &got, &err);

	if (r != -EINVAL)
		print_error("parse_size(\"%s\"): %d, %llu\n", text, r, (unsigned long long)got);
	assert_int_equal(r, -EINVAL);
	assert_int_equal(got, 12345);
	snprintf(quoted, sizeof(quoted), "'%s'", text);
	assert_non_null(strstr(err.text, quoted));
}

static void test_parse_size_bytes(void **state)
{
	size_is("0", 0);
	size_is("1", 1);
	size_is("4096", 4096);
	size_is("1e3", 1000);
}

static void test_parse_size_units_are_powers_of_1024(void **state)
{
	size_is("1K", 1024);
	size_is("512M", 512ull << 20);
	size_is("2G", 2ull << 30);
	size_is("3T", 3ull << 40);
	size_is("2g", 2ull << 30);
	size_is("1.5G", 3ull << 29);
	size_is(".5K", 512);
	size_is("2GB", 2ull << 30);
	size_is("2GiB", 2ull << 30);
}

static void test_parse_size_percent_is_of_the_whole(void **state)
{
	size_is("0%", 0);
	size_is("50%", WHOLE / 2);
	size_is("100%", WHOLE);
	size_is("0.5%", WHOLE / 200);
	size_is("150%", WHOLE * 3 / 2);
}

static void test_parse_size_refuses_what_is_no_size(void **state)
{
	static const char *const bad[] = {
		"",    " ",   "G",     "%",	    "abc",  "-1",  "-5%",   "1X",
		"1GG", "1Gx", "50%%",  "50%x",	    "5 0",  "2 G", "2 ",    "2 B",
		"nan", "inf", "1e400", "16777216T", "2,5G", "--",  "1G 2G",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		size_is_refused(bad[i]);
}

static void format_is(uint64_t bytes, const char *want)
{
	char buf[32];

	assert_string_equal(format_bytes(bytes, buf), want);
}

static void test_format_bytes_has_three_digits_and_a_unit(void **state)
{
	format_is(0, "0 B");
	format_is(999, "999 B");
	format_is(1000, "1.0 kB");
	format_is(1500, "1.5 kB");
	format_is(512000000, "512.0 MB");
	format_is(4080218931, "4.08 GB");
	format_is(10000000000000, "10.00 TB");
	format_is(UINT64_MAX, "18.45 EB");
}

static void test_format_bytes_rounds_up_to_the_next_unit(void **state)
{
	format_is(999499, "999.5 kB");
	format_is(999999, "1.0 MB");
	format_is(999999999, "1.00 GB");
}

static void test_alignment(void **state)
{
	assert_int_equal(align_up(0, 4096), 0);
	assert_int_equal(align_up(1, 4096), 4096);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(align_up(4097, 32), 4128);
	assert_int_equal(align_down(4095, 4096), 0);
	assert_int_equal(align_down(4096, 4096), 4096);
	assert_int_equal(align_down(UINT64_MAX, 4096), UINT64_MAX - 4095);
}

static void test_overflow_is_seen(void **state)
{
	uint64_t r;

	assert_false(add_overflow(UINT64_MAX - 1, 1ull, &r));
	assert_int_equal(r, UINT64_MAX);
	assert_true(add_overflow(UINT64_MAX, 1ull, &r));
	assert_true(mul_overflow(1ull << 32, 1ull << 32, &r));
	assert_false(mul_overflow(1ull << 32, 1ull << 31, &r));
}

static void test_strbuf_holds_bytes_and_ends_in_nul(void **state)
{
	struct strbuf b = {0};

	assert_int_equal(strbuf_add(&b, NULL, 0), 0);
	assert_string_equal(b.p, "");
	assert_int_equal(strbuf_add(&b, "a\0b", 3), 0);
	assert_int_equal(strbuf_puts(&b, "cd"), 0);
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.p, "a\0bcd", 6);
	strbuf_free(&b);
	assert_null(b.p);
	assert_int_equal(b.len, 0);
}

static void test_strbuf_grows(void **state)
{
	struct strbuf b = {0};

	for (int i = 0; i < 10000; i++)
		assert_int_equal(strbuf_printf(&b, "%04d,", i), 0);
	assert_int_equal(b.len, 50000);
	assert_memory_equal(b.p, "0000,0001,", 10);
	assert_string_equal(b.p + b.len - 5, "9999,");
	strbuf_free(&b);
}

static void test_strbuf_stays_as_it_was_when_memory_is_out(void **state)
{
	struct strbuf b = {0};

	assert_int_equal(strbuf_puts(&b, "kept"), 0);
	assert_int_equal(strbuf_add(&b, NULL, SIZE_MAX - 2), -ENOMEM);
	assert_int_equal(b.len, 4);
	assert_string_equal(b.p, "kept");
	strbuf_free(&b);
}

static void test_err_set_returns_the_code_and_keeps_the_sentence(void **state)
{
	struct err err;

	assert_int_equal(err_set(&err, -ENOENT, "%s: offset %d", "file", 7), -ENOENT);
	assert_string_equal(err.text, "file: offset 7");
	assert_int_equal(err_set(NULL, -EIO, "nobody %s", "listens"), -EIO);
}

static void test_err_set_keeps_a_sentence_on_one_line(void **state)
{
	struct err err;

	err_set(&err, -EINVAL, "%s is no model", "a\nb\r\033[2Jc\177d\xc3\xbc");
	assert_string_equal(err.text, "a?b??[2Jc?d\xc3\xbc is no model");
}

static void test_err_set_cuts_a_sentence_that_is_too_long(void **state)
{
	struct err err;
	char name[2000];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(err_set(&err, -EINVAL, "%s", name), -EINVAL);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_sort_doubles_ascends(void **state)
{
	double x[] = {2.5, -1, 1e300, 2.5, 0}, one = 7;
	const double sorted[] = {-1, 0, 2.5, 2.5, 1e300};

	sort_doubles(x, ARRAY_SIZE(x));
	assert_memory_equal(x, sorted, sizeof(x));
	sort_doubles(&one, 1);
	assert_true(one == 7);
	sort_doubles(NULL, 0);
}

static void test_clock_does_not_go_back(void **state)
{
	uint64_t last = now_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = now_ns();

		assert_true(now >= last);
		last = now;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_size_bytes),
		cmocka_unit_test(test_parse_size_units_are_powers_of_1024),
		cmocka_unit_test(test_parse_size_percent_is_of_the_whole),
		cmocka_unit_test(test_parse_size_refuses_what_is_no_size),
		cmocka_unit_test(test_format_bytes_has_three_digits_and_a_unit),
		cmocka_unit_test(test_format_bytes_rounds_up_to_the_next_unit),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_overflow_is_seen),
		cmocka_unit_test(test_strbuf_holds_bytes_and_ends_in_nul),
		cmocka_unit_test(test_strbuf_grows),
		cmocka_unit_test(test_strbuf_stays_as_it_was_when_memory_is_out),
		cmocka_unit_test(test_err_set_returns_the_code_and_keeps_the_sentence),
		cmocka_unit_test(test_err_set_keeps_a_sentence_on_one_line),
		cmocka_unit_test(test_err_set_cuts_a_sentence_that_is_too_long),
		cmocka_unit_test(test_sort_doubles_ascends),
		cmocka_unit_test(test_clock_does_not_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
