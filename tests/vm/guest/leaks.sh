# SPDX-License-Identifier: MIT
# After the other tests of a debug kernel, weir.ko being unloaded: is anything lost, and has
# lockdep watched to the end? It stops at its first complaint, and when its tables are full.
lost=/sys/kernel/debug/kmemleak

# Twice, because a stale pointer may still lead to it; and what is lost counts as such when it is
# five seconds old.
look_for_lost()
{
	for i in 1 2; do
		sleep 6
		echo scan > $lost
	done
}

look_for_lost
head -n 100 $lost | sed 's/^/# /'
[ -r $lost ] && [ -z "$(head -c 1 $lost)" ] || printf 'not '
echo "ok - nothing is lost"

# Would it have been found?
insmod /modules/kmemleak-test.ko
rmmod kmemleak-test
look_for_lost
[ "$(grep -c 'comm "insmod"' $lost)" -gt 10 ] || printf 'not '
echo "ok - what is lost on purpose is found"

if grep -q '^ debug_locks: *1$' /proc/lockdep_stats; then
	echo "ok - lockdep has nothing to say"
else
	timeout 5 cat /dev/kmsg | grep -A 100 -m 1 'WARNING:' | sed 's/^[^;]*;/# /'
	echo "not ok - lockdep has nothing to say"
fi
