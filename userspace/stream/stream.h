/* SPDX-License-Identifier: MIT */
/*
 * Where weights come from: the plan, and the sources that carry it out.
 *
 * The model tells plan_make() in which order one pass reads its tensors. The plan cuts them
 * into *extents* (contiguous byte ranges of a file), says which are pinned and which stream,
 * and how large the pool is. A source then hands out pointers to extents. Everything above
 * this room sees tensors as a few runs of rows (struct plan_seg), each inside one extent.
 *
 * Rows are never torn: an extent that streams holds whole rows. Extents are rounded outward to
 * 4 KiB so that O_DIRECT can read them; `stream_bytes` counts those rounded bytes, and a pass
 * reads exactly that many, not a byte more.
 */
#ifndef WEIR_STREAM_STREAM_H
#define WEIR_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/timeline.h"

/* ---- plan ---- */

enum plan_class {
	PLAN_SMALL, /* norms, biases: pinned before anything else, never cut */
	PLAN_SWEEP, /* read once every pass: pinned in part, streamed in part */
	PLAN_ROWS,  /* input embedding: a row at a time by source_read(); pinned only when all fits
		     */
};

struct plan_tensor {
	uint32_t file;
	uint64_t off; /* of row 0 in that file */
	uint64_t row_bytes;
	uint64_t n_rows;
	enum plan_class cls;
};

enum extent_kind {
	EXTENT_PIN,
	EXTENT_STREAM,
};

struct extent {
	uint32_t file;
	enum extent_kind kind;
	uint64_t off; /* multiple of 4 KiB */
	uint64_t len; /* multiple of 4 KiB, but for an extent that ends with its file */
};

/* Rows row0 .. row0+n_rows-1 of a tensor lie at byte `off` of extent `extent`. */
struct plan_seg {
	uint64_t row0, n_rows;
	uint32_t extent;
	uint64_t off;
};

struct plan_tensor_segs {
	uint32_t n_seg; /* 0: not held at all (PLAN_ROWS): use source_read() */
	uint32_t seg0;	/* index into plan.seg */
};

struct plan {
	uint32_t n_tensor;
	struct plan_tensor_segs *tensor; /* [n_tensor], as given to plan_make() */
	uint32_t n_seg;
	struct plan_seg *seg; /* ascending row0 within a tensor */

	uint32_t n_extent; /* EXTENT_PIN ones first, then EXTENT_STREAM in order of use */
	uint32_t n_pin;
	struct extent *extent;

	uint64_t slot_bytes; /* of the ring: the largest streamed extent in whole pages; or 0 */
	uint32_t n_slot;     /* less than the number of streamed extents; 0: none streams */
	/*
	 * How many streamed extents the consumer may hold at once: at least 1 and at most
	 * n_slot - 2, so that reading goes on meanwhile. What an operation needs more of
	 * is walked in pieces: acquire max_acquire, use, release, and so on.
	 */
	uint32_t max_acquire;

	uint64_t sweep_bytes;  /* W: bytes that one pass reads (rows of PLAN_ROWS not counted) */
	uint64_t pinned_bytes; /* D: sum of pinned extents */
	uint64_t stream_bytes; /* read from flash every pass = sum of streamed extents */
	uint64_t pool_bytes;   /* pinned_bytes + n_slot * slot_bytes: never over the budget */
	double alpha;	       /* stream_bytes / sweep_bytes */
};

struct plan_params {
	uint64_t budget;    /* DRAM for weights, in bytes; UINT64_MAX: pin everything */
	uint64_t chunk;	    /* largest streamed extent (a row is never cut); 0: chosen, <= 4 MiB */
	uint32_t min_slots; /* at least so many slots, if so many extents stream; 0: chosen */
};

/**
 * plan_make() - cut tensors into extents and decide what is pinned
 * @t: tensors in the order in which a pass uses them
 * @file_size: [n_file] bytes
 *
 * The same fraction of every stretch of the pass is pinned (error diffusion over chunks), so
 * that reads and arithmetic overlap evenly. Cuts fall on multiples of 16 rows where they can.
 * With tensors given in file order, what is pinned and adjacent becomes one extent.
 *
 * Return: 0; -ENOSPC when the budget holds not even the small tensors and the smallest ring
 * (the sentence says what the least budget is); -EINVAL; -ENOMEM.
 */
int plan_make(const struct plan_tensor *t, uint32_t n_tensor, const uint64_t *file_size,
	      uint32_t n_file, const struct plan_params *p, struct plan **out, struct err *err);
void plan_free(struct plan *p);

/* ---- prediction (docs/performance: limits) ---- */

struct machine {
	const char *name;
	double dram_gb_s; /* 1e9 bytes/s, read */
	double flash_gb_s;
	double flops; /* sustained flop/s; 0: unknown, compute is no bound */
};

/* NULL where unknown: "iphone-15-pro", "orin-64", "orin-nano", ... */
const struct machine *machine_by_name(const char *name);
const struct machine *machine_at(unsigned int i); /* NULL beyond the last */

enum bound { BOUND_FLASH, BOUND_DRAM, BOUND_COMPUTE };

