// SPDX-License-Identifier: MIT
/*
 * Measures this machine: how fast all threads together read DRAM, and how fast flash is read
 * by request size and depth, with the same direct asynchronous reads that streaming uses.
 *
 * Each cell of the flash table is short and goes on in the file where the one before stopped,
 * so that no cache of the device or of a hypervisor sees the same bytes again soon.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/util.h"
#include "stream/cache.h"
#include "stream/dram.h"
#include "stream/file.h"
#include "stream/io.h"
#include "stream/pool.h"
#include "stream/stream.h"

#define DRAM_BYTES     (1ull << 30)
#define DRAM_BYTES_MIN (64ull << 20)
#define DRAM_PASSES    9
#define THREADS_MAX    1024

#define CELL_NS	    80000000ull
#define ROUNDS	    3
#define SIZE_MIN    (128u << 10)
#define SIZE_MAX_RD (SIZE_MIN << (PROBE_SIZES - 1)) /* 4 MiB */
#define DEPTH_LAST  (1u << (PROBE_DEPTHS - 1))	    /* 32 */
#define WAIT_NS	    100000000ull

#define PROBE_VERSION 1

struct reporter {
	void (*progress)(void *arg, const char *what);
	void *arg;
};

static void __attribute__((format(printf, 2, 3)))
say(const struct reporter *rep, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!rep->progress)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rep->progress(rep->arg, text);
}

/* ---- DRAM ---- */

/* What the threads share: they begin once it is known how many there are. */
struct readers {
	pthread_mutex_t lock;
	pthread_cond_t known;
	enum { UNKNOWN, GO, QUIT } order;
	pthread_barrier_t barrier;
};

struct reader {
	pthread_t thread;
	struct readers *all;
	const char *p;
	size_t n;
	uint64_t sum;
};

/* Between two barriers: one pass over its part of the buffer. */
static void *read_passes(void *arg)
{
	struct reader *r = arg;
	bool go;

	pthread_mutex_lock(&r->all->lock);
	while (r->all->order == UNKNOWN)
		pthread_cond_wait(&r->all->known, &r->all->lock);
	go = r->all->order == GO;
	pthread_mutex_unlock(&r->all->lock);
	for (int i = 0; go && i < DRAM_PASSES; i++) {
		pthread_barrier_wait(&r->all->barrier);
		r->sum += dram_read(r->p, r->n);
		pthread_barrier_wait(&r->all->barrier);
	}
	return NULL;
}

static void give_order(struct readers *all, int order)
{
	pthread_mutex_lock(&all->lock);
	all->order = order;
	pthread_cond_broadcast(&all->known);
	pthread_mutex_unlock(&all->lock);
}

/*
 * All @n threads read their parts at once, again and again. Other programs make a pass slower,
 * never faster: the second best is the machine's own speed. Return: its ns, or 0.
 */
static double time_readers(struct reader *reader, int n)
{
	struct readers all = {.order = UNKNOWN};
	double pass[DRAM_PASSES];
	int started = 0;
	uint64_t start;

	pthread_mutex_init(&all.lock, NULL);
	pthread_cond_init(&all.known, NULL);
	pthread_barrier_init(&all.barrier, NULL, (unsigned int)n + 1);
	for (; started < n; started++) {
		reader[started].all = &all;
		if (pthread_create(&reader[started].thread, NULL, read_passes, &reader[started]))
			break;
	}
	give_order(&all, started == n ? GO : QUIT);
	for (int i = 0; started == n && i < DRAM_PASSES; i++) {
		pthread_barrier_wait(&all.barrier);
		start = now_ns();
		pthread_barrier_wait(&all.barrier);
		pass[i] = (double)(now_ns() - start);
	}
	for (int i = 0; i < started; i++)
		pthread_join(reader[i].thread, NULL);
	pthread_barrier_destroy(&all.barrier);
	pthread_cond_destroy(&all.known);
	pthread_mutex_destroy(&all.lock);
	if (started < n)
		return 0;
	sort_doubles(pass, DRAM_PASSES);
	return pass[1];
}

static int probe_dram(int n_threads, struct probe *out, struct err *err)
{
	/* caches that are not quite LRU keep some of what is read again, so several times as much
	 */
	uint64_t bytes = MIN(memory_available() / 4, MAX(DRAM_BYTES, 4 * cache_all()));
	struct reader *reader;
	struct pool memory;
	double ns = 0;
	int r;

	bytes = MAX(bytes, DRAM_BYTES_MIN);
	r = pool_open(&memory, bytes, NULL, NULL, err);
	if (r)
		return r;
	memset(memory.base, 1, memory.len);
	bytes = align_down(memory.len / (unsigned int)n_threads, PAGE_4K);
	reader = calloc((size_t)n_threads, sizeof(*reader));
	for (int i = 0; reader && i < n_threads; i++) {
		reader[i].p = memory.base + bytes * (unsigned int)i;
		reader[i].n = bytes;
	}
	if (reader)
		ns = time_readers(reader, n_threads);
	if (ns > 0)
		out->dram_gb_s = (double)(bytes * (unsigned int)n_threads) / ns;
	else
		r = err_set(err, -EAGAIN, "cannot start %d threads", n_threads);
	free(reader);
	pool_close(&memory);
	return r;
}

