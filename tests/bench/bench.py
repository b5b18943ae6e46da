#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares weir with llama.cpp and with fio on synthetic models; writes docs/benchmarks.md.

Every program runs in a memory cgroup of its own, made and removed here, so that budgets are
enforced from outside and are the same for both. The page cache is dropped before each run. The
programs take turns (A B C A B C ...) and medians are reported, because machines are shared and
noisy. The limit of a run is computed from the flash rate that fio reached just before and just
after it, with the request size and depth that served fio best, and from the DRAM rate that
`weir probe` measured:

    T = max(alpha W / B_flash, (1 + alpha) W / B_dram)

A shared disk serves at another rate from one minute to the next. So the first case is measured
twice: with the disk as it is, and with all programs in a block-I/O cgroup that holds it at
--throttle bytes/s, which every program can then reach or miss.

Needs root, for cgroups and for dropping the page cache.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
WEIR = TREE / "build" / "weir"
PYTHON = TREE / "build" / "bench-venv" / "bin" / "python"
PEER = TREE / "tests" / "bench" / "llama_peer.py"
V1 = pathlib.Path("/sys/fs/cgroup")
V2 = V1 / "unified" if (V1 / "unified" / "cgroup.controllers").exists() else V1


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def disk_of(path):
    """major:minor of the whole disk that a file lies on."""
    dev = os.stat(path).st_dev
    node = pathlib.Path(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}").resolve()
    if (node / "partition").exists():
        node = node.parent
    return (node / "dev").read_text().strip()


class Cgroup:
    """Cgroups (version 1 or 2) for one program: `memory` bytes, and `rate` = (disk, bytes/s)."""

    def __init__(self, memory=None, rate=None):
        name = f"weir-bench-{os.getpid()}"
        self.dirs = []
        if (V1 / "memory" / "memory.limit_in_bytes").exists():
            if memory:
                self.make(V1 / "memory" / name, {"memory.limit_in_bytes": memory})
            if rate:
                self.make(V1 / "blkio" / name,
                          {"blkio.throttle.read_bps_device": f"{rate[0]} {rate[1]}"})
            return
        try:
            (V2 / "cgroup.subtree_control").write_text("+memory +io")
        except OSError:
            pass
        files = {}
        if memory:
            files["memory.max"] = memory
        if rate:
            files["io.max"] = f"{rate[0]} rbps={rate[1]}"
        self.make(V2 / name, files)
        if memory and (V2 / name / "memory.swap.max").exists():
            (V2 / name / "memory.swap.max").write_text("0")

    def make(self, path, files):
        path.mkdir()
        self.dirs.append(path)
        for file, value in files.items():
            (path / file).write_text(str(value))

    def enter(self):
        for d in self.dirs:
            (d / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        for d in self.dirs:
            for _ in range(50):
                try:
                    d.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                say(f"cannot remove {d}")


def drop_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def run_json(cmd, memory=None, rate=None, timeout=900):
    """Runs a command, in cgroups where they are asked for; None where it was killed or failed."""
    drop_cache()
    group = Cgroup(memory, rate) if memory or rate else None
    try:
        p = subprocess.run([str(c) for c in cmd], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=timeout, preexec_fn=group.enter if group else None, check=False)
    except subprocess.TimeoutExpired:
        say(f"took over {timeout} s: {' '.join(map(str, cmd))}")
        return None
    finally:
        if group:
            group.close()
    if p.returncode:
        say(f"failed ({p.returncode}): {' '.join(map(str, cmd))}: {p.stderr.decode()[-300:]}")
        return None
    return json.loads(p.stdout)


def fio(path, size, depth, seconds, rate=None):
    """Sequential O_DIRECT read rate of a file in GB/s (1e9 bytes)."""
    out = run_json(["fio", "--name=r", f"--filename={path}", "--rw=read", f"--bs={size}",
                    f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", "--readonly",
                    "--time_based", f"--runtime={seconds}", "--fixedbufs=1",
                    "--output-format=json"], rate=rate)
    if out is None:
        raise SystemExit("bench: fio failed")
    return out["jobs"][0]["read"]["bw_bytes"] * 1e-9


def fio_best(path):
    """The request size and depth that serve fio best here: medians of three turns."""
    tries = [("1M", 2), ("1M", 4), ("1M", 16), ("4M", 2), ("4M", 8)]
    rates = {t: [] for t in tries}
    for _ in range(3):
        for t in tries:
            rates[t].append(fio(path, *t, 2))
    return max(tries, key=lambda t: statistics.median(rates[t]))


def synth(directory, name, *options):
    path = directory / f"weir-bench-{name}.gguf"
    if not path.exists():
        say(f"writing {path}")
        subprocess.run([WEIR, "synth", path, "-q", *options], check=True)
    return path


def limit_tok_s(run, flash, dram):
    t_flash = run["stream_bytes"] / (flash * 1e9)
    t_dram = (run["sweep_bytes"] + run["stream_bytes"]) / (dram * 1e9)
    return 1 / max(t_flash, t_dram)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def streamed_case(model, memory, budget, a, rounds, rate=None):
    """fio, weir, fio and llama.cpp take turns; one dict of medians, and the single runs."""
    runs = []
    for i in range(rounds):
        flash = fio(model, *a.fio, a.fio_seconds, rate)
        cmd = [WEIR, "bench", "--json", "-q", "-p", 0, "-n", a.n, "-t", a.threads, model]
        w = run_json(cmd + (["--budget", budget] if budget else []), memory, rate)
        if w is None:
            raise SystemExit("bench: weir bench failed")
        flash = (flash + fio(model, *a.fio, a.fio_seconds, rate)) / 2
        limit = limit_tok_s(w, flash, a.dram)
        peer = run_json([PYTHON, PEER, model, "-n", a.peer_n, "-t", a.threads], memory, rate)
        runs.append({
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
        })
        say(f"round {i + 1}: " + ", ".join(f"{k} {v:.3f}" for k, v in runs[-1].items()
                                           if isinstance(v, float)))
    m = {k: median([r[k] for r in runs]) for k in runs[0]}
    # the table's ratios are of the medians that it shows
    m["limit_share"] = m["weir_tok_s"] / m["limit_tok_s"]
    m["flash_share"] = m["flash_gb_s"] / m["fio_gb_s"]
    return m, runs


def resident_case(model, a):
    rounds = []
    for _ in range(a.rounds):
        w = run_json([WEIR, "bench", "--json", "-q", "-p", 0, "-n", 32, "-t", a.threads, model])
        p = run_json([PYTHON, PEER, model, "-n", 32, "-t", a.threads])
        r = run_json([PYTHON, PEER, model, "-n", 32, "-t", a.threads, "--repack"])
        rounds.append({"weir": w and w["decode_tok_s"], "llama": p and p["decode_tok_s"],
                       "llama_repacked": r and r["decode_tok_s"],
                       "limit": w and 1e9 * a.dram / w["sweep_bytes"]})
    return {k: median([x[k] for x in rounds]) for k in rounds[0]}


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def plot(path, curve):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "weir"
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.2))
    curve = [c for c in curve if c["budget"].endswith("%")]
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


