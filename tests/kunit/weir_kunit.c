// SPDX-License-Identifier: GPL-2.0-only
/*
 * weir.ko's parts, one by one, in a kernel that checks memory and locks (KASAN, lockdep).
 *
 * Sessions are real ones over a file in memory; how its bytes are read is replaced (the engine's
 * `submit`), so that reads come late, short, out of order, failing, or not at all. Every test ends
 * with nothing pinned.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/fault-inject.h>
#include <linux/kallsyms.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "weir.h"

#define FILE_BYTES (1u << 20)
#define LEN	   (64u << 10)
#define N_EXTENT   (FILE_BYTES / LEN)

/* ---- the fake backend ---- */

enum fake_mode {
	FAKE_NOW,   /* ends before it returns */
	FAKE_LATER, /* asynchronously, the last one first */
	FAKE_SHORT, /* a page at a time */
	FAKE_AGAIN, /* -EAGAIN twice, then it works */
	FAKE_EIO,
	FAKE_END,   /* the file ends here */
	FAKE_HOLD,  /* not until fake_let_go() */
	FAKE_STUCK, /* the first is held, the next does not return until fake_unstick() */
};

static struct {
	enum fake_mode mode;
	atomic_t reads, left;
	spinlock_t lock;
	struct list_head held;
	struct completion unstuck;
	bool direct;
} fake;

struct fake_io {
	struct delayed_work work;
	struct list_head node;
	struct kiocb *iocb;
	struct iov_iter iter;
	loff_t pos;
};

static u8 fake_byte(u64 off)
{
	return off * 31 + (off >> 12) * 7 + 1;
}

static ssize_t fake_fill(struct iov_iter *iter, loff_t pos, size_t max)
{
	size_t len = min(iov_iter_count(iter), max), done = 0, i;
	u8 *page = kmalloc(PAGE_SIZE, GFP_KERNEL | __GFP_NOFAIL);

	while (done < len) {
		size_t n = min_t(size_t, len - done, PAGE_SIZE);

		for (i = 0; i < n; i++)
			page[i] = fake_byte(pos + done + i);
		done += copy_to_iter(page, n, iter);
	}
	kfree(page);
	return done;
}

static void fake_end(struct work_struct *work)
{
	struct fake_io *io = container_of(to_delayed_work(work), struct fake_io, work);
	struct kiocb *iocb = io->iocb;
	ssize_t ret = fake_fill(&io->iter, io->pos, SIZE_MAX);

	kfree(io);
	iocb->ki_complete(iocb, ret);
}

static ssize_t fake_submit(struct file *file, struct kiocb *iocb, struct iov_iter *iter)
{
	struct fake_io *io;

	atomic_inc(&fake.reads);
	switch (fake.mode) {
	case FAKE_NOW:
		return fake_fill(iter, iocb->ki_pos, SIZE_MAX);
	case FAKE_SHORT:
		return fake_fill(iter, iocb->ki_pos, PAGE_SIZE);
	case FAKE_AGAIN:
		if (atomic_dec_if_positive(&fake.left) >= 0)
			return -EAGAIN;
		return fake_fill(iter, iocb->ki_pos, SIZE_MAX);
	case FAKE_EIO:
		return -EIO;
	case FAKE_END:
		return 0;
	case FAKE_STUCK:
		if (atomic_dec_if_positive(&fake.left) >= 0)
			break;
		wait_for_completion(&fake.unstuck);
		return fake_fill(iter, iocb->ki_pos, SIZE_MAX);
	default:
		break;
	}
	io = kzalloc(sizeof(*io), GFP_KERNEL | __GFP_NOFAIL);
	io->iocb = iocb;
	io->iter = *iter;
	io->pos = iocb->ki_pos;
	INIT_DELAYED_WORK(&io->work, fake_end);
	if (fake.mode == FAKE_LATER) {
		schedule_delayed_work(&io->work, 1 + atomic_dec_if_positive(&fake.left) % 3);
	} else {
		spin_lock(&fake.lock);
		list_add(&io->node, &fake.held);
		spin_unlock(&fake.lock);
	}
	return -EIOCBQUEUED;
}

static void fake_let_go(void)
{
	struct fake_io *io, *next;
	LIST_HEAD(list);

	spin_lock(&fake.lock);
	list_splice_init(&fake.held, &list);
	spin_unlock(&fake.lock);
	list_for_each_entry_safe(io, next, &list, node)
		schedule_delayed_work(&io->work, 0);
}

