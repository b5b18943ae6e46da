# SPDX-License-Identifier: MIT
# What weir.ko does where the kernel has no memory for it: for a debug kernel, others skip it.
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
/tests/weir_failnth /mnt || echo "not ok - weir_failnth ends well ($?)"
rmmod weir && echo "ok - weir.ko unloads" || echo "not ok - weir.ko unloads"
