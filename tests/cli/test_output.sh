#!/bin/bash
# SPDX-License-Identifier: MIT
# Results on stdout, everything else on stderr; JSON with the names that scripts rely on.
. "$(dirname "$0")/lib.sh"

model=$tap_dir/model.gguf
synth "$model" --layers 4 --embd 512 --ff 1024 --ctx 512

has_no_escape()
{
	! grep -q $'[\033\r]' <<< "$1"
}

# ---- run ----

weir run "$model" -p "Hello" -n 12 --seed 1
is "run: exit status 0" "$status" 0
like "run: stdout begins with the prompt" "$out" '^Hello'
ok "run: stdout has no control sequences" has_no_escape "$out"
ok "run: stderr has none where it is no terminal" has_no_escape "$err"
like "run: the last line has speed, share of the limit and its bound" "$(tail -n 1 <<< "$err")" \
	'tokens/s.*%.*(flash|DRAM|compute)'
like "run: and flash, bytes a token, stalls, memory" "$(tail -n 1 <<< "$err")" \
	'flash.*GB/s.*token.*stall.*memory'
text=$out

weir run -q "$model" -p "Hello" -n 12 --seed 1
is "run -q: nothing on stderr" "$err" ""
is "run -q: the same text" "$out" "$text"
printf 'Hello' > "$tap_dir/prompt"
weir run -q "$model" -f "$tap_dir/prompt" -n 12 --seed 1
is "run -f FILE: the same text" "$out" "$text"
from_stdin()
{
	printf 'Hello' | "$program" run -q "$model" -f - -n 12 --seed 1 > "$tap_dir/out"
}
from_stdin
is "run -f -: the same text" "$(cat "$tap_dir/out")" "$text"
weir run -q "$model" -p "Hello" -n 0
is "run -n 0: the prompt alone" "$status $out" "0 Hello"
# random weights make bytes that are no UTF-8
weir run -q --json "$model" -p "Hello" -n 12 --seed 1
json_has "run --json" prompt text decode_tok_s prompt_tok_s limit_tok_s bound peak_rss_bytes
weir run -q "$demo" -p "Hello" -n 12 --seed 1
text=$out
weir run -q --json "$demo" -p "Hello" -n 12 --seed 1
is "run --json: the same text" "$(json 'j["prompt"] + j["text"]')" "$text"

# ---- bench ----

weir bench "$model" -p 16 -n 8 --budget 50% --json
is "bench --json: exit status 0" "$status" 0
json_has "bench --json" prompt_tok_s decode_tok_s predicted_tok_s limit_tok_s limit_share bound \
	flash_read_bytes flash_gb_s stall_share pinned_bytes peak_rss_bytes
is "bench --json: limit_share is a share of limit_tok_s" \
	"$(json 'abs(j["limit_share"] - j["decode_tok_s"] / j["limit_tok_s"]) < 1e-6')" True
is "bench --json: stall_share is 0 to 1" "$(json '0 <= j["stall_share"] <= 1')" True
is "bench --json: bound is a known word" \
	"$(json 'j["bound"] in ("flash", "DRAM", "compute")')" True
is "bench --json: half of the weights streamed" "$(json 'j["flash_read_bytes"] > 0')" True
weir bench "$model" -p 0 -n 8 --budget 100% --json
is "bench -p 0: no prompt speed" "$(json 'j["prompt_tok_s"]')" "0.0"
is "bench, all pinned: nothing is read while decoding" "$(json 'j["flash_read_bytes"]')" 0
weir bench "$model" -p 16 -n 8
like "bench: prompt, decode, predicted, limit" "$(tr '\n' ' ' <<< "$out")" \
	'prompt .*decode .*predicted .*limit '
is "bench --json: no plain reads of DRAM where none were asked for" \
	"$(weir bench "$model" -p 0 -n 1 --json; json 'j["dram_gb_s"], j["dram_share"]')" \
	"(None, None)"
weir bench "$model" -p 0 -n 3 --budget 100% --dram --json
is "bench --dram: exit status 0" "$status" 0
is "bench --dram: share of plain reads" "$(json 'j["dram_gb_s"] > 0.1 and abs(
	j["dram_share"] * j["dram_gb_s"] * 1e9 / j["decode_tok_s"] / j["sweep_bytes"] - 1) < 0.5')" True
weir bench "$model" -p 0 -n 3 --budget 100% --dram
like "bench --dram: in words" "$out" 'DRAM +[0-9.]+ GB/s by plain reads .*decode reads [0-9.]+% of it'
weir bench "$model" -p 0 -n 3 --budget 50% --dram
is "bench --dram, streamed: exit status" "$status" 1
like "bench --dram, streamed: says what to do" "$err" '--dram: not all weights fit.*--budget'
weir bench --kernels --dram
is "bench --kernels --dram: exit status" "$status" 2

# ---- the others ----

weir plan "$model" --budget 50% --json
is "plan --json: exit status 0" "$status" 0
ok "plan --json is one object" json 'j'
weir plan "$model" --budget 50%
is "plan: exit status 0" "$status" 0
like "plan: says what is pinned and what streams" "$(tr '\n' ' ' <<< "$out")" 'pinned.*stream'

