#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh: builds weir.ko and its KUnit tests into a User-Mode Linux kernel with KASAN and lockdep,
# runs it, and prints its KTAP. The kernel is Debian's linux-source-6.12, unpacked and built under
# build/kunit; the first build takes some minutes, later ones compile what has changed.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
b=$top/build/kunit
die() { echo "Bail out! $*"; exit 1; }
mkdir -p "$b"

tests/kunit/source.sh > /dev/null || die "no source of a kernel"

# An overlay: the driver as it is, in a directory of its own, with the tests beside it.
o=$b/linux/drivers/misc/weir
mkdir -p "$o/include/uapi/linux" "$o/kmod"
copy() { cmp -s "$1" "$2" || cp "$1" "$2"; }
for f in kmod/*.[ch]; do
	copy "$f" "$o/kmod/$(basename "$f")"
done
copy kmod/probe.sh "$o/kmod/probe.sh"
copy include/uapi/linux/weir.h "$o/include/uapi/linux/weir.h"
copy tests/kunit/weir_kunit.c "$o/kmod/weir_kunit.c"
cat > "$b/Kconfig" <<'KCONFIG'
config WEIR_KUNIT_TEST
	bool "weir with its KUnit tests"
	depends on KUNIT=y
	select DMA_SHARED_BUFFER
KCONFIG
copy "$b/Kconfig" "$o/Kconfig"
sed -e 's/^obj-m := weir.o$/obj-y := weir.o/' -e 's|kmod/weir_depth.o|kmod/weir_depth.o kmod/weir_kunit.o|' \
	Kbuild > "$b/Makefile"
copy "$b/Makefile" "$o/Makefile"
# shellcheck disable=SC2016 # make expands it
grep -q weir "$b/linux/drivers/misc/Makefile" ||
	echo 'obj-$(CONFIG_WEIR_KUNIT_TEST) += weir/' >> "$b/linux/drivers/misc/Makefile"
grep -q weir "$b/linux/drivers/misc/Kconfig" ||
	sed -i '/^endmenu/i source "drivers/misc/weir/Kconfig"' "$b/linux/drivers/misc/Kconfig"

m="make -s -C $b/linux ARCH=um O=$b/um -j$(nproc)"
mkdir -p "$b/um"
if ! cmp -s tests/kunit/kunitconfig "$b/um/kunitconfig"; then
	cp tests/kunit/kunitconfig "$b/um/.config"
	$m olddefconfig > "$b/build.log" 2>&1 || { tail "$b/build.log"; die "the kernel's configuration"; }
	while IFS= read -r want; do
		case $want in
		*=n | '') continue ;;
		esac
		grep -qx "$want" "$b/um/.config" || die "the kernel has no $want"
	done < tests/kunit/kunitconfig
	cp tests/kunit/kunitconfig "$b/um/kunitconfig"
fi
$m linux > "$b/build.log" 2>&1 || { grep -E 'error|warning' "$b/build.log" | head -20; die "the kernel does not build"; }

timeout "${TIMEOUT:-300}" "$b/um/linux" mem=512M con=null con0=fd:0,fd:1 \
	kunit.filter_glob="${1:-weir}*" kunit_shutdown=halt panic_on_warn=0 < /dev/null > "$b/log" 2>&1
# One suite, and its tests are what counts: flat.
{
	sed -n 's/^    \(ok\|not ok\|# \)/\1/p' "$b/log" | grep -v '^# \(Subtest\|module\):'
	if ! grep -q '^\(not \)\?ok 1 weir' "$b/log"; then
		tail -n 30 "$b/log" | sed 's/^/# /'
		echo "not ok - the kernel reaches the end of its tests"
	else
		echo "ok - the kernel reaches the end of its tests"
	fi
	if grep -E 'WARNING:|BUG:|KASAN|possible .*deadlock|Call Trace' "$b/log" > "$b/bad"; then
		sed 's/^/# /' "$b/bad"
		echo "not ok - the kernel's log is clean"
	else
		echo "ok - the kernel's log is clean"
	fi
} | awk '
	/^(not )?ok/ {
		bad += /^not/
		ok = /^not/ ? "not ok" : "ok"
		sub(/^(not )?ok *[0-9]* *(- )?/, "")
		print ok, ++n, "- " $0
		next
	}
	{ print }
	END { print "1.." n; exit bad > 0 }'
