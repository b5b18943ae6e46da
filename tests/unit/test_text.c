// SPDX-License-Identifier: MIT
/*
 * Tokenizers on vocabularies small enough to follow by hand.
 *
 * Expected tokens are written as their texts in the file, divided by spaces: "\u2581he l lo".
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "text/pretok.h"
#include "text/text.h"

#include "pretok_vectors.h"
#include "text_fixture.h"

#define SPACE "\u2581" /* as SentencePiece writes a space */

/* ---- vocabularies ---- */

struct open_vocab {
	struct gguf *g;
	struct tokenizer *t;
};

static struct open_vocab open_vocab(struct metadata *m, const char *pre)
{
	struct open_vocab v = {0};
	struct err err = {""};

	v.g = meta_open(m, &err);
	if (!v.g)
		fail_msg("%s", err.text);
	if (tokenizer_open(v.g, pre, &v.t, &err))
		fail_msg("%s", err.text);
	return v;
}

static void close_vocab(struct open_vocab *v)
{
	tokenizer_close(v->t);
	gguf_close(v->g);
}

/* Opening fails with @code and a sentence that has @part. */
static void refuse_vocab(struct metadata *m, const char *pre, int code, const char *part)
{
	struct tokenizer *t = NULL;
	struct err err = {""};
	struct gguf *g = meta_open(m, &err);

	assert_non_null(g);
	assert_int_equal(tokenizer_open(g, pre, &t, &err), code);
	assert_null(t);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not say '%s'", err.text, part);
	gguf_close(g);
}

/* 0 <unk>, 1 <s>, 2 </s>, 3.. the bytes */
static void spm_begin(struct metadata *m, struct tokens *t)
{
	memset(t, 0, sizeof(*t));
	meta_str(m, "tokenizer.ggml.model", "llama");
	add_token(t, "<unk>", 0, 2);
	add_token(t, "<s>", 0, 3);
	add_token(t, "</s>", 0, 3);
	add_byte_tokens(t);
}

static void add_chars(struct tokens *t, const char *chars)
{
	char s[2] = "";

	for (; *chars; chars++) {
		s[0] = *chars;
		add_token(t, s, -100, 1);
	}
}

/* "hello" in pieces: whole by its scores, but "lo" has the highest of all if there is one. */
static struct open_vocab spm_hello(bool with_lo)
{
	struct metadata m = {0};
	struct tokens t;

	spm_begin(&m, &t);
	add_chars(&t, "helowrd");
	add_token(&t, SPACE, -90, 1);
	add_token(&t, "ll", -1, 1);
	add_token(&t, "he", -2, 1);
	add_token(&t, "hell", -3, 1);
	add_token(&t, "hello", -4, 1);
	add_token(&t, SPACE "hello", -5, 1);
	if (with_lo)
		add_token(&t, "lo", -0.5, 1);
	meta_tokens(&m, &t);
	return open_vocab(&m, NULL);
}

/* The tokens of a text, written as the file has them. */
static void expect(const struct tokenizer *t, const char *text, unsigned int flags,
		   const char *want)
{
	struct token_list l = {0};
	struct strbuf got = {0};
	struct err err = {""};
	size_t i;

	if (tokenize(t, text, strlen(text), flags, &l, &err))
		fail_msg("%s", err.text);
	assert_int_equal(strbuf_puts(&got, ""), 0);
	for (i = 0; i < l.n; i++)
		assert_int_equal(
			strbuf_printf(&got, "%s%s", i ? " " : "", tokenizer_raw(t, l.id[i])->p), 0);
	assert_string_equal(got.p, want);
	strbuf_free(&got);
	token_list_free(&l);
}

static void expect_round_trip(const struct tokenizer *t, const char *p, size_t len)
{
	struct token_list l = {0};
	struct strbuf back = {0};
	struct err err = {""};

	if (tokenize(t, p, len, 0, &l, &err))
		fail_msg("%s", err.text);
	assert_int_equal(detokenize_all(t, l.id, l.n, false, &back), 0);
	assert_int_equal(back.len, len);
	if (len)
		assert_memory_equal(back.p, p, len);
	strbuf_free(&back);
	token_list_free(&l);
}

/* ---- SentencePiece ---- */

static void test_spm_merges_by_score(void **state)
{
	struct open_vocab v = spm_hello(false);

	expect(v.t, "hello", 0, SPACE "hello");
	expect(v.t, "hello hello", 0, SPACE "hello " SPACE "hello");
	expect(v.t, "hellow", 0, SPACE "hello w");
	expect(v.t, "hel", 0, SPACE " he l");
	close_vocab(&v);
	/* "lo" merges first, and "hello" can then no longer be made */
	v = spm_hello(true);
	expect(v.t, "hello", 0, SPACE " he l lo");
	close_vocab(&v);
}

static void test_spm_equal_scores_merge_leftmost(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	spm_begin(&m, &t);
	add_chars(&t, "a");
	add_token(&t, "aa", -1, 1);
	meta_tokens(&m, &t);
	meta_bool(&m, "tokenizer.ggml.add_space_prefix", false);
	v = open_vocab(&m, NULL);
	expect(v.t, "aaa", 0, "aa a");
	expect(v.t, "aaaaa", 0, "aa aa a");
	close_vocab(&v);
}

static void test_spm_token_over_two_words(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	/* one such token, and words may no longer be merged each by itself */
	spm_begin(&m, &t);
	add_chars(&t, "ab");
	add_token(&t, SPACE, -90, 1);
	add_token(&t, "a" SPACE, -1, 1);
	add_token(&t, "a" SPACE "b", -2, 1);
	meta_tokens(&m, &t);
	meta_bool(&m, "tokenizer.ggml.add_space_prefix", false);
	v = open_vocab(&m, NULL);
	expect(v.t, "a b", 0, "a" SPACE "b");
	close_vocab(&v);
}

