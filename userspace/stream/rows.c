// SPDX-License-Identifier: MIT
#include "stream/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define BOUNCE (64u << 10)

int rows_open(struct rows *r, const struct plan *plan, const void *const *resident,
	      const struct weight_file *file, const volatile int *cancel, struct err *err)
{
	*r = (struct rows){.plan = plan, .resident = resident, .file = file, .cancel = cancel};
	if (posix_memalign((void **)&r->bounce, PAGE_4K, BOUNCE)) {
		r->bounce = NULL;
		return err_set(err, -ENOMEM, "out of memory for a read buffer");
	}
	return 0;
}

void rows_close(struct rows *r)
{
	free(r->bounce);
	r->bounce = NULL;
}

/* Where the pinned part holds [off, off + len) of a file, or NULL. */
static const char *find_pinned(const struct rows *r, uint32_t file, uint64_t off, size_t len)
{
	const struct extent *e = r->plan->extent;
	uint32_t lo = 0, hi = r->plan->n_pin, mid;

	/* the first pinned extent that begins behind `off`: the one before it may hold it */
	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (e[mid].file < file || (e[mid].file == file && e[mid].off <= off))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	e = &e[lo - 1];
	if (e->file != file || off - e->off > e->len || len > e->len - (off - e->off))
		return NULL;
	return (const char *)r->resident[lo - 1] + (off - e->off);
}

/* Reads what one bounce buffer holds of [off, off + len). Return: bytes copied, or an errno. */
static ssize_t read_some(struct rows *r, const struct weight_file *f, uint64_t off, char *buf,
			 size_t len, struct err *err)
{
	uint64_t from = align_down(off, PAGE_4K);
	uint64_t n = MIN(align_up(off + len, PAGE_4K) - from, (uint64_t)BOUNCE);
	ssize_t got;

	do {
		if (r->cancel && *r->cancel)
			return err_set(err, -EINTR, "interrupted");
		got = pread(f->fd, r->bounce, n, (off_t)from);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return weight_file_failed(f, off, -errno, err);
	if ((uint64_t)got <= off - from)
		return weight_file_failed(f, off, 0, err);
	r->reads++;
	r->read_bytes += (uint64_t)got;
	n = MIN((uint64_t)got - (off - from), (uint64_t)len);
	memcpy(buf, r->bounce + (off - from), n);
	return (ssize_t)n;
}

int rows_read(struct rows *r, uint32_t file, uint64_t off, void *buf, size_t len, struct err *err)
{
	const char *held = find_pinned(r, file, off, len);
	ssize_t n;
	int ret;

	if (held) {
		memcpy(buf, held, len);
		return 0;
	}
	ret = weight_file_check(&r->file[file], off, len, err);
	for (size_t done = 0; !ret && done < len; done += (size_t)n) {
		n = read_some(r, &r->file[file], off + done, (char *)buf + done, len - done, err);
		if (n < 0)
			return (int)n;
	}
	return ret;
}
