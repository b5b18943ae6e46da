// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * When the kernel has no memory: everything that can fail does, one after the other.
 *
 * A run is all that a session may do, from open() to close(), as a list of calls. In one of them
 * the nth allocation that the kernel makes for this thread fails, or the nth copy from or to its
 * memory: for every call, and for n = 1, 2, ... until the call is over before its turn has come. A
 * call that is struck, if it notices at all, says -ENOMEM or -EFAULT. It has had no effect: made
 * again it works, and so does all that follows. Or the session is closed right then. Both leave
 * nothing behind: neither memory, nor what is counted against limits, nor descriptors.
 *
 * Reads are made by a kernel thread, which fail-nth does not reach. There a part of what is
 * allocated for them fails at random.
 *
 * It needs a kernel with CONFIG_FAILSLAB, FAIL_PAGE_ALLOC and FAULT_INJECTION_USERCOPY, which
 * stock kernels are not: `make check-debug` builds one.
 */
#include "weir_test.h"

#include <inttypes.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define DEBUGFS "/sys/kernel/debug"

static const uint64_t len = 64 << 10, bytes = 1 * MIB;
static const uint64_t seed = 11;
static const uint32_t n_slot = 4;
static int file = -1, nth = -1;

/* ---- what fails ---- */

static const char *const attributes[] = {"failslab", "fail_page_alloc", "fail_usercopy"};

static bool set(const char *attribute, const char *name, const char *value)
{
	char path[128];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), DEBUGFS "/%s/%s", attribute, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Also what may sleep, also high memory, and without a line in the log for each. */
static bool can_inject(void)
{
	if (nth < 0)
		nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < N(attributes); i++)
		if (!set(attributes[i], "verbose", "0"))
			return false;
	return nth >= 0 && set("failslab", "ignore-gfp-wait", "N") &&
	       set("fail_page_alloc", "ignore-gfp-wait", "N") &&
	       set("fail_page_alloc", "ignore-gfp-highmem", "N") &&
	       set("fail_page_alloc", "min-order", "0");
}

#define NEED_INJECTION()                                                                           \
	do {                                                                                       \
		if (!can_inject())                                                                 \
			SKIP("the kernel has no fault injection");                                 \
	} while (0)

/* From here on the nth chance to fail is taken; 0: none. */
static void arm(uint32_t n)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", n);

	/* Before it counts; or to end it, which is then the one that fails, and ends it as well. */
	if (pwrite(nth, text, (size_t)size, 0) != size)
		test_failed |= n;
}

/* Ends it; true where something has failed. */
static bool disarm(void)
{
	char text[16] = "";
	/* The copy of the answer may be what fails: then nothing had before. */
	bool struck = pread(nth, text, sizeof(text) - 1, 0) > 0 && text[0] == '0';

	arm(0);
	return struck;
}

/* ---- a run ---- */

static struct session s;
static int dmabuf;
static uint32_t acquired[3] = {0, 1, 2}, wanted[2] = {6, 7}, order[16];
static uint64_t off[3];
static uint32_t n_order;

static bool call_open(void)
{
	s.fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	return s.fd >= 0;
}

static bool call_info(void)
{
	return weir_pinned(s.fd) != ~0ull;
}

static bool call_attach(void)
{
	int number = weir_attach(s.fd, file, 0);

	/* Had one been attached without a word, this would be the second. */
	if (number > 0)
		errno = EUCLEAN;
	return number == 0;
}

static bool call_extents(void)
{
	return !weir_declare(s.fd, s.x, s.n);
}

static bool call_commit(void)
{
	return !weir_commit_budget(s.fd, (s.n / 4 + n_slot) * len, &s.commit);
}

static bool map(const void *to, uint64_t n, int prot, uint64_t at)
{
	void *p = mmap(NULL, n, prot, MAP_SHARED, s.fd, (off_t)at);

	if (p == MAP_FAILED)
		return false;
	memcpy((void *)to, &p, sizeof(p));
	return true;
}

static bool call_map_pool(void)
{
	return map(&s.pool, s.commit.map_bytes, PROT_READ, WEIR_MMAP_POOL);
}

static bool call_map_control(void)
{
	return map(&s.control, s.commit.control_bytes, PROT_READ, WEIR_MMAP_CONTROL);
}

