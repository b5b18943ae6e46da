# SPDX-License-Identifier: MIT
"""
Reads what `weir bench --timeline` wrote: how well arithmetic and reads overlap, in numbers and
drawn.

A span is a pair of seconds. What is looked at are all passes but the last one: reads that were
still in flight at the end of that are not in the file.
"""
import json


def merge(spans, gap=0.0):
    """Sorted spans that do not touch, of any; those closer than `gap` become one."""
    out = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1] + gap:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([begin, end])
    return out


def total(spans):
    return sum(end - begin for begin, end in spans)


def common(x, y):
    """Seconds that two lists of merged spans have in common."""
    seconds, i, k = 0.0, 0, 0
    while i < len(x) and k < len(y):
        seconds += max(0.0, min(x[i][1], y[k][1]) - max(x[i][0], y[k][0]))
        if x[i][1] < y[k][1]:
            i += 1
        else:
            k += 1
    return seconds


class Timeline:
    def __init__(self, path):
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
        for e in events:
            e["span"] = (e["ts"] * 1e-6, (e["ts"] + e["dur"]) * 1e-6)
        self.events = events
        self.passes = [e["span"] for e in self.of("pass")][:-1]
        self.begin, self.end = self.passes[0][0], self.passes[-1][1]

    def of(self, category):
        return [e for e in self.events if e["cat"] == category]

    def spans(self, category, begin=None, end=None):
        """Cut to a window: all of the passes unless given."""
        begin, end = begin or self.begin, end or self.end
        spans = (e["span"] for e in self.of(category))
        return [(max(b, begin), min(e, end)) for b, e in spans if b < end and e > begin]

    def shares(self):
        seconds = self.end - self.begin
        busy = merge(self.spans("read"))
        compute = merge(self.spans("compute"))
        # by when it was taken in; of the last ones before the window some came earlier
        taken = [e for e in self.of("read") if self.begin < e["span"][1] <= self.end]
        return {
            "passes": len(self.passes),
            "pass_s": seconds / len(self.passes),
            "flash_busy": total(busy) / seconds,
            "flash_gb_s": sum(e["args"]["bytes"] for e in taken) / seconds * 1e-9,
            "reads": len(taken) / len(self.passes),
            "compute": total(compute) / seconds,
            "overlap": common(busy, compute) / total(compute),
            "wait": total(merge(self.spans("wait"))) / seconds,
        }

    def layers(self, count):
        """The window of `count` layers in the middle of the middle pass."""
        begin, end = self.passes[len(self.passes) // 2]
        inside = [e["span"] for e in self.of("layer") if begin <= e["span"][0] < end]
        first = (len(inside) - count) // 2
        return inside[first][0], inside[first + count - 1][1]


def bars(ax, spans, row, color, origin, scale, least):
    merged = merge(spans, least)
    ax.broken_barh([((b - origin) * scale, (e - b) * scale) for b, e in merged], (row + 0.1, 0.8),
                   color=color, linewidth=0)


def depth_steps(spans):
    """When the number of reads in flight changes, and to what."""
    changes = sorted([(b, 1) for b, _ in spans] + [(e, -1) for _, e in spans])
    times, depth, now = [], [], 0
    for when, change in changes:
        now += change
        times.append(when)
        depth.append(now)
    return times, depth


def draw(line, path):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "weir"
    import matplotlib.pyplot as plt

    blue, orange, grey, green = "#0b6e99", "#c2571a", "0.8", "#3d7d3a"
    fig, (top, reads, zoom) = plt.subplots(3, 1, figsize=(9, 7.5), gridspec_kw={"height_ratios": (3, 2, 5)})

    least = (line.end - line.begin) / 1500  # narrower than a dot
    for i, (begin, end) in enumerate(line.passes):
        bars(top, [(begin, end)], 2, grey if i % 2 else "0.65", line.begin, 1, 0)
        top.text((begin + end) / 2 - line.begin, 2.5, f"token {i + 1}", ha="center", va="center")
    bars(top, line.spans("compute"), 1, blue, line.begin, 1, least)
    bars(top, line.spans("wait"), 0, orange, line.begin, 1, least)
    top.set_yticks([2.5, 1.5, 0.5], ["passes", "computes", "waits for flash"])

    times, depth = depth_steps(line.spans("read"))
    reads.fill_between([t - line.begin for t in times], depth, step="post", color=green, linewidth=0)
    reads.set_ylim(bottom=0)
    reads.set_ylabel("reads in flight")
    reads.set_xlabel("seconds")
    for ax in (top, reads):
        ax.set_xlim(0, line.end - line.begin)

    begin, end = line.layers(2)
    lanes = sorted({e["tid"] for e in line.of("read")})
    bars(zoom, line.spans("compute", begin, end), len(lanes) + 1, blue, begin, 1e3, 0)
    bars(zoom, line.spans("wait", begin, end), len(lanes), orange, begin, 1e3, 0)
    for e in line.of("read"):
        b, t = max(e["span"][0], begin), min(e["span"][1], end)
        if b < t:
            row = len(lanes) - 1 - lanes.index(e["tid"])
            zoom.broken_barh([((b - begin) * 1e3, (t - b) * 1e3)], (row + 0.1, 0.8),
                             color=green, edgecolor="white", linewidth=0.4)
    zoom.set_yticks([len(lanes) + 1.5, len(lanes) + 0.5, len(lanes) / 2],
                    ["computes", "waits for flash", "reads"])
    zoom.set_xlim(0, (end - begin) * 1e3)
    zoom.set_xlabel("milliseconds: two layers in the middle of a token")
    fig.tight_layout()
    fig.savefig(path, metadata={"Date": None})
