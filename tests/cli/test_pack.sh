#!/bin/bash
# SPDX-License-Identifier: MIT
# Packing and back: every weight and every key comes through, every command takes what was packed,
# what cannot be packed is refused, and nothing half written stays.
. "$(dirname "$0")/lib.sh"

# Matrices whose number of rows is no multiple of 16: output, key, value, gate, up
odd=(--layers 2 --vocab 301)
odd32=("${odd[@]}" --embd 160 --ff 288 --heads 8 --kv-heads 1 --head-dim 36)
odd256=("${odd[@]}" --embd 256 --ff 512 --heads 64 --kv-heads 1 --head-dim 4)

# same_model NAME MODEL OTHER: as read by a program that is not weir
same_model()
{
	attempt python3 "$top/tests/cli/packed.py" "$2" "$3"
	is "$1" "$status $out" "0 "
}

# packs NAME MODEL: there and back
packs()
{
	weir pack -q "$2" "$tap_dir/packed.weir"
	is "$1: packs" "$status" 0
	same_model "$1: what is packed is what was there" "$2" "$tap_dir/packed.weir"
	weir pack -q --unpack "$tap_dir/packed.weir" "$tap_dir/back.gguf"
	is "$1: unpacks" "$status" 0
	same_model "$1: what is unpacked is what was there" "$2" "$tap_dir/back.gguf"
}

# count_packed FILE: tensors in groups of 16 rows
count_packed()
{
	"$program" info --json "$1" | python3 -c 'import json, sys
print(sum(t["packed"] for t in json.load(sys.stdin)["tensors"]))'
}

for type in q4_0 q4_1 q5_0 q5_1 q8_0 iq4_nl mxfp4 q2_k q3_k q4_k q5_k q6_k iq4_xs f32 f16 bf16; do
	case $type in
	q?_k | iq4_xs) shape=("${odd256[@]}") ;;
	*) shape=("${odd32[@]}") ;;
	esac
	synth "$tap_dir/type.gguf" "${shape[@]}" --type $type
	packs "$type" "$tap_dir/type.gguf"
	case $type in
	f32 | f16 | bf16) is "$type: no matrix is packed" "$(count_packed "$tap_dir/packed.weir")" 0 ;;
	*) is "$type: every matrix but the embedding is packed" "$(count_packed "$tap_dir/packed.weir")" 15 ;;
	esac
	weir run -q "$tap_dir/packed.weir" -p Hello -n 4 --temp 0 -c 64
	is "$type: runs packed" "$status" 0
done

synth "$tap_dir/tied.gguf" "${odd32[@]}" --tied --arch qwen2 --type q8_0
packs "tied embeddings" "$tap_dir/tied.gguf"
is "tied embeddings are packed" "$(count_packed "$tap_dir/packed.weir")" 15
synth "$tap_dir/aligned.gguf" "${odd32[@]}" --alignment 64
packs "an alignment of 64" "$tap_dir/aligned.gguf"
weir info --json "$tap_dir/back.gguf"
is "an alignment of 64 comes back" "$(json 'j["files"][0]["alignment_bytes"]')" 64
packs "the demo model" "$demo"
python3 "$top/tests/cli/split.py" "$demo" "$tap_dir/part" 3
weir pack -q "$tap_dir/part-00002-of-00003.gguf" "$tap_dir/packed.weir"
is "a split model: packs" "$status" 0
same_model "a split model is packed to one file" "$demo" "$tap_dir/packed.weir"
weir pack -q "$tap_dir/part-00001-of-00003.gguf" "$tap_dir/twice.weir"
ok "packing is the same on every run" cmp "$tap_dir/packed.weir" "$tap_dir/twice.weir"

# ---- what it says ----

