#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make weir-demo.gguf, the small English language model that ships with weir.

The whole way from nothing to the GGUF file, from one seed:

1. fetch two Debian packages (apt-get download, nothing is installed):
   r-cran-janeaustenr (the six novels of Jane Austen, public domain) and
   sword-text-web (the World English Bible, public domain);
2. clean them to paragraphs, and hold out every 40th chapter;
3. train a SentencePiece BPE tokenizer with byte fallback;
4. train a llama-architecture transformer on the CPU: Muon for the matrices,
   AdamW for the embedding and the norms, bf16 autocast, a constant learning
   rate after warm-up and then a linear decay to zero;
5. write a GGUF v3 file: the matrices Q8_0, the norms F32.  The model is
   trained with rotary pairs (2i, 2i+1), the order GGUF's llama layout wants,
   so no row is permuted;
6. read the file back, and compare its logits and held-out loss with those of
   the trained model.

It needs a Debian system with apt-get, dpkg-deb and a C++ compiler (--eager
does without the compiler), and requirements.txt.  The default run takes about
half an hour on two cores with bf16 matrix instructions (AMX), and several times
that without them or on a busy machine.  Everything random comes from --seed:
two runs on one machine with the same package versions and --threads do the
same.  Another machine rounds differently, and ends with a slightly different
model of the same quality.

    python3 -m pip install -r requirements.txt
    python3 train.py --work work --out weir-demo.gguf