struct prediction {
	double t_flash, t_dram, t_compute; /* seconds per pass */
	double tok_s;			   /* 1 / max of them */
	enum bound bound;
	double alpha_balance; /* B_flash / (B_flash + B_dram): the largest alpha without loss */
};

/*
 * @sweep: W; @stream: alpha W; @extra: other DRAM bytes of a pass (KV cache, state); @flop: 2 P.
 * T = max(alpha W / B_flash, ((1 + alpha) W + extra) / B_dram, 2P / F)
 */
void predict(const struct machine *m, double sweep, double stream, double extra, double flop,
	     struct prediction *out);
const char *bound_name(enum bound b); /* "flash", "DRAM", "compute" */

/* ---- probe: measures this machine ---- */

#define PROBE_SIZES  6
#define PROBE_DEPTHS 6

struct probe {
	double dram_gb_s;    /* all threads */
	double flash_gb_s;   /* best of the table */
	uint64_t flash_size; /* request size in bytes and depth of the best */
	uint32_t flash_depth;
	double flash_table[PROBE_SIZES][PROBE_DEPTHS]; /* GB/s; 0: not measured */
	uint64_t size[PROBE_SIZES];
	uint32_t depth[PROBE_DEPTHS];
	double flops;	      /* sustained, of the dot products that decode uses */
	char flash_path[256]; /* file system that was measured */
};

/**
 * probe_run() - measure DRAM and flash
 * @path: a file to read from, or NULL: a temporary file of @bytes is written in @dir and removed
 * @progress: called with a sentence per step, or NULL
 */
int probe_run(const char *path, const char *dir, uint64_t bytes, int n_threads, struct probe *out,
	      void (*progress)(void *arg, const char *what), void *arg, struct err *err);
/* Kept in $XDG_CACHE_HOME/weir/probe.json (or ~/.cache/weir). load: -ENOENT when there is none. */
int probe_save(const struct probe *p, struct err *err);
int probe_load(struct probe *p, struct err *err);

/* ---- sources ---- */

struct source_stats {
	uint64_t flash_read_bytes;  /* since open */
	uint64_t pin_read_bytes;    /* of them, to fill what is pinned */
	uint64_t stream_read_bytes; /* of them, streamed */
	uint64_t reads;
	uint64_t hits, late, misses; /* as in weir_sched_stats */
	uint64_t wait_ns;	     /* time that acquire() spent waiting */
	uint64_t io_ns;		     /* time with at least one read in flight */
	uint32_t depth;		     /* reads in flight at most, now */
	uint64_t locked_bytes;	     /* of the pool that is locked in DRAM */
	uint64_t huge_bytes;	     /* of the pool that asked for huge pages */
};

struct source;

struct source_params {
	const char *const *path; /* [n_file] */
	uint32_t n_file;
	const struct plan *plan; /* must outlive the source */
	uint32_t depth;		 /* reads in flight; 0: found by measurement while it runs */
	/* A sentence worth showing once (no O_DIRECT here, memory not locked, ...), or NULL. */
	void (*note)(void *arg, const char *sentence);
	/* Progress of filling what is pinned, or NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	const volatile int *cancel; /* becomes non-zero to end a wait with -EINTR; or NULL */
	struct timeline *timeline;  /* takes waits, and the reads that the source sees; or NULL */
};

/*
 * One source a file: a table of functions. Calls come from one thread. acquire() of a pinned
 * extent costs a load and a compare (source_acquire below). A failed or short read gives a
 * negative errno and a sentence with file, offset and reason, and ends the run.
 */
struct source_ops {
	const char *name; /* "mmap", "uring", ... */
	bool unbounded;	  /* keeps to no budget: the page cache decides what stays */
	int (*open)(const struct source_params *p, struct source **out, struct err *err);
	int (*hint)(struct source *s, const uint32_t *extent, uint32_t n, int priority);
	int (*acquire)(struct source *s, uint32_t extent, const void **data, struct err *err);
	void (*release)(struct source *s, uint32_t extent);
	/* Copies len bytes at off of a file to buf, now: rows of an embedding that is not held. */
	int (*read)(struct source *s, uint32_t file, uint64_t off, void *buf, size_t len,
		    struct err *err);
	void (*stats)(struct source *s, struct source_stats *out);
	void (*close)(struct source *s);
};

/* What every source begins with. */
struct source {
	const struct source_ops *ops;
	const void **resident; /* [n_extent]: where a pinned extent lies, NULL for others */
};

extern const struct source_ops source_mmap;
extern const struct source_ops source_uring;

/* "auto" is the best one here. NULL where unknown. */
const struct source_ops *source_by_name(const char *name);

static inline int source_acquire(struct source *s, uint32_t extent, const void **data,
				 struct err *err)
{
	const void *p = s->resident[extent];

	if (p) {
		*data = p;
		return 0;
	}
	return s->ops->acquire(s, extent, data, err);
}

static inline void source_release(struct source *s, uint32_t extent)
{
	if (!s->resident[extent])
		s->ops->release(s, extent);
}

/*
 * DRAM that a new pool may take now, in bytes: MemAvailable, or what the memory cgroup (v1 or
 * v2, all its ancestors) still allows where that is less.
 */
uint64_t memory_available(void);

#endif
