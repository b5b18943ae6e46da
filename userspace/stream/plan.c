// SPDX-License-Identifier: MIT
/*
 * The plan: what is pinned, what streams, and how large the pool is.
 *
 * Words
 *	chunk	rows of one tensor that are pinned or streamed together. A tensor of class SMALL
 *		or ROWS is one chunk; a SWEEP tensor is cut into chunks of nearly equal size.
 *	run	pinned chunks whose pages touch in the file: one EXTENT_PIN extent.
 *	ring	the slots through which streamed chunks pass.
 *
 * Every pass reads all of a dense model in the same order. Then no policy hits more often than
 * pinning a fixed part, and which part is free to choose. It is spread evenly: going through
 * the pass, the streamed share of the bytes so far stays within half a chunk of alpha (error
 * diffusion), so that flash has the same work in every stretch and is never ahead or behind by
 * more than the ring holds.
 *
 * The ring takes DRAM away from what is pinned and its size depends on what streams, so alpha
 * is found by bisection over whole plans: the least alpha whose pool fits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "stream/stream.h"

/*
 * A streamed extent is one read. Flash needs about 1 MiB to reach its bandwidth and gains little
 * beyond 4 MiB, so that is the aim for large models. Small ones are cut finer, so that a pass
 * has about 512 chunks (16 in each of 32 layers), and small budgets too, so that a ring of 16
 * slots stays below an eighth of the budget.
 */
#define CHUNK_MAX	(4ull << 20)
#define CHUNK_MIN	(64ull << 10)
#define CHUNKS_PER_PASS 512
#define RING_SHARE	8 /* the ring takes at most budget / 8 where it can be chosen */
#define RING_SLOTS_HELD 16

/* In flight: at least so many reads and so many bytes. */
#define FLIGHT_SLOTS	 8
#define FLIGHT_SLOTS_MAX 32
#define FLIGHT_BYTES	 (8ull << 20)

/* Held by the consumer at once: no more than this, or than so many. */
#define HELD_BYTES (8ull << 20)
#define HELD_MIN   4
#define HELD_MAX   16

/* One held, one being read, one read and waiting. */
#define RING_MIN 3

/* Last resort where a model or a budget is tiny. */
#define CHUNK_LEAST PAGE_4K

struct chunk {
	uint32_t tensor;
	uint32_t file;
	uint64_t row0, n_rows;
	uint64_t off, len; /* exact bytes in the file */
	bool stream;
	uint32_t run; /* of a pinned chunk */
};

/* The tensors, cut; and what one choice of alpha makes of them. */
struct cut {
	const struct plan_tensor *t;
	const uint64_t *file_size;
	uint32_t n_tensor;
	uint64_t sweep_bytes; /* SMALL and SWEEP */
	uint64_t rows_bytes;

	uint32_t n_chunk;
	struct chunk *chunk; /* in order of use */
	uint32_t n_placed;
	uint32_t *placed; /* chunks by file and offset; ROWS only where they are pinned */

	uint64_t least_alloc; /* pinned_alloc where all streams that may */

	uint32_t n_run;
	uint64_t pinned_bytes; /* of all runs */
	uint64_t pinned_alloc; /* the same in whole pages: what the pool takes */
	uint32_t n_stream;
	uint32_t tensor_max; /* most streamed chunks of one tensor */
	uint64_t stream_bytes;
	uint64_t slot_bytes;
	uint32_t n_slot;
	uint32_t max_acquire;
	uint64_t pool_alloc;
};

static int check_tensor(const struct plan_tensor *t, uint32_t i, const uint64_t *file_size,
			uint32_t n_file, struct err *err)
{
	uint64_t len, end;

	if (t->file >= n_file)
		return err_set(err, -EINVAL, "plan: tensor %u is in file %u of %u", i, t->file,
			       n_file);
	if (!t->row_bytes || !t->n_rows)
		return err_set(err, -EINVAL, "plan: tensor %u is empty", i);
	if (mul_overflow(t->row_bytes, t->n_rows, &len) || add_overflow(t->off, len, &end) ||
	    end > file_size[t->file])
		return err_set(err, -EINVAL,
			       "plan: tensor %u at offset %llu reaches beyond the end of its file",
			       i, (unsigned long long)t->off);
	return 0;
}

static uint64_t clamp(uint64_t x, uint64_t least, uint64_t most)
{
	return x < least ? least : x > most ? most : x;
}

static uint64_t tensor_bytes(const struct plan_tensor *t)
{
	return t->row_bytes * t->n_rows;
}

/*
 * Rows of a chunk of at most @chunk bytes after rounding outward to pages, but a page of rows at
 * least; a multiple of 16 where so many fit; all chunks of a tensor are about the same size.
 */
