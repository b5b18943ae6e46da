// SPDX-License-Identifier: MIT
/*
 * The tokenizer: special tokens are cut out of a text, and what lies between them goes to
 * SentencePiece or to byte-level BPE; and the way back.
 *
 * A tokenizer does not change once it is open: threads may share it. What a call needs to
 * write lies in its own `struct work`.
 */
#include "text/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/bpe.h"
#include "text/pretok.h"
#include "text/special.h"
#include "text/spm.h"
#include "text/utf8.h"
#include "text/vocab.h"

enum kind {
	KIND_SPM,
	KIND_BPE,
};

struct tokenizer {
	enum kind kind;
	struct vocab vocab;
	struct special special;
	struct spm spm;	      /* KIND_SPM */
	struct bpe bpe;	      /* KIND_BPE */
	struct pretok pretok; /* KIND_BPE */
	int32_t bos, eos, unk;
	bool add_bos, add_eos;
	bool space_prefix;	 /* a text begins with a space even if it does not */
	bool one_space;		 /* runs of spaces are one space, none at the ends */
	bool special_eats_space; /* white space after a special token belongs to it */
};

/* ---- opening ---- */

/* A token id of the metadata; -1 in any width means that there is none. */
static int read_id(const struct gguf *g, const struct vocab *v, const char *key, int32_t *out,
		   struct err *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);
	uint64_t id;
	int r;

	if (!kv)
		return 0;
	if (((kv->type == GGUF_I8 || kv->type == GGUF_I16 || kv->type == GGUF_I32 ||
	      kv->type == GGUF_I64) &&
	     kv->i64 == -1) ||
	    (kv->type == GGUF_U32 && kv->u64 == UINT32_MAX)) {
		*out = NO_TOKEN;
		return 0;
	}
	r = gguf_u64(g, key, &id, err);
	if (r)
		return r;
	if (id >= v->n)
		return err_set(err, -EINVAL,
			       "%s is %" PRIu64 ", but the vocabulary has %" PRIu32 " tokens", key,
			       id, v->n);
	*out = (int32_t)id;
	return 0;
}

/* As gguf_bool(), but a key that is absent leaves the default. */
static int read_bool(const struct gguf *g, const char *key, bool *out, struct err *err)
{
	int r = gguf_bool(g, key, out, err);

	return r == -ENOENT ? 0 : r;
}

static int read_eog(const struct gguf *g, struct vocab *v, struct err *err)
{
	static const char *const keys[] = {
		"tokenizer.ggml.eos_token_id",	   "tokenizer.ggml.eot_token_id",
		"tokenizer.ggml.eom_token_id",	   "tokenizer.ggml.fim_pad_token_id",
		"tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		int32_t id = NO_TOKEN;
		int r = read_id(g, v, keys[i], &id, err);

		if (r)
			return r;
		if (id != NO_TOKEN)
			v->eog[id] = 1;
	}
	return 0;
}

/* SentencePiece's usual ids, where the file does not say. */
static void default_ids(struct tokenizer *t)
{
	t->bos = t->eos = t->unk = NO_TOKEN;
	if (t->kind != KIND_SPM || t->vocab.n < 3)
		return;
	t->unk = 0;
	t->bos = 1;
	t->eos = 2;
}

static int read_ids(const struct gguf *g, struct tokenizer *t, struct err *err)
{
	int r;

	default_ids(t);
	r = read_id(g, &t->vocab, "tokenizer.ggml.bos_token_id", &t->bos, err);
	if (!r)
		r = read_id(g, &t->vocab, "tokenizer.ggml.eos_token_id", &t->eos, err);
	if (!r)
		r = read_id(g, &t->vocab, "tokenizer.ggml.unknown_token_id", &t->unk, err);
	if (!r)
		r = read_eog(g, &t->vocab, err);
	if (!r && t->eos != NO_TOKEN)
		t->vocab.eog[t->eos] = 1;
	return r;
}

static int open_spm(const struct gguf *g, struct tokenizer *t, struct err *err)
{
	struct gguf_str arch;

	t->add_bos = true;
	t->space_prefix = true;
	/* Phi-3's special tokens are "rstrip", which the file cannot say. */
	if (!gguf_string(g, "general.architecture", &arch, NULL))
		t->special_eats_space = arch.len == 4 && !memcmp(arch.p, "phi3", 4);
	return spm_open(g, &t->vocab, t->unk, &t->spm, err);
}

/* The pre-tokenizer that the user or the file names; a file that names none means "default". */
static int open_pretok(const struct gguf *g, const char *pre, bool gemma, struct tokenizer *t,
		       struct err *err)
{
	struct gguf_str name = {"default", 7};
	int r;

