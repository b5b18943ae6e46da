// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The life of a session: fork, exec, dup, descriptors passed on, mappings and descriptors that go
 * in every order, threads that do all of it at once, processes that are killed. Whatever happens,
 * who is left reads right bytes, and when all are gone so is all memory.
 *
 * With a second argument the program is a tool: for its own exec tests and for unload.sh.
 */
#include "weir_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

static const uint64_t len = 64 << 10, bytes = 4 * MIB;
static const uint64_t seed = 1;
static int file = -1;

/* ---- helpers ---- */

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

/* One extent, by ioctl: needs nothing but the pool and a descriptor. */
static bool use(struct session *s, int fd, uint32_t e)
{
	uint64_t off;
	bool ok;

	if (weir_acquire1(fd, e, &off)) {
		printf("# extent %u: %s\n", e, strerror(errno));
		return false;
	}
	ok = right(s, e, s->pool + off);
	return !weir_release1(fd, e) && ok;
}

static bool use_all(struct session *s)
{
	for (uint32_t e = 0; e < s->n; e++)
		if (!use(s, s->fd, e))
			return false;
	return true;
}

/* The exit status of a child that ends within ten seconds; or -1, and it is killed. */
static int status_of(pid_t pid)
{
	int status;

	for (int i = 0; i < 1000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		usleep(10000);
	}
	printf("# a child does not end\n");
	kill(pid, SIGKILL);
	return -1;
}

static pid_t fork_child(void)
{
	fflush(stdout);
	return fork();
}

static _Noreturn void child_ends(bool ok)
{
	fflush(stdout);
	_exit(ok ? 0 : 1);
}

/* ---- fork, exec, dup ---- */

static void a_child_goes_on_when_its_parent_has_closed(void)
{
	uint64_t before = pinned_now();
	struct session s;
	int go[2];
	pid_t pid;
	char c;

	ASSERT(session_open(&s, file, bytes, len, true, 4) && pipe(go) == 0);
	pid = fork_child();
	if (!pid) {
		close(go[1]);
		child_ends(read(go[0], &c, 1) == 0 && use_all(&s) && use_all(&s));
	}
	EXPECT(use_all(&s));
	session_close(&s);
	EXPECT(pinned_now() > before);
	close(go[1]);
	EXPECT_EQ(status_of(pid), 0);
	close(go[0]);
	EXPECT(pinned_becomes(before));
}

static void a_child_that_ends_takes_nothing_with_it(void)
{
	uint64_t before = pinned_now();
	struct session s;

	ASSERT(session_open(&s, file, bytes, len, true, 4));
	for (int i = 0; i < 10; i++) {
		pid_t pid = fork_child();

		if (!pid)
			child_ends(i % 2 ? use(&s, s.fd, (uint32_t)i) : true);
		EXPECT_EQ(status_of(pid), 0);
		EXPECT(use_all(&s));
	}
	session_close(&s);
	EXPECT(pinned_becomes(before));
}

static void parent_and_child_use_one_session_at_once(void)
{
	struct session s;
	pid_t pid;

	ASSERT(session_open(&s, file, bytes, len, true, 6));
	pid = fork_child();
	if (!pid)
		child_ends(use_all(&s) && use_all(&s) && use_all(&s));
	EXPECT(use_all(&s) && use_all(&s) && use_all(&s));
	EXPECT_EQ(status_of(pid), 0);
	session_close(&s);
}

/* What exec leaves is the descriptor: the new program maps the pool again. */
static int tool_use(int fd)
{
	struct session s = {.fd = fd};
	uint64_t off;

	for (uint32_t e = 0; e < bytes / len; e++) {
		s.x[s.n] = (struct weir_extent){.offset = e * len, .length = len};
		s.n++;
		if (weir_acquire1(fd, e, &off))
			return 1;
		s.pool = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)off);
		if (s.pool == MAP_FAILED || !right(&s, e, s.pool) || weir_release1(fd, e))
			return 1;
		munmap((void *)s.pool, len);
	}
	return 0;
}

