// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a consumer asks for by system call: ACQUIRE, RELEASE, HINT, SCHEDULE. What it does without
 * one is in the claims (control.c, ring.c).
 */
#include <linux/bitops.h>
#include <linux/ktime.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ring.h"
#include "trace.h"

#define WEIR_LOOK_NS	(10 * NSEC_PER_MSEC) /* how often a wait looks for pages let go of */
#define WEIR_LOCKED_MAX 256		     /* extents of a list at once under engine.lock */

/* ---- ACQUIRE and RELEASE ---- */

enum { WEIR_WAIT = 1 };

/* Counts an extent in a frame as acquired, as the consumer would. */
static void weir_claim_frame(struct weir_session *s, struct weir_frame *f, u32 extent)
{
	atomic_inc((atomic_t *)&weir_frame_claim(s, f)->acquired);
	if (f - s->frame >= s->n_soft)
		weir_sync_slot(s, f - s->frame - s->n_soft);
	trace_weir_acquire(&s->engine, extent, weir_uapi_frame(s, f));
}

static int weir_acquire_soft(struct weir_session *s, u32 extent, bool claim, u64 *off)
{
	struct weir_frame *f = &s->frame[s->place[extent]];

	if ((s->state[extent] & WEIR_STATE_MASK) != WEIR_STATE_READY)
		return WEIR_WAIT;
	*off = weir_frame_offset(s, s->place[extent]);
	if (claim)
		weir_claim_frame(s, f, extent);
	return 0;
}

static int weir_acquire_ring(struct weir_session *s, u32 extent, bool claim, u64 *off)
{
	struct weir_sched_extent *x = &s->sched_extent[extent];
	struct weir_frame *f;
	s32 error;
	u32 slot;

	if (x->slot == WEIR_SCHED_NONE || s->sched_slot[x->slot].state != WEIR_SLOT_READY) {
		switch (weir_sched_acquire(&s->sched, extent, &slot, &error)) {
		case WEIR_ACQUIRE_WAIT:
			/* Its error has been told: it is being read again. */
			if (x->slot == WEIR_SCHED_NONE)
				WRITE_ONCE(s->state[extent], WEIR_STATE_ABSENT);
			return WEIR_WAIT;
		case WEIR_ACQUIRE_ERROR:
			return error;
		case WEIR_ACQUIRE_READY:
			break; /* cannot be: it was not */
		}
	}
	f = weir_slot_frame(s, x->slot);
	*off = weir_frame_offset(s, f - s->frame);
	if (claim)
		weir_claim_frame(s, f, extent);
	return 0;
}

/* 0 with the offset in the pool, WEIR_WAIT, or an errno. */
static int weir_try_acquire(struct weir_session *s, u32 extent, bool claim, u64 *off)
{
	u32 state = READ_ONCE(s->state[extent]) & WEIR_STATE_MASK;
	u32 place = s->place[extent];

	if (s->error)
		return s->error;
	if (s->extent[extent].kind != WEIR_EXTENT_PIN)
		return place == WEIR_NO_FRAME ? weir_acquire_ring(s, extent, claim, off)
					      : weir_acquire_soft(s, extent, claim, off);
	if (state == WEIR_STATE_PINNED) {
		*off = s->pins->pin[place].offset;
		return 0;
	}
	if (state == WEIR_STATE_ERROR) {
		/* Told once; then tried again. */
		WRITE_ONCE(s->state[extent], WEIR_STATE_ABSENT);
		return READ_ONCE(s->pins->pin[place].failed);
	}
	return WEIR_WAIT;
}

static bool weir_may_have_changed(const struct weir_session *s, u32 turn)
{
	return READ_ONCE(s->turn) != turn || !llist_empty(&s->engine.done);
}

/* Sleeps until something has changed since @turn, or it is time to look all the same. */
static int weir_sleep(struct weir_session *s, u32 turn, s64 timeout_ns, u64 deadline)
{
	u64 now = ktime_get_ns(), limit = KTIME_MAX;
	int ret;

	if (!timeout_ns)
		return -EAGAIN;
	if (timeout_ns > 0) {
		if (now >= deadline)
			return -ETIMEDOUT;
		limit = deadline - now;
	}
	/* Slots that were given back are not brought back by anybody else. */
	if (READ_ONCE(s->n_gone))
		limit = min_t(u64, limit, WEIR_RESTORE_NS);
	/* And nobody says when it has let go of a page. */
	if (READ_ONCE(s->n_referenced))
		limit = min_t(u64, limit, WEIR_LOOK_NS);
	ret = wait_event_interruptible_hrtimeout(s->wait, weir_may_have_changed(s, turn),
						 ns_to_ktime(limit));
	return ret == -ERESTARTSYS ? -EINTR : 0;
}

