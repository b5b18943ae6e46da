// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring: slots that weir_sched fills, and the claims by which a consumer holds them.
 *
 * The consumer acquires and releases in the claims, with or without ACQUIRE, so the policy does
 * not see it happen. weir_sync() tells it afterwards: a slot whose claim counts differ, or whose
 * pages something else holds, is *held*, which for the policy is one acquire. Between two
 * syncs nothing is lost, because a slot is asked (weir_slot_in_use()) before it is taken.
 *
 * Who notices a release: a completion and an ACQUIRE that waits always look. While flash is ahead
 * (nothing in flight, all slots full) a timer looks every poll_us, and after idle_ms without
 * progress the control page asks for a kick instead. Where flash is behind, which is where the
 * consumer had to wait within the last idle_ms, and has less in flight than it needs, the control
 * page asks at once: the system call costs less than an idle drive.
 */
#include <linux/ktime.h>
#include <linux/module.h>

#include "ring.h"
#include "trace.h"

unsigned int weir_poll_us = 500;
module_param_named(poll_us, weir_poll_us, uint, 0644);
MODULE_PARM_DESC(poll_us, "how often to look for released frames while nothing is being read");

unsigned int weir_idle_ms = 100;
module_param_named(idle_ms, weir_idle_ms, uint, 0644);
MODULE_PARM_DESC(idle_ms, "for how long to go on looking while nothing is released");

/* ---- frames ---- */

struct weir_frame *weir_slot_frame(struct weir_session *s, u32 slot)
{
	return &s->frame[s->n_soft + slot];
}

u32 weir_uapi_frame(const struct weir_session *s, const struct weir_frame *f)
{
	return s->n_pin + (f - s->frame);
}

struct weir_claim *weir_frame_claim(struct weir_session *s, const struct weir_frame *f)
{
	return &s->claim[weir_uapi_frame(s, f)];
}

bool weir_frame_referenced(struct weir_session *s, struct weir_frame *f)
{
	bool referenced = !s->registered && weir_area_referenced(&f->area);

	if (referenced && !f->referenced)
		s->held_back++;
	s->n_referenced += referenced - f->referenced;
	f->referenced = referenced;
	return referenced;
}

static void weir_frame_hold(struct weir_session *s, struct weir_frame *f)
{
	f->held = true;
	s->n_held++;
	s->most_held = max(s->most_held, s->n_held);
}

void weir_wake(struct weir_session *s)
{
	s->turn++;
	wake_up_all(&s->wait);
}

void weir_session_fail(struct weir_session *s, int error)
{
	if (!s->error) {
		WRITE_ONCE(s->error, error);
		WRITE_ONCE(s->control->error, error);
	}
	weir_wake(s);
}

/* ---- policy and claims (engine.lock) ---- */

int weir_slot_in_use(void *arg, u32 slot)
{
	struct weir_session *s = arg;
	struct weir_frame *f = weir_slot_frame(s, slot);
	u32 extent = s->sched_slot[slot].extent, frame = weir_uapi_frame(s, f);

	if (weir_control_withdraw(s, extent, frame)) {
		if (!weir_frame_referenced(s, f)) {
			trace_weir_evict(&s->engine, extent, frame);
			return 0;
		}
		weir_control_publish(s, extent, WEIR_STATE_READY, frame);
	}
	weir_frame_hold(s, f);
	return 1;
}

bool weir_sync_slot(struct weir_session *s, u32 slot)
{
	struct weir_frame *f = weir_slot_frame(s, slot);
	const struct weir_claim *c = weir_frame_claim(s, f);
	u32 acquired = READ_ONCE(c->acquired), released = READ_ONCE(c->released);
	u32 extent = s->sched_slot[slot].extent, n = acquired - f->seen_acquired, unused;
	bool moved = n || released != f->seen_released;
	s32 error;

	if (s->sched_slot[slot].state != WEIR_SLOT_READY)
		return false;
	f->seen_acquired = acquired;
	f->seen_released = released;
	s->acquires += n;
	if (n && !f->held) {
		weir_sched_acquire(&s->sched, extent, &unused, &error);
		weir_frame_hold(s, f);
	}
	if (f->held && acquired == released && !weir_frame_referenced(s, f)) {
		f->held = false;
		s->n_held--;
		weir_sched_release(&s->sched, extent);
		moved = true;
	}
	return moved;
}