A run that was stopped goes on with --resume, which changes nothing in what it
computes; --export-only writes the GGUF again from the last checkpoint.
"""

import argparse
import bz2
import dataclasses
import html
import lzma
import math
import re
import struct
import subprocess
import time
import zlib
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from torch import nn

PACKAGES = ("r-cran-janeaustenr", "sword-text-web")
HELD_OUT_EVERY = 40
BOS, EOS = 1, 2


@dataclasses.dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocab: int = 4096
    context: int = 512
    dim: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 768
    rope_base: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.dim // self.heads


# ---------------------------------------------------------------- the corpus


def fetch_packages(work):
    """Download and unpack the corpus packages below work."""
    for name in PACKAGES:
        root = work / name
        if root.is_dir():
            continue
        subprocess.run(["apt-get", "download", name], cwd=work, check=True)
        [deb] = work.glob(f"{name}_*.deb")
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)


def tidy(text):
    """One paragraph in plain ASCII punctuation and single spaces."""
    for old, new in (("\u2018", "'"), ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'),
                     ("\u2014", "--"), ("\u2013", "-"), ("\u2026", "..."), ("_", "")):
        text = text.replace(old, new)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ([,.;:?!])", r"\1", text).strip()


def r_strings(data):
    """The strings of a serialized R character vector (the XDR form)."""
    at = data.index(b"\0\0\0\x10") + 4  # STRSXP
    [count] = struct.unpack_from(">i", data, at)
    at += 4
    for _ in range(count):
        [length] = struct.unpack_from(">i", data, at + 4)
        at += 8
        yield data[at:at + max(length, 0)].decode("utf-8")
        at += max(length, 0)


def read_austen(root):
    """The novels, as a list of chapters; a chapter is a list of paragraphs."""
    data = next(root.glob("**/janeaustenr/data/Rdata.rdb")).read_bytes()
    chapters = []
    while data:  # each record: a length, and one compressed stream
        if data[4:5] == b"2":
            stream, skip = bz2.BZ2Decompressor(), 5
        elif data[4:5] == b"Z":
            lzma2 = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}
            stream, skip = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma2]), 5
        else:
            stream, skip = zlib.decompressobj(), 4
        lines = r_strings(stream.decompress(data[skip:]))
        data = stream.unused_data

        text = "\n".join(line.rstrip() for line in lines)
        for chapter in re.split(r"\n(?:CHAPTER|Chapter) .*\n", text)[1:]:
            chapter = re.sub(r"\n(?:VOLUME|Volume|FINIS|Finis|THE END|END OF).*", "\n", chapter)
            paragraphs = [tidy(p) for p in re.split(r"\n\s*\n", chapter)]
            chapters.append([p for p in paragraphs if p])
    return chapters


def read_bible(root):
    """The World English Bible in the same form, without notes and titles."""
    chapters = []
    for testament in ("ot", "nt"):
        index = next(root.glob(f"**/{testament}.bzs")).read_bytes()
        blocks = next(root.glob(f"**/{testament}.bzz")).read_bytes()
        for offset, size, _ in struct.iter_unpack("<III", index):
            book = zlib.decompress(blocks[offset:offset + size]).decode("utf-8")
            book = re.sub(r'<div [^>]*type="glossary".*', "", book, flags=re.S)
            book = re.sub(r"<(note|title|speaker)\b.*?</\1>", " ", book, flags=re.S)
            for chapter in re.split(r"<chapter [^>]*sID=[^>]*>", book)[1:]:
                chapter = re.sub(r'<(?:div [^>]*type="x-p"|lg|lb)[^>]*>', "\n", chapter)
                chapter = re.sub(r"<l [^>]*>", " ", chapter)
                chapter = html.unescape(re.sub(r"<[^>]*>", "", chapter))
                paragraphs = [tidy(p) for p in chapter.split("\n")]
                chapters.append([p for p in paragraphs if p])
    return chapters


def read_corpus(work):
    """Chapters to train on, and chapters held out."""
    fetch_packages(work)
    chapters = read_austen(work / PACKAGES[0]) + read_bible(work / PACKAGES[1])
    chapters = [c for c in chapters if c]
    train = [c for i, c in enumerate(chapters) if i % HELD_OUT_EVERY != HELD_OUT_EVERY // 2]
    held = chapters[HELD_OUT_EVERY // 2::HELD_OUT_EVERY]
    return train, held


# ------------------------------------------------------------- the tokenizer


def train_tokenizer(chapters, vocab, path):
    """Train the SentencePiece model at path (unless it is there), and load it."""
    if not path.exists():
        with path.open("wb") as out:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(p for c in chapters for p in c),
                model_writer=out,
                model_type="bpe",
                vocab_size=vocab,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                split_digits=True,
                character_coverage=0.9999,
                required_chars="".join(map(chr, range(33, 127))),
                max_sentence_length=1 << 16,
                num_threads=1,
                unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1,
                minloglevel=1,
            )
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


class Tokens:
    """The chapters as one stream of tokens that can be entered at a paragraph.

    Within a chapter a paragraph follows a newline, where the tokenizer puts no
    space before it; at the start of a text it does.  Both forms are kept, so
    that every training window looks like a text that was tokenized by itself.
    """

    def __init__(self, chapters, sp):
        stream, starts, ends, self.opening = [], [], [], []
        for chapter in chapters:
            for i, paragraph in enumerate(chapter):
                opening = sp.encode(paragraph)
                # "\n" ends the piece of the leading space, which goes first.
                inner = opening if i == 0 else sp.encode("\n" + paragraph)[1:]
                starts.append(len(stream))
                stream += ([BOS] + inner) if i == 0 else inner
                ends.append(len(stream))
                self.opening.append(np.array([BOS] + opening))
            stream.append(EOS)
        self.stream = np.array(stream)
        self.starts, self.ends = np.array(starts), np.array(ends)

    def window(self, at, length):
        """length tokens from the first paragraph that starts at or after at."""
        i = int(np.searchsorted(self.starts, at))
        i = min(i, len(self.starts) - 1)
        while i and len(self.stream) - self.ends[i] < length:
            i -= 1
        rest = self.stream[self.ends[i]:self.ends[i] + length]
        return np.concatenate([self.opening[i], rest])[:length]

    def epoch(self, length, seed):
        """All of the stream once, cut into windows, in an order set by seed."""
        rng = np.random.default_rng(seed)
        at = np.arange(rng.integers(length), len(self.stream) - length, length)
        return [self.window(a, length + 1) for a in rng.permutation(at)]

    def batches(self, length, size, seed):
        """Batches without end, one epoch after another."""
        epoch, pending = 0, []
        while True:
            while len(pending) < size:
                pending += self.epoch(length, (seed, epoch))
                epoch += 1
            yield torch.from_numpy(np.stack(pending[:size]))
            pending = pending[size:]


# ----------------------------------------------------------------- the model


def rope_tables(config):
    """The cosine and the sine of every position and pair."""
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float64)
    angle = torch.outer(torch.arange(config.context, dtype=torch.float64),
                        config.rope_base ** (-pair / config.head_dim))
    return torch.stack((angle.cos(), angle.sin())).float()


def halves(heads, head_dim):
    """The order of rows that puts the first of each pair before the second.

    The weights keep the pairs (2i, 2i+1) of the file.  The order of the rows
    in a head, the same for q and k, does not change q times k, and to rotate
    two halves is a good deal faster than to rotate neighbours.
    """
    return torch.arange(heads * head_dim).view(heads, head_dim // 2, 2).transpose(1, 2).flatten()


def rotate(x, tables):
    """Rotate the pairs (i, i + head_dim / 2) of x[batch, token, head, dim]."""
    cos, sin = tables[:, :x.shape[1], None]
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.dim))
        self.eps = config.eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, self.c = config, config

        def linear(rows_in, rows_out):
            return nn.Linear(rows_in, rows_out, bias=False)

        self.attn_norm = Norm(c)
        self.attn_q = linear(c.dim, c.heads * c.head_dim)
        self.attn_k = linear(c.dim, c.kv_heads * c.head_dim)
        self.attn_v = linear(c.dim, c.kv_heads * c.head_dim)
        self.attn_output = linear(c.heads * c.head_dim, c.dim)
        self.ffn_norm = Norm(c)
        self.ffn_gate = linear(c.dim, c.ffn)
        self.ffn_up = linear(c.dim, c.ffn)
        self.ffn_down = linear(c.ffn, c.dim)
        self.register_buffer("q_order", halves(c.heads, c.head_dim), persistent=False)
        self.register_buffer("k_order", halves(c.kv_heads, c.head_dim), persistent=False)

    def forward(self, x, tables):
        c = self.c
        h = self.attn_norm(x)
        q = F.linear(h, self.attn_q.weight[self.q_order]).unflatten(-1, (c.heads, c.head_dim))
        k = F.linear(h, self.attn_k.weight[self.k_order]).unflatten(-1, (c.kv_heads, c.head_dim))
        q, k = rotate(q, tables), rotate(k, tables)
        v = self.attn_v(h).unflatten(-1, (c.kv_heads, c.head_dim))
        k, v = (t.repeat_interleave(c.heads // c.kv_heads, 2) for t in (k, v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(h.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    """The parameters are named as their GGUF tensors; the output is tied."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocab, config.dim)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = Norm(config)
        self.register_buffer("tables", rope_tables(config), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * config.layers) if last else 1))

    def forward(self, ids):
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, self.tables)
        return F.linear(self.output_norm(x), self.token_embd.weight)

    def loss(self, batch):
        logits = self(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


# ------------------------------------------------------------------ training


def learning_rate(step, args):
    """The factor at step: warm-up, a plateau, a linear decay to zero."""
    decay = max(1, round(args.steps * args.decay))
    return min((step + 1) / args.warmup, 1.0, (args.steps - step) / decay)


@torch.no_grad()
def held_out_loss(model, windows, size=16):
    model.eval()
    with autocast():
        losses = [model.loss(windows[i:i + size]) * len(windows[i:i + size])
                  for i in range(0, len(windows), size)]
    model.train()
    return float(sum(losses)) / len(windows)


def train(model, tokens, held, args):
    """Train to args.steps; return the mean loss of the last 100 steps."""
    checkpoint = args.work / "checkpoint.pt"
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blk.")]
    norms = [p for p in model.parameters() if p.dim() == 1]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=args.weight_decay,
                         momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([{"params": [model.token_embd.weight], "weight_decay": 0.01},
                           {"params": norms, "weight_decay": 0.0}],
                          lr=args.lr, betas=(0.9, 0.95), eps=1e-10),
    ]
    first, recent = 0, []
    if args.resume:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        first, recent = state["step"], state["recent"]
        if first > args.steps - round(args.steps * args.decay):
            print("note: the checkpoint lies in the decay; --steps must be as it was")

    step_loss = model.loss if args.eager else torch.compile(model.loss)
    began = time.time()
    batches = tokens.batches(model.config.context, args.batch, args.seed)
    for step, batch in zip(range(args.steps), batches):
        if step < first:
            continue
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * learning_rate(step, args)
        with autocast():
            loss = step_loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = (recent + [float(loss.detach())])[-100:]

        done = step + 1
        if done % 50 == 0:
            rate = (done - first) * batch[:, 1:].numel() / (time.time() - began)
            print(f"step {done} loss {np.mean(recent):.4f} {rate:.0f} tokens/s", flush=True)
        if done % args.every == 0 or done == args.steps:
            print(f"step {done} held-out loss {held_out_loss(model, held):.4f}", flush=True)
            torch.save({"model": model.state_dict(), "step": done, "recent": recent,
                        "optimizers": [o.state_dict() for o in optimizers]}, checkpoint)
    return float(np.mean(recent))


