// SPDX-License-Identifier: MIT
#include <string.h>

#include "base/util.h"
#include "stream/stream.h"

const struct source_ops *source_by_name(const char *name)
{
	static const struct source_ops *const all[] = {&source_uring, &source_mmap};

	if (!strcmp(name, "auto"))
		return all[0];
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!strcmp(name, all[i]->name))
			return all[i];
	return NULL;
}
