// SPDX-License-Identifier: MIT
/* What the kernel says of the data caches, under /sys/devices/system/cpu. */
#include "stream/cache.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

/* A word of a cache's description, without its newline; false where there is none. */
static bool cache_word(int cpu, int index, const char *name, char word[64])
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", cpu, index,
		 name);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(word, 64, f))
		word[0] = '\0';
	fclose(f);
	return word[0] != '\0';
}

/* "2048K"; 0 for a cache of instructions or one that is not there */
static uint64_t one_cache(int cpu, int index)
{
	char type[64], size[64];
	uint64_t bytes;

	if (!cache_word(cpu, index, "type", type) || !strncmp(type, "Instruction", 11) ||
	    !cache_word(cpu, index, "size", size))
		return 0;
	size[strcspn(size, "\n")] = '\0';
	return parse_size(size, 0, &bytes, NULL) ? 0 : bytes;
}

uint64_t cache_all(void)
{
	long n_cpu = sysconf(_SC_NPROCESSORS_CONF);
	char word[64];
	uint64_t all = 0;

	for (int cpu = 0; cpu < n_cpu; cpu++)
		for (int i = 0; cache_word(cpu, i, "shared_cpu_list", word); i++)
			/* counted for the first of those that share it */
			if (atoi(word) == cpu)
				all += one_cache(cpu, i);
	return all;
}

uint64_t cache_l2(void)
{
	char level[64];

	for (int i = 0; cache_word(0, i, "level", level); i++)
		if (atoi(level) == 2)
			return one_cache(0, i);
	return 0;
}
