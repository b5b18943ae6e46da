// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * When there is not enough for all: of the drive, among sessions and among reads of one session; of
 * memory, for the system. Who gives way, how much, and that all bytes come out right all the same.
 */
#include "weir_test.h"

#include <pthread.h>
#include <stdatomic.h>

static const uint64_t len = 256 << 10, bytes = 16 * MIB;
static const uint64_t seed = 5;
static int file = -1;

/* ---- helpers ---- */

/* The first @n_soft extents are soft, then @n_demand are read on demand, the rest streams. */
static bool open_with(struct session *s, uint32_t n_soft, uint32_t n_demand, uint32_t n_slot,
		      uint64_t extent, uint32_t depth, uint32_t flags)
{
	struct weir_commit *c = &s->commit;

	*s = (struct session){.fd = open(DEVICE, O_RDWR | O_CLOEXEC)};
	if (s->fd < 0 || weir_attach(s->fd, file, 0) < 0)
		return false;
	for (uint64_t off = 0; off < bytes; off += extent) {
		uint32_t kind = s->n < n_soft		   ? WEIR_EXTENT_SOFT
				: s->n < n_soft + n_demand ? WEIR_EXTENT_ON_DEMAND
							   : WEIR_EXTENT_STREAM;

		s->x[s->n++] = (struct weir_extent){.kind = kind, .offset = off, .length = extent};
	}
	*c = (struct weir_commit){
		.size = sizeof(*c),
		.flags = flags,
		.budget = (n_soft + n_slot) * extent,
		.depth = depth,
	};
	return !weir_declare(s->fd, s->x, s->n) && !ioctl(s->fd, WEIR_IOC_COMMIT, c) &&
	       session_map(s);
}

static bool open_mixed(struct session *s, uint32_t n_soft, uint32_t n_demand, uint32_t n_slot,
		       uint64_t extent, uint32_t depth)
{
	return open_with(s, n_soft, n_demand, n_slot, extent, depth, 0);
}

static bool right(struct session *s, uint32_t e, const uint8_t *p)
{
	uint64_t wrong;

	if (!p)
		return false;
	wrong = first_wrong(p, seed, s->x[e].offset, s->x[e].length);
	if (wrong != s->x[e].length)
		printf("# extent %u differs at %llu\n", e, (unsigned long long)wrong);
	return wrong == s->x[e].length;
}

static bool pass(struct session *s)
{
	uint64_t calls = 0;

	for (uint32_t e = 0; e < s->n; e++) {
		if (!right(s, e, session_acquire(s, e, &calls)))
			return false;
		session_release(s, e, &calls);
	}
	return true;
}

static bool is_ready(struct session *s, uint32_t e)
{
	return (__atomic_load_n(&s->state[e], __ATOMIC_ACQUIRE) & WEIR_STATE_MASK) ==
	       WEIR_STATE_READY;
}

static bool becomes_ready(struct session *s, uint32_t e)
{
	for (int i = 0; i < 1000 && !is_ready(s, e); i++)
		usleep(10000);
	return is_ready(s, e);
}

static int hint(struct session *s, const uint32_t *e, uint32_t n, uint32_t priority)
{
	struct weir_hint h = {
		.size = sizeof(h), .count = n, .priority = priority, .extents = (uintptr_t)e};

	return ioctl(s->fd, WEIR_IOC_HINT, &h);
}

static int set_priority(struct session *s, uint32_t priority)
{
	struct weir_set_priority p = {.size = sizeof(p), .priority = priority};

	return ioctl(s->fd, WEIR_IOC_PRIORITY, &p);
}

/* Asks everybody for memory that can be spared; 4: from now on without a line in the log. */
static bool drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	bool ok = fd >= 0 && write(fd, "4", 1) == 1 && pwrite(fd, "2", 1, 0) == 1;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* ---- foreground and background ---- */

struct consumer {
	struct session s;
	pthread_t thread;
	atomic_bool stop, failed;
};

