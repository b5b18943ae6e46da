// SPDX-License-Identifier: MIT
/*
 * Measuring kernels: the plain read reads everything, every kind of kernel gets figures that
 * belong together, and what cannot be measured is refused in a sentence. How fast anything is
 * is nobody's business here.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "decode/kernel_speed.h"
#include "stream/dram.h"
#include "stream/stream.h"

#define LEN (8 * DRAM_READ_UNIT)

static void the_plain_read_reads_every_byte(void **state)
{
	unsigned char *p = aligned_alloc(32, LEN);
	uint64_t before;

	assert_non_null(p);
	for (size_t i = 0; i < LEN; i++)
		p[i] = (unsigned char)(i * 37);
	before = dram_read(p, LEN);
	for (size_t i = 0; i < LEN; i++) {
		p[i] ^= 1;
		assert_true(dram_read(p, LEN) != before);
		p[i] ^= 1;
	}
	assert_true(dram_read(p, LEN) == before);
	free(p);
}

static void assert_near(double x, double y)
{
	assert_true(x > 0.999 * y && x < 1.001 * y);
}

static void check_figures(const struct kernel_speed *s)
{
	assert_true(s->dram_gb_s > 0 && s->dram_gb_s < 1e5);
	assert_true(s->gb_s > 0 && s->gb_s < 1e5);
	assert_true(s->core_gb_s > 0 && s->core_gb_s < 1e5);
	/* one round: the medians are its figures; two threads */
	assert_near(s->dram_share, s->gb_s / s->dram_gb_s);
	assert_near(s->arith_share, 2 * s->core_gb_s / s->dram_gb_s);
}

static void every_kind_of_kernel_gets_figures(void **state)
{
	const struct speed_params p = {.n_threads = 2, .rounds = 1, .bytes = SPEED_BYTES_MIN};
	const uint32_t types[] = {WT_F32, WT_Q4_0, WT_Q6_K};
	struct kernel_speed s;
	struct speed_meter *m;
	struct err err;

	if (speed_meter_open(&p, &m, &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		for (int layout = ROWS_FILE; layout <= ROWS_PACKED; layout++) {
			memset(&s, 0, sizeof(s));
			if (speed_measure(m, types[i], (enum row_layout)layout, &s, &err))
				fail_msg("%s", err.text);
			check_figures(&s);
		}
	}
	speed_meter_close(m);
}

static void the_setup_is_what_was_asked_for(void **state)
{
	struct speed_params p = {.n_threads = 3, .rounds = 1, .bytes = 20 << 20};
	const struct speed_setup *s;
	struct speed_meter *m;
	struct err err;

	if (speed_meter_open(&p, &m, &err))
		fail_msg("%s", err.text);
	s = speed_setup(m);
	assert_int_equal(s->n_threads, 3);
	assert_int_equal(s->bytes, 20 << 20);
	assert_true(s->isa[0] != '\0');
	assert_true(s->core_bytes > 0 && s->core_bytes < s->bytes);
	speed_meter_close(m);
}

static void without_a_size_caches_are_exceeded(void **state)
{
	const struct speed_params p = {.n_threads = 1, .rounds = 1};
	const struct speed_setup *s;
	struct speed_meter *m;
	struct err err;

	/* pages are taken when rows are put there, so that this costs no memory */
	if (speed_meter_open(&p, &m, &err))
		fail_msg("%s", err.text);
	s = speed_setup(m);
	/* where memory is short it is as much of it as may be */
	assert_true((s->bytes >= 1ull << 30 && s->bytes >= 2 * s->cache_bytes) ||
		    s->bytes > memory_available() / 4);
	speed_meter_close(m);
}

static void it_stops_when_cancelled(void **state)
{
	volatile int cancel = 1;
	const struct speed_params p = {
		.n_threads = 2, .rounds = 5, .bytes = SPEED_BYTES_MIN, .cancel = &cancel};
	struct kernel_speed s;
	struct speed_meter *m;
	struct err err;

	if (speed_meter_open(&p, &m, &err))
		fail_msg("%s", err.text);
	assert_int_equal(speed_measure(m, WT_Q4_0, ROWS_FILE, &s, &err), -EINTR);
	speed_meter_close(m);
}

static void what_cannot_be_is_refused(void **state)
{
	const struct {
		struct speed_params p;
		int r;
		const char *word;
	} cases[] = {
		{{.n_threads = 1, .rounds = 1, .bytes = 1 << 20}, -EINVAL, "16.8 MB or more"},
		{{.n_threads = 1, .rounds = 1, .bytes = 1ull << 60}, -ENOMEM, "--size"},
		{{.n_threads = 1, .rounds = 0, .bytes = SPEED_BYTES_MIN}, -EINVAL, "rounds"},
		{{.n_threads = 1, .rounds = 1001, .bytes = SPEED_BYTES_MIN}, -EINVAL, "1001"},
		{{.n_threads = 2000, .rounds = 1, .bytes = SPEED_BYTES_MIN}, -EINVAL, "2000"},
	};
	struct speed_meter *m;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(speed_meter_open(&cases[i].p, &m, &err), cases[i].r);
		assert_non_null(strstr(err.text, cases[i].word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plain_read_reads_every_byte),
		cmocka_unit_test(every_kind_of_kernel_gets_figures),
		cmocka_unit_test(the_setup_is_what_was_asked_for),
		cmocka_unit_test(without_a_size_caches_are_exceeded),
		cmocka_unit_test(it_stops_when_cancelled),
		cmocka_unit_test(what_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
