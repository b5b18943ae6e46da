# SPDX-License-Identifier: MIT
"""Prompts on resident models: weir in both layouts, llama.cpp repacked, its best."""
from machine import llama, medians, packed, say, synth, weir_bench

LENGTHS = (128, 512)


def measure_length(a, model, n):
    rounds = []
    for i in range(a.rounds):
        plain = weir_bench(a, model, "-p", n, "-n", 1)
        peer = llama(a, model, "-p", n, "-n", 0, "--repack")
        pack = weir_bench(a, packed(model), "-p", n, "-n", 1)
        rounds.append({"plain_tok_s": plain["prompt_tok_s"], "packed_tok_s": pack["prompt_tok_s"],
                       "llama_tok_s": peer and peer["prompt_tok_s"]})
        say(f"{model.name}, prompt of {n}, round {i + 1}: {rounds[-1]}")
    return medians(rounds)


def measure(a):
    result = {}
    for shape in ("1b", a.large):
        model = synth(a, shape)
        result[shape] = {str(n): measure_length(a, model, n) for n in LENGTHS}
        packed(model).unlink()
    return result


def report(a, result):
    lines = ["## Prompts", "",
             f"Tokens/s of a prompt, Q4_0, resident; llama.cpp repacked, without AMX. {a.rounds} rounds, medians.",
             "", "| model | prompt | weir, file layout | weir, packed | llama.cpp | weir : llama.cpp |",
             "|---|---|---|---|---|---|"]
    for shape, lengths in result.items():
        for n, m in lengths.items():
            best = max(m["plain_tok_s"], m["packed_tok_s"])
            peer = f"{m['llama_tok_s']:.1f} | {best / m['llama_tok_s']:.2f}" if m["llama_tok_s"] else "failed |"
            lines.append(f"| {shape} | {n} | {m['plain_tok_s']:.1f} | {m['packed_tok_s']:.1f} | {peer} |")
    return lines
