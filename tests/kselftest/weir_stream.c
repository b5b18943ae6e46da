// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a session is for: the bytes of the file come out, in order, each extent read once a pass,
 * and without system calls while flash keeps up.
 */
#include "weir_test.h"

static const uint64_t len = 256 << 10;

static bool right(struct session *s, uint32_t e, const uint8_t *p, uint64_t seed)
{
	uint64_t wrong;

	if (!p)
		return false;
	wrong = first_wrong(p, seed, s->x[e].offset, s->x[e].length);
	if (wrong != s->x[e].length)
		printf("# extent %u differs at %llu\n", e, (unsigned long long)wrong);
	return wrong == s->x[e].length;
}

static void the_bytes_of_the_file_come_out_by_ioctl(void)
{
	int file = make_file("a", 1, 5 * MIB + 12345);
	struct session s;
	uint64_t off;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 5 * MIB + 12345, len, true, 4));
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(weir_acquire1(s.fd, e, &off) == 0);
			EXPECT(right(&s, e, s.pool + off, 1));
			EXPECT(weir_release1(s.fd, e) == 0);
		}
	session_close(&s);
	close(file);
}

static void the_bytes_of_the_file_come_out_through_the_control_page(void)
{
	int file = make_file("a", 2, 6 * MIB);
	uint64_t calls = 0;
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 6 * MIB, len, true, 5));
	for (int pass = 0; pass < 5; pass++)
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(right(&s, e, session_acquire(&s, e, &calls), 2));
			session_release(&s, e, &calls);
		}
	session_close(&s);
	close(file);
}

static void a_pass_reads_what_streams_once_and_nothing_else(void)
{
	int file = make_file("a", 3, 8 * MIB);
	uint64_t calls = 0, stream = 0, before;
	struct weir_stats st;
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 8 * MIB, len, true, 4));
	for (uint32_t e = 0; e < s.n; e++)
		stream += s.x[e].kind == WEIR_EXTENT_STREAM ? s.x[e].length : 0;
	for (int pass = 0; pass < 10; pass++)
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(session_acquire(&s, e, &calls));
			session_release(&s, e, &calls);
		}
	/* The ring is full again when reading has stopped. */
	do {
		ASSERT(weir_get_stats(s.fd, &st) == 0);
		before = st.read_bytes;
		usleep(50000);
		ASSERT(weir_get_stats(s.fd, &st) == 0);
	} while (st.read_bytes != before);
	EXPECT_EQ(st.read_bytes - st.pin_bytes, 10 * stream + s.commit.n_slot * len);
	EXPECT_EQ(st.pin_bytes, 8 * MIB - stream);
	EXPECT_EQ(st.reordered, 0);
	EXPECT_EQ(st.evicted, 0);
	EXPECT_EQ(st.errors, 0);
	session_close(&s);
	close(file);
}

static void what_fits_is_read_once(void)
{
	int file = make_file("a", 4, 2 * MIB);
	uint64_t calls = 0;
	struct weir_stats st;
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 2 * MIB, len, false, 100));
	EXPECT_EQ(s.commit.n_slot, s.n);
	for (int pass = 0; pass < 5; pass++)
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(right(&s, e, session_acquire(&s, e, &calls), 4));
			session_release(&s, e, &calls);
		}
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.read_bytes, 2 * MIB);
	session_close(&s);
	close(file);
}

static void no_system_call_while_reads_keep_up(void)
{
	/* Half of it is in the ring, which is how long the machine may do something else. */
	uint64_t bytes = 8 * MIB * patience(), calls = 0;
	int file = make_file("a", 5, bytes);
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, bytes, len, false, 16 * patience()));
	for (int pass = 0; pass < 4; pass++) {
		if (pass == 1)
			calls = 0;
		for (uint32_t e = 0; e < s.n; e++) {
			ASSERT(session_acquire(&s, e, &calls));
			session_release(&s, e, &calls);
			/* slower than any disk */
			usleep(30000);
		}
	}
	EXPECT_EQ(calls, 0);
	session_close(&s);
	close(file);
}

static void any_order_is_served_and_counted(void)
{
	int file = make_file("a", 6, 8 * MIB);
	struct weir_stats st;
	struct session s;
	uint64_t off;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 8 * MIB, len, false, 4));
	for (uint32_t i = 0; i < 3 * s.n; i++) {
		uint32_t e = (i * 11 + i * i) % s.n;

		ASSERT(weir_acquire1(s.fd, e, &off) == 0);
		EXPECT(right(&s, e, s.pool + off, 6));
		EXPECT(weir_release1(s.fd, e) == 0);
	}
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT(st.reordered > s.n);
	session_close(&s);
	close(file);
}

