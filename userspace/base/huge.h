/* SPDX-License-Identifier: MIT */
/*
 * Anonymous memory of huge pages where they can be had: fewer TLB misses, fewer pages to pin for a
 * read. Zeroes; pages are taken when first touched.
 */
#ifndef WEIR_BASE_HUGE_H
#define WEIR_BASE_HUGE_H

#include <stdbool.h>
#include <stdint.h>

#define HUGE_PAGE (2ull << 20)

struct huge {
	char *base;	     /* aligned to HUGE_PAGE */
	uint64_t huge_bytes; /* that asked for huge pages: whole ones */
	void *map;
	uint64_t map_len;
};

/* @flags: more of mmap()'s. False where there is no such room. @len 0 is nothing, and well. */
bool huge_map(struct huge *h, uint64_t len, int flags);
void huge_unmap(struct huge *h);

#endif
