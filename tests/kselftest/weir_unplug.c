// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Drives that stall, and drives that are gone: an NVMe drive that answers no read, one that is
 * taken out in order, and one that is pulled out with reads in flight. Who waits for it is told or
 * can be killed, at once; nobody gets bytes that are not the file's; nothing is left behind.
 *
 * Needs a host that helps: a line "WEIR-HOST COMMAND" on the console is a command for QEMU's
 * monitor (tests/vm/run.sh). tests/vm/guest/unplug.sh calls it as
 *
 *	weir_unplug FILE stall DRIVE		DRIVE: as QEMU calls what FILE lies on
 *	weir_unplug FILE unplug DISK DEVICE	DISK: nvme0n1; DEVICE: as QEMU calls that
 *	weir_unplug FILE pull DISK DRIVE
 *
 * FILE is made; it may be a drive, whose content is lost.
 */
#include "weir_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static const uint64_t len = 256 << 10, bytes = 8 * MIB, seed = 3;
static const char *file_name, *disk, *device, *drive;
static uint64_t before; /* pinned by others */

/* ---- helpers ---- */

static _Atomic double stalled_until;

/* Linux ends what its drive has not done in 30 s: a stall is over well before. */
static void host_stalls_reads(bool stall)
{
	stalled_until = stall ? seconds() + 15 : 0;
	/* Bytes a second; 0: as many as there are */
	printf("WEIR-HOST block_set_io_throttle %s 0 %d 0 0 0 0\n", drive, stall);
	fflush(stdout);
}

/* Ends a stall that keeps the test itself, which then fails by the time it took. */
static void *thread_watches(void *arg)
{
	for (;; usleep(100000))
		if (stalled_until && seconds() > stalled_until) {
			printf("# stalled for too long\n");
			host_stalls_reads(false);
		}
	return arg;
}

static bool right(struct session *s, uint32_t e, uint64_t off)
{
	uint64_t wrong = first_wrong(s->pool + off, seed, s->x[e].offset, s->x[e].length);

	if (wrong != s->x[e].length)
		printf("# extent %u differs at %llu\n", e, (unsigned long long)wrong);
	return wrong == s->x[e].length;
}

/* Streams on from *e until an ACQUIRE fails: its errno, or EBADMSG for bytes of something else. */
static int stream_until_error(struct session *s, uint32_t *e, int64_t timeout_ns, double end)
{
	uint64_t off;

	for (; seconds() < end; *e = (*e + 1) % s->n) {
		if (weir_acquire_many(s->fd, e, 1, timeout_ns, &off, 0))
			return errno;
		if (!right(s, *e, off))
			return EBADMSG;
		if (weir_release1(s->fd, *e))
			return errno;
	}
	return 0;
}

/* The drive is asked to stall, and does: *e is what a session over it waits for. */
static bool stalls(struct session *s, uint32_t *e)
{
	int error;

	*e = 0;
	host_stalls_reads(true);
	error = stream_until_error(s, e, 500000000, seconds() + 10);
	if (error != ETIMEDOUT)
		printf("# reads do not stall: %s\n", strerror(error));
	return error == ETIMEDOUT;
}

/* Does the module go, with nobody but reads left that use it? If so it is gone. */
static bool module_is_busy(void)
{
	return syscall(SYS_delete_module, "weir", O_NONBLOCK) == -1 && errno == EAGAIN;
}

/* The state of a process as ps shows it; in ACQUIRE it is S. */
static char state_of(pid_t pid)
{
	char path[32], state = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = '?';
	if (f)
		fclose(f);
	return state;
}

/* Is gone within two seconds of a signal. */
static bool dies(pid_t pid, int signal)
{
	double start = seconds();
	int status = 0;

	kill(pid, signal);
	while (seconds() - start < 2) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) && WTERMSIG(status) == signal;
		usleep(5000);
	}
	printf("# %d lives 2 s after signal %d, in state %c\n", pid, signal, state_of(pid));
	return false;
}

static bool closes(struct session *s)
{
	double start = seconds();

	session_close(s);
	printf("# close: %.1f s\n", seconds() - start);
	return seconds() - start < 2;
}

/* ---- a drive that stalls ---- */

static void a_process_in_acquire_dies_while_the_drive_stalls(void)
{
	static const int signals[] = {SIGKILL, SIGTERM};
	int file = open(file_name, O_RDONLY);
	struct session s;
	uint32_t e;

	ASSERT(session_open(&s, file, bytes, len, true, 4) && stalls(&s, &e));
	for (size_t i = 0; i < N(signals); i++) {
		pid_t pid = fork();

		if (!pid) {
			struct session own;

			/* In a session of its own, and then in its parent's */
			if (i || session_open(&own, file, bytes, len, false, 4))
				weir_acquire_many(i ? s.fd : own.fd, &e, 1, -1, NULL, 0);
			_exit(1);
		}
		usleep(500000);
		EXPECT_EQ(state_of(pid), 'S');
		EXPECT(dies(pid, signals[i]));
	}
	/* The read is stuck still; and then it is not, for who has waited all the time. */
	EXPECT_ERR(weir_acquire_many(s.fd, &e, 1, 100000000, NULL, 0), ETIMEDOUT);
	host_stalls_reads(false);
	EXPECT_EQ(stream_until_error(&s, &e, 20000000000ll, seconds() + 1), 0);
	session_close(&s);
	EXPECT(pinned_becomes(before));
	close(file);
}

