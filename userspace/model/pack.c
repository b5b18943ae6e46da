// SPDX-License-Identifier: MIT
/*
 * Packing and unpacking; see pack.h.
 *
 * A tensor is moved in extents of about 4 MiB: whole groups where it is packed on one side, for a
 * group's bytes are the same ones at the same place on both. There are two buffers, one for an
 * extent as it is read and one for it as it is written. While one is written the next one is read,
 * both past the page cache, so that the disk is never idle for long and other programs keep what
 * they have cached.
 */
#include "model/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "gguf/gguf.h"
#include "kernels/packed.h"
#include "model/model.h"
#include "stream/file.h"
#include "stream/io.h"

#define EXTENT_BYTES (4ull << 20)
#define EXTENT_MAX   (1ull << 30) /* of rows that are longer than any model's */
#define WAIT_NS	     100000000ull

struct pack {
	const struct pack_params *p;
	struct gguf *g;
	uint32_t n_file;	  /* of the model, opened so far */
	struct weight_file *file; /* [n_file] */
	int *fd;		  /* [n_file] theirs */
	struct gguf_writer *w;

	/* In the order in which they are written. */
	const struct gguf_tensor **from; /* [n_tensor] */
	uint64_t n_from, n_packed;

	uint64_t total; /* bytes to read */

	struct io *io;
	char *in, *out; /* buffers of an extent each */
};

/* ---- what is refused ---- */

