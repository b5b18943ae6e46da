// SPDX-License-Identifier: MIT
/*
 * The CPU device's operations against plain double-precision loops, and the promise that
 * results do not depend on threads or on how a matrix is cut into segments.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "decode/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/device.h"
#include "kernels/packed.h"

static uint32_t seed = 1;

static float rnd(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

static float *floats(size_t n)
{
	float *p = malloc(n * sizeof(*p));

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = rnd();
	return p;
}

struct rig {
	struct team *team;
	struct device *dev;
};

static struct rig rig_with(int threads, const struct attn_shape *shape)
{
	struct rig r;

	assert_int_equal(team_open(threads, &r.team, NULL), 0);
	r.dev = cpu_device_open(r.team, shape);
	assert_non_null(r.dev);
	return r;
}

static struct rig rig_open(int threads)
{
	return rig_with(threads, &(struct attn_shape){1, 1, 1, 1});
}

static void rig_close(struct rig *r)
{
	r->dev->ops->close(r->dev);
	team_close(r->team);
}

static void assert_close(const float *a, const double *b, size_t n, double tol)
{
	double max = 1e-30;

	for (size_t i = 0; i < n; i++)
		max = fmax(max, fabs(b[i]));
	for (size_t i = 0; i < n; i++)
		if (!(fabs(a[i] - b[i]) <= tol * max))
			fail_msg("element %zu is %g and should be %g", i, (double)a[i], b[i]);
}

/* A Q8_0 matrix of random codes: [n_out][n_in] */
static uint8_t *random_q8_0(size_t n_in, size_t n_out)
{
	size_t blocks = n_in / 32 * n_out;
	uint8_t *w = malloc(blocks * 34);

	assert_non_null(w);
	for (size_t b = 0; b < blocks; b++) {
		uint16_t d = float_to_half(0.01f + 0.005f * rnd());

		memcpy(w + b * 34, &d, 2);
		for (int i = 0; i < 32; i++)
			w[b * 34 + 2 + i] = (uint8_t)(int8_t)(rnd() * 127);
	}
	return w;
}

enum { N_IN = 256, N_OUT = 101, N_TOK = 5 };

static void matmul(struct rig *r, float *y, const uint8_t *w, const float *x, const uint64_t *cut,
		   unsigned int n_cut)
{
	struct mat_seg seg[8];
	struct mat m = {.y = y,
			.type = WT_Q8_0,
			.n_in = N_IN,
			.n_out = N_OUT,
			.row_bytes = N_IN / 32 * 34,
			.seg = seg};
	struct act *a = r->dev->ops->act_new(r->dev, N_IN, N_TOK);

	assert_non_null(a);
	for (unsigned int i = 0; i < n_cut; i++) {
		uint64_t end = i + 1 < n_cut ? cut[i + 1] : N_OUT;

		seg[i] = (struct mat_seg){w + cut[i] * m.row_bytes, cut[i], end - cut[i]};
	}
	m.n_seg = n_cut;
	r->dev->ops->act_set(r->dev, a, x, N_IN, N_TOK, false);
	r->dev->ops->matmul(r->dev, &m, 1, a);
	r->dev->ops->act_free(r->dev, a);
}

static void test_matmul_is_the_product(void **state)
{
	struct rig r = rig_open(2);
	uint8_t *w = random_q8_0(N_IN, N_OUT);
	float *x = floats(N_IN * N_TOK), *y = floats(N_OUT * N_TOK), row[N_IN];
	double want[N_OUT * N_TOK];

	(void)state;
	for (int o = 0; o < N_OUT; o++) {
		r.dev->ops->dequantize_row(r.dev, WT_Q8_0, w + o * (N_IN / 32 * 34), row, N_IN);
		for (int t = 0; t < N_TOK; t++) {
			want[t * N_OUT + o] = 0;
			for (int i = 0; i < N_IN; i++)
				want[t * N_OUT + o] += (double)row[i] * (double)x[t * N_IN + i];
		}
	}
	matmul(&r, y, w, x, (uint64_t[]){0}, 1);
	assert_close(y, want, N_OUT * N_TOK, 0.01); /* activations have 8 bits */
	free(y);
	free(x);
	free(w);
	rig_close(&r);
}

static void test_matmul_does_not_depend_on_threads_or_cuts(void **state)
{
	uint8_t *w = random_q8_0(N_IN, N_OUT);
	float *x = floats(N_IN * N_TOK), *first = floats(N_OUT * N_TOK), *y = floats(N_OUT * N_TOK);
	static const uint64_t cuts[][4] = {{0}, {0, 1, 50, 100}, {0, 16, 32, 48}, {0, 33, 34, 99}};

	(void)state;
	for (int threads = 1; threads <= 4; threads++)
		for (unsigned int c = 0; c < 4; c++) {
			struct rig r = rig_open(threads);

			memset(y, 0xff, N_OUT * N_TOK * sizeof(*y));
			matmul(&r, threads == 1 && c == 0 ? first : y, w, x, cuts[c], c ? 4 : 1);
			if (threads > 1 || c)
				assert_memory_equal(first, y, N_OUT * N_TOK * sizeof(*y));
			rig_close(&r);
		}
	free(y);
	free(first);
	free(x);
	free(w);
}

