#!/bin/bash
# SPDX-License-Identifier: MIT
# Help, and what wrong usage gets: status 2, a sentence on stderr, nothing on stdout.
. "$(dirname "$0")/lib.sh"

# names_option OPTION: the help in $out describes it
names_option()
{
	grep -qaE -e "(^|[ ,])$1([ =,[]|$)" <<< "$out"
}

# help_of SUBCOMMAND OPTION...
help_of()
{
	local command=$1 option

	shift
	weir "$command" --help
	is "$command --help: exit status 0" "$status" 0
	is "$command --help: nothing on stderr" "$err" ""
	for option; do
		ok "$command --help names $option" names_option "$option"
	done
}

decoding=(-n -c -t --budget --source --device --temp --top-k --top-p --min-p --repeat-penalty --seed)

weir --help
is "--help: exit status 0" "$status" 0
for command in run chat bench plan probe info eval tokenize perplexity pack synth; do
	like "--help names $command" "$out" "^ +$command "
done
weir --version
like "--version" "$status $out" '^0 weir [0-9]+\.[0-9]+\.[0-9]+$'

help_of run -p -f --json "${decoding[@]}"
help_of chat "${decoding[@]}"
help_of bench -p --kernels --types --layout --size --rounds --json "${decoding[@]}"
help_of plan --machine --budget --json
help_of probe --json
help_of info --json
help_of eval --tokens --logits --budget --source -t
help_of tokenize -p -f --ids --no-bos --decode --json
help_of perplexity -f --budget --json
help_of pack --unpack --json --quiet
help_of synth --arch --layers --type

# wrong NAME REGEX ARGUMENT...
wrong()
{
	local name=$1 regex=$2

	shift 2
	weir "$@"
	is "$name: exit status 2" "$status" 2
	is "$name: nothing on stdout" "$out" ""
	like "$name: stderr names it" "$err" "$regex"
	# the sentence, and where to look, which takes two lines
	ok "$name: stderr is short" [ "$(wc -l <<< "$err")" -le 3 ]
}

weir
is "no subcommand: exit status 2" "$status" 2
is "no subcommand: nothing on stdout" "$out" ""
like "no subcommand: stderr lists them" "$err" 'tokenize'

wrong "unknown subcommand" 'frobnicate' frobnicate model.gguf
wrong "unknown option" 'frob' run --frob model.gguf -p x
wrong "run without a model" 'MODEL' run -p x
wrong "run without a prompt" '-p TEXT' run model.gguf
wrong "run with two prompts" '-p TEXT' run model.gguf -p x -f y
wrong "run with two models" 'b\.gguf' run a.gguf b.gguf -p x
wrong "a budget that is no size" "'much'" run model.gguf -p x --budget much
wrong "a budget of an unknown unit" "'5X'" run model.gguf -p x --budget 5X
wrong "a negative budget" "'-1'" run model.gguf -p x --budget=-1
wrong "a negative temperature" "temp.*'-1'" run model.gguf -p x --temp=-1
wrong "a temperature that is no number" "temp.*'warm'" run model.gguf -p x --temp warm
wrong "a temperature of nan" "temp.*'nan'" run model.gguf -p x --temp nan
wrong "top-p above 1" "top-p.*'2'" run model.gguf -p x --top-p 2
wrong "min-p above 1" "min-p.*'1.5'" run model.gguf -p x --min-p 1.5
wrong "a repeat penalty of 0" "repeat-penalty.*'0'" run model.gguf -p x --repeat-penalty 0
wrong "an unknown source" "'floppy'" run model.gguf -p x --source floppy
wrong "an unknown device" "'abacus'" run model.gguf -p x --device abacus
wrong "a negative number of tokens" "'-5'" run model.gguf -p x -n -5
wrong "a number of tokens with rubbish" "'1x'" run model.gguf -p x -n 1x
wrong "no threads" "'0'" run model.gguf -p x -t 0
wrong "a context of 0" "'0'" run model.gguf -p x -c 0
wrong "a seed that is no number" "'lucky'" run model.gguf -p x --seed lucky
wrong "bench with a prompt of no number" "'x'" bench model.gguf -p x
wrong "kernels of a model" "x\.gguf.*no MODEL" bench --kernels x.gguf
wrong "bench without a model" 'MODEL is missing' bench
wrong "kernels of an unknown type" "types.*'q9_9'" bench --kernels --types q4_0,q9_9
wrong "kernels of no type" "types.*''" bench --kernels --types q4_0,
wrong "kernels of an unknown layout" "layout.*'diagonal'" bench --kernels --layout diagonal
wrong "kernels with a size that is none" "size.*'big'" bench --kernels --size big
wrong "kernels with a size that caches hold" "size.*'1M'.*16M" bench --kernels --size 1M
wrong "kernels in no rounds" "rounds.*'0'" bench --kernels --rounds 0
for option in --types=q4_0 --layout=file --size=1G --rounds=3; do
	wrong "bench MODEL ${option%=*}" "${option%=*}: only with --kernels" bench x.gguf $option
done
wrong "plan without a model" 'MODEL' plan
wrong "plan for an unknown machine" "'toaster'" plan --machine toaster
wrong "probe with an argument" "model.gguf" probe model.gguf
wrong "probe with a size that is none" "size.*'nonsense'" probe --size nonsense
wrong "info without a model" 'MODEL' info
wrong "eval without tokens" 'tokens' eval model.gguf --logits out
wrong "eval without an output" 'logits' eval model.gguf --tokens 1
wrong "tokenize without a text" '-p TEXT' tokenize model.gguf
wrong "tokenize with two texts" '-p TEXT' tokenize model.gguf -p x --decode 1
wrong "perplexity without a text" '-f FILE' perplexity model.gguf
wrong "pack without a model" 'MODEL is missing' pack
wrong "pack without a file to write" 'OUT is missing' pack model.gguf
wrong "pack with two files to write" "'c'.*too many" pack a b c
wrong "synth without a file" 'OUT' synth --layers 2
wrong "synth with no layers" "layers.*'0'" synth "$tap_dir/x.gguf" --layers 0
wrong "synth with an unknown type" "'q9_9'" synth "$tap_dir/x.gguf" --type q9_9
is "none of these wrote a file" "$(find "$tap_dir" -name '*.gguf*')" ""
done_testing