weir pack "$demo" "$tap_dir/packed.weir"
like "says what it did" "$status $out" '^0 packed 43 of 56 tensors: 6.3 MB in .* GB/s$'
is "no progress where there is no terminal" "$err" ""
weir pack --json "$demo" "$tap_dir/packed.weir"
json_has "pack --json" packed tensors packed_tensors data_bytes file_bytes elapsed_s gb_s peak_rss_bytes
is "file_bytes is the file's size" "$(json 'j["file_bytes"]')" "$(stat -c %s "$tap_dir/packed.weir")"
weir info "$tap_dir/packed.weir"
like "info says that it is packed" "$out" 'packed\.weir: packed for weir, version 2,'
like "info says which tensors are" "$out" 'blk\.0\.attn_q\.weight +Q8_0 +256 x 256 .*, packed$'
unlike "and which are not" "$out" 'attn_norm.*packed'
weir info --json "$tap_dir/packed.weir"
is "info --json: version and order of use" \
	"$(json 'j["packed_version"], [t["name"] for t in j["tensors"]][:2]')" \
	"(2, ['blk.0.attn_norm.weight', 'blk.0.attn_q.weight'])"
is "info --json: tensors begin at multiples of 4 KiB" \
	"$(json 'sum(t["offset"] % 4096 for t in j["tensors"])')" 0

# ---- every command takes it ----

packed=$tap_dir/packed.weir
for command in "run -q -n 12 --temp 0 -p Once" "tokenize -p Once" "perplexity -q -f $top/LICENSE -c 64"; do
	# shellcheck disable=SC2086
	weir $command "$demo"
	want=$out
	# shellcheck disable=SC2086
	weir $command "$packed"
	is "${command%% *}: runs packed" "$status" 0
	if [[ $command == perplexity* ]]; then
		ok "perplexity: the same but for rounding" python3 -c 'import sys
a, b = (float(x.split()[1]) for x in sys.argv[1:])
sys.exit(abs(a - b) > 0.01 * a)' "$want" "$out"
	else
		is "${command%% *}: the same packed" "$out" "$want"
	fi
done
weir bench "$packed" -p 4 -n 4 --json
json_has "bench" decode_tok_s
weir plan "$packed" --budget 50% --json
json_has "plan" sweep_bytes
weir eval "$packed" --tokens 1,2,3 --logits "$tap_dir/logits"
is "eval" "$status $(stat -c %s "$tap_dir/logits")" "0 $((3 * 4 * $("$program" info "$demo" --json |
	python3 -c 'import json, sys
print(next(t["shape"][1] for t in json.load(sys.stdin)["tensors"] if t["name"] == "token_embd.weight"))')))"
printf 'Hello\n' | "$program" chat -q "$packed" --chat-template chatml -n 4 --temp 0 > "$tap_dir/chat" 2>&1
is "chat" $? 0

# ---- refused ----

# refused NAME REGEX ARGUMENT...
refused()
{
	local name=$1 regex=$2

	shift 2
	weir pack "$@"
	fails_with "$name" "$regex"
	is "$name: no file" "$(find "$tap_dir" -name 'refused*' -o -name '.weir-*')" ""
}

refused "a packed model" "packed already" "$packed" "$tap_dir/refused"
refused "unpacking a plain model" "not packed" --unpack "$demo" "$tap_dir/refused"
cp "$demo" "$tap_dir/self.gguf"
ln -s self.gguf "$tap_dir/link.gguf"
sum=$(sha256sum < "$tap_dir/self.gguf")
refused "a model onto itself" "itself" "$tap_dir/self.gguf" "$tap_dir/self.gguf"
refused "a model onto itself by a link" "itself" "$tap_dir/self.gguf" "$tap_dir/link.gguf"
is "the model is as it was" "$(sha256sum < "$tap_dir/self.gguf")" "$sum"
refused "a part of a split model onto another" "itself" "$tap_dir/part-00001-of-00003.gguf" \
	"$tap_dir/part-00003-of-00003.gguf"
refused "a missing model" "[Nn]o such file" "$tap_dir/none.gguf" "$tap_dir/refused"
refused "a missing folder" "no/such" "$demo" "$tap_dir/no/such/file"
refused "a folder" "not a regular file" "$demo" "$tap_dir"
refused "a text" "GGUF" "$top/LICENSE" "$tap_dir/refused"

