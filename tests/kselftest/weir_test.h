/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What every test of /dev/weir needs: TAP, files whose bytes can be told from their place, and
 * sessions. Programs print TAP and end with 0 (all passed), 1 or 4 (skipped), as kselftests do.
 */
#ifndef WEIR_TEST_H
#define WEIR_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "include/uapi/linux/weir.h"

#define DEVICE "/dev/weir"
#define MIB    (1ull << 20)
#define N(x)   (sizeof(x) / sizeof((x)[0]))

/* ---- TAP ---- */

struct test {
	const char *name;
	void (*run)(void);
};

static int test_number, test_failures, test_skips;
static bool test_failed;
static const char *test_skip;

#define SKIP(why)                                                                                  \
	do {                                                                                       \
		test_skip = (why);                                                                 \
		return;                                                                            \
	} while (0)

/* Goes on after a failure: what follows may say more. */
#define EXPECT(x)                                                                                  \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			printf("# %s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #x, errno,      \
			       strerror(errno));                                                   \
			test_failed = true;                                                        \
		}                                                                                  \
	} while (0)

/* Leaves the test: what follows makes no sense. */
#define ASSERT(x)                                                                                  \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			printf("# %s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #x, errno,      \
			       strerror(errno));                                                   \
			test_failed = true;                                                        \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define EXPECT_EQ(a, b)                                                                            \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_) {                                                                    \
			printf("# %s:%d: %s is %lld, not %s = %lld\n", __FILE__, __LINE__, #a, a_, \
			       #b, b_);                                                            \
			test_failed = true;                                                        \
		}                                                                                  \
	} while (0)

/* An expression that fails with an errno. */
#define EXPECT_ERR(x, e)                                                                           \
	do {                                                                                       \
		errno = 0;                                                                         \
		long long r_ = (long long)(x);                                                     \
		if (r_ != -1 || errno != (e)) {                                                    \
			printf("# %s:%d: %s gives %lld, errno %d (%s), not %s\n", __FILE__,        \
			       __LINE__, #x, r_, errno, strerror(errno), #e);                      \
			test_failed = true;                                                        \
		}                                                                                  \
	} while (0)

static int run_tests(const struct test *t, size_t n)
{
	printf("TAP version 13\n1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		test_failed = false;
		test_skip = NULL;
		t[i].run();
		test_number++;
		printf("%s %d %s%s%s\n", test_failed ? "not ok" : "ok", test_number, t[i].name,
		       test_skip ? " # SKIP " : "", test_skip ? test_skip : "");
		fflush(stdout);
		test_failures += test_failed;
		test_skips += test_skip != NULL;
	}
	if (test_failures)
		return 1;
	return (size_t)test_skips == n ? 4 : 0;
}

/* ---- files ---- */

/* The word at an offset of a file; other files have another seed. */
static inline uint64_t word_at(uint64_t seed, uint64_t off)
{
	uint64_t x = (off / 8 + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;

	x ^= x >> 31;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 29;
}

static inline void fill_words(void *buf, uint64_t seed, uint64_t off, uint64_t len)
{
	uint8_t *p = buf;

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t w = word_at(seed, off + i), n = len - i < 8 ? len - i : 8;

		memcpy(p + i, &w, n);
	}
}

/* Where [buf, buf + len) first differs from the file; len where it does not. */
static inline uint64_t first_wrong(const void *buf, uint64_t seed, uint64_t off, uint64_t len)
{
	const uint8_t *p = buf;

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t w = word_at(seed, off + i), n = len - i < 8 ? len - i : 8;

		if (memcmp(p + i, &w, n))
			return i;
	}
	return len;
}

/* Where test files lie: the first argument of the program, or $WEIR_TEST_DIR, or here. */
static const char *test_dir = ".";

