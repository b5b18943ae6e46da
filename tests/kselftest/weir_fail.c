// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Files that change, and flash that fails: what a consumer gets is the file as it was when it was
 * attached, whole, or an error. Never bytes that were in memory before, never a mixture.
 *
 * Reads fail and hang through the device mapper, by its ioctls, over a drive of its own, whose
 * content is lost: the NVMe drive whose serial number is "weir-spare". Those tests are skipped
 * where there is none.
 *
 * With a second argument the program is a tool for unload.sh: "hang" leaves a read in flight behind
 * that ends with "resume".
 */
#include "weir_test.h"

#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/sysmacros.h>

static const uint64_t len = 256 << 10, bytes = 8 * MIB;

/* ---- helpers ---- */

/* Memory that is not zero, for whoever gets it next. */
static void poison(void)
{
	uint64_t n = 128 * MIB;
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	memset(p, 0xa5, n);
	munmap(p, n);
}

/* A change at once after ATTACH would have the same time of change, which is told in ticks. */
static void a_tick_passes(void)
{
	usleep(30000);
}

static bool right(struct session *s, uint32_t e, const uint8_t *p, uint64_t seed)
{
	uint64_t wrong = first_wrong(p, seed, s->x[e].offset, s->x[e].length);

	if (wrong != s->x[e].length)
		printf("# extent %u differs at %llu\n", e, (unsigned long long)wrong);
	return wrong == s->x[e].length;
}

/*
 * Streams until an ACQUIRE fails, for at most @passes: its errno, or 0. EBADMSG where what came was
 * not the file's.
 */
static int stream_until_error(struct session *s, int passes, uint64_t seed)
{
	for (int pass = 0; pass < passes; pass++)
		for (uint32_t e = 0; e < s->n; e++) {
			uint64_t off;

			if (weir_acquire1(s->fd, e, &off))
				return errno;
			if (!right(s, e, s->pool + off, seed))
				return EBADMSG;
			if (weir_release1(s->fd, e))
				return errno;
		}
	return 0;
}

/* ---- files that change ---- */

