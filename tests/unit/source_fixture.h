/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the sources share: files with known bytes, a model over them, a plan, a
 * check of every extent, and an executor of reads that is as unpleasant as a test asks for.
 */
#ifndef WEIR_TESTS_SOURCE_FIXTURE_H
#define WEIR_TESTS_SOURCE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "stream/source_uring.h"
#include "stream/stream.h"

#define MAX_FILE   2
#define MAX_TENSOR 200

/* ---- files whose every byte is known ---- */

static inline uint64_t word_at(uint32_t file, uint64_t index)
{
	uint64_t x = index * 0x9e3779b97f4a7c15ull + file * 0xbf58476d1ce4e5b9ull + 1;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline unsigned char byte_at(uint32_t file, uint64_t off)
{
	return (unsigned char)(word_at(file, off / 8) >> (off % 8 * 8));
}

/* True where @p holds the file's bytes [off, off + len). */
static inline bool holds(const void *p, uint32_t file, uint64_t off, uint64_t len)
{
	const unsigned char *b = p;
	uint64_t i = 0, word;

	for (; i < len && (off + i) % 8; i++)
		if (b[i] != byte_at(file, off + i))
			return false;
	for (; i + 8 <= len; i += 8) {
		memcpy(&word, b + i, 8);
		if (word != word_at(file, (off + i) / 8))
			return false;
	}
	for (; i < len; i++)
		if (b[i] != byte_at(file, off + i))
			return false;
	return true;
}

static inline void write_file(const char *path, uint32_t file, uint64_t size)
{
	uint64_t n = (size + 7) / 8, *words = malloc(n * 8);
	FILE *f = fopen(path, "wb");

	if (!f || !words)
		fail_msg("cannot write %s", path);
	for (uint64_t i = 0; i < n; i++)
		words[i] = word_at(file, i);
	assert_int_equal(fwrite(words, 1, size, f), size);
	assert_int_equal(fflush(f), 0);
	/* not in the page cache: what is there later was put there by whom we test */
	fsync(fileno(f));
	posix_fadvise(fileno(f), 0, 0, POSIX_FADV_DONTNEED);
	fclose(f);
	free(words);
}

/* ---- a model over them ---- */

struct fixture {
	char dir[256];
	char path_text[MAX_FILE][300];
	const char *path[MAX_FILE];
	uint64_t size[MAX_FILE];
	uint32_t n_file;
	struct plan_tensor tensor[MAX_TENSOR];
	uint32_t n_tensor;
	uint64_t rows_off; /* of the tensor that is read a row at a time, in file 0 */
	struct plan *plan;
	struct err err;

	/* what the source said */
	char note[2048];
	uint64_t progress;
	volatile int cancel;
	uint64_t cancel_at; /* progress at which to cancel; 0: never */
};

static inline void fixture_note(void *arg, const char *sentence)
{
	struct fixture *f = arg;
	size_t n = strlen(f->note);

	snprintf(f->note + n, sizeof(f->note) - n, "%s\n", sentence);
}

static inline void fixture_progress(void *arg, uint64_t done, uint64_t total)
{
	struct fixture *f = arg;

	assert_true(done >= f->progress && done <= total);
	f->progress = done;
	if (f->cancel_at && done >= f->cancel_at)
		f->cancel = 1;
}

/*
 * Two files of about 3 MB in @dir, neither of a length that is a multiple of 4 KiB, with tensors
 * at offsets that are not aligned, used in an order that is not the files'.
 */
static inline struct fixture *fixture_new(const char *dir)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static const uint64_t row[] = {576, 1152, 4096, 4100, 33};
	uint64_t off[MAX_FILE] = {4321, 77};

	assert_non_null(f);
	if (!dir)
		dir = getenv("TMPDIR");
	snprintf(f->dir, sizeof(f->dir), "%s/weir-source-XXXXXX", dir ? dir : "/tmp");
	if (!mkdtemp(f->dir))
		fail_msg("cannot make a directory in %s", dir ? dir : "/tmp");
	f->n_file = MAX_FILE;
	for (int i = 0; i < 40; i++) {
		uint32_t file = (uint32_t)(i % 3 == 0);
		uint64_t bytes = row[i % 5];
		struct plan_tensor t = {.file = file, .off = off[file], .row_bytes = bytes};

		t.n_rows = i % 7 == 3 ? 1 : 170000 / bytes;
		t.cls = i % 7 == 3 ? PLAN_SMALL : PLAN_SWEEP;
		if (i == 0) {
			t.cls = PLAN_ROWS;
			f->rows_off = t.off;
		}
		off[file] += t.n_rows * bytes + (uint64_t)(i % 4 == 0 ? 31 : 0);
		f->tensor[f->n_tensor++] = t;
	}
	/* execution order is not file order */
	for (uint32_t i = 1; i + 3 < f->n_tensor; i += 3) {
		struct plan_tensor t = f->tensor[i];

		f->tensor[i] = f->tensor[i + 2];
		f->tensor[i + 2] = t;
	}
	for (uint32_t i = 0; i < f->n_file; i++) {
		f->size[i] = off[i] + i;
		snprintf(f->path_text[i], sizeof(f->path_text[i]), "%s/%u", f->dir, i);
		f->path[i] = f->path_text[i];
		write_file(f->path[i], i, f->size[i]);
	}
	return f;
}

