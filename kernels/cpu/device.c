// SPDX-License-Identifier: MIT
/*
 * The CPU as a device: the operations of kernels/device.h over a team of threads.
 *
 * Threads take their work in pieces, as they come to it, so that a core that another process slows
 * down does not hold up the rest. A piece's result never depends on who computes it or on how the
 * pieces were cut: every output element is one thread's sum in one fixed order. That makes output
 * bit-identical over thread counts.
 *
 * Memory: act_new() and cpu_device_open() allocate; no operation does.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/packed.h"

struct act {
	const float *x; /* [n_tok][n_in], the caller's */
	size_t n_in, n_tok;
	const float *norm; /* [n_in]: it is rmsnorm(x) with these weights that counts; or NULL */
	float eps;
	float *gate; /* x, where it is silu(x) * up that counts; or NULL */
	const float *up;
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
	float *normed; /* [n_threads][normed_len]: a token's */
	size_t normed_len;
};

/* ---- activations ---- */

static void cpu_act_free(struct device *d, struct act *a)
{
	if (!a)
		return;
	for (int k = 0; k < ACT_KINDS; k++)
		free(a->buf[k]);
	free(a->scratch);
	free(a->normed);
	free(a);
}

/* Of a thread: for 16 rows of weights or activations, of which no type takes more than 4 bytes. */
static size_t pack_scratch(size_t max_n_in)
{
	return TILE_MAX * act_row_bytes(ACT_F32, max_n_in);
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
	a->scratch_bytes = pack_scratch(max_n_in);
	a->normed_len = act_row_bytes(ACT_F32, max_n_in) / sizeof(float);
	a->normed = alloc64(a->normed_len * sizeof(float) * (size_t)d->team->n_threads);
	ok = ok && a->normed;
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
	a->norm = NULL;
	a->gate = NULL;
	a->batch = batch && cpu(d)->isa->packs && a->scratch;
	for (int k = 0; k < ACT_KINDS; k++)
		a->form[k] = NOT_READY;
}

static void cpu_act_set_norm(struct device *d, struct act *a, const float *x, const float *w,
			     float eps, size_t n_in, size_t n_tok, bool batch)
{
	cpu_act_set(d, a, x, n_in, n_tok, batch);
	a->norm = w;
	a->eps = eps;
}

static void cpu_act_set_swiglu(struct device *d, struct act *a, float *gate, const float *up,
			       size_t n_in, size_t n_tok, bool batch)
{
	cpu_act_set(d, a, gate, n_in, n_tok, batch);
	a->gate = gate;
	a->up = up;
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
	struct cpu_device *c;
	struct act *a;
	enum act_kind kind;
	atomic_size_t next;
};

static void norm_row(const struct cpu_isa *isa, float *y, const float *x, const float *w, size_t n,
		     float eps)
{
	float mean = isa->dot_f32(x, x, n) / (float)n;

	isa->mul_norm(y, x, 1.0f / sqrtf(mean + eps), w, n);
}

/* By thread @i. */
static void quantize_row(const struct quantize_job *j, int i, size_t token, char *dst)
{
	const struct act *a = j->a;
	const float *x = a->x + token * a->n_in;
	float *normed = a->normed + (size_t)i * a->normed_len;

	bring(x, x + a->n_in);
	fetch_some(j->c, i);
	if (a->norm) {
		norm_row(j->c->isa, normed, x, a->norm, a->n_in, a->eps);
		fetch_some(j->c, i);
		x = normed;
	}
	act_make(j->c->isa, j->kind, x, dst, a->n_in);
	fetch_some(j->c, i);
}

static void rows_piece(void *arg, int i, int n)
{
	struct quantize_job *j = arg;
	size_t stride = act_row_bytes(j->kind, j->a->n_in), t;

	while ((t = take(&j->next)) < j->a->n_tok)
		quantize_row(j, i, t, (char *)j->a->buf[j->kind] + t * stride);
}

static void tiles_piece(void *arg, int i, int n)
{
	struct quantize_job *j = arg;
	struct act *a = j->a;
	size_t stride = act_row_bytes(j->kind, a->n_in), at;

	while ((at = take(&j->next)) < n_tiles(a)) {
		struct tile t = tile_at(a, j->kind, at);
		char *rows = a->scratch + (size_t)i * a->scratch_bytes;

		/* a tile of one token is an activation row */
		if (t.n_tok == 1) {
			quantize_row(j, i, t.tok0, t.data);
			continue;
		}
		for (size_t k = 0; k < t.n_tok; k++)
			quantize_row(j, i, t.tok0 + k, rows + k * stride);
		tile_make(j->kind, rows, stride, t.n_tok, a->n_in, t.data);
	}
}

