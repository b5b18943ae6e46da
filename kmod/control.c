// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control page: how a consumer acquires and releases without a system call.
 *
 * Two parts, each of single pages, mapped for the kernel in one piece: what the kernel publishes
 * (header, places of frames, states of extents), which nobody else can write, and the claims,
 * which the consumer writes. Of a claim only one thing is believed: whether its two counts
 * differ.
 *
 * A consumer claims a frame, a full barrier, and looks whether the extent is still there. The
 * kernel takes the extent back, a full barrier, and looks whether the frame is claimed. At least
 * one of them sees the other; where both do, the consumer asks the kernel.
 */
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "weir.h"

static u32 weir_pages_for(u64 bytes)
{
	return DIV_ROUND_UP(bytes, PAGE_SIZE);
}

int weir_control_alloc(struct weir_session *s)
{
	u32 n_frame = s->n_pin + s->n_soft + s->n_slot, n, i;
	u64 frame_offset = round_up(sizeof(struct weir_control), 64);
	u64 state_offset = round_up(frame_offset + n_frame * sizeof(u64), 64);
	void *base;

	s->n_control_page = weir_pages_for(state_offset + s->n_extent * sizeof(u32));
	s->n_claim_page = weir_pages_for((u64)n_frame * sizeof(struct weir_claim)) ?: 1;
	n = s->n_control_page + s->n_claim_page;
	s->control_page = kvcalloc(n, sizeof(*s->control_page), WEIR_GFP);
	if (!s->control_page)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		s->control_page[i] = alloc_page(WEIR_GFP | __GFP_ZERO);
		if (!s->control_page[i])
			return -ENOMEM;
	}
	base = vmap(s->control_page, n, VM_MAP, PAGE_KERNEL);
	if (!base)
		return -ENOMEM;
	s->control = base;
	s->frame_offset = base + frame_offset;
	s->state = base + state_offset;
	s->claim = base + (u64)s->n_control_page * PAGE_SIZE;
	*s->control = (struct weir_control){
		.size = sizeof(*s->control),
		.frame_offset = frame_offset,
		.state_offset = state_offset,
		.n_frame = n_frame,
		.n_extent = s->n_extent,
	};
	return 0;
}

void weir_control_free(struct weir_session *s)
{
	u32 i;

	if (s->control)
		vunmap(s->control);
	s->control = NULL;
	if (s->control_page)
		for (i = 0; i < s->n_control_page + s->n_claim_page; i++)
			if (s->control_page[i])
				put_page(s->control_page[i]);
	kvfree(s->control_page);
	s->control_page = NULL;
}

void weir_control_publish(struct weir_session *s, u32 extent, u32 state, u32 frame)
{
	/* What the device wrote comes before: pairs with the consumer's load_acquire. */
	smp_store_release(&s->state[extent], state | frame << WEIR_STATE_SHIFT);
}

bool weir_control_withdraw(struct weir_session *s, u32 extent, u32 frame)
{
	struct weir_claim *c = &s->claim[frame];

	WRITE_ONCE(s->state[extent], WEIR_STATE_ABSENT);
	smp_mb(); /* pairs with the consumer's barrier between claim and second look */
	if (READ_ONCE(c->acquired) == READ_ONCE(c->released))
		return true;
	weir_control_publish(s, extent, WEIR_STATE_READY, frame);
	return false;
}
