/* SPDX-License-Identifier: MIT */
/*
 * One clear sentence per failure.
 *
 * Functions that can fail return 0 or a negative errno and take a `struct err *`
 * into which the one who knows best writes what was wrong, where, and what to do.
 * Callers pass it on unchanged; only the edge (cli, libweir's handle) shows it.
 */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

struct err {
	char text[512];
};

/**
 * err_set() - record a failure's sentence and return its code
 * @e: where to write the sentence, or NULL where nobody listens
 * @code: negative errno
 * @fmt: printf format of the sentence, without "error:" and without a final newline
 *
 * Return: @code, so that a caller can write `return err_set(err, -EINVAL, ...)`.
 */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
