// SPDX-License-Identifier: MIT
/*
 * The chain of symbols and the queue of pairs that may merge.
 *
 * A pair is queued when its symbols become neighbours and is never taken back: one whose
 * symbols have changed since is known by its length, which a live pair cannot share with an
 * older one at the same place, because symbols only grow.
 */
#include "text/merge.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

struct merge_pair {
	uint64_t key; /* cost << 32 | index of the left symbol: lowest first */
	int32_t right;
	uint32_t len; /* of both symbols together when the pair was queued */
	int32_t id;
};

void merger_free(struct merger *m)
{
	free(m->sym);
	free(m->heap);
	*m = (struct merger){0};
}

int merger_add(struct merger *m, size_t off, size_t len, int32_t id)
{
	int32_t at = (int32_t)m->n_sym;

	if (m->n_sym == m->cap_sym) {
		size_t cap = MAX((size_t)64, m->cap_sym * 2);
		struct symbol *p = reallocarray(m->sym, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		m->sym = p;
		m->cap_sym = cap;
	}
	m->sym[at] = (struct symbol){(uint32_t)off, (uint32_t)len, id, at - 1, -1};
	if (at)
		m->sym[at - 1].next = at;
	m->n_sym++;
	return 0;
}

static int heap_push(struct merger *m, struct merge_pair e)
{
	size_t i, up;

	if (m->n_heap == m->cap_heap) {
		size_t cap = MAX((size_t)64, m->cap_heap * 2);
		struct merge_pair *p = reallocarray(m->heap, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		m->heap = p;
		m->cap_heap = cap;
	}
	for (i = m->n_heap++; i; i = up) {
		up = (i - 1) / 2;
		if (m->heap[up].key <= e.key)
			break;
		m->heap[i] = m->heap[up];
	}
	m->heap[i] = e;
	return 0;
}

static struct merge_pair heap_pop(struct merger *m)
{
	struct merge_pair top = m->heap[0];
	struct merge_pair last = m->heap[--m->n_heap];
	size_t i, kid;

	for (i = 0; (kid = 2 * i + 1) < m->n_heap; i = kid) {
		if (kid + 1 < m->n_heap && m->heap[kid + 1].key < m->heap[kid].key)
			kid++;
		if (last.key <= m->heap[kid].key)
			break;
		m->heap[i] = m->heap[kid];
	}
	m->heap[i] = last;
	return top;
}

static int queue_pair(struct merger *m, int32_t left, int32_t right, merge_fn *fn, const void *ctx,
		      const char *text)
{
	struct merge_pair e;
	uint32_t cost;

	if (left < 0 || right < 0)
		return 0;
	if (!fn(ctx, text, &m->sym[left], &m->sym[right], &cost, &e.id))
		return 0;
	e.key = (uint64_t)cost << 32 | (uint32_t)left;
	e.right = right;
	e.len = m->sym[left].len + m->sym[right].len;
	return heap_push(m, e);
}

/* Takes the right symbol of a live pair out of the chain. False: the pair is outdated. */
static bool merge_symbols(struct merger *m, const struct merge_pair *e, int32_t left)
{
	struct symbol *l = &m->sym[left], *r = &m->sym[e->right];

	if (!l->len || !r->len || l->len + r->len != e->len)
		return false;
	l->len += r->len;
	l->id = e->id;
	l->next = r->next;
	r->len = 0;
	if (l->next >= 0)
		m->sym[l->next].prev = left;
	return true;
}

int merger_run(struct merger *m, merge_fn *fn, const void *ctx, const char *text)
{
	size_t i;
	int r = 0;

	m->n_heap = 0;
	for (i = 1; i < m->n_sym && !r; i++)
		r = queue_pair(m, (int32_t)i - 1, (int32_t)i, fn, ctx, text);
	while (m->n_heap && !r) {
		struct merge_pair e = heap_pop(m);
		int32_t left = (int32_t)(uint32_t)e.key;

		if (!merge_symbols(m, &e, left))
			continue;
		r = queue_pair(m, m->sym[left].prev, left, fn, ctx, text);
		if (!r)
			r = queue_pair(m, left, m->sym[left].next, fn, ctx, text);
	}
	return r;
}