static bool overwrite(const char *name, uint64_t seed, uint64_t from, uint64_t n)
{
	static uint8_t buf[1 << 20];
	int fd = open(test_path(name), O_WRONLY);
	bool ok = fd >= 0;

	for (uint64_t at = from; ok && at < from + n; at += sizeof(buf)) {
		fill_words(buf, seed, at, sizeof(buf));
		ok = pwrite(fd, buf, sizeof(buf), (off_t)at) == sizeof(buf);
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool change_truncate(const char *name)
{
	return !truncate(test_path(name), bytes / 2 + 100);
}

static bool change_truncate_to_nothing(const char *name)
{
	return !truncate(test_path(name), 0);
}

static bool change_rewrite(const char *name)
{
	return overwrite(name, 99, 0, bytes);
}

static bool change_one_byte(const char *name)
{
	int fd = open(test_path(name), O_WRONLY);
	bool ok = fd >= 0 && pwrite(fd, "x", 1, bytes - 1) == 1;

	close(fd);
	return ok;
}

static bool change_append(const char *name)
{
	int fd = open(test_path(name), O_WRONLY | O_APPEND);
	bool ok = fd >= 0 && write(fd, "x", 1) == 1;

	close(fd);
	return ok;
}

static bool change_hole(const char *name)
{
	int fd = open(test_path(name), O_WRONLY);
	bool ok = fd >= 0 && !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes);

	close(fd);
	return ok;
}

static bool change_rename(const char *name)
{
	int fd = make_file("fail-other", 99, bytes);

	close(fd);
	return fd >= 0 && !rename(test_path("fail-other"), test_path(name));
}

static bool change_mapped(const char *name)
{
	int fd = open(test_path(name), O_RDWR);
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return false;
	p[bytes / 2] ^= 1;
	munmap(p, bytes);
	close(fd);
	return true;
}

static bool change_restored(const char *name)
{
	/* Size and time of modification are as before: only the time of change tells. */
	struct timespec t[2];
	struct stat st;

	if (stat(test_path(name), &st) || !overwrite(name, 99, 0, bytes))
		return false;
	t[0] = st.st_atim;
	t[1] = st.st_mtim;
	return !utimensat(AT_FDCWD, test_path(name), t, 0);
}

static const struct change {
	const char *name;
	bool (*make)(const char *name);
} changes[] = {
	{"truncated", change_truncate},
	{"truncated to nothing", change_truncate_to_nothing},
	{"rewritten", change_rewrite},
	{"one byte", change_one_byte},
	{"appended to", change_append},
	{"a hole", change_hole},
	{"replaced", change_rename},
	{"written to through a mapping", change_mapped},
	{"rewritten, with the old times", change_restored},
};

static void says(const char *what)
{
	if (test_failed)
		printf("# ... where the file was changed: %s\n", what);
}

static void a_change_before_commit_is_told_by_commit(void)
{
	uint64_t before = pinned_now();

	for (size_t i = 0; i < N(changes); i++) {
		int file = make_file("fail", 1, bytes), fd = open(DEVICE, O_RDWR);
		struct weir_extent x = {.kind = i % 2, .length = len};
		struct weir_commit c;

		ASSERT(file >= 0 && fd >= 0 && weir_attach(fd, file, 0) == 0);
		ASSERT(weir_declare(fd, &x, 1) == 0);
		a_tick_passes();
		ASSERT(changes[i].make("fail"));
		EXPECT_ERR(weir_commit_budget(fd, 2 * len, &c), ESTALE);
		says(changes[i].name);
		close(fd);
		close(file);
	}
	EXPECT(pinned_becomes(before));
}

static void a_change_while_streaming_is_told_by_acquire(void)
{
	for (size_t i = 0; i < N(changes); i++) {
		int file = make_file("fail", 1, bytes);
		struct session s;

		ASSERT(file >= 0 && session_open(&s, file, bytes, len, true, 4));
		EXPECT_EQ(stream_until_error(&s, 1, 1), 0);
		a_tick_passes();
		ASSERT(changes[i].make("fail"));
		/* Within a pass, because a pass reads; and what it gives before that is old. */
		EXPECT_EQ(stream_until_error(&s, 2, 1), ESTALE);
		/* And it is final, for all extents, pinned ones too. */
		for (uint32_t e = 0; e < s.n; e++)
			EXPECT_ERR(weir_acquire1(s.fd, e, NULL), ESTALE);
		EXPECT_EQ(s.control->error, -ESTALE);
		says(changes[i].name);
		session_close(&s);
		close(file);
	}
}

static void a_change_while_pins_are_read_is_told_by_acquire(void)
{
	int file = make_file("fail", 1, 64 * MIB);
	uint64_t off;
	struct session s;
	int told = 0;

	ASSERT(file >= 0 && session_open(&s, file, 64 * MIB, MIB, true, 2));
	/* While it is being read, or afterwards: nobody can know. Never a mixture. */
	ASSERT(overwrite("fail", 99, 0, 64 * MIB));
	for (uint32_t e = 0; e < s.n; e += 4) {
		if (weir_acquire1(s.fd, e, &off) == 0) {
			EXPECT(right(&s, e, s.pool + off, 1));
		} else {
			EXPECT_EQ(errno, ESTALE);
			told++;
		}
	}
	EXPECT_EQ(stream_until_error(&s, 2, 1), ESTALE);
	printf("# %d of %u pins were told to be stale\n", told, s.n / 4);
	session_close(&s);
	close(file);
}

static atomic_bool stop;

static void *thread_rewrites(void *arg)
{
	(void)arg;
	while (!stop)
		if (!overwrite("fail", 99, 0, bytes))
			break;
	return NULL;
}

static void a_writer_at_the_same_time_is_never_seen(void)
{
	for (int i = 0; i < 10; i++) {
		int file = make_file("fail", 1, bytes);
		struct session s;
		pthread_t t;

		ASSERT(file >= 0 && session_open(&s, file, bytes, len, false, 4));
		a_tick_passes();
		stop = false;
		ASSERT(pthread_create(&t, NULL, thread_rewrites, NULL) == 0);
		EXPECT_EQ(stream_until_error(&s, 1000, 1), ESTALE);
		stop = true;
		pthread_join(t, NULL);
		session_close(&s);
		close(file);
	}
}

static void whoever_attaches_the_changed_file_gets_the_change(void)
{
	int file = make_file("fail", 1, bytes);
	struct session a, b;
	uint64_t off;

	ASSERT(file >= 0 && session_open(&a, file, bytes, len, true, 2));
	for (uint32_t e = 0; e < a.n; e += 4)
		ASSERT(weir_acquire1(a.fd, e, &off) == 0);
	a_tick_passes();
	ASSERT(overwrite("fail", 2, 0, bytes));
	/* The old pins are there still, and are not shared. */
	ASSERT(session_open(&b, file, bytes, len, true, 2));
	EXPECT_EQ(b.commit.shared_bytes, 0);
	EXPECT_EQ(stream_until_error(&b, 2, 2), 0);
	session_close(&a);
	EXPECT_EQ(stream_until_error(&b, 1, 2), 0);
	session_close(&b);
	close(file);
}

/* ---- nothing but the file's bytes ---- */

/* What may be in a slot, by offset in it: each word of each extent, or zero. */
static bool scan(struct session *s, const uint64_t *image, uint64_t n_extent)
{
	for (uint32_t f = 0; f < s->control->n_frame; f++) {
		const uint64_t *p = (const void *)(s->pool + s->frame_offset[f]);

		for (uint64_t i = 0; i < len / 8; i++) {
			uint64_t w = __atomic_load_n(&p[i], __ATOMIC_RELAXED), e = 0;

			while (w && e < n_extent && image[e * len / 8 + i] != w)
				e++;
			if (w && e == n_extent) {
				printf("# frame %u, at %llu: %016llx\n", f,
				       (unsigned long long)i * 8, (unsigned long long)w);
				return false;
			}
		}
	}
	return true;
}

static void no_other_bytes_are_ever_seen(void)
{
	uint64_t n = 3 * MIB / 2 - 1234, n_extent = (n + len - 1) / len;
	int file = make_file("fail", 5, n);
	uint64_t *image = calloc(n_extent, len);
	uint64_t calls = 0;

	ASSERT(file >= 0 && image);
	fill_words(image, 5, 0, n);
	for (int round = 0; round < 6; round++) {
		struct session s;

		poison();
		ASSERT(session_open(&s, file, n, len, round % 2, round < 4 ? 3 : 8));
		for (int i = 0; i < 3; i++)
			ASSERT(scan(&s, image, n_extent));
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(session_acquire(&s, e, &calls));
			session_release(&s, e, &calls);
			ASSERT(scan(&s, image, n_extent));
		}
		session_close(&s);
	}
	free(image);
	close(file);
}

