// SPDX-License-Identifier: MIT
#include "base/timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int timeline_open(uint32_t cap, struct timeline **out, struct err *err)
{
	struct timeline *t = calloc(1, sizeof(*t));
	size_t bytes = cap * sizeof(*t->event);

	if (t)
		t->event = malloc(bytes);
	if (!t || !t->event) {
		timeline_close(t);
		return err_set(err, -ENOMEM, "out of memory for a time line of %u events", cap);
	}
	/* its pages too are taken now, not while time is measured; of 0 it would become calloc() */
	memset(t->event, 0xff, bytes);
	t->cap = cap;
	*out = t;
	return 0;
}

void timeline_close(struct timeline *t)
{
	if (!t)
		return;
	free(t->event);
	free(t);
}

static void add(struct timeline *t, const struct timeline_event *e)
{
	if (!t->on)
		return;
	if (t->n == t->cap) {
		t->dropped++;
		return;
	}
	t->event[t->n++] = *e;
}

static void add_span(struct timeline *t, enum timeline_kind kind, uint64_t begin, uint64_t end)
{
	struct timeline_event e = {
		.begin = begin,
		.end = end,
		.kind = kind,
		.token = t->token,
		.layer = t->layer,
		.tensor = t->tensor,
	};

	if (kind == TIMELINE_PASS)
		e.layer = TIMELINE_NONE;
	if (kind == TIMELINE_PASS || kind == TIMELINE_LAYER)
		e.tensor = TIMELINE_NONE;
	add(t, &e);
}

static void end_compute(struct timeline *t, uint64_t now)
{
	if (now > t->since)
		add_span(t, TIMELINE_COMPUTE, t->since, now);
	t->since = now;
}

static void end_layer(struct timeline *t, uint64_t now)
{
	end_compute(t, now);
	if (t->layer != TIMELINE_NONE)
		add_span(t, TIMELINE_LAYER, t->layer_since, now);
	t->layer_since = now;
}

void timeline_pass(struct timeline *t, uint32_t token)
{
	if (!t)
		return;
	t->since = t->layer_since = t->pass_since = now_ns();
	t->token = token;
	t->layer = t->tensor = TIMELINE_NONE;
}

void timeline_pass_end(struct timeline *t)
{
	uint64_t now;

	if (!t)
		return;
	now = now_ns();
	end_layer(t, now);
	add_span(t, TIMELINE_PASS, t->pass_since, now);
	t->since = 0;
}

void timeline_layer(struct timeline *t, uint32_t layer)
{
	if (!t)
		return;
	end_layer(t, now_ns());
	t->layer = layer;
	t->tensor = TIMELINE_NONE;
}

void timeline_tensor(struct timeline *t, uint32_t tensor)
{
	if (!t)
		return;
	end_compute(t, now_ns());
	t->tensor = tensor;
}

void timeline_wait(struct timeline *t, uint64_t begin)
{
	uint64_t now;

	if (!t || !t->since)
		return;
	now = now_ns();
	end_compute(t, begin);
	if (now > begin)
		add_span(t, TIMELINE_WAIT, begin, now);
	t->since = now;
}

void timeline_read(struct timeline *t, uint64_t begin, uint32_t lane, uint32_t file, uint64_t off,
		   uint64_t bytes)
{
	struct timeline_event e = {
		.kind = TIMELINE_READ,
		.begin = begin,
		.bytes = bytes,
		.off = off,
		.file = file,
		.lane = lane,
	};

	if (!t)
		return;
	e.end = now_ns();
	add(t, &e);
}
