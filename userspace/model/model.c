// SPDX-License-Identifier: MIT
/*
 * What all families share: hyper-parameters under their usual keys, rotary embedding with its
 * scalings, and the list of tensors in order of use.
 */
#include "model/model.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static const struct model_ops *const families[] = {&model_llama};

/* ---- keys ---- */

static const char *arch_key(const struct model *m, const char *suffix, char buf[static 160])
{
	snprintf(buf, 160, "%s.%s", m->arch, suffix);
	return buf;
}

int model_key_u32(const struct model *m, const char *suffix, uint32_t *out, struct err *err)
{
	char key[160];

	return gguf_u32(m->gguf, arch_key(m, suffix, key), out, err);
}

int model_key_f32(const struct model *m, const char *suffix, float *out, struct err *err)
{
	char key[160];

	return gguf_f32(m->gguf, arch_key(m, suffix, key), out, err);
}

/* A key that every model has. */
static int required(int r)
{
	return r == -ENOENT ? -EINVAL : r;
}

/* An optional key: absent leaves the default, malformed is an error. */
static int optional(int r)
{
	return r == -ENOENT ? 0 : r;
}

/*
 * head_count, head_count_kv and feed_forward_length may be one number or one a layer. weir's
 * dense families need them equal in every layer.
 */
static int key_uniform(const struct model *m, const char *suffix, uint32_t *out, struct err *err)
{
	struct gguf_array a;
	int64_t first, v;
	char key[160];
	const struct gguf_kv *kv = gguf_find(m->gguf, arch_key(m, suffix, key));

	if (!kv || kv->type != GGUF_ARRAY)
		return gguf_u32(m->gguf, key, out, err);
	a = kv->arr;
	if (!gguf_array_int(&a, 0, &first) || first < 0 || first > UINT32_MAX)
		return err_set(err, -EINVAL, "%s: %s is not an array of counts",
			       m->gguf->file[0].path, key);
	for (uint64_t i = 1; i < a.n; i++)
		if (!gguf_array_int(&a, i, &v) || v != first)
			return err_set(err, -EOPNOTSUPP,
				       "%s: %s differs between layers, which weir does not run",
				       m->gguf->file[0].path, key);
	*out = (uint32_t)first;
	return 0;
}

/* ---- rotary position embedding ---- */

/*
 * YaRN (arXiv 2309.00071): dimensions that turn often over the original context keep their
 * frequency, those that turn seldom are interpolated, with a ramp between.
 */
static int rope_yarn(struct model *m, float factor, double base, struct err *err)
{
	struct hparams *hp = &m->hp;
	uint32_t orig = hp->n_ctx_train;
	float fast = 32, slow = 1, attn = 1;
	double lo, hi;
	int r;

	r = optional(model_key_u32(m, "rope.scaling.original_context_length", &orig, err));
	if (!r)
		r = optional(model_key_f32(m, "rope.scaling.yarn_beta_fast", &fast, err));
	if (!r)
		r = optional(model_key_f32(m, "rope.scaling.yarn_beta_slow", &slow, err));
	if (!r)
		r = optional(model_key_f32(m, "rope.scaling.attn_factor", &attn, err));
	if (r)
		return r;
	if (!(fast > 0) || !(slow > 0) || !orig || !(base > 1) || !(factor > 0))
		return err_set(err, -EINVAL, "%s: the %s.rope.scaling.yarn_* keys are not positive",
			       m->gguf->file[0].path, m->arch);
	lo = floor(hp->n_rot * log(orig / (fast * 2 * M_PI)) / (2 * log(base)));
	hi = ceil(hp->n_rot * log(orig / (slow * 2 * M_PI)) / (2 * log(base)));
	lo = MAX(lo, 0.0);
	hi = MIN(hi, hp->n_rot - 1.0);
	for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
		double ramp = (i - lo) / MAX(hi - lo, 0.001);
		double keep = 1 - MIN(MAX(ramp, 0.0), 1.0);
		double f = hp->inv_freq[i];

		hp->inv_freq[i] = (float)(f / factor * (1 - keep) + f * keep);
	}
	hp->rope_mscale = (float)(attn * (1 + 0.1 * log(factor)));
	return 0;
}

