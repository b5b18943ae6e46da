// SPDX-License-Identifier: MIT
/*
 * Putting the rooms together, and the choices that a user who says nothing gets: context,
 * budget, source, threads.
 */
#include "decode/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "decode/threads.h"

#define N_BATCH 256

/*
 * What weir leaves of free memory when nobody gives a budget: stacks, heap, the page cache of
 * everything else. 5% and no less than 64 MiB.
 */
static uint64_t reserve_of(uint64_t available)
{
	return MAX(available / 20, 64ull << 20);
}

static int plan_with(const struct model *m, const uint64_t *size, uint64_t budget,
		     struct plan **out, struct err *err)
{
	struct plan_params pp = {.budget = budget};

	return plan_make(m->plan, m->n_plan, size, m->gguf->n_file, &pp, out, err);
}

/* @whole: bytes of a pool that holds everything */
static int budget_bytes(const char *budget, uint64_t whole, uint64_t reserve, uint64_t *out,
			struct err *err)
{
	uint64_t available, keep;

	if (budget)
		return parse_size(budget, whole, out, err);
	available = memory_available();
	keep = reserve + reserve_of(available);
	*out = available > keep ? available - keep : 0;
	return 0;
}

int session_plan(const struct model *m, const char *budget, bool mapped, uint64_t reserve,
		 struct plan **out, struct err *err)
{
	const struct gguf *g = m->gguf;
	uint64_t bytes, *size = malloc(g->n_file * sizeof(*size));
	struct plan *whole = NULL;
	int r;

	if (!size)
		return err_set(err, -ENOMEM, "out of memory for the plan");
	for (uint32_t i = 0; i < g->n_file; i++)
		size[i] = g->file[i].size;
	/* the page cache keeps no budget: every extent is simply there */
	r = plan_with(m, size, UINT64_MAX, &whole, err);
	if (r || mapped)
		goto out;
	r = budget_bytes(budget, whole->pool_bytes, reserve, &bytes, err);
	if (r || bytes >= whole->pool_bytes)
		goto out;
	plan_free(whole);
	whole = NULL;
	r = plan_with(m, size, bytes, &whole, err);
out:
	free(size);
	if (r)
		plan_free(whole);
	else
		*out = whole;
	return r;
}

/* The model's own context, or as much of it as a KV cache of an eighth of free memory holds. */
static uint32_t choose_ctx(const struct session_params *p, const struct forward_params *fp)
{
	struct forward_params one = *fp;
	uint64_t buffers, kv, most;

	if (p->n_ctx)
		return p->n_ctx;
	one.n_ctx = KV_ROUND; /* fewer positions take as much */
	forward_bytes(&one, &buffers, &kv);
	most = memory_available() / 8 / MAX(kv / KV_ROUND, 1ull);
	return (uint32_t)MIN((uint64_t)fp->model->hp.n_ctx_train, MAX(most, 256ull));
}

static uint32_t choose_kv_type(const struct session_params *p, const struct model *m)
{
	if (p->kv_type != KV_AUTO)
		return p->kv_type;
	for (uint32_t i = 0; i < m->n_plan; i++)
		if (m->plan[i].cls == PLAN_SWEEP && m->plan_src[i]->type != WT_F32)
			return WT_F16;
	return WT_F32;
}

static int open_file(struct session *s, const struct session_params *p, struct err *err)
{
	int r = gguf_open(p->path, &s->gguf, err);

	if (!r)
		r = model_open(s->gguf, &s->model, err);
	if (r)
		return r;
	r = tokenizer_open(s->gguf, p->pre, &s->tok, err);
	if (r && (p->need_text || r == -ENOMEM))
		return r;
	if (p->need_text && tokenizer_n_vocab(s->tok) > s->model->hp.n_vocab)
		return err_set(err, -EINVAL,
			       "%s: the vocabulary has %u tokens but the embedding only %u rows",
			       p->path, tokenizer_n_vocab(s->tok), s->model->hp.n_vocab);
	return 0;
}

/*
 * What no memory is there for is said now: later it would be the kernel's out-of-memory killer
 * that says it. @pool: 0 before there is a plan, or where the page cache holds the weights.
 */
static int check_memory(const struct session *s, uint64_t pool, struct err *err)
{
	uint64_t available = memory_available(), rest = s->kv_bytes + s->buffer_bytes;
	char need[32], have[32];

	if (rest > available)
		return err_set(err, -ENOMEM,
			       "a context of %u tokens takes %s of KV cache and buffers, and %s "
			       "are free: use "
			       "a shorter one (-c)",
			       s->n_ctx, format_bytes(rest, need), format_bytes(available, have));
	if (pool > available - rest)
		return err_set(err, -ENOMEM,
			       "a pool of %s for weights does not fit: %s are free beside KV cache "
			       "and buffers; "
			       "use a smaller --budget",
			       format_bytes(pool, need), format_bytes(available - rest, have));
	return 0;
}

