/* SPDX-License-Identifier: MIT */
/*
 * Vocabularies small enough to read, for the tests and the fuzzer of userspace/text: a GGUF
 * file of nothing but metadata, built in memory.
 *
 * Running out of memory here is no test result: it aborts.
 */
#ifndef WEIR_TESTS_TEXT_FIXTURE_H
#define WEIR_TESTS_TEXT_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "gguf/gguf.h"

struct metadata {
	struct strbuf kv;
	uint64_t n_kv;
};

static inline void raw_bytes(struct strbuf *b, const void *p, size_t len)
{
	if (strbuf_add(b, p, len))
		abort();
}

static inline void raw_u32(struct strbuf *b, uint32_t v)
{
	raw_bytes(b, &v, sizeof(v));
}

static inline void raw_u64(struct strbuf *b, uint64_t v)
{
	raw_bytes(b, &v, sizeof(v));
}

static inline void raw_str(struct strbuf *b, const char *s)
{
	raw_u64(b, strlen(s));
	raw_bytes(b, s, strlen(s));
}

static inline void meta_key(struct metadata *m, const char *key, enum gguf_type type)
{
	raw_str(&m->kv, key);
	raw_u32(&m->kv, type);
	m->n_kv++;
}

static inline void meta_str(struct metadata *m, const char *key, const char *value)
{
	meta_key(m, key, GGUF_STRING);
	raw_str(&m->kv, value);
}

static inline void meta_u32(struct metadata *m, const char *key, uint32_t value)
{
	meta_key(m, key, GGUF_U32);
	raw_u32(&m->kv, value);
}

static inline void meta_bool(struct metadata *m, const char *key, bool value)
{
	uint8_t byte = value;

	meta_key(m, key, GGUF_BOOL);
	raw_bytes(&m->kv, &byte, 1);
}

static inline void meta_array(struct metadata *m, const char *key, enum gguf_type type, uint64_t n)
{
	meta_key(m, key, GGUF_ARRAY);
	raw_u32(&m->kv, type);
	raw_u64(&m->kv, n);
}

static inline void meta_strs(struct metadata *m, const char *key, const char *const *s, uint64_t n)
{
	uint64_t i;

	meta_array(m, key, GGUF_STRING, n);
	for (i = 0; i < n; i++)
		raw_str(&m->kv, s[i]);
}

/* Opens what was declared, and forgets it. NULL where it is no GGUF file. */
static inline struct gguf *meta_open(struct metadata *m, struct err *err)
{
	struct strbuf file = {0};
	struct gguf *g = NULL;

	raw_bytes(&file, "GGUF", 4);
	raw_u32(&file, 3);
	raw_u64(&file, 0); /* tensors */
	raw_u64(&file, m->n_kv);
	raw_bytes(&file, m->kv.p, m->kv.len);
	if (gguf_open_mem(file.p, file.len, "vocabulary in memory", &g, err))
		g = NULL;
	strbuf_free(&file);
	strbuf_free(&m->kv);
	*m = (struct metadata){0};
	return g;
}

/* ---- tokens, with scores and types ---- */

#define MAX_TOKENS 1024
#define TOKEN_LEN  64

struct tokens {
	char text[MAX_TOKENS][TOKEN_LEN];
	float score[MAX_TOKENS];
	int32_t type[MAX_TOKENS];
	uint32_t n;
};

/* Types as the file has them: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte. */
static inline int32_t add_token(struct tokens *t, const char *text, float score, int32_t type)
{
	if (t->n == MAX_TOKENS || strlen(text) >= TOKEN_LEN)
		abort();
	strcpy(t->text[t->n], text);
	t->score[t->n] = score;
	t->type[t->n] = type;
	return (int32_t)t->n++;
}

/* <0x00> to <0xFF> */
static inline void add_byte_tokens(struct tokens *t)
{
	char name[8];
	int i;

	for (i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "<0x%02X>", i);
		add_token(t, name, 0, 6);
	}
}

static inline void meta_tokens(struct metadata *m, const struct tokens *t)
{
	uint32_t i;

	meta_array(m, "tokenizer.ggml.tokens", GGUF_STRING, t->n);
	for (i = 0; i < t->n; i++)
		raw_str(&m->kv, t->text[i]);
	meta_array(m, "tokenizer.ggml.scores", GGUF_F32, t->n);
	raw_bytes(&m->kv, t->score, t->n * sizeof(t->score[0]));
	meta_array(m, "tokenizer.ggml.token_type", GGUF_I32, t->n);
	raw_bytes(&m->kv, t->type, t->n * sizeof(t->type[0]));
}

/* ---- byte-level BPE ---- */

/* GPT-2's map: bytes that do not print in Latin-1 are the code points from U+0100 on. */
static inline void gpt2_text(const char *p, size_t len, char *out)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned int b = (unsigned char)p[i], c = b, next = 0x100, k;

		for (k = 0; k <= b; k++) {
			if ((k > 0x20 && k < 0x7f) || (k > 0xa0 && k != 0xad))
				c = k;
			else
				c = next++;
		}
		if (c < 0x80) {
			*out++ = (char)c;
		} else {
			*out++ = (char)(0xc0 | c >> 6);
			*out++ = (char)(0x80 | (c & 0x3f));
		}
	}
	*out = '\0';
}

/* The 256 bytes as tokens 0 to 255, in order of their values. */
static inline void add_gpt2_bytes(struct tokens *t)
{
	char text[4], c;
	int i;

	for (i = 0; i < 256; i++) {
		c = (char)i;
		gpt2_text(&c, 1, text);
		add_token(t, text, 0, 1);
	}
}

/* Adds what each pair makes as a token; pairs are "left right" in the map's characters. */
static inline void add_merges(struct tokens *t, const char *const *pairs, size_t n)
{
	char made[TOKEN_LEN];
	size_t i, left;

	for (i = 0; i < n; i++) {
		left = strcspn(pairs[i] + 1, " ") + 1;
		snprintf(made, sizeof(made), "%.*s%s", (int)left, pairs[i], pairs[i] + left + 1);
		add_token(t, made, 0, 1);
	}
}

#endif