def share(value, digits=1):
    return f"{100 * value:.{digits}f}%"


def streamed_tables(case, runs):
    """One streamed case: the medians, then the single runs."""
    lines = [
        "| | tokens/s | of the limit | flash GB/s | of fio |",
        "|---|---|---|---|---|",
        f"| limit (fio {case['fio_gb_s']:.2f} GB/s) | {case['limit_tok_s']:.3f} | | | |",
        f"| weir | {case['weir_tok_s']:.3f} | {share(case['limit_share'])} | {case['flash_gb_s']:.2f} |"
        f" {share(case['flash_share'])} |",
    ]
    if case["llama_tok_s"]:
        lines.append(f"| llama.cpp, mmap | {case['llama_tok_s']:.3f} |"
                     f" {share(case['llama_tok_s'] / case['limit_tok_s'])} | | |")
        lines += ["", f"weir is {case['weir_tok_s'] / case['llama_tok_s']:.1f} times as fast. It waits for flash"
                  f" {share(case['stall_share'], 0)} of the time, and peaks at"
                  f" {case['peak_rss_bytes'] / 1e9:.2f} GB of memory."]
    lines += ["", "| round | fio GB/s | limit tokens/s | weir tokens/s | of the limit | flash of fio"
              " | llama.cpp tokens/s |", "|---|---|---|---|---|---|---|"]
    for i, r in enumerate(runs):
        llama = f"{r['llama_tok_s']:.3f}" if r["llama_tok_s"] else "failed"
        lines.append(f"| {i + 1} | {r['fio_gb_s']:.2f} | {r['limit_tok_s']:.3f} | {r['weir_tok_s']:.3f} |"
                     f" {share(r['limit_share'])} | {share(r['flash_share'])} | {llama} |")
    return lines