static void test_matmul_leaves_other_rows_alone(void **state)
{
	struct rig r = rig_open(2);
	uint8_t *w = random_q8_0(N_IN, N_OUT);
	float *x = floats(N_IN * N_TOK), y[N_OUT * N_TOK];
	struct mat_seg seg = {w + 40 * (N_IN / 32 * 34), 40, 20};
	struct mat m = {.y = y,
			.type = WT_Q8_0,
			.n_in = N_IN,
			.n_out = N_OUT,
			.row_bytes = N_IN / 32 * 34,
			.n_seg = 1,
			.seg = &seg};
	struct act *a = r.dev->ops->act_new(r.dev, N_IN, N_TOK);

	(void)state;
	for (int i = 0; i < N_OUT * N_TOK; i++)
		y[i] = 12345;
	r.dev->ops->act_set(r.dev, a, x, N_IN, N_TOK, false);
	r.dev->ops->matmul(r.dev, &m, 1, a);
	for (int t = 0; t < N_TOK; t++)
		for (int o = 0; o < N_OUT; o++)
			assert_int_equal(y[t * N_OUT + o] == 12345.0f, o < 40 || o >= 60);
	r.dev->ops->act_free(r.dev, a);
	free(x);
	free(w);
	rig_close(&r);
}

/* Several matrices at once, of different types and activations, one packed: each as if alone. */
static void test_matmul_takes_several_matrices(void **state)
{
	static const uint32_t rows[] = {101, 1, 48}, type[] = {WT_Q8_0, WT_F32, WT_Q8_0};
	const size_t row_bytes[] = {N_IN / 32 * 34, N_IN * 4, N_IN / 32 * 34};
	float *x = floats(N_IN * N_TOK), *y[3], *alone = floats(N_OUT * N_TOK);
	void *w[] = {random_q8_0(N_IN, 101), floats(N_IN), random_q8_0(N_IN, 48)};

	(void)state;
	for (int threads = 1; threads <= 3; threads++) {
		struct rig r = rig_open(threads);
		struct act *a = r.dev->ops->act_new(r.dev, N_IN, N_TOK);
		struct mat_seg seg[3];
		struct mat m[3];

		for (int i = 0; i < 3; i++) {
			y[i] = floats(rows[i] * N_TOK);
			seg[i] = (struct mat_seg){w[i], 0, rows[i]};
			m[i] = (struct mat){y[i],    type[i],	   i == 2, N_IN,
					    rows[i], row_bytes[i], 1,	   &seg[i]};
		}
		r.dev->ops->act_set(r.dev, a, x, N_IN, N_TOK, false);
		r.dev->ops->matmul(r.dev, m, 3, a);
		for (int i = 0; i < 3; i++) {
			float *together = y[i];

			m[i].y = alone;
			r.dev->ops->act_set(r.dev, a, x, N_IN, N_TOK, false);
			r.dev->ops->matmul(r.dev, &m[i], 1, a);
			assert_memory_equal(together, alone, rows[i] * N_TOK * sizeof(float));
			free(together);
		}
		r.dev->ops->act_free(r.dev, a);
		rig_close(&r);
	}
	for (int i = 0; i < 3; i++)
		free(w[i]);
	free(x);
	free(alone);
}

/* @rows plain rows as packed groups, the last one filled up. */
static uint8_t *packed_q8_0(const uint8_t *w, size_t n_in, size_t rows)
{
	const size_t bytes = n_in / 32 * 34;
	uint8_t *groups = malloc(pack_rows_up(rows) * bytes);

	assert_non_null(groups);
	for (size_t r = 0; r < rows; r += PACK_ROWS)
		pack_group(WT_Q8_0, w + r * bytes, bytes, MIN(rows - r, (size_t)PACK_ROWS), n_in,
			   groups + r * bytes);
	return groups;
}

/*
 * More rows than an output buffer has room for, of plain and packed matrices, said before or not:
 * the product, the same with any number of threads, and nothing beyond it.
 */
