// SPDX-License-Identifier: MIT
/*
 * Reads by io_uring: one system call starts any number of them, and completions are found in
 * shared memory without one.
 *
 * Files are registered, and so is the memory of the steady reads where RLIMIT_MEMLOCK allows
 * it: then the kernel need not pin its pages for every read. Both are savings, not needs.
 *
 * COOP_TASKRUN: a completion does not interrupt a thread that is computing; TASKRUN_FLAG lets
 * reap() see in shared memory that one is pending and enter the kernel only then. liburing
 * looks there for it since 2.2, which is also the first that knows the flag's name.
 */
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/util.h"
#include "stream/io.h"

#ifdef IORING_SETUP_TASKRUN_FLAG
#define SETUP_FLAGS (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
#else
#define SETUP_FLAGS 0
#endif
#define FIXED_MAX  (1ull << 30)	  /* the kernel's limit for one registered buffer */
#define DRAIN_NS   10000000000ull /* close() gives a hung device so long */
#define WAIT_SLICE 100000000ull

struct uring {
	struct io io;
	struct io_uring ring;
	const int *fd;
	bool fixed_files;
	char *fixed; /* registered memory, in buffers of FIXED_MAX bytes; NULL: none */
	uint64_t fixed_len;
	uint32_t in_flight; /* queued, or started and not reaped */
};

static void tell(const struct io_params *p, const char *sentence)
{
	if (p->note)
		p->note(p->arg, sentence);
}

static void register_memory(struct uring *u, const struct io_params *p)
{
	unsigned int n = (unsigned int)((p->len + FIXED_MAX - 1) / FIXED_MAX);
	struct iovec *iov;
	char text[200];
	int r;

	if (!n)
		return;
	iov = calloc(n, sizeof(*iov));
	if (!iov)
		return;
	for (unsigned int i = 0; i < n; i++) {
		iov[i].iov_base = (char *)p->base + i * FIXED_MAX;
		iov[i].iov_len = MIN(FIXED_MAX, p->len - i * FIXED_MAX);
	}
	r = io_uring_register_buffers(&u->ring, iov, n);
	free(iov);
	if (r == 0) {
		u->fixed = p->base;
		u->fixed_len = p->len;
		return;
	}
	snprintf(text, sizeof(text),
		 "the ring's memory cannot be registered with io_uring (%s): reads cost a little "
		 "more CPU; raise the limit with 'ulimit -l'",
		 strerror(-r));
	tell(p, text);
}

static int uring_open(const struct io_params *p, struct io **out, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_set(err, -ENOMEM, "out of memory for a read queue");
	u->io.ops = &io_uring_ops;
	u->fd = p->fd;
	/* one more: a wait with a time-out takes an entry on kernels before 5.11 */
	r = io_uring_queue_init(p->entries + 1, &u->ring, SETUP_FLAGS);
	/* kernels before 5.19 know neither flag */
	if (r == -EINVAL)
		r = io_uring_queue_init(p->entries + 1, &u->ring, 0);
	if (r) {
		free(u);
		return err_set(err, r, "io_uring cannot be set up: %s%s", strerror(-r),
			       r == -ENOMEM ? " (the limit of 'ulimit -l' may be too low)" : "");
	}
	u->fixed_files = io_uring_register_files(&u->ring, p->fd, p->n_fd) == 0;
	register_memory(u, p);
	*out = &u->io;
	return 0;
}

/* The registered buffer that holds all of [buf, buf + len), or -1. */
static int fixed_index(const struct uring *u, const void *buf, uint32_t len)
{
	uint64_t at = (uint64_t)((const char *)buf - u->fixed);

	if (!u->fixed || (const char *)buf < u->fixed || at + len > u->fixed_len ||
	    at / FIXED_MAX != (at + len - 1) / FIXED_MAX)
		return -1;
	return (int)(at / FIXED_MAX);
}

static void uring_read(struct io *io, const struct io_read *r)
{
	struct uring *u = (struct uring *)io;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	int fd = u->fixed_files ? (int)r->file : u->fd[r->file];
	int index = fixed_index(u, r->buf, r->len);

	if (index >= 0)
		io_uring_prep_read_fixed(sqe, fd, r->buf, r->len, r->off, index);
	else
		io_uring_prep_read(sqe, fd, r->buf, r->len, r->off);
	if (u->fixed_files)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, (void *)(uintptr_t)r->tag);
	u->in_flight++;
}

/* Entries that the kernel did not take now are taken by the next call. */
static int submitted(int r)
{
	return r >= 0 || r == -EAGAIN || r == -EBUSY || r == -ETIME ? 0 : r;
}

static int uring_flush(struct io *io)
{
	return submitted(io_uring_submit(&((struct uring *)io)->ring));
}

static uint32_t uring_reap(struct io *io, struct io_done *done, uint32_t max)
{
	struct uring *u = (struct uring *)io;
	struct io_uring_cqe *cqe;
	uint32_t n;

	for (n = 0; n < max && u->in_flight && io_uring_peek_cqe(&u->ring, &cqe) == 0; n++) {
		done[n].tag = (uint32_t)(uintptr_t)io_uring_cqe_get_data(cqe);
		done[n].res = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		u->in_flight--;
	}
	return n;
}

static int uring_wait(struct io *io, uint64_t ns)
{
	struct uring *u = (struct uring *)io;
	struct __kernel_timespec ts = {(int64_t)(ns / 1000000000), (long long)(ns % 1000000000)};
	struct io_uring_cqe *cqe;
	int r = 0;

	/* in two calls: liburing has one for both since 2.2 only */
	if (io_uring_sq_ready(&u->ring))
		r = submitted(io_uring_submit(&u->ring));
	return r ? r : submitted(io_uring_wait_cqe_timeout(&u->ring, &cqe, &ts));
}

static void uring_close(struct io *io)
{
	struct uring *u = (struct uring *)io;
	uint64_t end = now_ns() + DRAIN_NS;
	struct io_done done[16];

	/* Should the device hang, the kernel keeps the pages until the last read has ended. */
	while (u->in_flight && now_ns() < end) {
		if (!uring_reap(io, done, ARRAY_SIZE(done)) && uring_wait(io, WAIT_SLICE))
			break;
	}
	io_uring_queue_exit(&u->ring);
	free(u);
}

const struct io_ops io_uring_ops = {
	.name = "io_uring",
	.open = uring_open,
	.read = uring_read,
	.flush = uring_flush,
	.reap = uring_reap,
	.wait = uring_wait,
	.close = uring_close,
};

int io_open(const struct io_params *p, struct io **out, struct err *err)
{
	struct err why;
	char text[sizeof(why.text) + 64];
	int r;

	r = io_uring_ops.open(p, out, &why);
	if (r == 0)
		return 0;
	snprintf(text, sizeof(text), "%s: reading with threads instead, which costs more CPU",
		 why.text);
	tell(p, text);
	return io_threads_ops.open(p, out, err);
}