static void a_descriptor_survives_exec(void)
{
	uint64_t before = pinned_now();
	struct session s;
	char number[16];
	pid_t pid;
	int fd;

	ASSERT(session_open(&s, file, bytes, len, true, 4));
	EXPECT(use(&s, s.fd, 5));
	fd = dup(s.fd); /* not close-on-exec */
	snprintf(number, sizeof(number), "%d", fd);
	pid = fork_child();
	if (!pid) {
		execl("/proc/self/exe", "weir_life", test_dir, "use", number, NULL);
		_exit(2);
	}
	close(fd);
	session_close(&s);
	EXPECT_EQ(status_of(pid), 0);
	EXPECT(pinned_becomes(before));
}

static void the_last_of_several_descriptors_counts(void)
{
	uint64_t before = pinned_now();
	struct session s;
	int d[3];

	ASSERT(session_open(&s, file, bytes, len, true, 4));
	for (int i = 0; i < 3; i++)
		d[i] = dup(s.fd);
	close(s.fd);
	s.fd = -1;
	EXPECT(use(&s, d[0], 3));
	close(d[1]);
	EXPECT(use(&s, d[2], 9));
	close(d[0]);
	EXPECT(use(&s, d[2], 11));
	session_close(&s);
	EXPECT(pinned_now() > before);
	close(d[2]);
	EXPECT(pinned_becomes(before));
}

static bool send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(socket, &m, 0) == 1;
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	return fd;
}

static void a_descriptor_passed_on_is_as_good(void)
{
	uint64_t before = pinned_now();
	struct session s;
	int pair[2];
	pid_t pid;

	ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	pid = fork_child();
	if (!pid)
		child_ends(tool_use(receive_fd(pair[1])) == 0);
	ASSERT(session_open(&s, file, bytes, len, true, 4));
	EXPECT(send_fd(pair[0], s.fd));
	session_close(&s);
	EXPECT_EQ(status_of(pid), 0);
	/* In flight in a socket that nobody reads: goes when the socket goes. */
	ASSERT(session_open(&s, file, bytes, len, true, 4));
	EXPECT(send_fd(pair[0], s.fd));
	session_close(&s);
	EXPECT(pinned_now() > before);
	close(pair[0]);
	close(pair[1]);
	EXPECT(pinned_becomes(before));
}

/* ---- mappings ---- */

/* One of four things goes; what is left works. */
static bool take_away(struct session *s, int what)
{
	switch (what) {
	case 0:
		munmap((void *)s->pool, s->commit.map_bytes);
		s->pool = NULL;
		break;
	case 1:
		munmap((void *)s->control, s->commit.control_bytes);
		s->control = NULL;
		break;
	case 2:
		munmap(s->claim, s->commit.claims_bytes);
		s->claim = NULL;
		break;
	case 3:
		close(s->fd);
		s->fd = -1;
		break;
	}
	/* Extent 0 is pinned: its place is known. */
	if (s->pool && !right(s, 0, s->pool))
		return false;
	if (s->control && s->control->n_extent != s->n)
		return false;
	if (s->claim && s->claim[0].acquired != s->claim[0].released)
		return false;
	return s->fd < 0 || !s->pool || use(s, s->fd, 1);
}

static void unmapped_and_closed_in_every_order(void)
{
	uint64_t before = pinned_now(), off;

	for (int i = 0; i < 256; i++) {
		int order[4] = {i & 3, i >> 2 & 3, i >> 4 & 3, i >> 6 & 3};
		uint32_t seen = 0;
		struct session s;

		for (int k = 0; k < 4; k++)
			seen |= 1u << order[k];
		if (seen != 15)
			continue;
		ASSERT(session_open(&s, file, bytes, len, true, 4));
		ASSERT(weir_acquire1(s.fd, 0, &off) == 0 && off == 0);
		for (int k = 0; k < 4; k++)
			EXPECT(take_away(&s, order[k]));
		session_close(&s);
		ASSERT(pinned_becomes(before));
	}
}

