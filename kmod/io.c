// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine: asynchronous direct reads from files into areas.
 *
 * A completion, which may run in an interrupt, puts the read on a lock-free list and queues the
 * engine's work item. The work item takes in what has completed, asks its owner for what to read
 * next, and submits that: through vfs_iocb_iter_read(), which asks the security modules, under the
 * credentials of whoever opened the session.
 *
 * Submitting may block where nothing can kill it (for a request of a queue that is full, for a
 * file system's own blocks), so no system call does it. But a consumer that waits takes in itself
 * what has arrived (weir_engine_take_in()). And where flash has too little to do, and the way to
 * the work item is long because there is no CPU to spare, the consumer lets a second work item run
 * here and now, on its own CPU (weir_engine_hurry()), and sleeps a moment for it after a release
 * (weir_engine_run()). In a guest with more CPUs than were free that way took 1 to 12 ms, and a
 * ring of 4 slots reached 57 to 92% of a drive of 20 MB/s; it now reaches 88 to 101%. Where CPUs
 * are free the first work item is better: it submits beside the consumer's own work (4.5 GB/s
 * instead of 3.2 from an emulated drive without a limit).
 *
 * A read is repeated from where it stopped as long as it makes progress, and a few times when it
 * makes none. What counts as read are the bytes that the file has: a direct read of its last,
 * partial block may deliver more, which is zeroed.
 *
 * Background engines start nothing while a foreground engine has reads in flight, but for one
 * read every background_ms, so that whoever waits for them does not wait for ever.
 */
#include <linux/blkdev.h>
#include <linux/ioprio.h>
#include <linux/pagemap.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uio.h>

#include "trace.h"
#include "weir.h"

#define WEIR_RETRIES 4
#define WEIR_LAG_NS  (500 * NSEC_PER_USEC) /* some 20 times what it takes on a free CPU */
#define WEIR_HERE_NS (100 * NSEC_PER_USEC) /* at most one run here in this time */
#define WEIR_RUN_NS  NSEC_PER_MSEC	   /* a submission that blocks is waited for no longer */

unsigned int weir_background_ms = 200;
module_param_named(background_ms, weir_background_ms, uint, 0644);
MODULE_PARM_DESC(background_ms,
		 "a background session held back by foreground ones makes one read in this time");

static struct workqueue_struct *weir_wq;
/* On the CPU that queues, before anything else there. */
static struct workqueue_struct *weir_here_wq;
/* For what must not wait behind work items that a device keeps waiting. */
static struct workqueue_struct *weir_aside_wq;
static atomic_t weir_foreground_reads = ATOMIC_INIT(0);
static DEFINE_SPINLOCK(weir_background_lock);
static LIST_HEAD(weir_background);

static void weir_background_kick(struct work_struct *work);
static DECLARE_DELAYED_WORK(weir_background_work, weir_background_kick);

/* ---- references ---- */

static void weir_engine_free_reads(struct weir_engine *e)
{
	u32 i;

	for (i = 0; i < e->n_read; i++)
		kvfree(e->read[i].bv);
	kvfree(e->read);
	e->read = NULL;
	e->n_read = 0;
	INIT_LIST_HEAD(&e->free_reads);
}

static void weir_engine_free(struct weir_engine *e)
{
	struct weir_end *end;
	u32 i;

	/* May hand e->end on to whom it put the last reference of. */
	e->ops->fini(e);
	weir_engine_free_reads(e);
	for (i = 0; i < e->n_file; i++)
		weir_file_close(&e->file[i]);
	kvfree(e->file);
	put_cred(e->cred);
	end = e->end;
	kfree(e);
	if (end) {
		complete_all(&end->gone);
		weir_end_put(end);
	}
}

static void weir_engine_free_work(struct work_struct *work)
{
	weir_engine_free(container_of(work, struct weir_engine, free_work));
	/* weir_io_exit() waits for this work item to return. */
	module_put(THIS_MODULE);
}

void weir_engine_abandon(struct weir_engine *e)
{
	weir_engine_free(e);
	module_put(THIS_MODULE);
}