static void test_one_token_times_many_rows(void **state)
{
	enum { ROWS = 9003, BYTES = N_IN / 32 * 34 };
	uint8_t *plain = random_q8_0(N_IN, ROWS), *packed = packed_q8_0(plain, N_IN, ROWS);
	float *x = floats(N_IN), *first = floats(ROWS), *y = floats(ROWS + 16), row[N_IN];
	double *want = calloc(ROWS, sizeof(*want));

	(void)state;
	assert_non_null(want);
	for (int run = 0; run < 16; run++) {
		struct rig r = rig_open(run % 4 + 1);
		struct act *a = r.dev->ops->act_new(r.dev, N_IN, 1);
		bool packs = run >= 8;
		struct mat_seg seg[2] = {
			{packs ? packed : plain, 0, 4096},
			{(packs ? packed : plain) + 4096 * BYTES, 4096, ROWS - 4096},
		};
		struct mat m = {y, WT_Q8_0, packs, N_IN, ROWS, BYTES, 2, seg};

		assert_non_null(a);
		for (size_t i = 0; i < ROWS + 16; i++)
			y[i] = 12345;
		r.dev->ops->act_set(r.dev, a, x, N_IN, 1, false);
		r.dev->ops->expect(r.dev, &m, run / 4 & 1);
		r.dev->ops->matmul(r.dev, &m, 1, a);
		for (size_t i = 0; !run && i < ROWS; i++) {
			r.dev->ops->dequantize_row(r.dev, WT_Q8_0, plain + i * BYTES, row, N_IN);
			for (size_t k = 0; k < N_IN; k++)
				want[i] += (double)row[k] * (double)x[k];
		}
		if (run % 8 == 0) {
			assert_close(y, want, ROWS, 2e-2);
			memcpy(first, y, ROWS * sizeof(*y));
		}
		assert_memory_equal(y, first, ROWS * sizeof(*y));
		for (size_t i = ROWS; i < ROWS + 16; i++)
			assert_true(y[i] == 12345);
		r.dev->ops->act_free(r.dev, a);
		rig_close(&r);
	}
	free(want);
	free(y);
	free(first);
	free(x);
	free(packed);
	free(plain);
}

/* A team that does all the work here and writes down what its threads are to bring. */
struct brought {
	const char *p;
	size_t bytes;
};

static struct brought brought[4];
static int n_brought;

static void run_here(struct team *t, void (*fn)(void *arg, int i, int n), void *arg)
{
	for (int i = 0; i < t->n_threads; i++)
		fn(arg, i, t->n_threads);
}

static void write_down(struct team *t, int i, const void *p, size_t bytes)
{
	assert_in_range(i, 0, t->n_threads - 1);
	brought[i] = (struct brought){p, bytes};
	n_brought++;
}

static void fetch_nothing(struct team *t, int i, size_t bytes)
{
}

/*
 * What a matmul will be over is brought from when the one before it has its input: of each thread
 * its rows of the first matrix, of which all have equally many.
 */
static void test_the_next_matrices_are_brought(void **state)
{
	enum { ROWS = 4096, BYTES = N_IN / 32 * 34, THREADS = 4 };
	uint8_t *w = random_q8_0(N_IN, 2 * ROWS);
	float *x = floats(N_IN), *y = floats(2 * ROWS);
	struct mat_seg seg[2] = {{w, 0, ROWS}, {w + ROWS * BYTES, 0, ROWS}};
	struct mat m[2] = {{y, WT_Q8_0, false, N_IN, ROWS, BYTES, 1, &seg[0]},
			   {y + ROWS, WT_Q8_0, false, N_IN, ROWS, BYTES, 1, &seg[1]}};
	struct team team = {THREADS, run_here, write_down, fetch_nothing};
	struct device *d = cpu_device_open(&team, &(struct attn_shape){1, 1, 1, 1});
	struct act *a;

	(void)state;
	assert_non_null(d);
	a = d->ops->act_new(d, N_IN, 1);
	d->ops->act_set(d, a, x, N_IN, 1, false);
	n_brought = 0;
	d->ops->expect(d, m, 2);
	assert_int_equal(n_brought, 0);
	d->ops->matmul(d, m, 2, a);
	assert_int_equal(n_brought, THREADS);
	for (int i = 0; i < THREADS; i++) {
		assert_ptr_equal(brought[i].p, w + i * (ROWS / THREADS) * BYTES);
		assert_int_equal(brought[i].bytes, ROWS / THREADS * BYTES);
	}
	/* nothing is known of what comes then */
	d->ops->expect(d, NULL, 0);
	d->ops->matmul(d, m, 1, a);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(brought[i].bytes, 0);
	d->ops->act_free(d, a);
	d->ops->close(d);
	free(y);
	free(x);
	free(w);
}

