#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed corpus of fuzz_gguf: small files that show the fuzzer every part of the format.

    tests/fuzz/make_gguf_corpus.py [FOLDER]

FOLDER is tests/fuzz/corpus/gguf/ beside this script where none is given. The bytes are the same
on every run. Nothing but Python's standard library is needed.
"""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACKED, ROWS = 0x10000, 16
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
        U64: "Q", I64: "q", F64: "d"}
# weight types: number -> (elements, bytes) of a block
WEIGHTS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
           10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
           20: (32, 18), 23: (256, 136), 30: (1, 2), 39: (32, 17)}


def string(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    """An array's v is (element type, list)."""
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, x) for x in items)
    return struct.pack("<" + PACK[kind], v)


def pad(b, align):
    return b + bytes(-len(b) % align)


def gguf(kv, tensors=(), version=3, align=32, gap=0, magic=b"GGUF"):
    """tensors: (name, type, shape). gap: bytes left free after each, a multiple of align."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(kv))
    for key, kind, v in kv:
        head += string(key) + struct.pack("<I", kind) + value(kind, v)
    data = b""
    for name, kind, shape in tensors:
        elems, size = WEIGHTS[kind & ~PACKED]
        n = 1
        for d in shape:
            n *= d
        if kind & PACKED:
            n += -(n // shape[0]) % ROWS * shape[0]
        head += string(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", d) for d in shape)
        head += struct.pack("<IQ", kind, len(data))
        data = pad(data + bytes(n // elems * size), align) + bytes(gap)
    return pad(head, align) + data


def packed(kv, tensors=(), version=2):
    return gguf(kv, tensors, version, align=4096, magic=b"WEIR")


SCALARS = [("u8", U8, 200), ("i8", I8, -3), ("u16", U16, 60000), ("i16", I16, -30000),
           ("u32", U32, 4000000000), ("i32", I32, -5), ("f32", F32, 1.5), ("bool", BOOL, 1),
           ("string", STRING, "text"), ("u64", U64, 2**64 - 1), ("i64", I64, -2**63),
           ("f64", F64, 0.1)]
ARRAYS = [("a.u8", ARRAY, (U8, [1, 2, 3])), ("a.i32", ARRAY, (I32, [-1, 0, 1])),
          ("a.f32", ARRAY, (F32, [0.5, -0.5])), ("a.bool", ARRAY, (BOOL, [0, 1])),
          ("a.string", ARRAY, (STRING, ["a", "", b"\x00\xff"])), ("a.u64", ARRAY, (U64, [2**63])),
          ("a.empty", ARRAY, (F64, []))]
NESTED = [("n2", ARRAY, (ARRAY, [(U8, [1]), (STRING, ["x"]), (I16, [])])),
          ("n4", ARRAY, (ARRAY, [(ARRAY, [(ARRAY, [(F32, [1.0])])])]))]
VOCAB = [("general.architecture", STRING, "llama"), ("llama.vocab_size", U32, 6),
         ("tokenizer.ggml.model", STRING, "llama"),
         ("tokenizer.ggml.tokens", ARRAY,
          (STRING, ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581a", "b"])),
         ("tokenizer.ggml.scores", ARRAY, (F32, [0, 0, 0, 0, -1, -2])),
         ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 6, 1, 1])),
         ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2)]


def files():
    yield "empty-v3", gguf([])
    yield "empty-v2", gguf([], version=2)
    yield "scalars", gguf(SCALARS)
    yield "scalars-v2", gguf(SCALARS, version=2)
    yield "arrays", gguf(ARRAYS)
    yield "nested", gguf(NESTED)
    yield "vocabulary", gguf(VOCAB)
    yield "shapes", gguf([], [("d1", 0, [3]), ("d2", 0, [3, 2]), ("d3", 1, [2, 2, 2]),
                              ("d4", 30, [2, 1, 2, 1])])
    for kind, (elems, _) in WEIGHTS.items():
        yield f"type-{kind}", gguf([], [("w", kind, [elems, 2])])
    for align in (8, 64, 512):
        yield f"align-{align}", gguf([("general.alignment", U32, align)],
                                     [("a", 0, [1]), ("b", 2, [32])], align=align)
    yield "gaps", gguf([], [("a", 0, [4]), ("b", 8, [32])], gap=64)
    yield "split", gguf([("split.no", U16, 0), ("split.count", U16, 2),
                         ("split.tensors.count", I32, 1)], [("a", 0, [1])])
    yield "model", gguf(VOCAB + [("llama.block_count", U32, 1)],
                        [("token_embd.weight", 2, [32, 6]), ("blk.0.attn_norm.weight", 0, [32]),
                         ("blk.0.attn_q.weight", 2, [32, 32]), ("output_norm.weight", 0, [32])])
    yield "packed-empty", packed([])
    yield "packed-keys", packed([("general.alignment", U32, 64)] + SCALARS)
    yield "packed-model", packed(VOCAB, [("token_embd.weight", 2, [32, 6]),
                                         ("blk.0.attn_norm.weight", 0, [32]),
                                         ("blk.0.attn_q.weight", PACKED | 2, [32, 17]),
                                         ("blk.0.attn_k.weight", PACKED | 14, [256, 1])])
    # refused ones, to start beyond each refusal
    yield "bad-twice", gguf(SCALARS[:2], [("a", 0, [8]), ("a", 0, [8])])
    yield "bad-split", gguf([("split.count", U32, 2)])
    yield "bad-cut", gguf(SCALARS, [("a", 0, [8])])[:-20]
    yield "bad-big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    yield "bad-version", gguf([], version=4)
    yield "old-packed-version", packed([], version=1)
    yield "bad-packed-version", packed([], version=3)
    yield "bad-packed-floats", packed([], [("w", PACKED | 1, [4, 16])])
    yield "bad-packed-type", gguf([], [("w", PACKED | 2, [32, 16])])
    yield "bad-removed-type", gguf([], [("w", 2, [32])]).replace(
        struct.pack("<QI", 32, 2), struct.pack("<QI", 32, 4))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "corpus", "gguf")
    os.makedirs(folder, exist_ok=True)
    for name, data in files():
        with open(os.path.join(folder, name + ".gguf"), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
