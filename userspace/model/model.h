/* SPDX-License-Identifier: MIT */
/*
 * Models: hyper-parameters, tensors, the forward pass. One file a family of architectures.
 *
 * A model is opened from a parsed GGUF: it knows its tensors and in which order a pass reads
 * them (`plan`), and nothing of where their bytes are. A `struct forward` binds it to a plan,
 * a source and a device, and holds the buffers of a pass. The pass itself is written in plain
 * calls against the device's operations; weights are acquired just before an operation uses
 * them and released just after it.
 */
#ifndef WEIR_MODEL_MODEL_H
#define WEIR_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/huge.h"
#include "gguf/gguf.h"
#include "kernels/device.h"
#include "kernels/packed.h"
#include "stream/stream.h"

/* Hyper-parameters under their usual names; keys <arch>.* of the file. */
struct hparams {
	uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab;
	uint32_t n_ctx_train;
	uint32_t window; /* sliding window in positions, 0 for none */
	float rms_eps;
	float attn_scale; /* 1/sqrt(head_dim) unless the file says otherwise */

	/* rotary position embedding */
	enum rope_style rope_style;
	uint32_t n_rot;
	float rope_mscale; /* factor on cos and sin (YaRN), else 1 */
	float *inv_freq;   /* [n_rot/2]: base^(-2i/n_rot), scaling included */
};

/* A tensor of the model and its place in the order of use. */
struct weight {
	const struct gguf_tensor *t; /* NULL: this model has none */
	uint32_t plan;		     /* index into model.plan */
};

/* Rows of a tensor that lie together and are planned, read and handed out as one. */
static inline uint32_t weight_unit(const struct gguf_tensor *t)
{
	return t->packed ? PACK_ROWS : 1;
}

struct model_ops;

struct model {
	const struct model_ops *ops;
	const struct gguf *gguf;
	const char *arch;
	struct hparams hp;
	uint64_t n_weight; /* matrix weights that one token is multiplied with: flop = 2 n_weight */

	struct weight embd; /* input embedding [n_vocab][n_embd] */
	void *priv;	    /* the family's own tensors */

	/*
	 * Tensors in order of use, for plan_make(). A tied embedding stands here once; rows of a
	 * packed tensor are groups.
	 */
	uint32_t n_plan, cap_plan;
	struct plan_tensor *plan;
	const struct gguf_tensor **plan_src;
};

struct forward;

/* What a family of architectures implements. */
struct model_ops {
	const char *const *arch; /* names in general.architecture, NULL-terminated */
	int (*open)(struct model *m, struct err *err);
	void (*close)(struct model *m);
	/* See forward_run(). */
	int (*forward)(struct forward *f, struct err *err);
};

/**
 * model_open() - hyper-parameters and tensors of a GGUF
 * @g: parsed file; must outlive the model
 *
 * Return: 0; -EOPNOTSUPP for an architecture or feature that weir does not run (named in the
 * sentence); -EINVAL for a missing or misshapen tensor or key (named); -ENOMEM.
 */
int model_open(const struct gguf *g, struct model **out, struct err *err);
void model_close(struct model *m);

/* ---- a pass ---- */

struct forward_params {
	struct model *model;
	struct device *dev;
	struct source *src;
	const struct plan *plan; /* made of model.plan */
	uint32_t max_tok;	 /* largest batch */
	uint32_t n_ctx;
	uint32_t kv_type;	    /* WT_F16, WT_F32 or WT_Q8_0 */
	int n_threads;		    /* of the device */
	bool all_logits;	    /* of every position of a batch, not of its last alone */
	const volatile int *cancel; /* becomes non-zero to end a pass with -EINTR; or NULL */
	struct timeline *timeline;  /* the source's, or NULL */
};

/*
 * Buffers of a pass. Memory is taken at open alone: forward_bytes() says how much.
 * KV cache: per layer keys and values, as kernels/kv.h has them.
 */
struct forward {
	struct forward_params p;
	const struct hparams *hp;

	/* the batch */
	const int32_t *token; /* [n_tok] */
	uint32_t n_tok;
	uint32_t pos0;
	bool batch; /* of several tokens, of which this may be the rest */