static void test_spm_space_prefix(void **state)
{
	struct open_vocab v = spm_hello(false);

	/* the prefix comes on top of the text's own spaces, and an empty text has none */
	expect(v.t, " hello", 0, SPACE " " SPACE "hello");
	expect(v.t, "", 0, "");
	expect(v.t, " ", 0, SPACE " " SPACE);
	expect_round_trip(v.t, " hello  world ", 14);
	close_vocab(&v);
}

static void test_spm_without_space_prefix(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	spm_begin(&m, &t);
	add_chars(&t, "ab");
	add_token(&t, SPACE, -1, 1);
	meta_tokens(&m, &t);
	meta_bool(&m, "tokenizer.ggml.add_space_prefix", false);
	v = open_vocab(&m, NULL);
	expect(v.t, "a b", 0, "a " SPACE " b");
	expect(v.t, " a", 0, SPACE " a");
	expect_round_trip(v.t, " a", 2);
	close_vocab(&v);
}

static void test_spm_removes_extra_spaces(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	spm_begin(&m, &t);
	add_chars(&t, "ab");
	add_token(&t, SPACE, -1, 1);
	meta_tokens(&m, &t);
	meta_bool(&m, "tokenizer.ggml.remove_extra_whitespaces", true);
	v = open_vocab(&m, NULL);
	expect(v.t, "  a   b  ", 0, SPACE " a " SPACE " b");
	expect(v.t, "   ", 0, "");
	close_vocab(&v);
}

static void test_spm_byte_fallback(void **state)
{
	struct open_vocab v = spm_hello(false);

	expect(v.t, "h\n\xe4\xbd\xa0", 0, SPACE " h <0x0A> <0xE4> <0xBD> <0xA0>");
	/* no character at all: lone and cut-off bytes */
	expect(v.t, "\xff\xe4\xbdh", 0, SPACE " <0xFF> <0xE4> <0xBD> h");
	expect_round_trip(v.t, "\xc0\x80\xed\xa0\x80 hello\xf0\x9f\x98", 14);
	expect_round_trip(v.t, "a\0b", 3);
	close_vocab(&v);
}

static void test_spm_without_byte_tokens(void **state)
{
	static const char *const text[] = {"<unk>", "<s>", "</s>", "a", SPACE};
	static const float score[] = {0, 0, 0, -1, -1};
	struct token_list l = {0};
	struct metadata m = {0};
	struct open_vocab v;
	struct err err;
	int i;

	/* a character that has no token is the unknown one, or an error that names its byte */
	for (i = 0; i < 2; i++) {
		meta_str(&m, "tokenizer.ggml.model", "llama");
		meta_strs(&m, "tokenizer.ggml.tokens", text, 5);
		meta_array(&m, "tokenizer.ggml.scores", GGUF_F32, 5);
		raw_bytes(&m.kv, score, sizeof(score));
		meta_u32(&m, "tokenizer.ggml.unknown_token_id", i ? UINT32_MAX : 0);
		v = open_vocab(&m, NULL);
		if (i == 0) {
			expect(v.t, "a\xc3\xa9", 0, SPACE " a <unk>");
		} else {
			assert_int_equal(tokenize(v.t, "ab", 2, 0, &l, &err), -EINVAL);
			assert_non_null(strstr(err.text, "byte 0x62"));
			assert_int_equal(l.n, 0);
		}
		close_vocab(&v);
	}
	token_list_free(&l);
}

static void test_spm_text_never_makes_control_tokens(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	/* "<s" and ">" are neighbours whose text is a token: but not one that text may make */
	spm_begin(&m, &t);
	add_chars(&t, "<s>");
	add_token(&t, SPACE, -1, 1);
	add_token(&t, "<s", -1, 1);
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	expect(v.t, "<s>", 0, SPACE " <s >");
	expect(v.t, "<s>", TOKENIZE_SPECIAL, "<s>");
	close_vocab(&v);
}

/* ---- special tokens, BOS and EOS ---- */

static struct open_vocab spm_specials(const char *arch)
{
	struct metadata m = {0};
	struct tokens t;

	spm_begin(&m, &t);
	if (arch)
		meta_str(&m, "general.architecture", arch);
	add_chars(&t, "ab<|>xyz");
	add_token(&t, SPACE, -90, 1);
	add_token(&t, "<|x|>", 0, 3);
	add_token(&t, "<|x|>y", 0, 3);
	add_token(&t, "ab", 0, 4);
	add_token(&t, "abab", 0, 4);
	meta_tokens(&m, &t);
	return open_vocab(&m, NULL);
}

static void test_special_tokens(void **state)
{
	struct open_vocab v = spm_specials(NULL);

	/* control tokens only where asked for, user-defined ones always; the longest first */
	expect(v.t, "<|x|>", 0, SPACE " < | x | >");
	expect(v.t, "<|x|>", TOKENIZE_SPECIAL, "<|x|>");
	expect(v.t, "<|x|>yz", TOKENIZE_SPECIAL, "<|x|>y " SPACE " z");
	expect(v.t, "<|x|", TOKENIZE_SPECIAL, SPACE " < | x |");
	expect(v.t, "ababab", 0, "abab ab");
	expect(v.t, "zabz", 0, SPACE " z ab " SPACE " z");
	/* white space around a special token stays */
	expect(v.t, "<|x|> \nz", TOKENIZE_SPECIAL, "<|x|> " SPACE " " SPACE " <0x0A> z");
	close_vocab(&v);
	/* but for Phi-3, whose special tokens take in what follows */
	v = spm_specials("phi3");
	expect(v.t, "<|x|> \nz", TOKENIZE_SPECIAL, "<|x|> " SPACE " z");
	expect(v.t, "<s> z", TOKENIZE_SPECIAL, "<s> " SPACE " " SPACE " z");
	close_vocab(&v);
}

