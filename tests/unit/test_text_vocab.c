// SPDX-License-Identifier: MIT
/*
 * Tokenizers against published conformance sets, which are not part of this tree.
 *
 * WEIR_VOCAB_DIR lists the folders, divided by colons; without it, ../shared/data/vocab beside
 * the tree. A set is NAME.gguf (a vocabulary), NAME.gguf.inp (texts between lines of
 * __ggml_vocab_test__) and NAME.gguf.out (line N: the ids of text N, without BOS and with
 * special tokens taken as text). Each set is one test. One that lacks its vocabulary, or whose
 * kind of tokenizer weir does not have, is skipped with the reason.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "text/text.h"

#define MAX_SETS 64
#define DIVIDER	 "\n__ggml_vocab_test__\n"

struct set {
	char name[128];	 /* of the vocabulary, without a folder */
	char texts[512]; /* path of the .inp; the .out lies beside it */
	char vocab[512]; /* path of the .gguf, or empty */
};

static struct set sets[MAX_SETS];
static size_t n_sets;

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcmp(s + n - k, end);
}

static struct set *set_of(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < n_sets; i++)
		if (strlen(sets[i].name) == len && !strncmp(sets[i].name, name, len))
			return &sets[i];
	if (n_sets == MAX_SETS || len >= sizeof(sets[0].name))
		return NULL;
	memcpy(sets[n_sets].name, name, len);
	return &sets[n_sets++];
}

/* The first folder that has a file of a set gives it. */
static void look_into(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL) {
		const char *kind = ends_with(e->d_name, ".gguf") ? "" : ".inp";
		char *path;
		struct set *s;

		if (!ends_with(e->d_name, ".gguf") && !ends_with(e->d_name, ".gguf.inp"))
			continue;
		s = set_of(e->d_name, strlen(e->d_name) - strlen(kind));
		if (!s)
			continue;
		path = *kind ? s->texts : s->vocab;
		if (!*path)
			snprintf(path, sizeof(s->vocab), "%s/%s", dir, e->d_name);
	}
	if (d)
		closedir(d);
}

static void find_sets(void)
{
	const char *list = getenv("WEIR_VOCAB_DIR");
	char dir[400];

	if (!list)
		list = "../shared/data/vocab";
	while (*list) {
		size_t n = strcspn(list, ":");

		snprintf(dir, sizeof(dir), "%.*s", (int)n, list);
		look_into(dir);
		list += n + (list[n] == ':');
	}
}

static struct strbuf read_file(const char *path)
{
	struct strbuf b = {0};
	FILE *f = fopen(path, "rb");
	char part[4096];
	size_t n;

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		assert_int_equal(strbuf_add(&b, part, n), 0);
	fclose(f);
	assert_non_null(b.p);
	return b;
}

/* One text and its line of ids. */
static void check_text(const struct tokenizer *t, size_t number, const char *text, size_t len,
		       const char *ids)
{
	struct token_list l = {0};
	struct strbuf back = {0};
	struct err err = {""};
	char *end;
	size_t i;

	if (tokenize(t, text, len, 0, &l, &err))
		fail_msg("text %zu: %s", number, err.text);
	for (i = 0; i < l.n; i++, ids = end) {
		long want = strtol(ids, &end, 10);

		if (end == ids || want != l.id[i])
			fail_msg("text %zu: token %zu is %d, not %.12s", number, i, l.id[i], ids);
	}
	if (strspn(ids, " \r") != strlen(ids))
		fail_msg("text %zu: %s is missing at the end", number, ids);
	assert_int_equal(detokenize_all(t, l.id, l.n, false, &back), 0);
	if (back.len != len || (len && memcmp(back.p, text, len)))
		fail_msg("text %zu comes back as '%s'", number, back.p);
	token_list_free(&l);
	strbuf_free(&back);
}

static void check_set(const struct tokenizer *t, const struct set *s)
{
	struct strbuf texts = read_file(s->texts), ids;
	char path[sizeof(s->texts) + 8], *text, *line, *next, *rest;
	size_t n = 0;

	snprintf(path, sizeof(path), "%.*s.out", (int)strlen(s->texts) - 4, s->texts);
	ids = read_file(path);
	text = texts.p;
	rest = ids.p;
	while ((line = strsep(&rest, "\n")) != NULL && (rest || *line)) {
		assert_non_null(text); /* as many texts as lines */
		next = strstr(text, DIVIDER);
		check_text(t, n++, text, next ? (size_t)(next - text) : strlen(text), line);
		text = next ? next + strlen(DIVIDER) : NULL;
	}
	assert_true(n > 10);
	strbuf_free(&texts);
	strbuf_free(&ids);
}

/* What weir has no tokenizer for at all; an unknown pre-tokenizer is no such thing. */
static bool is_other_kind(const struct gguf *g)
{
	struct gguf_str model;

	return !gguf_string(g, "tokenizer.ggml.model", &model, NULL) &&
	       strcmp(model.p, "llama") != 0 && strcmp(model.p, "gpt2") != 0 &&
	       strcmp(model.p, "gemma4") != 0;
}

static void test_set(void **state)
{
	const struct set *s = *state;
	struct tokenizer *t = NULL;
	struct gguf *g = NULL;
	struct err err = {""};

	if (!*s->texts || !*s->vocab) {
		print_message("SKIP %s: there is no %s\n", s->name,
			      *s->texts ? "vocabulary" : ".inp with texts");
		skip();
	}
	if (gguf_open(s->vocab, &g, &err))
		fail_msg("%s", err.text);
	if (is_other_kind(g)) {
		assert_int_equal(tokenizer_open(g, NULL, &t, &err), -EOPNOTSUPP);
		gguf_close(g);
		print_message("SKIP %s: %s\n", s->name, err.text);
		skip();
	}
	if (tokenizer_open(g, NULL, &t, &err))
		fail_msg("%s", err.text);
	check_set(t, s);
	tokenizer_close(t);
	gguf_close(g);
}

static void test_no_sets(void **state)
{
	print_message("SKIP conformance sets: none in WEIR_VOCAB_DIR or ../shared/data/vocab\n");
	skip();
}

int main(void)
{
	struct CMUnitTest tests[MAX_SETS + 1] = {0};
	size_t i, n = 0;

	find_sets();
	for (i = 0; i < n_sets; i++) {
		/* a vocabulary without texts is there for something else */
		if (!*sets[i].texts)
			continue;
		tests[n].name = sets[i].name;
		tests[n].test_func = test_set;
		tests[n++].initial_state = &sets[i];
	}
	if (!n) {
		tests[n].name = "conformance sets";
		tests[n++].test_func = test_no_sets;
	}
	return _cmocka_run_group_tests("vocabularies", tests, n, NULL, NULL);
}
