#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SERIES ARCH [TEST...]: boots a stock kernel under QEMU's software emulation, loads weir.ko
# and runs tests/vm/guest/TEST.sh: kselftest, runtime, unload and unplug by default. Prints TAP.
#
# RATE: bytes/s of its drive (0: as fast as it goes); DISK: its size, as truncate writes it; MEMORY:
# MiB; TIMEOUT: seconds; EXTRA: a directory copied over its root; APPEND: to the kernel's command
# line.
#
# The guest has a busybox, weir.ko, what tests/kselftest holds, weir itself with its libraries, the
# demo model, and an emulated NVMe drive with ext4, throttled to $RATE.
# The kernel's log is part of the test: a WARNING, a BUG or a leak fails it, and so does a guest
# that does not reach its end.
set -u
PATH=$PATH:/usr/sbin:/sbin
series=$1 arch=$2
shift 2
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
RATE=${RATE:-0}
TIMEOUT=${TIMEOUT:-600}
MEMORY=${MEMORY:-1024}

die() { echo "Bail out! $*"; exit 1; }

kernel=$(tests/vm/kernels.sh "$series" "$arch") || die "no kernel"
version=$(cat "$kernel/version")
b=build/vm/$series-$arch
mkdir -p "$b"

# ---- the module, built in a copy: the tree stays clean, and kernels do not disturb each other ----
module()
{
	mkdir -p "$b/module"
	rm -rf "$b/module/kmod.gone"
	cp -au --parents Kbuild kmod include/uapi "$b/module/"
	local cross=''
	[ "$arch" = arm64 ] && cross=aarch64-linux-gnu-
	# No BTF: the kernel's own tools for it may be newer than what is installed.
	make -C "$kernel/headers" M="$top/$b/module" ${cross:+ARCH=arm64 CROSS_COMPILE=$cross} \
		CONFIG_DEBUG_INFO_BTF_MODULES= W=1 modules > "$b/module.log" 2>&1 ||
		{ tail -20 "$b/module.log"; die "weir.ko does not build for $version"; }
	if grep -q 'warning:' "$b/module.log"; then
		grep -A3 'warning:' "$b/module.log"
		die "weir.ko builds with warnings for $version"
	fi
}

# ---- the guest's root ----
case $arch in
x86_64) cc=gcc libs=/usr/lib/x86_64-linux-gnu loader=/lib64/ld-linux-x86-64.so.2 weir=build/weir ;;
arm64) cc=aarch64-linux-gnu-gcc libs=/usr/lib/aarch64-linux-gnu loader=/lib/ld-linux-aarch64.so.1
	weir=build/arm64/weir ;;
esac
host=$(uname -m | sed 's/aarch64/arm64/')
[ "$arch" = "$host" ] || weir=build/$arch/weir