	if (pre) {
		name = (struct gguf_str){pre, strlen(pre)};
	} else if (gemma) {
		name = (struct gguf_str){"gemma4", 6};
	} else {
		r = gguf_string(g, "tokenizer.ggml.pre", &name, err);
		if (r && r != -ENOENT)
			return r;
	}
	return pretok_open(name.p, name.len, &t->pretok, err);
}

static int open_bpe(const struct gguf *g, const char *pre, bool gemma, struct tokenizer *t,
		    struct err *err)
{
	int r = open_pretok(g, pre, gemma, t, err);

	if (r)
		return r;
	t->add_bos = pretok_adds_bos(&t->pretok);
	t->bpe.v = &t->vocab;
	t->bpe.unk = t->unk;
	t->bpe.raw = pretok_raw(&t->pretok);
	t->bpe.whole_words = pretok_whole_words(&t->pretok);
	t->bpe.whole_newlines = t->bpe.raw;
	return bpe_open(g, &t->bpe, err);
}

static int read_flags(const struct gguf *g, struct tokenizer *t, struct err *err)
{
	int r = read_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err);

	if (!r)
		r = read_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos, err);
	if (!r && t->kind == KIND_SPM)
		r = read_bool(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, err);
	if (!r && t->kind == KIND_SPM)
		r = read_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &t->one_space, err);
	return r;
}

static bool str_is(const struct gguf_str *s, const char *want)
{
	return s->len == strlen(want) && !memcmp(s->p, want, s->len);
}

static int open_tokenizer(const struct gguf *g, const char *pre, struct tokenizer *t,
			  struct err *err)
{
	struct gguf_str model;
	char quoted[64];
	bool gemma;
	int r;

	r = gguf_string(g, "tokenizer.ggml.model", &model, err);
	if (r)
		return r == -ENOENT ? err_set(err, -EINVAL,
					      "the file has no tokenizer (no tokenizer.ggml.model)")
				    : r;
	gemma = str_is(&model, "gemma4");
	if (str_is(&model, "llama"))
		t->kind = KIND_SPM;
	else if (gemma || str_is(&model, "gpt2"))
		t->kind = KIND_BPE;
	else
		return err_set(err, -EOPNOTSUPP,
			       "tokenizer model '%s' is not supported, only llama (SentencePiece) "
			       "and gpt2 (byte-level BPE) are",
			       quote_str(model.p, model.len, quoted));
	if (pre && t->kind == KIND_SPM)
		return err_set(
			err, -EINVAL,
			"--pre does not apply: this file's tokenizer is SentencePiece, which "
			"has no pre-tokenizer");
	r = vocab_open(g, t->kind == KIND_SPM, &t->vocab, err);
	if (!r)
		r = read_ids(g, t, err);
	if (!r)
		r = t->kind == KIND_SPM ? open_spm(g, t, err) : open_bpe(g, pre, gemma, t, err);
	if (!r)
		r = read_flags(g, t, err);
	if (!r && special_open(&t->special, &t->vocab))
		r = err_set(err, -ENOMEM, "no memory for the special tokens");
	return r;
}

int tokenizer_open(const struct gguf *g, const char *pre, struct tokenizer **out, struct err *err)
{
	struct tokenizer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(err, -ENOMEM, "no memory for a tokenizer");
	r = open_tokenizer(g, pre, t, err);
	if (r)
		tokenizer_close(t);
	else
		*out = t;
	return r;
}

void tokenizer_close(struct tokenizer *t)
{
	if (!t)
		return;
	special_close(&t->special);
	spm_close(&t->spm);
	bpe_close(&t->bpe);
	pretok_close(&t->pretok);
	vocab_close(&t->vocab);
	free(t);
}

/* ---- text to tokens ---- */

void token_list_free(struct token_list *l)
{
	free(l->id);
	*l = (struct token_list){0};
}

