// SPDX-License-Identifier: MIT
/*
 * The uring source: O_DIRECT reads into a pool of our own, ahead of the consumer.
 *
 * The pool is the ring (n_slot slots of slot_bytes), then the pinned extents in file order.
 * weir_sched decides what is read into which slot and when; struct io carries it out. There is
 * no thread of our own: acquire() and release() take in what has completed and start what the
 * policy asks for next. So flash has work for as long as the consumer comes by at least once
 * in the time that `depth` reads take, and reads go on across the end of a pass.
 *
 * Words
 *	job	one read in flight: a piece of at most PIECE_MAX bytes of an extent, or the rest
 *		of it after a short read. Its index is its io tag.
 *	ring	extents are counted from 0 there: extent - plan->n_pin.
 *
 * Threads: calls come from one thread at a time. All memory is taken at open.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "kmod/weir_sched.h"
#include "kmod/weir_depth.h"
#include "stream/file.h"
#include "stream/pool.h"
#include "stream/rows.h"
#include "stream/source_uring.h"

#define PIECE_MAX (4u << 20)
#define FILL_JOBS 16u /* in flight while the pinned part is filled: 64 MiB */
#define DEPTH_MAX 256u
#define RETRIES	  16	       /* reads without progress before a job fails */
#define WAIT_NS	  100000000ull /* how long a wait may overlook the cancel flag */
#define REAP	  32

#define PINNED	  0xffffffffu /* struct job: no slot */
#define EARLY_END (-ENODATA)  /* struct target: the file ended too early */

struct job {
	uint32_t file;
	uint32_t slot; /* of the ring, or PINNED */
	uint64_t off;  /* in the file */
	char *buf;
	uint32_t len; /* up to the end of the extent or of the file */
	uint32_t done;
	uint32_t retries;
	uint32_t next;	/* in the list of free jobs */
	uint64_t begin; /* now_ns(), for the time line */
};

/* What jobs read to: a slot of the ring, or the whole pinned part. */
struct target {
	uint32_t pieces; /* jobs in flight */
	int error;	 /* of the first that failed, and where */
	uint32_t file;
	uint64_t off;
};

struct usource {
	struct source s; /* first */
	const struct plan *plan;
	const volatile int *cancel;
	struct timeline *timeline;

	uint32_t n_file;
	struct weight_file *file;
	int *fd; /* [n_file], for io */
	struct pool pool;
	uint64_t pinned_off; /* of the pinned part, in the pool */
	struct rows rows;

	struct io *io;
	uint32_t n_job, free_job, jobs_in_flight;
	struct job *job;

	struct weir_sched sched;
	struct weir_sched_extent *sched_extent;
	struct weir_sched_slot *sched_slot;
	struct target *target; /* [n_slot] */
	struct weir_depth depth;

	struct target pinned;

	uint64_t busy_since; /* when jobs_in_flight last left 0 */
	struct source_stats stats;
};

static struct usource *self(struct source *s)
{
	return (struct usource *)s;
}

static bool cancelled(const struct usource *u)
{
	return u->cancel && *u->cancel;
}

/* ---- jobs ---- */

/* Where in its buffer a job goes on: direct reads begin at a page. */
static uint32_t job_from(const struct usource *u, const struct job *j)
{
	return u->file[j->file].direct ? (uint32_t)align_down(j->done, PAGE_4K) : j->done;
}

static void job_start(struct usource *u, uint32_t index)
{
	const struct job *j = &u->job[index];
	bool direct = u->file[j->file].direct;
	uint32_t from = job_from(u, j);
	struct io_read r = {
		.buf = j->buf + from,
		.off = j->off + from,
		/* in whole pages: a direct read at the end of a file comes short there */
		.len = (direct ? (uint32_t)align_up(j->len, PAGE_4K) : j->len) - from,
		.file = j->file,
		.tag = index,
	};

	u->io->ops->read(u->io, &r);
	u->stats.reads++;
}

/* There is a free job: the caller has counted. */
static void job_new(struct usource *u, const struct extent *e, uint64_t at, uint32_t len, char *buf,
		    uint32_t slot)
{
	uint32_t index = u->free_job;
	struct job *j = &u->job[index];

	u->free_job = j->next;
	*j = (struct job){
		.file = e->file,
		.slot = slot,
		.off = e->off + at,
		.buf = buf,
		.len = len,
		.begin = u->timeline ? now_ns() : 0,
	};
	if (u->jobs_in_flight++ == 0)
		u->busy_since = now_ns();
	job_start(u, index);
}

