/* SPDX-License-Identifier: MIT */
/*
 * Merging neighbours: what SentencePiece and byte-pair encoding have in common.
 *
 * Text is a chain of symbols. While a pair of neighbours can merge, the pair of the lowest
 * cost does, the leftmost of equals first. Which pairs merge, into what and at what cost, is
 * the caller's; the cost must not depend on anything but the two symbols.
 *
 * n symbols take O(n log n) time and O(n) memory, whatever the text.
 */
#ifndef WEIR_TEXT_MERGE_H
#define WEIR_TEXT_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbol {
	uint32_t off, len;  /* its bytes in the text; len 0: merged into the symbol before it */
	int32_t id;	    /* token, or NO_TOKEN */
	int32_t prev, next; /* index, -1 at the ends */
};

struct merge_pair;

struct merger {
	struct symbol *sym; /* sym[0] heads the chain */
	size_t n_sym, cap_sym;
	struct merge_pair *heap;
	size_t n_heap, cap_heap;
};

/* Whether l and r merge; if so their @cost and the token's @id. */
typedef bool merge_fn(const void *ctx, const char *text, const struct symbol *l,
		      const struct symbol *r, uint32_t *cost, int32_t *id);

void merger_free(struct merger *m);
static inline void merger_reset(struct merger *m)
{
	m->n_sym = 0;
}

/* Appends a symbol to the chain. 0 or -ENOMEM. */
int merger_add(struct merger *m, size_t off, size_t len, int32_t id);

/* Merges until nothing merges. 0 or -ENOMEM. */
int merger_run(struct merger *m, merge_fn *fn, const void *ctx, const char *text);

#endif
