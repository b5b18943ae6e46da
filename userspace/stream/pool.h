/* SPDX-License-Identifier: MIT */
/*
 * The pool: anonymous memory that holds the weights. Aligned to 2 MiB and of huge pages where
 * they can be had (fewer TLB misses for the kernels, fewer pages to pin for a read), locked in
 * DRAM where the limits allow it. Pages are taken when first written, not at open.
 */
#ifndef WEIR_STREAM_POOL_H
#define WEIR_STREAM_POOL_H

#include <stdint.h>

#include "base/err.h"

struct pool {
	char *base;
	uint64_t len; /* multiple of 4 KiB */
	uint64_t locked_bytes;
	uint64_t huge_bytes; /* that asked for huge pages */
	void *map;
	uint64_t map_len;
};

/* @note: told in a sentence when the memory could not be locked; or NULL */
int pool_open(struct pool *p, uint64_t len, void (*note)(void *arg, const char *sentence),
	      void *arg, struct err *err);
void pool_close(struct pool *p);

#endif