weir info "$model" --json
json_has "info --json" metadata tensors
is "info --json: architecture" "$(json 'j["metadata"]["general.architecture"]')" llama
is "info --json: every tensor lies in the file" "$(json \
	"all(0 < t['offset'] and t['offset'] + t['size_bytes'] <= $(stat -c %s "$model") for t in j['tensors'])")" True
weir info "$model"
like "info: names architecture and a tensor" "$(tr '\n' ' ' <<< "$out")" \
	'general\.architecture.*llama.*blk\.0\.attn_q\.weight'

weir eval "$model" --tokens 1,2,3 --logits "$tap_dir/logits"
is "eval: exit status 0" "$status" 0
is "eval: nothing on stdout" "$out" ""
is "eval: float32 [3][vocabulary]" "$(stat -c %s "$tap_dir/logits")" $((3 * 1024 * 4))
ok "eval: only finite numbers" python3 -c 'import array, math, sys
a = array.array("f", open(sys.argv[1], "rb").read())
sys.exit(not all(map(math.isfinite, a)))' "$tap_dir/logits"

weir tokenize "$model" -p "Hello, world" --json
json_has "tokenize --json" ids pieces
ids=$(json '",".join(map(str, j["ids"]))')
weir tokenize "$model" -p "Hello, world" --ids
is "tokenize --ids: the same, on one line" "$(tr ' ' ',' <<< "$out")" "$ids"
weir tokenize "$model" -p "Hello, world" --ids --no-bos
is "tokenize --no-bos: without the first" "$(tr ' ' ',' <<< "$out")" "${ids#*,}"
weir tokenize "$model" --decode "${ids#*,}"
is "tokenize --decode: the text again" "${out# }" "Hello, world"
weir tokenize "$model" -p "" --ids
is "tokenize of nothing" "$status" 0

seq 2000 > "$tap_dir/text"
weir perplexity "$model" -f "$tap_dir/text" -c 64 --json
is "perplexity --json: exit status 0" "$status" 0
json_has "perplexity --json" perplexity
is "perplexity: more than 1" "$(json '1 < j["perplexity"] < 1e9')" True
ok "perplexity: no control sequences on stderr where it is no terminal" has_no_escape "$err"

weir probe --size 64M --dir "$tap_dir" --json
is "probe --json: exit status 0" "$status" 0
json_has "probe --json" dram_gb_s flash_gb_s
is "probe --json: speeds are positive" "$(json 'j["dram_gb_s"] > 0 and j["flash_gb_s"] > 0')" True
is "probe removes its file" "$(find "$tap_dir" -size +60M)" ""

# A result that could not be written is no success.
full_disk()
{
	timeout 60 "$program" "$@" > /dev/full 2> "$tap_dir/err"
	status=$?
	out=
	err=$(cat "$tap_dir/err")
}
full_disk info "$model"
is "info to a full disk: exit status 1" "$status" 1
full_disk run -q "$model" -p x -n 4 --seed 1
is "run to a full disk: exit status 1" "$status" 1
ok "run to a full disk: one sentence" one_sentence
for command in "--help" "info --help" "info --json" "plan --json --machine orin-64" "tokenize -p x" \
	"eval --tokens 1,2 --logits -" "perplexity -q -c 64 -f $tap_dir/text"; do
	# shellcheck disable=SC2086
	case $command in
	*help) full_disk $command ;;
	*) full_disk $command "$model" ;;
	esac
	is "$command to a full disk: exit status 1" "$status" 1
	ok "$command to a full disk: one sentence" one_sentence
done

# ---- eval writes into what is no regular file, and replaces what is one whole ----

reference=$tap_dir/logits
eval_to()
{
	weir eval "$model" --tokens 1,2,3 --logits "$1"
}
mkfifo "$tap_dir/fifo"
# a reader of a pipe that was replaced would wait for ever
timeout 30 cat "$tap_dir/fifo" > "$tap_dir/from-fifo" &
reader=$!
eval_to "$tap_dir/fifo"
wait $reader
is "eval to a pipe: exit status 0" "$status" 0
ok "eval to a pipe: it stays a pipe" [ -p "$tap_dir/fifo" ]
ok "eval to a pipe: the logits went through" cmp "$reference" "$tap_dir/from-fifo"
eval_to /dev/null
is "eval to /dev/null: exit status 0" "$status" 0
ok "eval to /dev/null: it stays a device" [ -c /dev/null ]
eval_to /dev/stdout
ok "eval to /dev/stdout: the logits are there" cmp "$reference" "$tap_dir/out"
eval_to /dev/full
fails_with "eval to a full disk" "No space left"
ok "eval to /dev/full: it stays a device" [ -c /dev/full ]
mkdir "$tap_dir/elsewhere"
echo old > "$tap_dir/elsewhere/target"
ln -s elsewhere/target "$tap_dir/link"
eval_to "$tap_dir/link"
ok "eval through a link: it stays a link" [ -L "$tap_dir/link" ]
ok "eval through a link: its target has the logits" cmp "$reference" "$tap_dir/elsewhere/target"
ln -s elsewhere/new "$tap_dir/nowhere"
eval_to "$tap_dir/nowhere"
ok "eval through a link to nowhere: it stays a link" [ -L "$tap_dir/nowhere" ]
ok "eval through a link to nowhere: what it names is made" cmp "$reference" "$tap_dir/elsewhere/new"
ln -s elsewhere/never "$tap_dir/nothing"
weir eval "$model" --tokens 1,99999999 --logits "$tap_dir/nothing"
is "eval that fails makes and leaves nothing" "$status $(find "$tap_dir/elsewhere" -type f | wc -l)" "1 2"
weir eval "$model" --tokens 1,99999999 --logits "$tap_dir/link"
ok "eval that fails leaves the old file" cmp "$reference" "$tap_dir/elsewhere/target"

