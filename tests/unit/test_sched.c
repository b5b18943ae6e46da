// SPDX-License-Identifier: MIT
/*
 * The streaming policy: what it reads, in which order, and what it never does.
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
#include "kmod/weir_sched.h"
#include "tests/fuzz/sched_model.h"

#define N WEIR_SCHED_NONE

struct ring {
	struct weir_sched s;
	struct weir_sched_extent extent[1024];
	struct weir_sched_slot slot[1024];
};

static struct ring *ring_new(uint32_t n_extent, uint32_t n_slot, uint32_t depth)
{
	struct ring *r = malloc(sizeof(*r));

	assert_non_null(r);
	weir_sched_init(&r->s, r->extent, n_extent, r->slot, n_slot, depth);
	assert_int_equal(weir_sched_check(&r->s), 0);
	return r;
}

/* The next read's extent, or NONE. */
static uint32_t next(struct ring *r)
{
	uint32_t extent, slot;

	if (!weir_sched_next(&r->s, &extent, &slot))
		return N;
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(r->slot[slot].extent, extent);
	assert_int_equal(r->slot[slot].state, WEIR_SLOT_FILLING);
	return extent;
}

static void complete(struct ring *r, uint32_t extent, int error)
{
	assert_int_not_equal(r->extent[extent].slot, N);
	weir_sched_complete(&r->s, r->extent[extent].slot, error);
	assert_int_equal(weir_sched_check(&r->s), 0);
}

static enum weir_acquire acquire(struct ring *r, uint32_t extent)
{
	uint32_t slot;
	weir_s32 error;
	enum weir_acquire a = weir_sched_acquire(&r->s, extent, &slot, &error);

	assert_int_equal(weir_sched_check(&r->s), 0);
	if (a == WEIR_ACQUIRE_READY)
		assert_int_equal(r->slot[slot].extent, extent);
	return a;
}

static void release(struct ring *r, uint32_t extent)
{
	weir_sched_release(&r->s, extent);
	assert_int_equal(weir_sched_check(&r->s), 0);
}

/* As the executor and consumer of a finished read do. */
static void read_all(struct ring *r)
{
	uint32_t e;

	while ((e = next(r)) != N)
		complete(r, e, 0);
}

static void use(struct ring *r, uint32_t extent)
{
	while (acquire(r, extent) != WEIR_ACQUIRE_READY)
		read_all(r);
	release(r, extent);
}

static void reads_ahead_in_order_up_to_depth(void **state)
{
	struct ring *r = ring_new(10, 6, 3);

	assert_int_equal(next(r), 0);
	assert_int_equal(next(r), 1);
	assert_int_equal(next(r), 2);
	assert_int_equal(next(r), N);
	complete(r, 1, 0); /* out of order */
	assert_int_equal(next(r), 3);
	assert_int_equal(next(r), N);
	complete(r, 0, 0);
	complete(r, 2, 0);
	assert_int_equal(next(r), 4);
	assert_int_equal(next(r), 5);
	/* all slots hold what is to come: no more until a release */
	complete(r, 3, 0);
	complete(r, 4, 0);
	complete(r, 5, 0);
	assert_int_equal(next(r), N);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	assert_int_equal(next(r), N);
	release(r, 0);
	assert_int_equal(next(r), 6);
	assert_int_equal(r->extent[0].slot, N);
	assert_int_equal(next(r), N);
	free(r);
}

static void wraps_from_last_to_first(void **state)
{
	struct ring *r = ring_new(4, 3, 8);

	assert_int_equal(next(r), 0);
	assert_int_equal(next(r), 1);
	assert_int_equal(next(r), 2);
	complete(r, 0, 0);
	complete(r, 1, 0);
	complete(r, 2, 0);
	use(r, 0);
	assert_int_equal(next(r), 3);
	use(r, 1);
	assert_int_equal(next(r), 0); /* of the next pass, before this one is over */
	use(r, 2);
	assert_int_equal(next(r), 1);
	free(r);
}

static void counts_hits_late_and_misses_once(void **state)
{
	struct ring *r = ring_new(8, 4, 2);

	assert_int_equal(next(r), 0);
	assert_int_equal(next(r), 1);
	complete(r, 0, 0);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	for (int i = 0; i < 3; i++)
		assert_int_equal(acquire(r, 1), WEIR_ACQUIRE_WAIT);
	complete(r, 1, 0);
	assert_int_equal(acquire(r, 1), WEIR_ACQUIRE_READY);
	for (int i = 0; i < 3; i++)
		assert_int_equal(acquire(r, 5), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 5);
	complete(r, 5, 0);
	assert_int_equal(acquire(r, 5), WEIR_ACQUIRE_READY);
	assert_int_equal(r->s.stats.hits, 1);
	assert_int_equal(r->s.stats.late, 1);
	assert_int_equal(r->s.stats.misses, 1);
	assert_int_equal(r->s.stats.reads, 3);
	free(r);
}

