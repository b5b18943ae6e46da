// SPDX-License-Identifier: MIT
/*
 * Split models: NAME-00001-of-0000N.gguf to NAME-0000N-of-0000N.gguf make one struct gguf.
 *
 * Every part is a GGUF file with its own tensors, data and alignment, and says its place in
 * split.no (from 0) and split.count. The first one holds the metadata, and the number of all
 * tensors in split.tensors.count. The user may name any part: the set is opened from its first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/internal.h"

#define MAX_PARTS 65535u /* split.count is 16 bits wide in the files of others */

struct split {
	uint32_t no;
	uint32_t count; /* 1: not split */
};

static int read_split(const struct gguf *g, struct split *s, struct err *err)
{
	int ret;

	*s = (struct split){.count = 1};
	ret = gguf_u32(g, "split.count", &s->count, err);
	if (ret == -ENOENT || (!ret && s->count <= 1)) {
		s->count = 1;
		return 0;
	}
	if (!ret && g->packed_file)
		return err_set(err, -EINVAL,
			       "'%s' is a packed model with a split.count of %u, but packed models "
			       "are one file: it is damaged",
			       SHOW_PATH(g->file[0].path), s->count);
	if (!ret)
		ret = gguf_u32(g, "split.no", &s->no, err);
	if (ret)
		return ret == -ENOENT ? -EINVAL : ret;
	if (s->no >= s->count || s->count > MAX_PARTS)
		return err_set(err, -EINVAL,
			       "'%s': split.no is %u and split.count %u, which no set of files has",
			       SHOW_PATH(g->file[0].path), s->no, s->count);
	return 0;
}

static void part_suffix(char buf[static 40], uint32_t no, uint32_t count)
{
	snprintf(buf, 40, "-%05u-of-%05u.gguf", no + 1, count);
}

/* The path of another part of the set that @path is part s->no of; to be freed. */
static int part_path(const char *path, const struct split *s, uint32_t no, char **out,
		     struct err *err)
{
	char own[40], other[40];
	size_t len = strlen(path), prefix;

	part_suffix(own, s->no, s->count);
	part_suffix(other, no, s->count);
	if (len < strlen(own) || strcmp(path + len - strlen(own), own))
		return err_set(err, -EINVAL,
			       "'%s' is part %u of %u of a split model, but its name does not end "
			       "in '%s': give all parts their original names",
			       SHOW_PATH(path), s->no + 1, s->count, own);
	prefix = len - strlen(own);
	if (asprintf(out, "%.*s%s", (int)prefix, path, other) < 0) {
		*out = NULL;
		return err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(path));
	}
	return 0;
}

/* Reads part @no of the set that @path belongs to and checks that it says the same. */
static int read_part(const char *path, const struct split *s, uint32_t no, struct gguf_model **out,
		     struct err *err)
{
	struct gguf_model *m = NULL;
	struct split got;
	char *part;
	int ret;

	ret = part_path(path, s, no, &part, err);
	if (ret)
		return ret;
	ret = gguf_read_path(part, &m, err);
	if (ret == -ENOENT)
		err_set(err, ret,
			"'%s' is missing: it is part %u of %u of this split model, put "
			"all parts into one folder",
			SHOW_PATH(part), no + 1, s->count);
	if (!ret)
		ret = read_split(&m->pub, &got, err);
	if (!ret && (got.no != no || got.count != s->count))
		ret = err_set(err, -EINVAL,
			      "'%s' should be part %u of %u of a split model, but its split.no and "
			      "split.count say part %u of %u: the files do not belong together",
			      SHOW_PATH(part), no + 1, s->count, got.no + 1, got.count);
	free(part);
	if (ret)
		gguf_model_free(m);
	else
		*out = m;
	return ret;
}

/* Moves the file and the tensors of @part to the end of @m's; its metadata is dropped. */
static int append_part(struct gguf_model *m, struct gguf_model *part, struct err *err)
{
	struct gguf *g = &m->pub, *p = &part->pub;
	struct gguf_tensor *tensor;
	struct gguf_file *file;

	file = reallocarray(g->file, g->n_file + 1, sizeof(*file));
	if (file)
		g->file = file;
	tensor = reallocarray(g->tensor, g->n_tensor + p->n_tensor + 1, sizeof(*tensor));
	if (tensor)
		g->tensor = tensor;
	if (!file || !tensor)
		return err_set(err, -ENOMEM, "'%s': not enough memory", SHOW_PATH(p->file[0].path));
	for (uint64_t i = 0; i < p->n_tensor; i++) {
		tensor[g->n_tensor + i] = p->tensor[i];
		tensor[g->n_tensor + i].file = g->n_file;
	}
	g->n_tensor += p->n_tensor;
	file[g->n_file++] = p->file[0];
	p->file[0].path = NULL;
	arena_move(&m->arena, &part->arena);
	return 0;
}

static int check_tensor_count(const struct gguf *g, struct err *err)
{
	uint64_t want = g->n_tensor;
	int ret;

	ret = gguf_u64(g, "split.tensors.count", &want, err);
	if (ret && ret != -ENOENT)
		return ret;
	if (want != g->n_tensor)
		return err_set(err, -EINVAL,
			       "'%s': its %u parts hold %" PRIu64
			       " tensors, but split.tensors.count is %" PRIu64
			       ": the files do not belong together",
			       SHOW_PATH(g->file[0].path), g->n_file, g->n_tensor, want);
	return 0;
}

static int append_parts(struct gguf_model *m, const struct split *s, struct err *err)
{
	struct gguf_model *part = NULL;
	int ret = 0;

	for (uint32_t no = 1; no < s->count && !ret; no++) {
		ret = read_part(m->pub.file[0].path, s, no, &part, err);
		if (ret)
			break;
		ret = append_part(m, part, err);
		gguf_model_free(part);
	}
	if (!ret)
		ret = gguf_index_tensors(m, err);
	if (!ret)
		ret = check_tensor_count(&m->pub, err);
	return ret;
}

int gguf_open(const char *path, struct gguf **out, struct err *err)
{
	struct gguf_model *m = NULL, *first = NULL;
	struct split s;
	int ret;

	ret = gguf_read_path(path, &m, err);
	if (!ret)
		ret = read_split(&m->pub, &s, err);
	if (!ret && s.no) {
		ret = read_part(path, &s, 0, &first, err);
		gguf_model_free(m);
		m = first;
		s.no = 0;
	}
	if (!ret && s.count > 1)
		ret = append_parts(m, &s, err);
	if (ret)
		gguf_model_free(m);
	else
		*out = &m->pub;
	return ret;
}

int gguf_open_mem(const void *data, size_t size, const char *name, struct gguf **out,
		  struct err *err)
{
	struct gguf_model *m = NULL;
	struct split s;
	int ret;

	ret = gguf_read_mem(data, size, name, &m, err);
	if (!ret)
		ret = read_split(&m->pub, &s, err);
	if (!ret && s.count > 1)
		ret = err_set(err, -EINVAL,
			      "'%s' is part %u of %u of a split model, which cannot be opened from "
			      "memory",
			      SHOW_PATH(name), s.no + 1, s.count);
	if (ret)
		gguf_model_free(m);
	else
		*out = &m->pub;
	return ret;
}

void gguf_close(struct gguf *g)
{
	gguf_model_free((struct gguf_model *)g);
}