# ---- what a hostile file says reaches no terminal, and is valid JSON ----

hostile=$tap_dir/hostile.gguf
PYTHONDONTWRITEBYTECODE=1 python3 "$top/tests/cli/hostile.py" "$model" "$hostile"
has_no_control()
{
	! LC_ALL=C grep -qaP '[\x00-\x08\x0b-\x1f\x7f\xff]|\xc2[\x80-\x9f]' <<< "$1"
}
weir info "$hostile"
is "info of a hostile file: exit status 0" "$status" 0
ok "info: no control characters in text" has_no_control "$out"
like "info: a key, dots for what was filtered" "$out" 'x\.\.\[31mkey .*"red"'
like "info: a tensor's name" "$out" '^  \.\[31mX_norm\.weight +F32'
like "info: 2^64 - 1 as it is" "$out" 'x\.big +18446744073709551615$'
like "info: numbers that are none" "$out" 'x\.numbers .* 1\.5 -?nan inf$'
weir info "$hostile" --json
is "info --json of a hostile file: exit status 0" "$status" 0
is "info --json: bytes that are no UTF-8" "$(json 'ascii(j["metadata"]["x.bytes"])')" "'a\\ufffdb\\ufffd'"
is "info --json: nor in a key" "$(json 'j["metadata"]["x.\ufffd"]')" "key"
is "info --json: numbers that are none" \
	"$(json 'j["metadata"]["x.nan"], j["metadata"]["x.numbers"]')" "(None, [1.5, None, None])"
is "info --json: integers beyond 2^63 keep their digits" \
	"$(json 'j["metadata"]["x.big"], j["metadata"]["x.bigs"]')" \
	"('18446744073709551615', [1, '18446744073709551615'])"
weir tokenize "$hostile" -p $'\033' --no-bos
like "tokenize: the piece that is an escape" "$out" ' \.$'
ok "tokenize: no control characters in text" has_no_control "$out"
weir tokenize "$model" -p Hi --ids --no-bos
read -ra ids <<< "$out"
weir tokenize "$hostile" --decode "${ids[*]: -1}" --json
is "tokenize --decode --json: bytes that are no UTF-8" "$(json 'ascii(j["text"])')" "'\\ufffd'"
weir tokenize "$hostile" -p $'\377' --json
is "tokenize --json of bytes that are no UTF-8: valid" "$status $(json 'len(j["ids"]) == len(j["pieces"])')" \
	"0 True"
printf 'a\0\377b' > "$tap_dir/bytes"
weir run -q --json "$model" -f "$tap_dir/bytes" -n 8 --seed 1
is "run --json of a prompt that is no UTF-8" "$status $(json 'ascii(j["prompt"])')" "0 'a\\x00\\ufffdb'"

# ---- a model whose output is not a number ----

broken=$tap_dir/broken.gguf
cp "$model" "$broken"
weir info "$model" --json
at=$(json 'next(t["offset"] for t in j["tensors"] if t["name"] == "output_norm.weight")')
printf '\0\0\300\177' | dd of="$broken" bs=1 seek="$at" conv=notrunc status=none
weir run -q "$broken" -p x -n 4
is "run: output that is not a number: exit status 1" "$status" 1
weir perplexity -q "$broken" -f "$tap_dir/text" -c 64
fails_with "perplexity: output that is not a number" "not a number.*damaged"
weir eval "$broken" --tokens 1,2 --logits "$tap_dir/broken-logits"
is "eval: logits that are not numbers are written" "$status $(stat -c %s "$tap_dir/broken-logits")" \
	"0 $((2 * 1024 * 4))"
like "eval: and said" "$err" '2 of 2 positions.*not numbers'

# ---- a measurement that cannot be kept is shown all the same ----

attempt env XDG_CACHE_HOME=/dev/null timeout 120 "$program" probe --size 16M --dir "$tap_dir" --json
is "probe without a cache: exit status 0" "$status" 0
json_has "probe without a cache" dram_gb_s flash_gb_s
like "probe without a cache: says that it is not kept" "$(tail -n 1 <<< "$err")" '^weir: .*/dev/null'

done_testing