static void behind_the_end_of_the_file_is_zero(void)
{
	static const uint64_t tails[] = {1, 511, 512, 513, 2048, 4088, 4095};

	for (size_t i = 0; i < N(tails); i++)
		for (int pin = 0; pin < 2; pin++) {
			uint64_t n = 4 * len + tails[i], off, end;
			int file = make_file("fail", 6, n);
			struct session s;

			poison();
			ASSERT(file >= 0 && session_open(&s, file, n, len, pin, 3));
			/* Three slots, and five extents: the slot of the last was full before. */
			for (int pass = 0; pass < 3; pass++)
				for (uint32_t e = 0; e < s.n; e++) {
					ASSERT(weir_acquire1(s.fd, e, &off) == 0);
					EXPECT(right(&s, e, s.pool + off, 6));
					end = s.x[e].length;
					for (; e == s.n - 1 && end % 4096; end++)
						ASSERT(s.pool[off + end] == 0);
					EXPECT(weir_release1(s.fd, e) == 0);
				}
			session_close(&s);
			close(file);
		}
}

static void a_pool_that_was_freed_shows_nothing_of_it(void)
{
	int file = make_file("fail", 7, bytes), other = make_file("fail-other", 8, bytes);
	struct session s;

	ASSERT(file >= 0 && other >= 0);
	for (int i = 0; i < 4; i++) {
		/* The memory of one file's pool is that of the other's next. */
		ASSERT(session_open(&s, file, bytes, len, true, 16));
		EXPECT_EQ(stream_until_error(&s, 1, 7), 0);
		session_close(&s);
		ASSERT(session_open(&s, other, bytes, len, true, 16));
		for (uint64_t k = 0; k < s.commit.n_frame; k++) {
			const uint8_t *p = s.pool + s.frame_offset[k];

			for (uint64_t at = 0; at < len; at += 4096)
				for (uint64_t from = 0; from < bytes; from += len)
					EXPECT(first_wrong(p + at, 7, from + at, 64) == 0);
		}
		EXPECT_EQ(stream_until_error(&s, 1, 8), 0);
		session_close(&s);
	}
	unlink(test_path("fail-other"));
	close(file);
	close(other);
}

