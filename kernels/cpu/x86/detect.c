// SPDX-License-Identifier: MIT
/*
 * What this x86 CPU and its operating system allow.
 *
 * CPUID says what the CPU can do. That is not enough: a kernel or hypervisor that does not save
 * ymm or zmm registers on a task switch leaves AVX instructions disabled, and says so in XCR0. Both
 * are read here directly rather than through the compiler's run-time library, whose answer depends
 * on the compiler's version. This file is compiled without -mavx2, so that it runs everywhere.
 */
#include <cpuid.h>

#include "kernels/cpu/isa.h"

#define XCR0_XMM (1u << 1)
#define XCR0_YMM (1u << 2)
#define XCR0_ZMM (7u << 5) /* mask registers, upper halves of zmm0-15, zmm16-31 */

/* Only valid where CPUID reports OSXSAVE. */
static unsigned int xcr0(void)
{
	unsigned int low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

int x86_has_avx2(void)
{
	const unsigned int leaf1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
	const unsigned int state = XCR0_XMM | XCR0_YMM;
	unsigned int a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
		return 0;
	if ((xcr0() & state) != state)
		return 0;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

int x86_has_avx512(void)
{
	const unsigned int leaf7b = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
	const unsigned int leaf7c = bit_AVX512VBMI | bit_AVX512VNNI;
	unsigned int a, b, c, d;

	if (!x86_has_avx2() || (xcr0() & XCR0_ZMM) != XCR0_ZMM)
		return 0;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & leaf7b) == leaf7b &&
	       (c & leaf7c) == leaf7c;
}
