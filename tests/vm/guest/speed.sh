# SPDX-License-Identifier: MIT
# The kmod source against the drive's rate ($RATE on the kernel's command line, bytes/s): how fast
# it streams while a model decodes, what it reads, and whether it faults.
insmod /modules/weir.ko || echo "not ok - weir.ko loads"
cp /demo.gguf /mnt/demo.gguf && sync
rate=$(sed -n 's/.*weir\.rate=\([0-9]*\).*/\1/p' /proc/cmdline)

# value FILE KEY: of a JSON object, one key a line
value()
{
	sed -n "s/^ *\"$2\": \([0-9.e+-]*\),*$/\1/p" "$1"
}

# check NAME VALUE LEAST MOST
check()
{
	if awk "BEGIN { exit !($2 >= $3 && $2 <= $4) }"; then
		echo "ok - $1: $2 (from $3 to $4)"
	else
		echo "not ok - $1: $2 (from $3 to $4)"
	fi
}

# The drive's own rate now, as a plain reader sees it.
echo 3 > /proc/sys/vm/drop_caches
dd if=/mnt/demo.gguf of=/dev/null bs=1M iflag=direct 2>&1 | tail -1 | sed 's/^/# dd: /'

for source in kmod uring kmod uring; do
	/bin/weir bench -p 0 -n 24 --source $source --budget 40% --json -q /mnt/demo.gguf > /tmp/$source.json
	echo "# $source: $(value /tmp/$source.json decode_tok_s) tokens/s," \
		"flash $(value /tmp/$source.json flash_gb_s) GB/s," \
		"stalled $(value /tmp/$source.json stall_share)"
done
j=/tmp/kmod.json
[ "${rate:-0}" = 0 ] ||
	check "share of the drive's rate while decoding" \
		"$(awk "BEGIN { print $(value $j flash_gb_s) * 1e9 / $rate }")" 0.95 1.1
check "bytes read a pass, of alpha W" \
	"$(awk "BEGIN { print $(value $j flash_read_bytes) / $(value $j decoded_tokens) / $(value $j stream_bytes) }")" \
	0.99 1.01

# Major faults: none once the first token is there.
/bin/weir run /mnt/demo.gguf -p 'Emma was not able to' -n 40 --source kmod --budget 40% -q > /tmp/out &
pid=$!
while [ ! -s /tmp/out ]; do sleep 0.1; done
first=$(awk '{ print $12 }' /proc/$pid/stat)
last=$first
while [ -e /proc/$pid/stat ]; do
	now=$(awk '{ print $12 }' /proc/$pid/stat 2> /dev/null)
	last=${now:-$last}
	sleep 0.2
done
wait
check "major faults after the first token" $((last - first)) 0 0

# A second process on the same model, most of it pinned, as where pinning pays: the pins are there
# once, each has a ring of its own. What that is of a model of gigabytes is in stream.sh.
for out in one two; do
	/bin/weir run /mnt/demo.gguf -p 'Emma' -n 60 --seed 1 --source kmod --budget 95% -q > /tmp/$out &
	sleep 0.5
done
while [ "$(grep -c weir-pinned /sys/kernel/debug/weir/sessions)" != 2 ]; do sleep 0.1; done
grep -e pinned -e shared /sys/kernel/debug/weir/sessions | sed 's/^/# /'
wait
cmp -s /tmp/one /tmp/two && [ -s /tmp/one ] &&
	echo "ok - two processes on one model write the same" ||
	echo "not ok - two processes on one model write the same"
rmmod weir || echo "not ok - weir.ko unloads"
