// SPDX-License-Identifier: MIT
/*
 * Every interleaving of next, completion, acquire, release and change of depth that the fuzzer
 * finds keeps the policy's invariants and agrees with a naive model of it.
 *
 * Input: extents, slots, depth (a byte each), then two bytes a step (see sched_model_step()).
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/sched_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sched_model m;

	if (size < 3)
		return 0;
	sched_model_init(&m, 1 + data[0] % 24, 1 + data[1] % 12, 1 + data[2] % 8);
	for (size_t i = 3; i + 1 < size && !m.fail; i += 2)
		sched_model_step(&m, (uint16_t)(data[i] | data[i + 1] << 8));
	sched_model_settle(&m);
	if (m.fail) {
		fprintf(stderr, "sched_model.h:%d: policy and model disagree (check: line %d)\n",
			m.fail, weir_sched_check(&m.s));
		abort();
	}
	return 0;
}
