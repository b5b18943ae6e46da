// SPDX-License-Identifier: MIT
/*
 * Nucleus sampling (arXiv 1904.09751), min-p (arXiv 2407.01082) and the repeat penalty of
 * CTRL (arXiv 1909.05858): a positive logit of a recent token is divided by it, a negative one
 * multiplied.
 *
 * The vocabulary is sorted only as far as needed: top-k by a heap of k, or whole where top-k
 * is off.
 */
#include "decode/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

struct candidate {
	float logit;
	int32_t id;
	double p;
};

struct sampler {
	struct sampler_params p;
	uint32_t n_vocab;
	uint64_t rng;
	int32_t last[SAMPLER_LAST]; /* a ring */
	uint32_t n_last;
	float *logit;		/* [n_vocab], after the penalty */
	struct candidate *cand; /* [n_vocab] */
};

int sampler_check(const struct sampler_params *p, struct err *err)
{
	if (!(p->temp >= 0) || !(p->top_p >= 0) || !(p->min_p >= 0) || p->min_p > 1 ||
	    !(p->repeat_penalty > 0))
		return err_set(err, -EINVAL,
			       "sampling: temperature, top-p >= 0, min-p 0 to 1 and repeat penalty "
			       "> 0 are possible");
	return 0;
}

int sampler_open(const struct sampler_params *p, uint32_t n_vocab, struct sampler **out,
		 struct err *err)
{
	struct sampler *s;
	int r = sampler_check(p, err);

	if (r)
		return r;
	s = calloc(1, sizeof(*s));
	if (s) {
		s->logit = malloc(n_vocab * sizeof(*s->logit));
		s->cand = malloc(n_vocab * sizeof(*s->cand));
	}
	if (!s || !s->logit || !s->cand) {
		sampler_close(s);
		return err_set(err, -ENOMEM, "out of memory for sampling from %u tokens", n_vocab);
	}
	s->p = *p;
	s->n_vocab = n_vocab;
	s->rng = p->seed;
	*out = s;
	return 0;
}

void sampler_close(struct sampler *s)
{
	if (!s)
		return;
	free(s->logit);
	free(s->cand);
	free(s);
}

void sampler_reset(struct sampler *s)
{
	s->n_last = 0;
	s->rng = s->p.seed;
}

void sampler_accept(struct sampler *s, int32_t token)
{
	s->last[s->n_last++ % SAMPLER_LAST] = token;
}

/* splitmix64 (Steele, Lea, Flood 2014): uniform in [0, 1) */
static double uniform(struct sampler *s)
{
	uint64_t z = s->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void penalize(struct sampler *s)
{
	uint32_t n = MIN(s->n_last, (uint32_t)SAMPLER_LAST);

	if (s->p.repeat_penalty == 1)
		return;
	for (uint32_t i = 0; i < n; i++) {
		bool again = false;

		/* each token is punished once, however often it stands there */
		for (uint32_t j = 0; j < i && !again; j++)
			again = s->last[j] == s->last[i];
		if (again || s->last[i] < 0 || (uint32_t)s->last[i] >= s->n_vocab)
			continue;
		if (s->logit[s->last[i]] > 0)
			s->logit[s->last[i]] /= s->p.repeat_penalty;
		else
			s->logit[s->last[i]] *= s->p.repeat_penalty;
	}
}

static int32_t greedy(const struct sampler *s)
{
	int32_t best = -1;

	for (uint32_t i = 0; i < s->n_vocab; i++)
		if (!isnan(s->logit[i]) && (best < 0 || s->logit[i] > s->logit[best]))
			best = (int32_t)i;
	return best;
}

/* Larger logits first, lower ids first among equals: a total order, so results are stable. */
static bool before(const struct candidate *a, const struct candidate *b)
{
	return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static int compare(const void *a, const void *b)
{
	return before(a, b) ? -1 : before(b, a);
}

/* heap[0] is the worst of the k best */
static void sift_down(struct candidate *heap, uint32_t n, uint32_t i)
{
	for (;;) {
		uint32_t c = 2 * i + 1;
		struct candidate t;

		if (c >= n)
			return;
		if (c + 1 < n && before(&heap[c], &heap[c + 1]))
			c++;
		if (!before(&heap[i], &heap[c]))
			return;
		t = heap[i];
		heap[i] = heap[c];
		heap[c] = t;
		i = c;
	}
}

/* The k best in descending order; returns how many there are. */
static uint32_t top_k(struct sampler *s, uint32_t k)
{
	struct candidate *c = s->cand;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_vocab; i++) {
		struct candidate x = {.logit = s->logit[i], .id = (int32_t)i};

		if (isnan(x.logit))
			continue;
		if (n < k) {
			c[n++] = x;
			if (n == k)
				for (uint32_t j = k / 2; j-- > 0;)
					sift_down(c, k, j);
		} else if (before(&x, &c[0])) {
			c[0] = x;
			sift_down(c, k, 0);
		}
	}
	qsort(c, n, sizeof(*c), compare);
	return n;
}

static void softmax(struct candidate *c, uint32_t n, double temp)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		c[i].p = exp(((double)c[i].logit - (double)c[0].logit) / temp);
		sum += c[i].p;
	}
	for (uint32_t i = 0; i < n; i++)
		c[i].p /= sum;
}

int32_t sampler_sample(struct sampler *s, const float *logits)
{
	struct candidate *c = s->cand;
	double sum = 0, u;
	uint32_t n, keep;

	memcpy(s->logit, logits, s->n_vocab * sizeof(*logits));
	penalize(s);
	if (s->p.temp == 0)
		return greedy(s);
	n = top_k(s, s->p.top_k ? MIN(s->p.top_k, s->n_vocab) : s->n_vocab);
	if (!n || isinf(c[0].logit))
		return greedy(s);
	softmax(c, n, 1);
	if (s->p.top_p < 1) {
		for (keep = 0; keep < n && sum < s->p.top_p; keep++)
			sum += c[keep].p;
		n = MAX(keep, 1u);
	}
	for (keep = 1; keep < n && c[keep].p >= s->p.min_p * c[0].p; keep++)
		;
	n = keep;
	softmax(c, n, s->p.temp);
	u = uniform(s);
	for (uint32_t i = 0; i < n; i++) {
		u -= c[i].p;
		if (u < 0)
			return c[i].id;
	}
	return c[n - 1].id;
}
