// SPDX-License-Identifier: GPL-2.0-only
/*
 * A session: what one open file of /dev/weir declares, commits and consumes.
 *
 * Extents of kind STREAM and ON_DEMAND go through the ring, which weir_sched runs: its extents
 * have the numbers of the uapi, its slots are the last n_slot of session.frame. What is pinned
 * never enters the policy. A soft extent has a frame of its own, filled first, and joins the
 * schedule only when that frame is taken away.
 *
 * The consumer acquires and releases in the claims, with or without ACQUIRE, so the policy does
 * not see it happen. weir_sync() tells it afterwards: a slot whose claim counts differ, or whose
 * pages something else holds, is *held*, which for the policy is one acquire. Between two
 * syncs nothing is lost, because a slot is asked (weir_slot_in_use()) before it is taken.
 *
 * While flash is behind, completions run the work item often enough to notice releases. While it
 * is ahead (nothing in flight, all slots full) a timer looks every poll_us, and after idle_ms
 * without progress the control page asks for a kick instead.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "trace.h"
#include "weir.h"

#define WEIR_DEPTH_MAX	64
#define WEIR_CLOSE_WAIT HZ	     /* a close() gives a device that hangs so long */
#define WEIR_RESTORE_NS NSEC_PER_SEC /* memory was short: not before that much later */

unsigned int weir_poll_us = 500;
module_param_named(poll_us, weir_poll_us, uint, 0644);
MODULE_PARM_DESC(poll_us, "how often to look for released frames while nothing is being read");

unsigned int weir_idle_ms = 100;
module_param_named(idle_ms, weir_idle_ms, uint, 0644);
MODULE_PARM_DESC(idle_ms, "for how long to go on looking while nothing is released");

LIST_HEAD(weir_sessions);
DEFINE_SPINLOCK(weir_sessions_lock);
static atomic64_t weir_last_id;

/* ---- frames ---- */

static struct weir_frame *weir_slot_frame(struct weir_session *s, u32 slot)
{
	return &s->frame[s->n_soft + slot];
}

static u32 weir_uapi_frame(const struct weir_session *s, const struct weir_frame *f)
{
	return s->n_pin + (f - s->frame);
}

static struct weir_claim *weir_frame_claim(struct weir_session *s, const struct weir_frame *f)
{
	return &s->claim[weir_uapi_frame(s, f)];
}

static bool weir_frame_referenced(struct weir_session *s, struct weir_frame *f)
{
	bool referenced = !s->registered && weir_area_referenced(&f->area);

	if (referenced && !f->referenced)
		s->held_back++;
	f->referenced = referenced;
	return referenced;
}

static void weir_frame_hold(struct weir_session *s, struct weir_frame *f)
{
	f->held = true;
	s->n_held++;
	s->most_held = max(s->most_held, s->n_held);
}

static void weir_wake(struct weir_session *s)
{
	s->turn++;
	wake_up_all(&s->wait);
}

/* What ends a session: no extent is handed out any more. */
static void weir_session_fail(struct weir_session *s, int error)
{
	if (!s->error) {
		WRITE_ONCE(s->error, error);
		WRITE_ONCE(s->control->error, error);
	}
	weir_wake(s);
}

/* ---- policy and claims (engine.lock) ---- */

/* Asked by the policy before a READY slot is filled again. */
static int weir_slot_in_use(void *arg, u32 slot)
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

static bool weir_sync_slot(struct weir_session *s, u32 slot)
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

