// SPDX-License-Identifier: MIT
/* weir synth: a random-weight model of any size, for benchmarks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "gguf/synth.h"

/* Shapes of well-known models, so that a benchmark need not spell them out. */
static const struct preset {
	const char *name;
	uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab;
} presets[] = {
	{"1b", 22, 2048, 5632, 32, 4, 32000},	 /* TinyLlama 1.1B */
	{"7b", 32, 4096, 14336, 32, 8, 32000},	 /* Mistral 7B */
	{"8b", 32, 4096, 14336, 32, 8, 128256},	 /* Llama 3 8B */
	{"13b", 40, 5120, 13824, 40, 40, 32000}, /* Llama 2 13B */
	{"70b", 80, 8192, 28672, 64, 8, 128256}, /* Llama 3 70B */
};

struct synth_args {
	struct synth_params p;
	bool quiet;
};

enum {
	OPT_ARCH = OPT_OWN,
	OPT_PRESET,
	OPT_LAYERS,
	OPT_EMBD,
	OPT_FF,
	OPT_HEADS,
	OPT_KV_HEADS,
	OPT_HEAD_DIM,
	OPT_VOCAB,
	OPT_CTX,
	OPT_TYPE,
	OPT_OUTPUT_TYPE,
	OPT_TIED,
	OPT_ALIGNMENT,
};

static const struct argp_option options[] = {
	{"preset", OPT_PRESET, "NAME", 0,
	 "Shape of 1b, 7b, 8b, 13b or 70b; options after it change it", 1},
	{"arch", OPT_ARCH, "NAME", 0, "llama, qwen2 or qwen3 (llama)", 1},
	{"layers", OPT_LAYERS, "N", 0, "Layers (4)", 2},
	{"embd", OPT_EMBD, "N", 0, "Embedding width (512)", 2},
	{"ff", OPT_FF, "N", 0, "Feed-forward width (1536)", 2},
	{"heads", OPT_HEADS, "N", 0, "Attention heads (8)", 2},
	{"kv-heads", OPT_KV_HEADS, "N", 0, "Key/value heads (4)", 2},
	{"head-dim", OPT_HEAD_DIM, "N", 0, "Width of a head (embedding width / heads)", 2},
	{"vocab", OPT_VOCAB, "N", 0, "Vocabulary size, 259 or more (1024)", 2},
	{"ctx", OPT_CTX, "N", 0, "Context length (2048)", 2},
	{"type", OPT_TYPE, "TYPE", 0, "Weight type: f32, f16, q4_0, q4_k, ... (q4_0)", 3},
	{"output-type", OPT_OUTPUT_TYPE, "TYPE", 0,
	 "Type of output matrix and embedding (as usual for --type)", 3},
	{"tied", OPT_TIED, NULL, 0, "The embedding is the output matrix too", 3},
	{"alignment", OPT_ALIGNMENT, "N", 0, "Alignment of tensors in bytes (32)", 3},
	{"seed", OPT_SEED, "N", 0, "Seed; the same seed gives the same file (1)", 4},
	{NULL, 't', "N", 0, "Threads (all CPUs)", 4},
	{"quiet", 'q', NULL, 0, "No progress on stderr", 4},
	{0},
};

static void use_preset(struct synth_params *p, const char *name, const struct argp_state *st)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(presets); i++) {
		const struct preset *s = &presets[i];

		if (strcmp(s->name, name))
			continue;
		p->n_layer = s->n_layer;
		p->n_embd = s->n_embd;
		p->n_ff = s->n_ff;
		p->n_head = s->n_head;
		p->n_head_kv = s->n_head_kv;
		p->n_vocab = s->n_vocab;
		return;
	}
	argp_error(st, "--preset: '%s' is not known: use 1b, 7b, 8b, 13b or 70b", name);
}

static int arg_type(const struct argp_state *st, const char *what, const char *s)
{
	int t = wtype_by_name(s);

	if (t < 0)
		argp_error(st,
			   "%s: '%s' is not a weight type: use f32, f16, bf16, q4_0, q4_k, q6_k, "
			   "mxfp4, ...",
			   what, s);
	return t;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct synth_args *a = st->input;
	struct synth_params *p = &a->p;
	const struct {
		int key;
		const char *name;
		uint32_t *to;
	} counts[] = {
		{OPT_LAYERS, "--layers", &p->n_layer},
		{OPT_EMBD, "--embd", &p->n_embd},
		{OPT_FF, "--ff", &p->n_ff},
		{OPT_HEADS, "--heads", &p->n_head},
		{OPT_KV_HEADS, "--kv-heads", &p->n_head_kv},
		{OPT_HEAD_DIM, "--head-dim", &p->head_dim},
		{OPT_VOCAB, "--vocab", &p->n_vocab},
		{OPT_CTX, "--ctx", &p->n_ctx},
		{OPT_ALIGNMENT, "--alignment", &p->alignment},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++)
		if (key == counts[i].key) {
			*counts[i].to = (uint32_t)arg_uint(st, counts[i].name, arg, 1, 1u << 24);
			return 0;
		}
	switch (key) {
	case OPT_PRESET:
		use_preset(p, arg, st);
		return 0;
	case OPT_ARCH:
		p->arch = arg;
		return 0;
	case OPT_TYPE:
		p->type = (enum wtype)arg_type(st, "--type", arg);
		return 0;
	case OPT_OUTPUT_TYPE:
		p->output_type = arg_type(st, "--output-type", arg);
		return 0;
	case OPT_TIED:
		p->tied = true;
		return 0;
	case OPT_SEED:
		p->seed = arg_uint(st, "--seed", arg, 0, UINT64_MAX);
		return 0;
	case 't':
		p->n_threads = (int)arg_uint(st, "-t", arg, 1, 1024);
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (p->path)
			argp_error(st, "one OUT is enough: '%s' is one too many", arg);
		p->path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!p->path)
			argp_error(st, "OUT is missing: give the file to write");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse,
	"OUT",	 "Writes a random-weight model of any size: right for speed, not for words.",
	NULL,	 NULL,
	NULL};

static void progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	cli_progress("wrote", done, total);
}

int cmd_synth(int argc, char **argv)
{
	struct synth_args a = {
		.p =
			{
				.arch = "llama",
				.n_layer = 4,
				.n_embd = 512,
				.n_ff = 1536,
				.n_head = 8,
				.n_head_kv = 4,
				.n_vocab = 1024,
				.n_ctx = 2048,
				.type = WT_Q4_0,
				.output_type = SYNTH_OUTPUT_DEFAULT,
				.seed = 1,
				.cancel = &cli_cancel,
			},
	};
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	if (!a.quiet && isatty(STDERR_FILENO))
		a.p.progress = progress;
	r = synth_model(&a.p, &err);
	return r ? cli_fail(r, &err) : 0;
}
