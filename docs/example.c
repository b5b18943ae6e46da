// SPDX-License-Identifier: MIT
/* Continues a text with a model of which half is streamed:  example MODEL TEXT */
#include <stdio.h>
#include <weir/weir.h>

int main(int argc, char **argv)
{
	struct weir_options o = WEIR_OPTIONS_INIT;
	struct weir *w = weir_new();
	char text[256];
	int n = -1;

	if (argc != 3 || !w)
		return fprintf(stderr, "usage: example MODEL TEXT\n"), 2;
	o.budget = "50%";
	o.seed = 1;
	if (weir_open(w, argv[1], &o) || weir_prompt(w, argv[2], -1) < 0)
		goto out;
	fputs(argv[2], stdout);
	for (int i = 0; i < 64 && (n = weir_next(w, text, sizeof(text))) > 0; i++) {
		fputs(text, stdout);
		fflush(stdout);
	}
	putchar('\n');
out:
	if (n < 0)
		fprintf(stderr, "example: %s\n", weir_error(w));
	weir_free(w);
	return n < 0;
}
