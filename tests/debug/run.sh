#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh [TEST...]: tests/vm/run.sh on the debug kernel, which it builds where there is none: the
# tests named, else those that stock kernels pass and the sweep over all failures; and at last a
# search for what was lost. Most of what the kernel may complain about stops it at once, and with
# it the tests. Prints TAP.
#
# Not unplug: Linux 6.12 takes two locks of its own in both orders when a drive is pulled out
# (pciehp's reset_lock and pci_rescan_remove_lock), and lockdep stops watching when it has said so.
#
# TIMEOUT, MEMORY, EXTRA and APPEND as for tests/vm/run.sh.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ $# -gt 0 ] || set -- kselftest failnth fuzz runtime unload

kernel=$(tests/vm/kernels.sh debug x86_64) || { echo "Bail out! no debug kernel"; exit 1; }
extra=build/vm/debug-extra
rm -rf $extra
mkdir -p $extra/modules
[ -z "${EXTRA:-}" ] || cp -r "$EXTRA"/. $extra/
find "$kernel/root" -name kmemleak-test.ko -exec cp {} $extra/modules/ \;

# panic_print: all that the kernel has said, should it stop.
export TIMEOUT=${TIMEOUT:-3600} EXTRA=$extra
export APPEND="panic_on_warn=1 panic_print=32 ${APPEND:-}"
exec tests/vm/run.sh debug x86_64 "$@" leaks
