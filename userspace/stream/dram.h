/* SPDX-License-Identifier: MIT */
/*
 * The reader by which DRAM is measured, and beside which kernels are: nothing but loads, as
 * fast as a core can take them.
 */
#ifndef WEIR_STREAM_DRAM_H
#define WEIR_STREAM_DRAM_H

#include <stddef.h>
#include <stdint.h>

#define DRAM_READ_UNIT 256u /* bytes */

/**
 * dram_read() - load every byte
 * @p: 32-byte aligned
 * @n: bytes, a multiple of DRAM_READ_UNIT
 *
 * Return: a sum that every byte sways, so that no load can be left out.
 */
uint64_t dram_read(const void *p, size_t n);

#endif
