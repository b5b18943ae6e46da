// SPDX-License-Identifier: MIT
/*
 * The team of threads: a job's work is done once and is there when run() returns, with whatever
 * threads came in time; nobody who is late is waited for, nobody who is inside is left behind,
 * and nobody burns a core while there is nothing to do.
 *
 * Words: an *item* is one piece of a job's work, taken from the job's counter. A *roll-call* is
 * a job that stays open until every thread of the team has come.
 *
 * What jobs write is plain memory, and their own atomics are relaxed: so ThreadSanitizer sees
 * whatever run() itself does not order. Assertions stand in the calling thread alone, for
 * cmocka's do not work elsewhere; fn writes down what was wrong.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "decode/threads.h"

#define MAX_THREADS 16
#define MAX_ITEMS   40

/* A run that waits for a thread which never comes would hang: this ends the program instead. */
#define HANG_SECONDS 240

/* How long a roll-call waits for threads that the machine gives no core to. */
#define ROLL_NS 60000000000ull

static void nap(int ms)
{
	poll(NULL, 0, ms);
}

static struct team *open_team(int n)
{
	struct team *t = NULL;
	struct err err = {""};

	if (team_open(n, &t, &err))
		fail_msg("%s", err.text);
	assert_non_null(t);
	assert_int_equal(t->n_threads, n);
	return t;
}

/* ---- jobs of items ---- */

enum {
	BAD_INDEX = 1,	  /* i not in [0, n) */
	BAD_COUNT = 2,	  /* n is not the team's */
	TWO_AT_ONCE = 4,  /* an index is used by two at the same time */
	OTHER_THREAD = 8, /* an index is not always the same thread */
};

/* Which thread an index is; for the life of a team, each entry written under its own index. */
struct owners {
	pthread_t thread[MAX_THREADS];
	bool known[MAX_THREADS];
};

struct job {
	struct team *team;
	atomic_uint next; /* the counter that items are taken from */
	unsigned int n_item;
	unsigned int done[MAX_ITEMS]; /* how often each was done */
	int n_threads;
	struct owners *owners;
	atomic_int busy[MAX_THREADS];
	atomic_int wrong;
	unsigned int work; /* steps that an item takes */
	int company; /* workers that the caller waits for before it begins, if they come soon */
	atomic_int joined;
};

#define COMPANY_NS 20000000ull

static int check_owner(struct owners *o, int i)
{
	if (!o->known[i]) {
		o->known[i] = true;
		o->thread[i] = pthread_self();
	}
	return pthread_equal(o->thread[i], pthread_self()) ? 0 : OTHER_THREAD;
}

/*
 * A job of microseconds is mostly over before a worker wakes up. Where the caller waits for
 * some to come first, joining, working together and closing really happen.
 */
static void wait_for_company(struct job *job)
{
	uint64_t deadline = now_ns() + COMPANY_NS;

	while (atomic_load_explicit(&job->joined, memory_order_relaxed) < job->company &&
	       now_ns() < deadline)
		sched_yield();
}

static void do_items(void *arg, int i, int n)
{
	struct job *job = arg;
	int wrong = n != job->n_threads ? BAD_COUNT : 0;
	unsigned int item;

	if (i < 0 || i >= job->n_threads) {
		atomic_fetch_or_explicit(&job->wrong, wrong | BAD_INDEX, memory_order_relaxed);
		return;
	}
	if (atomic_exchange_explicit(&job->busy[i], 1, memory_order_relaxed))
		wrong |= TWO_AT_ONCE;
	wrong |= check_owner(job->owners, i);
	if (i)
		atomic_fetch_add_explicit(&job->joined, 1, memory_order_relaxed);
	else if (job->company)
		wait_for_company(job);
	while ((item = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) <
	       job->n_item) {
		for (volatile unsigned int step = 0; step < job->work; step++)
			;
		job->done[item]++;
		/* as the steps of a job do: of whatever was asked for, or of nothing */
		job->team->fetch(job->team, i, item % 3 * 4096);
	}
	if (wrong)
		atomic_fetch_or_explicit(&job->wrong, wrong, memory_order_relaxed);
	atomic_store_explicit(&job->busy[i], 0, memory_order_relaxed);
}

/*
 * One run of @n_item items. The job is overwritten and freed as soon as run() returns, as the
 * next frame of a caller's stack would do: whoever still looks at it is caught.
 */