static void *consume(void *arg)
{
	struct consumer *c = arg;
	uint64_t calls = 0;

	for (uint32_t e = 0; !c->stop; e = (e + 1) % c->s.n) {
		if (!session_acquire(&c->s, e, &calls)) {
			c->failed = true;
			break;
		}
		session_release(&c->s, e, &calls);
	}
	return NULL;
}

/* How much both read in a while of one and a half seconds. */
static void measure(struct consumer c[2], uint64_t read[2])
{
	struct weir_stats st;
	uint64_t before[2];

	for (int i = 0; i < 2; i++) {
		EXPECT(weir_get_stats(c[i].s.fd, &st) == 0);
		before[i] = st.read_bytes;
	}
	usleep(1500000);
	for (int i = 0; i < 2; i++) {
		EXPECT(weir_get_stats(c[i].s.fd, &st) == 0);
		read[i] = st.read_bytes - before[i];
	}
	printf("# read: %llu and %llu MiB\n", (unsigned long long)(read[0] / MIB),
	       (unsigned long long)(read[1] / MIB));
}

static void background_yields_and_does_not_starve(void)
{
	static struct consumer c[2];
	uint64_t equal[2], unequal[2], alone[2];

	for (int i = 0; i < 2; i++) {
		c[i] = (struct consumer){0};
		ASSERT(open_mixed(&c[i].s, 0, 0, 8, len, 6));
		ASSERT(pthread_create(&c[i].thread, NULL, consume, &c[i]) == 0);
	}
	measure(c, equal);
	EXPECT(set_priority(&c[1].s, WEIR_BACKGROUND) == 0);
	measure(c, unequal);
	/*
	 * Shares of what is read at the same time: a busy machine is not equally fast all the
	 * time. (Floating point: on a fast one the products do not fit in 64 bits.)
	 */
	EXPECT((double)unequal[1] / (double)(unequal[0] + unequal[1]) <
	       (double)equal[1] / (double)(equal[0] + equal[1]));
	EXPECT(2 * unequal[0] > 3 * unequal[1]);
	EXPECT(unequal[1] > 0);
	/* Nobody is there to yield to. */
	c[0].stop = true;
	pthread_join(c[0].thread, NULL);
	measure(c, alone);
	/* But for what its ring still had to fill when it stopped. */
	EXPECT(alone[0] <= 8 * len && alone[1] > unequal[1]);
	c[1].stop = true;
	pthread_join(c[1].thread, NULL);
	EXPECT(!c[0].failed && !c[1].failed);
	session_close(&c[0].s);
	session_close(&c[1].s);
}

static void background_becomes_foreground(void)
{
	static struct consumer c[2];
	uint64_t unequal[2], swapped[2];

	for (int i = 0; i < 2; i++) {
		c[i] = (struct consumer){0};
		ASSERT(open_mixed(&c[i].s, 0, 0, 8, len, 6));
		EXPECT(set_priority(&c[i].s, i ? WEIR_BACKGROUND : WEIR_FOREGROUND) == 0);
		ASSERT(pthread_create(&c[i].thread, NULL, consume, &c[i]) == 0);
	}
	measure(c, unequal);
	EXPECT(set_priority(&c[1].s, WEIR_FOREGROUND) == 0);
	EXPECT(set_priority(&c[0].s, WEIR_BACKGROUND) == 0);
	measure(c, swapped);
	EXPECT(2 * unequal[0] > 3 * unequal[1]);
	EXPECT(2 * swapped[1] > 3 * swapped[0]);
	for (int i = 0; i < 2; i++) {
		c[i].stop = true;
		pthread_join(c[i].thread, NULL);
		EXPECT(!c[i].failed);
		session_close(&c[i].s);
	}
}

/* ---- soft pins ---- */

