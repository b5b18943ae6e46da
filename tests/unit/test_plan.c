// SPDX-License-Identifier: MIT
/*
 * The plan: every row is somewhere, nothing is over the budget, and the pass is streamed evenly.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "stream/stream.h"

#define MAX_TENSOR 600
#define MAX_FILE   3

struct model {
	struct plan_tensor t[MAX_TENSOR];
	uint32_t n_tensor;
	uint64_t file_size[MAX_FILE];
	uint32_t n_file;
};

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static void add(struct model *m, uint32_t file, uint64_t rows, uint64_t row_bytes,
		enum plan_class cls, uint64_t align)
{
	uint64_t off = align_up(m->file_size[file], align);

	assert_true(m->n_tensor < MAX_TENSOR);
	m->t[m->n_tensor++] = (struct plan_tensor){
		.file = file,
		.off = off,
		.row_bytes = row_bytes,
		.n_rows = rows,
		.cls = cls,
	};
	m->file_size[file] = off + rows * row_bytes;
}

/* A llama in Q4_0, in file order. */
static struct model *llama(uint32_t layers, uint64_t d, uint64_t ff, uint64_t vocab)
{
	struct model *m = calloc(1, sizeof(*m));
	uint64_t row = d / 32 * 18;

	assert_non_null(m);
	m->n_file = 1;
	m->file_size[0] = 700001; /* header */
	add(m, 0, vocab, row, PLAN_ROWS, 32);
	for (uint32_t l = 0; l < layers; l++) {
		add(m, 0, 1, d * 4, PLAN_SMALL, 32);
		for (int i = 0; i < 4; i++)
			add(m, 0, d, row, PLAN_SWEEP, 32);
		add(m, 0, 1, d * 4, PLAN_SMALL, 32);
		add(m, 0, ff, row, PLAN_SWEEP, 32);
		add(m, 0, ff, row, PLAN_SWEEP, 32);
		add(m, 0, d, ff / 32 * 18, PLAN_SWEEP, 32);
	}
	add(m, 0, 1, d * 4, PLAN_SMALL, 32);
	add(m, 0, vocab, row, PLAN_SWEEP, 32);
	return m;
}

/* Tensors of random sizes, in several files, out of file order, at unaligned offsets. */
static struct model *random_model(void)
{
	struct model *m = calloc(1, sizeof(*m));
	uint64_t scale = 1ull << (6 + random_below(8));
	uint32_t n = 1 + (uint32_t)random_below(100), k;

	assert_non_null(m);
	m->n_file = 1 + (uint32_t)random_below(MAX_FILE);
	for (uint32_t f = 0; f < m->n_file; f++)
		m->file_size[f] = random_below(20000);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t file = (uint32_t)random_below(m->n_file);
		uint64_t align = random_below(4) ? 32 : 1;

		m->file_size[file] += random_below(5) ? 0 : random_below(10000);
		switch (random_below(8)) {
		case 0:
			add(m, file, 1, 1 + random_below(20000), PLAN_SMALL, align);
			break;
		case 1:
			add(m, file, 1 + random_below(scale), 1 + random_below(3000), PLAN_ROWS,
			    align);
			break;
		default:
			add(m, file, 1 + random_below(scale), 1 + random_below(9000), PLAN_SWEEP,
			    align);
		}
	}
	for (uint32_t i = n - 1; i > 0 && random_below(2); i--) {
		struct plan_tensor t = m->t[i];

		k = (uint32_t)random_below(i + 1);
		m->t[i] = m->t[k];
		m->t[k] = t;
	}
	for (uint32_t f = 0; f < m->n_file; f++)
		m->file_size[f] += random_below(3) ? 0 : random_below(9000);
	return m;
}

static uint64_t bytes_of(const struct model *m, enum plan_class cls)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->n_tensor; i++)
		if (m->t[i].cls == cls)
			sum += m->t[i].row_bytes * m->t[i].n_rows;
	return sum;
}

