// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The ioctls themselves: every number, every size, every flag, before and after COMMIT; and the
 * layout, which must be the same for 32- and 64-bit callers and may only grow.
 */
#include "weir_test.h"

#include <stddef.h>

struct op {
	const char *name;
	unsigned int nr;
	uint32_t size, min_size, flags;
	int reserved; /* offset of a u32 that must be 0, or -1 */
};

#define OP(cmd, type, last, known, res)                                                            \
	{                                                                                          \
#cmd, cmd, sizeof(struct type),                                                    \
			offsetof(struct type, last) + sizeof(((struct type *)0)->last), known, res \
	}

static const struct op ops[] = {
	OP(WEIR_IOC_INFO, weir_info, max_files, 0, -1),
	OP(WEIR_IOC_ATTACH, weir_attach, file_bytes, WEIR_ATTACH_BUFFERED, -1),
	OP(WEIR_IOC_EXTENTS, weir_extents, extents, 0, offsetof(struct weir_extents, reserved)),
	OP(WEIR_IOC_COMMIT, weir_commit, shared_bytes, WEIR_COMMIT_REGISTERED,
	   offsetof(struct weir_commit, reserved)),
	OP(WEIR_IOC_ACQUIRE, weir_acquire_args, offsets, WEIR_ACQUIRE_WAIT_ONLY, -1),
	OP(WEIR_IOC_RELEASE, weir_release, extents, 0, offsetof(struct weir_release, reserved)),
	OP(WEIR_IOC_HINT, weir_hint, extents, 0, -1),
	OP(WEIR_IOC_SCHEDULE, weir_schedule, extents, 0, offsetof(struct weir_schedule, reserved)),
	OP(WEIR_IOC_PRIORITY, weir_set_priority, reserved, 0,
	   offsetof(struct weir_set_priority, reserved)),
	OP(WEIR_IOC_EXPORT, weir_export, reserved, 0, offsetof(struct weir_export, reserved)),
	OP(WEIR_IOC_STATS, weir_stats, shared_bytes, 0, -1),
};

static union {
	uint32_t size;
	uint8_t byte[4096 + 64];
	uint32_t word[1024];
} arg;

static int call(int fd, unsigned int nr, uint32_t size)
{
	arg.size = size;
	errno = 0;
	return ioctl(fd, nr, &arg) ? errno : 0;
}

static void clear(void)
{
	memset(&arg, 0, sizeof(arg));
}

