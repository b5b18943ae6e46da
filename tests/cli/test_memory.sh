#!/bin/bash
# SPDX-License-Identifier: MIT
# The budget holds: weights take no more DRAM than it says, whatever the model's size.
. "$(dirname "$0")/lib.sh"

model=$tap_dir/model.gguf
synth "$model" --layers 16 --embd 2048 --ff 5632 --heads 16 --kv-heads 4 --ctx 1024
weights=$(stat -c %s "$model")
ok "the model is large beside everything else" [ "$weights" -gt 300000000 ]

for share in 10 30 60; do
	budget=$((weights * share / 100))
	weir bench "$model" -p 8 -n 6 --budget $budget --json
	is "budget of $share%: runs" "$status" 0
	is "budget of $share%: the pool is within it" "$(json "j['pool_bytes'] <= $budget")" True
	is "budget of $share%: peak memory is pool, KV cache, buffers and 30 MB" \
		"$(json "j['peak_rss_bytes'] <= $budget + j['kv_bytes'] + j['buffer_bytes'] + 30e6")" True
	is "budget of $share%: 90% of it is used" "$(json "j['pool_bytes'] >= 0.9 * $budget")" True
	# reads wrap into the next token, so what a ring holds may be counted early or late
	is "budget of $share%: a token reads what streams, and no more" \
		"$(json "abs(j['flash_read_bytes'] - j['decoded_tokens'] * j['stream_bytes']) \
			<= j['pool_bytes'] - j['pinned_bytes']")" True
	is "budget of $share%: pinned and streamed are all there is" \
		"$(json "abs(j['pinned_bytes'] + j['stream_bytes'] - j['sweep_bytes']) \
			<= 0.02 * j['sweep_bytes']")" True
done

# ---- too little ----

for budget in 0 1K 100K; do
	weir run -q "$model" -p x -n 1 --budget $budget
	fails_with "budget of $budget" 'least.*[0-9.]+ (kB|MB|GB)'
done
# The budget that the sentence asks for works.
least=$(grep -oE '[0-9]+ bytes' <<< "$err" | tail -n 1)
weir bench "$model" -p 0 -n 2 --budget "${least% bytes}" --json
is "the least budget that it named ($least) works" "$status" 0
is "and holds" "$(json "j['pool_bytes'] <= ${least% bytes}")" True

# ---- a context that nobody chose ----

# 256 kB a position: an eighth of free memory holds some thousands, and the model has them
deep=$tap_dir/deep.gguf
synth "$deep" --layers 128 --embd 512 --ff 256 --heads 8 --kv-heads 8 --vocab 300 --ctx 8192
weir eval "$deep" --tokens "$(seq -s, 1 299),$(seq -s, 1 299),$(seq -s, 1 299)" --logits /dev/null
is "without -c a context of 897 tokens is there" "$status" 0
done_testing
