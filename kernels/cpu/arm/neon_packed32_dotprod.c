// SPDX-License-Identifier: MIT
/*
 * Packed rows of 32-element blocks with SDOT: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4.
 *
 * Of a block column of 16 rows, each quad is unpacked into eight *code vectors*: the j-th holds
 * elements 4j .. 4j+3 of four rows, as signed bytes. Codes that are `off` too large: see FEW. With
 * few tokens every sum begins with -off * sum(activation codes), which does not depend on the rows
 * and is taken once a call from the tile (start_sums()). With many the codes are *centred*, and may
 * come out 2^shift too large, which the conversion to float takes back exactly.
 *
 * With few tokens the sums of all 16 rows are in registers. With many one quad after the other is
 * done for a *stretch* of columns, so short that rows and tile stay in L1.
 *
 * Budget: instructions of the inner loop as gcc 12 -O2 makes it, of them vector ones, of which two
 * a cycle bound the speed of every type, and what follows. T = 1: a column of 16 rows; T = 16: of
 * four, 2048 products, that is 18 to 23 a cycle; 128 are SDOT, and 3 for each token bring d in.
 *
 *		T = 1:	vector	cycles	bytes/cycle	T = 16:	vector	cycles
 *	Q4_0	102	85	42.5	6.8		254	191	95.5
 *	Q4_1	131	92	46	7.0		276	206	103
 *	Q5_0	175	141	70.5	5.0		272	198	99
 *	Q5_1	216	148	74	5.2		321	224	112
 *	Q8_0	96	50	25	22		244	177	88.5
 *	IQ4_NL	144	114	57	5.1		258	195	97.5
 *	MXFP4	159	130	65	4.2		263	199	99.5
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon_packed32.h"

#endif
