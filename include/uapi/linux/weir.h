/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/weir: pinned DRAM for weights, filled from flash in a declared order.
 *
 * One open file is one *session*. Its life: ATTACH files, declare EXTENTS, COMMIT a budget, then
 * mmap() the pool and consume: ACQUIRE, use, RELEASE, with or without system calls.
 */
#ifndef _UAPI_LINUX_WEIR_H
#define _UAPI_LINUX_WEIR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: General ioctl format
 *
 * Every ioctl takes a pointer to one struct that begins with __u32 size: the size of the struct
 * as the caller knows it. The numbers carry no size, so that structs may grow at their end and
 * keep their number. What every ioctl may return, beside what its struct says:
 *
 *  - -ENOTTY: no such ioctl.
 *  - -EINVAL: size is smaller than the first version of the struct, or a field has a value that
 *    makes no sense.
 *  - -E2BIG: the caller's struct is larger than this kernel's, and its tail is not zero.
 *  - -EOPNOTSUPP: a flag or value that this kernel does not know. Reserved fields are values:
 *    they must be 0.
 *  - -EFAULT: the struct, or memory that it points to, cannot be read or written.
 *  - -EBUSY: not at this point of the session's life (before or after COMMIT).
 *  - -ENOMEM, -EINTR: as usual. Every wait ends when the caller is killed.
 *
 * Nothing that failed has had an effect, unless its description says so.
 *
 * Layout is the same for 32- and 64-bit callers: pointers travel as __u64.
 */
#define WEIR_IOC_TYPE 0xB9

enum {
	WEIR_CMD_INFO = 0x00,
	WEIR_CMD_ATTACH,
	WEIR_CMD_EXTENTS,
	WEIR_CMD_COMMIT,
	WEIR_CMD_ACQUIRE,
	WEIR_CMD_RELEASE,
	WEIR_CMD_HINT,
	WEIR_CMD_SCHEDULE,
	WEIR_CMD_PRIORITY,
	WEIR_CMD_EXPORT,
	WEIR_CMD_STATS,
};

/* Offsets and lengths of extents are multiples of this, whatever the page size. */
#define WEIR_ALIGN 4096

/* Most extents and files of one session, and most slots of its ring, and most soft extents. */
#define WEIR_MAX_EXTENTS (1u << 20)
#define WEIR_MAX_FILES	 256
#define WEIR_MAX_SLOTS	 4096

/* What mmap() maps, by its offset. */
#define WEIR_MMAP_POOL	  0x0000000000000000ull /* read-only, shared */
#define WEIR_MMAP_CONTROL 0x0000010000000000ull /* read-only, shared: struct weir_control */
#define WEIR_MMAP_CLAIMS  0x0000018000000000ull /* writable, shared: struct weir_claim[] */

/* Feature bits of struct weir_info. */
#define WEIR_FEATURE_DMABUF	(1ull << 0) /* EXPORT */
#define WEIR_FEATURE_SHARED	(1ull << 1) /* sessions share what they pin of the same file */
#define WEIR_FEATURE_SOFT	(1ull << 2) /* WEIR_EXTENT_SOFT */
#define WEIR_FEATURE_BACKGROUND (1ull << 3) /* PRIORITY */

/**
 * struct weir_info - ioctl(WEIR_IOC_INFO)
 * @size: sizeof(struct weir_info)
 * @flags: must be 0
 * @features: out: WEIR_FEATURE_* bits
 * @pinned_max: out: bytes that all sessions together may hold (module parameter max_pinned_mb)
 * @pinned_now: out: bytes that all sessions hold now
 * @frame_sizes: out: sizes of physically contiguous memory that frames are made of, largest
 *	first choice: bit n stands for 2^n bytes
 * @max_extents: out: WEIR_MAX_EXTENTS of this kernel
 * @max_files: out: WEIR_MAX_FILES of this kernel
 *
 * At any point of a session's life.
 */
struct weir_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 features;
	__aligned_u64 pinned_max;
	__aligned_u64 pinned_now;
	__aligned_u64 frame_sizes;
	__u32 max_extents;
	__u32 max_files;
};

