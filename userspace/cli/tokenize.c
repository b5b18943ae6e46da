// SPDX-License-Identifier: MIT
/* weir tokenize: pieces and ids of a text, or the text of ids. Works on a vocabulary alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

struct tokenize_args {
	struct common c;
	const char *text, *file, *decode;
	bool ids_only, no_bos, no_special;
};

enum { OPT_IDS = OPT_OWN, OPT_NO_BOS, OPT_DECODE, OPT_NO_SPECIAL };

static const struct argp_option options[] = {
	{NULL, 'p', "TEXT", 0, "Text to tokenize", 0},
	{NULL, 'f', "FILE", 0, "Read the text from a file; '-' is stdin", 0},
	{"ids", OPT_IDS, NULL, 0, "Ids alone, on one line", 0},
	{"no-bos", OPT_NO_BOS, NULL, 0, "Add no BOS or EOS token", 0},
	{"no-special", OPT_NO_SPECIAL, NULL, 0, "Take <|...|> and the like as plain text", 0},
	{"decode", OPT_DECODE, "IDS", 0, "The text of the ids 1,2,3", 0},
	{"pre", OPT_PRE, "NAME", 0, "Pre-tokenizer to use instead of the one that the file names",
	 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct tokenize_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case 'p':
		a->text = arg;
		return 0;
	case 'f':
		a->file = arg;
		return 0;
	case OPT_IDS:
		a->ids_only = true;
		return 0;
	case OPT_NO_BOS:
		a->no_bos = true;
		return 0;
	case OPT_NO_SPECIAL:
		a->no_special = true;
		return 0;
	case OPT_DECODE:
		a->decode = arg;
		return 0;
	case OPT_PRE:
		a->c.pre = arg;
		return 0;
	case ARGP_KEY_END:
		if (!!a->text + !!a->file + !!a->decode != 1)
			argp_error(st, "give one of -p TEXT, -f FILE and --decode IDS");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&model_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,  parse, "MODEL", "Turns text into tokens, or tokens into text.",
	children, NULL,	 NULL};

static int print_decoded(const struct tokenizer *t, const struct tokenize_args *a, struct err *err)
{
	struct token_list ids = {0};
	struct strbuf text = {0};
	int r = cli_parse_ids(a->decode, &ids, err);

	if (!r) {
		r = detokenize_all(t, ids.id, ids.n, true, &text);
		if (r)
			err_set(err, r, "%s: an id is not in the vocabulary of %u tokens",
				a->c.model, tokenizer_n_vocab(t));
	}
	if (!r && a->c.json) {
		r = cli_print_json(json_pack("{s:o}", "text", json_text(text.p, text.len)), err);
	} else if (!r) {
		fwrite(text.p, 1, text.len, stdout);
		putchar('\n');
	}
	strbuf_free(&text);
	token_list_free(&ids);
	return r;
}

static json_t *ids_json(const struct tokenizer *t, const struct token_list *ids)
{
	json_t *id = json_array(), *piece = json_array();
	int r = 0;

	for (size_t i = 0; i < ids->n; i++) {
		const struct gguf_str *raw = tokenizer_raw(t, ids->id[i]);

		r |= json_array_append_new(id, json_integer(ids->id[i]));
		r |= json_array_append_new(piece, json_text(raw->p, raw->len));
	}
	if (!r)
		return json_pack("{s:o, s:o}", "ids", id, "pieces", piece);
	json_decref(id);
	json_decref(piece);
	return NULL;
}

static int print_ids(const struct tokenizer *t, const struct tokenize_args *a,
		     const struct token_list *ids, struct err *err)
{
	if (a->c.json)
		return cli_print_json(ids_json(t, ids), err);
	for (size_t i = 0; i < ids->n; i++) {
		const struct gguf_str *raw = tokenizer_raw(t, ids->id[i]);

		if (a->ids_only) {
			printf("%s%d", i ? " " : "", ids->id[i]);
			continue;
		}
		printf("%8d  ", ids->id[i]);
		print_clean(raw->p, raw->len);
		putchar('\n');
	}
	if (a->ids_only)
		putchar('\n');
	return 0;
}

static int print_encoded(const struct tokenizer *t, const struct tokenize_args *a, struct err *err)
{
	unsigned int flags =
		(a->no_bos ? 0 : TOKENIZE_BOS) | (a->no_special ? 0 : TOKENIZE_SPECIAL);
	struct token_list ids = {0};
	struct strbuf text = {0};
	int r = a->file ? cli_read_file(a->file, &text, err) : strbuf_puts(&text, a->text);

	if (!r)
		r = tokenize(t, text.p ? text.p : "", text.len, flags, &ids, err);
	if (!r)
		r = print_ids(t, a, &ids, err);
	token_list_free(&ids);
	strbuf_free(&text);
	return r;
}

int cmd_tokenize(int argc, char **argv)
{
	struct tokenize_args a = {.c = common_defaults()};
	struct tokenizer *t = NULL;
	struct gguf *g = NULL;
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	r = gguf_open(a.c.model, &g, &err);
	if (!r)
		r = tokenizer_open(g, a.c.pre, &t, &err);
	if (!r)
		r = a.decode ? print_decoded(t, &a, &err) : print_encoded(t, &a, &err);
	if (r)
		r = cli_fail(r, &err);
	tokenizer_close(t);
	gguf_close(g);
	return r;
}