static void demand_goes_first_and_moves_the_cursor(void **state)
{
	struct ring *r = ring_new(100, 8, 2);

	assert_int_equal(next(r), 0);
	assert_int_equal(next(r), 1);
	assert_int_equal(acquire(r, 50), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 50); /* beyond the depth by one */
	assert_int_equal(r->s.in_flight, 3);
	assert_int_equal(next(r), N);
	assert_int_equal(acquire(r, 60), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), N); /* by one, not by two */
	complete(r, 0, 0);
	assert_int_equal(next(r), 60);
	complete(r, 50, 0);
	complete(r, 1, 0);
	assert_int_equal(next(r), 61);
	free(r);
}

static void demand_may_evict_what_was_read_ahead_the_farthest_first(void **state)
{
	struct ring *r = ring_new(100, 4, 8);

	read_all(r);
	assert_int_equal(r->extent[3].slot != N, 1);
	assert_int_equal(acquire(r, 50), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 50);
	assert_int_equal(r->extent[3].slot, N);
	assert_int_equal(r->s.stats.evicted, 1);
	/* a demand says where the consumer is: reading goes on there, over the rest */
	assert_int_equal(next(r), 51);
	assert_int_equal(next(r), 52);
	assert_int_equal(next(r), 53);
	assert_int_equal(r->extent[0].slot, N);
	assert_int_equal(next(r), N);
	free(r);
}

static void a_late_demand_evicts_the_farthest_of_what_came_meanwhile(void **state)
{
	struct ring *r = ring_new(100, 3, 8);

	for (uint32_t e = 0; e < 3; e++)
		assert_int_equal(next(r), e);
	assert_int_equal(acquire(r, 50), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), N);
	complete(r, 1, 0);
	complete(r, 2, 0);
	assert_int_equal(next(r), 50);
	assert_int_equal(r->extent[1].slot != N, 1);
	assert_int_equal(r->extent[2].slot, N);
	free(r);
}

static void what_is_held_ahead_of_a_demand_is_kept(void **state)
{
	struct ring *r = ring_new(100, 6, 8);

	/* 10 is needed before 11..14, which are here already */
	assert_int_equal(acquire(r, 11), WEIR_ACQUIRE_WAIT);
	read_all(r);
	assert_int_equal(acquire(r, 10), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 10);
	assert_int_equal(next(r), N); /* 11 and on are protected again */
	complete(r, 10, 0);
	for (uint32_t e = 10; e < 16; e++) {
		assert_int_equal(acquire(r, e), WEIR_ACQUIRE_READY);
		release(r, e);
		read_all(r);
	}
	assert_int_equal(r->s.stats.evicted, 1); /* 16, for 10 */
	assert_int_equal(r->s.stats.misses, 2);
	free(r);
}

static void acquired_slots_are_never_refilled(void **state)
{
	struct ring *r = ring_new(10, 3, 8);

	read_all(r);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY); /* twice */
	assert_int_equal(acquire(r, 1), WEIR_ACQUIRE_READY);
	assert_int_equal(acquire(r, 2), WEIR_ACQUIRE_READY);
	assert_int_equal(acquire(r, 7), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), N);
	release(r, 0);
	assert_int_equal(next(r), N); /* one user is left */
	release(r, 0);
	assert_int_equal(next(r), 7);
	release(r, 0); /* once too often: nowhere now, nothing happens */
	release(r, 3);
	assert_int_equal(next(r), N);
	free(r);
}

static void released_extents_stay_until_their_slot_is_needed(void **state)
{
	struct ring *r = ring_new(10, 4, 1);

	assert_int_equal(next(r), 0);
	complete(r, 0, 0);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	release(r, 0);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	release(r, 0);
	assert_int_equal(r->s.stats.reads, 1);
	/* free slots go first, then what was released the longest ago */
	for (uint32_t e = 1; e < 4; e++) {
		assert_int_equal(next(r), e);
		complete(r, e, 0);
	}
	assert_int_equal(r->extent[0].slot != N, 1);
	use(r, 1);
	assert_int_equal(r->extent[0].slot != N, 1);
	assert_int_equal(next(r), 4);
	assert_int_equal(r->extent[0].slot, N);
	assert_int_equal(r->extent[1].slot != N, 1);
	free(r);
}