/* Does it go through the ring: not pinned, nor soft and still in a frame of its own? */
static bool weir_in_ring(const struct weir_session *s, u32 extent)
{
	return s->extent[extent].kind != WEIR_EXTENT_PIN &&
	       READ_ONCE(s->place[extent]) == WEIR_NO_FRAME;
}

static u32 weir_count_ring(const struct weir_session *s, const u32 *list, u32 count)
{
	u32 n = 0, i;

	for (i = 0; i < count; i++)
		n += weir_in_ring(s, list[i]);
	return n;
}

/* Extent @i of a list. */
static int weir_acquire_one(struct weir_session *s, const struct weir_acquire_args *a,
			    const u32 *list, u32 i, u64 deadline, u64 *off)
{
	bool claim = !(a->flags & WEIR_ACQUIRE_WAIT_ONLY);
	u32 turn, extent = list[i];
	u64 start = 0;
	bool starved;
	int ret;

	for (;;) {
		weir_engine_take_in(&s->engine);
		spin_lock(&s->engine.lock);
		turn = s->turn;
		ret = weir_try_acquire(s, extent, claim, off);
		s->progress_ns = ktime_get_ns();
		if (ret == WEIR_WAIT) {
			weir_sync(s);
			s->stall_ns = s->progress_ns;
		}
		starved = weir_flash_starved(s);
		spin_unlock(&s->engine.lock);
		if (ret != WEIR_WAIT)
			break;
		/* Soft extents may have come to need slots meanwhile. */
		if (s->n_soft && weir_count_ring(s, list, a->count) > s->n_slot) {
			ret = -EDEADLK;
			break;
		}
		if (!start)
			start = ktime_get_ns();
		if (s->extent[extent].kind == WEIR_EXTENT_PIN)
			weir_pins_retry(s->pins, s->place[extent]);
		weir_restore_slots(s);
		if (starved)
			weir_engine_hurry(&s->engine);
		else
			weir_engine_kick(&s->engine);
		ret = weir_sleep(s, turn, a->timeout_ns, deadline);
		if (ret)
			break;
	}
	if (start && a->timeout_ns) {
		u64 ns = ktime_get_ns() - start;

		spin_lock(&s->engine.lock);
		s->waits++;
		s->wait_ns += ns;
		spin_unlock(&s->engine.lock);
		trace_weir_stall(&s->engine, extent, ns);
	}
	return ret;
}

/* Takes back one acquire; false where there is none. */
static bool weir_release_one(struct weir_session *s, u32 extent)
{
	u32 state = READ_ONCE(s->state[extent]);
	struct weir_claim *c = &s->claim[state >> WEIR_STATE_SHIFT];

	if ((state & WEIR_STATE_MASK) == WEIR_STATE_PINNED)
		return true;
	if ((state & WEIR_STATE_MASK) != WEIR_STATE_READY ||
	    READ_ONCE(c->acquired) == READ_ONCE(c->released))
		return false;
	atomic_inc((atomic_t *)&c->released);
	return true;
}

/* The extents that a call names, in kernel memory. */
static u32 *weir_copy_list(const struct weir_session *s, u64 user, u32 count)
{
	u32 *list, i;

	if (count > s->n_extent)
		return ERR_PTR(-EINVAL);
	list = vmemdup_user(u64_to_user_ptr(user), (size_t)count * sizeof(*list));
	if (IS_ERR(list))
		return list;
	for (i = 0; i < count; i++)
		if (list[i] >= s->n_extent) {
			kvfree(list);
			return ERR_PTR(-EINVAL);
		}
	return list;
}

/* The engine's lock is not held for longer than a part of a long list takes. */
static void weir_breathe(struct weir_session *s, u32 i)
{
	if (!i || i % WEIR_LOCKED_MAX)
		return;
	spin_unlock(&s->engine.lock);
	cond_resched();
	spin_lock(&s->engine.lock);
}

/* @strict: ends with -EINVAL at one that is not acquired, which else is passed over. */
static int weir_release_each(struct weir_session *s, const u32 *list, u32 n, bool strict)
{
	bool starved;
	int ret = 0;
	u32 i;

	spin_lock(&s->engine.lock);
	for (i = 0; i < n && !ret; i++) {
		weir_breathe(s, i);
		if (!weir_release_one(s, list[i]) && strict)
			ret = -EINVAL;
	}
	weir_sync(s);
	s->progress_ns = ktime_get_ns();
	/* Where the control page asks to be told, there is something to read. */
	starved =
		strict && READ_ONCE(s->control->flags) & WEIR_CONTROL_KICK && weir_flash_starved(s);
	spin_unlock(&s->engine.lock);
	if (starved)
		weir_engine_run(&s->engine);
	else
		weir_engine_kick(&s->engine);
	return ret;
}

