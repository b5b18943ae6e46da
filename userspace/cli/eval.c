// SPDX-License-Identifier: MIT
/* weir eval: logits of every position, raw little-endian float32 [n_tokens][n_vocab]. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

struct eval_args {
	struct common c;
	const char *tokens, *logits;
};

enum { OPT_TOKENS = OPT_OWN, OPT_LOGITS };

static const struct argp_option options[] = {
	{"tokens", OPT_TOKENS, "IDS", 0, "Token ids: 1,2,3", 0},
	{"logits", OPT_LOGITS, "OUT", 0, "File to write; '-' is stdout", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct eval_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case OPT_TOKENS:
		a->tokens = arg;
		return 0;
	case OPT_LOGITS:
		a->logits = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->tokens || !a->logits)
			argp_error(st, "--tokens and --logits are needed");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,
	parse,
	"MODEL",
	"Writes the logits of every position as raw little-endian float32 [n_tokens][n_vocab].",
	children,
	NULL,
	NULL};

static bool has_nan(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (isnan(x[i]))
			return true;
	return false;
}

/* @bad: positions with a logit that is not a number */
static int run_batches(struct session *s, const struct token_list *ids, FILE *f, size_t *bad,
		       struct err *err)
{
	size_t n_vocab = s->model->hp.n_vocab;

	for (size_t at = 0; at < ids->n;) {
		size_t n = MIN(ids->n - at, (size_t)s->fwd->p.max_tok);
		int r = session_feed(s, ids->id + at, n, err);

		if (r)
			return r;
		for (size_t i = 0; i < n; i++)
			*bad += has_nan(s->fwd->logits + i * n_vocab, n_vocab);
		if (fwrite(s->fwd->logits, n_vocab * sizeof(float), n, f) != n)
			return err_set(err, -errno, "cannot write logits: %s", strerror(errno));
		at += n;
	}
	return 0;
}

static int write_logits(struct session *s, const struct token_list *ids, const char *path,
			size_t *bad, struct err *err)
{
	struct output o = {0};
	int r = output_open(&o, path, err);

	if (!r)
		r = run_batches(s, ids, o.f, bad, err);
	return output_close(&o, path, r, err);
}

int cmd_eval(int argc, char **argv)
{
	struct eval_args a = {.c = common_defaults()};
	struct token_list ids = {0};
	struct session_params sp;
	struct session *s = NULL;
	size_t bad = 0;
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	r = cli_parse_ids(a.tokens, &ids, &err);
	if (r)
		goto out;
	common_session(&a.c, &sp);
	sp.all_logits = true;
	sp.need_text = false;
	if (!sp.n_ctx)
		sp.n_ctx = (uint32_t)ids.n;
	r = session_open(&sp, &s, &err);
	if (!r)
		r = write_logits(s, &ids, a.logits, &bad, &err);
	if (!r && bad && !a.c.quiet)
		fprintf(stderr,
			"weir: %zu of %zu positions have logits that are not numbers: the file may "
			"be damaged\n",
			bad, ids.n);
out:
	if (r)
		r = cli_fail(r, &err);
	session_close(s);
	token_list_free(&ids);
	return r;
}
