// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The streaming policy. Words and promises are in weir_sched.h.
 *
 * How it decides
 *	Reads run ahead of the consumer in the order of the schedule, from `fetch`, and wrap
 *	from the last extent to the first. A read takes a slot from the first list that has
 *	one: free, then `old`, the longest released first. In a cyclic schedule that is the
 *	extent just behind the consumer's tail of the ring, so that each is read once a pass,
 *	and nothing that lies ahead is thrown away: when all slots hold what is still to come,
 *	reading waits for a release.
 *
 *	An acquire of an extent that is nowhere is a demand. It goes first, may exceed the depth
 *	by one, and may throw away what was read ahead, the farthest first. It also says that
 *	the consumer is not where the policy believed it to be: `fetch` goes on behind the
 *	demand, and what was read ahead becomes `stale`, which later reads may replace. When
 *	`fetch` comes by an extent that is held already, it is not read again, and is protected
 *	again as `fresh`.
 *
 * Cost: every call is O(1) but for the walk of `fetch` over extents that are held. That walk
 * visits nothing in a cyclic pass with n_slot < n_extent, at most n_slot extents after a demand
 * and at most n_extent once where everything fits.
 */
#include "weir_sched.h"

enum extent_flag {
	/* An acquire returned WAIT and none has succeeded since: polling counts once. */
	EXTENT_WAITED = 1,
	/* Acquired since it was read. */
	EXTENT_USED = 2,
	/* Its error has been reported: the next acquire reads it again. */
	EXTENT_TOLD = 4,
};

/* ---- lists ---- */

static void link_init(struct weir_sched_link *l)
{
	l->prev = l;
	l->next = l;
}

static int link_empty(const struct weir_sched_link *head)
{
	return head->next == head;
}

