// SPDX-License-Identifier: MIT
/*
 * Tracks of the file: passes with their layers inside, computing, waits, and one for each read
 * that was in flight at once. Times are CLOCK_MONOTONIC in microseconds, to the nanosecond, so
 * that what another program records by the same clock can be laid beside them. In `args` are
 * token, layer and tensor, as GGUF names it.
 *
 * All that is printed as text are names of tensors that a family of models asked for.
 */
#include "cli/timeline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* 19 MB: 100 tokens of a model of 7 billion weights of which all streams. */
#define EVENTS (1u << 18)

enum track { TRACK_PASS = 1, TRACK_COMPUTE, TRACK_WAIT, TRACK_READ };

int timeline_file_open(struct timeline_file *f, const char *path, struct err *err)
{
	int r;

	f->path = path;
	if (!path)
		return 0;
	r = output_open(&f->out, path, err);
	return r ? r : timeline_open(EVENTS, &f->t, err);
}

/* ---- names ---- */

/* The tensor that most of a read is of; at its ends are pages that it shares with others. */
static uint32_t tensor_read(const struct model *m, const struct timeline_event *e)
{
	uint64_t at = e->off + e->bytes / 2;

	for (uint32_t i = 0; i < m->n_plan; i++) {
		const struct plan_tensor *t = &m->plan[i];

		if (e->file == t->file && at >= t->off && at - t->off < t->row_bytes * t->n_rows)
			return i;
	}
	return TIMELINE_NONE;
}

static const char *tensor_name(const struct model *m, uint32_t tensor)
{
	return tensor == TIMELINE_NONE ? NULL : m->plan_src[tensor]->name.p;
}

static uint32_t layer_of(const char *name)
{
	uint32_t layer;

	return name && sscanf(name, "blk.%u.", &layer) == 1 ? layer : TIMELINE_NONE;
}

/* ---- events ---- */

static void print_track(FILE *f, uint32_t track, const char *name, uint32_t lane)
{
	fprintf(f,
		"{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"args\":"
		"{\"name\":\"%s",
		track, name);
	if (track >= TRACK_READ)
		fprintf(f, " %u", lane);
	fprintf(f,
		"\"}},\n{\"name\":\"thread_sort_index\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"args\":"
		"{\"sort_index\":%u}}",
		track, track);
}

static void print_tracks(FILE *f, const struct timeline *t)
{
	uint32_t lanes = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->event[i].kind == TIMELINE_READ)
			lanes = MAX(lanes, t->event[i].lane + 1);
	print_track(f, TRACK_PASS, "passes", 0);
	fputs(",\n", f);
	print_track(f, TRACK_COMPUTE, "computes", 0);
	fputs(",\n", f);
	print_track(f, TRACK_WAIT, "waits for flash", 0);
	for (uint32_t i = 0; i < lanes; i++) {
		fputs(",\n", f);
		print_track(f, TRACK_READ + i, "read", i);
	}
}

static void print_event(FILE *f, const struct timeline_event *e, const struct model *m)
{
	static const struct {
		const char *category;
		const char *name; /* NULL: the tensor's */
		uint32_t track;
	} kinds[] = {
		[TIMELINE_PASS] = {"pass", "pass", TRACK_PASS},
		[TIMELINE_LAYER] = {"layer", "layer", TRACK_PASS},
		[TIMELINE_COMPUTE] = {"compute", NULL, TRACK_COMPUTE},
		[TIMELINE_WAIT] = {"wait", "wait", TRACK_WAIT},
		[TIMELINE_READ] = {"read", NULL, TRACK_READ},
	};
	bool read = e->kind == TIMELINE_READ;
	const char *tensor = tensor_name(m, read ? tensor_read(m, e) : e->tensor);
	const char *name = kinds[e->kind].name ? kinds[e->kind].name : tensor;
	uint32_t layer = read ? layer_of(tensor) : e->layer;
	uint64_t ns = e->end - e->begin;

	fprintf(f,
		",\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u,"
		"\"ts\":%llu.%03llu,\"dur\":%llu.%03llu,\"args\":{",
		name ? name : "between matrices", kinds[e->kind].category,
		kinds[e->kind].track + (read ? e->lane : 0), (unsigned long long)e->begin / 1000,
		(unsigned long long)e->begin % 1000, (unsigned long long)ns / 1000,
		(unsigned long long)ns % 1000);
	if (read)
		fprintf(f, "\"file\":%u,\"offset\":%llu,\"bytes\":%llu", e->file,
			(unsigned long long)e->off, (unsigned long long)e->bytes);
	else
		fprintf(f, "\"token\":%u", e->token);
	if (layer != TIMELINE_NONE)
		fprintf(f, ",\"layer\":%u", layer);
	if (tensor)
		fprintf(f, ",\"tensor\":\"%s\"", tensor);
	fputs("}}", f);
}

static void print_all(FILE *f, const struct timeline *t, const struct session *s)
{
	fprintf(f,
		"{\"displayTimeUnit\":\"ms\",\n\"otherData\":{\"clock\":\"CLOCK_MONOTONIC\","
		"\"source\":\"%s\",\"stream_bytes\":%llu,\"sweep_bytes\":%llu,"
		"\"dropped_events\":%llu},\n\"traceEvents\":[\n",
		s->src->ops->name, (unsigned long long)s->plan->stream_bytes,
		(unsigned long long)s->plan->sweep_bytes, (unsigned long long)t->dropped);
	print_tracks(f, t);
	for (uint32_t i = 0; i < t->n; i++)
		print_event(f, &t->event[i], s->model);
	fputs("\n]}\n", f);
}

int timeline_file_close(struct timeline_file *f, const struct session *s, bool quiet, int r,
			struct err *err)
{
	if (!f->path)
		return r;
	if (!r)
		print_all(f->out.f, f->t, s);
	if (!r && ferror(f->out.f))
		r = err_set(err, -EIO, "%s: %s", f->path, strerror(errno));
	r = output_close(&f->out, f->path, r, err);
	if (!r && f->t->dropped && !quiet)
		fprintf(stderr,
			"weir: %s: %llu events found no room and are missing at the end: decode "
			"fewer tokens (-n)\n",
			f->path, (unsigned long long)f->t->dropped);
	timeline_close(f->t);
	return r;
}
