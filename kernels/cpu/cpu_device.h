/* SPDX-License-Identifier: MIT */
/*
 * What the files of the CPU device share. Private to kernels/cpu.
 */
#ifndef WEIR_KERNELS_CPU_CPU_DEVICE_H
#define WEIR_KERNELS_CPU_CPU_DEVICE_H

#include <stdatomic.h>
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
	struct range *range;  /* [n_threads] */
	struct brought *next; /* [n_threads]: see cpu_expect() */
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

/* attention.c */
bool attention_open(struct cpu_device *c); /* false: out of memory */
uint64_t attention_bytes(const struct attn_shape *shape, int n_threads);
void attention_close(struct cpu_device *c);
void cpu_kv_store(struct device *d, const struct kv_layer *kv, const float *k, const float *v,
		  uint32_t n_tok, uint32_t pos0);
void cpu_attention(struct device *d, const struct attn_args *a);

#endif