/* ---- flash ---- */

struct flash {
	struct weight_file file;
	struct pool memory; /* DEPTH_LAST buffers of SIZE_MAX_RD */
	struct io *io;
	uint64_t at; /* where the next read begins */
};

static void start_read(struct flash *f, uint32_t tag, uint32_t size)
{
	struct io_read r = {
		.buf = f->memory.base + (uint64_t)tag * SIZE_MAX_RD,
		.len = size,
		.tag = tag,
	};

	if (f->at + size > f->file.size)
		f->at = 0;
	r.off = f->at;
	f->at += size;
	f->io->ops->read(f->io, &r);
}

/*
 * Keeps @depth reads in flight, for one turn of all of them and then for CELL_NS, in which bytes
 * are counted. Return: GB/s, or a negative errno.
 */
static double measure_cell(struct flash *f, uint32_t size, uint32_t depth, struct err *err)
{
	uint64_t start = 0, bytes = 0, ns = 0, off = f->at;
	uint32_t in_flight = depth, to_skip = depth, n;
	struct io_done done[DEPTH_LAST];
	int r = 0, bad = 0;

	for (uint32_t i = 0; i < depth; i++)
		start_read(f, i, size);
	while (in_flight && !r) {
		r = f->io->ops->wait(f->io, WAIT_NS);
		if (r == -EINTR)
			r = 0;
		n = f->io->ops->reap(f->io, done, ARRAY_SIZE(done));
		for (uint32_t i = 0; i < n; i++) {
			in_flight--;
			if (done[i].res < 0)
				bad = done[i].res;
			if (ns || bad)
				continue;
			if (to_skip && --to_skip == 0)
				start = now_ns();
			else if (!to_skip)
				bytes += (uint64_t)done[i].res;
			start_read(f, done[i].tag, size);
			in_flight++;
		}
		if (start && !ns && now_ns() - start >= CELL_NS)
			ns = now_ns() - start;
	}
	if (r || bad)
		return weight_file_failed(&f->file, off, r ? r : bad, err);
	weight_file_forget(&f->file, 0, f->file.size);
	return (double)bytes / (double)ns;
}

/* Medians over several rounds through the table: a device has its moods. */
static int probe_table(struct flash *f, struct probe *out, const struct reporter *rep,
		       struct err *err)
{
	double gb_s[PROBE_SIZES][PROBE_DEPTHS][ROUNDS] = {0}, *cell;

	for (int round = 0; round < ROUNDS; round++) {
		say(rep, "flash: round %d of %d", round + 1, ROUNDS);
		for (uint32_t at = 0; at < PROBE_SIZES * PROBE_DEPTHS; at++) {
			uint32_t i = at / PROBE_DEPTHS, k = at % PROBE_DEPTHS;

			out->size[i] = SIZE_MIN << i;
			out->depth[k] = 1u << k;
			if (out->size[i] * out->depth[k] > f->file.size)
				continue;
			cell = &gb_s[i][k][round];
			*cell = measure_cell(f, (uint32_t)out->size[i], out->depth[k], err);
			if (*cell < 0)
				return (int)*cell;
		}
	}
	for (uint32_t at = 0; at < PROBE_SIZES * PROBE_DEPTHS; at++) {
		uint32_t i = at / PROBE_DEPTHS, k = at % PROBE_DEPTHS;

		sort_doubles(gb_s[i][k], ROUNDS);
		out->flash_table[i][k] = gb_s[i][k][ROUNDS / 2];
		if (out->flash_table[i][k] <= out->flash_gb_s)
			continue;
		out->flash_gb_s = out->flash_table[i][k];
		out->flash_size = out->size[i];
		out->flash_depth = out->depth[k];
	}
	say(rep, "flash: %.2f GB/s, %u in flight, %llu KiB each", out->flash_gb_s, out->flash_depth,
	    (unsigned long long)out->flash_size >> 10);
	return 0;
}

static void tell_note(void *arg, const char *sentence)
{
	say(arg, "%s", sentence);
}

static int probe_flash(const char *path, struct probe *out, const struct reporter *rep,
		       struct err *err)
{
	struct flash f = {0};
	struct io_params ip = {
		.fd = &f.file.fd,
		.n_fd = 1,
		.entries = DEPTH_LAST,
		.note = tell_note,
		.arg = (void *)rep,
	};
	int r;