static void fake_unstick(void)
{
	fake.mode = FAKE_NOW;
	complete_all(&fake.unstuck);
}

/* ---- sessions ---- */

static struct file *test_file(struct kunit *test)
{
	struct file *file = shmem_file_setup("weir", FILE_BYTES, 0);

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	return file;
}

/* What ATTACH does, without a descriptor. */
static int attach(struct weir_session *s, struct file *file, u64 bytes)
{
	struct weir_engine *e = &s->engine;
	struct kstat stat;

	e->file = kvcalloc(WEIR_MAX_FILES, sizeof(*e->file), GFP_KERNEL);
	if (!e->file)
		return -ENOMEM;
	vfs_getattr(&file->f_path, &stat, STATX_CTIME, AT_STATX_DONT_SYNC);
	e->file[0] = (struct weir_file){
		.file = get_file(file),
		.bytes = bytes,
		.ctime = stat.ctime,
		.align = 512,
		.direct = fake.direct,
	};
	e->n_file = 1;
	e->submit = fake_submit;
	return 0;
}

/* Every fourth extent of @kind, the others stream, through @n_slot slots. */
static int set_up(struct weir_session *s, struct file *file, u32 kind, u32 n_slot)
{
	struct weir_commit c = {.budget = n_slot * LEN};
	struct weir_extent x[N_EXTENT];
	int ret;
	u32 i;

	ret = attach(s, file, FILE_BYTES);
	if (ret)
		return ret;
	for (i = 0; i < N_EXTENT; i++) {
		x[i] = (struct weir_extent){
			.kind = i % 4 ? WEIR_EXTENT_STREAM : kind,
			.offset = (u64)i * LEN,
			.length = LEN,
		};
		if (x[i].kind == WEIR_EXTENT_PIN || x[i].kind == WEIR_EXTENT_SOFT)
			c.budget += LEN;
	}
	ret = weir_session_declare(s, x, N_EXTENT);
	return ret ?: weir_session_commit(s, &c, NULL);
}

static struct weir_session *open_session(struct kunit *test, u32 kind, u32 n_slot)
{
	struct file *file = test_file(test);
	struct weir_session *s = weir_session_open();

	KUNIT_ASSERT_FALSE(test, IS_ERR(s));
	KUNIT_EXPECT_EQ(test, set_up(s, file, kind, n_slot), 0);
	fput(file);
	return s;
}

static int acquire(struct weir_session *s, u32 extent, s64 timeout_ms)
{
	struct weir_acquire_args a = {.count = 1, .timeout_ns = timeout_ms * NSEC_PER_MSEC};

	return weir_session_acquire_list(s, &a, &extent);
}

static int release(struct weir_session *s, u32 extent)
{
	return weir_session_release_list(s, &extent, 1);
}

/* Do the extent's bytes lie where the control page says it is? */
static bool right(struct weir_session *s, u32 extent)
{
	u32 frame = s->state[extent] >> WEIR_STATE_SHIFT;
	const struct weir_area *a;
	u64 off = 0, i;

	if (frame < s->n_pin) {
		a = &s->pins->area;
		off = s->pins->pin[frame].offset;
	} else {
		a = &s->frame[frame - s->n_pin].area;
	}
	for (i = 0; i < LEN; i += 509) {
		const u8 *p = page_address(weir_area_page(a, (off + i) >> PAGE_SHIFT));

		if (p[offset_in_page(off + i)] != fake_byte(s->extent[extent].offset + i))
			return false;
	}
	return true;
}

static void run_passes(struct kunit *test, struct weir_session *s, u32 passes)
{
	u32 pass, i;

	for (pass = 0; pass < passes; pass++)
		for (i = 0; i < N_EXTENT; i++) {
			KUNIT_ASSERT_EQ(test, acquire(s, i, 5000), 0);
			KUNIT_EXPECT_TRUE(test, right(s, i));
			KUNIT_EXPECT_EQ(test, release(s, i), 0);
		}
}

static void nothing_is_pinned(struct kunit *test)
{
	u32 i;

	/* What was closed may be freed a moment later. */
	for (i = 0; i < 200 && weir_pinned_now(); i++)
		msleep(10);
	KUNIT_EXPECT_EQ(test, weir_pinned_now(), 0ull);
}

