// SPDX-License-Identifier: MIT
/*
 * Packed rows of 256-element blocks with SDOT: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * Words: a *column* is the block column of 16 rows (packed.h), a *sub-block* its part that shares a
 * scale, 16 or 32 elements; a *register* i of a half column is the 32 elements from 32 i on, eight
 * code vectors of four elements of a quad.
 *
 * A sub-block's sum of products is an exact integer, and so is the column's sum of those times
 * their scales: |sum| < 2^28. What codes lack to be what they stand for:
 *
 *	minimums	msum = sum of minimum * bsums, exact; bsums are two bytes, 128 h + l
 *	an offset	FEW: a sub-block's sum begins with -offset * bsums, or codes are centred
 *
 *	row += d_act * (d * sum - dmin * msum)
 *
 * Scales are unpacked for all 16 rows of a column, to the stack, where the loops find them.
 *
 * Budget: instructions of the inner loop as gcc 12 -O2 makes it and of them vector ones, of which
 * two a cycle bound the speed of every type. T = 1: two quads of a column; cycles of a column
 * include the scales, as if they took vector instructions alone. T = 16: a quad, 16384 products,
 * beside which the scales hardly count: 19 to 24 products a cycle. 1024 are SDOT, 128 or 256 MLA.
 *
 *		scales	T = 1:	vector	cycles	bytes/cycle	T = 16:	vector	cycles
 *	Q2_K	396	438	329	527	2.6		2394	1651	826
 *	Q3_K	349	818	686	861	2.0		2433	1690	845
 *	Q4_K	184	426	315	407	5.7		1954	1392	696
 *	Q5_K	189	782	638	733	3.8		2216	1564	782
 *	Q6_K	251	762	626	752	4.5		2398	1658	829
 *	IQ4_XS	181	552	413	504	4.3		1857	1346	673
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon_packed256.h"

#endif
