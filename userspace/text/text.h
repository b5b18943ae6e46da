/* SPDX-License-Identifier: MIT */
/*
 * Tokens <-> text: tokenizers and chat templates.
 *
 * A tokenizer is made of a GGUF file's tokenizer.ggml.* keys and works on files that hold
 * only a vocabulary. Text is bytes; bytes that are not UTF-8 survive a round trip wherever
 * the vocabulary has byte tokens.
 */
#ifndef WEIR_TEXT_TEXT_H
#define WEIR_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "gguf/gguf.h"

struct tokenizer;

/**
 * tokenizer_open() - build a tokenizer
 * @g: parsed file; must outlive the tokenizer
 * @pre: name of the pre-tokenizer to use instead of tokenizer.ggml.pre, or NULL
 *
 * Return: 0; -EOPNOTSUPP for an unknown tokenizer model or pre-tokenizer (the sentence names
 * it and says how to force a choice), -EINVAL for inconsistent keys, -ENOMEM.
 */
int tokenizer_open(const struct gguf *g, const char *pre, struct tokenizer **out, struct err *err);
void tokenizer_close(struct tokenizer *t);

struct token_list {
	int32_t *id;
	size_t n, cap;
};

void token_list_free(struct token_list *l);
int token_list_add(struct token_list *l, int32_t id); /* 0 or -ENOMEM */

#define TOKENIZE_BOS	 1u /* add BOS and EOS where the model's metadata asks for them */
#define TOKENIZE_SPECIAL 2u /* text such as <|im_end|> becomes the special token of that name */

/* Appends the tokens of text[0 .. len). Return: 0, -ENOMEM, or -EINVAL (a byte without a token). */
int tokenize(const struct tokenizer *t, const char *text, size_t len, unsigned int flags,
	     struct token_list *out, struct err *err);

/* Appends a token's bytes (control tokens: nothing, unless @special). -EINVAL: no such id. */
int detokenize(const struct tokenizer *t, int32_t id, bool special, struct strbuf *out);

/* The whole text of a list, as the field's tools print it (SPM: the first space is dropped). */
int detokenize_all(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
		   struct strbuf *out);

/*
 * Streaming: feed ids, get text that never ends inside a UTF-8 character. What is held back
 * comes with a later token, or with text_stream_flush() at the end.
 */
struct text_stream {
	const struct tokenizer *tok;
	struct strbuf held;
	bool special;
	bool started; /* the SPM leading space has been dealt with */
};

int text_stream_feed(struct text_stream *s, int32_t id, struct strbuf *out);
int text_stream_flush(struct text_stream *s, struct strbuf *out);
void text_stream_free(struct text_stream *s);

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
const struct gguf_str *tokenizer_raw(const struct tokenizer *t,
				     int32_t id); /* as in the file; NULL: no such id */
int32_t tokenizer_bos(const struct tokenizer *t); /* -1 where there is none; also the next two */
int32_t tokenizer_eos(const struct tokenizer *t);
int32_t tokenizer_find(const struct tokenizer *t, const char *raw);
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id); /* ends generation */
bool tokenizer_adds_bos(const struct tokenizer *t);
const char *tokenizer_model(const struct tokenizer *t); /* "llama" or "gpt2" */
const char *tokenizer_pre(const struct tokenizer *t);	/* "llama-bpe", ...; "" for SPM */

/* ---- chat templates ---- */

struct chat_message {
	const char *role; /* "system", "user" or "assistant" */
	const char *content;
};

struct chat_template;

/* By name: chatml, llama3, mistral-v3, gemma, deepseek-v3, ... NULL where unknown. */
const struct chat_template *chat_template_by_name(const char *name);
/* i-th known one's name, NULL beyond the last; for help and error texts. */
const char *chat_template_name(unsigned int i);

/**
 * chat_template_detect() - which known template a model's tokenizer.chat_template is
 * @g: the model; @out: the template
 *
 * Return: 0; -ENOENT the file has none; -EOPNOTSUPP it is none that weir knows (the sentence
 * says how to name one).
 */
int chat_template_detect(const struct gguf *g, const struct chat_template **out, struct err *err);

/**
 * chat_render() - the text of a conversation, to be tokenized with TOKENIZE_SPECIAL
 * @add_prompt: end with the opening of the assistant's answer
 * @out: text is appended; without BOS where the tokenizer adds one (@bos_by_tokenizer)
 */
int chat_render(const struct chat_template *ct, const struct chat_message *msg, size_t n_msg,
		bool add_prompt, bool bos_by_tokenizer, struct strbuf *out, struct err *err);

#endif
