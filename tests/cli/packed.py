#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does a file hold the same model as another one?

    packed.py MODEL OTHER

Each is a GGUF file or a packed one. Compares metadata, byte for byte and in order, and the rows of
every tensor; packed ones are taken apart as docs/format.md says, by code that shares nothing with
weir's. Says where a packed file breaks that format. One line for each difference; status 1.
"""
import struct
import sys

from split import Reader, align

PACKED, ROWS = 0x10000, 16
# type: name, weights of a block, and its fields in order: (bytes of a unit, first byte of each of those
# that take turns, bytes of each)
TYPES = {
    0: ("F32", 1, [(4, [0], 4)]),
    1: ("F16", 1, [(2, [0], 2)]),
    2: ("Q4_0", 32, [(2, [0], 2), (4, [2], 16)]),
    3: ("Q4_1", 32, [(2, [0], 4), (4, [4], 16)]),
    6: ("Q5_0", 32, [(2, [0], 2), (4, [2], 20)]),
    7: ("Q5_1", 32, [(2, [0], 4), (4, [4], 20)]),
    8: ("Q8_0", 32, [(2, [0], 2), (4, [2], 32)]),
    10: ("Q2_K", 256, [(2, [80], 4), (1, [0], 16), (4, [16], 64)]),
    11: ("Q3_K", 256, [(2, [108], 2), (4, [96], 12), (4, [32, 0], 32), (4, [64], 32)]),
    12: ("Q4_K", 256, [(2, [0], 4), (4, [4], 140)]),
    13: ("Q5_K", 256, [(2, [0], 4), (4, [4], 12), (4, [48, 80, 16], 32), (4, [112, 144], 32)]),
    14: ("Q6_K", 256, [(2, [208], 2), (1, [192], 16), (4, [0, 32, 128], 32), (4, [64, 96, 160], 32)]),
    20: ("IQ4_NL", 32, [(2, [0], 2), (4, [2], 16)]),
    23: ("IQ4_XS", 256, [(2, [0], 4), (4, [4], 132)]),
    30: ("BF16", 1, [(2, [0], 2)]),
    39: ("MXFP4", 32, [(1, [0], 1), (4, [1], 16)]),
}
SPLIT_KEYS = (b"split.no", b"split.count", b"split.tensors.count")


def block_bytes(kind):
    return sum(n * len(begins) for _, begins, n in TYPES[kind][2])


class Tensor:
    def __init__(self, kind, shape, off):
        self.packed, self.kind, self.shape, self.off = bool(kind & PACKED), kind & ~PACKED, shape, off
        self.rows = 1
        for n in shape[1:]:
            self.rows *= n
        self.row_bytes = shape[0] // TYPES[self.kind][1] * block_bytes(self.kind)
        self.size = self.row_bytes * (align(self.rows, ROWS) if self.packed else self.rows)

    def what(self):
        return TYPES[self.kind][0], self.shape


class Model:
    def __init__(self, path):
        r = Reader(open(path, "rb").read())
        self.data, self.packed = r.data, r.data[:4] == b"WEIR"
        r.at = 4
        version, n_tensor, n_kv = r.take("I"), r.take("Q"), r.take("Q")
        assert version == 2 if self.packed else version in (2, 3), version
        self.kv, self.tensors, alignment = {}, {}, 32
        for _ in range(n_kv):
            name, at = r.string(), r.at
            r.skip_value(r.take("I"))
            self.kv[name] = r.data[at:r.at]
            if name == b"general.alignment":
                alignment = struct.unpack_from("<I", r.data, at + 4)[0]
        alignment = 4096 if self.packed else alignment
        for _ in range(n_tensor):
            name, n_dims = r.string(), r.take("I")
            shape = [r.take("Q") for _ in range(n_dims)]
            self.tensors[name] = Tensor(r.take("I"), shape, r.take("Q"))
        begin, end = align(r.at, alignment), 0
        for t in self.tensors.values():
            assert t.off == align(end, alignment), "tensors do not follow each other"
            end = t.off + t.size
            t.off += begin
        assert len(r.data) == begin + align(end, alignment), "the file ends elsewhere"

    def row(self, t, r):
        """Row r as a GGUF file has it."""
        if not t.packed:
            return self.data[t.off + r * t.row_bytes:t.off + (r + 1) * t.row_bytes]
        at, out = t.off + r // ROWS * ROWS * t.row_bytes, []
        for _ in range(t.shape[0] // TYPES[t.kind][1]):
            block = bytearray(block_bytes(t.kind))
            for unit, begins, n in TYPES[t.kind][2]:
                for k in range(0, n, unit):
                    for begin in begins:
                        mine = at + r % ROWS * unit
                        block[begin + k:begin + k + unit] = self.data[mine:mine + unit]
                        at += ROWS * unit
            out.append(bytes(block))
        return b"".join(out)


def differences(a, b):
    kv = [[(k, v) for k, v in m.kv.items() if k not in SPLIT_KEYS] for m in (a, b)]
    if kv[0] != kv[1]:
        yield "the metadata"
    if set(a.tensors) != set(b.tensors):
        yield "the names of tensors"
        return
    for name, t in a.tensors.items():
        u = b.tensors[name]
        if t.what() != u.what():
            yield f"{name.decode()}: type or shape"
            continue
        for r in range(t.rows):
            if a.row(t, r) != b.row(u, r):
                yield f"{name.decode()}: row {r}"
                break
        for m, x in ((a, t), (b, u)):
            if x.packed and any(any(m.row(x, r)) for r in range(x.rows, align(x.rows, ROWS))):
                yield f"{name.decode()}: what fills up the last group is not zero"


def main():
    found = list(differences(Model(sys.argv[1]), Model(sys.argv[2])))
    for line in found:
        print(line)
    sys.exit(bool(found))


main()
