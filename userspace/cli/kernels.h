/* SPDX-License-Identifier: MIT */
/* weir bench --kernels: for bench.c alone. */
#ifndef WEIR_CLI_KERNELS_H
#define WEIR_CLI_KERNELS_H

#include "cli/cli.h"
#include "decode/kernel_speed.h"

struct kernels_args {
	uint64_t types; /* bit t: type t */
	uint64_t bytes; /* 0: as the meter chooses */
	uint32_t rounds;
	enum row_layout layout;
	const char *used; /* the last of these options that was given, or NULL */
};

enum { OPT_KERNELS = OPT_OWN, OPT_TYPES, OPT_LAYOUT, OPT_SIZE, OPT_ROUNDS, OPT_KERNELS_END };

struct kernels_args kernels_defaults(void);

/* One of the options above but --kernels; or ARGP_ERR_UNKNOWN. */
error_t kernels_option(int key, char *arg, const struct argp_state *st, struct kernels_args *a);

/* Says so on stderr where what is streamed might stay in caches. */
void warn_of_caches(const struct speed_setup *s, const char *advice);

/* Return: the exit status. */
int bench_kernels(const struct kernels_args *a, const struct common *c);

#endif
