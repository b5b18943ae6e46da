// SPDX-License-Identifier: MIT
/*
 * Attention on the CPU: out = softmax(q K^T) V, one pass over keys and values.
 *
 * Words: a *query* is one head of one token. The queries that share a head of keys and values
 * (n_head / n_head_kv of each token, tokens one after the other) are taken up to 16 at a time, as
 * a *tile* (packed.h): keys and values are loaded and converted once for all of them. Positions
 * are taken in *chunks* of 512: with CHUNK scores of a query in the cache of the core, a chunk is
 * a product of packed rows (keys), a softmax, and another product (values). Its result is the
 * maximum m of the scores, the sum l of e^(score - m), and the sum of values o with these weights.
 * Two such results become one by scaling both to the larger maximum (online softmax; Milakov and
 * Gimelshein, 2018).
 *
 * Before that, queries and keys are rotated, and keys and values stored. Of one token whose heads
 * are one tile and one chunk each, all of it is one item of one job; else storing is a job of its
 * own, because other threads' tiles look at what is stored.
 *
 * Chunks lie at fixed places and are always put together from first to last, and a query's result
 * in a chunk does not depend on the tile that it is in (packed_kernel). So neither threads nor the
 * cutting of a prompt into batches changes a bit. Where queries are few, as with one token, chunks
 * are handed out to threads, and put together afterwards.
 *
 * Budget on AVX-512, f16, 4 queries a tile: 32 bytes are a load, a conversion (2 instructions) and
 * 4 FMAs: 3 cycles of the two vector ports for 32 bytes, where DRAM gives a core 5 bytes a cycle.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/packed.h"

#define CHUNK KV_CHUNK

/* What one query has of a chunk, or of all so far. */
struct state {
	float m, l;
};

/* A thread's memory; all parts 64-byte aligned. */
struct scratch {
	int thread;
	char *rows;    /* [16] activation rows: queries */
	char *tile;    /* the same as a tile */
	float *scores; /* [16][CHUNK] */
	float *weight; /* [CHUNK][n_tok] the same as a tile */
	float *value;  /* [2][CHUNK][16] values of 8 bits as float */
	float *chunk;  /* [16][dim] result of a chunk */
	float *out;    /* [16][dim] of all chunks so far */
};

/* Floats of a query's result in struct cpu_device's `partial`: o, then m and l. */
static size_t partial_len(size_t head_dim)
{
	return pack_rows_up(head_dim) + 2;
}

/* Of a query, in either of the formats that keys are multiplied with. */
static size_t act_bytes(size_t n)
{
	size_t f32 = act_row_bytes(ACT_F32, n), q8 = act_row_bytes(ACT_Q8_32, n);

	return f32 > q8 ? f32 : q8;
}

static size_t n_chunks(size_t positions)
{
	return (positions + CHUNK - 1) / CHUNK;
}

/*
 * Queries of a pass whose chunks are handed out to threads: one token's at least, and as many as
 * fill a tile for each head of keys.
 */
static size_t split_queries(const struct attn_shape *s)
{
	size_t tiles = (size_t)s->n_head_kv * TILE_MAX;

	return s->n_head > tiles ? s->n_head : tiles;
}

static size_t partial_bytes(const struct attn_shape *s)
{
	return n_chunks(s->max_ctx) * split_queries(s) * partial_len(s->head_dim) * sizeof(float);
}

static struct scratch scratch_at(const struct attn_shape *s, char *base, size_t *bytes)
{
	size_t act = TILE_MAX * act_bytes(s->head_dim);
	size_t at_tile = act, at_scores = 2 * act, chunk = TILE_MAX * CHUNK * sizeof(float);
	size_t at_weight = at_scores + chunk, at_value = at_weight + chunk;
	size_t at_chunk = at_value + 2 * chunk,
	       out = TILE_MAX * pack_rows_up(s->head_dim) * sizeof(float);

	*bytes = at_chunk + 2 * out;
	return (struct scratch){
		.rows = base,
		.tile = base + at_tile,
		.scores = (void *)(base + at_scores),
		.weight = (void *)(base + at_weight),
		.value = (void *)(base + at_value),
		.chunk = (void *)(base + at_chunk),
		.out = (void *)(base + at_chunk + out),
	};
}

