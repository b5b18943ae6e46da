#!/bin/bash
# SPDX-License-Identifier: MIT
#
# source.sh: the kernel's source that tests build kernels of their own from, Debian's
# linux-source-6.12. Unpacks it under build/kunit where it is not there yet, and prints its path. An
# unpacked one is used, whether there is a newer package or not.
set -eu
series=6.12
b=$(cd "$(dirname "$0")/../.." && pwd)/build/kunit
[ -e "$b/linux/Makefile" ] && { echo "$b/linux"; exit 0; }

die() { echo "weir: $*" >&2; exit 1; }

rm -rf "$b/deb" "$b/linux.new"
mkdir -p "$b/deb" "$b/linux.new"
(cd "$b/deb" && apt-get download -q linux-source-$series) > "$b/download.log" 2>&1 ||
	die "cannot download linux-source-$series: $(tail -1 "$b/download.log")"
dpkg-deb -x "$b"/deb/linux-source-*.deb "$b/deb/root"
tar -xf "$b"/deb/root/usr/src/linux-source-$series.tar.xz -C "$b/linux.new" --strip-components=1 ||
	die "cannot unpack linux-source-$series"
rm -rf "$b/deb" "$b/linux"
mv "$b/linux.new" "$b/linux"
echo "$b/linux"
