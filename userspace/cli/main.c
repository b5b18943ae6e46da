// SPDX-License-Identifier: MIT
/* weir SUBCOMMAND [options] MODEL */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/cli.h"
#include "weir/weir.h"

static const struct command commands[] = {
	{"run", "complete a prompt", cmd_run},
	{"chat", "a conversation in the terminal", cmd_chat},
	{"bench", "measure prompt and decode speed against the machine's limit", cmd_bench},
	{"plan", "what would be pinned and streamed, and how fast", cmd_plan},
	{"probe", "measure this machine's DRAM and flash, and keep the result", cmd_probe},
	{"info", "metadata, tensors, sizes, extents of a model", cmd_info},
	{"eval", "logits of every position, as raw float32", cmd_eval},
	{"tokenize", "text to tokens and back", cmd_tokenize},
	{"perplexity", "perplexity over a text", cmd_perplexity},
	{"pack", "lay a model out for streaming, or back", cmd_pack},
	{"synth", "write a random-weight model for benchmarks", cmd_synth},
};

/*
 * At every exit, argp's included: what did not reach stdout is no success. A command that has
 * failed has said why.
 */
static void check_stdout(int status, void *arg)
{
	int e = fflush(stdout) ? errno : 0;

	(void)arg;
	if (status || (!e && !ferror(stdout)))
		return;
	fprintf(stderr, "weir: cannot write to stdout: %s\n", strerror(e ? e : EIO));
	_exit(1);
}

static void help(FILE *f)
{
	fputs("Usage: weir SUBCOMMAND [options] MODEL\n"
	      "Runs language models larger than memory by streaming their weights from flash.\n\n",
	      f);
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-11s %s\n", commands[i].name, commands[i].summary);
	fputs("\n'weir SUBCOMMAND --help' lists the options of one.\n", f);
}

int main(int argc, char **argv)
{
	static char name[64];

	on_exit(check_stdout, NULL);
	argp_err_exit_status = 2;
	if (argc < 2) {
		help(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("weir %s\n", weir_version());
		return 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name)) {
			/* argp shows argv[0] in usage and messages */
			snprintf(name, sizeof(name), "weir %s", commands[i].name);
			argv[1] = name;
			return commands[i].main(argc - 1, argv + 1);
		}
	fprintf(stderr, "weir: '%s' is no subcommand; 'weir --help' lists them\n", argv[1]);
	return 2;
}
