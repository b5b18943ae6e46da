/* SPDX-License-Identifier: MIT */
/*
 * Finding special tokens in text: the longest one that begins at a place, in time that does
 * not depend on how many there are.
 *
 * A trie of bytes: a node's children are a list, the root's a table, so that ordinary text
 * costs one look-up a byte.
 */
#ifndef WEIR_TEXT_SPECIAL_H
#define WEIR_TEXT_SPECIAL_H

#include "text/vocab.h"

/* Longer ones are not found in text: this bounds the time that a hostile file can cost. */
#define SPECIAL_MAX_LEN 512

struct special_node {
	int32_t id;	  /* token that ends here, or NO_TOKEN */
	uint32_t child;	  /* first child; 0: none */
	uint32_t sibling; /* next child of the same parent; 0: none */
	unsigned char byte;
};

struct special {
	struct special_node *node; /* node[0] is no node */
	size_t n, cap;
	uint32_t first[256]; /* the root's children; 0: none */
};

/* Control, unknown and user-defined tokens of @v. 0 or -ENOMEM. */
int special_open(struct special *s, const struct vocab *v);
void special_close(struct special *s);

/**
 * special_match() - the special token that begins at p
 * @user_only: only user-defined tokens count
 *
 * Return: its id, and its length in @match_len; NO_TOKEN where there is none.
 */
int32_t special_match(const struct special *s, const struct vocab *v, const char *p, size_t len,
		      bool user_only, size_t *match_len);

#endif