static void a_mapping_outlives_its_descriptor(void)
{
	uint64_t before = pinned_now(), off[16], calls = 0;
	struct session s;

	ASSERT(session_open(&s, file, bytes, len, false, 32));
	/* Not touched before the descriptor is closed: the faults come afterwards. */
	for (uint32_t e = 0; e < 16; e++)
		ASSERT(weir_acquire1(s.fd, e, &off[e]) == 0);
	close(s.fd);
	s.fd = -1;
	for (uint32_t e = 0; e < 16; e++)
		EXPECT(right(&s, e, s.pool + off[e]));
	/* And reading goes on, for whoever needs no system call. */
	for (uint32_t e = 16; e < 24; e++) {
		for (int i = 0; i < 500 && (s.state[e] & WEIR_STATE_MASK) != WEIR_STATE_READY; i++)
			usleep(10000);
		ASSERT((s.state[e] & WEIR_STATE_MASK) == WEIR_STATE_READY);
		EXPECT(right(&s, e, session_acquire(&s, e, &calls)));
	}
	EXPECT(pinned_now() > before);
	session_close(&s);
	EXPECT(pinned_becomes(before));
}

static void two_mappings_show_the_same(void)
{
	struct session s;
	const uint8_t *second;
	uint64_t off;

	ASSERT(session_open(&s, file, bytes, len, true, 4));
	second = mmap(NULL, s.commit.map_bytes, PROT_READ, MAP_SHARED, s.fd, 0);
	ASSERT(second != MAP_FAILED);
	for (uint32_t e = 0; e < s.n; e++) {
		ASSERT(weir_acquire1(s.fd, e, &off) == 0);
		EXPECT(right(&s, e, s.pool + off));
		EXPECT(memcmp(second + off, s.pool + off, len) == 0);
		EXPECT(madvise((void *)second, s.commit.map_bytes, MADV_DONTNEED) == 0);
		EXPECT(memcmp(second + off, s.pool + off, len) == 0);
		EXPECT(weir_release1(s.fd, e) == 0);
		/* Another mapping of half of it, cut in the middle */
		if (e == s.n / 2)
			EXPECT(munmap((void *)(second + s.commit.map_bytes / 8192 * 4096),
				      s.commit.map_bytes - s.commit.map_bytes / 8192 * 4096) == 0);
		if (e == s.n / 2)
			break;
	}
	munmap((void *)second, s.commit.map_bytes / 8192 * 4096);
	session_close(&s);
}

/* ---- all at once ---- */

static struct session shared;
static atomic_bool stop;
static atomic_uint wrong_bytes;

static void *thread_acquires(void *arg)
{
	uint32_t e = (uint32_t)(uintptr_t)arg;
	uint64_t off;

	for (; !stop; e = (e + 1) % shared.n) {
		if (weir_acquire_many(shared.fd, &e, 1, 2000000000, &off, 0))
			continue;
		if (!right(&shared, e, shared.pool + off))
			wrong_bytes++;
		weir_release1(shared.fd, e);
	}
	return NULL;
}

static void *thread_maps(void *arg)
{
	volatile uint64_t sum = 0;

	(void)arg;
	while (!stop) {
		const uint8_t *p =
			mmap(NULL, shared.commit.map_bytes, PROT_READ, MAP_SHARED, shared.fd, 0);

		if (p == MAP_FAILED)
			continue;
		for (uint64_t i = 0; i < shared.commit.map_bytes; i += 4096 * 7)
			/* Only where there are frames: the pins, at 0 */
			if (i < shared.commit.pool_bytes / 2)
				sum += p[i];
		madvise((void *)p, shared.commit.map_bytes, MADV_DONTNEED);
		munmap((void *)p, shared.commit.map_bytes);
	}
	(void)sum;
	return NULL;
}

