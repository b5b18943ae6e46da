#!/bin/bash
# SPDX-License-Identifier: MIT
# weir bench --timeline: what the file says of a run is what weir itself counts.
. "$(dirname "$0")/lib.sh"

model=$tap_dir/model.gguf
line=$tap_dir/line.json
synth "$model" --layers 4 --embd 512 --ff 1024 --ctx 512

# events EXPRESSION: of the file, with those of a kind by category: of("read"), ...; times in ns
events()
{
	python3 -c 'import json, sys
from decimal import Decimal
j = json.load(open(sys.argv[1]), parse_float=Decimal)
def of(category):
    l = [e for e in j["traceEvents"] if e["ph"] == "X" and e["cat"] == category]
    return [dict(e, begin=int(e["ts"] * 1000), end=int((e["ts"] + e["dur"]) * 1000)) for e in l]
def overlap(l):
    l = sorted(l, key=lambda e: e["begin"])
    return sum(a["end"] > b["begin"] for a, b in zip(l, l[1:]))
def inside(l, outer):
    return all(any(o["begin"] <= e["begin"] and e["end"] <= o["end"] for o in outer) for e in l)
def ns(l):
    return sum(e["end"] - e["begin"] for e in l)
print(eval(sys.argv[2]))' "$line" "$1"
}

weir bench "$model" -p 4 -n 5 -c 64 --source uring --budget 50% --json --timeline "$line"
is "a time line is written: exit status 0" "$status" 0
is "one pass for each token that counts" "$(events 'len(of("pass"))')" 5
is "passes follow each other's positions" \
	"$(events '[p["args"]["token"] for p in of("pass")]')" "[5, 6, 7, 8, 9]"
is "each has all layers, in order" \
	"$(events '[l["args"]["layer"] for l in of("layer")] == 5 * [0, 1, 2, 3]')" True
is "layers lie inside passes" "$(events 'inside(of("layer"), of("pass"))')" True
is "computing and waiting never overlap" "$(events 'overlap(of("compute") + of("wait"))')" 0
is "together they are the passes" \
	"$(events 'ns(of("compute")) + ns(of("wait")) == ns(of("pass"))')" True
is "every matrix of a layer is named" "$(events \
	'len({e["args"]["tensor"] for e in of("compute") if e["args"].get("layer") == 3 and "tensor" in e["args"]})')" 7
is "no two reads overlap on a track" \
	"$(events 'sum(overlap([r for r in of("read") if r["tid"] == t]) for t in {r["tid"] for r in of("read")})')" 0
is "bytes read are those that weir counted" \
	"$(events 'sum(r["args"]["bytes"] for r in of("read"))')" "$(json 'j["flash_read_bytes"]')"
is "reads name their tensor and its layer" "$(events \
	'all(r["args"]["tensor"].startswith("blk.%d." % r["args"]["layer"]) if "layer" in r["args"] else r["args"]["tensor"] == "output.weight" for r in of("read"))')" True
is "nothing was dropped" "$(events 'j["otherData"]["dropped_events"]')" 0

weir bench "$model" -p 0 -n 2 -c 64 --budget 100% --timeline "$line"
is "all pinned: no reads" "$(events 'len(of("read"))')" 0
is "all pinned: a file that was there is replaced" "$(events 'len(of("pass"))')" 2

# More than it has room for: a pass has a hundred events or so, and there is room for 262144.
weir bench "$model" -p 0 -n 4000 -c 4096 --budget 50% --timeline "$line"
is "a run that is too long: exit status 0" "$status" 0
like "what was dropped is told" "$err" 'line\.json: [1-9][0-9]* events found no room'
is "and counted" "$(events 'j["otherData"]["dropped_events"] > 0')" True
is "what is there is whole" "$(events 'overlap(of("compute") + of("wait"))')" 0

weir bench "$model" -p 0 -n 2 --json --timeline -
is "--json and a time line on stdout: refused" "$status" 2
like "--json and a time line on stdout: says why" "$err" "both write to stdout"
weir bench "$model" -p 0 -n 2 --timeline "$tap_dir/none/line.json"
fails_with "a directory that is not there" 'none/line\.json.*No such file'
echo kept > "$line"
weir bench "$tap_dir/none.gguf" -n 2 --timeline "$line"
fails_with "no model" 'none\.gguf'
is "a run that fails leaves the file as it was" "$(cat "$line")" kept
is "and no other file beside it" "$(find "$tap_dir" -name 'line.json?*')" ""
weir bench "$model" -p 0 -n 2 --timeline /dev/full
is "a full disk: exit status 1" "$status" 1
like "a full disk: the sentence says so" "$err" '/dev/full: No space'
weir bench --kernels --timeline "$line"
is "--kernels has no time line: exit status 2" "$status" 2

done_testing
