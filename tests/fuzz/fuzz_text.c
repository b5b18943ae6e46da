// SPDX-License-Identifier: MIT
/*
 * libFuzzer target: any text through a small vocabulary, and any file as a vocabulary.
 *
 * Byte 0 says which: below FILE_INPUT a vocabulary of this program's own (SentencePiece, or
 * byte-level BPE with one of several pre-tokenizers), byte 1 the flags, the rest is the text;
 * FILE_INPUT and above: the rest is a GGUF file. Whatever the text, byte-level BPE gives back
 * the same bytes, a stream gives the same as the whole, and it stops between characters only.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/text_fixture.h"
#include "text/text.h"
#include "text/utf8.h"

#define FILE_INPUT 0xf0

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pres[] = {
	NULL, /* SentencePiece */
	"gpt-2",  "llama-bpe",	  "qwen2",	    "qwen35",	   "gpt-4o",
	"tekken", "deepseek-llm", "deepseek-coder", "deepseek-v3", "command-r",
	"falcon", "default",	  "bloom",
};

static struct tokenizer *tokenizers[ARRAY_SIZE(pres)];
static struct gguf *files[ARRAY_SIZE(pres)];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void describe_spm(struct metadata *m, struct tokens *t)
{
	static const char *const words[] = {"\u2581",	    "a",       "b",	   "e",	 "ab",
					    "abe",	    "\u2581a", "\u2581ab", "ee", "eee",
					    "\u2581\u2581", "\u00e9"};
	size_t i;

	meta_str(m, "tokenizer.ggml.model", "llama");
	add_token(t, "<unk>", 0, 2);
	add_token(t, "<s>", 0, 3);
	add_token(t, "</s>", 0, 3);
	add_byte_tokens(t);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		add_token(t, words[i], -(float)i, 1);
}

static void describe_bpe(struct metadata *m, struct tokens *t, const char *pre)
{
	static const char *const pairs[] = {
		"a b",		 "e e", "ee e", "\u0120 a",	 "\u0120a b",
		"\u00c3 \u00a9", "1 2", "12 3", "\u010a \u010a", "' s"};

	meta_str(m, "tokenizer.ggml.model", "gpt2");
	meta_str(m, "tokenizer.ggml.pre", pre);
	add_gpt2_bytes(t);
	add_merges(t, pairs, ARRAY_SIZE(pairs));
	add_token(t, "<|x|>", 0, 3);
	add_token(t, "<|x|>>", 0, 4);
	add_token(t, "whole", 0, 1);
	meta_strs(m, "tokenizer.ggml.merges", pairs, ARRAY_SIZE(pairs));
}

/* Opened at its first use, and never closed. */
static struct tokenizer *get_tokenizer(unsigned int kind)
{
	static struct tokens t;
	struct metadata m = {0};

	if (tokenizers[kind])
		return tokenizers[kind];
	memset(&t, 0, sizeof(t));
	if (pres[kind])
		describe_bpe(&m, &t, pres[kind]);
	else
		describe_spm(&m, &t);
	meta_tokens(&m, &t);
	files[kind] = meta_open(&m, NULL);
	check(files[kind] && !tokenizer_open(files[kind], NULL, &tokenizers[kind], NULL));
	return tokenizers[kind];
}

static bool is_utf8(const char *p, size_t len)
{
	size_t n = 1, off;

	for (off = 0; off < len && n; off += n)
		n = utf8_len(p + off, len - off);
	return n;
}

static void check_stream(const struct tokenizer *t, const struct token_list *l, bool special,
			 const struct strbuf *whole)
{
	struct text_stream s = {.tok = t, .special = special};
	bool valid = is_utf8(whole->p, whole->len);
	struct strbuf out = {0};
	size_t i;

	for (i = 0; i < l->n; i++) {
		check(!text_stream_feed(&s, l->id[i], &out));
		/* what is no character in the end may well look like the beginning of one */
		check(!valid || !utf8_open_tail(out.p, out.len));
	}
	check(!text_stream_flush(&s, &out));
	check(out.len == whole->len && (!out.len || !memcmp(out.p, whole->p, out.len)));
	text_stream_free(&s);
	strbuf_free(&out);
}

static bool has_marks(const char *p, size_t len)
{
	return len && (memmem(p, len, "\u2581", 3) || memmem(p, len, "<s>", 3) ||
		       memmem(p, len, "</s>", 4) || memmem(p, len, "<unk>", 5));
}

static void try_text(unsigned int kind, unsigned int flags, const char *p, size_t len)
{
	const struct tokenizer *t = get_tokenizer(kind);
	bool special = flags & TOKENIZE_SPECIAL;
	struct token_list l = {0};
	struct strbuf back = {0};

	check(!tokenize(t, p, len, flags & (TOKENIZE_BOS | TOKENIZE_SPECIAL), &l, NULL));
	check(!detokenize_all(t, l.id, l.n, special, &back));
	/* SentencePiece prints its own marks otherwise; BOS is no part of the text */
	if ((pres[kind] || !has_marks(p, len)) && !(flags & TOKENIZE_BOS))
		check(back.len == len && (!len || !memcmp(back.p, p, len)));
	check_stream(t, &l, special, &back);
	token_list_free(&l);
	strbuf_free(&back);
}

/* Everything that reads a file's metadata. A refusal says why. */
static void try_file(const void *p, size_t len)
{
	static const char text[] = "Hello  \xc3\xa9\xff <|x|> 123\n";
	static const struct chat_message chat[] = {{"system", "a"}, {"user", "b"}};
	const struct chat_template *ct;
	struct tokenizer *t = NULL;
	struct token_list l = {0};
	struct strbuf s = {0};
	struct err err = {""};
	struct gguf *g = NULL;
	uint32_t i;

	if (gguf_open_mem(p, len, "input", &g, &err))
		return;
	if (!chat_template_detect(g, &ct, &err))
		check(!chat_render(ct, chat, 2, true, true, &s, &err));
	else
		check(*err.text);
	err.text[0] = '\0';
	if (tokenizer_open(g, NULL, &t, &err)) {
		check(*err.text && !t);
	} else {
		tokenize(t, text, sizeof(text) - 1, TOKENIZE_BOS | TOKENIZE_SPECIAL, &l, &err);
		for (i = 0; i < tokenizer_n_vocab(t); i++) {
			check(!detokenize(t, (int32_t)i, i & 1, &s));
			tokenizer_is_eog(t, (int32_t)i);
		}
		check(!detokenize_all(t, l.id, l.n, true, &s));
	}
	tokenizer_close(t);
	token_list_free(&l);
	strbuf_free(&s);
	gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] >= FILE_INPUT)
		try_file(data + 1, size - 1);
	else
		try_text(data[0] % ARRAY_SIZE(pres), data[1], (const char *)data + 2, size - 2);
	return 0;
}
