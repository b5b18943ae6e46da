/* SPDX-License-Identifier: MIT */
/*
 * SentencePiece: characters merge into the token of the highest score.
 */
#ifndef WEIR_TEXT_SPM_H
#define WEIR_TEXT_SPM_H

#include "text/merge.h"
#include "text/text.h"
#include "text/vocab.h"

struct spm {
	const struct vocab *v;
	uint32_t *cost;	   /* per token: low where the score is high */
	int32_t byte[256]; /* token of each byte */
	int32_t unk;	   /* for a character without tokens, or NO_TOKEN */
	bool words;	   /* no token reaches over the beginning of a word */
};

/* Spaces are this character in the vocabulary: U+2581. */
#define SPM_SPACE     "\u2581"
#define SPM_SPACE_LEN 3

int spm_open(const struct gguf *g, const struct vocab *v, int32_t unk, struct spm *s,
	     struct err *err);
void spm_close(struct spm *s);

/* Appends the tokens of text in which spaces are SPM_SPACE already. */
int spm_tokenize(const struct spm *s, struct merger *m, const char *text, size_t len,
		 struct token_list *out, struct err *err);

#endif
