/* SPDX-License-Identifier: MIT */
/*
 * What the files of the CPU device share. Private to kernels/cpu.
 */
#ifndef WEIR_KERNELS_CPU_CPU_DEVICE_H
#define WEIR_KERNELS_CPU_CPU_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/device.h"

/* Items begin .. end - 1 of a job that are a thread's, as begin | end << 32; a cache line each. */
struct range {
	_Alignas(64) _Atomic uint64_t span;
};

struct cpu_device {
	struct device d;
	const struct cpu_isa *isa;
	struct range *range;	    /* [n_threads] */
	struct brought *next;	    /* [n_threads]: see cpu_expect() */
	struct attn_args attn_next; /* see cpu_expect_attention(); n_tok 0: nothing is expected */
	struct kv_layer kv_next;
	struct attn_shape shape;
	size_t attn_bytes; /* of a thread: what attention() works in */
	char *attn;	   /* [n_threads][attn_bytes] */
	float *partial;	   /* attention's results by chunks; see attention.c */
};

static inline struct cpu_device *cpu(struct device *d)
{
	return (struct cpu_device *)d;
}

static inline size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline void *alloc64(size_t bytes)
{
	return aligned_alloc(64, act_align(bytes ? bytes : 1));
}

/* The next item of a job, or one that is not below `items`. */
static inline size_t take(atomic_size_t *next)
{
	return atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
}

/* Both ends of a range in one word, so that its owner and a thief never take the same item. */
static inline uint64_t span(uint64_t begin, uint64_t end)
{
	return begin | end << 32;
}

/* Thread @i's first item of @items, and the end of thread i - 1's. */
static inline size_t share_of(size_t items, int i, int n_thread)
{
	return items * (size_t)i / (size_t)n_thread;
}

static inline void range_set(struct range *r, size_t begin, size_t end)
{
	atomic_store_explicit(&r->span, span(begin, end), memory_order_relaxed);
}

static inline void share_out(struct device *d, size_t items)
{
	const int n = d->team->n_threads;

	for (int i = 0; i < n; i++)
		range_set(&cpu(d)->range[i], share_of(items, i, n), share_of(items, i + 1, n));
}

/*
 * From a range: its last item, or of its first ones a quarter but not more than @most. *n from
 * *first on; false where the range is empty.
 */
static inline bool take_from(struct range *r, bool last, size_t most, size_t *first, size_t *n)
{
	uint64_t old = atomic_load_explicit(&r->span, memory_order_relaxed);
	uint64_t begin, end, left;

	do {
		begin = (uint32_t)old;
		end = old >> 32;
		if (begin >= end)
			return false;
		*n = last ? 1 : least(most, (end - begin + 3) / 4);
		left = last ? span(begin, end - 1) : span(begin + *n, end);
	} while (!atomic_compare_exchange_weak_explicit(&r->span, &old, left, memory_order_relaxed,
							memory_order_relaxed));
	*first = last ? end - 1 : begin;
	return true;
}

/*
 * The next item of thread @i: of its own range from the beginning, then of others' from their ends.
 * False where all are taken.
 */
static inline bool take_own(struct cpu_device *c, int i, size_t *item)
{
	const int n = c->d.team->n_threads;
	size_t one;

	if (take_from(&c->range[i], false, 1, item, &one))
		return true;
	for (int k = 1; k < n; k++)
		if (take_from(&c->range[(i + k) % n], true, 1, item, &one))
			return true;
	return false;
}

/*
 * Asks for lines at once that another core wrote, or that are in DRAM: one after the other each
 * would be waited for, until the hardware follows.
 */
static inline void bring(const void *from, const void *to)
{
	for (const char *p = from; p < (const char *)to; p += 64)
		__builtin_prefetch(p, 0, 3);
}

/*
 * fn over the team, unless there is so little to do (in whatever the caller counts) that one
 * thread is done before another is awake.
 */
static inline void run_over(struct device *d, size_t work, size_t work_per_wake,
			    void (*fn)(void *, int, int), void *job)
{
	if (work <= work_per_wake)
		fn(job, 0, 1);
	else
		d->team->run(d->team, fn, job);
}

/*
 * Between the steps of what has no weights to read, by thread @i: DRAM would have nothing to do, so
 * it is asked for some of the next matmul's. (What a core asks for beyond its room it waits for.)
 * Decode of 1.1 billion weights, share of what plain reads get: 92 to 95%.
 */
static inline void fetch_some(struct cpu_device *c, int i)
{
	c->d.team->fetch(c->d.team, i, 4096);
}

/* attention.c */
bool attention_open(struct cpu_device *c); /* false: out of memory */
uint64_t attention_bytes(const struct attn_shape *shape, int n_threads);
void attention_close(struct cpu_device *c);
void cpu_attention(struct device *d, const struct attn_args *a);
void cpu_expect_attention(struct device *d, const struct attn_args *a);
void attention_bring(const struct cpu_device *c, int i); /* thread @i's part of what is expected */

#endif
