// SPDX-License-Identifier: MIT
/* elementwise.h for AVX512. */

#include <immintrin.h>

#include "kernels/cpu/isa.h"

#define VEC_BYTES  64
#define HALF(bits) _cvtsh_ss(bits)
#define ISA(name)  avx512_##name
#include "kernels/cpu/elementwise.h"
