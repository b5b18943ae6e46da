// SPDX-License-Identifier: MIT
/*
 * The sources hand out the bytes of the file, whatever the budget and whoever reads; they read
 * what the plan says and no more.
 */
#include "tests/unit/source_fixture.h"

#include "kmod/weir_depth.h"
#include "stream/source_kmod.h"

static const uint64_t budgets[] = {0, 95, 70, 50, 25, 10};

static void every_source_gives_the_same_bytes(void **state)
{
	struct fixture *f = fixture_new(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(budgets); i++) {
		const struct {
			const struct source_ops *ops;
			const struct io_ops *io;
		} way[] = {
			{&source_mmap, NULL},
			{&source_uring, NULL},
			{NULL, &io_threads_ops},
			{NULL, &fake_ops},
		};

		fixture_plan(f, budgets[i], 0);
		for (size_t k = 0; k < ARRAY_SIZE(way); k++) {
			struct source *s;

			fake = (struct fake_config){.seed = 99, .lag = 2};
			s = fixture_open(f, way[k].ops, way[k].io, 0);
			run_passes(f, s, 3);
			s->ops->close(s);
		}
	}
	fixture_free(f);
}

/* All depths and rings, with reads that end in any order and come short. */
static void reordered_and_short_reads_change_nothing(void **state)
{
	struct fixture *f = fixture_new(NULL);

	for (uint64_t seed = 1; seed <= 24; seed++) {
		struct source *s;

		fixture_plan(f, 20 + seed * 3, (uint32_t)(seed % 5) * 4);
		fake = (struct fake_config){
			.seed = seed,
			.lag = (uint32_t)(seed % 4),
			.shorten = true,
			.interrupt = 10,
		};
		s = fixture_open(f, NULL, &fake_ops, (uint32_t)(seed % 7));
		run_passes(f, s, 2);
		s->ops->close(s);
	}
	fixture_free(f);
}

static void reads_alpha_w_a_pass_and_not_a_byte_more(void **state)
{
	struct fixture *f = fixture_new(NULL);
	const struct io_ops *const io[] = {NULL, &io_threads_ops, &fake_ops};

	for (size_t i = 0; i < ARRAY_SIZE(io); i++) {
		struct source_stats before, after;
		struct source *s;

		fixture_plan(f, 50, 0);
		fake = (struct fake_config){.seed = 5};
		s = fixture_open(f, &source_uring, io[i], 0);
		after = quiet_stats(s);
		assert_int_equal(after.pin_read_bytes, f->plan->pinned_bytes);
		for (int pass = 0; pass < 5; pass++) {
			before = after;
			run_passes(f, s, 1);
			after = quiet_stats(s);
			assert_int_equal(after.stream_read_bytes - before.stream_read_bytes,
					 f->plan->stream_bytes);
			assert_int_equal(after.flash_read_bytes - before.flash_read_bytes,
					 f->plan->stream_bytes);
			assert_int_equal(after.misses, 0);
		}
		s->ops->close(s);
	}
	fixture_free(f);
}

static void nothing_is_read_twice_when_all_fits(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source_stats st;
	struct source *s;

	fixture_plan(f, 0, 0);
	s = fixture_open(f, &source_uring, NULL, 0);
	assert_int_equal(f->progress, f->plan->pinned_bytes);
	run_passes(f, s, 2);
	s->ops->stats(s, &st);
	assert_int_equal(st.flash_read_bytes, f->plan->pinned_bytes);
	assert_int_equal(st.stream_read_bytes, 0);
	/* an extent that is held is a load and a compare away */
	for (uint32_t e = 0; e < f->plan->n_extent; e++)
		assert_non_null(s->resident[e]);
	s->ops->close(s);
	fixture_free(f);
}

static void depth_is_what_was_asked_for(void **state)
{
	struct fixture *f = fixture_new(NULL);

	for (uint32_t depth = 1; depth <= 6; depth++) {
		struct source_stats st;
		struct source *s;

		fixture_plan(f, 40, 12);
		fake = (struct fake_config){.seed = depth, .lag = 3};
		s = fixture_open(f, NULL, &fake_ops, depth);
		fake.most_in_flight = 0; /* filling the pinned part goes deeper */
		run_passes(f, s, 2);
		s->ops->stats(s, &st);
		assert_int_equal(st.depth, depth);
		/* a demand may be one more, but in order there is none */
		assert_int_equal(fake.most_in_flight, depth);
		s->ops->close(s);
	}
	fixture_free(f);
}

static void hits_late_and_waits_are_counted(void **state)
{
	struct fixture *f = fixture_new(NULL);
	uint32_t n_stream;
	struct source_stats st;
	struct source *s;

	fixture_plan(f, 50, 0);
	n_stream = f->plan->n_extent - f->plan->n_pin;
	fake = (struct fake_config){.seed = 3, .lag = 3};
	s = fixture_open(f, NULL, &fake_ops, 0);
	for (uint32_t e = f->plan->n_pin; e < f->plan->n_extent; e++) {
		const void *data;

		assert_int_equal(source_acquire(s, e, &data, &f->err), 0);
		source_release(s, e);
	}
	s->ops->stats(s, &st);
	assert_int_equal(st.hits + st.late + st.misses, n_stream);
	assert_true(st.late > 0 && st.misses == 0);
	assert_true(st.wait_ns > 0 && st.io_ns > 0);
	assert_true(st.reads >= n_stream);
	s->ops->close(s);
	fixture_free(f);
}

