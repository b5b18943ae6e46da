/* SPDX-License-Identifier: MIT */
/*
 * Where a result goes that the user named a file for. A regular file appears whole or not at all:
 * a temporary name beside it takes its place at the end. Whatever else has the name (a pipe, a
 * device, an open descriptor) stays and is written to; "-" is stdout.
 */
#ifndef WEIR_CLI_OUTPUT_H
#define WEIR_CLI_OUTPUT_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct output {
	FILE *f;
	char *path; /* links resolved; NULL: written to as it is */
	char tmp[PATH_MAX];
	bool created; /* an empty file, where a link led to none */
};

/* @o: zeroed. output_close() must follow, also where this fails. */
int output_open(struct output *o, const char *path, struct err *err);
/* @r: what went before, and is returned; a failure leaves the name as it was */
int output_close(struct output *o, const char *path, int r, struct err *err);

#endif
