// SPDX-License-Identifier: MIT
/*
 * Writing GGUF version 3 files, and packed ones.
 *
 * Metadata is serialized as it is declared; tensors are kept in a table until the header is
 * written, because their entries hold offsets. The first failure of a gguf_write_*() sticks:
 * gguf_write_header() gives it again with a sentence, so that callers need not look before.
 *
 * The bytes go to a temporary file in the target's folder, which takes the target's name only
 * after fsync(). Its size is reserved when the header is written: a disk that is too small is
 * noticed before the work, and gaps between tensors read as zeros.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "gguf/internal.h"

#define MAX_TENSOR_NAME 63u /* what other programs read */

struct gguf_writer {
	char *path; /* of the finished file, as resolved */
	char *tmp;  /* NULL once it has its final name */
	int fd;
	int direct_fd; /* the same file, opened for direct I/O; or -1 */
	uint32_t alignment;
	bool says_alignment; /* general.alignment is declared */
	int status;	     /* of the first gguf_write_*() that failed */
	struct err why;

	struct gguf_model *m; /* what is declared so far: keys without values, tensors */
	struct strbuf kv;     /* keys and values as they are in the file */
	uint64_t size;	      /* of the whole file, once the layout is fixed */
};

static int stick(struct gguf_writer *w, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int stick(struct gguf_writer *w, int code, const char *fmt, ...)
{
	va_list ap;

	if (w->status)
		return w->status;
	va_start(ap, fmt);
	vsnprintf(w->why.text, sizeof(w->why.text), fmt, ap);
	va_end(ap);
	w->status = code;
	return code;
}

static int stick_memory(struct gguf_writer *w)
{
	return stick(w, -ENOMEM, "'%s': not enough memory", SHOW_PATH(w->path));
}

/* ---- the file under its temporary name ---- */

/* A file that is there already is replaced where a link points, not the link itself. */
static int resolve_target(const char *path, char **out, struct err *err)
{
	struct stat st;

	if (stat(path, &st)) {
		*out = strdup(path);
	} else if (S_ISREG(st.st_mode)) {
		*out = realpath(path, NULL);
	} else {
		return err_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			       "'%s' is not a regular file: name the file to write",
			       SHOW_PATH(path));
	}
	return *out ? 0 : err_set(err, -errno, "'%s': %s", SHOW_PATH(path), strerror(errno));
}

/* The folder of a path; to be freed. */
static char *folder_of(const char *path)
{
	char *copy = strdup(path), *dir = NULL;

	if (copy)
		dir = strdup(dirname(copy));
	free(copy);
	return dir;
}

/*
 * Not mkstemp(): the file keeps its mode after the rename, so it is made with what the umask
 * allows. Its name is short, so that a target with the longest name works too.
 */
static int open_tmp(struct gguf_writer *w, struct err *err)
{
	static atomic_uint serial;
	char *dir = folder_of(w->path);

	if (!dir)
		return err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(w->path));
	do {
		free(w->tmp);
		if (asprintf(&w->tmp, "%s/.weir-%d-%u.tmp", dir, (int)getpid(),
			     atomic_fetch_add(&serial, 1)) < 0) {
			w->tmp = NULL;
			errno = ENOMEM;
			break;
		}
		w->fd = open(w->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	} while (w->fd < 0 && errno == EEXIST);
	free(dir);
	if (w->fd >= 0)
		return 0;
	free(w->tmp);
	w->tmp = NULL;
	return err_set(err, -errno, "cannot write '%s': %s", SHOW_PATH(w->path), strerror(errno));
}

static int open_writer(const char *path, uint32_t alignment, bool packed, struct gguf_writer **out,
		       struct err *err)
{
	struct gguf_writer *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(path));
	w->fd = -1;
	w->direct_fd = -1;
	w->alignment = alignment;
	ret = resolve_target(path, &w->path, err);
	if (!ret) {
		w->m = gguf_model_new(w->path);
		ret = w->m ? open_tmp(w, err)
			   : err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(path));
	}
	if (ret) {
		gguf_writer_close(w);
		return ret;
	}
	w->m->pub.packed_file = packed;
	*out = w;
	return 0;
}

