// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Who pays for a pool: RLIMIT_MEMLOCK of the user, the module's cap, the memory cgroup. Each holds
 * over several sessions, none kills anybody, and after a failure or a close() all is as it was.
 *
 * Limits of a user are tried in a child that becomes one without privileges before it commits: a
 * user is charged for what he commits, whoever opened the session.
 */
#include "weir_test.h"

#include <grp.h>
#include <sys/resource.h>

#define CAP    "/sys/module/weir/parameters/max_pinned_mb"
#define CGROUP "/sys/fs/cgroup"

static const uint64_t len = 256 << 10, bytes = 64 * MIB;
static int file = -1;

/* ---- helpers ---- */

/* A session that declares all of the file and has not committed; or -1. */
static int declared(uint32_t kind)
{
	static struct weir_extent x[256];
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	for (uint32_t i = 0; i < bytes / len; i++)
		x[i] = (struct weir_extent){.kind = kind, .offset = i * len, .length = len};
	if (fd < 0 || weir_attach(fd, file, 0) < 0 || weir_declare(fd, x, bytes / len)) {
		printf("# a session cannot be prepared: %s\n", strerror(errno));
		return -1;
	}
	return fd;
}

static int commit(int fd, uint64_t budget)
{
	struct weir_commit c;

	return weir_commit_budget(fd, budget, &c);
}

