// SPDX-License-Identifier: MIT
/*
 * Speed limits of known machines and of this one.
 *
 * Sources of the figures:
 *	post	"Edge LLMs: Benefits, Challenges, and Solutions": DRAM and flash of the iPhone 15
 *		Pro (51.2 GB/s, about 1 GB/s), DRAM of Jetson AGX Orin 64GB (204.8 GB/s)
 *	NVIDIA	Jetson Orin data sheets: 128-bit LPDDR5 of Orin NX 102.4 GB/s; Orin Nano 68 GB/s,
 *		102 GB/s as "Super"; M.2 slots PCIe Gen4 x4 (AGX, NX) and Gen3 x4 (Nano)
 *	slot	flash of the Jetsons is what their M.2 slot carries: 7 and 3.5 GB/s. It is a
 *		ceiling; `weir probe` measures the drive that is there.
 *	SDOT	int8 multiply-adds counted as two: Cortex-A78AE 64 a clock and core (12 cores at
 *		2.2 GHz on AGX 64GB, 8 at 2.2 on 32GB, 8 at 2.0 on NX, 6 at 1.5 and 1.7 on Nano);
 *		A17 Pro 2 x 128 at 3.78 GHz and 4 x 64 at 2.11 GHz
 *	GPU	AGX Orin: 2048 CUDA cores x 2 x 1.3 GHz, int8 tensor cores 85 T dense; DLA 52.5 T
 *		dense. iPhone: 6 cores, about 2.15 T fp32; neural engine 35 T
 */
#include "stream/predict.h"

#include <string.h>

#include "base/util.h"

static const struct machine machines[] = {
	{"iphone-15-pro", 51.2, 1.0, 2 * 128 * 3.78e9 + 4 * 64 * 2.11e9},
	{"orin-64", 204.8, 7.0, 12 * 64 * 2.2e9},
	{"orin-32", 204.8, 7.0, 8 * 64 * 2.2e9},
	{"orin-nx", 102.4, 7.0, 8 * 64 * 2.0e9},
	{"orin-nano", 68.0, 3.5, 6 * 64 * 1.5e9},
	{"orin-nano-super", 102.0, 3.5, 6 * 64 * 1.7e9},
};

static const struct {
	const char *machine;
	struct machine_unit unit;
} units[] = {
	{"iphone-15-pro", {"CPU, NEON int8", 2 * 128 * 3.78e9 + 4 * 64 * 2.11e9}},
	{"iphone-15-pro", {"GPU, fp32", 2.15e12}},
	{"iphone-15-pro", {"neural engine, int8", 35e12}},
	{"orin-64", {"CPU, NEON fp32", 12 * 16 * 2.2e9}},
	{"orin-64", {"CPU, NEON int8", 12 * 64 * 2.2e9}},
	{"orin-64", {"GPU, fp32", 2048 * 2 * 1.3e9}},
	{"orin-64", {"GPU, tensor int8", 85e12}},
	{"orin-64", {"DLA, int8", 52.5e12}},
};

const struct machine *machine_at(unsigned int i)
{
	return i < ARRAY_SIZE(machines) ? &machines[i] : NULL;
}

const struct machine *machine_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (!strcmp(name, machines[i].name))
			return &machines[i];
	return NULL;
}

const struct machine_unit *machine_unit_at(const struct machine *m, unsigned int i)
{
	for (size_t k = 0; k < ARRAY_SIZE(units); k++)
		if (!strcmp(units[k].machine, m->name) && i-- == 0)
			return &units[k].unit;
	return NULL;
}

void predict(const struct machine *m, double sweep, double stream, double extra, double flop,
	     struct prediction *out)
{
	double t;

	out->t_flash = stream > 0 ? stream / (m->flash_gb_s * 1e9) : 0;
	/* what streams is written to DRAM once and read from it once */
	out->t_dram = (sweep + stream + extra) / (m->dram_gb_s * 1e9);
	out->t_compute = m->flops > 0 ? flop / m->flops : 0;
	out->bound = BOUND_DRAM;
	t = out->t_dram;
	if (out->t_flash > t) {
		out->bound = BOUND_FLASH;
		t = out->t_flash;
	}
	if (out->t_compute > t) {
		out->bound = BOUND_COMPUTE;
		t = out->t_compute;
	}
	out->tok_s = t > 0 ? 1 / t : 0;
	out->alpha_balance = post_alpha_max(m->flash_gb_s, m->dram_gb_s);
}

const char *bound_name(enum bound b)
{
	static const char *const name[] = {
		[BOUND_FLASH] = "flash",
		[BOUND_DRAM] = "DRAM",
		[BOUND_COMPUTE] = "compute",
	};

	return name[b];
}

double post_compute_tok_s(double ops_s)
{
	return ops_s / POST_FLOP_PER_TOKEN;
}

double post_memory_tok_s(double dram_gb_s, double gb)
{
	return dram_gb_s / gb;
}

double post_alpha_max(double flash_gb_s, double dram_gb_s)
{
	return flash_gb_s / (flash_gb_s + dram_gb_s);
}

double post_dram_effective_gb_s(double flash_gb_s, double alpha)
{
	return flash_gb_s * (1 - alpha) / alpha;
}
