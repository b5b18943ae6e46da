// SPDX-License-Identifier: MIT
/*
 * What the sources do where a machine refuses something or a file fails: go on another way and
 * say so, or end with one sentence that names file, offset and reason. Limits that cannot be
 * given back (seccomp, capabilities) are tried in a child process.
 */
#include "tests/unit/source_fixture.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define SKIPPED 77

static bool says(const char *text, const char *what)
{
	if (strstr(text, what))
		return true;
	print_error("\"%s\" does not say \"%s\"\n", text, what);
	return false;
}

static void says_offset(struct fixture *f, uint64_t off)
{
	char text[32];

	snprintf(text, sizeof(text), "offset %llu", (unsigned long long)off);
	assert_true(says(f->err.text, text));
}

static struct fixture *child_fixture;
static void (*child_body)(struct fixture *f);

static void run_child_body(void **state)
{
	child_body(child_fixture);
}

/* In the child: its own run of one test, so that a failure ends there and nowhere else. */
static void child(int out)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(run_child_body)};
	int failed;

	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	failed = cmocka_run_group_tests_name("child", tests, NULL, NULL);
	fflush(NULL);
	_exit(failed ? 1 : 0);
}

/* Runs @body in a child. What it prints is shown where it fails; exit status SKIPPED skips. */
static void in_child(struct fixture *f, void (*body)(struct fixture *f))
{
	char said[4096];
	size_t n = 0;
	ssize_t got;
	int status, out[2];
	pid_t pid;

	child_fixture = f;
	child_body = body;
	assert_int_equal(pipe(out), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		child(out[1]);
	close(out[1]);
	while ((got = read(out[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fixture_free(f);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
		puts("# this machine cannot limit a process so (seccomp, RLIMIT_MEMLOCK)");
		skip();
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("in a child process: %s", said);
}

static void works_and_notes(struct fixture *f, const char *note)
{
	struct source *s = fixture_open(f, &source_uring, NULL, 0);
	struct source_stats before, after;

	run_passes(f, s, 2);
	before = quiet_stats(s);
	run_passes(f, s, 1);
	after = quiet_stats(s);
	assert_int_equal(after.stream_read_bytes - before.stream_read_bytes, f->plan->stream_bytes);
	s->ops->close(s);
	if (note)
		assert_true(says(f->note, note));
	else
		assert_string_equal(f->note, "");
}

/* ---- limits of the machine ---- */

/* Locked memory is limited for a process without CAP_IPC_LOCK. */
static void limit_locked_memory(rlim_t bytes)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	struct rlimit limit = {bytes, bytes};
	void *probe;

	if (syscall(SYS_capget, &header, data))
		_exit(SKIPPED);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	data[0].inheritable = 0;
	if (syscall(SYS_capset, &header, data) || setrlimit(RLIMIT_MEMLOCK, &limit))
		_exit(SKIPPED);
	/* emulation takes the limit and does not keep to it; sanitizers replace mlock() */
	probe = mmap(NULL, bytes + PAGE_4K, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe == MAP_FAILED || !syscall(SYS_mlock, probe, bytes + PAGE_4K))
		_exit(SKIPPED);
	munmap(probe, bytes + PAGE_4K);
}

static void with_8_mb_locked(struct fixture *f)
{
	struct source_stats st;
	struct source *s;

	/* a pool of about 30 MB */
	limit_locked_memory(8 << 20);
	s = fixture_open(f, &source_uring, NULL, 0);
	s->ops->stats(s, &st);
	assert_int_equal(st.locked_bytes, 0);
	s->ops->close(s);
	works_and_notes(f, "not locked in DRAM");
	assert_true(says(f->note, "limit on locked memory is 8.4 MB"));
	assert_true(says(f->note, "ulimit -l"));
}

static void with_nothing_locked(struct fixture *f)
{
	limit_locked_memory(0);
	works_and_notes(f, "not locked in DRAM");
}

static struct fixture *fixture_of_size(uint64_t bytes)
{
	struct fixture *f = fixture_new(NULL);

	for (uint32_t i = 0; i < f->n_file; i++)
		unlink(f->path[i]);
	f->n_file = 1;
	f->size[0] = bytes;
	write_file(f->path[0], 0, bytes);
	f->n_tensor = 8;
	for (uint32_t t = 0; t < f->n_tensor; t++)
		f->tensor[t] = (struct plan_tensor){
			.off = bytes / 8 * t,
			.row_bytes = 4096,
			.n_rows = bytes / 8 / 4096,
			.cls = PLAN_SWEEP,
		};
	return f;
}

static void little_memory_may_be_locked(void **state)
{
	struct fixture *f = fixture_of_size(40 << 20);

	fixture_plan(f, 75, 400); /* a ring of about 19 MB */
	in_child(f, with_8_mb_locked);
}

static void no_memory_may_be_locked(void **state)
{
	struct fixture *f = fixture_new(NULL);

	fixture_plan(f, 50, 0);
	in_child(f, with_nothing_locked);
}

/* System call @nr fails with @error where its argument @arg has all bits of @mask. */
static void forbid(unsigned int nr, int error, unsigned int arg, uint32_t mask)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[0]) + 8 * arg),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_SIZE(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(SKIPPED);
}

static void without_io_uring(struct fixture *f)
{
	forbid(SYS_io_uring_setup, EPERM, 0, 0);
	works_and_notes(f, "io_uring cannot be set up: Operation not permitted");
	assert_true(says(f->note, "threads"));
}

static void on_an_old_kernel(struct fixture *f)
{
	forbid(SYS_io_uring_setup, ENOSYS, 0, 0);
	works_and_notes(f, "io_uring cannot be set up: Function not implemented");
}

static void io_uring_is_forbidden(void **state)
{
	struct fixture *f = fixture_new(NULL);

	fixture_plan(f, 50, 0);
	in_child(f, without_io_uring);
}

static void io_uring_is_not_there(void **state)
{
	struct fixture *f = fixture_new(NULL);

	fixture_plan(f, 50, 0);
	in_child(f, on_an_old_kernel);
}

/* How much of the file the page cache holds, in percent. */
static unsigned int percent_cached(const char *path, uint64_t size)
{
	uint64_t pages = (size + PAGE_4K - 1) / PAGE_4K, in = 0;
	unsigned char *vec = calloc(pages, 1);
	int fd = open(path, O_RDONLY);
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (!vec || map == MAP_FAILED || mincore(map, size, vec))
		_exit(SKIPPED);
	for (uint64_t i = 0; i < pages; i++)
		in += vec[i] & 1;
	munmap(map, size);
	close(fd);
	free(vec);
	return (unsigned int)(in * 100 / pages);
}

static void without_direct_io(struct fixture *f)
{
	forbid(SYS_openat, EINVAL, 2, O_DIRECT);
	works_and_notes(f, "no direct I/O");
	assert_true(says(f->note, f->path[0]));
	/* what was read through the page cache does not stay there */
	assert_in_range(percent_cached(f->path[0], f->size[0]), 0, 50);
}

static void the_file_system_has_no_direct_io(void **state)
{
	struct fixture *f = fixture_new(NULL);

	fixture_plan(f, 50, 0);
	in_child(f, without_direct_io);
}

static void a_model_on_tmpfs(void **state)
{
	struct fixture *f;
	struct statfs fs;

	if (statfs("/dev/shm", &fs) || fs.f_type != TMPFS_MAGIC || access("/dev/shm", W_OK)) {
		puts("# /dev/shm is not a tmpfs that can be written to");
		skip();
	}
	f = fixture_new("/dev/shm");
	fixture_plan(f, 50, 0);
	works_and_notes(f, "is on tmpfs, that is in DRAM already");
	fixture_free(f);
}

/* ---- files that fail ---- */

/* Passes until the source fails; its errno. */
static int run_until_failure(struct fixture *f, struct source *s)
{
	int r = 0;

	for (int i = 0; i < 10 && !r; i++)
		r = run_pass(f, s);
	return r;
}

static void a_file_that_is_truncated_while_it_runs(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source *s;
	char row[500];
	int r;

	for (int i = 0; i < 2; i++) {
		fixture_plan(f, 30, 0);
		s = fixture_open(f, &source_uring, i ? &io_threads_ops : NULL, 0);
		run_passes(f, s, 1);
		assert_int_equal(truncate(f->path[0], 300000), 0);
		r = run_until_failure(f, s);
		assert_int_equal(r, -ESTALE);
		assert_true(says(f->err.text, f->path[0]));
		assert_true(says(f->err.text, "has 300000"));
		assert_true(says(f->err.text, "offset"));
		/* rows of the embedding too */
		r = s->ops->read(s, 0, 700000, row, sizeof(row), &f->err);
		assert_int_equal(r, -ESTALE);
		says_offset(f, 700000);
		s->ops->close(s);
		write_file(f->path[0], 0, f->size[0]);
	}
	fixture_free(f);
}

/* An offset of file 0 that is streamed, or pinned. */
static uint64_t offset_of_kind(struct fixture *f, enum extent_kind kind)
{
	for (uint32_t i = f->plan->n_extent; i-- > 0;)
		if (f->plan->extent[i].kind == kind && f->plan->extent[i].file == 0 &&
		    f->plan->extent[i].len > 4 * PAGE_4K)
			return f->plan->extent[i].off + 2 * PAGE_4K;
	fail();
	return 0;
}

static void a_device_that_fails_a_streamed_read(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source *s;

	fixture_plan(f, 40, 0);
	fake = (struct fake_config){.seed = 1};
	s = fixture_open(f, NULL, &fake_ops, 0);
	run_passes(f, s, 1);
	fake.fail_off = offset_of_kind(f, EXTENT_STREAM);
	fake.fail = -EIO;
	assert_int_equal(run_until_failure(f, s), -EIO);
	assert_true(says(f->err.text, f->path[0]));
	says_offset(f, fake.fail_off - 2 * PAGE_4K);
	assert_true(says(f->err.text, "Input/output error"));
	/* the next try reads it again */
	fake.fail = 0;
	run_passes(f, s, 2);
	s->ops->close(s);
	fixture_free(f);
}

static void a_device_that_fails_while_the_pool_is_filled(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source_params p;
	struct source *s = NULL;

	fixture_plan(f, 40, 0);
	fake = (struct fake_config){.seed = 1, .fail = -ENODEV};
	fake.fail_off = offset_of_kind(f, EXTENT_PIN);
	p = fixture_params(f);
	assert_int_equal(source_uring_open_io(&p, &fake_ops, &s, &f->err), -ENODEV);
	assert_null(s);
	says_offset(f, fake.fail_off - 2 * PAGE_4K);
	fixture_free(f);
}

static void a_read_that_ends_early(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source *s;

	fixture_plan(f, 40, 0);
	fake = (struct fake_config){.seed = 1};
	s = fixture_open(f, NULL, &fake_ops, 0);
	run_passes(f, s, 1);
	fake.fail_off = offset_of_kind(f, EXTENT_STREAM);
	fake.fail = 1;
	assert_int_equal(run_until_failure(f, s), -EIO);
	says_offset(f, fake.fail_off - 2 * PAGE_4K);
	assert_true(says(f->err.text, "truncated"));
	s->ops->close(s);
	fixture_free(f);
}

/* A device that says "again" for ever is not asked for ever. */
static void a_device_that_never_gets_on(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source *s;

	fixture_plan(f, 40, 0);
	fake = (struct fake_config){.seed = 1};
	s = fixture_open(f, NULL, &fake_ops, 0);
	fake.fail_off = offset_of_kind(f, EXTENT_STREAM);
	fake.fail = -EAGAIN;
	assert_int_equal(run_until_failure(f, s), -EAGAIN);
	says_offset(f, fake.fail_off - 2 * PAGE_4K);
	s->ops->close(s);
	fixture_free(f);
}

static void files_that_are_not_what_the_plan_says(void **state)
{
	const struct source_ops *const ops[] = {&source_mmap, &source_uring};
	struct fixture *f = fixture_new(NULL);
	struct source *s = NULL;

	fixture_plan(f, 50, 0);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct source_params p = fixture_params(f);

		assert_int_equal(truncate(f->path[1], 100000), 0);
		assert_int_equal(ops[i]->open(&p, &s, &f->err), -EIO);
		assert_true(says(f->err.text, f->path[1]));
		assert_true(says(f->err.text, "100000 bytes"));
		assert_int_equal(unlink(f->path[1]), 0);
		assert_int_equal(ops[i]->open(&p, &s, &f->err), -ENOENT);
		assert_true(says(f->err.text, f->path[1]));
		write_file(f->path[1], 1, f->size[1]);
		p.path = (const char *const[]){f->path[0], f->dir};
		assert_int_equal(ops[i]->open(&p, &s, &f->err), -EINVAL);
		assert_true(says(f->err.text, "is not a file"));
		assert_null(s);
	}
	fixture_free(f);
}

/* ---- the consumer ---- */

static void cancelled_before_and_while_it_fills(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source_params p;
	struct source *s = NULL;

	fixture_plan(f, 80, 0);
	p = fixture_params(f);
	f->cancel = 1;
	assert_int_equal(source_uring.open(&p, &s, &f->err), -EINTR);
	assert_null(s);
	f->cancel = 0;
	f->cancel_at = f->plan->pinned_bytes / 4;
	fake = (struct fake_config){.seed = 1};
	assert_int_equal(source_uring_open_io(&p, &fake_ops, &s, &f->err), -EINTR);
	assert_null(s);
	assert_true(f->progress < f->plan->pinned_bytes);
	fixture_free(f);
}

static volatile int *to_cancel;

static void on_alarm(int signal)
{
	*to_cancel = 1;
}

/* Flash hangs, the user presses Ctrl-C. */
static void cancelled_while_flash_hangs(void **state)
{
	struct itimerval soon = {.it_value = {.tv_usec = 50000}};
	struct sigaction action = {.sa_handler = on_alarm}, before;
	struct fixture *f = fixture_new(NULL);
	struct source *s;

	fixture_plan(f, 50, 0);
	fake = (struct fake_config){.seed = 1};
	s = fixture_open(f, NULL, &fake_ops, 0);
	fake.hang = true;
	to_cancel = &f->cancel;
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(run_until_failure(f, s), -EINTR);
	sigaction(SIGALRM, &before, NULL);
	/* and it can go on afterwards */
	f->cancel = 0;
	fake.hang = false;
	run_passes(f, s, 2);
	s->ops->close(s);
	fixture_free(f);
}

static void a_consumer_that_holds_too_much_is_told(void **state)
{
	struct fixture *f = fixture_new(NULL);
	struct source *s;
	const void *data;
	uint32_t i;
	int r = 0;

	fixture_plan(f, 50, 0);
	s = fixture_open(f, &source_uring, NULL, 0);
	for (i = 0; i <= f->plan->n_slot && !r; i++)
		r = source_acquire(s, f->plan->n_pin + i, &data, &f->err);
	assert_int_equal(r, -EDEADLK);
	assert_int_equal(i, f->plan->n_slot + 1);
	assert_true(says(f->err.text, "held at once"));
	while (--i > 0)
		source_release(s, f->plan->n_pin + i - 1);
	run_passes(f, s, 2);
	s->ops->close(s);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(little_memory_may_be_locked),
		cmocka_unit_test(no_memory_may_be_locked),
		cmocka_unit_test(io_uring_is_forbidden),
		cmocka_unit_test(io_uring_is_not_there),
		cmocka_unit_test(the_file_system_has_no_direct_io),
		cmocka_unit_test(a_model_on_tmpfs),
		cmocka_unit_test(a_file_that_is_truncated_while_it_runs),
		cmocka_unit_test(a_device_that_fails_a_streamed_read),
		cmocka_unit_test(a_device_that_fails_while_the_pool_is_filled),
		cmocka_unit_test(a_read_that_ends_early),
		cmocka_unit_test(a_device_that_never_gets_on),
		cmocka_unit_test(files_that_are_not_what_the_plan_says),
		cmocka_unit_test(cancelled_before_and_while_it_fills),
		cmocka_unit_test(cancelled_while_flash_hangs),
		cmocka_unit_test(a_consumer_that_holds_too_much_is_told),
	};

	return cmocka_run_group_tests_name("sources: limits and failures", tests, NULL, NULL);
}