static void link_del(struct weir_sched_link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

static void link_add_tail(struct weir_sched_link *head, struct weir_sched_link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static void link_add_head(struct weir_sched_link *head, struct weir_sched_link *l)
{
	link_add_tail(head->next, l);
}

/* All of @from goes to the end of @to. */
static void link_splice_tail(struct weir_sched_link *from, struct weir_sched_link *to)
{
	if (link_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	link_init(from);
}

static struct weir_sched_slot *slot_of(struct weir_sched_link *l)
{
	return (struct weir_sched_slot *)l;
}

/* ---- slots ---- */

static weir_u32 successor(const struct weir_sched *s, weir_u32 extent)
{
	return extent + 1 < s->n_extent ? extent + 1 : 0;
}

/* Forgets what a slot holds; it is on no list afterwards. */
static void slot_clear(struct weir_sched *s, struct weir_sched_slot *sl)
{
	struct weir_sched_extent *e;

	link_del(&sl->link);
	if (sl->state == WEIR_SLOT_FREE)
		return;
	e = &s->extent[sl->extent];
	if (sl->state == WEIR_SLOT_READY && !(e->flags & EXTENT_USED))
		s->stats.evicted++;
	e->slot = WEIR_SCHED_NONE;
	e->flags = 0;
	s->n_held--;
	sl->extent = WEIR_SCHED_NONE;
	sl->state = WEIR_SLOT_FREE;
	sl->error = 0;
}

static void slot_free(struct weir_sched *s, struct weir_sched_slot *sl)
{
	slot_clear(s, sl);
	link_add_tail(&s->free, &sl->link);
}

static void slot_fill(struct weir_sched *s, struct weir_sched_slot *sl, weir_u32 extent)
{
	slot_clear(s, sl);
	sl->extent = extent;
	sl->state = WEIR_SLOT_FILLING;
	s->extent[extent].slot = (weir_u32)(sl - s->slot);
	s->n_held++;
	s->in_flight++;
	s->stats.reads++;
	if (s->demand == extent)
		s->demand = WEIR_SCHED_NONE;
}

/* A slot for a read, or NULL. See the order of the lists in weir_sched.h. */
static struct weir_sched_slot *slot_find(struct weir_sched *s, int for_demand)
{
	if (!link_empty(&s->free))
		return slot_of(s->free.next);
	if (!link_empty(&s->old))
		return slot_of(s->old.next);
	if (!link_empty(&s->stale))
		return slot_of(s->stale.prev);
	if (for_demand && !link_empty(&s->fresh))
		return slot_of(s->fresh.prev);
	if (for_demand && !link_empty(&s->wanted))
		return slot_of(s->wanted.prev);
	return (struct weir_sched_slot *)0;
}

/* ---- the policy ---- */

void weir_sched_init(struct weir_sched *s, struct weir_sched_extent *extent, weir_u32 n_extent,
		     struct weir_sched_slot *slot, weir_u32 n_slot, weir_u32 depth)
{
	weir_u32 i;

	*s = (struct weir_sched){
		.n_extent = n_extent,
		.n_slot = n_slot,
		.extent = extent,
		.slot = slot,
		.demand = WEIR_SCHED_NONE,
	};
	link_init(&s->free);
	link_init(&s->old);
	link_init(&s->stale);
	link_init(&s->fresh);
	link_init(&s->wanted);
	for (i = 0; i < n_extent; i++)
		extent[i] = (struct weir_sched_extent){.slot = WEIR_SCHED_NONE};
	for (i = 0; i < n_slot; i++) {
		slot[i] = (struct weir_sched_slot){.extent = WEIR_SCHED_NONE};
		link_add_tail(&s->free, &slot[i].link);
	}
	weir_sched_set_depth(s, depth);
}

void weir_sched_set_depth(struct weir_sched *s, weir_u32 depth)
{
	s->depth = depth ? depth : 1;
}

/* Moves `fetch` to an extent that is nowhere; there is one. */
static void fetch_skip_held(struct weir_sched *s)
{
	while (s->extent[s->fetch].slot != WEIR_SCHED_NONE) {
		struct weir_sched_slot *sl = &s->slot[s->extent[s->fetch].slot];
		int waited = s->extent[s->fetch].flags & EXTENT_WAITED;

		if (!link_empty(&sl->link) && !waited) {
			link_del(&sl->link);
			link_add_tail(&s->fresh, &sl->link);
		}
		s->fetch = successor(s, s->fetch);
	}
}

int weir_sched_next(struct weir_sched *s, weir_u32 *extent, weir_u32 *slot)
{
	struct weir_sched_slot *sl;

	if (s->demand != WEIR_SCHED_NONE) {
		if (s->in_flight > s->depth)
			return 0;
		*extent = s->demand;
		sl = slot_find(s, 1);
	} else {
		if (s->in_flight >= s->depth || s->n_held == s->n_extent)
			return 0;
		fetch_skip_held(s);
		*extent = s->fetch;
		sl = slot_find(s, 0);
		if (sl)
			s->fetch = successor(s, s->fetch);
	}
	if (!sl)
		return 0;
	slot_fill(s, sl, *extent);
	*slot = (weir_u32)(sl - s->slot);
	return 1;
}

void weir_sched_complete(struct weir_sched *s, weir_u32 slot, weir_s32 error)
{
	struct weir_sched_slot *sl = &s->slot[slot];
	int waited;

	if (sl->state != WEIR_SLOT_FILLING)
		return;
	waited = s->extent[sl->extent].flags & EXTENT_WAITED;
	s->in_flight--;
	sl->state = error ? WEIR_SLOT_ERROR : WEIR_SLOT_READY;
	sl->error = error;
	link_add_tail(waited ? &s->wanted : &s->fresh, &sl->link);
}

/* Somebody waits for an extent that is nowhere. */
static enum weir_acquire demand(struct weir_sched *s, weir_u32 extent)
{
	struct weir_sched_extent *e = &s->extent[extent];

	if (!(e->flags & EXTENT_WAITED)) {
		e->flags |= EXTENT_WAITED;
		s->stats.misses++;
	}
	if (s->demand == extent)
		return WEIR_ACQUIRE_WAIT;
	s->demand = extent;
	s->fetch = successor(s, extent);
	link_splice_tail(&s->fresh, &s->stale);
	return WEIR_ACQUIRE_WAIT;
}

enum weir_acquire weir_sched_acquire(struct weir_sched *s, weir_u32 extent, weir_u32 *slot,
				     weir_s32 *error)
{
	struct weir_sched_extent *e = &s->extent[extent];
	struct weir_sched_slot *sl;

	if (e->slot == WEIR_SCHED_NONE)
		return demand(s, extent);
	sl = &s->slot[e->slot];
	switch (sl->state) {
	case WEIR_SLOT_FILLING:
		if (!(e->flags & EXTENT_WAITED)) {
			e->flags |= EXTENT_WAITED;
			s->stats.late++;
		}
		return WEIR_ACQUIRE_WAIT;
	case WEIR_SLOT_ERROR:
		if (e->flags & EXTENT_TOLD) {
			slot_free(s, sl);
			return demand(s, extent);
		}
		e->flags = EXTENT_TOLD;
		*error = sl->error;
		/* Nothing worth keeping: the first to give way. */
		link_del(&sl->link);
		link_add_head(&s->old, &sl->link);
		return WEIR_ACQUIRE_ERROR;
	default:
		break;
	}
	if (!(e->flags & EXTENT_WAITED))
		s->stats.hits++;
	e->flags = EXTENT_USED;
	if (sl->users++ == 0)
		link_del(&sl->link);
	*slot = e->slot;
	return WEIR_ACQUIRE_READY;
}

void weir_sched_release(struct weir_sched *s, weir_u32 extent)
{
	weir_u32 slot = s->extent[extent].slot;
	struct weir_sched_slot *sl;

	if (slot == WEIR_SCHED_NONE)
		return;
	sl = &s->slot[slot];
	if (sl->state == WEIR_SLOT_ERROR)
		slot_free(s, sl);
	else if (sl->users && --sl->users == 0)
		link_add_tail(&s->old, &sl->link);
}

/* ---- for tests ---- */

/* Walks a list; its length, or NONE where it is torn or holds a slot that must not be there. */
static weir_u32 check_list(const struct weir_sched *s, const struct weir_sched_link *head, int free)
{
	const struct weir_sched_link *l;
	weir_u32 n = 0;

	for (l = head->next; l != head; l = l->next) {
		const struct weir_sched_slot *sl = (const struct weir_sched_slot *)l;

		if (n++ == s->n_slot || l->next->prev != l || sl < s->slot ||
		    sl >= s->slot + s->n_slot || sl->users || sl->state == WEIR_SLOT_FILLING ||
		    (sl->state == WEIR_SLOT_FREE) != free)
			return WEIR_SCHED_NONE;
	}
	return n;
}

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			return __LINE__;                                                           \
	} while (0)

int weir_sched_check(const struct weir_sched *s)
{
	const struct weir_sched_link *list[] = {&s->free, &s->old, &s->stale, &s->fresh,
						&s->wanted};
	weir_u32 held = 0, filling = 0, listed = 0, on_list = 0, i, n;

	for (i = 0; i < s->n_slot; i++) {
		const struct weir_sched_slot *sl = &s->slot[i];

		CHECK(sl->state <= WEIR_SLOT_ERROR);
		CHECK(!sl->users || sl->state == WEIR_SLOT_READY);
		CHECK((sl->error < 0) == (sl->state == WEIR_SLOT_ERROR));
		filling += sl->state == WEIR_SLOT_FILLING;
		listed += sl->state != WEIR_SLOT_FILLING && !sl->users;
		if (sl->state == WEIR_SLOT_FREE) {
			CHECK(sl->extent == WEIR_SCHED_NONE);
			continue;
		}
		CHECK(sl->extent < s->n_extent);
		CHECK(s->extent[sl->extent].slot == i);
	}
	for (i = 0; i < s->n_extent; i++) {
		n = s->extent[i].slot;
		if (n == WEIR_SCHED_NONE)
			continue;
		CHECK(n < s->n_slot);
		CHECK(s->slot[n].extent == i);
		held++;
	}
	for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		n = check_list(s, list[i], i == 0);
		CHECK(n != WEIR_SCHED_NONE);
		on_list += n;
	}
	CHECK(on_list == listed);
	CHECK(held == s->n_held);
	CHECK(filling == s->in_flight);
	CHECK(s->depth >= 1);
	CHECK(!s->n_extent || s->fetch < s->n_extent);
	CHECK(s->demand == WEIR_SCHED_NONE ||
	      (s->demand < s->n_extent && s->extent[s->demand].slot == WEIR_SCHED_NONE));
	return 0;
}