/* Tells the policy what the consumer has done. True where it has done something. */
static bool weir_sync(struct weir_session *s)
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

	if (s->soft_next < s->n_soft) {
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

static bool weir_session_next(struct weir_engine *e, struct weir_target *t)
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

/* Puts an extent that has lost its place, or never got one, into the schedule. */
static void weir_join_schedule(struct weir_session *s, u32 extent)
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

static void weir_session_complete(struct weir_engine *e, const struct weir_target *t, int error)
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

/* Is there anything left to read that waits for the consumer to release? */
static bool weir_wants_slot(const struct weir_session *s)
{
	return !s->error && !s->engine.dead && s->n_slot && s->sched.n_held < s->sched.n_cycle;
}

static void weir_session_settle(struct weir_engine *e)
{
	struct weir_session *s = to_session(e);
	bool watch = false, ask = false;
	u64 idle;

	if (!weir_session_committed(s))
		return;
	spin_lock(&e->lock);
	if (weir_wants_slot(s) && !e->in_flight) {
		idle = ktime_get_ns() - s->progress_ns;
		ask = idle >= READ_ONCE(weir_idle_ms) * (u64)NSEC_PER_MSEC;
		watch = !ask;
	}
	WRITE_ONCE(s->control->flags, ask ? WEIR_CONTROL_KICK : 0);
	if (ask) {
		smp_mb(); /* pairs with the consumer's barrier between release and look */
		watch = weir_sync(s);
	}
	if (watch)
		hrtimer_start(&s->timer,
			      ns_to_ktime(max(READ_ONCE(weir_poll_us), 10u) * NSEC_PER_USEC),
			      HRTIMER_MODE_REL);
	spin_unlock(&e->lock);
}

static enum hrtimer_restart weir_session_timer(struct hrtimer *timer)
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

/* ---- open and close ---- */

/* What COMMIT allocates. @end: who waits for it to be gone, handed on to pins nobody else uses. */
static void weir_commit_free(struct weir_session *s, struct weir_end **end)
{
	u32 i;

	weir_pins_detach(s, end);
	if (s->frame)
		for (i = 0; i < s->n_soft + s->n_slot; i++)
			weir_area_free(&s->frame[i].area);
	weir_control_free(s);
	weir_uncharge(&s->charge);
	kvfree(s->frame);
	kvfree(s->sched_slot);
	kvfree(s->sched_extent);
	kvfree(s->soft_extent);
	kvfree(s->pin_extent);
	kvfree(s->place);
}

static void weir_session_fini(struct weir_engine *e)
{
	struct weir_session *s = to_session(e);

	hrtimer_cancel(&s->timer);
	weir_commit_free(s, &e->end);
	weir_inode_put(s);
	kvfree(s->extent);
}

static const struct weir_engine_ops weir_session_ops = {
	.next = weir_session_next,
	.complete = weir_session_complete,
	.settle = weir_session_settle,
	.fini = weir_session_fini,
};

struct weir_session *weir_session_open(void)
{
	struct weir_session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!s)
		return ERR_PTR(-ENOMEM);
	mutex_init(&s->mutex);
	init_waitqueue_head(&s->wait);
	INIT_LIST_HEAD(&s->pins_node);
	weir_hrtimer_setup(&s->timer, weir_session_timer);
	s->tgid = task_tgid_nr(current);
	ret = weir_engine_init(&s->engine, &weir_session_ops);
	if (ret) {
		kfree(s);
		return ERR_PTR(ret);
	}
	s->engine.id = atomic64_inc_return(&weir_last_id);
	s->engine.end = kzalloc(sizeof(*s->engine.end), GFP_KERNEL_ACCOUNT);
	ret = -ENOMEM;
	if (!s->engine.end)
		goto abandon;
	refcount_set(&s->engine.end->ref, 1);
	init_completion(&s->engine.end->gone);
	ret = weir_inode_get(s);
	if (ret)
		goto abandon;
	spin_lock(&weir_sessions_lock);
	list_add_tail(&s->node, &weir_sessions);
	spin_unlock(&weir_sessions_lock);
	return s;

abandon:
	weir_engine_abandon(&s->engine);
	return ERR_PTR(ret);
}