#define WEIR_IOC_INFO _IO(WEIR_IOC_TYPE, WEIR_CMD_INFO)

/* Reads through the page cache where direct I/O cannot be had; what was cached is dropped. */
#define WEIR_ATTACH_BUFFERED (1u << 0)

/**
 * struct weir_attach - ioctl(WEIR_IOC_ATTACH)
 * @size: sizeof(struct weir_attach)
 * @flags: WEIR_ATTACH_BUFFERED or 0
 * @fd: a regular file or block device, open for reading
 * @file: out: its number in this session: 0, 1, ...
 * @file_bytes: out: its size, remembered together with its change time
 *
 * The session holds the file, and with it the mount, until it is closed; @fd may be closed. Reads
 * are made with the credentials of the process that opened the session.
 *
 * Before COMMIT.
 *
 * Return: 0, or
 *  - -EBADF: @fd is not open, or not for reading.
 *  - -EINVAL: neither a regular file nor a block device, a swap file, or on DAX (its bytes are
 *    memory already).
 *  - -EOPNOTSUPP: no direct I/O there, and WEIR_ATTACH_BUFFERED was not given.
 *  - -ENOSPC: WEIR_MAX_FILES are attached.
 */
struct weir_attach {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 file;
	__aligned_u64 file_bytes;
};

#define WEIR_IOC_ATTACH _IO(WEIR_IOC_TYPE, WEIR_CMD_ATTACH)

/**
 * enum weir_extent_kind - what becomes of an extent
 * @WEIR_EXTENT_PIN: read once, by COMMIT, and kept. Sessions that pin the same extents of the
 *	same unchanged files share them.
 * @WEIR_EXTENT_STREAM: read into the ring once a pass, in the order of the schedule.
 * @WEIR_EXTENT_ON_DEMAND: read into the ring when acquired or hinted; not part of the schedule.
 * @WEIR_EXTENT_SOFT: pinned, and turned into WEIR_EXTENT_STREAM when memory is short. Acquired
 *	like one that streams. Not shared.
 */
enum weir_extent_kind {
	WEIR_EXTENT_PIN = 0,
	WEIR_EXTENT_STREAM = 1,
	WEIR_EXTENT_ON_DEMAND = 2,
	WEIR_EXTENT_SOFT = 3,
};

/**
 * struct weir_extent - a contiguous range of a file, fetched and released as one
 * @file: as ATTACH numbered it
 * @kind: enum weir_extent_kind
 * @offset: in the file, bytes; a multiple of WEIR_ALIGN
 * @length: bytes; a multiple of WEIR_ALIGN, unless the extent ends where the file ends
 */
struct weir_extent {
	__u32 file;
	__u32 kind;
	__aligned_u64 offset;
	__aligned_u64 length;
};

/**
 * struct weir_extents - ioctl(WEIR_IOC_EXTENTS)
 * @size: sizeof(struct weir_extents)
 * @flags: must be 0
 * @count: number of extents
 * @reserved: must be 0
 * @extents: pointer to struct weir_extent[@count], in the order in which a pass uses them
 *
 * Appends to what was declared before; the first extent of a session has number 0. Before COMMIT.
 *
 * Return: 0, or
 *  - -EINVAL: an extent is empty, not aligned, or of a file that is not attached.
 *  - -EOVERFLOW: an extent ends beyond the end of its file.
 *  - -ENOSPC: more than WEIR_MAX_EXTENTS.
 */
struct weir_extents {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__aligned_u64 extents;
};

#define WEIR_IOC_EXTENTS _IO(WEIR_IOC_TYPE, WEIR_CMD_EXTENTS)

/*
 * A slot of the ring is filled again although something else still holds references to its pages:
 * for devices that register the mapping once and order their reads before RELEASE themselves.
 */
#define WEIR_COMMIT_REGISTERED (1u << 0)

