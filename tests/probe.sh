#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What kmod/probe.sh finds in stock kernels, by a table. That a probe which errs does not pass
# unseen: each is forced the other way, and then weir.ko does not build, or it is known why it may.
# And that headers which cannot be read stop the build, with a sentence, and never mean no.
# Prints TAP.
#
#	tests/probe.sh [SERIES-ARCH...]		6.1 and 6.12, x86_64 and arm64
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh
unset MAKEFLAGS MFLAGS MAKELEVEL WEIR_FORCE
export LC_ALL=C
top=$PWD
work=build/probe
[ $# -gt 0 ] || set -- 6.12-x86_64 6.1-x86_64 6.12-arm64 6.1-arm64

# NAME OBJECT 6.1 6.12: which object depends on it, and the right answers; -: not asked for
table="\
KI_COMPLETE_2ARGS	io		y	y
FMODE_CAN_ODIRECT	file		y	y
VM_FLAGS_SET		map		n	y
SHRINKER_ALLOC		pressure	n	y
REGISTER_SHRINKER_FMT	pressure	y	-
HRTIMER_SETUP		session		n	n
LARGE_MAPCOUNT		pool		n	y
NR_PAGES_MAPPED		pool		n	-
ENTIRE_MAPCOUNT		pool		y	-
IMPORT_NS_IDENT		dmabuf		y	y"

# rows SERIES: NAME OBJECT ANSWER
rows()
{
	awk -v column="$([ "$1" = 6.1 ] && echo 3 || echo 4)" '{ print $1, $2, $column }' <<< "$table"
}

# wrong_rows SERIES: NAME=ANSWER OBJECT: of every probe that is asked, the answer that is wrong
wrong_rows()
{
	rows "$1" | sed -n 's/^\(.*\) \(.*\) y$/\1=n \2/p; s/^\(.*\) \(.*\) n$/\1=y \2/p'
}

# complaint NAME=ANSWER: what the build says where that is not so. Nothing: it builds all the same.
complaint()
{
	case $1 in
	KI_COMPLETE_2ARGS=n) echo 'error: .*incompatible pointer type' ;;
	VM_FLAGS_SET=y) echo 'error: implicit declaration of function .*vm_flags_set' ;;
	VM_FLAGS_SET=n) echo 'error: .*read-only member .*vm_flags' ;;
	SHRINKER_ALLOC=y) echo 'error: implicit declaration of function .*shrinker_alloc' ;;
	SHRINKER_ALLOC=n) echo 'weir: neither way of REGISTER_SHRINKER_FMT compiles' ;;
	REGISTER_SHRINKER_FMT=n) echo 'error: too few arguments to function .*register_shrinker' ;;
	HRTIMER_SETUP=y) echo 'error: implicit declaration of function .*hrtimer_setup' ;;
	LARGE_MAPCOUNT=y) echo '"folio_mapcount" .*undefined!' ;;
	LARGE_MAPCOUNT=n) echo 'error: implicit declaration of function .*page_mapcount' ;;
	NR_PAGES_MAPPED=y) echo 'error: .*no member named .*_nr_pages_mapped' ;;
	IMPORT_NS_IDENT=n) echo 'modpost: .* from namespace DMA_BUF, but does not import it' ;;
	# The kernel has both, and means the same by them: tests/vm/guest/forced.sh runs that.
	ENTIRE_MAPCOUNT=n) ;;
	# The kernel has both. Asked the old way, fewer file systems can do direct I/O: ATTACH
	# refuses what would have worked, and nothing is called that is not there (forced.sh).
	FMODE_CAN_ODIRECT=n) ;;
	*) echo "no such line in tests/probe.sh: $1" ;;
	esac
}

# rounds SERIES: ROUND NAME=ANSWER OBJECT: in which build each wrong answer is forced. Several share
# one where they do not hide each other: those of different objects, with complaints of one stage.
rounds()
{
	local wrong object stage n taken=' '

	while read -r wrong object; do
		case $(complaint "$wrong") in
		weir:*) stage=probe-${wrong%=*} ;;
		error:*) stage=compile ;;
		*) stage='link' ;;
		esac
		n=1
		while [[ $taken == *" $stage$n/$object "* ]]; do
			n=$((n + 1))
		done
		taken+="$stage$n/$object "
		echo "$stage$n $wrong $object"
	done < <(wrong_rows "$1")
}

# ---- builds ----