void weir_session_close(struct weir_session *s)
{
	struct weir_end *end = s->engine.end;

	spin_lock(&weir_sessions_lock);
	list_del(&s->node);
	spin_unlock(&weir_sessions_lock);
	spin_lock(&s->engine.lock);
	WRITE_ONCE(s->engine.dead, true);
	spin_unlock(&s->engine.lock);
	hrtimer_cancel(&s->timer);
	refcount_inc(&end->ref);
	weir_engine_put(&s->engine);
	/*
	 * A courtesy: whoever opens the next session finds the memory free. A read that hangs, or
	 * a dma-buf, keeps it, and is not waited for.
	 */
	wait_for_completion_killable_timeout(&end->gone, WEIR_CLOSE_WAIT);
	weir_end_put(end);
}

/* ---- set-up ---- */

/* Locks a session that is not committed yet. */
static int weir_setup_lock(struct weir_session *s)
{
	int ret = mutex_lock_killable(&s->mutex);

	if (!ret && s->committed) {
		mutex_unlock(&s->mutex);
		ret = -EBUSY;
	}
	return ret;
}

int weir_session_attach(struct weir_session *s, struct weir_attach *a)
{
	struct weir_engine *e = &s->engine;
	struct weir_file f;
	int ret;

	ret = weir_setup_lock(s);
	if (ret)
		return ret;
	ret = -ENOSPC;
	if (e->n_file == WEIR_MAX_FILES)
		goto unlock;
	ret = -ENOMEM;
	if (!e->file)
		e->file = kvcalloc(WEIR_MAX_FILES, sizeof(*e->file), GFP_KERNEL_ACCOUNT);
	if (!e->file)
		goto unlock;
	ret = weir_file_open(&f, a->fd, a->flags & WEIR_ATTACH_BUFFERED);
	if (ret)
		goto unlock;
	a->file = e->n_file;
	a->file_bytes = f.bytes;
	e->file[e->n_file++] = f;
unlock:
	mutex_unlock(&s->mutex);
	return ret;
}

static int weir_extent_check(const struct weir_session *s, const struct weir_extent *x)
{
	u64 end;

	if (x->kind > WEIR_EXTENT_SOFT)
		return -EOPNOTSUPP;
	if (x->file >= s->engine.n_file || !x->length || !IS_ALIGNED(x->offset, WEIR_ALIGN))
		return -EINVAL;
	if (check_add_overflow(x->offset, x->length, &end) || end > s->engine.file[x->file].bytes)
		return -EOVERFLOW;
	if (!IS_ALIGNED(x->length, WEIR_ALIGN) && end != s->engine.file[x->file].bytes)
		return -EINVAL;
	return 0;
}

/* Makes room for @n more extents. */
static int weir_extents_grow(struct weir_session *s, u32 n)
{
	struct weir_extent *extent;
	u32 max;

	if (s->n_extent + n <= s->max_extent)
		return 0;
	max = min_t(u32, max(s->n_extent + n, 2 * s->max_extent), WEIR_MAX_EXTENTS);
	extent = kvmalloc_array(max, sizeof(*extent), GFP_KERNEL_ACCOUNT);
	if (!extent)
		return -ENOMEM;
	if (s->n_extent)
		memcpy(extent, s->extent, s->n_extent * sizeof(*extent));
	kvfree(s->extent);
	s->extent = extent;
	s->max_extent = max;
	return 0;
}

/* Appends extents that lie in user memory, or else in the kernel's. */
static int weir_extents_add(struct weir_session *s, const void __user *user,
			    const struct weir_extent *list, u32 n)
{
	struct weir_extent *to;
	int ret;
	u32 i;

	if (n > WEIR_MAX_EXTENTS - s->n_extent)
		return -ENOSPC;
	ret = weir_extents_grow(s, n);
	if (ret)
		return ret;
	to = s->extent + s->n_extent;
	if (list)
		memcpy(to, list, n * sizeof(*to));
	else if (copy_from_user(to, user, n * sizeof(*to)))
		return -EFAULT;
	for (i = 0; i < n; i++) {
		ret = weir_extent_check(s, &to[i]);
		if (ret)
			return ret;
		cond_resched();
	}
	s->n_extent += n;
	return 0;
}

