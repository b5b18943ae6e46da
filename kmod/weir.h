/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * weir.ko inside. The words (extent, frame, pool, session) are those of the uapi header.
 *
 *	engine	carries out reads: asks its owner what to read next, submits it, and reports how
 *		it ended. Its work items submit, one at a time.
 *	area	physical memory: a list of compound pages, largest first.
 *	pins	the pinned extents of one or more sessions with the same layout of the same
 *		files. An engine that runs until all is read.
 *	session	one open file of /dev/weir. An engine that runs the ring.
 *
 * Who holds whom
 *	A session and its pins are engines, and engines are counted: a session by its file, by
 *	its dma-bufs, by every read in flight and by a work item that is queued; pins by the
 *	sessions that attached them and in the same way by reads and work. So memory that a device
 *	may still write to, and the code that a completion returns to, outlive a close(); nothing
 *	waits for a device that hangs. An engine holds a reference on the module.
 *
 * Locks
 *	lock			protects				may sleep
 *	weir_session.mutex	set-up: files, extents, COMMIT, EXPORT	yes
 *	weir_pins_mutex		list of shared pins, their users	yes
 *	weir_engine.busy	submitting				yes
 *	weir_engine.lock	sched, frames, claims' shadow, reads	no
 *	weir_sessions_lock	list of sessions			no
 *	weir_background_lock	engines that were held back		no
 *
 *	mmap_lock > engine.lock (faults); session.mutex > weir_pins_mutex > engine.lock of pins
 *	> engine.lock of a session; sessions_lock > engine.lock; engine.busy > engine.lock. None
 *	is taken in interrupts: a completion adds to a lock-free list, wakes whoever waits and
 *	queues the work item.
 */
#ifndef WEIR_H
#define WEIR_H

#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/sched/user.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../include/uapi/linux/weir.h"
#include "weir_config.h"
#include "weir_depth.h"
#include "weir_sched.h"

#undef pr_fmt
#define pr_fmt(fmt) "weir: " fmt

/* ---- memory (pool.c) ---- */

/* What COMMIT allocates: charged to the caller, and fails before anything is killed for it. */
#define WEIR_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* A compound page. */
struct weir_block {
	struct page *page;
	u32 pgoff; /* of its first page in the area */
	u32 order;
};

struct weir_area {
	struct weir_block *block;
	u32 n_block;
	u64 bytes; /* whole pages */
};

/*
 * Zeroed, charged to the caller's memory cgroup. -ENOMEM with nothing held; -EINTR when the
 * caller was killed. May take long: killable, never drives the machine out of memory.
 */
int weir_area_alloc(struct weir_area *a, u64 bytes);
/* The same without waiting for anything: for memory that was given back. */
int weir_area_alloc_nowait(struct weir_area *a, u64 bytes);
void weir_area_free(struct weir_area *a);
/* NULL beyond the end. No reference is taken. */
struct page *weir_area_page(const struct weir_area *a, pgoff_t pgoff);
/* Pieces that [off, off + len) consists of. @bv: NULL to count them. */
u32 weir_area_bvec(const struct weir_area *a, u64 off, u64 len, struct bio_vec *bv);
void weir_area_zero(const struct weir_area *a, u64 off, u64 len);
/* Does anything but us and the page tables hold a page of it? */
bool weir_area_referenced(const struct weir_area *a);

/* What a user has pinned, against RLIMIT_MEMLOCK, and all users, against max_pinned_mb. */
struct weir_charge {
	struct user_struct *user; /* NULL: nothing was charged */
	atomic64_t bytes;
	bool locked_vm; /* counted there; not for CAP_IPC_LOCK */
};

int weir_charge(struct weir_charge *c, u64 bytes);
void weir_uncharge(struct weir_charge *c);
/* Gives back a part, or takes it again, which may fail. */
void weir_uncharge_part(struct weir_charge *c, u64 bytes);
int weir_charge_part(struct weir_charge *c, u64 bytes);
u64 weir_pinned_max(void);
u64 weir_pinned_now(void);
u64 weir_frame_sizes(void);

/* ---- files (file.c) ---- */

struct weir_file {
	struct file *file;
	u64 bytes;
	struct timespec64 ctime;
	u32 align; /* of offsets and lengths of direct reads */
	bool direct;
};

