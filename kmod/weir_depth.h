/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * How many reads to keep in flight: found by measurement.
 *
 * Pure C, as weir_sched: weir.ko and the uring source compile this same file.
 *
 * What counts is how fast bytes arrive while the model runs, waits and arithmetic together: a
 * source without a thread of its own starts no reads while the consumer computes, and a deeper
 * queue bridges that. Where arithmetic is the bound, all depths are as good.
 *
 * Two depths are compared over six windows, A B A B A B, so that a slow drift of the device hits
 * both. Twice as many stay if they are better by 3%, half as many only if they are better by 10%:
 * a queue that is too deep costs little, one that is too shallow costs bandwidth, and shared
 * devices are noisy. Then the next step in the same direction is tried, then the other one. When
 * neither is better the depth rests for a while and the search starts again: another program may
 * have come or gone.
 */
#ifndef WEIR_DEPTH_H
#define WEIR_DEPTH_H

#include "weir_sched.h" /* its types */

struct weir_depth {
	weir_u32 now; /* use so many */
	weir_u32 max;
	/* the rest is weir_depth.c's own */
	int fixed;
	weir_u32 base;	    /* the best so far; `other` is compared with it */
	weir_u32 other;	    /* 0: resting */
	int up;		    /* direction of `other` */
	int tried;	    /* directions that did not pay since base last changed */
	int window;	    /* 0..5: A B A B A B */
	int rest;	    /* windows left to rest */
	weir_u64 last;	    /* when bytes last arrived; 0: never */
	weir_u64 settle;    /* bytes to let pass before the window begins */
	weir_u64 bytes, ns; /* of this window */
	weir_u64 rate[2];   /* sum of 2^20 bytes/ns: of base, of other */
};

/* @fixed: a depth that stays, or 0 to search for one between 1 and @max */
void weir_depth_init(struct weir_depth *d, weir_u32 fixed, weir_u32 max);
/* @bytes have arrived since the last call, and it is @now ns. 1 where d->now has changed. */
int weir_depth_add(struct weir_depth *d, weir_u64 bytes, weir_u64 now);

#endif
