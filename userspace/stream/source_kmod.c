// SPDX-License-Identifier: MIT
/*
 * The kmod source: weir.ko reads and pins; this maps what it holds.
 *
 * The plan becomes the session's declaration: extents in the plan's order have the same numbers
 * there. What is pinned is resident for good once it is read. What streams is acquired and
 * released in the control page, as include/uapi/linux/weir.h describes, so that neither takes a
 * system call while flash keeps up.
 *
 * The whole pool is mapped at open, page tables filled: no page fault comes later.
 */
#include "stream/source_kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "include/uapi/linux/weir.h"
#include "stream/file.h"
#include "stream/rows.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#define WAIT_NS 100000000ll /* how long a wait may overlook the cancel flag */

struct ksource {
	struct source s; /* first */
	const struct plan *plan;
	const volatile int *cancel;
	struct timeline *timeline;

	uint32_t n_file;
	struct weight_file *file;
	struct rows rows;

	int fd;
	struct weir_commit commit;
	const char *pool;
	const struct weir_control *control;
	const uint64_t *frame_offset;
	const uint32_t *state;
	struct weir_claim *claim;
	uint32_t *frame; /* [n_extent] in which an acquired extent lies */

	uint64_t wait_ns;
};

static struct ksource *self(struct source *s)
{
	return (struct ksource *)s;
}

/* ---- waiting ---- */

static int failed(const struct ksource *k, uint32_t extent, int e, struct err *err)
{
	const struct extent *x = &k->plan->extent[extent];

	return weight_file_failed(&k->file[x->file], x->off, e == -ENODATA ? 0 : e, err);
}

/* Waits a while for an extent to be resident. Return: 0 (look again), or an errno. */
static int wait_for(struct ksource *k, uint32_t extent, struct err *err)
{
	struct weir_acquire_args a = {
		.size = sizeof(a),
		.flags = WEIR_ACQUIRE_WAIT_ONLY,
		.count = 1,
		.timeout_ns = WAIT_NS,
		.extents = (uintptr_t)&extent,
	};

	if (k->cancel && *k->cancel)
		return err_set(err, -EINTR, "interrupted");
	if (!ioctl(k->fd, WEIR_IOC_ACQUIRE, &a) || errno == EINTR || errno == ETIMEDOUT)
		return 0;
	return failed(k, extent, -errno, err);
}

/* ---- what streams ---- */

/* True where the extent is claimed; see struct weir_control. */
static bool claim(struct ksource *k, uint32_t extent, const void **data)
{
	uint32_t w = __atomic_load_n(&k->state[extent], __ATOMIC_ACQUIRE);
	uint32_t f = w >> WEIR_STATE_SHIFT;

	if ((w & WEIR_STATE_MASK) != WEIR_STATE_READY)
		return false;
	__atomic_fetch_add(&k->claim[f].acquired, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&k->state[extent], __ATOMIC_SEQ_CST) != w) {
		__atomic_fetch_add(&k->claim[f].released, 1, __ATOMIC_SEQ_CST);
		return false;
	}
	k->frame[extent] = f;
	*data = k->pool + k->frame_offset[f];
	return true;
}

static int kmod_acquire(struct source *s, uint32_t extent, const void **data, struct err *err)
{
	struct ksource *k = self(s);
	uint64_t start;
	int r = 0;

	if (claim(k, extent, data))
		return 0;
	start = now_ns();
	while (!r && !claim(k, extent, data))
		r = wait_for(k, extent, err);
	k->wait_ns += now_ns() - start;
	timeline_wait(k->timeline, start);
	return r;
}

static void kmod_release(struct source *s, uint32_t extent)
{
	struct ksource *k = self(s);
	struct weir_release a = {.size = sizeof(a)};

	__atomic_fetch_add(&k->claim[k->frame[extent]].released, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&k->control->flags, __ATOMIC_SEQ_CST) & WEIR_CONTROL_KICK)
		ioctl(k->fd, WEIR_IOC_RELEASE, &a);
}

static int kmod_hint(struct source *s, const uint32_t *extent, uint32_t n, int priority)
{
	struct weir_hint a = {
		.size = sizeof(a),
		.count = n,
		.priority = (uint32_t)MIN(MAX(priority, 0), WEIR_HINT_PRIORITIES - 1),
		.extents = (uintptr_t)extent,
	};

	return ioctl(self(s)->fd, WEIR_IOC_HINT, &a) ? -errno : 0;
}

static int kmod_read(struct source *s, uint32_t file, uint64_t off, void *buf, size_t len,
		     struct err *err)
{
	struct ksource *k = self(s);
	uint64_t start = k->timeline ? now_ns() : 0;
	int r = rows_read(&k->rows, file, off, buf, len, err);