static void soft_extents_are_read_once_and_claimed_as_others(void)
{
	struct weir_stats st;
	struct session s;
	uint64_t off, before;

	ASSERT(open_mixed(&s, 16, 0, 4, len, 0));
	for (uint32_t e = 0; e < 16; e++)
		ASSERT(becomes_ready(&s, e));
	EXPECT(pass(&s) && pass(&s) && pass(&s));
	do {
		ASSERT(weir_get_stats(s.fd, &st) == 0);
		before = st.read_bytes;
		usleep(50000 * patience());
		ASSERT(weir_get_stats(s.fd, &st) == 0);
	} while (before != st.read_bytes);
	EXPECT_EQ(st.read_bytes, 16 * len + 3 * (s.n - 16) * len + 4 * len);
	/* By ioctl too: acquired as often as released, and no oftener released. */
	EXPECT(weir_acquire1(s.fd, 3, &off) == 0 && right(&s, 3, s.pool + off));
	EXPECT(weir_release1(s.fd, 3) == 0);
	EXPECT_ERR(weir_release1(s.fd, 3), EINVAL);
	EXPECT_EQ(st.demoted, 0);
	EXPECT_EQ(st.pinned_bytes, (16 + 4) * len);
	session_close(&s);
}

static void under_pressure_soft_extents_become_streams(void)
{
	uint64_t before = pinned_now(), off;
	struct weir_stats st;
	struct session s;

	ASSERT(open_mixed(&s, 32, 0, 4, len, 0));
	for (uint32_t e = 0; e < 32; e++)
		ASSERT(becomes_ready(&s, e));
	EXPECT(pass(&s));
	/* What is acquired stays where it is. */
	ASSERT(weir_acquire1(s.fd, 5, &off) == 0);
	EXPECT(s.control->demoted == 0);
	ASSERT(drop_caches());
	EXPECT(right(&s, 5, s.pool + off));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	printf("# %llu demoted, %llu slots given back\n", (unsigned long long)st.demoted,
	       (unsigned long long)st.given_back);
	EXPECT_EQ(st.demoted, 31);
	EXPECT_EQ(s.control->demoted, 31);
	EXPECT_EQ(pinned_now() - before, st.pinned_bytes);
	EXPECT(st.pinned_bytes <= (1 + 4) * len);
	for (int i = 0; i < 3; i++)
		EXPECT(pass(&s));
	EXPECT(right(&s, 5, s.pool + off));
	EXPECT(weir_release1(s.fd, 5) == 0);
	ASSERT(drop_caches());
	EXPECT_EQ(s.control->demoted, 32);
	for (int i = 0; i < 3; i++)
		EXPECT(pass(&s));
	session_close(&s);
	EXPECT(pinned_becomes(before));
}

/* ---- slots of the ring ---- */

static void slots_are_given_back_and_taken_again(void)
{
	uint64_t before = pinned_now(), calls = 0;
	struct weir_stats st;
	struct session s;
	double end;

	ASSERT(open_mixed(&s, 0, 0, 32, len, 0));
	EXPECT(pass(&s));
	ASSERT(drop_caches());
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	printf("# %llu slots given back\n", (unsigned long long)st.given_back);
	EXPECT(st.given_back >= 16);
	EXPECT(st.pinned_bytes < 16 * len);
	EXPECT_EQ(pinned_now() - before, st.pinned_bytes);
	EXPECT(pass(&s));
	/* By and by, when memory has not been short for a while. */
	end = seconds() + 15;
	while (st.pinned_bytes < 32 * len && seconds() < end) {
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(session_acquire(&s, e, &calls));
			session_release(&s, e, &calls);
		}
		ASSERT(weir_get_stats(s.fd, &st) == 0);
	}
	EXPECT_EQ(st.pinned_bytes, 32 * len);
	EXPECT_EQ(pinned_now() - before, 32 * len);
	EXPECT(pass(&s) && pass(&s));
	session_close(&s);
	EXPECT(pinned_becomes(before));
}