static int rope_scaling(struct model *m, double base, struct err *err)
{
	struct gguf_str type = {NULL, 0};
	struct hparams *hp = &m->hp;
	float factor = 1;
	char key[160];
	int r;

	r = optional(gguf_string(m->gguf, arch_key(m, "rope.scaling.type", key), &type, err));
	if (!r)
		r = optional(model_key_f32(m, "rope.scaling.factor", &factor, err));
	if (!r && !type.p) /* the key of old files */
		r = optional(model_key_f32(m, "rope.scale_linear", &factor, err));
	if (r)
		return r;
	if (!type.p)
		type.p = factor == 1 ? "none" : "linear";
	if (!(factor > 0) || !isfinite(factor))
		return err_set(err, -EINVAL, "%s: %s.rope.scaling.factor is %g",
			       m->gguf->file[0].path, m->arch, (double)factor);
	if (!strcmp(type.p, "none"))
		return 0;
	if (!strcmp(type.p, "linear")) {
		for (uint32_t i = 0; i < hp->n_rot / 2; i++)
			hp->inv_freq[i] /= factor;
		return 0;
	}
	if (!strcmp(type.p, "yarn"))
		return rope_yarn(m, factor, base, err);
	return err_set(err, -EOPNOTSUPP,
		       "%s: rope scaling '%.64s' is not supported (none, linear, yarn are)",
		       m->gguf->file[0].path, type.p);
}

/*
 * Llama 3 scaling comes as a tensor of divisors, one a pair (rope_freqs.weight). It is tiny
 * and needed before any source is open, so it is read here.
 */
static int rope_divisors(struct model *m, struct err *err)
{
	const struct gguf_tensor *t = gguf_find_tensor(m->gguf, "rope_freqs.weight");
	struct hparams *hp = &m->hp;
	uint32_t n = hp->n_rot / 2;
	const char *path;
	float *div;
	int r;

	if (!t)
		return 0;
	path = m->gguf->file[t->file].path;
	if (t->type != WT_F32 || t->ne[0] != n || t->n_rows != 1)
		return err_set(err, -EINVAL, "%s: rope_freqs.weight is not %u float32", path, n);
	div = malloc(t->size);
	if (!div)
		return err_set(err, -ENOMEM, "out of memory for the model's rope table");
	r = gguf_read_tensor(m->gguf, t, div, err);
	for (uint32_t i = 0; !r && i < n; i++) {
		if (!(div[i] > 0))
			r = err_set(err, -EINVAL, "%s: rope_freqs.weight[%u] is %g", path, i,
				    (double)div[i]);
		hp->inv_freq[i] /= div[i];
	}
	free(div);
	return r;
}

static int rope_open(struct model *m, struct err *err)
{
	struct hparams *hp = &m->hp;
	float base = 10000;
	int r;

	hp->n_rot = hp->head_dim;
	hp->rope_mscale = 1;
	r = optional(model_key_u32(m, "rope.dimension_count", &hp->n_rot, err));
	if (!r)
		r = optional(model_key_f32(m, "rope.freq_base", &base, err));
	if (r)
		return r;
	if (hp->n_rot % 2 || hp->n_rot > hp->head_dim || !(base > 0))
		return err_set(err, -EINVAL,
			       "%s: %s.rope.dimension_count %u or freq_base %g is impossible with "
			       "heads of %u",
			       m->gguf->file[0].path, m->arch, hp->n_rot, (double)base,
			       hp->head_dim);
	hp->inv_freq = malloc((hp->n_rot / 2 + 1) * sizeof(float));
	if (!hp->inv_freq)
		return err_set(err, -ENOMEM, "out of memory for the model's rope table");
	for (uint32_t i = 0; i < hp->n_rot / 2; i++)
		hp->inv_freq[i] = (float)pow(base, -2.0 * i / hp->n_rot);
	r = rope_divisors(m, err);
	return r ? r : rope_scaling(m, base, err);
}

/* ---- hyper-parameters ---- */

/* Counts above these are a broken file, and would only overflow sizes further on. */
#define MAX_LAYER (1u << 16)
#define MAX_WIDTH (1u << 24)