static void an_error_is_told_once_and_then_retried(void **state)
{
	struct ring *r = ring_new(10, 4, 2);
	uint32_t slot;
	weir_s32 error = 0;

	assert_int_equal(next(r), 0);
	complete(r, 0, -EIO);
	assert_int_equal(weir_sched_acquire(&r->s, 0, &slot, &error), WEIR_ACQUIRE_ERROR);
	assert_int_equal(error, -EIO);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 0);
	complete(r, 0, 0);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	free(r);
}

static void an_error_waits_for_its_consumer(void **state)
{
	struct ring *r = ring_new(10, 4, 8);
	uint32_t slot;
	weir_s32 error = 0;

	for (uint32_t e = 0; e < 4; e++)
		assert_int_equal(next(r), e);
	complete(r, 0, 0);
	complete(r, 1, 0);
	complete(r, 2, -ENODEV);
	complete(r, 3, 0);
	use(r, 0);
	use(r, 1);
	assert_int_equal(weir_sched_acquire(&r->s, 2, &slot, &error), WEIR_ACQUIRE_ERROR);
	assert_int_equal(error, -ENODEV);
	/* told: its slot is used again before those of 0 and 1 */
	assert_int_equal(next(r), 4);
	assert_int_equal(r->extent[2].slot, N);
	assert_int_equal(r->extent[0].slot != N, 1);
	assert_int_equal(acquire(r, 3), WEIR_ACQUIRE_READY);
	free(r);
}

static void release_forgets_an_error(void **state)
{
	struct ring *r = ring_new(10, 4, 2);

	assert_int_equal(next(r), 0);
	complete(r, 0, -EIO);
	release(r, 0);
	assert_int_equal(r->extent[0].slot, N);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 0);
	free(r);
}

static void two_who_wait_both_get_what_they_waited_for(void **state)
{
	struct ring *r = ring_new(100, 2, 1);

	/* no room but for these two; each completion is followed by the other's demand */
	assert_int_equal(acquire(r, 10), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 10);
	assert_int_equal(acquire(r, 20), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 20);
	complete(r, 10, 0);
	assert_int_equal(next(r), N);
	complete(r, 20, 0);
	assert_int_equal(next(r), N);
	assert_int_equal(acquire(r, 10), WEIR_ACQUIRE_READY);
	assert_int_equal(acquire(r, 20), WEIR_ACQUIRE_READY);
	free(r);
}

static void depth_may_change_at_any_time(void **state)
{
	struct ring *r = ring_new(100, 16, 8);

	for (uint32_t e = 0; e < 8; e++)
		assert_int_equal(next(r), e);
	weir_sched_set_depth(&r->s, 2);
	for (uint32_t e = 0; e < 7; e++) {
		assert_int_equal(next(r), N);
		complete(r, e, 0);
	}
	assert_int_equal(next(r), 8);
	assert_int_equal(next(r), N);
	weir_sched_set_depth(&r->s, 0); /* 1 is the least */
	complete(r, 7, 0);
	assert_int_equal(next(r), N);
	complete(r, 8, 0);
	assert_int_equal(next(r), 9);
	free(r);
}

/* Passes in order, @held extents acquired at once; returns the reads of the last pass. */
static uint64_t reads_of_a_pass(struct ring *r, uint32_t held, int passes)
{
	uint64_t before = 0;

	for (int pass = 0; pass < passes; pass++) {
		before = r->s.stats.reads;
		for (uint32_t e = 0; e < r->s.n_extent;) {
			uint32_t first = e;

			for (; e < r->s.n_extent && e < first + held; e++)
				while (acquire(r, e) != WEIR_ACQUIRE_READY)
					read_all(r);
			while (first < e)
				release(r, first++);
			read_all(r);
		}
	}
	return r->s.stats.reads - before;
}

static void each_pass_reads_each_extent_once(void **state)
{
	static const uint32_t extents[] = {2, 3, 7, 50};

	for (size_t i = 0; i < ARRAY_SIZE(extents); i++) {
		for (uint32_t slots = 1; slots < 60; slots++) {
			for (uint32_t depth = 1; depth < 10; depth += 4) {
				uint32_t n = extents[i], held = 1 + depth % slots;
				struct ring *r = ring_new(n, slots, depth);
				uint64_t reads = reads_of_a_pass(r, MIN(held, slots), 3);

				assert_int_equal(reads, slots < n ? n : 0);
				assert_int_equal(r->s.stats.evicted, 0);
				if (slots >= n)
					assert_int_equal(r->s.stats.reads, n);
				free(r);
			}
		}
	}
}

