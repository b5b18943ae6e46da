# SPDX-License-Identifier: MIT
# Random calls, for a minute or as long as the kernel's command line says (weir.fuzz=SECONDS).
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
seconds=$(sed -n 's/.*weir\.fuzz=\([0-9]*\).*/\1/p' /proc/cmdline)
WEIR_FUZZ_SECONDS=${seconds:-60} /tests/weir_fuzz /mnt || echo "not ok - weir_fuzz"
rmmod weir && echo "ok - weir.ko unloads" || echo "not ok - weir.ko unloads"
