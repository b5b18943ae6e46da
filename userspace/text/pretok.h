/* SPDX-License-Identifier: MIT */
/*
 * Pre-tokenizers: cutting text into the words that byte-pair encoding then merges alone.
 *
 * A file names its pre-tokenizer; what the name means is a list of regular expressions. They
 * are applied in turn: each cuts every piece that the one before it left into its matches and
 * what lies between them. A piece is a text by itself: look-ahead ends where it ends.
 * Bytes that are no UTF-8 are cut out first and are pieces of their own.
 */
#ifndef WEIR_TEXT_PRETOK_H
#define WEIR_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pretok_def;

#define PRETOK_MAX_RE 6

struct pretok {
	const struct pretok_def *def;
	char name[32];		 /* as asked for: an alias stays one */
	void *re[PRETOK_MAX_RE]; /* pcre2_code */
	void *match_context;
	unsigned int n_re;
};

/* What a name says besides where to cut. */
bool pretok_adds_bos(const struct pretok *p);	 /* BOS, where the file does not say */
bool pretok_whole_words(const struct pretok *p); /* a word that is a token stays whole */
bool pretok_raw(const struct pretok *p);	 /* UTF-8 with U+2581 for spaces, no byte map */

/* @name: len bytes. -EOPNOTSUPP with a sentence that names it where it is unknown. */
int pretok_open(const char *name, size_t len, struct pretok *p, struct err *err);
void pretok_close(struct pretok *p);

/* The ends of pieces, rising, the last being the text's. */
struct cuts {
	size_t *at;
	size_t n, cap;
};

/* Scratch of one thread, used for any number of texts. */
struct pretok_work {
	void *match_data; /* pcre2_match_data */
	struct cuts cuts, more;
};

int pretok_work_init(struct pretok_work *w); /* 0 or -ENOMEM */
void pretok_work_free(struct pretok_work *w);

/* Cuts text[0 .. len) into w->cuts. Return: 0, -ENOMEM, or -EINVAL where PCRE2 gives up. */
int pretok_split(const struct pretok *p, struct pretok_work *w, const char *text, size_t len,
		 struct err *err);

#endif
