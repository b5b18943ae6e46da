// SPDX-License-Identifier: MIT
/*
 * llama.cpp's NEON kernels, once each, for tests/bench/neon.py to count: a row at a time, and
 * those of the layouts into which it repacks weights for a CPU with SDOT and without the int8
 * matrix multiply.
 */
#include <stddef.h>

#include "tests/bench/neon_count.h"

typedef void vec_dot(int n, float *s, size_t bs, const void *w, size_t bw, const void *a, size_t ba,
		     int nrc);
typedef void repacked(int n, float *s, size_t bs, const void *w, const void *a, int n_tok,
		      int n_rows);
typedef void quantize(const float *in, void *y, int64_t k);

vec_dot ggml_vec_dot_f32, ggml_vec_dot_f16, ggml_vec_dot_bf16, ggml_vec_dot_q4_0_q8_0,
	ggml_vec_dot_q4_1_q8_1, ggml_vec_dot_q5_0_q8_0, ggml_vec_dot_q5_1_q8_1,
	ggml_vec_dot_q8_0_q8_0, ggml_vec_dot_q2_K_q8_K, ggml_vec_dot_q3_K_q8_K,
	ggml_vec_dot_q4_K_q8_K, ggml_vec_dot_q5_K_q8_K, ggml_vec_dot_q6_K_q8_K,
	ggml_vec_dot_iq4_nl_q8_0, ggml_vec_dot_iq4_xs_q8_K, ggml_vec_dot_mxfp4_q8_0;
repacked ggml_gemv_q4_0_4x4_q8_0, ggml_gemv_q8_0_4x4_q8_0, ggml_gemv_iq4_nl_4x4_q8_0,
	ggml_gemv_mxfp4_4x4_q8_0, ggml_gemv_q4_K_8x4_q8_K, ggml_gemv_q5_K_8x4_q8_K,
	ggml_gemv_q6_K_8x4_q8_K;
repacked ggml_gemm_q4_0_4x4_q8_0, ggml_gemm_q8_0_4x4_q8_0, ggml_gemm_iq4_nl_4x4_q8_0,
	ggml_gemm_mxfp4_4x4_q8_0, ggml_gemm_q4_K_8x4_q8_K, ggml_gemm_q5_K_8x4_q8_K,
	ggml_gemm_q6_K_8x4_q8_K;
quantize quantize_row_q8_0, quantize_row_q8_K;

static void rows(vec_dot *f)
{
	for (int r = 0; r < ROWS; r++)
		f(N, out + r, 0, weights + r * N * 4, 0, act, 0, 1);
}

#define PLAIN(type, f) COUNT("plain", type, N *ROWS, 0, rows(ggml_vec_dot_##f))
#define REPACKED(type, f)                                                                          \
	do {                                                                                       \
		COUNT("packed1", type, N *ROWS, 0,                                                 \
		      ggml_gemv_##f(N, out, ROWS, weights, act, 1, ROWS));                         \
		COUNT("packed16", type, N *ROWS * 16, 0,                                           \
		      ggml_gemm_##f(N, out, ROWS, weights, act, 16, ROWS));                        \
	} while (0)

int main(void)
{
	fill();
	COUNT("quantize", "Q8_32", N, 0, quantize_row_q8_0(x, act, N));
	COUNT("quantize", "Q8_256", N, 0, quantize_row_q8_K(x, act, N));
	PLAIN("F32", f32);
	PLAIN("F16", f16);
	PLAIN("BF16", bf16);
	PLAIN("Q4_0", q4_0_q8_0);
	PLAIN("Q4_1", q4_1_q8_1);
	PLAIN("Q5_0", q5_0_q8_0);
	PLAIN("Q5_1", q5_1_q8_1);
	PLAIN("Q8_0", q8_0_q8_0);
	PLAIN("Q2_K", q2_K_q8_K);
	PLAIN("Q3_K", q3_K_q8_K);
	PLAIN("Q4_K", q4_K_q8_K);
	PLAIN("Q5_K", q5_K_q8_K);
	PLAIN("Q6_K", q6_K_q8_K);
	PLAIN("IQ4_NL", iq4_nl_q8_0);
	PLAIN("IQ4_XS", iq4_xs_q8_K);
	PLAIN("MXFP4", mxfp4_q8_0);
	REPACKED("Q4_0", q4_0_4x4_q8_0);
	REPACKED("Q8_0", q8_0_4x4_q8_0);
	REPACKED("IQ4_NL", iq4_nl_4x4_q8_0);
	REPACKED("MXFP4", mxfp4_4x4_q8_0);
	REPACKED("Q4_K", q4_K_8x4_q8_K);
	REPACKED("Q5_K", q5_K_8x4_q8_K);
	REPACKED("Q6_K", q6_K_8x4_q8_K);
	return 0;
}
