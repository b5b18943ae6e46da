# SPDX-License-Identifier: MIT
# For a weir.ko whose probes were forced the other way (WEIR_FORCE of kmod/probe.sh) where it builds
# all the same: the programs that tell whether what it then does is right. ENTIRE_MAPCOUNT=n: who
# refers to a page; FMODE_CAN_ODIRECT=n: which files may be attached.
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
for t in abi stream gup; do
	"/tests/weir_$t" /mnt
	r=$?
	[ $r = 0 ] || [ $r = 4 ] || echo "not ok - weir_$t ends well ($r)"
done
rmmod weir && echo "ok - weir.ko unloads" || echo "not ok - weir.ko unloads"