static inline void fixture_free(struct fixture *f)
{
	plan_free(f->plan);
	for (uint32_t i = 0; i < f->n_file; i++)
		unlink(f->path[i]);
	rmdir(f->dir);
	free(f);
}

/* @percent of all bytes; 0: everything */
static inline void fixture_plan(struct fixture *f, uint64_t percent, uint32_t min_slots)
{
	struct plan_params p = {.budget = UINT64_MAX, .chunk = 48 << 10, .min_slots = min_slots};
	uint64_t all = 0;

	for (uint32_t i = 0; i < f->n_tensor; i++)
		all += f->tensor[i].row_bytes * f->tensor[i].n_rows;
	if (percent)
		p.budget = all * percent / 100;
	plan_free(f->plan);
	if (plan_make(f->tensor, f->n_tensor, f->size, f->n_file, &p, &f->plan, &f->err))
		fail_msg("%s", f->err.text);
}

static inline struct source_params fixture_params(struct fixture *f)
{
	return (struct source_params){
		.path = f->path,
		.n_file = f->n_file,
		.plan = f->plan,
		.note = fixture_note,
		.progress = fixture_progress,
		.arg = f,
		.cancel = &f->cancel,
	};
}

/* io: NULL for what the source itself takes */
static inline struct source *fixture_open(struct fixture *f, const struct source_ops *ops,
					  const struct io_ops *io, uint32_t depth)
{
	struct source_params p = fixture_params(f);
	struct source *s = NULL;
	int r;

	p.depth = depth;
	f->progress = 0;
	f->note[0] = '\0';
	r = io ? source_uring_open_io(&p, io, &s, &f->err) : ops->open(&p, &s, &f->err);
	if (r)
		fail_msg("%d: %s", r, f->err.text);
	return s;
}

/* One tensor as a decoder uses it: at most max_acquire streamed extents at once. */
static inline int use_tensor(struct fixture *f, struct source *s, uint32_t t)
{
	const struct plan_tensor_segs *ts = &f->plan->tensor[t];
	uint32_t held[256], n = 0;
	const void *data;
	int r = 0;

	for (uint32_t i = 0; i < ts->n_seg && !r; i++) {
		const struct plan_seg *seg = &f->plan->seg[ts->seg0 + i];
		const struct extent *e = &f->plan->extent[seg->extent];

		r = source_acquire(s, seg->extent, &data, &f->err);
		if (r)
			break;
		if (!holds(data, e->file, e->off, e->len))
			fail_msg("extent %u (file %u, offset %llu) holds other bytes", seg->extent,
				 e->file, (unsigned long long)e->off);
		held[n++] = seg->extent;
		/* pinned ones cost nothing, but hold no more than the array does */
		if (n < ARRAY_SIZE(held) && n < MAX(f->plan->max_acquire, 1u))
			continue;
		/* all that are held are still whole */
		for (uint32_t k = 0; k < n; k++) {
			e = &f->plan->extent[held[k]];
			r = source_acquire(s, held[k], &data, &f->err);
			assert_int_equal(r, 0);
			assert_true(holds(data, e->file, e->off, e->len));
			source_release(s, held[k]);
		}
		while (n)
			source_release(s, held[--n]);
	}
	while (n)
		source_release(s, held[--n]);
	return r;
}

static inline int run_pass(struct fixture *f, struct source *s)
{
	int r = 0;

	for (uint32_t t = 0; t < f->n_tensor && !r; t++)
		r = use_tensor(f, s, t);
	return r;
}

static inline void run_passes(struct fixture *f, struct source *s, int n)
{
	while (n--)
		if (run_pass(f, s))
			fail_msg("%s", f->err.text);
}

