// SPDX-License-Identifier: MIT
/* weir run: completes a prompt, streaming text to stdout. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

struct run_args {
	struct common c;
	const char *prompt, *file;
};

static const struct argp_option options[] = {
	{NULL, 'p', "TEXT", 0, "The prompt", 0},
	{NULL, 'f', "FILE", 0, "Read the prompt from a file; '-' is stdin", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct run_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case 'p':
		a->prompt = arg;
		return 0;
	case 'f':
		a->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (a->prompt && a->file)
			argp_error(st, "-p TEXT and -f FILE exclude each other");
		if (!a->prompt && !a->file)
			argp_error(st, "a prompt is missing: give -p TEXT or -f FILE");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,  parse,
	"MODEL",  "Completes a prompt. The text appears on stdout as it is generated.",
	children, NULL,
	NULL};

/* Writes what is in @text and empties it. */
static int emit(struct strbuf *text, struct err *err)
{
	size_t n = text->len ? fwrite(text->p, 1, text->len, stdout) : 0;

	if (n != text->len || fflush(stdout))
		return err_set(err, -errno, "cannot write to stdout: %s", strerror(errno));
	text->len = 0;
	return 0;
}

static int generate(struct generator *g, const struct run_args *a, struct strbuf *all,
		    struct err *err)
{
	struct strbuf text = {0};
	int r = 1;

	for (uint32_t i = 0; r > 0 && i < a->c.n_predict; i++) {
		if (cli_cancel) {
			r = err_set(err, -EINTR, "interrupted");
			break;
		}
		r = generator_step(g, i + 1 == a->c.n_predict, &text, err);
		if (a->c.json && strbuf_add(all, text.p, text.len))
			r = err_set(err, -ENOMEM, "out of memory for text");
		if (!a->c.json && r >= 0) {
			int w = emit(&text, err);

			r = w ? w : r;
		}
		text.len = 0;
	}
	if (!a->c.json)
		putchar('\n');
	fflush(stdout);
	strbuf_free(&text);
	return r < 0 ? r : 0;
}

static int print_json(const struct generator *g, const struct strbuf *prompt,
		      const struct strbuf *text, const struct machine *m, struct err *err)
{
	double prompt_s = (double)g->prompt_ns * 1e-9, decode_s = (double)g->decode_ns * 1e-9;
	struct prediction p;
	json_t *o;

	o = json_pack(
		"{s:o, s:o, s:I, s:I, s:o, s:f, s:I, s:f, s:f, s:I, s:I}", "prompt",
		json_text(prompt->p, prompt->len), "text", json_text(text->p, text->len),
		"prompt_tokens", (json_int_t)g->n_prompt, "decoded_tokens", (json_int_t)g->n_decode,
		"prompt_tok_s", json_number((double)g->n_prompt / prompt_s), "decode_tok_s",
		decode_s > 0 ? (double)g->n_decode / decode_s : 0.0, "flash_read_bytes",
		(json_int_t)g->decode_read_bytes, "flash_gb_s",
		decode_s > 0 ? (double)g->decode_read_bytes / decode_s * 1e-9 : 0.0, "stall_share",
		decode_s > 0 ? (double)g->decode_wait_ns / (double)g->decode_ns : 0.0,
		"pinned_bytes", (json_int_t)g->s->plan->pinned_bytes, "peak_rss_bytes",
		(json_int_t)peak_rss());
	if (m) {
		session_predict(g->s, m, &p);
		json_object_set_new(o, "limit_tok_s", json_number(p.tok_s));
		json_object_set_new(o, "bound", json_string(bound_name(p.bound)));
	}
	return cli_print_json(o, err);
}

int cmd_run(int argc, char **argv)
{
	struct run_args a = {.c = common_defaults()};
	struct strbuf prompt = {0}, all = {0};
	struct session_params sp;
	struct session *s = NULL;
	struct generator g = {0};
	struct machine machine, *m = NULL;
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	r = a.file ? cli_read_file(a.file, &prompt, &err) : strbuf_puts(&prompt, a.prompt);
	if (r)
		goto out;
	/* a machine that cannot be measured runs all the same */
	if (!a.c.quiet || a.c.json) {
		if (!cli_machine(&machine, a.c.model, a.c.quiet, &err))
			m = &machine;
		else if (!a.c.quiet)
			fprintf(stderr,
				"weir: %s; the limit stays unknown (see weir probe --dir)\n",
				err.text);
	}
	common_session(&a.c, &sp);
	r = session_open(&sp, &s, &err);
	if (!r)
		r = generator_open(&g, s, &a.c.sampling, &err);
	if (r)
		goto out;
	r = generator_prompt_text(&g, prompt.p, prompt.len, NULL, &err);
	if (r)
		goto out;
	if (!a.c.json)
		r = emit(&(struct strbuf){prompt.p, prompt.len, 0}, &err);
	if (!r)
		r = generate(&g, &a, &all, &err);
	if (!r && a.c.json)
		r = print_json(&g, &prompt, &all, m, &err);
	if (!a.c.quiet && (!r || r == -EINTR))
		cli_summary(&g, m);
out:
	if (r)
		r = cli_fail(r, &err);
	generator_close(&g);
	session_close(s);
	strbuf_free(&prompt);
	strbuf_free(&all);
	return r;
}