static bool call_map_claims(void)
{
	return map(&s.claim, s.commit.claims_bytes, PROT_READ | PROT_WRITE, WEIR_MMAP_CLAIMS);
}

/* A fault for which there is no memory is repeated by the kernel. */
static bool touch(void)
{
	volatile uint8_t sum = 0;

	s.frame_offset = (const void *)((const char *)s.control + s.control->frame_offset);
	s.state = (const void *)((const char *)s.control + s.control->state_offset);
	for (uint32_t f = 0; f < s.commit.n_frame; f++)
		for (uint64_t at = 0; at < len; at += 4096)
			sum += s.pool[s.frame_offset[f] + at];
	(void)sum;
	s.claim[0].acquired += 0;
	return true;
}

static bool call_acquire(void)
{
	return !weir_acquire_many(s.fd, acquired, N(acquired), 20000000000ll, off, 0);
}

static bool call_wait(void)
{
	return !weir_acquire_many(s.fd, wanted, N(wanted), 20000000000ll, NULL,
				  WEIR_ACQUIRE_WAIT_ONLY);
}

static bool call_release(void)
{
	struct weir_release a = {
		.size = sizeof(a), .count = N(acquired), .extents = (uintptr_t)acquired};

	return !ioctl(s.fd, WEIR_IOC_RELEASE, &a);
}

static bool call_hint(void)
{
	struct weir_hint a = {
		.size = sizeof(a), .count = N(wanted), .priority = 1, .extents = (uintptr_t)wanted};

	return !ioctl(s.fd, WEIR_IOC_HINT, &a);
}

static bool call_schedule(void)
{
	struct weir_schedule a = {.size = sizeof(a), .count = n_order, .extents = (uintptr_t)order};

	return !ioctl(s.fd, WEIR_IOC_SCHEDULE, &a);
}

static bool call_priority(void)
{
	struct weir_set_priority a = {.size = sizeof(a), .priority = WEIR_BACKGROUND};

	return !ioctl(s.fd, WEIR_IOC_PRIORITY, &a);
}

static bool call_export(void)
{
	struct weir_export a = {.size = sizeof(a)};

	if (ioctl(s.fd, WEIR_IOC_EXPORT, &a))
		return false;
	dmabuf = a.fd;
	return true;
}

static bool call_stats(void)
{
	struct weir_stats st;

	return !weir_get_stats(s.fd, &st);
}

/* Only now is it known to whom the acquires went: all of them have been released. */
static bool claims_are_even(void)
{
	for (uint32_t f = 0; f < s.commit.n_frame; f++)
		if (s.claim[f].acquired != s.claim[f].released) {
			errno = EUCLEAN;
			return false;
		}
	return true;
}

static bool close_dmabuf(void)
{
	int fd = dmabuf;

	dmabuf = -1;
	return fd < 0 || !close(fd);
}

static bool unmap_pool(void)
{
	if (s.pool && munmap((void *)s.pool, s.commit.map_bytes))
		return false;
	s.pool = NULL;
	return true;
}

static bool unmap_control(void)
{
	if (s.control && munmap((void *)s.control, s.commit.control_bytes))
		return false;
	s.control = NULL;
	return true;
}

static bool unmap_claims(void)
{
	if (s.claim && munmap(s.claim, s.commit.claims_bytes))
		return false;
	s.claim = NULL;
	return true;
}

static bool call_close(void)
{
	int fd = s.fd;

	s.fd = -1;
	return fd < 0 || !close(fd);
}

static const struct call {
	const char *name;
	bool (*make)(void);
	bool fails; /* it allocates, or copies, and must be seen to fail */
	bool ends;  /* made after a failure, too */
} calls[] = {
	{"open", call_open, true, false},
	{"info", call_info, true, false},
	{"attach", call_attach, true, false},
	{"extents", call_extents, true, false},
	{"commit", call_commit, true, false},
	{"mmap of the pool", call_map_pool, true, false},
	{"mmap of the control page", call_map_control, true, false},
	{"mmap of the claims", call_map_claims, true, false},
	{"first touch", touch, false, false},
	{"acquire", call_acquire, true, false},
	{"release", call_release, true, false},
	{"wait", call_wait, true, false},
	{"hint", call_hint, true, false},
	{"schedule", call_schedule, true, false},
	{"priority", call_priority, true, false},
	{"export", call_export, true, false},
	{"stats", call_stats, true, false},
	{"claims", claims_are_even, false, false},
	{"close of the dma-buf", close_dmabuf, false, true},
	{"munmap of the pool", unmap_pool, false, true},
	{"munmap of the control page", unmap_control, false, true},
	{"munmap of the claims", unmap_claims, false, true},
	{"close", call_close, false, true},
};