/* An input that is normalised on the way gives the bits of one that was normalised before. */
static void test_norm_on_the_way(void **state)
{
	uint8_t *w = random_q8_0(N_IN, N_OUT);
	float *x = floats(N_IN * N_TOK), *normed = floats(N_IN * N_TOK), *g = floats(N_IN);
	float *want = floats(N_OUT * N_TOK), *y = floats(N_OUT * N_TOK);

	(void)state;
	for (int threads = 1; threads <= 3; threads++)
		for (int batch = 0; batch < 2; batch++) {
			struct rig r = rig_open(threads);
			struct mat_seg seg = {w, 0, N_OUT};
			struct mat m = {want, WT_Q8_0, false, N_IN, N_OUT, N_IN / 32 * 34, 1, &seg};
			struct act *a = r.dev->ops->act_new(r.dev, N_IN, N_TOK);

			r.dev->ops->rmsnorm(r.dev, normed, x, g, N_IN, N_TOK, 1e-5f);
			r.dev->ops->act_set(r.dev, a, normed, N_IN, N_TOK, batch);
			r.dev->ops->matmul(r.dev, &m, 1, a);
			m.y = y;
			r.dev->ops->act_set_norm(r.dev, a, x, g, 1e-5f, N_IN, N_TOK, batch);
			r.dev->ops->matmul(r.dev, &m, 1, a);
			assert_memory_equal(want, y, N_OUT * N_TOK * sizeof(*y));
			r.dev->ops->act_free(r.dev, a);
			rig_close(&r);
		}
	free(w);
	free(x);
	free(normed);
	free(g);
	free(want);
	free(y);
}

static void test_rmsnorm(void **state)
{
	struct rig r = rig_open(2);
	float *x = floats(3 * 100), *w = floats(100);
	double want[3 * 100];

	(void)state;
	for (int t = 0; t < 3; t++) {
		double sum = 0;

		for (int i = 0; i < 100; i++)
			sum += (double)x[t * 100 + i] * (double)x[t * 100 + i];
		for (int i = 0; i < 100; i++)
			want[t * 100 + i] =
				(double)x[t * 100 + i] / sqrt(sum / 100 + 1e-5) * (double)w[i];
	}
	r.dev->ops->rmsnorm(r.dev, x, x, w, 100, 3, 1e-5f);
	assert_close(x, want, 300, 1e-6);
	free(x);
	free(w);
	rig_close(&r);
}

/*
 * silu(gate) * up on the way to a matmul is in gate afterwards, and gives the bits of an input that
 * was made before, in every format and in parts that do not divide it; another format does not
 * make it again.
 */
static void test_swiglu_on_the_way(void **state)
{
	enum { N = 2 * 1024 + 288, TOK = 3 };
	const struct cpu_isa *isa = cpu_isa_best();
	uint8_t *w = random_q8_0(N, N_OUT);
	float *rows = floats(N * N_OUT), *want = floats(2 * N_OUT * TOK);
	float *y = floats(2 * N_OUT * TOK), *gate = floats(N * TOK), *up = floats(N * TOK);
	float *x = malloc(N * TOK * sizeof(*x)), *used = malloc(N * TOK * sizeof(*used));
	double *product = malloc(N * TOK * sizeof(*product));

	(void)state;
	for (size_t i = 0; i < N * TOK; i++)
		product[i] = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];
	memcpy(x, gate, N * TOK * sizeof(*x));
	isa->swiglu(x, up, N * TOK);
	assert_close(x, product, N * TOK, 1e-6);
	for (size_t run = 0; run < 3 * 2 * 2; run++) {
		const bool batch = run & 1;
		const size_t tok = run & 2 ? TOK : 1;
		struct rig r = rig_open((int)run / 4 + 1);
		struct mat_seg seg[2] = {{w, 0, N_OUT}, {rows, 0, N_OUT}};
		struct mat m[2] = {{want, WT_Q8_0, false, N, N_OUT, N / 32 * 34, 1, &seg[0]},
				   {want + N_OUT * tok, WT_F32, false, N, N_OUT, N * sizeof(float),
				    1, &seg[1]}};
		struct act *a = r.dev->ops->act_new(r.dev, N, TOK);

		r.dev->ops->act_set(r.dev, a, x, N, tok, batch);
		r.dev->ops->matmul(r.dev, m, 2, a);
		memcpy(used, gate, N * tok * sizeof(*used));
		r.dev->ops->act_set_swiglu(r.dev, a, used, up, N, tok, batch);
		m[0].y = y;
		m[1].y = y + N_OUT * tok;
		r.dev->ops->matmul(r.dev, m, 2, a);
		assert_memory_equal(want, y, 2 * N_OUT * tok * sizeof(*y));
		assert_memory_equal(x, used, N * tok * sizeof(*x));
		r.dev->ops->act_free(r.dev, a);
		rig_close(&r);
	}
	free(product);
	free(used);
	free(x);
	free(up);
	free(gate);
	free(y);
	free(want);
	free(rows);
	free(w);
}

/*
 * The same where a row is of 256-blocks: their sums of 16 are in place, whichever part they came
 * in.
 */
