// SPDX-License-Identifier: MIT
/*
 * Words: a *unit* is what a kernel takes one of: a row, a group of packed rows, or for the plain
 * read some bytes. A *piece* is the units that a thread takes at once. Every thread walks its own
 * part of the buffer, as in a matrix (kernels/cpu/device.c), for as long as the turn lasts, so that
 * a core which another program slows down does not hold up the rest.
 *
 * A turn has a length in time, not in bytes: slow kernels must not make the table late. Each
 * begins in the buffer where the one before it stopped, because what was read last may still be
 * in a cache. Arithmetic on L2's rows uses the buffer's first units: every core caches its own
 * copy of them.
 */
#include "decode/kernel_speed.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "decode/threads.h"
#include "gguf/synth_fill.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/packed.h"
#include "stream/cache.h"
#include "stream/dram.h"
#include "stream/pool.h"
#include "stream/stream.h"

#define DRAM_NS	   80000000ull
#define CORE_NS	   30000000ull
#define PIECE	   (512u << 10) /* bytes, about: decode takes 128 KiB to 2 MiB of a matrix at once */
#define PATTERN	   (4u << 20)	/* bytes of random blocks, about, that the buffer repeats */
#define CORE_MIN   (64u << 10)
#define CORE_MAX   (256u << 10)
#define CORE_GUESS (128u << 10)	 /* where L2 is not known */
#define OUT_MAX	   (PIECE >> 10) /* rows at once: SPEED_N_IN weights take over 1 KiB */
#define BYTES	   (1ull << 30)

_Static_assert(CORE_MAX <= PIECE && SPEED_N_IN / 256 * 84 >= 1024, "rows at once fit in out[]");

struct speed_meter {
	struct speed_setup setup;
	uint32_t rounds;
	const volatile int *cancel;
	const struct cpu_isa *isa;
	struct team *team;
	bool own_team;
	bool filled;
	struct pool memory;
	uint64_t at; /* offset in the memory where the next turn begins */
	void *act;
	float *x;
	float *out; /* [n_threads][OUT_MAX] */
};

/* A kernel, or the plain read in its place: something done to units. */
struct work {
	void (*run)(const struct work *w, const char *units, size_t n, float *out);
	size_t unit_bytes;
	uint32_t type;
	const struct cpu_isa *isa;
	const void *act;
};

static void run_read(const struct work *w, const char *units, size_t n, float *out)
{
	out[0] = (float)dram_read(units, n * w->unit_bytes);
}

static void run_rows(const struct work *w, const char *units, size_t n, float *out)
{
	w->isa->types[w->type]->dot_rows(units, w->unit_bytes, n, w->act, SPEED_N_IN, out);
}

/* A tile of one token is an activation row. */
static void run_groups(const struct work *w, const char *units, size_t n, float *out)
{
	w->isa->packed[w->type](units, n, w->act, 1, SPEED_N_IN, out, n * PACK_ROWS);
}

/* ---- one turn ---- */

struct turn {
	const struct work *w;
	struct speed_meter *m;
	const char *base;
	size_t n_piece, piece_units; /* of the circle */
	size_t first;	    /* piece, of thread 0; the others begin parts of the circle on */
	uint64_t end;	    /* ns */
	atomic_size_t done; /* pieces */
};

static bool cancelled(const struct speed_meter *m)
{
	return m->cancel && *m->cancel;
}

static void do_pieces(void *arg, int i, int n)
{
	struct turn *t = arg;
	size_t piece_bytes = t->piece_units * t->w->unit_bytes, done = 0, piece;
	size_t first = t->first + t->n_piece * (size_t)i / (size_t)n;

	/* at least one each, however late, so that no rate is 0 */
	do {
		piece = (first + done) % t->n_piece;
		t->w->run(t->w, t->base + piece * piece_bytes, t->piece_units,
			  t->m->out + (size_t)i * OUT_MAX);
		done++;
	} while (now_ns() < t->end && !cancelled(t->m));
	atomic_fetch_add_explicit(&t->done, done, memory_order_relaxed);
}

/* Return: GB/s of all threads together. */
static double take_turn(struct turn *t, uint64_t ns)
{
	uint64_t start = now_ns();

	t->end = start + ns;
	t->m->team->run(t->m->team, do_pieces, t);
	ns = now_ns() - start;
	return (double)(t->done * t->piece_units * t->w->unit_bytes) / (double)ns;
}

