/* SPDX-License-Identifier: MIT */
/* The time line of a run as a file of Chrome trace events, which Perfetto and others show. */
#ifndef WEIR_CLI_TIMELINE_H
#define WEIR_CLI_TIMELINE_H

#include "base/timeline.h"
#include "cli/output.h"
#include "decode/session.h"

struct timeline_file {
	const char *path;
	struct timeline *t; /* for session_params; NULL where no file was asked for */
	struct output out;
};

/* @path: NULL where nobody asked: then nothing happens here and at close. */
int timeline_file_open(struct timeline_file *f, const char *path, struct err *err);
/* Writes it where all went well so far. @r: what went before; @s: NULL only where that failed. */
int timeline_file_close(struct timeline_file *f, const struct session *s, bool quiet, int r,
			struct err *err);

#endif
