// SPDX-License-Identifier: MIT
/*
 * IEEE half <-> float in integer arithmetic, with the same bits as F16C and NEON hardware:
 * round to nearest even, overflow to infinity, denormals kept, NaN made quiet with the part of
 * its payload that fits.
 */
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exp = h >> 10 & 31;
	uint32_t mant = h & 0x3ff;

	if (exp == 31) /* infinity or NaN */
		return f32_from_bits(sign | 0x7f800000 | mant << 13 | (mant ? 0x400000 : 0));
	if (exp == 0) { /* zero or denormal: mant * 2^-24, which a float holds exactly */
		float f = (float)mant * 0x1p-24f;

		return f32_from_bits(sign | f32_bits(f));
	}
	return f32_from_bits(sign | (exp + 112) << 23 | mant << 13);
}

uint16_t float_to_half(float f)
{
	uint32_t bits = f32_bits(f);
	uint16_t sign = bits >> 16 & 0x8000;
	uint32_t mag = bits & 0x7fffffff;
	uint32_t half, rest, shift;

	if (mag > 0x7f800000) /* NaN */
		return sign | 0x7e00 | (mag >> 13 & 0x1ff);
	if (mag >= 0x477ff000) /* 65520 and more round to infinity */
		return sign | 0x7c00;
	if (mag < 0x33000000) /* below half of the least denormal */
		return sign;

	if (mag >= 0x38800000) { /* a normal half: rebias the exponent, 13 bits to round off */
		shift = 13;
		half = mag - 0x38000000;
	} else { /* a denormal: in units of 2^-24, what lies below them to round off */
		shift = 126 - (mag >> 23);
		half = (mag & 0x7fffff) | 0x800000;
	}
	rest = half & ((1u << shift) - 1);
	half >>= shift;
	if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1)))
		half++; /* a carry into the exponent is right, too */
	return sign | half;
}