static int set_mode(struct kunit *test)
{
	fake.mode = FAKE_NOW;
	atomic_set(&fake.reads, 0);
	atomic_set(&fake.left, 0);
	spin_lock_init(&fake.lock);
	INIT_LIST_HEAD(&fake.held);
	init_completion(&fake.unstuck);
	fake.direct = false;
	return 0;
}

/* ---- the engine over a backend that behaves, and that does not ---- */

static void the_bytes_come_out(struct kunit *test, enum fake_mode mode)
{
	struct weir_session *s;
	u32 i;

	fake.mode = mode;
	atomic_set(&fake.left, 1000);
	if (mode == FAKE_AGAIN)
		atomic_set(&fake.left, 2);
	for (i = 0; i < 2; i++) {
		fake.direct = i;
		s = open_session(test, WEIR_EXTENT_PIN, 4);
		run_passes(test, s, 3);
		weir_session_close(s);
		nothing_is_pinned(test);
	}
}

static void reads_that_end_at_once(struct kunit *test)
{
	the_bytes_come_out(test, FAKE_NOW);
}

static void reads_that_end_later_in_any_order(struct kunit *test)
{
	the_bytes_come_out(test, FAKE_LATER);
}

static void short_reads_go_on_where_they_stopped(struct kunit *test)
{
	the_bytes_come_out(test, FAKE_SHORT);
	KUNIT_EXPECT_GE(test, atomic_read(&fake.reads), (int)(FILE_BYTES / PAGE_SIZE));
}

static void reads_that_ask_to_come_again(struct kunit *test)
{
	the_bytes_come_out(test, FAKE_AGAIN);
}