/*
 * A part of an activation row: a multiple of every format's blocks, so that it can be made alone.
 * @row: all of it, n_in elements; @x: elements @at to @at + @n - 1
 */
#define PART 512

static void make_part(const struct cpu_isa *isa, enum act_kind kind, const float *x, size_t at,
		      size_t n, char *row, size_t n_in)
{
	_Alignas(64) char part[PART * sizeof(float)];

	if (kind == ACT_F32) {
		memcpy(row + at * sizeof(*x), x, n * sizeof(*x));
		return;
	}
	act_make(isa, kind, x, part, n);
	memcpy(row + at, part, n);
	if (kind == ACT_Q8_32) {
		memcpy(row + act_d_off(n_in) + at / 8, part + act_d_off(n), n / 8);
		memcpy(row + act_s_off(n_in) + at / 8, part + act_s_off(n), n / 8);
	} else {
		memcpy(row + act_d_off(n_in) + at / 64, part + act_d_off(n), n / 64);
		memcpy(row + act_bsums_off(n_in) + at / 8, part + act_bsums_off(n), n / 8);
	}
}

/*
 * One token: the product of gate and up, and its format, at once and by parts. A thread begins with
 * those whose rows it has computed (product_of()), which are in its cache.
 */
static void swiglu_parts(void *arg, int i, int n)
{
	struct quantize_job *j = arg;
	struct act *a = j->a;
	size_t at;

	while (take_own(j->c, i, &at)) {
		const size_t some = least(a->n_in - at * PART, PART);
		const float *up = a->up + at * PART;
		float *gate = a->gate + at * PART;

		bring(gate, gate + some);
		bring(up, up + some);
		fetch_some(j->c, i);
		j->c->isa->swiglu(gate, up, some);
		fetch_some(j->c, i);
		make_part(j->c->isa, j->kind, gate, at * PART, some, a->buf[j->kind], a->n_in);
	}
}

/* y = y op x, in pieces. */
struct pair_job {
	void (*op)(float *y, const float *x, size_t n);
	float *y;
	const float *x;
	size_t n;
	atomic_size_t next;
};

#define PAIR_PIECE 2048

static void pair_piece(void *arg, int i, int n)
{
	struct pair_job *j = arg;
	size_t p;

	while ((p = take(&j->next) * PAIR_PIECE) < j->n) {
		const size_t some = least(j->n - p, PAIR_PIECE);

		bring(j->x + p, j->x + p + some);
		bring(j->y + p, j->y + p + some);
		j->op(j->y + p, j->x + p, some);
	}
}

static void swiglu(struct device *d, const struct act *a)
{
	struct pair_job j = {
		.op = cpu(d)->isa->swiglu,
		.y = a->gate,
		.x = a->up,
		.n = a->n_in * a->n_tok,
	};

	run_over(d, j.n, 2 * PAIR_PIECE, pair_piece, &j);
}

static void act_quantize(struct device *d, struct act *a, enum act_kind kind, enum form form)
{
	struct quantize_job j = {.c = cpu(d), .a = a, .kind = kind};

	if (a->form[kind] == form)
		return;
	if (a->gate && a->n_tok == 1) {
		share_out(d, (a->n_in + PART - 1) / PART);
		run_over(d, a->n_in, 4 * PART, swiglu_parts, &j);
	} else {
		if (a->gate)
			swiglu(d, a);
		run_over(d, a->n_tok, 4, form == TILES ? tiles_piece : rows_piece, &j);
	}
	/* done: another format finds the product in x */
	a->gate = NULL;
	a->form[kind] = form;
}

/* ---- matrix times activations ---- */

/*
 * Every thread has a *range* of rows that lie together, by bytes, which it walks from the beginning
 * in pieces; when it is through it takes pieces from the ends of others' ranges. So a range is one
 * stretch of each matrix, that kernels walk as one stream or several. (Pieces that are handed out
 * in turn, next to the other thread's, cost 10 to 20% of decode: 6.4 instead of 7.1 tokens/s of a
 * 7-billion-weight Q4_0 model on two cores.) A piece is short enough to stay in the cache of its
 * core while the tokens of a batch pass by, and for the threads to end together.
 *
 * One token has no use for that cache, and each taking of a piece waits until the outputs of the
 * last one are written, which another core had: 0.3 microseconds. So there a thread takes a quarter
 * of what it has left at once, up to RUN_MAX pieces: 2 MiB, which DRAM gives a core in 110
 * microseconds, and which others wait for where that core is taken away.
 */
