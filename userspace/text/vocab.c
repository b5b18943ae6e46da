// SPDX-License-Identifier: MIT
/*
 * Reading a vocabulary: tokens, types, which tokens end generation.
 *
 * Files in the wild mark too little: many give one eos id although the model also ends with
 * another token, and some call such a token "normal". So names that no text has by chance
 * are known here.
 */
#include "text/vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"
#include "text/utf8.h"

/* End generation whatever type the file gives them: no ordinary text looks so. */
static const char *const eog_always[] = {
	"<|im_end|>",
	"<|eot_id|>",
	"<|eom_id|>",
	"<|end|>",
	"<|return|>",
	"<|call|>",
	"<|calls|>",
	"<|flush|>",
	"<|endoftext|>",
	"<|end_of_text|>",
	"<|eot|>",
	"<|eom|>",
	"<|END_OF_TURN_TOKEN|>",
	"<end_of_turn>",
	"<end_of_utterance>",
	"<turn|>",
	"<|tool_response>",
	"<\uff5cend\u2581of\u2581sentence\uff5c>",
	"<|fim_pad|>",
	"<|fim_repo|>",
	"<|repo_name|>",
	"<|file_sep|>",
};

/* These are words of other languages too (</s> is struck-out text in HTML): control only. */
static const char *const eog_control[] = {
	"</s>",	     "<eos>", "<EOT>",	    "_<EOT>",  "\u2581<EOT>",
	"[EOT]",     "[EOS]", "[e~[",	    "<|EOT|>", "<fim-pad>",
	"<fim_pad>", "<PAD>", "<fim-repo>", "<REPO>",  "<reponame>",
};

uint64_t hash_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed = now_ns() ^ (uint64_t)(uintptr_t)&seed;
	return seed;
}

static uint64_t hash_bytes(uint64_t seed, const char *p, size_t len)
{
	const uint64_t k = 0x9e3779b97f4a7c15ull;
	uint64_t h = seed ^ (len * k);
	uint64_t w;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&w, p, 8);
		h = hash_mix(h ^ w, k);
	}
	if (len) {
		w = 0;
		memcpy(&w, p, len);
		h = hash_mix(h ^ w, k);
	}
	return hash_mix(h ^ seed, 0xd6e8feb86659fd93ull);
}

int32_t vocab_find(const struct vocab *v, const char *p, size_t len)
{
	uint64_t h, i;

	if (!len || len > v->max_len)
		return NO_TOKEN;
	h = hash_bytes(v->seed, p, len);
	for (i = h & v->mask; v->slot[i].id != NO_TOKEN; i = (i + 1) & v->mask) {
		const struct gguf_str *s = &v->str[v->slot[i].id];

		if (v->slot[i].tag == h >> 32 && s->len == len && !memcmp(s->p, p, len))
			return v->slot[i].id;
	}
	return NO_TOKEN;
}

/* Of tokens with one text the first counts; an empty one has no way back. */
static void vocab_add(struct vocab *v, int32_t id)
{
	const struct gguf_str *s = &v->str[id];
	uint64_t h, i;

	if (!s->len || vocab_find(v, s->p, s->len) != NO_TOKEN)
		return;
	h = hash_bytes(v->seed, s->p, s->len);
	for (i = h & v->mask; v->slot[i].id != NO_TOKEN;)
		i = (i + 1) & v->mask;
	v->slot[i].tag = (uint32_t)(h >> 32);
	v->slot[i].id = id;
}