static void a_read_that_fails_is_told_and_tried_again(struct kunit *test)
{
	struct weir_session *s;
	u32 i;

	fake.mode = FAKE_EIO;
	s = open_session(test, WEIR_EXTENT_PIN, 4);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, acquire(s, 0, 5000), -EIO);
		KUNIT_EXPECT_EQ(test, acquire(s, 5, 5000), -EIO);
	}
	fake.mode = FAKE_NOW;
	/* What was read ahead meanwhile has failed too: that is told once. */
	for (i = 0; i < N_EXTENT; i++)
		if (acquire(s, i, 5000) == 0)
			release(s, i);
	run_passes(test, s, 2);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void a_file_that_ends_early_is_an_error(struct kunit *test)
{
	struct weir_session *s;

	fake.mode = FAKE_END;
	s = open_session(test, WEIR_EXTENT_PIN, 4);
	KUNIT_EXPECT_EQ(test, acquire(s, 1, 5000), -EIO);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void a_file_that_changed_ends_the_session(struct kunit *test)
{
	struct weir_session *s = open_session(test, WEIR_EXTENT_PIN, 4);

	run_passes(test, s, 1);
	s->engine.file[0].ctime.tv_sec++;
	/* Until then what was read ahead is still of the old file, and so is what is pinned. */
	for (u32 i = 0; i < N_EXTENT; i++)
		if (!acquire(s, i, 5000))
			release(s, i);
	for (u32 i = 0; i < N_EXTENT; i++)
		KUNIT_EXPECT_EQ(test, acquire(s, i, 5000), -ESTALE);
	KUNIT_EXPECT_EQ(test, s->control->error, -ESTALE);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void waits_end_when_their_time_is_over(struct kunit *test)
{
	struct weir_session *s;

	fake.mode = FAKE_HOLD;
	s = open_session(test, WEIR_EXTENT_PIN, 4);
	KUNIT_EXPECT_EQ(test, acquire(s, 1, 0), -EAGAIN);
	KUNIT_EXPECT_EQ(test, acquire(s, 1, 30), -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, acquire(s, 0, 30), -ETIMEDOUT);
	fake.mode = FAKE_NOW;
	fake_let_go();
	run_passes(test, s, 1);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void memory_outlives_a_close_while_a_device_writes_to_it(struct kunit *test)
{
	struct weir_session *s;

	fake.mode = FAKE_HOLD;
	s = open_session(test, WEIR_EXTENT_PIN, 4);
	acquire(s, 1, 50);
	weir_session_close(s);
	KUNIT_EXPECT_GT(test, weir_pinned_now(), 0ull);
	fake.mode = FAKE_NOW;
	fake_let_go();
	nothing_is_pinned(test);
}

static void expect_reads(struct kunit *test, int n)
{
	u32 i;

	for (i = 0; i < 500 && atomic_read(&fake.reads) < n; i++)
		msleep(10);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake.reads), n);
}

/* Submitting may block; what has arrived is there for whoever waits all the same. */
static void what_arrives_does_not_wait_for_a_submission(struct kunit *test)
{
	struct weir_session *s;

	fake.mode = FAKE_STUCK;
	fake.direct = true;
	atomic_set(&fake.left, 1);
	s = open_session(test, WEIR_EXTENT_STREAM, 4);
	expect_reads(test, 2);
	fake_let_go();
	KUNIT_EXPECT_EQ(test, acquire(s, 0, 5000), 0);
	KUNIT_EXPECT_TRUE(test, right(s, 0));
	/* And nobody waits with it: it may be killed. */
	KUNIT_EXPECT_EQ(test, acquire(s, 1, 30), -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, release(s, 0), 0);
	fake_unstick();
	run_passes(test, s, 1);
	weir_session_close(s);
	nothing_is_pinned(test);
}

/* Where flash is behind the kernel wants to be told of every release; else it looks by itself. */
static void releases_are_asked_for_where_flash_is_behind(struct kunit *test)
{
	unsigned int idle_ms = weir_idle_ms;
	struct weir_session *s;
	int behind;
	u32 i;

	weir_idle_ms = 1000000;
	for (behind = 0; behind < 2; behind++) {
		fake.mode = FAKE_HOLD;
		s = open_session(test, WEIR_EXTENT_STREAM, 3);
		if (behind)
			KUNIT_EXPECT_EQ(test, acquire(s, 0, 30), -ETIMEDOUT);
		expect_reads(test, 3);
		fake_let_go();
		for (i = 0; i < 500 && s->engine.count.reads < 3; i++)
			msleep(10);
		/* The work item has one more look at the end. */
		msleep(50);
		KUNIT_EXPECT_EQ(test, READ_ONCE(s->control->flags),
				behind ? WEIR_CONTROL_KICK : 0u);
		KUNIT_EXPECT_EQ(test, acquire(s, 0, 0), 0);
		KUNIT_EXPECT_EQ(test, release(s, 0), 0);
		expect_reads(test, 4);
		fake.mode = FAKE_NOW;
		fake_let_go();
		run_passes(test, s, 1);
		weir_session_close(s);
		nothing_is_pinned(test);
		atomic_set(&fake.reads, 0);
	}
	weir_idle_ms = idle_ms;
}

/* ---- claims ---- */

static void a_claimed_frame_is_not_filled_again(struct kunit *test)
{
	struct weir_session *s = open_session(test, WEIR_EXTENT_STREAM, 3);
	struct weir_claim *c;
	u32 word, i;

	KUNIT_ASSERT_EQ(test, acquire(s, 0, 5000), 0);
	word = s->state[0];
	c = &s->claim[word >> WEIR_STATE_SHIFT];
	/* As a consumer does: another claim, and ACQUIRE's given back. */
	c->acquired++;
	KUNIT_EXPECT_EQ(test, release(s, 0), 0);
	for (i = 1; i < 3 * N_EXTENT; i++) {
		u32 e = 1 + i % (N_EXTENT - 1);

		KUNIT_ASSERT_EQ(test, acquire(s, e, 5000), 0);
		KUNIT_ASSERT_TRUE(test, right(s, e));
		KUNIT_ASSERT_EQ(test, release(s, e), 0);
		KUNIT_ASSERT_EQ(test, s->state[0], word);
		KUNIT_ASSERT_TRUE(test, right(s, 0));
	}
	c->released++;
	run_passes(test, s, 2);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void nonsense_in_the_claims_slows_nobody_else_down(struct kunit *test)
{
	struct weir_session *bad = open_session(test, WEIR_EXTENT_PIN, 3);
	struct weir_session *good = open_session(test, WEIR_EXTENT_PIN, 3);
	u32 i;

	run_passes(test, bad, 1);
	for (i = 0; i < bad->control->n_frame; i++)
		bad->claim[i] = (struct weir_claim){0x80000000u + i, 7 * i + 1};
	KUNIT_EXPECT_EQ(test, acquire(bad, 9, 100), -ETIMEDOUT);
	run_passes(test, good, 2);
	weir_session_close(bad);
	run_passes(test, good, 1);
	weir_session_close(good);
	nothing_is_pinned(test);
}

static void a_frame_that_something_holds_is_not_filled_again(struct kunit *test)
{
	struct weir_session *s = open_session(test, WEIR_EXTENT_STREAM, 3);
	struct page *page;
	u32 frame, i;

	KUNIT_ASSERT_EQ(test, acquire(s, 2, 5000), 0);
	frame = s->state[2] >> WEIR_STATE_SHIFT;
	page = weir_area_page(&s->frame[frame - s->n_pin].area, 0);
	get_page(page);
	KUNIT_EXPECT_EQ(test, release(s, 2), 0);
	for (i = 0; i < 2 * N_EXTENT; i++)
		if (i % N_EXTENT != 2) {
			KUNIT_ASSERT_EQ(test, acquire(s, i % N_EXTENT, 5000), 0);
			KUNIT_ASSERT_EQ(test, release(s, i % N_EXTENT), 0);
			KUNIT_ASSERT_TRUE(test, right(s, 2));
		}
	KUNIT_EXPECT_GT(test, s->held_back, 0ull);
	put_page(page);
	run_passes(test, s, 2);
	weir_session_close(s);
	nothing_is_pinned(test);
}

/* ---- pins, soft pins, pressure ---- */

static void pins_are_shared_and_counted_once(struct kunit *test)
{
	struct file *file = test_file(test);
	struct weir_session *s[3];
	u64 one = 0;
	u32 i;

	for (i = 0; i < 3; i++) {
		s[i] = weir_session_open();
		KUNIT_ASSERT_FALSE(test, IS_ERR(s[i]));
		KUNIT_ASSERT_EQ(test, set_up(s[i], file, WEIR_EXTENT_PIN, 2), 0);
		if (!i)
			one = weir_pinned_now();
		KUNIT_EXPECT_EQ(test, weir_pinned_now(), one + i * 2ull * LEN);
		KUNIT_EXPECT_PTR_EQ(test, s[i]->pins, s[0]->pins);
	}
	weir_session_close(s[0]);
	run_passes(test, s[1], 1);
	weir_session_close(s[1]);
	run_passes(test, s[2], 1);
	weir_session_close(s[2]);
	fput(file);
	nothing_is_pinned(test);
}

static void soft_pins_become_streams_under_pressure(struct kunit *test)
{
	struct weir_session *s = open_session(test, WEIR_EXTENT_SOFT, 6);
	u64 before;

	run_passes(test, s, 2);
	before = weir_pinned_now();
	/* One of them is in use: it stays. */
	KUNIT_ASSERT_EQ(test, acquire(s, 4, 5000), 0);
	KUNIT_EXPECT_GT(test, weir_session_spare(s), 0ul);
	weir_session_give_back(s, ULONG_MAX);
	KUNIT_EXPECT_EQ(test, s->demoted, 3ull);
	KUNIT_EXPECT_EQ(test, s->control->demoted, 3u);
	KUNIT_EXPECT_GT(test, s->given_back, 0ull);
	KUNIT_EXPECT_LT(test, weir_pinned_now(), before);
	KUNIT_EXPECT_TRUE(test, right(s, 4));
	KUNIT_EXPECT_EQ(test, release(s, 4), 0);
	run_passes(test, s, 3);
	weir_session_close(s);
	nothing_is_pinned(test);
}

/* It goes through the ring from then on: what its own frame says of it is no longer true. */
static void a_soft_extent_that_failed_leaves_its_frame(struct kunit *test)
{
	struct weir_session *s;
	u64 before;
	u32 i;

	fake.mode = FAKE_EIO;
	s = open_session(test, WEIR_EXTENT_SOFT, 6);
	for (i = 0; i < N_EXTENT; i++)
		acquire(s, i, 1000);
	fake.mode = FAKE_NOW;
	for (i = 0; i < N_EXTENT; i++) {
		/* What failed ahead of its time is told first. */
		if (acquire(s, i, 1000))
			KUNIT_ASSERT_EQ(test, acquire(s, i, 1000), 0);
		KUNIT_EXPECT_EQ(test, release(s, i), 0);
	}
	run_passes(test, s, 2);
	/* In use in a slot: its old frame can go all the same, and nothing else happens to it. */
	KUNIT_ASSERT_EQ(test, acquire(s, 4, 5000), 0);
	before = weir_pinned_now();
	weir_session_give_back(s, ULONG_MAX);
	KUNIT_EXPECT_LE(test, weir_pinned_now() + s->n_soft * (u64)LEN, before);
	KUNIT_EXPECT_EQ(test, s->state[4] & WEIR_STATE_MASK, (u32)WEIR_STATE_READY);
	KUNIT_EXPECT_TRUE(test, right(s, 4));
	KUNIT_EXPECT_EQ(test, release(s, 4), 0);
	spin_lock(&s->engine.lock);
	KUNIT_EXPECT_EQ(test, weir_sched_check(&s->sched), 0);
	spin_unlock(&s->engine.lock);
	KUNIT_EXPECT_EQ(test, weir_session_spare(s), 0ul);
	run_passes(test, s, 2);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void pins_are_background_where_all_their_sessions_are(struct kunit *test)
{
	struct file *file = test_file(test);
	struct weir_session *s[2];
	u32 i;

	for (i = 0; i < 2; i++) {
		s[i] = weir_session_open();
		KUNIT_ASSERT_FALSE(test, IS_ERR(s[i]));
		KUNIT_EXPECT_EQ(test, weir_session_set_background(s[i], true), 0);
		KUNIT_ASSERT_EQ(test, set_up(s[i], file, WEIR_EXTENT_PIN, 2), 0);
	}
	KUNIT_EXPECT_TRUE(test, s[0]->pins->engine.background);
	KUNIT_EXPECT_EQ(test, weir_session_set_background(s[0], false), 0);
	KUNIT_EXPECT_FALSE(test, s[1]->pins->engine.background);
	weir_session_close(s[0]);
	for (i = 0; i < 100 && !READ_ONCE(s[1]->pins->engine.background); i++)
		msleep(10);
	KUNIT_EXPECT_TRUE(test, s[1]->pins->engine.background);
	weir_session_close(s[1]);
	fput(file);
	nothing_is_pinned(test);
}

static void what_was_given_back_comes_back(struct kunit *test)
{
	struct weir_session *s = open_session(test, WEIR_EXTENT_STREAM, 8);
	u64 before = weir_pinned_now();

	run_passes(test, s, 1);
	KUNIT_EXPECT_GT(test, weir_session_give_back(s, ULONG_MAX), 0ul);
	KUNIT_EXPECT_GT(test, s->n_gone, 0u);
	run_passes(test, s, 1);
	KUNIT_EXPECT_TRUE(test, weir_session_whole(s));
	KUNIT_EXPECT_EQ(test, weir_pinned_now(), before);
	run_passes(test, s, 2);
	weir_session_close(s);
	nothing_is_pinned(test);
}

static void a_background_session_waits_for_the_foreground(struct kunit *test)
{
	struct weir_session *front, *back;
	int reads;

	fake.mode = FAKE_HOLD;
	front = open_session(test, WEIR_EXTENT_STREAM, 4);
	acquire(front, 0, 20);
	back = weir_session_open();
	KUNIT_ASSERT_FALSE(test, IS_ERR(back));
	weir_session_set_background(back, true);
	reads = atomic_read(&fake.reads);
	{
		struct file *file = test_file(test);

		KUNIT_EXPECT_EQ(test, set_up(back, file, WEIR_EXTENT_STREAM, 4), 0);
		fput(file);
	}
	/* Now and then one read, no more. */
	KUNIT_EXPECT_EQ(test, acquire(back, 0, 3 * weir_background_ms), -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake.reads) - reads, 1);
	fake.mode = FAKE_NOW;
	fake_let_go();
	run_passes(test, front, 1);
	run_passes(test, back, 1);
	weir_session_close(front);
	weir_session_close(back);
	nothing_is_pinned(test);
}

/* ---- memory ---- */

static void pieces_of_an_area_lie_end_to_end(struct kunit *test)
{
	static const u64 sizes[] = {1, 4096, 12288, 65536, 69632, 5 * 65536 + 4096, 3 << 20};
	struct bio_vec *bv = kunit_kzalloc(test, 1024 * sizeof(*bv), GFP_KERNEL);
	struct weir_area a;
	u32 i, k, n;

	KUNIT_ASSERT_NOT_NULL(test, bv);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		u64 off, len, bytes;

		KUNIT_ASSERT_EQ(test, weir_area_alloc(&a, sizes[i]), 0);
		KUNIT_EXPECT_EQ(test, a.bytes, PAGE_ALIGN(sizes[i]));
		for (off = 0; off < a.bytes; off += 4096 * 3)
			for (len = 1; off + len <= a.bytes; len = len * 3 + 511) {
				n = weir_area_bvec(&a, off, len, bv);
				KUNIT_ASSERT_EQ(test, n, weir_area_bvec(&a, off, len, NULL));
				for (k = 0, bytes = 0; k < n; k++) {
					struct page *p = weir_area_page(&a, (off + bytes) >> 12);

					KUNIT_ASSERT_PTR_EQ(test, bv[k].bv_page, p);
					bytes += bv[k].bv_len;
				}
				KUNIT_ASSERT_EQ(test, bytes, len);
			}
		KUNIT_EXPECT_NULL(test, weir_area_page(&a, a.bytes >> PAGE_SHIFT));
		KUNIT_EXPECT_FALSE(test, weir_area_referenced(&a));
		weir_area_free(&a);
	}
}

static void impossible_sizes_are_refused(struct kunit *test)
{
	struct weir_charge c;
	struct weir_area a;

	KUNIT_EXPECT_EQ(test, weir_area_alloc(&a, U64_MAX - 4096), -ENOMEM);
	KUNIT_EXPECT_EQ(test, weir_area_alloc(&a, 1ull << 50), -ENOMEM);
	KUNIT_EXPECT_EQ(test, weir_charge(&c, 1ull << 62), -ENOMEM);
	KUNIT_EXPECT_EQ(test, weir_charge(&c, weir_pinned_max() + PAGE_SIZE), -ENOMEM);
	KUNIT_EXPECT_EQ(test, weir_pinned_now(), 0ull);
	KUNIT_ASSERT_EQ(test, weir_charge(&c, weir_pinned_max()), 0);
	KUNIT_EXPECT_EQ(test, weir_charge_part(&c, PAGE_SIZE), -ENOMEM);
	weir_uncharge(&c);
	KUNIT_EXPECT_EQ(test, weir_pinned_now(), 0ull);
}

static void layouts_that_overflow_are_refused(struct kunit *test)
{
	struct weir_extent x = {.kind = WEIR_EXTENT_PIN, .length = 1ull << 62};
	struct weir_commit c = {.budget = U64_MAX};
	struct file *file = test_file(test);
	struct weir_session *s = weir_session_open();
	u32 i;

	KUNIT_ASSERT_FALSE(test, IS_ERR(s));
	KUNIT_ASSERT_EQ(test, attach(s, file, S64_MAX), 0);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, weir_session_declare(s, &x, 1), 0);
	KUNIT_EXPECT_NE(test, weir_session_commit(s, &c, NULL), 0);
	KUNIT_EXPECT_EQ(test, weir_pinned_now(), 0ull);
	weir_session_close(s);
	fput(file);
}

