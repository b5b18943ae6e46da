// SPDX-License-Identifier: MIT
/* weir pack: lays a model out for streaming, and back. */
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "model/pack.h"

struct pack_args {
	struct pack_params p;
	bool json, quiet;
};

enum {
	OPT_UNPACK = OPT_OWN,
};

static const struct argp_option options[] = {
	{"unpack", OPT_UNPACK, NULL, 0, "Make a GGUF file of a packed one", 1},
	{"json", OPT_JSON, NULL, 0, "Print one JSON object", 2},
	{"quiet", 'q', NULL, 0, "No progress on stderr", 2},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct pack_args *a = st->input;

	switch (key) {
	case OPT_UNPACK:
		a->p.unpack = true;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->p.out)
			argp_error(st, "MODEL and OUT are enough: '%s' is one too many", arg);
		*(a->p.model ? &a->p.out : &a->p.model) = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->p.model)
			argp_error(st, "MODEL is missing: give the model to pack");
		if (!a->p.out)
			argp_error(st, "OUT is missing: give the file to write");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse,
	"MODEL OUT",
	"Lays a model out for streaming: tensors in the order of use, rows in groups of 16 as the "
	"kernels take them. The values stay as they are; --unpack gives them back bit for bit.",
	NULL,
	NULL,
	NULL};

static void progress(void *arg, uint64_t done, uint64_t total)
{
	const struct pack_params *p = arg;

	cli_progress(p->unpack ? "unpacked" : "packed", done, total);
}

static int print_json(const struct pack_args *a, const struct pack_result *r, double seconds,
		      struct err *err)
{
	return cli_print_json(json_pack("{s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:I}", "packed",
					!a->p.unpack, "tensors", (json_int_t)r->n_tensor,
					"packed_tensors", (json_int_t)r->n_packed, "data_bytes",
					(json_int_t)r->data_bytes, "file_bytes",
					(json_int_t)r->file_bytes, "elapsed_s",
					json_number(seconds), "gb_s",
					json_number((double)r->data_bytes / seconds * 1e-9),
					"peak_rss_bytes", (json_int_t)peak_rss()),
			      err);
}

static void print_text(const struct pack_args *a, const struct pack_result *r, double seconds)
{
	char size[32];

	printf("%s %llu of %llu tensors: %s in %.2f s, %.2f GB/s\n",
	       a->p.unpack ? "unpacked" : "packed", (unsigned long long)r->n_packed,
	       (unsigned long long)r->n_tensor, format_bytes(r->file_bytes, size), seconds,
	       (double)r->data_bytes / seconds * 1e-9);
}

int cmd_pack(int argc, char **argv)
{
	struct pack_args a = {.p = {.cancel = &cli_cancel}};
	struct pack_result result;
	struct err err = {""};
	uint64_t start = now_ns();
	double seconds;
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	if (!a.quiet && isatty(STDERR_FILENO)) {
		a.p.progress = progress;
		a.p.arg = &a.p;
	}
	r = pack_model(&a.p, &result, &err);
	seconds = (double)(now_ns() - start) * 1e-9;
	if (!r && a.json)
		r = print_json(&a, &result, seconds, &err);
	else if (!r)
		print_text(&a, &result, seconds);
	return r ? cli_fail(r, &err) : 0;
}
