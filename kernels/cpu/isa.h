/* SPDX-License-Identifier: MIT */
/*
 * The instruction sets that a build may hold, and what they ask of CPU and operating system.
 * Private to kernels/cpu; select.c lists them.
 */
#ifndef WEIR_KERNELS_CPU_ISA_H
#define WEIR_KERNELS_CPU_ISA_H

#include "kernels/cpu/cpu.h"

extern const struct cpu_isa cpu_isa_scalar;

#ifdef __x86_64__
extern const struct cpu_isa cpu_isa_avx2;

/* AVX2, FMA and F16C in the CPU, and ymm registers saved by the operating system. */
int x86_has_avx2(void);
#endif

#ifdef __aarch64__
extern const struct cpu_isa cpu_isa_neon;
#endif

#endif