static void what_is_acquired_stays(void)
{
	int file = make_file("a", 7, 8 * MIB);
	uint64_t off, held_off, calls = 0;
	struct session s;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 8 * MIB, len, false, 3));
	ASSERT(weir_acquire1(s.fd, 0, &held_off) == 0);
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t e = 1; e < s.n; e++) {
			if (e % 2) {
				ASSERT(weir_acquire1(s.fd, e, &off) == 0);
				EXPECT(right(&s, e, s.pool + off, 7));
				EXPECT(weir_release1(s.fd, e) == 0);
			} else {
				ASSERT(right(&s, e, session_acquire(&s, e, &calls), 7));
				session_release(&s, e, &calls);
			}
			ASSERT(right(&s, 0, s.pool + held_off, 7));
		}
	EXPECT(weir_release1(s.fd, 0) == 0);
	EXPECT_ERR(weir_release1(s.fd, 0), EINVAL);
	session_close(&s);
	close(file);
}

static void sessions_share_what_they_pin(void)
{
	int file = make_file("a", 8, 8 * MIB);
	uint64_t before, one, two, calls = 0;
	struct session a, b;
	int info = open(DEVICE, O_RDWR);

	ASSERT(file >= 0 && info >= 0);
	before = weir_pinned(info);
	ASSERT(session_open(&a, file, 8 * MIB, len, true, 3));
	one = weir_pinned(info) - before;
	ASSERT(session_open(&b, file, 8 * MIB, len, true, 3));
	two = weir_pinned(info) - before;
	EXPECT_EQ(b.commit.shared_bytes, 2 * MIB);
	EXPECT_EQ(two - one, 3 * len);
	session_close(&a);
	for (uint32_t e = 0; e < b.n; e++) {
		ASSERT(right(&b, e, session_acquire(&b, e, &calls), 8));
		session_release(&b, e, &calls);
	}
	session_close(&b);
	EXPECT_EQ(weir_pinned(info), before);
	close(info);
	close(file);
}

static void a_schedule_replaces_the_order(void)
{
	int file = make_file("a", 9, 4 * MIB);
	struct weir_schedule sc = {.size = sizeof(sc)};
	uint32_t order[16], twice[2] = {1, 1};
	struct weir_stats st;
	struct session s;
	uint64_t calls = 0;

	ASSERT(file >= 0);
	ASSERT(session_open(&s, file, 4 * MIB, len, false, 4));
	ASSERT(s.n == 16);
	for (uint32_t i = 0; i < 16; i++)
		order[i] = 15 - i;
	sc.count = 2;
	sc.extents = (uintptr_t)twice;
	EXPECT_ERR(ioctl(s.fd, WEIR_IOC_SCHEDULE, &sc), EINVAL);
	sc.count = 16;
	sc.extents = (uintptr_t)order;
	EXPECT(ioctl(s.fd, WEIR_IOC_SCHEDULE, &sc) == 0);
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t i = 0; i < 16; i++) {
			ASSERT(right(&s, order[i], session_acquire(&s, order[i], &calls), 9));
			session_release(&s, order[i], &calls);
		}
	ASSERT(weir_get_stats(s.fd, &st) == 0);
	EXPECT_EQ(st.reordered, 0);
	session_close(&s);
	close(file);
}

static const struct test tests[] = {
	{"the_bytes_of_the_file_come_out_by_ioctl", the_bytes_of_the_file_come_out_by_ioctl},
	{"the_bytes_of_the_file_come_out_through_the_control_page",
	 the_bytes_of_the_file_come_out_through_the_control_page},
	{"a_pass_reads_what_streams_once_and_nothing_else",
	 a_pass_reads_what_streams_once_and_nothing_else},
	{"what_fits_is_read_once", what_fits_is_read_once},
	{"no_system_call_while_reads_keep_up", no_system_call_while_reads_keep_up},
	{"any_order_is_served_and_counted", any_order_is_served_and_counted},
	{"what_is_acquired_stays", what_is_acquired_stays},
	{"sessions_share_what_they_pin", sessions_share_what_they_pin},
	{"a_schedule_replaces_the_order", a_schedule_replaces_the_order},
};

int main(int argc, char **argv)
{
	if (argc > 1)
		test_dir = argv[1];
	return run_tests(tests, N(tests));
}