int weir_session_release_list(struct weir_session *s, const u32 *list, u32 n)
{
	return weir_release_each(s, list, n, true);
}

int weir_session_acquire_list(struct weir_session *s, struct weir_acquire_args *a, const u32 *list)
{
	u64 __user *offsets = u64_to_user_ptr(a->offsets);
	u64 deadline, off;
	int ret = 0;
	u32 i;

	if (check_add_overflow(ktime_get_ns(), (u64)max_t(s64, a->timeout_ns, 0), &deadline))
		deadline = KTIME_MAX;
	for (i = 0; i < a->count; i++) {
		cond_resched();
		/* A long list of what is resident never sleeps. */
		ret = fatal_signal_pending(current)
			      ? -EINTR
			      : weir_acquire_one(s, a, list, i, deadline, &off);
		if (ret)
			break;
		if (a->offsets && put_user(off, offsets + i)) {
			ret = -EFAULT;
			i++; /* it is acquired */
			break;
		}
	}
	if (!ret)
		return 0;
	a->failed = min(i, a->count - 1);
	if (!(a->flags & WEIR_ACQUIRE_WAIT_ONLY))
		weir_release_each(s, list, i, false);
	return ret;
}

int weir_session_acquire(struct weir_session *s, struct weir_acquire_args *a)
{
	u32 *list;
	int ret;

	if (!weir_session_committed(s))
		return -EBUSY;
	if (!a->count)
		return -EINVAL;
	list = weir_copy_list(s, a->extents, a->count);
	if (IS_ERR(list))
		return PTR_ERR(list);
	ret = -EDEADLK;
	if (weir_count_ring(s, list, a->count) <= s->n_slot)
		ret = weir_session_acquire_list(s, a, list);
	kvfree(list);
	return ret;
}

int weir_session_release(struct weir_session *s, struct weir_release *a)
{
	u32 *list;
	int ret;

	if (!weir_session_committed(s))
		return -EBUSY;
	list = weir_copy_list(s, a->extents, a->count);
	if (IS_ERR(list))
		return PTR_ERR(list);
	ret = weir_session_release_list(s, list, a->count);
	kvfree(list);
	return ret;
}

/* ---- HINT and SCHEDULE ---- */

int weir_session_hint(struct weir_session *s, struct weir_hint *a)
{
	u32 *list, i;

	if (!weir_session_committed(s))
		return -EBUSY;
	if (a->priority >= WEIR_HINT_PRIORITIES)
		return -EOPNOTSUPP;
	list = weir_copy_list(s, a->extents, a->count);
	if (IS_ERR(list))
		return PTR_ERR(list);
	spin_lock(&s->engine.lock);
	for (i = 0; i < a->count; i++) {
		weir_breathe(s, i);
		if (weir_in_ring(s, list[i]))
			weir_sched_hint(&s->sched, list[i], a->priority);
	}
	spin_unlock(&s->engine.lock);
	kvfree(list);
	weir_engine_kick(&s->engine);
	return 0;
}

/* 0 where every extent of the list may be scheduled and is there once. */
static int weir_check_schedule(const struct weir_session *s, const u32 *list, u32 count)
{
	unsigned long *seen;
	int ret = 0;
	u32 i;

	seen = kvcalloc(BITS_TO_LONGS(s->n_extent), sizeof(*seen), GFP_KERNEL_ACCOUNT);
	if (!seen)
		return -ENOMEM;
	for (i = 0; i < count && !ret; i++) {
		u32 kind = s->extent[list[i]].kind;

		if (kind == WEIR_EXTENT_PIN || kind == WEIR_EXTENT_SOFT ||
		    __test_and_set_bit(list[i], seen))
			ret = -EINVAL;
	}
	kvfree(seen);
	return ret;
}

/* Soft extents that go through the ring by now: they keep a place in every schedule. */
static void weir_rejoin_demoted(struct weir_session *s)
{
	u32 i;

	for (i = 0; i < s->n_soft; i++) {
		spin_lock(&s->engine.lock);
		if (weir_in_ring(s, s->soft_extent[i]))
			weir_join_schedule(s, s->soft_extent[i]);
		spin_unlock(&s->engine.lock);
		cond_resched();
	}
}

int weir_session_schedule(struct weir_session *s, struct weir_schedule *a)
{
	u32 *list;
	int ret;

	if (!weir_session_committed(s))
		return -EBUSY;
	list = weir_copy_list(s, a->extents, a->count);
	if (IS_ERR(list))
		return PTR_ERR(list);
	ret = weir_check_schedule(s, list, a->count);
	if (!ret) {
		spin_lock(&s->engine.lock);
		weir_sched_schedule(&s->sched, list, a->count);
		spin_unlock(&s->engine.lock);
		weir_rejoin_demoted(s);
		weir_engine_kick(&s->engine);
	}
	kvfree(list);
	return ret;
}