static void what_is_held_is_not_given_back(void)
{
	uint64_t off[6], before = pinned_now();
	struct weir_stats st;
	struct session s;

	ASSERT(open_mixed(&s, 0, 0, 16, len, 0));
	for (uint32_t e = 0; e < 6; e++)
		ASSERT(weir_acquire1(s.fd, e, &off[e]) == 0);
	for (int i = 0; i < 3; i++)
		ASSERT(drop_caches());
	for (uint32_t e = 0; e < 6; e++)
		EXPECT(right(&s, e, s.pool + off[e]));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT(st.given_back > 0);
	EXPECT(st.pinned_bytes >= 7 * len);
	/* Whoever needs six at once can go on so. */
	for (uint32_t e = 0; e < 6; e++)
		EXPECT(weir_release1(s.fd, e) == 0);
	for (uint32_t e = 6; e + 6 <= s.n; e += 6) {
		uint32_t list[6] = {e, e + 1, e + 2, e + 3, e + 4, e + 5};

		ASSERT(weir_acquire_many(s.fd, list, 6, 10000000000ll, off, 0) == 0);
		for (int i = 0; i < 6; i++) {
			EXPECT(right(&s, list[i], s.pool + off[i]));
			EXPECT(weir_release1(s.fd, list[i]) == 0);
		}
	}
	session_close(&s);
	EXPECT(pinned_becomes(before));
}

static void more_than_ever_before_can_be_held_after_pressure(void)
{
	uint32_t list[12];
	uint64_t off[12];
	struct session s;

	/* One at a time so far: most slots go. Then twelve at once, of a ring of sixteen. */
	ASSERT(open_mixed(&s, 0, 0, 16, len, 0));
	EXPECT(pass(&s));
	ASSERT(drop_caches());
	for (uint32_t i = 0; i < 12; i++)
		list[i] = i;
	EXPECT(weir_acquire_many(s.fd, list, 12, 20000000000ll, off, 0) == 0);
	if (!test_failed)
		for (uint32_t i = 0; i < 12; i++)
			EXPECT(right(&s, i, s.pool + off[i]));
	session_close(&s);
}

static atomic_bool stop;

static void *thread_presses(void *arg)
{
	(void)arg;
	while (!stop) {
		if (!drop_caches())
			return (void *)1;
		usleep(3000);
	}
	return NULL;
}

static void bytes_are_right_while_memory_comes_and_goes(void)
{
	uint64_t before = pinned_now();
	struct session s, all;
	double end = seconds() + 6;
	struct weir_stats st;
	void *result;
	pthread_t t;

	ASSERT(open_mixed(&s, 12, 0, 10, len, 0));
	ASSERT(open_mixed(&all, 0, 0, 40, len, 0));
	EXPECT(set_priority(&all, WEIR_BACKGROUND) == 0);
	stop = false;
	ASSERT(pthread_create(&t, NULL, thread_presses, NULL) == 0);
	while (seconds() < end && !test_failed) {
		EXPECT(pass(&s));
		EXPECT(pass(&all));
	}
	stop = true;
	pthread_join(t, &result);
	EXPECT(result == NULL);
	EXPECT(weir_get_stats(all.fd, &st) == 0 && st.given_back > 0);
	session_close(&s);
	session_close(&all);
	EXPECT(pinned_becomes(before));
}

/* Memory that is really short: somebody takes all there is. */
static long long meminfo(const char *key)
{
	char line[128];
	long long n = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = strtoll(line + strlen(key), NULL, 10) << 10;
	if (f)
		fclose(f);
	return n;
}

static _Noreturn void take_all_memory(void)
{
	uint64_t n = (uint64_t)meminfo("MemTotal:"), step = MIB / 2;
	uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	for (uint64_t at = 0; p != MAP_FAILED && at + step < n; at += step) {
		memset(p + at, 1, step);
		/* At the edge slowly, so that whoever watches can end it in time. */
		if (meminfo("MemFree:") < 24 * (long long)MIB)
			usleep(20000);
	}
	pause();
	_exit(1);
}

