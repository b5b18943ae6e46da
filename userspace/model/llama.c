// SPDX-License-Identifier: MIT
/*
 * The llama family: pre-norm transformers with grouped-query attention, rotary positions and
 * a SwiGLU feed-forward block. llama (Llama 2 and 3, Mistral, Yi, SmolLM, ...) rotates pairs
 * (i, i+1); qwen2 adds biases to q, k, v; qwen3 normalises every head of q and k; both rotate
 * pairs (i, i+n/2).
 *
 * One layer, x: [n_tok][n_embd]:
 *	h = rmsnorm(x);  q, k, v = Wq h, Wk h, Wv h;  rope(q), rope(k)
 *	x = x + Wo attention(q, K, V)
 *	h = rmsnorm(x);  x = x + Wdown (silu(Wgate h) * Wup h)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/model.h"

struct layer {
	struct weight attn_norm, ffn_norm; /* [n_embd] */
	struct weight q, k, v, o;
	struct weight q_bias, k_bias, v_bias, o_bias; /* optional */
	struct weight q_norm, k_norm;		      /* qwen3: [head_dim] */
	struct weight gate, up, down;
};

struct llama {
	struct layer *layer;
	struct weight output_norm, output;
};

static int layer_open(struct model *m, struct layer *l, uint32_t il, struct err *err)
{
	const struct hparams *hp = &m->hp;
	uint64_t d = hp->n_embd, dq = (uint64_t)hp->n_head * hp->head_dim;
	uint64_t dkv = (uint64_t)hp->n_head_kv * hp->head_dim;
	bool no_head_norm = strcmp(m->arch, "qwen3");
	/* in the order in which a pass uses them */
	const struct {
		struct weight *w;
		const char *name;
		enum plan_class cls;
		uint64_t n_in, n_out;
		bool optional;
	} t[] = {
		{&l->attn_norm, "attn_norm.weight", PLAN_SMALL, d, 1, false},
		{&l->q, "attn_q.weight", PLAN_SWEEP, d, dq, false},
		{&l->q_bias, "attn_q.bias", PLAN_SMALL, dq, 1, true},
		{&l->k, "attn_k.weight", PLAN_SWEEP, d, dkv, false},
		{&l->k_bias, "attn_k.bias", PLAN_SMALL, dkv, 1, true},
		{&l->v, "attn_v.weight", PLAN_SWEEP, d, dkv, false},
		{&l->v_bias, "attn_v.bias", PLAN_SMALL, dkv, 1, true},
		{&l->q_norm, "attn_q_norm.weight", PLAN_SMALL, hp->head_dim, 1, no_head_norm},
		{&l->k_norm, "attn_k_norm.weight", PLAN_SMALL, hp->head_dim, 1, no_head_norm},
		{&l->o, "attn_output.weight", PLAN_SWEEP, dq, d, false},
		{&l->o_bias, "attn_output.bias", PLAN_SMALL, d, 1, true},
		{&l->ffn_norm, "ffn_norm.weight", PLAN_SMALL, d, 1, false},
		{&l->gate, "ffn_gate.weight", PLAN_SWEEP, d, hp->n_ff, false},
		{&l->up, "ffn_up.weight", PLAN_SWEEP, d, hp->n_ff, false},
		{&l->down, "ffn_down.weight", PLAN_SWEEP, hp->n_ff, d, false},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
		char name[64];
		int r;

		snprintf(name, sizeof(name), "blk.%u.%s", il, t[i].name);
		r = model_weight(m, t[i].w, name, t[i].cls, t[i].n_in, t[i].n_out, t[i].optional,
				 err);
		if (r)
			return r;
	}
	return 0;
}

