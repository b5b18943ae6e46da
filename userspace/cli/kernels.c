// SPDX-License-Identifier: MIT
/*
 * weir bench --kernels: how fast each kernel is beside this machine's DRAM, as a table that
 * grows line by line, or as one JSON object. A line is a kernel: a type in a layout, and what
 * it computes; `vector` is a matrix times one token's activation.
 */
#include "cli/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "decode/threads.h"

#define BAR 25 /* columns; 4% each */

static const char *const layouts[] = {
	[ROWS_FILE] = "file",
	[ROWS_PACKED] = "packed",
};

/* ---- options ---- */

static uint64_t all_types(void)
{
	uint64_t set = 0;

	for (uint32_t t = 0; t < WT_COUNT; t++)
		if (wtype_info(t))
			set |= 1ull << t;
	return set;
}

struct kernels_args kernels_defaults(void)
{
	return (struct kernels_args){.types = all_types(), .rounds = 5};
}

static uint64_t arg_types(const struct argp_state *st, char *arg)
{
	uint64_t set = 0;
	char *name;
	int t;

	while ((name = strsep(&arg, ","))) {
		t = wtype_by_name(name);
		if (t < 0)
			argp_error(st,
				   "--types: '%s' is not a weight type: write names such as "
				   "q4_0,q6_k,mxfp4",
				   name);
		else
			set |= 1ull << t;
	}
	return set;
}

static enum row_layout arg_layout(const struct argp_state *st, const char *arg)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(layouts); i++)
		if (!strcmp(layouts[i], arg))
			return (enum row_layout)i;
	argp_error(st, "--layout: '%s' is not known: use file or packed", arg);
	return ROWS_FILE;
}

static uint64_t arg_bytes(const struct argp_state *st, const char *arg)
{
	uint64_t bytes = 0;
	struct err err;

	if (parse_size(arg, 0, &bytes, &err))
		argp_error(st, "--size: %s", err.text);
	else if (bytes < SPEED_BYTES_MIN)
		argp_error(st, "--size: '%s' is too little to stream: use 16M or more", arg);
	return bytes;
}

error_t kernels_option(int key, char *arg, const struct argp_state *st, struct kernels_args *a)
{
	switch (key) {
	case OPT_TYPES:
		a->used = "--types";
		a->types = arg_types(st, arg);
		return 0;
	case OPT_LAYOUT:
		a->used = "--layout";
		a->layout = arg_layout(st, arg);
		return 0;
	case OPT_SIZE:
		a->used = "--size";
		a->bytes = arg_bytes(st, arg);
		return 0;
	case OPT_ROUNDS:
		a->used = "--rounds";
		a->rounds = (uint32_t)arg_uint(st, "--rounds", arg, 1, SPEED_ROUNDS_MAX);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- results ---- */

struct results {
	unsigned int n;
	uint32_t type[WT_COUNT];
	struct kernel_speed speed[WT_COUNT];
};

static const char *bound(const struct kernel_speed *s)
{
	return bound_name(s->arith_share < 1 ? BOUND_COMPUTE : BOUND_DRAM);
}

/* Of the plain reads beside all kernels. */
static double dram_gb_s(const struct results *r)
{
	double x[WT_COUNT];

	for (unsigned int i = 0; i < r->n; i++)
		x[i] = r->speed[i].dram_gb_s;
	sort_doubles(x, r->n);
	return x[r->n / 2];
}

static void print_head(const struct speed_setup *s)
{
	char a[32], b[32];

	printf("kernels    %s, %d thread%s, rows of %u weights\n", s->isa, s->n_threads,
	       s->n_threads == 1 ? "" : "s", SPEED_N_IN);
	printf("memory     %s streamed from DRAM by all threads; %s in each core's L2\n\n",
	       format_bytes(s->bytes, a), format_bytes(s->core_bytes, b));
	printf("                              DRAM          arithmetic\n"
	       "type    kind    layout    GB/s  share  GB/s/core  share  bound\n");
	fflush(stdout);
}

/* The bar is what the slower of memory and arithmetic leaves of DRAM's rate. */
static void print_row(uint32_t type, enum row_layout layout, const struct kernel_speed *s)
{
	static const char full[] = "#########################",
			  empty[] = ".........................";
	double share = MIN(MIN(s->dram_share, s->arith_share), 1.0);
	int n = (int)(share * BAR + 0.5);

	_Static_assert(sizeof(full) == BAR + 1 && sizeof(empty) == BAR + 1, "a bar's columns");
	printf("%-7s vector  %-6s %7.1f  %4.0f%%  %9.1f  %4.0f%%  %-7s  %.*s%.*s\n",
	       wtype_info(type)->name, layouts[layout], s->gb_s, 100 * s->dram_share, s->core_gb_s,
	       100 * s->arith_share, bound(s), n, full, BAR - n, empty);
	fflush(stdout);
}

static json_t *kernel_json(uint32_t type, enum row_layout layout, const struct kernel_speed *s)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "type",
			 wtype_info(type)->name, "kind", "vector", "layout", layouts[layout],
			 "gb_s", json_number(s->gb_s), "dram_gb_s", json_number(s->dram_gb_s),
			 "dram_share", json_number(s->dram_share), "core_gb_s",
			 json_number(s->core_gb_s), "arith_share", json_number(s->arith_share),
			 "bound", bound(s));
}