static void *thread_asks(void *arg)
{
	uint32_t list[16], turn = 0;
	struct weir_hint h = {.size = sizeof(h), .count = 3, .extents = (uintptr_t)list};
	struct weir_set_priority p = {.size = sizeof(p)};
	struct weir_stats st;

	(void)arg;
	for (uint32_t i = 0; i < 16; i++)
		list[i] = 4 * i + 1;
	while (!stop) {
		weir_get_stats(shared.fd, &st);
		h.priority = turn % WEIR_HINT_PRIORITIES;
		ioctl(shared.fd, WEIR_IOC_HINT, &h);
		p.priority = turn++ & 1;
		ioctl(shared.fd, WEIR_IOC_PRIORITY, &p);
		usleep(1000);
	}
	return NULL;
}

static void *thread_schedules(void *arg)
{
	uint32_t order[4096], n = 0;
	struct weir_schedule sc = {.size = sizeof(sc), .extents = (uintptr_t)order};

	(void)arg;
	for (uint32_t e = 0; e < shared.n; e++)
		if (shared.x[e].kind == WEIR_EXTENT_STREAM)
			order[n++] = e;
	while (!stop) {
		uint32_t k = 1 + (uint32_t)rand() % (n - 1), t = order[0];

		order[0] = order[k];
		order[k] = t;
		sc.count = (uint32_t)rand() % 8 ? n : (uint32_t)rand() % n;
		ioctl(shared.fd, WEIR_IOC_SCHEDULE, &sc);
		usleep(2000);
	}
	return NULL;
}