static int llama_open(struct model *m, struct err *err)
{
	struct hparams *hp = &m->hp;
	const struct gguf_tensor *embd = gguf_find_tensor(m->gguf, "token_embd.weight");
	bool tied = !gguf_find_tensor(m->gguf, "output.weight");
	struct llama *p;
	int r = 0;

	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory for the model's description");
	m->priv = p;
	p->layer = calloc(hp->n_layer, sizeof(*p->layer));
	if (!p->layer)
		return err_set(err, -ENOMEM, "out of memory for %u layers", hp->n_layer);
	if (!embd)
		return err_set(err, -EINVAL, "%s: tensor token_embd.weight is missing",
			       m->gguf->file[0].path);
	if (embd->n_rows > 1u << 24)
		return err_set(err, -EINVAL,
			       "%s: token_embd.weight has %llu rows, which no vocabulary has",
			       m->gguf->file[0].path, (unsigned long long)embd->n_rows);
	hp->n_vocab = (uint32_t)embd->n_rows;
	hp->rope_style = strcmp(m->arch, "llama") ? ROPE_NEOX : ROPE_NORM;

	if (!tied)
		r = model_weight(m, &m->embd, "token_embd.weight", PLAN_ROWS, hp->n_embd,
				 hp->n_vocab, false, err);
	for (uint32_t il = 0; !r && il < hp->n_layer; il++)
		r = layer_open(m, &p->layer[il], il, err);
	if (!r)
		r = model_weight(m, &p->output_norm, "output_norm.weight", PLAN_SMALL, hp->n_embd,
				 1, false, err);
	if (!r)
		r = model_weight(m, &p->output, tied ? "token_embd.weight" : "output.weight",
				 PLAN_SWEEP, hp->n_embd, hp->n_vocab, false, err);
	if (tied)
		m->embd = p->output;
	return r;
}

static void llama_close(struct model *m)
{
	struct llama *p = m->priv;

	if (!p)
		return;
	free(p->layer);
	free(p);
}

static void add_bias(struct forward *f, const struct weight *b, float *y)
{
	if (b->t)
		f->p.dev->ops->add_bias(f->p.dev, y, forward_small(f, b), b->t->ne[0], f->n_tok);
}

/* What a layer multiplies at once: what is said before and what is done are one list. */
struct qkv {
	struct linear of[3];
};

static struct qkv qkv_of(const struct forward *f, const struct layer *l)
{
	return (struct qkv){{{&l->q, f->q}, {&l->k, f->k}, {&l->v, f->v}}};
}

struct gate_up {
	struct linear of[2];
};

static struct gate_up gate_up_of(const struct forward *f, const struct layer *l)
{
	return (struct gate_up){{{&l->gate, f->gate}, {&l->up, f->up}}};
}

static void expect_layer(struct forward *f, const struct layer *l)
{
	const struct qkv qkv = qkv_of(f, l);

	forward_expect(f, qkv.of, ARRAY_SIZE(qkv.of));
}

/* f->q, f->k, f->v of rmsnorm(f->x); @a: what they are for */
static int queries_keys_values(struct forward *f, const struct layer *l, const struct attn_args *a,
			       struct err *err)
{
	const struct qkv qkv = qkv_of(f, l);
	const struct linear o = {&l->o, f->y};
	const struct hparams *hp = f->hp;
	struct device *d = f->p.dev;
	int r;

	forward_expect_attention(f, a);
	d->ops->act_set_norm(d, f->act, f->x, forward_small(f, &l->attn_norm), hp->rms_eps,
			     hp->n_embd, f->n_tok, f->batch);
	forward_expect(f, &o, 1);
	r = forward_linear(f, qkv.of, ARRAY_SIZE(qkv.of), f->act, err);
	if (r)
		return r;
	add_bias(f, &l->q_bias, f->q);
	add_bias(f, &l->k_bias, f->k);
	add_bias(f, &l->v_bias, f->v);
	if (l->q_norm.t)
		d->ops->rmsnorm(d, f->q, f->q, forward_small(f, &l->q_norm), hp->head_dim,
				(size_t)f->n_tok * hp->n_head, hp->rms_eps);
	if (l->k_norm.t)
		d->ops->rmsnorm(d, f->k, f->k, forward_small(f, &l->k_norm), hp->head_dim,
				(size_t)f->n_tok * hp->n_head_kv, hp->rms_eps);
	return 0;
}

