// SPDX-License-Identifier: MIT
/* Where a position's key and value lie in the cache; see kv.h. */
#include "kernels/kv.h"

#include <string.h>

#include "kernels/packed.h"
#include "kernels/types.h"

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) / to * to;
}

static size_t row_bytes(uint32_t type, size_t n)
{
	const struct wtype_info *info = wtype_info(type);

	return n / info->block_elems * info->block_bytes;
}

bool kv_possible(uint32_t type, uint32_t head_dim)
{
	return type == WT_F32 || type == WT_F16 || (type == WT_Q8_0 && head_dim % 32 == 0);
}

/* Of one head: values take the more where head_dim is no multiple of 16. */
static size_t head_bytes(const struct kv_layer *kv)
{
	return row_bytes(kv->type, round_up(kv->head_dim, PACK_ROWS)) *
	       round_up(kv->n_ctx, KV_ROUND);
}

size_t kv_bytes(const struct kv_layer *kv)
{
	return kv->n_head_kv * head_bytes(kv);
}

char *kv_keys(const struct kv_layer *kv, uint32_t h, uint32_t pos)
{
	return kv->k + h * head_bytes(kv) + pos * row_bytes(kv->type, kv->head_dim);
}

char *kv_values(const struct kv_layer *kv, uint32_t h, uint32_t dim, uint32_t pos)
{
	/* of a position: a unit of 16 dimensions, or a block of 32 */
	size_t unit = row_bytes(kv->type, kv->type == WT_Q8_0 ? 32 : PACK_ROWS);

	return kv->v + h * head_bytes(kv) +
	       row_bytes(kv->type, dim) * round_up(kv->n_ctx, KV_ROUND) + pos * unit;
}

void kv_put(const struct kv_layer *kv, uint32_t h, uint32_t pos, const void *k, const void *v)
{
	const uint32_t step = kv->type == WT_Q8_0 ? 32 : PACK_ROWS;

	pack_row(kv->type, k, pos % PACK_ROWS, kv->head_dim, kv_keys(kv, h, pos - pos % PACK_ROWS));
	for (uint32_t i = 0; i < kv->head_dim; i += step) {
		uint32_t n = kv->head_dim - i < step ? kv->head_dim - i : step;

		memcpy(kv_values(kv, h, i, pos), (const char *)v + row_bytes(kv->type, i),
		       row_bytes(kv->type, n));
	}
}
