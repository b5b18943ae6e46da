// SPDX-License-Identifier: MIT
/*
 * How much DRAM a new pool may take.
 *
 * MemAvailable speaks for the machine; a memory cgroup may allow less, and each of its
 * ancestors less again. Page cache that nobody used lately counts as free: the kernel gives it
 * up before it refuses memory.
 */
#include "stream/memory.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "stream/stream.h"

/* The number in a file of one number. False where there is none ("max", no file). */
static bool read_number(const char *dir, const char *name, uint64_t *out)
{
	unsigned long long v;
	char path[PATH_MAX];
	bool ok = false;
	FILE *f;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (f) {
		ok = fscanf(f, "%llu", &v) == 1;
		fclose(f);
	}
	if (ok)
		*out = v;
	return ok;
}

/* The number behind a word at the start of a line; 0 where there is none. */
static uint64_t read_field(const char *dir, const char *name, const char *word)
{
	unsigned long long v = 0;
	char path[PATH_MAX], line[256];
	size_t n = strlen(word);
	FILE *f;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return 0;
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, word, n) && sscanf(line + n, " %llu", &v) == 1)
			break;
	fclose(f);
	return v;
}

static uint64_t group_allows(const char *dir, bool v2)
{
	uint64_t limit = UINT64_MAX, high, used = 0, idle;

	if (v2) {
		read_number(dir, "memory.max", &limit);
		if (read_number(dir, "memory.high", &high))
			limit = MIN(limit, high);
		read_number(dir, "memory.current", &used);
		idle = read_field(dir, "memory.stat", "inactive_file ");
	} else {
		read_number(dir, "memory.limit_in_bytes", &limit);
		read_number(dir, "memory.usage_in_bytes", &used);
		idle = read_field(dir, "memory.stat", "total_inactive_file ");
	}
	used -= MIN(used, idle);
	return limit - MIN(limit, used);
}

/* The least that a group and its ancestors allow, up to the mount point. */
static uint64_t groups_allow(const char *mount, const char *group, bool v2)
{
	size_t top = strlen(mount);
	uint64_t least = UINT64_MAX, here;
	char dir[PATH_MAX], *slash;

	if (snprintf(dir, sizeof(dir), "%s%s", mount, group) >= (int)sizeof(dir))
		return UINT64_MAX;
	for (;;) {
		here = group_allows(dir, v2);
		least = MIN(least, here);
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < top)
			return least;
		*slash = '\0';
	}
}

/* The group of this process in a hierarchy: v2's line is "0::/path", v1's "4:memory,cpu:/path". */
static bool own_group(const char *root, bool v2, char out[PATH_MAX])
{
	char path[PATH_MAX], line[PATH_MAX + 256], *names, *group, *save;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		names = strchr(line, ':');
		group = names ? strchr(names + 1, ':') : NULL;
		if (!group)
			continue;
		*names++ = '\0';
		*group++ = '\0';
		if (v2)
			found = !strcmp(line, "0") && !*names;
		for (char *n = strtok_r(names, ",", &save); n && !v2;
		     n = strtok_r(NULL, ",", &save))
			found |= !strcmp(n, "memory");
		if (found)
			snprintf(out, PATH_MAX, "%s", group);
	}
	fclose(f);
	return found;
}

/* One line of mountinfo: where a cgroup hierarchy with memory is mounted. */
static bool parse_mount(char *line, char **top, char **mount, bool *v2)
{
	char *dash = strstr(line, " - "), *type, *options, *save;

	if (!dash)
		return false;
	*dash = '\0';
	type = strtok_r(dash + 3, " \n", &save);
	strtok_r(NULL, " \n", &save);
	options = strtok_r(NULL, " \n", &save);
	if (!type || !options)
		return false;
	*v2 = !strcmp(type, "cgroup2");
	if (!*v2 && (strcmp(type, "cgroup") || !strstr(options, "memory")))
		return false;
	/* id, parent and device go before */
	strtok_r(line, " ", &save);
	strtok_r(NULL, " ", &save);
	strtok_r(NULL, " ", &save);
	*top = strtok_r(NULL, " ", &save);
	*mount = strtok_r(NULL, " ", &save);
	return *top && *mount;
}

/* In a container the mount shows a subtree: the group's path below it, or the subtree's top. */
static const char *below(const char *group, const char *top)
{
	size_t n = strlen(top);

	if (!strcmp(top, "/"))
		return strcmp(group, "/") && !strstr(group, "/..") ? group : "";
	if (!strncmp(group, top, n) && group[n] == '/' && !strstr(group, "/.."))
		return group + n;
	return "";
}

uint64_t memory_available_at(const char *root)
{
	char path[PATH_MAX], line[2 * PATH_MAX], dir[PATH_MAX], group[PATH_MAX], *top, *mount;
	uint64_t least, here;
	bool v2;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc", root);
	least = read_field(path, "meminfo", "MemAvailable:") * 1024;
	snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
	f = fopen(path, "re");
	if (!f)
		return least;
	while (fgets(line, sizeof(line), f)) {
		if (!parse_mount(line, &top, &mount, &v2) || !own_group(root, v2, group))
			continue;
		if (snprintf(dir, sizeof(dir), "%s%s", root, mount) >= (int)sizeof(dir))
			continue;
		here = groups_allow(dir, below(group, top), v2);
		least = MIN(least, here);
	}
	fclose(f);
	return least;
}

uint64_t memory_available(void)
{
	return memory_available_at("");
}
