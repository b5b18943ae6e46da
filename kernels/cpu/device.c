// SPDX-License-Identifier: MIT
/*
 * The CPU as a device: the operations of kernels/device.h over a team of threads.
 *
 * Work is handed out in pieces by an atomic counter, so that a core that another process
 * slows down does not hold up the rest. A piece's result never depends on who computes it or
 * on how the pieces were cut: every output element is one thread's sum in one fixed order.
 * That makes output bit-identical over thread counts.
 *
 * Memory: act_new() and cpu_device_open() allocate; no operation does.
 */
#include "kernels/device.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/packed.h"

struct cpu_device {
	struct device d;
	const struct cpu_isa *isa;
	uint32_t max_ctx;
	float *scores; /* [n_threads][max_ctx]: attention weights of one head */
};

struct act {
	const float *x; /* [n_tok][n_in], the caller's */
	size_t n_in, n_tok;
	/*
	 * Quantized when it is needed: as activation rows, for plain rows of weights, or in tiles
	 * (cpu/packed.h), as large ones as there are, for packed ones. A model hardly ever needs
	 * both of one format, so there is room for one.
	 */
	void *buf[ACT_KINDS];
	enum form { NOT_READY, ROWS, TILES } form[ACT_KINDS];
	bool batch;
	char *scratch; /* [n_threads][scratch_bytes] */
	size_t scratch_bytes;
};

static struct cpu_device *cpu(struct device *d)
{
	return (struct cpu_device *)d;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void *alloc64(size_t bytes)
{
	return aligned_alloc(64, act_align(bytes ? bytes : 1));
}

/* ---- activations ---- */

static void cpu_act_free(struct device *d, struct act *a)
{
	if (!a)
		return;
	for (int k = 0; k < ACT_KINDS; k++)
		free(a->buf[k]);
	free(a->scratch);
	free(a);
}

static struct act *cpu_act_new(struct device *d, size_t max_n_in, size_t max_tok)
{
	struct act *a = calloc(1, sizeof(*a));
	bool ok = true;

	if (!a)
		return NULL;
	for (int k = 0; k < ACT_KINDS; k++) {
		a->buf[k] = alloc64(act_row_bytes(k, max_n_in) * max_tok);
		ok = ok && a->buf[k];
	}
	/* For 16 rows of weights or of activations, of which no type takes more than 4 bytes. */
	a->scratch_bytes = TILE_MAX * act_row_bytes(ACT_F32, max_n_in);
	if (max_tok > 1) {
		a->scratch = alloc64(a->scratch_bytes * (size_t)d->team->n_threads);
		ok = ok && a->scratch;
	}
	if (ok)
		return a;
	cpu_act_free(d, a);
	return NULL;
}

static void cpu_act_set(struct device *d, struct act *a, const float *x, size_t n_in, size_t n_tok,
			bool batch)
{
	a->x = x;
	a->n_in = n_in;
	a->n_tok = n_tok;
	a->batch = batch && cpu(d)->isa->packs && a->scratch;
	for (int k = 0; k < ACT_KINDS; k++)
		a->form[k] = NOT_READY;
}

/* Tile @i: which tokens, and where. */
struct tile {
	size_t tok0, n_tok;
	char *data;
};

static size_t n_tiles(const struct act *a)
{
	return a->n_tok / TILE_MAX + (size_t)__builtin_popcountll(a->n_tok % TILE_MAX);
}

static struct tile tile_at(const struct act *a, enum act_kind kind, size_t i)
{
	size_t whole = a->n_tok / TILE_MAX;
	struct tile t = {.tok0 = TILE_MAX * least(i, whole), .n_tok = TILE_MAX};

