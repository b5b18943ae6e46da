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

size_t kv_key_bytes(const struct kv_layer *kv)
{
	return row_bytes(kv->type, kv->head_dim);
}

uint32_t kv_value_dims(const struct kv_layer *kv)
{
	return kv->type == WT_Q8_0 ? 32 : PACK_ROWS;
}

size_t kv_value_bytes(const struct kv_layer *kv)
{
	return row_bytes(kv->type, kv_value_dims(kv));
}

/* Room for a head's key, or value, of a position: a value is filled up to whole groups. */
static size_t room(const struct kv_layer *kv)
{
	return row_bytes(kv->type, round_up(kv->head_dim, PACK_ROWS));
}

size_t kv_bytes(const struct kv_layer *kv)
{
	return 2 * kv->n_head_kv * room(kv) * round_up(kv->n_ctx, KV_ROUND);
}

/* Of the chunk that a position is in: where it begins, and how many positions it has. */
struct chunk {
	char *data;
	uint64_t len;
};

static struct chunk chunk_of(const struct kv_layer *kv, uint32_t pos)
{
	const uint64_t first = pos - pos % KV_CHUNK, left = round_up(kv->n_ctx, KV_ROUND) - first;

	return (struct chunk){
		.data = kv->data + 2 * kv->n_head_kv * room(kv) * first,
		.len = left < KV_CHUNK ? left : KV_CHUNK,
	};
}

char *kv_keys(const struct kv_layer *kv, uint32_t h, uint32_t pos)
{
	const struct chunk c = chunk_of(kv, pos);

	return c.data + h * c.len * room(kv) + pos % KV_CHUNK * kv_key_bytes(kv);
}

char *kv_values(const struct kv_layer *kv, uint32_t h, uint32_t dim, uint32_t pos)
{
	const struct chunk c = chunk_of(kv, pos);

	return c.data + (kv->n_head_kv + h) * c.len * room(kv) + row_bytes(kv->type, dim) * c.len +
	       pos % KV_CHUNK * kv_value_bytes(kv);
}

void kv_put(const struct kv_layer *kv, uint32_t h, uint32_t pos, const void *k, const void *v)
{
	const uint32_t step = kv_value_dims(kv);

	pack_row(kv->type, k, pos % PACK_ROWS, kv->head_dim, kv_keys(kv, h, pos - pos % PACK_ROWS));
	for (uint32_t i = 0; i < kv->head_dim; i += step) {
		uint32_t n = kv->head_dim - i < step ? kv->head_dim - i : step;

		memcpy(kv_values(kv, h, i, pos), (const char *)v + row_bytes(kv->type, i),
		       row_bytes(kv->type, n));
	}
}
