#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs every test, or those of the suites named:
#
#	tests/check.sh [SUITE...]
#
#	unit      gcc build without warnings; unit and kernel tests
#	golden    logits against transformers and llama.cpp
#	cli       build/weir as a user meets it
#	install   what `make install` installs, for the module too; docs/example.c against it
#	clang     clang build without warnings; the same kernel and golden tests
#	asan      the same under AddressSanitizer and UndefinedBehaviorSanitizer
#	tsan      everything with threads under ThreadSanitizer
#	arm64     NEON kernels, and all of weir, under qemu-user
#	fuzz      every fuzz target for CHECK_FUZZ_SECONDS (60) seconds
#	kunit     the kernel module's parts in User-Mode Linux with KASAN and lockdep
#	vm        the kernel module in stock kernels 6.12 and 6.1, x86-64 and arm64, in QEMU
#	lint      sparse, W=1 and checkpatch over the kernel module; its compile probes
#	format    clang-format and shellcheck
#
# A *case* is one line of TAP, or one command that must succeed. Every case goes into $results;
# the last line of the output counts them: `N passed, N failed, N skipped`. Logs: build/check/.
# tools/setup.sh check installs what the suites need.
set -u
# Job control: a test that hangs is ended with all its children, and Ctrl-C ends the test too.
set -m
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL

all_suites=(unit golden cli install clang asan tsan arm64 fuzz kunit vm lint format)
top=$PWD
logs=build/check
results=$logs/results
jobs=$(nproc)
suite=
running=()

mkdir -p $logs/tmp
: > $results

# Nothing of the user's own settings, nothing left behind outside build/.
export TMPDIR=$top/$logs/tmp
export XDG_CACHE_HOME=$top/$logs/cache
export CMOCKA_MESSAGE_OUTPUT=TAP
# Memory that cannot be had is an error that weir handles, with a sanitizer too.
export UBSAN_OPTIONS=print_stacktrace=1
export ASAN_OPTIONS=allocator_may_return_null=1
export TSAN_OPTIONS=allocator_may_return_null=1
unset WEIR_ISA
# What every native build below is made with, those by make in a test too. Some distributions'
# compilers have _FORTIFY_SOURCE by default, and warn of more with it.
export CFLAGS="-O2 -g -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"

trap 'end_running; exit 130' INT TERM

end_running()
{
	local pid

	for pid in "${running[@]}"; do
		kill -TERM -- "-$pid" 2> /dev/null
	done
	rm -rf "$TMPDIR"
}

# ---- cases ----

# record pass|fail|skip NAME [REASON [LOG]]
record()
{
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$suite" "$2" "${3-}" "${4-}" >> $results
}

# limited SECONDS LOG COMMAND...: its status; 124 where it took too long
limited()
{
	local seconds=$1 log=$2

	shift 2
	mkdir -p "$(dirname "$log")"
	timeout -k 10 "$seconds" "$@" > "$log" 2>&1 < /dev/null &
	running=($!)
	wait $!
	set -- $?
	running=()
	return "$1"
}

log_of()
{
	echo "$logs/$suite-${1//[^A-Za-z0-9_.-]/_}.log"
}

why()
{
	case $1 in
	124 | 137) echo "took longer than $2 s" ;;
	*) echo "exit status $1" ;;
	esac
}

# command_case NAME SECONDS COMMAND...: one case, passed where the command succeeds
command_case()
{
	local name=$1 seconds=$2 log status

	shift 2
	log=$(log_of "$name")
	limited "$seconds" "$log" "$@"
	status=$?
	if [ $status -eq 0 ]; then
		record pass "$name"
	else
		record fail "$name" "$(why $status "$seconds")" "$log"
	fi
	return $status
}

# tap_case NAME SECONDS COMMAND...: a program that prints TAP; every line of it is a case
tap_case()
{
	local name=$1 seconds=$2 log status

	shift 2
	log=$(log_of "$name")
	limited "$seconds" "$log" "$@"
	status=$?
	read_tap "$name" "$log" $status "$(why $status "$seconds")" >> $results
}

