/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ring of a session and its claims, for the files that set it up, consume from it and give
 * parts of it back. What needs engine.lock says so.
 */
#ifndef WEIR_RING_H
#define WEIR_RING_H

#include "weir.h"

/* ---- ring.c ---- */

struct weir_frame *weir_slot_frame(struct weir_session *s, u32 slot);
/* The number of a frame as the uapi counts: pins first. */
u32 weir_uapi_frame(const struct weir_session *s, const struct weir_frame *f);
struct weir_claim *weir_frame_claim(struct weir_session *s, const struct weir_frame *f);
/* Does anything but page tables hold a page of it, and does that matter? engine.lock */
bool weir_frame_referenced(struct weir_session *s, struct weir_frame *f);
/* Whoever sleeps in ACQUIRE looks again. engine.lock */
void weir_wake(struct weir_session *s);
/* What ends a session: no extent is handed out any more. engine.lock */
void weir_session_fail(struct weir_session *s, int error);

/* Asked by the policy before a READY slot is filled again. engine.lock */
int weir_slot_in_use(void *arg, u32 slot);
/*
 * Tells the policy what the consumer has done, with one slot or with all. True where it has done
 * something. engine.lock
 */
bool weir_sync_slot(struct weir_session *s, u32 slot);
bool weir_sync(struct weir_session *s);
/* Puts an extent that has lost its place, or never got one, into the schedule. engine.lock */
void weir_join_schedule(struct weir_session *s, u32 extent);

/* The engine's questions. */
bool weir_session_next(struct weir_engine *e, struct weir_target *t);
/* Has flash much less to do than it needs? Not for background sessions. engine.lock */
bool weir_flash_starved(const struct weir_session *s);
void weir_session_arrived(struct weir_engine *e);
void weir_session_complete(struct weir_engine *e, const struct weir_target *t, int error);
void weir_session_settle(struct weir_engine *e);
enum hrtimer_restart weir_session_timer(struct hrtimer *timer);

/* ---- session.c and commit.c ---- */

/* Locks a session that is not committed yet; else -EBUSY. */
int weir_setup_lock(struct weir_session *s);
/* Frees what COMMIT allocates. @end: as weir_pins_detach(). */
void weir_commit_free(struct weir_session *s, struct weir_end **end);
/* What is charged to this session and to nobody else. */
u64 weir_session_own_bytes(const struct weir_session *s);

/* ---- give_back.c ---- */

/* Memory was short: what was given back is not taken again before that much later. */
#define WEIR_RESTORE_NS NSEC_PER_SEC

/*
 * Takes memory again for slots that were given back, some time after the last one was. By the
 * consumer, when it waits: it is charged to its memory cgroup, and a ring that is too small is
 * what makes it wait.
 */
void weir_restore_slots(struct weir_session *s);

#endif
