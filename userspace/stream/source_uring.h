/* SPDX-License-Identifier: MIT */
/* The uring source with reads carried out by something else: for tests. */
#ifndef WEIR_STREAM_SOURCE_URING_H
#define WEIR_STREAM_SOURCE_URING_H

#include "stream/io.h"
#include "stream/stream.h"

/* As source_uring.open(), with reads by @io. */
int source_uring_open_io(const struct source_params *p, const struct io_ops *io,
			 struct source **out, struct err *err);

#endif