static void job_end(struct usource *u, uint32_t index)
{
	const struct job *j = &u->job[index];

	timeline_read(u->timeline, j->begin, index, j->file, j->off, j->done);
	u->job[index].next = u->free_job;
	u->free_job = index;
	if (--u->jobs_in_flight == 0)
		u->stats.io_ns += now_ns() - u->busy_since;
}

/* An extent is read in equal pieces of whole pages. */
static uint32_t piece_bytes(uint64_t len)
{
	uint64_t n = (len + PIECE_MAX - 1) / PIECE_MAX;

	return (uint32_t)align_up((len + n - 1) / n, PAGE_4K);
}

static void fail(struct target *t, const struct job *j, int error)
{
	if (t->error)
		return;
	t->error = error;
	t->file = j->file;
	t->off = j->off + j->done;
}

static int failed(const struct usource *u, const struct target *t, struct err *err)
{
	return weight_file_failed(&u->file[t->file], t->off, t->error == EARLY_END ? 0 : t->error,
				  err);
}

/* True where the job has ended; else its rest has been queued again. */
static bool job_advance(struct usource *u, uint32_t index, int res, struct target *t)
{
	struct job *j = &u->job[index];
	uint32_t before = j->done, end;

	if (res > 0) {
		end = job_from(u, j) + (uint32_t)res;
		end = MIN(end, j->len);
		j->done = MAX(before, end);
		u->stats.flash_read_bytes += j->done - before;
		if (j->slot == PINNED)
			u->stats.pin_read_bytes += j->done - before;
		else
			u->stats.stream_read_bytes += j->done - before;
		if (j->done == j->len) {
			weight_file_forget(&u->file[j->file], j->off, j->len);
			return true;
		}
	}
	if (j->done / PAGE_4K != before / PAGE_4K)
		j->retries = 0;
	if (res == 0 || (res < 0 && res != -EINTR && res != -EAGAIN)) {
		fail(t, j, res ? res : EARLY_END);
		return true;
	}
	if (++j->retries > RETRIES) {
		fail(t, j, res < 0 ? res : -EIO);
		return true;
	}
	job_start(u, index);
	return false;
}

/* Takes in what has completed; how fast it came tells how deep the queue should be. */
static void reap(struct usource *u)
{
	uint64_t before = u->stats.stream_read_bytes, bytes;
	struct io_done done[REAP];
	uint32_t n;

	do {
		n = u->io->ops->reap(u->io, done, REAP);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t slot = u->job[done[i].tag].slot;
			struct target *t = slot == PINNED ? &u->pinned : &u->target[slot];

			if (!job_advance(u, done[i].tag, done[i].res, t))
				continue;
			job_end(u, done[i].tag);
			if (--t->pieces == 0 && slot != PINNED)
				weir_sched_complete(&u->sched, slot, t->error);
		}
	} while (n == REAP);
	bytes = u->stats.stream_read_bytes - before;
	if (bytes && weir_depth_add(&u->depth, bytes, now_ns()))
		weir_sched_set_depth(&u->sched, u->depth.now);
}

/* ---- the ring ---- */

static char *slot_at(const struct usource *u, uint32_t slot)
{
	return u->pool.base + slot * u->plan->slot_bytes;
}

static void read_extent(struct usource *u, uint32_t extent, uint32_t slot)
{
	const struct extent *e = &u->plan->extent[u->plan->n_pin + extent];
	uint32_t piece = piece_bytes(e->len);

	u->target[slot] = (struct target){0};
	for (uint64_t at = 0; at < e->len; at += piece) {
		u->target[slot].pieces++;
		job_new(u, e, at, (uint32_t)MIN(piece, e->len - at), slot_at(u, slot) + at, slot);
	}
}

/* Starts what the policy asks for. */
static int pump(struct usource *u)
{
	uint32_t extent, slot;
	bool any = false;

	while (weir_sched_next(&u->sched, &extent, &slot)) {
		read_extent(u, extent, slot);
		any = true;
	}
	return any ? u->io->ops->flush(u->io) : 0;
}

/* Starts what is queued, sleeps until something has completed, and takes it in. */
static int sleep_and_reap(struct usource *u, struct err *err)
{
	int r;

	if (cancelled(u))
		return err_set(err, -EINTR, "interrupted");
	r = u->io->ops->wait(u->io, WAIT_NS);
	reap(u);
	if (r && r != -EINTR)
		return err_set(err, r, "waiting for reads failed: %s", strerror(-r));
	return 0;
}

/* One wait of the consumer. */
static int wait(struct usource *u, struct err *err)
{
	uint64_t start = now_ns();
	int r;

	if (!u->jobs_in_flight)
		return err_set(err, -EDEADLK,
			       "more than the plan's %u streamed extents are held at once",
			       u->plan->max_acquire);
	r = sleep_and_reap(u, err);
	u->stats.wait_ns += now_ns() - start;
	timeline_wait(u->timeline, start);
	return r;
}