/* Makes one call, of which the nth chance to fail is taken (0: none). *struck: it has been. */
static bool make_call(const struct call *c, uint32_t n, bool *struck)
{
	int error;
	bool ok;

	arm(n);
	ok = c->make();
	error = errno;
	*struck = n && disarm();
	if (!ok && (!*struck || (error != ENOMEM && error != EFAULT))) {
		printf("# %s: %s\n", c->name, strerror(error));
		test_failed = true;
	}
	return ok;
}

/* What one run came to. */
struct outcome {
	bool struck, failed;
};

/* A run in which @victim's nth chance to fail is taken. */
static struct outcome run(const struct call *victim, uint32_t n, bool again)
{
	struct outcome o = {0};
	bool over = false, struck;

	for (size_t i = 0; i < N(calls); i++) {
		const struct call *c = &calls[i];
		bool ok;

		if (over && !c->ends)
			continue;
		ok = make_call(c, c == victim ? n : 0, c == victim ? &o.struck : &struck);
		if (!ok && c == victim) {
			o.failed = true;
			if (again || c->ends)
				ok = make_call(c, 0, &struck);
		}
		/* For good: what follows makes no sense. */
		over |= !ok;
	}
	return o;
}

static int lowest_descriptor(void)
{
	int fd = dup(file);

	close(fd);
	return fd;
}

/* Who may lock no more than this notices whatever stays counted against it. */
static bool may_lock(uint64_t n)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	struct rlimit r = {n, n};

	if (syscall(SYS_capget, &header, data))
		return false;
	data[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
	return !syscall(SYS_capset, &header, data) && !setrlimit(RLIMIT_MEMLOCK, &r);
}

static void declare_all(void)
{
	s = (struct session){.fd = -1};
	dmabuf = -1;
	n_order = 0;
	for (uint64_t at = 0; at < bytes; at += len) {
		uint32_t kind = s.n % 4 ? WEIR_EXTENT_STREAM : WEIR_EXTENT_PIN;

		if (kind == WEIR_EXTENT_STREAM)
			order[n_order++] = s.n;
		s.x[s.n++] = (struct weir_extent){.kind = kind, .offset = at, .length = len};
	}
}

/* All chances of one call to fail. */
static void sweep_call(const struct call *c, bool again)
{
	uint32_t n = 0, missed = 0, failed = 0, silent = 0;
	int descriptor = lowest_descriptor();
	uint64_t before = pinned_now();

	/* How many there are varies a little: a slab may have to be filled or not. */
	while (missed < 3) {
		struct outcome o = run(c, ++n, again);

		missed = o.struck ? 0 : missed + 1;
		failed += o.failed;
		silent += o.struck && !o.failed;
		ASSERT(pinned_becomes(before));
		ASSERT(lowest_descriptor() == descriptor);
		if (test_failed) {
			printf("# ... after failure %u of %s\n", n, c->name);
			return;
		}
	}
	printf("# %s: %u failures, and %u that it got over\n", c->name, failed, silent);
	EXPECT(failed || !c->fails);
}

static void sweep(bool again)
{
	bool failed = false;

	declare_all();
	ASSERT(may_lock((s.n / 4 + n_slot) * len));
	run(NULL, 0, false);
	ASSERT(!test_failed);
	for (size_t i = 0; i < N(calls); i++) {
		sweep_call(&calls[i], again);
		failed |= test_failed;
		test_failed = false;
	}
	test_failed = failed;
}

static void a_call_that_failed_had_no_effect_and_works_again(void)
{
	NEED_INJECTION();
	sweep(true);
}

static void a_session_that_is_closed_after_a_failure_leaves_nothing(void)
{
	NEED_INJECTION();
	sweep(false);
}

/* ---- what fails in a kernel thread ---- */