static double stream(struct speed_meter *m, const struct work *w)
{
	struct turn t = {.w = w, .m = m, .base = m->memory.base};
	uint64_t piece_bytes;
	double gb_s;

	t.piece_units = MAX(PIECE / w->unit_bytes, 1u);
	piece_bytes = t.piece_units * w->unit_bytes;
	t.n_piece = m->memory.len / piece_bytes;
	t.first = m->at / piece_bytes;
	gb_s = take_turn(&t, DRAM_NS);
	m->at = (t.first + t.done / (size_t)m->setup.n_threads + 1) % t.n_piece * piece_bytes;
	return gb_s;
}

/* All of L2's units again and again, by every thread. */
static double from_l2(struct speed_meter *m, const struct work *w)
{
	struct turn t = {.w = w, .m = m, .base = m->memory.base, .n_piece = 1};

	t.piece_units = MAX(m->setup.core_bytes / w->unit_bytes, 1u);
	return take_turn(&t, CORE_NS) / m->setup.n_threads;
}

/* ---- rows ---- */

static size_t row_bytes(uint32_t type)
{
	const struct wtype_info *info = wtype_info(type);

	return SPEED_N_IN / info->block_elems * info->block_bytes;
}

/* @n groups of random rows, as they lie in a file or packed; @group: room for one. */
static void make_pattern(uint32_t type, enum row_layout layout, char *group, char *to, size_t n)
{
	const size_t row = row_bytes(type), bytes = PACK_ROWS * row;
	struct fill f;

	fill_init(&f, type, FILL_WEIGHTS, SPEED_N_IN, type);
	for (size_t i = 0; i < n; i++) {
		fill_range(&f, layout == ROWS_FILE ? to + i * bytes : group, i * bytes, bytes);
		if (layout == ROWS_PACKED)
			pack_group(type, group, row, PACK_ROWS, SPEED_N_IN, to + i * bytes);
	}
}

struct copy_job {
	struct speed_meter *m;
	const char *pattern;
	uint64_t bytes;
	atomic_size_t next;
};

static void copy_pattern(void *arg, int i, int n)
{
	struct copy_job *j = arg;
	const struct pool *to = &j->m->memory;
	uint64_t at;

	while (!cancelled(j->m)) {
		at = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed) * j->bytes;
		if (at >= to->len)
			break;
		memcpy(to->base + at, j->pattern, MIN(j->bytes, to->len - at));
	}
}

/* One pattern again and again: as many random blocks would take longer to make than to measure. */
static int fill_memory(struct speed_meter *m, uint32_t type, enum row_layout layout, size_t group,
		       struct err *err)
{
	size_t n = MAX(PATTERN / group, 1u);
	char *scratch = malloc(group), *pattern = malloc(n * group);
	struct copy_job j = {.m = m, .pattern = pattern, .bytes = n * group};
	int r = 0;

	if (scratch && pattern) {
		make_pattern(type, layout, scratch, pattern, n);
		m->team->run(m->team, copy_pattern, &j);
	} else {
		r = err_set(err, -ENOMEM, "out of memory for rows to measure");
	}
	free(pattern);
	free(scratch);
	return r;
}

/* ---- rounds ---- */

static double median(double *x, size_t n)
{
	sort_doubles(x, n);
	return x[n / 2];
}

static int measure(struct speed_meter *m, const struct work *w, struct kernel_speed *out,
		   struct err *err)
{
	const struct work read = {.run = run_read, .unit_bytes = DRAM_READ_UNIT};
	double dram[SPEED_ROUNDS_MAX], gb_s[SPEED_ROUNDS_MAX], share[SPEED_ROUNDS_MAX],
		core[SPEED_ROUNDS_MAX];
	uint32_t n = m->rounds;

	stream(m, &read); /* what filling left in the caches is written back meanwhile */
	for (uint32_t i = 0; i < n; i++) {
		dram[i] = stream(m, &read);
		gb_s[i] = stream(m, w);
		share[i] = gb_s[i] / dram[i];
		core[i] = from_l2(m, w);
		if (cancelled(m))
			return err_set(err, -EINTR, "interrupted");
	}
	*out = (struct kernel_speed){
		.dram_gb_s = median(dram, n),
		.gb_s = median(gb_s, n),
		.dram_share = median(share, n),
		.core_gb_s = median(core, n),
	};
	out->arith_share = out->core_gb_s * m->setup.n_threads / out->dram_gb_s;
	return 0;
}

int speed_measure(struct speed_meter *m, uint32_t type, enum row_layout layout,
		  struct kernel_speed *out, struct err *err)
{
	const size_t row = row_bytes(type);
	struct work w = {
		.run = layout == ROWS_PACKED ? run_groups : run_rows,
		.unit_bytes = layout == ROWS_PACKED ? PACK_ROWS * row : row,
		.type = type,
		.isa = m->isa,
		.act = m->act,
	};
	int r = fill_memory(m, type, layout, PACK_ROWS * row, err);