static int print_json(const struct speed_setup *s, const struct kernels_args *a,
		      const struct results *r, struct err *err)
{
	json_t *kernels = json_array();

	for (unsigned int i = 0; i < r->n; i++)
		json_array_append_new(kernels, kernel_json(r->type[i], a->layout, &r->speed[i]));
	return cli_print_json(
		json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:I, s:o, s:o}", "isa", s->isa, "threads",
			  s->n_threads, "rounds", (int)a->rounds, "row_weights", (int)SPEED_N_IN,
			  "stream_bytes", (json_int_t)s->bytes, "core_bytes",
			  (json_int_t)s->core_bytes, "cache_bytes", (json_int_t)s->cache_bytes,
			  "dram_gb_s", json_number(dram_gb_s(r)), "kernels", kernels),
		err);
}

/* ---- running ---- */

void warn_of_caches(const struct speed_setup *s, const char *advice)
{
	char a[32], b[32];

	if (s->bytes >= 2 * s->cache_bytes)
		return;
	fprintf(stderr,
		"weir: caches hold %s: some of the %s that are streamed may not come from DRAM: "
		"%s\n",
		format_bytes(s->cache_bytes, a), format_bytes(s->bytes, b), advice);
}

static int measure_types(struct speed_meter *m, const struct kernels_args *a,
			 const struct common *c, struct results *res, struct err *err)
{
	bool live = !c->quiet && isatty(STDERR_FILENO);
	int r = 0;

	for (uint32_t t = 0; t < WT_COUNT && !r; t++) {
		if (!(a->types >> t & 1))
			continue;
		if (live)
			fprintf(stderr, "\rweir: measuring %s\033[K", wtype_info(t)->name);
		r = speed_measure(m, t, a->layout, &res->speed[res->n], err);
		if (live)
			fputs("\r\033[K", stderr);
		if (r)
			break;
		res->type[res->n] = t;
		if (!c->json)
			print_row(t, a->layout, &res->speed[res->n]);
		res->n++;
	}
	return r;
}

int bench_kernels(const struct kernels_args *a, const struct common *c)
{
	const struct speed_params p = {
		.n_threads = c->n_threads ? c->n_threads : physical_cores(),
		.rounds = a->rounds,
		.bytes = a->bytes,
		.cancel = &cli_cancel,
	};
	struct speed_meter *m = NULL;
	struct results res = {0};
	struct err err = {""};
	int r;

	r = speed_meter_open(&p, &m, &err);
	if (r)
		return cli_fail(r, &err);
	if (!c->quiet)
		warn_of_caches(speed_setup(m), "use a larger --size");
	if (!c->json)
		print_head(speed_setup(m));
	r = measure_types(m, a, c, &res, &err);
	if (!r && c->json)
		r = print_json(speed_setup(m), a, &res, &err);
	else if (!r)
		printf("\nDRAM read  %.1f GB/s\n", dram_gb_s(&res));
	speed_meter_close(m);
	return r ? cli_fail(r, &err) : 0;
}
