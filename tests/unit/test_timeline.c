// SPDX-License-Identifier: MIT
/* The time line: spans that follow one another, room that ends, and nobody who looks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/timeline.h"

static struct timeline *opened(uint32_t cap)
{
	struct timeline *t;
	struct err err;

	assert_int_equal(timeline_open(cap, &t, &err), 0);
	t->on = true;
	return t;
}

/* A pass of one layer of one tensor, with a wait in it. */
static void one_pass(struct timeline *t)
{
	uint64_t begin;

	timeline_pass(t, 7);
	timeline_layer(t, 0);
	timeline_tensor(t, 3);
	begin = now_ns();
	while (now_ns() == begin)
		;
	timeline_wait(t, begin);
	timeline_tensor(t, TIMELINE_NONE);
	timeline_layer(t, TIMELINE_NONE);
	timeline_pass_end(t);
}

static uint64_t ns_of(const struct timeline *t, enum timeline_kind kind)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->event[i].kind == kind)
			ns += t->event[i].end - t->event[i].begin;
	return ns;
}

static void test_a_pass_is_computing_and_waiting(void **state)
{
	struct timeline *t = opened(64);

	one_pass(t);
	assert_true(ns_of(t, TIMELINE_WAIT) > 0);
	assert_int_equal(ns_of(t, TIMELINE_COMPUTE) + ns_of(t, TIMELINE_WAIT),
			 ns_of(t, TIMELINE_PASS));
	for (uint32_t i = 0; i < t->n; i++) {
		const struct timeline_event *e = &t->event[i];

		assert_int_equal(e->token, 7);
		if (e->kind == TIMELINE_WAIT)
			assert_int_equal(e->tensor, 3);
		if (e->kind == TIMELINE_WAIT || e->kind == TIMELINE_LAYER)
			assert_int_equal(e->layer, 0);
		if (e->kind == TIMELINE_PASS)
			assert_int_equal(e->layer, TIMELINE_NONE);
	}
	timeline_close(t);
}

static void test_a_wait_between_passes_belongs_to_none(void **state)
{
	struct timeline *t = opened(64);
	uint32_t n;

	one_pass(t);
	n = t->n;
	timeline_wait(t, now_ns());
	assert_int_equal(t->n, n);
	timeline_close(t);
}

static void test_what_finds_no_room_is_counted(void **state)
{
	struct timeline *t = opened(2);

	for (uint32_t i = 0; i < 5; i++)
		timeline_read(t, now_ns(), i, 0, 4096 * i, 4096);
	assert_int_equal(t->n, 2);
	assert_int_equal(t->dropped, 3);
	assert_int_equal(t->event[1].off, 4096);
	assert_int_equal(t->event[1].lane, 1);
	timeline_close(t);
}

static void test_off_records_nothing(void **state)
{
	struct timeline *t = opened(64);

	t->on = false;
	one_pass(t);
	timeline_read(t, now_ns(), 0, 0, 0, 4096);
	assert_int_equal(t->n, 0);
	assert_int_equal(t->dropped, 0);
	timeline_close(t);
}

static void test_nobody_looks(void **state)
{
	one_pass(NULL);
	timeline_read(NULL, 0, 0, 0, 0, 4096);
	timeline_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pass_is_computing_and_waiting),
		cmocka_unit_test(test_a_wait_between_passes_belongs_to_none),
		cmocka_unit_test(test_what_finds_no_room_is_counted),
		cmocka_unit_test(test_off_records_nothing),
		cmocka_unit_test(test_nobody_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