static int vocab_index(struct vocab *v)
{
	uint64_t n_slot = 64;
	uint64_t i;

	while (n_slot < 2ull * v->n)
		n_slot *= 2;
	v->slot = malloc(n_slot * sizeof(*v->slot));
	if (!v->slot)
		return -ENOMEM;
	memset(v->slot, 0xff, n_slot * sizeof(*v->slot)); /* NO_TOKEN */
	v->mask = n_slot - 1;
	v->seed = hash_seed();
	for (i = 0; i < v->n; i++) {
		v->max_len = MAX(v->max_len, v->str[i].len);
		vocab_add(v, (int32_t)i);
	}
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int vocab_byte_value(const struct gguf_str *s)
{
	int hi, lo;

	if (s->len != 6 || memcmp(s->p, "<0x", 3) || s->p[5] != '>')
		return -1;
	hi = hex_digit(s->p[3]);
	lo = hex_digit(s->p[4]);
	return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

void vocab_bytes(const struct vocab *v, int32_t id[static 256])
{
	char name[8];
	int i;

	for (i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "<0x%02X>", i);
		id[i] = vocab_find(v, name, 6);
	}
}

/* A file without types: what the names say. */
static void guess_types(struct vocab *v, bool spm)
{
	uint32_t i;

	for (i = 0; i < v->n; i++)
		v->type[i] = spm && vocab_byte_value(&v->str[i]) >= 0 ? TOKEN_BYTE : TOKEN_NORMAL;
}

static int read_types(const struct gguf *g, bool spm, struct vocab *v, struct err *err)
{
	static const char key[] = "tokenizer.ggml.token_type";
	const struct gguf_kv *kv = gguf_find(g, key);
	int64_t type;
	uint32_t i;

	if (!kv) {
		guess_types(v, spm);
		return 0;
	}
	if (kv->type != GGUF_ARRAY)
		return err_set(err, -EINVAL, "%s is no array", key);
	if (kv->arr.n < v->n)
		return err_set(err, -EINVAL, "%s has %" PRIu64 " entries for %" PRIu32 " tokens",
			       key, kv->arr.n, v->n);
	for (i = 0; i < v->n; i++) {
		if (!gguf_array_int(&kv->arr, i, &type))
			return err_set(err, -EINVAL, "%s is no array of integers", key);
		/* 0 is "undefined": printed and matched like a token that is not in use */
		if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
			type = TOKEN_UNUSED;
		if (type == TOKEN_BYTE && vocab_byte_value(&v->str[i]) < 0)
			type = TOKEN_NORMAL;
		v->type[i] = (uint8_t)type;
	}
	return 0;
}

static int32_t find_name(const struct vocab *v, const char *name)
{
	return vocab_find(v, name, strlen(name));
}

static void mark_eog(struct vocab *v)
{
	int32_t id;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(eog_always); i++) {
		id = find_name(v, eog_always[i]);
		if (id == NO_TOKEN)
			continue;
		v->type[id] = TOKEN_CONTROL;
		v->eog[id] = 1;
	}
	for (i = 0; i < ARRAY_SIZE(eog_control); i++) {
		id = find_name(v, eog_control[i]);
		if (id != NO_TOKEN && v->type[id] == TOKEN_CONTROL)
			v->eog[id] = 1;
	}
	/* In these families <|end|> closes a message, and another token the turn. */
	id = find_name(v, "<|end|>");
	if (id != NO_TOKEN && ((find_name(v, "<|return|>") >= 0 && find_name(v, "<|call|>") >= 0) ||
			       (find_name(v, "<|flush|>") >= 0 && find_name(v, "<|calls|>") >= 0)))
		v->eog[id] = 0;
}

int vocab_open(const struct gguf *g, bool spm, struct vocab *v, struct err *err)
{
	static const char key[] = "tokenizer.ggml.tokens";
	struct gguf_array tokens;
	int r;

	*v = (struct vocab){0};
	r = gguf_array(g, key, GGUF_STRING, &tokens, err);
	if (r)
		return r == -ENOENT ? err_set(err, -EINVAL, "the file has no %s", key) : r;
	if (!tokens.n || tokens.n > INT32_MAX)
		return err_set(err, -EINVAL, "%s has %" PRIu64 " entries", key, tokens.n);
	v->n = (uint32_t)tokens.n;
	v->str = tokens.str;
	v->type = calloc(v->n, sizeof(*v->type));
	v->eog = calloc(v->n, sizeof(*v->eog));
	if (!v->type || !v->eog || vocab_index(v)) {
		r = err_set(err, -ENOMEM, "no memory for a vocabulary of %" PRIu32 " tokens", v->n);
		goto fail;
	}
	r = read_types(g, spm, v, err);
	if (r)
		goto fail;
	mark_eog(v);
	return 0;
fail:
	vocab_close(v);
	return r;
}

void vocab_close(struct vocab *v)
{
	free(v->slot);
	free(v->eog);
	free(v->type);
	*v = (struct vocab){0};
}

const char *quote_str(const char *p, size_t len, char buf[static 64])
{
	size_t n = 0, k;

	while (len && n < 52) {
		k = utf8_len(p, len);
		/* C1 controls are two bytes: c2 80 .. c2 9f */
		if (!k || (unsigned char)*p < 0x20 || *p == 0x7f ||
		    (k == 2 && utf8_decode(p, 2) < 0xa0)) {
			n += (size_t)sprintf(buf + n, "\\x%02x", (unsigned char)*p);
			k = 1;
		} else {
			memcpy(buf + n, p, k);
			n += k;
		}
		p += k;
		len -= k;
	}
	strcpy(buf + n, len ? "..." : "");
	return buf;
}