static void test_special_tokens_print_only_if_asked(void **state)
{
	struct open_vocab v = spm_specials(NULL);
	const int32_t ids[] = {1, tokenizer_find(v.t, "<|x|>"), tokenizer_find(v.t, "ab")};
	struct strbuf s = {0};

	assert_int_equal(detokenize_all(v.t, ids, 3, false, &s), 0);
	assert_string_equal(s.p, "ab");
	s.len = 0;
	assert_int_equal(detokenize_all(v.t, ids, 3, true, &s), 0);
	assert_string_equal(s.p, "<s><|x|>ab");
	assert_int_equal(detokenize(v.t, -1, true, &s), -EINVAL);
	assert_int_equal(detokenize(v.t, (int32_t)tokenizer_n_vocab(v.t), true, &s), -EINVAL);
	assert_null(tokenizer_raw(v.t, -1));
	assert_int_equal(tokenizer_find(v.t, "no such token"), -1);
	strbuf_free(&s);
	close_vocab(&v);
}

/* The 256 bytes, the tokens that @pairs make, and <|bos|>, <|eos|>. */
static void bpe_begin(struct metadata *m, struct tokens *t, const char *const *pairs, size_t n)
{
	memset(t, 0, sizeof(*t));
	meta_str(m, "tokenizer.ggml.model", "gpt2");
	add_gpt2_bytes(t);
	add_merges(t, pairs, n);
	meta_u32(m, "tokenizer.ggml.bos_token_id", (uint32_t)add_token(t, "<|bos|>", 0, 3));
	meta_u32(m, "tokenizer.ggml.eos_token_id", (uint32_t)add_token(t, "<|eos|>", 0, 3));
	meta_strs(m, "tokenizer.ggml.merges", pairs, n);
}

static struct open_vocab bpe_plain(const char *pre)
{
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct tokens t;

	bpe_begin(&m, &t, pairs, 1);
	meta_tokens(&m, &t);
	if (pre)
		meta_str(&m, "tokenizer.ggml.pre", pre);
	return open_vocab(&m, NULL);
}

static void test_bos_by_kind_and_pre(void **state)
{
	static const struct {
		const char *pre;
		bool bos;
	} c[] = {
		{"llama-bpe", true}, {"tekken", true},	{"lfm2", true},	 {"qwen2", false},
		{"gpt-2", false},    {"gpt-4o", false}, {"glm4", false}, {NULL, false},
	};
	struct open_vocab v;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		v = bpe_plain(c[i].pre);
		assert_int_equal(tokenizer_adds_bos(v.t), c[i].bos);
		expect(v.t, "ab", TOKENIZE_BOS, c[i].bos ? "<|bos|> ab" : "ab");
		expect(v.t, "ab", 0, "ab");
		close_vocab(&v);
	}
	/* SentencePiece has one unless the file says no */
	v = spm_hello(false);
	assert_true(tokenizer_adds_bos(v.t));
	assert_int_equal(tokenizer_bos(v.t), 1);
	assert_int_equal(tokenizer_eos(v.t), 2);
	expect(v.t, "h", TOKENIZE_BOS, "<s> " SPACE " h");
	expect(v.t, "", TOKENIZE_BOS, "<s>");
	close_vocab(&v);
}

static void test_bos_and_eos_by_the_file(void **state)
{
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;
	int bos, eos;

	for (bos = 0; bos < 2; bos++) {
		for (eos = 0; eos < 2; eos++) {
			bpe_begin(&m, &t, pairs, 1);
			meta_tokens(&m, &t);
			/* against what each pre-tokenizer would do by itself */
			meta_str(&m, "tokenizer.ggml.pre", bos ? "gpt-2" : "llama-bpe");
			meta_bool(&m, "tokenizer.ggml.add_bos_token", bos);
			meta_bool(&m, "tokenizer.ggml.add_eos_token", eos);
			v = open_vocab(&m, NULL);
			expect(v.t, "ab", TOKENIZE_BOS,
			       bos   ? eos ? "<|bos|> ab <|eos|>" : "<|bos|> ab"
			       : eos ? "ab <|eos|>"
				     : "ab");
			close_vocab(&v);
		}
	}
}

static void test_no_bos_without_an_id(void **state)
{
	static const char *const text[] = {"a"};
	static const float score[] = {0};
	struct metadata m = {0};
	struct open_vocab v;

	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 1);
	meta_array(&m, "tokenizer.ggml.scores", GGUF_F32, 1);
	raw_bytes(&m.kv, score, sizeof(score));
	meta_bool(&m, "tokenizer.ggml.add_bos_token", true);
	meta_bool(&m, "tokenizer.ggml.add_space_prefix", false);
	v = open_vocab(&m, NULL);
	assert_false(tokenizer_adds_bos(v.t));
	assert_int_equal(tokenizer_bos(v.t), -1);
	expect(v.t, "a", TOKENIZE_BOS, "a");
	close_vocab(&v);
}

static void test_end_of_generation(void **state)
{
	static const struct {
		const char *text;
		int32_t type;
		bool eog;
	} c[] = {
		{"<|im_end|>", 3, true},    {"<|eot_id|>", 3, true},
		{"<|eom_id|>", 3, true},    {"<end_of_turn>", 3, true},
		{"<|endoftext|>", 3, true}, {"<|end_of_text|>", 3, true},
		{"<|return|>", 3, true},    {"</s>", 3, true},
		{"<EOT>", 3, true},	    {"<|end|>", 3, true},
		{"<|im_start|>", 3, false}, {"<|user|>", 3, false},
		{"[PAD]", 1, false},	    {"<\uff5cend\u2581of\u2581sentence\uff5c>", 3, true},
	};
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;
	size_t i;

	bpe_begin(&m, &t, pairs, 1);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		add_token(&t, c[i].text, 0, c[i].type);
	meta_u32(&m, "tokenizer.ggml.eot_token_id", 7);
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		if (tokenizer_is_eog(v.t, tokenizer_find(v.t, c[i].text)) != c[i].eog)
			fail_msg("%s", c[i].text);
	assert_true(tokenizer_is_eog(v.t, tokenizer_eos(v.t)));
	assert_true(tokenizer_is_eog(v.t, 7));
	assert_false(tokenizer_is_eog(v.t, 8));
	assert_false(tokenizer_is_eog(v.t, -1));
	assert_false(tokenizer_is_eog(v.t, 1 << 30));
	close_vocab(&v);
}