/* ---- the device mapper ---- */

/* The spare drive's node; NULL where there is none. */
static const char *spare(void)
{
	static char node[32];
	char path[64], serial[32];

	for (int i = 0; i < 4; i++) {
		FILE *f;
		bool found;

		snprintf(path, sizeof(path), "/sys/block/nvme%dn1/device/serial", i);
		f = fopen(path, "re");
		found = f && fgets(serial, sizeof(serial), f) && !strncmp(serial, "weir-spare", 10);
		if (f)
			fclose(f);
		snprintf(node, sizeof(node), "/dev/nvme%dn1", i);
		if (found)
			return node;
	}
	return NULL;
}

struct dm_call {
	struct dm_ioctl io;
	uint8_t data[1024];
};

static int dm_fd = -1;
static uint32_t dm_minor;

static int dm(unsigned int cmd, uint32_t flags, struct dm_call *c)
{
	c->io.version[0] = DM_VERSION_MAJOR;
	c->io.data_size = sizeof(*c);
	c->io.data_start = offsetof(struct dm_call, data);
	c->io.flags = flags;
	snprintf(c->io.name, sizeof(c->io.name), "weir-fail");
	return ioctl(dm_fd, cmd, c);
}

/* One line of a table, behind those that are there. */
static void dm_line(struct dm_call *c, uint64_t from, uint64_t to, const char *type,
		    const char *args)
{
	size_t at = 0, n = (sizeof(struct dm_target_spec) + strlen(args) + 8) / 8 * 8;
	struct dm_target_spec *t;

	for (uint32_t i = 0; i < c->io.target_count; i++)
		at += ((struct dm_target_spec *)(c->data + at))->next;
	t = (struct dm_target_spec *)(c->data + at);
	t->sector_start = from / 512;
	t->length = (to - from) / 512;
	t->next = (uint32_t)n;
	snprintf(t->target_type, sizeof(t->target_type), "%s", type);
	strcpy((char *)(t + 1), args);
	c->io.target_count++;
}

/* From here on reads of [from, to) fail, and no other; from == to: none. */
static bool dm_fails(uint64_t from, uint64_t to)
{
	struct dm_call table = {0}, resume = {0};
	char args[64];

	snprintf(args, sizeof(args), "%s 0", spare());
	if (from)
		dm_line(&table, 0, from, "linear", args);
	if (to > from)
		dm_line(&table, from, to, "error", "");
	snprintf(args, sizeof(args), "%s %llu", spare(), (unsigned long long)to / 512);
	if (to < bytes)
		dm_line(&table, to, bytes, "linear", args);
	return !dm(DM_TABLE_LOAD, 0, &table) && !dm(DM_DEV_SUSPEND, 0, &resume);
}

