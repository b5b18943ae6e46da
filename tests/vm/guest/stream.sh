# SPDX-License-Identifier: MIT
# How fast the sources read, and what that costs, without any arithmetic: kmod, uring and, where
# the guest has one (EXTRA of run.sh), fio; and what a second process on the same file pins.
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
# weir.mb: of the file, on the kernel's command line
mb=$(sed -n 's/.*weir\.mb=\([0-9]*\).*/\1/p' /proc/cmdline)
while [ "$(stat -c %s /mnt/big 2> /dev/null || echo 0)" -lt $((${mb:-128} << 20)) ]; do
	cat /demo.gguf /demo.gguf /demo.gguf /demo.gguf >> /mnt/big
done
sync
echo 3 > /proc/sys/vm/drop_caches

# fio KIB DEPTH: one line
one_fio()
{
	fio --name=r --filename=/mnt/big --rw=read --bs="$1k" --iodepth="$2" --direct=1 \
		--ioengine=io_uring --fixedbufs=1 --readonly --time_based --runtime=4 2>&1 |
		sed -n "s/^ *READ: bw=\([^ ]*\) (\([^)]*\)).*/# $round fio $1 KiB depth $2: \2/p"
}

for round in 1 2 3; do
	if [ -x /bin/fio ]; then
		for kib in 512 1024 4096; do
			for depth in 2 4 8; do
				one_fio $kib $depth
			done
		done
	fi
	for source in uring kmod; do
		echo "# $round $source: $(stream_bench /mnt/big 50% 4 0 0 $source 2> /tmp/err)"
	done
done
pinned()
{
	awk '$1 == "pinned" { print $2 }' /sys/kernel/debug/weir/sessions
}

# sessions N: waits until so many are there and have read what they pin
sessions()
{
	while [ "$(pinned | wc -w)" != 1 ] ||
		[ "$(grep -c weir-pinned /sys/kernel/debug/weir/sessions)" != "$1" ]; do
		sleep 0.1
	done
}

stream_bench /mnt/big 80% 20 0 0 kmod > /tmp/one 2>&1 &
sessions 1
one=$(pinned)
stream_bench /mnt/big 80% 20 0 0 kmod > /tmp/two 2>&1 &
sessions 2
two=$(pinned)
wait
echo "# pinned by one process $one, by two $two"
awk "BEGIN { exit !($one > 0 && $two <= 1.05 * $one) }" ||
	printf 'not '
echo "ok - a second process on the same file adds less than 5 % to what is pinned"
head -c 200 /tmp/err | sed 's/^/# /'
rmmod weir || echo "not ok - weir.ko unloads"