#define EXPECT_IS(op, got, want)                                                                   \
	do {                                                                                       \
		int g_ = (got);                                                                    \
		if (g_ != (want)) {                                                                \
			printf("# %s:%d: %s gives %s, not %s\n", __FILE__, __LINE__, (op)->name,   \
			       strerror(g_), #want);                                               \
			test_failed = true;                                                        \
		}                                                                                  \
	} while (0)

static void the_layout_is_what_it_was(void)
{
	/* Programs are built against these. A struct may grow; none of this may change. */
	EXPECT_EQ(sizeof(struct weir_info), 48);
	EXPECT_EQ(sizeof(struct weir_attach), 24);
	EXPECT_EQ(sizeof(struct weir_extent), 24);
	EXPECT_EQ(sizeof(struct weir_extents), 24);
	EXPECT_EQ(sizeof(struct weir_commit), 80);
	EXPECT_EQ(sizeof(struct weir_control), 40);
	EXPECT_EQ(sizeof(struct weir_claim), 8);
	EXPECT_EQ(sizeof(struct weir_acquire_args), 40);
	EXPECT_EQ(sizeof(struct weir_release), 24);
	EXPECT_EQ(sizeof(struct weir_hint), 24);
	EXPECT_EQ(sizeof(struct weir_schedule), 24);
	EXPECT_EQ(sizeof(struct weir_set_priority), 16);
	EXPECT_EQ(sizeof(struct weir_export), 16);
	EXPECT_EQ(sizeof(struct weir_stats), 160);
	EXPECT_EQ(offsetof(struct weir_acquire_args, timeout_ns), 16);
	EXPECT_EQ(offsetof(struct weir_stats, errors), 112);
	EXPECT_EQ(WEIR_IOC_INFO, 0xb900);
	EXPECT_EQ(WEIR_IOC_STATS, 0xb90a);
}

static void unknown_numbers_are_refused(void)
{
	int fd = open(DEVICE, O_RDWR);
	struct op none = {.name = "an unknown ioctl"};

	ASSERT(fd >= 0);
	clear();
	for (unsigned int nr = N(ops); nr < 256; nr++)
		EXPECT_IS(&none, call(fd, _IO(WEIR_IOC_TYPE, nr), 64), ENOTTY);
	for (size_t i = 0; i < N(ops); i++) {
		unsigned int nr = _IOC_NR(ops[i].nr);

		EXPECT_IS(&ops[i], call(fd, _IO(WEIR_IOC_TYPE ^ 1, nr), ops[i].size), ENOTTY);
		EXPECT_IS(&ops[i], call(fd, _IOWR(WEIR_IOC_TYPE, nr, uint64_t), ops[i].size),
			  ENOTTY);
	}
	close(fd);
}

/* Every size, on a session that is not committed and on one that is. */
static void check_sizes(int fd)
{
	for (size_t i = 0; i < N(ops); i++) {
		const struct op *op = &ops[i];

		clear();
		for (uint32_t size = 0; size < op->min_size; size++)
			EXPECT_IS(op, call(fd, op->nr, size), EINVAL);
		/* A longer struct of a later header is taken where its tail is zero. */
		for (uint32_t size = op->size + 1; size <= op->size + 16; size++) {
			clear();
			arg.byte[size - 1] = 1;
			EXPECT_IS(op, call(fd, op->nr, size), E2BIG);
		}
		clear();
		EXPECT(call(fd, op->nr, op->size + 8) != E2BIG);
		/* More than a page is more than any struct will ever be. */
		EXPECT(call(fd, op->nr, UINT32_MAX) != 0);
		clear();
		arg.size = op->size;
		EXPECT_ERR(ioctl(fd, op->nr, NULL), EFAULT);
		EXPECT_ERR(ioctl(fd, op->nr, (void *)(uintptr_t)~0xfffull), EFAULT);
	}
}

static void check_flags(int fd)
{
	for (size_t i = 0; i < N(ops); i++) {
		const struct op *op = &ops[i];

		for (int bit = 0; bit < 32; bit++) {
			clear();
			arg.word[1] = 1u << bit;
			if (!(op->flags & 1u << bit))
				EXPECT_IS(op, call(fd, op->nr, op->size), EOPNOTSUPP);
			if (op->reserved < 0)
				continue;
			clear();
			arg.word[op->reserved / 4] = 1u << bit;
			EXPECT_IS(op, call(fd, op->nr, op->size), EOPNOTSUPP);
		}
	}
}

static void every_size_and_flag_is_checked(void)
{
	int fd = open(DEVICE, O_RDWR);

	ASSERT(fd >= 0);
	check_sizes(fd);
	check_flags(fd);
	close(fd);
}

static void and_after_commit_too(void)
{
	int file = make_file("abi", 1, 1 * MIB);
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 1 * MIB, 64 << 10, true, 4));
	check_sizes(s.fd);
	check_flags(s.fd);
	session_close(&s);
	close(file);
}

static void a_longer_struct_with_a_zero_tail_works(void)
{
	int fd = open(DEVICE, O_RDWR);
	struct weir_info *info = (void *)&arg;

	ASSERT(fd >= 0);
	clear();
	EXPECT_EQ(call(fd, WEIR_IOC_INFO, sizeof(*info) + 40), 0);
	EXPECT(info->features & WEIR_FEATURE_SHARED);
	EXPECT(info->pinned_max > 0);
	EXPECT_EQ(info->max_extents, WEIR_MAX_EXTENTS);
	EXPECT(info->frame_sizes & 2 * MIB);
	close(fd);
}