	float *x;	  /* [max_tok][n_embd] residual stream */
	float *y;	  /* [max_tok][n_embd] what a block adds to x */
	float *q;	  /* [max_tok][n_head][head_dim] */
	float *attn;	  /* [max_tok][n_head][head_dim] attention's result */
	float *k, *v;	  /* [max_tok][n_head_kv][head_dim] */
	float *gate, *up; /* [max_tok][n_ff] */
	float *cos, *sin; /* [max_tok][n_rot/2] of the batch's positions, times rope_mscale */
	float *logits;	  /* [max_tok or 1][n_vocab] */
	struct act *act;

	struct huge kv; /* [n_layer]: keys and values of kernels/kv.h */

	const float **small;	  /* [n_plan]: PLAN_SMALL tensors as float, else NULL */
	float **small_copy;	  /* [n_plan]: owned where the file's are not aligned float */
	struct mat_seg *seg;	  /* scratch: the segments of one operation */
	struct mat_seg *next_seg; /* scratch: of the next */
	uint32_t *held;		  /* scratch: the extents that they are of */
	void *unit;		  /* scratch: a row of the embedding as stored, or its group */
	void *row;		  /* scratch: a row that was taken out of its group */

	/* what comes after the next forward_linear(), where that is known; else 0 of it */
	struct mat next[MATMUL_MAX];
	size_t n_next;
	struct attn_args attn_next;
	struct kv_layer kv_next;
};

/* What attention will be asked for. */
struct attn_shape forward_attn_shape(const struct forward_params *p);
/* Bytes that forward_open() and the device will take for buffers, and for the KV cache. */
void forward_bytes(const struct forward_params *p, uint64_t *buffers, uint64_t *kv);
int forward_open(const struct forward_params *p, struct forward **out, struct err *err);
void forward_close(struct forward *f);

/**
 * forward_run() - one pass over the weights
 * @token: [n_tok], each in [0, n_vocab); n_tok <= max_tok
 * @pos0: position of token[0]; pos0 + n_tok <= n_ctx, and positions before it are in the cache
 *
 * @batch: as for act_set(): the same bits however a batch is cut into passes
 *
 * f->logits is [n_tok][n_vocab] with all_logits, else [1][n_vocab] of the last token.
 * Return: 0, -EINTR when cancelled, or the source's error.
 */
int forward_run(struct forward *f, const int32_t *token, uint32_t n_tok, uint32_t pos0, bool batch,
		struct err *err);

/* ---- for the families ---- */

extern const struct model_ops model_llama;

/* Adds a tensor to the order of use. @optional: absence is no error (w->t is NULL then). */
int model_weight(struct model *m, struct weight *w, const char *name, enum plan_class cls,
		 uint64_t n_in, uint64_t n_out, bool optional, struct err *err);
/* Keys "<arch>.<suffix>". */
int model_key_u32(const struct model *m, const char *suffix, uint32_t *out, struct err *err);
int model_key_f32(const struct model *m, const char *suffix, float *out, struct err *err);

struct linear {
	const struct weight *w;
	float *y; /* [n_tok][n_out] */
};

/*
 * y = W x for each of n <= MATMUL_MAX matrices, in the order of the plan, with the input that was
 * set with act_set(); streamed rows are waited for.
 */
int forward_linear(struct forward *f, const struct linear *l, size_t n, struct act *x,
		   struct err *err);
/*
 * Says, before a forward_linear(), which matrices the one after it will be over: threads that wait
 * for each other fetch the beginning of them where they are resident.
 */
void forward_expect(struct forward *f, const struct linear *l, size_t n);
/* The same of attention, which comes before them. */
void forward_expect_attention(struct forward *f, const struct attn_args *a);
/* Layer @il's part of the KV cache. */
struct kv_layer forward_kv_layer(const struct forward *f, uint32_t il);
/* f->x = rows of the input embedding */
int forward_embed(struct forward *f, struct err *err);
static inline const float *forward_small(const struct forward *f, const struct weight *w)
{
	return w->t ? f->small[w->plan] : NULL;
}

#endif