static uint64_t rows_per_chunk(const struct plan_tensor *t, uint64_t chunk)
{
	uint64_t room = chunk >= CHUNK_MIN ? chunk - 2 * PAGE_4K : chunk;
	uint64_t page = (PAGE_4K + t->row_bytes - 1) / t->row_bytes;
	uint64_t most = MAX(room / t->row_bytes, page), n;

	if (t->cls != PLAN_SWEEP || most >= t->n_rows)
		return t->n_rows;
	if (align_down(most, 16) >= page)
		most = align_down(most, 16);
	n = (t->n_rows + most - 1) / most;
	n = MAX((t->n_rows + n - 1) / n, page);
	return most % 16 ? n : align_up(n, 16);
}

/* ---- cutting ---- */

static int compare_placed(const void *a, const void *b, void *arg)
{
	const struct chunk *chunk = arg;
	const struct chunk *x = &chunk[*(const uint32_t *)a], *y = &chunk[*(const uint32_t *)b];

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return 0;
}

static void cut_free(struct cut *c)
{
	free(c->chunk);
	free(c->placed);
	c->chunk = NULL;
	c->placed = NULL;
}

/* @rows: tensors of class ROWS are pinned too */
static int cut_make(struct cut *c, uint64_t chunk, bool rows, struct err *err)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < c->n_tensor; i++) {
		uint64_t per = rows_per_chunk(&c->t[i], chunk);

		n += (c->t[i].n_rows + per - 1) / per;
		if (n > UINT32_MAX / 4)
			return err_set(err, -EINVAL,
				       "plan: chunks of %llu bytes are too many: use larger ones",
				       (unsigned long long)chunk);
	}
	c->chunk = malloc(MAX(n, (uint64_t)1) * sizeof(*c->chunk));
	c->placed = malloc(MAX(n, (uint64_t)1) * sizeof(*c->placed));
	if (!c->chunk || !c->placed) {
		cut_free(c);
		return err_set(err, -ENOMEM, "out of memory for a plan of %llu chunks",
			       (unsigned long long)n);
	}
	c->n_chunk = 0;
	c->n_placed = 0;
	for (uint32_t i = 0; i < c->n_tensor; i++) {
		const struct plan_tensor *t = &c->t[i];
		uint64_t per = rows_per_chunk(t, chunk);

		if (t->cls == PLAN_ROWS && !rows)
			continue;
		for (uint64_t row = 0; row < t->n_rows; row += per) {
			uint64_t n_rows = MIN(per, t->n_rows - row);

			c->chunk[c->n_chunk] = (struct chunk){
				.tensor = i,
				.file = t->file,
				.row0 = row,
				.n_rows = n_rows,
				.off = t->off + row * t->row_bytes,
				.len = n_rows * t->row_bytes,
			};
			c->placed[c->n_placed++] = c->n_chunk++;
		}
	}
	qsort_r(c->placed, c->n_placed, sizeof(*c->placed), compare_placed, c->chunk);
	return 0;
}

/* ---- one choice of alpha ---- */

/* The pages of a chunk: offset and length of the extent that holds it. */
static void chunk_pages(const struct cut *c, const struct chunk *k, uint64_t *off, uint64_t *end)
{
	*off = align_down(k->off, PAGE_4K);
	*end = MIN(align_up(k->off + k->len, PAGE_4K), c->file_size[k->file]);
}

static void choose_streamed(struct cut *c, double alpha)
{
	uint32_t of_tensor = 0;
	uint64_t off, end;
	double owed = 0;

	c->n_stream = 0;
	c->stream_bytes = 0;
	c->slot_bytes = 0;
	c->tensor_max = 0;
	for (uint32_t i = 0; i < c->n_chunk; i++) {
		struct chunk *k = &c->chunk[i];

		k->stream = false;
		if (i && k->tensor != k[-1].tensor)
			of_tensor = 0;
		/* less than a page would be read twice over for its neighbours' sake */
		if (c->t[k->tensor].cls != PLAN_SWEEP || k->len < PAGE_4K)
			continue;
		owed += alpha * (double)k->len;
		if (alpha <= 0 || owed < (double)k->len / 2)
			continue;
		owed -= (double)k->len;
		k->stream = true;
		chunk_pages(c, k, &off, &end);
		c->n_stream++;
		c->stream_bytes += end - off;
		c->slot_bytes = MAX(c->slot_bytes, align_up(end - off, PAGE_4K));
		c->tensor_max = MAX(c->tensor_max, ++of_tensor);
	}
}

