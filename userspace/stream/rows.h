/* SPDX-License-Identifier: MIT */
/*
 * Rows of a tensor that is not held (the input embedding): copied out of what is pinned where it
 * happens to be, else read from the file, a page or two at a time, without the page cache.
 */
#ifndef WEIR_STREAM_ROWS_H
#define WEIR_STREAM_ROWS_H

#include "stream/file.h"
#include "stream/stream.h"

struct rows {
	const struct plan *plan;
	const void *const *resident; /* [n_extent], as in struct source */
	const struct weight_file *file;
	const volatile int *cancel; /* or NULL */
	char *bounce;
	uint64_t reads, read_bytes; /* so far */
};

/* What it is given must outlive it. Return: 0, or -ENOMEM. */
int rows_open(struct rows *r, const struct plan *plan, const void *const *resident,
	      const struct weight_file *file, const volatile int *cancel, struct err *err);
/* Copies [off, off + len) of a file to @buf. As source_ops.read. */
int rows_read(struct rows *r, uint32_t file, uint64_t off, void *buf, size_t len, struct err *err);
void rows_close(struct rows *r);

#endif
