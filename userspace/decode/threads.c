// SPDX-License-Identifier: MIT
/*
 * Threads: n - 1 workers and the caller.
 *
 * run() opens a job, raises `round` so that workers look, does the job's work itself too, and
 * closes the job. A worker joins only while the job is open, and run() waits for those that have
 * joined, not for those that are late: on a busy machine a thread that does not get a core for
 * some milliseconds would otherwise hold up every operation. Late threads find the job closed
 * and go back to waiting. That is why a job takes its work from what all share: a counter, ranges.
 *
 * `state` is OPEN or 0, plus the number of workers inside. fn and arg are written while it is 0
 * and read after joining. Both waits spin for some microseconds, then sleep on a futex.
 * `sleepers` lets run() skip the wake-up call when nobody sleeps: a worker counts itself before
 * it checks `round` once more, run() raises `round` before it looks at the count, both
 * sequentially consistent, so one of the two always sees the other.
 *
 * bring(): `at` to `end` of a thread is what it fetches a little of with each turn of its spin, and
 * with each fetch() from inside a job.
 * It moves `at` on only where nobody has set it since, so what was asked last counts. A pair of
 * which one half is older costs a fetch of something else: a prefetch reads nothing that a
 * program could see, and does not fault.
 */
#include "decode/threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "stream/cache.h"

/*
 * Longer than the gap between two operations of a layer, even where a hypervisor takes the core
 * away in it, and shorter than a read. Waking a thread takes 20 to 100 microseconds in a virtual
 * machine: with 20 it came to that four times a token, which cost 1% of decode.
 */
#define SPIN_NS 100000ull

/* The clock costs as much as several turns, so that a short wait should not look at it. */
#define TURNS_PER_LOOK	 64
#define FETCHES_PER_LOOK 8

#define OPEN 0x80000000u

/*
 * Brought is at most half of a core's own cache: at 15 GB/s a core fills 1 MiB in 70 microseconds,
 * which is longer than it waits. Where L2 is not known, that of a Cortex-A78AE.
 */
#define BRING_GUESS (128u << 10)

/* Of a thread's bytes to bring with one turn: 0.1 to 0.2 microseconds. */
#define TURN_BYTES 2048u
#define LINE_BYTES 64u

struct threads {
	struct team team;
	void (*fn)(void *arg, int i, int n);
	void *arg;
	_Alignas(64) atomic_uint round;
	atomic_uint sleepers;
	_Alignas(64) atomic_uint state;
	atomic_bool quit;
	struct worker {
		struct threads *t;
		pthread_t id;
		int i;
		_Alignas(64) atomic_uintptr_t at; /* bytes to bring: what is left of them */
		atomic_uintptr_t end;
	} * worker;	  /* [n_threads]; of the caller, 0, only the bytes */
	size_t bring_max; /* bytes */
	int n_started;
};

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Fetches so much of what was asked for; false where there is nothing left. */
static bool fetch(struct worker *w, size_t bytes)
{
	uintptr_t at = atomic_load_explicit(&w->at, memory_order_relaxed);
	uintptr_t end = atomic_load_explicit(&w->end, memory_order_relaxed);
	uintptr_t next;

	if (at >= end)
		return false;
	next = end - at < bytes ? end : at + bytes;
	for (uintptr_t p = at; p < next; p += LINE_BYTES)
		__builtin_prefetch((const void *)p, 0, 2);
	atomic_compare_exchange_strong_explicit(&w->at, &at, next, memory_order_relaxed,
						memory_order_relaxed);
	return true;
}

struct spin {
	struct worker *w; /* who waits */
	uint64_t end;	  /* 0: the clock has not been looked at */
	unsigned int turns;
};

/* One turn; false when it is time to sleep. */
static bool spin(struct spin *s)
{
	bool fetched = fetch(s->w, TURN_BYTES);
	uint64_t now;

	if (!fetched)
		relax();
	if (++s->turns % (fetched ? FETCHES_PER_LOOK : TURNS_PER_LOOK))
		return true;
	now = now_ns();
	if (!s->end)
		s->end = now + SPIN_NS;
	return now < s->end;
}

