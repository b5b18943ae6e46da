/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The streaming policy: which extent to read next, into which slot.
 *
 * Pure C: no kernel header but types, no I/O, no clock, no allocation, no lock. weir.ko, the
 * uring source and the unit tests compile this same file; the caller serialises calls.
 *
 * Words
 *	extent	0 .. n_extent-1: what goes through the ring.
 *	schedule the cyclic order in which extents are read ahead: 0, 1, .. n_extent-1, 0, 1, ...
 *		unless weir_sched_schedule() says otherwise. An extent that is not in it is read
 *		when somebody waits for it or hints at it.
 *	slot	a place in the pool that can hold any one extent (all slots are as large as the
 *		largest extent).
 *	depth	how many reads may be in flight at once.
 *
 * A slot is FREE -> FILLING -> READY -> FILLING (another extent) ...; a READY slot may be
 * acquired, several times over, and is never refilled while it is. An extent is in at most one
 * slot. What was released stays READY until its slot is needed.
 *
 * An executor whose consumer acquires by itself, without a call, says so through `in_use`: it is
 * asked before a READY slot is taken away, and only then.
 *
 * Invariants (weir_sched_check() asserts them in tests)
 *	1. An extent that is FILLING or READY is never read again: nothing resident is read.
 *	2. A slot with acquire count > 0 is READY and is never evicted.
 *	3. FILLING slots <= depth, unless a demand (an acquire that must wait) asks for one more.
 *	4. A pass over a cyclic schedule reads each extent once where n_slot < n_extent, and
 *	   nothing after the first pass where n_slot >= n_extent.
 *	5. What somebody waits for is read before what was hinted at, and that before the schedule.
 *
 * What the caller guarantees, and gets for it: a caller that holds at most k extents at once,
 * with n_slot > k, that calls weir_sched_next() until it returns 0 after every WAIT, every
 * release and every completion, and reports every completion, never waits for ever: a slot that
 * is not acquired is FREE, or FILLING (which ends), or gives way to a demand. With w threads
 * that wait at once, n_slot >= k + w lets each keep what it waited for.
 */
#ifndef WEIR_SCHED_H
#define WEIR_SCHED_H

#ifdef __KERNEL__
#include <linux/types.h>
typedef u32 weir_u32;
typedef u64 weir_u64;
typedef s32 weir_s32;
#else
#include <stdint.h>
typedef uint32_t weir_u32;
typedef uint64_t weir_u64;
typedef int32_t weir_s32;
#endif

#define WEIR_SCHED_NONE 0xffffffffu

enum weir_slot_state {
	WEIR_SLOT_FREE,
	WEIR_SLOT_FILLING,
	WEIR_SLOT_READY,
	WEIR_SLOT_ERROR, /* the read failed; errno is kept until it is released or retried */
	WEIR_SLOT_GONE,	 /* retired: there is no memory behind it */
};

/* A place in one of the lists below: circular, the list's head is one of its links. */
struct weir_sched_link {
	struct weir_sched_link *prev, *next;
};

struct weir_sched_slot {
	struct weir_sched_link link; /* first: a link is its slot; to itself when on no list */
	weir_u32 extent;	     /* which it holds or is being filled with; NONE when FREE */
	weir_u32 state;		     /* enum weir_slot_state */
	weir_u32 users;		     /* acquired and not yet released */
	weir_s32 error;		     /* negative errno in state ERROR */
};

struct weir_sched_extent {
	weir_u32 slot; /* where it is or is being read to; NONE */
	weir_u32 flags;
	weir_u32 next;	    /* in the schedule; NONE: not part of it */
	weir_u32 hint_next; /* in its queue of hints */
};

#define WEIR_SCHED_PRIORITIES 4

/* Hints of one priority, first in first out; extents that are held by their turn are skipped. */
struct weir_sched_hints {
	weir_u32 first, last; /* NONE: empty */
};

struct weir_sched_stats {
	weir_u64 reads;	    /* submitted */
	weir_u64 hits;	    /* acquires that found their extent READY */
	weir_u64 late;	    /* acquires that found it FILLING */
	weir_u64 misses;    /* acquires that found it nowhere: a demand read */
	weir_u64 reordered; /* of the misses: in the schedule, and not what was to be read next */
	weir_u64 evicted;   /* READY, never acquired, and thrown away */
};

