# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What the tests of the command line share; source it first. $WEIR is the program under test
# (build/weir). `weir ARGUMENT...` runs it and leaves $status, $out and $err.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/tap.sh
. "$top/tests/tap.sh"

program=$(realpath "${WEIR:-$top/build/weir}")
# shellcheck disable=SC2034
demo=$top/tools/demo-model/weir-demo.gguf
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$top/build/check/cache}

weir()
{
	attempt timeout 120 "$program" "$@"
}

# The machine is measured once, in little time: a test must not depend on what it finds.
if [ ! -e "$XDG_CACHE_HOME/weir/probe.json" ]; then
	weir probe --size 64M --dir "$tap_dir"
	is "this machine can be measured" "$status" 0
fi

# synth OUT OPTION...: a model for this test
synth()
{
	weir synth "$@"
	is "synth makes a model: ${*:2}" "$status" 0
}

# One line on stderr that begins with the program's name
one_sentence()
{
	[ "$(wc -l <<< "$err")" -eq 1 ] && [[ $err == "weir: "?????* ]]
}

# fails_with NAME REGEX: status 1, nothing on stdout, one sentence that has this in it
fails_with()
{
	is "$1: exit status 1" "$status" 1
	is "$1: nothing on stdout" "$out" ""
	ok "$1: one sentence" one_sentence
	like "$1: the sentence says what and where" "$err" "$2"
}

# json EXPRESSION: of the object `j` that $out holds, as Python sees it
json()
{
	python3 -c 'import json, sys
j = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1" <<< "$out" 2> /dev/null
}

# json_has NAME KEY...: $out is one JSON object with at least these
json_has()
{
	local name=$1

	shift
	ok "$name: $(wc -w <<< "$*") names" json "[j[k] for k in '$*'.split()]"
}