static uint64_t sweep_of(const struct model *m)
{
	return bytes_of(m, PLAN_SMALL) + bytes_of(m, PLAN_SWEEP);
}

static struct plan *plan_of(const struct model *m, uint64_t budget)
{
	struct plan_params p = {.budget = budget};
	struct plan *plan;
	struct err err;

	if (plan_make(m->t, m->n_tensor, m->file_size, m->n_file, &p, &plan, &err))
		fail_msg("%s", err.text);
	return plan;
}

/* ---- what holds for every plan ---- */

static void check_extents(const struct model *m, const struct plan *p)
{
	uint64_t pinned = 0, streamed = 0;

	for (uint32_t i = 0; i < p->n_extent; i++) {
		const struct extent *e = &p->extent[i];
		uint64_t end = e->off + e->len;

		assert_true(e->file < m->n_file);
		assert_true(e->len > 0);
		assert_int_equal(e->off % PAGE_4K, 0);
		assert_true(end % PAGE_4K == 0 || end == m->file_size[e->file]);
		assert_true(end <= m->file_size[e->file]);
		assert_int_equal(e->kind, i < p->n_pin ? EXTENT_PIN : EXTENT_STREAM);
		if (e->kind == EXTENT_STREAM) {
			streamed += e->len;
			assert_true(e->len <= p->slot_bytes);
			continue;
		}
		pinned += e->len;
		/* in file order, and no two touch: they would be one */
		if (i) {
			assert_true(e[-1].file < e->file ||
				    (e[-1].file == e->file && e[-1].off + e[-1].len < e->off));
		}
	}
	assert_int_equal(pinned, p->pinned_bytes);
	assert_int_equal(streamed, p->stream_bytes);
	assert_int_equal(p->pool_bytes, pinned + p->n_slot * p->slot_bytes);
	assert_int_equal(p->slot_bytes % PAGE_4K, 0);
}

/* Every row is in one segment, in order, inside an extent that lies where the tensor does. */
static void check_rows(const struct model *m, const struct plan *p)
{
	assert_int_equal(p->n_tensor, m->n_tensor);
	for (uint32_t i = 0; i < p->n_tensor; i++) {
		const struct plan_tensor_segs *ts = &p->tensor[i];
		const struct plan_tensor *t = &m->t[i];
		uint64_t row = 0;

		if (t->cls == PLAN_ROWS && !ts->n_seg)
			continue;
		assert_true(ts->seg0 + ts->n_seg <= p->n_seg);
		for (uint32_t k = 0; k < ts->n_seg; k++) {
			const struct plan_seg *s = &p->seg[ts->seg0 + k];
			const struct extent *e = &p->extent[s->extent];

			assert_int_equal(s->row0, row);
			assert_true(s->n_rows > 0);
			assert_true(s->extent < p->n_extent);
			assert_int_equal(e->file, t->file);
			assert_int_equal(e->off + s->off, t->off + s->row0 * t->row_bytes);
			assert_true(s->off + s->n_rows * t->row_bytes <= e->len);
			if (t->cls != PLAN_SWEEP)
				assert_int_equal(e->kind, EXTENT_PIN);
			row += s->n_rows;
		}
		assert_int_equal(row, t->n_rows);
		if (t->cls == PLAN_SMALL)
			assert_int_equal(ts->n_seg, 1);
	}
}

