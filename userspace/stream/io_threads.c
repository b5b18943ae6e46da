// SPDX-License-Identifier: MIT
/*
 * Reads by a pool of threads, for machines that refuse io_uring (seccomp profiles of
 * containers, old kernels, user-mode emulation).
 *
 * One mutex guards two bounded queues: `todo`, from which a worker takes a read, and `done`.
 * Workers have all signals blocked, so that Ctrl-C reaches the caller.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "stream/io.h"

#define THREADS_MAX 16
#define STACK_BYTES (256u << 10)

struct threads {
	struct io io;
	const int *fd;
	uint32_t entries;

	pthread_mutex_t lock;
	pthread_cond_t work;	 /* todo is not empty, or stop */
	pthread_cond_t finished; /* done is not empty */
	struct io_read *todo;	 /* [entries], circular */
	struct io_done *done;	 /* [entries], circular */
	uint32_t todo_head, n_todo, done_head, n_done;
	uint32_t n_ready; /* of todo, that flush() has released to the workers */
	bool stop;

	uint32_t n_thread;
	pthread_t thread[THREADS_MAX];
};

static void *worker(void *arg)
{
	struct threads *t = arg;
	struct io_read r;
	ssize_t n;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		while (!t->n_ready && !t->stop)
			pthread_cond_wait(&t->work, &t->lock);
		if (!t->n_ready)
			break;
		r = t->todo[t->todo_head];
		t->todo_head = (t->todo_head + 1) % t->entries;
		t->n_todo--;
		t->n_ready--;
		pthread_mutex_unlock(&t->lock);

		n = pread(t->fd[r.file], r.buf, r.len, (off_t)r.off);
		if (n < 0)
			n = -errno;

		pthread_mutex_lock(&t->lock);
		t->done[(t->done_head + t->n_done++) % t->entries] =
			(struct io_done){.tag = r.tag, .res = (int32_t)n};
		pthread_cond_signal(&t->finished);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* Lets the workers finish what is queued, and ends them. */
static void threads_close(struct io *io)
{
	struct threads *t = (struct threads *)io;

	pthread_mutex_lock(&t->lock);
	/* what was never started need not be */
	t->n_todo = t->n_ready = 0;
	t->stop = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	for (uint32_t i = 0; i < t->n_thread; i++)
		pthread_join(t->thread[i], NULL);
	pthread_cond_destroy(&t->finished);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t->done);
	free(t->todo);
	free(t);
}

static int start_workers(struct threads *t)
{
	uint32_t want = MIN(t->entries, (uint32_t)THREADS_MAX);
	sigset_t all, before;
	pthread_attr_t attr;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (t->n_thread < want && !r) {
		r = pthread_create(&t->thread[t->n_thread], &attr, worker, t);
		t->n_thread += !r;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return t->n_thread ? 0 : -r;
}

static int threads_open(const struct io_params *p, struct io **out, struct err *err)
{
	struct threads *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int r;

	if (!t)
		return err_set(err, -ENOMEM, "out of memory for a read queue");
	t->io.ops = &io_threads_ops;
	t->fd = p->fd;
	t->entries = p->entries;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->finished, &attr);
	pthread_condattr_destroy(&attr);
	t->todo = calloc(p->entries, sizeof(*t->todo));
	t->done = calloc(p->entries, sizeof(*t->done));
	r = t->todo && t->done ? start_workers(t) : -ENOMEM;
	if (r) {
		threads_close(&t->io);
		return err_set(err, r, "cannot start threads for reading: %s", strerror(-r));
	}
	*out = &t->io;
	return 0;
}

static void threads_read(struct io *io, const struct io_read *r)
{
	struct threads *t = (struct threads *)io;

	pthread_mutex_lock(&t->lock);
	t->todo[(t->todo_head + t->n_todo++) % t->entries] = *r;
	pthread_mutex_unlock(&t->lock);
}

static int threads_flush(struct io *io)
{
	struct threads *t = (struct threads *)io;

	pthread_mutex_lock(&t->lock);
	if (t->n_todo > t->n_ready)
		pthread_cond_broadcast(&t->work);
	t->n_ready = t->n_todo;
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static uint32_t threads_reap(struct io *io, struct io_done *done, uint32_t max)
{
	struct threads *t = (struct threads *)io;
	uint32_t n;

	pthread_mutex_lock(&t->lock);
	for (n = 0; n < max && t->n_done; n++, t->n_done--) {
		done[n] = t->done[t->done_head];
		t->done_head = (t->done_head + 1) % t->entries;
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

static int threads_wait(struct io *io, uint64_t ns)
{
	struct threads *t = (struct threads *)io;
	uint64_t end = now_ns() + ns;
	struct timespec ts = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
	int r = 0;

	threads_flush(io);
	pthread_mutex_lock(&t->lock);
	while (!t->n_done && !r)
		r = pthread_cond_timedwait(&t->finished, &t->lock, &ts);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

const struct io_ops io_threads_ops = {
	.name = "threads",
	.open = threads_open,
	.read = threads_read,
	.flush = threads_flush,
	.reap = threads_reap,
	.wait = threads_wait,
	.close = threads_close,
};