/*
 * Statistics once nothing is in flight any more: after 0.3 s in which nothing has ended. A
 * single look may fall into one slow read of a busy machine.
 */
static inline struct source_stats quiet_stats(struct source *s)
{
	struct source_stats a, b;
	int quiet = 0;

	s->ops->stats(s, &b);
	while (quiet < 15) {
		a = b;
		usleep(20000);
		s->ops->stats(s, &b);
		quiet = a.reads == b.reads && a.flash_read_bytes == b.flash_read_bytes ? quiet + 1
										       : 0;
	}
	return b;
}

/* ---- an unpleasant executor ---- */

#define FAKE_MAX 4096

static struct fake_config {
	uint64_t seed;	    /* of which read ends next, and how short it is */
	uint32_t lag;	    /* a read ends no sooner than after so many waits */
	bool shorten;	    /* most reads come short */
	bool hang;	    /* nothing ever ends */
	uint64_t fail_off;  /* a read of this byte of file 0 ... */
	int fail;	    /* ... fails so (1: with 0 bytes); 0: none does */
	uint32_t interrupt; /* so many reads end with -EINTR or -EAGAIN first */

	/* what happened */
	uint32_t most_in_flight, n_read;
} fake;

struct fake_io {
	struct io io;
	const int *fd;
	uint32_t n;
	struct io_read queue[FAKE_MAX];
	uint32_t age[FAKE_MAX];
};

static inline uint64_t fake_random(void)
{
	fake.seed ^= fake.seed << 13;
	fake.seed ^= fake.seed >> 7;
	fake.seed ^= fake.seed << 17;
	return fake.seed;
}

static inline int fake_open(const struct io_params *p, struct io **out, struct err *err);

static inline void fake_read(struct io *io, const struct io_read *r)
{
	struct fake_io *f = (struct fake_io *)io;

	assert_true(f->n < FAKE_MAX);
	f->age[f->n] = 0;
	f->queue[f->n++] = *r;
	fake.n_read++;
	fake.most_in_flight = MAX(fake.most_in_flight, f->n);
}

static inline int fake_flush(struct io *io)
{
	return 0;
}

static inline int32_t fake_result(struct fake_io *f, const struct io_read *r)
{
	uint32_t len = r->len;
	ssize_t n;

	if (fake.fail && r->file == 0 && r->off <= fake.fail_off && fake.fail_off < r->off + len)
		return fake.fail == 1 ? 0 : fake.fail;
	if (fake.interrupt && fake.interrupt--)
		return fake.interrupt % 2 ? -EINTR : -EAGAIN;
	/* short, but by less than what was read: a page of progress */
	if (fake.shorten && len > PAGE_4K && fake_random() % 4)
		len = (uint32_t)(PAGE_4K + fake_random() % (len - PAGE_4K));
	n = pread(f->fd[r->file], r->buf, r->len, (off_t)r->off);
	if (n < 0)
		return -errno;
	if ((uint32_t)n <= len)
		return (int32_t)n;
	/* what a device did not say it wrote is anything */
	memset((char *)r->buf + len, 0xee, (size_t)n - len);
	return (int32_t)len;
}

static inline uint32_t fake_reap(struct io *io, struct io_done *done, uint32_t max)
{
	struct fake_io *f = (struct fake_io *)io;
	uint32_t n = 0, at;

	for (uint32_t tries = 0; f->n && n < max && tries < 4; tries++) {
		at = (uint32_t)(fake_random() % f->n);
		if (fake.hang || f->age[at] < fake.lag)
			continue;
		done[n].tag = f->queue[at].tag;
		done[n++].res = fake_result(f, &f->queue[at]);
		f->queue[at] = f->queue[--f->n];
		f->age[at] = f->age[f->n];
	}
	return n;
}

static inline int fake_wait(struct io *io, uint64_t ns)
{
	struct fake_io *f = (struct fake_io *)io;

	for (uint32_t i = 0; i < f->n; i++)
		f->age[i]++;
	if (fake.hang)
		usleep(1000);
	return 0;
}

static inline void fake_close(struct io *io)
{
	free(io);
}

static const struct io_ops fake_ops = {
	.name = "fake",
	.open = fake_open,
	.read = fake_read,
	.flush = fake_flush,
	.reap = fake_reap,
	.wait = fake_wait,
	.close = fake_close,
};

static inline int fake_open(const struct io_params *p, struct io **out, struct err *err)
{
	struct fake_io *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->io.ops = &fake_ops;
	f->fd = p->fd;
	*out = &f->io;
	return 0;
}

#endif