/* Any order: extents that nobody expected are read on demand. */
static void extents_in_any_order(void **state)
{
	struct fixture *f = fixture_new(NULL);
	uint32_t n_stream, e;
	struct source *s;
	const void *data;

	fixture_plan(f, 30, 0);
	n_stream = f->plan->n_extent - f->plan->n_pin;
	s = fixture_open(f, &source_uring, NULL, 0);
	for (uint32_t i = 0; i < 3 * n_stream; i++) {
		e = f->plan->n_pin + (uint32_t)(word_at(0, i) % n_stream);
		if (source_acquire(s, e, &data, &f->err))
			fail_msg("%s", f->err.text);
		assert_true(holds(data, f->plan->extent[e].file, f->plan->extent[e].off,
				  f->plan->extent[e].len));
		source_release(s, e);
	}
	s->ops->close(s);
	fixture_free(f);
}

static void read_gives_any_range(void **state)
{
	const struct source_ops *const ops[] = {&source_mmap, &source_uring};
	struct fixture *f = fixture_new(NULL);
	char *buf = malloc(300000);

	assert_non_null(buf);
	for (size_t i = 0; i < ARRAY_SIZE(ops) * ARRAY_SIZE(budgets); i++) {
		struct source *s;
		int r;

		fixture_plan(f, budgets[i / 2], 0);
		s = fixture_open(f, ops[i % 2], NULL, 0);
		for (uint64_t k = 0; k < 200; k++) {
			uint32_t file = k % 2;
			uint64_t len = k % 20 ? word_at(1, k) % 9000 : word_at(1, k) % 300000;
			uint64_t off = word_at(2, k) % (f->size[file] - len);

			r = s->ops->read(s, file, off, buf, len, &f->err);
			if (r)
				fail_msg("%s", f->err.text);
			assert_true(holds(buf, file, off, len));
		}
		/* up to the last byte, and not one further */
		r = s->ops->read(s, 1, f->size[1] - 100, buf, 100, &f->err);
		assert_int_equal(r, 0);
		assert_true(holds(buf, 1, f->size[1] - 100, 100));
		assert_int_equal(s->ops->read(s, 1, f->size[1] - 99, buf, 100, &f->err), -EIO);
		assert_int_equal(s->ops->read(s, 1, UINT64_MAX - 9, buf, 100, &f->err), -EIO);
		s->ops->close(s);
	}
	free(buf);
	fixture_free(f);
}

/* Reads of the embedding are not counted as streaming. */
static void read_takes_held_rows_from_the_pool(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source_stats a, b;
	const struct extent *e;
	struct source *s;
	char buf[500];

	fixture_plan(f, 50, 0);
	s = fixture_open(f, &source_uring, NULL, 0);
	a = quiet_stats(s);
	e = &f->plan->extent[0];
	assert_int_equal(s->ops->read(s, e->file, e->off + 10, buf, sizeof(buf), &f->err), 0);
	assert_true(holds(buf, e->file, e->off + 10, sizeof(buf)));
	s->ops->stats(s, &b);
	assert_int_equal(b.flash_read_bytes, a.flash_read_bytes);
	assert_int_equal(s->ops->read(s, f->tensor[0].file, f->rows_off, buf, sizeof(buf), &f->err),
			 0);
	s->ops->stats(s, &b);
	assert_true(b.flash_read_bytes > a.flash_read_bytes);
	assert_int_equal(b.stream_read_bytes, a.stream_read_bytes);
	s->ops->close(s);
	fixture_free(f);
}

static void large_extents_are_read_in_pieces(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct plan_params p = {.budget = 80ull << 20, .chunk = 9u << 20};
	uint64_t size = (150ull << 20) + 1234;
	struct source *s;

	for (uint32_t i = 0; i < f->n_file; i++)
		unlink(f->path[i]);
	f->n_file = 1;
	f->size[0] = size;
	write_file(f->path[0], 0, size);
	for (f->n_tensor = 0; f->n_tensor < 10; f->n_tensor++)
		f->tensor[f->n_tensor] = (struct plan_tensor){
			.off = 1234 + f->n_tensor * (15ull << 20),
			.row_bytes = 15 << 10,
			.n_rows = 1024,
			.cls = PLAN_SWEEP,
		};
	assert_int_equal(plan_make(f->tensor, f->n_tensor, f->size, 1, &p, &f->plan, &f->err), 0);
	assert_true(f->plan->slot_bytes > 4u << 20);
	s = fixture_open(f, &source_uring, NULL, 0);
	run_passes(f, s, 2);
	s->ops->close(s);
	fake = (struct fake_config){.seed = 1, .shorten = true};
	s = fixture_open(f, NULL, &fake_ops, 0);
	run_passes(f, s, 1);
	s->ops->close(s);
	fixture_free(f);
}

