// SPDX-License-Identifier: MIT
/*
 * Byte-pair encoding by token ids: merges are kept as (left id, right id) -> (rank, id), so
 * that merging looks at no text at all.
 */
#include "text/bpe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

struct bpe_rule {
	int32_t left, right;
	uint32_t rank;
	int32_t id; /* NO_TOKEN: the slot is free */
};

/*
 * GPT-2's map: bytes that print in Latin-1 stand for themselves, and the other 68, in rising
 * order, for the code points from U+0100 on.
 */
static bool byte_prints(unsigned int b)
{
	return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static uint32_t byte_code_point(unsigned int b)
{
	if (byte_prints(b))
		return b;
	if (b <= 0x20)
		return 0x100 + b;
	return b == 0xad ? 0x143 : 0x121 + (b - 0x7f);
}

/* The byte that a code point stands for, or -1. */
static int code_point_byte(uint32_t c)
{
	if (c < 0x100)
		return byte_prints(c) ? (int)c : -1;
	if (c <= 0x120)
		return (int)(c - 0x100);
	if (c <= 0x142)
		return (int)(c - 0x121 + 0x7f);
	return c == 0x143 ? 0xad : -1;
}

/* Code points up to U+0143 take at most two bytes. */
static size_t encode_byte(unsigned char b, char out[static 2])
{
	uint32_t c = byte_code_point(b);

	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

int bpe_decode(const struct gguf_str *s, struct strbuf *out)
{
	uint64_t off, n;
	int r = 0, b;
	char c;

	for (off = 0; off < s->len && !r; off += n) {
		n = utf8_len(s->p + off, s->len - off);
		b = n ? code_point_byte(utf8_decode(s->p + off, n)) : -1;
		c = (char)b;
		n = n ? n : 1;
		/* what stands for no byte was never encoded: an added token's own text */
		r = b < 0 ? strbuf_add(out, s->p + off, n) : strbuf_add(out, &c, 1);
	}
	return r;
}

static uint64_t rule_slot(const struct bpe *b, int32_t left, int32_t right)
{
	uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	uint64_t i = hash_mix(key ^ b->seed, 0x9e3779b97f4a7c15ull) & b->mask;

	while (b->rule[i].id != NO_TOKEN && (b->rule[i].left != left || b->rule[i].right != right))
		i = (i + 1) & b->mask;
	return i;
}

/*
 * The token that a merge makes. Vocabularies are mostly in the order of their merges, so the
 * token after the last one made is looked at first: a search costs cache misses.
 */
static int32_t find_made(const struct vocab *v, const struct strbuf *text, int32_t last)
{
	const struct gguf_str *s = &v->str[last + 1];

	if ((uint32_t)last + 1 < v->n && s->len == text->len && !memcmp(s->p, text->p, s->len))
		return last + 1;
	return vocab_find(v, text->p, text->len);
}

/*
 * One line of the file's merges: two token texts and a space between them.
 * @last: the token that the line before made; this line's on return
 */
static int read_merge(const struct bpe *b, const struct gguf_str *s, uint32_t rank, int32_t *last,
		      struct strbuf *tmp, struct err *err)
{
	const struct vocab *v = b->v;
	const char *space = s->len > 1 ? memchr(s->p + 1, ' ', s->len - 1) : NULL;
	struct bpe_rule rule = {.rank = rank};
	const char *bad = NULL;
	size_t n_left, n_right, bad_len = 0;
	char q1[64], q2[64];
	uint64_t i;

	if (!space)
		return err_set(err, -EINVAL, "tokenizer.ggml.merges[%" PRIu32 "] is '%s': no pair",
			       rank, quote_str(s->p, s->len, q1));
	n_left = (size_t)(space - s->p);
	n_right = s->len - n_left - 1;
	tmp->len = 0;
	if (strbuf_add(tmp, s->p, n_left) || strbuf_add(tmp, space + 1, n_right))
		return err_set(err, -ENOMEM, "no memory for merges");
	rule.left = vocab_find(v, s->p, n_left);
	rule.right = vocab_find(v, space + 1, n_right);
	rule.id = find_made(v, tmp, *last);
	if (rule.left == NO_TOKEN) {
		bad = s->p;
		bad_len = n_left;
	} else if (rule.right == NO_TOKEN) {
		bad = space + 1;
		bad_len = n_right;
	} else if (rule.id == NO_TOKEN) {
		bad = tmp->p;
		bad_len = tmp->len;
	}
	if (bad)
		return err_set(err, -EINVAL,
			       "tokenizer.ggml.merges[%" PRIu32 "] is '%s', but '%s' is no token",
			       rank, quote_str(s->p, s->len, q1), quote_str(bad, bad_len, q2));
	*last = rule.id;
	i = rule_slot(b, rule.left, rule.right);
	if (b->rule[i].id == NO_TOKEN) /* of equal pairs the first counts */
		b->rule[i] = rule;
	return 0;
}

static int read_merges(const struct gguf *g, struct bpe *b, struct err *err)
{
	static const char key[] = "tokenizer.ggml.merges";
	struct strbuf tmp = {0};
	struct gguf_array merges;
	uint64_t n_slot = 64;
	int32_t last = NO_TOKEN;
	uint64_t i;
	int r;

	r = gguf_array(g, key, GGUF_STRING, &merges, err);
	if (r == -ENOENT)
		return err_set(err, -EINVAL, "the file has no %s, which byte-pair encoding needs",
			       key);
	if (r)
		return r;
	if (merges.n > INT32_MAX)
		return err_set(err, -EINVAL, "%s has %" PRIu64 " entries", key, merges.n);
	while (n_slot < 2 * merges.n)
		n_slot *= 2;
	b->rule = malloc(n_slot * sizeof(*b->rule));
	if (!b->rule)
		return err_set(err, -ENOMEM, "no memory for %" PRIu64 " merges", merges.n);
	memset(b->rule, 0xff, n_slot * sizeof(*b->rule)); /* NO_TOKEN */
	b->mask = n_slot - 1;
	b->seed = hash_seed();
	for (i = 0; i < merges.n && !r; i++)
		r = read_merge(b, &merges.str[i], (uint32_t)i, &last, &tmp, err);
	strbuf_free(&tmp);
	return r;
}

int bpe_open(const struct gguf *g, struct bpe *b, struct err *err)
{
	char c[2];
	unsigned int i;
	int r;

	r = read_merges(g, b, err);
	if (r) {
		bpe_close(b);
		return r;
	}
	if (b->raw) {
		vocab_bytes(b->v, b->byte);
		return 0;
	}
	for (i = 0; i < 256; i++)
		b->byte[i] = vocab_find(b->v, c, encode_byte((unsigned char)i, c));
	return 0;
}

void bpe_close(struct bpe *b)
{
	free(b->rule);
	b->rule = NULL;
}

static bool bpe_merge(const void *ctx, const char *text, const struct symbol *l,
		      const struct symbol *r, uint32_t *cost, int32_t *id)
{
	const struct bpe *b = ctx;
	const struct bpe_rule *rule;

	(void)text;
	if (l->id == NO_TOKEN || r->id == NO_TOKEN)
		return false;
	rule = &b->rule[rule_slot(b, l->id, r->id)];
	*cost = rule->rank;
	*id = rule->id;
	return rule->id != NO_TOKEN;
}

/* Sets @id to the token that is the whole word, or to NO_TOKEN. 0 or -ENOMEM. */
static int whole_word(const struct bpe *b, struct strbuf *tmp, const char *p, size_t len,
		      int32_t *id)
{
	char c[2];
	size_t i;
	int r = 0;

	*id = NO_TOKEN;
	if (len > b->v->max_len)
		return 0;
	tmp->len = 0;
	if (b->raw)
		r = strbuf_add(tmp, p, len);
	for (i = 0; i < len && !b->raw && !r; i++)
		r = strbuf_add(tmp, c, encode_byte((unsigned char)p[i], c));
	if (r)
		return r;
	*id = vocab_find(b->v, tmp->p, tmp->len);
	if (*id != NO_TOKEN && !vocab_is_text(b->v, *id))
		*id = NO_TOKEN;
	return 0;
}

static bool only_newlines(const char *p, size_t len)
{
	while (len && p[len - 1] == '\n')
		len--;
	return !len;
}

/* A symbol that is no token: its bytes. */
static int emit_bytes(const struct bpe *b, const char *p, size_t len, struct token_list *out,
		      struct err *err)
{
	int32_t id;
	size_t i;
	int r = 0;

	for (i = 0; i < len && !r; i++) {
		id = b->byte[(unsigned char)p[i]];
		if (id == NO_TOKEN)
			id = b->unk;
		if (id == NO_TOKEN)
			return err_set(err, -EINVAL,
				       "byte 0x%02x of the text has no token in this vocabulary",
				       (unsigned char)p[i]);
		r = token_list_add(out, id);
	}
	return r;
}

static int add_symbols(const struct bpe *b, struct merger *m, const char *p, size_t len)
{
	size_t off, n;
	int32_t id;
	int r = 0;

	merger_reset(m);
	for (off = 0; off < len && !r; off += n) {
		if (b->raw) {
			n = utf8_len(p + off, len - off);
			n = n ? n : 1;
			id = vocab_find(b->v, p + off, n);
		} else {
			n = 1;
			id = b->byte[(unsigned char)p[off]];
		}
		r = merger_add(m, off, n, id);
	}
	return r;
}

int bpe_word(const struct bpe *b, struct merger *m, struct strbuf *tmp, const char *p, size_t len,
	     struct token_list *out, struct err *err)
{
	int32_t i, id = NO_TOKEN;
	int r = 0;

	if (!len)
		return 0;
	if (b->whole_words || (b->whole_newlines && only_newlines(p, len)))
		r = whole_word(b, tmp, p, len, &id);
	if (id != NO_TOKEN)
		return token_list_add(out, id);
	if (!r)
		r = add_symbols(b, m, p, len);
	if (!r)
		r = merger_run(m, bpe_merge, b, p);
	for (i = 0; i >= 0 && !r; i = m->sym[i].next) {
		const struct symbol *y = &m->sym[i];

		r = y->id != NO_TOKEN ? token_list_add(out, y->id)
				      : emit_bytes(b, p + y->off, y->len, out, err);
	}
	return r;
}