static int uring_acquire(struct source *s, uint32_t extent, const void **data, struct err *err)
{
	struct usource *u = self(s);
	enum weir_acquire a;
	weir_s32 error;
	uint32_t slot;
	int r;

	extent -= u->plan->n_pin;
	reap(u);
	for (;;) {
		a = weir_sched_acquire(&u->sched, extent, &slot, &error);
		if (a == WEIR_ACQUIRE_ERROR)
			return failed(u, &u->target[u->sched_extent[extent].slot], err);
		r = pump(u);
		if (r)
			return err_set(err, r, "starting reads failed: %s", strerror(-r));
		if (a == WEIR_ACQUIRE_READY) {
			*data = slot_at(u, slot);
			return 0;
		}
		r = wait(u, err);
		if (r)
			return r;
	}
}

static void uring_release(struct source *s, uint32_t extent)
{
	struct usource *u = self(s);

	weir_sched_release(&u->sched, extent - u->plan->n_pin);
	reap(u);
	/* What could not be started now is started, or fails, at the next acquire. */
	(void)pump(u);
}

/* The schedule is declared already. */
static int uring_hint(struct source *s, const uint32_t *extent, uint32_t n, int priority)
{
	return 0;
}

/* ---- rows that are not held ---- */

static int uring_read(struct source *s, uint32_t file, uint64_t off, void *buf, size_t len,
		      struct err *err)
{
	struct usource *u = self(s);
	uint64_t start = u->timeline ? now_ns() : 0;
	int r = rows_read(&u->rows, file, off, buf, len, err);

	timeline_wait(u->timeline, start);
	return r;
}

static void uring_stats(struct source *s, struct source_stats *out)
{
	struct usource *u = self(s);

	reap(u);
	(void)pump(u);
	*out = u->stats;
	out->reads += u->rows.reads;
	out->flash_read_bytes += u->rows.read_bytes;
	out->hits = u->sched.stats.hits;
	out->late = u->sched.stats.late;
	out->misses = u->sched.stats.misses;
	out->depth = u->depth.now;
	if (u->jobs_in_flight)
		out->io_ns += now_ns() - u->busy_since;
}

/* ---- open and close ---- */

static void uring_close(struct source *s)
{
	struct usource *u = self(s);

	if (u->io)
		u->io->ops->close(u->io);
	pool_close(&u->pool);
	for (uint32_t i = 0; i < u->n_file; i++)
		weight_file_close(&u->file[i]);
	free(u->s.resident);
	free(u->target);
	free(u->sched_slot);
	free(u->sched_extent);
	free(u->job);
	rows_close(&u->rows);
	free(u->fd);
	free(u->file);
	free(u);
}

static int open_files(struct usource *u, const struct source_params *p, struct err *err)
{
	int r;

	u->file = calloc(MAX(p->n_file, 1u), sizeof(*u->file));
	u->fd = calloc(MAX(p->n_file, 1u), sizeof(*u->fd));
	if (!u->file || !u->fd)
		return err_set(err, -ENOMEM, "out of memory for %u files", p->n_file);
	for (; u->n_file < p->n_file; u->n_file++) {
		struct weight_file *f = &u->file[u->n_file];

		r = weight_file_open(f, p->path[u->n_file], p->note, p->arg, err);
		if (r)
			return r;
		u->fd[u->n_file] = f->fd;
	}
	for (uint32_t i = 0; i < p->plan->n_extent; i++) {
		const struct extent *e = &p->plan->extent[i];

		r = weight_file_check(&u->file[e->file], e->off, e->len, err);
		if (r)
			return r;
	}
	return 0;
}

static int open_pool(struct usource *u, const struct source_params *p, struct err *err)
{
	const struct plan *plan = p->plan;
	uint64_t len;
	int r;

	len = u->pinned_off = plan->n_slot * plan->slot_bytes;
	for (uint32_t i = 0; i < plan->n_pin; i++)
		len += align_up(plan->extent[i].len, PAGE_4K);
	r = pool_open(&u->pool, len, p->note, p->arg, err);
	if (r)
		return r;
	u->stats.locked_bytes = u->pool.locked_bytes;
	u->stats.huge_bytes = u->pool.memory.huge_bytes;
	return 0;
}

