# SPDX-License-Identifier: MIT
# A drive that stalls, the spare drive taken out in order, and the drive with the file system pulled
# out while it stalls. Comes last: there is no /mnt afterwards. The kernel's log says what it says
# then, and nothing else.
# shellcheck source=tests/vm/guest/lib.sh
. /tests/lib.sh

# What the kernel says when the drive of a mounted file system is pulled out, and on a slow machine
expected()
{
	cat << END
EXT4-fs \($mine\): shut down requested \([0-9]\)
EXT4-fs \($mine\): previous I/O error to superblock detected
EXT4-fs \($mine\): I/O error while writing superblock
Aborting journal on device $mine-8\.
JBD2: I/O error when updating journal superblock for $mine-8\.
Buffer I/O error on dev $mine, logical block [0-9]+, lost (async|sync) page write
I/O error, dev $mine, sector [0-9]+ op 0x[01]:\((READ|WRITE)\) .*
hrtimer: interrupt took [0-9]+ ns
clocksource: .*
END
}

# complaints: warnings and worse since begin_log(), as far as they are not expected
begin_log()
{
	echo "guest: $1" > /dev/kmsg
}

complaints()
{
	expected > /tmp/expected
	dmesg -r | sed "1,/guest: $1/d" | grep '^<[0-4]>' | sed 's/^<.>\[[^]]*\] //' |
		grep -vxE -f /tmp/expected > /tmp/complaints
	say "$(wc -l < /tmp/complaints)" "the kernel says nothing but what it must of $1"
	sed 's/^/# log: /' /tmp/complaints
}

# A command until it succeeds, 2 s at most.
soon()
{
	local i=0

	until "$@" 2> /dev/null; do
		[ $i = 20 ] && return 1
		i=$((i + 1))
		usleep 100000
	done
}

# The kernel's lines would come between ours.
dmesg -n 1
insmod /modules/weir.ko
say $? 'weir.ko loads'
spare=$(disk weir-spare)
mine=$(disk weir)
sync

begin_log 'a drive that stalls'
/tests/weir_unplug /mnt/unplug stall d
complaints 'a drive that stalls'

begin_log 'drives that are gone'
/tests/weir_unplug "/dev/$spare" unplug "$spare" nvme1
sync
/tests/weir_unplug /mnt/unplug pull "$mine" d
# The kernel puts a session's file and its work a moment after close().
soon umount /mnt
say $? 'the file system of a drive that is gone can be unmounted'
soon rmmod weir
! grep -q '^weir ' /proc/modules
say $? 'weir.ko unloads'
complaints 'drives that are gone'
dmesg -n 4
