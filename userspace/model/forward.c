// SPDX-License-Identifier: MIT
/*
 * The buffers of a pass, and the one place where a weight's rows are acquired and released.
 *
 * A tensor's rows lie in a few segments, some pinned and some streamed. forward_linear() takes
 * the pinned ones for nothing, acquires streamed ones as far as the plan allows at once
 * (plan.max_acquire), multiplies, releases, and goes on until all rows are done.
 *
 * The plan counts a packed tensor in groups of 16 rows, of which the last may be filled up; here
 * they become rows again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/model.h"

/* ---- buffers ---- */

static void *alloc_floats(size_t n)
{
	return aligned_alloc(64, align_up(MAX(n, (size_t)1) * sizeof(float), 64));
}

static size_t act_width(const struct hparams *hp)
{
	return MAX(MAX(hp->n_embd, hp->n_ff), hp->n_head * hp->head_dim);
}

static size_t xn_width(const struct hparams *hp)
{
	return MAX(hp->n_embd, hp->n_head * hp->head_dim);
}

void forward_bytes(const struct forward_params *p, uint64_t *buffers, uint64_t *kv)
{
	const struct hparams *hp = &p->model->hp;
	uint64_t heads = (uint64_t)hp->n_head + 2ull * hp->n_head_kv;
	uint64_t per_tok =
		2ull * hp->n_embd + xn_width(hp) + heads * hp->head_dim + 2ull * hp->n_ff;
	uint64_t elem = p->kv_type == WT_F16 ? 2 : 4;

	/* the activation's three formats take 4 + 1 + 1 bytes an element, and scales */
	*buffers = (per_tok * 4 + act_width(hp) * 25 / 4) * p->max_tok +
		   (uint64_t)hp->n_vocab * 4 * (p->all_logits ? p->max_tok : 1);
	*kv = 2ull * hp->n_layer * hp->n_head_kv * p->n_ctx * hp->head_dim * elem;
}

/* A tensor that is pinned whole, as float: where it lies, or a copy. */
static int small_open(struct forward *f, uint32_t i, struct err *err)
{
	const struct plan *plan = f->p.plan;
	const struct plan_tensor_segs *ts = &plan->tensor[i];
	const struct gguf_tensor *t = f->p.model->plan_src[i];
	const void *data;
	int r;

	if (ts->n_seg != 1)
		return err_set(err, -EINVAL, "tensor %s is not pinned in one piece", t->name.p);
	r = source_acquire(f->p.src, plan->seg[ts->seg0].extent, &data, err);
	if (r)
		return r;
	data = (const char *)data + plan->seg[ts->seg0].off;
	if (t->type == WT_F32 && (uintptr_t)data % sizeof(float) == 0) {
		f->small[i] = data;
		return 0;
	}
	f->small_copy[i] = alloc_floats(t->ne[0]);
	if (!f->small_copy[i])
		return err_set(err, -ENOMEM, "out of memory for tensor %s", t->name.p);
	f->p.dev->ops->dequantize_row(f->p.dev, t->type, data, f->small_copy[i], t->ne[0]);
	f->small[i] = f->small_copy[i];
	return 0;
}

static bool buffers_open(struct forward *f)
{
	const struct gguf_tensor *embd = f->p.model->embd.t;
	const struct hparams *hp = f->hp;
	size_t n = f->p.max_tok;
	uint32_t max_seg = 1;

	for (uint32_t i = 0; i < f->p.plan->n_tensor; i++)
		max_seg = MAX(max_seg, f->p.plan->tensor[i].n_seg);
	f->x = alloc_floats(n * hp->n_embd);
	f->xn = alloc_floats(n * xn_width(hp));
	f->y = alloc_floats(n * hp->n_embd);
	f->q = alloc_floats(n * hp->n_head * hp->head_dim);
	f->k = alloc_floats(n * hp->n_head_kv * hp->head_dim);
	f->v = alloc_floats(n * hp->n_head_kv * hp->head_dim);
	f->gate = alloc_floats(n * hp->n_ff);
	f->up = alloc_floats(n * hp->n_ff);
	f->logits = alloc_floats((f->p.all_logits ? n : 1) * hp->n_vocab);
	f->act = f->p.dev->ops->act_new(f->p.dev, act_width(hp), n);
	f->kv = aligned_alloc(64, align_up(f->kv_bytes, 64));
	f->small = calloc(f->p.model->n_plan, sizeof(*f->small));
	f->small_copy = calloc(f->p.model->n_plan, sizeof(*f->small_copy));
	f->seg = calloc(max_seg, sizeof(*f->seg));
	f->unit = malloc(embd->row_bytes * weight_unit(embd));
	f->row = malloc(embd->row_bytes);
	return f->x && f->xn && f->y && f->q && f->k && f->v && f->gate && f->up && f->logits &&
	       f->act && f->kv && f->small && f->small_copy && f->seg && f->unit && f->row;
}

int forward_open(const struct forward_params *p, struct forward **out, struct err *err)
{
	uint64_t buffers, kv;
	char size[32];
	struct forward *f;
	int r = 0;

	forward_bytes(p, &buffers, &kv);
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(err, -ENOMEM, "out of memory for the buffers of a pass");
	f->p = *p;
	f->hp = &p->model->hp;
	f->kv_bytes = kv;
	if (!buffers_open(f)) {
		r = err_set(
			err, -ENOMEM,
			"out of memory for %s of KV cache and buffers: use a shorter context (-c)",
			format_bytes(buffers + kv, size));
		goto fail;
	}
	for (uint32_t i = 0; i < p->model->n_plan; i++)
		if (p->model->plan[i].cls == PLAN_SMALL) {
			r = small_open(f, i, err);
			if (r)
				goto fail;
		}
	*out = f;
	return 0;
fail:
	forward_close(f);
	return r;
}