static void test_parts_of_256_blocks(void **state)
{
	enum { N = 2 * 1024 + 256, BYTES = N / 256 * 144 };
	const struct cpu_isa *isa = cpu_isa_best();
	uint8_t *w = malloc(N_OUT * BYTES);
	float *gate = floats(N), *up = floats(N), *x = malloc(N * sizeof(*x));
	float want[N_OUT], y[N_OUT];

	(void)state;
	for (size_t i = 0; i < N_OUT * BYTES; i++)
		w[i] = (uint8_t)(int8_t)(rnd() * 127);
	for (size_t b = 0; b < N_OUT * BYTES; b += 144) {
		const uint16_t d[2] = {float_to_half(0.01f), float_to_half(0.02f)};

		memcpy(w + b, d, sizeof(d));
	}
	memcpy(x, gate, N * sizeof(*x));
	isa->swiglu(x, up, N);
	for (int threads = 1; threads <= 3; threads++) {
		struct rig r = rig_open(threads);
		struct mat_seg seg = {w, 0, N_OUT};
		struct mat m = {want, WT_Q4_K, false, N, N_OUT, BYTES, 1, &seg};
		struct act *a = r.dev->ops->act_new(r.dev, N, 1);

		r.dev->ops->act_set(r.dev, a, x, N, 1, false);
		r.dev->ops->matmul(r.dev, &m, 1, a);
		m.y = y;
		memcpy(x, gate, N * sizeof(*x));
		r.dev->ops->act_set_swiglu(r.dev, a, x, up, N, 1, false);
		r.dev->ops->matmul(r.dev, &m, 1, a);
		assert_memory_equal(want, y, sizeof(y));
		assert_true(isfinite(y[0]) && y[0] != y[1]);
		r.dev->ops->act_free(r.dev, a);
		rig_close(&r);
	}
	free(x);
	free(up);
	free(gate);
	free(w);
}

/* @q is head @p, of @dim dimensions, at position @t. */
static void assert_rotated(const float *p, const float *q, int t, int style, int n_rot, int dim)
{
	for (int i = 0; i < n_rot / 2; i++) {
		int u = style == ROPE_NORM ? 2 * i : i;
		int v = style == ROPE_NORM ? 2 * i + 1 : i + n_rot / 2;
		double c = cos(t * pow(10, -i)), s = sin(t * pow(10, -i));

		assert_true(fabs((double)q[u] - ((double)p[u] * c - (double)p[v] * s)) < 1e-6);
		assert_true(fabs((double)q[v] - ((double)p[u] * s + (double)p[v] * c)) < 1e-6);
	}
	assert_memory_equal(p + n_rot, q + n_rot, (size_t)(dim - n_rot) * sizeof(float));
}

/* Rotation keeps lengths of pairs, position 0 is the identity, unrotated dimensions stay. */
static void test_rope_rotates_the_right_pairs(void **state)
{
	enum { DIM = 16, ROT = 8, HEADS = 2, TOK = 3, N = TOK * HEADS * DIM };
	struct rig r = rig_with(1, &(struct attn_shape){TOK, HEADS, HEADS, DIM});
	float cosines[TOK * ROT / 2], sines[TOK * ROT / 2];
	float x[2][N], y[2][N], v[N], out[N];
	struct kv_layer kv = {WT_F32, HEADS, DIM, TOK, NULL};

	(void)state;
	kv.data = calloc(1, kv_bytes(&kv));
	assert_non_null(kv.data);
	for (int t = 0; t < TOK; t++)
		for (int i = 0; i < ROT / 2; i++) {
			cosines[t * ROT / 2 + i] = (float)cos(t * pow(10, -i));
			sines[t * ROT / 2 + i] = (float)sin(t * pow(10, -i));
		}
	/* of each style all tokens at once, and one after the other */
	for (int run = 0; run < 4; run++) {
		int style = run / 2 ? ROPE_NEOX : ROPE_NORM, cut = run % 2 ? 1 : TOK;

		for (int i = 0; i < N; i++) {
			x[0][i] = y[0][i] = rnd();
			x[1][i] = y[1][i] = rnd();
			v[i] = rnd();
		}
		for (int t = 0; t < TOK; t += cut) {
			size_t at = (size_t)t * HEADS * DIM, angle = (size_t)t * ROT / 2;
			const struct attn_args a = {
				.q = y[0] + at,
				.k = y[1] + at,
				.v = v + at,
				.out = out,
				.rope = {ROT, style, cosines + angle, sines + angle},
				.kv = &kv,
				.n_head = HEADS,
				.pos0 = (uint32_t)t,
				.n_tok = (uint32_t)cut,
				.scale = 0.25f,
			};

			r.dev->ops->attention(r.dev, &a);
		}
		for (int of = 0; of < 2; of++) {
			assert_memory_equal(x[of], y[of], HEADS * DIM * sizeof(float));
			for (int row = 0; row < TOK * HEADS; row++)
				assert_rotated(x[of] + row * DIM, y[of] + row * DIM, row / HEADS,
					       style, ROT, DIM);
		}
	}
	free(kv.data);
	rig_close(&r);
}

