// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Random calls from several threads and processes for WEIR_FUZZ_SECONDS (2): ioctls with fields
 * that are mostly plausible, mappings, claims full of nonsense, truncations, forks and kills.
 * It passes when the kernel's log stays clean (the runner looks), everything ends, and nothing
 * stays pinned. The seed is printed, and taken from WEIR_FUZZ_SEED.
 */
#include "weir_test.h"

#include <pthread.h>
#include <sys/prctl.h>

#define SESSIONS 4
#define THREADS	 4
#define PROCS	 3
#define LEN	 (256u << 10)

static uint64_t random_next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static uint32_t pick(uint64_t *s, uint32_t n)
{
	return (uint32_t)(random_next(s) >> 20) % n;
}

/* Mostly small, sometimes at an edge, sometimes anything. */
static uint64_t value(uint64_t *s)
{
	static const uint64_t edge[] = {
		0,	     1,		  4095,	      4096,	  4097,	      1 << 20,	 0x7fffffff,
		0x80000000u, 0xffffffffu, 1ull << 32, 1ull << 40, 1ull << 63, ~0xfffull, ~0ull};

	switch (pick(s, 8)) {
	case 0:
		return random_next(s);
	case 1:
	case 2:
		return edge[pick(s, N(edge))];
	default:
		return pick(s, 16);
	}
}

static struct {
	int fd[SESSIONS];
	int file[2];
	double end;
} shared;

static void set_up_session(uint64_t *s, int i)
{
	struct weir_extent x[16];
	struct weir_commit c;
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC), old;
	uint32_t n = 1 + pick(s, N(x));

	if (fd < 0)
		return;
	if (pick(s, 8)) {
		weir_attach(fd, shared.file[pick(s, 2)], pick(s, 4) ? 0 : WEIR_ATTACH_BUFFERED);
		for (uint32_t k = 0; k < n; k++)
			x[k] = (struct weir_extent){
				.kind = pick(s, 10) ? pick(s, 4) : (uint32_t)value(s),
				.file = pick(s, 20) ? 0 : (uint32_t)value(s),
				.offset = pick(s, 20) ? k * LEN : value(s),
				.length = pick(s, 20) ? LEN : value(s),
			};
		weir_declare(fd, x, n);
		if (pick(s, 8))
			weir_commit_budget(fd, pick(s, 8) ? n * LEN : value(s), &c);
	}
	old = __atomic_exchange_n(&shared.fd[i], fd, __ATOMIC_SEQ_CST);
	if (old >= 0)
		close(old);
}

static void random_ioctl(uint64_t *s, int fd)
{
	static const uint32_t size[] = {48, 24, 24, 80, 40, 24, 24, 24, 16, 16, 160};
	uint32_t nr = pick(s, N(size) + 1), list[16];
	union {
		uint32_t word[64];
		uint64_t wide[32];
		struct weir_acquire_args acquire;
		struct weir_release release;
	} a = {0};

	for (size_t i = 0; i < N(list); i++)
		list[i] = (uint32_t)value(s);
	for (size_t i = 1; i < N(a.word) && pick(s, 4); i++)
		a.word[i] = (uint32_t)value(s);
	a.word[0] = nr < N(size) && pick(s, 10) ? size[nr] : (uint32_t)value(s);
	if (pick(s, 4))
		a.word[1] = 0;
	if (nr == WEIR_CMD_ACQUIRE && pick(s, 10)) {
		a.acquire.count = 1 + pick(s, 4);
		a.acquire.extents = (uintptr_t)list;
		a.acquire.offsets = 0;
		/* no longer than 30 ms, or this is a test of patience */
		a.acquire.timeout_ns = pick(s, 30000000);
	} else if (nr >= WEIR_CMD_RELEASE && nr <= WEIR_CMD_SCHEDULE && pick(s, 10)) {
		a.release.count = pick(s, 5);
		a.release.extents = (uintptr_t)list;
	} else if (nr == WEIR_CMD_ACQUIRE) {
		a.acquire.timeout_ns = 0;
	}
	if (ioctl(fd, _IO(WEIR_IOC_TYPE, nr), &a) == 0 && nr == WEIR_CMD_EXPORT)
		close((int)a.word[2]);
}

