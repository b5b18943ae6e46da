// SPDX-License-Identifier: MIT
/*
 * The known pre-tokenizers, and running them on PCRE2.
 *
 * The expressions are those of the models' own tokenizer files, said in PCRE2's terms:
 * \s there is Unicode's White_Space, which PCRE2's \s is not quite (U+180E), so it is written
 * out. Where one backtracks over a run of characters again and again, it is put in a form
 * that matches the same and does not: no text may cost more than linear time.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pretok.h"

#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "text/utf8.h"
#include "text/vocab.h"

/* Members of a class; SPACE and NONSPACE are the classes. */
#define S                                                                                          \
	"\\t-\\r\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"      \
	"\\x{205F}\\x{3000}"
#define SPACE	 "[" S "]"
#define NONSPACE "[^" S "]"

/* English endings, as GPT-2 has them and without regard to case. */
#define ENDING	   "'(?:[sdmt]|ll|ve|re)"
#define ENDING_ANY "(?i:" ENDING ")"

/* The last alternatives of nearly all: spaces, all but the one that goes with a word. */
#define SPACES "|" SPACE "+(?!" NONSPACE ")|" SPACE "+"

#define GPT2 ENDING "| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+" SPACES

/* The family that began with OpenAI's cl100k; it varies in letters, digits and newlines. */
#define CL100K(letter, digits, not_symbol, after_symbol, newlines)                                 \
	"|[^\\r\\n\\p{L}\\p{N}]?+" letter "+|" digits "| ?[^" S not_symbol "]+" after_symbol       \
	"|" newlines SPACES
#define LN	 "\\p{L}\\p{N}"
#define NEWLINES SPACE "*[\\r\\n]+"

#define LLAMA3	ENDING_ANY CL100K("\\p{L}", "\\p{N}{1,3}", LN, "[\\r\\n]*", NEWLINES)
#define QWEN2	ENDING_ANY CL100K("\\p{L}", "\\p{N}", LN, "[\\r\\n]*", NEWLINES)
#define QWEN35	ENDING_ANY CL100K("[\\p{L}\\p{M}]", "\\p{N}", LN "\\p{M}", "[\\r\\n]*", NEWLINES)
#define BAILING ENDING_ANY CL100K("\\p{L}", "\\p{N}", LN, "[\\r\\n]*", SPACE "*[\\r\\n]")
#define SEED	ENDING_ANY CL100K("\\p{L}", "\\p{N}", LN, "", NEWLINES)

/* OpenAI's o200k: a word is capitals then small letters. */
#define CAPITAL "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL	"[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(ending, digits)                                                                      \
	"[^\\r\\n\\p{L}\\p{N}]?" CAPITAL "*" SMALL "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" CAPITAL    \
	"+" SMALL "*" ending "|" digits "| ?[^" S LN "]+[\\r\\n/]*|" NEWLINES SPACES

/* DeepSeek's. CJK_OLD is wider than its name: U+0800 to U+9FA5, symbols and wide spaces too. */
#define CJK_OLD "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define CJK_V3	"[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define DEEPSEEK_V3                                                                                \
	"[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                    \
	"| ?[\\p{P}\\p{S}]+[\\r\\n]*|" NEWLINES SPACES
/* Letters that have a case, as an older Unicode knew them. */
#define CASED                                                                                      \
	"A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"             \
	"\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"     \
	"\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"              \
	"\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                   \
	"\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"             \
	"\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"             \
	"\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}"    \
	"\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}"     \
	"\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"             \
	"\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"              \
	"\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"               \
	"\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"    \
	"\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"     \
	"\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"              \
	"\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"             \
	"\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"           \
	"\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"     \
	"\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

/* BLOOM's: a word is whatever lies between these. */
#define BLOOM " ?[^(" S "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

enum {
	ADD_BOS = 1, /* see the header */
	WHOLE_WORDS = 2,
	RAW = 4,
};

struct pretok_def {
	const char *names; /* divided by spaces; the first stands for all in messages */
	unsigned int flags;
	const char *re[PRETOK_MAX_RE + 1];
};