void forward_close(struct forward *f)
{
	if (!f)
		return;
	for (uint32_t i = 0; f->small_copy && i < f->p.model->n_plan; i++)
		free(f->small_copy[i]);
	f->p.dev->ops->act_free(f->p.dev, f->act);
	free(f->small_copy);
	free(f->small);
	free(f->seg);
	free(f->unit);
	free(f->row);
	free(f->x);
	free(f->xn);
	free(f->y);
	free(f->q);
	free(f->k);
	free(f->v);
	free(f->gate);
	free(f->up);
	free(f->logits);
	free(f->kv);
	free(f);
}

/* ---- weights ---- */

/* Acquires segment s of the tensor into *out. Streamed ones must be released by release_segs(). */
static int acquire_seg(struct forward *f, const struct weight *w, const struct plan_seg *s,
		       struct mat_seg *out, struct err *err)
{
	uint32_t unit = weight_unit(w->t);
	const void *base;
	int r = source_acquire(f->p.src, s->extent, &base, err);

	if (r)
		return r;
	out->data = (const char *)base + s->off;
	out->row0 = s->row0 * unit;
	out->n_rows = MIN(s->n_rows * unit, w->t->n_rows - out->row0);
	return 0;
}

static void release_segs(struct forward *f, const struct plan_seg *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		source_release(f->p.src, s[i].extent);
}

int forward_linear(struct forward *f, const struct weight *w, struct act *x, float *y,
		   struct err *err)
{
	const struct plan *plan = f->p.plan;
	const struct plan_tensor_segs *ts = &plan->tensor[w->plan];
	const struct plan_seg *seg = &plan->seg[ts->seg0];
	struct mat mat = {
		.type = w->t->type,
		.packed = w->t->packed,
		.n_in = w->t->ne[0],
		.n_out = w->t->n_rows,
		.row_bytes = w->t->row_bytes,
		.seg = f->seg,
	};
	uint32_t done = 0, n, held;
	int r;

	while (done < ts->n_seg) {
		held = 0;
		for (n = 0; done + n < ts->n_seg; n++) {
			bool streams = plan->extent[seg[done + n].extent].kind == EXTENT_STREAM;

			if (streams && held == plan->max_acquire)
				break;
			r = acquire_seg(f, w, &seg[done + n], &f->seg[n], err);
			if (r) {
				release_segs(f, &seg[done], n);
				return r;
			}
			held += streams;
		}
		mat.n_seg = n;
		f->p.dev->ops->matmul(f->p.dev, y, &mat, x);
		release_segs(f, &seg[done], n);
		done += n;
	}
	return 0;
}

/* Where row or group @i of the embedding lies in the pool, or NULL. */
static const char *resident_unit(const struct forward *f, const struct weight *w, uint64_t i)
{
	const uint64_t bytes = f->p.model->plan[w->plan].row_bytes;
	const struct plan *plan = f->p.plan;
	const struct plan_tensor_segs *ts = &plan->tensor[w->plan];

	for (uint32_t k = 0; k < ts->n_seg; k++) {
		const struct plan_seg *s = &plan->seg[ts->seg0 + k];
		const char *base = f->p.src->resident[s->extent];

		if (i >= s->row0 && i - s->row0 < s->n_rows)
			return base ? base + s->off + (i - s->row0) * bytes : NULL;
	}
	return NULL;
}

/* A row of the embedding as a plain file has it, from the pool or from the file. */
static int embedding_row(struct forward *f, uint64_t row, const void **out, struct err *err)
{
	const struct weight *w = &f->p.model->embd;
	const uint64_t bytes = f->p.model->plan[w->plan].row_bytes;
	const uint64_t i = row / weight_unit(w->t);
	int r = 0;

	*out = resident_unit(f, w, i);
	if (!*out) {
		*out = f->unit;
		r = f->p.src->ops->read(f->p.src, w->t->file, w->t->off + i * bytes, f->unit, bytes,
					err);
	}
	if (!r && w->t->packed) {
		unpack_row(w->t->type, *out, row % PACK_ROWS, w->t->ne[0], f->row);
		*out = f->row;
	}
	return r;
}

int forward_embed(struct forward *f, struct err *err)
{
	uint32_t type = f->p.model->embd.t->type, n_embd = f->hp->n_embd;
	struct device *d = f->p.dev;
	const void *row;
	int r;

	for (uint32_t t = 0; t < f->n_tok; t++) {
		r = embedding_row(f, (uint64_t)f->token[t], &row, err);
		if (r)
			return r;
		d->ops->dequantize_row(d, type, row, f->x + (size_t)t * n_embd, n_embd);
	}
	return 0;
}

int forward_run(struct forward *f, const int32_t *token, uint32_t n_tok, uint32_t pos0, bool batch,
		struct err *err)
{
	if (n_tok == 0 || n_tok > f->p.max_tok)
		return err_set(err, -EINVAL, "a batch of %u tokens: 1 to %u are possible", n_tok,
			       f->p.max_tok);
	if (pos0 > f->p.n_ctx || n_tok > f->p.n_ctx - pos0)
		return err_set(err, -ENOSPC,
			       "the context of %u tokens is full: use a longer one (-c)",
			       f->p.n_ctx);
	for (uint32_t i = 0; i < n_tok; i++)
		if (token[i] < 0 || (uint32_t)token[i] >= f->hp->n_vocab)
			return err_set(err, -EINVAL, "token %d is not in the vocabulary of %u",
				       token[i], f->hp->n_vocab);
	f->token = token;
	f->n_tok = n_tok;
	f->pos0 = pos0;
	f->batch = batch;
	return f->p.model->ops->forward(f, err);
}
