/* SPDX-License-Identifier: MIT */
/*
 * The team of threads that lends itself to the device. Hand-over takes a microsecond while
 * arithmetic follows arithmetic (threads spin briefly); when nothing comes, because flash is
 * behind or the user thinks, they sleep on a futex and burn no core.
 */
#ifndef WEIR_DECODE_THREADS_H
#define WEIR_DECODE_THREADS_H

#include "base/err.h"
#include "kernels/device.h"

/* @n_threads: the caller of run() is one of them. */
int team_open(int n_threads, struct team **out, struct err *err);
void team_close(struct team *t);

/* Cores without their hyper-threads, of those that this process may run on; at least 1. */
int physical_cores(void);

#endif