int weir_session_extents(struct weir_session *s, struct weir_extents *a)
{
	int ret = weir_setup_lock(s);

	if (ret)
		return ret;
	ret = weir_extents_add(s, u64_to_user_ptr(a->extents), NULL, a->count);
	mutex_unlock(&s->mutex);
	return ret;
}

int weir_session_declare(struct weir_session *s, const struct weir_extent *list, u32 n)
{
	int ret = weir_setup_lock(s);

	if (ret)
		return ret;
	ret = weir_extents_add(s, NULL, list, n);
	mutex_unlock(&s->mutex);
	return ret;
}

/* ---- COMMIT ---- */

/* What the declared extents come to. */
struct weir_layout {
	u32 n_pin, n_soft, n_ring; /* n_ring: all that may go through it, soft ones too */
	u32 n_stream;
	u64 pin_bytes, soft_bytes, slot_bytes;
	u64 ring_bytes;
};

static int weir_layout_count(const struct weir_session *s, struct weir_layout *l)
{
	u32 i;

	*l = (struct weir_layout){};
	for (i = 0; i < s->n_extent; i++) {
		const struct weir_extent *x = &s->extent[i];
		u64 len = PAGE_ALIGN(x->length);

		/* No sum of sizes overflows: 2^20 extents of files below 2^63 bytes might. */
		if (x->kind == WEIR_EXTENT_PIN) {
			l->n_pin++;
			if (check_add_overflow(l->pin_bytes, len, &l->pin_bytes))
				return -ENOSPC;
			continue;
		}
		l->n_ring++;
		l->n_stream += x->kind == WEIR_EXTENT_STREAM;
		l->slot_bytes = max(l->slot_bytes, len);
		if (x->kind == WEIR_EXTENT_SOFT) {
			if (++l->n_soft > WEIR_MAX_SLOTS)
				return -ENOSPC;
			if (check_add_overflow(l->soft_bytes, len, &l->soft_bytes))
				return -ENOSPC;
		}
	}
	return 0;
}

/* How many slots a budget leaves. */
static int weir_layout_slots(const struct weir_layout *l, u64 budget, u32 *n_slot)
{
	u64 fixed, room;

	*n_slot = 0;
	if (check_add_overflow(l->pin_bytes, l->soft_bytes, &fixed) || fixed > budget)
		return -ENOSPC;
	if (!l->n_ring)
		return 0;
	room = div64_u64(budget - fixed, l->slot_bytes);
	*n_slot = min3(room, (u64)l->n_ring, (u64)WEIR_MAX_SLOTS);
	return *n_slot < min_t(u32, l->n_ring, 2) ? -ENOSPC : 0;
}

static u64 weir_largest_block(u64 bytes)
{
	return min_t(u64, rounddown_pow_of_two(bytes), SZ_2M);
}

static int weir_commit_arrays(struct weir_session *s, const struct weir_layout *l, u32 n_slot)
{
	u32 n_frame = l->n_soft + n_slot;

	s->place = kvmalloc_array(s->n_extent, sizeof(*s->place), GFP_KERNEL_ACCOUNT);
	s->pin_extent = kvcalloc(l->n_pin + 1, sizeof(*s->pin_extent), GFP_KERNEL_ACCOUNT);
	s->soft_extent = kvcalloc(l->n_soft + 1, sizeof(*s->soft_extent), GFP_KERNEL_ACCOUNT);
	s->frame = kvcalloc(n_frame + 1, sizeof(*s->frame), GFP_KERNEL_ACCOUNT);
	s->sched_extent = kvcalloc(s->n_extent, sizeof(*s->sched_extent), GFP_KERNEL_ACCOUNT);
	s->sched_slot = kvcalloc(n_slot + 1, sizeof(*s->sched_slot), GFP_KERNEL_ACCOUNT);
	if (!s->place || !s->pin_extent || !s->soft_extent || !s->frame || !s->sched_extent ||
	    !s->sched_slot)
		return -ENOMEM;
	return 0;
}