struct weir_sched {
	weir_u32 n_extent, n_slot;
	struct weir_sched_extent *extent; /* [n_extent], caller's memory */
	struct weir_sched_slot *slot;	  /* [n_slot], caller's memory */
	weir_u32 depth;
	weir_u32 in_flight;
	weir_u32 fetch;	  /* next extent of the schedule to read; NONE: it is empty */
	weir_u32 demand;  /* an extent that somebody waits for and nobody reads; NONE */
	weir_u32 n_cycle; /* extents in the schedule */
	weir_u32 n_held;  /* of them, those that are in a slot */
	struct weir_sched_hints hint[WEIR_SCHED_PRIORITIES];

	/*
	 * Asked before a READY slot that nobody has acquired by a call is filled again: non-zero
	 * where the consumer has acquired it by itself. The slot then counts as acquired once,
	 * to be balanced by weir_sched_release(). NULL: nobody acquires by himself.
	 */
	int (*in_use)(void *arg, weir_u32 slot);
	void *arg;

	/*
	 * Every slot is on one of these, but for FILLING, acquired and GONE ones. In the order in
	 * which a read looks for room; only a demand looks in the last two.
	 */
	struct weir_sched_link free;
	struct weir_sched_link old;    /* released, longest ago first */
	struct weir_sched_link stale;  /* read ahead of a position that a demand has moved */
	struct weir_sched_link fresh;  /* read ahead, in the order of the schedule */
	struct weir_sched_link wanted; /* somebody waited for it and has not come back yet */
	struct weir_sched_stats stats;
};

/* @extent: [n_extent] and @slot: [n_slot] need not be initialised. n_slot >= 1, depth >= 1. */
void weir_sched_init(struct weir_sched *s, struct weir_sched_extent *extent, weir_u32 n_extent,
		     struct weir_sched_slot *slot, weir_u32 n_slot, weir_u32 depth);

void weir_sched_set_depth(struct weir_sched *s, weir_u32 depth);

/*
 * Replaces the schedule, and goes on with its first extent. @order: [@n] extents, each at most
 * once (the caller has checked). What is held stays held; what is not part of the new schedule
 * gives way first.
 */
void weir_sched_schedule(struct weir_sched *s, const weir_u32 *order, weir_u32 n);

/*
 * Puts an extent behind @after, which is part of the schedule; NONE: it is alone. One that is part
 * of it already stays where it is.
 */
void weir_sched_insert(struct weir_sched *s, weir_u32 extent, weir_u32 after);

/*
 * Takes a slot out of use, in the order in which they give way to a demand: for memory that the
 * system needs more. Return: 1 with *slot, or 0 where all slots are acquired, being filled or
 * waited for. restore: the slot can be filled again.
 */
int weir_sched_retire(struct weir_sched *s, weir_u32 *slot);
void weir_sched_restore(struct weir_sched *s, weir_u32 slot);

/*
 * @extent is wanted soon. @priority: 0 .. WEIR_SCHED_PRIORITIES - 1, higher ones first. One that is
 * held, or waits for its turn already, is left as it is.
 */
void weir_sched_hint(struct weir_sched *s, weir_u32 extent, weir_u32 priority);

/* After next() has returned 0: is there anything left to read, were there a slot for it? */
int weir_sched_wants(const struct weir_sched *s);

/*
 * What to read now. Return: 1 with *extent and *slot (the slot is FILLING from here on and the
 * caller must report its end with weir_sched_complete()), or 0 when there is nothing to do until
 * a completion or a release. Call it again until it returns 0.
 */
int weir_sched_next(struct weir_sched *s, weir_u32 *extent, weir_u32 *slot);

/* A read ended. @error: 0 or a negative errno. A slot that is not FILLING is left alone. */
void weir_sched_complete(struct weir_sched *s, weir_u32 slot, weir_s32 error);

enum weir_acquire {
	WEIR_ACQUIRE_READY, /* *slot is acquired: balance it with one weir_sched_release() */
	WEIR_ACQUIRE_WAIT,  /* being read, or soon: call again after a completion */
	WEIR_ACQUIRE_ERROR, /* its read failed: *error; calling again after that retries */
};

enum weir_acquire weir_sched_acquire(struct weir_sched *s, weir_u32 extent, weir_u32 *slot,
				     weir_s32 *error);

/*
 * Gives back one acquire, or forgets the error of an extent whose read failed. An extent that
 * is neither is left alone.
 */
void weir_sched_release(struct weir_sched *s, weir_u32 extent);

/* 0, or the line number of the first broken invariant; for tests. */
int weir_sched_check(const struct weir_sched *s);

#endif
