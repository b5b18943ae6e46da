# SPDX-License-Identifier: MIT
# Every kselftest program but the fuzzer, and the module goes when they are done.
insmod /modules/weir.ko || { echo "not ok - weir.ko loads"; exit 1; }
echo "ok - weir.ko loads"
for t in /tests/weir_*; do
	[ "$t" = /tests/weir_fuzz ] && continue
	"$t" /mnt
	r=$?
	# 4: skipped
	[ $r = 0 ] || [ $r = 4 ] || echo "not ok - $(basename "$t") ends well ($r)"
done
rmmod weir && echo "ok - weir.ko unloads" || echo "not ok - weir.ko unloads"
