# SPDX-License-Identifier: MIT
# weir with the kmod source: the same text as with io_uring, the declared bytes and no more.
run()
{
	/bin/weir run /mnt/demo.gguf -p 'Emma was not able to' -n 24 --seed 3 -q "$@"
}

insmod /modules/weir.ko || echo "not ok - weir.ko loads"
cp /demo.gguf /mnt/demo.gguf && sync
run --source mmap > /tmp/want || echo "not ok - weir runs from mmap"
for budget in 100% 50% 20%; do
	for source in uring kmod auto; do
		run --source $source --budget $budget > /tmp/got 2> /tmp/err
		if cmp -s /tmp/want /tmp/got; then
			echo "ok - the same text from $source at $budget"
		else
			echo "not ok - the same text from $source at $budget"
			head -c 300 /tmp/got /tmp/err | sed 's/^/# /'
		fi
	done
done
# With the device there, auto means the module.
run --source auto --budget 50% --json > /tmp/json 2> /tmp/err
grep -v '^ ' /tmp/json | head -3 | sed 's/^/# /'
if [ "$(awk '$1 == "pinned" { print $2 }' /sys/kernel/debug/weir/sessions)" = 0 ]; then
	echo "ok - nothing stays pinned"
else
	echo "not ok - nothing stays pinned"
	sed 's/^/# /' /sys/kernel/debug/weir/sessions
fi
rmmod weir || echo "not ok - weir.ko unloads"
