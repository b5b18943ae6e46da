// SPDX-License-Identifier: MIT
#include "base/huge.h"

#include <sys/mman.h>

#include "base/util.h"

bool huge_map(struct huge *h, uint64_t len, int flags)
{
	uint64_t huge = align_down(len, HUGE_PAGE);

	*h = (struct huge){0};
	if (!len)
		return true;
	h->map_len = len + HUGE_PAGE;
	h->map = mmap(NULL, h->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
		      -1, 0);
	if (h->map == MAP_FAILED) {
		*h = (struct huge){0};
		return false;
	}
	h->base = (char *)align_up((uintptr_t)h->map, HUGE_PAGE);
	/* whole huge pages alone, so that the last one does not take more than was asked for */
	if (huge && madvise(h->base, huge, MADV_HUGEPAGE) == 0)
		h->huge_bytes = huge;
	return true;
}

void huge_unmap(struct huge *h)
{
	if (h->map)
		munmap(h->map, h->map_len);
	*h = (struct huge){0};
}
