#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fuzzes one target for some seconds:
#
#	tests/fuzz/run.sh build/fuzz/fuzz_NAME SECONDS
#
# It starts from the committed corpus, tests/fuzz/corpus/NAME/, and keeps what it finds in
# build/fuzz/found/NAME/, so that a later run goes on from there. An input that crashes, hangs for
# 10 s or takes more than 1 GB is kept, and named in the last line.
set -u
cd "$(dirname "$0")/../.." || exit 1

if [ $# -ne 2 ]; then
	echo "usage: tests/fuzz/run.sh build/fuzz/fuzz_NAME SECONDS" >&2
	exit 2
fi
program=$1
seconds=$2
name=$(basename "$program")
name=${name#fuzz_}
seeds=tests/fuzz/corpus/$name
found=build/fuzz/found/$name
crash=build/fuzz/crash-$name-

mkdir -p "$found"
corpus=("$found")
[ -d "$seeds" ] && corpus+=("$seeds")
rm -f "$crash"*
"$program" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
	-artifact_prefix="$crash" -print_final_stats=1 "${corpus[@]}"
status=$?
for file in "$crash"*; do
	[ -e "$file" ] && echo "reproduce with: $program $file"
done
exit $status