void weir_end_put(struct weir_end *end)
{
	if (refcount_dec_and_test(&end->ref))
		kfree(end);
}

/* May be the last act of an interrupt: the rest is left to a context that can sleep. */
static void weir_engine_release(struct kref *ref)
{
	struct weir_engine *e = container_of(ref, struct weir_engine, ref);

	queue_work(weir_aside_wq, &e->free_work);
}

void weir_engine_get(struct weir_engine *e)
{
	kref_get(&e->ref);
}

void weir_engine_put(struct weir_engine *e)
{
	kref_put(&e->ref, weir_engine_release);
}

static void weir_engine_release_now(struct kref *ref)
{
	weir_engine_abandon(container_of(ref, struct weir_engine, ref));
}

void weir_engine_put_now(struct weir_engine *e)
{
	kref_put(&e->ref, weir_engine_release_now);
}

/* Queues the work item, which takes over a reference of the caller's. */
static void weir_engine_queue(struct weir_engine *e)
{
	if (!work_pending(&e->work))
		WRITE_ONCE(e->queued_ns, ktime_get_ns());
	if (!queue_work(weir_wq, &e->work))
		weir_engine_put(e);
}

void weir_engine_kick(struct weir_engine *e)
{
	weir_engine_get(e);
	weir_engine_queue(e);
}

/* ---- background ---- */

static void weir_background_kick(struct work_struct *work)
{
	struct weir_engine *e, *next;
	LIST_HEAD(list);

	spin_lock(&weir_background_lock);
	list_splice_init(&weir_background, &list);
	list_for_each_entry_safe(e, next, &list, background_node) {
		list_del_init(&e->background_node);
		weir_engine_kick(e);
		weir_engine_put(e);
	}
	spin_unlock(&weir_background_lock);
}

static void weir_hold_back(struct weir_engine *e)
{
	spin_lock(&weir_background_lock);
	if (list_empty(&e->background_node) && !READ_ONCE(e->dead)) {
		weir_engine_get(e);
		list_add_tail(&e->background_node, &weir_background);
	}
	spin_unlock(&weir_background_lock);
	queue_delayed_work(weir_aside_wq, &weir_background_work,
			   msecs_to_jiffies(READ_ONCE(weir_background_ms)));
}

static bool weir_may_submit(struct weir_engine *e)
{
	u64 pause = READ_ONCE(weir_background_ms) * (u64)NSEC_PER_MSEC;

	if (!READ_ONCE(e->background) || !atomic_read(&weir_foreground_reads))
		return true;
	if (!READ_ONCE(e->in_flight) && ktime_get_ns() - e->last_submit_ns >= pause)
		return true;
	weir_hold_back(e);
	/* The last foreground read may have ended before we were on the list. */
	return !atomic_read(&weir_foreground_reads);
}

void weir_engine_set_background(struct weir_engine *e, bool background)
{
	WRITE_ONCE(e->background, background);
	weir_engine_kick(e);
}

void weir_engine_kill(struct weir_engine *e)
{
	bool held_back;

	/* Locked: whoever looks at it before starting a timer has started it, or sees it. */
	spin_lock(&e->lock);
	WRITE_ONCE(e->dead, true);
	spin_unlock(&e->lock);
	spin_lock(&weir_background_lock);
	held_back = !list_empty(&e->background_node);
	list_del_init(&e->background_node);
	spin_unlock(&weir_background_lock);
	if (held_back)
		weir_engine_put(e);
}

/* ---- one read ---- */

static void weir_read_complete(struct weir_read *r, long result)
{
	struct weir_engine *e = r->engine;

	r->result = result;
	/* Whoever takes it from the list puts the read's reference: this needs one of its own. */
	weir_engine_get(e);
	llist_add(&r->done_node, &e->done);
	if (e->ops->arrived)
		e->ops->arrived(e);
	weir_engine_queue(e);
}

#ifdef HAVE_KI_COMPLETE_2ARGS
static void weir_ki_complete(struct kiocb *iocb, long result)
#else
static void weir_ki_complete(struct kiocb *iocb, long result, long result2)
#endif
{
	weir_read_complete(container_of(iocb, struct weir_read, iocb), result);
}