/* ---- attention ---- */

/* What a model asks of attention, and the last position of its context. */
struct attn_case {
	uint32_t head, head_kv, dim, window, end;
};

static const struct attn_case attn_cases[] = {
	{4, 4, 32, 0, 40},     /* a head of keys for each of queries */
	{4, 2, 64, 0, 700},    /* two chunks of positions */
	{14, 2, 64, 0, 513},   /* 7 queries a head, the first position of a chunk */
	{8, 1, 32, 10, 600},   /* a window, across chunks */
	{6, 2, 32, 520, 1600}, /* a window of more than a chunk */
	{3, 1, 40, 0, 130},    /* a width that fills no vector */
	{3, 1, 20, 0, 65},     {20, 1, 32, 0, 1025}, /* more queries a head than a tile has */
};

#define ATOK 7	/* tokens in a batch */
#define AROT 16 /* dimensions of a head that rotate */

/* Of every position a case may have: angles of pairs, some of them fast. */
static float cosines[2048 * AROT / 2], sines[2048 * AROT / 2];

static void set_angles(void)
{
	for (int p = 0; p < 2048; p++)
		for (int i = 0; i < AROT / 2; i++) {
			cosines[p * AROT / 2 + i] = (float)cos(p * pow(3, -i));
			sines[p * AROT / 2 + i] = (float)sin(p * pow(3, -i));
		}
}

/* @n heads of a token at position @p, one after the other, rotated: neighbours as pairs. */
static void rotate_heads(const float *x, size_t n, size_t dim, uint32_t p, double *out)
{
	for (size_t i = 0; i < n * dim; i++)
		out[i] = (double)x[i];
	for (size_t h = 0; h < n; h++)
		for (size_t i = 0; i < AROT / 2; i++) {
			const double c = (double)cosines[p * AROT / 2 + i];
			const double s = (double)sines[p * AROT / 2 + i];
			double *o = out + h * dim + 2 * i, re = o[0], im = o[1];

			o[0] = re * c - im * s;
			o[1] = re * s + im * c;
		}
}

static double *doubles(size_t n)
{
	double *p = malloc(n * sizeof(*p));

	assert_non_null(p);
	return p;
}

/* q: [ATOK][head][dim] of the last positions; k, v: [end][head_kv][dim]; not rotated yet */
static void attention_reference(const struct attn_case *c, const float *q, const float *k,
				const float *v, double *out)
{
	const size_t n_q = (size_t)c->head * c->dim, n_k = (size_t)c->head_kv * c->dim;
	double *w = doubles(c->end), *rq = doubles(ATOK * n_q), *rk = doubles(c->end * n_k);

	for (uint32_t t = 0; t < ATOK; t++)
		rotate_heads(q + t * n_q, c->head, c->dim, c->end - ATOK + t, rq + t * n_q);
	for (uint32_t p = 0; p < c->end; p++)
		rotate_heads(k + p * n_k, c->head_kv, c->dim, p, rk + p * n_k);
	for (uint32_t t = 0; t < ATOK; t++)
		for (uint32_t h = 0; h < c->head; h++) {
			uint32_t end = c->end - ATOK + t + 1, hk = h / (c->head / c->head_kv);
			uint32_t begin = c->window && end > c->window ? end - c->window : 0;
			double sum = 0, *o = out + (t * c->head + h) * c->dim;

			for (uint32_t p = begin; p < end; p++) {
				double dot = 0;

				for (uint32_t i = 0; i < c->dim; i++)
					dot += rq[(t * c->head + h) * c->dim + i] *
					       rk[(p * c->head_kv + hk) * c->dim + i];
				w[p] = exp(dot * 0.25);
				sum += w[p];
			}
			for (uint32_t i = 0; i < c->dim; i++) {
				o[i] = 0;
				for (uint32_t p = begin; p < end; p++)
					o[i] += w[p] / sum *
						(double)v[(p * c->head_kv + hk) * c->dim + i];
			}
		}
	free(w);
	free(rq);
	free(rk);
}

static struct kv_layer kv_open(const struct attn_case *c, uint32_t type)
{
	struct kv_layer kv = {type, c->head_kv, c->dim, c->end, NULL};

	kv.data = calloc(1, kv_bytes(&kv));
	assert_non_null(kv.data);
	return kv;
}