/**
 * struct weir_commit - ioctl(WEIR_IOC_COMMIT)
 * @size: sizeof(struct weir_commit)
 * @flags: WEIR_COMMIT_REGISTERED or 0
 * @budget: most bytes of DRAM for the pool
 * @depth: reads in flight at most; 0: found by measurement
 * @reserved: must be 0
 * @pool_bytes: out: bytes of DRAM that were taken
 * @map_bytes: out: length of the pool as mmap() sees it; frames lie aligned, so there are gaps
 * @control_bytes: out: length of WEIR_MMAP_CONTROL
 * @claims_bytes: out: length of WEIR_MMAP_CLAIMS
 * @n_frame: out: number of frames: one for each extent that is pinned, soft or not, and the slots
 *	of the ring
 * @n_slot: out: how many of them are slots
 * @slot_bytes: out: bytes of a slot: the largest extent that is not PIN, in whole pages
 * @shared_bytes: out: of @pool_bytes, what another session had pinned already
 *
 * Allocates the pool, accounts it, and starts to fill it. The budget that pinned extents leave
 * becomes the ring, of at most WEIR_MAX_SLOTS slots, and not more than there are extents that do
 * not stay pinned.
 *
 * Return: 0, or with nothing held
 *  - -ENOSPC: @budget holds not even what is pinned and two slots (one, for a single extent), or
 *    more than WEIR_MAX_SLOTS extents are soft.
 *  - -ENOMEM: over RLIMIT_MEMLOCK of the user, over what all sessions may hold, over the memory
 *    cgroup, or there is no memory.
 *  - -EINVAL: no extents.
 *  - -ESTALE: a file changed since ATTACH.
 */
struct weir_commit {
	__u32 size;
	__u32 flags;
	__aligned_u64 budget;
	__u32 depth;
	__u32 reserved;
	__aligned_u64 pool_bytes;
	__aligned_u64 map_bytes;
	__aligned_u64 control_bytes;
	__aligned_u64 claims_bytes;
	__u32 n_frame;
	__u32 n_slot;
	__aligned_u64 slot_bytes;
	__aligned_u64 shared_bytes;
};

#define WEIR_IOC_COMMIT _IO(WEIR_IOC_TYPE, WEIR_CMD_COMMIT)

/*
 * The words of struct weir_control that say where an extent is: state in the low bits, number of
 * its frame above.
 */
#define WEIR_STATE_MASK	 7u
#define WEIR_STATE_SHIFT 3

/**
 * enum weir_state - of an extent, as the control page shows it
 * @WEIR_STATE_ABSENT: not resident: ACQUIRE reads it, or waits for the read in flight
 * @WEIR_STATE_READY: in the frame; claim the frame before use
 * @WEIR_STATE_PINNED: in the frame for as long as the session lives; no claim is needed
 * @WEIR_STATE_ERROR: its last read failed; ACQUIRE says why, or tries again
 */
enum weir_state {
	WEIR_STATE_ABSENT = 0,
	WEIR_STATE_READY = 1,
	WEIR_STATE_PINNED = 2,
	WEIR_STATE_ERROR = 3,
};

/* The kernel waits for releases: after each, call WEIR_IOC_RELEASE (with count 0). */
#define WEIR_CONTROL_KICK (1u << 0)

/**
 * struct weir_control - what the kernel publishes (WEIR_MMAP_CONTROL)
 * @size: of this header, bytes
 * @flags: WEIR_CONTROL_*
 * @error: 0, or the negative errno that ended the session: -ESTALE
 * @demoted: how many soft extents have been turned into streams so far
 * @frame_offset: where in this mapping the table __u64 frame_offset[n_frame] begins: the place of
 *	each frame in the pool; constant
 * @state_offset: where the table __u32 state[n_extent] begins
 * @n_frame: number of frames
 * @n_extent: number of extents
 *
 * The kernel writes, and nobody else can. How to acquire and release extent e without a system
 * call, claim[] being WEIR_MMAP_CLAIMS:
 *
 *	w = load_acquire(state[e]);
 *	if (state of w is PINNED) use it;
 *	if (state of w is READY) {
 *		f = w >> WEIR_STATE_SHIFT;
 *		atomic_add(claim[f].acquired, 1);	full barrier
 *		if (load_acquire(state[e]) == w) use it;
 *		else atomic_add(claim[f].released, 1);
 *	}
 *	otherwise ACQUIRE e
 *
 * and to release it: atomic_add(claim[f].released, 1), a full barrier, and RELEASE with count 0 if
 * @flags has WEIR_CONTROL_KICK. The kernel withdraws an extent in the opposite order: it takes
 * READY back, a full barrier, then looks at the claim.
 */
