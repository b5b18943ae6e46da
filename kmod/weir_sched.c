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
 *	again as `fresh`. A demand for an extent outside the schedule moves nothing.
 *
 *	A hint takes room as the schedule does: it never throws away what is still to come.
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
	/* In a queue of hints. */
	EXTENT_HINTED = 8,
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

static int in_cycle(const struct weir_sched_extent *e)
{
	return e->next != WEIR_SCHED_NONE;
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
	e->flags &= EXTENT_HINTED;
	if (in_cycle(e))
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
	if (in_cycle(&s->extent[extent]))
		s->n_held++;
	s->in_flight++;
	s->stats.reads++;
	if (s->demand == extent)
		s->demand = WEIR_SCHED_NONE;
}

/* How far down the lists a search for a slot may go. */
enum urgency {
	AHEAD,	   /* nothing that is still to come */
	GIVE_BACK, /* nothing that somebody waits for */
	DEMAND,
};

/* What would give way next, or NULL. See the order of the lists in weir_sched.h. */
static struct weir_sched_slot *slot_candidate(struct weir_sched *s, enum urgency u)
{
	if (!link_empty(&s->free))
		return slot_of(s->free.next);
	if (!link_empty(&s->old))
		return slot_of(s->old.next);
	if (!link_empty(&s->stale))
		return slot_of(s->stale.prev);
	if (u >= GIVE_BACK && !link_empty(&s->fresh))
		return slot_of(s->fresh.prev);
	if (u >= DEMAND && !link_empty(&s->wanted))
		return slot_of(s->wanted.prev);
	return (struct weir_sched_slot *)0;
}

/* A slot for a read, or NULL. Those that turn out to be in use leave the lists. */
static struct weir_sched_slot *slot_find(struct weir_sched *s, enum urgency u)
{
	struct weir_sched_slot *sl;

	while ((sl = slot_candidate(s, u))) {
		if (sl->state != WEIR_SLOT_READY || !s->in_use ||
		    !s->in_use(s->arg, (weir_u32)(sl - s->slot)))
			break;
		link_del(&sl->link);
		sl->users = 1;
		s->extent[sl->extent].flags |= EXTENT_USED;
	}
	return sl;
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
		.fetch = n_extent ? 0 : WEIR_SCHED_NONE,
		.demand = WEIR_SCHED_NONE,
		.n_cycle = n_extent,
	};
	link_init(&s->free);
	link_init(&s->old);
	link_init(&s->stale);
	link_init(&s->fresh);
	link_init(&s->wanted);
	for (i = 0; i < WEIR_SCHED_PRIORITIES; i++)
		s->hint[i] = (struct weir_sched_hints){WEIR_SCHED_NONE, WEIR_SCHED_NONE};
	for (i = 0; i < n_extent; i++)
		extent[i] = (struct weir_sched_extent){
			.slot = WEIR_SCHED_NONE,
			.next = i + 1 < n_extent ? i + 1 : 0,
			.hint_next = WEIR_SCHED_NONE,
		};
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

void weir_sched_schedule(struct weir_sched *s, const weir_u32 *order, weir_u32 n)
{
	weir_u32 i;

	for (i = 0; i < s->n_extent; i++)
		s->extent[i].next = WEIR_SCHED_NONE;
	s->n_held = 0;
	for (i = 0; i < n; i++) {
		s->extent[order[i]].next = order[i + 1 < n ? i + 1 : 0];
		s->n_held += s->extent[order[i]].slot != WEIR_SCHED_NONE;
	}
	s->n_cycle = n;
	s->fetch = n ? order[0] : WEIR_SCHED_NONE;
	link_splice_tail(&s->fresh, &s->stale);
}

void weir_sched_insert(struct weir_sched *s, weir_u32 extent, weir_u32 after)
{
	struct weir_sched_extent *e = &s->extent[extent];

	if (in_cycle(e))
		return;
	if (after == WEIR_SCHED_NONE) {
		e->next = extent;
		s->fetch = extent;
	} else {
		e->next = s->extent[after].next;
		s->extent[after].next = extent;
	}
	s->n_cycle++;
	s->n_held += e->slot != WEIR_SCHED_NONE;
}

int weir_sched_retire(struct weir_sched *s, weir_u32 *slot)
{
	struct weir_sched_slot *sl = slot_find(s, GIVE_BACK);

	if (!sl)
		return 0;
	slot_clear(s, sl);
	sl->state = WEIR_SLOT_GONE;
	*slot = (weir_u32)(sl - s->slot);
	return 1;
}

void weir_sched_restore(struct weir_sched *s, weir_u32 slot)
{
	struct weir_sched_slot *sl = &s->slot[slot];

	if (sl->state != WEIR_SLOT_GONE)
		return;
	sl->state = WEIR_SLOT_FREE;
	link_add_tail(&s->free, &sl->link);
}

