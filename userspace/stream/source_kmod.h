/* SPDX-License-Identifier: MIT */
#ifndef WEIR_STREAM_SOURCE_KMOD_H
#define WEIR_STREAM_SOURCE_KMOD_H

#include "stream/stream.h"

#define WEIR_DEVICE "/dev/weir"

extern const struct source_ops source_kmod;

#endif