/* Numbers pins and soft extents, and gives the policy what streams. */
static int weir_commit_order(struct weir_session *s, const struct weir_layout *l)
{
	u32 *order, n = 0, i;

	order = kvmalloc_array(l->n_stream + 1, sizeof(*order), GFP_KERNEL_ACCOUNT);
	if (!order)
		return -ENOMEM;
	for (i = 0; i < s->n_extent; i++) {
		s->place[i] = WEIR_NO_FRAME;
		switch (s->extent[i].kind) {
		case WEIR_EXTENT_PIN:
			s->place[i] = s->n_pin;
			s->pin_extent[s->n_pin++] = i;
			break;
		case WEIR_EXTENT_SOFT:
			s->place[i] = s->n_soft;
			s->soft_extent[s->n_soft++] = i;
			break;
		case WEIR_EXTENT_STREAM:
			order[n++] = i;
			break;
		}
	}
	weir_sched_init(&s->sched, s->sched_extent, s->n_extent, s->sched_slot, s->n_slot, 1);
	weir_sched_schedule(&s->sched, order, n);
	s->sched.in_use = weir_slot_in_use;
	s->sched.arg = s;
	kvfree(order);
	return 0;
}

static int weir_commit_pins(struct weir_session *s)
{
	struct weir_extent *pinned;
	int ret;
	u32 i;

	if (!s->n_pin)
		return 0;
	pinned = kvmalloc_array(s->n_pin, sizeof(*pinned), GFP_KERNEL_ACCOUNT);
	if (!pinned)
		return -ENOMEM;
	for (i = 0; i < s->n_pin; i++)
		pinned[i] = s->extent[s->pin_extent[i]];
	ret = weir_pins_attach(s, pinned, s->n_pin);
	kvfree(pinned);
	return ret;
}

static int weir_commit_frames(struct weir_session *s, const struct weir_layout *l)
{
	u64 bytes = l->soft_bytes + s->n_slot * l->slot_bytes;
	int ret;
	u32 i;

	s->slot_bytes = l->slot_bytes;
	s->frame_base = round_up(l->pin_bytes, SZ_2M);
	/* Aligned to its own largest piece, which the page table can then map as one. */
	s->stride = l->slot_bytes ? round_up(l->slot_bytes, weir_largest_block(l->slot_bytes)) : 1;
	s->map_bytes = weir_frame_offset(s, s->n_soft + s->n_slot);
	if (!(s->n_soft + s->n_slot))
		s->map_bytes = l->pin_bytes;
	if (s->map_bytes > WEIR_MMAP_CONTROL)
		return -ENOMEM;
	if (!bytes)
		return 0;
	ret = weir_charge(&s->charge, bytes);
	for (i = 0; i < s->n_soft && !ret; i++)
		ret = weir_area_alloc(&s->frame[i].area, s->extent[s->soft_extent[i]].length);
	for (i = 0; i < s->n_slot && !ret; i++)
		ret = weir_area_alloc(&weir_slot_frame(s, i)->area, l->slot_bytes);
	return ret;
}

static void weir_publish_frames(struct weir_session *s)
{
	u32 i;

	for (i = 0; i < s->n_pin; i++)
		s->frame_offset[i] = s->pins->pin[i].offset;
	for (i = 0; i < s->n_soft + s->n_slot; i++)
		s->frame_offset[s->n_pin + i] = weir_frame_offset(s, i);
}

/* Back to where COMMIT began. */
static void weir_commit_undo(struct weir_session *s)
{
	weir_commit_free(s, NULL);
	s->frame = NULL;
	s->sched_slot = NULL;
	s->sched_extent = NULL;
	s->soft_extent = NULL;
	s->pin_extent = NULL;
	s->place = NULL;
	s->n_pin = 0;
	s->n_soft = 0;
	s->n_slot = 0;
}

