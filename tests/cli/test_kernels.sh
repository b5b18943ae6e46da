#!/bin/bash
# SPDX-License-Identifier: MIT
# bench --kernels: which kernels it measures, and the form of table and object. Not their speed.
. "$(dirname "$0")/lib.sh"

quick=(--size 16M --rounds 1)
all=(F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS BF16 MXFP4)

# ---- JSON ----

weir bench --kernels "${quick[@]}" --json -t 2 -q
is "every type: exit status 0" "$status" 0
is "every type: nothing on stderr with -q" "$err" ""
json_has "the object" isa threads rounds row_weights stream_bytes core_bytes cache_bytes dram_gb_s \
	kernels
is "every type that weir knows is there, once" "$(json "' '.join(k['type'] for k in j['kernels'])")" \
	"${all[*]}"
is "a kernel's names" "$(json "' '.join({n: 0 for k in j['kernels'] for n in k})")" \
	"type kind layout gb_s dram_gb_s dram_share core_gb_s arith_share bound"
is "threads are as asked for" "$(json "j['threads']")" 2
is "rounds are as asked for" "$(json "j['rounds']")" 1
is "memory is as asked for" "$(json "j['stream_bytes']")" 16777216
is "rates are numbers above 0" \
	"$(json "all(type(k[n]) is float and k[n] > 0 for k in j['kernels'] for n in k if n[-4:] == 'gb_s')")" \
	True
is "the bound is arithmetic where that is slower than DRAM" \
	"$(json "all(k['bound'] == ('compute' if k['arith_share'] < 1 else 'DRAM') for k in j['kernels'])")" \
	True
is "the machine's rate is one of those beside the kernels" \
	"$(json "j['dram_gb_s'] in [k['dram_gb_s'] for k in j['kernels']]")" True

weir bench --kernels "${quick[@]}" --json --types mxfp4,Q4_0,q4_0 --layout packed
is "picked: exit status 0" "$status" 0
is "picked: these types, once" "$(json "' '.join(k['type'] for k in j['kernels'])")" "Q4_0 MXFP4"
is "picked: of this layout" "$(json "{k['layout'] for k in j['kernels']}")" "{'packed'}"

WEIR_ISA=scalar weir bench --kernels "${quick[@]}" --json --types q4_0
is "WEIR_ISA: it says which instruction set ran" "$(json "j['isa']")" scalar

# ---- the table ----

weir bench --kernels "${quick[@]}" --types f32,q6_k -t 1
is "table: exit status 0" "$status" 0
like "table: instruction set and threads are in the head" "$out" '^kernels +[a-z0-9]+, 1 thread, '
like "table: F32" "$out" '^F32 +vector +file +[0-9.]+ +[0-9]+% +[0-9.]+ +[0-9]+% +(DRAM|compute) +#*\.*$'
like "table: Q6_K" "$out" '^Q6_K +vector +file '
unlike "table: no type that was not asked for" "$out" '^Q4_0'
like "table: the machine's DRAM" "$out" '^DRAM read +[0-9.]+ GB/s$'
unlike "table: no control characters where there is no terminal" "$out$err" '[[:cntrl:]]'

# ---- limits ----

weir bench --kernels --types q4_0 --size 1000T
fails_with "more than the memory that is free" '1\.10 PB.*free.*--size'
done_testing
