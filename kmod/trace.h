/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events. Their fields are stable: tools read them. New ones go at the end.
 *
 * session: number of the session (0: pins, which may have several); extent: as declared, for pins
 * as counted among them; bytes and offsets in bytes; times in nanoseconds.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM weir

#if !defined(WEIR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define WEIR_TRACE_H

#include <linux/tracepoint.h>

#include "weir.h"

/* It does not know these macros. */
/* clang-format off */

TRACE_EVENT(weir_submit,
	TP_PROTO(const struct weir_engine *e, const struct weir_target *t, u64 from, u64 len),
	TP_ARGS(e, t, from, len),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u32, file)
		__field(u32, extent)
		__field(u64, offset)
		__field(u64, bytes)
		__field(u32, in_flight)
	),
	TP_fast_assign(
		__entry->session = e->id;
		__entry->file = t->file;
		__entry->extent = t->extent;
		__entry->offset = t->off + from;
		__entry->bytes = len;
		__entry->in_flight = e->in_flight;
	),
	TP_printk("session=%llu file=%u extent=%u offset=%llu bytes=%llu in_flight=%u",
		  __entry->session, __entry->file, __entry->extent, __entry->offset,
		  __entry->bytes, __entry->in_flight)
);

TRACE_EVENT(weir_complete,
	TP_PROTO(const struct weir_engine *e, const struct weir_target *t, int error, u64 ns),
	TP_ARGS(e, t, error, ns),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u32, file)
		__field(u32, extent)
		__field(u64, offset)
		__field(u64, bytes)
		__field(s32, error)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->session = e->id;
		__entry->file = t->file;
		__entry->extent = t->extent;
		__entry->offset = t->off;
		__entry->bytes = t->len;
		__entry->error = error;
		__entry->ns = ns;
	),
	TP_printk("session=%llu file=%u extent=%u offset=%llu bytes=%llu error=%d ns=%llu",
		  __entry->session, __entry->file, __entry->extent, __entry->offset,
		  __entry->bytes, __entry->error, __entry->ns)
);

DECLARE_EVENT_CLASS(weir_extent_event,
	TP_PROTO(const struct weir_engine *e, u32 extent, u64 value),
	TP_ARGS(e, extent, value),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u32, extent)
		__field(u64, value)
	),
	TP_fast_assign(
		__entry->session = e->id;
		__entry->extent = extent;
		__entry->value = value;
	),
	TP_printk("session=%llu extent=%u value=%llu",
		  __entry->session, __entry->extent, __entry->value)
);

/* By ACQUIRE; value: the frame. What is acquired in the control page is not seen here. */
DEFINE_EVENT(weir_extent_event, weir_acquire,
	TP_PROTO(const struct weir_engine *e, u32 extent, u64 value),
	TP_ARGS(e, extent, value)
);

/* ACQUIRE had to wait; value: nanoseconds. */
DEFINE_EVENT(weir_extent_event, weir_stall,
	TP_PROTO(const struct weir_engine *e, u32 extent, u64 value),
	TP_ARGS(e, extent, value)
);

/* Its frame is wanted for another extent; value: the frame. */
DEFINE_EVENT(weir_extent_event, weir_evict,
	TP_PROTO(const struct weir_engine *e, u32 extent, u64 value),
	TP_ARGS(e, extent, value)
);

TRACE_EVENT(weir_fault,
	TP_PROTO(const struct weir_engine *e, u64 offset, bool served),
	TP_ARGS(e, offset, served),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u64, offset)
		__field(u32, served)
	),
	TP_fast_assign(
		__entry->session = e->id;
		__entry->offset = offset;
		__entry->served = served;
	),
	TP_printk("session=%llu offset=%#llx served=%u",
		  __entry->session, __entry->offset, __entry->served)
);

TRACE_EVENT(weir_pressure,
	TP_PROTO(const struct weir_engine *e, unsigned long wanted, unsigned long given),
	TP_ARGS(e, wanted, given),
	TP_STRUCT__entry(
		__field(u64, session)
		__field(u64, wanted)
		__field(u64, given)
	),
	TP_fast_assign(
		__entry->session = e->id;
		__entry->wanted = wanted;
		__entry->given = given;
	),
	TP_printk("session=%llu wanted=%llu given=%llu",
		  __entry->session, __entry->wanted, __entry->given)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
