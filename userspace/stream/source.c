// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "stream/source_kmod.h"
#include "stream/stream.h"

/*
 * The module where it is there and lets us, else io_uring. What keeps it from being used (a limit
 * on locked memory, say) is told, for it can be mended.
 */
static int auto_open(const struct source_params *p, struct source **out, struct err *err)
{
	struct err why;
	char text[sizeof(why.text) + 64];
	int r;

	if (access(WEIR_DEVICE, F_OK))
		return source_uring.open(p, out, err);
	r = source_kmod.open(p, out, &why);
	if (!r)
		return 0;
	if (r == -EINTR) {
		*err = why;
		return r;
	}
	if (p->note) {
		snprintf(text, sizeof(text), "%s: using io_uring instead", why.text);
		p->note(p->arg, text);
	}
	return source_uring.open(p, out, err);
}

/* What it opens is a source of another name, so that it needs no more than this. */
static const struct source_ops source_auto = {
	.name = "auto",
	.open = auto_open,
};

const struct source_ops *source_by_name(const char *name)
{
	static const struct source_ops *const all[] = {&source_auto, &source_kmod, &source_uring,
						       &source_mmap};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!strcmp(name, all[i]->name))
			return all[i];
	return NULL;
}