static int hparams_check(const struct model *m, struct err *err)
{
	const struct hparams *hp = &m->hp;
	const struct {
		const char *name;
		uint32_t v, max;
	} c[] = {
		{"block_count", hp->n_layer, MAX_LAYER},
		{"embedding_length", hp->n_embd, MAX_WIDTH},
		{"feed_forward_length", hp->n_ff, MAX_WIDTH},
		{"attention.head_count", hp->n_head, MAX_LAYER},
		{"attention.head_count_kv", hp->n_head_kv, MAX_LAYER},
		{"attention.key_length", hp->head_dim, MAX_LAYER},
		{"context_length", hp->n_ctx_train, INT32_MAX},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(c); i++)
		if (c[i].v == 0 || c[i].v > c[i].max)
			return err_set(err, -EINVAL, "%s: %s.%s is %u, which no model has",
				       m->gguf->file[0].path, m->arch, c[i].name, c[i].v);
	if (!(hp->rms_eps >= 0 && hp->rms_eps < 1))
		return err_set(err, -EINVAL,
			       "%s: %s.attention.layer_norm_rms_epsilon is %g, which no model has",
			       m->gguf->file[0].path, m->arch, (double)hp->rms_eps);
	if (hp->n_head % hp->n_head_kv)
		return err_set(err, -EINVAL,
			       "%s: %u attention heads do not divide among %u key/value heads",
			       m->gguf->file[0].path, hp->n_head, hp->n_head_kv);
	return 0;
}

static int hparams_open(struct model *m, struct err *err)
{
	struct hparams *hp = &m->hp;
	uint32_t value_length;
	int r;

	r = required(model_key_u32(m, "block_count", &hp->n_layer, err));
	if (!r)
		r = required(model_key_u32(m, "embedding_length", &hp->n_embd, err));
	if (!r)
		r = required(key_uniform(m, "feed_forward_length", &hp->n_ff, err));
	if (!r)
		r = required(key_uniform(m, "attention.head_count", &hp->n_head, err));
	if (!r)
		r = required(
			model_key_f32(m, "attention.layer_norm_rms_epsilon", &hp->rms_eps, err));
	if (r)
		return r;
	hp->n_head_kv = hp->n_head;
	hp->head_dim = hp->n_head ? hp->n_embd / hp->n_head : 0;
	hp->n_ctx_train = 4096;
	r = optional(key_uniform(m, "attention.head_count_kv", &hp->n_head_kv, err));
	if (!r)
		r = optional(model_key_u32(m, "attention.key_length", &hp->head_dim, err));
	if (!r)
		r = optional(model_key_u32(m, "context_length", &hp->n_ctx_train, err));
	value_length = hp->head_dim;
	if (!r)
		r = optional(model_key_u32(m, "attention.value_length", &value_length, err));
	if (!r)
		r = optional(model_key_u32(m, "attention.sliding_window", &hp->window, err));
	if (!r)
		r = hparams_check(m, err);
	if (r)
		return r;
	if (value_length != hp->head_dim)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: key_length %u and value_length %u differ, which weir does not run",
			m->gguf->file[0].path, hp->head_dim, value_length);
	hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
	r = optional(model_key_f32(m, "attention.scale", &hp->attn_scale, err));
	if (r)
		return r;
	if (!isfinite(hp->attn_scale))
		return err_set(err, -EINVAL, "%s: %s.attention.scale is %g", m->gguf->file[0].path,
			       m->arch, (double)hp->attn_scale);
	return rope_open(m, err);
}

/* ---- tensors in order of use ---- */

/* A packed tensor is planned in groups, so that no group is torn. */
static int plan_add(struct model *m, const struct gguf_tensor *t, enum plan_class cls)
{
	uint32_t unit = weight_unit(t);

	if (m->n_plan == m->cap_plan) {
		uint32_t cap = m->cap_plan ? m->cap_plan * 2 : 64;
		void *p = realloc(m->plan, cap * sizeof(*m->plan));

		if (!p)
			return -ENOMEM;
		m->plan = p;
		p = realloc(m->plan_src, cap * sizeof(*m->plan_src));
		if (!p)
			return -ENOMEM;
		m->plan_src = p;
		m->cap_plan = cap;
	}
	m->plan[m->n_plan] = (struct plan_tensor){
		.file = t->file,
		.off = t->off,
		.row_bytes = t->row_bytes * unit,
		.n_rows = (t->n_rows + unit - 1) / unit,
		.cls = cls,
	};
	m->plan_src[m->n_plan++] = t;
	return 0;
}