	timeline_wait(k->timeline, start);
	return r;
}

static void kmod_stats(struct source *s, struct source_stats *out)
{
	struct ksource *k = self(s);
	struct weir_stats a = {.size = sizeof(a)};

	*out = (struct source_stats){.wait_ns = k->wait_ns};
	if (ioctl(k->fd, WEIR_IOC_STATS, &a))
		return;
	out->flash_read_bytes = a.read_bytes + k->rows.read_bytes;
	out->pin_read_bytes = a.pin_bytes;
	out->stream_read_bytes = a.read_bytes - a.pin_bytes;
	out->reads = a.reads + k->rows.reads;
	out->hits = a.hits;
	out->late = a.late;
	out->misses = a.misses;
	out->io_ns = a.io_ns;
	out->depth = a.depth;
	out->locked_bytes = a.pinned_bytes + a.shared_bytes;
	out->huge_bytes = out->locked_bytes;
}

/* ---- open and close ---- */

static void unmap(const void *p, uint64_t len)
{
	if (p)
		munmap((void *)(uintptr_t)p, len);
}

static void kmod_close(struct source *s)
{
	struct ksource *k = self(s);

	unmap(k->pool, k->commit.map_bytes);
	unmap(k->control, k->commit.control_bytes);
	unmap(k->claim, k->commit.claims_bytes);
	if (k->fd >= 0)
		close(k->fd);
	rows_close(&k->rows);
	for (uint32_t i = 0; i < k->n_file; i++)
		weight_file_close(&k->file[i]);
	free(k->file);
	free(k->s.resident);
	free(k->frame);
	free(k);
}

static int open_device(struct ksource *k, struct err *err)
{
	k->fd = open(WEIR_DEVICE, O_RDWR | O_CLOEXEC);
	if (k->fd >= 0)
		return 0;
	if (errno == EACCES)
		return err_set(err, -EACCES,
			       WEIR_DEVICE " may not be used: join the group 'weir' (sudo "
					   "usermod -aG weir $USER) and log in again");
	return err_set(err, -errno, "cannot open " WEIR_DEVICE ": %s%s", strerror(errno),
		       errno == ENOENT ? " (is the module loaded? 'sudo modprobe weir')" : "");
}

static int attach(struct ksource *k, const struct source_params *p, struct err *err)
{
	int r;

	k->file = calloc(MAX(p->n_file, 1u), sizeof(*k->file));
	if (!k->file)
		return err_set(err, -ENOMEM, "out of memory for %u files", p->n_file);
	for (; k->n_file < p->n_file; k->n_file++) {
		struct weight_file *f = &k->file[k->n_file];
		struct weir_attach a = {.size = sizeof(a)};

		r = weight_file_open(f, p->path[k->n_file], p->note, p->arg, err);
		if (r)
			return r;
		a.fd = f->fd;
		a.flags = f->direct ? 0 : WEIR_ATTACH_BUFFERED;
		if (ioctl(k->fd, WEIR_IOC_ATTACH, &a)) {
			r = err_set(err, -errno, "weir.ko does not take %s: %s", f->path,
				    strerror(errno));
			weight_file_close(f);
			return r;
		}
	}
	return 0;
}

static int declare(struct ksource *k, struct err *err)
{
	const struct plan *plan = k->plan;
	struct weir_extents a = {.size = sizeof(a), .count = plan->n_extent};
	struct weir_extent *x = calloc(MAX(plan->n_extent, 1u), sizeof(*x));
	int r = 0;

	if (!x)
		return err_set(err, -ENOMEM, "out of memory for %u extents", plan->n_extent);
	for (uint32_t i = 0; i < plan->n_extent && !r; i++) {
		const struct extent *e = &plan->extent[i];

		x[i].file = e->file;
		x[i].kind = e->kind == EXTENT_PIN ? WEIR_EXTENT_PIN : WEIR_EXTENT_STREAM;
		x[i].offset = e->off;
		x[i].length = e->len;
		r = weight_file_check(&k->file[e->file], e->off, e->len, err);
	}
	a.extents = (uintptr_t)x;
	if (!r && ioctl(k->fd, WEIR_IOC_EXTENTS, &a))
		r = err_set(err, -errno, "weir.ko does not take the plan's %u extents: %s",
			    plan->n_extent, strerror(errno));
	free(x);
	return r;
}

