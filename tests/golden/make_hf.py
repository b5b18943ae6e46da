#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the golden vectors that hold weir to huggingface/transformers.

For each tiny random-weight model of MODELS:

1. draw the weights from a fixed seed (numpy, not torch: the stream of numbers is
   then the same on every version and machine);
2. write NAME.f32.gguf, and for some NAME.q8_0.gguf, with the names, the metadata and the
   row order that llama.cpp's converter gives such a model;
3. read the GGUF back, undo the row order, and give the weights that it holds (for Q8_0
   the dequantized ones) to transformers in float64;
4. write NAME.TYPE.logits.f32: the logits of every position of TOKENS, raw little-endian
   float32 [n_tokens][n_vocab], and one line of hf.manifest (README.md says what it means).

A model that has something special (scaled rotary angles, biases, norms on q and k, a large
epsilon) is computed once more without it, and the script stops unless that moves the logits far
beyond what the test forgives: a test that cannot fail is none.

    python3 make_hf.py --out .            writes the files
    python3 make_hf.py --report           writes nothing; prints what a 16-bit KV cache and
                                          each feature alone do to the logits
"""

import argparse
import dataclasses
import math
import pathlib

import gguf
import numpy as np
import torch
import transformers
from transformers.cache_utils import DynamicCache

N_VOCAB = 288  # <unk>, <s>, </s>, 256 bytes, 29 words
N_CTX = 256
N_TOKENS = 40

# How far the logits must move, as max |change| / max |logit|, when a feature is left out.
# The test forgives 1e-4 in F32.
FEATURE_MATTERS = 0.02

PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


@dataclasses.dataclass
class Spec:
    """One model: `config` goes to transformers; shapes not named there are the defaults."""

    name: str
    arch: str  # general.architecture
    seed: int
    config: dict
    types: tuple = ("f32", "q8_0")
    without: dict = dataclasses.field(default_factory=dict)  # feature -> how to leave it out


def drop(*parts):
    """Leave a feature out: set every parameter whose name ends in one of `parts` to no-op."""

    def edit(state):
        for name, t in state.items():
            if name.endswith(parts):
                state[name] = torch.zeros_like(t) if name.endswith(".bias") else torch.ones_like(t)

    return edit


BASE_1M = {"rope_type": "default", "rope_theta": 1000000.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 64}

# An epsilon that counts, and the one that a reader might put in its place.
LARGE_EPS = {"rms_norm_eps": 0.02}
USUAL_EPS = {"rms_norm_eps": 1e-5}

MODELS = [
    Spec("llama", "llama", 1, {}),
    # With this base and 16 rotary dimensions an original context of 32 puts pairs into all
    # three ranges of Llama 3.1's scaling: as is, blended, divided by 8.
    Spec("llama3", "llama", 2, {"rope_parameters": LLAMA3},
         without={"rope scaling": {"rope_parameters": PLAIN_ROPE}}),
    Spec("llama-linear", "llama", 3, {"rope_parameters": LINEAR}, types=("f32",),
         without={"rope scaling": {"rope_parameters": PLAIN_ROPE}}),
    # One matrix for input and output, as many KV heads as heads, a single layer.
    Spec("llama-tied", "llama", 4,
         {"tie_word_embeddings": True, "num_key_value_heads": 4, "num_hidden_layers": 1,
          **LARGE_EPS},
         without={"epsilon": USUAL_EPS}),
    Spec("qwen2", "qwen2", 5, {"rope_parameters": BASE_1M},
         without={"biases": drop(".bias"), "rope base": {"rope_parameters": PLAIN_ROPE}}),
    Spec("qwen2-yarn", "qwen2", 6, {"rope_parameters": YARN}, types=("f32",),
         without={"rope scaling": {"rope_parameters": PLAIN_ROPE},
                  "YaRN's factor on cos and sin": {
                      "rope_parameters": {**YARN, "attention_factor": 1.0}}}),
    # head_dim 32 where n_embd / n_head is 16.
    Spec("qwen3", "qwen3", 7, {"head_dim": 32, "rope_parameters": BASE_1M, **LARGE_EPS},
         without={"q and k norms' weights": drop("q_norm.weight", "k_norm.weight"),
                  "epsilon": USUAL_EPS}),
]

HF_CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


def make_config(spec, **changes):
    shape = {
        "vocab_size": N_VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": N_CTX,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": PLAIN_ROPE,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
    }
    return HF_CLASSES[spec.arch][0](**{**shape, **spec.config, **changes})


def draw_weights(spec):
    """Random weights by name, in float32, that keep every activation near 1.

    Attention scores get a deviation of about 1: sharp enough for positions to matter,
    flat enough not to amplify the rounding of 8-bit activations.
    """
    config = make_config(spec)
    shapes = {n: p.shape for n, p in HF_CLASSES[spec.arch][1](config).named_parameters()}
    rng = np.random.default_rng(spec.seed)
    weights = {}
    for name in sorted(shapes):
        x = rng.standard_normal(tuple(shapes[name]), dtype=np.float64)
        if name.endswith("norm.weight"):
            x = 1.0 + 0.2 * x
        elif name.endswith(".bias"):
            x *= 0.5
        elif name.endswith("embed_tokens.weight"):
            x *= 0.5 if config.tie_word_embeddings else 1.0
        else:
            x /= math.sqrt(x.shape[-1])
        weights[name] = x.astype(np.float32)
    return weights


def make_tokens():
    """<s>, then a fixed walk through the vocabulary with some tokens repeated."""
    rng = np.random.default_rng(1234)
    tokens = rng.integers(3, N_VOCAB, N_TOKENS)
    tokens[0] = 1
    tokens[20:24] = tokens[4:8]
    return [int(t) for t in tokens]


TOKENS = make_tokens()


# ---- transformers ----


class HalfCache(DynamicCache):
    """A KV cache that holds IEEE half precision, as weir and llama.cpp do by default."""

    def update(self, key_states, value_states, *args, **kwargs):
        half = [x.half().to(x.dtype) for x in (key_states, value_states)]
        return super().update(*half, *args, **kwargs)


def logits_of(spec, weights, config=None, edit=None, cache=None):
    """[n_tokens][n_vocab] float32."""
    config = config or make_config(spec)
    model = HF_CLASSES[spec.arch][1](config).double().eval()
    state = {n: torch.from_numpy(w.astype(np.float64)) for n, w in weights.items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    if edit:
        edit(state)
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        out = model(torch.tensor([TOKENS]), past_key_values=cache, use_cache=cache is not None)
    return out.logits[0].float().numpy()


def change(a, b):
    """max |a - b| / max |a|"""
    return float(np.abs(a.astype(np.float64) - b).max() / np.abs(a).max())


def logits_without(spec, weights, how):
    if callable(how):
        return logits_of(spec, weights, edit=how)
    return logits_of(spec, weights, config=make_config(spec, **how))


# ---- GGUF ----


def rows_to_pairs(x, n_head):
    """Rows of q or k from rotate_half order (i, i + n/2) to the llama layout's (2i, 2i+1)."""
    return x.reshape(n_head, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def rows_from_pairs(x, n_head):
    return x.reshape(n_head, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def reorder(spec, config, name, x, fn):
    if spec.arch == "llama" and "q_proj" in name:
        return fn(x, config.num_attention_heads)
    if spec.arch == "llama" and "k_proj" in name:
        return fn(x, config.num_key_value_heads)
    return x


def gguf_name(spec, config, name):
    arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[spec.arch]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    return names.get_name(name, try_suffixes=(".weight", ".bias"))


def add_vocabulary(w):
    """A SentencePiece vocabulary that any text can be written in, byte by byte."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [gguf.TokenType.UNKNOWN] + 2 * [gguf.TokenType.CONTROL] + 256 * [gguf.TokenType.BYTE]
    words = ["▁"] + [chr(ord("a") + i) for i in range(26)] + ["▁a", "▁the"]
    tokens += words
    types += len(words) * [gguf.TokenType.NORMAL]
    assert len(tokens) == N_VOCAB
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(words))])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)


def llama3_factors(config):
    """rope_freqs.weight: what each pair's angle is divided by (Llama 3.1's scaling)."""
    r = config.rope_parameters
    dim = config.head_dim
    old = r["original_max_position_embeddings"]
    factors = []
    for i in range(0, dim, 2):
        wavelen = 2 * math.pi * r["rope_theta"] ** (i / dim)
        smooth = (old / wavelen - r["low_freq_factor"]) / (
            r["high_freq_factor"] - r["low_freq_factor"])
        smooth = min(max(smooth, 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / r["factor"] + smooth))
    assert min(factors) == 1 and max(factors) == r["factor"] and len(set(factors)) > 2
    return np.array(factors, dtype=np.float32)


def write_gguf(spec, weights, path, qtype):
    config = make_config(spec)
    w = gguf.GGUFWriter(path, spec.arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"weir golden {spec.name}")
    w.add_license("mit")
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    w.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if spec.arch == "llama":
        w.add_vocab_size(config.vocab_size)
        w.add_rope_dimension_count(config.head_dim)
    if spec.arch == "qwen3":
        w.add_key_length(config.head_dim)
        w.add_value_length(config.head_dim)
    w.add_file_type({
        gguf.GGMLQuantizationType.F32: gguf.LlamaFileType.ALL_F32,
        gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    }[qtype])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_vocabulary(w)
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(config))
    for name, x in weights.items():
        x = reorder(spec, config, name, x, rows_to_pairs)
        t = qtype if x.ndim == 2 else gguf.GGMLQuantizationType.F32
        w.add_tensor(gguf_name(spec, config, name), gguf.quants.quantize(x, t), raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read_weights(spec, names, path):
    """The weights that a GGUF holds, under transformers' names and in its row order."""
    config = make_config(spec)
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    weights = {}
    for name in names:
        t = tensors[gguf_name(spec, config, name)]
        x = gguf.quants.dequantize(t.data, t.tensor_type)
        weights[name] = np.array(reorder(spec, config, name, x, rows_from_pairs))
    return weights


# ---- commands ----


def check_features(spec, weights, logits):
    moved = {f: change(logits, logits_without(spec, weights, how))
             for f, how in spec.without.items()}
    for feature, x in moved.items():
        if x < FEATURE_MATTERS:
            raise SystemExit(f"{spec.name}: {feature} moves the logits by {x:.1e} only: "
                             "weir could ignore it and pass; draw other weights")
    return moved


def make(out):
    lines = []
    for spec in MODELS:
        drawn = draw_weights(spec)
        for t in spec.types:
            qtype = gguf.GGMLQuantizationType[t.upper()]
            model = f"{spec.name}.{t}.gguf"
            vector = f"{spec.name}.{t}.logits.f32"
            write_gguf(spec, drawn, out / model, qtype)
            weights = read_weights(spec, drawn, out / model)
            if t == "f32":
                assert all(np.array_equal(weights[n], drawn[n]) for n in drawn)
            logits = logits_of(spec, weights)
            check_features(spec, weights, logits)
            logits.astype("<f4").tofile(out / vector)
            kind = "exact" if t == "f32" else "close"
            lines.append(f"file {kind} {spec.name}.{t} {vector} {N_VOCAB} {model}")
            print(lines[-1])
    text = ["# made by make_hf.py; README.md says what the fields mean",
            "tokens " + ",".join(map(str, TOKENS))] + lines
    (out / "hf.manifest").write_text("\n".join(text) + "\n")


def report():
    print("max |change| / max |logit|")
    for spec in MODELS:
        weights = draw_weights(spec)
        logits = logits_of(spec, weights)
        half = change(logits, logits_of(spec, weights, cache=HalfCache()))
        print(f"{spec.name:14} max |logit| {np.abs(logits).max():.2f}  16-bit KV cache {half:.1e}"
              + "".join(f"  without {f} {x:.2f}"
                        for f, x in check_features(spec, weights, logits).items()))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent,
                   help="folder to write to (default: where this script is)")
    p.add_argument("--report", action="store_true", help="write nothing, print sensitivities")
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.report:
        report()
    else:
        make(args.out)


if __name__ == "__main__":
    main()