/* A streamed extent is one segment, used once; what is pinned too is the edges' pages at most. */
static void check_streamed(const struct plan *p)
{
	uint32_t next = p->n_pin;

	for (uint32_t i = 0; i < p->n_tensor; i++) {
		for (uint32_t k = 0; k < p->tensor[i].n_seg; k++) {
			const struct plan_seg *s = &p->seg[p->tensor[i].seg0 + k];

			if (s->extent >= p->n_pin)
				assert_int_equal(s->extent, next++);
		}
	}
	assert_int_equal(next, p->n_extent);
	for (uint32_t i = p->n_pin; i < p->n_extent; i++) {
		const struct extent *e = &p->extent[i];
		uint64_t also = 0;

		for (uint32_t k = 0; k < p->n_pin; k++) {
			const struct extent *x = &p->extent[k];
			uint64_t from = MAX(e->off, x->off);
			uint64_t to = MIN(e->off + e->len, x->off + x->len);

			if (x->file == e->file && from < to)
				also += to - from;
		}
		assert_true(also <= 2 * PAGE_4K);
	}
}

/* In order of use, the streamed share of any stretch is the average's, within one chunk. */
static void check_spread(const struct model *m, const struct plan *p)
{
	double swept = 0, streamed = 0, low = 0, high = 0, alpha;
	uint64_t total = bytes_of(m, PLAN_SWEEP), largest = 0, exact = 0;

	for (int count = 1; count >= 0; count--) {
		alpha = total ? (double)exact / (double)total : 0;
		for (uint32_t i = 0; i < p->n_tensor; i++) {
			const struct plan_tensor_segs *ts = &p->tensor[i];

			if (m->t[i].cls != PLAN_SWEEP)
				continue;
			for (uint32_t k = 0; k < ts->n_seg; k++) {
				const struct plan_seg *s = &p->seg[ts->seg0 + k];
				uint64_t len = s->n_rows * m->t[i].row_bytes;
				bool stream = s->extent >= p->n_pin;

				if (count) {
					exact += stream ? len : 0;
					largest = MAX(largest, stream ? len : 0);
					continue;
				}
				swept += (double)len;
				streamed += stream ? (double)len : 0;
				low = MIN(low, streamed - alpha * swept);
				high = MAX(high, streamed - alpha * swept);
			}
		}
	}
	/* a stretch is the difference of two places; half a chunk more for what the sum lacks */
	assert_true(high - low <= 1.6 * (double)largest + 1);
}

static void check_plan(const struct model *m, const struct plan *p, uint64_t budget)
{
	check_extents(m, p);
	check_rows(m, p);
	check_streamed(p);
	assert_int_equal(p->sweep_bytes, sweep_of(m));
	assert_true(p->pool_bytes <= budget);
	if (p->sweep_bytes)
		assert_true(p->alpha == (double)p->stream_bytes / (double)p->sweep_bytes);
	if (p->n_extent == p->n_pin) {
		assert_int_equal(p->n_slot, 0);
		assert_int_equal(p->stream_bytes, 0);
		return;
	}
	assert_true(p->max_acquire >= 1);
	assert_true(p->n_slot >= p->max_acquire + 2);
	/* or a pass would not read them all */
	assert_true(p->n_slot < p->n_extent - p->n_pin);
}

/* ---- tests ---- */

static void random_models_and_budgets(void **state)
{
	uint32_t planned = 0, streaming = 0;

	for (uint64_t seed = 1; seed <= 400; seed++) {
		uint64_t whole, budget;
		struct plan_params p = {0};
		struct plan *plan = NULL;
		struct model *m;
		struct err err;
		int r;

		random_state = seed * 0x9e3779b97f4a7c15ull;
		m = random_model();
		whole = sweep_of(m) + bytes_of(m, PLAN_ROWS);
		budget = whole * random_below(120) / 100;
		p.budget = budget;
		if (random_below(4) == 0)
			p.chunk = PAGE_4K << random_below(8);
		if (random_below(4) == 0)
			p.min_slots = (uint32_t)random_below(20);
		r = plan_make(m->t, m->n_tensor, m->file_size, m->n_file, &p, &plan, &err);
		if (r) {
			assert_int_equal(r, -ENOSPC);
			assert_null(plan);
		} else {
			check_plan(m, plan, budget);
			planned++;
			streaming += plan->n_slot > 0;
		}
		plan_free(plan);
		free(m);
	}
	/* the dice must not be loaded */
	assert_true(planned > 200 && streaming > 100);
}