busybox()
{
	local deb=amd64 bb=build/vm/busybox-$arch
	[ "$arch" = arm64 ] && deb=arm64
	if [ ! -e "$bb" ]; then
		rm -rf build/vm/bb
		mkdir -p build/vm/bb
		if ! (cd build/vm/bb && apt-get download -q "busybox-static:$deb" &&
			dpkg-deb -x ./*.deb .) > build/vm/busybox.log 2>&1; then
			die "no busybox-static:$deb: $(tail -n 1 build/vm/busybox.log)"
		fi
		cp build/vm/bb/bin/busybox "$bb"
		rm -rf build/vm/bb
	fi
	cp "$bb" "$1/bin/busybox"
}

# Libraries that a program needs, by name, from the architecture's own directory.
libraries()
{
	local need
	for need in $(objdump -p "$1" | awk '/NEEDED/ { print $2 }'); do
		[ -e "$root/lib/$need" ] && continue
		case $need in ld-linux*) continue ;; esac
		cp -L "$libs/$need" "$root/lib/" 2> /dev/null ||
			cp -L "${libs#/usr}/$need" "$root/lib/" || die "no $need for $arch"
		libraries "$root/lib/$need"
	done
}

needs_kselftests()
{
	local t
	for t in "$@"; do
		grep -q '/tests/weir_' "tests/vm/guest/$t.sh" && return 0
	done
	return 1
}

root=$b/root
initramfs()
{
	rm -rf "$root"
	mkdir -p "$root"/{bin,lib,lib64,proc,sys,dev,mnt,tests,modules,tmp}
	busybox "$root"
	local m n=0
	for m in nvme ext4 crc32c_generic dm-flakey; do
		modprobe -S "$version" -d "$kernel/root" --show-depends "$m" 2> /dev/null |
			awk '/^insmod/ { print $2 }'
	done | awk '!seen[$0]++' > "$b/modules"
	while read -r m; do
		n=$((n + 1))
		local to
		to=$root/modules/$(printf %02d $n)-$(basename "$m" .xz)
		case $m in
		*.xz) xz -dc "$m" > "$to" ;;
		*) cp "$m" "$to" ;;
		esac
	done < "$b/modules"
	cp "$b/module/weir.ko" "$root/modules/weir.ko"
	local t
	for t in $(needs_kselftests "$@" && ls tests/kselftest/*.c); do
		$cc -O2 -Wall -Wextra -Wno-unused-function -static -pthread -I. \
			-o "$root/tests/$(basename "$t" .c)" "$t" || die "$t does not compile"
	done
	if [ -e "$weir" ]; then
		cp "$weir" "$root/bin/weir"
		cp -L "$loader" "$root/$loader" 2> /dev/null ||
			cp -L "/usr/aarch64-linux-gnu$loader" "$root/$loader" || die "no $loader"
		libraries "$weir"
		cp tools/demo-model/weir-demo.gguf "$root/demo.gguf"
		[ ! -e "${weir%/*}/tests/stream_bench" ] || cp "${weir%/*}/tests/stream_bench" "$root/bin/"
	fi
	[ -z "${EXTRA:-}" ] || cp -r "$EXTRA"/. "$root/"
	cp tests/vm/init "$root/init"
	cp tests/vm/guest/*.sh "$root/tests/"
	printf '%s\n' "$@" > "$root/tests/list"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$b/initramfs.gz"
}

# ---- the drive ----
drive()
{
	rm -f "$b/disk.img"
	truncate -s "${DISK:-512M}" "$b/disk.img"
	mke2fs -q -t ext4 -O ^metadata_csum "$b/disk.img" || die "no file system"
	# One that tests may break, and pull out, known by its serial number.
	rm -f "$b/spare.img"
	truncate -s 64M "$b/spare.img"
}

# What the guest cannot do by itself its host does: a line `WEIR-HOST COMMAND` on its console is a
# command for QEMU's monitor.
host()
{
	local line

	# For reading too: opening it waits for nobody.
	exec 3<> "$b/monitor.in"
	while IFS= read -r line || [ -n "$line" ]; do
		line=${line//$'\r'/}
		printf '%s\n' "$line"
		case $line in
		'WEIR-HOST '*) printf '%s\n' "${line#WEIR-HOST }" >&3 ;;
		esac
	done
}

boot()
{
	local drive="file=$b/disk.img,format=raw,if=none,id=d" machine
	[ "$RATE" = 0 ] || drive+=",throttling.bps-read=$RATE"
	case $arch in
	# Both drives can go, and PCI Express says so, not ACPI. A port with a power controller believes
	# that it was asked when its drive is suddenly gone.
	x86_64) machine=(qemu-system-x86_64 -machine q35 -cpu max
			-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off) console=ttyS0 ;;
	arm64) machine=(qemu-system-aarch64 -machine virt -cpu cortex-a76) console=ttyAMA0 ;;
	esac
	rm -f "$b"/monitor*
	mkfifo "$b/monitor.in" "$b/monitor.out" || die "no pipes for the monitor"
	# init_on_alloc=0: Debian clears memory when it is allocated, which would hide a leak.
	timeout -k 10 "$TIMEOUT" "${machine[@]}" -accel tcg,thread=multi -smp 2 -m "$MEMORY" \
		-nodefaults -no-reboot -display none -serial stdio -monitor pipe:"$b/monitor" \
		-kernel "$kernel/vmlinuz" -initrd "$b/initramfs.gz" \
		-append "console=$console panic=-1 quiet loglevel=4 init_on_alloc=0 weir.rate=$RATE ${APPEND:-}" \
		-drive "$drive" \
		-device pcie-root-port,id=rp,power_controller_present=off \
		-device nvme,serial=weir,drive=d,bus=rp,id=nvme0 \
		-drive file="$b/spare.img",format=raw,if=none,id=d2 \
		-device pcie-root-port,id=rp2,chassis=1 \
		-device nvme,serial=weir-spare,drive=d2,bus=rp2,id=nvme1 \
		< /dev/null 2> "$b/qemu.log" | host > "$b/console"
}

if [ $# = 0 ]; then
	set -- kselftest runtime unload unplug
fi
module
initramfs "$@"
drive
boot

# ---- what came of it ----
{
	sed -n '/^WEIR-BEGIN/,/^WEIR-END/p' "$b/console" | grep -v '^WEIR-'
	if grep -q '^WEIR-END' "$b/console"; then
		echo "ok - the guest reaches its end"
	else
		tail -n 30 "$b/console" "$b/qemu.log" | sed 's/^/# /'
		echo "not ok - the guest reaches its end"
	fi
	if grep -E 'WARNING:|BUG:|Oops|Call [Tt]race|INFO: task|refcount_t|possible .*deadlock|kmemleak' \
		"$b/console" > "$b/bad"; then
		sed 's/^/# /' "$b/bad"
		echo "not ok - the kernel's log is clean"
	else
		echo "ok - the kernel's log is clean"
	fi
} | awk -v on="$series $arch: " '
	/^TAP version/ { next }
	# A program that dies leaves fewer lines than it has planned.
	/^1\.\.[0-9]+$/ { planned += substr($0, 4); next }
	/^(not )?ok [0-9]/ { seen++ }
	/^(not )?ok/ {
		bad += /^not/
		ok = /^not/ ? "not ok" : "ok"
		sub(/^(not )?ok *[0-9]* *(- )?/, "")
		print ok, ++n, "- " on $0
		next
	}
	{ print }
	END {
		if (seen != planned) {
			print "not ok", ++n, "- " on seen + 0, "of", planned + 0, "kselftests were run"
			bad++
		}
		print "1.." n
		exit bad > 0
	}'