int weir_file_open(struct weir_file *f, int fd, bool allow_buffered);
void weir_file_close(struct weir_file *f);
/* A second holder of the same file. */
void weir_file_dup(struct weir_file *to, const struct weir_file *from);
/* 0, or -ESTALE where it is not what it was. */
int weir_file_check(const struct weir_file *f);
bool weir_file_same(const struct weir_file *a, const struct weir_file *b);

/* ---- engine (io.c) ---- */

struct weir_engine;

/* One read: [off, off + len) of a file to [area_off, ...) of an area. */
struct weir_target {
	const struct weir_area *area;
	u64 area_off;
	u64 off, len;
	u32 file;
	u32 extent; /* the owner's own numbers */
	u32 slot;
};

struct weir_read {
	struct kiocb iocb;
	struct llist_node done_node;
	struct list_head free_node;
	struct weir_engine *engine;
	struct weir_target t;
	long result;
	u64 from; /* where in the target this submission begins */
	u64 done; /* bytes of the target that have arrived */
	u64 start_ns;
	struct bio_vec *bv;
	bool background;
	u32 retries;
};

/* The longest read; what is longer is read in pieces. */
#define WEIR_READ_MAX SZ_4M

struct weir_engine_ops {
	/* What to read next; false: nothing now. Called by the work item. */
	bool (*next)(struct weir_engine *e, struct weir_target *t);
	/* A read ended, or could not be made. @error: 0 or a negative errno. */
	void (*complete)(struct weir_engine *e, const struct weir_target *t, int error);
	/* A read has ended: whoever waits may take it in. In any context. May be NULL. */
	void (*arrived)(struct weir_engine *e);
	/* The work item is about to end. */
	void (*settle)(struct weir_engine *e);
	/* The last reference is gone: free what the owner holds. May sleep. */
	void (*fini)(struct weir_engine *e);
};

/* Where a close() waits, for a moment, until what it closed is gone. */
struct weir_end {
	refcount_t ref;
	struct completion gone;
};

void weir_end_put(struct weir_end *end);

struct weir_counters {
	u64 read_bytes, reads, errors;
	u64 io_ns; /* with at least one read in flight, up to io_since */
	u64 io_since;
};

/* The first member of its owner, which is freed by kfree(). */
struct weir_engine {
	const struct weir_engine_ops *ops;
	struct kref ref;
	u64 id;			 /* of the session; 0: pins */
	struct weir_end *end;	 /* told when all is freed; or NULL */
	struct work_struct work; /* on any CPU; submits, as work_here does */
	struct work_struct work_here;
	struct mutex busy; /* held by whichever of the two runs */
	struct work_struct free_work;
	u64 queued_ns, ran_ns; /* when work was queued, and when it ended */
	u64 lag_ns;	       /* from queueing work to its run; a moving average */
	u64 here_ns;	       /* when work_here was queued */
	u32 runs;	       /* of both */
	wait_queue_head_t ran;
	spinlock_t lock;	 /* protects what the table of locks says */
	struct llist_head done;	 /* reads that have ended */
	struct llist_head rest;	 /* of those, what is left to the work item */
	const struct cred *cred; /* whoever opened the session */
	u16 ioprio;		 /* its */
	struct weir_file *file;
	u32 n_file;
	u32 in_flight;
	bool dead; /* nobody wants what it reads */
	bool background;
	struct list_head background_node; /* in the list of engines that were held back */
	u64 last_submit_ns;
	struct list_head free_reads;
	struct weir_read *read;
	u32 n_read;
	struct weir_counters count;
	/* How a read is made: vfs_iocb_iter_read(), or a fake one in tests. */
	ssize_t (*submit)(struct file *file, struct kiocb *iocb, struct iov_iter *iter);
};

int weir_engine_init(struct weir_engine *e, const struct weir_engine_ops *ops);
/* Room for @n reads in flight. */
int weir_engine_reads(struct weir_engine *e, u32 n);
/* Frees an engine that nobody else knows, at once. */
void weir_engine_abandon(struct weir_engine *e);
void weir_engine_get(struct weir_engine *e);
void weir_engine_put(struct weir_engine *e);
/* From a context that can sleep: where it is the last reference, it is gone on return. */
void weir_engine_put_now(struct weir_engine *e);
/* Lets the work item run (again). From any context, by whoever holds a reference. */
void weir_engine_kick(struct weir_engine *e);
/* The same where flash has too little to do. True: it will run here as soon as this task sleeps. */
bool weir_engine_hurry(struct weir_engine *e);
/* And sleeps for that, a millisecond at most. */
void weir_engine_run(struct weir_engine *e);
/* Takes in what has arrived, as the work item would, but for what takes long. */
void weir_engine_take_in(struct weir_engine *e);
void weir_engine_set_background(struct weir_engine *e, bool background);
/* Nobody wants what it reads any more: it starts no read, and nobody holds it back. */
void weir_engine_kill(struct weir_engine *e);

