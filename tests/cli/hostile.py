#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Put into a GGUF file what a printer of it must bear.

    hostile.py MODEL OUT

Adds keys with escape sequences, bytes that are no UTF-8, numbers that are none and integers
beyond 2^63; makes the piece "H" an escape character and the piece "i" the byte 0xff; gives a
tensor a name that turns the terminal red.
"""
import struct
import sys

from split import ARRAY, STRING, Reader, align, key, string

FLOAT32, UINT64 = 6, 10
NAN, INF, BIG = float("nan"), float("inf"), 2**64 - 1


def array(name, kind, fmt, *values):
    head = string(name) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(struct.pack("<" + fmt, v) for v in values)


def text(name, value):
    return string(name) + struct.pack("<I", STRING) + string(value)


def main():
    r = Reader(open(sys.argv[1], "rb").read())
    assert r.take("I") == 0x46554747
    version, n_tensor, n_kv = r.take("I"), r.take("Q"), r.take("Q")
    begin = r.at
    for _ in range(n_kv):
        r.string()
        r.skip_value(r.take("I"))
    metadata, middle = r.data[begin:r.at], r.at
    for _ in range(n_tensor):
        r.string()
        n_dims = r.take("I")
        r.at += 8 * n_dims + 4 + 8
    tensors, body = r.data[middle:r.at], r.data[align(r.at, 32):]

    metadata = metadata.replace(string(b"H"), string(b"\x1b"))
    metadata = metadata.replace(string(b"i"), string(b"\xff"))
    tensors = tensors.replace(b"output_norm", b"\x1b[31mX_norm")
    more = [
        text(b"x.\x1b[31mkey", b"red"),
        text(b"x.controls", b"\x1b]0;title\x07 \xc2\x9b2J"),
        text(b"x.bytes", b"a\xffb\xe2\x82"),
        text(b"x.\xff", b"key"),
        key(b"x.nan", FLOAT32, "f", NAN),
        array(b"x.numbers", FLOAT32, "f", 1.5, NAN, INF),
        key(b"x.big", UINT64, "Q", BIG),
        array(b"x.bigs", UINT64, "Q", 1, BIG),
    ]
    head = struct.pack("<IIQQ", 0x46554747, version, n_tensor, n_kv + len(more))
    head += metadata + b"".join(more) + tensors
    with open(sys.argv[2], "wb") as f:
        f.write(head + bytes(align(len(head), 32) - len(head)) + body)


main()
