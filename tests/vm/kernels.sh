#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kernels.sh SERIES ARCH: makes build/kernels/SERIES-ARCH, a stock Debian kernel to build weir.ko
# against and to boot, and prints its path. SERIES: 6.1, 6.12; ARCH: x86_64, arm64.
#
#	version		of the kernel, as `uname -r` says
#	vmlinuz		to boot
#	root/		lib/modules/VERSION with modules.dep
#	headers		what to give to make -C
#
# Packages are downloaded and unpacked, not installed: headers of another architecture would bring
# its compiler along. What is there is used, whether there is a newer one or not.
set -eu
PATH=$PATH:/usr/sbin:/sbin
series=$1 arch=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
[ "$series-$arch" = debug-x86_64 ] && exec "$top/tests/debug/kernel.sh"
out=$top/build/kernels/$series-$arch
[ -e "$out/complete" ] && { echo "$out"; exit 0; }

die() { echo "weir: $*" >&2; exit 1; }

case $arch in
x86_64) deb=amd64 ;;
arm64) deb=arm64 ;;
*) die "kernels.sh: no Debian kernel for $arch is known" ;;
esac
native=$(dpkg --print-architecture)

# The newest of a series, of the plain flavour.
pattern="^linux-image-${series//./\\.}[.-][0-9a-z.+-]*-amd64-unsigned\$"
version=$(apt-cache search --names-only "$pattern" | cut -d' ' -f1 |
	grep -v -e cloud -e rt- | sort -V | tail -1 | sed 's/^linux-image-//; s/-amd64-unsigned$//')
[ -n "$version" ] || die "no package of a Linux $series kernel: run 'apt-get update' first"

rm -rf "$out.new"
mkdir -p "$out.new/deb" "$out.new/root"
cd "$out.new/deb"
kbuild=linux-kbuild-$version
apt-cache show "$kbuild" > /dev/null 2>&1 || kbuild=linux-kbuild-$series
apt-get download -q "linux-image-$version-$deb-unsigned:$deb" "linux-headers-$version-$deb:$deb" \
	"linux-headers-$version-common" "$kbuild:$native" > ../download.log 2>&1 ||
	die "cannot download Linux $version for $arch: $(tail -1 ../download.log)"
for d in *.deb; do
	dpkg-deb -x "$d" ../root
done
cd ..
name=$version-$deb
mv "root/boot/vmlinuz-$name" vmlinuz
# Modules are looked for in /lib/modules; some packages have them in /usr/lib.
[ -d "root/usr/lib/modules" ] && mv root/usr/lib/modules root/lib/modules
depmod -b root "$name" 2> /dev/null || depmod -b root -F "root/boot/System.map-$name" "$name"
rm -rf deb root/boot
sed -i "s|^include /usr/src/|include $out/root/usr/src/|" "root/usr/src/linux-headers-$name/Makefile"
ln -s "root/usr/src/linux-headers-$name" headers
echo "$name" > version
touch complete
rm -rf "$out"
cd ..
mv "$out.new" "$out"
echo "$out"