int weir_io_init(void);
void weir_io_exit(void);

/* ---- pins (pins.c) ---- */

struct weir_session;

struct weir_pin {
	u64 offset; /* in the area */
	u32 pieces; /* being read */
	s32 error;  /* of the first piece that failed */
	s32 failed; /* what it failed with, the last time it did; to be told */
	enum { WEIR_PIN_TODO, WEIR_PIN_READING, WEIR_PIN_READ, WEIR_PIN_FAILED } state;
};

struct weir_pins {
	struct weir_engine engine; /* first */
	struct list_head node;	   /* in the list of what may be shared */
	struct list_head sessions; /* who is told; engine.lock */
	u32 users;		   /* weir_pins_mutex */
	bool stale;		   /* a file has changed: not to be shared any more */
	u32 n_extent;
	struct weir_extent *extent;
	struct weir_pin *pin; /* [n_extent] */
	struct weir_area area;
	struct weir_charge charge;
	u32 next; /* the first that may have to be read */
	u64 at;	  /* how much of it has been submitted */
};

/* The pinned extents of a session, shared with other sessions where they are the same. */
int weir_pins_attach(struct weir_session *s, const struct weir_extent *extent, u32 n);
/* From here on the session's control page shows what has been read. */
void weir_pins_watch(struct weir_session *s);
/* Reads a pinned extent again that could not be read. */
void weir_pins_retry(struct weir_pins *p, u32 pin);
/* They are background where all their sessions are. */
void weir_pins_set_background(struct weir_pins *p);
/* The opposite of weir_pins_watch(). */
void weir_pins_unwatch(struct weir_session *s);
/* @end: handed on to the pins, where this was their last session; or NULL. */
void weir_pins_detach(struct weir_session *s, struct weir_end **end);

/* ---- session (session.c) ---- */

#define WEIR_NO_FRAME 0xffffffffu

/* Memory of a slot of the ring, or of a soft extent. */
struct weir_frame {
	struct weir_area area; /* bytes == 0: given back */
	u32 seen_acquired, seen_released;
	u32 pieces;	 /* being read */
	s32 error;	 /* of the first piece that failed */
	bool held;	 /* by a claim or a reference: the policy counts it as acquired once */
	bool referenced; /* it is a reference */
	bool leaving;	 /* what it was made of may still be mapped: no new memory yet */
};

struct weir_session {
	struct weir_engine engine; /* first */
	struct mutex mutex;
	struct list_head node; /* weir_sessions */
	pid_t tgid;	       /* of whoever opened it; to print */
	struct inode *inode;
	bool committed; /* set with release order when all below is there */
	bool registered;
	u32 exports; /* engine.lock */
	s32 error;   /* that ended the session, or 0 */

	u32 n_extent, max_extent;
	struct weir_extent *extent;
	u32 *place; /* [n_extent] of a pinned extent: its pin; of a soft one: its frame */

	struct weir_pins *pins;
	struct list_head pins_node; /* in weir_pins.sessions */
	u32 *pin_extent;	    /* [n_pin] -> extent */
	u32 n_pin;
	bool pins_shared;

	/*
	 * The pool: pins at 0, then frames, stride bytes apart: of soft extents, then slots. The
	 * uapi counts frames from the first pin: n_pin more than the index here.
	 */
	u64 frame_base, stride, slot_bytes, map_bytes;
	struct weir_frame *frame; /* [n_soft + n_slot] */
	u32 n_soft, n_slot;
	u32 n_gone; /* slots given back */
	u32 n_held; /* slots held now, and at most so far */
	u32 most_held;
	u32 n_referenced; /* frames that something else holds */
	u32 *soft_extent; /* [n_soft] */
	u32 soft_next;	  /* to be filled */
	/* What next() is handing out in pieces. */
	struct {
		u32 extent, frame;
		u64 at; /* 0: nothing */
	} cut;
	struct weir_charge charge;

