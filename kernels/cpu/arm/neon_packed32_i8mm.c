// SPDX-License-Identifier: MIT
/*
 * Packed rows of 32-element blocks with SMMLA, for 8 and 16 tokens. A quad's eight code vectors are
 * made pairs once for all tokens, the tile once a stretch for all rows.
 */
#ifdef __aarch64__

#include "kernels/cpu/arm/neon_packed32.h"

#endif