	r = weight_file_open(&f.file, path, tell_note, (void *)rep, err);
	if (r)
		return r;
	r = pool_open(&f.memory, (uint64_t)DEPTH_LAST * SIZE_MAX_RD, NULL, NULL, err);
	if (r)
		goto close_file;
	ip.base = f.memory.base;
	ip.len = f.memory.len;
	r = io_open(&ip, &f.io, err);
	if (r)
		goto close_memory;
	if (f.file.size < SIZE_MIN)
		r = err_set(err, -EINVAL,
			    "%s is too small to measure flash with: it has %llu bytes", path,
			    (unsigned long long)f.file.size);
	else
		r = probe_table(&f, out, rep, err);
	f.io->ops->close(f.io);
close_memory:
	pool_close(&f.memory);
close_file:
	weight_file_close(&f.file);
	return r;
}

/* ---- a file to read ---- */

/* Bytes that no device compresses or finds twice. */
static int write_random(int fd, const char *dir, uint64_t bytes, struct err *err)
{
	uint64_t x = 0x9e3779b97f4a7c15ull, *buf;
	size_t n = SIZE_MAX_RD;
	ssize_t put;
	int r = 0;

	buf = malloc(n);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory for writing a temporary file");
	while (bytes && !r) {
		for (size_t i = 0; i < n / sizeof(*buf); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			buf[i] = x;
		}
		put = write(fd, buf, MIN((uint64_t)n, bytes));
		if (put < 0 && errno != EINTR)
			r = -errno;
		bytes -= put > 0 ? (uint64_t)put : 0;
	}
	free(buf);
	if (!r && fsync(fd))
		r = -errno;
	if (r)
		return err_set(err, r, "cannot write a temporary file in %s: %s", dir,
			       strerror(-r));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

/* A temporary file without a name from the start, so that nothing is left behind. */
static int make_file(const char *dir, uint64_t bytes, int *fd, struct err *err)
{
	char path[PATH_MAX], have[32], need[32];
	struct statvfs vfs;
	int r;

	if (statvfs(dir, &vfs))
		return err_set(err, -errno, "cannot use %s for a temporary file: %s", dir,
			       strerror(errno));
	if ((uint64_t)vfs.f_bavail * vfs.f_frsize < bytes)
		return err_set(err, -ENOSPC,
			       "%s has %s free, and measuring flash takes a file of %s", dir,
			       format_bytes((uint64_t)vfs.f_bavail * vfs.f_frsize, have),
			       format_bytes(bytes, need));
	if (snprintf(path, sizeof(path), "%s/weir-probe-XXXXXX", dir) >= (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG, "the path %s is too long", dir);
	*fd = mkostemp(path, O_CLOEXEC);
	if (*fd < 0)
		return err_set(err, -errno, "cannot make a temporary file in %s: %s", dir,
			       strerror(errno));
	unlink(path);
	r = write_random(*fd, dir, bytes, err);
	if (r)
		close(*fd);
	return r;
}

/* Of @path, or of a temporary file in @dir. */
static int probe_file(const char *path, const char *dir, uint64_t bytes, struct probe *out,
		      const struct reporter *rep, struct err *err)
{
	char own[64], size[32];
	int fd, r;

	snprintf(out->flash_path, sizeof(out->flash_path), "%s", path ? path : dir);
	if (path)
		return probe_flash(path, out, rep, err);
	say(rep, "flash: writing a temporary file of %s in %s", format_bytes(bytes, size), dir);
	r = make_file(dir, bytes, &fd, err);
	if (r)
		return r;
	snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
	r = probe_flash(own, out, rep, err);
	close(fd);
	return r;
}

int probe_run(const char *path, const char *dir, uint64_t bytes, int n_threads, struct probe *out,
	      void (*progress)(void *arg, const char *what), void *arg, struct err *err)
{
	struct reporter rep = {progress, arg};
	int r;

	*out = (struct probe){0};
	if (n_threads < 1 || n_threads > THREADS_MAX)
		return err_set(err, -EINVAL, "%d threads cannot be measured", n_threads);
	r = probe_file(path, dir, bytes, out, &rep, err);
	if (r)
		return r;
	say(&rep, "DRAM: reading with %d threads", n_threads);
	r = probe_dram(n_threads, out, err);
	if (r)
		return r;
	say(&rep, "DRAM: %.1f GB/s", out->dram_gb_s);
	return 0;
}

/* ---- kept results ---- */

static int probe_path(char out[PATH_MAX], bool make, struct err *err)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (cache && cache[0] == '/')
		n = snprintf(out, PATH_MAX, "%s", cache);
	else if (home && home[0] == '/')
		n = snprintf(out, PATH_MAX, "%s/.cache", home);
	else
		return err_set(
			err, -ENOENT,
			"neither XDG_CACHE_HOME nor HOME says where to keep what was measured");
	if (make)
		mkdir(out, 0700);
	n += snprintf(out + n, n < PATH_MAX ? (size_t)(PATH_MAX - n) : 0, "/weir");
	if (make && n < PATH_MAX && mkdir(out, 0777) && errno != EEXIST)
		return err_set(err, -errno, "cannot make %s: %s", out, strerror(errno));
	n += snprintf(out + n, n < PATH_MAX ? (size_t)(PATH_MAX - n) : 0, "/probe.json");
	if (n >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "the path of the cache directory is too long");
	return 0;
}

static json_t *to_json(const struct probe *p)
{
	json_t *table = json_array(), *size = json_array(), *depth = json_array(), *row;

	for (int i = 0; i < PROBE_SIZES; i++) {
		row = json_array();
		for (int k = 0; k < PROBE_DEPTHS; k++)
			json_array_append_new(row, json_real(p->flash_table[i][k]));
		json_array_append_new(table, row);
		json_array_append_new(size, json_integer((json_int_t)p->size[i]));
	}
	for (int k = 0; k < PROBE_DEPTHS; k++)
		json_array_append_new(depth, json_integer(p->depth[k]));
	return json_pack("{s:i, s:f, s:f, s:I, s:i, s:f, s:s, s:o, s:o, s:o}", "version",
			 PROBE_VERSION, "dram_gb_s", p->dram_gb_s, "flash_gb_s", p->flash_gb_s,
			 "flash_size_bytes", (json_int_t)p->flash_size, "flash_depth",
			 (int)p->flash_depth, "flops", p->flops, "flash_path", p->flash_path,
			 "sizes_bytes", size, "depths", depth, "flash_table_gb_s", table);
}

int probe_save(const struct probe *p, struct err *err)
{
	char path[PATH_MAX], temp[PATH_MAX + 8];
	json_t *json;
	int r;

	r = probe_path(path, true, err);
	if (r)
		return r;
	snprintf(temp, sizeof(temp), "%s.new", path);
	json = to_json(p);
	if (!json)
		return err_set(err, -EINVAL, "what was measured cannot be written as JSON");
	r = json_dump_file(json, temp, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(json);
	if (r || rename(temp, path)) {
		r = errno ? -errno : -EIO;
		unlink(temp);
		return err_set(err, r, "cannot write %s: %s", path, strerror(-r));
	}
	return 0;
}

static bool from_json(json_t *json, struct probe *p)
{
	json_t *size, *depth, *table;
	json_int_t flash_size;
	int version, flash_depth;
	const char *path;

	if (json_unpack(json, "{s:i, s:F, s:F, s:I, s:i, s:F, s:s, s:o, s:o, s:o}", "version",
			&version, "dram_gb_s", &p->dram_gb_s, "flash_gb_s", &p->flash_gb_s,
			"flash_size_bytes", &flash_size, "flash_depth", &flash_depth, "flops",
			&p->flops, "flash_path", &path, "sizes_bytes", &size, "depths", &depth,
			"flash_table_gb_s", &table))
		return false;
	if (version != PROBE_VERSION || p->dram_gb_s <= 0 || p->flash_gb_s < 0)
		return false;
	p->flash_size = (uint64_t)flash_size;
	p->flash_depth = (uint32_t)flash_depth;
	snprintf(p->flash_path, sizeof(p->flash_path), "%s", path);
	for (size_t i = 0; i < PROBE_SIZES; i++) {
		json_t *row = json_array_get(table, i);

		p->size[i] = (uint64_t)json_integer_value(json_array_get(size, i));
		for (size_t k = 0; k < PROBE_DEPTHS; k++)
			p->flash_table[i][k] = json_number_value(json_array_get(row, k));
	}
	for (size_t k = 0; k < PROBE_DEPTHS; k++)
		p->depth[k] = (uint32_t)json_integer_value(json_array_get(depth, k));
	return true;
}

int probe_load(struct probe *p, struct err *err)
{
	char path[PATH_MAX];
	json_t *json;
	bool ok;
	int r;

	*p = (struct probe){0};
	r = probe_path(path, false, err);
	if (r)
		return r;
	if (access(path, R_OK))
		return err_set(err, -errno, "no measurements in %s (%s): run 'weir probe'", path,
			       strerror(errno));
	json = json_load_file(path, 0, NULL);
	ok = json && from_json(json, p);
	json_decref(json);
	if (!ok) {
		*p = (struct probe){0};
		return err_set(err, -EINVAL, "%s is not what weir writes: run 'weir probe' again",
			       path);
	}
	return 0;
}