# try KERNEL CASE OBJECTS ARGUMENT...: makes a weir.ko of some of its objects, with make's arguments;
# leaves log and status in a directory of the case. What the objects miss of each other is no error.
try()
{
	local kernel=$1 dir=$top/$work/$1/$2 machine=${1#*-} objects cross=()

	read -ra objects <<< "license $3"
	shift 3
	rm -rf "$dir"
	mkdir -p "$dir"
	cp -a --parents Kbuild kmod/*.[ch] kmod/probe.sh include/uapi "$dir"
	rm -f "$dir/kmod/weir_config.h"
	printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n' > "$dir/kmod/license.c"
	[ "$machine" = "$host" ] || cross=(ARCH="$machine" CROSS_COMPILE="$(prefix "$machine")")
	make -C "$top/build/kernels/$kernel/headers" M="$dir" "${cross[@]}" \
		CONFIG_DEBUG_INFO_BTF_MODULES= KBUILD_MODPOST_WARN=1 \
		weir-y="$(printf 'kmod/%s.o ' "${objects[@]}")" "$@" modules > "$dir/log" 2>&1
	echo $? > "$dir/status"
}

host=$(uname -m | sed 's/aarch64/arm64/')
prefix()
{
	echo "${1/arm64/aarch64}-linux-gnu-"
}

# As many at once as there are processors.
spawn()
{
	while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
		wait -n
	done
	"$@" &
}

# result KERNEL CASE: into $status and $out, $out being what was wrong
result()
{
	local dir=$work/$1/$2

	status=$(cat "$dir/status")
	out=$(grep -E 'error:|ERROR:|undefined!|^weir:|cannot' "$dir/log" | grep -v '"[^"]*weir_[^"]*" .*undefined!')
	err=
}

# ---- cases ----

# Headers of the kernel, of which one cannot be compiled
break_header()
{
	mkdir -p "$work/broken-$1/linux"
	echo '#error "this header is broken"' > "$work/broken-$1/linux/$1.h"
}

# builds_of KERNEL HEADERS: all that there is to build for it; those headers are broken in turn
builds_of()
{
	local all round header

	spawn try "$1" found "$(rows "${1%-*}" | awk '{ print $2 }' | sort -u | xargs)"
	all=$(rounds "${1%-*}")
	while read -r round; do
		spawn try "$1" "$round" "$(awk -v r="$round" '$1 == r { print $3 }' <<< "$all" | xargs)" \
			-k WEIR_FORCE="$(awk -v r="$round" '$1 == r { print $2 }' <<< "$all" | xargs)"
	done < <(awk '{ print $1 }' <<< "$all" | sort -u)
	for header in $2; do
		spawn try "$1" "broken-$header" "" \
			NOSTDINC_FLAGS="-nostdinc -I$top/$work/broken-$header"
	done
	spawn try "$1" poison "" KCPPFLAGS="-include $top/$work/poison.h"
}

# What the probes include
headers()
{
	sed -n "s/^\t*probe [A-Z0-9_]* '\([a-z ]*\)'.*/\1/p" kmod/probe.sh | tr ' ' '\n' | sort -u
}

check_found()
{
	local name object answer config=$work/$1/found/kmod/weir_config.h

	result "$1" found
	is "$1: what the probes are about builds" "$status$out" 0
	while read -r name object answer; do
		case $answer in
		y) is "$1: $name is found" "$(grep -cx "#define HAVE_$name 1" "$config")" 1 ;;
		n) is "$1: $name is not" "$(grep -cx "/\* no HAVE_$name \*/" "$config")" 1 ;;
		-) is "$1: $name is not asked for" "$(grep -cw "HAVE_$name" "$config")" 0 ;;
		esac
	done < <(rows "${1%-*}")
}

check_forced()
{
	local round wrong object says all any

	all=$(rounds "${1%-*}")
	any=$(awk '{ print $2 }' <<< "$all" | while read -r wrong; do complaint "$wrong"; done)
	while read -r round wrong object; do
		says=$(complaint "$wrong")
		result "$1" "$round"
		if [ -n "$says" ]; then
			like "$1: $wrong does not build" "$out" "$says"
		else
			is "$1: $wrong builds as well" "$(grep -vE "$any" <<< "$out")" ""
			ok "$1: and $object.o is there" [ -e "$work/$1/$round/kmod/$object.o" ]
		fi
	done <<< "$all"
}

check_broken()
{
	local header

	for header in $2; do
		result "$1" "broken-$header"
		like "$1: a broken linux/$header.h stops the build, with a sentence" "$out" \
			'^weir: (the kernel.s headers cannot be compiled against|neither way of [A-Z_]* compiles)'
		like "$1: and it is shown" "$out" 'error "this header is broken"'
		is "$1: nothing is found then" \
			"$status$(cd "$work/$1/broken-$header/kmod" && ls -- *.o weir_config.h 2> /dev/null)" 2
	done
	result "$1" poison
	like "$1: an interface in neither form stops the build, by its name" "$out" \
		'^weir: neither way of HRTIMER_SETUP compiles'
}

is "every probe is in the table" "$(awk '{ print $1 }' <<< "$table" | sort)" \
	"$(grep -oE '^	*probe [A-Z0-9_]+' kmod/probe.sh | awk '{ print $2 }' | sort)"
is "and so is everything that the module asks for" "$(awk '{ print "HAVE_" $1 }' <<< "$table" | sort)" \
	"$(grep -ohE '\bHAVE_[A-Z0-9_]+' kmod/*.[ch] | sort -u)"
attempt env CC=true sh kmod/probe.sh "$tap_dir/config.h"
like "a compiler that accepts anything is not believed" "$status $err" '^1 weir: the compiler accepts'
ok "and finds nothing" [ ! -e "$tap_dir/config.h" ]

rm -rf "$work"
for header in $(headers); do
	break_header "$header"
done
printf '#include <linux/hrtimer.h>\n#pragma GCC poison hrtimer_init hrtimer_setup\n' > "$work/poison.h"
broken=$(headers)
for kernel; do
	machine=${kernel#*-}
	if [ "$machine" != "$host" ] && ! command -v "$(prefix "$machine")gcc" > /dev/null; then
		skip "probes of $kernel" "no compiler for $machine is installed"
	elif ! tests/vm/kernels.sh "${kernel%-*}" "$machine" > /dev/null 2>&1; then
		skip "probes of $kernel" "headers of a stock kernel cannot be downloaded"
	else
		builds_of "$kernel" "$broken"
		wait
		check_found "$kernel"
		check_forced "$kernel"
		check_broken "$kernel" "$broken"
		broken=fs
	fi
done
done_testing
