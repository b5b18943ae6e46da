# SPDX-License-Identifier: MIT
# What scripts in the guest share: `. /tests/lib.sh`.

# say STATUS NAME: a line of TAP
say()
{
	if [ "$1" = 0 ]; then echo "ok - $2"; else echo "not ok - $2"; fi
}

# disk SERIAL: the name of that NVMe drive; nothing where there is none (yet)
disk()
{
	for d in /sys/block/nvme*; do
		grep -qx "$1 *" "$d/device/serial" 2> /dev/null && echo "${d##*/}"
	done
}
