/* SPDX-License-Identifier: MIT */
/*
 * Packing: a model laid out once for streaming, and back again.
 *
 * A packed file (docs/format.md) holds the tensors in the order in which a pass reads them, each
 * from a multiple of 4 KiB on, and the matrices that every token is multiplied with in groups of
 * 16 rows (kernels/packed.h). Metadata and every tensor's values stay as they were.
 */
#ifndef WEIR_MODEL_PACK_H
#define WEIR_MODEL_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pack_params {
	const char *model; /* a GGUF file, or any part of a split one; to unpack: a packed file */
	const char *out;   /* replaced where it is there; never the model itself */
	bool unpack;
	/* How far it is, or NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	const volatile int *cancel; /* becomes non-zero to end it with -EINTR; or NULL */
};

struct pack_result {
	uint64_t n_tensor;
	uint64_t n_packed;   /* of them, in groups: in the packed file of the two */
	uint64_t data_bytes; /* of tensors, as read */
	uint64_t file_bytes; /* of the file written */
};

/**
 * pack_model() - pack a model, or unpack a packed one to a single GGUF file
 *
 * One pass from file to file in memory for two extents of 4 MiB (or of 16 rows where those are
 * longer) and the header. @p->out appears under its name only when it is whole.
 *
 * Return: 0; -EINVAL where the model is packed already, or is not, or is @p->out; -EINTR;
 * -ENOSPC; what gguf_open() and model_open() return; or the errno of a read or write.
 */
int pack_model(const struct pack_params *p, struct pack_result *out, struct err *err);

#endif
