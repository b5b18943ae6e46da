#!/bin/bash
# SPDX-License-Identifier: MIT
# The same text from every source, under every budget, with any number of threads, on every run.
. "$(dirname "$0")/lib.sh"

# same_text MODEL PROMPT SAMPLING...
same_text()
{
	local model=$1 prompt=$2 name want budget threads

	shift 2
	name="$(basename "$model") $*"
	weir run -q "$model" -p "$prompt" -n 40 -t 1 --source mmap "$@"
	is "$name: runs" "$status" 0
	ok "$name: makes text" [ ${#out} -gt ${#prompt} ]
	want=$out
	weir run -q "$model" -p "$prompt" -n 40 -t 1 --source mmap "$@"
	is "$name: again" "$out" "$want"
	for threads in 2 4; do
		weir run -q "$model" -p "$prompt" -n 40 -t $threads --source mmap "$@"
		is "$name: mmap, $threads threads" "$out" "$want"
	done
	for budget in 30% 50% 100%; do
		for threads in 1 2 4; do
			weir run -q "$model" -p "$prompt" -n 40 -t $threads --source uring \
				--budget $budget "$@"
			is "$name: uring, budget $budget, $threads threads" "$out" "$want"
		done
	done
	# a prompt in batches is the same prompt
	weir run -q "$model" -p "$prompt" -n 40 --batch 3 --budget 50% "$@"
	is "$name: prompt in batches of 3" "$out" "$want"
}

prompt="It is a truth universally acknowledged, that"
synth "$tap_dir/q4_k.gguf" --layers 6 --embd 512 --ff 1024 --type q4_k --seed 5
synth "$tap_dir/qwen3-f16.gguf" --layers 4 --embd 256 --ff 512 --arch qwen3 --type f16
synth "$tap_dir/tied.gguf" --layers 4 --embd 256 --ff 512 --vocab 331 --arch qwen2 --tied
for model in "$demo" "$tap_dir/q4_k.gguf" "$tap_dir/tied.gguf"; do
	weir pack "$model" "$tap_dir/$(basename "$model" .gguf).weir"
	is "$(basename "$model") is packed" "$status" 0
done
for model in "$demo" "$tap_dir/q4_k.gguf" "$tap_dir/qwen3-f16.gguf"; do
	same_text "$model" "$prompt" --temp 0
	same_text "$model" "$prompt" --seed 7
done
for model in "$tap_dir"/*.weir; do
	same_text "$model" "$prompt" --temp 0
done

# a cache of 8 bits is no exception, and its positions are no fewer than a chunk of attention
synth "$tap_dir/wide.gguf" --layers 2 --embd 256 --ff 512 --heads 4 --kv-heads 2
same_text "$tap_dir/wide.gguf" "$prompt" --temp 0 --kv-type q8_0
long=$(printf 'all work and no play %.0s' $(seq 70))
same_text "$tap_dir/wide.gguf" "$long" --temp 0 --kv-type q8_0
same_text "$tap_dir/wide.gguf" "$long" --temp 0
synth "$tap_dir/odd.gguf" --layers 1 --embd 160 --ff 320 --heads 4 --type f16
weir run -q "$tap_dir/odd.gguf" -p "$prompt" -n 2 --kv-type q8_0
is "heads of 40 and a cache of 8 bits: refused" "$status" 1
like "heads of 40 and a cache of 8 bits: says why" "$err" "multiple of 32.*have 40.*--kv-type f16"

weir run -q "$demo" -p "$prompt" -n 40 --seed 7
seven=$out
weir run -q "$demo" -p "$prompt" -n 40 --seed 8
ok "another seed, another text" [ "$out" != "$seven" ]
weir run -q "$demo" -p "$prompt" -n 40
random=$out
weir run -q "$demo" -p "$prompt" -n 40
ok "without a seed every run differs" [ "$out" != "$random" ]
done_testing