static void a_system_short_of_memory_gets_some_back(void)
{
	struct weir_stats st = {0};
	struct session s;
	double end = seconds() + 25 * patience();
	pid_t pid;

	ASSERT(open_mixed(&s, 40, 0, 20, len, 0));
	EXPECT(pass(&s));
	fflush(stdout);
	pid = fork();
	if (!pid)
		take_all_memory();
	while (!st.demoted && !st.given_back && seconds() < end &&
	       meminfo("MemFree:") + meminfo("Cached:") > 6 * (long long)MIB) {
		usleep(2000);
		if (weir_get_stats(s.fd, &st))
			break;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* What is given back is counted when it is taken from the ring, and paid for until freed.
	 */
	for (int i = 0; i < 100 && st.pinned_bytes >= 60 * len; i++) {
		usleep(20000);
		EXPECT(weir_get_stats(s.fd, &st) == 0);
	}
	printf("# %llu demoted, %llu slots given back\n", (unsigned long long)st.demoted,
	       (unsigned long long)st.given_back);
	EXPECT(st.demoted + st.given_back > 0);
	EXPECT(st.pinned_bytes < 60 * len);
	EXPECT(pass(&s) && pass(&s));
	session_close(&s);
}

/* ---- hints ---- */

static void a_hint_makes_resident(void)
{
	uint32_t wanted[3] = {7, 2, 5}, other = 9;
	struct weir_stats st;
	struct session s;

	/* All of it is read on demand: nothing is read unless somebody says so. */
	ASSERT(open_mixed(&s, 0, bytes / len, 6, len, 0));
	usleep(100000);
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.read_bytes, 0);
	EXPECT(hint(&s, wanted, 3, 1) == 0);
	for (int i = 0; i < 3; i++)
		EXPECT(becomes_ready(&s, wanted[i]));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.read_bytes, 3 * len);
	/* Resident, so that acquiring waits for nothing and reads nothing. */
	for (int i = 0; i < 3; i++) {
		uint64_t off;

		EXPECT(weir_acquire_many(s.fd, &wanted[i], 1, 0, &off, 0) == 0);
		EXPECT(right(&s, wanted[i], s.pool + off));
		EXPECT(weir_release1(s.fd, wanted[i]) == 0);
	}
	EXPECT_ERR(weir_acquire_many(s.fd, &other, 1, 0, NULL, 0), EAGAIN);
	session_close(&s);
}

static const uint32_t urgent = 14;

static void *acquires_urgent(void *arg)
{
	struct session *s = arg;

	return weir_acquire1(s->fd, urgent, NULL) ? arg : NULL;
}

/* All slots are claimed while eight extents are hinted at, then a more urgent one is asked for. */
static void the_first_slot_goes_to_the_urgent(bool demand)
{
	uint32_t low[8] = {0, 1, 2, 3, 4, 5, 6, 7};
	pthread_t thread;
	uint64_t calls = 0;
	struct session s;
	void *failed = NULL;

	ASSERT(open_mixed(&s, 0, bytes / len, 4, len, 1));
	for (uint32_t e = 20; e < 24; e++)
		ASSERT(session_acquire(&s, e, &calls));
	ASSERT(hint(&s, low, 8, 0) == 0);
	if (demand) {
		ASSERT(pthread_create(&thread, NULL, acquires_urgent, &s) == 0);
		usleep(200000);
	} else {
		ASSERT(hint(&s, &urgent, 1, 3) == 0);
	}
	session_release(&s, 20, &calls);
	EXPECT(becomes_ready(&s, urgent));
	for (uint32_t i = 0; i < 8; i++)
		EXPECT(!is_ready(&s, low[i]));
	/* And the others after it, as slots are released. */
	session_release(&s, 21, &calls);
	EXPECT(becomes_ready(&s, low[0]));
	if (demand)
		pthread_join(thread, &failed);
	EXPECT(!failed);
	session_close(&s);
}

static void higher_hints_are_read_first(void)
{
	the_first_slot_goes_to_the_urgent(false);
}

static void a_demand_goes_before_hints(void)
{
	the_first_slot_goes_to_the_urgent(true);
}