static void *thread_dups(void *arg)
{
	(void)arg;
	while (!stop) {
		int fd = dup(shared.fd);

		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *thread_opens(void *arg)
{
	struct session *s = arg;

	while (!stop) {
		if (session_open(s, file, bytes, len, true, 3) && !use(s, s->fd, 4))
			wrong_bytes++;
		session_close(s);
	}
	return NULL;
}

static void threads_do_all_of_it_at_once(void)
{
	static void *(*const what[])(void *) = {thread_acquires, thread_acquires, thread_maps,
						thread_asks,	 thread_dups,	  thread_opens,
						thread_schedules};
	static struct session other;
	uint64_t before = pinned_now();
	pthread_t t[N(what)];
	int null;

	ASSERT(session_open(&shared, file, bytes, len, true, 8));
	stop = false;
	wrong_bytes = 0;
	for (size_t i = 0; i < N(what); i++)
		ASSERT(pthread_create(&t[i], NULL, what[i],
				      what[i] == thread_opens ? (void *)&other : (void *)(i * 7)) ==
		       0);
	sleep(4);
	/* The descriptor goes while all of them use it; its number goes to nobody else. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	EXPECT(dup2(null, shared.fd) == shared.fd);
	close(null);
	usleep(300000);
	stop = true;
	for (size_t i = 0; i < N(what); i++)
		pthread_join(t[i], NULL);
	EXPECT_EQ(wrong_bytes, 0);
	session_close(&shared);
	EXPECT(pinned_becomes(before));
}

static atomic_uint commits_that_worked;

static void *thread_commits(void *arg)
{
	struct weir_commit c;

	if (!weir_commit_budget(*(int *)arg, 8 * len, &c))
		commits_that_worked++;
	return NULL;
}

static void of_several_commits_one_works(void)
{
	for (int round = 0; round < 30; round++) {
		struct weir_extent x[16];
		pthread_t t[4];
		int fd = open(DEVICE, O_RDWR);

		ASSERT(fd >= 0 && weir_attach(fd, file, 0) == 0);
		for (uint32_t e = 0; e < 16; e++)
			x[e] = (struct weir_extent){.kind = 1, .offset = e * len, .length = len};
		ASSERT(weir_declare(fd, x, 16) == 0);
		commits_that_worked = 0;
		for (size_t i = 0; i < N(t); i++)
			ASSERT(pthread_create(&t[i], NULL, thread_commits, &fd) == 0);
		for (size_t i = 0; i < N(t); i++)
			pthread_join(t[i], NULL);
		EXPECT_EQ(commits_that_worked, 1);
		close(fd);
	}
}

static void *thread_scribbles(void *arg)
{
	struct session *s = arg;
	unsigned int r = 1;

	while (!stop)
		for (uint64_t i = 0; i < s->commit.claims_bytes / 4; i++)
			__atomic_store_n((uint32_t *)s->claim + i, (uint32_t)rand_r(&r),
					 __ATOMIC_RELAXED);
	return NULL;
}

static void nonsense_in_the_claims_harms_nobody_else(void)
{
	static struct session bad, good;
	uint64_t before = pinned_now(), calls = 0;
	pthread_t t;

	ASSERT(session_open(&bad, file, bytes, len, true, 4));
	ASSERT(session_open(&good, file, bytes, len, true, 4));
	stop = false;
	ASSERT(pthread_create(&t, NULL, thread_scribbles, &bad) == 0);
	for (int pass = 0; pass < 8; pass++)
		for (uint32_t e = 0; e < good.n; e++) {
			uint32_t other = (uint32_t)rand() % bad.n;

			weir_acquire_many(bad.fd, &other, 1, 1000000, NULL, 0);
			weir_release1(bad.fd, other);
			ASSERT(right(&good, e, session_acquire(&good, e, &calls)));
			session_release(&good, e, &calls);
		}
	stop = true;
	pthread_join(t, NULL);
	session_close(&bad);
	session_close(&good);
	EXPECT(pinned_becomes(before));
}

/* ---- processes that end ---- */

static void nothing(int signal)
{
	(void)signal;
}

/* Waits for ever: both slots are held, by this process. */
static int tool_wait(bool handle)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct session s;

	if (handle)
		sigaction(SIGUSR1, &sa, NULL);
	if (!session_open(&s, file, bytes, len, false, 2) || weir_acquire1(s.fd, 0, NULL) ||
	    weir_acquire1(s.fd, 1, NULL))
		return 3;
	return weir_acquire_many(s.fd, &(uint32_t){2}, 1, -1, NULL, 0) && errno == EINTR ? 0 : 4;
}

static void a_process_that_waits_can_be_killed(void)
{
	static const int signals[] = {SIGKILL, SIGTERM, SIGUSR1};
	uint64_t before = pinned_now();

	for (size_t i = 0; i < N(signals); i++) {
		pid_t pid = fork_child();
		double start;

		if (!pid)
			_exit(tool_wait(signals[i] == SIGUSR1));
		usleep(300000);
		EXPECT(waitpid(pid, NULL, WNOHANG) == 0);
		start = seconds();
		kill(pid, signals[i]);
		EXPECT_EQ(status_of(pid), signals[i] == SIGUSR1 ? 0 : 128 + signals[i]);
		EXPECT(seconds() - start < 3);
		EXPECT(pinned_becomes(before));
	}
}

static void a_wait_has_an_end_in_time(void)
{
	uint32_t third = 2;
	struct session s;
	double start;

	ASSERT(session_open(&s, file, bytes, len, false, 2));
	ASSERT(weir_acquire1(s.fd, 0, NULL) == 0 && weir_acquire1(s.fd, 1, NULL) == 0);
	EXPECT_ERR(weir_acquire_many(s.fd, &third, 1, 0, NULL, 0), EAGAIN);
	start = seconds();
	EXPECT_ERR(weir_acquire_many(s.fd, &third, 1, 300000000, NULL, 0), ETIMEDOUT);
	EXPECT(seconds() - start >= 0.3);
	EXPECT(seconds() - start < 3);
	/* Nothing was taken by the call that failed, and what is released serves it. */
	EXPECT(weir_release1(s.fd, 0) == 0);
	EXPECT(weir_acquire1(s.fd, 2, NULL) == 0);
	session_close(&s);
}

static void *thread_waits(void *arg)
{
	struct session *s = arg;

	return (void *)(intptr_t)weir_acquire_many(s->fd, &(uint32_t){9}, 1, 8000000000ll, NULL, 0);
}

/* A release in the claims, by whoever makes no system call but the one he is asked for. */
static void a_release_without_a_call_serves_who_waits(void)
{
	for (uint32_t kind = WEIR_EXTENT_STREAM; kind <= WEIR_EXTENT_ON_DEMAND; kind++) {
		struct session s = {.fd = open(DEVICE, O_RDWR | O_CLOEXEC)};
		uint64_t calls = 0;
		void *result;
		double start;
		pthread_t t;

		ASSERT(weir_attach(s.fd, file, 0) == 0);
		for (s.n = 0; s.n < 16; s.n++)
			s.x[s.n] = (struct weir_extent){
				.kind = kind, .offset = s.n * len, .length = len};
		ASSERT(weir_declare(s.fd, s.x, s.n) == 0);
		ASSERT(weir_commit_budget(s.fd, 2 * len, &s.commit) == 0 && session_map(&s));
		ASSERT(session_acquire(&s, 0, &calls) && session_acquire(&s, 1, &calls));
		ASSERT(pthread_create(&t, NULL, thread_waits, &s) == 0);
		usleep(500000);
		start = seconds();
		session_release(&s, 0, &calls);
		pthread_join(t, &result);
		EXPECT(result == NULL);
		EXPECT(seconds() - start < 2);
		if (test_failed)
			printf("# kind %u\n", kind);
		session_close(&s);
	}
}

static void ends_in_the_middle_of_filling(void)
{
	uint64_t before = pinned_now();
	int big = make_file("life-big", 2, 32 * MIB);

	ASSERT(big >= 0);
	for (int i = 0; i < 24; i++) {
		pid_t pid = fork_child();

		if (!pid) {
			struct session s;
			bool ok = session_open(&s, big, 32 * MIB, MIB, i % 2, 12);

			if (i % 3 == 2)
				pause();
			_exit(ok ? 0 : 1);
		}
		if (i % 3 == 2) {
			usleep((useconds_t)i * 2000);
			kill(pid, SIGKILL);
			EXPECT_EQ(status_of(pid), 128 + SIGKILL);
		} else {
			EXPECT_EQ(status_of(pid), 0);
		}
		EXPECT(pinned_becomes(before));
	}
	close(big);
	unlink(test_path("life-big"));
}

/* ---- many of them ---- */

static atomic_uint opened, failed;

static void *thread_cycles(void *arg)
{
	struct session *s = arg;

	while (opened++ < 1000) {
		/* Half of them share pins with whoever else does, half have a ring alone. */
		if (!session_open(s, file, bytes / 4, len, opened % 2, 2))
			failed++;
		session_close(s);
	}
	return NULL;
}

static void a_thousand_sessions_leave_nothing(void)
{
	static struct session s[8];
	uint64_t before = pinned_now();
	pthread_t t[8];

	opened = 0;
	failed = 0;
	for (size_t i = 0; i < N(t); i++)
		ASSERT(pthread_create(&t[i], NULL, thread_cycles, &s[i]) == 0);
	for (size_t i = 0; i < N(t); i++)
		pthread_join(t[i], NULL);
	EXPECT_EQ(failed, 0);
	EXPECT(opened >= 1000);
	EXPECT(pinned_becomes(before));
}

static void a_close_gives_back_at_once(void)
{
	uint64_t before = pinned_now();
	struct session s;
	int late = 0;

	/* Whoever opens the next session finds the memory free, reads in flight or not. */
	for (int i = 0; i < 100; i++) {
		ASSERT(session_open(&s, file, bytes, len, true, 8));
		session_close(&s);
		late += pinned_now() != before;
		ASSERT(pinned_becomes(before));
	}
	EXPECT(late <= 5);
}

static void pins_live_as_long_as_their_last_session(void)
{
	static struct session s[4];
	uint64_t before = pinned_now(), ring = 2 * len, pins = bytes / 4;

	for (int i = 0; i < 256; i++) {
		int order[4] = {i & 3, i >> 2 & 3, i >> 4 & 3, i >> 6 & 3};
		uint32_t seen = 0;

		for (int k = 0; k < 4; k++)
			seen |= 1u << order[k];
		if (seen != 15)
			continue;
		for (int k = 0; k < 4; k++)
			ASSERT(session_open(&s[k], file, bytes, len, true, 2));
		for (int k = 0; k < 4; k++) {
			ASSERT(pinned_becomes(before + pins + (uint64_t)(4 - k) * ring));
			session_close(&s[order[k]]);
			for (int j = 0; j < 4; j++)
				if (s[j].pool)
					EXPECT(use(&s[j], s[j].fd, 4) && use(&s[j], s[j].fd, 5));
		}
		ASSERT(pinned_becomes(before));
	}
}

/* ---- the tool ---- */

/* For unload.sh: holds a mapping and nothing else, until its input ends. */
static int tool_hold_mapping(void)
{
	struct session s;
	char c;

	if (!session_open(&s, file, bytes, len, true, 4))
		return 1;
	close(s.fd);
	munmap((void *)s.control, s.commit.control_bytes);
	munmap(s.claim, s.commit.claims_bytes);
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		;
	return 0;
}

/* And one that leaves while reads are in flight. */
static int tool_leave(void)
{
	struct session s;

	return session_open(&s, file, bytes, len, true, 16) ? 0 : 1;
}

static const struct test tests[] = {
	{"a_child_goes_on_when_its_parent_has_closed", a_child_goes_on_when_its_parent_has_closed},
	{"a_child_that_ends_takes_nothing_with_it", a_child_that_ends_takes_nothing_with_it},
	{"parent_and_child_use_one_session_at_once", parent_and_child_use_one_session_at_once},
	{"a_descriptor_survives_exec", a_descriptor_survives_exec},
	{"the_last_of_several_descriptors_counts", the_last_of_several_descriptors_counts},
	{"a_descriptor_passed_on_is_as_good", a_descriptor_passed_on_is_as_good},
	{"unmapped_and_closed_in_every_order", unmapped_and_closed_in_every_order},
	{"a_mapping_outlives_its_descriptor", a_mapping_outlives_its_descriptor},
	{"two_mappings_show_the_same", two_mappings_show_the_same},
	{"threads_do_all_of_it_at_once", threads_do_all_of_it_at_once},
	{"of_several_commits_one_works", of_several_commits_one_works},
	{"nonsense_in_the_claims_harms_nobody_else", nonsense_in_the_claims_harms_nobody_else},
	{"a_process_that_waits_can_be_killed", a_process_that_waits_can_be_killed},
	{"a_wait_has_an_end_in_time", a_wait_has_an_end_in_time},
	{"a_release_without_a_call_serves_who_waits", a_release_without_a_call_serves_who_waits},
	{"ends_in_the_middle_of_filling", ends_in_the_middle_of_filling},
	{"a_thousand_sessions_leave_nothing", a_thousand_sessions_leave_nothing},
	{"a_close_gives_back_at_once", a_close_gives_back_at_once},
	{"pins_live_as_long_as_their_last_session", pins_live_as_long_as_their_last_session},
};

int main(int argc, char **argv)
{
	const char *tool = argc > 2 ? argv[2] : "";

	if (argc > 1)
		test_dir = argv[1];
	if (!strcmp(tool, "use"))
		return argc > 3 ? tool_use(atoi(argv[3])) : 1;
	file = make_file("life", seed, bytes);
	if (file < 0)
		return 1;
	if (!strcmp(tool, "hold-mapping"))
		return tool_hold_mapping();
	if (!strcmp(tool, "leave"))
		return tool_leave();
	return run_tests(tests, N(tests));
}
