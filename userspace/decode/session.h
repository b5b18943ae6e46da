/* SPDX-License-Identifier: MIT */
/*
 * A session: one model, one pool, one schedule, and a conversation's state.
 *
 * session_open() puts the rooms together: file -> model -> plan -> source -> device -> buffers.
 * session_feed() runs tokens through the model in batches and leaves the logits of the last.
 */
#ifndef WEIR_DECODE_SESSION_H
#define WEIR_DECODE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gguf/gguf.h"
#include "kernels/device.h"
#include "model/model.h"
#include "stream/stream.h"
#include "text/text.h"

/* f32 for a model whose matrices are all F32, which is run for its precision; else f16. */
#define KV_AUTO WT_COUNT

struct session_params {
	const char *path;
	/* "2G", "50%"; NULL: all if it fits, else what is free less a reserve */
	const char *budget;
	const char *source; /* "auto", "uring", "mmap"; NULL: auto */
	const char *pre;    /* pre-tokenizer, or NULL: the file's */
	uint32_t n_ctx;	    /* 0: the model's, capped by memory */
	uint32_t n_batch;   /* tokens in one pass at most; 0: 256 */
	int n_threads;	    /* 0: physical cores */
	uint32_t kv_type;   /* WT_F16, WT_F32, WT_Q8_0 or KV_AUTO */
	bool all_logits;
	bool need_text; /* fail where there is no usable tokenizer */
	void (*note)(void *arg, const char *sentence);
	void (*progress)(void *arg, uint64_t done, uint64_t total); /* filling what is pinned */
	void *arg;
	const volatile int *cancel;
	struct timeline *timeline; /* what passes and reads do when; or NULL */
};

struct session {
	struct gguf *gguf;
	struct model *model;
	struct tokenizer *tok; /* NULL without need_text where the file has none */
	const char **paths;
	struct plan *plan;
	struct source *src;
	struct team *team;
	struct device *dev;
	struct forward *fwd;
	uint32_t n_ctx;
	uint32_t n_past; /* tokens in the KV cache */
	uint64_t buffer_bytes, kv_bytes;
	uint64_t load_ns; /* from open to ready */
};

int session_open(const struct session_params *p, struct session **out, struct err *err);
void session_close(struct session *s);

/**
 * session_feed() - run tokens through the model
 * @id: [n] tokens that follow what is in the cache
 *
 * Afterwards session_logits() is [n_vocab] of the last token. On error the cache holds what
 * the completed batches put there.
 * Return: 0; -ENOSPC context full; -EINTR cancelled; the source's error.
 */
int session_feed(struct session *s, const int32_t *id, size_t n, struct err *err);
const float *session_logits(const struct session *s);

/* Forget all but the first n tokens. */
void session_rewind(struct session *s, uint32_t n);

/* The limits of performance.md for this session's plan, per decoded token at n_past. */
void session_predict(const struct session *s, const struct machine *m, struct prediction *out);

/*
 * What a session with these parameters takes for what they leave open: context, batch and type
 * of the KV cache. The rest of @fp is zero.
 */
void session_choose(const struct session_params *p, struct model *m, struct forward_params *fp);

/*
 * The plan of a model without opening a source; for `weir plan`. @budget as in session_params;
 * @reserve: bytes that KV cache and buffers will take of what is free.
 */
int session_plan(const struct model *m, const char *budget, bool mapped, uint64_t reserve,
		 struct plan **out, struct err *err);

#endif