/* Runs in a process of its own; true where it ended by itself and found nothing wrong. */
static bool in_child(void (*run)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		test_failed = false;
		run(arg);
		fflush(stdout);
		_exit(test_failed);
	}
	if (waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("# the child was killed by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool become(uid_t uid, uint64_t memlock)
{
	struct rlimit r = {memlock, memlock};

	return !setrlimit(RLIMIT_MEMLOCK, &r) && !setgroups(0, NULL) && !setgid(uid) &&
	       !setuid(uid);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool write_number(const char *path, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return write_text(path, text);
}

/* The number behind @key in a file of lines "key number"; or the file's only number. */
static long long read_number(const char *path, const char *key)
{
	char line[256];
	long long n = -1;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (key && strncmp(line, key, strlen(key)))
			continue;
		n = strtoll(line + (key ? strlen(key) : 0), NULL, 10);
		break;
	}
	if (f)
		fclose(f);
	return n;
}

/* ---- RLIMIT_MEMLOCK ---- */

static void as_user_with_4_mib(void *arg)
{
	uint64_t pinned;
	int fd[3];

	(void)arg;
	for (int i = 0; i < 3; i++) {
		fd[i] = declared(WEIR_EXTENT_STREAM);
		ASSERT(fd[i] >= 0);
	}
	ASSERT(become(65534, 4 * MIB));
	EXPECT_ERR(commit(fd[0], 4 * MIB + len), ENOMEM);
	EXPECT(commit(fd[0], 2 * MIB) == 0);
	EXPECT_ERR(commit(fd[1], 2 * MIB + len), ENOMEM);
	EXPECT(commit(fd[1], 2 * MIB) == 0);
	EXPECT_ERR(commit(fd[2], 2 * len), ENOMEM);
	pinned = weir_pinned(fd[1]);
	/* What a close() gives back can be had again, and not more than that. */
	close(fd[0]);
	for (int i = 0; i < 500 && weir_pinned(fd[1]) > pinned - 2 * MIB; i++)
		usleep(10000);
	EXPECT_ERR(commit(fd[2], 2 * MIB + len), ENOMEM);
	EXPECT(commit(fd[2], 2 * MIB) == 0);
}

static void memlock_holds_over_all_sessions_of_a_user(void)
{
	uint64_t before = pinned_now();

	EXPECT(in_child(as_user_with_4_mib, NULL));
	EXPECT(pinned_becomes(before));
}

static void pins_as_user(void *arg)
{
	int *fd = arg;

	ASSERT(become(65534, 16 * MIB));
	EXPECT_ERR(commit(fd[0], bytes), ENOMEM);
	EXPECT(commit(fd[1], 16 * MIB) == 0);
}

static void memlock_counts_pins_and_leaves_nothing_of_them(void)
{
	int fd[2] = {declared(WEIR_EXTENT_PIN), declared(WEIR_EXTENT_STREAM)};
	uint64_t before = pinned_now();

	ASSERT(fd[0] >= 0 && fd[1] >= 0);
	EXPECT(in_child(pins_as_user, fd));
	close(fd[0]);
	close(fd[1]);
	EXPECT(pinned_becomes(before));
}

struct user_case {
	uid_t uid;
	int fd;
	uint64_t budget;
	int error;
};

static void one_commit(void *arg)
{
	const struct user_case *c = arg;

	ASSERT(become(c->uid, 4 * MIB));
	if (c->error)
		EXPECT_ERR(commit(c->fd, c->budget), c->error);
	else
		EXPECT(commit(c->fd, c->budget) == 0);
}

static void memlock_is_of_the_user_not_of_the_process(void)
{
	struct user_case c[4] = {
		{65534, -1, 3 * MIB, 0},
		{65534, -1, 2 * MIB, ENOMEM},
		{65533, -1, 4 * MIB, 0},
		{65534, -1, 1 * MIB, 0},
	};

	for (size_t i = 0; i < N(c); i++) {
		c[i].fd = declared(WEIR_EXTENT_STREAM);
		ASSERT(c[i].fd >= 0);
	}
	/* The parent holds the sessions: what a child has pinned stays when it has ended. */
	for (size_t i = 0; i < N(c); i++)
		EXPECT(in_child(one_commit, &c[i]));
	for (size_t i = 0; i < N(c); i++)
		close(c[i].fd);
}

static void root_without_memlock(void *arg)
{
	struct rlimit r = {0, 0};

	ASSERT(setrlimit(RLIMIT_MEMLOCK, &r) == 0);
	EXPECT(commit(*(int *)arg, 8 * MIB) == 0);
}

static void memlock_binds_nobody_with_cap_ipc_lock(void)
{
	int fd = declared(WEIR_EXTENT_STREAM);

	ASSERT(fd >= 0);
	EXPECT(in_child(root_without_memlock, &fd));
	close(fd);
}

static void nobody_opens_the_device(void *arg)
{
	(void)arg;
	ASSERT(become(65534, MIB));
	EXPECT_ERR(open(DEVICE, O_RDWR), EACCES);
	EXPECT_ERR(open(DEVICE, O_RDONLY), EACCES);
}

static void the_device_is_not_for_everybody(void)
{
	EXPECT(in_child(nobody_opens_the_device, NULL));
}

/* ---- the module's cap ---- */

static void the_cap_holds_over_all_sessions(void)
{
	long long was = read_number(CAP, NULL);
	struct weir_info info = {.size = sizeof(info)};
	int a = declared(WEIR_EXTENT_STREAM), b = declared(WEIR_EXTENT_STREAM);
	uint64_t before = pinned_now();

	ASSERT(was >= 0 && a >= 0 && b >= 0);
	ASSERT(write_number(CAP, before / MIB + 8));
	EXPECT(ioctl(a, WEIR_IOC_INFO, &info) == 0);
	EXPECT_EQ(info.pinned_max, (before / MIB + 8) * MIB);
	EXPECT_ERR(commit(a, 9 * MIB), ENOMEM);
	EXPECT(pinned_becomes(before));
	EXPECT(commit(a, 6 * MIB) == 0);
	EXPECT_ERR(commit(b, 3 * MIB), ENOMEM);
	EXPECT(pinned_becomes(before + 6 * MIB));
	EXPECT(commit(b, 2 * MIB) == 0);
	EXPECT(pinned_becomes(before + 8 * MIB));
	close(a);
	EXPECT(pinned_becomes(before + 2 * MIB));
	close(b);
	EXPECT(pinned_becomes(before));
	EXPECT(write_number(CAP, (uint64_t)was));
}

static void a_lower_cap_takes_nothing_away(void)
{
	long long was = read_number(CAP, NULL);
	int a = declared(WEIR_EXTENT_STREAM), b = declared(WEIR_EXTENT_STREAM);
	uint64_t before = pinned_now();
	uint32_t e = 7;

	ASSERT(was >= 0 && a >= 0 && b >= 0);
	ASSERT(commit(a, 8 * MIB) == 0);
	ASSERT(write_number(CAP, 1));
	EXPECT(weir_acquire_many(a, &e, 1, 10000000000ll, NULL, 0) == 0);
	EXPECT_ERR(commit(b, 2 * len), ENOMEM);
	EXPECT(write_number(CAP, (uint64_t)was));
	EXPECT(commit(b, 2 * len) == 0);
	close(a);
	close(b);
	EXPECT(pinned_becomes(before));
}

static void a_pool_larger_than_the_cap_fails_at_once(void)
{
	struct weir_info info = {.size = sizeof(info)};
	int fd = open(DEVICE, O_RDWR), big;
	uint64_t before = pinned_now();
	struct weir_extent x;
	double start;

	ASSERT(fd >= 0);
	ASSERT(ioctl(fd, WEIR_IOC_INFO, &info) == 0);
	/* A sparse file: no memory has what this asks for, and nobody is killed for it. */
	big = open(test_path("sparse"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	ASSERT(big >= 0 && ftruncate(big, 1ll << 40) == 0);
	ASSERT(weir_attach(fd, big, 0) == 0);
	x = (struct weir_extent){.kind = WEIR_EXTENT_PIN, .length = 1ull << 40};
	ASSERT(weir_declare(fd, &x, 1) == 0);
	start = seconds();
	EXPECT_ERR(commit(fd, 1ull << 40), ENOMEM);
	EXPECT_ERR(commit(fd, UINT64_MAX), ENOMEM);
	EXPECT_ERR(commit(fd, (1ull << 40) - 4096), ENOSPC);
	EXPECT(seconds() - start < 5);
	EXPECT(pinned_becomes(before));
	close(fd);
	close(big);
	unlink(test_path("sparse"));
}

/* A session of both kinds whose pins fit below the cap and whose ring does not. */
static int declared_both(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct weir_extent x[64];

	for (uint32_t i = 0; i < N(x); i++)
		x[i] = (struct weir_extent){.kind = i < 8 ? WEIR_EXTENT_PIN : WEIR_EXTENT_STREAM,
					    .offset = i * len,
					    .length = len};
	return fd < 0 || weir_attach(fd, file, 0) < 0 || weir_declare(fd, x, N(x)) ? -1 : fd;
}

static void pins_go_at_once_when_the_ring_does_not_fit(void)
{
	long long was = read_number(CAP, NULL);
	uint64_t before = pinned_now();

	ASSERT(was >= 0 && write_number(CAP, before / MIB + 4));
	for (int i = 0; i < 100 && !test_failed; i++) {
		int fd = declared_both();

		EXPECT_ERR(commit(fd, 8 * MIB), ENOMEM);
		EXPECT(pinned_becomes(before));
		/* And all of it is there for the second try. */
		EXPECT(commit(fd, 4 * MIB) == 0);
		close(fd);
		EXPECT(pinned_becomes(before));
	}
	EXPECT(write_number(CAP, (uint64_t)was));
}

static void a_second_try_pays_for_what_the_first_would_have_shared(void)
{
	long long was = read_number(CAP, NULL);
	uint64_t before = pinned_now();
	int a = declared_both(), b = declared_both();
	struct weir_commit c;

	ASSERT(was >= 0 && a >= 0 && b >= 0);
	ASSERT(commit(a, 3 * MIB) == 0);
	ASSERT(write_number(CAP, before / MIB + 4));
	EXPECT_ERR(commit(b, 8 * MIB), ENOMEM);
	close(a);
	EXPECT(pinned_becomes(before));
	/* Nobody is there to share with any more. */
	ASSERT(weir_commit_budget(b, 3 * MIB, &c) == 0);
	EXPECT_EQ(c.shared_bytes, 0);
	EXPECT_EQ(c.pool_bytes, 3 * MIB);
	EXPECT(pinned_becomes(before + 3 * MIB));
	EXPECT(write_number(CAP, (uint64_t)was));
	close(b);
}

/* ---- the memory cgroup ---- */

static const char *cgroup = CGROUP "/weir-limits";

static const char *in_cgroup(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	return path;
}

/* A cgroup with memory.max; false where there is no such controller. */
static bool make_cgroup(uint64_t max)
{
	if (!write_text(CGROUP "/cgroup.subtree_control", "+memory"))
		return false;
	rmdir(cgroup);
	return !mkdir(cgroup, 0755) && write_number(in_cgroup("memory.max"), max);
}

static bool join_cgroup(void)
{
	return write_number(in_cgroup("cgroup.procs"), (uint64_t)getpid());
}

static void commit_in_16_mib(void *arg)
{
	uint64_t before = pinned_now(), during;
	uint32_t e = 3;
	int fd, other;

	(void)arg;
	ASSERT(join_cgroup());
	fd = declared(WEIR_EXTENT_STREAM);
	ASSERT(fd >= 0);
	EXPECT_ERR(commit(fd, 48 * MIB), ENOMEM);
	EXPECT(pinned_becomes(before));
	EXPECT(commit(fd, 8 * MIB) == 0);
	during = (uint64_t)read_number(in_cgroup("memory.current"), NULL);
	EXPECT(during >= 8 * MIB);
	EXPECT(weir_acquire_many(fd, &e, 1, 10000000000ll, NULL, 0) == 0);
	other = declared(WEIR_EXTENT_STREAM);
	ASSERT(other >= 0);
	EXPECT_ERR(commit(other, 12 * MIB), ENOMEM);
	EXPECT(pinned_becomes(before + 8 * MIB));
	close(other);
	close(fd);
	EXPECT(pinned_becomes(before));
	/* Less than half of what the pool was: nothing of it is left. */
	EXPECT(read_number(in_cgroup("memory.current"), NULL) + 6 * (long long)MIB <
	       (long long)during);
}

static void the_cgroup_pays_and_nobody_is_killed(void)
{
	if (!make_cgroup(16 * MIB))
		SKIP("no memory controller");
	EXPECT(in_child(commit_in_16_mib, NULL));
	EXPECT_EQ(read_number(in_cgroup("memory.events"), "oom_kill "), 0);
	EXPECT(rmdir(cgroup) == 0);
}

/* Wherever in COMMIT the limit is met: with every allocation there is. */
static void commit_up_to_the_limit(void *arg)
{
	uint32_t failed = 0, worked = 0;
	uint64_t before = pinned_now();

	(void)arg;
	ASSERT(join_cgroup());
	for (uint64_t budget = 12 * MIB; budget <= 16 * MIB; budget += 2 * len) {
		int fd = declared(WEIR_EXTENT_STREAM);

		ASSERT(fd >= 0);
		if (!commit(fd, budget)) {
			worked++;
		} else {
			uint32_t e = 5;

			EXPECT_EQ(errno, ENOMEM);
			EXPECT(pinned_becomes(before));
			/* Whatever had been allocated by then, the same session takes less. */
			EXPECT(commit(fd, 4 * MIB) == 0);
			EXPECT(weir_acquire_many(fd, &e, 1, 10000000000ll, NULL, 0) == 0);
			failed++;
		}
		close(fd);
		EXPECT(pinned_becomes(before));
	}
	EXPECT(failed && worked);
}

static void nobody_is_killed_wherever_the_limit_is_met(void)
{
	if (!make_cgroup(16 * MIB))
		SKIP("no memory controller");
	for (uint64_t max = 16 * MIB; max < 16 * MIB + len; max += 16 << 10) {
		if (!write_number(in_cgroup("memory.max"), max))
			test_failed = true;
		if (!in_child(commit_up_to_the_limit, NULL)) {
			printf("# with memory.max of %llu\n", (unsigned long long)max);
			test_failed = true;
			break;
		}
	}
	EXPECT_EQ(read_number(in_cgroup("memory.events"), "oom_kill "), 0);
	EXPECT(rmdir(cgroup) == 0);
}

/* ---- again and again ---- */

static void failures_and_successes_leave_nothing(void)
{
	long long was = read_number(CAP, NULL);
	uint64_t before = pinned_now();

	ASSERT(was >= 0);
	ASSERT(write_number(CAP, before / MIB + 4));
	for (int i = 0; i < 100; i++) {
		int fd = declared(i % 2 ? WEIR_EXTENT_STREAM : WEIR_EXTENT_SOFT);

		ASSERT(fd >= 0);
		EXPECT_ERR(commit(fd, bytes + 2 * len), ENOMEM);
		EXPECT_ERR(commit(fd, len), ENOSPC);
		if (i % 2)
			EXPECT(commit(fd, 4 * MIB) == 0);
		close(fd);
	}
	EXPECT(write_number(CAP, (uint64_t)was));
	EXPECT(pinned_becomes(before));
}

static const struct test tests[] = {
	{"the_device_is_not_for_everybody", the_device_is_not_for_everybody},
	{"memlock_holds_over_all_sessions_of_a_user", memlock_holds_over_all_sessions_of_a_user},
	{"memlock_counts_pins_and_leaves_nothing_of_them",
	 memlock_counts_pins_and_leaves_nothing_of_them},
	{"memlock_is_of_the_user_not_of_the_process", memlock_is_of_the_user_not_of_the_process},
	{"memlock_binds_nobody_with_cap_ipc_lock", memlock_binds_nobody_with_cap_ipc_lock},
	{"the_cap_holds_over_all_sessions", the_cap_holds_over_all_sessions},
	{"a_lower_cap_takes_nothing_away", a_lower_cap_takes_nothing_away},
	{"a_pool_larger_than_the_cap_fails_at_once", a_pool_larger_than_the_cap_fails_at_once},
	{"pins_go_at_once_when_the_ring_does_not_fit", pins_go_at_once_when_the_ring_does_not_fit},
	{"a_second_try_pays_for_what_the_first_would_have_shared",
	 a_second_try_pays_for_what_the_first_would_have_shared},
	{"the_cgroup_pays_and_nobody_is_killed", the_cgroup_pays_and_nobody_is_killed},
	{"nobody_is_killed_wherever_the_limit_is_met", nobody_is_killed_wherever_the_limit_is_met},
	{"failures_and_successes_leave_nothing", failures_and_successes_leave_nothing},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	file = make_file("limits", 1, bytes);
	return file < 0 ? 1 : run_tests(tests, N(tests));
}
