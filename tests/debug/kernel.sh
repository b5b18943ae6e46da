#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kernel.sh: makes build/kernels/debug-x86_64, a kernel that watches itself (KASAN, lockdep,
# kmemleak and others) and whose memory can be made to fail, and prints its path. It is built from
# Debian's linux-source-6.12, as tests/debug/kernelconfig says, and laid out as tests/vm/kernels.sh
# lays out stock ones. It is built again when that file, the source or the compiler is another.
#
#	headers		the build directory, which weir.ko is built against
#	key		what it was built from
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
config=$top/tests/debug/kernelconfig
out=$top/build/kernels/debug-x86_64

die() { echo "weir: $*" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || die "the debug kernel is built on x86-64 alone"
source=$("$top/tests/kunit/source.sh")
version=$(make -s -C "$source" kernelversion)
key=$({ echo "$version"; gcc --version; cat "$config"; } | sha256sum)
[ "$key" = "$(cat "$out/key" 2> /dev/null)" ] && { echo "$out"; exit 0; }

echo "weir: building a debug kernel in build/kernels/debug-x86_64: some ten minutes" >&2
rm -f "$out/key"
mkdir -p "$out/headers"
log=$out/build.log
: > "$log"
kernel() { make -s -C "$source" ARCH=x86_64 O="$out/headers" "$@" >> "$log" 2>&1; }

kernel tinyconfig || die "the kernel's configuration: see $log"
cat "$config" >> "$out/headers/.config"
kernel olddefconfig || die "the kernel's configuration: see $log"
# What depends on something else that is not there is left out without a word.
grep CONFIG_ "$config" | while IFS= read -r want; do
	grep -qx "$want" "$out/headers/.config" || die "the kernel cannot be configured with $want"
done
kernel -j"${JOBS:-$(nproc)}" bzImage modules ||
	die "the kernel does not build: $(grep -m 1 -E 'error|No such' "$log") ($log)"
rm -rf "$out/root"
kernel modules_install INSTALL_MOD_PATH="$out/root" || die "the kernel's modules: see $log"
cp "$out/headers/arch/x86/boot/bzImage" "$out/vmlinuz"
cp "$out/headers/include/config/kernel.release" "$out/version"
echo "$key" > "$out/key"
echo "$out"