struct weir_control {
	__u32 size;
	__u32 flags;
	__s32 error;
	__u32 demoted;
	__aligned_u64 frame_offset;
	__aligned_u64 state_offset;
	__u32 n_frame;
	__u32 n_extent;
};

/**
 * struct weir_claim - what the consumer publishes, one for each frame (WEIR_MMAP_CLAIMS)
 * @acquired: how often an extent in this frame was acquired, modulo 2^32
 * @released: how often it was released
 *
 * While they differ the frame is not filled again. The kernel believes nothing else: a consumer
 * that writes nonsense reads nonsense, or waits, and harms nobody else.
 */
struct weir_claim {
	__u32 acquired;
	__u32 released;
};

/* Waits until they are resident, but leaves claiming them to the caller. */
#define WEIR_ACQUIRE_WAIT_ONLY (1u << 0)

/**
 * struct weir_acquire_args - ioctl(WEIR_IOC_ACQUIRE)
 * @size: sizeof(struct weir_acquire_args)
 * @flags: WEIR_ACQUIRE_WAIT_ONLY or 0
 * @count: number of extents, 1 or more
 * @failed: out: where a read failed, or the time ran out: the index in @extents
 * @timeout_ns: how long to wait; 0: not at all; negative: for ever
 * @extents: pointer to __u32[@count]
 * @offsets: pointer to __u64[@count], out: where each lies in the pool; or 0
 *
 * Waits until all are resident and counts each of them as acquired once. After an error none of
 * them is. An extent that is not next in the declared order is read all the same.
 *
 * Return: 0, or
 *  - -ETIMEDOUT: not all were resident in time; -EAGAIN with a timeout of 0.
 *  - -EIO or what else the read failed with: another ACQUIRE tries again.
 *  - -ESTALE: a file of the session has changed since ATTACH. Final.
 *  - -EDEADLK: more extents than the ring has slots.
 *  - -EINTR: a signal came.
 */
struct weir_acquire_args {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 failed;
	__s64 timeout_ns;
	__aligned_u64 extents;
	__aligned_u64 offsets;
};

#define WEIR_IOC_ACQUIRE _IO(WEIR_IOC_TYPE, WEIR_CMD_ACQUIRE)

/**
 * struct weir_release - ioctl(WEIR_IOC_RELEASE)
 * @size: sizeof(struct weir_release)
 * @flags: must be 0
 * @count: number of extents; 0: only looks at the claims, and starts what reads there are to start
 * @reserved: must be 0
 * @extents: pointer to __u32[@count]
 *
 * Return: 0, or -EINVAL for an extent that is not acquired; those before it have been released.
 */
struct weir_release {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__aligned_u64 extents;
};

#define WEIR_IOC_RELEASE _IO(WEIR_IOC_TYPE, WEIR_CMD_RELEASE)

/* Priorities of hints: a higher one is read first. */
#define WEIR_HINT_PRIORITIES 4

/**
 * struct weir_hint - ioctl(WEIR_IOC_HINT)
 * @size: sizeof(struct weir_hint)
 * @flags: must be 0
 * @count: number of extents
 * @priority: 0 .. WEIR_HINT_PRIORITIES - 1
 * @extents: pointer to __u32[@count]: wanted soon, the first of them first
 *
 * Read after what somebody waits for, and before the schedule. May be ignored.
 */
struct weir_hint {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 priority;
	__aligned_u64 extents;
};

#define WEIR_IOC_HINT _IO(WEIR_IOC_TYPE, WEIR_CMD_HINT)

/**
 * struct weir_schedule - ioctl(WEIR_IOC_SCHEDULE)
 * @size: sizeof(struct weir_schedule)
 * @flags: must be 0
 * @count: number of extents, 0 or more
 * @reserved: must be 0
 * @extents: pointer to __u32[@count]: the order in which they are read from now on, and then
 *	again from the first; each at most once, of kind STREAM or ON_DEMAND
 *
 * Return: 0, or -EINVAL for an extent that is pinned, or there twice; the order stays as it was.
 */
