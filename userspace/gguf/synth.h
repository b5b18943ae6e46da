/* SPDX-License-Identifier: MIT */
/*
 * Random-weight models of any size, for benchmarks and golden tests.
 *
 * The weights of a matrix have mean 0 and standard deviation 1/sqrt(n_in), so that activations
 * stay of order 1 over any number of layers; norms lie in [0.75, 1.25), biases in +-1/32. The
 * vocabulary is a small SentencePiece one: <unk> <s> </s>, 256 byte tokens, printable ASCII and
 * made-up words. The same parameters give the same bytes on every machine and with every number
 * of threads: the bytes are a function of seed, tensor name and position alone.
 */
#ifndef WEIR_GGUF_SYNTH_H
#define WEIR_GGUF_SYNTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/types.h"

#define SYNTH_MIN_VOCAB	     259u /* 3 special tokens and 256 bytes */
#define SYNTH_OUTPUT_DEFAULT (-1)

struct synth_params {
	const char *path;
	const char *arch; /* "llama", "qwen2" or "qwen3" */
	uint32_t n_layer, n_embd, n_ff;
	uint32_t n_head, n_head_kv;
	uint32_t head_dim; /* 0: n_embd / n_head */
	uint32_t n_vocab;  /* at least SYNTH_MIN_VOCAB */
	uint32_t n_ctx;
	enum wtype type; /* of the layers' matrices */

	/*
	 * enum wtype of output.weight and token_embd.weight. SYNTH_OUTPUT_DEFAULT: as `type`, but
	 * as in popular files Q6_K for the output of a Q4_0 model where n_embd is a multiple of
	 * 256.
	 */
	int output_type;
	bool tied; /* no output.weight: token_embd.weight is the output matrix too */
	uint64_t seed;
	uint32_t alignment; /* of tensors in the file, in bytes; 0: 32 */
	int n_threads;	    /* 0: as many as there are CPUs */

	/* Called from the thread that called synth_model(); bytes of tensor data. Or NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	const volatile int *cancel; /* becomes non-zero to stop; or NULL */
};

/**
 * synth_model() - write a random-weight model
 *
 * Return: 0; -EINVAL parameters that make no model (the sentence says which), -ENOSPC with the
 * bytes that are needed, -EINTR cancelled, -ENOMEM, or write's errno. On failure there is no
 * new file.
 */
int synth_model(const struct synth_params *p, struct err *err);

#endif
