// SPDX-License-Identifier: GPL-2.0-only
/*
 * COMMIT: from what was declared to a pool: layout, memory, who pays, control page, schedule.
 * Everything is there or nothing is.
 */
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "ring.h"

#define WEIR_DEPTH_MAX 64

/* What the declared extents come to. */
struct weir_layout {
	u32 n_pin, n_soft, n_ring; /* n_ring: all that may go through it, soft ones too */
	u32 n_stream;
	u64 pin_bytes, soft_bytes, slot_bytes;
	u64 ring_bytes;
};

static int weir_layout_count(const struct weir_session *s, struct weir_layout *l)
{
	u32 i;

	*l = (struct weir_layout){};
	for (i = 0; i < s->n_extent; i++) {
		const struct weir_extent *x = &s->extent[i];
		u64 len = PAGE_ALIGN(x->length);

		/* No sum of sizes overflows: 2^20 extents of files below 2^63 bytes might. */
		if (x->kind == WEIR_EXTENT_PIN) {
			l->n_pin++;
			if (check_add_overflow(l->pin_bytes, len, &l->pin_bytes))
				return -ENOSPC;
			continue;
		}
		l->n_ring++;
		l->n_stream += x->kind == WEIR_EXTENT_STREAM;
		l->slot_bytes = max(l->slot_bytes, len);
		if (x->kind == WEIR_EXTENT_SOFT) {
			if (++l->n_soft > WEIR_MAX_SLOTS)
				return -ENOSPC;
			if (check_add_overflow(l->soft_bytes, len, &l->soft_bytes))
				return -ENOSPC;
		}
	}
	return 0;
}

/* How many slots a budget leaves. */
static int weir_layout_slots(const struct weir_layout *l, u64 budget, u32 *n_slot)
{
	u64 fixed, room;

	*n_slot = 0;
	if (check_add_overflow(l->pin_bytes, l->soft_bytes, &fixed) || fixed > budget)
		return -ENOSPC;
	if (!l->n_ring)
		return 0;
	room = div64_u64(budget - fixed, l->slot_bytes);
	*n_slot = min3(room, (u64)l->n_ring, (u64)WEIR_MAX_SLOTS);
	return *n_slot < min_t(u32, l->n_ring, 2) ? -ENOSPC : 0;
}

static u64 weir_largest_block(u64 bytes)
{
	return min_t(u64, rounddown_pow_of_two(bytes), SZ_2M);
}

static int weir_commit_arrays(struct weir_session *s, const struct weir_layout *l, u32 n_slot)
{
	u32 n_frame = l->n_soft + n_slot;

	s->place = kvmalloc_array(s->n_extent, sizeof(*s->place), WEIR_GFP);
	s->pin_extent = kvcalloc(l->n_pin + 1, sizeof(*s->pin_extent), WEIR_GFP);
	s->soft_extent = kvcalloc(l->n_soft + 1, sizeof(*s->soft_extent), WEIR_GFP);
	s->frame = kvcalloc(n_frame + 1, sizeof(*s->frame), WEIR_GFP);
	s->sched_extent = kvcalloc(s->n_extent, sizeof(*s->sched_extent), WEIR_GFP);
	s->sched_slot = kvcalloc(n_slot + 1, sizeof(*s->sched_slot), WEIR_GFP);
	if (!s->place || !s->pin_extent || !s->soft_extent || !s->frame || !s->sched_extent ||
	    !s->sched_slot)
		return -ENOMEM;
	return 0;
}

/* Numbers pins and soft extents, and gives the policy what streams. */
static int weir_commit_order(struct weir_session *s, const struct weir_layout *l)
{
	u32 *order, n = 0, i;

	order = kvmalloc_array(l->n_stream + 1, sizeof(*order), WEIR_GFP);
	if (!order)
		return -ENOMEM;
	for (i = 0; i < s->n_extent; i++) {
		s->place[i] = WEIR_NO_FRAME;
		switch (s->extent[i].kind) {
		case WEIR_EXTENT_PIN:
			s->place[i] = s->n_pin;
			s->pin_extent[s->n_pin++] = i;
			break;
		case WEIR_EXTENT_SOFT:
			s->place[i] = s->n_soft;
			s->soft_extent[s->n_soft++] = i;
			break;
		case WEIR_EXTENT_STREAM:
			order[n++] = i;
			break;
		}
	}
	weir_sched_init(&s->sched, s->sched_extent, s->n_extent, s->sched_slot, s->n_slot, 1);
	weir_sched_schedule(&s->sched, order, n);
	s->sched.in_use = weir_slot_in_use;
	s->sched.arg = s;
	kvfree(order);
	return 0;
}

static int weir_commit_pins(struct weir_session *s)
{
	struct weir_extent *pinned;
	int ret;
	u32 i;

	if (!s->n_pin)
		return 0;
	pinned = kvmalloc_array(s->n_pin, sizeof(*pinned), WEIR_GFP);
	if (!pinned)
		return -ENOMEM;
	for (i = 0; i < s->n_pin; i++)
		pinned[i] = s->extent[s->pin_extent[i]];
	ret = weir_pins_attach(s, pinned, s->n_pin);
	kvfree(pinned);
	return ret;
}

