// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a session gives back when the system is short of memory, and takes again later.
 */
#include <linux/ktime.h>

#include "ring.h"
#include "trace.h"

/* Slots that the consumer needs at once, and one to read into, and one that is read ahead. */
static u32 weir_least_slots(const struct weir_session *s)
{
	return min(s->most_held + 2, s->n_slot);
}

/* A device may read all of it, and would not notice that a frame is made of other pages. */
static bool weir_keeps_all(const struct weir_session *s)
{
	return s->registered || READ_ONCE(s->exports);
}

unsigned long weir_session_spare(struct weir_session *s)
{
	unsigned long pages = 0;
	u32 live, least, i;

	if (!weir_session_committed(s) || weir_keeps_all(s))
		return 0;
	spin_lock(&s->engine.lock);
	live = s->n_slot - s->n_gone;
	least = weir_least_slots(s);
	if (live > least)
		pages += (live - least) * (s->slot_bytes >> PAGE_SHIFT);
	for (i = 0; i < s->n_soft; i++)
		pages += s->frame[i].area.bytes >> PAGE_SHIFT;
	spin_unlock(&s->engine.lock);
	return pages;
}

/* Takes a soft extent's frame away, unless it is used. engine.lock */
static bool weir_demote(struct weir_session *s, u32 i)
{
	struct weir_frame *f = &s->frame[i];
	u32 extent = s->soft_extent[i], frame = weir_uapi_frame(s, f);

	if (!f->area.bytes)
		return false;
	/* Its read failed, and it goes through the ring since. */
	if (s->place[extent] == WEIR_NO_FRAME)
		return !f->pieces && !weir_area_referenced(&f->area);
	if ((s->state[extent] & WEIR_STATE_MASK) != WEIR_STATE_READY ||
	    !weir_control_withdraw(s, extent, frame))
		return false;
	if (weir_area_referenced(&f->area)) {
		weir_control_publish(s, extent, WEIR_STATE_READY, frame);
		return false;
	}
	weir_join_schedule(s, extent);
	s->demoted++;
	WRITE_ONCE(s->control->demoted, s->control->demoted + 1);
	return true;
}

/* One frame that can be spared, out of use; or NULL. */
static struct weir_frame *weir_take_frame(struct weir_session *s)
{
	u32 slot, i;

	if (weir_keeps_all(s))
		return NULL;
	if (s->n_slot - s->n_gone > weir_least_slots(s) && weir_sched_retire(&s->sched, &slot)) {
		s->n_gone++;
		s->given_back++;
		return weir_slot_frame(s, slot);
	}
	for (i = s->n_soft; i--;)
		if (weir_demote(s, i))
			return &s->frame[i];
	return NULL;
}

unsigned long weir_session_give_back(struct weir_session *s, unsigned long pages)
{
	unsigned long given = 0;

	while (given < pages) {
		struct weir_area area = {};
		struct weir_frame *f;

		spin_lock(&s->engine.lock);
		f = weir_take_frame(s);
		if (f) {
			swap(area, f->area);
			f->leaving = true;
			s->pressure_ns = ktime_get_ns();
		}
		spin_unlock(&s->engine.lock);
		if (!f)
			break;
		weir_unmap_frame(s, f - s->frame, &area);
		spin_lock(&s->engine.lock);
		f->leaving = false;
		spin_unlock(&s->engine.lock);
		weir_uncharge_part(&s->charge, area.bytes);
		given += area.bytes >> PAGE_SHIFT;
		weir_area_free(&area);
	}
	if (given)
		trace_weir_pressure(&s->engine, pages, given);
	return given;
}

/* False where no slot that was given back can be had again now. */
static bool weir_restore_slot(struct weir_session *s)
{
	struct weir_area area;
	bool restored;
	u32 i;

	if (weir_charge_part(&s->charge, s->slot_bytes))
		return false;
	if (weir_area_alloc_nowait(&area, s->slot_bytes)) {
		weir_uncharge_part(&s->charge, s->slot_bytes);
		return false;
	}
	spin_lock(&s->engine.lock);
	for (i = 0; i < s->n_slot; i++)
		if (s->sched_slot[i].state == WEIR_SLOT_GONE && !weir_slot_frame(s, i)->leaving)
			break;
	restored = i < s->n_slot;
	if (restored) {
		swap(area, weir_slot_frame(s, i)->area);
		weir_sched_restore(&s->sched, i);
		s->n_gone--;
	}
	spin_unlock(&s->engine.lock);
	if (area.bytes) {
		weir_uncharge_part(&s->charge, area.bytes);
		weir_area_free(&area);
	}
	return restored;
}

void weir_restore_slots(struct weir_session *s)
{
	if (READ_ONCE(s->n_gone) && ktime_get_ns() - READ_ONCE(s->pressure_ns) >= WEIR_RESTORE_NS)
		weir_restore_slot(s);
}

bool weir_session_whole(struct weir_session *s)
{
	u32 i;

	while (READ_ONCE(s->n_gone))
		if (!weir_restore_slot(s))
			return false;
	for (i = 0; i < s->n_soft; i++)
		if (!s->frame[i].area.bytes)
			return false;
	return true;
}