int gguf_writer_open(const char *path, uint32_t alignment, struct gguf_writer **out,
		     struct err *err)
{
	if (alignment < GGUF_MIN_ALIGNMENT || alignment > GGUF_MAX_ALIGNMENT ||
	    (alignment & (alignment - 1)))
		return err_set(
			err, -EINVAL,
			"cannot write '%s': alignment %u is not a power of two from %u to %u",
			SHOW_PATH(path), alignment, GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
	return open_writer(path, alignment, false, out, err);
}

int gguf_writer_open_packed(const char *path, struct gguf_writer **out, struct err *err)
{
	return open_writer(path, PACKED_ALIGNMENT, true, out, err);
}

/* ---- metadata ---- */

static int put_u32(struct strbuf *b, uint32_t v)
{
	return strbuf_add(b, &v, sizeof(v));
}

static int put_u64(struct strbuf *b, uint64_t v)
{
	return strbuf_add(b, &v, sizeof(v));
}

static int put_str(struct strbuf *b, struct gguf_str s)
{
	int ret = put_u64(b, s.len);

	return ret ? ret : strbuf_add(b, s.p, s.len);
}

static int put_array(struct strbuf *b, const struct gguf_array *a, unsigned int depth)
{
	uint32_t size = gguf_number_size(a->type);
	int ret;

	if (depth > GGUF_MAX_DEPTH || (uint32_t)a->type >= GGUF_TYPE_COUNT)
		return -EINVAL;
	ret = put_u32(b, a->type);
	if (!ret)
		ret = put_u64(b, a->n);
	if (size)
		return ret ? ret : strbuf_add(b, a->num, a->n * size);
	for (uint64_t i = 0; i < a->n && !ret; i++)
		ret = a->type == GGUF_STRING ? put_str(b, a->str[i])
					     : put_array(b, &a->arr[i], depth + 1);
	return ret;
}

/* Narrows the union's 64 bits to the type's; -EINVAL where it does not fit. */
static int put_number(struct strbuf *b, const struct gguf_kv *kv)
{
	uint32_t size = gguf_number_size(kv->type), bits = size * 8;
	uint8_t u8;
	float f32;

	switch (kv->type) {
	case GGUF_F32:
		f32 = (float)kv->f64;
		return strbuf_add(b, &f32, sizeof(f32));
	case GGUF_F64:
		return strbuf_add(b, &kv->f64, sizeof(kv->f64));
	case GGUF_BOOL:
		u8 = kv->b;
		return strbuf_add(b, &u8, 1);
	case GGUF_I8:
	case GGUF_I16:
	case GGUF_I32:
		if (kv->i64 < -(INT64_C(1) << (bits - 1)) || kv->i64 >= INT64_C(1) << (bits - 1))
			return -EINVAL;
		break;
	case GGUF_U8:
	case GGUF_U16:
	case GGUF_U32:
		if (kv->u64 >> bits)
			return -EINVAL;
		break;
	default:
		break;
	}
	return size ? strbuf_add(b, &kv->u64, size) : -EINVAL;
}

static int put_kv(struct strbuf *b, const struct gguf_kv *kv)
{
	int ret = put_str(b, kv->key);

	if (!ret)
		ret = put_u32(b, kv->type);
	if (ret)
		return ret;
	switch (kv->type) {
	case GGUF_STRING:
		return put_str(b, kv->str);
	case GGUF_ARRAY:
		return put_array(b, &kv->arr, 1);
	default:
		return put_number(b, kv);
	}
}

static bool bad_name(struct gguf_str s, uint64_t max)
{
	return !s.len || s.len > max || memchr(s.p, '\0', s.len);
}

/* The key is remembered, so that a second one of that name is found. */
static int remember_key(struct gguf_writer *w, const struct gguf_kv *kv)
{
	struct gguf *g = &w->m->pub;
	struct gguf_kv *table;
	char *key;

	table = gguf_grow(g->kv, g->n_kv, sizeof(*table));
	if (table)
		g->kv = table;
	key = arena_alloc(&w->m->arena, kv->key.len + 1, 1);
	if (!table || !key)
		return -ENOMEM;
	memcpy(key, kv->key.p, kv->key.len);
	key[kv->key.len] = '\0';
	table[g->n_kv++] = (struct gguf_kv){.key = {key, kv->key.len}, .type = kv->type};
	return 0;
}

static const char alignment_key[] = "general.alignment";

static bool is_alignment(const struct gguf_kv *kv)
{
	return kv->key.len == strlen(alignment_key) &&
	       !memcmp(kv->key.p, alignment_key, kv->key.len);
}

/* Integers of every width, as the reader takes them. */
static bool is_number(const struct gguf_kv *kv, uint64_t n)
{
	switch (kv->type) {
	case GGUF_F32:
	case GGUF_F64:
	case GGUF_BOOL:
	case GGUF_STRING:
	case GGUF_ARRAY:
		return false;
	default:
		return kv->u64 == n;
	}
}

int gguf_write_kv(struct gguf_writer *w, const struct gguf_kv *kv)
{
	size_t start = w->kv.len;
	int ret;

	if (w->status)
		return w->status;
	if (bad_name(kv->key, GGUF_MAX_KEY))
		return stick(w, -EINVAL, "'%s': key '%s' is empty, too long or holds a NUL byte",
			     SHOW_PATH(w->path), SHOW(kv->key));
	if (is_alignment(kv) && !w->m->pub.packed_file && !is_number(kv, w->alignment))
		return stick(w, -EINVAL,
			     "'%s': general.alignment is chosen when the writer is opened",
			     SHOW_PATH(w->path));
	ret = put_kv(&w->kv, kv);
	if (!ret)
		ret = remember_key(w, kv);
	if (!ret) {
		w->says_alignment |= is_alignment(kv);
		return 0;
	}
	w->kv.len = start;
	if (ret == -ENOMEM)
		return stick_memory(w);
	return stick(w, ret, "'%s': the value of key '%s' is no valid %s", SHOW_PATH(w->path),
		     SHOW(kv->key), gguf_type_name(kv->type));
}

static struct gguf_str str_of(const char *s)
{
	return (struct gguf_str){s, strlen(s)};
}

int gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
	return gguf_write_kv(w, &(struct gguf_kv){str_of(key), GGUF_U32, {.u64 = v}});
}

