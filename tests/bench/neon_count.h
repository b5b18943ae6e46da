/* SPDX-License-Identifier: MIT */
/*
 * For programs whose instructions tests/bench/neon.py counts: what runs between two calls of
 * mark() is one measurement, and line i of the output says what it was:
 *
 *	kind type products bytes	bytes: of weights read, 0 where it does not matter
 */
#ifndef WEIR_NEON_COUNT_H
#define WEIR_NEON_COUNT_H

#include <stdint.h>
#include <stdio.h>

/* A row of weights and their number: long enough that what happens once a row hardly counts. */
#define N    2048
#define ROWS 16

/* One instruction, so that a trace shows each call once. */
void mark(void);
__asm__(".globl mark\n.type mark, %function\nmark: ret\n.size mark, 4\n");

#define COUNT(kind, type, products, bytes, call)                                                   \
	do {                                                                                       \
		printf("%s %s %d %d\n", kind, type, (int)(products), (int)(bytes));                \
		mark();                                                                            \
		call;                                                                              \
		mark();                                                                            \
	} while (0)

static uint8_t weights[ROWS * N * 4] __attribute__((aligned(64)));
static uint8_t act[16 * N * 8] __attribute__((aligned(64)));
static float x[N] __attribute__((aligned(64)));
static float out[16 * ROWS] __attribute__((aligned(64)));

/* Any finite values do: no kernel branches on codes or scales. */
static void fill(void)
{
	for (int i = 0; i < N; i++)
		x[i] = (float)(i % 61 - 30);
	for (unsigned int i = 0; i < sizeof(weights); i++)
		weights[i] = (uint8_t)(i * 7 % 53);
}

#endif