/* One slot: every read is waited for, and it works. */
static void one_slot_is_enough(void **state)
{
	struct ring *r = ring_new(5, 1, 4);

	assert_int_equal(reads_of_a_pass(r, 1, 3), 5);
	assert_int_equal(r->s.stats.late + r->s.stats.misses + r->s.stats.hits, 15);
	free(r);
}

/* ---- what is not a plain cyclic order ---- */

static void a_schedule_goes_round_by_itself(void **state)
{
	const weir_u32 order[] = {5, 1, 3};
	struct ring *r = ring_new(8, 2, 1);

	weir_sched_schedule(&r->s, order, 3);
	assert_int_equal(weir_sched_check(&r->s), 0);
	for (int i = 0; i < 9; i++) {
		assert_int_equal(next(r), order[i % 3]);
		complete(r, order[i % 3], 0);
		use(r, order[i % 3]);
	}
	/* One that is in no schedule is read for whoever asks, and moves nothing. */
	assert_int_equal(acquire(r, 7), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 7);
	complete(r, 7, 0);
	assert_int_equal(r->s.fetch, 5);
	weir_sched_schedule(&r->s, NULL, 0);
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(next(r), N);
	free(r);
}

static void an_extent_joins_the_schedule_once(void **state)
{
	const weir_u32 order[] = {0, 2};
	struct ring *r = ring_new(4, 2, 1);

	weir_sched_schedule(&r->s, order, 2);
	/* held, and then part of the order */
	assert_int_equal(acquire(r, 1), WEIR_ACQUIRE_WAIT);
	assert_int_equal(next(r), 1);
	complete(r, 1, 0);
	for (int i = 0; i < 2; i++) {
		weir_sched_insert(&r->s, 1, 0);
		assert_int_equal(weir_sched_check(&r->s), 0);
		assert_int_equal(r->s.n_cycle, 3);
	}
	assert_int_equal(r->extent[0].next, 1);
	assert_int_equal(r->extent[1].next, 2);
	/* a pass over an order of three, through two slots */
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t e = 0; e < 3; e++)
			use(r, e);
	weir_sched_schedule(&r->s, NULL, 0);
	weir_sched_insert(&r->s, 3, N);
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(r->s.fetch, 3);
	free(r);
}

static void a_slot_can_go_and_come_back(void **state)
{
	struct ring *r = ring_new(8, 3, 8);
	weir_u32 slot[3];

	read_all(r);
	assert_int_equal(acquire(r, 0), WEIR_ACQUIRE_READY);
	/* The farthest first, and never what is acquired. */
	assert_int_equal(weir_sched_retire(&r->s, &slot[0]), 1);
	assert_int_equal(r->extent[2].slot, N);
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(weir_sched_retire(&r->s, &slot[1]), 1);
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(weir_sched_retire(&r->s, &slot[2]), 0);
	assert_int_equal(next(r), N);
	release(r, 0);
	use(r, 1);
	weir_sched_restore(&r->s, slot[0]);
	weir_sched_restore(&r->s, slot[0]);
	assert_int_equal(weir_sched_check(&r->s), 0);
	assert_int_equal(reads_of_a_pass(r, 1, 3), 8);
	free(r);
}

static void hints_go_by_priority_and_then_in_order(void **state)
{
	const weir_u32 order[] = {0, 1};
	struct ring *r = ring_new(8, 4, 1);

	weir_sched_schedule(&r->s, order, 2);
	weir_sched_hint(&r->s, 5, 1);
	weir_sched_hint(&r->s, 4, 1);
	weir_sched_hint(&r->s, 7, 3);
	weir_sched_hint(&r->s, 5, 3); /* it waits for its turn already */
	assert_int_equal(next(r), 7);
	complete(r, 7, 0);
	assert_int_equal(weir_sched_wants(&r->s), 1);
	assert_int_equal(next(r), 5);
	complete(r, 5, 0);
	assert_int_equal(next(r), 4);
	complete(r, 4, 0);
	assert_int_equal(next(r), 0);
	complete(r, 0, 0);
	/* No room: what is left is wanted. */
	assert_int_equal(next(r), N);
	assert_int_equal(weir_sched_wants(&r->s), 1);
	use(r, 7);
	assert_int_equal(next(r), 1);
	complete(r, 1, 0);
	assert_int_equal(next(r), N);
	assert_int_equal(weir_sched_wants(&r->s), 0);
	weir_sched_hint(&r->s, 6, 0);
	assert_int_equal(weir_sched_wants(&r->s), 1);
	free(r);
}