static int weir_commit_all(struct weir_session *s, const struct weir_commit *a)
{
	struct weir_engine *e = &s->engine;
	struct weir_layout l;
	u32 n_slot, depth, i;
	int ret;

	for (i = 0; i < e->n_file; i++)
		if (weir_file_check(&e->file[i]))
			return -ESTALE;
	ret = weir_layout_count(s, &l);
	if (!ret)
		ret = weir_layout_slots(&l, a->budget, &n_slot);
	if (!ret)
		ret = weir_commit_arrays(s, &l, n_slot);
	if (ret)
		return ret;
	s->n_slot = n_slot;
	depth = clamp_t(u32, n_slot, 1, WEIR_DEPTH_MAX);
	weir_depth_init(&s->depth, min(a->depth, depth), depth);
	ret = weir_commit_order(s, &l);
	if (!ret)
		ret = weir_commit_frames(s, &l);
	if (!ret)
		ret = weir_control_alloc(s);
	/* One more than the depth: for a demand. */
	if (!ret && !e->read)
		ret = weir_engine_reads(e, depth + 1);
	/* Last, because others may share it from then on. */
	if (!ret)
		ret = weir_commit_pins(s);
	if (ret)
		return ret;
	weir_sched_set_depth(&s->sched, s->depth.now);
	weir_publish_frames(s);
	s->registered = a->flags & WEIR_COMMIT_REGISTERED;
	s->progress_ns = ktime_get_ns();
	return 0;
}

static u64 weir_session_own_bytes(const struct weir_session *s)
{
	return (u64)atomic64_read(&s->charge.bytes) +
	       (s->pins && !s->pins_shared ? s->pins->area.bytes : 0);
}

int weir_session_commit(struct weir_session *s, struct weir_commit *a)
{
	int ret;

	ret = weir_setup_lock(s);
	if (ret)
		return ret;
	ret = s->n_extent ? weir_commit_all(s, a) : -EINVAL;
	if (ret) {
		weir_commit_undo(s);
		mutex_unlock(&s->mutex);
		return ret;
	}
	a->shared_bytes = s->pins_shared ? s->pins->area.bytes : 0;
	a->pool_bytes = weir_session_own_bytes(s) + a->shared_bytes;
	a->map_bytes = s->map_bytes;
	a->control_bytes = (u64)s->n_control_page << PAGE_SHIFT;
	a->claims_bytes = (u64)s->n_claim_page << PAGE_SHIFT;
	a->n_frame = s->n_pin + s->n_soft + s->n_slot;
	a->n_slot = s->n_slot;
	a->slot_bytes = s->slot_bytes;
	/* From here on everybody may use it. */
	smp_store_release(&s->committed, true);
	if (s->pins)
		weir_pins_watch(s);
	mutex_unlock(&s->mutex);
	weir_engine_kick(&s->engine);
	return 0;
}

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
		return READ_ONCE(s->pins->pin[place].error) ?: -EIO;
	}
	return WEIR_WAIT;
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
	ret = wait_event_interruptible_hrtimeout(s->wait, READ_ONCE(s->turn) != turn,
						 ns_to_ktime(limit));
	return ret == -ERESTARTSYS ? -EINTR : 0;
}

static void weir_restore_slots(struct weir_session *s);