int gguf_write_f32(struct gguf_writer *w, const char *key, float v)
{
	return gguf_write_kv(w, &(struct gguf_kv){str_of(key), GGUF_F32, {.f64 = (double)v}});
}

int gguf_write_bool(struct gguf_writer *w, const char *key, bool v)
{
	return gguf_write_kv(w, &(struct gguf_kv){str_of(key), GGUF_BOOL, {.b = v}});
}

int gguf_write_str(struct gguf_writer *w, const char *key, const char *v)
{
	return gguf_write_kv(w, &(struct gguf_kv){str_of(key), GGUF_STRING, {.str = str_of(v)}});
}

/* ---- tensors ---- */

int gguf_write_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
		      const uint64_t *ne)
{
	struct gguf *g = &w->m->pub;
	struct gguf_tensor t = {.name = str_of(name), .type = type, .n_dims = n_dims};
	struct gguf_tensor *table;
	struct err why;
	char *copy;
	int ret;

	if (w->status)
		return w->status;
	if (bad_name(t.name, MAX_TENSOR_NAME))
		return stick(w, -EINVAL, "'%s': tensor name '%s' is empty or longer than %u bytes",
			     SHOW_PATH(w->path), SHOW(t.name), MAX_TENSOR_NAME);
	if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
		return stick(w, -EINVAL, "'%s': tensor '%s' has %u dimensions, 1 to %u are allowed",
			     SHOW_PATH(w->path), name, n_dims, GGUF_MAX_DIMS);
	for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++)
		t.ne[i] = i < n_dims ? ne[i] : 1;
	ret = gguf_measure(&t, g->packed_file, &why);
	if (ret)
		return stick(w, ret, "'%s': tensor '%s' %s", SHOW_PATH(w->path), name, why.text);
	table = gguf_grow(g->tensor, g->n_tensor, sizeof(*table));
	if (table)
		g->tensor = table;
	copy = arena_alloc(&w->m->arena, t.name.len + 1, 1);
	if (!table || !copy)
		return stick_memory(w);
	memcpy(copy, name, t.name.len + 1);
	t.name.p = copy;
	table[g->n_tensor++] = t;
	return 0;
}