static u64 weir_read_end(const struct weir_read *r, const struct weir_file *f)
{
	/* The last block of a file is read whole. */
	return f->direct ? round_up(r->t.len, f->align) : r->t.len;
}

static void weir_read_submit(struct weir_read *r)
{
	struct weir_engine *e = r->engine;
	struct weir_file *f = &e->file[r->t.file];
	struct iov_iter iter;
	ssize_t ret;
	u64 len;
	u32 n;

	r->from = f->direct ? round_down(r->done, f->align) : r->done;
	len = weir_read_end(r, f) - r->from;
	n = weir_area_bvec(r->t.area, r->t.area_off + r->from, len, r->bv);
	iov_iter_bvec(&iter, READ, r->bv, n, len);
	init_sync_kiocb(&r->iocb, f->file);
	r->iocb.ki_pos = r->t.off + r->from;
	r->iocb.ki_complete = weir_ki_complete;
	r->iocb.ki_ioprio =
		READ_ONCE(e->background) ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) : e->ioprio;
	r->iocb.ki_flags &= ~(IOCB_DIRECT | IOCB_NOWAIT);
	if (f->direct)
		r->iocb.ki_flags |= IOCB_DIRECT;
	trace_weir_submit(e, &r->t, r->from, len);
	ret = e->submit(f->file, &r->iocb, &iter);
	if (ret != -EIOCBQUEUED)
		weir_read_complete(r, ret);
}

static void weir_read_start(struct weir_engine *e, const struct weir_target *t)
{
	struct weir_read *r;

	spin_lock(&e->lock);
	r = list_first_entry(&e->free_reads, struct weir_read, free_node);
	list_del(&r->free_node);
	r->t = *t;
	r->done = 0;
	r->retries = 0;
	r->start_ns = ktime_get_ns();
	e->last_submit_ns = r->start_ns;
	if (!e->in_flight++)
		e->count.io_since = r->start_ns;
	spin_unlock(&e->lock);
	/* A read counts where it was started, though its engine may change sides meanwhile. */
	r->background = READ_ONCE(e->background);
	if (!r->background)
		atomic_inc(&weir_foreground_reads);
	weir_engine_get(e);
	weir_read_submit(r);
}

static void weir_read_finish(struct weir_read *r, int error)
{
	struct weir_engine *e = r->engine;
	struct weir_file *f = &e->file[r->t.file];
	u64 now = ktime_get_ns(), tail;

	if (!error)
		error = weir_file_check(f);
	if (!error) {
		tail = PAGE_ALIGN(r->t.area_off + r->t.len) - (r->t.area_off + r->t.len);
		weir_area_zero(r->t.area, r->t.area_off + r->t.len, tail);
		if (!f->direct)
			invalidate_mapping_pages(f->file->f_mapping, r->t.off >> PAGE_SHIFT,
						 (r->t.off + r->t.len - 1) >> PAGE_SHIFT);
	}
	trace_weir_complete(e, &r->t, error, now - r->start_ns);
	spin_lock(&e->lock);
	e->count.reads++;
	e->count.errors += error != 0;
	if (!--e->in_flight)
		e->count.io_ns += now - e->count.io_since;
	spin_unlock(&e->lock);
	/* Whoever is put on the list after this look sees that there are no reads. */
	if (!r->background && atomic_dec_and_test(&weir_foreground_reads) &&
	    !list_empty_careful(&weir_background))
		mod_delayed_work(weir_aside_wq, &weir_background_work, 0);
	e->ops->complete(e, &r->t, error);
	spin_lock(&e->lock);
	list_add(&r->free_node, &e->free_reads);
	spin_unlock(&e->lock);
	weir_engine_put(e);
}

