/* SPDX-License-Identifier: MIT */
/* memory_available() of stream.h, on another tree than /: for tests. */
#ifndef WEIR_STREAM_MEMORY_H
#define WEIR_STREAM_MEMORY_H

#include <stdint.h>

/* @root: prefix of /proc and of the mount points that /proc/self/mountinfo names; "" is real */
uint64_t memory_available_at(const char *root);

#endif
