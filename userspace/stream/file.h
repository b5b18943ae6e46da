/* SPDX-License-Identifier: MIT */
/*
 * A weight file as the sources need it: open for direct reads where it can be, with its size
 * and time of change remembered, so that a change while it is in use is noticed.
 */
#ifndef WEIR_STREAM_FILE_H
#define WEIR_STREAM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

struct weight_file {
	char *path;
	int fd;
	bool direct; /* O_DIRECT: offsets, lengths and memory in multiples of 4 KiB */
	uint64_t size;
	struct timespec mtime;
};

typedef void (*note_fn)(void *arg, const char *sentence);

/**
 * weight_file_open() - open for reading, with O_DIRECT where the file system has it
 * @note: told in a sentence where it has not, or where the file is in DRAM already; or NULL
 *
 * Return: 0, or open's errno; -EINVAL for what is neither a file nor a block device.
 */
int weight_file_open(struct weight_file *f, const char *path, note_fn note, void *arg,
		     struct err *err);
/* The same through the page cache, for mmap(). */
int weight_file_open_cached(struct weight_file *f, const char *path, struct err *err);
/* Does nothing where opening failed, or where it is closed already. */
void weight_file_close(struct weight_file *f);

/* Checks that the file holds [off, off + len). */
int weight_file_check(const struct weight_file *f, uint64_t off, uint64_t len, struct err *err);

/**
 * weight_file_failed() - the sentence of a read that failed
 * @off: where
 * @res: negative errno, or 0 for an end of file that came too early
 *
 * Return: -ESTALE where the file has changed since it was opened; -EIO for an early end; @res.
 */
int weight_file_failed(const struct weight_file *f, uint64_t off, int res, struct err *err);

/* Drops from the page cache what a read without O_DIRECT left there. */
void weight_file_forget(const struct weight_file *f, uint64_t off, uint64_t len);

#endif