/* Takes in what one submission brought. */
static void weir_read_advance(struct weir_read *r)
{
	struct weir_engine *e = r->engine;
	u64 end, before = r->done;
	long result = r->result;

	if (result > 0) {
		end = min_t(u64, r->from + result, r->t.len);
		r->done = max(before, end);
		spin_lock(&e->lock);
		e->count.read_bytes += r->done - before;
		spin_unlock(&e->lock);
		if (r->done == r->t.len) {
			weir_read_finish(r, 0);
			return;
		}
	}
	if (r->done != before)
		r->retries = 0;
	/* The end of a file that was longer: says -ESTALE, or what it is. */
	if (!result)
		result = weir_file_check(&e->file[r->t.file]) ?: -EIO;
	else if (result > 0 || result == -EAGAIN || result == -EINTR || result == -EIO)
		result = ++r->retries > WEIR_RETRIES ? -EIO : 0;
	if (!result && READ_ONCE(e->dead))
		result = -ECANCELED;
	if (result)
		weir_read_finish(r, result);
	else
		weir_read_submit(r);
}

/* ---- the work items ---- */

static void weir_engine_reap(struct weir_engine *e)
{
	struct llist_head *lists[] = {&e->rest, &e->done};
	struct weir_read *r, *next;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		struct llist_node *list = llist_reverse_order(llist_del_all(lists[i]));

		llist_for_each_entry_safe(r, next, list, done_node)
			weir_read_advance(r);
	}
}

/* Has all of it arrived, with nothing left to do that may block? */
static bool weir_read_whole(const struct weir_read *r)
{
	return r->engine->file[r->t.file].direct && r->result > 0 &&
	       r->from + r->result >= r->t.len;
}

void weir_engine_take_in(struct weir_engine *e)
{
	const struct cred *old;
	struct weir_read *r, *next;
	struct llist_node *list;

	if (llist_empty(&e->done))
		return;
	list = llist_del_all(&e->done);
	/* What is asked of the file must not depend on who happens to take a read in. */
	old = override_creds(e->cred);
	llist_for_each_entry_safe(r, next, llist_reverse_order(list), done_node) {
		if (weir_read_whole(r))
			weir_read_advance(r);
		else
			llist_add(&r->done_node, &e->rest);
	}
	revert_creds(old);
	/* The work item, which submits, may have run before this was taken in. */
	if (list)
		weir_engine_kick(e);
}

static void weir_engine_submit(struct weir_engine *e)
{
	struct weir_target t;
	struct blk_plug plug;

	blk_start_plug(&plug);
	while (!READ_ONCE(e->dead) && !list_empty(&e->free_reads) && weir_may_submit(e) &&
	       e->ops->next(e, &t))
		weir_read_start(e, &t);
	blk_finish_plug(&plug);
}

/* What both work items do, one at a time. */
static void weir_engine_do(struct weir_engine *e)
{
	const struct cred *old = override_creds(e->cred);

	/* Reads that were not asynchronous have ended by now. */
	do {
		weir_engine_reap(e);
		weir_engine_submit(e);
		cond_resched();
	} while (!llist_empty(&e->done) || !llist_empty(&e->rest));
	e->ops->settle(e);
	revert_creds(old);
	WRITE_ONCE(e->runs, e->runs + 1);
	/* Its barrier: the sleeper sees the count, or we see the sleeper. */
	if (wq_has_sleeper(&e->ran))
		wake_up_all(&e->ran);
}

static void weir_engine_work(struct work_struct *work)
{
	struct weir_engine *e = container_of(work, struct weir_engine, work);
	u64 queued = READ_ONCE(e->queued_ns), lag = ktime_get_ns() - queued;

	/* Unless it waited for itself, this is how long the way to it takes at present. */
	if (queued > e->ran_ns)
		WRITE_ONCE(e->lag_ns, (e->lag_ns * 7 + min_t(u64, lag, 4 * WEIR_LAG_NS)) / 8);
	mutex_lock(&e->busy);
	weir_engine_do(e);
	mutex_unlock(&e->busy);
	e->ran_ns = ktime_get_ns();
	weir_engine_put(e);
}

static void weir_engine_work_here(struct work_struct *work)
{
	struct weir_engine *e = container_of(work, struct weir_engine, work_here);

	/* Where the other one has it, that one runs once more, as it was queued too. */
	if (mutex_trylock(&e->busy)) {
		weir_engine_do(e);
		mutex_unlock(&e->busy);
	}
	weir_engine_put(e);
}