/* ---- every allocation that fails ---- */

/* As mm/failslab.c and mm/fail_page_alloc.c have them: the knobs are files, and nobody is here. */
struct slab_knobs {
	struct fault_attr attr;
	bool ignore_gfp_reclaim;
	bool cache_filter;
};

struct page_knobs {
	struct fault_attr attr;
	bool ignore_gfp_highmem;
	bool ignore_gfp_reclaim;
	u32 min_order;
};

static bool let_all_fail(void)
{
	struct slab_knobs *slab = (void *)kallsyms_lookup_name("failslab");
	struct page_knobs *page = (void *)kallsyms_lookup_name("fail_page_alloc");

	if (!slab || !page)
		return false;
	slab->ignore_gfp_reclaim = false;
	page->ignore_gfp_highmem = false;
	page->ignore_gfp_reclaim = false;
	page->min_order = 0;
	/* Some hundred backtraces say nothing. */
	slab->attr.verbose = 0;
	page->attr.verbose = 0;
	return true;
}

static int whole_sequence(struct file *file, u32 kind)
{
	struct weir_session *s = weir_session_open();
	int ret;
	u32 i;

	if (IS_ERR(s))
		return PTR_ERR(s);
	ret = set_up(s, file, kind, 3);
	for (i = 0; i < N_EXTENT && !ret; i++) {
		ret = acquire(s, i, 5000);
		if (!ret)
			ret = release(s, i);
	}
	current->fail_nth = 0;
	weir_session_close(s);
	return ret;
}