/* One row times one token: what is expected after it is fetched at its end. */
static void some_matmul(struct rig *r)
{
	float x[32] = {0}, y;
	uint8_t w[34] = {0};
	struct mat_seg seg = {w, 0, 1};
	struct mat m = {&y, WT_Q8_0, false, 32, 1, 34, 1, &seg};
	struct act *a = r->dev->ops->act_new(r->dev, 32, 1);

	assert_non_null(a);
	r->dev->ops->act_set(r->dev, a, x, 32, 1, false);
	r->dev->ops->matmul(r->dev, &m, 1, a);
	r->dev->ops->act_free(r->dev, a);
}

/* Tokens @first to @end - 1 of a's q, k, v and out, which are of all. */
static void attend_some(struct rig *r, const struct attn_args *all, uint32_t first, uint32_t end)
{
	const size_t n_q = (size_t)all->n_head * all->kv->head_dim;
	const size_t n_k = (size_t)all->kv->n_head_kv * all->kv->head_dim;
	struct attn_args a = *all;

	a.pos0 = all->pos0 + first;
	a.n_tok = end - first;
	a.q += first * n_q;
	a.out += first * n_q;
	a.k += first * n_k;
	a.v += first * n_k;
	a.rope.cos = cosines + a.pos0 * AROT / 2;
	a.rope.sin = sines + a.pos0 * AROT / 2;
	r->dev->ops->expect_attention(r->dev, &a);
	some_matmul(r);
	r->dev->ops->attention(r->dev, &a);
}

/* The last ATOK tokens, `cut` of them at a time, after the positions before them. */
static void attend(const struct attn_case *c, uint32_t type, int threads, uint32_t cut,
		   const float *q, const float *k, const float *v, float *out)
{
	const uint32_t past = c->end - ATOK;
	const size_t n_k = (size_t)c->head_kv * c->dim, n_q = (size_t)c->head * c->dim;
	const struct attn_shape shape = {c->end, c->head, c->head_kv, c->dim};
	struct kv_layer kv = kv_open(c, type);
	struct rig r = rig_with(threads, &shape);
	/* attention() rotates them */
	float *q2 = malloc(ATOK * n_q * sizeof(*q)), *k2 = malloc(c->end * n_k * sizeof(*k));
	float *before = calloc(past * n_q, sizeof(*before));
	struct attn_args a = {
		.q = before,
		.k = k2,
		.v = v,
		.out = before,
		.rope = {.n_rot = AROT, .style = ROPE_NORM},
		.kv = &kv,
		.n_head = c->head,
		.scale = 0.25f,
	};

	assert_non_null(q2);
	assert_non_null(k2);
	assert_non_null(before);
	memcpy(q2, q, ATOK * n_q * sizeof(*q));
	memcpy(k2, k, c->end * n_k * sizeof(*k));
	/* which see themselves alone: that is less to compute, and stores the same */
	a.window = 1;
	attend_some(&r, &a, 0, past);
	a = (struct attn_args){
		.q = q2,
		.k = k2 + past * n_k,
		.v = v + past * n_k,
		.out = out,
		.rope = a.rope,
		.kv = &kv,
		.n_head = c->head,
		.pos0 = past,
		.window = c->window,
		.scale = 0.25f,
	};
	for (uint32_t t = 0; t < ATOK; t += cut)
		attend_some(&r, &a, t, MIN(t + cut, (uint32_t)ATOK));
	free(before);
	free(q2);
	free(k2);
	rig_close(&r);
	free(kv.data);
}

/* Against doubles, with every type of cache; and the same bits from any threads and batches. */
static void check_attention(void)
{
	static const struct {
		uint32_t type;
		double tolerance;
	} types[] = {{WT_F32, 1e-5}, {WT_F16, 2e-3}, {WT_Q8_0, 2e-2}};

	for (size_t i = 0; i < ARRAY_SIZE(attn_cases); i++) {
		const struct attn_case *c = &attn_cases[i];
		size_t n = (size_t)ATOK * c->head * c->dim;
		float *q = floats(n), *first = floats(n), *out = floats(n);
		float *k = floats((size_t)c->end * c->head_kv * c->dim);
		float *v = floats((size_t)c->end * c->head_kv * c->dim);
		double *want = malloc(n * sizeof(*want));

		assert_non_null(want);
		attention_reference(c, q, k, v, want);
		for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
			if (!kv_possible(types[t].type, c->dim))
				continue;
			attend(c, types[t].type, 1, ATOK, q, k, v, first);
			assert_close(first, want, n, types[t].tolerance);
			for (int threads = 1; threads <= 3; threads++)
				for (uint32_t cut = 1; cut <= ATOK; cut += 2) {
					memset(out, 0xff, n * sizeof(*out));
					attend(c, types[t].type, threads, cut, q, k, v, out);
					assert_memory_equal(first, out, n * sizeof(*out));
				}
		}
		free(q);
		free(k);
		free(v);
		free(first);
		free(out);
		free(want);
	}
}