static void big_models_at_many_budgets(void **state)
{
	static const struct {
		uint32_t layers;
		uint64_t d, ff, vocab;
	} shape[] = {{32, 4096, 11008, 32000}, {22, 2048, 5632, 32000}, {28, 1024, 3072, 151936}};

	for (size_t i = 0; i < ARRAY_SIZE(shape); i++) {
		struct model *m = llama(shape[i].layers, shape[i].d, shape[i].ff, shape[i].vocab);

		for (int percent = 3; percent < 100; percent += 8) {
			uint64_t budget = sweep_of(m) * (unsigned int)percent / 100;
			struct plan *p = plan_of(m, budget);

			check_plan(m, p, budget);
			check_spread(m, p);
			/* DRAM that was given is used, and the ring takes little of it */
			assert_true((double)p->pool_bytes >= 0.98 * (double)budget);
			assert_true(p->n_slot * p->slot_bytes <=
				    MAX(budget / 8, 4 * p->slot_bytes));
			assert_true(p->slot_bytes <= 4ull << 20);
			assert_true(p->alpha < 1 - percent / 100.0 + 0.14);
			plan_free(p);
		}
		free(m);
	}
}

/* The case of the benchmark: what the ring costs, and that it is deep enough for flash. */
static void seven_billion_weights_in_2_6_gb(void **state)
{
	struct model *m = llama(32, 4096, 11008, 32000);
	struct plan *p = plan_of(m, 2600000000);

	assert_true(p->n_slot * p->slot_bytes >= 32u << 20);
	assert_true(p->n_slot * p->slot_bytes <= 80u << 20);
	assert_true(p->alpha - (1 - 2.6e9 / (double)p->sweep_bytes) < 0.02);
	/* every tensor of a layer has its share of the flash's work */
	for (uint32_t i = 0; i < p->n_tensor; i++) {
		uint32_t streamed = 0;

		for (uint32_t k = 0; k < p->tensor[i].n_seg; k++)
			streamed += p->seg[p->tensor[i].seg0 + k].extent >= p->n_pin;
		if (m->t[i].cls == PLAN_SWEEP)
			assert_in_range(streamed, 0, 8);
	}
	plan_free(p);
	free(m);
}

static void everything_fits(void **state)
{
	struct model *m = llama(8, 256, 688, 8000);
	uint64_t whole = sweep_of(m) + bytes_of(m, PLAN_ROWS);
	struct plan *p = plan_of(m, UINT64_MAX);

	/* one run: header and gaps aside, the file */
	check_plan(m, p, UINT64_MAX);
	assert_int_equal(p->n_extent, 1);
	assert_true(p->alpha == 0);
	assert_int_equal(p->tensor[0].n_seg, 1);
	assert_in_range(p->pinned_bytes, whole, whole + 64 * m->n_tensor + 2 * PAGE_4K);
	plan_free(p);

	/* room for the embedding too */
	p = plan_of(m, whole + 64 * m->n_tensor + 2 * PAGE_4K);
	assert_int_equal(p->tensor[0].n_seg, 1);
	plan_free(p);

	/* not quite: rows of the embedding are read one at a time, the rest is pinned */
	p = plan_of(m, whole - 100000);
	check_plan(m, p, whole - 100000);
	assert_int_equal(p->tensor[0].n_seg, 0);
	assert_int_equal(p->n_slot, 0);
	plan_free(p);
	free(m);
}