/*
 * The trace of a dense model: W blocks, over and over. A least-recently-used cache of the same
 * size hits nothing; pinning D of them and streaming the rest hits D of W.
 */
static void a_pinned_part_hits_and_lru_does_not(void **state)
{
	enum { W = 64, D = 24, SLOTS = 8, PASSES = 20 };
	uint64_t when[W] = {0}, clock = 0, lru_hits = 0, pinned_hits = 0, all = 0;
	uint32_t lru_held = 0;
	struct ring *r = ring_new(W - D, SLOTS, 4);

	for (int i = 0; i < PASSES * W; i++) {
		uint32_t block = (uint32_t)i % W, oldest = W;

		/* LRU with as much DRAM: D + SLOTS blocks */
		clock++;
		if (when[block]) {
			lru_hits++;
		} else if (++lru_held > D + SLOTS) {
			for (uint32_t b = 0; b < W; b++)
				if (when[b] && (oldest == W || when[b] < when[oldest]))
					oldest = b;
			when[oldest] = 0;
			lru_held--;
		}
		when[block] = clock;

		/* the plan pins D of W, evenly spread; the policy streams the others */
		all++;
		if ((block + 1) * D / W > block * D / W)
			pinned_hits++;
		else
			use(r, block - block * D / W);
	}
	assert_int_equal(lru_hits, 0);
	assert_int_equal(pinned_hits * W, all * D);
	/* what missed was read, once each time, and nothing besides but the last ring's worth */
	assert_in_range(r->s.stats.reads, all - pinned_hits, all - pinned_hits + SLOTS);
	free(r);
}

static uint64_t random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* 100 000 random steps beside a naive model of the policy, in rings of many shapes. */
static void random_walks_agree_with_the_model(void **state)
{
	struct sched_model *m = malloc(sizeof(*m));
	uint64_t seed;

	assert_non_null(m);
	for (seed = 1; seed <= 100; seed++) {
		uint64_t x = seed * 0x9e3779b97f4a7c15ull;
		uint32_t n_extent =
			1 + (uint32_t)random_next(&x) % (seed % 10 ? 24 : MODEL_MAX_EXTENT);
		uint32_t n_slot = 1 + (uint32_t)random_next(&x) % (seed % 10 ? 12 : MODEL_MAX_SLOT);

		sched_model_init(m, n_extent, n_slot, 1 + (uint32_t)random_next(&x) % 8);
		for (int i = 0; i < 1000 && !m->fail; i++)
			sched_model_step(m, (uint16_t)(random_next(&x) >> 20));
		sched_model_settle(m);
		if (m->fail)
			fail_msg("seed %llu: sched_model.h:%d", (unsigned long long)seed, m->fail);
	}
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_ahead_in_order_up_to_depth),
		cmocka_unit_test(wraps_from_last_to_first),
		cmocka_unit_test(counts_hits_late_and_misses_once),
		cmocka_unit_test(demand_goes_first_and_moves_the_cursor),
		cmocka_unit_test(demand_may_evict_what_was_read_ahead_the_farthest_first),
		cmocka_unit_test(a_late_demand_evicts_the_farthest_of_what_came_meanwhile),
		cmocka_unit_test(what_is_held_ahead_of_a_demand_is_kept),
		cmocka_unit_test(acquired_slots_are_never_refilled),
		cmocka_unit_test(released_extents_stay_until_their_slot_is_needed),
		cmocka_unit_test(an_error_is_told_once_and_then_retried),
		cmocka_unit_test(an_error_waits_for_its_consumer),
		cmocka_unit_test(release_forgets_an_error),
		cmocka_unit_test(two_who_wait_both_get_what_they_waited_for),
		cmocka_unit_test(depth_may_change_at_any_time),
		cmocka_unit_test(each_pass_reads_each_extent_once),
		cmocka_unit_test(one_slot_is_enough),
		cmocka_unit_test(a_schedule_goes_round_by_itself),
		cmocka_unit_test(an_extent_joins_the_schedule_once),
		cmocka_unit_test(a_slot_can_go_and_come_back),
		cmocka_unit_test(hints_go_by_priority_and_then_in_order),
		cmocka_unit_test(a_pinned_part_hits_and_lru_does_not),
		cmocka_unit_test(random_walks_agree_with_the_model),
	};

	return cmocka_run_group_tests_name("streaming policy", tests, NULL, NULL);
}
