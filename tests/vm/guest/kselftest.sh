# SPDX-License-Identifier: MIT
# Every kselftest program but those that have a script of their own, and the
# module goes when they are done.
insmod /modules/weir.ko || { echo "not ok - weir.ko loads"; exit 1; }
echo "ok - weir.ko loads"
for t in /tests/weir_*; do
	case $t in
	*/weir_fuzz | */weir_failnth | */weir_unplug) continue ;;
	esac
	"$t" /mnt
	r=$?
	# 4: skipped
	[ $r = 0 ] || [ $r = 4 ] || echo "not ok - $(basename "$t") ends well ($r)"
done
rmmod weir && echo "ok - weir.ko unloads" || echo "not ok - weir.ko unloads"