static void close_while_reads_are_in_flight(void **state)
{
	const struct io_ops *const io[] = {NULL, &io_threads_ops, &fake_ops};
	struct fixture *f = fixture_new(NULL);
	const void *data;

	fixture_plan(f, 50, 20);
	for (int i = 0; i < 30; i++) {
		struct source *s;

		fake = (struct fake_config){.seed = 7, .lag = 100};
		s = fixture_open(f, &source_uring, io[i % 3], 16);
		if (i % 2)
			assert_int_equal(source_acquire(s, f->plan->n_pin, &data, &f->err), 0);
		s->ops->close(s);
	}
	fixture_free(f);
}

static void sources_have_names(void **state)
{
	assert_string_equal(source_by_name("auto")->name, "auto");
	assert_ptr_equal(source_by_name("kmod"), &source_kmod);
	assert_ptr_equal(source_by_name("uring"), &source_uring);
	assert_ptr_equal(source_by_name("mmap"), &source_mmap);
	assert_null(source_by_name("floppy"));
}

/* ---- how many reads to keep in flight ---- */

/* A device that gains from depth up to `best` and loses beyond. */
static uint32_t settled_depth(uint32_t best, uint32_t max, double loss, uint32_t *most)
{
	uint64_t clock = 1;
	struct weir_depth d;

	*most = 0;
	weir_depth_init(&d, 0, max);
	for (int i = 0; i < 20000; i++) {
		uint32_t now = d.now;
		double rate = MIN(now, best) / (1 + (now > best ? loss * (now - best) : 0));

		assert_in_range(now, 1, max);
		clock += (uint64_t)(1e7 / rate);
		weir_depth_add(&d, 4 << 20, clock);
		*most = MAX(*most, now);
	}
	return d.base;
}

static void depth_climbs_to_where_it_pays(void **state)
{
	uint32_t most;

	assert_int_equal(settled_depth(32, 64, 0, &most), 32);
	assert_int_equal(most, 64); /* one step beyond, to see */
	assert_in_range(settled_depth(12, 64, 0, &most), 12, 16);
	assert_int_equal(settled_depth(64, 24, 0, &most), 24);
	assert_int_equal(settled_depth(1, 64, 0.2, &most), 1);
	assert_int_equal(settled_depth(8, 64, 0, &most), 8);
	assert_int_equal(settled_depth(4, 1, 0, &most), 1);
}

/* A device that others use too: its speed jumps by a third every few windows. */
static void depth_does_not_wander_on_a_noisy_device(void **state)
{
	uint32_t shallow = 0;

	for (uint32_t seed = 0; seed < 100; seed++) {
		uint64_t clock = 1;
		double rate = 1;
		struct weir_depth d;

		weir_depth_init(&d, 0, 32);
		for (uint32_t i = 0; i < 20000; i++) {
			if (i % 37 == 0)
				rate = 1 - (double)(word_at(seed, i) % 1000) / 3000;
			clock += (uint64_t)(1e7 / rate / MIN(d.now, 4u));
			weir_depth_add(&d, 4 << 20, clock);
		}
		shallow += d.base < 4;
	}
	assert_in_range(shallow, 0, 5);
}

/* The user thinks before every few windows, and longer while the queue is deeper. */
static void pauses_do_not_count(void **state)
{
	uint64_t clock = 1;
	struct weir_depth d;

	weir_depth_init(&d, 0, 64);
	for (int i = 0; i < 20000; i++) {
		clock += 40000000 / MIN(d.now, 16u);
		if (i % 40 == 0)
			clock += 300000000ull * d.now;
		weir_depth_add(&d, 4 << 20, clock);
	}
	assert_int_equal(d.base, 16);
}

static void a_given_depth_stays(void **state)
{
	struct weir_depth d;

	weir_depth_init(&d, 7, 64);
	for (uint64_t i = 1; i <= 1000; i++)
		assert_false(weir_depth_add(&d, 64 << 20, i * 1000000));
	assert_int_equal(d.now, 7);
	weir_depth_init(&d, 70, 64);
	assert_int_equal(d.now, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_source_gives_the_same_bytes),
		cmocka_unit_test(reordered_and_short_reads_change_nothing),
		cmocka_unit_test(reads_alpha_w_a_pass_and_not_a_byte_more),
		cmocka_unit_test(nothing_is_read_twice_when_all_fits),
		cmocka_unit_test(depth_is_what_was_asked_for),
		cmocka_unit_test(hits_late_and_waits_are_counted),
		cmocka_unit_test(extents_in_any_order),
		cmocka_unit_test(read_gives_any_range),
		cmocka_unit_test(read_takes_held_rows_from_the_pool),
		cmocka_unit_test(large_extents_are_read_in_pieces),
		cmocka_unit_test(close_while_reads_are_in_flight),
		cmocka_unit_test(sources_have_names),
		cmocka_unit_test(depth_climbs_to_where_it_pays),
		cmocka_unit_test(depth_does_not_wander_on_a_noisy_device),
		cmocka_unit_test(pauses_do_not_count),
		cmocka_unit_test(a_given_depth_stays),
	};

	return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