int model_weight(struct model *m, struct weight *w, const char *name, enum plan_class cls,
		 uint64_t n_in, uint64_t n_out, bool is_optional, struct err *err)
{
	const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);

	*w = (struct weight){0};
	if (!t && is_optional)
		return 0;
	if (!t)
		return err_set(err, -EINVAL, "%s: tensor %s is missing; architecture %s needs it",
			       m->gguf->file[0].path, name, m->arch);
	if (t->ne[0] != n_in || t->n_rows != n_out)
		return err_set(err, -EINVAL,
			       "%s: tensor %s is %" PRIu64 " x %" PRIu64 " but should be %" PRIu64
			       " x %" PRIu64,
			       m->gguf->file[t->file].path, name, t->ne[0], t->n_rows, n_in, n_out);
	if (t->packed && cls != PLAN_SWEEP)
		return err_set(err, -EINVAL,
			       "%s: tensor %s is packed, but only matrices that every token is "
			       "multiplied with are: the file is damaged",
			       m->gguf->file[t->file].path, name);
	w->t = t;
	w->plan = m->n_plan;
	if (cls == PLAN_SWEEP)
		m->n_weight += n_in * n_out;
	if (plan_add(m, t, cls))
		return err_set(err, -ENOMEM, "out of memory for the model's list of tensors");
	return 0;
}

/* Tensors that carry no weights of a pass: read at open, or left over from other programs. */
static bool is_inert(const struct gguf_str *name)
{
	static const char *const suffix[] = {"rope_freqs.weight", "rot_embd.inv_freq",
					     "rotary_emb.inv_freq"};

	for (unsigned int i = 0; i < ARRAY_SIZE(suffix); i++) {
		size_t n = strlen(suffix[i]);

		if (name->len >= n && !memcmp(name->p + name->len - n, suffix[i], n))
			return true;
	}
	return false;
}

static int compare_pointers(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * A tensor that the family does not use belongs to a kind of model that would give another
 * result: better no answer than a wrong one.
 */
static int refuse_unused(const struct model *m, struct err *err)
{
	const struct gguf *g = m->gguf;
	const struct gguf_tensor **used = malloc((m->n_plan + 1) * sizeof(*used));
	int r = 0;

	if (!used)
		return err_set(err, -ENOMEM, "out of memory for the model's list of tensors");
	memcpy(used, m->plan_src, m->n_plan * sizeof(*used));
	qsort(used, m->n_plan, sizeof(*used), compare_pointers);
	for (uint64_t i = 0; !r && i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];

		if (!is_inert(&t->name) &&
		    !bsearch(&t, used, m->n_plan, sizeof(*used), compare_pointers))
			r = err_set(err, -EOPNOTSUPP,
				    "%s: tensor %s belongs to a kind of %.64s model that weir does "
				    "not run yet",
				    g->file[t->file].path, t->name.p, m->arch);
	}
	free(used);
	return r;
}

static const struct model_ops *family_of(const char *arch)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(families); i++)
		for (const char *const *a = families[i]->arch; *a; a++)
			if (!strcmp(*a, arch))
				return families[i];
	return NULL;
}

int model_open(const struct gguf *g, struct model **out, struct err *err)
{
	struct gguf_str arch;
	struct model *m;
	int r;

	r = required(gguf_string(g, "general.architecture", &arch, err));
	if (r)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, -ENOMEM, "out of memory for the model's description");
	m->gguf = g;
	m->arch = arch.p;
	m->ops = family_of(m->arch);
	if (!m->ops) {
		r = err_set(
			err, -EOPNOTSUPP,
			"%s: architecture '%.64s' is not supported (llama, qwen2 and qwen3 are)",
			g->file[0].path, m->arch);
		goto fail;
	}
	if (g->n_tensor == 0) {
		r = err_set(err, -EINVAL, "%s: holds only a vocabulary, no weights",
			    g->file[0].path);
		goto fail;
	}
	r = hparams_open(m, err);
	if (!r)
		r = m->ops->open(m, err);
	if (!r)
		r = refuse_unused(m, err);
	if (r)
		goto fail;
	*out = m;
	return 0;
fail:
	model_close(m);
	return r;
}

void model_close(struct model *m)
{
	if (!m)
		return;
	if (m->ops)
		m->ops->close(m);
	free(m->hp.inv_freq);
	free(m->plan);
	free(m->plan_src);
	free(m);
}
