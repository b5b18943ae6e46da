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

static struct rig rig_open(int threads)
{
	struct rig r;

	assert_int_equal(team_open(threads, &r.team, NULL), 0);
	r.dev = cpu_device_open(r.team, 512);
	assert_non_null(r.dev);
	return r;
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
	struct mat m = {.type = WT_Q8_0,
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
	r->dev->ops->matmul(r->dev, y, &m, a);
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
	struct mat m = {.type = WT_Q8_0,
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
	r.dev->ops->matmul(r.dev, y, &m, a);
	for (int t = 0; t < N_TOK; t++)
		for (int o = 0; o < N_OUT; o++)
			assert_int_equal(y[t * N_OUT + o] == 12345.0f, o < 40 || o >= 60);
	r.dev->ops->act_free(r.dev, a);
	free(x);
	free(w);
	rig_close(&r);
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

static void test_swiglu(void **state)
{
	struct rig r = rig_open(3);
	size_t n = 10007;
	float *gate = floats(n), *up = floats(n);
	double *want = malloc(n * sizeof(*want));

	(void)state;
	for (size_t i = 0; i < n; i++)
		want[i] = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];
	r.dev->ops->swiglu(r.dev, gate, up, n);
	assert_close(gate, want, n, 1e-6);
	free(want);
	free(gate);
	free(up);
	rig_close(&r);
}

/* Rotation keeps lengths of pairs, position 0 is the identity, unrotated dimensions stay. */
static void test_rope_rotates_the_right_pairs(void **state)
{
	struct rig r = rig_open(1);
	enum { DIM = 16, ROT = 8, HEADS = 2, TOK = 3 };
	float inv_freq[ROT / 2], x[TOK * HEADS * DIM], y[TOK * HEADS * DIM];

	(void)state;
	for (int i = 0; i < ROT / 2; i++)
		inv_freq[i] = powf(10, -(float)i);
	for (int style = ROPE_NORM; style <= ROPE_NEOX; style++) {
		struct rope_args a = {y, TOK, HEADS, DIM, ROT, 0, style, inv_freq, 1};

		for (int i = 0; i < TOK * HEADS * DIM; i++)
			x[i] = y[i] = rnd();
		r.dev->ops->rope(r.dev, &a);
		assert_memory_equal(x, y, HEADS * DIM * sizeof(float));
		for (int t = 0; t < TOK; t++)
			for (int h = 0; h < HEADS; h++) {
				const float *p = x + (t * HEADS + h) * DIM,
					    *q = y + (t * HEADS + h) * DIM;

				for (int i = 0; i < ROT / 2; i++) {
					int u = style == ROPE_NORM ? 2 * i : i;
					int v = style == ROPE_NORM ? 2 * i + 1 : i + ROT / 2;
					double c = cos(t * (double)inv_freq[i]),
					       s = sin(t * (double)inv_freq[i]);

					assert_true(fabs((double)q[u] - ((double)p[u] * c -
									 (double)p[v] * s)) < 1e-6);
					assert_true(fabs((double)q[v] - ((double)p[u] * s +
									 (double)p[v] * c)) < 1e-6);
				}
				assert_memory_equal(p + ROT, q + ROT, (DIM - ROT) * sizeof(float));
			}
	}
	rig_close(&r);
}

/* ---- attention ---- */

enum { HEAD = 4, HEAD_KV = 2, DIM = 32, CTX = 64, POS0 = 20, ATOK = 7 };

static void attention_reference(const float *q, const float *k, const float *v, uint32_t window,
				double *out)
{
	for (int t = 0; t < ATOK; t++)
		for (int h = 0; h < HEAD; h++) {
			int end = POS0 + t + 1,
			    begin = window && end > (int)window ? end - (int)window : 0;
			size_t head = (size_t)(h / (HEAD / HEAD_KV)) * CTX * DIM;
			double w[CTX], sum = 0;

			for (int p = begin; p < end; p++) {
				double dot = 0;

				for (int i = 0; i < DIM; i++)
					dot += (double)q[(t * HEAD + h) * DIM + i] *
					       (double)k[head + (size_t)p * DIM + i];
				w[p] = exp(dot * 0.25);
				sum += w[p];
			}
			for (int i = 0; i < DIM; i++) {
				double o = 0;

				for (int p = begin; p < end; p++)
					o += w[p] / sum * (double)v[head + (size_t)p * DIM + i];
				out[(t * HEAD + h) * DIM + i] = o;
			}
		}
}

static void test_attention(void **state)
{
	float *q = floats(ATOK * HEAD * DIM), *k = floats(HEAD_KV * CTX * DIM),
	      *v = floats(HEAD_KV * CTX * DIM);
	float *first = floats(ATOK * HEAD * DIM), *out = floats(ATOK * HEAD * DIM);
	double want[ATOK * HEAD * DIM];

	(void)state;
	for (uint32_t window = 0; window <= 10; window += 10) {
		attention_reference(q, k, v, window, want);
		for (int threads = 1; threads <= 3; threads++) {
			struct rig r = rig_open(threads);
			struct attn_args a = {q,   out, k,    v,    WT_F32, HEAD, HEAD_KV,
					      DIM, CTX, POS0, ATOK, window, 0.25f};

			r.dev->ops->attention(r.dev, &a);
			assert_close(out, want, ATOK * HEAD * DIM, 1e-5);
			if (threads == 1)
				memcpy(first, out, ATOK * HEAD * DIM * sizeof(*out));
			assert_memory_equal(first, out, ATOK * HEAD * DIM * sizeof(*out));
			rig_close(&r);
		}
	}
	free(q);
	free(k);
	free(v);
	free(first);
	free(out);
}

/* kv_store puts [token][head] where attention looks for [head][position], in both precisions. */
static void test_kv_store_feeds_attention(void **state)
{
	struct rig r = rig_open(2);
	float *q = floats(ATOK * HEAD * DIM), *out = floats(ATOK * HEAD * DIM);
	float *k = floats((POS0 + ATOK) * HEAD_KV * DIM),
	      *v = floats((POS0 + ATOK) * HEAD_KV * DIM);
	float *kh = calloc(HEAD_KV * CTX * DIM, 4), *vh = calloc(HEAD_KV * CTX * DIM, 4);
	double want[ATOK * HEAD * DIM];

	(void)state;
	for (int p = 0; p < POS0 + ATOK; p++)
		for (int h = 0; h < HEAD_KV; h++)
			for (int i = 0; i < DIM; i++) {
				kh[(h * CTX + p) * DIM + i] = k[(p * HEAD_KV + h) * DIM + i];
				vh[(h * CTX + p) * DIM + i] = v[(p * HEAD_KV + h) * DIM + i];
			}
	attention_reference(q, kh, vh, 0, want);
	for (int f16 = 0; f16 < 2; f16++) {
		uint32_t type = f16 ? WT_F16 : WT_F32;
		struct attn_args a = {q,   out, kh,   vh,   type, HEAD, HEAD_KV,
				      DIM, CTX, POS0, ATOK, 0,	  0.25f};

		memset(kh, 0, HEAD_KV * CTX * DIM * 4);
		memset(vh, 0, HEAD_KV * CTX * DIM * 4);
		r.dev->ops->kv_store(r.dev, kh, type, k, POS0, HEAD_KV, DIM, CTX, 0);
		r.dev->ops->kv_store(r.dev, kh, type, k + POS0 * HEAD_KV * DIM, ATOK, HEAD_KV, DIM,
				     CTX, POS0);
		r.dev->ops->kv_store(r.dev, vh, type, v, POS0 + ATOK, HEAD_KV, DIM, CTX, 0);
		r.dev->ops->attention(r.dev, &a);
		assert_close(out, want, ATOK * HEAD * DIM, f16 ? 2e-3 : 1e-5);
	}
	free(q);
	free(out);
	free(k);
	free(v);
	free(kh);
	free(vh);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul_is_the_product),
		cmocka_unit_test(test_matmul_does_not_depend_on_threads_or_cuts),
		cmocka_unit_test(test_matmul_leaves_other_rows_alone),
		cmocka_unit_test(test_rmsnorm),
		cmocka_unit_test(test_swiglu),
		cmocka_unit_test(test_rope_rotates_the_right_pairs),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_kv_store_feeds_attention),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