def report(a, probe, free, held, curve, resident):
    mem = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    main = free[0]
    rate = f"{a.throttle / 1e9:g} GB/s"
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`tests/bench/bench.py`), as measured; the script's first comment says how.",
        "",
        f"Machine: {cpu_name()}, {os.cpu_count()} cores, {mem:.0f} GiB, Linux {platform.release().split('-')[0]}"
        f"{', ' + a.machine_note if a.machine_note else ''}. DRAM read {probe['dram_gb_s']:.1f} GB/s with"
        f" {a.threads} threads (`weir probe`); flash rates by fio (io_uring, O_DIRECT, {a.fio[0]} requests,"
        f" depth {a.fio[1]}: the best of several here) for {a.fio_seconds} s before and after each run."
        " llama.cpp is PyPI's llama-cpp-python with AVX-512, VNNI and BF16 where the CPU has them, mmap,"
        " repacking off in cgroups that its copy would not fit.",
        "",
        f"## Streamed decode: Mistral-7B shape in Q4_0 in a {a.cgroup / 2**30:.0f} GiB memory cgroup",
        "",
        f"W = {main['sweep_bytes'] / 1e9:.2f} GB are read per token, {main['pool_bytes'] / 1e9:.2f} GB is the pool,"
        f" {main['stream_bytes'] / 1e9:.2f} GB stream. {a.rounds} rounds, {a.n} tokens each, {a.threads} threads,"
        f" medians. `weir bench -p 0 -n {a.n}`, budget chosen by weir.",
        "",
        f"### Flash held at {rate}",
        "",
        "By a block-I/O cgroup, for all programs alike.",
        "",
        *streamed_tables(*held),
        "",
        "### Flash as it is",
        "",
        "Where other users of the disk come and go, its rate during weir's turn is another one than"
        " during fio's, and a share may exceed 100%.",
        "",
        *streamed_tables(*free),
    ]
    lines += ["", "## Speed against budget", "",
              f"The same model, flash held at {rate}, the memory cgroup 10% and 256 MiB larger than the budget.", "",
              "![tokens per second against DRAM budget](benchmarks.svg)", "",
              "| budget | pool GB | limit tokens/s | weir tokens/s | of the limit | flash of fio | llama.cpp tokens/s |",
              "|---|---|---|---|---|---|---|"]
    for c in curve:
        llama = f"{c['llama_tok_s']:.3f}" if c["llama_tok_s"] else "killed: out of memory"
        lines.append(f"| {c['budget']} | {c['pool_bytes'] / 1e9:.2f} | {c['limit_tok_s']:.3f} |"
                     f" {c['weir_tok_s']:.3f} | {share(c['limit_share'])} | {share(c['flash_share'])} | {llama} |")
    lines += ["", "## Resident decode", "",
              "TinyLlama-1.1B shape in Q4_0, everything in memory, no cgroup.",
              "", "| | tokens/s |", "|---|---|", f"| DRAM limit | {resident['limit']:.1f} |",
              f"| weir | {resident['weir']:.1f} |", f"| llama.cpp, weights in mmap | {resident['llama']:.1f} |"]
    if resident["llama_repacked"]:
        lines.append(f"| llama.cpp, repacked | {resident['llama_repacked']:.1f} |")
    (TREE / "docs" / "benchmarks.md").write_text("\n".join(lines) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--dir", type=pathlib.Path, default=TREE / "build" / "bench", help="where models are written")
    ap.add_argument("--machine-note", default="", help="what else to say of this machine")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--cgroup", type=int, default=3 << 30, help="bytes")
    ap.add_argument("--fio-seconds", type=int, default=4, help="before and after each run")
    ap.add_argument("--throttle", type=int, default=1000000000, help="bytes/s of flash in the held case")
    ap.add_argument("-n", type=int, default=16, help="tokens that weir decodes in a run")
    ap.add_argument("--peer-n", type=int, default=4, help="tokens that llama.cpp decodes in a run")
    a = ap.parse_args()
    if os.geteuid():
        raise SystemExit("bench: memory cgroups need root: run 'sudo make bench'")
    a.dir.mkdir(parents=True, exist_ok=True)
    model = synth(a.dir, "7b-q4_0", "--preset", "7b")
    small = synth(a.dir, "1b-q4_0", "--preset", "1b")
    say("probing this machine")
    probe = run_json([WEIR, "probe", "--json", "-f", model])
    a.dram = probe["dram_gb_s"]

    say("choosing fio's request size and depth")
    a.fio = fio_best(model)

    rate = (disk_of(model), a.throttle)
    held = streamed_case(model, a.cgroup, None, a, a.rounds, rate)
    free = streamed_case(model, a.cgroup, None, a, a.rounds)
    curve = []
    size = model.stat().st_size
    for percent in (25, 50, 75):
        memory = int(size * percent / 100 * 1.1) + (256 << 20)
        c, _ = streamed_case(model, memory, f"{percent}%", a, 1, rate)
        curve.append({**c, "budget": f"{percent}%"})
    curve.append({**held[0], "budget": f"{a.cgroup / 2**30:g} GiB cgroup"})
    curve.sort(key=lambda c: c["pool_bytes"])
    resident = resident_case(small, a)
    plot(TREE / "docs" / "benchmarks.svg", curve)
    report(a, probe, free, held, curve, resident)
    say("wrote docs/benchmarks.md and docs/benchmarks.svg")


if __name__ == "__main__":
    main()
