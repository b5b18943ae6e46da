// SPDX-License-Identifier: MIT
/* weir probe: measures DRAM and flash, and keeps the result for plan, run and bench. */
#include <stdio.h>

#include "cli/cli.h"
#include "decode/flops.h"
#include "decode/threads.h"

struct probe_args {
	const char *file, *dir;
	uint64_t bytes; /* of the temporary file */
	int n_threads;
	bool json;
};

enum { OPT_SIZE = OPT_OWN, OPT_DIR };

static const struct argp_option options[] = {
	{NULL, 'f', "FILE", 0, "Read this file (a model, say) instead of a temporary one", 0},
	{"dir", OPT_DIR, "DIR", 0, "Where the temporary file is written (.)", 0},
	{"size", OPT_SIZE, "SIZE", 0, "Size of the temporary file (1G)", 0},
	{NULL, 't', "N", 0, "Threads that read DRAM (physical cores)", 0},
	{"json", OPT_JSON, NULL, 0, "Print one JSON object", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct probe_args *a = st->input;
	struct err err = {""};

	switch (key) {
	case 'f':
		a->file = arg;
		return 0;
	case 't':
		a->n_threads = (int)arg_uint(st, "-t", arg, 1, 1024);
		return 0;
	case OPT_DIR:
		a->dir = arg;
		return 0;
	case OPT_SIZE:
		if (parse_size(arg, 0, &a->bytes, &err))
			argp_error(st, "--size: %s", err.text);
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(st, "'%s': probe takes no MODEL (use -f FILE)", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse,
	NULL,
	"Measures this machine: DRAM read, flash read by size and depth, arithmetic. "
	"The result is kept in ~/.cache/weir/probe.json.",
	NULL,
	NULL,
	NULL};

static void progress(void *arg, const char *what)
{
	(void)arg;
	fprintf(stderr, "weir: %s\n", what);
}

static int print_json(const struct probe *p, struct err *err)
{
	json_t *table = json_array();

	for (int i = 0; i < PROBE_SIZES; i++)
		for (int k = 0; k < PROBE_DEPTHS; k++)
			if (p->flash_table[i][k] > 0)
				json_array_append_new(table,
						      json_pack("{s:I, s:i, s:o}", "read_bytes",
								(json_int_t)p->size[i], "depth",
								(int)p->depth[k], "gb_s",
								json_number(p->flash_table[i][k])));
	return cli_print_json(
		json_pack("{s:o, s:o, s:I, s:i, s:o, s:o}", "dram_gb_s", json_number(p->dram_gb_s),
			  "flash_gb_s", json_number(p->flash_gb_s), "flash_read_bytes",
			  (json_int_t)p->flash_size, "flash_depth", (int)p->flash_depth, "gflop_s",
			  json_number(p->flops * 1e-9), "flash_table", table),
		err);
}

static void print_text(const struct probe *p)
{
	printf("DRAM read    %.1f GB/s\n", p->dram_gb_s);
	printf("flash read   %.2f GB/s (%llu KiB reads, %u in flight)\n", p->flash_gb_s,
	       (unsigned long long)p->flash_size / 1024, p->flash_depth);
	printf("arithmetic   %.0f Gflop/s in Q4_0 dot products\n", p->flops * 1e-9);
	printf("\nflash GB/s   in flight\n    read KiB");
	for (int k = 0; k < PROBE_DEPTHS; k++)
		printf("%7u", p->depth[k]);
	for (int i = 0; i < PROBE_SIZES; i++) {
		printf("\n%12llu", (unsigned long long)p->size[i] / 1024);
		for (int k = 0; k < PROBE_DEPTHS; k++)
			printf("%7.2f", p->flash_table[i][k]);
	}
	putchar('\n');
}

int cmd_probe(int argc, char **argv)
{
	struct probe_args a = {.dir = ".", .bytes = 1ull << 30, .n_threads = physical_cores()};
	struct probe p;
	struct err err = {""};
	int r, kept;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	r = probe_run(a.file, a.dir, a.bytes, a.n_threads, &p, progress, NULL, &err);
	if (!r)
		r = measure_flops(a.n_threads, &p.flops, &err);
	if (r)
		return cli_fail(r, &err);
	kept = probe_save(&p, &err);
	if (a.json)
		r = print_json(&p, &err);
	else
		print_text(&p);
	if (r)
		return cli_fail(r, &err);
	/* the figures are there all the same */
	if (kept)
		cli_fail(kept, &err);
	return 0;
}