static const struct pretok_def defs[] = {
	{"default", 0, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9]{3}"}},
	{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
	 ADD_BOS | WHOLE_WORDS,
	 {LLAMA3}},
	{"glm4 glm5", WHOLE_WORDS, {LLAMA3}},
	{"chatglm-bpe dbrx smaug-bpe", 0, {LLAMA3}},
	{"qwen2 deepseek-r1-qwen stablelm2 megrez kormo f2llmv2 hunyuan solar-open grok-2",
	 0,
	 {QWEN2}},
	{"qwen35", 0, {QWEN35}},
	{"gpt-4o llama4 kanana2 talkie minimax-m2", 0, {O200K(ENDING_ANY "?", "\\p{N}{1,3}")}},
	{"tekken", ADD_BOS | WHOLE_WORDS, {O200K("", "\\p{N}")}},
	{"gpt-2 phi-2 mpt olmo jais gigachat a.x-4.0 mellum exaone4 trillion granite-docling",
	 0,
	 {GPT2}},
	{"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
	 0,
	 {"\\p{N}", GPT2}},
	{"deepseek-llm",
	 0,
	 {"[\\r\\n]", SPACE "?[" CASED "]+",
	  SPACE "?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}"
		"\\x{3000}-\\x{3002}]+",
	  /* \s+$, tried once for a run of spaces and not once for each of them */
	  "(?<!" SPACE ")" SPACE "++\\z", CJK_OLD, "\\p{N}"}},
	{"deepseek-coder", 0, {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", CJK_OLD, "\\p{N}"}},
	{"deepseek-v3 hunyuan-dense joyai-llm", 0, {"\\p{N}{1,3}", CJK_V3, DEEPSEEK_V3}},
	{"falcon", 0, {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9]{3}"}},
	{"bailingmoe bailingmoe2 llada-moe", 0, {BAILING}},
	{"seed-coder", 0, {SEED}},
	{"bloom poro-chat gpt3-finnish", 0, {BLOOM}},
	{"viking", 0, {BLOOM, "\\p{N}"}},
	{"gemma4", ADD_BOS | RAW, {"[^\\n]+|\\n+"}},
};

bool pretok_adds_bos(const struct pretok *p)
{
	return p->def->flags & ADD_BOS;
}

bool pretok_whole_words(const struct pretok *p)
{
	return p->def->flags & WHOLE_WORDS;
}

bool pretok_raw(const struct pretok *p)
{
	return p->def->flags & RAW;
}

/* Whether a word of @names, which spaces divide, is the len bytes at p. */
static bool has_name(const char *names, const char *p, size_t len)
{
	size_t n;

	for (; *names; names += n + (names[n] == ' ')) {
		n = strcspn(names, " ");
		if (n == len && !memcmp(names, p, n))
			return true;
	}
	return false;
}

static const struct pretok_def *find_def(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(defs); i++)
		if (has_name(defs[i].names, name, len))
			return &defs[i];
	return NULL;
}

static int unknown_name(const char *name, size_t len, struct err *err)
{
	struct strbuf known = {0};
	char quoted[64];
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(defs) && !r; i++)
		r = strbuf_printf(&known, "%s%.*s", i ? ", " : "", (int)strcspn(defs[i].names, " "),
				  defs[i].names);
	r = err_set(err, r ? r : -EOPNOTSUPP,
		    "pre-tokenizer '%s' is not known; --pre NAME forces one of: %s",
		    quote_str(name, len, quoted), r ? "" : known.p);
	strbuf_free(&known);
	return r;
}

static int compile_re(struct pretok *p, const char *re, struct err *err)
{
	PCRE2_UCHAR msg[128];
	PCRE2_SIZE at;
	pcre2_code *code;
	int e;

	code = pcre2_compile((PCRE2_SPTR)re, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &e, &at, NULL);
	if (!code) {
		pcre2_get_error_message(e, msg, sizeof(msg));
		return err_set(err, e == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EINVAL,
			       "pre-tokenizer '%s' does not compile at %zu: %s", p->name, at, msg);
	}
	/* Where the system allows no code to be made, PCRE2 interprets: the same pieces. */
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	p->re[p->n_re++] = code;
	return 0;
}

int pretok_open(const char *name, size_t len, struct pretok *p, struct err *err)
{
	unsigned int i;
	int r = 0;

	*p = (struct pretok){.def = find_def(name, len)};
	if (!p->def)
		return unknown_name(name, len, err);
	snprintf(p->name, sizeof(p->name), "%.*s", (int)len, name);
	p->match_context = pcre2_match_context_create(NULL);
	if (!p->match_context)
		return err_set(err, -ENOMEM, "no memory for pre-tokenizer '%s'", p->name);
	/* The default limit is meant for hostile expressions; these are linear on any text. */
	pcre2_set_match_limit(p->match_context, UINT32_MAX);
	for (i = 0; p->def->re[i] && !r; i++)
		r = compile_re(p, p->def->re[i], err);
	if (r)
		pretok_close(p);
	return r;
}

void pretok_close(struct pretok *p)
{
	while (p->n_re)
		pcre2_code_free(p->re[--p->n_re]);
	pcre2_match_context_free(p->match_context);
	p->match_context = NULL;
}

int pretok_work_init(struct pretok_work *w)
{
	*w = (struct pretok_work){.match_data = pcre2_match_data_create(1, NULL)};
	return w->match_data ? 0 : -ENOMEM;
}

void pretok_work_free(struct pretok_work *w)
{
	pcre2_match_data_free(w->match_data);
	free(w->cuts.at);
	free(w->more.at);
	*w = (struct pretok_work){0};
}

static int cuts_add(struct cuts *c, size_t at)
{
	if (c->n == c->cap) {
		size_t cap = MAX((size_t)256, c->cap * 2);
		size_t *p = reallocarray(c->at, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->at = p;
		c->cap = cap;
	}
	c->at[c->n++] = at;
	return 0;
}

/* Cuts the piece text[start .. end), which is UTF-8, into matches and what lies between. */
static int cut_piece(const struct pretok *p, const pcre2_code *re, struct pretok_work *w,
		     const char *text, size_t start, size_t end, struct cuts *out, struct err *err)
{
	PCRE2_SPTR subject = (PCRE2_SPTR)text + start;
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(w->match_data);
	size_t len = end - start, off = 0;
	int n, r = 0;

	while (off < len && !r) {
		n = pcre2_match(re, subject, len, off, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
				w->match_data, p->match_context);
		if (n == PCRE2_ERROR_NOMATCH)
			return cuts_add(out, end);
		if (n < 0)
			return err_set(err, n == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EINVAL,
				       "pre-tokenizer '%s' fails with PCRE2 error %d", p->name, n);
		if (at[0] > off)
			r = cuts_add(out, start + at[0]);
		if (!r)
			r = cuts_add(out, start + at[1]);
		off = at[1];
	}
	return r;
}

/* All expressions in turn on text[start .. end), which is UTF-8. Appends to w->cuts. */
static int cut_valid(const struct pretok *p, struct pretok_work *w, const char *text, size_t start,
		     size_t end, struct err *err)
{
	size_t first = w->cuts.n;
	size_t i, from;
	unsigned int k;
	int r = cuts_add(&w->cuts, end);

	for (k = 0; k < p->n_re && !r; k++) {
		w->more.n = 0;
		from = start;
		for (i = first; i < w->cuts.n && !r; i++) {
			r = cut_piece(p, p->re[k], w, text, from, w->cuts.at[i], &w->more, err);
			from = w->cuts.at[i];
		}
		w->cuts.n = first;
		for (i = 0; i < w->more.n && !r; i++)
			r = cuts_add(&w->cuts, w->more.at[i]);
	}
	return r;
}

/* End of the run of characters, or of bytes that are none, that begins at @off. */
static size_t run_end(const char *text, size_t off, size_t len, bool valid)
{
	size_t n;

	while (off < len) {
		n = utf8_len(text + off, len - off);
		if (!n == valid)
			break;
		off += n ? n : 1;
	}
	return off;
}

int pretok_split(const struct pretok *p, struct pretok_work *w, const char *text, size_t len,
		 struct err *err)
{
	bool valid = true;
	size_t off, end;
	int r = 0;

	w->cuts.n = 0;
	for (off = 0; off < len && !r; off = end, valid = !valid) {
		end = run_end(text, off, len, valid);
		if (end > off)
			r = valid ? cut_valid(p, w, text, off, end, err) : cuts_add(&w->cuts, end);
	}
	return r;
}
