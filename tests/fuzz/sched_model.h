/* SPDX-License-Identifier: MIT */
/*
 * A second, naive account of the streaming policy, run beside the real one.
 *
 * The model keeps one word per slot and scans everything at every step: it is slow and plain
 * where weir_sched.c is quick. After each step both must agree on what is where, on every
 * result and on every counter. The fuzzer and the random walk of the unit test drive it.
 *
 * A disagreement is reported through m->fail: the line in this file, 0 while all is well.
 */
#ifndef WEIR_TESTS_SCHED_MODEL_H
#define WEIR_TESTS_SCHED_MODEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kmod/weir_sched.h"

#define MODEL_MAX_EXTENT 512
#define MODEL_MAX_SLOT	 64
#define NOWHERE		 0xffffffffu

/* Why a slot that is READY or ERROR and not acquired is kept, least worthy first. */
enum keep { KEEP_OLD, KEEP_STALE, KEEP_FRESH, KEEP_WANTED };

struct model_slot {
	uint32_t extent; /* NOWHERE: free */
	bool filling, used, told;
	int error;
	uint32_t users;
	enum keep keep;
};

struct sched_model {
	struct weir_sched s; /* under test */
	struct weir_sched_extent extent[MODEL_MAX_EXTENT];
	struct weir_sched_slot slot[MODEL_MAX_SLOT];

	struct model_slot m[MODEL_MAX_SLOT];
	bool waited[MODEL_MAX_EXTENT];
	uint32_t n_extent, n_slot, depth, in_flight, fetch, demand;
	uint32_t next; /* what a pass in order acquires next */
	uint64_t reads, hits, late, misses, evicted;
	int fail;
};

#define EXPECT(x)                                                                                  \
	do {                                                                                       \
		if (!(x) && !m->fail)                                                              \
			m->fail = __LINE__;                                                        \
	} while (0)

static inline void sched_model_init(struct sched_model *m, uint32_t n_extent, uint32_t n_slot,
				    uint32_t depth)
{
	memset(m, 0, sizeof(*m));
	/* rubbish that init must not depend on */
	memset(m->extent, 0xa5, sizeof(m->extent));
	memset(m->slot, 0xa5, sizeof(m->slot));
	m->n_extent = n_extent;
	m->n_slot = n_slot;
	m->depth = depth;
	m->demand = NOWHERE;
	for (uint32_t i = 0; i < n_slot; i++)
		m->m[i].extent = NOWHERE;
	weir_sched_init(&m->s, m->extent, n_extent, m->slot, n_slot, depth);
}

static inline uint32_t model_where(const struct sched_model *m, uint32_t extent)
{
	for (uint32_t i = 0; i < m->n_slot; i++)
		if (m->m[i].extent == extent)
			return i;
	return NOWHERE;
}

/* The real policy and the model hold the same extents in the same slots in the same states. */
static inline void model_compare(struct sched_model *m)
{
	EXPECT(weir_sched_check(&m->s) == 0);
	EXPECT(m->s.in_flight == m->in_flight);
	EXPECT(m->s.demand == m->demand);
	for (uint32_t i = 0; i < m->n_slot; i++) {
		const struct model_slot *a = &m->m[i];
		const struct weir_sched_slot *b = &m->slot[i];

		EXPECT(a->extent == b->extent);
		EXPECT(a->users == b->users);
		if (a->extent == NOWHERE)
			EXPECT(b->state == WEIR_SLOT_FREE);
		else if (a->filling)
			EXPECT(b->state == WEIR_SLOT_FILLING);
		else if (a->error)
			EXPECT(b->state == WEIR_SLOT_ERROR && b->error == a->error);
		else
			EXPECT(b->state == WEIR_SLOT_READY);
	}
	EXPECT(m->s.stats.reads == m->reads);
	EXPECT(m->s.stats.hits == m->hits);
	EXPECT(m->s.stats.late == m->late);
	EXPECT(m->s.stats.misses == m->misses);
	EXPECT(m->s.stats.evicted == m->evicted);
}

static inline bool model_may_evict(const struct model_slot *sl, bool demand)
{
	if (sl->extent == NOWHERE)
		return true;
	if (sl->filling || sl->users)
		return false;
	return demand || sl->keep <= KEEP_STALE;
}