bool attention_open(struct cpu_device *c)
{
	scratch_at(&c->shape, NULL, &c->attn_bytes);
	c->attn = alloc64(c->attn_bytes * (size_t)c->d.team->n_threads);
	c->partial = alloc64(partial_bytes(&c->shape));
	return c->attn && c->partial;
}

uint64_t attention_bytes(const struct attn_shape *shape, int n_threads)
{
	size_t thread;

	scratch_at(shape, NULL, &thread);
	return (uint64_t)n_threads * thread + partial_bytes(shape);
}

void attention_close(struct cpu_device *c)
{
	free(c->attn);
	free(c->partial);
}

/*
 * Keys and values are in DRAM: since the last token all weights have passed by. A head has a dozen
 * streams of them, each of which begins with a miss of 0.1 microseconds, and more until the
 * hardware follows; bring() asks for their beginnings at once.
 */
#if defined(__x86_64__)
__attribute__((target("prfchw")))
#endif
static void
bring_to_write(const char *from, const char *to)
{
	for (; from < to; from += 64)
		__builtin_prefetch(from, 1, 3);
}

/* ---- what both halves of this file work on ---- */

struct attn_job {
	struct cpu_device *c;
	const struct attn_args *a;
	size_t dim;	/* of a head, in whole groups */
	uint32_t group; /* queries of a token that share a head */
	size_t n_tile;	/* of a head of keys and values */
	size_t n_chunk; /* that are items of their own; 1 where a tile's are not */
	bool alone;	/* one token, an item a head: what is stored is stored on the way */
};

static struct scratch scratch_of(const struct attn_job *j, int i)
{
	struct scratch s;
	size_t unused;

	s = scratch_at(&j->c->shape, j->c->attn + (size_t)i * j->c->attn_bytes, &unused);
	s.thread = i;
	return s;
}

/* ---- rotating and storing ---- */

/* Pair i is (x[i*step], x[i*step + dist]). */
static inline void rotate_pairs(float *x, const float *cos, const float *sin, uint32_t half,
				uint32_t step, uint32_t dist)
{
	for (uint32_t i = 0; i < half; i++) {
		float *p = x + (size_t)i * step;
		float re = p[0], im = p[dist];

		p[0] = re * cos[i] - im * sin[i];
		p[dist] = re * sin[i] + im * cos[i];
	}
}

/* A head of token @t. */
static void rotate(const struct rope *r, float *x, size_t t)
{
	const uint32_t half = r->n_rot / 2;
	const float *cos = r->cos + t * half, *sin = r->sin + t * half;

	if (r->style == ROPE_NORM)
		rotate_pairs(x, cos, sin, half, 2, 1);
	else
		rotate_pairs(x, cos, sin, half, 1, half);
}

/* The largest half rather than an infinity, which would not stay where it is stored (kv.h). */
static float to_half_range(float x)
{
	const float most = 65504;

	return x > most ? most : x < -most ? -most : x;
}

/* @x: [n] as a row of the cache's type: at @row, or where it is; @act: act_bytes(n) of scratch */
static const void *make_row(const struct cpu_isa *isa, uint32_t type, const float *x, size_t n,
			    char *row, void *act)
{
	const float *d = (const void *)((const char *)act + act_d_off(n));

	if (type == WT_F32)
		return x;
	if (type == WT_F16) {
		for (size_t i = 0; i < n; i++)
			((float *)act)[i] = to_half_range(x[i]);
		isa->f32_to_f16(act, (void *)row, n);
		return row;
	}
	act_make(isa, ACT_Q8_32, x, act, n);
	for (size_t b = 0; b < n / 32; b++) {
		uint16_t half = float_to_half(to_half_range(d[b]));

		memcpy(row + b * 34, &half, 2);
		memcpy(row + b * 34 + 2, (const char *)act + b * 32, 32);
	}
	return row;
}

