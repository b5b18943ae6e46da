#!/bin/bash
# SPDX-License-Identifier: MIT
# A conversation whose lines come from a pipe: an answer for each, until the end of the input.
. "$(dirname "$0")/lib.sh"

# chat TEXT OPTION...: TEXT is what the user types
chat()
{
	printf '%b' "$1" | timeout 120 "$program" chat "$demo" "${@:2}" > "$tap_dir/out" 2> "$tap_dir/err"
	status=${PIPESTATUS[1]}
	out=$(tr -d '\0' < "$tap_dir/out")
	err=$(tr -d '\0' < "$tap_dir/err")
}

options=(-q --chat-template chatml -n 24 --seed 5)

chat 'Good morning.\n' "${options[@]}"
is "one line: exit status 0" "$status" 0
is "one line: nothing on stderr" "$err" ""
ok "one line: an answer" [ ${#out} -gt 20 ]
first=$out
chat 'Good morning.\n' "${options[@]}" --budget 50% -t 2
is "the same answer from streamed weights" "$out" "$first"
chat 'Good morning.' "${options[@]}"
is "a last line without a newline is answered too" "$out" "$first"
chat 'Good morning.\r\n' "${options[@]}"
is "a line as Windows ends it" "$out" "$first"
chat '\n\nGood morning.\n' "${options[@]}"
is "empty lines are passed over" "$out" "$first"

chat 'Good morning.\nHow do you do?\n' "${options[@]}"
is "two lines: exit status 0" "$status" 0
is "two lines: the first answer" "${out:0:${#first}}" "$first"
ok "two lines: and another" [ ${#out} -gt $((${#first} + 20)) ]
chat 'Good morning.\n' "${options[@]}" --system 'You are Emma.'
is "--system: exit status 0" "$status" 0
ok "--system changes the answer" [ "$out" != "$first" ]
chat 'Good morning.\n' "${options[@]}" --chat-template llama3
is "another template: exit status 0" "$status" 0
ok "another template changes the answer" [ "$out" != "$first" ]

chat '' "${options[@]}"
is "no line at all: exit status 0 and no word" "$status $out$err" "0 "
chat 'Good morning.\n' "${options[@]}" -c 16
is "a conversation longer than the context: exit status 1" "$status" 1
ok "a conversation longer than the context: one sentence" one_sentence
chat 'Good morning.\n' -q --chat-template nonsense
is "unknown template: exit status 2" "$status" 2
like "unknown template: those that are known are listed" "$err" 'chatml'
# On a terminal: a line that is not ASCII, two answers stopped by Ctrl-C, then Ctrl-D.
out=$(timeout 100 python3 "$top/tests/cli/chat_pty.py" "$program" "$demo" 2>&1)
like "on a terminal: Ctrl-C stops the answer alone, Ctrl-D ends it well" "$out" 'status 0'
like "on a terminal: the line editor keeps what is not ASCII" "$out" 'café é'
ok "on a terminal: nothing was waited for in vain" [ "${out#*in vain}" = "$out" ]
done_testing