/* What may be thrown away for a read; false where nothing may. */
static inline bool model_room(const struct sched_model *m, bool demand, enum keep *worth)
{
	bool any = false, free = false;

	*worth = KEEP_WANTED;
	for (uint32_t i = 0; i < m->n_slot; i++) {
		if (!model_may_evict(&m->m[i], demand))
			continue;
		any = true;
		if (m->m[i].extent == NOWHERE)
			free = true;
		else if (m->m[i].keep < *worth)
			*worth = m->m[i].keep;
	}
	if (free)
		*worth = KEEP_OLD;
	return any;
}

/* Asks for one read. Returns true where one was given. */
static inline bool sched_model_next(struct sched_model *m)
{
	uint32_t extent = 12345, slot = 12345, want = NOWHERE;
	bool demand = m->demand != NOWHERE, room;
	enum keep worth;
	bool allowed = demand ? m->in_flight <= m->depth : m->in_flight < m->depth;

	/* the first extent from `fetch` on that is nowhere */
	if (allowed && demand) {
		want = m->demand;
	} else if (allowed) {
		for (uint32_t i = 0; i < m->n_extent && want == NOWHERE; i++) {
			uint32_t e = (m->fetch + i) % m->n_extent;

			if (model_where(m, e) == NOWHERE)
				want = e;
		}
		for (; want != NOWHERE && m->fetch != want;
		     m->fetch = (m->fetch + 1) % m->n_extent) {
			struct model_slot *sl = &m->m[model_where(m, m->fetch)];

			if (!sl->filling && !sl->users && !m->waited[m->fetch])
				sl->keep = KEEP_FRESH;
		}
	}
	room = model_room(m, demand, &worth);
	if (!weir_sched_next(&m->s, &extent, &slot)) {
		EXPECT(want == NOWHERE || !room);
		model_compare(m);
		return false;
	}
	EXPECT(want != NOWHERE && room);
	EXPECT(extent == want && slot < m->n_slot);
	if (m->fail)
		return false;
	EXPECT(model_may_evict(&m->m[slot], demand));
	if (m->m[slot].extent != NOWHERE) {
		EXPECT(m->m[slot].keep == worth);
		if (!m->m[slot].used && !m->m[slot].error)
			m->evicted++;
		m->waited[m->m[slot].extent] = false;
	}
	m->m[slot] = (struct model_slot){.extent = extent, .filling = true};
	if (demand)
		m->demand = NOWHERE;
	else
		m->fetch = (extent + 1) % m->n_extent;
	m->in_flight++;
	m->reads++;
	model_compare(m);
	return true;
}

/* Ends the read of the n-th FILLING slot, counted from 0 and round. False where none is. */
static inline bool sched_model_complete(struct sched_model *m, uint32_t n, int error)
{
	if (!m->in_flight)
		return false;
	n %= m->in_flight;
	for (uint32_t i = 0; i < m->n_slot; i++) {
		struct model_slot *sl = &m->m[i];

		if (!sl->filling || n--)
			continue;
		sl->filling = false;
		sl->error = error;
		sl->keep = m->waited[sl->extent] ? KEEP_WANTED : KEEP_FRESH;
		m->in_flight--;
		weir_sched_complete(&m->s, i, error);
		weir_sched_complete(&m->s, i, -EINVAL); /* once too often: left alone */
		break;
	}
	model_compare(m);
	return true;
}

static inline void model_demand(struct sched_model *m, uint32_t extent)
{
	if (!m->waited[extent])
		m->misses++;
	m->waited[extent] = true;
	if (m->demand == extent)
		return;
	m->demand = extent;
	m->next = extent;
	m->fetch = (extent + 1) % m->n_extent;
	for (uint32_t i = 0; i < m->n_slot; i++)
		if (m->m[i].extent != NOWHERE && !m->m[i].filling && !m->m[i].users &&
		    m->m[i].keep == KEEP_FRESH)
			m->m[i].keep = KEEP_STALE;
}