	if (r)
		return r;
	act_make(m->isa, m->isa->types[type]->act, m->x, m->act, SPEED_N_IN);
	return measure(m, &w, out, err);
}

int speed_dram(struct speed_meter *m, double *gb_s, struct err *err)
{
	const struct work read = {.run = run_read, .unit_bytes = DRAM_READ_UNIT};
	int r;

	if (!m->filled) {
		r = fill_memory(m, WT_Q8_0, ROWS_FILE, PACK_ROWS * row_bytes(WT_Q8_0), err);
		if (r)
			return r;
		m->filled = true;
		stream(m, &read); /* what filling left in the caches is written back meanwhile */
	}
	*gb_s = stream(m, &read);
	return 0;
}

/* Half of L2, so that the activation and whatever else a core needs has room beside it. */
static uint64_t choose_core_bytes(void)
{
	uint64_t l2 = cache_l2();

	return l2 ? MAX(MIN(l2 / 2, (uint64_t)CORE_MAX), (uint64_t)CORE_MIN) : CORE_GUESS;
}

const struct speed_setup *speed_setup(const struct speed_meter *m)
{
	return &m->setup;
}

/* ---- open ---- */

static int check(const struct speed_params *p, uint64_t available, struct err *err)
{
	char a[32], b[32];

	if (p->rounds < 1 || p->rounds > SPEED_ROUNDS_MAX)
		return err_set(err, -EINVAL, "%u rounds: 1 to %u are possible", p->rounds,
			       SPEED_ROUNDS_MAX);
	if (p->bytes && p->bytes < SPEED_BYTES_MIN)
		return err_set(err, -EINVAL, "%s are too few to stream: use %s or more",
			       format_bytes(p->bytes, a), format_bytes(SPEED_BYTES_MIN, b));
	if (p->bytes > available)
		return err_set(err, -ENOMEM,
			       "%s to stream are more than the %s of memory that are free: use a "
			       "smaller --size",
			       format_bytes(p->bytes, a), format_bytes(available, b));
	return 0;
}

static struct speed_setup choose_setup(const struct speed_params *p, uint64_t available)
{
	struct speed_setup s = {
		.isa = cpu_isa_best()->name,
		.n_threads = p->n_threads,
		.bytes = p->bytes,
		.core_bytes = choose_core_bytes(),
		.cache_bytes = cache_all(),
	};

	if (!s.bytes)
		s.bytes = MIN(MAX(BYTES, 2 * s.cache_bytes), available / 2);
	s.bytes = MAX(s.bytes, SPEED_BYTES_MIN);
	return s;
}

/* Random numbers of a fixed seed: what they are does not matter to any kernel. */
static void make_input(float *x)
{
	uint32_t r = 12345;

	for (size_t i = 0; i < SPEED_N_IN; i++) {
		r = r * 1664525u + 1013904223u;
		x[i] = (float)(int32_t)r * 0x1p-31f;
	}
}

int speed_meter_open(const struct speed_params *p, struct speed_meter **out, struct err *err)
{
	struct speed_meter *m;
	uint64_t available = memory_available();
	size_t act_bytes = 0;
	int r = check(p, available, err);

	if (r)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, -ENOMEM, "out of memory for a measurement");
	m->setup = choose_setup(p, available);
	m->rounds = p->rounds;
	m->cancel = p->cancel;
	m->isa = cpu_isa_best();
	for (int k = 0; k < ACT_KINDS; k++)
		act_bytes = MAX(act_bytes, act_row_bytes(k, SPEED_N_IN));
	m->act = aligned_alloc(64, act_bytes);
	m->x = malloc(SPEED_N_IN * sizeof(float));
	m->out = calloc((size_t)p->n_threads * OUT_MAX, sizeof(float));
	m->team = p->team;
	m->own_team = !p->team;
	if (m->act && m->x && m->out)
		r = p->team ? 0 : team_open(p->n_threads, &m->team, err);
	else
		r = err_set(err, -ENOMEM, "out of memory for a measurement");
	if (!r)
		r = pool_open(&m->memory, m->setup.bytes, NULL, NULL, err);
	if (r) {
		speed_meter_close(m);
		return r;
	}
	make_input(m->x);
	*out = m;
	return 0;
}

void speed_meter_close(struct speed_meter *m)
{
	if (!m)
		return;
	pool_close(&m->memory);
	if (m->own_team)
		team_close(m->team);
	free(m->out);
	free(m->x);
	free(m->act);
	free(m);
}
