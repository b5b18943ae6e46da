/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of the post that weir realises ("Edge LLMs: Benefits, Challenges, and
 * Solutions"), in its own simplified form, so that `weir plan --machine` can show its figures
 * beside weir's. weir's own prediction, predict() in stream.h, counts a streamed byte twice on
 * the DRAM bus; the post counts it once.
 *
 * The post's case is LLaMA3-8B: 16 Gflop a token, 4 GB of 4-bit weights, 6 GB with activations.
 */
#ifndef WEIR_STREAM_PREDICT_H
#define WEIR_STREAM_PREDICT_H

#include "stream/stream.h"

#define POST_FLOP_PER_TOKEN 16e9
#define POST_WEIGHT_GB	    4.0
#define POST_TRAFFIC_GB	    6.0

/* A compute unit of a machine and its peak multiply-and-add rate. */
struct machine_unit {
	const char *name;
	double ops_s;
};

/* NULL beyond the last. */
const struct machine_unit *machine_unit_at(const struct machine *m, unsigned int i);

/* Compute bound: tokens/s at @ops_s. */
double post_compute_tok_s(double ops_s);
/* Memory bound: tokens/s where a token reads @gb through @dram_gb_s. */
double post_memory_tok_s(double dram_gb_s, double gb);
/* The largest share on flash that costs nothing: a W / B_flash <= (1 - a) W / B_dram. */
double post_alpha_max(double flash_gb_s, double dram_gb_s);
/* What of the DRAM bandwidth is used when flash is the bound: B_flash (1 - a) / a. */
double post_dram_effective_gb_s(double flash_gb_s, double alpha);

#endif