/* Reads fail for every other second. */
static bool dm_flakes(void)
{
	struct dm_call table = {0}, resume = {0};
	char args[64];

	snprintf(args, sizeof(args), "%s 0 1 1", spare());
	dm_line(&table, 0, bytes, "flakey", args);
	return !dm(DM_TABLE_LOAD, 0, &table) && !dm(DM_DEV_SUSPEND, 0, &resume);
}

static bool dm_suspend(bool suspend)
{
	struct dm_call c = {0};

	return !dm(DM_DEV_SUSPEND, suspend ? DM_SUSPEND_FLAG : 0, &c);
}

/* A device of @bytes with what seed 9 says on it; or -1 with errno. */
static int dm_open(void)
{
	static uint8_t buf[1 << 20];
	struct dm_call c = {0};
	char node[32];
	int fd;

	fd = spare() ? open(spare(), O_WRONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return -1;
	for (uint64_t at = 0; at < bytes; at += sizeof(buf)) {
		fill_words(buf, 9, at, sizeof(buf));
		if (pwrite(fd, buf, sizeof(buf), (off_t)at) != sizeof(buf))
			return -1;
	}
	fsync(fd);
	close(fd);
	dm_fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (dm_fd < 0 || dm(DM_DEV_CREATE, 0, &c))
		return -1;
	dm_minor = minor((dev_t)c.io.dev);
	if (!dm_fails(bytes, bytes))
		return -1;
	snprintf(node, sizeof(node), "/dev/dm-%u", dm_minor);
	return open(node, O_RDONLY | O_CLOEXEC);
}

static void dm_close(int fd)
{
	struct dm_call c = {0};

	close(fd);
	/* Held by a session that is going, for a moment. */
	for (int i = 0; i < 300 && dm(DM_DEV_REMOVE, 0, &c) && errno == EBUSY; i++)
		usleep(10000);
	close(dm_fd);
	dm_fd = -1;
}

#define NEED_SPARE()                                                                               \
	do {                                                                                       \
		if (!spare())                                                                      \
			SKIP("no spare drive");                                                    \
	} while (0)

static void what_cannot_be_read_gives_eio_until_it_can(void)
{
	int file, status = 0;
	struct weir_stats st;
	struct session s;
	uint64_t off;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && session_open(&s, file, bytes, len, true, 4));
	EXPECT_EQ(stream_until_error(&s, 2, 9), 0);
	/* Two of the extents, neither of them pinned */
	ASSERT(dm_fails(5 * len, 7 * len));
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t e = 0; e < s.n; e++) {
			bool bad = e == 5 || e == 6;

			errno = 0;
			status = weir_acquire1(s.fd, e, &off);
			/* The first pass may find them in the ring. */
			if (bad && pass) {
				EXPECT(status == -1 && errno == EIO);
			} else if (!bad) {
				EXPECT(status == 0);
			}
			if (status)
				continue;
			EXPECT(right(&s, e, s.pool + off, 9));
			EXPECT(weir_release1(s.fd, e) == 0);
		}
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT(st.errors >= 4);
	EXPECT_EQ(s.control->error, 0);
	ASSERT(dm_fails(bytes, bytes));
	/* An error that has happened is told once, and then it is read again. */
	for (uint32_t e = 5; e < 7; e++)
		if (!weir_acquire1(s.fd, e, &off))
			EXPECT(weir_release1(s.fd, e) == 0);
	EXPECT_EQ(stream_until_error(&s, 2, 9), 0);
	session_close(&s);
	dm_close(file);
}

static void one_that_fails_takes_back_the_others_of_its_call(void)
{
	uint32_t list[3] = {1, 2, 6}, others[3] = {9, 10, 11};
	struct weir_acquire_args a = {.size = sizeof(a),
				      .count = 3,
				      .timeout_ns = 10000000000ll,
				      .extents = (uintptr_t)list};
	struct session s;
	int file;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && dm_fails(6 * len, 7 * len));
	ASSERT(session_open(&s, file, bytes, len, false, 3));
	EXPECT_ERR(ioctl(s.fd, WEIR_IOC_ACQUIRE, &a), EIO);
	EXPECT_EQ(a.failed, 2);
	EXPECT_ERR(weir_release1(s.fd, 1), EINVAL);
	EXPECT_ERR(weir_release1(s.fd, 2), EINVAL);
	/* All three slots are there for others. */
	EXPECT(weir_acquire_many(s.fd, others, 3, 10000000000ll, NULL, 0) == 0);
	session_close(&s);
	dm_close(file);
}

