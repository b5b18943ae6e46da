#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the instructions of the NEON kernels, weir's and llama.cpp's; prints Markdown tables.

Both are compiled for the same CPU and run under qemu-aarch64, one instruction a translation block,
with a trace line for each block. What lies between two calls of mark() is one measurement, so
nothing of a program's start is counted. weir is counted twice: as it ships, and with the flags that
llama.cpp gets here. llvm-mca estimates the cycles of each measurement from the same trace, all the
instructions of it in the order in which they ran.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

TREE = pathlib.Path(__file__).resolve().parents[2]
OUT = TREE / "build" / "neon"
CROSS = "aarch64-linux-gnu-"
PEER = "llama-cpp-python==0.3.36"
CPU = "cortex-a78ae"
FLAGS = ["-O3", f"-mcpu={CPU}"]
GHZ, CORES = 2.2, 12  # Jetson AGX Orin
DRAM = (204.8, 174)  # its GB/s on paper, and 85% of that
TRACE = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")
KINDS = ("plain", "packed1", "packed16")
LAYOUT = {"plain": "plain", "packed1": "packed", "packed16": "packed, 16 tokens"}
MODELS = (CPU, "neoverse-n1")


def sh(*cmd, **kw):
    return subprocess.run([str(c) for c in cmd], check=True, cwd=TREE, text=True,
                          stdout=subprocess.PIPE, **kw).stdout


def peer_source():
    """llama.cpp as its users get it: in the source distribution of a fixed version."""
    if not (OUT / "peer").exists():
        sh(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
           "-d", OUT, PEER)
        with tarfile.open(next(OUT.glob("llama_cpp_python-*.tar.gz"))) as tar:
            tar.extractall(OUT / "peer")
    return next((OUT / "peer").glob("*/vendor/llama.cpp"))


def build_llama(source, cxx):
    """Its kernels alone; what they do not reach need not exist."""
    ggml = source / "ggml"
    cpu = ggml / "src" / "ggml-cpu"
    flags = [*FLAGS, "-DNDEBUG", "-D_GNU_SOURCE", "-ffunction-sections",
             "-fdata-sections", "-w", f"-I{ggml}/include", f"-I{ggml}/src", f"-I{cpu}"]
    objs = []
    for i, src in enumerate([cpu / "arch/arm/quants.c", cpu / "arch/arm/repack.cpp",
                             cpu / "quants.c", cpu / "vec.cpp", ggml / "src/ggml-quants.c"]):
        obj = OUT / f"llama{i}.o"
        tool = [cxx, "-std=c++17"] if src.suffix == ".cpp" else [CROSS + "gcc", "-std=gnu11"]
        sh(*tool, *flags, "-c", src, "-o", obj)
        objs.append(obj)
    prog = OUT / "neon_llama"
    sh(CROSS + "gcc", "-O2", "-I.", "-static", "-Wl,--gc-sections",
       "-Wl,--unresolved-symbols=ignore-all", "-o", prog, "tests/bench/neon_llama.c", *objs, "-lm")
    return prog


def build_weir():
    sh("make", "-s", "ARCH=arm64", "neon-counts-prog")
    return TREE / "build" / "arm64" / "tests" / "neon_weir"


def build_weir_alike():
    """weir's kernels with llama.cpp's flags; the one that stays is a promise about results."""
    prog = OUT / "neon_weir_alike"
    gcc = [CROSS + "gcc", "-std=gnu11", *FLAGS, "-ffp-contract=off", "-fno-strict-aliasing",
           "-D_GNU_SOURCE", "-w", "-I.", "-Iuserspace", "-Iinclude"]
    objs = []
    for src in [f for f in kernel_sources() if f.stem.endswith("_i8mm")]:
        objs.append(OUT / (src.stem + ".o"))
        sh(*gcc, f"-mcpu={CPU}+i8mm", "-c", src, "-o", objs[-1])
    sh(*gcc, "-static", "-o", prog, "tests/bench/neon_weir.c",
       *[f for f in kernel_sources() if not f.stem.endswith("_i8mm")], *objs, "-lm")
    return prog


def kernel_sources():
    return [f for d in ("kernels", "kernels/cpu", "kernels/cpu/arm") for f in sorted(
        (TREE / d).glob("*.c"))]


def trace(prog, *args):
    """{(kind, type): (products, bytes, [address of each instruction that was executed])}"""
    log = OUT / (prog.name + ".trace")
    lines = sh("qemu-aarch64", "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-D", log,
               prog, *args).splitlines()
    at = next(int(s.split()[0], 16) for s in sh(CROSS + "nm", prog).splitlines()
              if s.endswith(" mark"))
    windows, inside = [], None
    with open(log, encoding="utf-8") as f:
        for line in f:
            m = TRACE.match(line)
            if not m:
                continue
            pc = int(m[1], 16)
            if pc == at:
                if inside is not None:
                    windows.append(inside)
                inside = [] if inside is None else None
            elif inside is not None:
                inside.append(pc)
    log.unlink()
    assert len(windows) == len(lines), (len(windows), len(lines))
    found = {}
    for line, pcs in zip(lines, windows):
        kind, name, products, size = line.split()
        found[kind, name] = (int(products), int(size), pcs)
    return found


