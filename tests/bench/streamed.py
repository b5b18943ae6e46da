# SPDX-License-Identifier: MIT
"""Decode of a model that DRAM does not hold: weir and llama.cpp in the same cgroup, beside fio."""
from machine import TREE, disk_of, drop_cache, dram, fio, llama, medians, say, share, synth, weir_bench
from timeline import Timeline, draw

BUDGETS = (25, 50, 75)


def limit_tok_s(run, flash, dram_gb_s):
    t_flash = run["stream_bytes"] / (flash * 1e9)
    t_dram = (run["sweep_bytes"] + run["stream_bytes"]) / (dram_gb_s * 1e9)
    return 1 / max(t_flash, t_dram)


def turn(a, model, memory, budget, rate, dram_gb_s):
    before = fio(model, *a.fio, a.fio_seconds, rate)
    drop_cache()
    options = ["--budget", budget] if budget else []
    w = weir_bench(a, model, "-p", 0, "-n", a.n, *options, memory=memory, rate=rate)
    flash = (before + fio(model, *a.fio, a.fio_seconds, rate)) / 2
    drop_cache()
    peer = llama(a, model, "-n", a.peer_n, memory=memory, rate=rate)
    limit = limit_tok_s(w, flash, dram_gb_s)
    return {
        "fio_gb_s": flash,
        "limit_tok_s": limit,
        "weir_tok_s": w["decode_tok_s"],
        "limit_share": w["decode_tok_s"] / limit,
        "flash_gb_s": w["flash_gb_s"],
        "flash_share": w["flash_gb_s"] / flash,
        "llama_tok_s": peer["decode_tok_s"] if peer else None,
        "stall_share": w["stall_share"],
        "pool_bytes": w["pool_bytes"],
        "stream_bytes": w["stream_bytes"],
        "sweep_bytes": w["sweep_bytes"],
        "peak_rss_bytes": w["peak_rss_bytes"],
    }


def case(a, model, memory, budget, rate, dram_gb_s):
    """fio, weir, fio and llama.cpp take turns: the medians, and the single rounds."""
    rounds = []
    for i in range(a.rounds):
        rounds.append(turn(a, model, memory, budget, rate, dram_gb_s))
        say(f"streamed, {budget or 'cgroup'}, round {i + 1}: "
            + ", ".join(f"{k} {v:.3f}" for k, v in rounds[-1].items() if isinstance(v, float)))
    m = medians(rounds)
    # the table's ratios are of the medians that it shows
    m["limit_share"] = m["weir_tok_s"] / m["limit_tok_s"]
    m["flash_share"] = m["flash_gb_s"] / m["fio_gb_s"]
    return {"median": m, "rounds": rounds}


def measure(a):
    model = synth(a, a.large)
    rate = (disk_of(model), a.throttle)
    dram_gb_s = dram(a)
    result = {
        "dram_gb_s": dram_gb_s,
        "held": case(a, model, a.cgroup, None, rate, dram_gb_s),
        "free": case(a, model, a.cgroup, None, None, dram_gb_s),
        "budget": {},
    }
    size = model.stat().st_size
    for percent in BUDGETS:
        memory = int(size * percent / 100 * 1.1) + (256 << 20)
        result["budget"][f"{percent}%"] = case(a, model, memory, f"{percent}%", rate, dram_gb_s)
    return result


# ---- the time line ----

TIMELINE_TOKENS = 3


def record(a, model, rate):
    path = a.dir / "timeline.json"
    before = fio(model, *a.fio, a.fio_seconds, rate)
    drop_cache()
    weir_bench(a, model, "-p", 0, "-n", TIMELINE_TOKENS + 1, "--timeline", path, memory=a.cgroup, rate=rate)
    line = Timeline(path)
    return line, {**line.shares(), "fio_gb_s": (before + fio(model, *a.fio, a.fio_seconds, rate)) / 2}


def measure_timeline(a):
    model = synth(a, a.large)
    _, held = record(a, model, (disk_of(model), a.throttle))
    line, free = record(a, model, None)
    draw(line, TREE / "docs" / "benchmarks-timeline.svg")
    return {f"held at {a.throttle / 1e9:g} GB/s": held, "as it is": free}


def report_timeline(a, result):
    lines = ["## Time line of streamed decode", "",
             f"{TIMELINE_TOKENS} tokens in a row in the {a.cgroup / 2**30:g} GiB cgroup, as `weir bench --timeline`"
             " recorded them; the picture is of flash as it is.", "",
             "![passes, arithmetic, waits and reads in flight over time](benchmarks-timeline.svg)", "",
             "| flash | token s | computes | waits for flash | a read in flight | computing, of it with a read in"
             " flight | reads a token | flash GB/s | of fio |",
             "|---" * 9 + "|"]
    for name, m in result.items():
        lines.append(f"| {name} | {m['pass_s']:.3f} | {share(m['compute'])} | {share(m['wait'])}"
                     f" | {share(m['flash_busy'], 2)} | {share(m['overlap'], 2)} | {m['reads']:.0f}"
                     f" | {m['flash_gb_s']:.2f} | {share(m['flash_gb_s'] / m['fio_gb_s'])} |")
    m = result["as it is"]
    lines += ["",
              f"A read was in flight {share(m['flash_busy'], 2)} of the time: while a layer was computed, and from"
              " one token to the next, since the first layers of the next token are read while the last ones of"
              f" this are computed. {share(m['overlap'], 2)} of the arithmetic ran while reads were in flight. A"
              " read ends here when weir takes it in, which is after the operation that was running when it"
              " arrived."]
    return lines