/* f->y = Wo attention(...) of f->x */
static int attention_block(struct forward *f, const struct layer *l, uint32_t il, struct err *err)
{
	const struct hparams *hp = f->hp;
	const struct kv_layer kv = forward_kv_layer(f, il);
	const struct gate_up gate_up = gate_up_of(f, l);
	const struct linear o = {&l->o, f->y};
	struct device *d = f->p.dev;
	const struct attn_args a = {
		.q = f->q,
		.k = f->k,
		.v = f->v,
		.rope = {hp->n_rot, hp->rope_style, f->cos, f->sin},
		.out = f->attn,
		.kv = &kv,
		.n_head = hp->n_head,
		.pos0 = f->pos0,
		.n_tok = f->n_tok,
		.window = hp->window,
		.scale = hp->attn_scale,
	};
	int r = queries_keys_values(f, l, &a, err);

	if (r)
		return r;
	d->ops->attention(d, &a);
	d->ops->act_set(d, f->act, f->attn, (size_t)hp->n_head * hp->head_dim, f->n_tok, f->batch);
	forward_expect(f, gate_up.of, ARRAY_SIZE(gate_up.of));
	r = forward_linear(f, &o, 1, f->act, err);
	if (!r)
		add_bias(f, &l->o_bias, f->y);
	return r;
}

/* What comes after the blocks of layer @il: the next one's, or the vocabulary. */
static void expect_after(struct forward *f, uint32_t il)
{
	const struct llama *p = f->p.model->priv;
	const struct linear output = {&p->output, f->logits};

	if (il + 1 < f->hp->n_layer)
		expect_layer(f, &p->layer[il + 1]);
	else
		forward_expect(f, &output, 1);
}

/* f->y = Wdown (silu(Wgate h) * Wup h), h = rmsnorm(f->x) */
static int ffn_block(struct forward *f, const struct layer *l, uint32_t il, struct err *err)
{
	const struct gate_up gate_up = gate_up_of(f, l);
	const struct linear down = {&l->down, f->y};
	const struct hparams *hp = f->hp;
	struct device *d = f->p.dev;
	int r;

	d->ops->act_set_norm(d, f->act, f->x, forward_small(f, &l->ffn_norm), hp->rms_eps,
			     hp->n_embd, f->n_tok, f->batch);
	forward_expect(f, &down, 1);
	r = forward_linear(f, gate_up.of, ARRAY_SIZE(gate_up.of), f->act, err);
	if (r)
		return r;
	d->ops->act_set_swiglu(d, f->act, f->gate, f->up, hp->n_ff, f->n_tok, f->batch);
	expect_after(f, il);
	return forward_linear(f, &down, 1, f->act, err);
}

static int llama_forward(struct forward *f, struct err *err)
{
	const struct llama *p = f->p.model->priv;
	const struct hparams *hp = f->hp;
	struct device *d = f->p.dev;
	size_t n = (size_t)f->n_tok * hp->n_embd;
	uint32_t n_out = f->p.all_logits ? f->n_tok : 1;
	const float *last = f->x + (size_t)(f->n_tok - n_out) * hp->n_embd;
	const struct linear output = {&p->output, f->logits};
	int r;

	r = forward_embed(f, err);
	for (uint32_t il = 0; !r && il < hp->n_layer; il++) {
		if (f->p.cancel && *f->p.cancel)
			return err_set(err, -EINTR, "interrupted");
		timeline_layer(f->p.timeline, il);
		r = attention_block(f, &p->layer[il], il, err);
		if (r)
			break;
		d->ops->add(d, f->x, f->y, n);
		r = ffn_block(f, &p->layer[il], il, err);
		if (r)
			break;
		d->ops->add(d, f->x, f->y, n);
	}
	timeline_layer(f->p.timeline, TIMELINE_NONE);
	if (r)
		return r;
	/* one token is not worth packing the vocabulary */
	d->ops->act_set_norm(d, f->act, last, forward_small(f, &p->output_norm), hp->rms_eps,
			     hp->n_embd, n_out, f->batch && f->p.all_logits);
	/* of the next token */
	expect_layer(f, &p->layer[0]);
	return forward_linear(f, &output, 1, f->act, err);
}

static const char *const llama_arch[] = {"llama", "qwen2", "qwen3", NULL};

const struct model_ops model_llama = {
	.arch = llama_arch,
	.open = llama_open,
	.close = llama_close,
	.forward = llama_forward,
};