bool weir_sync(struct weir_session *s)
{
	bool moved = false;
	u32 i;

	for (i = 0; i < s->n_soft; i++) {
		struct weir_frame *f = &s->frame[i];
		u32 acquired = READ_ONCE(weir_frame_claim(s, f)->acquired);

		moved |= acquired != f->seen_acquired;
		s->acquires += acquired - f->seen_acquired;
		f->seen_acquired = acquired;
	}
	for (i = 0; i < s->n_slot; i++)
		moved |= weir_sync_slot(s, i);
	if (moved)
		s->progress_ns = ktime_get_ns();
	return moved;
}

/* ---- the engine's questions ---- */

static bool weir_next_extent(struct weir_session *s)
{
	u32 extent, slot;

	/* Soft extents come first, but for what somebody waits for. */
	if (s->soft_next < s->n_soft && s->sched.demand == WEIR_SCHED_NONE) {
		s->cut.frame = s->soft_next++;
		s->cut.extent = s->soft_extent[s->cut.frame];
	} else {
		if (!weir_sched_next(&s->sched, &extent, &slot) &&
		    !(weir_sync(s) && weir_sched_next(&s->sched, &extent, &slot)))
			return false;
		s->cut.frame = s->n_soft + slot;
		s->cut.extent = extent;
	}
	s->frame[s->cut.frame].error = 0;
	return true;
}

bool weir_session_next(struct weir_engine *e, struct weir_target *t)
{
	struct weir_session *s = to_session(e);
	bool found;

	if (!weir_session_committed(s))
		return false;
	spin_lock(&e->lock);
	found = !s->error && (s->cut.at || weir_next_extent(s));
	if (found) {
		const struct weir_extent *x = &s->extent[s->cut.extent];
		u64 len = min_t(u64, x->length - s->cut.at, WEIR_READ_MAX);

		*t = (struct weir_target){
			.area = &s->frame[s->cut.frame].area,
			.area_off = s->cut.at,
			.off = x->offset + s->cut.at,
			.len = len,
			.file = x->file,
			.extent = s->cut.extent,
			.slot = s->cut.frame,
		};
		s->frame[s->cut.frame].pieces++;
		s->cut.at += len;
		if (s->cut.at == x->length)
			s->cut.at = 0;
	}
	spin_unlock(&e->lock);
	return found;
}

void weir_join_schedule(struct weir_session *s, u32 extent)
{
	u32 i = extent, n;

	s->place[extent] = WEIR_NO_FRAME;
	for (n = 0; n < s->n_extent; n++) {
		i = i ? i - 1 : s->n_extent - 1;
		if (i != extent && s->sched_extent[i].next != WEIR_SCHED_NONE) {
			weir_sched_insert(&s->sched, extent, i);
			return;
		}
	}
	weir_sched_insert(&s->sched, extent, WEIR_SCHED_NONE);
}

static void weir_slot_filled(struct weir_session *s, u32 extent, struct weir_frame *f)
{
	const struct weir_claim *c = weir_frame_claim(s, f);
	u32 slot = f - s->frame - s->n_soft;

	weir_sched_complete(&s->sched, slot, f->error);
	f->seen_acquired = READ_ONCE(c->acquired);
	f->seen_released = READ_ONCE(c->released);
	weir_control_publish(s, extent, f->error ? WEIR_STATE_ERROR : WEIR_STATE_READY,
			     weir_uapi_frame(s, f));
}

