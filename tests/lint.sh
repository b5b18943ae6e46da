#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What a reviewer's tools say of weir.ko: sparse and W=1 against the headers of stock kernels,
# kernel-doc over the uapi header, checkpatch --strict over everything. Prints TAP.
#
#	tests/lint.sh [SERIES...]	kernels to build for: 6.12 and 6.1
#
# checkpatch is part of the kernel's source, which Debian has in one package of 150 MB: it is taken
# from where tests/kunit has unpacked that, else the package is downloaded once. CHECKPATCH=FILE
# names another one.
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh
unset MAKEFLAGS MFLAGS MAKELEVEL
top=$PWD
lint=build/lint
source_series=6.12
arch=$(uname -m | sed 's/aarch64/arm64/')
uapi=include/uapi/linux/weir.h
[ $# -gt 0 ] || set -- 6.12 6.1

# ---- sparse and W=1 ----

# A file with two mistakes, which both tools must find: else they were not asked.
plant_mistakes()
{
	printf 'int *weir_mistake(void);\nint *weir_mistake(void)\n{\n\treturn 0;\n}\n%s\n' \
		'void weir_mistake2(void) { }' > "$1/mistake.c"
	echo 'weir-y += mistake.o' >> "$1/Kbuild"
}

# module_warnings SERIES: what the tools say of weir.ko. Fails where they could not be asked.
module_warnings()
{
	local dir=$top/$lint/$1 log=$lint/$1.log kernel kernel_doc

	kernel=$(tests/vm/kernels.sh "$1" "$arch") || return 1
	# Anew each time: what is not compiled is not complained about.
	rm -rf "$dir"
	mkdir -p "$dir"
	cp -a --parents Kbuild kmod include/uapi "$dir"
	plant_mistakes "$dir"
	# No BTF: the kernel's own tools for it may be newer than what is installed.
	if ! make -C "$kernel/headers" M="$dir" CONFIG_DEBUG_INFO_BTF_MODULES= W=1 C=2 \
		modules > "$log" 2>&1; then
		tail -n 20 "$log"
		return 1
	fi
	grep -q 'mistake\.c:4.*plain integer as NULL' "$log" || { echo "sparse found no mistake" >&2; return 1; }
	grep -q 'mistake\.c:6.*missing-prototypes' "$log" || { echo "W=1 found no mistake" >&2; return 1; }
	# The kernel's own headers are not ours to judge.
	grep -E "(warning|error):" "$log" | grep -v -e 'mistake\.c' -e "$kernel/root"
	kernel_doc=$(compgen -G "$kernel/root/usr/lib/linux-kbuild-*/scripts/kernel-doc") || return 1
	"$kernel_doc" -none -Werror "$uapi" 2>&1
}

lint_module()
{
	local name="sparse, W=1 and kernel-doc of Linux $1 have nothing to say of weir.ko"

	if ! command -v sparse > /dev/null; then
		skip "$name" "sparse is not installed"
		return
	fi
	attempt module_warnings "$1"
	is "$name" "$status$out" 0
}

# ---- checkpatch ----

fetch_checkpatch()
{
	local deb=$lint/deb tree=linux-source-$source_series

	rm -rf $deb $lint/scripts
	mkdir -p $deb
	(cd $deb && apt-get download -q $tree) > $lint/download.log 2>&1 || return 1
	dpkg-deb --fsys-tarfile $deb/$tree*.deb | tar -xO ./usr/src/$tree.tar.xz |
		tar -xJ -C $lint --strip-components=1 $tree/scripts/checkpatch.pl \
			$tree/scripts/spelling.txt $tree/scripts/const_structs.checkpatch || return 1
	rm -rf $deb
}

find_checkpatch()
{
	local script

	for script in ${CHECKPATCH-} build/kunit/linux/scripts/checkpatch.pl $lint/scripts/checkpatch.pl; do
		[ -e "$script" ] && echo "$script" && return
	done
	mkdir -p $lint
	fetch_checkpatch && echo "$lint/scripts/checkpatch.pl" && return
	# Ubuntu's headers have it.
	compgen -G "/usr/src/linux-headers-*/scripts/checkpatch.pl" | sort -V | tail -n 1 | grep .
}

# Kinds of complaint that are mistaken in a file, by its name.
mistaken()
{
	case $1 in
	# TRACE_EVENT() is written here as in all of include/trace/events.
	kmod/trace.h) echo OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT ;;
	# What WEIR_OP() uses more than once is the name of a type.
	kmod/main.c) echo MACRO_ARG_REUSE ;;
	# Compiled for userspace as well, which has neither u32 nor ARRAY_SIZE(). The macro that
	# returns is an assertion, in a function for tests.
	kmod/weir_sched.[ch] | kmod/weir_depth.[ch])
		echo PREFER_KERNEL_TYPES,ARRAY_SIZE,MACRO_WITH_FLOW_CONTROL
		;;
	*) echo NONE ;;
	esac
}

# checkpatch SCRIPT: all that it says of all files, as it says it on one line
checkpatch()
{
	local file

	for file in Kbuild kmod/*.[ch] $uapi; do
		perl "$1" --no-tree --strict --terse --no-summary --show-types \
			--ignore "$(mistaken "$file")" -f "$file" 2>&1
	done
	return 0
}

lint_checkpatch()
{
	local name="checkpatch --strict" script

	if ! command -v perl > /dev/null; then
		skip "$name" "perl is not installed"
		return
	fi
	if ! script=$(find_checkpatch); then
		skip "$name" "linux-source-$source_series, which has the script, cannot be downloaded"
		return
	fi
	# It must find what is there to find.
	printf '/* SPDX-License-Identifier: MIT */\nint a(void){\n}\n' > "$tap_dir/mistake.h"
	attempt perl "$script" --no-tree --strict --terse -f "$tap_dir/mistake.h"
	like "checkpatch finds a mistake" "$out" 'mistake.h:2: ERROR'
	attempt checkpatch "$script"
	is "$name has nothing to say" "$out" ""
}

for series; do
	lint_module "$series"
done
lint_checkpatch
done_testing
