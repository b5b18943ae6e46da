#!/bin/bash
# SPDX-License-Identifier: MIT
# Where a model may lie: split in parts, on tmpfs, behind a link, unreadable, read by a user who
# may lock little memory; and what is said when it changes or goes.
. "$(dirname "$0")/lib.sh"

model=$tap_dir/model.gguf
synth "$model" --layers 6 --embd 512 --ff 1024 --seed 9
options=(-p "Hello there" -n 24 --seed 7 --budget 50%)
weir run -q "$model" "${options[@]}"
is "the model runs" "$status" 0
want=$out

# ---- split ----

python3 "$top/tests/cli/split.py" "$model" "$tap_dir/part" 3
for source in uring mmap; do
	weir run -q "$tap_dir/part-00001-of-00003.gguf" "${options[@]}" --source $source
	is "split in three, $source: the same text" "$out" "$want"
done
weir info "$tap_dir/part-00001-of-00003.gguf" --json
is "info of a split model lists all tensors" "$(json 'len(j["tensors"])')" \
	"$("$program" info "$model" --json | python3 -c 'import json, sys
print(len(json.load(sys.stdin)["tensors"]))')"
weir run -q "$tap_dir/part-00002-of-00003.gguf" "${options[@]}"
runs_or_asks_for_the_first()
{
	[ "$out" = "$want" ] || { [ "$status" -eq 1 ] && [[ $err == *first* || $err == *00001* ]]; }
}
ok "the second part alone: runs, or says to give the first" runs_or_asks_for_the_first
mv "$tap_dir/part-00003-of-00003.gguf" "$tap_dir/elsewhere"
weir run -q "$tap_dir/part-00001-of-00003.gguf" "${options[@]}"
fails_with "a part is missing" "part-00003-of-00003\.gguf"
mv "$tap_dir/elsewhere" "$tap_dir/part-00003-of-00003.gguf"
cp "$tap_dir/part-00002-of-00003.gguf" "$tap_dir/part-00003-of-00003.gguf"
weir run -q "$tap_dir/part-00001-of-00003.gguf" "${options[@]}"
fails_with "one part stands in for another" "part-0000.-of-00003\.gguf"

# ---- links, names ----

ln -s model.gguf "$tap_dir/link.gguf"
weir run -q "$tap_dir/link.gguf" "${options[@]}"
is "through a symbolic link: the same text" "$out" "$want"
cp "$model" "$tap_dir/a name with spaces, ü and 'quotes'"
weir run -q "$tap_dir/a name with spaces, ü and 'quotes'" "${options[@]}"
is "a name with spaces and quotes: the same text" "$out" "$want"

# ---- data that no 4 KiB boundary fits ----

synth "$tap_dir/aligned8.gguf" --layers 6 --embd 512 --ff 1024 --seed 9 --alignment 8
weir run -q "$tap_dir/aligned8.gguf" "${options[@]}"
is "general.alignment of 8: the same text" "$out" "$want"
synth "$tap_dir/aligned4096.gguf" --layers 6 --embd 512 --ff 1024 --seed 9 --alignment 4096
weir run -q "$tap_dir/aligned4096.gguf" "${options[@]}"
is "general.alignment of 4096: the same text" "$out" "$want"

# ---- tmpfs ----

if [ "$(stat -f -c %T /dev/shm 2> /dev/null)" = tmpfs ] && shm=$(mktemp -d -p /dev/shm 2> /dev/null); then
	trap 'rm -rf "$shm"; tap_cleanup' EXIT
	cp "$model" "$shm/"
	for source in uring mmap; do
		weir run -q "$shm/model.gguf" "${options[@]}" --source $source
		is "on tmpfs, $source: the same text" "$out" "$want"
	done
else
	skip "a model on tmpfs" "/dev/shm is no tmpfs that can be written"
fi

# ---- users ----

# as_nobody COMMAND...: its status, output in $out and $err
as_nobody()
{
	attempt setpriv --reuid 65534 --regid 65534 --clear-groups timeout 120 "$@"
}

# A place that nobody can read, whatever the modes of the directories above this tree
public=$(mktemp -d -p /tmp weir-check-XXXXXX)
trap 'rm -rf "$public" "${shm-}"; tap_cleanup' EXIT
chmod 755 "$public"
cp "$program" "$public/weir"
cp "$model" "$public/model.gguf"
cp "$model" "$public/secret.gguf"
chmod 644 "$public/model.gguf"
chmod 000 "$public/secret.gguf"
as_nobody true
if [ "$(id -u)" -ne 0 ]; then
	weir run -q "$public/secret.gguf" "${options[@]}"
	fails_with "a file without read permission" "secret\.gguf.*[Pp]ermission"
	skip "8 MB of lockable memory" "only root can run as another user"
elif [ "$status" -ne 0 ]; then
	skip "a file without read permission" "setpriv cannot change the user here"
	skip "8 MB of lockable memory" "setpriv cannot change the user here"
else
	as_nobody "$public/weir" run -q "$public/secret.gguf" "${options[@]}"
	fails_with "a file without read permission" "secret\.gguf.*[Pp]ermission"
	# shellcheck disable=SC2016
	as_nobody bash -c 'ulimit -l 8192; "$@"' sh "$public/weir" run -q "$public/model.gguf" \
		"${options[@]}"
	is "8 MB of lockable memory: the same text" "$out" "$want"
	# shellcheck disable=SC2016
	as_nobody bash -c 'ulimit -l 0; "$@"' sh "$public/weir" run -q "$public/model.gguf" "${options[@]}"
	is "no lockable memory: the same text" "$out" "$want"
fi

# ---- a file that shrinks while it is read ends the run with a sentence, not a signal ----

synth "$tap_dir/shrinks.gguf" --layers 12 --embd 1024 --ff 2816 --heads 16
shrink()
{
	local pid i

	"$program" run "$tap_dir/shrinks.gguf" -p Hello -n 100000 --seed 3 --budget 50% --source uring \
		> "$tap_dir/out" 2> "$tap_dir/err" < /dev/null &
	pid=$!
	for ((i = 0; i < 300; i++)); do
		[ "$(stat -c %s "$tap_dir/out")" -gt 10 ] && break
		sleep 0.1
	done
	truncate -s 1M "$tap_dir/shrinks.gguf"
	for ((i = 0; i < 200; i++)); do
		kill -0 $pid 2> /dev/null || break
		sleep 0.1
	done
	kill -KILL $pid 2> /dev/null
	wait $pid
	status=$?
	err=$(cat "$tap_dir/err")
}
shrink
is "the file shrinks: exit status 1" "$status" 1
like "the file shrinks: file and offset are named" "$err" 'shrinks\.gguf.*[0-9]'
done_testing
