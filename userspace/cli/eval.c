// SPDX-License-Identifier: MIT
/* weir eval: logits of every position, raw little-endian float32 [n_tokens][n_vocab]. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

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

/*
 * Where logits go. A regular file appears whole or not at all: a temporary name beside it takes
 * its place at the end. Whatever else has the name (a pipe, a device, an open descriptor) stays
 * and is written to.
 */
struct output {
	FILE *f;
	char *path; /* links resolved; NULL: written to as it is */
	char tmp[PATH_MAX];
	bool created; /* an empty file, where a link led to none */
};

static bool is_descriptor(const char *path)
{
	return !strncmp(path, "/dev/fd/", 8) || !strncmp(path, "/dev/std", 8) ||
	       !strncmp(path, "/proc/", 6);
}

/* A link to nowhere keeps its place too: what it leads to is made, to learn its name. */
static int resolve(struct output *o, const char *path, struct err *err)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode) && stat(path, &st) && errno == ENOENT) {
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

		if (fd < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		close(fd);
		o->created = true;
	}
	if (is_descriptor(path) || (!stat(path, &st) && !S_ISREG(st.st_mode)))
		return 0;
	o->path = realpath(path, NULL);
	if (!o->path && errno == ENOENT)
		o->path = strdup(path);
	return o->path ? 0 : err_set(err, -errno, "%s: %s", path, strerror(errno));
}

static int output_open(struct output *o, const char *path, struct err *err)
{
	const char *name = path;
	int r;

	if (!strcmp(path, "-") || !strcmp(path, "/dev/stdout")) {
		o->f = stdout;
		return 0;
	}
	r = resolve(o, path, err);
	if (r)
		return r;
	if (o->path) {
		if ((size_t)snprintf(o->tmp, sizeof(o->tmp), "%s.tmp%d", o->path, getpid()) >=
		    sizeof(o->tmp))
			return err_set(err, -ENAMETOOLONG, "%s: the name is too long", path);
		name = o->tmp;
	}
	o->f = fopen(name, "wbe");
	return o->f ? 0 : err_set(err, -errno, "%s: %s", name, strerror(errno));
}

/* @r: what went before; a failure leaves the name as it was */
static int output_close(struct output *o, const char *path, int r, struct err *err)
{
	if (o->f && (o->f == stdout ? fflush(o->f) : fclose(o->f)) && !r)
		r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (o->path && o->f && !r && rename(o->tmp, o->path))
		r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (o->path && o->f && r)
		unlink(o->tmp);
	if (o->path && o->created && r)
		unlink(o->path);
	free(o->path);
	return r;
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