static inline const char *test_path(const char *name)
{
	static char path[4][512];
	static int i;
	char *p = path[i++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", test_dir, name);
	return p;
}

/* A file of @len bytes on the disk, open for reading; -1 with a message. */
static inline int make_file(const char *name, uint64_t seed, uint64_t len)
{
	const char *path = test_path(name);
	static uint8_t buf[1 << 20];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		goto fail;
	for (uint64_t at = 0; at < len;) {
		uint64_t n = len - at < sizeof(buf) ? len - at : sizeof(buf);

		fill_words(buf, seed, at, n);
		if (pwrite(fd, buf, n, (off_t)at) != (ssize_t)n)
			goto fail;
		at += n;
	}
	fsync(fd);
	close(fd);
	fd = open(path, O_RDONLY);
	if (fd >= 0)
		return fd;
fail:
	printf("# %s: %s\n", path, strerror(errno));
	return -1;
}

/* ---- sessions ---- */

struct session {
	int fd;
	struct weir_commit commit;
	const uint8_t *pool;
	const struct weir_control *control;
	const uint64_t *frame_offset;
	const uint32_t *state;
	struct weir_claim *claim;
	uint32_t n;		    /* extents */
	struct weir_extent x[4096]; /* as declared */
};

static inline int weir_attach(int session, int fd, uint32_t flags)
{
	struct weir_attach a = {.size = sizeof(a), .flags = flags, .fd = fd};

	return ioctl(session, WEIR_IOC_ATTACH, &a) ? -1 : (int)a.file;
}

static inline int weir_declare(int session, const struct weir_extent *x, uint32_t n)
{
	struct weir_extents a = {.size = sizeof(a), .count = n, .extents = (uintptr_t)x};

	return ioctl(session, WEIR_IOC_EXTENTS, &a);
}

static inline int weir_acquire_many(int session, const uint32_t *e, uint32_t n, int64_t timeout,
				    uint64_t *off, uint32_t flags)
{
	struct weir_acquire_args a = {
		.size = sizeof(a),
		.flags = flags,
		.count = n,
		.timeout_ns = timeout,
		.extents = (uintptr_t)e,
		.offsets = (uintptr_t)off,
	};

	return ioctl(session, WEIR_IOC_ACQUIRE, &a);
}

static inline int weir_acquire1(int session, uint32_t e, uint64_t *off)
{
	return weir_acquire_many(session, &e, 1, 20000000000ll, off, 0);
}

static inline int weir_release1(int session, uint32_t e)
{
	struct weir_release a = {.size = sizeof(a), .count = 1, .extents = (uintptr_t)&e};

	return ioctl(session, WEIR_IOC_RELEASE, &a);
}

static inline int weir_get_stats(int session, struct weir_stats *st)
{
	*st = (struct weir_stats){.size = sizeof(*st)};
	return ioctl(session, WEIR_IOC_STATS, st);
}

static inline uint64_t weir_pinned(int session)
{
	struct weir_info i = {.size = sizeof(i)};

	return ioctl(session, WEIR_IOC_INFO, &i) ? ~0ull : i.pinned_now;
}

/* The same without a session of one's own. */
static inline uint64_t pinned_now(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	uint64_t n = weir_pinned(fd);

	close(fd);
	return n;
}

/* What a close() waits for is a courtesy, with an end: a machine may be slower than that. */
static inline bool pinned_becomes(uint64_t n)
{
	for (int i = 0; i < 500; i++) {
		if (pinned_now() == n)
			return true;
		usleep(10000);
	}
	printf("# %lld bytes pinned, not %llu\n", (long long)pinned_now(), (unsigned long long)n);
	return false;
}

static inline int weir_commit_budget(int session, uint64_t budget, struct weir_commit *c)
{
	*c = (struct weir_commit){.size = sizeof(*c), .budget = budget};
	return ioctl(session, WEIR_IOC_COMMIT, c);
}

static inline bool session_map(struct session *s)
{
	void *p;

	p = mmap(NULL, s->commit.map_bytes, PROT_READ, MAP_SHARED, s->fd, WEIR_MMAP_POOL);
	if (p == MAP_FAILED)
		return false;
	s->pool = p;
	p = mmap(NULL, s->commit.control_bytes, PROT_READ, MAP_SHARED, s->fd, WEIR_MMAP_CONTROL);
	if (p == MAP_FAILED)
		return false;
	s->control = p;
	s->frame_offset = (const void *)((const char *)p + s->control->frame_offset);
	s->state = (const void *)((const char *)p + s->control->state_offset);
	p = mmap(NULL, s->commit.claims_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
		 WEIR_MMAP_CLAIMS);
	if (p == MAP_FAILED)
		return false;
	s->claim = p;
	return true;
}

static inline void session_close(struct session *s)
{
	if (s->pool)
		munmap((void *)s->pool, s->commit.map_bytes);
	if (s->control)
		munmap((void *)s->control, s->commit.control_bytes);
	if (s->claim)
		munmap(s->claim, s->commit.claims_bytes);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct session){.fd = -1};
}