# hostile NAME REGEX OFFSET BYTES: a packed file with these bytes there
hostile()
{
	cp "$packed" "$tap_dir/hostile.weir"
	# shellcheck disable=SC2059
	printf "$4" | dd of="$tap_dir/hostile.weir" bs=1 seek="$3" conv=notrunc status=none
	weir info "$tap_dir/hostile.weir"
	fails_with "$1: info" "hostile\.weir.*$2"
	weir run -q "$tap_dir/hostile.weir" -p x
	fails_with "$1: run" "hostile\.weir.*$2"
	weir pack --unpack "$tap_dir/hostile.weir" "$tap_dir/refused"
	fails_with "$1: unpack" "hostile\.weir.*$2"
}

hostile "a newer version" "version 3.*update weir" 4 '\003'
hostile "an older version" "version 1.*pack the GGUF file again" 4 '\001'
hostile "version 0" "version 0" 4 '\000'
hostile "another magic" "GGUF" 0 'WIER'
# the first tensor is a norm: 23 bytes of name, one dimension, its type
at=$(($(grep -abo blk.0.attn_norm.weight "$packed" | head -n 1 | cut -d : -f 1) + 22 + 4 + 8))
hostile "a packed tensor of floats" "F32.*never packed" $((at + 2)) '\001'
hostile "an unknown type" "unknown" $((at + 2)) '\002'
hostile "an offset within a page" "multiple of 4096" $((at + 4)) '\040'
head -c -1 "$packed" > "$tap_dir/cut.weir"
weir run -q "$tap_dir/cut.weir" -p x
fails_with "a packed file that lacks its last byte" "cut\.weir.*incomplete"

# A GGUF file has no packed tensors.
at=$(($(grep -abo blk.0.attn_q.weight "$demo" | head -n 1 | cut -d : -f 1) + 19 + 4 + 16))
cp "$demo" "$tap_dir/typed.gguf"
printf '\001' | dd of="$tap_dir/typed.gguf" bs=1 seek=$((at + 2)) conv=notrunc status=none
weir run -q "$tap_dir/typed.gguf" -p x
fails_with "a packed tensor in a GGUF file" "typed\.gguf.*attn_q.*65544.*unknown"

# ---- limits ----

# A file that is there stays as it is until the new one is whole.
cp "$packed" "$tap_dir/kept.weir"
sum=$(sha256sum < "$tap_dir/kept.weir")
weir pack "$tap_dir/none.gguf" "$tap_dir/kept.weir"
is "a failure leaves the old file alone" "$(sha256sum < "$tap_dir/kept.weir")" "$sum"
weir pack -q "$tap_dir/tied.gguf" "$tap_dir/kept.weir"
same_model "and then it is replaced" "$tap_dir/tied.gguf" "$tap_dir/kept.weir"

synth "$tap_dir/large.gguf" --layers 6 --embd 2048 --ff 5632 --heads 16 --kv-heads 4
ok "a model that is large beside the buffers" [ "$(stat -c %s "$tap_dir/large.gguf")" -gt 100000000 ]
weir pack --json "$tap_dir/large.gguf" "$tap_dir/large.weir"
is "packing takes two extents of memory and the header" \
	"$status $(json 'j["peak_rss_bytes"] < 32e6')" "0 True"
weir pack --unpack --json "$tap_dir/large.weir" "$tap_dir/large.back"
is "so does unpacking" "$status $(json 'j["peak_rss_bytes"] < 32e6')" "0 True"
rm "$tap_dir"/large.*

# shellcheck disable=SC2016
full_tmpfs='mount -t tmpfs -o size=4M none "$1" && shift && "$@"; s=$?
	[ -z "$(ls -A "$0")" ] || echo "left behind: $(ls -A "$0")"; exit $s'
if unshare -m true 2> /dev/null; then
	mkdir "$tap_dir/tiny"
	attempt unshare -m bash -c "$full_tmpfs" "$tap_dir/tiny" "$tap_dir/tiny" \
		"$program" pack "$demo" "$tap_dir/tiny/m.weir"
	fails_with "a file system that fills up" "m\.weir|space"
else
	skip "a file system that fills up" "mounting a small one needs root"
fi
done_testing