static inline enum weir_acquire sched_model_acquire(struct sched_model *m, uint32_t extent)
{
	uint32_t at = model_where(m, extent), slot = 12345;
	struct model_slot *sl = at == NOWHERE ? NULL : &m->m[at];
	enum weir_acquire expect, got;
	weir_s32 error = 0;

	if (sl && !sl->filling && sl->error && sl->told) {
		*sl = (struct model_slot){.extent = NOWHERE};
		m->waited[extent] = false;
		sl = NULL;
	}
	if (!sl) {
		model_demand(m, extent);
		expect = WEIR_ACQUIRE_WAIT;
	} else if (sl->filling) {
		m->late += !m->waited[extent];
		m->waited[extent] = true;
		expect = WEIR_ACQUIRE_WAIT;
	} else if (sl->error) {
		m->waited[extent] = false;
		sl->told = true;
		sl->keep = KEEP_OLD;
		expect = WEIR_ACQUIRE_ERROR;
	} else {
		m->hits += !m->waited[extent];
		m->waited[extent] = false;
		sl->used = true;
		sl->users++;
		m->next = extent + 1 < m->n_extent ? extent + 1 : 0;
		expect = WEIR_ACQUIRE_READY;
	}
	got = weir_sched_acquire(&m->s, extent, &slot, &error);
	EXPECT(got == expect);
	if (got == WEIR_ACQUIRE_READY)
		EXPECT(slot == at);
	if (got == WEIR_ACQUIRE_ERROR)
		EXPECT(sl && error == sl->error);
	model_compare(m);
	return got;
}

/* Any extent, acquired or not. */
static inline void sched_model_release(struct sched_model *m, uint32_t extent)
{
	uint32_t at = model_where(m, extent);
	struct model_slot *sl = at == NOWHERE ? NULL : &m->m[at];

	if (sl && !sl->filling && sl->error) {
		*sl = (struct model_slot){.extent = NOWHERE};
		m->waited[extent] = false;
	} else if (sl && sl->users && --sl->users == 0) {
		sl->keep = KEEP_OLD;
	}
	weir_sched_release(&m->s, extent);
	model_compare(m);
}

static inline void sched_model_depth(struct sched_model *m, uint32_t depth)
{
	m->depth = depth ? depth : 1;
	weir_sched_set_depth(&m->s, depth);
	model_compare(m);
}

/* One step out of 16 random bits: 4 say what, 12 with whom. */
static inline void sched_model_step(struct sched_model *m, uint16_t bits)
{
	uint32_t what = bits & 15, who = bits >> 4;

	switch (what) {
	case 0 ... 3:
		sched_model_next(m);
		break;
	case 4 ... 6:
		sched_model_complete(m, who, 0);
		break;
	case 7:
		sched_model_complete(m, who, -(int)(who % 100) - 1);
		break;
	case 8 ... 10: /* in order */
		sched_model_acquire(m, m->next);
		break;
	case 11:
		sched_model_acquire(m, who % m->n_extent);
		break;
	case 12 ... 13: /* what was acquired a few extents ago */
		sched_model_release(m, (m->next + m->n_extent - 1 - who % m->n_extent % 4) %
					       m->n_extent);
		break;
	case 14:
		sched_model_release(m, who % m->n_extent);
		break;
	default:
		sched_model_depth(m, who % 9);
	}
}

/*
 * From whatever state: ends all reads, gives everything back, then makes four passes in order
 * with nothing else in the way. Expects that this comes to an end, and that the last pass, from
 * one idle moment to the next, reads each extent once, or nothing where all fit.
 */
static inline void sched_model_settle(struct sched_model *m)
{
	uint64_t before = 0;

	while (m->in_flight && !m->fail)
		sched_model_complete(m, 0, 0);
	for (uint32_t i = 0; i < m->n_slot && !m->fail; i++)
		while (m->m[i].users && !m->fail)
			sched_model_release(m, m->m[i].extent);
	for (int pass = 0; pass < 4 && !m->fail; pass++) {
		if (pass == 3)
			before = m->reads;
		for (uint32_t e = 0; e < m->n_extent && !m->fail; e++) {
			int patience = 4 * (int)m->n_slot + 8;

			while (sched_model_acquire(m, e) != WEIR_ACQUIRE_READY && !m->fail) {
				while (sched_model_next(m))
					;
				sched_model_complete(m, 0, 0);
				EXPECT(patience-- > 0);
			}
			sched_model_release(m, e);
			while (sched_model_next(m))
				;
		}
		do {
			while (sched_model_next(m))
				;
		} while (sched_model_complete(m, 0, 0) && !m->fail);
	}
	if (m->n_slot >= m->n_extent)
		EXPECT(m->reads == before);
	else
		EXPECT(m->reads - before == m->n_extent);
}

#endif
