#!/bin/bash
# SPDX-License-Identifier: MIT
# Ctrl-C: status 130, a clean last line, nothing half done left behind.
. "$(dirname "$0")/lib.sh"

model=$tap_dir/model.gguf
synth "$model" --layers 16 --embd 1024 --ff 2816 --heads 16 --ctx 4096

# interrupted WHEN ARGUMENT...: runs weir, sends SIGINT when the command WHEN succeeds (or after
# 60 s), and waits for its end
interrupted()
{
	local when=$1 pid i

	shift
	"$program" "$@" > "$tap_dir/out" 2> "$tap_dir/err" < /dev/null &
	pid=$!
	for ((i = 0; i < 1200; i++)); do
		sleep 0.05
		$when && break
	done
	kill -INT $pid 2> /dev/null
	# what does not end by itself is a failure, not a hang
	for ((i = 0; i < 100; i++)); do
		kill -0 $pid 2> /dev/null || break
		sleep 0.1
	done
	kill -KILL $pid 2> /dev/null
	wait $pid
	status=$?
	out=$(cat "$tap_dir/out")
	err=$(cat "$tap_dir/err")
}

has_text()
{
	[ "$(stat -c %s "$tap_dir/out")" -gt 12 ]
}

for source in uring mmap; do
	interrupted has_text run "$model" -p "Hello" -n 100000 --seed 3 --source $source --budget 50%
	is "run, $source: exit status 130" "$status" 130
	like "run, $source: the text so far is there" "$out" '^Hello.'
	is "run, $source: stdout ends with a newline" "$(tail -c 1 "$tap_dir/out" | od -An -tx1)" " 0a"
	like "run, $source: stderr says so" "$err" 'interrupted'
	is "run, $source: stderr ends with a newline" "$(tail -c 1 "$tap_dir/err" | od -An -tx1)" " 0a"
done

# As soon as it listens: before that, a shell's background process ignores SIGINT.
at_once()
{
	grep -qE '^SigCgt:.*[2367abef]$' "/proc/$pid/status"
}

interrupted at_once bench "$model" -p 0 -n 100000 --budget 50%
is "bench: exit status 130" "$status" 130
is "bench: no result" "$out" ""

interrupted at_once bench --kernels --size 16M --rounds 1000
is "bench --kernels: exit status 130" "$status" 130
like "bench --kernels: stderr says so" "$err" 'interrupted'
is "bench --kernels: stdout ends with a newline" "$(tail -c 1 "$tap_dir/out" | od -An -tx1)" " 0a"
interrupted at_once bench --kernels --size 16M --rounds 1000 --json
is "bench --kernels --json: exit status 130" "$status" 130
is "bench --kernels --json: no half object" "$out" ""

eval_tokens=$(seq -s, 1000)
interrupted at_once eval "$model" --tokens "$eval_tokens" --logits "$tap_dir/logits"
is "eval: exit status 130" "$status" 130
is "eval: no half file" "$(find "$tap_dir" -name 'logits*')" ""

mkdir "$tap_dir/synth"
synth_begun()
{
	[ -n "$(find "$tap_dir/synth" -type f -size +1M)" ]
}

interrupted synth_begun synth "$tap_dir/synth/big.gguf" --preset 7b
is "synth: exit status 130" "$status" 130
is "synth: no half file" "$(ls -A "$tap_dir/synth")" ""

mkdir "$tap_dir/pack"
synth "$tap_dir/large.gguf" --layers 48 --embd 2048 --ff 5632 --heads 16
pack_begun()
{
	[ -n "$(find "$tap_dir/pack" -type f -size +1M)" ]
}

interrupted pack_begun pack "$tap_dir/large.gguf" "$tap_dir/pack/large.weir"
is "pack: exit status 130" "$status" 130
is "pack: no summary" "$out" ""
is "pack: no half file" "$(ls -A "$tap_dir/pack")" ""
done_testing
