// SPDX-License-Identifier: MIT
/*
 * Which instruction set to compute with: the last of this build's list that the machine
 * supports. The list goes from the reference to the best; a new instruction set is one line.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/isa.h"

static const struct cpu_isa *const isas[] = {
	&cpu_isa_scalar,
#ifdef __x86_64__
	&cpu_isa_avx2,	 &cpu_isa_avx512,
#endif
#ifdef __aarch64__
	&cpu_isa_neon,	 &cpu_isa_neon_i8mm,
#endif
};

#define N_ISAS (sizeof(isas) / sizeof(isas[0]))

const struct cpu_isa *cpu_isa_at(unsigned int i)
{
	return i < N_ISAS ? isas[i] : NULL;
}

const struct cpu_isa *cpu_isa_by_name(const char *name)
{
	for (unsigned int i = 0; i < N_ISAS; i++)
		if (!strcmp(isas[i]->name, name))
			return isas[i];
	return NULL;
}

/* A WEIR_ISA that this build lacks or this machine cannot run is as if it were not set. */
const struct cpu_isa *cpu_isa_best(void)
{
	const char *name = getenv("WEIR_ISA");
	const struct cpu_isa *isa = name ? cpu_isa_by_name(name) : NULL;

	if (isa && isa->supported())
		return isa;
	for (unsigned int i = N_ISAS - 1; i > 0; i--)
		if (isas[i]->supported())
			return isas[i];
	return &cpu_isa_scalar;
}
