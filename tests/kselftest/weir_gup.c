// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Others that hold pages of the pool: direct I/O, pipes, io_uring, other processes. They may read
 * it, none of them may write to it, and what they hold is not filled with other bytes meanwhile.
 */
#include "weir_test.h"

#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static const uint64_t len = 64 << 10, bytes = 4 * MIB;
static const uint64_t seed = 3;
static int file = -1;

/* ---- helpers ---- */

/* All extents stream. */
static bool open_ring(struct session *s, uint32_t n_slot, uint32_t flags)
{
	struct weir_commit *c = &s->commit;

	*s = (struct session){.fd = open(DEVICE, O_RDWR | O_CLOEXEC)};
	if (s->fd < 0 || weir_attach(s->fd, file, 0) < 0)
		return false;
	for (uint64_t off = 0; off < bytes; off += len)
		s->x[s->n++] = (struct weir_extent){
			.kind = WEIR_EXTENT_STREAM, .offset = off, .length = len};
	*c = (struct weir_commit){.size = sizeof(*c), .flags = flags, .budget = n_slot * len};
	return !weir_declare(s->fd, s->x, s->n) && !ioctl(s->fd, WEIR_IOC_COMMIT, c) &&
	       session_map(s);
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

static bool pass(struct session *s, uint32_t from, uint32_t to)
{
	for (uint32_t e = from; e < to; e++) {
		uint64_t off;

		if (weir_acquire1(s->fd, e, &off) || !right(s, e, s->pool + off) ||
		    weir_release1(s->fd, e)) {
			printf("# extent %u: %s\n", e, strerror(errno));
			return false;
		}
	}
	return true;
}

/* What is in a file, from its beginning, is that of the extent. */
static bool file_is(const char *name, uint64_t from, uint64_t n)
{
	static uint8_t buf[4 << 20];
	int fd = open(test_path(name), O_RDONLY);
	bool ok = fd >= 0 && read(fd, buf, n) == (ssize_t)n && first_wrong(buf, seed, from, n) == n;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A pipe that holds the first page of an extent. */
static bool into_pipe(int p[2], const uint8_t *at)
{
	struct iovec v = {(void *)at, 4096};

	return !pipe(p) && vmsplice(p[1], &v, 1, 0) == 4096;
}

static bool out_of_pipe(int p[2], uint64_t from)
{
	uint8_t buf[4096];
	bool ok = read(p[0], buf, sizeof(buf)) == sizeof(buf) &&
		  first_wrong(buf, seed, from, sizeof(buf)) == sizeof(buf);

	close(p[0]);
	close(p[1]);
	return ok;
}

/* ---- reading from the pool ---- */

static void direct_io_writes_from_the_pool(void)
{
	struct session s;
	uint64_t off;
	int out;

	ASSERT(session_open(&s, file, bytes, len, true, 4));
	for (uint32_t e = 0; e < 6; e++) {
		out = open(test_path("gup-out"), O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0600);
		ASSERT(out >= 0);
		ASSERT(weir_acquire1(s.fd, e, &off) == 0);
		EXPECT(write(out, s.pool + off, len) == (ssize_t)len);
		EXPECT(weir_release1(s.fd, e) == 0);
		close(out);
		EXPECT(file_is("gup-out", e * len, len));
	}
	/* References are gone when the write is: nothing stays held back. */
	EXPECT(pass(&s, 0, s.n) && pass(&s, 0, s.n));
	session_close(&s);
	unlink(test_path("gup-out"));
}

static void buffered_io_and_sockets_read_the_pool(void)
{
	struct session s;
	uint64_t off;
	int out, p[2];

	ASSERT(open_ring(&s, 4, 0) && pipe(p) == 0);
	out = open(test_path("gup-out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ASSERT(out >= 0 && weir_acquire1(s.fd, 2, &off) == 0);
	EXPECT(write(out, s.pool + off, len) == (ssize_t)len);
	close(out);
	EXPECT(file_is("gup-out", 2 * len, len));
	EXPECT(write(p[1], s.pool + off, 4096) == 4096);
	EXPECT(out_of_pipe(p, 2 * len));
	session_close(&s);
	unlink(test_path("gup-out"));
}

static void another_process_reads_the_pool(void)
{
	static uint8_t buf[64 << 10];
	struct session s;
	uint64_t off;
	pid_t pid;
	int status;

	ASSERT(open_ring(&s, 4, 0));
	ASSERT(weir_acquire1(s.fd, 7, &off) == 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct iovec to = {buf, len}, from = {(void *)(s.pool + off), len};
		bool ok = process_vm_readv(getppid(), &to, 1, &from, 1, 0) == (ssize_t)len &&
			  first_wrong(buf, seed, 7 * len, len) == len;

		/* And does not write to it. */
		ok = ok && process_vm_writev(getppid(), &to, 1, &from, 1, 0) == -1 &&
		     errno == EFAULT;
		_exit(!ok);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(right(&s, 7, s.pool + off));
	session_close(&s);
}

/* ---- writing to the pool ---- */

static void nothing_reads_into_the_pool(void)
{
	int in = make_file("gup-in", 77, len), direct, mem;
	struct session s;
	uint64_t off;
	uint8_t *at;

	ASSERT(in >= 0 && open_ring(&s, 4, 0));
	ASSERT(weir_acquire1(s.fd, 1, &off) == 0);
	at = (uint8_t *)s.pool + off;
	direct = open(test_path("gup-in"), O_RDONLY | O_DIRECT);
	ASSERT(direct >= 0);
	EXPECT_ERR(read(direct, at, len), EFAULT);
	EXPECT_ERR(read(in, at, len), EFAULT);
	/* What a debugger uses writes to private mappings, which this is not. */
	mem = open("/proc/self/mem", O_RDWR);
	ASSERT(mem >= 0);
	EXPECT(pwrite(mem, "x", 1, (off_t)(uintptr_t)at) == -1);
	EXPECT(right(&s, 1, at));
	close(mem);
	close(direct);
	close(in);
	session_close(&s);
	unlink(test_path("gup-in"));
}

/* ---- pages that are held ---- */

static void what_a_pipe_holds_is_not_filled_again(void)
{
	struct weir_stats st;
	struct session s;
	uint64_t off;
	int p[2];

	ASSERT(open_ring(&s, 4, 0));
	ASSERT(weir_acquire1(s.fd, 5, &off) == 0);
	ASSERT(into_pipe(p, s.pool + off));
	EXPECT(weir_release1(s.fd, 5) == 0);
	/* The other three slots carry on. */
	for (int i = 0; i < 4; i++) {
		EXPECT(pass(&s, 0, s.n));
		EXPECT(right(&s, 5, s.pool + off));
	}
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT(st.held_back > 0);
	EXPECT(out_of_pipe(p, 5 * len));
	/* And when it is let go of, the slot is used again. */
	EXPECT(pass(&s, 0, s.n) && pass(&s, 0, s.n));
	EXPECT(first_wrong(s.pool + off, seed, 5 * len, len) != len);
	session_close(&s);
}

static void every_page_of_a_slot_counts(void)
{
	struct session s;
	uint64_t off;
	int p[2];

	ASSERT(open_ring(&s, 4, 0));
	for (uint64_t at = 0; at < len; at += 5 * 4096) {
		ASSERT(weir_acquire1(s.fd, 9, &off) == 0);
		ASSERT(into_pipe(p, s.pool + off + at));
		EXPECT(weir_release1(s.fd, 9) == 0);
		EXPECT(pass(&s, 0, s.n) && pass(&s, 0, s.n));
		EXPECT(right(&s, 9, s.pool + off));
		EXPECT(out_of_pipe(p, 9 * len + at));
	}
	session_close(&s);
}

static void a_pipe_keeps_its_page_when_the_session_is_gone(void)
{
	struct session s, other;
	uint64_t off;
	int p[2];

	ASSERT(open_ring(&s, 4, 0));
	ASSERT(weir_acquire1(s.fd, 3, &off) == 0);
	ASSERT(into_pipe(p, s.pool + off));
	session_close(&s);
	/* Another pool, which might have got its memory */
	ASSERT(open_ring(&other, 32, 0));
	EXPECT(pass(&other, 0, other.n));
	EXPECT(out_of_pipe(p, 3 * len));
	session_close(&other);
}

static int held_pipe[3][2];

static void *thread_lets_go(void *arg)
{
	(void)arg;
	usleep(700000);
	for (int i = 0; i < 3; i++)
		if (!out_of_pipe(held_pipe[i], (uint64_t)i * len))
			return (void *)1;
	return NULL;
}

static void whoever_waits_is_served_when_pages_are_let_go(void)
{
	uint32_t e = 20;
	struct session s;
	void *result;
	double start;
	uint64_t off;
	pthread_t t;

	ASSERT(open_ring(&s, 3, 0));
	for (uint32_t i = 0; i < 3; i++) {
		ASSERT(weir_acquire1(s.fd, i, &off) == 0);
		ASSERT(into_pipe(held_pipe[i], s.pool + off));
		EXPECT(weir_release1(s.fd, i) == 0);
	}
	/* All slots are held by pipes: there is none for another extent. */
	EXPECT_ERR(weir_acquire_many(s.fd, &e, 1, 300000000, NULL, 0), ETIMEDOUT);
	/* Emptying a pipe tells nobody: a wait looks by itself. */
	start = seconds();
	ASSERT(pthread_create(&t, NULL, thread_lets_go, NULL) == 0);
	EXPECT(weir_acquire_many(s.fd, &e, 1, 8000000000ll, &off, 0) == 0);
	EXPECT(seconds() - start < 4);
	pthread_join(t, &result);
	EXPECT(result == NULL);
	session_close(&s);
}

static void a_registered_pool_is_filled_in_spite_of_references(void)
{
	struct weir_stats st;
	struct session s;
	uint8_t buf[4096];
	uint64_t off;
	int p[2];

	ASSERT(open_ring(&s, 4, WEIR_COMMIT_REGISTERED));
	ASSERT(weir_acquire1(s.fd, 5, &off) == 0);
	ASSERT(into_pipe(p, s.pool + off));
	/* While it is acquired it stays, as ever. */
	EXPECT(pass(&s, 6, s.n));
	EXPECT(right(&s, 5, s.pool + off));
	EXPECT(weir_release1(s.fd, 5) == 0);
	EXPECT(pass(&s, 6, s.n));
	EXPECT(read(p[0], buf, sizeof(buf)) == sizeof(buf));
	EXPECT(first_wrong(buf, seed, 5 * len, sizeof(buf)) != sizeof(buf));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.held_back, 0);
	close(p[0]);
	close(p[1]);
	session_close(&s);
}

static void forked_mappings_are_no_references(void)
{
	struct weir_stats st;
	struct session s;
	int go[2];
	pid_t pid;
	char c;

	ASSERT(open_ring(&s, 4, 0) && pipe(go) == 0);
	EXPECT(pass(&s, 0, s.n));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		volatile uint8_t sum = 0;

		for (uint64_t i = 0; i < 4 * len; i += 4096)
			sum += s.pool[i];
		(void)sum;
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	usleep(200000);
	for (int i = 0; i < 3; i++)
		EXPECT(pass(&s, 0, s.n));
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.held_back, 0);
	close(go[1]);
	waitpid(pid, NULL, 0);
	close(go[0]);
	session_close(&s);
}

/* ---- io_uring ---- */

struct ring {
	int fd;
	uint32_t *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
};

static bool ring_open(struct ring *r)
{
	struct io_uring_params p = {0};
	uint8_t *sq, *cq;

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0)
		return false;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		  r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*r->cqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, p.sq_entries * sizeof(*r->sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		      r->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->sqe == MAP_FAILED)
		return false;
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_mask = (void *)(sq + p.sq_off.ring_mask);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_tail = (void *)(cq + p.cq_off.tail);
	r->cq_mask = (void *)(cq + p.cq_off.ring_mask);
	r->cqe = (void *)(cq + p.cq_off.cqes);
	return true;
}

/* One request; its result. */
static int ring_do(struct ring *r, uint8_t op, int fd, const void *at, uint32_t n)
{
	uint32_t tail = *r->sq_tail, i = tail & *r->sq_mask, head = *r->cq_head;

	r->sqe[i] = (struct io_uring_sqe){.opcode = op, .fd = fd, .len = n};
	r->sqe[i].addr = (uintptr_t)at;
	r->sq_array[i] = i;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -errno;
	if (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head)
		return -ETIME;
	i = r->cqe[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return (int)i;
}

static void io_uring_writes_from_the_pool(void)
{
	struct session s;
	struct ring r;
	uint64_t off;
	int out;

	if (!ring_open(&r))
		SKIP("no io_uring");
	ASSERT(open_ring(&s, 4, 0));
	out = open(test_path("gup-out"), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	ASSERT(out >= 0 && weir_acquire1(s.fd, 11, &off) == 0);
	EXPECT_EQ(ring_do(&r, IORING_OP_WRITE, out, s.pool + off, len), len);
	EXPECT(file_is("gup-out", 11 * len, len));
	EXPECT_EQ(ring_do(&r, IORING_OP_READ, out, s.pool + off, len), -EFAULT);
	EXPECT(right(&s, 11, s.pool + off));
	close(out);
	close(r.fd);
	session_close(&s);
	unlink(test_path("gup-out"));
}

static int ring_register(struct ring *r, const void *at, uint64_t n)
{
	struct iovec v = {(void *)at, n};

	return (int)syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &v, 1);
}

/*
 * io_uring pins fixed buffers to be written to, whatever they will be used for: of a mapping that
 * is read-only it has to be refused. The claims are the one part that may be written to.
 */
static void io_uring_fixes_no_buffer_of_the_pool(void)
{
	struct session s;
	struct ring r;
	uint64_t off;

	if (!ring_open(&r))
		SKIP("no io_uring");
	ASSERT(open_ring(&s, 4, 0));
	ASSERT(weir_acquire1(s.fd, 2, &off) == 0);
	EXPECT(ring_register(&r, s.pool + off, len) == -1 &&
	       (errno == EFAULT || errno == EOPNOTSUPP));
	EXPECT(ring_register(&r, s.control, 4096) == -1 &&
	       (errno == EFAULT || errno == EOPNOTSUPP));
	EXPECT(right(&s, 2, s.pool + off));
	session_close(&s);
	close(r.fd);
}

static void io_uring_fixes_the_claims_where_the_kernel_can(void)
{
	struct session s;
	struct ring r;

	if (!ring_open(&r))
		SKIP("no io_uring");
	ASSERT(open_ring(&s, 4, 0));
	if (ring_register(&r, s.claim, s.commit.claims_bytes)) {
		int error = errno;

		session_close(&s);
		close(r.fd);
		errno = error;
		ASSERT(errno == EOPNOTSUPP);
		SKIP("this kernel fixes no buffer of a device");
	}
	/* Pinned for long, and the session is closed meanwhile. */
	EXPECT(pass(&s, 0, s.n));
	session_close(&s);
	close(r.fd);
}

static const struct test tests[] = {
	{"direct_io_writes_from_the_pool", direct_io_writes_from_the_pool},
	{"buffered_io_and_sockets_read_the_pool", buffered_io_and_sockets_read_the_pool},
	{"another_process_reads_the_pool", another_process_reads_the_pool},
	{"nothing_reads_into_the_pool", nothing_reads_into_the_pool},
	{"what_a_pipe_holds_is_not_filled_again", what_a_pipe_holds_is_not_filled_again},
	{"every_page_of_a_slot_counts", every_page_of_a_slot_counts},
	{"a_pipe_keeps_its_page_when_the_session_is_gone",
	 a_pipe_keeps_its_page_when_the_session_is_gone},
	{"whoever_waits_is_served_when_pages_are_let_go",
	 whoever_waits_is_served_when_pages_are_let_go},
	{"a_registered_pool_is_filled_in_spite_of_references",
	 a_registered_pool_is_filled_in_spite_of_references},
	{"forked_mappings_are_no_references", forked_mappings_are_no_references},
	{"io_uring_writes_from_the_pool", io_uring_writes_from_the_pool},
	{"io_uring_fixes_no_buffer_of_the_pool", io_uring_fixes_no_buffer_of_the_pool},
	{"io_uring_fixes_the_claims_where_the_kernel_can",
	 io_uring_fixes_the_claims_where_the_kernel_can},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	file = make_file("gup", seed, bytes);
	return file < 0 ? 1 : run_tests(tests, N(tests));
}
