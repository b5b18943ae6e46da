// SPDX-License-Identifier: MIT
/*
 * weir bench: prompt and decode speed, beside what this machine's flash, DRAM and arithmetic
 * allow. The prompt is random tokens of a fixed seed; the first decoded token warms up and is
 * not counted. With --kernels, kernels.c measures arithmetic alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/kernels.h"
#include "cli/timeline.h"
#include "decode/kernel_speed.h"
#include "decode/threads.h"

struct bench_args {
	struct common c;
	uint32_t n_prompt;
	struct kernels_args k;
	bool kernels;
	bool dram;
	const char *timeline;
};

enum {
	OPT_TIMELINE = OPT_KERNELS_END,
	OPT_DRAM,
};

static const struct argp_option options[] = {
	{NULL, 'p', "N", 0, "Prompt tokens; 0 for none (128)", 0},
	{"timeline", OPT_TIMELINE, "FILE", 0,
	 "Write what was computed, waited for and read when: Chrome trace events", 0},
	{"dram", OPT_DRAM, NULL, 0,
	 "Read DRAM plainly, in turns with the tokens, and compare; the model must fit in DRAM", 0},
	{"kernels", OPT_KERNELS, NULL, 0,
	 "Measure every kernel beside DRAM; takes no MODEL, and of the options below -t, --json "
	 "and -q",
	 0},
	{"types", OPT_TYPES, "LIST", 0, "With --kernels: of these types: Q4_0,Q6_K (all)", 0},
	{"layout", OPT_LAYOUT, "NAME", 0, "With --kernels: rows as in the file, or packed (file)",
	 0},
	{"size", OPT_SIZE, "SIZE", 0,
	 "With --kernels: memory to stream through (1G, more where caches are large)", 0},
	{"rounds", OPT_ROUNDS, "N", 0, "With --kernels: measurements to take the median of (5)", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct bench_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case 'p':
		a->n_prompt = (uint32_t)arg_uint(st, "-p", arg, 0, 1u << 20);
		return 0;
	case OPT_TIMELINE:
		a->timeline = arg;
		return 0;
	case OPT_DRAM:
		a->dram = true;
		return 0;
	case OPT_KERNELS:
		a->kernels = a->c.no_model = true;
		return 0;
	case ARGP_KEY_END:
		if (a->kernels && a->c.model)
			argp_error(st, "'%s': --kernels takes no MODEL", a->c.model);
		if (a->c.json && a->timeline && !strcmp(a->timeline, "-"))
			argp_error(st, "--timeline: '-' and --json both write to stdout");
		if (a->kernels && a->timeline)
			argp_error(st, "--timeline: not with --kernels");
		if (a->kernels && a->dram)
			argp_error(st,
				   "--dram: not with --kernels, which always reads DRAM beside");
		if (!a->kernels && a->k.used)
			argp_error(st, "%s: only with --kernels", a->k.used);
		return 0;
	default:
		return kernels_option(key, arg, st, &a->k);
	}
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,
	parse,
	"MODEL\n--kernels",
	"Measures prompt and decode speed: predicted, achieved, and the share "
	"of the machine's limit.",
	children,
	NULL,
	NULL};

static int prompt(struct generator *g, uint32_t n, struct err *err)
{
	uint32_t n_vocab = g->s->model->hp.n_vocab, x = 12345;
	int32_t *id;
	int r;

	/* without a prompt there still is a token to begin with; it is not reported */
	id = malloc((n ? n : 1) * sizeof(*id));
	if (!id)
		return err_set(err, -ENOMEM, "out of memory for a prompt of %u tokens", n);
	for (uint32_t i = 0; i < (n ? n : 1); i++) {
		x = x * 1664525u + 1013904223u;
		id[i] = (int32_t)((x >> 8) % n_vocab);
	}
	r = generator_prompt(g, id, n ? n : 1, err);
	free(id);
	return r;
}

/*
 * Plain reads of DRAM between the tokens, by the same threads: other programs, and a hypervisor
 * that moves this one from core to core, change what DRAM gives from one second to the next. So the
 * decode is compared with the mean of reads that alternate with its tokens: of their seconds a GB,
 * as tokens/s are one over the mean of the tokens' seconds.
 */
struct beside {
	struct speed_meter *meter; /* NULL: not asked for */
	double s_per_gb;	   /* their sum */
	uint32_t n;
};