static void a_hint_takes_nothing_that_is_still_to_come(void)
{
	const uint32_t wanted = 3;
	struct weir_stats st;
	struct session s;

	/* 0 to 7 on demand, the rest streams through four slots: 8 to 11 are read ahead. */
	ASSERT(open_mixed(&s, 0, 8, 4, len, 0));
	for (uint32_t e = 8; e < 12; e++)
		ASSERT(becomes_ready(&s, e));
	ASSERT(hint(&s, &wanted, 1, 3) == 0);
	usleep(100000);
	EXPECT(!is_ready(&s, wanted));
	for (uint32_t e = 8; e < 12; e++)
		EXPECT(is_ready(&s, e));
	/* The first slot that is done with goes to the hint, not to the schedule. */
	ASSERT(weir_acquire1(s.fd, 8, NULL) == 0);
	ASSERT(weir_release1(s.fd, 8) == 0);
	EXPECT(becomes_ready(&s, wanted));
	for (uint32_t e = 9; e < 12; e++)
		EXPECT(is_ready(&s, e));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.evicted, 0);
	EXPECT_EQ(st.read_bytes, 5 * len);
	session_close(&s);
}

static void a_hint_is_read_when_a_claim_ends(void)
{
	const uint32_t wanted = 7;
	uint64_t calls = 0;
	struct session s;

	/* Nothing streams: nothing but the hint waits for a slot. */
	ASSERT(open_mixed(&s, 0, bytes / len, 4, len, 0));
	for (uint32_t e = 0; e < 4; e++)
		ASSERT(session_acquire(&s, e, &calls));
	ASSERT(hint(&s, &wanted, 1, 0) == 0);
	usleep(300000); /* long enough for the module to stop looking */
	EXPECT(!is_ready(&s, wanted));
	session_release(&s, 2, &calls);
	EXPECT(becomes_ready(&s, wanted));
	session_close(&s);
}

static void a_registered_pool_stays_what_it_is_made_of(void)
{
	struct weir_stats st;
	struct session s;

	ASSERT(open_with(&s, 4, 0, 8, len, 0, WEIR_COMMIT_REGISTERED));
	ASSERT(pass(&s));
	ASSERT(drop_caches());
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.given_back, 0);
	EXPECT_EQ(st.demoted, 0);
	EXPECT(pass(&s));
	session_close(&s);
}

static const struct test tests[] = {
	{"background_yields_and_does_not_starve", background_yields_and_does_not_starve},
	{"background_becomes_foreground", background_becomes_foreground},
	{"soft_extents_are_read_once_and_claimed_as_others",
	 soft_extents_are_read_once_and_claimed_as_others},
	{"under_pressure_soft_extents_become_streams", under_pressure_soft_extents_become_streams},
	{"slots_are_given_back_and_taken_again", slots_are_given_back_and_taken_again},
	{"what_is_held_is_not_given_back", what_is_held_is_not_given_back},
	{"more_than_ever_before_can_be_held_after_pressure",
	 more_than_ever_before_can_be_held_after_pressure},
	{"bytes_are_right_while_memory_comes_and_goes",
	 bytes_are_right_while_memory_comes_and_goes},
	{"a_system_short_of_memory_gets_some_back", a_system_short_of_memory_gets_some_back},
	{"a_hint_makes_resident", a_hint_makes_resident},
	{"higher_hints_are_read_first", higher_hints_are_read_first},
	{"a_demand_goes_before_hints", a_demand_goes_before_hints},
	{"a_hint_takes_nothing_that_is_still_to_come", a_hint_takes_nothing_that_is_still_to_come},
	{"a_hint_is_read_when_a_claim_ends", a_hint_is_read_when_a_claim_ends},
	{"a_registered_pool_stays_what_it_is_made_of", a_registered_pool_stays_what_it_is_made_of},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	file = make_file("pressure", seed, bytes);
	return file < 0 ? 1 : run_tests(tests, N(tests));
}