/* Gives every pinned chunk its run. @extent: where the runs are written, or NULL. */
static void merge_pinned(struct cut *c, struct extent *extent)
{
	uint64_t off, end, run_off = 0, run_end = 0;
	uint32_t file = UINT32_MAX;

	c->n_run = 0;
	c->pinned_bytes = 0;
	c->pinned_alloc = 0;
	for (uint32_t i = 0; i < c->n_placed; i++) {
		struct chunk *k = &c->chunk[c->placed[i]];

		if (k->stream)
			continue;
		chunk_pages(c, k, &off, &end);
		if (k->file != file || off > run_end) {
			c->n_run++;
			file = k->file;
			run_off = off;
			run_end = off;
		}
		k->run = c->n_run - 1;
		if (end > run_end) {
			c->pinned_bytes += end - run_end;
			c->pinned_alloc += align_up(end, PAGE_4K) - align_up(run_end, PAGE_4K);
			run_end = end;
		}
		if (extent)
			extent[k->run] = (struct extent){
				.file = file,
				.kind = EXTENT_PIN,
				.off = run_off,
				.len = run_end - run_off,
			};
	}
}

/*
 * Slots for what the consumer holds, for as much again that is read and waits for the rest of
 * its tensor, and for what is in flight. Fewer where the budget is tight, never fewer than
 * RING_MIN, and always fewer than what streams, or nothing would be left to stream.
 */
static void size_ring(struct cut *c, const struct plan_params *p)
{
	uint64_t held, flight, n;

	c->n_slot = 0;
	c->max_acquire = 0;
	if (!c->n_stream)
		return;
	held = clamp(HELD_BYTES / c->slot_bytes, HELD_MIN, HELD_MAX);
	held = MIN(held, (uint64_t)c->tensor_max);
	flight = clamp(FLIGHT_BYTES / c->slot_bytes, FLIGHT_SLOTS, FLIGHT_SLOTS_MAX);
	n = 2 * held + flight;
	n = MIN(n, p->budget / RING_SHARE / c->slot_bytes);
	n = MAX(n, (uint64_t)p->min_slots);
	if (p->budget > c->least_alloc)
		n = MIN(n, (p->budget - c->least_alloc) / c->slot_bytes);
	c->n_slot = (uint32_t)clamp(n, RING_MIN, MAX(c->n_stream - 1, (uint32_t)RING_MIN));
	c->max_acquire = (uint32_t)clamp((c->n_slot - 2) / 2, 1, held);
}

static bool try_alpha(struct cut *c, double alpha, const struct plan_params *p)
{
	choose_streamed(c, alpha);
	merge_pinned(c, NULL);
	size_ring(c, p);
	c->pool_alloc = c->pinned_alloc + c->n_slot * c->slot_bytes;
	return c->pool_alloc <= p->budget && (!c->n_stream || c->n_slot < c->n_stream);
}

/* Leaves @c at the least alpha that fits; false where not even streaming everything does. */
static bool find_alpha(struct cut *c, const struct plan_params *p)
{
	double lo = 0, hi = 1, mid;

	choose_streamed(c, 1);
	merge_pinned(c, NULL);
	c->least_alloc = c->pinned_alloc;
	if (try_alpha(c, 0, p))
		return true;
	if (!try_alpha(c, 1, p))
		return false;
	for (int i = 0; i < 40; i++) {
		mid = (lo + hi) / 2;
		if (try_alpha(c, mid, p))
			hi = mid;
		else
			lo = mid;
	}
	return try_alpha(c, hi, p);
}

/* After find_alpha() failed: the least pool with this cut. */
static uint64_t least_pool(struct cut *c)
{
	const struct plan_params all = {.budget = UINT64_MAX};
	uint64_t streamed = UINT64_MAX;

	choose_streamed(c, 1);
	if (c->n_stream > RING_MIN)
		streamed = c->least_alloc + RING_MIN * c->slot_bytes;
	try_alpha(c, 0, &all);
	return MIN(streamed, c->pool_alloc);
}

/* ---- the plan ---- */

static uint64_t first_chunk(const struct cut *c, const struct plan_params *p)
{
	uint64_t chunk = c->sweep_bytes / CHUNKS_PER_PASS;

	if (p->chunk)
		return p->chunk;
	chunk = MIN(chunk, p->budget / RING_SHARE / RING_SLOTS_HELD);
	return align_down(clamp(chunk, CHUNK_MIN, CHUNK_MAX), PAGE_4K);
}