static void test_end_of_generation_by_type(void **state)
{
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	/* </s> is HTML where the file calls it text; <|im_end|> is no text whatever it says */
	bpe_begin(&m, &t, pairs, 1);
	add_token(&t, "</s>", 0, 4);
	add_token(&t, "<|im_end|>", 0, 1);
	/* with these two, <|end|> closes a message and not the turn */
	add_token(&t, "<|end|>", 0, 3);
	add_token(&t, "<|return|>", 0, 3);
	add_token(&t, "<|call|>", 0, 3);
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	assert_false(tokenizer_is_eog(v.t, tokenizer_find(v.t, "</s>")));
	assert_true(tokenizer_is_eog(v.t, tokenizer_find(v.t, "<|im_end|>")));
	assert_false(tokenizer_is_eog(v.t, tokenizer_find(v.t, "<|end|>")));
	assert_true(tokenizer_is_eog(v.t, tokenizer_find(v.t, "<|return|>")));
	expect(v.t, "a<|im_end|>", TOKENIZE_SPECIAL, "a <|im_end|>");
	close_vocab(&v);
}

/* ---- byte-level BPE ---- */

static struct open_vocab bpe_merging(const char *pre, const char *force)
{
	/* rank decides: "b c" before "a b"; U+0120 is a space in GPT-2's map */
	static const char *const pairs[] = {"b c", "a b", "a bc", "\u0120 a", "d d", "dd d"};
	struct metadata m = {0};
	struct tokens t;

	bpe_begin(&m, &t, pairs, ARRAY_SIZE(pairs));
	add_token(&t, "xyz", 0, 1); /* no merge makes this one */
	meta_tokens(&m, &t);
	meta_str(&m, "tokenizer.ggml.pre", pre);
	return open_vocab(&m, force);
}

static void test_bpe_merges_by_rank(void **state)
{
	struct open_vocab v = bpe_merging("gpt-2", NULL);

	expect(v.t, "abc", 0, "abc");
	expect(v.t, "abb", 0, "ab b");
	expect(v.t, "ddd", 0, "ddd");
	expect(v.t, "dddd", 0, "dd dd");
	expect(v.t, "ddddd", 0, "dd ddd");
	expect(v.t, "x a", 0, "x \u0120a");
	expect(v.t, "", 0, "");
	assert_string_equal(tokenizer_model(v.t), "gpt2");
	assert_string_equal(tokenizer_pre(v.t), "gpt-2");
	close_vocab(&v);
}

static void test_bpe_whole_words(void **state)
{
	struct open_vocab v = bpe_merging("gpt-2", NULL);

	expect(v.t, "xyz", 0, "x y z");
	close_vocab(&v);
	/* Llama 3's takes a word that is a token whole, though no merge makes it */
	v = bpe_merging("llama-bpe", NULL);
	expect(v.t, "xyz", 0, "xyz");
	expect(v.t, "xyzx", 0, "x y z x");
	close_vocab(&v);
}

static void test_bpe_every_byte_survives(void **state)
{
	static const char *const pre[] = {"gpt-2",	  "llama-bpe", "qwen2",	      "gpt-4o",
					  "deepseek-llm", "falcon",    "deepseek-v3", "default"};
	char text[4096];
	unsigned int x = 1;
	struct open_vocab v;
	size_t i, k;

	for (k = 0; k < ARRAY_SIZE(pre); k++) {
		v = bpe_merging(pre[k], NULL);
		for (i = 0; i < 256; i++)
			text[i] = (char)i;
		expect_round_trip(v.t, text, 256);
		/* mostly letters and spaces, now and then any byte: all lengths of both */
		for (i = 0; i < sizeof(text); i++) {
			x = x * 1103515245 + 12345;
			text[i] = (x >> 16) % 5 ? "abcd \n1.'"[(x >> 20) % 9] : (char)(x >> 22);
		}
		expect_round_trip(v.t, text, sizeof(text));
		expect_round_trip(v.t, pretok_text, sizeof(pretok_text) - 1);
		close_vocab(&v);
	}
}

static void test_bpe_raw_utf8(void **state)
{
	static const char *const pairs[] = {SPACE " b", "\xc3\xa9 " SPACE "b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	/* Gemma 4's: characters and not bytes, spaces as SentencePiece has them */
	memset(&t, 0, sizeof(t));
	meta_str(&m, "tokenizer.ggml.model", "gemma4");
	add_byte_tokens(&t);
	add_chars(&t, "ab\n");
	add_token(&t, SPACE, 0, 1);
	add_token(&t, "\xc3\xa9", 0, 1);
	add_token(&t, "\n\n", 0, 1);
	add_merges(&t, pairs, 2);
	meta_strs(&m, "tokenizer.ggml.merges", pairs, 2);
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	expect(v.t, "a b\xc3\xa9 b", 0, "a " SPACE "b \xc3\xa9" SPACE "b");
	expect(v.t, "a\n\nb", 0, "a \n\n b");
	expect(v.t, "\xff\xe2\x82\xac", 0, "<0xFF> <0xE2> <0x82> <0xAC>");
	expect_round_trip(v.t, "a b\xc3\xa9 b\n\n\xff", 10);
	close_vocab(&v);
}

static void test_bpe_byte_without_token(void **state)
{
	static const char *const text[] = {"a", "b", "ab", "?"};
	static const char *const pairs[] = {"a b"};
	struct token_list l = {0};
	struct metadata m = {0};
	struct open_vocab v;
	struct err err;

	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 4);
	meta_strs(&m, "tokenizer.ggml.merges", pairs, 1);
	v = open_vocab(&m, NULL);
	assert_int_equal(token_list_add(&l, 77), 0);
	assert_int_equal(tokenize(v.t, "ab\xc3", 3, 0, &l, &err), -EINVAL);
	assert_non_null(strstr(err.text, "byte 0xc3"));
	assert_int_equal(l.n, 1); /* what was there before stays, and nothing else */
	close_vocab(&v);
	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 4);
	meta_strs(&m, "tokenizer.ggml.merges", pairs, 1);
	meta_u32(&m, "tokenizer.ggml.unknown_token_id", 3);
	v = open_vocab(&m, NULL);
	expect(v.t, "abc", 0, "ab ?");
	close_vocab(&v);
	token_list_free(&l);
}

