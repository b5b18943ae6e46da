/* SPDX-License-Identifier: MIT */
/*
 * A vocabulary: token texts as the file has them, their types, and the way back from a text
 * to its id.
 *
 * The texts stay in the parsed file. The way back is an open-addressing hash table whose
 * seed is random for every tokenizer, so that a file cannot be built to make it slow.
 */
#ifndef WEIR_TEXT_VOCAB_H
#define WEIR_TEXT_VOCAB_H

#include "base/err.h"
#include "gguf/gguf.h"

/* As tokenizer.ggml.token_type has them. */
enum token_type {
	TOKEN_NORMAL = 1,
	TOKEN_UNKNOWN = 2,
	TOKEN_CONTROL = 3,
	TOKEN_USER = 4, /* "user defined": text that is always this token */
	TOKEN_UNUSED = 5,
	TOKEN_BYTE = 6, /* <0x00> to <0xFF> */
};

#define NO_TOKEN (-1)

struct vocab_slot {
	uint32_t tag; /* high half of the hash: most misses need no look at the text */
	int32_t id;   /* NO_TOKEN: free */
};

struct vocab {
	uint32_t n;
	const struct gguf_str *str;
	uint8_t *type; /* enum token_type */
	uint8_t *eog;  /* 1: ends generation */
	struct vocab_slot *slot;
	uint64_t mask;
	uint64_t seed;
	uint64_t max_len; /* bytes of the longest token */
};

/* @spm: the file's tokenizer is SentencePiece, whose byte tokens are known by their names */
int vocab_open(const struct gguf *g, bool spm, struct vocab *v, struct err *err);
void vocab_close(struct vocab *v);

/* NO_TOKEN where there is none. */
int32_t vocab_find(const struct vocab *v, const char *p, size_t len);

/* Ids of <0x00> .. <0xFF>, NO_TOKEN where there is none. */
void vocab_bytes(const struct vocab *v, int32_t id[static 256]);

/* The byte that a token of the name <0xHH> stands for; -1 for any other name. */
int vocab_byte_value(const struct gguf_str *s);

/* Text that occurs in what merging makes: not a control token, a byte or the like. */
static inline bool vocab_is_text(const struct vocab *v, int32_t id)
{
	return v->type[id] == TOKEN_NORMAL || v->type[id] == TOKEN_USER;
}

/* A random number that hostile files do not know. */
uint64_t hash_seed(void);

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 r = (unsigned __int128)a * b;

	return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* A file's string for an error sentence: short, and without anything a terminal acts on. */
const char *quote_str(const char *p, size_t len, char buf[static 64]);

#endif