/* Cuts @c as finely as the budget asks for and finds alpha. */
static int fit(struct cut *c, const struct plan_params *p, struct err *err)
{
	uint64_t chunk = first_chunk(c, p), least;
	char have[32], need[32];
	int r;

	if (p->budget >= c->rows_bytes && c->rows_bytes) {
		r = cut_make(c, chunk, true, err);
		if (r)
			return r;
		if (try_alpha(c, 0, p))
			return 0;
		cut_free(c);
	}
	for (;;) {
		r = cut_make(c, chunk, false, err);
		if (r)
			return r;
		if (find_alpha(c, p))
			return 0;
		least = least_pool(c);
		cut_free(c);
		if (p->chunk || chunk <= CHUNK_LEAST)
			break;
		chunk = MAX(align_down(chunk / 2, PAGE_4K), CHUNK_LEAST);
	}
	return err_set(err, -ENOSPC,
		       "a budget of %s (%llu bytes) is too small for this model: the least is %s "
		       "(%llu bytes)",
		       format_bytes(p->budget, have), (unsigned long long)p->budget,
		       format_bytes(least, need), (unsigned long long)least);
}

/* Appends a chunk to its tensor, to the last segment where it goes on there. */
static void add_seg(struct plan *plan, const struct chunk *k, uint32_t extent)
{
	struct plan_tensor_segs *ts = &plan->tensor[k->tensor];
	struct plan_seg *last;

	if (!ts->n_seg)
		ts->seg0 = plan->n_seg;
	last = ts->n_seg ? &plan->seg[plan->n_seg - 1] : NULL;
	if (last && last->extent == extent) {
		last->n_rows += k->n_rows;
		return;
	}
	ts->n_seg++;
	plan->seg[plan->n_seg++] = (struct plan_seg){
		.row0 = k->row0,
		.n_rows = k->n_rows,
		.extent = extent,
		.off = k->off - plan->extent[extent].off,
	};
}

static int build(struct cut *c, struct plan **out, struct err *err)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	uint32_t stream = c->n_run;
	uint64_t off, end;

	if (!plan)
		goto no_memory;
	plan->tensor = calloc(MAX(c->n_tensor, 1u), sizeof(*plan->tensor));
	plan->seg = calloc(MAX(c->n_chunk, 1u), sizeof(*plan->seg));
	plan->extent = calloc(MAX(c->n_run + c->n_stream, 1u), sizeof(*plan->extent));
	if (!plan->tensor || !plan->seg || !plan->extent)
		goto no_memory;
	plan->n_tensor = c->n_tensor;
	plan->n_extent = c->n_run + c->n_stream;
	plan->n_pin = c->n_run;
	merge_pinned(c, plan->extent);
	for (uint32_t i = 0; i < c->n_chunk; i++) {
		const struct chunk *k = &c->chunk[i];

		if (!k->stream) {
			add_seg(plan, k, k->run);
			continue;
		}
		chunk_pages(c, k, &off, &end);
		plan->extent[stream] = (struct extent){
			.file = k->file,
			.kind = EXTENT_STREAM,
			.off = off,
			.len = end - off,
		};
		add_seg(plan, k, stream++);
	}
	plan->slot_bytes = c->slot_bytes;
	plan->n_slot = c->n_slot;
	plan->max_acquire = c->max_acquire;
	plan->sweep_bytes = c->sweep_bytes;
	plan->pinned_bytes = c->pinned_bytes;
	plan->stream_bytes = c->stream_bytes;
	plan->pool_bytes = c->pinned_bytes + c->n_slot * c->slot_bytes;
	plan->alpha = c->sweep_bytes ? (double)c->stream_bytes / (double)c->sweep_bytes : 0;
	*out = plan;
	return 0;
no_memory:
	plan_free(plan);
	return err_set(err, -ENOMEM, "out of memory for a plan of %u chunks", c->n_chunk);
}

int plan_make(const struct plan_tensor *t, uint32_t n_tensor, const uint64_t *file_size,
	      uint32_t n_file, const struct plan_params *p, struct plan **out, struct err *err)
{
	struct cut c = {.t = t, .file_size = file_size, .n_tensor = n_tensor};
	uint64_t *sum;
	int r;

	*out = NULL;
	for (uint32_t i = 0; i < n_tensor; i++) {
		r = check_tensor(&t[i], i, file_size, n_file, err);
		if (r)
			return r;
		sum = t[i].cls == PLAN_ROWS ? &c.rows_bytes : &c.sweep_bytes;
		if (add_overflow(*sum, tensor_bytes(&t[i]), sum))
			return err_set(err, -EINVAL, "plan: the tensors' sizes overflow");
	}
	r = fit(&c, p, err);
	if (r)
		return r;
	r = build(&c, out, err);
	cut_free(&c);
	return r;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	free(p->tensor);
	free(p->seg);
	free(p->extent);
	free(p);
}