/* Where the code of a function of the module is: up to the next one. */
static bool module_function(const char *name, uint64_t *from, uint64_t *to)
{
	static uint64_t all[4096];
	FILE *f = fopen("/proc/kallsyms", "re");
	char line[256], symbol[128], type;
	size_t n = 0;

	*from = 0;
	*to = UINT64_MAX;
	while (f && n < N(all) && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "\t[weir]") ||
		    sscanf(line, "%" SCNx64 " %c %127s", &all[n], &type, symbol) != 3)
			continue;
		if (!strcmp(symbol, name))
			*from = all[n];
		n++;
	}
	if (f)
		fclose(f);
	for (size_t i = 0; i < n; i++)
		if (all[i] > *from && all[i] < *to)
			*to = all[i];
	return *from && *to != UINT64_MAX;
}

/* That many of 100 allocations fail of those that the engine makes in its kernel thread. */
static bool engine_fails(const char *percent)
{
	uint64_t from, to;
	char text[2][32];
	bool ok = module_function("weir_engine_work", &from, &to);

	snprintf(text[0], sizeof(text[0]), "%#" PRIx64, from);
	snprintf(text[1], sizeof(text[1]), "%#" PRIx64, to);
	for (int i = 0; i < 2; i++) {
		const char *a = attributes[i];

		ok = ok && set(a, "probability", "0") && set(a, "require-start", text[0]) &&
		     set(a, "require-end", text[1]) && set(a, "stacktrace-depth", "32") &&
		     set(a, "task-filter", "N") && set(a, "times", "-1") &&
		     set(a, "probability", percent);
	}
	return ok;
}

static void engine_fails_no_more(void)
{
	for (int i = 0; i < 2; i++) {
		EXPECT(set(attributes[i], "probability", "0"));
		EXPECT(set(attributes[i], "require-start", "0"));
		EXPECT(set(attributes[i], "require-end", "0xffffffffffffffff"));
	}
}

/* A pass in which every call is repeated until it works; how many did not. */
static uint32_t stubborn_pass(void)
{
	uint32_t refused = 0;

	for (uint32_t e = 0; e < s.n; e++) {
		uint64_t at = UINT64_MAX;
		int tries = 0;

		while (weir_acquire1(s.fd, e, &at) && errno == ENOMEM && tries++ < 1000)
			refused++;
		if (at == UINT64_MAX ||
		    first_wrong(s.pool + at, seed, s.x[e].offset, s.x[e].length) != len) {
			printf("# extent %u: wrong, or %s\n", e, strerror(errno));
			test_failed = true;
			return refused;
		}
		while (weir_release1(s.fd, e) && errno == ENOMEM && tries++ < 1000)
			refused++;
	}
	return refused;
}

static void reads_for_which_there_is_no_memory_are_told_and_made_again(void)
{
	uint64_t before = pinned_now();
	struct weir_stats st = {0};
	uint32_t refused = 0;

	NEED_INJECTION();
	if (!engine_fails("0"))
		SKIP("the kernel has no filter for fault injection");
	for (int round = 0; round < 4 && !test_failed; round++) {
		/* Before it is opened, so that pins cannot be read either. */
		EXPECT(engine_fails("40"));
		EXPECT(session_open(&s, file, bytes, len, true, n_slot));
		for (int pass = 0; pass < 4 && !test_failed; pass++)
			refused += stubborn_pass();
		engine_fails_no_more();
		/* An error that nobody was told is told now, once. */
		stubborn_pass();
		EXPECT_EQ(stubborn_pass(), 0);
		EXPECT(weir_get_stats(s.fd, &st) == 0 && st.errors > 0);
		session_close(&s);
		EXPECT(pinned_becomes(before));
	}
	engine_fails_no_more();
	printf("# %u calls were refused; %" PRIu64 " reads of the last session failed\n", refused,
	       (uint64_t)st.errors);
}

static const struct test tests[] = {
	{"a_call_that_failed_had_no_effect_and_works_again",
	 a_call_that_failed_had_no_effect_and_works_again},
	{"a_session_that_is_closed_after_a_failure_leaves_nothing",
	 a_session_that_is_closed_after_a_failure_leaves_nothing},
	{"reads_for_which_there_is_no_memory_are_told_and_made_again",
	 reads_for_which_there_is_no_memory_are_told_and_made_again},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	file = make_file("failnth", seed, bytes);
	return file < 0 ? 1 : run_tests(tests, N(tests));
}
