/* SPDX-License-Identifier: MIT */
/*
 * The table of operations that a forward pass is written against. kernels/cpu fills it;
 * a CUDA device will fill it as a plug-in.
 *
 * Shapes are written [rows][columns], row-major float unless said otherwise; n_tok is the
 * number of tokens in the batch. Operations are synchronous: when one returns, its result
 * is visible to the next. None of them allocates; scratch belongs to the device.
 */
#ifndef WEIR_KERNELS_DEVICE_H
#define WEIR_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kv.h"
#include "kernels/types.h"

/*
 * Threads, lent by the caller: run() calls fn(arg, 0, n) here and fn(arg, i, n) on those of the
 * other threads 0 < i < n that come before the first is done, and returns when all that began
 * have returned. fn takes work until nobody has any left, so that a thread that is late is not
 * waited for. The kernels start no threads of their own.
 *
 * bring() asks thread @i to fetch @bytes at @p into the cache of its core, or as many as are worth
 * it, while it has nothing else to do, instead of what it was asked before; they are never written,
 * and need not even be mapped when that happens. fetch(), by thread @i itself, is for the steps of
 * other work: it fetches the next @bytes of that, and waits for nothing; with more than a core has
 * room for at once, some 4 KiB, it waits for the first.
 */
struct team {
	int n_threads;
	void (*run)(struct team *t, void (*fn)(void *arg, int i, int n), void *arg);
	void (*bring)(struct team *t, int i, const void *p, size_t bytes);
	void (*fetch)(struct team *t, int i, size_t bytes);
};

/* A run of rows of a matrix that lie one behind the other in memory. */
struct mat_seg {
	const void *data;
	uint64_t row0;
	uint64_t n_rows;
};

/*
 * A weight matrix [n_out][n_in] as the source handed it out, rows in n_seg pieces, and where its
 * product goes.
 */
struct mat {
	float *y;      /* [n_tok][n_out] */
	uint32_t type; /* enum wtype */
	bool packed;   /* in groups of 16 rows (packed.h), whole ones in every piece */
	uint64_t n_in, n_out;
	size_t row_bytes;
	unsigned int n_seg;
	const struct mat_seg *seg; /* ascending row0, together all rows asked for */
};

/*
 * The input of one or more matmuls: [n_tok][n_in]. The device quantizes it on first use,
 * once per activation format, and keeps that until the next act_set().
 */
struct act;

enum rope_style {
	ROPE_NORM, /* pairs (i, i+1): llama */
	ROPE_NEOX, /* pairs (i, i+n_rot/2): qwen2, qwen3 */
};

struct rope {
	uint32_t n_rot; /* leading dimensions of a head that rotate; even; 0 for none */
	enum rope_style style;
	/*
	 * [n_tok][n_rot/2]: of pair i's angle at the token's position, times the model's factor;
	 * not read where n_rot is 0
	 */
	const float *cos, *sin;
};

struct attn_args {
	float *q;	/* [n_tok][n_head][head_dim], rotated in place */
	float *k;	/* [n_tok][n_head_kv][head_dim], rotated in place */
	const float *v; /* [n_tok][n_head_kv][head_dim] */
	struct rope rope;
	float *out; /* [n_tok][n_head][head_dim] */
	const struct kv_layer *kv;
	uint32_t n_head; /* a multiple of kv->n_head_kv */
	uint32_t pos0;	 /* position of token 0; token t sees positions 0 .. pos0 + t */
	uint32_t n_tok;
	uint32_t window; /* sliding window in positions, 0 for none */
	float scale;	 /* usually 1/sqrt(head_dim) */
};

struct device;

/* As many as share an input: q, k and v. */
#define MATMUL_MAX 3

struct device_ops {
	const char *name;

	struct act *(*act_new)(struct device *d, size_t max_n_in, size_t max_tok);
	void (*act_free)(struct device *d, struct act *a);
	/*
	 * @batch: these tokens are part of a batch, which is to give the same bits however it is
	 * cut into calls; else each of them gives the bits that it would give alone.
	 */
	void (*act_set)(struct device *d, struct act *a, const float *x, size_t n_in, size_t n_tok,
			bool batch);

	/* The same of rmsnorm(x), with @w and @eps as for rmsnorm(): normalised on the way. */
	void (*act_set_norm)(struct device *d, struct act *a, const float *x, const float *w,
			     float eps, size_t n_in, size_t n_tok, bool batch);

	/*
	 * It is silu(gate) * up that counts, [n_tok][n_in]. The first matmul of it writes that to
	 * gate; gate and up must stay as they are until then, and gate until the last one.
	 */
	void (*act_set_swiglu)(struct device *d, struct act *a, float *gate, const float *up,
			       size_t n_in, size_t n_tok, bool batch);

	/*
	 * For each of n_mat <= MATMUL_MAX matrices: y[t][r] = dot(row r, x[t]) for every row r that
	 * its segments hold; rows that they do not hold are left alone. At once, because threads
	 * meet at the end of each call.
	 */
	void (*matmul)(struct device *d, const struct mat *w, size_t n_mat, struct act *x);
	/*
	 * Says, before a matmul, what the one after it will be over (y aside), all of it mapped,
	 * for one token; n_mat 0 where that is not known. @w and its segments are read before it
	 * returns.
	 */
	void (*expect)(struct device *d, const struct mat *w, size_t n_mat);
	/*
	 * Says, before a matmul, that attention() of @a's cache and positions comes after it; of
	 * more than one token it is not worth knowing. @a and what describes its cache are read
	 * before it returns; the cache's data while the matmul lasts; q, k, v and out are not.
	 */
	void (*expect_attention)(struct device *d, const struct attn_args *a);

	/* y: [n] floats from one row of a tensor */
	void (*dequantize_row)(struct device *d, uint32_t type, const void *row, float *y,
			       size_t n);

	/* y[t] = x[t] * w / sqrt(mean(x[t]^2) + eps) for each of n_row rows of n; y may be x */
	void (*rmsnorm)(struct device *d, float *y, const float *x, const float *w, size_t n,
			size_t n_row, float eps);
	void (*add)(struct device *d, float *y, const float *x, size_t n); /* y += x */
	void (*add_bias)(struct device *d, float *y, const float *b, size_t n, size_t n_row);
	/*
	 * Rotates q and k, stores k and v as positions pos0 on, and attends to all up to there:
	 * out = softmax(scale q K^T) V.
	 */
	void (*attention)(struct device *d, const struct attn_args *a);
	void (*close)(struct device *d);
};

struct device {
	const struct device_ops *ops;
	struct team *team;
};

/* The largest that attention() will be asked for. */
struct attn_shape {
	uint32_t max_ctx; /* positions */
	uint32_t n_head, n_head_kv, head_dim;
};

/**
 * cpu_device_open() - the CPU as a device
 * @team: threads to use; must outlive the device
 * @shape: the largest attention() it will be asked for, which its scratch is sized for
 *
 * Return: NULL when memory is out.
 */
struct device *cpu_device_open(struct team *team, const struct attn_shape *shape);

/* Bytes of scratch that it takes at open, and act_new() with these sizes beside the input itself.
 */
uint64_t cpu_device_bytes(const struct attn_shape *shape, size_t max_n_in, size_t max_tok,
			  int n_threads);

#endif
