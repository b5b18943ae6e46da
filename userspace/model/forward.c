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
#include <math.h>
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

/* The shape of a layer's KV cache. */
static struct kv_layer forward_kv(const struct forward_params *p)
{
	return (struct kv_layer){
		.type = p->kv_type,
		.n_head_kv = p->model->hp.n_head_kv,
		.head_dim = p->model->hp.head_dim,
		.n_ctx = p->n_ctx,
	};
}

struct kv_layer forward_kv_layer(const struct forward *f, uint32_t il)
{
	struct kv_layer l = forward_kv(&f->p);

	l.data = f->kv.base + kv_bytes(&l) * il;
	return l;
}

struct attn_shape forward_attn_shape(const struct forward_params *p)
{
	const struct hparams *hp = &p->model->hp;

	return (struct attn_shape){
		.max_ctx = p->n_ctx,
		.n_head = hp->n_head,
		.n_head_kv = hp->n_head_kv,
		.head_dim = hp->head_dim,
	};
}

void forward_bytes(const struct forward_params *p, uint64_t *buffers, uint64_t *kv)
{
	const struct hparams *hp = &p->model->hp;
	uint64_t heads = 2ull * hp->n_head + 2ull * hp->n_head_kv; /* q, attn, k, v */
	uint64_t per_tok = 2ull * hp->n_embd + heads * hp->head_dim + 2ull * hp->n_ff + hp->n_rot;
	struct attn_shape shape = forward_attn_shape(p);
	struct kv_layer layer = forward_kv(p);

	/* the activation's three formats take 4 + 1 + 1 bytes an element, and scales */
	*buffers = (per_tok * 4 + act_width(hp) * 25 / 4) * p->max_tok +
		   (uint64_t)hp->n_vocab * 4 * (p->all_logits ? p->max_tok : 1) +
		   cpu_device_bytes(&shape, act_width(hp), p->max_tok, p->n_threads);
	*kv = (uint64_t)hp->n_layer * kv_bytes(&layer);
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
	f->y = alloc_floats(n * hp->n_embd);
	f->q = alloc_floats(n * hp->n_head * hp->head_dim);
	f->attn = alloc_floats(n * hp->n_head * hp->head_dim);
	f->k = alloc_floats(n * hp->n_head_kv * hp->head_dim);
	f->v = alloc_floats(n * hp->n_head_kv * hp->head_dim);
	f->gate = alloc_floats(n * hp->n_ff);
	f->up = alloc_floats(n * hp->n_ff);
	f->cos = alloc_floats(n * (hp->n_rot / 2));
	f->sin = alloc_floats(n * (hp->n_rot / 2));
	f->logits = alloc_floats((f->p.all_logits ? n : 1) * hp->n_vocab);
	f->act = f->p.dev->ops->act_new(f->p.dev, act_width(hp), n);
	f->small = calloc(f->p.model->n_plan, sizeof(*f->small));
	f->small_copy = calloc(f->p.model->n_plan, sizeof(*f->small_copy));
	f->seg = calloc((size_t)max_seg * MATMUL_MAX, sizeof(*f->seg));
	f->next_seg = calloc((size_t)max_seg * MATMUL_MAX, sizeof(*f->next_seg));
	f->held = calloc((size_t)max_seg * MATMUL_MAX, sizeof(*f->held));
	f->unit = malloc(embd->row_bytes * weight_unit(embd));
	f->row = malloc(embd->row_bytes);
	return f->x && f->attn && f->y && f->q && f->k && f->v && f->gate && f->up && f->cos &&
	       f->sin && f->logits && f->act && f->small && f->small_copy && f->seg &&
	       f->next_seg && f->held && f->unit && f->row;
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
	/* zeroes, as kv.h asks, and pages only where there are positions */
	if (!huge_map(&f->kv, kv, 0) || !buffers_open(f)) {
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
	free(f->next_seg);
	free(f->held);
	free(f->unit);
	free(f->row);
	free(f->x);
	free(f->attn);
	free(f->y);
	free(f->q);
	free(f->k);
	free(f->v);
	free(f->gate);
	free(f->up);
	free(f->cos);
	free(f->sin);
	free(f->logits);
	huge_unmap(&f->kv);
	free(f);
}

/* ---- weights ---- */

/* Where forward_linear() is: the next segment of one of its matrices, and what it holds. */
struct walk {
	const struct linear *l;
	size_t n, at;	   /* matrices; the one that is next */
	uint32_t seg;	   /* its next segment */
	uint32_t n_held;   /* segments acquired */
	uint32_t n_stream; /* of them, streamed ones */
};

static struct mat mat_of(const struct linear *l, const struct mat_seg *seg)
{
	const struct gguf_tensor *t = l->w->t;

	return (struct mat){
		.y = l->y,
		.type = t->type,
		.packed = t->packed,
		.n_in = t->ne[0],
		.n_out = t->n_rows,
		.row_bytes = t->row_bytes,
		.seg = seg,
	};
}

/* A segment of the plan as rows, its extent being at @base. */
static struct mat_seg rows_at(const struct plan_seg *s, const struct gguf_tensor *t,
			      const char *base)
{
	const uint32_t unit = weight_unit(t);
	const uint64_t row0 = s->row0 * unit;

	return (struct mat_seg){
		.data = base + s->off,
		.row0 = row0,
		.n_rows = MIN(s->n_rows * unit, t->n_rows - row0),
	};
}

/* Acquires the next segment into the end of f->seg; 0 where no more may be held, or errno. */
static int acquire_next(struct forward *f, struct walk *k, struct err *err)
{
	const struct plan *plan = f->p.plan;
	const struct weight *w = k->l[k->at].w;
	const struct plan_seg *s = &plan->seg[plan->tensor[w->plan].seg0 + k->seg];
	bool streams = plan->extent[s->extent].kind == EXTENT_STREAM;
	const void *base;
	int r;

	if (streams && k->n_stream == plan->max_acquire)
		return 0;
	r = source_acquire(f->p.src, s->extent, &base, err);
	if (r)
		return r;
	f->seg[k->n_held] = rows_at(s, w->t, base);
	f->held[k->n_held++] = s->extent;
	k->n_stream += streams;
	k->seg++;
	return 1;
}

/* As many segments as may be held, and the matrices that they are of; *n_mat may become 0. */
static int acquire_some(struct forward *f, struct walk *k, struct mat *mat, size_t *n_mat,
			struct err *err)
{
	int r = 1;

	*n_mat = 0;
	k->n_held = k->n_stream = 0;
	while (r > 0 && k->at < k->n) {
		const struct weight *w = k->l[k->at].w;
		struct mat *m = &mat[*n_mat];

		*m = mat_of(&k->l[k->at], &f->seg[k->n_held]);
		timeline_tensor(f->p.timeline, w->plan);
		while (k->seg < f->p.plan->tensor[w->plan].n_seg) {
			r = acquire_next(f, k, err);
			if (r <= 0)
				break;
			m->n_seg++;
		}
		*n_mat += m->n_seg > 0;
		if (r > 0) {
			k->at++;
			k->seg = 0;
		}
	}
	return r < 0 ? r : 0;
}

/* The segments of a matrix into @seg, as many as there are; 0 where not all are resident. */
static unsigned int resident_segs(const struct forward *f, const struct weight *w,
				  struct mat_seg *seg)
{
	const struct plan_tensor_segs *ts = &f->p.plan->tensor[w->plan];

	for (uint32_t i = 0; i < ts->n_seg; i++) {
		const struct plan_seg *s = &f->p.plan->seg[ts->seg0 + i];
		const char *base = f->p.src->resident[s->extent];

		if (!base)
			return 0;
		seg[i] = rows_at(s, w->t, base);
	}
	return ts->n_seg;
}

void forward_expect(struct forward *f, const struct linear *l, size_t n)
{
	struct mat_seg *seg = f->next_seg;
	size_t n_mat = 0;

	for (; n_mat < n; n_mat++) {
		struct mat *m = &f->next[n_mat];

		*m = mat_of(&l[n_mat], seg);
		m->n_seg = resident_segs(f, l[n_mat].w, seg);
		if (!m->n_seg)
			break;
		seg += m->n_seg;
	}
	/* a batch has other pieces, and time for arithmetic */
	f->n_next = n_mat == n && f->n_tok == 1 ? n : 0;
}

void forward_expect_attention(struct forward *f, const struct attn_args *a)
{
	f->kv_next = *a->kv;
	f->attn_next = *a;
	f->attn_next.kv = &f->kv_next;
}

/*
 * What is expected after a linear is told to the device before the last of its matmuls: streamed
 * rows may take several.
 */
static void tell_expected(struct forward *f)
{
	struct device *d = f->p.dev;

	d->ops->expect(d, f->next, f->n_next);
	if (f->attn_next.n_tok)
		d->ops->expect_attention(d, &f->attn_next);
}

int forward_linear(struct forward *f, const struct linear *l, size_t n, struct act *x,
		   struct err *err)
{
	struct walk k = {.l = l, .n = n};
	struct mat mat[MATMUL_MAX];
	size_t n_mat;
	int r = 0;

	while (!r && k.at < k.n) {
		uint32_t first = k.l[k.at].w->plan;

		r = acquire_some(f, &k, mat, &n_mat, err);

		/* arithmetic on all of them counts as the first's */
		timeline_tensor(f->p.timeline, first);
		if (!r && n_mat && k.at == k.n)
			tell_expected(f);
		if (!r && n_mat)
			f->p.dev->ops->matmul(f->p.dev, mat, n_mat, x);
		/* pinned ones are released for nothing */
		for (uint32_t i = 0; i < k.n_held; i++)
			source_release(f->p.src, f->held[i]);
		timeline_tensor(f->p.timeline, TIMELINE_NONE);
	}
	f->n_next = 0;
	f->attn_next.n_tok = 0;
	return r;
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

/* The angle of pair i at position p is p * inv_freq[i], whatever the layer. */
static void set_angles(struct forward *f)
{
	const struct hparams *hp = f->hp;
	float *cos = f->cos, *sin = f->sin;

	for (uint32_t t = 0; t < f->n_tok; t++)
		for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
			float angle = (float)(f->pos0 + t) * hp->inv_freq[i];

			*cos++ = cosf(angle) * hp->rope_mscale;
			*sin++ = sinf(angle) * hp->rope_mscale;
		}
}

int forward_run(struct forward *f, const int32_t *token, uint32_t n_tok, uint32_t pos0, bool batch,
		struct err *err)
{
	int r;

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
	set_angles(f);
	timeline_pass(f->p.timeline, pos0);
	r = f->p.model->ops->forward(f, err);
	timeline_pass_end(f->p.timeline);
	return r;
}
