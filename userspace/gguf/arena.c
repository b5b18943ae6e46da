// SPDX-License-Identifier: MIT
/*
 * The arena of internal.h, and how names are shown in sentences.
 *
 * Chunks double from 4 KiB to 1 MiB, so that a small file costs little and a large vocabulary
 * few calls of malloc; what is larger than a chunk gets one of its own, behind the top one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/internal.h"

#define CHUNK_MIN 4096ull
#define CHUNK_MAX (1ull << 20)

struct arena_chunk {
	struct arena_chunk *next;
	uint64_t used, size; /* of data, in bytes */
	_Alignas(16) unsigned char data[];
};

static struct arena_chunk *chunk_new(uint64_t size)
{
	struct arena_chunk *c;

	if (size > SIZE_MAX - sizeof(*c))
		return NULL;
	c = malloc(sizeof(*c) + size);
	if (!c)
		return NULL;
	c->next = NULL;
	c->used = 0;
	c->size = size;
	return c;
}

static void *chunk_take(struct arena_chunk *c, uint64_t n, size_t align)
{
	uint64_t at = align_up(c->used, align);

	if (at > c->size || n > c->size - at)
		return NULL;
	c->used = at + n;
	return c->data + at;
}

void *arena_alloc(struct arena *a, uint64_t n, size_t align)
{
	struct arena_chunk *top = a->top, *c;
	uint64_t size;
	void *p;

	p = top ? chunk_take(top, n, align) : NULL;
	if (p)
		return p;
	size = top ? MIN(top->size * 2, CHUNK_MAX) : CHUNK_MIN;
	c = chunk_new(MAX(n, size));
	if (!c)
		return NULL;
	if (top && n >= size) { /* filled at once: the top one still has room for others */
		c->next = top->next;
		top->next = c;
	} else {
		c->next = top;
		a->top = c;
	}
	return chunk_take(c, n, align);
}

void arena_move(struct arena *to, struct arena *from)
{
	struct arena_chunk **end = &to->top;

	while (*end)
		end = &(*end)->next;
	*end = from->top;
	from->top = NULL;
}

void arena_free(struct arena *a)
{
	struct arena_chunk *c = a->top, *next;

	for (; c; c = next) {
		next = c->next;
		free(c);
	}
	a->top = NULL;
}

struct shown show_str(struct gguf_str s)
{
	struct shown out;
	size_t n = MIN(s.len, (uint64_t)sizeof(out.s) - 4), i;

	for (i = 0; i < n; i++)
		out.s[i] = s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?';
	if (n < s.len)
		for (; i < n + 3; i++)
			out.s[i] = '.';
	out.s[i] = '\0';
	return out;
}

struct shown_path show_path(const char *path)
{
	struct shown_path out;
	size_t len = strlen(path), max = sizeof(out.s) - 1;

	if (len <= max)
		snprintf(out.s, sizeof(out.s), "%s", path);
	else
		snprintf(out.s, sizeof(out.s), "...%s", path + len - (max - 3));
	return out;
}
