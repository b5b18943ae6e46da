/* SPDX-License-Identifier: MIT */
/*
 * A time line: what a run did when, kept in memory while it runs and written afterwards.
 *
 * The forward pass says which token, layer and tensor it is at, and a source says when it waited
 * and what it read. Time between two waits is computing: so spans of TIMELINE_COMPUTE and
 * TIMELINE_WAIT follow one another and never overlap, and a token's are as long as its pass.
 * Reads overlap with them and with each other; `lane` keeps apart those in flight at once.
 *
 * Whoever is handed NULL records nothing, and a test of that pointer is all it costs then.
 * Events come from one thread, the one that runs the pass. All memory is taken at open; events
 * that find no room are counted.
 */
#ifndef WEIR_BASE_TIMELINE_H
#define WEIR_BASE_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define TIMELINE_NONE 0xffffffffu /* of no layer, of no tensor */

enum timeline_kind {
	TIMELINE_PASS,	  /* a sweep over the weights */
	TIMELINE_LAYER,	  /* of a pass */
	TIMELINE_COMPUTE, /* arithmetic */
	TIMELINE_WAIT,	  /* for a read */
	TIMELINE_READ,	  /* from when it was asked for until it was taken in */
};

struct timeline_event {
	uint64_t begin, end; /* now_ns() */
	uint64_t bytes;	     /* READ */
	uint64_t off;	     /* READ: in the file */
	uint32_t kind;
	uint32_t token;	     /* position of the pass's first; not for READ */
	uint32_t layer;	     /* or TIMELINE_NONE: before, between and after them */
	uint32_t tensor;     /* index in the model's order of use, or TIMELINE_NONE */
	uint32_t file, lane; /* READ */
};

struct timeline {
	bool on; /* records */
	uint32_t n, cap;
	uint64_t dropped;
	struct timeline_event *event; /* [cap] */

	/* where the pass is */
	uint32_t token, layer, tensor;
	uint64_t since;	      /* when the span of arithmetic began; 0: no pass runs */
	uint64_t layer_since; /* when the layer, or what is before or after all, began */
	uint64_t pass_since;
};

int timeline_open(uint32_t cap, struct timeline **out, struct err *err);
void timeline_close(struct timeline *t);

/* Of a pass: it begins and ends, a layer begins, a tensor's rows are used from here on. */
void timeline_pass(struct timeline *t, uint32_t token);
void timeline_pass_end(struct timeline *t);
void timeline_layer(struct timeline *t, uint32_t layer);
void timeline_tensor(struct timeline *t, uint32_t tensor);
/* The consumer waited from @begin until now. */
void timeline_wait(struct timeline *t, uint64_t begin);
void timeline_read(struct timeline *t, uint64_t begin, uint32_t lane, uint32_t file, uint64_t off,
		   uint64_t bytes);

#endif