/* With every instruction set, because each has its own sums and products. */
static void test_attention(void **state)
{
	const struct cpu_isa *isa;

	(void)state;
	set_angles();
	for (unsigned int i = 0; (isa = cpu_isa_at(i)); i++) {
		if (!isa->supported())
			continue;
		setenv("WEIR_ISA", isa->name, 1);
		check_attention();
	}
	unsetenv("WEIR_ISA");
}

/* A number that the cache's type cannot hold is a large one, and is its own query's alone. */
static void test_huge_values_stay_where_they_are(void **state)
{
	const struct attn_case c = {2, 1, 32, 0, 20};
	const size_t n = (size_t)ATOK * c.head * c.dim, row = c.head_kv * c.dim;
	float *q = floats(n), *k = floats(c.end * row), *v = floats(c.end * row);
	float *plain = floats(n), *out = floats(n);

	(void)state;
	set_angles();
	for (int f16 = 0; f16 < 2; f16++) {
		uint32_t type = f16 ? WT_F16 : WT_Q8_0;

		attend(&c, type, 2, ATOK, q, k, v, plain);
		v[(c.end - 1) * row + 3] = 1e9f;
		attend(&c, type, 2, ATOK, q, k, v, out);
		assert_memory_equal(plain, out, (n - c.head * c.dim) * sizeof(*out));
		for (size_t i = 0; i < n; i++)
			assert_true(isfinite(out[i]));
		v[(c.end - 1) * row + 3] = 0.5f;
	}
	free(q);
	free(k);
	free(v);
	free(plain);
	free(out);
}

/*
 * Whatever a head's width and the context's length, no two keys or values share a byte, all lie
 * in the cache, and keys of 16 positions and values of a chunk lie one behind the other.
 */
static void check_kv_places(struct kv_layer kv)
{
	const size_t value = kv_value_bytes(&kv), bytes = kv_bytes(&kv);
	uint8_t *seen = calloc(1, bytes);

	assert_non_null(seen);
	kv.data = (char *)seen;
	for (uint32_t h = 0; h < kv.n_head_kv; h++)
		for (uint32_t p = 0; p < kv.n_ctx; p++) {
			const uint32_t in = p % KV_CHUNK, group = in % PACK_ROWS;
			char *k = kv_keys(&kv, h, p - group);

			for (size_t i = 0; i < PACK_ROWS * kv_key_bytes(&kv) && !group; i++)
				assert_int_equal(k[i]++, 0);
			for (uint32_t d = 0; d < kv.head_dim; d += kv_value_dims(&kv)) {
				char *v = kv_values(&kv, h, d, p);

				assert_ptr_equal(v, kv_values(&kv, h, d, p - in) + in * value);
				for (size_t i = 0; i < value; i++)
					assert_int_equal(v[i]++, 0);
			}
			assert_in_range(k - kv.data, 0, bytes - PACK_ROWS * kv_key_bytes(&kv));
		}
	free(seen);
}

static void test_kv_places(void **state)
{
	static const uint32_t context[] = {1, 64, 65, 511, 512, 513, 1100};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(context); i++) {
		check_kv_places((struct kv_layer){WT_F16, 3, 64, context[i], NULL});
		check_kv_places((struct kv_layer){WT_F32, 1, 20, context[i], NULL});
		check_kv_places((struct kv_layer){WT_Q8_0, 2, 96, context[i], NULL});
	}
}

/* A cache of 8 bits takes blocks of 32; 16 and 32 bits take any head. */
static void test_kv_possible(void **state)
{
	(void)state;
	assert_true(kv_possible(WT_Q8_0, 64));
	assert_false(kv_possible(WT_Q8_0, 80));
	assert_true(kv_possible(WT_F16, 80));
	assert_true(kv_possible(WT_F32, 80));
	assert_false(kv_possible(WT_Q4_0, 64));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul_is_the_product),
		cmocka_unit_test(test_matmul_does_not_depend_on_threads_or_cuts),
		cmocka_unit_test(test_matmul_leaves_other_rows_alone),
		cmocka_unit_test(test_matmul_takes_several_matrices),
		cmocka_unit_test(test_one_token_times_many_rows),
		cmocka_unit_test(test_the_next_matrices_are_brought),
		cmocka_unit_test(test_norm_on_the_way),
		cmocka_unit_test(test_rmsnorm),
		cmocka_unit_test(test_swiglu_on_the_way),
		cmocka_unit_test(test_parts_of_256_blocks),
		cmocka_unit_test(test_rope_rotates_the_right_pairs),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_huge_values_stay_where_they_are),
		cmocka_unit_test(test_kv_places),
		cmocka_unit_test(test_kv_possible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