static void run_items(struct team *team, struct owners *owners, unsigned int n_item,
		      unsigned int work, int company)
{
	struct job *job = calloc(1, sizeof(*job)), seen;

	assert_non_null(job);
	job->n_item = n_item;
	job->team = team;
	job->n_threads = team->n_threads;
	job->owners = owners;
	job->work = work;
	job->company = company;
	team->run(team, do_items, job);
	memcpy(&seen, job, sizeof(seen));
	memset(job, 0xa5, sizeof(*job));
	free(job);
	assert_int_equal(seen.wrong, 0);
	for (unsigned int k = 0; k < MAX_ITEMS; k++)
		if (seen.done[k] != (k < n_item))
			fail_msg("item %u of %u was done %u times", k, n_item, seen.done[k]);
	for (int i = 0; i < MAX_THREADS; i++)
		assert_int_equal(seen.busy[i], 0);
}

static void test_every_item_is_done_once(void **state)
{
	static const int sizes[] = {1, 2, 3, 8, MAX_THREADS};
	static const unsigned int items[] = {0, 1, 2, 7, MAX_ITEMS};

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct team *team = open_team(sizes[s]);
		struct owners owners = {0};

		for (unsigned int run = 0; run < 5000; run++) {
			int company = run % 10 ? 0 : (int)(run / 10) % sizes[s];

			run_items(team, &owners, items[run % 7 % ARRAY_SIZE(items)], run % 64,
				  company);
		}
		assert_true(owners.known[0]);
		assert_true(pthread_equal(owners.thread[0], pthread_self()));
		team_close(team);
	}
}

/*
 * Whatever is asked for between jobs, mapped or not, neither faults, nor keeps a thread that waits,
 * nor one that fetches some of it with each item of a job (do_items()).
 */
static void test_bytes_are_brought_beside_jobs(void **state)
{
	const size_t bytes = 1u << 20;
	char *mapped = malloc(bytes);
	const struct {
		const void *p;
		size_t bytes;
	} ask[] = {{mapped, bytes}, {NULL, 0}, {(void *)0x1000, bytes}, {mapped, 1}};
	struct team *team = open_team(3);
	struct owners owners = {0};

	assert_non_null(mapped);
	memset(mapped, 1, bytes);
	for (unsigned int run = 0; run < 2000; run++) {
		for (int i = 0; i < 3; i++)
			team->bring(team, i, ask[run % 4].p, ask[run % 4].bytes);
		run_items(team, &owners, run % 5, run % 64, 0);
	}
	team_close(team);
	free(mapped);
}

/* A child that only burns a core, gone with this program at the latest. */
static pid_t start_burner(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	errno = 0;
	if (nice(5) == -1 && errno)
		_exit(1);
	for (;;)
		;
}

/* More threads than cores, and the cores are wanted by others. */
static void test_every_item_is_done_once_on_a_busy_machine(void **state)
{
	pid_t burner[8];
	struct team *team;
	struct owners owners = {0};

	for (size_t i = 0; i < ARRAY_SIZE(burner); i++)
		burner[i] = start_burner();
	team = open_team(MAX_THREADS);
	for (unsigned int run = 0; run < 3000; run++)
		run_items(team, &owners, MAX_ITEMS, 500, run % 8 ? 0 : 2);
	team_close(team);
	for (size_t i = 0; i < ARRAY_SIZE(burner); i++) {
		assert_int_equal(kill(burner[i], SIGKILL), 0);
		assert_int_equal(waitpid(burner[i], NULL, 0), burner[i]);
	}
}

/* ---- roll-calls ---- */

struct roll {
	atomic_int here;
	bool present[MAX_THREADS];
	pthread_t thread[MAX_THREADS];
	uint64_t deadline;
};

static void answer(void *arg, int i, int n)
{
	struct roll *r = arg;

	if (!r->present[i]) {
		r->present[i] = true;
		r->thread[i] = pthread_self();
		atomic_fetch_add_explicit(&r->here, 1, memory_order_relaxed);
	}
	while (atomic_load_explicit(&r->here, memory_order_relaxed) < n && now_ns() < r->deadline)
		nap(1);
}

/* Everybody takes part in a job that lasts. */
static void call_roll(struct team *team, struct roll *r)
{
	memset(r, 0, sizeof(*r));
	r->deadline = now_ns() + ROLL_NS;
	team->run(team, answer, r);
	assert_int_equal(r->here, team->n_threads);
	for (int i = 0; i < team->n_threads; i++) {
		assert_true(r->present[i]);
		for (int j = 0; j < i; j++)
			assert_false(pthread_equal(r->thread[i], r->thread[j]));
	}
	assert_true(pthread_equal(r->thread[0], pthread_self()));
}