# ---- words and pictures ----

def plot(path, curve):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "weir"
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.2))
    x = [c["pool_bytes"] / 1e9 for c in curve]
    ax.plot(x, [c["limit_tok_s"] for c in curve], "--", color="0.45", label="limit of flash and DRAM")
    ax.plot(x, [c["weir_tok_s"] for c in curve], "o-", color="#0b6e99", label="weir")
    pts = [(xx, c["llama_tok_s"]) for xx, c in zip(x, curve) if c["llama_tok_s"]]
    if pts:
        ax.plot(*zip(*pts), "s-", color="#c2571a", label="llama.cpp, mmap, same memory cgroup")
    ax.set_xlabel(f"DRAM for weights, GB (of {curve[0]['sweep_bytes'] / 1e9:.2f} GB)")
    ax.set_ylabel("decoded tokens/s")
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend()
    fig.tight_layout()
    fig.savefig(path, metadata={"Date": None})


def case_tables(result):
    """One case: the medians, then the single rounds."""
    m = result["median"]
    lines = [
        "| | tokens/s | of the limit | flash GB/s | of fio |",
        "|---|---|---|---|---|",
        f"| limit (fio {m['fio_gb_s']:.2f} GB/s) | {m['limit_tok_s']:.3f} | | | |",
        f"| weir | {m['weir_tok_s']:.3f} | {share(m['limit_share'])} | {m['flash_gb_s']:.2f} |"
        f" {share(m['flash_share'])} |",
    ]
    if m["llama_tok_s"]:
        lines.append(f"| llama.cpp, mmap | {m['llama_tok_s']:.3f} |"
                     f" {share(m['llama_tok_s'] / m['limit_tok_s'])} | | |")
        lines += ["", f"weir is {m['weir_tok_s'] / m['llama_tok_s']:.1f} times as fast. It waits for flash"
                  f" {share(m['stall_share'], 0)} of the time, and peaks at"
                  f" {m['peak_rss_bytes'] / 1e9:.2f} GB of memory."]
    lines += ["", "| round | fio GB/s | limit tokens/s | weir tokens/s | of the limit | flash of fio"
              " | llama.cpp tokens/s |", "|---|---|---|---|---|---|---|"]
    for i, r in enumerate(result["rounds"]):
        llama_speed = f"{r['llama_tok_s']:.3f}" if r["llama_tok_s"] else "failed"
        lines.append(f"| {i + 1} | {r['fio_gb_s']:.2f} | {r['limit_tok_s']:.3f} | {r['weir_tok_s']:.3f} |"
                     f" {share(r['limit_share'])} | {share(r['flash_share'])} | {llama_speed} |")
    return lines


def report(a, result):
    held = result["held"]["median"]
    rate = f"{a.throttle / 1e9:g} GB/s"
    lines = [
        f"## Streamed decode: {a.shape_name} in Q4_0 in a {a.cgroup / 2**30:g} GiB memory cgroup",
        "",
        f"W = {held['sweep_bytes'] / 1e9:.2f} GB are read per token, {held['pool_bytes'] / 1e9:.2f} GB is the pool,"
        f" {held['stream_bytes'] / 1e9:.2f} GB stream. {a.rounds} rounds, {a.n} tokens each, {a.threads} threads,"
        f" medians. `weir bench -p 0 -n {a.n}`, budget chosen by weir; DRAM read"
        f" {result['dram_gb_s']:.1f} GB/s.",
        "",
        f"### Flash held at {rate}",
        "",
        "By a block-I/O cgroup, for all programs alike.",
        "",
        *case_tables(result["held"]),
        "",
        "### Flash as it is",
        "",
        "Where other users of the disk come and go, its rate during weir's turn is another one than"
        " during fio's, and a share may exceed 100%.",
        "",
        *case_tables(result["free"]),
        "",
        "### Speed against budget",
        "",
        f"The same model, flash held at {rate}, the memory cgroup 10% and 256 MiB larger than the budget.", "",
        "![tokens per second against DRAM budget](benchmarks.svg)", "",
        "| budget | pool GB | limit tokens/s | weir tokens/s | of the limit | flash of fio | llama.cpp tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    curve = {**{b: c["median"] for b, c in result["budget"].items()},
             f"{a.cgroup / 2**30:g} GiB cgroup": held}
    for name, c in sorted(curve.items(), key=lambda item: item[1]["pool_bytes"]):
        llama_speed = f"{c['llama_tok_s']:.3f}" if c["llama_tok_s"] else "killed: out of memory"
        lines.append(f"| {name} | {c['pool_bytes'] / 1e9:.2f} | {c['limit_tok_s']:.3f} | {c['weir_tok_s']:.3f} |"
                     f" {share(c['limit_share'])} | {share(c['flash_share'])} | {llama_speed} |")
    plot(TREE / "docs" / "benchmarks.svg", [c["median"] for c in result["budget"].values()])
    return lines