/* Offsets, first within the data part; returns -EINVAL where they do not fit 63 bits. */
static int lay_out(struct gguf_writer *w, uint64_t *data_size)
{
	struct gguf *g = &w->m->pub;
	uint64_t off = 0, end;

	for (uint64_t i = 0; i < g->n_tensor; i++) {
		g->tensor[i].off = off;
		if (add_overflow(off, g->tensor[i].size, &end) || end > INT64_MAX / 2)
			return stick(w, -EFBIG, "'%s': its tensors are larger than a file can be",
				     SHOW_PATH(w->path));
		off = align_up(end, w->alignment);
	}
	*data_size = off;
	return 0;
}

static int put_header(struct gguf_writer *w, struct strbuf *b)
{
	const struct gguf *g = &w->m->pub;
	int ret;

	ret = strbuf_add(b, g->packed_file ? PACKED_MAGIC : GGUF_MAGIC, 4);
	if (!ret)
		ret = put_u32(b, g->packed_file ? PACKED_VERSION : 3);
	if (!ret)
		ret = put_u64(b, g->n_tensor);
	if (!ret)
		ret = put_u64(b, g->n_kv);
	if (!ret)
		ret = strbuf_add(b, w->kv.p, w->kv.len);
	for (uint64_t i = 0; i < g->n_tensor && !ret; i++) {
		const struct gguf_tensor *t = &g->tensor[i];

		ret = put_str(b, t->name);
		if (!ret)
			ret = put_u32(b, t->n_dims);
		if (!ret)
			ret = strbuf_add(b, t->ne, t->n_dims * sizeof(t->ne[0]));
		if (!ret)
			ret = put_u32(b, t->type | (t->packed ? GGUF_PACKED : 0));
		if (!ret)
			ret = put_u64(b, t->off);
	}
	return ret;
}

static int write_all(int fd, const char *p, size_t n, off_t off)
{
	ssize_t put;

	while (n) {
		put = pwrite(fd, p, n, off);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		off += put;
		n -= (size_t)put;
	}
	return 0;
}

/* Takes the disk space now, where the file system can; asks for it first everywhere. */
static int reserve(struct gguf_writer *w)
{
	struct statvfs fs;
	char want[32], have[32];
	uint64_t avail;
	int ret;

	if (!fstatvfs(w->fd, &fs) && fs.f_blocks) {
		avail = (uint64_t)fs.f_bavail * fs.f_frsize;
		if (avail < w->size)
			return stick(w, -ENOSPC,
				     "'%s' needs %s, but its disk has %s free: free some space or "
				     "name another disk",
				     SHOW_PATH(w->path), format_bytes(w->size, want),
				     format_bytes(avail, have));
	}
	do {
		ret = fallocate(w->fd, 0, 0, (off_t)w->size) ? -errno : 0;
	} while (ret == -EINTR);
	if (ret == -EOPNOTSUPP || ret == -ENOSYS)
		ret = ftruncate(w->fd, (off_t)w->size) ? -errno : 0;
	if (ret)
		return stick(w, ret, "cannot make '%s' %" PRIu64 " bytes long: %s",
			     SHOW_PATH(w->path), w->size, strerror(-ret));
	return 0;
}

