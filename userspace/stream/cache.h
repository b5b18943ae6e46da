/* SPDX-License-Identifier: MIT */
/*
 * Data caches: how much must be streamed for DRAM to be what is measured.
 */
#ifndef WEIR_STREAM_CACHE_H
#define WEIR_STREAM_CACHE_H

#include <stdint.h>

/* Bytes of all data caches of all processors together; 0 where the kernel does not tell. */
uint64_t cache_all(void);

/* Bytes of the L2 cache of the first processor; 0 where the kernel does not tell. */
uint64_t cache_l2(void);

#endif
