// SPDX-License-Identifier: MIT
/* What the subcommands share: options, messages, progress, the machine's figures. */
#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/cli.h"
#include "decode/flops.h"
#include "decode/threads.h"

/* ---- options ---- */

uint64_t arg_uint(const struct argp_state *st, const char *what, const char *s, uint64_t min,
		  uint64_t max)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v < min || v > max)
		argp_error(st, "%s: '%s' is not a whole number from %llu to %llu", what, s,
			   (unsigned long long)min, (unsigned long long)max);
	return v;
}

double arg_float(const struct argp_state *st, const char *what, const char *s, double min,
		 double max)
{
	char *end;
	double v;

	v = strtod(s, &end);
	if (end == s || *end || !(v >= min) || !(v <= max))
		argp_error(st, "%s: '%s' is not a number from %g to %g", what, s, min, max);
	return v;
}

const char *arg_budget(const struct argp_state *st, const char *s)
{
	struct err err;
	uint64_t bytes;

	if (parse_size(s, 1, &bytes, &err))
		argp_error(st, "--budget: %s", err.text);
	return s;
}

struct common common_defaults(void)
{
	struct common c = {.n_predict = 128, .kv_type = KV_AUTO, .sampling = SAMPLER_DEFAULTS};
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	c.sampling.seed = (uint64_t)ts.tv_nsec ^ (uint64_t)ts.tv_sec << 20;
	return c;
}

static const struct argp_option model_options[] = {
	{"json", OPT_JSON, NULL, 0, "Print one JSON object", 0},
	{0},
};

static const struct argp_option common_options[] = {
	{NULL, 'n', "N", 0, "Tokens to generate (128; in a chat 1024)", 1},
	{NULL, 'c', "N", 0, "Context length in tokens (the model's, capped by memory)", 1},
	{NULL, 't', "N", 0, "Threads (physical cores)", 1},
	{"budget", OPT_BUDGET, "SIZE", 0,
	 "DRAM for weights: 512M, 2G, 50% (all, if it fits; else what is free less a reserve)", 2},
	{"source", OPT_SOURCE, "NAME", 0, "Where weights come from: auto, kmod, uring, mmap (auto)",
	 2},
	{"device", OPT_DEVICE, "NAME", 0, "Where arithmetic runs: auto, cpu (auto)", 2},
	{"temp", OPT_TEMP, "X", 0, "Temperature; 0 is greedy (0.8)", 3},
	{"top-k", OPT_TOP_K, "N", 0, "Sample from the N best tokens; 0: from all (40)", 3},
	{"top-p", OPT_TOP_P, "X", 0, "Sample from the best tokens of this total probability (0.95)",
	 3},
	{"min-p", OPT_MIN_P, "X", 0,
	 "Drop tokens below this share of the best one's probability (0.05)", 3},
	{"repeat-penalty", OPT_REPEAT, "X", 0, "Divide logits of the last 64 tokens; 1: off (1.0)",
	 3},
	{"seed", OPT_SEED, "N", 0, "Seed of the random numbers (random)", 3},
	{"pre", OPT_PRE, "NAME", 0, "Pre-tokenizer to use instead of the one that the file names",
	 4},
	{"kv-type", OPT_KV_TYPE, "TYPE", 0,
	 "KV cache: f16, f32, q8_0 (f16; f32 where all weights are)", 4},
	{"batch", OPT_BATCH, "N", 0, "Prompt tokens in one pass at most (256)", 4},
	{"json", OPT_JSON, NULL, 0, "Print one JSON object", 5},
	{"quiet", 'q', NULL, 0, "No notes, progress or summary on stderr", 5},
	{0},
};

