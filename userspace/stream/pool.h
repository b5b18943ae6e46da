/* SPDX-License-Identifier: MIT */
/*
 * The pool: anonymous memory that holds the weights. Aligned to 2 MiB and of huge pages where
 * they can be had (fewer TLB misses for the kernels, fewer pages to pin for a read), locked in
 * DRAM where the limits allow it. Pages are taken when first written, not at open.
 */
#ifndef WEIR_STREAM_POOL_H
#define WEIR_STREAM_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/huge.h"

#define POPULATE_THREADS 4

struct pool {
	char *base;
	uint64_t len; /* multiple of 4 KiB */
	uint64_t locked_bytes;
	struct huge memory;
};

/* @note: told in a sentence when the memory could not be locked; or NULL */
int pool_open(struct pool *p, uint64_t len, void (*note)(void *arg, const char *sentence),
	      void *arg, struct err *err);
void pool_close(struct pool *p);

/*
 * Threads that take the pool's pages ahead of the reads that fill it: a new page must be zeroed,
 * and where a hypervisor has to find memory for it that costs more than the read. Only speed
 * depends on them.
 */
struct populate {
	const struct pool *pool;
	atomic_uint_fast64_t next; /* offset in the pool */
	atomic_bool stop;
	uint32_t n_thread;
	pthread_t thread[POPULATE_THREADS];
};

/* From @from to the end of the pool. @w must stay where it is until populate_stop(). */
void populate_start(struct populate *w, const struct pool *p, uint64_t from);
void populate_stop(struct populate *w);

#endif