static void test_all_threads_take_part_in_a_long_job(void **state)
{
	static const int sizes[] = {2, 3, 8, MAX_THREADS};

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct team *team = open_team(sizes[s]);
		struct roll roll;

		for (int i = 0; i < 20; i++)
			call_roll(team, &roll);
		team_close(team);
	}
}

static void test_sleeping_threads_wake_up(void **state)
{
	struct team *team = open_team(4);
	struct roll roll;

	for (int i = 0; i < 20; i++) {
		nap(5); /* far longer than they spin */
		call_roll(team, &roll);
	}
	team_close(team);
}

/* ---- who is waited for, and who is not ---- */

struct slow {
	atomic_int inside; /* workers that have begun */
	uint64_t deadline;
	int ms;
	unsigned int finished[MAX_THREADS]; /* plain: complete only if run() has waited */
};

/* The caller is done as soon as a worker is inside; workers take their time. */
static void be_slow(void *arg, int i, int n)
{
	struct slow *s = arg;

	if (i == 0) {
		while (!atomic_load_explicit(&s->inside, memory_order_relaxed) &&
		       now_ns() < s->deadline)
			nap(1);
		return;
	}
	atomic_fetch_add_explicit(&s->inside, 1, memory_order_relaxed);
	nap(s->ms);
	s->finished[i]++;
}

static unsigned int run_slow(struct team *team, int ms)
{
	struct slow *s = calloc(1, sizeof(*s));
	unsigned int finished = 0, inside;

	assert_non_null(s);
	s->ms = ms;
	s->deadline = now_ns() + ROLL_NS;
	team->run(team, be_slow, s);
	for (int i = 0; i < MAX_THREADS; i++)
		finished += s->finished[i];
	inside = (unsigned int)s->inside;
	free(s);
	assert_true(inside > 0);
	assert_int_equal(finished, inside);
	return finished;
}

static void test_a_thread_that_is_inside_is_waited_for(void **state)
{
	struct team *team = open_team(4);

	for (int i = 0; i < 30; i++)
		run_slow(team, i % 3 ? 2 : 0);
	team_close(team);
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void test_waiting_for_a_slow_thread_burns_no_core(void **state)
{
	struct team *team = open_team(4);
	double before = cpu_seconds();

	run_slow(team, 500);
	assert_true(cpu_seconds() - before < 0.1);
	team_close(team);
}

static void test_idle_threads_burn_no_core(void **state)
{
	struct team *team = open_team(4);
	struct roll roll;
	double before;

	call_roll(team, &roll);
	nap(100); /* spinning is over, whatever the machine is doing */
	before = cpu_seconds();
	nap(400);
	assert_true(cpu_seconds() - before < 0.05);
	team_close(team);
}

/*
 * Late threads, made so: a signal handler keeps a thread that waits for work from seeing any, for
 * as long as the test likes. No time is measured: a run that waits for such a thread never ends.
 */
static atomic_bool holding;
static atomic_int n_held;

static void hold_thread(int sig)
{
	int saved = errno;

	atomic_fetch_add(&n_held, 1);
	while (atomic_load(&holding))
		nap(1);
	atomic_fetch_sub(&n_held, 1);
	errno = saved;
}

/* Holds threads @first .. of the team. */
static void hold(const struct roll *roll, const struct team *team, int first)
{
	struct sigaction act = {.sa_handler = hold_thread};

	assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0);
	atomic_store(&holding, true);
	for (int i = first; i < team->n_threads; i++)
		assert_int_equal(pthread_kill(roll->thread[i], SIGUSR1), 0);
	while (atomic_load(&n_held) < team->n_threads - first)
		nap(1);
}

static void let_go(void)
{
	atomic_store(&holding, false);
	while (atomic_load(&n_held))
		nap(1);
	signal(SIGUSR1, SIG_DFL);
}

static void test_late_threads_are_not_waited_for(void **state)
{
	static const int first_late[] = {1, 2, MAX_THREADS - 1};
	struct team *team = open_team(MAX_THREADS);

	for (size_t k = 0; k < ARRAY_SIZE(first_late); k++) {
		struct owners owners = {0};
		struct roll roll;

		call_roll(team, &roll);
		hold(&roll, team, first_late[k]);
		for (unsigned int run = 0; run < 2000; run++)
			run_items(team, &owners, run % MAX_ITEMS, 10, 0);
		for (int i = first_late[k]; i < MAX_THREADS; i++)
			assert_false(owners.known[i]);
		let_go();
		call_roll(team, &roll); /* and they are back */
	}
	team_close(team);
}

