/* SPDX-License-Identifier: MIT */
/*
 * How fast each kernel of this machine's instruction set is, beside what bounds it: rows that
 * come from DRAM, with all threads, in turns with a plain read of the same memory; and rows
 * that lie in a core's L2, where only arithmetic counts.
 *
 * Figures are medians of a few rounds of some tens of milliseconds each: machines are shared.
 */
#ifndef WEIR_DECODE_KERNEL_SPEED_H
#define WEIR_DECODE_KERNEL_SPEED_H

#include <stdint.h>

#include "base/err.h"
#include "kernels/types.h"

#define SPEED_N_IN	 4096u /* weights of a row */
#define SPEED_BYTES_MIN	 (16ull << 20)
#define SPEED_ROUNDS_MAX 1000u

/* How rows lie in memory. */
enum row_layout {
	ROWS_FILE,   /* as in a GGUF file, one behind the other */
	ROWS_PACKED, /* kernels/cpu/packed.h */
};

struct team;

struct speed_params {
	struct team *team; /* to measure with; NULL: n_threads of its own */
	int n_threads;	   /* the team's */
	uint32_t rounds;   /* 1 .. SPEED_ROUNDS_MAX */
	uint64_t bytes;	   /* streamed in a circle: SPEED_BYTES_MIN or more; 0: speed_setup says */
	const volatile int *cancel; /* becomes non-zero to stop; or NULL */
};

/* What a meter measures with. */
struct speed_setup {
	const char *isa;
	int n_threads;
	/* 1 GiB or twice what the caches hold, but at most half of the memory that is free */
	uint64_t bytes;
	uint64_t core_bytes; /* of rows that lie in each core's L2 */
	/*
	 * That the data caches of all processors hold together, as the kernel tells it; 0 where
	 * it does not. Reads of a buffer that is not well above it need not reach DRAM.
	 */
	uint64_t cache_bytes;
};

struct kernel_speed {
	double dram_gb_s;   /* the plain read, all threads, beside this kernel */
	double gb_s;	    /* weights from DRAM, all threads */
	double dram_share;  /* gb_s / dram_gb_s, median over the rounds */
	double core_gb_s;   /* weights from L2, a core of those that work at the same time */
	double arith_share; /* core_gb_s of all threads / dram_gb_s; below 1 arithmetic is the bound
			     */
};

struct speed_meter;

/*
 * Return: 0; -ENOMEM, where memory would be short too; -EINVAL for bytes or rounds that cannot
 * be; or a thread's error.
 */
int speed_meter_open(const struct speed_params *p, struct speed_meter **out, struct err *err);
void speed_meter_close(struct speed_meter *m);

/* @type: one that wtype_info() knows. Return: 0, -EINTR when cancelled, -ENOMEM. */
int speed_measure(struct speed_meter *m, uint32_t type, enum row_layout layout,
		  struct kernel_speed *out, struct err *err);

/*
 * The plain read alone, 80 ms of it, in GB/s: for what is compared with DRAM in turns with it. The
 * first call fills the memory, and takes longer. Return: 0 or -ENOMEM.
 */
int speed_dram(struct speed_meter *m, double *gb_s, struct err *err);

const struct speed_setup *speed_setup(const struct speed_meter *m);

#endif