	struct weir_sched sched;
	struct weir_sched_extent *sched_extent; /* [n_extent] */
	struct weir_sched_slot *sched_slot;	/* [n_slot] */
	struct weir_depth depth;
	wait_queue_head_t wait;
	u32 turn; /* raised whenever a waiter should look again */

	/* The control page and the claims: kernel addresses of what is mapped. */
	struct page **control_page;
	struct weir_control *control;
	u64 *frame_offset;
	u32 *state;
	struct weir_claim *claim;
	u32 n_control_page, n_claim_page;

	struct hrtimer timer;
	u64 progress_ns; /* when the consumer last did something */
	u64 stall_ns;	 /* when it last had to wait for a read; 0: never */
	u64 settle_ns;	 /* when settle() last had the work item run again at once */

	u64 acquires, waits, wait_ns, held_back, given_back, demoted, pin_bytes;
	u64 pressure_ns; /* when the last slot was given back */
};

static inline struct weir_session *to_session(struct weir_engine *e)
{
	return container_of(e, struct weir_session, engine);
}

struct weir_session *weir_session_open(void);
void weir_session_close(struct weir_session *s);
/* The last step of an ioctl whose caller must be told of its effect. @user: NULL in tests. */
int weir_answer(void __user *user, const void *answer, u32 size);
int weir_session_attach(struct weir_session *s, struct weir_attach *a, void __user *user);
int weir_session_extents(struct weir_session *s, struct weir_extents *a);
int weir_session_commit(struct weir_session *s, struct weir_commit *a, void __user *user);
int weir_session_acquire(struct weir_session *s, struct weir_acquire_args *a);
int weir_session_release(struct weir_session *s, struct weir_release *a);
int weir_session_hint(struct weir_session *s, struct weir_hint *a);
int weir_session_schedule(struct weir_session *s, struct weir_schedule *a);
int weir_session_stats(struct weir_session *s, struct weir_stats *a);
/* The same with extents in kernel memory, which the caller has checked. */
int weir_session_declare(struct weir_session *s, const struct weir_extent *list, u32 n);
int weir_session_acquire_list(struct weir_session *s, struct weir_acquire_args *a, const u32 *list);
int weir_session_release_list(struct weir_session *s, const u32 *list, u32 n);
void weir_session_count(struct weir_session *s, struct weir_stats *a);
/* A pinned extent has been read, or not. Under the pins' lock. */
void weir_session_pin_done(struct weir_session *s, u32 pin, int error);
int weir_session_set_background(struct weir_session *s, bool background);
/* Is nothing given back, or could it all be had again? */
bool weir_session_whole(struct weir_session *s);
/* Memory that nobody needs now, in pages: how much there is, and to give some of it back. */
unsigned long weir_session_spare(struct weir_session *s);
unsigned long weir_session_give_back(struct weir_session *s, unsigned long pages);

extern struct list_head weir_sessions;
extern spinlock_t weir_sessions_lock;

static inline bool weir_session_committed(struct weir_session *s)
{
	/* What COMMIT made comes before: pairs with the release at its end. */
	return smp_load_acquire(&s->committed);
}

/* ---- control page (control.c) ---- */

int weir_control_alloc(struct weir_session *s);
void weir_control_free(struct weir_session *s);
/* @frame: as the uapi counts. */
void weir_control_publish(struct weir_session *s, u32 extent, u32 state, u32 frame);
/* Takes READY back. False where the frame is claimed: then it has been published again. */
bool weir_control_withdraw(struct weir_session *s, u32 extent, u32 frame);

/* ---- mapping (map.c) ---- */

int weir_map(struct weir_session *s, struct vm_area_struct *vma);
/* Where a frame lies in the pool. */
u64 weir_frame_offset(const struct weir_session *s, u32 frame);
/* @area: what the frame was made of, which it no longer is. */
void weir_unmap_frame(struct weir_session *s, u32 frame, const struct weir_area *area);
int weir_inode_get(struct weir_session *s);
void weir_inode_put(struct weir_session *s);

/* ---- dma-buf, pressure, debugfs ---- */

struct seq_file;
void weir_session_show(struct seq_file *m, struct weir_session *s);

/* Answers by itself: the descriptor must not be there before the caller can know of it. */
int weir_export(struct weir_session *s, struct weir_export *a, struct weir_export __user *user);
int weir_pressure_init(void);
void weir_pressure_exit(void);
void weir_debugfs_init(void);
void weir_debugfs_exit(void);

extern unsigned int weir_poll_us, weir_idle_ms, weir_background_ms;

#endif