void weir_sched_hint(struct weir_sched *s, weir_u32 extent, weir_u32 priority)
{
	struct weir_sched_extent *e = &s->extent[extent];
	struct weir_sched_hints *q = &s->hint[priority];

	if (e->slot != WEIR_SCHED_NONE || (e->flags & EXTENT_HINTED))
		return;
	e->flags |= EXTENT_HINTED;
	e->hint_next = WEIR_SCHED_NONE;
	if (q->first == WEIR_SCHED_NONE)
		q->first = extent;
	else
		s->extent[q->last].hint_next = extent;
	q->last = extent;
}

/* The first hint that is not held, at the head of its queue afterwards; or NULL. */
static struct weir_sched_hints *hint_first(struct weir_sched *s)
{
	struct weir_sched_hints *q;

	for (q = s->hint + WEIR_SCHED_PRIORITIES; q-- > s->hint;) {
		while (q->first != WEIR_SCHED_NONE) {
			struct weir_sched_extent *e = &s->extent[q->first];

			if (e->slot == WEIR_SCHED_NONE)
				return q;
			e->flags &= ~(weir_u32)EXTENT_HINTED;
			q->first = e->hint_next;
		}
	}
	return (struct weir_sched_hints *)0;
}

int weir_sched_wants(const struct weir_sched *s)
{
	weir_u32 i;

	for (i = 0; i < WEIR_SCHED_PRIORITIES; i++)
		if (s->hint[i].first != WEIR_SCHED_NONE)
			return 1;
	return s->n_held < s->n_cycle || s->demand != WEIR_SCHED_NONE;
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
		s->fetch = s->extent[s->fetch].next;
	}
}

/* What to read while nobody waits, and where to: what was hinted at, else the schedule. */
static struct weir_sched_slot *next_ahead(struct weir_sched *s, weir_u32 *extent)
{
	struct weir_sched_hints *hints = hint_first(s);
	struct weir_sched_slot *sl;

	if (hints) {
		*extent = hints->first;
		return slot_find(s, AHEAD);
	}
	if (s->n_held == s->n_cycle)
		return (struct weir_sched_slot *)0;
	fetch_skip_held(s);
	*extent = s->fetch;
	sl = slot_find(s, AHEAD);
	if (sl)
		s->fetch = s->extent[s->fetch].next;
	return sl;
}

int weir_sched_next(struct weir_sched *s, weir_u32 *extent, weir_u32 *slot)
{
	struct weir_sched_slot *sl;

	if (s->demand != WEIR_SCHED_NONE) {
		if (s->in_flight > s->depth)
			return 0;
		*extent = s->demand;
		sl = slot_find(s, DEMAND);
	} else {
		if (s->in_flight >= s->depth)
			return 0;
		sl = next_ahead(s, extent);
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
		if (in_cycle(e) && s->fetch != extent)
			s->stats.reordered++;
	}
	if (s->demand == extent)
		return WEIR_ACQUIRE_WAIT;
	s->demand = extent;
	if (in_cycle(e)) {
		s->fetch = e->next;
		link_splice_tail(&s->fresh, &s->stale);
	}
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
		e->flags = (e->flags & EXTENT_HINTED) | EXTENT_TOLD;
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
	e->flags = (e->flags & EXTENT_HINTED) | EXTENT_USED;
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
		int is_free = sl->state == WEIR_SLOT_FREE;

		if (n++ == s->n_slot || l->next->prev != l || sl < s->slot ||
		    sl >= s->slot + s->n_slot || sl->users || sl->state == WEIR_SLOT_FILLING ||
		    sl->state == WEIR_SLOT_GONE || is_free != free)
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

		CHECK(sl->state <= WEIR_SLOT_GONE);
		CHECK(!sl->users || sl->state == WEIR_SLOT_READY);
		CHECK((sl->error < 0) == (sl->state == WEIR_SLOT_ERROR));
		filling += sl->state == WEIR_SLOT_FILLING;
		listed +=
			sl->state != WEIR_SLOT_FILLING && sl->state != WEIR_SLOT_GONE && !sl->users;
		if (sl->state == WEIR_SLOT_FREE || sl->state == WEIR_SLOT_GONE) {
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
		held += in_cycle(&s->extent[i]);
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
	CHECK(s->n_cycle ? s->fetch < s->n_extent && in_cycle(&s->extent[s->fetch])
			 : s->fetch == WEIR_SCHED_NONE);
	CHECK(s->demand == WEIR_SCHED_NONE ||
	      (s->demand < s->n_extent && s->extent[s->demand].slot == WEIR_SCHED_NONE));
	return 0;
}