#define PIECE_BYTES	  (128u << 10)
#define PIECES_PER_THREAD 4
#define RUN_MAX		  16
#define OUT_ROWS	  1024 /* a multiple of PACK_ROWS */
#define PLAIN_BYTES	  (512u << 10)

/* One of the matrices. */
struct product {
	const struct mat *w;
	const struct type_ops *ops;
	packed_kernel *dot_packed;
	const struct act *a;
	uint64_t piece_rows; /* a multiple of PACK_ROWS */
	size_t n_piece;
};

struct matmul_job {
	struct product of[MATMUL_MAX];
	size_t n_mat, n_all;  /* matrices; their pieces */
	size_t run_max;	      /* pieces that a thread takes at once */
	struct cpu_device *c; /* whose ranges are pieces of each thread */
	int n_thread;
};

/* @room: for packing rows on the way */
static uint64_t piece_rows(const struct mat *w, uint64_t room, int n_threads)
{
	uint64_t rows = least(PIECE_BYTES, room) / w->row_bytes;

	if (n_threads > 1)
		rows = least(rows, w->n_out / (PIECES_PER_THREAD * (uint64_t)n_threads));
	rows -= rows % PACK_ROWS;
	return rows ? rows : PACK_ROWS;
}

/* One token after the other times the rows. */
static void multiply_rows(const struct product *p, const char *w, size_t row, size_t rows)
{
	const char *act = p->a->buf[p->ops->act];
	size_t stride = act_row_bytes(p->ops->act, p->w->n_in);

	for (size_t t = 0; t < p->a->n_tok; t++)
		p->ops->dot_rows(w, p->w->row_bytes, rows, act + t * stride, p->w->n_in,
				 p->w->y + t * p->w->n_out + row);
}

