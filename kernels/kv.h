/* SPDX-License-Identifier: MIT */
/*
 * The KV cache: keys and values of the positions seen so far, one struct a layer.
 *
 * Positions come in chunks of KV_CHUNK, the last one as long as is left: of a chunk first all
 * heads' keys, then all heads' values. So what a context has used lies together, in few pages,
 * however long it may grow: with a stride of n_ctx between heads and dimensions each stored key and
 * value touched nine pages of 4 KiB, and two of three microseconds went into looking them up.
 *
 * Both lie so that attention is two products of packed rows (packed.h), with no reordering and no
 * sum across a register:
 *
 *	scores[position] = K q: a head's keys are a matrix of as many rows as the chunk has
 *	positions, of head_dim, packed in groups of 16 positions.
 *	out[dimension] = V^T weights: a head's values are a matrix of head_dim rows, one column a
 *	position, packed in groups of 16 dimensions, so that a position adds one unit to each.
 *
 * Types F32, F16 and Q8_0. A block of Q8_0 is 32 dimensions of one position, in values as in keys,
 * because positions come one by one: values are blocks [n_head_kv][head_dim / 32][positions] as in
 * a plain file, and made floats a few at a time.
 *
 * Positions are rounded up to KV_ROUND, dimensions of a value to 16. What lies behind the last
 * position may be read, and is multiplied with zero: the memory must be zeroed before its first
 * use, and what is stored should be finite. The CPU's attention() takes care of that where a
 * number is too large for the cache's type; but an infinity or a NaN that a broken model computes
 * may show in other queries' results too, as far as their positions share a round of KV_ROUND.
 */
#ifndef WEIR_KERNELS_KV_H
#define WEIR_KERNELS_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_ROUND 64
#define KV_CHUNK 512 /* a multiple of it */

struct kv_layer {
	uint32_t type; /* enum wtype */
	uint32_t n_head_kv, head_dim;
	uint32_t n_ctx; /* positions that there is room for */
	char *data;	/* kv_bytes(), 64-byte aligned */
};

/* Whether a cache of this type can hold heads of this width. */
bool kv_possible(uint32_t type, uint32_t head_dim);

/* Bytes of a layer's keys and values; a multiple of 64. kv->data may be NULL. */
size_t kv_bytes(const struct kv_layer *kv);

/* Where keys of head @h lie, from position @pos (a multiple of 16) to the end of its chunk. */
char *kv_keys(const struct kv_layer *kv, uint32_t h, uint32_t pos);
/* Bytes that one of them takes: 16 positions take 16 times as many. */
size_t kv_key_bytes(const struct kv_layer *kv);

/*
 * Where values of head @h lie, from position @pos to the end of its chunk: dimensions @dim (a
 * multiple of kv_value_dims()) and those that lie beside it.
 */
char *kv_values(const struct kv_layer *kv, uint32_t h, uint32_t dim, uint32_t pos);
/* Dimensions of a position that lie together, and the bytes that these take. */
uint32_t kv_value_dims(const struct kv_layer *kv);
size_t kv_value_bytes(const struct kv_layer *kv);

/*
 * @k, @v: [head_dim] of the cache's type, as a row of a plain file: of position @pos, head @h.
 */
void kv_put(const struct kv_layer *kv, uint32_t h, uint32_t pos, const void *k, const void *v);

#endif
