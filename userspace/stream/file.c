// SPDX-License-Identifier: MIT
#include "stream/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/util.h"

static int remember(struct weight_file *f, struct err *err)
{
	struct stat st;
	off_t end;

	if (fstat(f->fd, &st))
		return err_set(err, -errno, "cannot stat %s: %s", f->path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s is not a file", f->path);
	f->size = (uint64_t)st.st_size;
	f->mtime = st.st_mtim;
	if (S_ISBLK(st.st_mode)) {
		end = lseek(f->fd, 0, SEEK_END);
		if (end < 0)
			return err_set(err, -errno, "cannot find the size of %s: %s", f->path,
				       strerror(errno));
		f->size = (uint64_t)end;
	}
	return 0;
}

/* File systems accept the flag and refuse the read, or want more than 4 KiB: try one. */
static bool direct_reads_work(const struct weight_file *f)
{
	off_t off = f->size > PAGE_4K ? (off_t)PAGE_4K : 0;
	void *page;
	ssize_t n;

	if (posix_memalign(&page, PAGE_4K, PAGE_4K))
		return false;
	n = pread(f->fd, page, PAGE_4K, off);
	free(page);
	return n >= 0;
}

static int open_with(struct weight_file *f, const char *path, int flags, struct err *err)
{
	int r;

	*f = (struct weight_file){0};
	f->fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (f->fd < 0)
		return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	f->path = strdup(path);
	r = f->path ? remember(f, err) : err_set(err, -ENOMEM, "out of memory for %s", path);
	if (r)
		weight_file_close(f);
	return r;
}

int weight_file_open_cached(struct weight_file *f, const char *path, struct err *err)
{
	return open_with(f, path, 0, err);
}

int weight_file_open(struct weight_file *f, const char *path, note_fn note, void *arg,
		     struct err *err)
{
	const char *why = NULL;
	struct statfs fs;
	char text[512];
	int r;

	r = open_with(f, path, O_DIRECT, err);
	if (r && r != -EINVAL)
		return r;
	f->direct = r == 0 && direct_reads_work(f);
	if (!f->direct) {
		weight_file_close(f);
		r = open_with(f, path, 0, err);
		if (r)
			return r;
		/* read what is asked for, not what may come next */
		posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
		why = "%s: its file system has no direct I/O, so reads go through the page cache, "
		      "which costs CPU; put the model on ext4 or xfs";
	}
	if (fstatfs(f->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		why = "%s is on tmpfs, that is in DRAM already: streaming it saves no memory";
	if (why && note) {
		snprintf(text, sizeof(text), why, path);
		note(arg, text);
	}
	return 0;
}

void weight_file_close(struct weight_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	*f = (struct weight_file){.fd = -1};
}

int weight_file_check(const struct weight_file *f, uint64_t off, uint64_t len, struct err *err)
{
	if (off <= f->size && len <= f->size - off)
		return 0;
	return err_set(err, -EIO,
		       "%s has %llu bytes, but its header speaks of data up to byte %llu: was it "
		       "truncated or replaced?",
		       f->path, (unsigned long long)f->size, (unsigned long long)(off + len));
}

int weight_file_failed(const struct weight_file *f, uint64_t off, int res, struct err *err)
{
	unsigned long long at = off, size = f->size;
	struct stat st;

	if (fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    ((uint64_t)st.st_size != f->size || st.st_mtim.tv_sec != f->mtime.tv_sec ||
	     st.st_mtim.tv_nsec != f->mtime.tv_nsec))
		return err_set(err, -ESTALE,
			       "%s changed while it was in use (it had %llu bytes and has %llu): "
			       "reading at offset %llu failed; start again",
			       f->path, size, (unsigned long long)st.st_size, at);
	if (!res)
		return err_set(err, -EIO,
			       "%s ends at offset %llu and should have %llu bytes: was "
			       "it truncated?",
			       f->path, at, size);
	return err_set(err, res, "cannot read %s at offset %llu: %s", f->path, at, strerror(-res));
}

void weight_file_forget(const struct weight_file *f, uint64_t off, uint64_t len)
{
	if (!f->direct)
		posix_fadvise(f->fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
}