/* ---- several teams ---- */

static void *use_team(void *arg)
{
	struct team *team = arg;
	struct owners owners = {0};

	for (unsigned int run = 0; run < 1000; run++)
		run_items(team, &owners, MAX_ITEMS, 20, run % 10 == 0);
	return NULL;
}

/* Two models in one program; and the thread that works with one need not be that which opened it.
 */
static void test_teams_do_not_disturb_each_other(void **state)
{
	struct team *team[2] = {open_team(3), open_team(2)};
	pthread_t user;

	assert_int_equal(pthread_create(&user, NULL, use_team, team[0]), 0);
	use_team(team[1]);
	pthread_join(user, NULL);
	use_team(team[0]);
	for (int i = 0; i < 2; i++)
		team_close(team[i]);
}

/* ---- open and close ---- */

static void test_impossible_numbers_are_refused(void **state)
{
	static const int bad[] = {0, -1, 1025, INT32_MAX, INT32_MIN};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct team *t = NULL;
		struct err err = {""};
		char number[16];

		assert_int_equal(team_open(bad[i], &t, &err), -EINVAL);
		assert_null(t);
		snprintf(number, sizeof(number), "%d threads", bad[i]);
		assert_non_null(strstr(err.text, number));
		assert_non_null(strstr(err.text, "1 to 1024"));
	}
}

static int n_tasks(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Right after open, right after a run, while they sleep: close is always clean. */
static void test_close_leaves_no_thread(void **state)
{
	int before = n_tasks();

	for (int i = 0; i < 200; i++) {
		struct team *team = open_team(1 + i % 9);
		struct owners owners = {0};

		if (i % 4 > 0)
			run_items(team, &owners, MAX_ITEMS, 10, i % 9 > 0);
		if (i % 4 == 2)
			nap(1);
		if (i % 4 == 3)
			run_items(team, &owners, 0, 0, 0);
		team_close(team);
	}
	team_close(NULL);
	/* a joined thread may still be on its way out of /proc */
	for (int i = 0; i < 100 && n_tasks() > before; i++)
		nap(10);
	assert_true(n_tasks() <= before);
}

enum { REFUSED = 10, NOT_LIMITED, WRONG };

/* In a child that may have no more threads: what team_open() says. */
static int open_beyond_the_limit(void)
{
	struct rlimit none = {1, 1};
	struct team *t = NULL;
	struct err err = {""};
	int r;

	if (setrlimit(RLIMIT_NPROC, &none) || (!geteuid() && setuid(65534)))
		return NOT_LIMITED;
	r = team_open(8, &t, &err);
	if (r == 0)
		return NOT_LIMITED;
	return r == -EAGAIN && !t && strstr(err.text, "-t") ? REFUSED : WRONG;
}

static void test_a_thread_that_cannot_start_is_an_error(void **state)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child)
		_exit(open_beyond_the_limit());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NOT_LIMITED) {
		print_message("the number of threads cannot be limited here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), REFUSED);
}

static void test_physical_cores_is_what_this_process_may_use(void **state)
{
	cpu_set_t all, one;
	int n, first = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	n = physical_cores();
	assert_in_range(n, 1, CPU_COUNT(&all));
	while (!CPU_ISSET(first, &all))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	n = physical_cores();
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_item_is_done_once),
		cmocka_unit_test(test_bytes_are_brought_beside_jobs),
		cmocka_unit_test(test_every_item_is_done_once_on_a_busy_machine),
		cmocka_unit_test(test_all_threads_take_part_in_a_long_job),
		cmocka_unit_test(test_sleeping_threads_wake_up),
		cmocka_unit_test(test_a_thread_that_is_inside_is_waited_for),
		cmocka_unit_test(test_waiting_for_a_slow_thread_burns_no_core),
		cmocka_unit_test(test_idle_threads_burn_no_core),
		cmocka_unit_test(test_late_threads_are_not_waited_for),
		cmocka_unit_test(test_teams_do_not_disturb_each_other),
		cmocka_unit_test(test_impossible_numbers_are_refused),
		cmocka_unit_test(test_close_leaves_no_thread),
		cmocka_unit_test(test_a_thread_that_cannot_start_is_an_error),
		cmocka_unit_test(test_physical_cores_is_what_this_process_may_use),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
