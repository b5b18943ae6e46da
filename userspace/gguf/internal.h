/* SPDX-License-Identifier: MIT */
/*
 * What reader, split sets, look-ups and writer share; for this folder alone.
 */
#ifndef WEIR_GGUF_INTERNAL_H
#define WEIR_GGUF_INTERNAL_H

#include <stdlib.h>

#include "base/util.h"
#include "gguf/gguf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "numbers are copied between file and memory as they are");

#define GGUF_MAGIC	 "GGUF"
#define PACKED_MAGIC	 "WEIR"
#define PACKED_VERSION	 2u
#define PACKED_ALIGNMENT 4096u

#define GGUF_MIN_ALIGNMENT 8u
#define GGUF_MAX_ALIGNMENT (1u << 20)
#define GGUF_MAX_KEY	   65535u
#define GGUF_MAX_DEPTH	   4u	      /* arrays in arrays */
#define GGUF_MAX_ENTRIES   (1u << 20) /* keys or tensors of a file: models have some 100,000 */
#define GGUF_MAX_HEADER	   (1ull << 30)

/*
 * Memory that is taken in many small pieces and given back at once. Pieces never move, so
 * tensors and keys may point at each other's strings for the life of the model.
 */
struct arena_chunk;

struct arena {
	struct arena_chunk *top; /* the one that still has room, before the full ones */
};

/* @align: a power of two up to 16. NULL where memory is short. */
void *arena_alloc(struct arena *a, uint64_t n, size_t align);
void arena_move(struct arena *to, struct arena *from);
void arena_free(struct arena *a);

/*
 * The public struct is the first member of this one: gguf_priv() undoes that. Keys and tensors
 * are found by binary search in sorted pointers, not by hash: names that are chosen to collide
 * then cost nothing.
 */
struct gguf_model {
	struct gguf pub;
	struct arena arena;
	const struct gguf_kv **by_key;	    /* [n_kv] */
	const struct gguf_tensor **by_name; /* [n_tensor] */
};

static inline const struct gguf_model *gguf_priv(const struct gguf *g)
{
	return (const struct gguf_model *)g;
}

/* Parses one file, which may be a part of a split model. */
int gguf_read_path(const char *path, struct gguf_model **out, struct err *err);
int gguf_read_mem(const void *data, size_t size, const char *name, struct gguf_model **out,
		  struct err *err);

/* With one file of that name and no entries; NULL where memory is short. */
struct gguf_model *gguf_model_new(const char *path);
void gguf_model_free(struct gguf_model *m);

/*
 * Makes room for one more entry in a table of n. Tables double, so that they grow with what
 * was read and never by a number that a file claims. NULL (and the old one stays) where memory
 * is short.
 */
static inline void *gguf_grow(void *table, uint64_t n, size_t size)
{
	if (n & (n - 1))
		return table;
	return reallocarray(table, n ? n * 2 : 1, size);
}

/* (Re)build the sorted pointers; -EINVAL with a sentence where a name is there twice. */
int gguf_index_keys(struct gguf_model *m, struct err *err);
int gguf_index_tensors(struct gguf_model *m, struct err *err);

/* Bytes of one value of a number type (bool: 1); 0 for strings, arrays and unknown types. */
uint32_t gguf_number_size(uint32_t type);

/*
 * Takes GGUF_PACKED from the type number of a packed file to `packed`, and fills row_bytes, n_rows
 * and size from type, n_dims and ne. Returns 0, or -EINVAL or -EOPNOTSUPP with half a sentence
 * ("has ...") in @why.
 */
int gguf_measure(struct gguf_tensor *t, bool packed_file, struct err *why);

/* Names come from the file: cut to what a sentence holds, and nothing that moves a cursor. */
struct shown {
	char s[84];
};
struct shown show_str(struct gguf_str s);
#define SHOW(str) (show_str(str).s)

/* The end of a path that is too long for a sentence. */
struct shown_path {
	char s[160];
};
struct shown_path show_path(const char *path);
#define SHOW_PATH(path) (show_path(path).s)

#endif