/* -1 where there is no direct I/O */
static int open_direct(int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

static int write_header(struct gguf_writer *w)
{
	struct gguf *g = &w->m->pub;
	struct strbuf b = {0};
	uint64_t data_size = 0, data_off;
	int ret;

	ret = lay_out(w, &data_size);
	if (ret)
		return ret;
	if (put_header(w, &b)) {
		ret = stick_memory(w);
		goto out;
	}
	data_off = align_up(b.len, w->alignment);
	w->size = data_off + data_size;
	for (uint64_t i = 0; i < g->n_tensor; i++)
		g->tensor[i].off += data_off;
	ret = reserve(w);
	if (ret)
		goto out;
	ret = write_all(w->fd, b.p, b.len, 0);
	if (ret)
		stick(w, ret, "cannot write '%s': %s", SHOW_PATH(w->path), strerror(-ret));
	w->direct_fd = open_direct(w->fd);
out:
	strbuf_free(&b);
	return ret;
}

int gguf_write_header(struct gguf_writer *w, struct err *err)
{
	struct err why;
	int ret;

	if (w->alignment != GGUF_DEFAULT_ALIGNMENT && !w->says_alignment && !w->m->pub.packed_file)
		gguf_write_u32(w, alignment_key, w->alignment);
	ret = w->status;
	if (!ret)
		ret = gguf_index_keys(w->m, &why);
	if (!ret)
		ret = gguf_index_tensors(w->m, &why);
	if (ret)
		stick(w, ret, "%s", why.text);
	else
		write_header(w);
	return w->status ? err_set(err, w->status, "%s", w->why.text) : 0;
}

int gguf_writer_fd(const struct gguf_writer *w)
{
	return w->fd;
}

/* Whole pages with direct I/O, where the file system takes it, and the rest without. */
static int put_direct(const struct gguf_writer *w, const char *p, uint64_t off, uint64_t n)
{
	uint64_t end = off + n, from = MIN(align_up(off, PAGE_4K), end);
	uint64_t to = MAX(align_down(end, PAGE_4K), from);
	int ret;

	if (w->direct_fd < 0 || ((uintptr_t)p - off) % PAGE_4K)
		return -EINVAL;
	ret = write_all(w->direct_fd, p + (from - off), to - from, (off_t)from);
	if (!ret)
		ret = write_all(w->fd, p, from - off, (off_t)off);
	if (!ret)
		ret = write_all(w->fd, p + (to - off), end - to, (off_t)to);
	return ret;
}

int gguf_writer_put(const struct gguf_writer *w, const void *buf, uint64_t off, uint64_t n,
		    struct err *err)
{
	int ret = put_direct(w, buf, off, n);

	if (ret == -EINVAL) /* not opened, or it wants larger units than a page */
		ret = write_all(w->fd, buf, n, (off_t)off);
	if (ret)
		return err_set(err, ret,
			       "cannot write '%s', %" PRIu64 " bytes at offset %" PRIu64 ": %s",
			       SHOW_PATH(w->path), n, off, strerror(-ret));
	return 0;
}

const struct gguf_tensor *gguf_writer_tensor(const struct gguf_writer *w, uint64_t i)
{
	return i < w->m->pub.n_tensor ? &w->m->pub.tensor[i] : NULL;
}

uint64_t gguf_writer_size(const struct gguf_writer *w)
{
	return w->size;
}

/* The new name must survive a power cut too. Not every file system can do this: best effort. */
static void sync_folder(const char *path)
{
	char *dir = folder_of(path);
	int fd;

	fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(dir);
}

int gguf_writer_finish(struct gguf_writer *w, struct err *err)
{
	int ret = 0;

	if (w->status)
		ret = err_set(err, w->status, "%s", w->why.text);
	else if (!w->size)
		ret = err_set(err, -EINVAL, "'%s': its header was never written",
			      SHOW_PATH(w->path));
	else if (fsync(w->fd) || rename(w->tmp, w->path))
		ret = err_set(err, -errno, "cannot write '%s': %s", SHOW_PATH(w->path),
			      strerror(errno));
	if (!ret) {
		free(w->tmp);
		w->tmp = NULL;
		sync_folder(w->path);
	}
	gguf_writer_close(w);
	return ret;
}

void gguf_writer_close(struct gguf_writer *w)
{
	if (!w)
		return;
	if (w->tmp)
		unlink(w->tmp);
	if (w->direct_fd >= 0)
		close(w->direct_fd);
	if (w->fd >= 0)
		close(w->fd);
	free(w->tmp);
	free(w->path);
	strbuf_free(&w->kv);
	gguf_model_free(w->m);
	free(w);
}
