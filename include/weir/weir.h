/* SPDX-License-Identifier: MIT */
/*
 * libweir: run a language model from flash inside a DRAM budget.
 *
 * All functions that can fail return 0 (or a count) or a negative errno, and leave one sentence
 * for a person in the handle: weir_error(). The library keeps no global state, never prints and
 * never exits. A handle may be used by one thread at a time; several handles are independent.
 *
 *	struct weir *w = weir_new();
 *	struct weir_options o = WEIR_OPTIONS_INIT;
 *	char text[256];
 *
 *	o.budget = "2G";
 *	if (weir_open(w, "model.gguf", &o) || weir_prompt(w, "Once upon a time", -1) < 0)
 *		fprintf(stderr, "%s\n", weir_error(w));
 *	while (weir_next(w, text, sizeof(text)) > 0)
 *		fputs(text, stdout);
 *	weir_free(w);
 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#else
#define WEIR_API
#endif

struct weir;

/**
 * struct weir_options - how a model is opened
 * @size: sizeof(struct weir_options), so that the struct can grow
 * @n_threads: threads for arithmetic; 0: physical cores
 * @budget: DRAM for weights, "2G", "512M" or "50%"; NULL: all of them if they fit in free
 *	memory, else what is free less a reserve
 * @source: "auto", "uring" or "mmap"; NULL: auto
 * @pre: name of a pre-tokenizer to use instead of the file's, or NULL
 * @n_ctx: context length in tokens; 0: the model's, capped by memory
 * @top_k: sample from that many best tokens; 0: from all
 * @temp: temperature; 0: greedy
 * @top_p: sample from the best tokens that together have this probability; 1: from all
 * @min_p: drop tokens less probable than this share of the best one; 0: none
 * @repeat_penalty: divides logits of the last 64 tokens; 1: off
 * @seed: of the random numbers; the same seed gives the same text
 * @cancel: becomes non-zero (from a signal handler, say) to end a call with -EINTR; or NULL
 */
struct weir_options {
	size_t size;
	uint32_t n_threads;
	uint32_t n_ctx;
	const char *budget;
	const char *source;
	const char *pre;
	uint32_t top_k;
	float temp;
	float top_p;
	float min_p;
	float repeat_penalty;
	uint64_t seed;
	const volatile int *cancel;
};

#define WEIR_OPTIONS_INIT                                                                          \
	{                                                                                          \
		sizeof(struct weir_options), 0, 0, 0, 0, 0, 40, 0.8f, 0.95f, 0.05f, 1.0f, 0, 0     \
	}

/**
 * struct weir_stats - what a handle has done since weir_open()
 * @size: sizeof(struct weir_stats), set by the caller
 * @sweep_bytes: W, bytes of weights that one pass reads
 * @pinned_bytes: of them held in DRAM
 * @stream_bytes: read from flash by each pass
 * @pool_bytes: DRAM taken for weights
 * @flash_read_bytes: read from flash so far, filling the pinned part included
 * @n_prompt: tokens run as prompt
 * @n_decode: tokens generated
 * @prompt_ns: time spent on prompts, in nanoseconds
 * @decode_ns: time spent on generated tokens
 * @stall_ns: of both, time spent waiting for flash
 */
struct weir_stats {
	size_t size;
	uint64_t sweep_bytes;
	uint64_t pinned_bytes;
	uint64_t stream_bytes;
	uint64_t pool_bytes;
	uint64_t flash_read_bytes;
	uint64_t n_prompt;
	uint64_t n_decode;
	uint64_t prompt_ns;
	uint64_t decode_ns;
	uint64_t stall_ns;
};

/** weir_version() - "major.minor.patch" of the library */
WEIR_API const char *weir_version(void);

/** weir_new() - a handle without a model; NULL when memory is out */
WEIR_API struct weir *weir_new(void);

/** weir_free() - closes the model and frees the handle; NULL is fine */
WEIR_API void weir_free(struct weir *w);

/** weir_error() - the sentence of the last failure; "" where there was none */
WEIR_API const char *weir_error(const struct weir *w);

/**
 * weir_open() - open a model and fill its pinned part
 * @w: handle without a model
 * @path: GGUF file, or any part of a split model
 * @o: options, or NULL for defaults
 *
 * Return: 0; -EINVAL bad file or option, -EOPNOTSUPP a model that weir does not run, -ENOSPC
 * the budget is too small, -ENOMEM, -EBUSY the handle has a model, -EINTR, or a file's errno.
 */
WEIR_API int weir_open(struct weir *w, const char *path, const struct weir_options *o);

/**
 * weir_prompt() - append text to the context
 * @text: UTF-8; special tokens such as <|im_end|> are recognised
 * @len: bytes, or -1: up to the NUL
 *
 * At the start of a context BOS is added where the model wants it.
 * Return: tokens that the text became, or a negative errno (-ENOSPC: the context is full).
 */
WEIR_API int weir_prompt(struct weir *w, const char *text, ptrdiff_t len);

/**
 * weir_next() - generate text
 * @buf: receives NUL-terminated UTF-8 that never ends inside a character
 * @size: of @buf, at least 64
 *
 * Generates tokens until there is text to give. Return: its length in bytes; 0 when the model
 * has ended its text; or a negative errno (-ENOSPC: the context is full, -EINTR, -EDOM: the
 * model's output is not a number, or a file's errno).
 */
WEIR_API int weir_next(struct weir *w, char *buf, size_t size);

/** weir_reset() - forget the context, keep the model */
WEIR_API void weir_reset(struct weir *w);

/** weir_stats() - fills *st as far as st->size reaches; 0 or -EINVAL */
WEIR_API int weir_stats(const struct weir *w, struct weir_stats *st);

#ifdef __cplusplus
}
#endif

#endif
