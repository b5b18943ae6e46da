// SPDX-License-Identifier: MIT
/*
 * weir perplexity: exp of the mean negative log-likelihood of a text's tokens.
 *
 * The text is cut into windows of the context length; each begins with BOS where the model
 * wants one, and the second half of a window counts, so that every counted token has at least
 * half a context before it. That is the field's usual measure, comparable across programs.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

struct ppl_args {
	struct common c;
	const char *file;
};

static const struct argp_option options[] = {
	{NULL, 'f', "FILE", 0, "The text; '-' is stdin", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct ppl_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case 'f':
		a->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->file)
			argp_error(st, "-f FILE is missing: give a text");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,  parse,
	"MODEL",  "Perplexity over a text, in windows of the context length (-c, 512).",
	children, NULL,
	NULL};

struct ppl {
	double sum, sum2; /* of -ln p, and of its square */
	uint64_t n;
};

/* -ln softmax(logits)[id] */
static double nll(const float *logits, uint32_t n, int32_t id)
{
	double max = (double)logits[0], sum = 0;

	for (uint32_t i = 1; i < n; i++)
		max = MAX(max, (double)logits[i]);
	for (uint32_t i = 0; i < n; i++)
		sum += exp((double)logits[i] - max);
	return max + log(sum) - (double)logits[id];
}

/* One window of s->n_ctx tokens; those from the middle on count. */
static int window(struct session *s, int32_t *id, struct ppl *p, struct err *err)
{
	uint32_t n = s->n_ctx, n_vocab = s->model->hp.n_vocab;

	session_rewind(s, 0);
	if (tokenizer_adds_bos(s->tok) && tokenizer_bos(s->tok) >= 0)
		id[0] = tokenizer_bos(s->tok);
	for (uint32_t at = 0; at < n;) {
		uint32_t batch = MIN(s->fwd->p.max_tok, n - at);
		int r = session_feed(s, id + at, batch, err);

		if (r)
			return r;
		for (uint32_t i = 0; i < batch; i++) {
			uint32_t next = at + i + 1;
			double x;

			if (next <= n / 2 || next >= n)
				continue;
			x = nll(s->fwd->logits + (size_t)i * n_vocab, n_vocab, id[next]);
			if (isnan(x))
				return err_set(err, -EINVAL,
					       "the model's output is not a number: the file may "
					       "be damaged");
			p->sum += x;
			p->sum2 += x * x;
			p->n++;
		}
		at += batch;
	}
	return 0;
}

static int report(const struct ppl *p, const struct common *c, bool done, struct err *err)
{
	double mean = p->sum / (double)p->n;
	double var =
		p->n > 1 ? MAX(p->sum2 / (double)p->n - mean * mean, 0.0) / (double)(p->n - 1) : 0;
	double ppl = exp(mean);

	if (!done)
		fprintf(stderr, "\rweir: perplexity %.4f after %llu tokens\033[K", ppl,
			(unsigned long long)p->n);
	else if (c->json)
		return cli_print_json(
			json_pack("{s:o, s:o, s:I, s:o}", "perplexity", json_number(ppl),
				  "standard_error", json_number(ppl * sqrt(var)), "counted_tokens",
				  (json_int_t)p->n, "nll_per_token", json_number(mean)),
			err);
	else
		printf("perplexity %.4f +/- %.4f over %llu tokens\n", ppl, ppl * sqrt(var),
		       (unsigned long long)p->n);
	return 0;
}

int cmd_perplexity(int argc, char **argv)
{
	struct ppl_args a = {.c = common_defaults()};
	struct token_list ids = {0};
	struct strbuf text = {0};
	struct session_params sp;
	struct session *s = NULL;
	struct ppl p = {0};
	bool live;
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	live = !a.c.quiet && isatty(STDERR_FILENO);
	r = cli_read_file(a.file, &text, &err);
	if (r)
		goto out;
	common_session(&a.c, &sp);
	sp.all_logits = true;
	if (!sp.n_ctx)
		sp.n_ctx = 512;
	r = session_open(&sp, &s, &err);
	if (!r)
		r = tokenize(s->tok, text.p ? text.p : "", text.len, TOKENIZE_BOS, &ids, &err);
	if (!r && ids.n < s->n_ctx)
		r = err_set(&err, -EINVAL,
			    "%s: %zu tokens are less than one window of %u: give more text, or a "
			    "smaller -c",
			    a.file, ids.n, s->n_ctx);
	for (size_t at = 0; !r && at + s->n_ctx <= ids.n; at += s->n_ctx) {
		r = window(s, ids.id + at, &p, &err);
		if (!r && live && p.n)
			report(&p, &a.c, false, &err);
	}
	if (live && p.n)
		fputs("\r\033[K", stderr);
	if (!r && !p.n)
		r = err_set(&err, -EINVAL, "a context of %u tokens counts none: use -c 4 or more",
			    s->n_ctx);
	if (!r)
		r = report(&p, &a.c, true, &err);
out:
	if (r)
		r = cli_fail(r, &err);
	session_close(s);
	token_list_free(&ids);
	strbuf_free(&text);
	return r;
}