/* A token's queries that share head @h, its key and its value. */
static void place(const struct attn_job *j, const struct scratch *s, uint32_t h, size_t t)
{
	const struct attn_args *a = j->a;
	const struct kv_layer *kv = a->kv;
	const size_t dim = kv->head_dim, at = (t * kv->n_head_kv + h) * dim;
	char *k = s->rows, *v = s->rows + act_bytes(dim);

	rotate(&a->rope, a->k + at, t);
	for (size_t i = 0; i < j->group; i++) {
		rotate(&a->rope, a->q + (t * a->n_head + h * j->group + i) * dim, t);
		fetch_some(j->c, s->thread);
	}
	fetch_some(j->c, s->thread);
	kv_put(kv, h, (uint32_t)(a->pos0 + t),
	       make_row(j->c->isa, kv->type, a->k + at, dim, k, s->tile),
	       make_row(j->c->isa, kv->type, a->v + at, dim, v, s->tile));
}

/* The lines that positions @begin to @end of a group touch: of keys all, one for two dimensions. */
static void bring_group(const struct kv_layer *kv, uint32_t h, size_t begin, size_t end)
{
	const char *k = kv_keys(kv, h, (uint32_t)(begin - begin % PACK_ROWS));

	bring_to_write(k, k + PACK_ROWS * kv_key_bytes(kv));
	for (uint32_t i = 0; i < kv->head_dim; i += kv_value_dims(kv)) {
		const char *v = kv_values(kv, h, i, (uint32_t)begin);

		bring_to_write(v, v + (end - begin) * kv_value_bytes(kv));
	}
}

/* Groups of 16 positions that are stored to. */
static size_t groups_placed(const struct attn_args *a)
{
	const size_t end = (size_t)a->pos0 + a->n_tok;

	return (end + PACK_ROWS - 1) / PACK_ROWS - a->pos0 / PACK_ROWS;
}

/* Of head @h what belongs into the @i-th of them. */
static void place_group(const struct attn_job *j, const struct scratch *s, uint32_t h, size_t i)
{
	const struct attn_args *a = j->a;
	const size_t first = (a->pos0 / PACK_ROWS + i) * PACK_ROWS;
	const size_t begin = first < a->pos0 ? a->pos0 : first;
	const size_t end = least(first + PACK_ROWS, (size_t)a->pos0 + a->n_tok);

	bring_group(a->kv, h, begin, end);
	for (size_t p = begin; p < end; p++)
		place(j, s, h, p - a->pos0);
}

/* Pieces are a head's groups of positions: what lies in one cache line is one thread's. */
static void place_piece(void *arg, int i, int n)
{
	struct attn_job *j = arg;
	const size_t n_group = groups_placed(j->a);
	const struct scratch s = scratch_of(j, i);
	size_t item;

	while (take_own(j->c, i, &item))
		place_group(j, &s, (uint32_t)(item / n_group), item % n_group);
}

/* ---- a tile and a chunk ---- */

/* The queries of a tile, all of one head of keys and values. */
struct queries {
	uint32_t h;	/* of keys and values */
	size_t q0, n_q; /* queries q0 .. q0 + n_q - 1 of the head's n_tok * group */
	size_t n_tok;	/* n_q, filled up to a power of two */
};

/* Positions of a chunk, counted from its beginning. */
struct span {
	size_t begin, end;
};

static size_t query_token(const struct attn_job *j, const struct queries *t, size_t i)
{
	return (t->q0 + i) / j->group;
}

static size_t query_head(const struct attn_job *j, const struct queries *t, size_t i)
{
	return t->h * j->group + (t->q0 + i) % j->group;
}

/* What query i of a tile may see of the chunk at @at: none where end <= begin. */
static struct span visible(const struct attn_job *j, const struct queries *t, size_t i, size_t at)
{
	const struct attn_args *a = j->a;
	size_t end = a->pos0 + query_token(j, t, i) + 1;
	size_t begin = a->window && end > a->window ? end - a->window : 0;

	return (struct span){
		.begin = begin > at ? least(begin - at, CHUNK) : 0,
		.end = end > at ? least(end - at, CHUNK) : 0,
	};
}

/* What the queries of a tile see together, in whole rounds of positions. */
static struct span visible_together(const struct attn_job *j, const struct queries *t, size_t at)
{
	struct span all = {CHUNK, 0};

	for (size_t i = 0; i < t->n_q; i++) {
		struct span one = visible(j, t, i, at);

		if (one.end <= one.begin)
			continue;
		all.begin = least(all.begin, one.begin);
		all.end = one.end > all.end ? one.end : all.end;
	}
	all.begin -= all.begin % KV_ROUND;
	all.end += (KV_ROUND - all.end % KV_ROUND) % KV_ROUND;
	return all;
}

