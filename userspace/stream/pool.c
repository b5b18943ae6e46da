// SPDX-License-Identifier: MIT
#include "stream/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/util.h"

#define POPULATE_STEP (8 * HUGE_PAGE)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

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
	char text[32];

	*p = (struct pool){.len = align_up(len, PAGE_4K)};
	if (!p->len)
		return 0;
	if (!huge_map(&p->memory, p->len, MAP_NORESERVE))
		return err_set(err, -ENOMEM, "no memory for a pool of %s: use a smaller --budget",
			       format_bytes(len, text));
	p->base = p->memory.base;
	/* A core dump has no use for weights, and a child's copy would move pages under a read. */
	madvise(p->memory.map, p->memory.map_len, MADV_DONTDUMP);
	madvise(p->memory.map, p->memory.map_len, MADV_DONTFORK);
	lock(p, note, arg);
	return 0;
}

void pool_close(struct pool *p)
{
	huge_unmap(&p->memory);
	*p = (struct pool){0};
}

static void *populate(void *arg)
{
	struct populate *w = arg;
	uint64_t at, end;

	while (!atomic_load(&w->stop)) {
		at = atomic_fetch_add(&w->next, POPULATE_STEP);
		if (at >= w->pool->len)
			break;
		end = MIN(at + POPULATE_STEP, w->pool->len);
		if (madvise(w->pool->base + at, end - at, MADV_POPULATE_WRITE))
			break;
	}
	return NULL;
}

void populate_start(struct populate *w, const struct pool *p, uint64_t from)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t steps = (p->len - from + POPULATE_STEP - 1) / POPULATE_STEP;
	sigset_t all, before;

	*w = (struct populate){.pool = p};
	atomic_init(&w->next, align_down(from, PAGE_4K));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (w->n_thread < MIN((uint64_t)POPULATE_THREADS, steps) && w->n_thread < cores &&
	       !pthread_create(&w->thread[w->n_thread], NULL, populate, w))
		w->n_thread++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void populate_stop(struct populate *w)
{
	atomic_store(&w->stop, true);
	while (w->n_thread)
		pthread_join(w->thread[--w->n_thread], NULL);
}
