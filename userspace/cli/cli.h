/* SPDX-License-Identifier: MIT */
/*
 * weir's subcommands: parse, call, print. Results go to stdout, everything else to stderr.
 *
 * Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Everything that decodes
 * shares the options of struct common (common_argp as an argp child).
 */
#ifndef WEIR_CLI_CLI_H
#define WEIR_CLI_CLI_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "decode/generate.h"
#include "stream/stream.h"

struct command {
	const char *name;
	const char *summary;
	int (*main)(int argc, char **argv);
};

int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_pack(int argc, char **argv);

/* ---- options that everything which decodes has ---- */

struct common {
	const char *model;
	const char *budget, *source, *device, *pre;
	uint32_t n_predict, n_ctx;
	int n_threads;
	uint32_t n_batch;
	uint32_t kv_type;
	struct sampler_params sampling;
	bool json, quiet;
	bool no_model; /* an option of the command's own does without MODEL */
};

extern const struct argp common_argp;
extern const struct argp model_argp; /* MODEL and --json alone */
struct common common_defaults(void);

enum { /* keys of options without a short form, distinct over all commands */
       OPT_BUDGET = 0x100,
       OPT_SOURCE,
       OPT_DEVICE,
       OPT_TEMP,
       OPT_TOP_K,
       OPT_TOP_P,
       OPT_MIN_P,
       OPT_REPEAT,
       OPT_SEED,
       OPT_JSON,
       OPT_PRE,
       OPT_KV_TYPE,
       OPT_BATCH,
       OPT_OWN, /* a command's own begin here */
};

/* Numbers in options; wrong ones end the program with status 2 and a sentence. */
uint64_t arg_uint(const struct argp_state *st, const char *what, const char *s, uint64_t min,
		  uint64_t max);
/* Checks a --budget, whose percentage has no meaning before there is a model. */
const char *arg_budget(const struct argp_state *st, const char *s);
double arg_float(const struct argp_state *st, const char *what, const char *s, double min,
		 double max);

/* ---- running ---- */

extern volatile int cli_cancel; /* becomes 1 at the first Ctrl-C; a second one kills */
void cli_catch_interrupt(void);

/* Fills params from options, with notes and a progress bar on stderr. */
void common_session(const struct common *c, struct session_params *p);

/* A line on stderr that the next one takes the place of; gone when all is done. For a terminal. */
void cli_progress(const char *doing, uint64_t done, uint64_t total);

/* Prints "weir: sentence" and returns the exit status that fits: 1, or 130 for -EINTR. */
int cli_fail(int r, const struct err *err);

/*
 * What `weir probe` kept; where there is nothing, this machine is measured and that is kept.
 * @model: a file to read from if it is large enough, or NULL
 */
int cli_machine(struct machine *m, const char *model, bool quiet, struct err *err);

/* Peak resident memory of this process in bytes. */
uint64_t peak_rss(void);

/*
 * The line after a run: speed, share of the limit, bound, flash, bytes a token, stalls, memory.
 * @m: NULL where the machine could not be measured; then there is no limit to show
 */
void cli_summary(const struct generator *g, const struct machine *m);

/* ---- printing what may be any bytes or any number ---- */

/* A string; bytes that are no UTF-8 become U+FFFD. */
json_t *json_text(const char *p, size_t len);
/* A number, or null for NaN and the infinities, which JSON does not have. */
json_t *json_number(double x);
/* An integer, or its digits as a string from 2^63 on, where jansson's integers end. */
json_t *json_u64(uint64_t x);

/*
 * Prints one JSON object and drops the reference.
 * @o: NULL where memory for a part of it ran out
 */
int cli_print_json(json_t *o, struct err *err);

/* Prints text without control characters: dots stand for them. Returns how many characters. */
size_t print_clean(const char *p, size_t len);

/* "1,2,3" or "1 2 3" */
int cli_parse_ids(const char *s, struct token_list *out, struct err *err);

/* Whole file to memory; "-" is stdin. */
int cli_read_file(const char *path, struct strbuf *out, struct err *err);

#endif
