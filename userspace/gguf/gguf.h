/* SPDX-License-Identifier: MIT */
/*
 * GGUF files -> metadata and tensors. Nothing else in weir reads GGUF bytes.
 *
 * A `struct gguf` is the parsed header of one model, which may be split over several files
 * (NAME-00001-of-0000N.gguf). Tensor data is not read here: a tensor says in which file, at
 * which offset and over how many bytes it lies, and that range has been checked to lie inside
 * the file. All memory belongs to the struct and lives until gguf_close().
 *
 * A *packed* file is what `weir pack` makes of a model (docs/format.md): the same structure under
 * another magic, one file, rows of large matrices in groups of 16.
 *
 * The reader trusts nothing: every length is checked against what the file can still hold
 * before memory is taken for it, so a hostile file costs at most a small multiple of its size.
 */
#ifndef WEIR_GGUF_GGUF_H
#define WEIR_GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/types.h"

enum gguf_type {
	GGUF_U8 = 0,
	GGUF_I8 = 1,
	GGUF_U16 = 2,
	GGUF_I16 = 3,
	GGUF_U32 = 4,
	GGUF_I32 = 5,
	GGUF_F32 = 6,
	GGUF_BOOL = 7,
	GGUF_STRING = 8,
	GGUF_ARRAY = 9,
	GGUF_U64 = 10,
	GGUF_I64 = 11,
	GGUF_F64 = 12,
	GGUF_TYPE_COUNT = 13,
};

#define GGUF_MAX_DIMS 4

/* Of tensors, in files whose metadata says nothing of it. */
#define GGUF_DEFAULT_ALIGNMENT 32u

/* In a type number of a packed file: the tensor's rows lie in groups (kernels/packed.h). */
#define GGUF_PACKED 0x10000u

/* len bytes, which may hold NUL and need not be UTF-8; a NUL follows them. */
struct gguf_str {
	const char *p;
	uint64_t len;
};

struct gguf_array {
	enum gguf_type type; /* of the elements */
	uint64_t n;
	union {
		const void *num;	      /* n packed native numbers; bool: uint8_t 0 or 1 */
		const struct gguf_str *str;   /* GGUF_STRING */
		const struct gguf_array *arr; /* GGUF_ARRAY */
	};
};

struct gguf_kv {
	struct gguf_str key;
	enum gguf_type type;
	union {
		uint64_t u64; /* U8 U16 U32 U64 */
		int64_t i64;  /* I8 I16 I32 I64 */
		double f64;   /* F32 F64 */
		bool b;
		struct gguf_str str;
		struct gguf_array arr;
	};
};

struct gguf_tensor {
	struct gguf_str name;
	uint32_t type; /* enum wtype, known to wtype_info() */
	bool packed;   /* in groups of 16 rows, the last one filled up */
	uint32_t n_dims;
	uint64_t ne[GGUF_MAX_DIMS]; /* ne[0] is contiguous; unused ones are 1 */
	uint64_t row_bytes;	    /* bytes of ne[0] elements */
	uint64_t n_rows;	    /* ne[1] * ne[2] * ne[3] */
	uint32_t file;		    /* index into gguf.file */
	uint64_t off;		    /* from that file's start, in bytes */
	uint64_t size;		    /* row_bytes * n_rows, or that of whole groups */
};

struct gguf_file {
	char *path;
	uint64_t size;	   /* bytes */
	uint64_t data_off; /* where tensor data starts */
	uint32_t alignment;
};

struct gguf {
	bool packed_file; /* then version is that of packed files */
	uint32_t version;
	uint32_t n_file;
	struct gguf_file *file;
	uint64_t n_kv; /* of the first file: it holds the metadata */
	struct gguf_kv *kv;
	uint64_t n_tensor; /* of all files, in file order */
	struct gguf_tensor *tensor;
};

/**
 * gguf_open() - parse a model's header
 * @path: a GGUF file, any part of a split model (the others are found beside it), or a packed file
 * @out: the model on success
 * @err: one sentence with file, field and offset on failure
 *
 * Return: 0; -EINVAL malformed, -EOPNOTSUPP newer or unknown, -ENOMEM, or open/read's errno.
 */
