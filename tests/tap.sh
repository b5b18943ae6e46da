# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The Test Anything Protocol for shell scripts, as tap.h is for C. Source it, call ok, is, like and
# skip, and end with done_testing. `attempt COMMAND...` runs a command and leaves what it did in
# $status, $out and $err, which a failed test then shows.

tap_count=0
tap_failed=0
status=0
out=
err=

tap_dir=$(mktemp -d)
tap_cleanup()
{
	rm -rf "$tap_dir"
}
trap tap_cleanup EXIT

attempt()
{
	"$@" > "$tap_dir/out" 2> "$tap_dir/err" < /dev/null
	status=$?
	out=$(tr -d '\0' < "$tap_dir/out")
	err=$(tr -d '\0' < "$tap_dir/err")
}

# ok NAME COMMAND...: passes where the command succeeds
ok()
{
	local name=$1

	shift
	tap_count=$((tap_count + 1))
	if "$@" > /dev/null; then
		echo "ok $tap_count - $name"
		return
	fi
	echo "not ok $tap_count - $name"
	tap_failed=$((tap_failed + 1))
	printf '# failed: %.500s\n' "${*//$'\n'/ }"
	echo "# status: $status"
	head -n 20 <<< "$out" | cut -c 1-300 | sed 's/^/# stdout: /'
	head -n 20 <<< "$err" | cut -c 1-300 | sed 's/^/# stderr: /'
	return 1
}

# is NAME GOT WANTED
is()
{
	ok "$1" [ "$2" = "$3" ]
}

# like NAME TEXT REGEX: grep -E, one line of the text
like()
{
	ok "$1" grep -qaE -e "$3" <<< "$2"
}

unlike()
{
	ok "$1" lacks "$2" "$3"
}

lacks()
{
	! grep -qaE -e "$2" <<< "$1"
}

# skip NAME REASON
skip()
{
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

done_testing()
{
	echo "1..$tap_count"
	[ $tap_failed -eq 0 ]
	exit
}