/* Faults wait for no read, so that nobody can sleep in one. */
static void a_process_in_the_mapping_dies_while_the_drive_stalls(void)
{
	atomic_uint *passes =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int file = open(file_name, O_RDONLY);
	struct session s;
	unsigned int seen;
	uint32_t e;
	pid_t pid;

	ASSERT(passes != MAP_FAILED);
	ASSERT(session_open(&s, file, bytes, len, true, 4) && stalls(&s, &e));
	pid = fork();
	if (!pid)
		for (;; ++*passes) {
			for (uint64_t i = 0; i < s.commit.n_frame; i++)
				*(const volatile uint64_t *)(s.pool + s.frame_offset[i]);
			madvise((void *)s.pool, s.commit.map_bytes, MADV_DONTNEED);
		}
	usleep(500000);
	seen = *passes;
	usleep(300000);
	EXPECT(seen > 0 && *passes > seen);
	EXPECT(dies(pid, SIGKILL));
	EXPECT_ERR(weir_acquire_many(s.fd, &e, 1, 100000000, NULL, 0), ETIMEDOUT);
	host_stalls_reads(false);
	session_close(&s);
	EXPECT(pinned_becomes(before));
	munmap(passes, 4096);
	close(file);
}

static void a_session_closes_while_the_drive_stalls(void)
{
	int file = open(file_name, O_RDONLY);
	struct session s, second;
	uint32_t e;

	ASSERT(session_open(&s, file, bytes, len, true, 4) && stalls(&s, &e));
	EXPECT(session_open(&second, file, bytes, len, false, 8));
	EXPECT(closes(&s));
	EXPECT(closes(&second));
	close(file);
	/* The drive may write to this memory still, and come back to this code. */
	EXPECT(pinned_now() > before);
	ASSERT(module_is_busy());
	sleep(1);
	EXPECT(pinned_now() > before);
	host_stalls_reads(false);
	EXPECT(pinned_becomes(before));
}

static const struct test stall_tests[] = {
	{"a_process_in_acquire_dies_while_the_drive_stalls",
	 a_process_in_acquire_dies_while_the_drive_stalls},
	{"a_process_in_the_mapping_dies_while_the_drive_stalls",
	 a_process_in_the_mapping_dies_while_the_drive_stalls},
	{"a_session_closes_while_the_drive_stalls", a_session_closes_while_the_drive_stalls},
};

/* ---- a drive that is gone ---- */

/*
 * Takes the power from its slot, so that it is gone from one moment to the next, and its driver
 * is told afterwards: Slot Control in the PCI Express capability of the port that it is behind.
 */
static bool pull(void)
{
	enum { CAPABILITIES = 0x34, EXPRESS = 0x10, SLOT_CONTROL = 0x18, POWER_OFF = 0x700 };
	uint8_t config[256];
	uint16_t control;
	char path[96];
	unsigned int at;
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/sys/block/%s/device/device/../config", disk);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, config, sizeof(config), 0) != sizeof(config))
		return false;
	for (at = config[CAPABILITIES]; at && config[at] != EXPRESS;)
		at = config[at + 1];
	memcpy(&control, config + at + SLOT_CONTROL, sizeof(control));
	control |= POWER_OFF;
	ok = at && pwrite(fd, &control, sizeof(control), at + SLOT_CONTROL) == sizeof(control);
	close(fd);
	return ok;
}

static bool gone_within(double time)
{
	double end = seconds() + time;
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/%s", disk);
	while (!access(path, F_OK))
		if (seconds() > end)
			return false;
		else
			usleep(10000);
	return true;
}

/* What a file that is not there any more may say. */
static bool is_loss(int error)
{
	return error == EIO || error == ESTALE;
}

static struct session lost;
static int lost_file;
static atomic_int streamed_error;
static double streamed_until;

static void *thread_streams(void *arg)
{
	uint32_t e = 8;

	(void)arg;
	streamed_error = stream_until_error(&lost, &e, 20000000000ll, seconds() + 60);
	streamed_until = seconds();
	return NULL;
}