# ---------------------------------------------------------------------- GGUF


def write_gguf(model, sp, path):
    """Write the model and its tokenizer to path."""
    c = model.config
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("weir demo")
    out.add_description("A small model of Jane Austen's novels and the World English Bible")
    out.add_license("mit")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_vocab_size(c.vocab)
    out.add_context_length(c.context)
    out.add_embedding_length(c.dim)
    out.add_block_count(c.layers)
    out.add_feed_forward_length(c.ffn)
    out.add_head_count(c.heads)
    out.add_head_count_kv(c.kv_heads)
    out.add_rope_dimension_count(c.head_dim)
    out.add_rope_freq_base(c.rope_base)
    out.add_layer_norm_rms_eps(c.eps)

    kinds = []
    for i in range(c.vocab):
        kinds.append(gguf.TokenType.UNKNOWN if sp.is_unknown(i)
                     else gguf.TokenType.CONTROL if sp.is_control(i)
                     else gguf.TokenType.BYTE if sp.is_byte(i)
                     else gguf.TokenType.NORMAL)
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list([sp.id_to_piece(i).encode("utf-8") for i in range(c.vocab)])
    out.add_token_scores([sp.get_score(i) for i in range(c.vocab)])
    out.add_token_types(kinds)
    out.add_bos_token_id(BOS)
    out.add_eos_token_id(EOS)
    out.add_unk_token_id(0)
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)

    for name, p in model.state_dict().items():
        weight = p.float().numpy()
        if weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            out.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            out.add_tensor(name, weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read_gguf(path, config):
    """The model of a GGUF file that write_gguf made."""
    model = Model(config)
    state = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy())
             for t in gguf.GGUFReader(path).tensors}
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def sample(model, sp, prompt, length, temperature=0.8, top_p=0.95, seed=0):
    """Continue prompt; temperature 0 takes the likeliest token each time."""
    generator = torch.Generator().manual_seed(seed)
    ids = [BOS] + sp.encode(prompt)
    for _ in range(length):
        logits = model(torch.tensor([ids[-model.config.context:]]))[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            p, order = torch.softmax(logits / temperature, -1).sort(descending=True)
            p[p.cumsum(-1) - p > top_p] = 0
            token = int(order[torch.multinomial(p, 1, generator=generator)])
        if token == EOS:
            break
        ids.append(token)
    return sp.decode(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True,
                        help="folder for the packages, the tokenizer and the checkpoint")
    parser.add_argument("--out", type=Path, default=Path("weir-demo.gguf"))
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=8, help="windows in a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--decay", type=float, default=0.28, help="share of the steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=250,
                        help="steps between checkpoints")
    parser.add_argument("--eager", action="store_true",
                        help="do without torch.compile, which needs a C++ compiler")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--export-only", action="store_true",
                        help="do not train, write the GGUF of the checkpoint")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    args.work.mkdir(parents=True, exist_ok=True)

    config = Config()
    chapters, held_chapters = read_corpus(args.work)
    sp = train_tokenizer(chapters, config.vocab, args.work / "tokenizer.model")
    tokens, held_tokens = Tokens(chapters, sp), Tokens(held_chapters, sp)
    held = torch.from_numpy(np.stack(held_tokens.epoch(config.context, args.seed)))
    model = Model(config)
    print(f"{len(chapters)} chapters, {len(tokens.stream)} tokens; held out "
          f"{len(held_chapters)} chapters, {len(held_tokens.stream)} tokens; "
          f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    if args.export_only:
        state = torch.load(args.work / "checkpoint.pt", weights_only=True)
        model.load_state_dict(state["model"])
        last = float(np.mean(state["recent"]))
    else:
        last = train(model, tokens, held, args)
    model.eval()

    write_gguf(model, sp, args.out)
    written = read_gguf(args.out, config)
    with torch.no_grad():
        ours, theirs = model(held[:4, :-1]), written(held[:4, :-1])
        worst = float((ours - theirs).abs().max())
        agree = float((ours.argmax(-1) == theirs.argmax(-1)).float().mean())
    print(f"training loss {last:.4f}, held-out loss {held_out_loss(model, held):.4f}, "
          f"of the file {held_out_loss(written, held):.4f}")
    print(f"{args.out}: {args.out.stat().st_size} bytes; logits differ by at most "
          f"{worst:.4f}, the likeliest token agrees on {agree:.2%}")
    for prompt in ("It was a", "In the beginning", "The young lady"):
        print("---\n" + sample(written.eval(), sp, prompt, 150, seed=args.seed))


if __name__ == "__main__":
    main()