/* ---- pre-tokenizers ---- */

static void test_pretok_vectors(void **state)
{
	const struct pretok_vector *c;
	struct pretok_work w;
	struct pretok p;
	struct err err;
	size_t i, k;

	assert_int_equal(pretok_work_init(&w), 0);
	for (k = 0; k < ARRAY_SIZE(pretok_vectors); k++) {
		c = &pretok_vectors[k];
		assert_int_equal(pretok_open(c->name, strlen(c->name), &p, &err), 0);
		assert_int_equal(pretok_split(&p, &w, pretok_text, sizeof(pretok_text) - 1, &err),
				 0);
		for (i = 0; i < MIN(w.cuts.n, c->n); i++)
			if (w.cuts.at[i] != c->end[i])
				fail_msg("%s: piece %zu ends at %zu, not at %u", c->name, i,
					 w.cuts.at[i], c->end[i]);
		assert_int_equal(w.cuts.n, c->n);
		pretok_close(&p);
	}
	pretok_work_free(&w);
}

static size_t count_cuts(const char *name, struct pretok_work *w)
{
	struct pretok p;
	struct err err;
	size_t sum = 0, i;

	if (pretok_open(name, strlen(name), &p, &err))
		fail_msg("%s", err.text);
	assert_int_equal(pretok_split(&p, w, pretok_text, sizeof(pretok_text) - 1, &err), 0);
	for (i = 0; i < w->cuts.n; i++)
		sum = sum * 31 + w->cuts.at[i];
	pretok_close(&p);
	return sum;
}

static void test_pretok_aliases(void **state)
{
	/* each name, and one whose cuts it shares */
	static const char *const c[][2] = {
		{"llama3", "llama-bpe"},
		{"llama-v3", "llama-bpe"},
		{"falcon3", "llama-bpe"},
		{"pixtral", "llama-bpe"},
		{"lfm2", "llama-bpe"},
		{"glm4", "llama-bpe"},
		{"chatglm-bpe", "llama-bpe"},
		{"smaug-bpe", "llama-bpe"},
		{"deepseek-r1-qwen", "qwen2"},
		{"stablelm2", "qwen2"},
		{"megrez", "qwen2"},
		{"hunyuan", "qwen2"},
		{"llama4", "gpt-4o"},
		{"kanana2", "gpt-4o"},
		{"phi-2", "gpt-2"},
		{"mpt", "gpt-2"},
		{"olmo", "gpt-2"},
		{"jais", "gpt-2"},
		{"starcoder", "smollm"},
		{"refact", "smollm"},
		{"command-r", "smollm"},
		{"codeshell", "smollm"},
		{"hunyuan-dense", "deepseek-v3"},
		{"bailingmoe2", "bailingmoe"},
		{"poro-chat", "bloom"},
	};
	struct pretok_work w;
	size_t i;

	assert_int_equal(pretok_work_init(&w), 0);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		if (count_cuts(c[i][0], &w) != count_cuts(c[i][1], &w))
			fail_msg("%s does not cut as %s does", c[i][0], c[i][1]);
	pretok_work_free(&w);
}

static void expect_cuts(const struct pretok *p, const char *text, const char *want)
{
	struct strbuf got = {0};
	struct pretok_work w;
	struct err err;
	size_t i;

	assert_int_equal(pretok_work_init(&w), 0);
	assert_int_equal(pretok_split(p, &w, text, strlen(text), &err), 0);
	assert_int_equal(strbuf_puts(&got, ""), 0);
	for (i = 0; i < w.cuts.n; i++)
		assert_int_equal(strbuf_printf(&got, "%zu ", w.cuts.at[i]), 0);
	assert_string_equal(got.p, want);
	strbuf_free(&got);
	pretok_work_free(&w);
}

static void test_pretok_bytes_that_are_no_text(void **state)
{
	struct pretok p;
	struct err err;

	assert_int_equal(pretok_open("gpt-2", 5, &p, &err), 0);
	expect_cuts(&p, "", "");
	expect_cuts(&p,
		    "ab\xff\xfe"
		    "cd",
		    "2 4 6 ");
	expect_cuts(&p, "\x80", "1 ");
	expect_cuts(&p, "a\xe4\xbd", "1 3 ");		   /* cut off */
	expect_cuts(&p, "\xc0\x80\xed\xa0\x80 x", "5 7 "); /* overlong, surrogate */
	expect_cuts(&p,
		    "\xf4\x90\x80\x80"
		    "a",
		    "4 5 "); /* above U+10FFFF */
	pretok_close(&p);
}