static bool same_file(const struct stat *a, const char *path)
{
	struct stat b;

	return !stat(path, &b) && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

static int check_files(const struct pack *k, struct err *err)
{
	const struct pack_params *p = k->p;
	struct stat out;

	if (p->unpack && !k->g->packed_file)
		return err_set(err, -EINVAL, "'%.200s' is not packed: it is a GGUF file already",
			       p->model);
	if (!p->unpack && k->g->packed_file)
		return err_set(err, -EINVAL,
			       "'%.200s' is packed already; --unpack makes a GGUF file of it",
			       p->model);
	if (stat(p->out, &out))
		return 0;
	for (uint32_t i = 0; i < k->g->n_file; i++)
		if (same_file(&out, k->g->file[i].path))
			return err_set(err, -EINVAL,
				       "'%.200s' is the model itself: name another file to write",
				       p->out);
	return 0;
}

/* ---- the header ---- */

/* Keys that say which part of a split model a file is: what is written is one file. */
static bool is_split_key(const struct gguf_kv *kv)
{
	static const char *const key[] = {"split.no", "split.count", "split.tensors.count"};

	for (unsigned int i = 0; i < ARRAY_SIZE(key); i++)
		if (!strcmp(kv->key.p, key[i]))
			return true;
	return false;
}

static void declare_keys(struct pack *k)
{
	for (uint64_t i = 0; i < k->g->n_kv; i++)
		if (k->g->n_file == 1 || !is_split_key(&k->g->kv[i]))
			gguf_write_kv(k->w, &k->g->kv[i]);
}

static void declare_tensor(struct pack *k, const struct gguf_tensor *t, bool packed)
{
	gguf_write_tensor(k->w, t->name.p, t->type | (packed ? GGUF_PACKED : 0), t->n_dims, t->ne);
	k->from[k->n_from++] = t;
	k->n_packed += packed;
	k->total += t->size;
}

static bool is_quantized(const struct gguf_tensor *t)
{
	return wtype_info(t->type)->block_elems > 1;
}

/* In order of use; what no pass reads, such as divisors of frequencies, comes last. */
static int declare_for_packing(struct pack *k, struct err *err)
{
	const struct gguf *g = k->g;
	struct model *m = NULL;
	bool *used;
	int r;

	r = model_open(g, &m, err);
	if (r)
		return r;
	used = calloc(g->n_tensor, sizeof(*used));
	if (!used) {
		model_close(m);
		return err_set(err, -ENOMEM, "out of memory for the model's list of tensors");
	}
	for (uint32_t i = 0; i < m->n_plan; i++) {
		const struct gguf_tensor *t = m->plan_src[i];

		declare_tensor(k, t, m->plan[i].cls == PLAN_SWEEP && is_quantized(t));
		used[t - g->tensor] = true;
	}
	for (uint64_t i = 0; i < g->n_tensor; i++)
		if (!used[i])
			declare_tensor(k, &g->tensor[i], false);
	free(used);
	model_close(m);
	return 0;
}

static void declare_for_unpacking(struct pack *k)
{
	for (uint64_t i = 0; i < k->g->n_tensor; i++) {
		declare_tensor(k, &k->g->tensor[i], false);
		k->n_packed += k->g->tensor[i].packed;
	}
}

/* The alignment of a GGUF file is in its metadata, which a packed one carries. */
static int open_writer(struct pack *k, struct err *err)
{
	uint32_t alignment = GGUF_DEFAULT_ALIGNMENT;
	int r;

	if (!k->p->unpack)
		return gguf_writer_open_packed(k->p->out, &k->w, err);
	r = gguf_u32(k->g, "general.alignment", &alignment, err);
	if (r && r != -ENOENT)
		return r;
	return gguf_writer_open(k->p->out, alignment, &k->w, err);
}

static int write_header(struct pack *k, struct err *err)
{
	int r = open_writer(k, err);

	if (r)
		return r;
	k->from = calloc(k->g->n_tensor + 1, sizeof(*k->from));
	if (!k->from)
		return err_set(err, -ENOMEM, "out of memory for the model's list of tensors");
	declare_keys(k);
	if (k->p->unpack)
		declare_for_unpacking(k);
	else
		r = declare_for_packing(k, err);
	return r ? r : gguf_write_header(k->w, err);
}

/* ---- the data ---- */

/* Of tensor i of k->from and of the writer: bytes off .. off+len-1 of the longer of the two. */
struct extent_of {
	uint64_t i, off, len;
};

static const struct gguf_tensor *source_of(const struct pack *k, const struct extent_of *e)
{
	return k->from[e->i];
}

static const struct gguf_tensor *target_of(const struct pack *k, const struct extent_of *e)
{
	return gguf_writer_tensor(k->w, e->i);
}

/* How many bytes of the extent a tensor has: the rows that fill up a group are in one of the two.
 */
static uint64_t bytes_of(const struct gguf_tensor *t, const struct extent_of *e)
{
	return MIN(e->len, t->size - MIN(e->off, t->size));
}

static bool turns(const struct pack *k, const struct extent_of *e)
{
	return source_of(k, e)->packed != target_of(k, e)->packed;
}

/* Whole groups where rows go into them or out of them. */
static void set_len(const struct pack *k, struct extent_of *e)
{
	uint64_t unit = turns(k, e) ? PACK_ROWS * source_of(k, e)->row_bytes : 1;
	uint64_t size = MAX(source_of(k, e)->size, target_of(k, e)->size);

	e->len = MIN(MAX(EXTENT_BYTES / unit, 1ull) * unit, size - e->off);
}

/* False behind the last one. */
static bool next_extent(const struct pack *k, struct extent_of *e)
{
	e->off += e->len;
	if (e->off >= MAX(source_of(k, e)->size, target_of(k, e)->size)) {
		e->i++;
		e->off = 0;
	}
	if (e->i >= k->n_from)
		return false;
	set_len(k, e);
	return true;
}

static int open_files(struct pack *k, struct err *err)
{
	int r = 0;

	k->file = calloc(k->g->n_file, sizeof(*k->file));
	k->fd = calloc(k->g->n_file, sizeof(*k->fd));
	if (!k->file || !k->fd)
		return err_set(err, -ENOMEM, "out of memory for %u files", k->g->n_file);
	for (uint32_t i = 0; !r && i < k->g->n_file; i++) {
		r = weight_file_open(&k->file[i], k->g->file[i].path, NULL, NULL, err);
		k->fd[i] = k->file[i].fd;
		k->n_file = i + 1;
	}
	if (!r)
		r = io_open(&(struct io_params){.fd = k->fd, .n_fd = k->n_file, .entries = 1},
			    &k->io, err);
	return r;
}

/* Each for an extent, and for what rounding its place outward to pages adds. */
static int open_buffers(struct pack *k, struct err *err)
{
	struct extent_of e = {0};
	uint64_t most = EXTENT_BYTES;
	char size[32];

	for (; e.i < k->n_from; e.i++) {
		set_len(k, &e);
		most = MAX(most, e.len);
	}
	if (most > EXTENT_MAX)
		return err_set(err, -EINVAL, "'%.200s' has rows of %s, which no model has",
			       k->p->model, format_bytes(most / PACK_ROWS, size));
	most = align_up(most, PAGE_4K) + PAGE_4K;
	k->in = aligned_alloc(PAGE_4K, most);
	k->out = aligned_alloc(PAGE_4K, most);
	if (!k->in || !k->out)
		return err_set(err, -ENOMEM, "out of memory for two buffers of %s",
			       format_bytes(most, size));
	return 0;
}

/* Asks for whole pages, from the one on in which the @done bytes that are there end. */
static void ask(struct pack *k, const struct extent_of *e, uint64_t done)
{
	const struct gguf_tensor *t = source_of(k, e);
	uint64_t off = t->off + e->off, begin = align_down(off, PAGE_4K);
	uint64_t from = align_down(off + done, PAGE_4K);

	k->io->ops->read(k->io,
			 &(struct io_read){
				 .buf = k->in + (from - begin),
				 .off = from,
				 .len = (uint32_t)(align_up(off + bytes_of(t, e), PAGE_4K) - from),
				 .file = t->file,
			 });
}

static int start_read(struct pack *k, const struct extent_of *e, struct err *err)
{
	const struct gguf_tensor *t = source_of(k, e);
	int r = weight_file_check(&k->file[t->file], t->off + e->off, bytes_of(t, e), err);

	if (r)
		return r;
	ask(k, e, 0);
	r = k->io->ops->flush(k->io);
	return r ? err_set(err, r, "cannot read '%.200s': %s", k->p->model, strerror(-r)) : 0;
}

/* What one read brought. Return: bytes of the extent that are there now, or the errno. */
static int64_t read_some(struct pack *k, const struct extent_of *e, uint64_t done, struct err *err)
{
	const struct gguf_tensor *t = source_of(k, e);
	const struct weight_file *f = &k->file[t->file];
	uint64_t off = t->off + e->off, from = align_down(off + done, PAGE_4K);
	struct io_done d;
	int r;

	for (;;) {
		if (k->p->cancel && *k->p->cancel)
			return err_set(err, -EINTR, "'%.200s' was not made: interrupted",
				       k->p->out);
		if (k->io->ops->reap(k->io, &d, 1))
			break;
		r = k->io->ops->wait(k->io, WAIT_NS);
		if (r && r != -EINTR)
			return err_set(err, r, "cannot read '%.200s': %s", k->p->model,
				       strerror(-r));
	}
	if (d.res == -EINTR || d.res == -EAGAIN)
		return (int64_t)done;
	if (d.res < 0 || from + (uint64_t)d.res <= off + done)
		return weight_file_failed(f, off + done, MIN(d.res, 0), err);
	return (int64_t)MIN(from + (uint64_t)d.res - off, bytes_of(t, e));
}

/* Waits until all of the extent is in k->in. */
static int end_read(struct pack *k, const struct extent_of *e, struct err *err)
{
	const struct gguf_tensor *t = source_of(k, e);
	int64_t done = read_some(k, e, 0, err);

	while (done >= 0 && (uint64_t)done < bytes_of(t, e)) {
		ask(k, e, (uint64_t)done);
		done = read_some(k, e, (uint64_t)done, err);
	}
	weight_file_forget(&k->file[t->file], t->off + e->off, e->len);
	return done < 0 ? (int)done : 0;
}

/* An extent as it was read to an extent as it is written. */
static void turn(const struct pack *k, const struct extent_of *e, const char *in, char *out)
{
	const struct gguf_tensor *t = source_of(k, e);
	uint64_t rows = t->n_rows - MIN(e->off / t->row_bytes, t->n_rows);

	if (!turns(k, e)) {
		memcpy(out, in, e->len);
		return;
	}
	for (uint64_t at = 0; at < e->len; at += PACK_ROWS * t->row_bytes) {
		uint64_t n = MIN(rows, (uint64_t)PACK_ROWS);

		if (t->packed)
			unpack_group(t->type, in + at, n, t->ne[0], out + at, t->row_bytes);
		else
			pack_group(t->type, in + at, t->row_bytes, n, t->ne[0], out + at);
		rows -= n;
	}
}

/* One extent, while the next one is read: its buffer is free as soon as this one is turned. */
static int move_extent(struct pack *k, const struct extent_of *e, struct extent_of *next,
		       bool *more, struct err *err)
{
	uint64_t from = source_of(k, e)->off + e->off, to = target_of(k, e)->off + e->off;
	char *out = k->out + to % PAGE_4K;
	int r;

	r = end_read(k, e, err);
	if (r)
		return r;
	turn(k, e, k->in + from % PAGE_4K, out);
	*more = next_extent(k, next);
	if (*more)
		r = start_read(k, next, err);
	if (!r)
		r = gguf_writer_put(k->w, out, to, bytes_of(target_of(k, e), e), err);
	return r;
}

static int write_data(struct pack *k, struct err *err)
{
	struct extent_of e = {0}, next = {0};
	bool more = k->n_from > 0;
	uint64_t done = 0;
	int r;

	r = open_files(k, err);
	if (!r)
		r = open_buffers(k, err);
	if (r || !more)
		return r;
	set_len(k, &next);
	r = start_read(k, &next, err);
	while (!r && more) {
		e = next;
		r = move_extent(k, &e, &next, &more, err);
		done += bytes_of(source_of(k, &e), &e);
		if (!r && k->p->progress)
			k->p->progress(k->p->arg, done, k->total);
	}
	return r;
}

/* ---- all of it ---- */

static void pack_close(struct pack *k)
{
	gguf_writer_close(k->w);
	if (k->io)
		k->io->ops->close(k->io);
	for (uint32_t i = 0; i < k->n_file; i++)
		weight_file_close(&k->file[i]);
	free(k->file);
	free(k->fd);
	free(k->from);
	free(k->in);
	free(k->out);
	gguf_close(k->g);
}

int pack_model(const struct pack_params *p, struct pack_result *out, struct err *err)
{
	struct pack k = {.p = p};
	int r;

	r = gguf_open(p->model, &k.g, err);
	if (r)
		return r;
	r = check_files(&k, err);
	if (!r)
		r = write_header(&k, err);
	if (!r)
		r = write_data(&k, err);
	if (!r) {
		*out = (struct pack_result){
			.n_tensor = k.n_from,
			.n_packed = k.n_packed,
			.data_bytes = k.total,
			.file_bytes = gguf_writer_size(k.w),
		};
		r = gguf_writer_finish(k.w, err);
		k.w = NULL;
	}
	pack_close(&k);
	return r;
}
