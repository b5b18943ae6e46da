/* SPDX-License-Identifier: MIT */
/*
 * How many reads to keep in flight: found by measurement.
 *
 * What counts is how fast bytes arrive while the model runs, waits and arithmetic together: the
 * source has no thread of its own, so a deeper queue also bridges the time in which the consumer
 * computes and nobody starts reads. Where arithmetic is the bound, all depths are as good.
 *
 * Two depths are compared over six windows, A B A B A B, so that a slow drift of the device hits
 * both. Twice as many stay if they are better by 3%, half as many only if they are better by 10%:
 * a queue that is too deep costs little, one that is too shallow costs bandwidth, and shared
 * devices are noisy. Then the next step in the same direction is tried, then the other one. When
 * neither is better the depth rests for a while and the search starts again: another program may
 * have come or gone.
 */
#ifndef WEIR_STREAM_DEPTH_H
#define WEIR_STREAM_DEPTH_H

#include <stdbool.h>
#include <stdint.h>

struct depth {
	uint32_t now; /* use so many */
	uint32_t max;
	/* the rest is depth.c's own */
	bool fixed;
	uint32_t base;	    /* the best so far; `other` is compared with it */
	uint32_t other;	    /* 0: resting */
	int up;		    /* direction of `other` */
	int tried;	    /* directions that did not pay since base last changed */
	int window;	    /* 0..5: A B A B A B */
	int rest;	    /* windows left to rest */
	uint64_t last;	    /* when bytes last arrived; 0: never */
	uint64_t settle;    /* bytes to let pass before the window begins */
	uint64_t bytes, ns; /* of this window */
	double rate[2];	    /* sum of bytes/ns: of base, of other */
};

/* @fixed: a depth that stays, or 0 to search for one between 1 and @max */
void depth_init(struct depth *d, uint32_t fixed, uint32_t max);
/* @bytes have arrived since the last call, and it is @now ns. True where d->now has changed. */
bool depth_add(struct depth *d, uint64_t bytes, uint64_t now);

#endif