static void every_allocation_may_fail(struct kunit *test)
{
	static const u32 kinds[] = {WEIR_EXTENT_PIN, WEIR_EXTENT_SOFT};
	struct file *file = test_file(test);
	u32 k, n, failed = 0;

	if (!let_all_fail())
		kunit_skip(test, "the kernel's fault injection is not where it was");
	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		for (n = 1; n < 2000; n++) {
			bool injected;
			int ret;

			current->fail_nth = n;
			ret = whole_sequence(file, kinds[k]);
			/* whole_sequence() has cleared it: what is left says whether it was used */
			injected = ret != 0;
			failed += injected;
			KUNIT_EXPECT_TRUE(test, !ret || ret == -ENOMEM || ret == -EINTR);
			nothing_is_pinned(test);
			if (n > 200 && !ret)
				break;
		}
	current->fail_nth = 0;
	KUNIT_EXPECT_GT(test, failed, 20u);
	fput(file);
}

/* ---- the policy, in the kernel's build ---- */

static void the_policy_keeps_its_invariants(struct kunit *test)
{
	static struct weir_sched_extent extent[97];
	static struct weir_sched_slot slot[13];
	struct weir_sched s;
	u32 e, sl, i, seed = 1, held = WEIR_SCHED_NONE;
	s32 error;

	weir_sched_init(&s, extent, ARRAY_SIZE(extent), slot, ARRAY_SIZE(slot), 5);
	for (i = 0; i < 20000; i++) {
		seed = seed * 1664525 + 1013904223;
		while (weir_sched_next(&s, &e, &sl))
			;
		for (sl = 0; sl < ARRAY_SIZE(slot); sl++)
			if (slot[sl].state == WEIR_SLOT_FILLING && (seed >> sl & 3))
				weir_sched_complete(&s, sl, seed >> 28 ? 0 : -EIO);
		if (held != WEIR_SCHED_NONE && (seed & 1)) {
			weir_sched_release(&s, held);
			held = WEIR_SCHED_NONE;
		}
		if (held == WEIR_SCHED_NONE &&
		    weir_sched_acquire(&s, (seed >> 8) % ARRAY_SIZE(extent), &sl, &error) ==
			    WEIR_ACQUIRE_READY)
			held = slot[sl].extent;
		if (!(seed >> 8 & 63))
			weir_sched_hint(&s, (seed >> 16) % ARRAY_SIZE(extent), seed >> 30);
		KUNIT_ASSERT_EQ(test, weir_sched_check(&s), 0);
	}
}

