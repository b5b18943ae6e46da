/* SPDX-License-Identifier: MIT */
/*
 * Byte-level byte-pair encoding, as GPT-2 began it: the symbols of a word are its bytes, and
 * the pair of the lowest rank merges.
 *
 * In the file each byte is written as a printable character (GPT-2's map of bytes to code
 * points). "Raw" vocabularies are written in plain UTF-8 instead: their symbols are
 * characters, and a character without a token falls back to byte tokens <0xHH>.
 */
#ifndef WEIR_TEXT_BPE_H
#define WEIR_TEXT_BPE_H

#include "base/util.h"
#include "text/merge.h"
#include "text/text.h"
#include "text/vocab.h"

struct bpe_rule;

struct bpe {
	const struct vocab *v;
	bool raw;	       /* plain UTF-8, not GPT-2's map */
	bool whole_words;      /* a word that is a token stays whole, whatever the merges say */
	bool whole_newlines;   /* the same, of words of nothing but newlines */
	int32_t byte[256];     /* token of each byte */
	int32_t unk;	       /* for a byte without a token, or NO_TOKEN */
	struct bpe_rule *rule; /* hash table by pair */
	uint64_t mask;
	uint64_t seed;
};

/* The caller sets v, raw, whole_words, whole_newlines and unk first. */
int bpe_open(const struct gguf *g, struct bpe *b, struct err *err);
void bpe_close(struct bpe *b);

/* Appends the tokens of one word. @tmp: scratch */
int bpe_word(const struct bpe *b, struct merger *m, struct strbuf *tmp, const char *p, size_t len,
	     struct token_list *out, struct err *err);

/* Appends the bytes that a token's text stands for. 0 or -ENOMEM. */
int bpe_decode(const struct gguf_str *s, struct strbuf *out);

#endif