void weir_session_complete(struct weir_engine *e, const struct weir_target *t, int error)
{
	struct weir_session *s = to_session(e);
	struct weir_frame *f = &s->frame[t->slot];

	spin_lock(&e->lock);
	if (error && !f->error)
		f->error = error;
	if (error == -ESTALE)
		weir_session_fail(s, error);
	if (!error && weir_depth_add(&s->depth, t->len, ktime_get_ns()))
		weir_sched_set_depth(&s->sched, s->depth.now);
	/* cut.at: there are pieces of it that have not been submitted yet */
	if (!--f->pieces && !(s->cut.at && s->cut.frame == t->slot)) {
		if (t->slot >= s->n_soft)
			weir_slot_filled(s, t->extent, f);
		else if (f->error)
			weir_join_schedule(s, t->extent);
		else
			weir_control_publish(s, t->extent, WEIR_STATE_READY, weir_uapi_frame(s, f));
		weir_wake(s);
	}
	spin_unlock(&e->lock);
}

void weir_session_arrived(struct weir_engine *e)
{
	struct weir_session *s = to_session(e);

	/* Its barrier: the sleeper sees the read, or we see the sleeper. */
	if (wq_has_sleeper(&s->wait))
		wake_up_all(&s->wait);
}

/* Is there anything left to read that waits for the consumer to release? */
static bool weir_wants_slot(const struct weir_session *s)
{
	return !s->error && !s->engine.dead && s->n_slot && weir_sched_wants(&s->sched);
}

bool weir_flash_starved(const struct weir_session *s)
{
	return !READ_ONCE(s->engine.background) && s->engine.in_flight * 2 < s->sched.depth;
}

/* Does the consumer wait for flash, and flash for slots? */
static bool weir_flash_behind(const struct weir_session *s, u64 now, u64 idle)
{
	return weir_flash_starved(s) && s->stall_ns && now - s->stall_ns < idle;
}

void weir_session_settle(struct weir_engine *e)
{
	struct weir_session *s = to_session(e);
	u64 idle = READ_ONCE(weir_idle_ms) * (u64)NSEC_PER_MSEC;
	u64 poll = max(READ_ONCE(weir_poll_us), 10u) * NSEC_PER_USEC;
	bool watch = false, ask = false, behind = false;
	u64 now = ktime_get_ns();

	if (!weir_session_committed(s))
		return;
	spin_lock(&e->lock);
	if (weir_wants_slot(s)) {
		behind = weir_flash_behind(s, now, idle);
		ask = behind || (!e->in_flight && now - s->progress_ns >= idle);
		watch = !ask && !e->in_flight;
	}
	WRITE_ONCE(s->control->flags, ask ? WEIR_CONTROL_KICK : 0);
	if (ask) {
		smp_mb(); /* pairs with the consumer's barrier between release and look */
		watch = weir_sync(s) || s->n_referenced;
		/* At once, but not again and again for claims that never rest. */
		if (watch && behind && now - s->settle_ns >= poll) {
			s->settle_ns = now;
			weir_engine_kick(e);
		}
	}
	if (watch)
		hrtimer_start(&s->timer, ns_to_ktime(poll), HRTIMER_MODE_REL);
	spin_unlock(&e->lock);
}

enum hrtimer_restart weir_session_timer(struct hrtimer *timer)
{
	weir_engine_kick(&container_of(timer, struct weir_session, timer)->engine);
	return HRTIMER_NORESTART;
}

void weir_session_pin_done(struct weir_session *s, u32 pin, int error)
{
	spin_lock_nested(&s->engine.lock, SINGLE_DEPTH_NESTING);
	weir_control_publish(s, s->pin_extent[pin], error ? WEIR_STATE_ERROR : WEIR_STATE_PINNED,
			     pin);
	if (error == -ESTALE)
		weir_session_fail(s, error);
	weir_wake(s);
	spin_unlock(&s->engine.lock);
}