static void calls_come_in_their_order(void)
{
	int file = make_file("abi", 1, 1 * MIB), fd = open(DEVICE, O_RDWR);
	struct weir_acquire_args acquire = {.size = sizeof(acquire), .count = 1};
	struct weir_schedule schedule = {.size = sizeof(schedule)};
	struct weir_release release = {.size = sizeof(release)};
	struct weir_export export = {.size = sizeof(export)};
	struct weir_hint hint = {.size = sizeof(hint)};
	struct weir_extent x = {.kind = WEIR_EXTENT_STREAM, .length = 4096};
	struct weir_commit commit;
	struct weir_stats stats;
	struct session s;

	ASSERT(file >= 0 && fd >= 0);
	EXPECT_ERR(ioctl(fd, WEIR_IOC_ACQUIRE, &acquire), EBUSY);
	EXPECT_ERR(ioctl(fd, WEIR_IOC_RELEASE, &release), EBUSY);
	EXPECT_ERR(ioctl(fd, WEIR_IOC_HINT, &hint), EBUSY);
	EXPECT_ERR(ioctl(fd, WEIR_IOC_SCHEDULE, &schedule), EBUSY);
	EXPECT_ERR(ioctl(fd, WEIR_IOC_EXPORT, &export), EBUSY);
	EXPECT_ERR(weir_get_stats(fd, &stats), EBUSY);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EBUSY);
	EXPECT_ERR(weir_commit_budget(fd, MIB, &commit), EINVAL);
	close(fd);
	ASSERT(session_open(&s, file, 1 * MIB, 64 << 10, true, 4));
	EXPECT_ERR(weir_attach(s.fd, file, 0), EBUSY);
	EXPECT_ERR(weir_declare(s.fd, &x, 1), EBUSY);
	EXPECT_ERR(weir_commit_budget(s.fd, MIB, &commit), EBUSY);
	session_close(&s);
	close(file);
}

static void extents_are_checked(void)
{
	static const struct {
		struct weir_extent x;
		int error;
	} bad[] = {
		{{.length = 0}, EINVAL},
		{{.offset = 512, .length = 4096}, EINVAL},
		{{.length = 100}, EINVAL},
		{{.file = 1, .length = 4096}, EINVAL},
		{{.file = ~0u, .length = 4096}, EINVAL},
		{{.kind = 4, .length = 4096}, EOPNOTSUPP},
		{{.kind = ~0u, .length = 4096}, EOPNOTSUPP},
		{{.length = 2 * MIB}, EOVERFLOW},
		{{.offset = 1 * MIB, .length = 4096}, EOVERFLOW},
		{{.offset = ~0xfffull, .length = 8192}, EOVERFLOW},
		{{.offset = 4096, .length = ~0xfffull}, EOVERFLOW},
		{{.offset = ~0xfffull, .length = ~0xfffull}, EOVERFLOW},
	};
	int file = make_file("abi", 1, 1 * MIB - 1000), fd = open(DEVICE, O_RDWR);
	struct weir_extents many = {.size = sizeof(many), .count = WEIR_MAX_EXTENTS + 1};
	struct weir_extent tail = {.offset = 1 * MIB - 4096, .length = 4096 - 1000};

	ASSERT(file >= 0 && fd >= 0);
	ASSERT(weir_attach(fd, file, 0) == 0);
	for (size_t i = 0; i < N(bad); i++) {
		errno = 0;
		if (weir_declare(fd, &bad[i].x, 1) != -1 || errno != bad[i].error) {
			printf("# extent %zu: %s\n", i, strerror(errno));
			test_failed = true;
		}
	}
	EXPECT_ERR(ioctl(fd, WEIR_IOC_EXTENTS, &many), ENOSPC);
	many.count = 1;
	EXPECT_ERR(ioctl(fd, WEIR_IOC_EXTENTS, &many), EFAULT);
	EXPECT(weir_declare(fd, &tail, 1) == 0);
	close(fd);
	close(file);
}