static error_t parse_model(int key, char *arg, struct argp_state *st)
{
	struct common *c = st->input;

	switch (key) {
	case OPT_JSON:
		c->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (c->model)
			argp_error(st, "one MODEL is enough: '%s' is one too many", arg);
		c->model = arg;
		return 0;
	case ARGP_KEY_END:
		if (!c->model && !c->no_model)
			argp_error(st, "MODEL is missing: give a GGUF file");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_sampling(int key, char *arg, struct argp_state *st)
{
	struct sampler_params *s = &((struct common *)st->input)->sampling;

	switch (key) {
	case OPT_TEMP:
		s->temp = (float)arg_float(st, "--temp", arg, 0, 1000);
		return 0;
	case OPT_TOP_K:
		s->top_k = (uint32_t)arg_uint(st, "--top-k", arg, 0, UINT32_MAX);
		return 0;
	case OPT_TOP_P:
		s->top_p = (float)arg_float(st, "--top-p", arg, 0, 1);
		return 0;
	case OPT_MIN_P:
		s->min_p = (float)arg_float(st, "--min-p", arg, 0, 1);
		return 0;
	case OPT_REPEAT:
		s->repeat_penalty = (float)arg_float(st, "--repeat-penalty", arg, 0.01, 100);
		return 0;
	case OPT_SEED:
		s->seed = arg_uint(st, "--seed", arg, 0, UINT64_MAX);
		return 0;
	default:
		return parse_model(key, arg, st);
	}
}

static uint32_t arg_kv_type(const struct argp_state *st, const char *name)
{
	if (!strcmp(name, "f16"))
		return WT_F16;
	if (!strcmp(name, "f32"))
		return WT_F32;
	if (strcmp(name, "q8_0"))
		argp_error(st, "--kv-type: '%s' is not known: use f16, f32 or q8_0", name);
	return WT_Q8_0;
}

static void check_device(const struct argp_state *st, const char *name)
{
	if (!strcmp(name, "cuda"))
		argp_error(st, "--device: this build has no CUDA device: use cpu");
	if (strcmp(name, "auto") && strcmp(name, "cpu"))
		argp_error(st, "--device: '%s' is not known: use auto or cpu", name);
}

static error_t parse_common(int key, char *arg, struct argp_state *st)
{
	struct common *c = st->input;

	switch (key) {
	case 'n':
		c->n_predict = (uint32_t)arg_uint(st, "-n", arg, 0, INT32_MAX);
		return 0;
	case 'c':
		c->n_ctx = (uint32_t)arg_uint(st, "-c", arg, 1, INT32_MAX);
		return 0;
	case 't':
		c->n_threads = (int)arg_uint(st, "-t", arg, 1, 1024);
		return 0;
	case 'q':
		c->quiet = true;
		return 0;
	case OPT_BUDGET:
		c->budget = arg_budget(st, arg);
		return 0;
	case OPT_SOURCE:
		if (!source_by_name(arg))
			argp_error(
				st,
				"--source: '%s' is not known here: use auto, kmod, uring or mmap",
				arg);
		c->source = arg;
		return 0;
	case OPT_DEVICE:
		check_device(st, arg);
		c->device = arg;
		return 0;
	case OPT_PRE:
		c->pre = arg;
		return 0;
	case OPT_KV_TYPE:
		c->kv_type = arg_kv_type(st, arg);
		return 0;
	case OPT_BATCH:
		c->n_batch = (uint32_t)arg_uint(st, "--batch", arg, 1, 1u << 16);
		return 0;
	default:
		return parse_sampling(key, arg, st);
	}
}

const struct argp common_argp = {common_options, parse_common, NULL, NULL, NULL, NULL, NULL};
const struct argp model_argp = {model_options, parse_model, NULL, NULL, NULL, NULL, NULL};

/* ---- messages ---- */

volatile int cli_cancel;

static void on_interrupt(int sig)
{
	(void)sig;
	cli_cancel = 1;
}

void cli_catch_interrupt(void)
{
	struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};

	sigaction(SIGINT, &sa, NULL);
}

static bool progress_shown;

void cli_progress(const char *doing, uint64_t done, uint64_t total)
{
	char a[32], b[32];

	fprintf(stderr, "\rweir: %s %s of %s\033[K", doing, format_bytes(done, a),
		format_bytes(total, b));
	progress_shown = done != total;
	if (!progress_shown)
		fputs("\r\033[K", stderr);
}

int cli_fail(int r, const struct err *err)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	if (r == -EINTR && cli_cancel) {
		fputs("weir: interrupted\n", stderr);
		return 130;
	}
	fprintf(stderr, "weir: %s\n", err->text[0] ? err->text : strerror(-r));
	return 1;
}

static void print_note(void *arg, const char *sentence)
{
	const struct common *c = arg;

	if (!c->quiet)
		fprintf(stderr, "weir: %s\n", sentence);
}

static void print_progress(void *arg, uint64_t done, uint64_t total)
{
	const struct common *c = arg;

	if (!c->quiet && isatty(STDERR_FILENO))
		cli_progress("pinning", done, total);
}

void common_session(const struct common *c, struct session_params *p)
{
	*p = (struct session_params){
		.path = c->model,
		.budget = c->budget,
		.source = c->source,
		.pre = c->pre,
		.n_ctx = c->n_ctx,
		.n_batch = c->n_batch,
		.n_threads = c->n_threads,
		.kv_type = c->kv_type,
		.need_text = true,
		.note = print_note,
		.progress = print_progress,
		.arg = (void *)c,
		.cancel = &cli_cancel,
	};
}

/* ---- the machine ---- */