def disassemble(prog):
    code = {}
    for line in sh(CROSS + "objdump", "-d", "--no-show-raw-insn", prog).splitlines():
        m = re.match(r"^\s*([0-9a-f]+):\t(.*)$", line)
        if m:
            text = re.sub(r"\s*//.*", "", m[2])
            # Where a jump goes does not matter for the estimate.
            text = re.sub(r"\b([0-9a-f]+) <[^>]*>", "0", text)
            # llvm-mca takes 100 cycles for a call; these are predicted jumps like others.
            text = re.sub(r"^(bl|blr|br|ret)\b.*", "b 0", text)
            code[int(m[1], 16)] = text
    return code


def mca_cycles(tool, cpu, code, pcs):
    p = subprocess.run([tool, "-march=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+fullfp16",
                        "-iterations=1", "-all-views=false", "-summary-view"],
                       input="".join(code[a] + "\n" for a in pcs), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    m = re.search(r"Instructions:\s+(\d+)\s+Total Cycles:\s+(\d+)", p.stdout)
    if not m or int(m[1]) != len(pcs):
        raise SystemExit(f"{tool} -mcpu={cpu}: {p.stderr[:400]}")
    return int(m[2])


def row(*cells):
    print("| " + " | ".join(cells) + " |")


def head(*cells):
    row(*cells)
    print("|" + "---|" * len(cells))


def counts_table(weir, alike, llama):
    def cell(found, key):
        return f"{len(found[key][2]) / found[key][0]:.3f}" if key in found else "-"

    all3 = (weir, alike, llama)
    head("type", "weir plain", "same flags", "llama.cpp plain", "weir packed", "same flags",
         "llama.cpp repacked gemv", "weir packed, 16 tokens", "same flags",
         "llama.cpp gemm, 16 tokens")
    for name in [n for k, n in weir if k == "plain"]:
        row(name, *[cell(f, (k, name)) for k in KINDS for f in all3])
    print()
    head("activations to", "weir", "same flags", "llama.cpp")
    for key in [k for k in weir if k[0] == "quantize"]:
        row(key[1], *[cell(f, key) for f in all3])


def i8mm_table(neon, i8mm):
    head("type", "neon, 48 rows, 16 tokens", "neon-i8mm", "of neon")
    for key in [k for k in neon if k[0] == "piece16"]:
        counts = [len(f[key][2]) / f[key][0] for f in (neon, i8mm)]
        if counts[0] != counts[1]:
            row(key[1], *[f"{c:.3f}" for c in counts], f"{counts[1] / counts[0]:.2f}")


def cycles_table(weir, code, tool):
    """Cycles a product with either model; of one token, also what that means beside DRAM."""
    head("type", "layout", *[f"cycles, {m}" for m in MODELS], "GB/s of a core",
         f"GB/s, {CORES} cores",
         *[f"cores for {d} GB/s" for d in DRAM], f"cores for {DRAM[0]} GB/s, {MODELS[1]}")
    for (kind, name), (products, size, pcs) in weir.items():
        if kind not in KINDS:
            continue
        cycles = [mca_cycles(tool, cpu, code, pcs) for cpu in MODELS]
        cells = [name, LAYOUT[kind], *[f"{c / products:.3f}" for c in cycles]]
        slow, fast = [size / c * GHZ for c in cycles]
        rates = [f"{slow:.1f}", f"{slow * CORES:.0f}", *[f"{d / slow:.1f}" for d in DRAM],
                 f"{DRAM[0] / fast:.1f}"]
        row(*cells, *(rates if kind != "packed16" else [""] * len(rates)))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--llama", type=pathlib.Path, help="llama.cpp's source; else it is downloaded")
    cxx = next(filter(shutil.which, [CROSS + "g++", CROSS + "g++-12"]), CROSS + "g++")
    p.add_argument("--cxx", default=cxx, help="C++ compiler for it (%(default)s)")
    p.add_argument("--mca", default=shutil.which("llvm-mca-19") or "llvm-mca")
    args = p.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    prog = build_weir()
    weir = trace(prog)
    counts_table(weir, trace(build_weir_alike()),
                 trace(build_llama(args.llama or peer_source(), args.cxx)))
    print()
    i8mm_table(weir, trace(prog, "neon-i8mm"))
    print()
    cycles_table(weir, disassemble(prog), args.mca)


if __name__ == "__main__":
    main()