static struct queries queries_of(const struct attn_job *j, size_t item)
{
	struct queries t = {
		.h = (uint32_t)(item / j->n_tile),
		.q0 = item % j->n_tile * TILE_MAX,
		.n_tok = 1,
	};

	t.n_q = least(j->a->n_tok * j->group - t.q0, TILE_MAX);
	while (t.n_tok < t.n_q)
		t.n_tok *= 2;
	return t;
}

static enum act_kind query_kind(const struct attn_job *j)
{
	return j->c->isa->types[j->a->kv->type]->act;
}

/* The queries, scaled, as a tile in s->tile. */
static void load_queries(const struct attn_job *j, const struct queries *t, const struct scratch *s)
{
	const struct attn_args *a = j->a;
	const size_t dim = a->kv->head_dim, stride = act_row_bytes(query_kind(j), dim);
	float *scaled = s->scores;

	for (size_t i = 0; i < t->n_tok; i++) {
		size_t at = query_token(j, t, i) * a->n_head + query_head(j, t, i);

		if (i < t->n_q)
			j->c->isa->scale(scaled, a->q + at * dim, a->scale, dim);
		else
			memset(scaled, 0, dim * sizeof(float));
		fetch_some(j->c, s->thread);
		act_make(j->c->isa, query_kind(j), scaled, s->rows + i * stride, dim);
	}
	fetch_some(j->c, s->thread);
	tile_make(query_kind(j), s->rows, stride, t->n_tok, dim, s->tile);
	fetch_some(j->c, s->thread);
}

/* The beginnings of what a chunk needs, of all values where positions are few. */
#define SOON 2048

static void bring_chunk(const struct kv_layer *kv, uint32_t h, size_t at, struct span p)
{
	const uint32_t begin = (uint32_t)(at + p.begin);
	const char *k = kv_keys(kv, h, begin);

	bring(k, k + least((p.end - p.begin) * kv_key_bytes(kv), SOON));
	for (uint32_t i = 0; i < kv->head_dim; i += kv_value_dims(kv)) {
		const char *v = kv_values(kv, h, i, begin);

		bring(v, v + least((p.end - p.begin) * kv_value_bytes(kv), SOON));
	}
}

/* s->scores of the chunk at @at, of positions @p. */
static void score(const struct attn_job *j, const struct queries *t, const struct scratch *s,
		  size_t at, struct span p)
{
	const struct kv_layer *kv = j->a->kv;

	for (size_t i = p.begin; i < p.end; i += KV_ROUND) {
		fetch_some(j->c, s->thread);
		j->c->isa->packed[kv->type](kv_keys(kv, t->h, (uint32_t)(at + i)),
					    KV_ROUND / PACK_ROWS, s->tile, t->n_tok, kv->head_dim,
					    s->scores + i, CHUNK);
	}
}

/* Scores to weights e^(score - m), zero where a query sees nothing; st: [n_q] */
static void soften(const struct attn_job *j, const struct queries *t, const struct scratch *s,
		   size_t at, struct span p, struct state *st)
{
	const struct cpu_isa *isa = j->c->isa;

	for (size_t i = 0; i < t->n_tok; i++) {
		struct span see = i < t->n_q ? visible(j, t, i, at) : (struct span){0, 0};
		float *w = s->scores + i * CHUNK;

		st[i] = (struct state){0, 0};
		if (see.end <= see.begin) {
			memset(w + p.begin, 0, (p.end - p.begin) * sizeof(*w));
			continue;
		}
		for (size_t k = p.begin; k < see.begin; k++)
			w[k] = -INFINITY;
		for (size_t k = see.end; k < p.end; k++)
			w[k] = -INFINITY;
		fetch_some(j->c, s->thread);
		st[i].m = isa->max(w + p.begin, p.end - p.begin);
		fetch_some(j->c, s->thread);
		st[i].l = isa->exp_sum(w + p.begin, st[i].m, p.end - p.begin);
	}
}