int gguf_open(const char *path, struct gguf **out, struct err *err);

/* The same from memory; @name stands for the path in messages. Splits are refused. */
int gguf_open_mem(const void *data, size_t size, const char *name, struct gguf **out,
		  struct err *err);
void gguf_close(struct gguf *g);

/* NULL where there is none. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/*
 * Typed look-ups. Integers of every width are accepted where they fit, floats of both widths
 * (and integers). Return 0; -ENOENT when the key is absent (@out is left as it was and @err is
 * written, so that a caller may ignore both: defaults stay); -EINVAL when it has another type
 * or does not fit.
 */
int gguf_u64(const struct gguf *g, const char *key, uint64_t *out, struct err *err);
int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *err);
int gguf_f32(const struct gguf *g, const char *key, float *out, struct err *err);
int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *err);
int gguf_string(const struct gguf *g, const char *key, struct gguf_str *out, struct err *err);
/* @type: required element type */
int gguf_array(const struct gguf *g, const char *key, enum gguf_type type, struct gguf_array *out,
	       struct err *err);
/* Element i of an integer array of any width; false where it is none, i >= n or it does not fit. */
bool gguf_array_int(const struct gguf_array *a, uint64_t i, int64_t *out);

/**
 * gguf_read_tensor() - the bytes of a small tensor, now
 * @buf: [t->size]
 *
 * For what a model needs before weights have a source. Return: 0, or a negative errno with a
 * sentence.
 */
int gguf_read_tensor(const struct gguf *g, const struct gguf_tensor *t, void *buf, struct err *err);

const char *gguf_type_name(enum gguf_type type);

/*
 * Writing. Keys and tensors are declared first, in order; gguf_write_header() then fixes the
 * layout, and tensor data is written with gguf_writer_put(), or with pwrite() to gguf_writer_fd(),
 * at the offsets that gguf_writer_tensor() gives. The file appears under its name only at
 * gguf_writer_finish(): an interrupted writer leaves nothing but, at worst, a temporary file that
 * close() removes.
 *
 * Names and values are copied. The gguf_write_*() return 0 or a negative errno; the first
 * failure sticks and gguf_write_header() gives it with its sentence, so that a caller may
 * declare everything and look once. gguf_write_header() also takes the disk space (-ENOSPC);
 * what is not written of it reads as zeros.
 */
struct gguf_writer;

/*
 * @alignment: a power of two from 8 to 1 MiB. Unless it is the default, general.alignment is added
 * to the metadata where the caller declares no such key.
 */
int gguf_writer_open(const char *path, uint32_t alignment, struct gguf_writer **out,
		     struct err *err);
/* A packed file; its tensors are aligned to 4 KiB whatever general.alignment says. */
int gguf_writer_open_packed(const char *path, struct gguf_writer **out, struct err *err);
int gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v);
int gguf_write_f32(struct gguf_writer *w, const char *key, float v);
int gguf_write_bool(struct gguf_writer *w, const char *key, bool v);
int gguf_write_str(struct gguf_writer *w, const char *key, const char *v);
int gguf_write_kv(struct gguf_writer *w, const struct gguf_kv *kv); /* any, arrays included */
/* @type: with GGUF_PACKED where a packed file has it in groups */
int gguf_write_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
		      const uint64_t *ne);
int gguf_write_header(struct gguf_writer *w, struct err *err);
int gguf_writer_fd(const struct gguf_writer *w);
/*
 * @n bytes at @off, from any thread. Past the page cache, which is faster and leaves it to others,
 * where the file system can and @buf is as far from a multiple of 4 KiB as @off.
 */
int gguf_writer_put(const struct gguf_writer *w, const void *buf, uint64_t off, uint64_t n,
		    struct err *err);
/* The i-th declared tensor; off and size as in the finished file. */
const struct gguf_tensor *gguf_writer_tensor(const struct gguf_writer *w, uint64_t i);
uint64_t gguf_writer_size(const struct gguf_writer *w); /* of the finished file, in bytes */
/* fsync, rename; then close: the writer is gone whatever this returns. */
int gguf_writer_finish(struct gguf_writer *w, struct err *err);
void gguf_writer_close(struct gguf_writer *w); /* abandons what is not finished */

#endif
