// SPDX-License-Identifier: GPL-2.0-only
/*
 * A session: one open file of /dev/weir, from open to close. COMMIT is in commit.c, what a
 * consumer does in consume.c, what the engine does for it in ring.c.
 *
 * Extents of kind STREAM and ON_DEMAND go through the ring, which weir_sched runs: its extents
 * have the numbers of the uapi, its slots are the last n_slot of session.frame. What is pinned
 * never enters the policy. A soft extent has a frame of its own, filled first, and joins the
 * schedule only when that frame is taken away.
 */
#include <linux/ktime.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "ring.h"

#define WEIR_CLOSE_WAIT HZ /* a close() gives a device that hangs so long */

LIST_HEAD(weir_sessions);
DEFINE_SPINLOCK(weir_sessions_lock);
static atomic64_t weir_last_id;

/* ---- open and close ---- */

/* What COMMIT allocates. @end: who waits for it to be gone, handed on to pins nobody else uses. */
void weir_commit_free(struct weir_session *s, struct weir_end **end)
{
	u32 i;

	weir_pins_unwatch(s);
	if (s->frame)
		for (i = 0; i < s->n_soft + s->n_slot; i++)
			weir_area_free(&s->frame[i].area);
	weir_control_free(s);
	weir_uncharge(&s->charge);
	/* After what is this session's own: it may wait for another's COMMIT. */
	weir_pins_detach(s, end);
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
	.arrived = weir_session_arrived,
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
	weir_engine_kill(&s->engine);
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
int weir_setup_lock(struct weir_session *s)
{
	int ret = mutex_lock_killable(&s->mutex);

	if (!ret && s->committed) {
		mutex_unlock(&s->mutex);
		ret = -EBUSY;
	}
	return ret;
}

int weir_answer(void __user *user, const void *answer, u32 size)
{
	return user && copy_to_user(user, answer, size) ? -EFAULT : 0;
}

int weir_session_attach(struct weir_session *s, struct weir_attach *a, void __user *user)
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
	/* Last: whoever is not told has attached nothing. */
	ret = weir_answer(user, a, min_t(u32, a->size, sizeof(*a)));
	if (ret)
		weir_file_close(&f);
	else
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

/* ---- PRIORITY ---- */

int weir_session_set_background(struct weir_session *s, bool background)
{
	/* COMMIT decides what its pins are to be. */
	int ret = mutex_lock_killable(&s->mutex);

	if (ret)
		return ret;
	weir_engine_set_background(&s->engine, background);
	if (s->committed && s->pins)
		weir_pins_set_background(s->pins);
	mutex_unlock(&s->mutex);
	return 0;
}

/* ---- STATS ---- */

void weir_session_count(struct weir_session *s, struct weir_stats *a)
{
	struct weir_engine *e = &s->engine;
	bool moved;

	spin_lock(&e->lock);
	a->read_bytes = e->count.read_bytes;
	a->reads = e->count.reads;
	a->errors = e->count.errors;
	a->io_ns = e->count.io_ns + (e->in_flight ? ktime_get_ns() - e->count.io_since : 0);
	a->in_flight = e->in_flight;
	a->depth = s->depth.now;
	moved = weir_sync(s);
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
	/* Nobody else would notice what has been released. */
	if (moved)
		weir_engine_kick(e);
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