/* s->chunk = weights times values */
static void weigh(const struct attn_job *j, const struct queries *t, const struct scratch *s,
		  size_t at, struct span p)
{
	const struct cpu_isa *isa = j->c->isa;
	const struct kv_layer *kv = j->a->kv;
	const size_t n = p.end - p.begin, dim = j->dim;
	const bool spread = kv->type == WT_Q8_0;
	const float *w = s->scores + p.begin;

	if (t->n_tok > 1) {
		tile_make(ACT_F32, w, CHUNK * sizeof(*w), t->n_tok, n, s->weight);
		w = s->weight;
	}
	for (size_t i = 0; i < dim; i += PACK_ROWS) {
		const void *v = kv_values(kv, t->h, (uint32_t)i, (uint32_t)(at + p.begin));

		if (spread) {
			if (i % 32 == 0)
				isa->spread_q8_0(v, s->value, n);
			v = s->value + i % 32 * n;
		}
		fetch_some(j->c, s->thread);
		isa->packed[spread ? WT_F32 : kv->type](v, 1, w, t->n_tok, n, s->chunk + i, dim);
	}
}

/* Results of a chunk, and of those before it, become one: @o and *@st. */
static void join(const struct cpu_isa *isa, float *o, struct state *st, const float *chunk,
		 struct state of, size_t dim)
{
	float m = st->m > of.m ? st->m : of.m, a = expf(st->m - m), b = expf(of.m - m);

	/* l is 0 where nothing was seen, and at least 1, or NaN, elsewhere */
	if (of.l == 0)
		return;
	if (st->l == 0) {
		memcpy(o, chunk, dim * sizeof(*o));
		*st = of;
		return;
	}
	isa->blend(o, a, chunk, b, dim);
	st->l = st->l * a + of.l * b;
	st->m = m;
}

/* out = o / l */
static void finish(const struct attn_job *j, size_t token, size_t head, const float *o, float l)
{
	const size_t dim = j->a->kv->head_dim;

	j->c->isa->scale(j->a->out + (token * j->a->n_head + head) * dim, o, 1 / l, dim);
}

/* A tile over its chunks, one after the other. */
static void attend(const struct attn_job *j, const struct queries *t, const struct scratch *s)
{
	const size_t dim = j->dim, end = j->a->pos0 + j->a->n_tok;
	struct state st[TILE_MAX] = {0}, of[TILE_MAX];

	load_queries(j, t, s);
	for (size_t at = 0; at < end; at += CHUNK) {
		struct span p = visible_together(j, t, at);

		if (p.end <= p.begin)
			continue;
		bring_chunk(j->a->kv, t->h, at, p);
		score(j, t, s, at, p);
		soften(j, t, s, at, p, of);
		weigh(j, t, s, at, p);
		for (size_t i = 0; i < t->n_q; i++)
			join(j->c->isa, s->out + i * dim, &st[i], s->chunk + i * dim, of[i], dim);
	}
	for (size_t i = 0; i < t->n_q; i++) {
		fetch_some(j->c, s->thread);
		finish(j, query_token(j, t, i), query_head(j, t, i), s->out + i * dim, st[i].l);
	}
}

/* Where the result of chunk @c lies for a query. */
static float *partial(const struct attn_job *j, size_t c, size_t token, size_t head)
{
	size_t query = token * j->a->n_head + head, queries = j->a->n_tok * j->a->n_head;

	return j->c->partial + (c * queries + query) * partial_len(j->a->kv->head_dim);
}

/* One chunk of a tile. */
static void attend_chunk(const struct attn_job *j, const struct queries *t, const struct scratch *s,
			 size_t c)
{
	struct span p = visible_together(j, t, c * CHUNK);
	struct state of[TILE_MAX] = {0};

	if (p.end > p.begin) {
		bring_chunk(j->a->kv, t->h, c * CHUNK, p);
		load_queries(j, t, s);
		score(j, t, s, c * CHUNK, p);
		soften(j, t, s, c * CHUNK, p, of);
		weigh(j, t, s, c * CHUNK, p);
	}
	for (size_t i = 0; i < t->n_q; i++) {
		float *to = partial(j, c, query_token(j, t, i), query_head(j, t, i));

		if (of[i].l != 0)
			memcpy(to, s->chunk + i * j->dim, j->dim * sizeof(*to));
		to[j->dim] = of[i].m;
		to[j->dim + 1] = of[i].l;
	}
}