static void test_unknown_pre(void **state)
{
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	bpe_begin(&m, &t, pairs, 1);
	meta_tokens(&m, &t);
	meta_str(&m, "tokenizer.ggml.pre", "no-such-pre");
	refuse_vocab(&m, NULL, -EOPNOTSUPP, "'no-such-pre'");
	/* the sentence says what to do, and the file's name does not reach a terminal raw */
	bpe_begin(&m, &t, pairs, 1);
	meta_tokens(&m, &t);
	meta_str(&m, "tokenizer.ggml.pre", "\x1b[31mred");
	refuse_vocab(&m, NULL, -EOPNOTSUPP,
		     "'\\x1b[31mred' is not known; --pre NAME forces one of: default, llama-bpe, ");
	bpe_begin(&m, &t, pairs, 1);
	meta_tokens(&m, &t);
	meta_str(&m, "tokenizer.ggml.pre", "qwen2");
	refuse_vocab(&m, "mine", -EOPNOTSUPP, "'mine'");
	/* forcing one works, against what the file says */
	v = bpe_merging("no-such-pre", "llama-bpe");
	assert_string_equal(tokenizer_pre(v.t), "llama-bpe");
	expect(v.t, "xyz", 0, "xyz");
	close_vocab(&v);
	/* a file without the key is old: "default" */
	v = bpe_plain(NULL);
	assert_string_equal(tokenizer_pre(v.t), "default");
	close_vocab(&v);
	/* and has no meaning for SentencePiece */
	spm_begin(&m, &t);
	meta_tokens(&m, &t);
	refuse_vocab(&m, "gpt-2", -EINVAL, "SentencePiece");
}

/* ---- streaming ---- */

static void feed_str(struct text_stream *s, const char *token, struct strbuf *out)
{
	assert_int_equal(text_stream_feed(s, tokenizer_find(s->tok, token), out), 0);
}

static void test_stream_never_splits_a_character(void **state)
{
	struct open_vocab v = spm_hello(false);
	struct text_stream s = {.tok = v.t};
	struct strbuf out = {0};

	feed_str(&s, SPACE "hello", &out);
	assert_string_equal(out.p, "hello"); /* the first space is SentencePiece's own */
	feed_str(&s, "<0xE4>", &out);
	feed_str(&s, "<0xBD>", &out);
	assert_string_equal(out.p, "hello");
	feed_str(&s, "<0xA0>", &out);
	assert_string_equal(out.p, "hello\xe4\xbd\xa0");
	feed_str(&s, SPACE, &out);
	feed_str(&s, "<s>", &out); /* prints nothing */
	assert_string_equal(out.p, "hello\xe4\xbd\xa0 ");
	/* what can no longer become a character comes out as it is */
	out.len = 0;
	feed_str(&s, "<0xF0>", &out);
	feed_str(&s, "<0x9F>", &out);
	assert_int_equal(out.len, 0);
	feed_str(&s, "h", &out);
	assert_string_equal(out.p, "\xf0\x9fh");
	out.len = 0;
	feed_str(&s, "<0xC3>", &out);
	assert_int_equal(out.len, 0);
	assert_int_equal(text_stream_flush(&s, &out), 0);
	assert_string_equal(out.p, "\xc3");
	assert_int_equal(text_stream_flush(&s, &out), 0);
	assert_int_equal(out.len, 1);
	assert_int_equal(text_stream_feed(&s, -1, &out), -EINVAL);
	text_stream_free(&s);
	strbuf_free(&out);
	close_vocab(&v);
}

static void test_stream_goes_on_after_a_prompt(void **state)
{
	struct open_vocab v = spm_hello(false);
	struct text_stream s = {.tok = v.t, .started = true};
	struct strbuf out = {0};

	feed_str(&s, SPACE "hello", &out);
	assert_string_equal(out.p, " hello");
	text_stream_free(&s);
	strbuf_free(&out);
	close_vocab(&v);
}

static void test_stream_equals_whole_text(void **state)
{
	struct open_vocab v = bpe_plain("gpt-2");
	struct text_stream s = {.tok = v.t};
	struct strbuf out = {0};
	struct token_list l = {0};
	struct err err;
	size_t i, before;

	assert_int_equal(tokenize(v.t, pretok_text, sizeof(pretok_text) - 1, 0, &l, &err), 0);
	for (i = 0; i < l.n; i++) {
		before = out.len;
		assert_int_equal(text_stream_feed(&s, l.id[i], &out), 0);
		/* this text is UTF-8: no step begins inside a character */
		if (out.len > before)
			assert_true(((unsigned char)out.p[before] & 0xc0) != 0x80);
	}
	assert_int_equal(s.held.len, 0);
	assert_string_equal(out.p, pretok_text);
	text_stream_free(&s);
	token_list_free(&l);
	strbuf_free(&out);
	close_vocab(&v);
}

/* ---- hostile files ---- */

static void test_refuses_other_tokenizers(void **state)
{
	struct metadata m = {0};

	meta_str(&m, "general.architecture", "llama");
	refuse_vocab(&m, NULL, -EINVAL, "no tokenizer");
	meta_str(&m, "tokenizer.ggml.model", "bert");
	refuse_vocab(&m, NULL, -EOPNOTSUPP, "'bert'");
	meta_u32(&m, "tokenizer.ggml.model", 1);
	refuse_vocab(&m, NULL, -EINVAL, "tokenizer.ggml.model");
}

static void test_refuses_bad_tokens(void **state)
{
	static const float score[] = {0};
	struct metadata m = {0};

	meta_str(&m, "tokenizer.ggml.model", "llama");
	refuse_vocab(&m, NULL, -EINVAL, "no tokenizer.ggml.tokens");
	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", NULL, 0);
	refuse_vocab(&m, NULL, -EINVAL, "has 0 entries");
	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_array(&m, "tokenizer.ggml.tokens", GGUF_F32, 1);
	raw_bytes(&m.kv, score, sizeof(score));
	refuse_vocab(&m, NULL, -EINVAL, "tokenizer.ggml.tokens");
}

static void test_refuses_short_arrays(void **state)
{
	static const char *const text[] = {"a", "b"};
	static const float score[] = {0};
	static const int32_t type[] = {1};
	struct metadata m = {0};

	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 2);
	refuse_vocab(&m, NULL, -EINVAL, "no tokenizer.ggml.scores");
	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 2);
	meta_array(&m, "tokenizer.ggml.scores", GGUF_F32, 1);
	raw_bytes(&m.kv, score, sizeof(score));
	refuse_vocab(&m, NULL, -EINVAL, "has 1 entries for 2 tokens");
	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 2);
	meta_strs(&m, "tokenizer.ggml.scores", text, 2);
	refuse_vocab(&m, NULL, -EINVAL, "tokenizer.ggml.scores");
	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 2);
	meta_array(&m, "tokenizer.ggml.token_type", GGUF_I32, 1);
	raw_bytes(&m.kv, type, sizeof(type));
	refuse_vocab(&m, NULL, -EINVAL, "tokenizer.ggml.token_type has 1");
	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 2);
	meta_strs(&m, "tokenizer.ggml.token_type", text, 2);
	refuse_vocab(&m, NULL, -EINVAL, "tokenizer.ggml.token_type");
}

