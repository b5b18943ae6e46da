// SPDX-License-Identifier: MIT
/* The trie of special tokens: building it and walking it. */
#include "text/special.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

/* A new node, or 0 where memory is out. */
static uint32_t node_new(struct special *s, unsigned char byte, uint32_t sibling)
{
	if (s->n == s->cap) {
		size_t cap = MAX((size_t)256, s->cap * 2);
		struct special_node *p;

		if (cap > UINT32_MAX)
			return 0;
		p = reallocarray(s->node, cap, sizeof(*p));
		if (!p)
			return 0;
		s->node = p;
		s->cap = cap;
		s->n = MAX(s->n, (size_t)1);
	}
	s->node[s->n] = (struct special_node){NO_TOKEN, 0, sibling, byte};
	return (uint32_t)s->n++;
}

static uint32_t child_of(const struct special *s, uint32_t parent, unsigned char byte)
{
	uint32_t i;

	for (i = s->node[parent].child; i && s->node[i].byte != byte;)
		i = s->node[i].sibling;
	return i;
}

static int special_add(struct special *s, const struct gguf_str *str, int32_t id)
{
	unsigned char byte = (unsigned char)str->p[0];
	uint32_t at = s->first[byte], next;
	uint64_t i;

	if (!at) {
		at = node_new(s, byte, 0);
		if (!at)
			return -ENOMEM;
		s->first[byte] = at;
	}
	for (i = 1; i < str->len; i++) {
		byte = (unsigned char)str->p[i];
		next = child_of(s, at, byte);
		if (!next) {
			next = node_new(s, byte, s->node[at].child);
			if (!next)
				return -ENOMEM;
			s->node[at].child = next;
		}
		at = next;
	}
	if (s->node[at].id == NO_TOKEN)
		s->node[at].id = id;
	return 0;
}

int special_open(struct special *s, const struct vocab *v)
{
	uint32_t i;

	*s = (struct special){0};
	for (i = 0; i < v->n; i++) {
		const struct gguf_str *str = &v->str[i];

		if (v->type[i] != TOKEN_CONTROL && v->type[i] != TOKEN_USER &&
		    v->type[i] != TOKEN_UNKNOWN)
			continue;
		if (!str->len || str->len > SPECIAL_MAX_LEN)
			continue;
		if (special_add(s, str, (int32_t)i)) {
			special_close(s);
			return -ENOMEM;
		}
	}
	return 0;
}

void special_close(struct special *s)
{
	free(s->node);
	*s = (struct special){0};
}

int32_t special_match(const struct special *s, const struct vocab *v, const char *p, size_t len,
		      bool user_only, size_t *match_len)
{
	uint32_t at = len ? s->first[(unsigned char)*p] : 0;
	int32_t found = NO_TOKEN;
	size_t i = 0;

	while (at) {
		int32_t id = s->node[at].id;

		i++;
		if (id != NO_TOKEN && (!user_only || v->type[id] == TOKEN_USER)) {
			found = id;
			*match_len = i;
		}
		at = i < len ? child_of(s, at, (unsigned char)p[i]) : 0;
	}
	return found;
}
