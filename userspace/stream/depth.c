// SPDX-License-Identifier: MIT
#include "stream/depth.h"

#include "base/util.h"

#define DEPTH_START  8
#define WINDOW_BYTES (64ull << 20)
#define SETTLE_BYTES (32ull << 20) /* still of the depth before; not counted */
#define GAIN_UP	     1.03
#define GAIN_DOWN    1.10
#define WINDOWS	     6
#define REST_WINDOWS 64		  /* 4 GiB */
#define PAUSE_NS     250000000ull /* nobody runs the model: says nothing about flash */

static bool use(struct depth *d, uint32_t depth)
{
	if (d->now == depth)
		return false;
	d->now = depth;
	d->settle = SETTLE_BYTES;
	return true;
}

static void rest(struct depth *d)
{
	d->other = 0;
	d->rest = REST_WINDOWS;
	d->tried = 0;
}

/* Picks what to compare `base` with: a step on, or back, or nothing. */
static void choose_other(struct depth *d)
{
	for (; d->tried < 2; d->tried++, d->up = !d->up) {
		d->other = d->up ? MIN(d->base * 2, d->max) : MAX(d->base / 2, 1u);
		if (d->other != d->base)
			return;
	}
	rest(d);
}

void depth_init(struct depth *d, uint32_t fixed, uint32_t max)
{
	*d = (struct depth){.fixed = fixed, .max = MAX(max, 1u), .up = 1};
	d->base = MIN(fixed ? fixed : DEPTH_START, d->max);
	d->now = d->base;
	if (!d->fixed)
		choose_other(d);
}

static void compare(struct depth *d)
{
	if (d->rate[1] > d->rate[0] * (d->up ? GAIN_UP : GAIN_DOWN)) {
		d->base = d->other;
		d->tried = 0;
	} else {
		d->tried++;
		d->up = !d->up;
	}
	d->rate[0] = d->rate[1] = 0;
	choose_other(d);
}

bool depth_add(struct depth *d, uint64_t bytes, uint64_t now)
{
	uint64_t ns = d->last ? now - d->last : 0;

	d->last = now;
	if (d->fixed || !ns)
		return false;
	if (ns > PAUSE_NS) {
		d->bytes = d->ns = 0;
		return false;
	}
	if (d->settle) {
		d->settle -= MIN(bytes, d->settle);
		return false;
	}
	d->bytes += bytes;
	d->ns += ns;
	if (d->bytes < WINDOW_BYTES)
		return false;
	if (d->other) {
		d->rate[d->window & 1] += (double)d->bytes / (double)d->ns;
		d->window = (d->window + 1) % WINDOWS;
		if (d->window == 0)
			compare(d);
	} else if (--d->rest <= 0) {
		choose_other(d);
	}
	d->bytes = d->ns = 0;
	return use(d, d->other && d->window & 1 ? d->other : d->base);
}
