// SPDX-License-Identifier: MIT
#include "decode/flops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "decode/threads.h"
#include "kernels/cpu/cpu.h"

/*
 * Flop/s of the dot products that decode is made of: Q4_0 rows that stay in L2, all threads,
 * 2 flop a weight. An upper bound for compute on this machine with these kernels.
 */
#define FLOP_N	  4096
#define FLOP_ROWS 64
#define FLOP_NS	  100000000ull

struct flop_job {
	const struct type_ops *ops;
	const char *w;
	const void *act;
	uint64_t rows[1024];
};

static void flop_piece(void *arg, int i, int n)
{
	struct flop_job *j = arg;
	size_t stride = FLOP_N / 32 * 18;
	uint64_t end = now_ns() + FLOP_NS;
	float out[FLOP_ROWS];

	(void)n;
	while (now_ns() < end) {
		j->ops->dot_rows(j->w, stride, FLOP_ROWS, j->act, FLOP_N, out);
		j->rows[i] += FLOP_ROWS;
	}
}

int measure_flops(int n_threads, double *flops, struct err *err)
{
	struct flop_job *j = calloc(1, sizeof(*j));
	char *w = calloc(FLOP_ROWS, FLOP_N / 32 * 18);
	void *act = aligned_alloc(64, act_row_bytes(ACT_Q8_32, FLOP_N));
	struct team *team = NULL;
	uint64_t rows = 0, start;
	int r;

	r = j && w && act ? team_open(n_threads, &team, err)
			  : err_set(err, -ENOMEM, "out of memory for a measurement");
	if (r)
		goto out;
	memset(act, 0, act_row_bytes(ACT_Q8_32, FLOP_N));
	j->ops = cpu_isa_best()->types[WT_Q4_0];
	j->w = w;
	j->act = act;
	start = now_ns();
	team->run(team, flop_piece, j);
	for (int i = 0; i < n_threads; i++)
		rows += j->rows[i];
	*flops = 2.0 * FLOP_N * (double)rows / ((double)(now_ns() - start) * 1e-9);
out:
	team_close(team);
	free(act);
	free(w);
	free(j);
	return r;
}