static void test_refuses_bad_ids(void **state)
{
	static const char *const keys[] = {"bos", "eos", "eot", "eom", "unknown"};
	static const char *const pairs[] = {"a b"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;
	char key[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		memset(&t, 0, sizeof(t));
		meta_str(&m, "tokenizer.ggml.model", "gpt2");
		add_gpt2_bytes(&t);
		add_merges(&t, pairs, 1);
		meta_tokens(&m, &t);
		meta_strs(&m, "tokenizer.ggml.merges", pairs, 1);
		snprintf(key, sizeof(key), "tokenizer.ggml.%s_token_id", keys[i]);
		meta_u32(&m, key, 257);
		snprintf(key, sizeof(key), "%s_token_id is 257", keys[i]);
		refuse_vocab(&m, NULL, -EINVAL, key);
	}
	/* -1, in whatever width, means none */
	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_tokens(&m, &t);
	meta_strs(&m, "tokenizer.ggml.merges", pairs, 1);
	meta_u32(&m, "tokenizer.ggml.bos_token_id", UINT32_MAX);
	meta_key(&m, "tokenizer.ggml.eos_token_id", GGUF_I32);
	raw_u32(&m.kv, UINT32_MAX);
	v = open_vocab(&m, NULL);
	assert_int_equal(tokenizer_bos(v.t), -1);
	assert_int_equal(tokenizer_eos(v.t), -1);
	close_vocab(&v);
}

static void test_refuses_bad_merges(void **state)
{
	static const struct {
		const char *merge, *part;
	} c[] = {
		{"a ?", "'?' is no token"},
		{"? a", "'?' is no token"},
		{"a a", "'aa' is no token"},
		{"ab", "no pair"},
		{"", "no pair"},
		{" a", "no pair"},
		{"a ", "'' is no token"},
		{"\n b", "'\\x0a' is no token"},
	};
	static const char *const text[] = {"a", "b", "ab"};
	const char *merges[2] = {"a b"};
	struct metadata m = {0};
	size_t i;

	meta_str(&m, "tokenizer.ggml.model", "gpt2");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 3);
	refuse_vocab(&m, NULL, -EINVAL, "no tokenizer.ggml.merges");
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		meta_str(&m, "tokenizer.ggml.model", "gpt2");
		meta_strs(&m, "tokenizer.ggml.tokens", text, 3);
		merges[1] = c[i].merge;
		meta_strs(&m, "tokenizer.ggml.merges", merges, 2);
		refuse_vocab(&m, NULL, -EINVAL, c[i].part);
	}
}

static void test_odd_but_harmless_files(void **state)
{
	static const char *const text[] = {"a", "", "a", "b", "<0xZZ>", ""};
	static const float score[] = {0, 0.0f / 0.0f, 1.0f / 0.0f, -1.0f / 0.0f, 0, 0};
	static const int32_t type[] = {1, 4, 1, 1, 6, 3};
	struct metadata m = {0};
	struct open_vocab v;

	/* empty and repeated tokens, byte tokens that name no byte, scores that are no numbers */
	meta_str(&m, "tokenizer.ggml.model", "llama");
	meta_strs(&m, "tokenizer.ggml.tokens", text, 6);
	meta_array(&m, "tokenizer.ggml.scores", GGUF_F32, 6);
	raw_bytes(&m.kv, score, sizeof(score));
	meta_array(&m, "tokenizer.ggml.token_type", GGUF_I32, 6);
	raw_bytes(&m.kv, type, sizeof(type));
	meta_bool(&m, "tokenizer.ggml.add_space_prefix", false);
	v = open_vocab(&m, NULL);
	assert_int_equal(tokenizer_find(v.t, "a"), 0);
	assert_int_equal(tokenizer_find(v.t, ""), -1);
	expect(v.t, "ab", TOKENIZE_SPECIAL, "a b");
	close_vocab(&v);
}

/* ---- long texts: none may cost more than about linear time ---- */

static char *repeat(const char *unit, size_t len, const char *end)
{
	char *p = malloc(len + strlen(end) + 1);
	size_t i;

	assert_non_null(p);
	for (i = 0; i < len; i++)
		p[i] = unit[i % strlen(unit)];
	strcpy(p + len, end);
	return p;
}

static const char *const long_units[] = {"a",	   " ",	 "\n", "7",    "!", "\xff",
					 "\u3042", "aA", "a ", "\t ",  "'", "\u0301",
					 " \n",	   "/",	 "Aa", "a\xff"};

static void test_long_texts_are_cut(void **state)
{
	struct pretok_work w;
	struct pretok p;
	struct err err;
	size_t i, k;
	char *text;

	assert_int_equal(pretok_work_init(&w), 0);
	alarm(100);
	for (k = 0; k < ARRAY_SIZE(pretok_vectors); k++) {
		const char *name = pretok_vectors[k].name;

		assert_int_equal(pretok_open(name, strlen(name), &p, &err), 0);
		for (i = 0; i < ARRAY_SIZE(long_units); i++) {
			text = repeat(long_units[i], 1 << 19, "x");
			assert_int_equal(pretok_split(&p, &w, text, (1 << 19) + 1, &err), 0);
			assert_true(w.cuts.n > 0);
			assert_int_equal(w.cuts.at[w.cuts.n - 1], (1 << 19) + 1);
			free(text);
		}
		pretok_close(&p);
	}
	alarm(0);
	pretok_work_free(&w);
}

