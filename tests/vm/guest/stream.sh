# SPDX-License-Identifier: MIT
# How fast the sources read, and what that costs, without any arithmetic: kmod, uring and, where
# the guest has one (EXTRA of run.sh), fio. Figures, no test.
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
	cat /demo.gguf
done > /mnt/big
sync
echo 3 > /proc/sys/vm/drop_caches
for round in 1 2 3; do
	if [ -x /bin/fio ]; then
		for depth in 4 8; do
			fio --name=r --filename=/mnt/big --rw=read --bs=1M --iodepth=$depth --direct=1 \
				--ioengine=io_uring --fixedbufs=1 --readonly --time_based --runtime=5 2>&1 |
				sed -n "s/^ *READ: bw=\([^ ]*\) (\([^)]*\)).*/# $round fio depth $depth: \2/p"
		done
	fi
	for source in uring kmod; do
		echo "# $round $source: $(stream_bench /mnt/big 50% 6 0 0 $source 2> /tmp/err)"
	done
done
head -c 200 /tmp/err | sed 's/^/# /'
rmmod weir || echo "not ok - weir.ko unloads"