static int open_source(struct session *s, const struct session_params *p,
		       const struct source_ops *ops, struct err *err)
{
	struct source_params sp = {
		.n_file = s->gguf->n_file,
		.plan = s->plan,
		.note = p->note,
		.progress = p->progress,
		.arg = p->arg,
		.cancel = p->cancel,
		.timeline = p->timeline,
	};

	s->paths = calloc(s->gguf->n_file, sizeof(*s->paths));
	if (!s->paths)
		return err_set(err, -ENOMEM, "out of memory for file names");
	for (uint32_t i = 0; i < s->gguf->n_file; i++)
		s->paths[i] = s->gguf->file[i].path;
	sp.path = s->paths;
	return ops->open(&sp, &s->src, err);
}

void session_choose(const struct session_params *p, struct model *m, struct forward_params *fp)
{
	*fp = (struct forward_params){
		.model = m,
		.max_tok = p->n_batch ? p->n_batch : N_BATCH,
		.kv_type = choose_kv_type(p, m),
		.all_logits = p->all_logits,
		.n_threads = p->n_threads ? p->n_threads : physical_cores(),
	};
	fp->n_ctx = choose_ctx(p, fp);
	fp->max_tok = MIN(fp->max_tok, fp->n_ctx);
}

int session_open(const struct session_params *p, struct session **out, struct err *err)
{
	const struct source_ops *ops = source_by_name(p->source ? p->source : "auto");
	struct forward_params fp = {0};
	uint64_t start = now_ns();
	struct attn_shape shape;
	struct session *s;
	int r;

	if (!ops)
		return err_set(err, -EINVAL,
			       "source '%s' is not known here: use auto, kmod, uring or mmap",
			       p->source);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory for a session");
	r = open_file(s, p, err);
	if (r)
		goto fail;
	session_choose(p, s->model, &fp);
	if (!kv_possible(fp.kv_type, s->model->hp.head_dim)) {
		r = err_set(
			err, -EINVAL,
			"a KV cache of q8_0 takes heads of a multiple of 32 dimensions, and this "
			"model's have %u: use --kv-type f16",
			s->model->hp.head_dim);
		goto fail;
	}
	fp.cancel = p->cancel;
	fp.timeline = p->timeline;
	s->n_ctx = fp.n_ctx;
	forward_bytes(&fp, &s->buffer_bytes, &s->kv_bytes);
	r = check_memory(s, 0, err);
	if (r)
		goto fail;
	r = session_plan(s->model, p->budget, ops->unbounded, s->buffer_bytes + s->kv_bytes,
			 &s->plan, err);
	if (ops->unbounded && p->budget && p->note)
		p->note(p->arg, "the page cache keeps no budget: with source mmap it is ignored");
	if (!r && !ops->unbounded)
		r = check_memory(s, s->plan->pool_bytes, err);
	if (!r)
		r = open_source(s, p, ops, err);
	if (!r)
		r = team_open(fp.n_threads, &s->team, err);
	if (r)
		goto fail;
	shape = forward_attn_shape(&fp);
	s->dev = cpu_device_open(s->team, &shape);
	if (!s->dev) {
		r = err_set(err, -ENOMEM,
			    "out of memory for a context of %u tokens: use a shorter one (-c)",
			    fp.n_ctx);
		goto fail;
	}
	fp.dev = s->dev;
	fp.src = s->src;
	fp.plan = s->plan;
	r = forward_open(&fp, &s->fwd, err);
	if (r)
		goto fail;
	s->load_ns = now_ns() - start;
	*out = s;
	return 0;
fail:
	session_close(s);
	return r;
}

void session_close(struct session *s)
{
	if (!s)
		return;
	forward_close(s->fwd);
	if (s->dev)
		s->dev->ops->close(s->dev);
	team_close(s->team);
	if (s->src)
		s->src->ops->close(s->src);
	plan_free(s->plan);
	free(s->paths);
	tokenizer_close(s->tok);
	model_close(s->model);
	gguf_close(s->gguf);
	free(s);
}

int session_feed(struct session *s, const int32_t *id, size_t n, struct err *err)
{
	bool several = n > 1 && s->fwd->p.max_tok > 1;

	if (n > s->n_ctx - s->n_past)
		return err_set(err, -ENOSPC,
			       "the context of %u holds %u already, and %zu more token%s not fit: "
			       "use a longer one (-c)",
			       s->n_ctx, s->n_past, n, n == 1 ? " does" : "s do");
	while (n) {
		uint32_t batch = (uint32_t)MIN(n, (size_t)s->fwd->p.max_tok);
		int r = forward_run(s->fwd, id, batch, s->n_past, several, err);

		if (r)
			return r;
		s->n_past += batch;
		id += batch;
		n -= batch;
	}
	return 0;
}

const float *session_logits(const struct session *s)
{
	const struct forward *f = s->fwd;
	size_t last = f->p.all_logits ? f->n_tok - 1 : 0;

	return f->logits + last * f->hp->n_vocab;
}

void session_rewind(struct session *s, uint32_t n)
{
	s->n_past = MIN(s->n_past, n);
}

void session_predict(const struct session *s, const struct machine *m, struct prediction *out)
{
	double kv = (double)s->kv_bytes / (double)align_up(s->n_ctx, KV_ROUND) * s->n_past;

	predict(m, (double)s->plan->sweep_bytes, (double)s->plan->stream_bytes, kv,
		2.0 * (double)s->model->n_weight, out);
}