static int commit(struct ksource *k, uint32_t depth, struct err *err)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct plan *plan = k->plan;
	char text[32];

	k->commit = (struct weir_commit){.size = sizeof(k->commit), .depth = depth};
	k->commit.budget = plan->n_slot * align_up(plan->slot_bytes, page);
	for (uint32_t i = 0; i < plan->n_pin; i++)
		k->commit.budget += align_up(plan->extent[i].len, page);
	if (!ioctl(k->fd, WEIR_IOC_COMMIT, &k->commit))
		return 0;
	if (errno != ENOMEM)
		return err_set(err, -errno, "weir.ko cannot hold the plan: %s", strerror(errno));
	return err_set(err, -ENOMEM,
		       "weir.ko may not pin %s: raise the limit on locked memory ('ulimit -l "
		       "unlimited'), the memory cgroup's, or the module's parameter max_pinned_mb, "
		       "or use a smaller --budget",
		       format_bytes(k->commit.budget, text));
}

static const void *map(struct ksource *k, uint64_t off, uint64_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, MAP_SHARED | flags, k->fd, (off_t)off);

	return p == MAP_FAILED ? NULL : p;
}

/* Fills the page tables of frames that lie one behind the other. Only speed depends on it. */
static void populate(const struct ksource *k)
{
	uint64_t from = 0, to = 0;

	for (uint32_t f = 0; f <= k->commit.n_frame; f++) {
		uint64_t at = f < k->commit.n_frame ? k->frame_offset[f] : UINT64_MAX;

		if (at != to) {
			madvise((void *)(uintptr_t)(k->pool + from), to - from, MADV_POPULATE_READ);
			from = to = at;
		}
		if (f < k->plan->n_pin)
			to += align_up(k->plan->extent[f].len, (uint64_t)sysconf(_SC_PAGESIZE));
		else
			to += k->commit.slot_bytes;
	}
}

static int map_all(struct ksource *k, struct err *err)
{
	k->control = map(k, WEIR_MMAP_CONTROL, k->commit.control_bytes, PROT_READ, MAP_POPULATE);
	k->claim = (void *)(uintptr_t)map(k, WEIR_MMAP_CLAIMS, k->commit.claims_bytes,
					  PROT_READ | PROT_WRITE, MAP_POPULATE);
	k->pool = map(k, WEIR_MMAP_POOL, k->commit.map_bytes, PROT_READ, 0);
	if (!k->control || !k->claim || !k->pool)
		return err_set(err, -errno, "cannot map the pool of " WEIR_DEVICE ": %s",
			       strerror(errno));
	k->frame_offset = (const void *)((const char *)k->control + k->control->frame_offset);
	k->state = (const void *)((const char *)k->control + k->control->state_offset);
	populate(k);
	return 0;
}

/* Waits until all that is pinned has been read. */
static int fill(struct ksource *k, const struct source_params *p, struct err *err)
{
	uint64_t done = 0;

	for (uint32_t i = 0; i < k->plan->n_pin; i++) {
		uint32_t w;
		int r;

		for (;;) {
			w = __atomic_load_n(&k->state[i], __ATOMIC_ACQUIRE);
			if ((w & WEIR_STATE_MASK) == WEIR_STATE_PINNED)
				break;
			r = wait_for(k, i, err);
			if (r)
				return r;
		}
		k->s.resident[i] = k->pool + k->frame_offset[w >> WEIR_STATE_SHIFT];
		done += k->plan->extent[i].len;
		if (p->progress)
			p->progress(p->arg, done, k->plan->pinned_bytes);
	}
	return 0;
}

static int kmod_open(const struct source_params *p, struct source **out, struct err *err)
{
	struct ksource *k = calloc(1, sizeof(*k));
	uint32_t n = MAX(p->plan->n_extent, 1u);
	int r;

	*out = NULL;
	if (!k)
		return err_set(err, -ENOMEM, "out of memory for a source");
	k->s.ops = &source_kmod;
	k->plan = p->plan;
	k->cancel = p->cancel;
	k->timeline = p->timeline;
	k->fd = -1;
	k->s.resident = calloc(n, sizeof(*k->s.resident));
	k->frame = calloc(n, sizeof(*k->frame));
	r = k->s.resident && k->frame
		    ? open_device(k, err)
		    : err_set(err, -ENOMEM, "out of memory for %u extents", p->plan->n_extent);
	if (!r)
		r = attach(k, p, err);
	if (!r)
		r = rows_open(&k->rows, p->plan, k->s.resident, k->file, p->cancel, err);
	if (!r)
		r = declare(k, err);
	if (!r)
		r = commit(k, p->depth, err);
	if (!r)
		r = map_all(k, err);
	if (!r)
		r = fill(k, p, err);
	if (r) {
		kmod_close(&k->s);
		return r;
	}
	*out = &k->s;
	return 0;
}

const struct source_ops source_kmod = {
	.name = "kmod",
	.open = kmod_open,
	.hint = kmod_hint,
	.acquire = kmod_acquire,
	.release = kmod_release,
	.read = kmod_read,
	.stats = kmod_stats,
	.close = kmod_close,
};