/* Maps a part of what there is, reads or writes a little, and lets go. */
static void random_map(uint64_t *s, int fd)
{
	static const uint64_t where[] = {WEIR_MMAP_POOL, WEIR_MMAP_CONTROL, WEIR_MMAP_CLAIMS};
	uint64_t off = where[pick(s, 3)] + (pick(s, 4) ? 0 : 4096 * (value(s) & 0xfff));
	size_t len = 4096 * (size_t)(1 + pick(s, 64));
	int prot = off >= WEIR_MMAP_CLAIMS ? PROT_READ | PROT_WRITE : PROT_READ;
	uint32_t *p = mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)off);
	int pipes[2];

	if (p == MAP_FAILED)
		return;
	if (prot & PROT_WRITE)
		for (int i = 0; i < 8; i++)
			p[pick(s, 64)] = (uint32_t)value(s);
	/* by system calls: a page that is not there is an error and no signal */
	if (pipe(pipes) == 0) {
		ssize_t n = write(pipes[1], p, 4096);

		if (n > 0 && read(pipes[0], (char[4096]){0}, 4096) < 0)
			perror("pipe");
		close(pipes[0]);
		close(pipes[1]);
	}
	munmap(p, len);
}

static void *thread(void *arg)
{
	uint64_t seed = (uintptr_t)arg, *s = &seed;

	while (seconds() < shared.end) {
		int i = (int)pick(s, SESSIONS), fd = shared.fd[i];

		switch (pick(s, 40)) {
		case 0:
			set_up_session(s, i);
			break;
		case 1:
			if (ftruncate(shared.file[1], (off_t)(LEN * 16)) == 0 && !pick(s, 50) &&
			    ftruncate(shared.file[1], (off_t)(LEN * pick(s, 16))))
				perror("ftruncate");
			break;
		case 2:
		case 3:
		case 4:
		case 5:
			random_map(s, fd);
			break;
		default:
			random_ioctl(s, fd);
		}
	}
	return NULL;
}

static void process(uint64_t seed)
{
	pthread_t t[THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < SESSIONS; i++)
		shared.fd[i] = -1;
	for (int i = 0; i < SESSIONS; i++)
		set_up_session(&seed, i);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, thread, (void *)(uintptr_t)(random_next(&seed) | 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	_exit(0);
}

static void random_calls_harm_nobody(void)
{
	const char *env = getenv("WEIR_FUZZ_SECONDS"), *seed_env = getenv("WEIR_FUZZ_SEED");
	uint64_t seed = seed_env ? strtoull(seed_env, NULL, 0) : (uint64_t)time(NULL) << 20 | 1;
	int info = open(DEVICE, O_RDWR), status;
	uint64_t before;
	pid_t pid[PROCS];

	ASSERT(info >= 0);
	before = weir_pinned(info);
	printf("# seed %#llx\n", (unsigned long long)seed);
	shared.file[0] = make_file("fuzz0", 1, 16 * LEN);
	close(make_file("fuzz1", 2, 16 * LEN));
	shared.file[1] = open(test_path("fuzz1"), O_RDWR);
	ASSERT(shared.file[0] >= 0 && shared.file[1] >= 0);
	shared.end = seconds() + (env ? atof(env) : 2);
	fflush(stdout);
	for (int i = 0; i < PROCS; i++) {
		pid[i] = fork();
		ASSERT(pid[i] >= 0);
		if (!pid[i])
			process(random_next(&seed) | 1);
	}
	/* One of them dies in the middle of things, again and again. */
	while (seconds() < shared.end) {
		usleep(100000 + pick(&seed, 400000));
		kill(pid[0], SIGKILL);
		EXPECT(waitpid(pid[0], &status, 0) == pid[0]);
		pid[0] = fork();
		ASSERT(pid[0] >= 0);
		if (!pid[0])
			process(random_next(&seed) | 1);
	}
	for (int i = 0; i < PROCS; i++) {
		EXPECT(waitpid(pid[i], &status, 0) == pid[i]);
		EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	/* What was closed may be freed a moment later. */
	for (int i = 0; i < 100 && weir_pinned(info) != before; i++)
		usleep(50000);
	EXPECT_EQ(weir_pinned(info), before);
	close(shared.file[0]);
	close(shared.file[1]);
	close(info);
}

static const struct test tests[] = {
	{"random_calls_harm_nobody", random_calls_harm_nobody},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	return run_tests(tests, N(tests));
}
