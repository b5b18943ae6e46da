# SPDX-License-Identifier: MIT
"""From a cold start to the first token, against the time that fio needs for the same bytes."""
from machine import disk_of, drop_cache, fio, llama, medians, say, share, synth, touch_memory, weir_bench


def turn(a, model, memory, rate):
    before = fio(model, *a.fio, a.fio_seconds, rate)
    drop_cache()
    taken = touch_memory(memory or model.stat().st_size)
    w = weir_bench(a, model, "-p", 0, "-n", 1, memory=memory, rate=rate)
    flash = (before + fio(model, *a.fio, a.fio_seconds, rate)) / 2
    drop_cache()
    touch_memory(memory or model.stat().st_size)
    peer = llama(a, model, "-p", 1, "-n", 0, memory=memory, rate=rate)
    least = w["sweep_bytes"] / flash * 1e-9
    return {"fio_gb_s": flash, "least_s": least, "load_s": w["load_s"], "weir_s": w["first_token_s"],
            "ratio": w["first_token_s"] / least, "memory_gb_s": taken * 1e-9,
            "llama_s": peer and peer["first_token_s"]}


def measure(a):
    model = synth(a, a.large)
    held = (disk_of(model), a.throttle)
    result = {}
    for i in range(a.rounds):
        for name, memory, rate in (("resident, flash held", None, held),
                                   ("cgroup, flash held", a.cgroup, held),
                                   ("resident, flash as it is", None, None),
                                   ("cgroup, flash as it is", a.cgroup, None)):
            result.setdefault(name, []).append(turn(a, model, memory, rate))
            say(f"first token, {name}, round {i + 1}: {result[name][-1]}")
    return {name: medians(rounds) for name, rounds in result.items()}


def report(a, result):
    lines = ["## Cold start to the first token", "",
             f"{a.shape_name} in Q4_0, page cache dropped, a prompt of one token; in all of memory, and in the"
             f" {a.cgroup / 2**30:g} GiB cgroup; flash held at {a.throttle / 1e9:g} GB/s, and as it is. *Least* is"
             " the bytes that a pass reads divided by fio's rate, measured just before and after. Memory is taken"
             " and given back before each run, up to four times, at a rate of *memory* the last time: a"
             " hypervisor that has to find it first would be what is measured, and is, where that rate is near"
             f" flash's or below it. {a.rounds} rounds, medians.", "",
             "| | fio GB/s | memory GB/s | least s | weir: loaded after s | first token after s | of least"
             " | llama.cpp, mmap, s |",
             "|---|---|---|---|---|---|---|---|"]
    for name, m in result.items():
        peer = f"{m['llama_s']:.2f}" if m["llama_s"] else "failed"
        lines.append(f"| {name} | {m['fio_gb_s']:.2f} | {m['memory_gb_s']:.1f} | {m['least_s']:.2f}"
                     f" | {m['load_s']:.2f} | {m['weir_s']:.2f} | {share(m['ratio'])} | {peer} |")
    return lines