static void who_waits_for_a_drive_that_goes_is_told(void)
{
	uint64_t off[2];
	struct weir_stats st;
	pthread_t t;
	double gone;
	uint32_t e;

	lost_file = open(file_name, O_RDONLY);
	ASSERT(session_open(&lost, lost_file, bytes, len, true, 5));
	/* One pin and one slot are in use all the time. */
	ASSERT(weir_acquire_many(lost.fd, (uint32_t[]){0, 1}, 2, 20000000000ll, off, 0) == 0);
	if (!device)
		ASSERT(stalls(&lost, &e));
	ASSERT(pthread_create(&t, NULL, thread_streams, NULL) == 0);
	usleep(500000);
	EXPECT_EQ(streamed_error, 0);
	ASSERT(weir_get_stats(lost.fd, &st) == 0);
	if (device) {
		printf("WEIR-HOST device_del %s\n", device);
		fflush(stdout);
	} else {
		EXPECT(st.in_flight > 0);
		ASSERT(pull());
	}
	/* In order it takes five seconds, in which whoever pressed the button may press again. */
	ASSERT(gone_within(20));
	gone = seconds();
	stalled_until = 0;
	pthread_join(t, NULL);
	printf("# %s, %.1f s after the drive was gone\n", strerror(streamed_error),
	       streamed_until - gone);
	EXPECT(is_loss(streamed_error));
	EXPECT(streamed_until - gone < 2);
	/* What was acquired is what it was. */
	EXPECT(right(&lost, 0, off[0]) && right(&lost, 1, off[1]));
}

static void what_was_on_it_gives_an_error_or_right_bytes(void)
{
	uint32_t had = 0;
	uint64_t off;

	ASSERT(lost.fd >= 0);
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t e = 0; e < lost.n; e++) {
			if (weir_acquire_many(lost.fd, &e, 1, 5000000000ll, &off, 0)) {
				ASSERT(is_loss(errno));
				/* What is pinned stays, unless all has become worthless. */
				EXPECT(e || errno == ESTALE);
				continue;
			}
			ASSERT(right(&lost, e, off));
			EXPECT(weir_release1(lost.fd, e) == 0);
			had += pass == 2;
		}
	/* Not more than were read when there was something to read. */
	printf("# %u of %u extents are left\n", had, lost.n);
	EXPECT(had <= lost.commit.n_frame);
	EXPECT_EQ(lost.control->error, had ? 0 : -ESTALE);
}

static void a_new_session_over_it_gives_an_error(void)
{
	struct session s;
	double start = seconds();
	uint64_t off;

	if (session_open(&s, lost_file, bytes, len, false, 4)) {
		for (uint32_t e = 0; e < 8 && !test_failed; e++) {
			errno = 0;
			EXPECT(weir_acquire_many(s.fd, &e, 1, 5000000000ll, &off, 0) == -1 &&
			       is_loss(errno));
		}
	} else {
		/* A drive that is gone has a size of nothing. */
		EXPECT(errno == EOVERFLOW || is_loss(errno));
	}
	EXPECT(closes(&s));
	EXPECT(seconds() - start < 5);
}

static void a_session_over_it_closes_and_leaves_nothing(void)
{
	ASSERT(lost.fd >= 0);
	EXPECT(closes(&lost));
	close(lost_file);
	EXPECT(pinned_becomes(before));
}

static const struct test gone_tests[] = {
	{"who_waits_for_a_drive_that_goes_is_told", who_waits_for_a_drive_that_goes_is_told},
	{"what_was_on_it_gives_an_error_or_right_bytes",
	 what_was_on_it_gives_an_error_or_right_bytes},
	{"a_new_session_over_it_gives_an_error", a_new_session_over_it_gives_an_error},
	{"a_session_over_it_closes_and_leaves_nothing",
	 a_session_over_it_closes_and_leaves_nothing},
};

int main(int argc, char **argv)
{
	const char *how = argc > 3 ? argv[2] : "";
	pthread_t watch;
	int status;

	test_dir = ""; /* FILE begins at the root */
	file_name = argc > 1 ? argv[1] : "";
	before = pinned_now();
	lost.fd = -1;
	if (!strcmp(how, "stall") && argc == 4) {
		drive = argv[3];
	} else if (!strcmp(how, "unplug") && argc == 5) {
		disk = argv[3];
		device = argv[4];
	} else if (!strcmp(how, "pull") && argc == 5) {
		disk = argv[3];
		drive = argv[4];
	} else {
		printf("usage: weir_unplug FILE stall DRIVE | unplug DISK DEVICE | pull DISK "
		       "DRIVE\n");
		return 2;
	}
	if (close(make_file(file_name, seed, bytes)) ||
	    pthread_create(&watch, NULL, thread_watches, NULL))
		return 1;
	if (*how != 's')
		return run_tests(gone_tests, N(gone_tests));
	status = run_tests(stall_tests, N(stall_tests));
	host_stalls_reads(false); /* as whatever comes next expects it */
	return status;
}