static int beside_open(struct beside *b, const struct session *s, struct err *err)
{
	const struct speed_params p = {.team = s->team,
				       .n_threads = s->team->n_threads,
				       .rounds = 1,
				       .cancel = &cli_cancel};
	int r;

	if (s->plan->stream_bytes)
		return err_set(
			err, -EINVAL,
			"--dram: not all weights fit in DRAM; leave it out, or raise --budget");
	r = speed_meter_open(&p, &b->meter, err);
	if (!r)
		warn_of_caches(speed_setup(b->meter), "free memory for more of them");
	return r;
}

static int beside_read(struct beside *b, struct err *err)
{
	double gb_s;
	int r = b->meter ? speed_dram(b->meter, &gb_s, err) : 0;

	if (!r && b->meter) {
		b->s_per_gb += 1 / gb_s;
		b->n++;
	}
	return r;
}

/* @t: of the tokens that count, or NULL */
static int decode(struct generator *g, uint32_t n, struct beside *b, struct timeline *t,
		  struct err *err)
{
	struct strbuf text = {0};
	int r = 1;

	g->ignore_end = true;
	for (uint32_t i = 0; r > 0 && i < n + 1; i++) {
		r = i ? beside_read(b, err) : 0;
		if (r)
			break;
		r = generator_step(g, false, &text, err);
		text.len = 0;
		if (i == 0) {
			g->n_decode = g->decode_ns = g->decode_wait_ns = g->decode_read_bytes = 0;
			if (t)
				t->on = true;
		}
	}
	if (t)
		t->on = false;
	strbuf_free(&text);
	return r < 0 ? r : 0;
}

struct result {
	double first_token_s, prompt_tok_s, decode_tok_s, seconds, flash_gb_s, stall;
	double dram_gb_s, dram_share; /* of plain reads beside; 0 where there were none */
	struct prediction predicted, limit;
	struct source_stats io;
};

/*
 * What a decoded token reads of DRAM, in bytes: all weights, and keys and values half-way through,
 * of which a window shows the last.
 */
static double token_bytes(const struct generator *g)
{
	const struct session *s = g->s;
	const uint32_t window = s->model->hp.window;
	double per_pos = (double)s->kv_bytes / (double)align_up(s->n_ctx, KV_ROUND);
	double seen = s->n_past - (double)g->n_decode / 2;

	if (window && seen > window)
		seen = window;
	return (double)s->plan->sweep_bytes + per_pos * seen;
}

static void evaluate(const struct generator *g, const struct bench_args *a, const struct beside *b,
		     struct result *r)
{
	r->seconds = (double)g->decode_ns * 1e-9;
	r->decode_tok_s = g->n_decode ? (double)g->n_decode / r->seconds : 0;
	r->first_token_s = (double)(g->s->load_ns + g->prompt_ns) * 1e-9;
	r->prompt_tok_s = a->n_prompt ? a->n_prompt / ((double)g->prompt_ns * 1e-9) : 0;
	r->flash_gb_s = r->seconds > 0 ? (double)g->decode_read_bytes / r->seconds * 1e-9 : 0;
	r->dram_gb_s = b->n ? b->n / b->s_per_gb : 0;
	r->dram_share = b->n ? r->decode_tok_s * token_bytes(g) * 1e-9 / r->dram_gb_s : 0;
	r->stall = g->decode_ns ? (double)g->decode_wait_ns / (double)g->decode_ns : 0;
	g->s->src->ops->stats(g->s->src, &r->io);
}

static int print_json(const struct generator *g, const struct result *r, const struct machine *m,
		      struct err *err)
{
	const struct session *s = g->s;

	json_t *o = json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, "
		"s:I, s:o, s:o, "
		"s:I, s:I, s:I, s:f, s:f, s:o, s:o}",
		"source", s->src->ops->name, "prompt_tok_s", json_number(r->prompt_tok_s),
		"decode_tok_s", json_number(r->decode_tok_s), "predicted_tok_s",
		json_number(r->predicted.tok_s), "limit_tok_s", json_number(r->limit.tok_s),
		"limit_share", json_number(r->decode_tok_s / r->limit.tok_s), "bound",
		bound_name(r->limit.bound), "flash_read_bytes", (json_int_t)g->decode_read_bytes,
		"flash_gb_s", json_number(r->flash_gb_s), "stall_share", json_number(r->stall),
		"pinned_bytes", (json_int_t)s->plan->pinned_bytes, "pool_bytes",
		(json_int_t)s->plan->pool_bytes, "sweep_bytes", (json_int_t)s->plan->sweep_bytes,
		"stream_bytes", (json_int_t)s->plan->stream_bytes, "peak_rss_bytes",
		(json_int_t)peak_rss(), "alpha", s->plan->alpha, "decoded_tokens",
		(json_int_t)g->n_decode, "machine_flash_gb_s", json_number(m->flash_gb_s),
		"machine_dram_gb_s", json_number(m->dram_gb_s), "kv_bytes", (json_int_t)s->kv_bytes,
		"buffer_bytes", (json_int_t)s->buffer_bytes, "read_depth", (json_int_t)r->io.depth,
		"load_s", (double)s->load_ns * 1e-9, "first_token_s", r->first_token_s, "dram_gb_s",
		r->dram_gb_s > 0 ? json_number(r->dram_gb_s) : json_null(), "dram_share",
		r->dram_gb_s > 0 ? json_number(r->dram_share) : json_null());

	return cli_print_json(o, err);
}