/* One tile after the other times packed groups, of which the last may be there in part. */
static void multiply_groups(const struct product *p, const char *w, size_t row, size_t rows)
{
	size_t whole = rows / PACK_ROWS, left = rows % PACK_ROWS;
	const char *last = w + whole * PACK_ROWS * p->w->row_bytes;

	for (size_t i = 0; i < n_tiles(p->a); i++) {
		struct tile t = tile_at(p->a, p->ops->act, i);
		float *y = p->w->y + t.tok0 * p->w->n_out + row, part[TILE_MAX][PACK_ROWS];

		if (whole)
			p->dot_packed(w, whole, t.data, t.n_tok, p->w->n_in, y, p->w->n_out);
		if (!left)
			continue;
		p->dot_packed(last, 1, t.data, t.n_tok, p->w->n_in, part[0], PACK_ROWS);
		for (size_t k = 0; k < t.n_tok; k++)
			memcpy(y + k * p->w->n_out + whole * PACK_ROWS, part[k],
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

static size_t pieces_in(const struct product *p, unsigned int seg)
{
	return (p->w->seg[seg].n_rows + p->piece_rows - 1) / p->piece_rows;
}

/* Rows that lie one behind the other: where, and as what rows of their matrix. */
struct rows {
	const char *data;
	uint64_t row, n;
};

/* Pieces @i on of a matrix: as many of *n as one segment has; *n becomes their number. */
static struct rows rows_of(const struct product *p, size_t i, size_t *n)
{
	const struct mat_seg *seg = p->w->seg;
	unsigned int s = 0;
	struct rows r;

	for (; i >= pieces_in(p, s); s++, seg++)
		i -= pieces_in(p, s);
	*n = least(*n, pieces_in(p, s) - i);
	r.row = i * p->piece_rows;
	r.n = least(seg->n_rows - r.row, *n * p->piece_rows);
	r.data = (const char *)seg->data + r.row * p->w->row_bytes;
	r.row += seg->row0;
	return r;
}

/*
 * One token. The outputs go through a buffer: stores into lines that another core had, one for
 * every 36 KB of weights, cost 2 to 4% of decode. Kernels walk plain rows as streams that are parts
 * of a call's rows apart: of 1 MiB and more a call reads 2 to 4% slower.
 */
static void multiply_one(const struct product *p, struct rows r)
{
	const void *x = p->a->buf[p->ops->act];
	const size_t plain = PLAIN_BYTES / p->w->row_bytes;
	const size_t most = p->w->packed ? OUT_ROWS : least(plain ? plain : 1, OUT_ROWS);
	_Alignas(64) float out[OUT_ROWS];

	for (size_t i = 0; i < r.n; i += most) {
		const size_t n = least(r.n - i, most);
		const char *w = r.data + i * p->w->row_bytes;

		if (p->w->packed)
			p->dot_packed(w, pack_rows_up(n) / PACK_ROWS, x, 1, p->w->n_in, out, 0);
		else
			p->ops->dot_rows(w, p->w->row_bytes, n, x, p->w->n_in, out);
		memcpy(p->w->y + r.row + i, out, n * sizeof(*out));
	}
}

/* By thread @thread. Plain rows are packed first where tokens pay for it: one piece of them. */
static void multiply(const struct product *p, struct rows r, int thread)
{
	if (p->a->n_tok == 1 && (p->w->packed || !p->a->batch)) {
		multiply_one(p, r);
	} else if (p->w->packed) {
		multiply_groups(p, r.data, r.row, r.n);
	} else if (p->a->batch) {
		char *groups = p->a->scratch + (size_t)thread * p->a->scratch_bytes;

		pack_rows(p->w, r.data, r.n, groups);
		multiply_groups(p, groups, r.row, r.n);
	} else {
		multiply_rows(p, r.data, r.row, r.n);
	}
}

/*
 * Pieces are counted by threads: first thread 0's share of the first matrix, of the second and of
 * the third, then thread 1's. Outputs that are needed together, a head's queries, keys and values,
 * or gate and up of the same row, are so computed by one thread, which has them in its cache then.
 */
static size_t part_of(const struct product *p, int i, int n)
{
	return share_of(p->n_piece, i, n);
}

/* Thread @i's first piece, and the end of thread i - 1's. */
static size_t first_of(const struct matmul_job *j, int i)
{
	size_t first = 0;

	for (size_t m = 0; m < j->n_mat; m++)
		first += part_of(&j->of[m], i, j->n_thread);
	return first;
}

/*
 * The matrix that piece @i < n_all of the job is of; *i becomes the piece of it, *n at most those
 * that follow it there.
 */
static const struct product *product_of(const struct matmul_job *j, size_t *i, size_t *n)
{
	const struct product *p = j->of;
	/* or a later one, since shares are rounded down */
	int t = (int)(*i * (size_t)j->n_thread / j->n_all);

	while (*i >= first_of(j, t + 1))
		t++;
	*i -= first_of(j, t);
	for (;; p++) {
		const size_t begin = part_of(p, t, j->n_thread);
		const size_t some = part_of(p, t + 1, j->n_thread) - begin;

		if (*i < some) {
			*n = least(*n, some - *i);
			*i += begin;
			return p;
		}
		*i -= some;
	}
}

/* Pieces @first .. @first + @n - 1 of the job, those that lie together at once. */
static void multiply_run(const struct matmul_job *j, size_t first, size_t n, int thread)
{
	while (n) {
		size_t at = first, some = n;
		const struct product *p = product_of(j, &at, &some);

		multiply(p, rows_of(p, at, &some), thread);
		first += some;
		n -= some;
	}
}

/* The own range from its beginning, then what others have not come to, from their ends. */
static void matmul_range(void *arg, int i, int n)
{
	struct matmul_job *j = arg;
	size_t first, some;

	while (take_from(&j->c->range[i], false, j->run_max, &first, &some))
		multiply_run(j, first, some, i);
	while (take_own(j->c, i, &first))
		multiply_run(j, first, 1, i);
	attention_bring(j->c, i);
}

static enum form form_for(const struct mat *w, const struct act *x)
{
	return w->packed || x->batch ? TILES : ROWS;
}

/* Whether @w finds its input ready, or may have it made, beside the matrices of the job. */
static bool fits(const struct device *d, const struct matmul_job *j, const struct mat *w,
		 const struct act *x)
{
	enum act_kind kind = ((const struct cpu_device *)d)->isa->types[w->type]->act;

	for (size_t m = 0; m < j->n_mat; m++)
		if (j->of[m].ops->act == kind && form_for(j->of[m].w, x) != form_for(w, x))
			return false;
	return true;
}

static struct product *add_product(struct device *d, struct matmul_job *j, const struct mat *w,
				   uint64_t room)
{
	const struct cpu_isa *isa = cpu(d)->isa;
	struct product *p = &j->of[j->n_mat++];

	*p = (struct product){
		.w = w,
		.ops = isa->types[w->type],
		.dot_packed = isa->packed[w->type],
		.piece_rows = piece_rows(w, room, d->team->n_threads),
	};
	for (unsigned int s = 0; s < w->n_seg; s++)
		p->n_piece += pieces_in(p, s);
	j->n_all += p->n_piece;
	return p;
}

static void add_with_input(struct device *d, struct matmul_job *j, const struct mat *w,
			   struct act *x)
{
	bool pack = x->batch && !w->packed;
	struct product *p = add_product(d, j, w, pack ? x->scratch_bytes : PIECE_BYTES);

	p->a = x;
	act_quantize(d, x, p->ops->act, form_for(w, x));
}

/*
 * Between two matmuls there is what one thread does alone, and threads never end quite together:
 * 4% of decode. A thread that waits fetches the beginning of its next range meanwhile: from when
 * the matmul before that has begun, since until then it waits for that one.
 */
struct brought {
	const void *p;
	size_t bytes;
};

static void bring_next(struct device *d)
{
	struct brought *next = cpu(d)->next;

	for (int i = 0; i < d->team->n_threads; i++) {
		d->team->bring(d->team, i, next[i].p, next[i].bytes);
		next[i] = (struct brought){0};
	}
}

static void cpu_matmul(struct device *d, const struct mat *w, size_t n_mat, struct act *x)
{
	const struct mat *end = w + n_mat;

	while (w < end) {
		struct matmul_job j = {
			.c = cpu(d),
			.n_thread = d->team->n_threads,
			.run_max = (x->batch || x->n_tok > 1) ? 1 : RUN_MAX,
		};

		while (w < end && fits(d, &j, w, x))
			add_with_input(d, &j, w++, x);
		/* pieces of a large matrix have PIECE_BYTES each, so as many are as many bytes */
		for (int i = 0; i < j.n_thread; i++)
			range_set(&cpu(d)->range[i], first_of(&j, i), first_of(&j, i + 1));
		if (w == end)
			bring_next(d);
		run_over(d, j.n_all, 1, matmul_range, &j);
	}
	cpu(d)->attn_next.n_tok = 0;
}

static void cpu_expect(struct device *d, const struct mat *w, size_t n_mat)
{
	struct matmul_job j = {.n_thread = d->team->n_threads};

	for (size_t i = 0; i < n_mat; i++)
		add_product(d, &j, &w[i], PIECE_BYTES);
	for (int i = 0; i < j.n_thread; i++) {
		size_t at = first_of(&j, i), all = j.n_all, bytes = 0;
		struct rows r = {0};

		if (at < j.n_all) {
			const struct product *p = product_of(&j, &at, &all);

			r = rows_of(p, at, &all);
			bytes = r.n * p->w->row_bytes;
		}
		cpu(d)->next[i] = (struct brought){r.data, bytes};
	}
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

	while ((r = take(&j->next)) < j->n_row)
		norm_row(j->isa, j->y + r * j->n, j->x + r * j->n, j->w, j->n, j->eps);
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
	struct pair_job j = {.op = cpu(d)->isa->add, .y = y, .x = x, .n = n};

	run_over(d, n, 32768, pair_piece, &j);
}

static void cpu_add_bias(struct device *d, float *y, const float *b, size_t n, size_t n_row)
{
	for (size_t r = 0; r < n_row; r++)
		cpu(d)->isa->add(y + r * n, b, n);
}

/* ---- open and close ---- */

static void cpu_close(struct device *d)
{
	attention_close(cpu(d));
	free(cpu(d)->range);
	free(cpu(d)->next);
	free(d);
}

static const struct device_ops cpu_ops = {
	.name = "cpu",
	.act_new = cpu_act_new,
	.act_free = cpu_act_free,
	.act_set = cpu_act_set,
	.act_set_norm = cpu_act_set_norm,
	.act_set_swiglu = cpu_act_set_swiglu,
	.matmul = cpu_matmul,
	.expect = cpu_expect,
	.expect_attention = cpu_expect_attention,
	.dequantize_row = cpu_dequantize_row,
	.rmsnorm = cpu_rmsnorm,
	.add = cpu_add,
	.add_bias = cpu_add_bias,
	.attention = cpu_attention,
	.close = cpu_close,
};

uint64_t cpu_device_bytes(const struct attn_shape *shape, size_t max_n_in, size_t max_tok,
			  int n_threads)
{
	uint64_t thread =
		sizeof(struct range) + sizeof(struct brought) + act_row_bytes(ACT_F32, max_n_in);

	if (max_tok > 1)
		thread += pack_scratch(max_n_in);
	return attention_bytes(shape, n_threads) + thread * (uint64_t)n_threads;
}

struct device *cpu_device_open(struct team *team, const struct attn_shape *shape)
{
	struct cpu_device *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->d.ops = &cpu_ops;
	c->d.team = team;
	c->isa = cpu_isa_best();
	c->shape = *shape;
	c->range = alloc64(sizeof(*c->range) * (size_t)team->n_threads);
	c->next = calloc((size_t)team->n_threads, sizeof(*c->next));
	if (attention_open(c) && c->range && c->next)
		return &c->d;
	cpu_close(&c->d);
	return NULL;
}
