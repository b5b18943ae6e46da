// SPDX-License-Identifier: MIT
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_descriptor(const char *path)
{
	return !strncmp(path, "/dev/fd/", 8) || !strncmp(path, "/dev/std", 8) ||
	       !strncmp(path, "/proc/", 6);
}

/* A link to nowhere keeps its place too: what it leads to is made, to learn its name. */
static int resolve(struct output *o, const char *path, struct err *err)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode) && stat(path, &st) && errno == ENOENT) {
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

		if (fd < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		close(fd);
		o->created = true;
	}
	if (is_descriptor(path) || (!stat(path, &st) && !S_ISREG(st.st_mode)))
		return 0;
	o->path = realpath(path, NULL);
	if (!o->path && errno == ENOENT)
		o->path = strdup(path);
	return o->path ? 0 : err_set(err, -errno, "%s: %s", path, strerror(errno));
}

int output_open(struct output *o, const char *path, struct err *err)
{
	const char *name = path;
	int r;

	if (!strcmp(path, "-") || !strcmp(path, "/dev/stdout")) {
		o->f = stdout;
		return 0;
	}
	r = resolve(o, path, err);
	if (r)
		return r;
	if (o->path) {
		if ((size_t)snprintf(o->tmp, sizeof(o->tmp), "%s.tmp%d", o->path, getpid()) >=
		    sizeof(o->tmp))
			return err_set(err, -ENAMETOOLONG, "%s: the name is too long", path);
		name = o->tmp;
	}
	o->f = fopen(name, "wbe");
	return o->f ? 0 : err_set(err, -errno, "%s: %s", name, strerror(errno));
}

int output_close(struct output *o, const char *path, int r, struct err *err)
{
	if (o->f && (o->f == stdout ? fflush(o->f) : fclose(o->f)) && !r)
		r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (o->path && o->f && !r && rename(o->tmp, o->path))
		r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (o->path && o->f && r)
		unlink(o->tmp);
	if (o->path && o->created && r)
		unlink(o->path);
	free(o->path);
	return r;
}
