#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares weir with llama.cpp and with fio on synthetic models; writes docs/benchmarks.md.

Six parts, one file each but for the time line, which is in streamed.py:

    resident     decode of a large model that DRAM holds, by weight type     resident.py
    small        decode of a 1.1-billion-weight one                          resident.py
    prompts      prompts of 128 and 512 tokens                               prompts.py
    streamed     decode of a model that DRAM does not hold, by budget        streamed.py
    timeline     what is computed and read when, drawn                       streamed.py
    first-token  from a cold start to the first token                        first_token.py

--only runs some of them; the page then has what the others found when they last ran, which is
kept in --dir. Budgets are enforced from outside, by a memory cgroup that is the same for both
programs. Programs take turns (A B C A B C ...) and medians are reported, because machines are
shared and noisy. Limits are measured in the same run, just before and just after what they limit:
flash by fio, with the request size and depth that serve it best; DRAM by a plain read.

    T = max(alpha W / B_flash, (1 + alpha) W / B_dram)

A shared disk serves at another rate from one minute to the next. So flash is measured twice: as
it is, and with all programs in a block-I/O cgroup that holds it at --throttle bytes/s, which
every program can then reach or miss.

Needs root, for cgroups and for dropping the page cache; and 20 GB of disk for the models, which
are written one weight type at a time.
"""
import argparse
import json
import os
import pathlib
import platform

import first_token
import prompts
import resident
import streamed
from machine import TREE, WEIR, cpu_name, fio_best, run_json, say, synth

# measure, report; in the order of the page
PARTS = {
    "resident": (resident.measure, resident.report),
    "small": (resident.measure_small, resident.report_small),
    "prompts": (prompts.measure, prompts.report),
    "streamed": (streamed.measure, streamed.report),
    "timeline": (streamed.measure_timeline, streamed.report_timeline),
    "first-token": (first_token.measure, first_token.report),
}
WANT_FIO = {"streamed", "timeline", "first-token"}
SHAPES = {"7b": "Mistral-7B shape", "1b": "TinyLlama-1.1B shape"}


def head(a, results):
    mem = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    size, depth = results["fio"] if "fio" in results else ("?", "?")
    note = f", {a.machine_note}" if a.machine_note else ""
    return [
        "# Benchmarks",
        "",
        "Written by `make bench` (`tests/bench/bench.py`), as measured; the script's first comment says how.",
        "",
        f"Machine: {cpu_name()}, {os.cpu_count()} cores, {mem:.0f} GiB, Linux {platform.release().split('-')[0]}"
        f"{note}; {a.threads} threads. Flash rates by fio (io_uring, O_DIRECT, {size} requests, depth {depth}:"
        f" the best of several here) for {a.fio_seconds} s before and after each run. llama.cpp is PyPI's"
        " llama-cpp-python with AVX-512, VNNI and BF16 where the CPU has them, without AMX; *mmap* is without"
        " repacking, which copies the weights and does not fit a cgroup that is smaller than they are.",
    ]


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", type=lambda s: s.split(","), default=list(PARTS), metavar="PART,...",
                    help=", ".join(PARTS))
    ap.add_argument("--dir", type=pathlib.Path, default=TREE / "build" / "bench", help="where models are written")
    ap.add_argument("--machine-note", default="", help="what else to say of this machine")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--large", choices=SHAPES, default="7b", help="shape of the large model")
    ap.add_argument("--types", type=lambda s: s.split(","), default=resident.TYPES, metavar="TYPE,...",
                    help="of the resident part")
    ap.add_argument("--cgroup", type=int, default=3 << 30, help="bytes")
    ap.add_argument("--fio-seconds", type=int, default=4, help="before and after each run")
    ap.add_argument("--throttle", type=int, default=1000000000, help="bytes/s of flash in the held case")
    ap.add_argument("-n", type=int, default=16, help="tokens that weir decodes in a run, streamed")
    ap.add_argument("--peer-n", type=int, default=4, help="the same for llama.cpp")
    ap.add_argument("--resident-n", type=int, default=64, help="tokens that weir decodes in a run, resident")
    ap.add_argument("--resident-peer-n", type=int, default=16, help="the same for llama.cpp")
    a = ap.parse_args()
    for part in a.only:
        if part not in PARTS:
            ap.error(f"--only: there is no part '{part}': there are {', '.join(PARTS)}")
    if os.geteuid():
        raise SystemExit("bench: memory cgroups need root: run 'sudo make bench'")
    a.shape_name = SHAPES[a.large]
    return a


def main():
    a = options()
    a.dir.mkdir(parents=True, exist_ok=True)
    kept = a.dir / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    model = synth(a, a.large)
    if run_json([WEIR, "plan", "--json", model]) is None:  # measures this machine where nobody has
        raise SystemExit("bench: weir plan failed")
    if WANT_FIO & set(a.only):
        say("choosing fio's request size and depth")
        a.fio = results["fio"] = fio_best(model)
    for part in a.only:
        say(f"part {part}")
        results[part] = PARTS[part][0](a)
        kept.write_text(json.dumps(results, indent=1))
    lines = head(a, results)
    for part, (_, report) in PARTS.items():
        if part in results:
            lines += ["", *report(a, results[part])]
    (TREE / "docs" / "benchmarks.md").write_text("\n".join(lines) + "\n")
    say("wrote docs/benchmarks.md and its pictures")


if __name__ == "__main__":
    main()
