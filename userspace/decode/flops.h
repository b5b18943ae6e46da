/* SPDX-License-Identifier: MIT */
/* How fast this machine does the arithmetic that decode is made of. */
#ifndef WEIR_DECODE_FLOPS_H
#define WEIR_DECODE_FLOPS_H

#include "base/err.h"

/* @flops: of all threads together, in flop/s; takes a tenth of a second. 0 or -ENOMEM, ... */
int measure_flops(int n_threads, double *flops, struct err *err);

#endif
