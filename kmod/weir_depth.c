// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* How deep the queue should be; the method is in weir_depth.h. */
#include "weir_depth.h"

#define DEPTH_START  8
#define WINDOW_BYTES ((weir_u64)64 << 20)
#define SETTLE_BYTES ((weir_u64)32 << 20) /* still of the depth before; not counted */
#define GAIN_UP	     103		  /* percent */
#define GAIN_DOWN    110
#define WINDOWS	     6
#define REST_WINDOWS 64		/* 4 GiB */
#define PAUSE_NS     250000000u /* nobody runs the model: says nothing about flash */

static weir_u32 lesser(weir_u32 a, weir_u32 b)
{
	return a < b ? a : b;
}

static int use(struct weir_depth *d, weir_u32 depth)
{
	if (d->now == depth)
		return 0;
	d->now = depth;
	d->settle = SETTLE_BYTES;
	return 1;
}

static void rest(struct weir_depth *d)
{
	d->other = 0;
	d->rest = REST_WINDOWS;
	d->tried = 0;
}

/* Picks what to compare `base` with: a step on, or back, or nothing. */
static void choose_other(struct weir_depth *d)
{
	for (; d->tried < 2; d->tried++, d->up = !d->up) {
		d->other = d->up ? lesser(d->base * 2, d->max) : d->base > 1 ? d->base / 2 : 1;
		if (d->other != d->base)
			return;
	}
	rest(d);
}

void weir_depth_init(struct weir_depth *d, weir_u32 fixed, weir_u32 max)
{
	*d = (struct weir_depth){.fixed = fixed != 0, .max = max ? max : 1, .up = 1};
	d->base = lesser(fixed ? fixed : DEPTH_START, d->max);
	d->now = d->base;
	if (!d->fixed)
		choose_other(d);
}

static void compare(struct weir_depth *d)
{
	if (d->rate[1] * 100 > d->rate[0] * (d->up ? GAIN_UP : GAIN_DOWN)) {
		d->base = d->other;
		d->tried = 0;
	} else {
		d->tried++;
		d->up = !d->up;
	}
	d->rate[0] = 0;
	d->rate[1] = 0;
	choose_other(d);
}

int weir_depth_add(struct weir_depth *d, weir_u64 bytes, weir_u64 now)
{
	weir_u64 ns = d->last ? now - d->last : 0;

	d->last = now;
	if (d->fixed || !ns)
		return 0;
	if (ns > PAUSE_NS) {
		d->bytes = 0;
		d->ns = 0;
		return 0;
	}
	if (d->settle) {
		d->settle -= bytes < d->settle ? bytes : d->settle;
		return 0;
	}
	d->bytes += bytes;
	d->ns += ns;
	if (d->bytes < WINDOW_BYTES)
		return 0;
	if (d->other) {
		d->rate[d->window & 1] += (d->bytes << 20) / d->ns;
		d->window = (d->window + 1) % WINDOWS;
		if (d->window == 0)
			compare(d);
	} else if (--d->rest <= 0) {
		choose_other(d);
	}
	d->bytes = 0;
	d->ns = 0;
	return use(d, d->other && d->window & 1 ? d->other : d->base);
}
