// SPDX-License-Identifier: MIT
/*
 * The mmap source: the files, mapped, and the kernel's page cache. It knows no budget: what
 * stays in DRAM is the kernel's choice, and in a cyclic scan that does not fit its choice is
 * the worst one. It is here as the baseline, with what others do at this place: MAP_SHARED,
 * sequential read-ahead, and the whole file asked for at once.
 *
 * A file that is truncated while it is mapped raises SIGBUS, as it does everywhere; what can
 * be checked is its size at open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "stream/file.h"
#include "stream/stream.h"

struct msource {
	struct source s; /* first */
	uint32_t n_file;
	struct weight_file *file;
	void **map; /* [n_file] */
	uint64_t read_before;
};

static struct msource *self(struct source *s)
{
	return (struct msource *)s;
}

/* Bytes that this process has had read from storage; 0 where the kernel does not say. */
static uint64_t process_read_bytes(void)
{
	FILE *f = fopen("/proc/self/io", "re");
	unsigned long long bytes = 0;
	char line[80];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "read_bytes: %llu", &bytes) == 1)
			break;
	fclose(f);
	return bytes;
}

static void mmap_close(struct source *s)
{
	struct msource *m = self(s);

	for (uint32_t i = 0; i < m->n_file; i++) {
		if (m->map[i])
			munmap(m->map[i], m->file[i].size);
		weight_file_close(&m->file[i]);
	}
	free(m->s.resident);
	free(m->map);
	free(m->file);
	free(m);
}

static int map_file(struct msource *m, const char *path, struct err *err)
{
	struct weight_file *f = &m->file[m->n_file];
	void *map;
	int r;

	r = weight_file_open_cached(f, path, err);
	if (r)
		return r;
	m->n_file++;
	if (!f->size)
		return 0;
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	map = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0);
	if (map == MAP_FAILED)
		return err_set(err, -errno, "cannot map %s: %s", path, strerror(errno));
	m->map[m->n_file - 1] = map;
	madvise(map, f->size, MADV_WILLNEED);
	return 0;
}

static int mmap_open(const struct source_params *p, struct source **out, struct err *err)
{
	struct msource *m = calloc(1, sizeof(*m));
	int r = 0;

	*out = NULL;
	if (!m)
		return err_set(err, -ENOMEM, "out of memory for a source");
	m->s.ops = &source_mmap;
	m->read_before = process_read_bytes();
	m->file = calloc(MAX(p->n_file, 1u), sizeof(*m->file));
	m->map = calloc(MAX(p->n_file, 1u), sizeof(*m->map));
	m->s.resident = calloc(MAX(p->plan->n_extent, 1u), sizeof(*m->s.resident));
	if (!m->file || !m->map || !m->s.resident)
		r = err_set(err, -ENOMEM, "out of memory for %u extents", p->plan->n_extent);
	while (!r && m->n_file < p->n_file)
		r = map_file(m, p->path[m->n_file], err);
	for (uint32_t i = 0; !r && i < p->plan->n_extent; i++) {
		const struct extent *e = &p->plan->extent[i];

		r = weight_file_check(&m->file[e->file], e->off, e->len, err);
		if (!r)
			m->s.resident[i] = (const char *)m->map[e->file] + e->off;
	}
	if (r) {
		mmap_close(&m->s);
		return r;
	}
	*out = &m->s;
	return 0;
}

/* The page cache takes no hints beyond those of open. */
static int mmap_hint(struct source *s, const uint32_t *extent, uint32_t n, int priority)
{
	return 0;
}

static int mmap_acquire(struct source *s, uint32_t extent, const void **data, struct err *err)
{
	*data = s->resident[extent];
	return 0;
}

static void mmap_release(struct source *s, uint32_t extent)
{
}

static int mmap_read(struct source *s, uint32_t file, uint64_t off, void *buf, size_t len,
		     struct err *err)
{
	struct msource *m = self(s);
	int r = weight_file_check(&m->file[file], off, len, err);

	if (!r && len)
		memcpy(buf, (const char *)m->map[file] + off, len);
	return r;
}

static void mmap_stats(struct source *s, struct source_stats *out)
{
	*out = (struct source_stats){
		.flash_read_bytes = process_read_bytes() - self(s)->read_before,
	};
}

const struct source_ops source_mmap = {
	.name = "mmap",
	.unbounded = true,
	.open = mmap_open,
	.hint = mmap_hint,
	.acquire = mmap_acquire,
	.release = mmap_release,
	.read = mmap_read,
	.stats = mmap_stats,
	.close = mmap_close,
};