static void tokenize_long_texts(const struct tokenizer *t)
{
	size_t i;
	char *p;

	alarm(100);
	for (i = 0; i < ARRAY_SIZE(long_units); i++) {
		p = repeat(long_units[i], 1 << 17, "x");
		expect_round_trip(t, p, (1 << 17) + 1);
		free(p);
	}
	alarm(0);
}

static void test_long_texts_spm(void **state)
{
	struct metadata m = {0};
	char run[33] = "";
	struct open_vocab v;
	struct tokens t;

	spm_begin(&m, &t);
	add_token(&t, SPACE, -1, 1);
	while (strlen(run) < 32) {
		strcat(run, "a");
		add_token(&t, run, -(float)strlen(run), 1);
	}
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	tokenize_long_texts(v.t);
	close_vocab(&v);
}

static void test_long_texts_bpe(void **state)
{
	static const char *const pairs[] = {"a a", "aa aa",	    "aaaa aaaa",	  "7 7",
					    "! !", "\u0120 \u0120", "\u0120\u0120 \u0120"};
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;

	bpe_begin(&m, &t, pairs, ARRAY_SIZE(pairs));
	meta_tokens(&m, &t);
	meta_str(&m, "tokenizer.ggml.pre", "llama-bpe");
	v = open_vocab(&m, NULL);
	tokenize_long_texts(v.t);
	close_vocab(&v);
}

static void test_a_megabyte_of_one_letter(void **state)
{
	struct open_vocab spm = spm_hello(false), bpe = bpe_merging("llama-bpe", NULL);
	char *p = repeat("d", 1 << 20, "");

	alarm(20);
	expect_round_trip(spm.t, p, 1 << 20);
	expect_round_trip(bpe.t, p, 1 << 20);
	alarm(0);
	free(p);
	close_vocab(&spm);
	close_vocab(&bpe);
}

static void test_many_special_tokens(void **state)
{
	struct metadata m = {0};
	struct open_vocab v;
	struct tokens t;
	char name[32], *p;
	int i;

	/* the text nearly begins one of them at every byte */
	spm_begin(&m, &t);
	add_token(&t, SPACE, -1, 1);
	for (i = 0; i < 700; i++) {
		snprintf(name, sizeof(name), "<<<<<<<<<<<<|%d|>", i);
		add_token(&t, name, 0, 4);
	}
	meta_tokens(&m, &t);
	v = open_vocab(&m, NULL);
	p = repeat("<", 1 << 18, "|699|>");
	alarm(60);
	expect_round_trip(v.t, p, strlen(p));
	alarm(0);
	free(p);
	close_vocab(&v);
}

/* ---- threads ---- */

static void *tokenize_often(void *arg)
{
	const struct tokenizer *t = arg;
	struct token_list l = {0};
	struct err err;
	int i, r = 0;

	for (i = 0; i < 50 && !r; i++)
		r = tokenize(t, pretok_text, sizeof(pretok_text) - 1, 0, &l, &err);
	r = r || l.n % 50;
	token_list_free(&l);
	return r ? arg : NULL;
}

static void test_threads_share_a_tokenizer(void **state)
{
	struct open_vocab v = bpe_plain("llama-bpe");
	pthread_t thread[4];
	void *failed;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, tokenize_often, v.t), 0);
	for (i = 0; i < ARRAY_SIZE(thread); i++) {
		assert_int_equal(pthread_join(thread[i], &failed), 0);
		assert_null(failed);
	}
	close_vocab(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spm_merges_by_score),
		cmocka_unit_test(test_spm_equal_scores_merge_leftmost),
		cmocka_unit_test(test_spm_token_over_two_words),
		cmocka_unit_test(test_spm_space_prefix),
		cmocka_unit_test(test_spm_without_space_prefix),
		cmocka_unit_test(test_spm_removes_extra_spaces),
		cmocka_unit_test(test_spm_byte_fallback),
		cmocka_unit_test(test_spm_without_byte_tokens),
		cmocka_unit_test(test_spm_text_never_makes_control_tokens),
		cmocka_unit_test(test_special_tokens),
		cmocka_unit_test(test_special_tokens_print_only_if_asked),
		cmocka_unit_test(test_bos_by_kind_and_pre),
		cmocka_unit_test(test_bos_and_eos_by_the_file),
		cmocka_unit_test(test_no_bos_without_an_id),
		cmocka_unit_test(test_end_of_generation),
		cmocka_unit_test(test_end_of_generation_by_type),
		cmocka_unit_test(test_bpe_merges_by_rank),
		cmocka_unit_test(test_bpe_whole_words),
		cmocka_unit_test(test_bpe_every_byte_survives),
		cmocka_unit_test(test_bpe_raw_utf8),
		cmocka_unit_test(test_bpe_byte_without_token),
		cmocka_unit_test(test_pretok_vectors),
		cmocka_unit_test(test_pretok_aliases),
		cmocka_unit_test(test_pretok_bytes_that_are_no_text),
		cmocka_unit_test(test_unknown_pre),
		cmocka_unit_test(test_stream_never_splits_a_character),
		cmocka_unit_test(test_stream_goes_on_after_a_prompt),
		cmocka_unit_test(test_stream_equals_whole_text),
		cmocka_unit_test(test_refuses_other_tokenizers),
		cmocka_unit_test(test_refuses_bad_tokens),
		cmocka_unit_test(test_refuses_short_arrays),
		cmocka_unit_test(test_refuses_bad_ids),
		cmocka_unit_test(test_refuses_bad_merges),
		cmocka_unit_test(test_odd_but_harmless_files),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_long_texts_spm),
		cmocka_unit_test(test_long_texts_bpe),
		cmocka_unit_test(test_a_megabyte_of_one_letter),
		cmocka_unit_test(test_many_special_tokens),
		cmocka_unit_test(test_threads_share_a_tokenizer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