static struct kunit_case weir_cases[] = {
	KUNIT_CASE(reads_that_end_at_once),
	KUNIT_CASE(reads_that_end_later_in_any_order),
	KUNIT_CASE(short_reads_go_on_where_they_stopped),
	KUNIT_CASE(reads_that_ask_to_come_again),
	KUNIT_CASE(a_read_that_fails_is_told_and_tried_again),
	KUNIT_CASE(a_file_that_ends_early_is_an_error),
	KUNIT_CASE(a_file_that_changed_ends_the_session),
	KUNIT_CASE(waits_end_when_their_time_is_over),
	KUNIT_CASE(what_arrives_does_not_wait_for_a_submission),
	KUNIT_CASE(releases_are_asked_for_where_flash_is_behind),
	KUNIT_CASE(memory_outlives_a_close_while_a_device_writes_to_it),
	KUNIT_CASE(a_claimed_frame_is_not_filled_again),
	KUNIT_CASE(nonsense_in_the_claims_slows_nobody_else_down),
	KUNIT_CASE(a_frame_that_something_holds_is_not_filled_again),
	KUNIT_CASE(pins_are_shared_and_counted_once),
	KUNIT_CASE(soft_pins_become_streams_under_pressure),
	KUNIT_CASE(a_soft_extent_that_failed_leaves_its_frame),
	KUNIT_CASE(pins_are_background_where_all_their_sessions_are),
	KUNIT_CASE(what_was_given_back_comes_back),
	KUNIT_CASE(a_background_session_waits_for_the_foreground),
	KUNIT_CASE(pieces_of_an_area_lie_end_to_end),
	KUNIT_CASE(impossible_sizes_are_refused),
	KUNIT_CASE(layouts_that_overflow_are_refused),
	KUNIT_CASE(every_allocation_may_fail),
	KUNIT_CASE(the_policy_keeps_its_invariants),
	{}};

static struct kunit_suite weir_suite = {
	.name = "weir",
	.init = set_mode,
	.test_cases = weir_cases,
};
kunit_test_suite(weir_suite);

MODULE_DESCRIPTION("KUnit tests of weir");
MODULE_LICENSE("GPL");
