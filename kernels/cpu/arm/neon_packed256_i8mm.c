// SPDX-License-Identifier: MIT
/*
 * Packed rows of 256-element blocks with SMMLA, for 8 and 16 tokens. A sub-block's code vectors are
 * made pairs once for all tokens, the tile once a stretch for all rows; sums stay pairs for a
 * column.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon_packed256.h"

#endif
