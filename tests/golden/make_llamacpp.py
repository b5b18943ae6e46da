#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the golden vectors that hold weir to llama.cpp, for every type of weight.

The models are made by `weir synth` from a seed, here and again when the test runs, so
that no model needs to be committed: only its logits are, as raw little-endian float32
[n_tokens][n_vocab], and the CRC-32 of the file that they belong to, which tells a changed
`weir synth` from a wrong forward pass.

    python3 make_llamacpp.py --weir ../../build/weir     writes synth.manifest and NAME.logits.f32
    python3 make_llamacpp.py --check-hf                  writes nothing: runs the models of
                                                         hf.manifest in llama.cpp, and prints how
                                                         far it is from transformers
"""

import argparse
import pathlib
import subprocess
import tempfile
import zlib

import llama_cpp
import numpy as np

N_TOKENS = 40
N_VOCAB = 288
THREADS = 2

SHAPE = f"--layers 2 --embd 256 --ff 512 --heads 8 --kv-heads 4 --vocab {N_VOCAB} --ctx 256"
TYPES = ("f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs "
         "mxfp4").split()
# Of the others a few types, each with a shape that its family is known for.
MODELS = ([("llama", t, "") for t in TYPES]
          + [("qwen2", t, " --tied") for t in ("f16", "q4_0", "q8_0", "q4_k")]
          + [("qwen3", t, " --head-dim 64") for t in ("f16", "q4_0", "q8_0", "q6_k")])


def make_tokens():
    """<s>, then a fixed walk through the vocabulary."""
    tokens = np.random.default_rng(4321).integers(3, N_VOCAB, N_TOKENS)
    tokens[0] = 1
    return [int(t) for t in tokens]


def logits_of(path, tokens, kv_type):
    """[n_tokens][n_vocab] float32; the whole prompt in one batch."""
    model = llama_cpp.Llama(
        str(path), n_ctx=256, n_batch=64, n_ubatch=64, n_threads=THREADS,
        n_threads_batch=THREADS, n_gpu_layers=0, logits_all=True, flash_attn=False,
        type_k=kv_type, type_v=kv_type, verbose=False)
    model.eval(tokens)
    logits = np.array(model.scores[: len(tokens)], dtype="<f4")
    model.close()
    return logits


def make(weir, out):
    tokens = make_tokens()
    lines = ["# made by make_llamacpp.py; README.md says what the fields mean",
             "tokens " + ",".join(map(str, tokens))]
    with tempfile.TemporaryDirectory() as tmp:
        for seed, (arch, t, shape) in enumerate(MODELS, start=1):
            name = f"synth-{arch}.{t}"
            args = f"--arch {arch} {SHAPE}{shape} --type {t} --seed {seed}"
            path = pathlib.Path(tmp) / f"{name}.gguf"
            subprocess.run([weir, "synth", path, *args.split()], check=True,
                           stdout=subprocess.DEVNULL)
            crc = zlib.crc32(path.read_bytes())
            logits = logits_of(path, tokens, llama_cpp.GGML_TYPE_F16)
            if logits.shape != (N_TOKENS, N_VOCAB) or not np.isfinite(logits).all():
                raise SystemExit(f"{name}: llama.cpp's logits are {logits.shape}, or not finite")
            logits.tofile(out / f"{name}.logits.f32")
            lines.append(f"synth peer {name} {name}.logits.f32 {N_VOCAB} {crc:08x} {args}")
            print(f"{name}: max |logit| {np.abs(logits).max():.2f}, deviation {logits.std():.2f}")
            path.unlink()
    (out / "synth.manifest").write_text("\n".join(lines) + "\n")


def check_hf(out):
    tokens = []
    for line in (out / "hf.manifest").read_text().splitlines():
        if line.startswith("tokens "):
            tokens = [int(t) for t in line.split()[1].split(",")]
        if not line.startswith("file "):
            continue
        _, _, name, vector, n_vocab, model = line.split()
        want = np.fromfile(out / vector, dtype="<f4").reshape(len(tokens), int(n_vocab))
        row = f"{name:18}"
        for kv, label in ((llama_cpp.GGML_TYPE_F32, "32"), (llama_cpp.GGML_TYPE_F16, "16")):
            got = logits_of(out / model, tokens, kv)
            error = np.abs(got - want).max() / np.abs(want).max()
            cosine = (got * want).sum(1) / np.sqrt((got ** 2).sum(1) * (want ** 2).sum(1))
            row += f"  {label}-bit KV: max error {error:.1e}, least cosine {cosine.min():.7f}"
        print(row)


def main():
    here = pathlib.Path(__file__).parent
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--weir", type=pathlib.Path, default=here / "../../build/weir",
                   help="the weir that makes the models (default: build/weir)")
    p.add_argument("--out", type=pathlib.Path, default=here,
                   help="folder to write to (default: where this script is)")
    p.add_argument("--check-hf", action="store_true",
                   help="compare llama.cpp with transformers on the models of hf.manifest")
    args = p.parse_args()
    if args.check_hf:
        check_hf(args.out)
    else:
        make(args.weir.resolve(), args.out)


if __name__ == "__main__":
    main()
