// SPDX-License-Identifier: MIT
/* elementwise.h for NEON. */
#ifdef __aarch64__

#include <arm_neon.h>

#include "kernels/cpu/isa.h"

#define VEC_BYTES  16
#define HALF(bits) vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0)
#define ISA(name)  neon_##name
#include "kernels/cpu/elementwise.h"

#endif
