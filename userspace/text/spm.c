// SPDX-License-Identifier: MIT
/*
 * SentencePiece's merging, and its fallback to bytes.
 *
 * A pair merges where its text is a token. Scores are turned once into costs, unsigned and
 * rising, so that the queue compares integers. Where no token has a space after anything but
 * spaces, which is so for nearly every vocabulary, words cannot influence each other and each
 * is merged alone: the same tokens, but the queue stays small.
 */
#include "text/spm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

/* Order-reversing map of floats to integers; NaN is the lowest score. */
static uint32_t score_cost(float score)
{
	uint32_t u;

	if (score != score)
		return UINT32_MAX;
	score += 0.0f; /* -0 is 0 */
	memcpy(&u, &score, sizeof(u));
	return u >> 31 ? u : ~(u | 0x80000000u);
}

static int read_costs(const struct gguf *g, struct spm *s, struct err *err)
{
	static const char key[] = "tokenizer.ggml.scores";
	const struct gguf_kv *kv = gguf_find(g, key);
	uint32_t i;

	if (!kv)
		return err_set(err, -EINVAL, "the file has no %s, which SentencePiece needs", key);
	if (kv->type != GGUF_ARRAY || (kv->arr.type != GGUF_F32 && kv->arr.type != GGUF_I32))
		return err_set(err, -EINVAL, "%s is no array of f32", key);
	if (kv->arr.n < s->v->n)
		return err_set(err, -EINVAL, "%s has %" PRIu64 " entries for %" PRIu32 " tokens",
			       key, kv->arr.n, s->v->n);
	s->cost = malloc(s->v->n * sizeof(*s->cost));
	if (!s->cost)
		return err_set(err, -ENOMEM, "no memory for %" PRIu32 " scores", s->v->n);
	for (i = 0; i < s->v->n; i++)
		s->cost[i] = score_cost(kv->arr.type == GGUF_F32
						? ((const float *)kv->arr.num)[i]
						: (float)((const int32_t *)kv->arr.num)[i]);
	return 0;
}

static bool is_space_at(const char *p, size_t len)
{
	return len >= SPM_SPACE_LEN && !memcmp(p, SPM_SPACE, SPM_SPACE_LEN);
}

/* A word begins at off: a space that does not follow a space. */
static bool word_begins(const char *p, size_t off, size_t len)
{
	return is_space_at(p + off, len - off) &&
	       !(off >= SPM_SPACE_LEN && is_space_at(p + off - SPM_SPACE_LEN, SPM_SPACE_LEN));
}

static bool words_are_apart(const struct vocab *v)
{
	uint64_t off;
	uint32_t i;

	for (i = 0; i < v->n; i++) {
		const struct gguf_str *s = &v->str[i];

		for (off = 1; vocab_is_text(v, (int32_t)i) && off < s->len; off++)
			if (word_begins(s->p, off, s->len))
				return false;
	}
	return true;
}

int spm_open(const struct gguf *g, const struct vocab *v, int32_t unk, struct spm *s,
	     struct err *err)
{
	int32_t id;
	int i, r;
	char c;

	*s = (struct spm){.v = v, .unk = unk};
	r = read_costs(g, s, err);
	if (r)
		return r;
	vocab_bytes(v, s->byte);
	/* Without byte tokens a byte that is a token by itself still has one. */
	for (i = 0; i < 256; i++) {
		c = (char)i;
		id = s->byte[i] == NO_TOKEN ? vocab_find(v, &c, 1) : NO_TOKEN;
		if (id != NO_TOKEN && vocab_is_text(v, id))
			s->byte[i] = id;
	}
	s->words = words_are_apart(v);
	return 0;
}

void spm_close(struct spm *s)
{
	free(s->cost);
	*s = (struct spm){0};
}

static bool spm_merge(const void *ctx, const char *text, const struct symbol *l,
		      const struct symbol *r, uint32_t *cost, int32_t *id)
{
	const struct spm *s = ctx;

	*id = vocab_find(s->v, text + l->off, (size_t)l->len + r->len);
	if (*id == NO_TOKEN || !vocab_is_text(s->v, *id))
		return false;
	*cost = s->cost[*id];
	return true;
}

/* A symbol that did not merge: a token by itself, or its bytes, or the unknown token. */
static int emit_symbol(const struct spm *s, const char *p, size_t len, struct token_list *out,
		       struct err *err)
{
	int32_t id = vocab_find(s->v, p, len);
	size_t i;
	int r = 0;

	if (id != NO_TOKEN && vocab_is_text(s->v, id))
		return token_list_add(out, id);
	for (i = 0; i < len && s->byte[(unsigned char)p[i]] != NO_TOKEN;)
		i++;
	if (i < len && s->unk == NO_TOKEN)
		return err_set(err, -EINVAL,
			       "byte 0x%02x of the text has no token in this vocabulary",
			       (unsigned char)p[i]);
	if (i < len)
		return token_list_add(out, s->unk);
	for (i = 0; i < len && !r; i++)
		r = token_list_add(out, s->byte[(unsigned char)p[i]]);
	return r;
}

static int merge_word(const struct spm *s, struct merger *m, const char *text, size_t len,
		      struct token_list *out, struct err *err)
{
	size_t off, n;
	int32_t i;
	int r = 0;

	merger_reset(m);
	for (off = 0; off < len && !r; off += n) {
		n = utf8_len(text + off, len - off);
		n = n ? n : 1;
		r = merger_add(m, off, n, NO_TOKEN);
	}
	if (!r)
		r = merger_run(m, spm_merge, s, text);
	for (i = 0; i >= 0 && !r; i = m->sym[i].next) {
		const struct symbol *y = &m->sym[i];

		r = y->id != NO_TOKEN ? token_list_add(out, y->id)
				      : emit_symbol(s, text + y->off, y->len, out, err);
	}
	return r;
}

int spm_tokenize(const struct spm *s, struct merger *m, const char *text, size_t len,
		 struct token_list *out, struct err *err)
{
	size_t start = 0, end;
	int r = 0;

	while (start < len && !r) {
		for (end = start + 1; end < len; end++)
			if (s->words && word_begins(text, end, len))
				break;
		r = merge_word(s, m, text + start, end - start, out, err);
		start = end;
	}
	return r;
}
