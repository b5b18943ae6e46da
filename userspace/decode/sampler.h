/* SPDX-License-Identifier: MIT */
/*
 * From logits to a token. The steps, in order: repeat penalty, top-k, softmax, top-p, min-p,
 * temperature, draw. temperature 0 is greedy: the largest logit after the penalty, the lowest
 * id among equals. The same seed and logits give the same tokens on every machine.
 */
#ifndef WEIR_DECODE_SAMPLER_H
#define WEIR_DECODE_SAMPLER_H

#include <stdint.h>

#include "base/err.h"

#define SAMPLER_LAST 64 /* tokens that the repeat penalty looks back on */

struct sampler_params {
	float temp;	      /* 0: greedy */
	uint32_t top_k;	      /* 0: off */
	float top_p;	      /* 1: off */
	float min_p;	      /* 0: off */
	float repeat_penalty; /* 1: off */
	uint64_t seed;
};

#define SAMPLER_DEFAULTS                                                                           \
	{                                                                                          \
		.temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.0f  \
	}

struct sampler;

/* 0, or -EINVAL with a sentence: what sampler_open() would refuse. */
int sampler_check(const struct sampler_params *p, struct err *err);
int sampler_open(const struct sampler_params *p, uint32_t n_vocab, struct sampler **out,
		 struct err *err);
void sampler_close(struct sampler *s);

/* As just opened: no tokens yet, and the seed anew. */
void sampler_reset(struct sampler *s);

/* A token that is now part of the text: the repeat penalty counts it. */
void sampler_accept(struct sampler *s, int32_t token);

/* @logits: [n_vocab], not changed. Return: a token, or -1 where no logit is a number. */
int32_t sampler_sample(struct sampler *s, const float *logits);

#endif
