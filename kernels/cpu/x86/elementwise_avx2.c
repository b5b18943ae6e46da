// SPDX-License-Identifier: MIT
/* elementwise.h for AVX2. */

#include <immintrin.h>

#include "kernels/cpu/isa.h"

#define VEC_BYTES  32
#define HALF(bits) _cvtsh_ss(bits)
#define ISA(name)  avx2_##name
#include "kernels/cpu/elementwise.h"