uint64_t peak_rss(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && !kib && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %llu", &kib) != 1)
			kib = 0;
	if (f)
		fclose(f);
	return kib * 1024;
}

/* The measurement's own gigabyte is not the run's: starts VmHWM anew. */
static void reset_peak_rss(void)
{
	FILE *f = fopen("/proc/self/clear_refs", "we");

	if (!f)
		return;
	fputs("5", f);
	fclose(f);
}

/* Smaller files are over before their rate is known. */
#define PROBE_MODEL_MIN (256ull << 20)

/* Flash is measured where the model lies: by the model itself, or by a file beside it. */
static int measure(const char *model, struct probe *p, struct err *err)
{
	char *path = strdup(model ? model : ".");
	struct stat st;
	bool large;
	int r;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory for a measurement");
	large = model && !stat(model, &st) && (uint64_t)st.st_size >= PROBE_MODEL_MIN;
	r = probe_run(large ? model : NULL, model ? dirname(path) : ".", PROBE_MODEL_MIN,
		      physical_cores(), p, NULL, NULL, err);
	free(path);
	return r ? r : measure_flops(physical_cores(), &p->flops, err);
}

/* What was measured in DRAM (tmpfs) says nothing of any other file system. */
static bool is_flash(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) || (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC);
}

int cli_machine(struct machine *m, const char *model, bool quiet, struct err *err)
{
	struct probe p;
	int r = probe_load(&p, err);

	if (r) {
		if (!quiet)
			fputs("weir: measuring this machine once, about ten seconds; 'weir probe' "
			      "does it again\n",
			      stderr);
		r = measure(model, &p, err);
		reset_peak_rss();
		if (r)
			return r;
		/* a home that cannot be written to costs ten seconds every time, and no more */
		if (is_flash(model ? model : ".") && probe_save(&p, err) && !quiet)
			fprintf(stderr, "weir: %s\n", err->text);
	}
	*m = (struct machine){
		.name = "this machine",
		.dram_gb_s = p.dram_gb_s,
		.flash_gb_s = p.flash_gb_s,
		.flops = p.flops,
	};
	return 0;
}

void cli_summary(const struct generator *g, const struct machine *m)
{
	double seconds = (double)g->decode_ns * 1e-9;
	double tok_s = g->n_decode ? (double)g->n_decode / seconds : 0;
	struct prediction p;
	char tok[32], mem[32];

	if (!g->n_decode) {
		fputs("weir: too few tokens to measure a speed\n", stderr);
		return;
	}
	fprintf(stderr, "weir: %.2f tokens/s, ", tok_s);
	if (m) {
		session_predict(g->s, m, &p);
		fprintf(stderr, "%.0f%% of the limit of %.2f (%s), ", 100 * tok_s / p.tok_s,
			p.tok_s, bound_name(p.bound));
	}
	fprintf(stderr, "flash %.2f GB/s, %s a token from flash, stalled %.0f%%, peak memory %s\n",
		(double)g->decode_read_bytes / seconds * 1e-9,
		format_bytes(g->decode_read_bytes / g->n_decode, tok),
		100 * (double)g->decode_wait_ns / (double)g->decode_ns,
		format_bytes(peak_rss(), mem));
}

/* ---- small things ---- */

int cli_parse_ids(const char *s, struct token_list *out, struct err *err)
{
	const char *p = s;
	char *end;
	long v;

	while (*p) {
		errno = 0;
		v = strtol(p, &end, 10);
		if (end == p || errno || v < 0 || v > INT32_MAX)
			return err_set(err, -EINVAL, "token ids: '%.20s' is not one: write 1,2,3",
				       p);
		if (token_list_add(out, (int32_t)v))
			return err_set(err, -ENOMEM, "out of memory for token ids");
		p = end;
		while (*p == ',' || *p == ' ' || *p == '\n')
			p++;
	}
	if (out->n == 0)
		return err_set(err, -EINVAL, "token ids are missing: write 1,2,3");
	return 0;
}

int cli_read_file(const char *path, struct strbuf *out, struct err *err)
{
	bool is_stdin = !strcmp(path, "-");
	FILE *f = is_stdin ? stdin : fopen(path, "rbe");
	char buf[65536];
	size_t n;
	int r = 0;

	if (!f)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	while (!r && (n = fread(buf, 1, sizeof(buf), f)) > 0)
		r = strbuf_add(out, buf, n);
	if (r)
		err_set(err, r, "out of memory for %s", path);
	else if (ferror(f))
		r = err_set(err, -EIO, "%s: %s", path, strerror(errno));
	if (!is_stdin)
		fclose(f);
	return r;
}
