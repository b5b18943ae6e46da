#!/bin/bash
# SPDX-License-Identifier: MIT
# The plan's arithmetic, and the figures of the edge post for its two machines.
. "$(dirname "$0")/lib.sh"

# near NAME EXPRESSION VALUE: within half of the last digit that VALUE has
near()
{
	is "$1" "$(json "'%.*f' % (len('$3'.partition('.')[2]), $2)")" "$3"
}

# same NAME EXPRESSION EXPRESSION: as far as the nine digits of JSON say
same()
{
	is "$1" "$(json "abs($2 - ($3)) <= 1e-7 * abs($3)")" True
}

# ---- the post: LLaMA3-8B, 16 Gflop a token, 4 GB at 4 bits, 6 GB with activations ----

weir plan --machine iphone-15-pro --json
is "iphone-15-pro: exit status 0" "$status" 0
near "iphone-15-pro: memory-bound tokens/s" "j['post']['memory_bound_tok_s']" 12.8
near "iphone-15-pro: with activations" "j['post']['memory_bound_with_activations_tok_s']" 8.53
near "iphone-15-pro: compute-bound on NEON int8" "j['post']['units'][0]['compute_bound_tok_s']" 94
near "iphone-15-pro: largest alpha without loss" "j['post']['alpha_without_loss']" 0.0192
near "the post's ratio of 50: largest alpha without loss" \
	"j['post']['alpha_without_loss_at_ratio_50']" 0.0196
near "iphone-15-pro: effective DRAM at alpha 0.5, GB/s" \
	"j['post']['effective_dram_gb_s_at_alpha_0_5']" 1.00

weir plan --machine orin-64 --json
near "orin-64: memory-bound tokens/s" "j['post']['memory_bound_tok_s']" 51.2
near "orin-64: with activations" "j['post']['memory_bound_with_activations_tok_s']" 34.1
near "orin-64: compute-bound on its tensor cores" \
	"max(u['compute_bound_tok_s'] for u in j['post']['units'])" 5312.5
near "orin-64: effective DRAM at alpha 0.5 is its flash" \
	"j['post']['effective_dram_gb_s_at_alpha_0_5']" 7.0

weir plan --machine iphone-15-pro
for figure in 12.80 8.53 0.0196 1.00; do
	like "iphone-15-pro as text: $figure" "$out" "(^| )${figure/./\\.}( |$|;)"
done
weir plan --machine help
like "--machine help lists them" "$(tr '\n' ' ' <<< "$out")" 'iphone-15-pro.*orin-64.*orin-nano'

# ---- a model ----

model=$tap_dir/model.gguf
synth "$model" --layers 8 --embd 1024 --ff 2816 --heads 8 --kv-heads 8

for budget in 100% 75% 50% 25%; do
	weir plan "$model" --machine orin-nano --budget $budget --json
	is "budget $budget: exit status 0" "$status" 0
	same "budget $budget: alpha is streamed over read" \
		"j['alpha'] * j['sweep_bytes']" "j['stream_bytes']"
	same "budget $budget: flash time is alpha W / 3.5 GB/s" "j['flash_s'] * 3.5e9" "j['stream_bytes']"
	same "budget $budget: DRAM time is (1 + alpha) W / 68 GB/s" \
		"j['dram_s'] * 68e9" "j['sweep_bytes'] + j['stream_bytes']"
	same "budget $budget: the slowest decides" \
		"1 / j['predicted_tok_s']" "max(j['flash_s'], j['dram_s'], j['compute_s'])"
	is "budget $budget: and is named" "$(json "max((j['flash_s'], 'flash'), (j['dram_s'], 'DRAM'),
		(j['compute_s'], 'compute'))[1] == j['bound']")" True
	near "budget $budget: balance is B_flash / (B_flash + B_DRAM)" "j['alpha_balance']" 0.0490
done
is "a quarter of the weights in DRAM: bound by flash" "$(json "j['bound']")" flash
weir plan "$model" --machine orin-nano --budget 100% --json
is "all in DRAM: nothing streams" "$(json "j['stream_bytes']")" 0
weir plan "$model" --machine orin-nano --budget 100G --json
is "more DRAM than the model needs: nothing streams" "$(json "j['stream_bytes']")" 0
is "and no more is taken than it needs" \
	"$(json "j['pool_bytes'] < 1.05 * $(stat -c %s "$model")")" True
weir plan "$model" --budget 50%
is "on this machine: exit status 0" "$status" 0
like "on this machine: alpha" "$out" 'alpha 0\.[4-6]'
done_testing