int token_list_add(struct token_list *l, int32_t id)
{
	if (l->n == l->cap) {
		size_t cap = MAX((size_t)64, l->cap * 2);
		int32_t *p = reallocarray(l->id, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->id = p;
		l->cap = cap;
	}
	l->id[l->n++] = id;
	return 0;
}

/* What one call of tokenize() writes to. */
struct work {
	struct merger merger;
	struct pretok_work pretok;
	struct strbuf text; /* the text as the vocabulary spells it */
	struct strbuf tmp;
};

static int work_init(const struct tokenizer *t, struct work *w)
{
	*w = (struct work){0};
	return t->kind == KIND_BPE ? pretok_work_init(&w->pretok) : 0;
}

static void work_free(struct work *w)
{
	merger_free(&w->merger);
	pretok_work_free(&w->pretok);
	strbuf_free(&w->text);
	strbuf_free(&w->tmp);
}

/* Writes p[0 .. len) to @out with every space as U+2581. */
static int escape_spaces(const char *p, size_t len, struct strbuf *out)
{
	const char *space;
	int r = 0;

	while (len && !r) {
		space = memchr(p, ' ', len);
		r = strbuf_add(out, p, space ? (size_t)(space - p) : len);
		if (!space)
			break;
		if (!r)
			r = strbuf_add(out, SPM_SPACE, SPM_SPACE_LEN);
		len -= (size_t)(space - p) + 1;
		p = space + 1;
	}
	return r;
}

/* The same, with runs of spaces made one and those at the ends dropped. */
static int escape_words(const char *p, size_t len, bool prefix, struct strbuf *out)
{
	size_t off = 0, end;
	int r = 0;

	while (!r) {
		while (off < len && p[off] == ' ')
			off++;
		if (off == len)
			break;
		for (end = off; end < len && p[end] != ' ';)
			end++;
		if (out->len || prefix)
			r = strbuf_add(out, SPM_SPACE, SPM_SPACE_LEN);
		if (!r)
			r = strbuf_add(out, p + off, end - off);
		off = end;
	}
	return r;
}

static int spm_fragment(const struct tokenizer *t, struct work *w, const char *p, size_t len,
			struct token_list *out, struct err *err)
{
	int r = 0;

	w->text.len = 0;
	if (t->one_space) {
		r = escape_words(p, len, t->space_prefix, &w->text);
	} else {
		if (t->space_prefix)
			r = strbuf_add(&w->text, SPM_SPACE, SPM_SPACE_LEN);
		if (!r)
			r = escape_spaces(p, len, &w->text);
	}
	return r ? r : spm_tokenize(&t->spm, &w->merger, w->text.p, w->text.len, out, err);
}

static int bpe_fragment(const struct tokenizer *t, struct work *w, const char *p, size_t len,
			struct token_list *out, struct err *err)
{
	size_t i, start = 0;
	int r;

	if (t->bpe.raw) {
		w->text.len = 0;
		r = escape_spaces(p, len, &w->text);
		if (r)
			return r;
		p = w->text.p;
		len = w->text.len;
	}
	r = pretok_split(&t->pretok, &w->pretok, p, len, err);
	for (i = 0; i < w->pretok.cuts.n && !r; i++) {
		size_t end = w->pretok.cuts.at[i];

		r = bpe_word(&t->bpe, &w->merger, &w->tmp, p + start, end - start, out, err);
		start = end;
	}
	return r;
}

static int add_fragment(const struct tokenizer *t, struct work *w, const char *p, size_t len,
			struct token_list *out, struct err *err)
{
	if (!len)
		return 0;
	return t->kind == KIND_SPM ? spm_fragment(t, w, p, len, out, err)
				   : bpe_fragment(t, w, p, len, out, err);
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Whether the white space that follows a special token is swallowed with it. */
static bool eats_space(const struct tokenizer *t, int32_t id)
{
	const struct gguf_str *s = &t->vocab.str[id];

	return t->special_eats_space && !str_is(s, "<unk>") && !str_is(s, "<s>") &&
	       !str_is(s, "<|endoftext|>");
}

static int add_text(const struct tokenizer *t, struct work *w, const char *p, size_t len,
		    bool user_only, struct token_list *out, struct err *err)
{
	size_t off = 0, start = 0, match = 0;
	int32_t id;
	int r = 0;

	while (off < len && !r) {
		id = special_match(&t->special, &t->vocab, p + off, len - off, user_only, &match);
		if (id == NO_TOKEN) {
			off++;
			continue;
		}
		r = add_fragment(t, w, p + start, off - start, out, err);
		if (!r)
			r = token_list_add(out, id);
		off += match;
		while (off < len && eats_space(t, id) && is_space(p[off]))
			off++;
		start = off;
	}
	return r ? r : add_fragment(t, w, p + start, len - start, out, err);
}

int tokenize(const struct tokenizer *t, const char *text, size_t len, unsigned int flags,
	     struct token_list *out, struct err *err)
{
	size_t n_before = out->n;
	struct work w;
	int r;

	/* Symbols are counted in 32 bits, and a space may take three bytes. */
	if (len > INT32_MAX / 4)
		return err_set(err, -EINVAL, "a text of %zu bytes is too long to tokenize", len);
	r = work_init(t, &w);
	if (!r && (flags & TOKENIZE_BOS) && tokenizer_adds_bos(t))
		r = token_list_add(out, t->bos);
	if (!r)
		r = add_text(t, &w, text, len, !(flags & TOKENIZE_SPECIAL), out, err);
	if (!r && (flags & TOKENIZE_BOS) && t->add_eos && t->eos != NO_TOKEN)
		r = token_list_add(out, t->eos);
	work_free(&w);
	if (r)
		out->n = n_before;
	return r == -ENOMEM ? err_set(err, r, "no memory to tokenize %zu bytes", len) : r;
}

/* ---- tokens to text ---- */

static int add_unescaped(const struct gguf_str *s, struct strbuf *out)
{
	uint64_t off = 0, start = 0;
	int r = 0;

	while (off + SPM_SPACE_LEN <= s->len && !r) {
		if (memcmp(s->p + off, SPM_SPACE, SPM_SPACE_LEN)) {
			off++;
			continue;
		}
		r = strbuf_add(out, s->p + start, off - start);
		if (!r)
			r = strbuf_add(out, " ", 1);
		off += SPM_SPACE_LEN;
		start = off;
	}
	return r ? r : strbuf_add(out, s->p + start, s->len - start);
}

int detokenize(const struct tokenizer *t, int32_t id, bool special, struct strbuf *out)
{
	const struct gguf_str *s = tokenizer_raw(t, id);
	char c;

	if (!s)
		return -EINVAL;
	switch (t->vocab.type[id]) {
	case TOKEN_BYTE:
		c = (char)vocab_byte_value(s);
		return strbuf_add(out, &c, 1);
	case TOKEN_NORMAL:
		return t->kind == KIND_BPE && !t->bpe.raw ? bpe_decode(s, out)
							  : add_unescaped(s, out);
	case TOKEN_USER:
		return strbuf_add(out, s->p, s->len);
	default:
		return special ? strbuf_add(out, s->p, s->len) : 0;
	}
}

/* Appends a token; drops the space that SentencePiece puts before the first text. */
static int detokenize_next(const struct tokenizer *t, int32_t id, bool special, bool *started,
			   struct strbuf *out)
{
	size_t at = out->len;
	int r = detokenize(t, id, special, out);

	if (r || out->len == at || *started)
		return r;
	*started = true;
	if (t->space_prefix && out->p[at] == ' ' && t->vocab.type[id] == TOKEN_NORMAL) {
		memmove(out->p + at, out->p + at + 1, out->len - at); /* with the NUL */
		out->len--;
	}
	return 0;
}

int detokenize_all(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
		   struct strbuf *out)
{
	bool started = false;
	size_t i;
	int r = 0;

	for (i = 0; i < n && !r; i++)
		r = detokenize_next(t, id[i], special, &started, out);
	return r;
}

int text_stream_feed(struct text_stream *s, int32_t id, struct strbuf *out)
{
	size_t tail, n;
	int r = detokenize_next(s->tok, id, s->special, &s->started, &s->held);

	if (r)
		return r;
	tail = utf8_open_tail(s->held.p, s->held.len);
	n = s->held.len - tail;
	r = strbuf_add(out, s->held.p, n);
	if (r)
		return r;
	if (n)
		memmove(s->held.p, s->held.p + n, tail + 1); /* with the NUL */
	s->held.len = tail;
	return 0;
}

int text_stream_flush(struct text_stream *s, struct strbuf *out)
{
	int r = strbuf_add(out, s->held.p, s->held.len);

	if (!r)
		s->held.len = 0;
	return r;
}

void text_stream_free(struct text_stream *s)
{
	strbuf_free(&s->held);
}

/* ---- what a vocabulary says ---- */

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
	return t->vocab.n;
}

const struct gguf_str *tokenizer_raw(const struct tokenizer *t, int32_t id)
{
	return id >= 0 && (uint32_t)id < t->vocab.n ? &t->vocab.str[id] : NULL;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
	return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
	return t->eos;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *raw)
{
	return vocab_find(&t->vocab, raw, strlen(raw));
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
	return tokenizer_raw(t, id) && t->vocab.eog[id];
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
	return t->add_bos && t->bos != NO_TOKEN;
}

const char *tokenizer_model(const struct tokenizer *t)
{
	return t->kind == KIND_SPM ? "llama" : "gpt2";
}

const char *tokenizer_pre(const struct tokenizer *t)
{
	return t->kind == KIND_BPE ? t->pretok.name : "";
}
