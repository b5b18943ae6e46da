#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs the shipped model with half of its weights pinned in DRAM and half streamed from flash:
#
#	tools/demo.sh WEIR MODEL
#
# English appears on stdout as it is generated. All else goes to stderr: what happens, and at the
# end the line with speed, share of the limit, bound, flash bandwidth and stalls.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: tools/demo.sh WEIR MODEL" >&2
	exit 2
fi
weir=$1
model=$2
budget=50%
options=(-p "Emma was not able to" --seed 3 --temp 0.4 --repeat-penalty 1.1)

say()
{
	echo "$@" | fold -s -w "${COLUMNS:-80}" >&2
}

# The limit that the last line speaks of is this machine's own; it is measured once and kept.
if [ ! -e "${XDG_CACHE_HOME:-${HOME-}/.cache}/weir/probe.json" ]; then
	say "First, how fast are this machine's DRAM and flash?"
	"$weir" probe --size 256M --dir "$(dirname "$model")" >&2
	echo >&2
fi

say "weir runs $(basename "$model"), $(stat -c %s "$model") bytes, in half of that: the same share of" \
	"every layer is pinned in DRAM, and the rest is read from flash again for every token, ahead" \
	"of the arithmetic."
"$weir" plan "$model" --budget $budget | grep -E '^(pinned|streamed)' >&2
echo >&2
"$weir" run "$model" --budget $budget "${options[@]}" -n 160
echo >&2
say "The line above: speed; how much of what this machine allows that is, and what bounds it;" \
	"flash bandwidth; what each token read from flash; time spent waiting for flash; peak memory," \
	"which is half of the weights and what the program itself needs. A model as small as this one" \
	"stays far from the limit; docs/benchmarks.md has one that does not fit its memory. The same" \
	"text comes out under any budget. Try:"
echo "$weir run $model -p 'Emma was not able to' --seed 3 --temp 0.4 --repeat-penalty 1.1 -n 160 --budget 20%" >&2