static void pins_that_cannot_be_read_give_eio_until_they_can(void)
{
	struct session s, other;
	uint64_t off;
	int file;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && dm_fails(4 * len, 5 * len));
	ASSERT(session_open(&s, file, bytes, len, true, 2));
	EXPECT_ERR(weir_acquire1(s.fd, 4, NULL), EIO);
	EXPECT_ERR(weir_acquire1(s.fd, 4, NULL), EIO);
	EXPECT(weir_acquire1(s.fd, 8, &off) == 0 && right(&s, 8, s.pool + off, 9));
	/* Whoever shares them is told as well. */
	ASSERT(session_open(&other, file, bytes, len, true, 2));
	EXPECT(other.commit.shared_bytes > 0);
	EXPECT_ERR(weir_acquire1(other.fd, 4, NULL), EIO);
	ASSERT(dm_fails(bytes, bytes));
	if (weir_acquire1(s.fd, 4, NULL))
		EXPECT_EQ(errno, EIO);
	EXPECT_EQ(stream_until_error(&s, 2, 9), 0);
	if (weir_acquire1(other.fd, 4, NULL))
		EXPECT_EQ(errno, EIO);
	EXPECT_EQ(stream_until_error(&other, 2, 9), 0);
	session_close(&s);
	session_close(&other);
	dm_close(file);
}

static void flash_that_comes_and_goes_gives_errors_or_right_bytes(void)
{
	uint32_t errors = 0, good = 0;
	struct session s;
	uint64_t off;
	double end;
	int file;

	NEED_SPARE();
	file = dm_open();
	if (file >= 0 && !dm_flakes()) {
		dm_close(file);
		SKIP("no dm-flakey");
	}
	ASSERT(file >= 0 && session_open(&s, file, bytes, len, true, 4));
	end = seconds() + 5;
	for (uint32_t e = 0; seconds() < end; e = (e + 1) % s.n) {
		if (weir_acquire1(s.fd, e, &off)) {
			EXPECT_EQ(errno, EIO);
			errors++;
			continue;
		}
		ASSERT(right(&s, e, s.pool + off, 9));
		EXPECT(weir_release1(s.fd, e) == 0);
		good++;
	}
	printf("# %u errors, %u extents\n", errors, good);
	EXPECT(errors && good);
	session_close(&s);
	dm_close(file);
}

/* ---- flash that hangs ---- */

static void sigalrm(int signal)
{
	(void)signal;
}

static void a_wait_for_flash_that_hangs_can_be_ended(void)
{
	struct sigaction sa = {.sa_handler = sigalrm};
	uint64_t before = pinned_now();
	struct session s;
	double start;
	int file;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && session_open(&s, file, bytes, len, false, 2));
	EXPECT_EQ(stream_until_error(&s, 1, 9), 0);
	ASSERT(dm_suspend(true));
	start = seconds();
	EXPECT_ERR(weir_acquire_many(s.fd, &(uint32_t){20}, 1, 300000000, NULL, 0), ETIMEDOUT);
	EXPECT(seconds() - start < 3);
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	EXPECT_ERR(weir_acquire_many(s.fd, &(uint32_t){20}, 1, -1, NULL, 0), EINTR);
	EXPECT(seconds() - start < 6);
	/* A close() is not kept either; the memory that the drive may write to is. */
	start = seconds();
	session_close(&s);
	EXPECT(seconds() - start < 3);
	EXPECT(pinned_now() > before);
	ASSERT(dm_suspend(false));
	EXPECT(pinned_becomes(before));
	dm_close(file);
}