static int weir_commit_frames(struct weir_session *s, const struct weir_layout *l)
{
	u64 bytes = l->soft_bytes + s->n_slot * l->slot_bytes;
	int ret;
	u32 i;

	s->slot_bytes = l->slot_bytes;
	s->frame_base = round_up(l->pin_bytes, SZ_2M);
	/* Aligned to its own largest piece, which the page table can then map as one. */
	s->stride = l->slot_bytes ? round_up(l->slot_bytes, weir_largest_block(l->slot_bytes)) : 1;
	s->map_bytes = weir_frame_offset(s, s->n_soft + s->n_slot);
	if (!(s->n_soft + s->n_slot))
		s->map_bytes = l->pin_bytes;
	if (s->map_bytes > WEIR_MMAP_CONTROL)
		return -ENOMEM;
	if (!bytes)
		return 0;
	ret = weir_charge(&s->charge, bytes);
	for (i = 0; i < s->n_soft && !ret; i++)
		ret = weir_area_alloc(&s->frame[i].area, s->extent[s->soft_extent[i]].length);
	for (i = 0; i < s->n_slot && !ret; i++)
		ret = weir_area_alloc(&weir_slot_frame(s, i)->area, l->slot_bytes);
	return ret;
}

static void weir_publish_frames(struct weir_session *s)
{
	u32 i;

	for (i = 0; i < s->n_pin; i++)
		s->frame_offset[i] = s->pins->pin[i].offset;
	for (i = 0; i < s->n_soft + s->n_slot; i++)
		s->frame_offset[s->n_pin + i] = weir_frame_offset(s, i);
}

/* Back to where COMMIT began. */
static void weir_commit_undo(struct weir_session *s)
{
	weir_commit_free(s, NULL);
	s->pins_shared = false;
	s->frame = NULL;
	s->sched_slot = NULL;
	s->sched_extent = NULL;
	s->soft_extent = NULL;
	s->pin_extent = NULL;
	s->place = NULL;
	s->n_pin = 0;
	s->n_soft = 0;
	s->n_slot = 0;
}

static int weir_commit_all(struct weir_session *s, const struct weir_commit *a)
{
	struct weir_engine *e = &s->engine;
	struct weir_layout l;
	u32 n_slot, depth, i;
	int ret;

	for (i = 0; i < e->n_file; i++)
		if (weir_file_check(&e->file[i]))
			return -ESTALE;
	ret = weir_layout_count(s, &l);
	if (!ret)
		ret = weir_layout_slots(&l, a->budget, &n_slot);
	if (!ret)
		ret = weir_commit_arrays(s, &l, n_slot);
	if (ret)
		return ret;
	s->n_slot = n_slot;
	depth = clamp_t(u32, n_slot, 1, WEIR_DEPTH_MAX);
	weir_depth_init(&s->depth, min(a->depth, depth), depth);
	ret = weir_commit_order(s, &l);
	if (!ret)
		ret = weir_commit_frames(s, &l);
	if (!ret)
		ret = weir_control_alloc(s);
	/* One more than the depth: for a demand. */
	if (!ret)
		ret = weir_engine_reads(e, depth + 1);
	/* Last, because others may share it from then on. */
	if (!ret)
		ret = weir_commit_pins(s);
	if (ret)
		return ret;
	weir_sched_set_depth(&s->sched, s->depth.now);
	weir_publish_frames(s);
	s->registered = a->flags & WEIR_COMMIT_REGISTERED;
	s->progress_ns = ktime_get_ns();
	return 0;
}

u64 weir_session_own_bytes(const struct weir_session *s)
{
	return (u64)atomic64_read(&s->charge.bytes) +
	       (s->pins && !s->pins_shared ? s->pins->area.bytes : 0);
}

static void weir_commit_result(const struct weir_session *s, struct weir_commit *a)
{
	a->shared_bytes = s->pins_shared ? s->pins->area.bytes : 0;
	a->pool_bytes = weir_session_own_bytes(s) + a->shared_bytes;
	a->map_bytes = s->map_bytes;
	a->control_bytes = (u64)s->n_control_page << PAGE_SHIFT;
	a->claims_bytes = (u64)s->n_claim_page << PAGE_SHIFT;
	a->n_frame = s->n_pin + s->n_soft + s->n_slot;
	a->n_slot = s->n_slot;
	a->slot_bytes = s->slot_bytes;
}

int weir_session_commit(struct weir_session *s, struct weir_commit *a, void __user *user)
{
	int ret;

	ret = weir_setup_lock(s);
	if (ret)
		return ret;
	ret = s->n_extent ? weir_commit_all(s, a) : -EINVAL;
	if (!ret) {
		weir_commit_result(s, a);
		ret = weir_answer(user, a, min_t(u32, a->size, sizeof(*a)));
	}
	if (ret) {
		weir_commit_undo(s);
		mutex_unlock(&s->mutex);
		return ret;
	}
	/* From here on everybody may use it. */
	smp_store_release(&s->committed, true);
	if (s->pins)
		weir_pins_watch(s);
	mutex_unlock(&s->mutex);
	weir_engine_kick(&s->engine);
	return 0;
}