/*
 * A session over one file: extents of @len bytes, of which every fourth is pinned where @pin; a
 * ring of @n_slot slots. False with errno where a step failed.
 */
static inline bool session_open(struct session *s, int file, uint64_t bytes, uint64_t len, bool pin,
				uint32_t n_slot)
{
	uint64_t pinned = 0;

	*s = (struct session){.fd = open(DEVICE, O_RDWR | O_CLOEXEC)};
	if (s->fd < 0 || weir_attach(s->fd, file, 0) < 0)
		return false;
	for (uint64_t off = 0; off < bytes; off += len) {
		bool is_pin = pin && s->n % 4 == 0;

		s->x[s->n++] = (struct weir_extent){
			.kind = is_pin ? WEIR_EXTENT_PIN : WEIR_EXTENT_STREAM,
			.offset = off,
			.length = bytes - off < len ? bytes - off : len,
		};
		pinned += is_pin ? (s->x[s->n - 1].length + 4095) / 4096 * 4096 : 0;
	}
	return !weir_declare(s->fd, s->x, s->n) &&
	       !weir_commit_budget(s->fd, pinned + n_slot * ((len + 4095) / 4096 * 4096),
				   &s->commit) &&
	       session_map(s);
}

/* ---- the control page's protocol ---- */

/* Acquires without a system call where that can be; counts those it needed in *calls. */
static inline const uint8_t *session_acquire(struct session *s, uint32_t e, uint64_t *calls)
{
	for (;;) {
		uint32_t w = __atomic_load_n(&s->state[e], __ATOMIC_ACQUIRE);
		uint32_t f = w >> WEIR_STATE_SHIFT;

		if ((w & WEIR_STATE_MASK) == WEIR_STATE_PINNED)
			return s->pool + s->frame_offset[f];
		if ((w & WEIR_STATE_MASK) == WEIR_STATE_READY) {
			__atomic_fetch_add(&s->claim[f].acquired, 1, __ATOMIC_SEQ_CST);
			if (__atomic_load_n(&s->state[e], __ATOMIC_SEQ_CST) == w)
				return s->pool + s->frame_offset[f];
			__atomic_fetch_add(&s->claim[f].released, 1, __ATOMIC_SEQ_CST);
		}
		++*calls;
		if (weir_acquire_many(s->fd, &e, 1, 20000000000ll, NULL, WEIR_ACQUIRE_WAIT_ONLY))
			return NULL;
	}
}

static inline void session_release(struct session *s, uint32_t e, uint64_t *calls)
{
	uint32_t w = __atomic_load_n(&s->state[e], __ATOMIC_ACQUIRE);

	if ((w & WEIR_STATE_MASK) != WEIR_STATE_READY)
		return;
	__atomic_fetch_add(&s->claim[w >> WEIR_STATE_SHIFT].released, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->control->flags, __ATOMIC_SEQ_CST) & WEIR_CONTROL_KICK) {
		struct weir_release a = {.size = sizeof(a)};

		++*calls;
		ioctl(s->fd, WEIR_IOC_RELEASE, &a);
	}
}

/* How many times as long to wait for what takes no time elsewhere: a debug kernel is slow. */
static inline unsigned int patience(void)
{
	return access("/proc/thread-self/fail-nth", F_OK) ? 1 : 4;
}

static inline double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