static void a_process_dies_though_flash_hangs(void)
{
	uint64_t before = pinned_now();
	int file, status;
	double start;
	pid_t pid;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && dm_suspend(true));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct session s;

		/* In ACQUIRE, with reads of pins and of the ring in flight */
		if (session_open(&s, file, bytes, len, true, 4))
			weir_acquire_many(s.fd, &(uint32_t){1}, 1, -1, NULL, 0);
		_exit(1);
	}
	usleep(500000);
	EXPECT(waitpid(pid, NULL, WNOHANG) == 0);
	start = seconds();
	kill(pid, SIGKILL);
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	EXPECT(seconds() - start < 3);
	EXPECT(pinned_now() > before);
	ASSERT(dm_suspend(false));
	EXPECT(pinned_becomes(before));
	dm_close(file);
}

static void other_sessions_go_on_while_one_hangs(void)
{
	int file, other = make_file("fail", 4, bytes);
	struct session bad, good;

	NEED_SPARE();
	file = dm_open();
	ASSERT(file >= 0 && other >= 0 && dm_suspend(true));
	ASSERT(session_open(&bad, file, bytes, len, true, 4));
	ASSERT(session_open(&good, other, bytes, len, true, 4));
	EXPECT_EQ(stream_until_error(&good, 3, 4), 0);
	ASSERT(dm_suspend(false));
	EXPECT_EQ(stream_until_error(&bad, 2, 9), 0);
	session_close(&good);
	session_close(&bad);
	close(other);
	dm_close(file);
}

/* ---- the tool ---- */

static int tool_hang(void)
{
	struct session s;
	int file;

	if (!spare())
		return 4;
	file = dm_open();
	if (file < 0 || !dm_suspend(true) || !session_open(&s, file, bytes, len, true, 4))
		return 1;
	usleep(200000);
	session_close(&s);
	return 0;
}

static int tool_resume(void)
{
	dm_fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (dm_fd < 0 || !dm_suspend(false))
		return 1;
	dm_close(-1);
	return 0;
}

static const struct test tests[] = {
	{"a_change_before_commit_is_told_by_commit", a_change_before_commit_is_told_by_commit},
	{"a_change_while_streaming_is_told_by_acquire",
	 a_change_while_streaming_is_told_by_acquire},
	{"a_change_while_pins_are_read_is_told_by_acquire",
	 a_change_while_pins_are_read_is_told_by_acquire},
	{"a_writer_at_the_same_time_is_never_seen", a_writer_at_the_same_time_is_never_seen},
	{"whoever_attaches_the_changed_file_gets_the_change",
	 whoever_attaches_the_changed_file_gets_the_change},
	{"no_other_bytes_are_ever_seen", no_other_bytes_are_ever_seen},
	{"behind_the_end_of_the_file_is_zero", behind_the_end_of_the_file_is_zero},
	{"a_pool_that_was_freed_shows_nothing_of_it", a_pool_that_was_freed_shows_nothing_of_it},
	{"what_cannot_be_read_gives_eio_until_it_can", what_cannot_be_read_gives_eio_until_it_can},
	{"one_that_fails_takes_back_the_others_of_its_call",
	 one_that_fails_takes_back_the_others_of_its_call},
	{"pins_that_cannot_be_read_give_eio_until_they_can",
	 pins_that_cannot_be_read_give_eio_until_they_can},
	{"flash_that_comes_and_goes_gives_errors_or_right_bytes",
	 flash_that_comes_and_goes_gives_errors_or_right_bytes},
	{"a_wait_for_flash_that_hangs_can_be_ended", a_wait_for_flash_that_hangs_can_be_ended},
	{"a_process_dies_though_flash_hangs", a_process_dies_though_flash_hangs},
	{"other_sessions_go_on_while_one_hangs", other_sessions_go_on_while_one_hangs},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	if (argc > 2 && !strcmp(argv[2], "hang"))
		return tool_hang();
	if (argc > 2 && !strcmp(argv[2], "resume"))
		return tool_resume();
	return run_tests(tests, N(tests));
}
