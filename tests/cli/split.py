#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Split a GGUF file in parts, as models larger than a download's limit come.

    split.py MODEL OUT N     writes OUT-00001-of-0000N.gguf ...

The first part has all metadata; each has its share of the tensors, and split.no, split.count
and split.tensors.count as users of split files expect them.
"""
import struct
import sys

STRING, ARRAY, UINT16, INT32 = 8, 9, 2, 5
SIZE = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, fmt):
        value = struct.unpack_from("<" + fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return value

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def skip_value(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            item, n = self.take("I"), self.take("Q")
            for _ in range(n):
                self.skip_value(item)
        else:
            self.at += SIZE[kind]


def string(s):
    return struct.pack("<Q", len(s)) + s


def key(name, kind, fmt, value):
    return string(name) + struct.pack("<I" + fmt, kind, value)


def align(n, to):
    return (n + to - 1) // to * to


def main():
    model, out, n_part = sys.argv[1], sys.argv[2], int(sys.argv[3])
    r = Reader(open(model, "rb").read())
    assert r.take("I") == 0x46554747
    version, n_tensor, n_kv = r.take("I"), r.take("Q"), r.take("Q")
    begin, alignment = r.at, 32
    for _ in range(n_kv):
        name, kind, at = r.string(), r.take("I"), r.at
        r.skip_value(kind)
        if name == b"general.alignment":
            alignment = struct.unpack_from("<I", r.data, at)[0]
    metadata = r.data[begin:r.at]
    tensors = []
    for _ in range(n_tensor):
        name, n_dims = r.string(), r.take("I")
        shape = struct.pack("<I", n_dims) + r.data[r.at:r.at + 8 * n_dims]
        r.at += 8 * n_dims
        shape += r.data[r.at:r.at + 4]
        r.at += 4
        tensors.append((name, shape, r.take("Q")))
    data = align(r.at, alignment)
    # a tensor ends where the next one begins
    ends = sorted(t[2] for t in tensors)[1:] + [len(r.data) - data]
    end_of = dict(zip(sorted(t[2] for t in tensors), ends))

    for part in range(n_part):
        mine = tensors[len(tensors) * part // n_part:len(tensors) * (part + 1) // n_part]
        kv = (metadata if part == 0 else b"") + \
            key(b"split.no", UINT16, "H", part) + \
            key(b"split.count", UINT16, "H", n_part) + \
            key(b"split.tensors.count", INT32, "i", n_tensor)
        n = 3 + (n_kv if part == 0 else 0)
        if part and alignment != 32:
            kv += key(b"general.alignment", 4, "I", alignment)
            n += 1
        infos, body = b"", b""
        for name, shape, off in mine:
            body += bytes(align(len(body), alignment) - len(body))
            infos += string(name) + shape + struct.pack("<Q", len(body))
            body += r.data[data + off:data + end_of[off]]
        head = struct.pack("<IIQQ", 0x46554747, version, len(mine), n) + kv + infos
        head += bytes(align(len(head), alignment) - len(head))
        with open(f"{out}-{part + 1:05}-of-{n_part:05}.gguf", "wb") as f:
            f.write(head + body)


if __name__ == "__main__":
    main()
