# SPDX-License-Identifier: MIT
"""What the parts of the benchmark share: cgroups, the page cache, fio, DRAM, models."""
import json
import mmap
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
MADV_POPULATE_WRITE = 23
TOUCH_FAST = 4e9  # bytes/s


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def medians(rounds):
    """Of a list of dicts with the same keys: one dict of medians."""
    return {key: median([r[key] for r in rounds]) for key in rounds[0]}


def share(value, digits=1):
    return f"{100 * value:.{digits}f}%"


# ---- the machine ----

def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def disk_of(path):
    """major:minor of the whole disk that a file lies on."""
    dev = os.stat(path).st_dev
    node = pathlib.Path(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}").resolve()
    if (node / "partition").exists():
        node = node.parent
    return (node / "dev").read_text().strip()


def drop_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def touch_memory(size):
    """
    Takes and gives back `size` bytes until they come fast. A hypervisor may take free memory away
    within seconds, and then gives it again more slowly than flash reads: that is not what a load
    should be timed by. Returns the last rate in bytes/s.
    """
    for _ in range(4):
        start = time.monotonic()
        with mmap.mmap(-1, size) as m:
            m.madvise(mmap.MADV_HUGEPAGE)
            m.madvise(MADV_POPULATE_WRITE)
            seconds = time.monotonic() - start
        rate = size / seconds
        if rate > TOUCH_FAST:
            return rate
    say(f"memory comes at {rate * 1e-9:.1f} GB/s here: loading may be slower for it")
    return rate


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


# ---- programs ----

def run_json(cmd, memory=None, rate=None, timeout=900):
    """What a command prints; None where it was killed or failed. In cgroups where asked for."""
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


def weir_bench(a, model, *options, memory=None, rate=None):
    out = run_json([WEIR, "bench", "--json", "-q", "-t", a.threads, *options, model], memory, rate)
    if out is None:
        raise SystemExit("bench: weir bench failed")
    return out


def llama(a, model, *options, memory=None, rate=None):
    return run_json([PYTHON, PEER, model, "-t", a.threads, *options], memory, rate)


def fio(path, size, depth, seconds, rate=None):
    """
    Sequential O_DIRECT read rate of a file in GB/s (1e9 bytes). The first second does not count: a
    block-I/O cgroup lets more through at first.
    """
    out = run_json(["fio", "--name=r", f"--filename={path}", "--rw=read", f"--bs={size}",
                    f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", "--readonly",
                    "--time_based", "--ramp_time=1", f"--runtime={seconds}", "--fixedbufs=1",
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
    return max(tries, key=lambda t: median(rates[t]))


def dram(a):
    """GB/s that all threads together read from DRAM, doing nothing else: two seconds."""
    out = run_json([WEIR, "bench", "--kernels", "--types", "f32", "--rounds", 5, "-t", a.threads,
                    "--json", "-q"])
    if out is None:
        raise SystemExit("bench: weir bench --kernels failed")
    return out["dram_gb_s"]


# ---- models ----

def synth(a, shape, kind="q4_0"):
    path = a.dir / f"weir-bench-{shape}-{kind}.gguf"
    if not path.exists():
        say(f"writing {path}")
        subprocess.run([WEIR, "synth", path, "-q", "--preset", shape, "--type", kind], check=True)
    return path


def packed(model):
    path = model.with_suffix(".packed")
    if not path.exists():
        say(f"writing {path}")
        subprocess.run([WEIR, "pack", "-q", model, path], check=True, stdout=subprocess.DEVNULL)
    return path