static int weir_acquire_one(struct weir_session *s, u32 extent, const struct weir_acquire_args *a,
			    u64 deadline, u64 *off)
{
	bool claim = !(a->flags & WEIR_ACQUIRE_WAIT_ONLY);
	u64 start = 0;
	u32 turn;
	int ret;

	for (;;) {
		spin_lock(&s->engine.lock);
		weir_sync(s);
		turn = s->turn;
		ret = weir_try_acquire(s, extent, claim, off);
		s->progress_ns = ktime_get_ns();
		spin_unlock(&s->engine.lock);
		if (ret != WEIR_WAIT)
			break;
		if (!start)
			start = ktime_get_ns();
		if (s->extent[extent].kind == WEIR_EXTENT_PIN)
			weir_pins_retry(s->pins, s->place[extent]);
		weir_restore_slots(s);
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

static u32 weir_count_ring(const struct weir_session *s, const u32 *list, u32 count)
{
	u32 n = 0, i;

	for (i = 0; i < count; i++)
		n += s->extent[list[i]].kind != WEIR_EXTENT_PIN &&
		     s->place[list[i]] == WEIR_NO_FRAME;
	return n;
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
		ret = weir_acquire_one(s, list[i], a, deadline, &off);
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
	spin_lock(&s->engine.lock);
	while (i-- && !(a->flags & WEIR_ACQUIRE_WAIT_ONLY))
		weir_release_one(s, list[i]);
	spin_unlock(&s->engine.lock);
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

int weir_session_release_list(struct weir_session *s, const u32 *list, u32 n)
{
	int ret = 0;
	u32 i;

	spin_lock(&s->engine.lock);
	for (i = 0; i < n && !ret; i++)
		ret = weir_release_one(s, list[i]) ? 0 : -EINVAL;
	weir_sync(s);
	s->progress_ns = ktime_get_ns();
	spin_unlock(&s->engine.lock);
	weir_engine_kick(&s->engine);
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
	for (i = 0; i < a->count; i++)
		if (s->extent[list[i]].kind != WEIR_EXTENT_PIN &&
		    s->place[list[i]] == WEIR_NO_FRAME)
			weir_sched_hint(&s->sched, list[i], a->priority);
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
		weir_engine_kick(&s->engine);
	}
	kvfree(list);
	return ret;
}

/* ---- under pressure ---- */

/* Slots that the consumer needs at once, and one to read into, and one that is read ahead. */
static u32 weir_least_slots(const struct weir_session *s)
{
	return min(s->most_held + 2, s->n_slot);
}

unsigned long weir_session_spare(struct weir_session *s)
{
	unsigned long pages = 0;
	u32 live, least, i;

	if (!weir_session_committed(s) || READ_ONCE(s->exports))
		return 0;
	spin_lock(&s->engine.lock);
	live = s->n_slot - s->n_gone;
	least = weir_least_slots(s);
	if (live > least)
		pages += (live - least) * (s->slot_bytes >> PAGE_SHIFT);
	for (i = 0; i < s->n_soft; i++)
		pages += s->frame[i].area.bytes >> PAGE_SHIFT;
	spin_unlock(&s->engine.lock);
	return pages;
}

/* Takes a soft extent's frame away, unless it is used. engine.lock */
static bool weir_demote(struct weir_session *s, u32 i)
{
	struct weir_frame *f = &s->frame[i];
	u32 extent = s->soft_extent[i], frame = weir_uapi_frame(s, f);

	if (!f->area.bytes || (s->state[extent] & WEIR_STATE_MASK) != WEIR_STATE_READY ||
	    !weir_control_withdraw(s, extent, frame))
		return false;
	if (weir_frame_referenced(s, f)) {
		weir_control_publish(s, extent, WEIR_STATE_READY, frame);
		return false;
	}
	weir_join_schedule(s, extent);
	s->demoted++;
	WRITE_ONCE(s->control->demoted, s->control->demoted + 1);
	return true;
}

/* One frame that can be spared, out of use; or NULL. */
static struct weir_frame *weir_take_frame(struct weir_session *s)
{
	u32 slot, i;

	/* A device may read all of it. */
	if (s->exports)
		return NULL;
	if (s->n_slot - s->n_gone > weir_least_slots(s) && weir_sched_retire(&s->sched, &slot)) {
		s->n_gone++;
		s->given_back++;
		return weir_slot_frame(s, slot);
	}
	for (i = s->n_soft; i--;)
		if (weir_demote(s, i))
			return &s->frame[i];
	return NULL;
}

unsigned long weir_session_give_back(struct weir_session *s, unsigned long pages)
{
	unsigned long given = 0;

	while (given < pages) {
		struct weir_area area = {};
		struct weir_frame *f;

		spin_lock(&s->engine.lock);
		f = weir_take_frame(s);
		if (f) {
			swap(area, f->area);
			s->pressure_ns = ktime_get_ns();
		}
		spin_unlock(&s->engine.lock);
		if (!f)
			break;
		weir_unmap_frame(s, f - s->frame);
		weir_uncharge_part(&s->charge, area.bytes);
		given += area.bytes >> PAGE_SHIFT;
		weir_area_free(&area);
	}
	if (given)
		trace_weir_pressure(&s->engine, pages, given);
	return given;
}

static bool weir_restore_slot(struct weir_session *s)
{
	struct weir_area area;
	u32 i;

	if (weir_charge_part(&s->charge, s->slot_bytes))
		return false;
	if (weir_area_alloc_nowait(&area, s->slot_bytes)) {
		weir_uncharge_part(&s->charge, s->slot_bytes);
		return false;
	}
	spin_lock(&s->engine.lock);
	for (i = 0; i < s->n_slot; i++)
		if (s->sched_slot[i].state == WEIR_SLOT_GONE)
			break;
	if (i < s->n_slot) {
		swap(area, weir_slot_frame(s, i)->area);
		weir_sched_restore(&s->sched, i);
		s->n_gone--;
	}
	spin_unlock(&s->engine.lock);
	if (area.bytes) {
		weir_uncharge_part(&s->charge, area.bytes);
		weir_area_free(&area);
	}
	return true;
}

/*
 * Takes memory again for slots that were given back, some time after the last one was. By the
 * consumer, when it waits: it is charged to its memory cgroup, and a ring that is too small is
 * what makes it wait.
 */
static void weir_restore_slots(struct weir_session *s)
{
	if (READ_ONCE(s->n_gone) && ktime_get_ns() - READ_ONCE(s->pressure_ns) >= WEIR_RESTORE_NS)
		weir_restore_slot(s);
}

bool weir_session_whole(struct weir_session *s)
{
	u32 i;

	while (READ_ONCE(s->n_gone))
		if (!weir_restore_slot(s))
			return false;
	for (i = 0; i < s->n_soft; i++)
		if (!s->frame[i].area.bytes)
			return false;
	return true;
}

/* ---- PRIORITY ---- */

void weir_session_set_background(struct weir_session *s, bool background)
{
	weir_engine_set_background(&s->engine, background);
}

/* ---- STATS ---- */

void weir_session_count(struct weir_session *s, struct weir_stats *a)
{
	struct weir_engine *e = &s->engine;

	spin_lock(&e->lock);
	a->read_bytes = e->count.read_bytes;
	a->reads = e->count.reads;
	a->errors = e->count.errors;
	a->io_ns = e->count.io_ns + (e->in_flight ? ktime_get_ns() - e->count.io_since : 0);
	a->in_flight = e->in_flight;
	a->depth = s->depth.now;
	weir_sync(s);
	a->acquires = s->acquires;
	a->late = s->sched.stats.late;
	a->misses = s->sched.stats.misses;
	a->hits = s->acquires - min(s->acquires, a->late + a->misses);
	a->reordered = s->sched.stats.reordered;
	a->evicted = s->sched.stats.evicted;
	a->waits = s->waits;
	a->wait_ns = s->wait_ns;
	a->held_back = s->held_back;
	a->given_back = s->given_back;
	a->demoted = s->demoted;
	a->pinned_bytes = weir_session_own_bytes(s);
	a->shared_bytes = s->pins_shared ? s->pins->area.bytes : 0;
	a->pin_bytes = 0;
	spin_unlock(&e->lock);
	if (s->pins && !s->pins_shared) {
		a->pin_bytes = READ_ONCE(s->pins->engine.count.read_bytes);
		a->read_bytes += a->pin_bytes;
		a->reads += READ_ONCE(s->pins->engine.count.reads);
		a->errors += READ_ONCE(s->pins->engine.count.errors);
	}
}

int weir_session_stats(struct weir_session *s, struct weir_stats *a)
{
	if (!weir_session_committed(s))
		return -EBUSY;
	weir_session_count(s, a);
	return 0;
}
