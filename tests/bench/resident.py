# SPDX-License-Identifier: MIT
"""Decode of models that DRAM holds: file layout and packed, llama.cpp in mmap and repacked."""
from machine import llama, medians, packed, say, share, synth, weir_bench

TYPES = ("q4_0", "q4_k", "q6_k", "q8_0", "iq4_xs", "mxfp4")


def weir_turn(a, model):
    """tokens/s, GB/s of weights and KV cache, GB/s of plain reads in turns with the tokens."""
    w = weir_bench(a, model, "-p", 0, "-n", a.resident_n, "--dram")
    return w["decode_tok_s"], w["dram_share"] * w["dram_gb_s"], w["dram_gb_s"], w["sweep_bytes"]


def measure_model(a, model):
    rounds = []
    for i in range(a.rounds):
        plain, plain_gb_s, dram_plain, sweep = weir_turn(a, model)
        mapped = llama(a, model, "-n", a.resident_peer_n)
        pack, pack_gb_s, dram_pack, _ = weir_turn(a, packed(model))
        repacked = llama(a, model, "-n", a.resident_peer_n, "--repack")
        rounds.append({
            "plain_tok_s": plain, "plain_gb_s": plain_gb_s, "plain_share": plain_gb_s / dram_plain,
            "packed_tok_s": pack, "packed_gb_s": pack_gb_s, "packed_share": pack_gb_s / dram_pack,
            "dram_gb_s": (dram_plain + dram_pack) / 2, "sweep_bytes": sweep,
            "plain_dram_gb_s": dram_plain, "packed_dram_gb_s": dram_pack,
            "llama_tok_s": mapped and mapped["decode_tok_s"],
            "llama_repacked_tok_s": repacked and repacked["decode_tok_s"],
        })
        say(f"{model.name}, round {i + 1}: file {plain:.2f} ({share(rounds[-1]['plain_share'])}),"
            f" packed {pack:.2f} ({share(rounds[-1]['packed_share'])}),"
            f" llama.cpp {rounds[-1]['llama_tok_s']}, {rounds[-1]['llama_repacked_tok_s']}")
    return medians(rounds) | {"rounds": rounds}


def measure(a):
    """One type at a time: its files are removed before the next one's are written."""
    result = {}
    for kind in a.types:
        model = synth(a, a.large, kind)
        result[kind] = measure_model(a, model)
        packed(model).unlink()
        if kind != "q4_0":
            model.unlink()
    return result


def measure_small(a):
    model = synth(a, "1b")
    result = {"q4_0": measure_model(a, model)}
    packed(model).unlink()
    return result


def number(value):
    return f"{value:.2f}" if value else "failed"


def table(result):
    lines = ["| type | DRAM GB/s | limit | weir, file layout | GB/s | of DRAM | weir, packed | GB/s | of DRAM"
             " | llama.cpp, mmap | llama.cpp, repacked | best weir : best llama.cpp |",
             "|---" * 12 + "|"]
    for kind, m in result.items():
        best = max(m["llama_tok_s"] or 0, m["llama_repacked_tok_s"] or 0)
        ratio = f"{max(m['plain_tok_s'], m['packed_tok_s']) / best:.2f}" if best else ""
        lines.append(
            f"| {kind.upper()} | {m['dram_gb_s']:.1f} | {1e9 * m['dram_gb_s'] / m['sweep_bytes']:.2f}"
            f" | {m['plain_tok_s']:.2f} | {m['plain_gb_s']:.1f} | {share(m['plain_share'])}"
            f" | {m['packed_tok_s']:.2f} | {m['packed_gb_s']:.1f} | {share(m['packed_share'])}"
            f" | {number(m['llama_tok_s'])} | {number(m['llama_repacked_tok_s'])} | {ratio} |")
    return lines


def turns(result, layout):
    """What DRAM gave in a turn, and the share of it, by what it gave."""
    return " · ".join(f"{r[f'{layout}_dram_gb_s']:.0f}: {share(r[f'{layout}_share'])}"
                      for r in sorted(result["rounds"], key=lambda r: r[f"{layout}_dram_gb_s"]))


def table_of_turns(result):
    lines = ["| type | file layout, each turn's DRAM GB/s: share | packed |", "|---|---|---|"]
    for kind, m in result.items():
        lines.append(f"| {kind.upper()} | {turns(m, 'plain')} | {turns(m, 'packed')} |")
    return lines


WORDS = ("Tokens/s; *GB/s* of weights and KV cache that this is; *of DRAM*: of what plain reads by the same"
         " threads reached in turns with the tokens (`weir bench --dram`); *limit*: that rate divided by the"
         " weights.")


def report(a, result):
    return [f"## Resident decode: {a.shape_name}", "",
            f"Everything in memory, no cgroup. {a.rounds} rounds, medians; weir decodes {a.resident_n} tokens in"
            f" a run, llama.cpp {a.resident_peer_n}. {WORDS}", "", *table(result), "",
            "A machine's DRAM may give more at one time than at another, as where two cores that are lent lie in"
            " one cluster or in two. What is not reading weights takes as long in either case, and so a larger"
            " share of the faster.", "", *table_of_turns(result)]


def report_small(a, result):
    return ["## Resident decode: TinyLlama-1.1B shape", "", "As above.", "", *table(result), "",
            *table_of_turns(result)]