static void futex_wait(atomic_uint *word, unsigned int seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Waits until `round` is no longer @seen; returns it. */
static unsigned int next_round(struct worker *w, unsigned int seen)
{
	struct spin s = {.w = w};
	struct threads *t = w->t;
	unsigned int now;

	do {
		now = atomic_load_explicit(&t->round, memory_order_acquire);
		if (now != seen)
			return now;
	} while (spin(&s));
	atomic_fetch_add(&t->sleepers, 1);
	while ((now = atomic_load(&t->round)) == seen)
		futex_wait(&t->round, seen);
	atomic_fetch_sub(&t->sleepers, 1);
	return now;
}

/* Enters the open job; false where there is none (any more). */
static bool join(struct threads *t)
{
	unsigned int s = atomic_load_explicit(&t->state, memory_order_relaxed);

	while (s & OPEN)
		if (atomic_compare_exchange_weak_explicit(
			    &t->state, &s, s + 1, memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct threads *t = w->t;
	unsigned int round = 0;

	for (;;) {
		round = next_round(w, round);
		if (atomic_load_explicit(&t->quit, memory_order_relaxed))
			return NULL;
		if (!join(t))
			continue;
		t->fn(t->arg, w->i, t->team.n_threads);
		/* the last one out of a closed job wakes the caller */
		if (atomic_fetch_sub_explicit(&t->state, 1, memory_order_acq_rel) == 1)
			futex_wake(&t->state, 1);
	}
}

static void team_run(struct team *team, void (*fn)(void *, int, int), void *arg)
{
	struct threads *t = (struct threads *)team;
	struct spin s = {.w = &t->worker[0]};
	unsigned int left;

	if (team->n_threads == 1) {
		fn(arg, 0, 1);
		return;
	}
	t->fn = fn;
	t->arg = arg;
	atomic_store_explicit(&t->state, OPEN, memory_order_release);
	atomic_fetch_add(&t->round, 1);
	if (atomic_load(&t->sleepers))
		futex_wake(&t->round, team->n_threads);
	fn(arg, 0, team->n_threads);
	atomic_fetch_and_explicit(&t->state, ~OPEN, memory_order_acq_rel);
	do {
		if (!atomic_load_explicit(&t->state, memory_order_acquire))
			return;
	} while (spin(&s));
	while ((left = atomic_load_explicit(&t->state, memory_order_acquire)))
		futex_wait(&t->state, left);
}

static void team_bring(struct team *team, int i, const void *p, size_t bytes)
{
	struct threads *t = (struct threads *)team;
	struct worker *w = &t->worker[i];

	bytes = MIN(bytes, t->bring_max);
	atomic_store_explicit(&w->end, (uintptr_t)p + bytes, memory_order_relaxed);
	atomic_store_explicit(&w->at, (uintptr_t)p, memory_order_relaxed);
}

static void team_fetch(struct team *team, int i, size_t bytes)
{
	fetch(&((struct threads *)team)->worker[i], bytes);
}

int team_open(int n_threads, struct team **out, struct err *err)
{
	struct threads *t;
	int r;

	if (n_threads < 1 || n_threads > 1024)
		return err_set(err, -EINVAL, "%d threads: 1 to 1024 are possible", n_threads);
	t = aligned_alloc(64, align_up(sizeof(*t), 64));
	if (!t)
		return err_set(err, -ENOMEM, "out of memory for threads");
	memset(t, 0, sizeof(*t));
	t->team.n_threads = n_threads;
	t->team.run = team_run;
	t->team.bring = team_bring;
	t->team.fetch = team_fetch;
	t->bring_max = cache_l2() / 2;
	if (!t->bring_max)
		t->bring_max = BRING_GUESS;
	t->worker = aligned_alloc(64, (size_t)n_threads * sizeof(*t->worker));
	if (!t->worker) {
		free(t);
		return err_set(err, -ENOMEM, "out of memory for threads");
	}
	memset(t->worker, 0, (size_t)n_threads * sizeof(*t->worker));
	for (int i = 1; i < n_threads; i++) {
		struct worker *w = &t->worker[i];

		w->t = t;
		w->i = i;
		r = pthread_create(&w->id, NULL, work, w);
		if (r) {
			team_close(&t->team);
			return err_set(err, -r, "cannot start thread %d of %d: %s; use fewer (-t)",
				       i + 1, n_threads, strerror(r));
		}
		t->n_started++;
	}
	*out = &t->team;
	return 0;
}

void team_close(struct team *team)
{
	struct threads *t = (struct threads *)team;

	if (!t)
		return;
	atomic_store(&t->quit, true);
	atomic_fetch_add(&t->round, 1);
	futex_wake(&t->round, t->team.n_threads);
	for (int i = 1; i <= t->n_started; i++)
		pthread_join(t->worker[i].id, NULL);
	free(t->worker);
	free(t);
}

/* The first hyper-thread of a core is the one that its own list of siblings begins with. */
static bool first_sibling(int cpu)
{
	char path[96];
	int first;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
		 cpu);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (fscanf(f, "%d", &first) != 1)
		first = cpu;
	fclose(f);
	return first == cpu;
}

int physical_cores(void)
{
	cpu_set_t set;
	int all = 0, first = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		all++;
		first += first_sibling(cpu);
	}
	return first ? first : MAX(all, 1);
}