/* Everything that moves: the policy, its depth, the jobs, and who carries them out. */
static int open_queue(struct usource *u, const struct source_params *p, const struct io_ops *io,
		      struct err *err)
{
	const struct plan *plan = p->plan;
	uint32_t n_stream = plan->n_extent - plan->n_pin, depth_max, pieces = 1;
	struct io_params ip = {
		.fd = u->fd,
		.n_fd = u->n_file,
		.base = u->pool.base,
		.len = u->pinned_off,
		.note = p->note,
		.arg = p->arg,
	};
	int r;

	if (plan->n_slot)
		pieces = (uint32_t)((plan->slot_bytes + PIECE_MAX - 1) / PIECE_MAX);
	depth_max = MIN(plan->n_slot, DEPTH_MAX);
	depth_max = MAX(depth_max, 1u);
	weir_depth_init(&u->depth, MIN(p->depth, depth_max), depth_max);
	/* a demand may exceed the depth by one */
	u->n_job = MAX((depth_max + 1) * pieces, FILL_JOBS);
	u->job = calloc(u->n_job, sizeof(*u->job));
	u->sched_extent = calloc(MAX(n_stream, 1u), sizeof(*u->sched_extent));
	u->sched_slot = calloc(MAX(plan->n_slot, 1u), sizeof(*u->sched_slot));
	u->target = calloc(MAX(plan->n_slot, 1u), sizeof(*u->target));
	u->s.resident = calloc(MAX(plan->n_extent, 1u), sizeof(*u->s.resident));
	if (!u->job || !u->sched_extent || !u->sched_slot || !u->target || !u->s.resident)
		return err_set(err, -ENOMEM, "out of memory for %u extents", plan->n_extent);
	r = rows_open(&u->rows, plan, u->s.resident, u->file, u->cancel, err);
	if (r)
		return r;
	for (uint32_t i = 0; i < u->n_job; i++)
		u->job[i].next = i + 1;
	weir_sched_init(&u->sched, u->sched_extent, n_stream, u->sched_slot, plan->n_slot,
			u->depth.now);
	ip.entries = u->n_job;
	return io ? io->open(&ip, &u->io, err) : io_open(&ip, &u->io, err);
}

/* Reads the pinned extents, in file order, with the queue full. */
static int read_pinned(struct usource *u, const struct source_params *p, struct err *err)
{
	const struct plan *plan = p->plan;
	char *to = u->pool.base + u->pinned_off;
	uint64_t at = 0;
	uint32_t e = 0, len;
	int r;

	while (e < plan->n_pin || u->jobs_in_flight) {
		while (e < plan->n_pin && u->jobs_in_flight < FILL_JOBS) {
			const struct extent *x = &plan->extent[e];

			len = (uint32_t)MIN((uint64_t)PIECE_MAX, x->len - at);
			u->pinned.pieces++;
			job_new(u, x, at, len, to + at, PINNED);
			at += len;
			if (at < x->len)
				continue;
			u->s.resident[e++] = to;
			to += align_up(at, PAGE_4K);
			at = 0;
		}
		r = sleep_and_reap(u, err);
		if (r)
			return r;
		if (u->pinned.error)
			return failed(u, &u->pinned, err);
		if (p->progress)
			p->progress(p->arg, u->stats.pin_read_bytes, plan->pinned_bytes);
	}
	return 0;
}

static int fill_pinned(struct usource *u, const struct source_params *p, struct err *err)
{
	struct populate populate;
	int r;

	populate_start(&populate, &u->pool, u->pinned_off);
	r = read_pinned(u, p, err);
	populate_stop(&populate);
	return r;
}

int source_uring_open_io(const struct source_params *p, const struct io_ops *io,
			 struct source **out, struct err *err)
{
	struct usource *u = calloc(1, sizeof(*u));
	int r;

	*out = NULL;
	if (!u)
		return err_set(err, -ENOMEM, "out of memory for a source");
	u->s.ops = &source_uring;
	u->plan = p->plan;
	u->cancel = p->cancel;
	u->timeline = p->timeline;
	r = open_files(u, p, err);
	if (!r)
		r = open_pool(u, p, err);
	if (!r)
		r = open_queue(u, p, io, err);
	if (!r)
		r = fill_pinned(u, p, err);
	if (!r) {
		r = pump(u);
		if (r)
			err_set(err, r, "starting reads failed: %s", strerror(-r));
	}
	if (r) {
		uring_close(&u->s);
		return r;
	}
	*out = &u->s;
	return 0;
}

static int uring_open(const struct source_params *p, struct source **out, struct err *err)
{
	return source_uring_open_io(p, NULL, out, err);
}

const struct source_ops source_uring = {
	.name = "uring",
	.open = uring_open,
	.hint = uring_hint,
	.acquire = uring_acquire,
	.release = uring_release,
	.read = uring_read,
	.stats = uring_stats,
	.close = uring_close,
};
