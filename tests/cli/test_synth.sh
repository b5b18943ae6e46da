#!/bin/bash
# SPDX-License-Identifier: MIT
# Random-weight models: every architecture and type runs, the same parameters give the same file,
# what is impossible is refused, and nothing half written stays.
. "$(dirname "$0")/lib.sh"

small=(--layers 2 --embd 256 --ff 512 --heads 4 --kv-heads 2 --ctx 128)
for arch in llama qwen2 qwen3; do
	synth "$tap_dir/$arch.gguf" "${small[@]}" --arch $arch
	weir run -q "$tap_dir/$arch.gguf" -p "Hello" -n 4 --temp 0
	is "$arch runs" "$status" 0
done
for type in f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4; do
	weir synth "$tap_dir/type.gguf" "${small[@]}" --type $type
	is "$type is written" "$status" 0
	weir run -q "$tap_dir/type.gguf" -p "Hello" -n 4 --temp 0
	is "$type runs" "$status" 0
done
synth "$tap_dir/tied.gguf" "${small[@]}" --tied
weir run -q "$tap_dir/tied.gguf" -p "Hello" -n 4 --temp 0
is "tied embeddings run" "$status" 0

# ---- reproducible ----

synth "$tap_dir/a.gguf" "${small[@]}" --seed 3
synth "$tap_dir/b.gguf" "${small[@]}" --seed 3 -t 1
ok "the same seed gives the same bytes, with any number of threads" \
	cmp "$tap_dir/a.gguf" "$tap_dir/b.gguf"
synth "$tap_dir/c.gguf" "${small[@]}" --seed 4
attempt cmp "$tap_dir/a.gguf" "$tap_dir/c.gguf"
is "another seed gives others" "$status" 1

# ---- impossible ----

# impossible NAME REGEX OPTION...
impossible()
{
	local name=$1 regex=$2

	shift 2
	weir synth "$tap_dir/impossible.gguf" "${small[@]}" "$@"
	fails_with "$name" "$regex"
	is "$name: no file" "$(find "$tap_dir" -name 'impossible*')" ""
}

impossible "heads that do not divide the width" "head" --heads 3
impossible "key/value heads that do not divide the heads" "head" --kv-heads 3
impossible "a width that the type's blocks do not fit" "256|block|width|embd" --embd 320 --type q4_k
impossible "a vocabulary without the bytes" "vocab" --vocab 100
impossible "an unknown architecture" "abacus" --arch abacus
impossible "an alignment that is no power of two" "align" --alignment 48

# ---- places ----

weir synth "$tap_dir/no/such/dir.gguf" "${small[@]}"
fails_with "a missing directory" "no/such"
mkdir "$tap_dir/dir"
weir synth "$tap_dir/dir" "${small[@]}"
fails_with "a directory" "dir"

# A file that is there stays as it is until the new one is whole.
synth "$tap_dir/kept.gguf" "${small[@]}"
sum=$(sha256sum < "$tap_dir/kept.gguf")
weir synth "$tap_dir/kept.gguf" "${small[@]}" --heads 3
is "a failure leaves the old file alone" "$(sha256sum < "$tap_dir/kept.gguf")" "$sum"

# A full file system: far more than there is, and a small one that fills up
weir synth "$tap_dir/vast.gguf" --preset 70b --layers 8000 --type f32
fails_with "more than the disk has" "[Nn]o space|space|[0-9] (TB|GB)"
is "more than the disk has: no file" "$(find "$tap_dir" -name 'vast*')" ""
# shellcheck disable=SC2016
full_tmpfs='mount -t tmpfs -o size=4M none "$1" && shift && "$@"; s=$?
	[ -z "$(ls "$0")" ] || echo "left behind: $(ls "$0")"; exit $s'
if unshare -m true 2> /dev/null; then
	mkdir "$tap_dir/tiny"
	attempt unshare -m bash -c "$full_tmpfs" "$tap_dir/tiny" "$tap_dir/tiny" \
		"$program" synth "$tap_dir/tiny/m.gguf" --layers 8 --embd 512
	fails_with "a file system that fills up" "m\.gguf|space"
else
	skip "a file system that fills up" "mounting a small one needs root"
fi
done_testing