struct weir_schedule {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__aligned_u64 extents;
};

#define WEIR_IOC_SCHEDULE _IO(WEIR_IOC_TYPE, WEIR_CMD_SCHEDULE)

/**
 * enum weir_priority - whose reads go first
 * @WEIR_FOREGROUND: what a session is when it is opened
 * @WEIR_BACKGROUND: starts no read while a foreground session has one in flight, but for one now
 *	and then that keeps it from standing still
 */
enum weir_priority {
	WEIR_FOREGROUND = 0,
	WEIR_BACKGROUND = 1,
};

/**
 * struct weir_set_priority - ioctl(WEIR_IOC_PRIORITY)
 * @size: sizeof(struct weir_set_priority)
 * @flags: must be 0
 * @priority: enum weir_priority
 * @reserved: must be 0
 *
 * At any point of a session's life; needs no privilege.
 */
struct weir_set_priority {
	__u32 size;
	__u32 flags;
	__u32 priority;
	__u32 reserved;
};

#define WEIR_IOC_PRIORITY _IO(WEIR_IOC_TYPE, WEIR_CMD_PRIORITY)

/**
 * struct weir_export - ioctl(WEIR_IOC_EXPORT)
 * @size: sizeof(struct weir_export)
 * @flags: must be 0
 * @fd: out: a dma-buf of the pool, read-only, close-on-exec: pinned extents by number, then soft
 *	ones, then slots, each in whole pages and without gaps
 * @reserved: must be 0
 *
 * While the dma-buf lives so does the memory of the pool, and nothing of it is given back under
 * memory pressure; reads end when the session's file is closed. A device that reads a frame orders
 * that before RELEASE itself.
 *
 * Return: 0, or
 *  - -EOPNOTSUPP: a kernel without dma-buf.
 *  - -ENOMEM: a part of the pool was given back, and cannot be had again now.
 *  - -EMFILE: too many open files.
 */
struct weir_export {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

#define WEIR_IOC_EXPORT _IO(WEIR_IOC_TYPE, WEIR_CMD_EXPORT)

/**
 * struct weir_stats - ioctl(WEIR_IOC_STATS)
 * @size: sizeof(struct weir_stats)
 * @flags: must be 0
 * @read_bytes: bytes that have arrived from files
 * @pin_bytes: of them, for extents that are pinned
 * @reads: reads that have ended
 * @acquires: extents acquired that stream
 * @hits: of them, resident at once
 * @late: of them, had to wait for a read in flight
 * @misses: of them, had to be read first
 * @reordered: of @misses, were not next in the declared order
 * @evicted: extents read and thrown away without having been acquired
 * @waits: ACQUIREs that slept
 * @wait_ns: how long, together
 * @io_ns: time with at least one read in flight
 * @in_flight: reads in flight now
 * @depth: reads in flight at most, now
 * @errors: reads that failed
 * @held_back: slots that could not be filled because something else held their pages
 * @given_back: slots given back to a system short of memory
 * @demoted: soft extents turned into streams
 * @pinned_bytes: bytes of DRAM charged to this session now
 * @shared_bytes: bytes of DRAM that it uses and another session is charged for
 *
 * After COMMIT.
 */
struct weir_stats {
	__u32 size;
	__u32 flags;
	__aligned_u64 read_bytes;
	__aligned_u64 pin_bytes;
	__aligned_u64 reads;
	__aligned_u64 acquires;
	__aligned_u64 hits;
	__aligned_u64 late;
	__aligned_u64 misses;
	__aligned_u64 reordered;
	__aligned_u64 evicted;
	__aligned_u64 waits;
	__aligned_u64 wait_ns;
	__aligned_u64 io_ns;
	__u32 in_flight;
	__u32 depth;
	__aligned_u64 errors;
	__aligned_u64 held_back;
	__aligned_u64 given_back;
	__aligned_u64 demoted;
	__aligned_u64 pinned_bytes;
	__aligned_u64 shared_bytes;
};

#define WEIR_IOC_STATS _IO(WEIR_IOC_TYPE, WEIR_CMD_STATS)

#endif
