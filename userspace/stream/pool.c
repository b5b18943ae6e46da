// SPDX-License-Identifier: MIT
#include "stream/pool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/util.h"

#define HUGE (2ull << 20)

static void lock(struct pool *p, void (*note)(void *arg, const char *sentence), void *arg)
{
	struct rlimit limit = {0};
	char text[320], have[32], need[32];

	/* Populating 3 GB up front would cost a second in which flash could read already. */
	if (mlock2(p->base, p->len, MLOCK_ONFAULT) == 0) {
		p->locked_bytes = p->len;
		return;
	}
	if (!note)
		return;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	snprintf(text, sizeof(text),
		 "the pool of %s is not locked in DRAM (%s; the limit on locked memory is %s) and "
		 "may be swapped out: raise the limit with 'ulimit -l unlimited' or "
		 "LimitMEMLOCK=infinity",
		 format_bytes(p->len, need), strerror(errno), format_bytes(limit.rlim_cur, have));
	note(arg, text);
}

int pool_open(struct pool *p, uint64_t len, void (*note)(void *arg, const char *sentence),
	      void *arg, struct err *err)
{
	uint64_t huge;
	char text[32];

	*p = (struct pool){.len = align_up(len, PAGE_4K)};
	if (!p->len)
		return 0;
	p->map_len = p->len + HUGE;
	p->map = mmap(NULL, p->map_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->map == MAP_FAILED) {
		p->map = NULL;
		return err_set(err, -ENOMEM, "no memory for a pool of %s: use a smaller --budget",
			       format_bytes(len, text));
	}
	p->base = (char *)align_up((uintptr_t)p->map, HUGE);
	/* Whole huge pages alone, so that the last one does not take more than was asked for. */
	huge = align_down(p->len, HUGE);
	if (huge && madvise(p->base, huge, MADV_HUGEPAGE) == 0)
		p->huge_bytes = huge;
	/* A core dump has no use for weights, and a child's copy would move pages under a read. */
	madvise(p->map, p->map_len, MADV_DONTDUMP);
	madvise(p->map, p->map_len, MADV_DONTFORK);
	lock(p, note, arg);
	return 0;
}

void pool_close(struct pool *p)
{
	if (p->map)
		munmap(p->map, p->map_len);
	*p = (struct pool){0};
}
