# SPDX-License-Identifier: MIT
# The module goes when nobody uses it, and not before: while a session is open, a mapping is left,
# or a read is in flight. And it can come and go often.
# shellcheck source=tests/vm/guest/lib.sh
. /tests/lib.sh

loaded() { grep -q '^weir ' /proc/modules; }

# It does not go: in use. busybox says so only in words, the kernel by EAGAIN.
stays()
{
	if rmmod weir 2> /tmp/why || ! loaded; then
		say 1 "rmmod is refused $1"
		loaded || insmod /modules/weir.ko
		return
	fi
	grep -Eq 'busy|in use|temporarily unavailable' /tmp/why
	say $? "rmmod is refused $1"
}

# A close() returns before the last work item has ended.
goes()
{
	i=0
	until rmmod weir 2> /dev/null || [ $i = 50 ]; do
		i=$((i + 1))
		usleep 100000
	done
	! loaded
	say $? "rmmod works $1"
}

insmod /modules/weir.ko
say $? 'weir.ko loads'
goes 'when nobody has used it'
[ ! -e /dev/weir ]
say $? 'the device goes with the module'

insmod /modules/weir.ko
exec 3<> /dev/weir
stays 'while a session is open that declares nothing'
exec 3>&-
goes 'after it was closed'

insmod /modules/weir.ko
mkfifo /tmp/hold
/tests/weir_life /mnt hold-mapping < /tmp/hold > /tmp/ready &
holder=$!
exec 4> /tmp/hold
i=0
until grep -q ready /tmp/ready || [ $i = 100 ]; do
	i=$((i + 1))
	usleep 100000
done
grep -q ready /tmp/ready
say $? 'a process holds a mapping and no descriptor'
stays 'while a mapping is left'
exec 4>&-
wait $holder
goes 'after it is gone'
rm /tmp/hold

# Over flash that hangs: the session is closed, its reads are not back.
insmod /modules/weir.ko
/tests/weir_fail /mnt hang
case $? in
0)
	stays 'while a read is in flight'
	/tests/weir_fail /mnt resume
	say $? 'the read comes back'
	;;
4) echo 'ok - rmmod while a read hangs # SKIP no spare drive' ;;
*) say 1 'a read is left in flight' ;;
esac
goes 'when no read is in flight'

# As soon as a process has left with reads in flight: now or a moment later, and nothing breaks.
n=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	insmod /modules/weir.ko || n=$((n + 1))
	/tests/weir_life /mnt leave || n=$((n + 1))
	i=0
	until rmmod weir 2> /dev/null || [ $i = 1000 ]; do
		i=$((i + 1))
	done
	loaded && n=$((n + 1))
done
say $n 'rmmod at once after a process with reads in flight has ended'

n=0
i=0
while [ $i -lt 50 ]; do
	i=$((i + 1))
	insmod /modules/weir.ko || n=$((n + 1))
	[ $((i % 2)) = 0 ] && { : <> /dev/weir || n=$((n + 1)); }
	j=0
	until rmmod weir 2> /dev/null || [ $j = 1000 ]; do
		j=$((j + 1))
	done
	loaded && n=$((n + 1))
done
say $n '50 times loaded and unloaded'