static void the_budget_that_a_refusal_names_works(void **state)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct plan_params p = {.budget = 1};
		struct plan *plan = NULL;
		unsigned long long least = 0;
		struct model *m;
		struct err err;
		const char *at;

		random_state = seed * 0x9e3779b97f4a7c15ull;
		m = random_model();
		if (!sweep_of(m)) {
			free(m);
			continue;
		}
		assert_int_equal(
			plan_make(m->t, m->n_tensor, m->file_size, m->n_file, &p, &plan, &err),
			-ENOSPC);
		at = strstr(err.text, "least");
		assert_non_null(at);
		assert_int_equal(sscanf(strchr(at, '('), "(%llu", &least), 1);
		p.budget = least;
		if (plan_make(m->t, m->n_tensor, m->file_size, m->n_file, &p, &plan, &err))
			fail_msg("%s", err.text);
		check_plan(m, plan, least);
		plan_free(plan);
		free(m);
	}
}

/* Rows of a streamed chunk begin at multiples of 16 where 16 rows fit. */
static void cuts_fall_on_multiples_of_16_rows(void **state)
{
	struct model *m = llama(4, 2048, 5632, 3200);
	struct plan *p = plan_of(m, sweep_of(m) / 2);

	for (uint32_t i = 0; i < p->n_seg; i++)
		assert_int_equal(p->seg[i].row0 % 16, 0);
	plan_free(p);
	free(m);
}

static void a_given_chunk_and_ring_are_kept_to(void **state)
{
	struct model *m = llama(8, 512, 1536, 8000);
	struct plan_params pp = {.budget = sweep_of(m) / 2, .chunk = 128 << 10, .min_slots = 30};
	struct plan *p;
	struct err err;

	assert_int_equal(plan_make(m->t, m->n_tensor, m->file_size, 1, &pp, &p, &err), 0);
	check_plan(m, p, pp.budget);
	assert_true(p->slot_bytes <= 128 << 10);
	assert_true(p->n_slot >= 30);
	plan_free(p);
	free(m);
}

static void a_row_is_never_cut(void **state)
{
	struct model m = {.n_file = 1};
	struct plan *p;

	for (int i = 0; i < 12; i++)
		add(&m, 0, 3, 9u << 20, PLAN_SWEEP, 32);
	p = plan_of(&m, 100u << 20);
	check_plan(&m, p, 100u << 20);
	assert_true(p->slot_bytes >= 9u << 20);
	plan_free(p);
}

static void nonsense_is_refused(void **state)
{
	const uint64_t size = 1000000;
	struct plan_params pp = {.budget = UINT64_MAX};
	static const struct plan_tensor bad[] = {
		{.file = 1, .off = 0, .row_bytes = 10, .n_rows = 10},
		{.file = 0, .off = 0, .row_bytes = 0, .n_rows = 10},
		{.file = 0, .off = 0, .row_bytes = 10, .n_rows = 0},
		{.file = 0, .off = 999999, .row_bytes = 10, .n_rows = 1},
		{.file = 0, .off = 1, .row_bytes = 1ull << 33, .n_rows = 1ull << 33},
		{.file = 0, .off = UINT64_MAX, .row_bytes = 1, .n_rows = 1},
	};
	struct plan *p;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.text[0] = '\0';
		assert_int_equal(plan_make(&bad[i], 1, &size, 1, &pp, &p, &err), -EINVAL);
		assert_true(strlen(err.text) > 10);
		assert_null(p);
	}
	/* no tensor at all is a plan of nothing */
	assert_int_equal(plan_make(NULL, 0, &size, 1, &pp, &p, &err), 0);
	assert_int_equal(p->n_extent, 0);
	plan_free(p);
	plan_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_models_and_budgets),
		cmocka_unit_test(big_models_at_many_budgets),
		cmocka_unit_test(seven_billion_weights_in_2_6_gb),
		cmocka_unit_test(everything_fits),
		cmocka_unit_test(the_budget_that_a_refusal_names_works),
		cmocka_unit_test(cuts_fall_on_multiples_of_16_rows),
		cmocka_unit_test(a_given_chunk_and_ring_are_kept_to),
		cmocka_unit_test(a_row_is_never_cut),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
