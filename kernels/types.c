// SPDX-License-Identifier: MIT
#include "kernels/types.h"

#include <stddef.h>
#include <strings.h>

static const struct wtype_info infos[WT_COUNT] = {
	[WT_F32] = {"F32", 1, 4},	    [WT_F16] = {"F16", 1, 2},
	[WT_BF16] = {"BF16", 1, 2},	    [WT_Q4_0] = {"Q4_0", 32, 18},
	[WT_Q4_1] = {"Q4_1", 32, 20},	    [WT_Q5_0] = {"Q5_0", 32, 22},
	[WT_Q5_1] = {"Q5_1", 32, 24},	    [WT_Q8_0] = {"Q8_0", 32, 34},
	[WT_Q2_K] = {"Q2_K", 256, 84},	    [WT_Q3_K] = {"Q3_K", 256, 110},
	[WT_Q4_K] = {"Q4_K", 256, 144},	    [WT_Q5_K] = {"Q5_K", 256, 176},
	[WT_Q6_K] = {"Q6_K", 256, 210},	    [WT_IQ4_NL] = {"IQ4_NL", 32, 18},
	[WT_IQ4_XS] = {"IQ4_XS", 256, 136}, [WT_MXFP4] = {"MXFP4", 32, 17},
};

const struct wtype_info *wtype_info(uint32_t type)
{
	return type < WT_COUNT && infos[type].name ? &infos[type] : NULL;
}

int wtype_by_name(const char *name)
{
	for (int i = 0; i < WT_COUNT; i++)
		if (infos[i].name && !strcasecmp(infos[i].name, name))
			return i;
	return -1;
}
