#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What `make modules_install` and `make dkms` put where, for a stock kernel.
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh
unset MAKEFLAGS MFLAGS MAKELEVEL
dest=$tap_dir/dest
arch=$(uname -m | sed 's/aarch64/arm64/')

run_make()
{
	make --no-print-directory -s B=build/install "$@"
}

module_name()
{
	basename "$(find "$dest/lib/modules" -name 'weir.ko*')" | sed 's/\.ko.*//'
}

# What dkms.conf says, as dkms reads it
dkms_conf()
{
	kernel_source_dir=/k dkms_tree=/t bash -c ". $dest/usr/src/weir-$version/dkms.conf; echo \"$1\""
}

# compiled_files KBUILD: what it builds weir.ko from, as sources
compiled_files()
{
	grep -o 'kmod/[a-z_]*\.o' "$1" | sed 's/o$/c/' | sort -u
}

# missing FILE FORMAT NAMES: those of the names for which no line of the file matches the format
missing()
{
	local name

	[ -n "$3" ] || echo "no names to look for"
	while read -r name; do
		# shellcheck disable=SC2059
		grep -qE "$(printf "$2" "$name")" "$1" || echo "$name"
	done <<< "$3"
}

attempt run_make modules KDIR=/nonexistent
ok "without headers it fails" [ $status -ne 0 ]
like "and the sentence says what is missing there" "$err" '^weir: KDIR=.* is no directory of kernel headers'

attempt tests/vm/kernels.sh 6.12 "$arch"
if [ $status -ne 0 ]; then
	skip "the module builds and is installed" "headers of a stock kernel cannot be downloaded"
else
	kernel=$out
	attempt run_make modules KDIR="$kernel/headers"
	is "the module builds" "$status" 0
	is "without a warning" "$(grep -i warning <<< "$err")" ""
	ok "build/weir.ko" [ -s build/install/weir.ko ]
	attempt run_make modules_install KDIR="$kernel/headers" DESTDIR="$dest"
	is "make modules_install DESTDIR=" "$status" 0
	is "the module lies under the kernel's own version" \
		"$(ls "$dest/lib/modules") $(module_name)" "$(cat "$kernel/version") weir"
	attempt run_make modules_clean
	ok "make modules_clean" [ ! -e build/install/weir.ko ]
fi

attempt run_make dkms DESTDIR="$dest"
is "make dkms DESTDIR=" "$status" 0
for file in lib/udev/rules.d/60-weir.rules usr/lib/sysusers.d/weir.conf \
	usr/local/share/doc/weir/modprobe.d/weir.conf.example usr/local/include/linux/weir.h; do
	ok "$file" [ -f "$dest/$file" ]
done
version=$(basename "$dest"/usr/src/weir-*)
version=${version#weir-}
# shellcheck disable=SC2016
is "dkms.conf has the version of the directory" \
	"$(dkms_conf '$PACKAGE_NAME/$PACKAGE_VERSION')" "weir/$version"
# shellcheck disable=SC2016
like "and builds where dkms unpacks it" "$(dkms_conf '${MAKE[0]}')" \
	"^make -C /k M=/t/weir/$version/build .*modules\$"
is "every source that Kbuild names is there" \
	"$(cd "$dest/usr/src/weir-$version" && compiled_files Kbuild | xargs ls 2>&1 | sort)" \
	"$(compiled_files Kbuild)"

parameters=$(grep -oh 'module_param_named([a-z_]*' kmod/*.c | sed 's/.*(//')
events=$(grep -ohE '^(TRACE_EVENT\(|DEFINE_EVENT\(weir_extent_event, )weir_[a-z]+' kmod/trace.h |
	sed 's/.*[( ]//')
keys=$(grep -oh '"weir-[a-z-]*:' kmod/*.c | tr -d '":')
is "the example for modprobe.d has every parameter" \
	"$(missing packaging/modprobe.d/weir.conf.example '^#options weir %s=' "$parameters")" ""
is "docs/abi.md has every parameter" "$(missing docs/abi.md '^\| .%s. \|' "$parameters")" ""
is "docs/abi.md has every trace event" "$(missing docs/abi.md '^\| .%s. \|' "$events")" ""
is "docs/abi.md has every key of fdinfo" "$(missing docs/abi.md '\W%s\W' "$keys")" ""
done_testing
