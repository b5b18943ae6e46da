/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous reads, behind a table so that the source does not care who carries them out:
 * io_uring, a pool of threads where io_uring is refused, and a fake one in tests.
 *
 * Reads are queued with read(), started by flush() or wait(), and come back from reap() in any
 * order, each with what one pread() would return: a count that may be short, 0 at the end of
 * the file, or a negative errno. Repeating the rest of a short read is the caller's business.
 * All calls come from one thread. Nothing is allocated after open().
 */
#ifndef WEIR_STREAM_IO_H
#define WEIR_STREAM_IO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct io_params {
	const int *fd; /* [n_fd] open files; must outlive the io */
	uint32_t n_fd;
	uint32_t entries; /* reads queued or in flight at most */
	void *base;	  /* memory that the steady reads go to: registered where that is allowed */
	uint64_t len;	  /* of it; 0: none */
	void (*note)(void *arg, const char *sentence); /* or NULL */
	void *arg;
};

struct io_read {
	void *buf;
	uint64_t off;
	uint32_t len;
	uint32_t file; /* index into io_params.fd */
	uint32_t tag;  /* comes back in io_done */
};

struct io_done {
	uint32_t tag;
	int32_t res; /* bytes, or negative errno */
};

struct io;

struct io_ops {
	const char *name;
	int (*open)(const struct io_params *p, struct io **out, struct err *err);
	/* The caller keeps to io_params.entries; then it cannot fail. */
	void (*read)(struct io *io, const struct io_read *r);
	/* Starts what was queued. */
	int (*flush)(struct io *io);
	/* Never blocks. Return: how many of @max were written to @done. */
	uint32_t (*reap)(struct io *io, struct io_done *done, uint32_t max);
	/*
	 * Starts what was queued and sleeps until there is something to reap, at most @ns.
	 * Return: 0 (also when the time is over), -EINTR, or the errno of a broken queue.
	 */
	int (*wait)(struct io *io, uint64_t ns);
	/* Waits for what is in flight, then frees everything. */
	void (*close)(struct io *io);
};

/* What every io begins with. */
struct io {
	const struct io_ops *ops;
};

extern const struct io_ops io_uring_ops;
extern const struct io_ops io_threads_ops;

/* The best that this machine allows; a note says why where it is not io_uring. */
int io_open(const struct io_params *p, struct io **out, struct err *err);

#endif