static void only_model_files_are_attached(void)
{
	int fd = open(DEVICE, O_RDWR), write_only, pipes[2], f;

	ASSERT(fd >= 0 && pipe(pipes) == 0);
	f = make_file("abi", 1, 4096);
	ASSERT(f >= 0);
	close(f);
	EXPECT_ERR(weir_attach(fd, -1, 0), EBADF);
	EXPECT_ERR(weir_attach(fd, 1000, 0), EBADF);
	EXPECT_ERR(weir_attach(fd, fd, 0), EINVAL);
	EXPECT_ERR(weir_attach(fd, pipes[0], 0), EINVAL);
	f = open(test_dir, O_RDONLY);
	EXPECT_ERR(weir_attach(fd, f, 0), EINVAL);
	close(f);
	f = open("/dev/zero", O_RDONLY);
	EXPECT_ERR(weir_attach(fd, f, 0), EINVAL);
	close(f);
	f = open(test_path("abi"), O_PATH);
	EXPECT_ERR(weir_attach(fd, f, 0), EBADF);
	close(f);
	write_only = open(test_path("abi"), O_WRONLY);
	EXPECT_ERR(weir_attach(fd, write_only, 0), EBADF);
	close(write_only);
	/* proc has files that direct I/O is not made for */
	f = open("/proc/self/maps", O_RDONLY);
	EXPECT(weir_attach(fd, f, 0) == -1);
	close(f);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

static void mappings_are_read_only(void)
{
	int file = make_file("abi", 1, 1 * MIB);
	struct session s;
	uint64_t len;
	void *p;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 1 * MIB, 64 << 10, true, 4));
	len = s.commit.map_bytes;
	EXPECT(mmap(NULL, len, PROT_WRITE, MAP_SHARED, s.fd, 0) == MAP_FAILED && errno == EACCES);
	EXPECT(mmap(NULL, len, PROT_READ | PROT_EXEC, MAP_SHARED, s.fd, 0) == MAP_FAILED &&
	       errno == EACCES);
	EXPECT(mmap(NULL, len, PROT_READ, MAP_PRIVATE, s.fd, 0) == MAP_FAILED && errno == EINVAL);
	EXPECT(mmap(NULL, len + 4096, PROT_READ, MAP_SHARED, s.fd, 0) == MAP_FAILED &&
	       errno == EINVAL);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, s.fd, (off_t)len) == MAP_FAILED &&
	       errno == EINVAL);
	EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, WEIR_MMAP_CONTROL) ==
		       MAP_FAILED &&
	       errno == EACCES);
	EXPECT(mmap(NULL, s.commit.claims_bytes + 4096, PROT_READ, MAP_SHARED, s.fd,
		    WEIR_MMAP_CLAIMS) == MAP_FAILED &&
	       errno == EINVAL);
	EXPECT_ERR(mprotect((void *)s.pool, 4096, PROT_READ | PROT_WRITE), EACCES);
	EXPECT_ERR(mprotect((void *)s.pool, 4096, PROT_READ | PROT_EXEC), EACCES);
	EXPECT_ERR(mprotect((void *)s.control, 4096, PROT_READ | PROT_WRITE), EACCES);
	EXPECT(mremap((void *)s.pool, len, len + MIB, MREMAP_MAYMOVE) == MAP_FAILED);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, s.fd, 4096);
	EXPECT(p != MAP_FAILED);
	munmap(p, 4096);
	session_close(&s);
	close(file);
}

static const struct test tests[] = {
	{"the_layout_is_what_it_was", the_layout_is_what_it_was},
	{"unknown_numbers_are_refused", unknown_numbers_are_refused},
	{"every_size_and_flag_is_checked", every_size_and_flag_is_checked},
	{"and_after_commit_too", and_after_commit_too},
	{"a_longer_struct_with_a_zero_tail_works", a_longer_struct_with_a_zero_tail_works},
	{"calls_come_in_their_order", calls_come_in_their_order},
	{"extents_are_checked", extents_are_checked},
	{"only_model_files_are_attached", only_model_files_are_attached},
	{"mappings_are_read_only", mappings_are_read_only},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	return run_tests(tests, N(tests));
}