/* Chunks of the same keys and values follow each other: a thread that takes them reads one stream.
 */
static void attention_piece(void *arg, int i, int n)
{
	struct attn_job *j = arg;
	const struct scratch s = scratch_of(j, i);
	size_t item;

	while (take_own(j->c, i, &item)) {
		struct queries t = queries_of(j, item / j->n_chunk);

		if (j->alone)
			place_group(j, &s, t.h, 0);
		if (j->n_chunk > 1)
			attend_chunk(j, &t, &s, item % j->n_chunk);
		else
			attend(j, &t, &s);
	}
}

/* A query's chunks, put together in the first one's place. */
static void join_chunks(const struct attn_job *j, size_t token, size_t head)
{
	float *o = partial(j, 0, token, head);
	struct state st = {o[j->dim], o[j->dim + 1]};

	for (size_t c = 1; c < j->n_chunk; c++) {
		const float *p = partial(j, c, token, head);

		join(j->c->isa, o, &st, p, (struct state){p[j->dim], p[j->dim + 1]}, j->dim);
	}
	finish(j, token, head, o, st.l);
}

void cpu_attention(struct device *d, const struct attn_args *a)
{
	struct attn_job j = {
		.c = cpu(d),
		.a = a,
		.dim = pack_rows_up(a->kv->head_dim),
		.group = a->n_head / a->kv->n_head_kv,
		.n_chunk = 1,
	};
	size_t work = (size_t)a->n_tok * a->n_head * a->kv->head_dim * (a->pos0 + a->n_tok);

	j.n_tile = (a->n_tok * j.group + TILE_MAX - 1) / TILE_MAX;
	if ((size_t)a->n_tok * a->n_head <= split_queries(&cpu(d)->shape))
		j.n_chunk = n_chunks((size_t)a->pos0 + a->n_tok);
	j.alone = a->n_tok == 1 && j.n_tile == 1 && j.n_chunk == 1;
	if (!j.alone) {
		share_out(d, groups_placed(a) * a->kv->n_head_kv);
		run_over(d, (size_t)a->n_tok * a->n_head * a->kv->head_dim, 512, place_piece, &j);
	}
	share_out(d, a->kv->n_head_kv * j.n_tile * j.n_chunk);
	run_over(d, work, 8192, attention_piece, &j);
	for (size_t q = 0; j.n_chunk > 1 && q < (size_t)a->n_tok * a->n_head; q++)
		join_chunks(&j, q / a->n_head, q % a->n_head);
}

/*
 * Heads are shared out as weights are, by ranges, so what a thread will store to and look at is
 * known before there are queries: the matmul that makes them has its threads ask for that when
 * they are through. Of one token and as many heads as half of an L2 may hold.
 */
#define EXPECT_BYTES (128u << 10)

void cpu_expect_attention(struct device *d, const struct attn_args *a)
{
	cpu(d)->kv_next = *a->kv;
	cpu(d)->attn_next = *a;
	cpu(d)->attn_next.kv = &cpu(d)->kv_next;
	if (a->n_tok > 1)
		cpu(d)->attn_next.n_tok = 0;
}

void attention_bring(const struct cpu_device *c, int i)
{
	const struct attn_args *a = &c->attn_next;
	const struct kv_layer *kv = a->kv;
	const struct queries t = {.n_q = 1};
	const struct attn_job j = {.a = a, .group = 1};
	const int n = c->d.team->n_threads;
	size_t h, end, each, at;
	struct span p;

	if (!a->n_tok)
		return;
	at = a->window && a->pos0 >= a->window ? a->pos0 + 1 - a->window : 0;
	at -= at % CHUNK;
	p = visible_together(&j, &t, at);
	each = SOON * (1 + (kv->head_dim + kv_value_dims(kv) - 1) / kv_value_dims(kv));
	h = share_of(kv->n_head_kv, i, n);
	end = least(share_of(kv->n_head_kv, i + 1, n), h + EXPECT_BYTES / each);
	for (; h < end; h++) {
		bring_group(kv, (uint32_t)h, a->pos0, a->pos0 + 1);
		bring_chunk(kv, (uint32_t)h, at, p);
	}
}