/* Has this machine no CPU to spare? */
static bool weir_engine_lags(const struct weir_engine *e)
{
	return READ_ONCE(e->lag_ns) >= WEIR_LAG_NS;
}

bool weir_engine_hurry(struct weir_engine *e)
{
	u64 now = ktime_get_ns();
	/* Whoever asks all the time has no more of this CPU for it than others would leave him. */
	bool here = weir_engine_lags(e) && now - READ_ONCE(e->here_ns) >= WEIR_HERE_NS;

	if (here) {
		WRITE_ONCE(e->here_ns, now);
		weir_engine_get(e);
		if (!queue_work(weir_here_wq, &e->work_here))
			weir_engine_put(e);
	}
	/* All the same: this CPU may be kept busy by somebody who never lets go of it. */
	weir_engine_kick(e);
	return here;
}

void weir_engine_run(struct weir_engine *e)
{
	u32 runs = READ_ONCE(e->runs);

	/* However the wait ends: a work item will run. */
	if (weir_engine_hurry(e) && !mutex_is_locked(&e->busy))
		wait_event_interruptible_hrtimeout(e->ran, READ_ONCE(e->runs) != runs,
						   ns_to_ktime(WEIR_RUN_NS));
}

/* ---- life ---- */

int weir_engine_init(struct weir_engine *e, const struct weir_engine_ops *ops)
{
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	e->ops = ops;
	kref_init(&e->ref);
	INIT_WORK(&e->work, weir_engine_work);
	INIT_WORK(&e->work_here, weir_engine_work_here);
	mutex_init(&e->busy);
	init_waitqueue_head(&e->ran);
	INIT_WORK(&e->free_work, weir_engine_free_work);
	spin_lock_init(&e->lock);
	init_llist_head(&e->done);
	init_llist_head(&e->rest);
	INIT_LIST_HEAD(&e->free_reads);
	INIT_LIST_HEAD(&e->background_node);
	e->cred = get_current_cred();
	e->ioprio = get_current_ioprio();
	e->submit = vfs_iocb_iter_read;
	return 0;
}

int weir_engine_reads(struct weir_engine *e, u32 n)
{
	/* At worst single pages, and a target need not begin with one. */
	u32 max_bv = WEIR_READ_MAX / PAGE_SIZE + 1, i;

	/* Of a COMMIT that failed. */
	weir_engine_free_reads(e);
	e->read = kvcalloc(n, sizeof(*e->read), WEIR_GFP);
	if (!e->read)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		struct weir_read *r = &e->read[i];

		r->bv = kvmalloc_array(max_bv, sizeof(*r->bv), WEIR_GFP);
		if (!r->bv)
			return -ENOMEM;
		r->engine = e;
		list_add_tail(&r->free_node, &e->free_reads);
		e->n_read++;
	}
	return 0;
}

static void weir_io_destroy(void)
{
	if (weir_wq)
		destroy_workqueue(weir_wq);
	if (weir_here_wq)
		destroy_workqueue(weir_here_wq);
	/* Last: waits for the work item that gave back the last reference on this module. */
	if (weir_aside_wq)
		destroy_workqueue(weir_aside_wq);
}

int weir_io_init(void)
{
	weir_wq = alloc_workqueue("weir", WQ_UNBOUND | WQ_FREEZABLE, WQ_MAX_ACTIVE);
	weir_here_wq =
		alloc_workqueue("weir_here", WQ_HIGHPRI | WQ_CPU_INTENSIVE | WQ_FREEZABLE, 0);
	weir_aside_wq = alloc_workqueue("weir_aside", WQ_UNBOUND, 0);
	if (weir_wq && weir_here_wq && weir_aside_wq)
		return 0;
	weir_io_destroy();
	return -ENOMEM;
}

void weir_io_exit(void)
{
	cancel_delayed_work_sync(&weir_background_work);
	weir_io_destroy();
	/*
	 * And for the completion that queued it, which may not have returned yet: from an
	 * interrupt, or in a task, which may have been preempted just there.
	 */
	synchronize_rcu();
	synchronize_rcu_tasks();
}