	t.data = (char *)a->buf[kind] + t.tok0 / TILE_MAX * tile_bytes(kind, a->n_in, TILE_MAX);
	if (i < whole)
		return t;
	/* what is left, in smaller and smaller ones */
	t.n_tok = tile_tokens(a->n_tok - t.tok0);
	for (; i > whole; i--) {
		t.data += tile_bytes(kind, a->n_in, t.n_tok);
		t.tok0 += t.n_tok;
		t.n_tok = tile_tokens(a->n_tok - t.tok0);
	}
	return t;
}

struct quantize_job {
	const struct cpu_isa *isa;
	struct act *a;
	enum act_kind kind;
	atomic_size_t next;
};

static void quantize_row(const struct quantize_job *j, size_t token, char *dst)
{
	act_make(j->isa, j->kind, j->a->x + token * j->a->n_in, dst, j->a->n_in);
}

static void rows_piece(void *arg, int i, int n)
{
	struct quantize_job *j = arg;
	size_t stride = act_row_bytes(j->kind, j->a->n_in), t;

	while ((t = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->a->n_tok)
		quantize_row(j, t, (char *)j->a->buf[j->kind] + t * stride);
}

static void tiles_piece(void *arg, int i, int n)
{
	struct quantize_job *j = arg;
	struct act *a = j->a;
	size_t stride = act_row_bytes(j->kind, a->n_in), at;

	while ((at = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < n_tiles(a)) {
		struct tile t = tile_at(a, j->kind, at);
		char *rows = a->scratch + (size_t)i * a->scratch_bytes;

		/* a tile of one token is an activation row */
		if (t.n_tok == 1) {
			quantize_row(j, t.tok0, t.data);
			continue;
		}
		for (size_t k = 0; k < t.n_tok; k++)
			quantize_row(j, t.tok0 + k, rows + k * stride);
		tile_make(j->kind, rows, stride, t.n_tok, a->n_in, t.data);
	}
}

/* Waking the team costs more than one thread needs for a row or two. */
static void run_over(struct device *d, size_t items, size_t items_per_wake,
		     void (*fn)(void *, int, int), void *job)
{
	if (items <= items_per_wake)
		fn(job, 0, 1);
	else
		d->team->run(d->team, fn, job);
}

static void act_quantize(struct device *d, struct act *a, enum act_kind kind, enum form form)
{
	struct quantize_job j = {.isa = cpu(d)->isa, .a = a, .kind = kind};

	if (a->form[kind] != form)
		run_over(d, a->n_tok, 4, form == TILES ? tiles_piece : rows_piece, &j);
	a->form[kind] = form;
}

/* ---- matrix times activations ---- */

/*
 * What a thread takes at a time: long enough for its streams from DRAM to get going (several rows
 * at once, prefetched), short enough to stay in the cache of its core while the tokens of a batch
 * pass by, and for the threads to end together.
 */
#define PIECE_BYTES	  (128u << 10)
#define PIECES_PER_THREAD 4

struct matmul_job {
	const struct mat *w;
	const struct type_ops *ops;
	packed_kernel *dot_packed;
	const struct act *a;
	float *y;
	uint64_t piece_rows; /* a multiple of PACK_ROWS */
	atomic_size_t next;
	size_t n_piece;
};

static uint64_t piece_rows(const struct matmul_job *j, int n_threads)
{
	uint64_t rows = PIECE_BYTES / j->w->row_bytes;

	if (n_threads > 1)
		rows = least(rows, j->w->n_out / (PIECES_PER_THREAD * (uint64_t)n_threads));
	/* packed on the way into what there is for it */
	if (j->a->batch && !j->w->packed)
		rows = least(rows, j->a->scratch_bytes / j->w->row_bytes);
	rows -= rows % PACK_ROWS;
	return rows ? rows : PACK_ROWS;
}

/* One token after the other times the rows. */
static void multiply_rows(const struct matmul_job *j, const char *w, size_t row, size_t rows)
{
	const char *act = j->a->buf[j->ops->act];
	size_t stride = act_row_bytes(j->ops->act, j->w->n_in);

	for (size_t t = 0; t < j->a->n_tok; t++)
		j->ops->dot_rows(w, j->w->row_bytes, rows, act + t * stride, j->w->n_in,
				 j->y + t * j->w->n_out + row);
}

/* One tile after the other times packed groups, of which the last may be there in part. */
static void multiply_groups(const struct matmul_job *j, const char *w, size_t row, size_t rows)
{
	size_t whole = rows / PACK_ROWS, left = rows % PACK_ROWS;
	const char *last = w + whole * PACK_ROWS * j->w->row_bytes;

	for (size_t i = 0; i < n_tiles(j->a); i++) {
		struct tile t = tile_at(j->a, j->ops->act, i);
		float *y = j->y + t.tok0 * j->w->n_out + row, part[TILE_MAX][PACK_ROWS];

		if (whole)
			j->dot_packed(w, whole, t.data, t.n_tok, j->w->n_in, y, j->w->n_out);
		if (!left)
			continue;
		j->dot_packed(last, 1, t.data, t.n_tok, j->w->n_in, part[0], PACK_ROWS);
		for (size_t k = 0; k < t.n_tok; k++)
			memcpy(y + k * j->w->n_out + whole * PACK_ROWS, part[k],
			       left * sizeof(float));
	}
}

/* Plain rows as groups, one behind the other. */
static void pack_rows(const struct mat *w, const char *rows, size_t n, char *groups)
{
	for (size_t r = 0; r < n; r += PACK_ROWS)
		pack_group(w->type, rows + r * w->row_bytes, w->row_bytes, least(n - r, PACK_ROWS),
			   w->n_in, groups + r * w->row_bytes);
}

/* Plain rows are packed first where there are tokens enough to pay for it. */
static void matmul_piece(void *arg, int i, int n)
{
	struct matmul_job *j = arg;
	size_t piece, first = 0;
	unsigned int s = 0;

	while ((piece = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) <
	       j->n_piece) {
		char *groups = j->a->scratch + (size_t)i * j->a->scratch_bytes;
		const struct mat_seg *seg;
		uint64_t row, rows;
		const char *w;

		/* pieces are handed out in ascending order: go on from the last segment */
		for (;; s++) {
			size_t in_seg = (j->w->seg[s].n_rows + j->piece_rows - 1) / j->piece_rows;

			if (piece < first + in_seg)
				break;
			first += in_seg;
		}
		seg = &j->w->seg[s];
		row = (piece - first) * j->piece_rows;
		rows = least(seg->n_rows - row, j->piece_rows);
		w = (const char *)seg->data + row * j->w->row_bytes;
		row += seg->row0;
		if (j->w->packed) {
			multiply_groups(j, w, row, rows);
		} else if (j->a->batch) {
			pack_rows(j->w, w, rows, groups);
			multiply_groups(j, groups, row, rows);
		} else {
			multiply_rows(j, w, row, rows);
		}
	}
}

static void cpu_matmul(struct device *d, float *y, const struct mat *w, struct act *x)
{
	const struct cpu_isa *isa = cpu(d)->isa;
	struct matmul_job j = {
		.w = w,
		.ops = isa->types[w->type],
		.dot_packed = isa->packed[w->type],
		.a = x,
		.y = y,
	};

	act_quantize(d, x, j.ops->act, w->packed || x->batch ? TILES : ROWS);
	j.piece_rows = piece_rows(&j, d->team->n_threads);
	for (unsigned int s = 0; s < w->n_seg; s++)
		j.n_piece += (w->seg[s].n_rows + j.piece_rows - 1) / j.piece_rows;
	run_over(d, j.n_piece, 1, matmul_piece, &j);
}

static void cpu_dequantize_row(struct device *d, uint32_t type, const void *row, float *y, size_t n)
{
	cpu(d)->isa->types[type]->dequantize(row, y, n);
}

/* ---- element-wise and by rows ---- */

struct rmsnorm_job {
	const struct cpu_isa *isa;
	float *y;
	const float *x, *w;
	size_t n, n_row;
	float eps;
	atomic_size_t next;
};

static void rmsnorm_piece(void *arg, int i, int n)
{
	struct rmsnorm_job *j = arg;
	size_t r;

	while ((r = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->n_row) {
		const float *x = j->x + r * j->n;
		float *y = j->y + r * j->n;
		float scale = 1.0f / sqrtf(j->isa->dot_f32(x, x, j->n) / (float)j->n + j->eps);

		for (size_t k = 0; k < j->n; k++)
			y[k] = x[k] * scale * j->w[k];
	}
}

static void cpu_rmsnorm(struct device *d, float *y, const float *x, const float *w, size_t n,
			size_t n_row, float eps)
{
	struct rmsnorm_job j = {
		.isa = cpu(d)->isa, .y = y, .x = x, .w = w, .n = n, .n_row = n_row, .eps = eps};

	run_over(d, n * n_row, 32768, rmsnorm_piece, &j);
}

static void cpu_add(struct device *d, float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void cpu_add_bias(struct device *d, float *y, const float *b, size_t n, size_t n_row)
{
	for (size_t r = 0; r < n_row; r++)
		for (size_t i = 0; i < n; i++)
			y[r * n + i] += b[i];
}

struct swiglu_job {
	float *gate;
	const float *up;
	size_t n;
	atomic_size_t next;
};

#define SWIGLU_PIECE 2048

static void swiglu_piece(void *arg, int i, int n)
{
	struct swiglu_job *j = arg;
	size_t p;

	while ((p = atomic_fetch_add_explicit(&j->next, SWIGLU_PIECE, memory_order_relaxed)) <
	       j->n) {
		size_t end = p + SWIGLU_PIECE < j->n ? p + SWIGLU_PIECE : j->n;

		for (size_t k = p; k < end; k++)
			j->gate[k] = j->gate[k] / (1.0f + expf(-j->gate[k])) * j->up[k];
	}
}

static void cpu_swiglu(struct device *d, float *gate, const float *up, size_t n)
{
	struct swiglu_job j = {.gate = gate, .up = up, .n = n};

	run_over(d, n, 2 * SWIGLU_PIECE, swiglu_piece, &j);
}

static void cpu_rope(struct device *d, const struct rope_args *a)
{
	uint32_t half = a->n_rot / 2;
	/* pair i is (x[i*step], x[i*step + dist]) */
	uint32_t step = a->style == ROPE_NORM ? 2 : 1;
	uint32_t dist = a->style == ROPE_NORM ? 1 : half;

	for (uint32_t t = 0; t < a->n_tok; t++) {
		float *x = a->x + (size_t)t * a->n_head * a->head_dim;

		for (uint32_t i = 0; i < half; i++) {
			float angle = (float)(a->pos0 + t) * a->inv_freq[i];
			float c = cosf(angle) * a->mscale;
			float s = sinf(angle) * a->mscale;

			for (uint32_t h = 0; h < a->n_head; h++) {
				float *p = x + (size_t)h * a->head_dim + i * step;
				float re = p[0], im = p[dist];

				p[0] = re * c - im * s;
				p[dist] = re * s + im * c;
			}
		}
	}
}

/* ---- attention ---- */

static void cpu_kv_store(struct device *d, void *cache, uint32_t kv_type, const float *x,
			 uint32_t n_tok, uint32_t n_head_kv, uint32_t head_dim, uint32_t n_ctx,
			 uint32_t pos0)
{
	for (uint32_t t = 0; t < n_tok; t++)
		for (uint32_t h = 0; h < n_head_kv; h++) {
			size_t at = ((size_t)h * n_ctx + pos0 + t) * head_dim;
			const float *src = x + ((size_t)t * n_head_kv + h) * head_dim;

			if (kv_type == WT_F16)
				cpu(d)->isa->f32_to_f16(src, (uint16_t *)cache + at, head_dim);
			else
				memcpy((float *)cache + at, src, head_dim * sizeof(float));
		}
}

struct attn_job {
	struct cpu_device *c;
	const struct attn_args *a;
	atomic_size_t next;
};

static void scores_to_weights(float *s, uint32_t n)
{
	float max = s[0], sum = 0;

	for (uint32_t i = 1; i < n; i++)
		max = s[i] > max ? s[i] : max;
	for (uint32_t i = 0; i < n; i++) {
		s[i] = expf(s[i] - max);
		sum += s[i];
	}
	for (uint32_t i = 0; i < n; i++)
		s[i] /= sum;
}

/* softmax(scale * q K^T) V of one head of one token, over the positions that it may see */
static void attend(struct cpu_device *c, const struct attn_args *a, uint32_t t, uint32_t h,
		   float *s)
{
	const struct cpu_isa *isa = c->isa;
	uint32_t dim = a->head_dim;
	uint32_t end = a->pos0 + t + 1;
	uint32_t begin = a->window && end > a->window ? end - a->window : 0;
	size_t head = (size_t)(h / (a->n_head / a->n_head_kv)) * a->n_ctx * dim;
	size_t at = ((size_t)t * a->n_head + h) * dim;
	const float *q = a->q + at;
	float *out = a->out + at;

	for (uint32_t p = begin; p < end; p++) {
		size_t k = head + (size_t)p * dim;
		float dot = a->kv_type == WT_F16
				    ? isa->dot_f16_f32((const uint16_t *)a->k + k, q, dim)
				    : isa->dot_f32((const float *)a->k + k, q, dim);

		s[p - begin] = dot * a->scale;
	}
	scores_to_weights(s, end - begin);
	memset(out, 0, dim * sizeof(float));
	for (uint32_t p = begin; p < end; p++) {
		size_t v = head + (size_t)p * dim;
		float w = s[p - begin];

		if (a->kv_type == WT_F16) {
			isa->axpy_f16(w, (const uint16_t *)a->v + v, out, dim);
		} else {
			for (uint32_t i = 0; i < dim; i++)
				out[i] += w * ((const float *)a->v + v)[i];
		}
	}
}

static void attention_piece(void *arg, int i, int n)
{
	struct attn_job *j = arg;
	const struct attn_args *a = j->a;
	size_t items = (size_t)a->n_tok * a->n_head;
	size_t k;

	while ((k = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < items)
		attend(j->c, a, (uint32_t)(k / a->n_head), (uint32_t)(k % a->n_head),
		       j->c->scores + (size_t)i * j->c->max_ctx);
}

static void cpu_attention(struct device *d, const struct attn_args *a)
{
	struct attn_job j = {.c = cpu(d), .a = a};
	size_t work = (size_t)a->n_tok * a->n_head * a->head_dim * (a->pos0 + a->n_tok);

	run_over(d, work, 16384, attention_piece, &j);
}

/* ---- open and close ---- */

static void cpu_close(struct device *d)
{
	free(cpu(d)->scores);
	free(d);
}

static const struct device_ops cpu_ops = {
	.name = "cpu",
	.act_new = cpu_act_new,
	.act_free = cpu_act_free,
	.act_set = cpu_act_set,
	.matmul = cpu_matmul,
	.dequantize_row = cpu_dequantize_row,
	.rmsnorm = cpu_rmsnorm,
	.add = cpu_add,
	.add_bias = cpu_add_bias,
	.swiglu = cpu_swiglu,
	.rope = cpu_rope,
	.kv_store = cpu_kv_store,
	.attention = cpu_attention,
	.close = cpu_close,
};

struct device *cpu_device_open(struct team *team, uint32_t max_ctx)
{
	struct cpu_device *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->d.ops = &cpu_ops;
	c->d.team = team;
	c->isa = cpu_isa_best();
	c->max_ctx = max_ctx;
	c->scores = alloc64((size_t)team->n_threads * max_ctx * sizeof(float));
	if (!c->scores) {
		free(c);
		return NULL;
	}
	return &c->d;
}