static void print_text(const struct generator *g, const struct bench_args *a,
		       const struct result *r, const struct machine *m)
{
	const struct session *s = g->s;
	char x[32], y[32];

	printf("model      %s, %s read per token\n", a->c.model,
	       format_bytes(s->plan->sweep_bytes, x));
	printf("machine    DRAM %.1f GB/s, flash %.2f GB/s\n", m->dram_gb_s, m->flash_gb_s);
	printf("weights    %s pinned, %s streamed per token (alpha %.3f), source %s\n",
	       format_bytes(s->plan->pinned_bytes, x), format_bytes(s->plan->stream_bytes, y),
	       s->plan->alpha, s->src->ops->name);
	printf("load       %.2f s; first token after %.2f s\n", (double)s->load_ns * 1e-9,
	       r->first_token_s);
	if (a->n_prompt)
		printf("prompt     %.2f tokens/s over %u tokens\n", r->prompt_tok_s, a->n_prompt);
	printf("decode     %.3f tokens/s over %llu tokens\n", r->decode_tok_s,
	       (unsigned long long)g->n_decode);
	printf("predicted  %.3f tokens/s\n", r->predicted.tok_s);
	printf("limit      %.3f tokens/s (%s); reached %.1f%%\n", r->limit.tok_s,
	       bound_name(r->limit.bound), 100 * r->decode_tok_s / r->limit.tok_s);
	if (r->dram_gb_s > 0)
		printf("DRAM       %.1f GB/s by plain reads in turns with the tokens; decode reads "
		       "%.1f%% of it\n",
		       r->dram_gb_s, 100 * r->dram_share);
	printf("flash      %.2f GB/s, stalled %.1f%%\n", r->flash_gb_s, 100 * r->stall);
	printf("memory     %s of weights, %s at peak\n", format_bytes(s->plan->pool_bytes, x),
	       format_bytes(peak_rss(), y));
}

int cmd_bench(int argc, char **argv)
{
	struct bench_args a = {.c = common_defaults(), .n_prompt = 128, .k = kernels_defaults()};
	struct session_params sp;
	struct generator g = {0};
	struct session *s = NULL;
	struct result res = {0};
	struct beside beside = {0};
	struct machine m;
	struct timeline_file tf = {.path = NULL};
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	if (a.kernels)
		return bench_kernels(&a.k, &a.c);
	r = cli_machine(&m, a.c.model, a.c.quiet, &err);
	if (r)
		goto out;
	common_session(&a.c, &sp);
	sp.need_text = false;
	if (!sp.n_ctx)
		sp.n_ctx = a.n_prompt + a.c.n_predict + 2;
	r = timeline_file_open(&tf, a.timeline, &err);
	sp.timeline = tf.t;
	if (!r)
		r = session_open(&sp, &s, &err);
	if (!r)
		r = generator_open(&g, s, &a.c.sampling, &err);
	if (r)
		goto out;
	session_predict(s, &m, &res.predicted);
	if (a.dram)
		r = beside_open(&beside, s, &err);
	if (!r)
		r = prompt(&g, a.n_prompt, &err);
	if (!r)
		r = decode(&g, a.c.n_predict, &beside, tf.t, &err);
	if (r)
		goto out;
	session_predict(s, &m, &res.limit);
	evaluate(&g, &a, &beside, &res);
	if (a.c.json)
		r = print_json(&g, &res, &m, &err);
	else
		print_text(&g, &a, &res, &m);
out:
	r = timeline_file_close(&tf, s, a.c.quiet, r, &err);
	if (r)
		r = cli_fail(r, &err);
	speed_meter_close(beside.meter);
	generator_close(&g);
	session_close(s);
	return r;
}