# read_tap NAME LOG STATUS WHY: TAP to lines of $results. cmocka gives a skipped test no reason and
# calls it `not ok N # SKIP test`: the reason is the line that the test printed before. A program
# that dies, or runs more or fewer tests than planned, is a failure of its own.
read_tap()
{
	LC_ALL=C awk -v suite="$suite" -v program="$1" -v log_file="$2" -v status="$3" -v why="$4" '
	function record(result, name, reason)
	{
		printf "%s\t%s\t%s: %s\t%s\t%s\n", result, suite, program, name, reason, log_file
	}
	/^1\.\.0 # [Ss][Kk][Ii][Pp]/ {
		record("skip", "all of it", substr($0, index($0, $3) + 5))
		planned = 1
		next
	}
	/^1\.\.[0-9]+/ {
		plan += substr($1, 4)
		planned = 1
		next
	}
	/^(not )?ok [0-9]+/ {
		name = $0
		failed = sub(/^not /, "", name)
		sub(/^ok [0-9]+ *(- )?/, "", name)
		group_failed = group_failed || $0 ~ /^not ok 0 /
		n++
		if (match(name, /^# SKIP /)) {
			record("skip", substr(name, RLENGTH + 1), last ? last : "no reason given")
		} else if (match(name, / # SKIP/)) {
			record("skip", substr(name, 1, RSTART - 1), substr(name, RSTART + 8))
		} else if (failed) {
			record("fail", name, "")
			n_fail++
		} else {
			record("pass", name, "")
		}
		last = ""
		next
	}
	{
		last = $0
		sub(/^(# *)?(SKIP )?/, "", last)
		gsub(/\t/, " ", last)
	}
	END {
		if (!planned)
			record("fail", "no test was run", why)
		else if (n != plan && !group_failed)
			record("fail", n + 0 " of " plan " tests were run", why)
		else if (status && !n_fail)
			record("fail", "ended badly after its tests", why)
	}' "$2"
}

# build NAME SECONDS ARGUMENT...: make, without warnings; a failure ends the suite
build()
{
	local name=$1

	shift
	command_case "$name" 900 make -s --no-print-directory -j"$jobs" "$@"
}

# unit_programs DIR [PATTERN]: the unit tests built there
unit_programs()
{
	local source

	for source in tests/unit/${2-test_*}.c; do
		[ -e "$source" ] && echo "$1/tests/$(basename "$source" .c)"
	done
}

# run_unit_tests DIR SECONDS PREFIX...: all of them, less those that cannot run there
run_unit_tests()
{
	local dir=$1 seconds=$2 program

	shift 2
	for program in $(unit_programs "$dir"); do
		if [[ ${1-} == qemu-* && $program == */test_source_faults ]]; then
			record skip test_source_faults \
				"qemu-user lacks the limits and filters of the kernel that it is about"
			continue
		fi
		tap_case "$(basename "$program")" "$seconds" "$@" "$program"
	done
}

# ---- suites ----

demo_model=tools/demo-model/weir-demo.gguf

# Tokenizer vocabularies: beside the tree, and from PyPI.
find_vocabularies()
{
	local dir found=

	env -u CFLAGS tools/setup.sh vocab || record skip "vocabularies of llama-bpe, qwen2 and others" \
		"the source archive of llama-cpp-python cannot be fetched with pip3"
	for dir in "$top/../shared/data/vocab" "$top/build/vocab"; do
		[ -d "$dir" ] && found+=${found:+:}$(realpath "$dir")
	done
	export WEIR_VOCAB_DIR=${WEIR_VOCAB_DIR-$found}
}

suite_unit()
{
	build "gcc builds everything without a warning" \
		all unit-tests kernel-tests golden-tests || return
	find_vocabularies
	run_unit_tests build 180
	tap_case kernels 180 build/tests/test_kernels
}

suite_golden()
{
	build "golden test builds" all golden-tests || return
	WEIR=build/weir tap_case golden 600 build/tests/golden
	WEIR_ISA=scalar WEIR=build/weir tap_case "golden, scalar kernels" 600 \
		build/tests/golden tests/golden/hf.manifest
}

suite_cli()
{
	local script

	build "weir builds" all || return
	for script in tests/cli/test_*.sh; do
		WEIR=$top/build/weir tap_case "$(basename "$script" .sh)" 300 bash "$script"
	done
}

suite_install()
{
	build "weir builds" all || return
	tap_case install 120 bash tests/install.sh
	tap_case example 120 bash tests/example.sh $demo_model
	tap_case install_module 600 bash tests/install_module.sh
}

suite_clang()
{
	local b=build/clang

	build "clang builds everything without a warning" CC=clang B=$b CFLAGS="-O2 -g -Werror" \
		$b/weir unit-tests kernel-tests golden-tests || return
	tap_case kernels 180 $b/tests/test_kernels
	WEIR=$b/weir tap_case golden 600 $b/tests/golden tests/golden/hf.manifest
}

# Sanitized code makes gcc warn where there is nothing, so warnings are no errors there. The
# sanitizers of gcc 12 do not know the address-space randomisation of the newest kernels.
fixed_addresses=()
setarch -R true 2> /dev/null && fixed_addresses=(setarch -R)

suite_asan()
{
	local b=build/asan script

	build "builds with ASan and UBSan" SAN=asan CFLAGS="-O1 -g" \
		$b/weir unit-tests kernel-tests golden-tests || return
	find_vocabularies
	run_unit_tests $b 300 "${fixed_addresses[@]}"
	tap_case kernels 300 "${fixed_addresses[@]}" $b/tests/test_kernels
	WEIR=$b/weir tap_case golden 600 "${fixed_addresses[@]}" \
		$b/tests/golden tests/golden/hf.manifest
	for script in tests/cli/test_{usage,errors,synth,files,pack}.sh; do
		WEIR=$top/$b/weir tap_case "$(basename "$script" .sh)" 300 \
			"${fixed_addresses[@]}" bash "$script"
	done
}

suite_tsan()
{
	local b=build/tsan program pattern

	build "builds with TSan" SAN=tsan CFLAGS="-O1 -g" $b/weir unit-tests || return
	for pattern in test_threads 'test_source*' 'test_session*'; do
		for program in $(unit_programs $b "$pattern"); do
			tap_case "$(basename "$program")" 300 "${fixed_addresses[@]}" "$program"
		done
	done
	for source in uring mmap; do
		command_case "four threads, weights from $source" 300 "${fixed_addresses[@]}" \
			$b/weir run $demo_model -p "It was" -n 16 -t 4 --seed 1 --budget 50% \
			--source $source
	done
}

# Whole weir needs libraries of arm64; the kernel tests need none.
suite_arm64()
{
	local b=build/arm64 cpu=cortex-a76 qemu reason

	[ "$(uname -m)" = x86_64 ] || return 0 # suite unit did it natively
	# qemu 6.2 does not know it; max has all that it has, and more
	qemu-aarch64 -cpu help | grep -qw $cpu || cpu=max
	qemu=(qemu-aarch64 -cpu "$cpu")
	build "NEON kernels build" ARCH=arm64 CFLAGS="-O2 -g -Werror" kernel-tests || return
	tap_case "kernels on $cpu" 600 "${qemu[@]}" $b/tests/test_kernels
	# no CPU that qemu 6.2 and 7.2 know by name has the int8 matrix multiply
	tap_case "kernels with the int8 matrix multiply" 600 qemu-aarch64 -cpu max,pauth-impdef=on $b/tests/test_kernels \
		neon-i8mm
	if ! make -s --no-print-directory ARCH=arm64 deps-present 2> /dev/null; then
		reason=$(cat build/setup.no-arm64 2> /dev/null)
		record skip "all of weir, cross built and run" \
			"${reason:-libraries of arm64 are not installed}"
		return
	fi
	build "weir builds for arm64" ARCH=arm64 CFLAGS="-O2 -g -Werror" all unit-tests || return
	find_vocabularies
	run_unit_tests $b 600 "${qemu[@]}"
	build "golden test builds" golden-tests || return
	WEIR="${qemu[*]} $b/weir" tap_case "golden on $cpu" 900 build/tests/golden tests/golden/hf.manifest
	command_case "the demo model decodes on $cpu, half of it streamed" 300 "${qemu[@]}" \
		$b/weir run $demo_model -p "It was" -n 16 -t 2 --seed 1 --budget 50%
}

# fuzz_at_once TARGET...: all of them at the same time
fuzz_at_once()
{
	local seconds=${CHECK_FUZZ_SECONDS-60} target log i status
	local pids=()

	for target; do
		timeout -k 10 $((seconds + 120)) tests/fuzz/run.sh "build/fuzz/$target" "$seconds" \
			> "$(log_of "$target")" 2>&1 < /dev/null &
		pids+=($!)
	done
	running=("${pids[@]}")
	for target; do
		wait "${pids[0]}"
		status=$?
		pids=("${pids[@]:1}")
		log=$(log_of "$target")
		if [ $status -eq 0 ]; then
			record pass "$target"
		else
			record fail "$target" "$(grep '^reproduce with' "$log" ||
				why $status $((seconds + 120)))" "$log"
		fi
	done
	running=()
}

suite_fuzz()
{
	local at_once=$((jobs > 1 ? 2 : 1)) i
	local targets=(tests/fuzz/fuzz_*.c)

	build "fuzz targets build" fuzz-progs || return
	targets=("${targets[@]##*/}")
	targets=("${targets[@]%.c}")
	for ((i = 0; i < ${#targets[@]}; i += at_once)); do
		fuzz_at_once "${targets[@]:i:at_once}"
	done
}

# Packages of kernels are looked for where Debian has them.
no_debian()
{
	[ -e /etc/debian_version ] && grep -qx 'ID=debian' /etc/os-release && return 1
	record skip "$1" "stock Debian kernels are taken from Debian"
}

suite_kunit()
{
	local name="KUnit tests"

	no_debian "$name" && return
	if [ "$(uname -m)" != x86_64 ]; then
		record skip "$name" "User-Mode Linux is for x86-64"
		return
	fi
	# the first time it downloads the kernel's source and builds it
	tap_case "$name" 1500 bash tests/kunit/run.sh
}

suite_vm()
{
	local series arch

	no_debian "weir.ko in virtual machines" && return
	for arch in x86_64 arm64; do
		if [ "$arch" != "$(uname -m | sed 's/aarch64/arm64/')" ]; then
			dpkg-query -W "libjansson-dev:$arch" > /dev/null 2>&1 || {
				record skip "weir.ko on $arch" "libraries of $arch are not installed"
				continue
			}
		fi
		build "weir for $arch builds" ARCH=$arch all || continue
		for series in 6.12 6.1; do
			tap_case "Linux $series on $arch" 900 bash tests/vm/run.sh $series $arch
		done
	done
	tap_case "random calls" 600 bash tests/vm/run.sh 6.12 x86_64 fuzz
	# What tests/probe.sh says builds as well
	WEIR_FORCE="ENTIRE_MAPCOUNT=n FMODE_CAN_ODIRECT=n" tap_case "the other way of two probes" 600 \
		bash tests/vm/run.sh 6.1 x86_64 forced
}

suite_lint()
{
	# the first time it downloads two kernels and the package that checkpatch is in
	tap_case lint 900 bash tests/lint.sh
	tap_case probes 900 bash tests/probe.sh
}

suite_format()
{
	local files

	if command -v clang-format-14 > /dev/null; then
		files=$(find include kernels kmod userspace tests docs -name '*.[ch]')
		# shellcheck disable=SC2086
		command_case "clang-format has nothing to change" 120 \
			clang-format-14 --dry-run -Werror $files
	else
		record skip "clang-format has nothing to change" "clang-format-14 is not installed"
	fi
	if command -v shellcheck > /dev/null; then
		command_case "shellcheck has nothing to say" 120 \
			shellcheck tools/*.sh kmod/*.sh tests/*.sh tests/*/*.sh .ci/run
	else
		record skip "shellcheck has nothing to say" "shellcheck is not installed"
	fi
}

# ---- what came of it ----

count()
{
	grep -c "^$1	" $results
}

# One line a suite, as it ends; worded so that only the last line of all is a count of passed.
run_suite()
{
	local begin=$SECONDS before failed skipped

	suite=$1
	before=$(wc -l < $results)
	failed=$(count fail)
	skipped=$(count skip)
	printf '%-8s' "$suite"
	"suite_$suite"
	printf '%5d cases, %d failed, %d skipped, %d s\n' $(($(wc -l < $results) - before)) \
		$(($(count fail) - failed)) $(($(count skip) - skipped)) $((SECONDS - begin))
}

list_skips()
{
	[ "$(count skip)" -gt 0 ] || return
	echo
	echo "Skipped:"
	awk -F '\t' '$1 == "skip" { printf "  %s: %s: %s\n", $2, $3, $4 }' $results
}

# Every failure, and from its log: the failed lines of TAP with what follows them, and the end.
list_failures()
{
	local log

	[ "$(count fail)" -gt 0 ] || return
	echo
	echo "Failed:"
	awk -F '\t' '$1 == "fail" { printf "  %s: %s%s\n", $2, $3, $4 == "" ? "" : " (" $4 ")" }' $results
	awk -F '\t' '$1 == "fail" && $5 != "" && !seen[$5]++ { print $5 }' $results |
		while read -r log; do
			echo
			echo "---- $log"
			grep -a -A 6 '^not ok' "$log" | grep -av '^ok' | head -n 60
			echo "---- its end"
			tail -n 20 "$log" | cut -c 1-500
		done
}

suites=("$@")
[ $# -gt 0 ] || suites=("${all_suites[@]}")
for suite in "${suites[@]}"; do
	if ! declare -F "suite_$suite" > /dev/null; then
		echo "tests/check.sh: no suite '$suite'; there are: ${all_suites[*]}" >&2
		exit 2
	fi
done
for name in "${suites[@]}"; do
	run_suite "$name"
done
rm -rf "$TMPDIR"
list_skips
list_failures
echo
echo "$(count pass) passed, $(count fail) failed, $(count skip) skipped"
[ "$(count fail)" -eq 0 ] && [ "$(count pass)" -gt 0 ]
