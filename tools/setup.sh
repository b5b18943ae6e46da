#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs what is missing on Debian 12 and Ubuntu 22.04:
#
#	tools/setup.sh build	to build weir
#	tools/setup.sh check	and to run every test
#	tools/setup.sh debug	and to test the kernel module on a debug kernel
#	tools/setup.sh bench	and to compare with llama.cpp: a Python environment in build/bench-venv
#	tools/setup.sh vocab	vocabularies for the tokenizer tests, from PyPI, into build/vocab
#
# Where nothing is missing, nothing is run but a few look-ups. As root it installs directly, else
# with sudo; where neither is possible it names the packages and fails. What apt-get and pip say
# goes to build/setup.log, whose end is shown when one of them fails.
#
# The libraries of arm64 are wanted, not needed: where a Debian on x86-64 cannot have them,
# build/setup.no-arm64 says why, and tests/check.sh skips what would have used them. So is pip,
# which fetches vocabularies.
set -u
cd "$(dirname "$0")/.." || exit 1

# The peer of `make bench`; its source archive also holds the vocabularies.
llama_cpp=llama-cpp-python==0.3.36

log=build/setup.log
no_arm64=build/setup.no-arm64
arch=$(uname -m)
missing=()

say()
{
	echo "weir: $*" >&2
}

die()
{
	say "$@"
	exit 1
}

# logged COMMAND...: runs it quietly; on failure shows the end of what it said
logged()
{
	mkdir -p build
	echo "+ $*" >> "$log"
	"$@" >> "$log" 2>&1 < /dev/null && return
	say "this failed: $* (the end of $log follows)"
	tail -n 20 "$log" | sed 's|[a-z]*://[^ ]*|(address)|g' >&2
	return 1
}

can_be_root()
{
	[ "$(id -u)" -eq 0 ] && return
	command -v sudo > /dev/null && { sudo -n true 2> /dev/null || { [ -t 0 ] && sudo -v; }; }
}

as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"
}

# Package lists that are absent or older than a day are fetched anew.
lists_are_fresh()
{
	compgen -G '/var/lib/apt/lists/*_Packages*' > /dev/null &&
		[ -n "$(find /var/lib/apt/lists -maxdepth 0 -mtime -1)" ]
}

# apt_install PACKAGE...: all of them or none
apt_install()
{
	lists_are_fresh || apt update || return 1
	apt install --no-install-recommends "$@" || { apt update && apt install --no-install-recommends "$@"; }
}

# ---- what is missing ----

# need COMMAND PACKAGE...: the packages are missing where the command is
need()
{
	command -v "$1" > /dev/null || missing+=("${@:2}")
}

# need_library MODULE PACKAGE: by the name that pkg-config knows
need_library()
{
	pkg-config --exists "$1" 2> /dev/null || missing+=("$2")
}

# need_sbin COMMAND PACKAGE: of those that are not in everybody's PATH
need_sbin()
{
	PATH=$PATH:/usr/sbin:/sbin command -v "$1" > /dev/null || missing+=("$2")
}

distribution()
{
	# shellcheck disable=SC1091
	(. /etc/os-release 2> /dev/null && echo "$ID")
}

need_for_build()
{
	need make make
	need gcc gcc
	need pkg-config pkg-config
	[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
	need_library liburing liburing-dev
	need_library libpcre2-8 libpcre2-dev
	need_library jansson libjansson-dev
	need_library libedit libedit-dev
}

need_for_check()
{
	need_library cmocka libcmocka-dev
	need clang clang
	need python3 python3
	[ "$arch" = x86_64 ] || return 0
	need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	need qemu-aarch64 qemu-user
}

# The kernel module is built for Debian's kernels and tested on them, and only Debian has them:
# elsewhere those tests are skipped.
need_for_module()
{
	[ "$(distribution)" = debian ] || return 0
	# what the headers of these kernels name as their compiler
	need gcc-12 gcc-12
	need sparse sparse
	need perl perl
	# to boot one
	need qemu-system-aarch64 qemu-system-arm
	need cpio cpio
	need xz xz-utils
	need_sbin modprobe kmod
	need_sbin mke2fs e2fsprogs
	# to build one, with KUnit
	need flex flex
	need bison bison
	need bc bc
	[ "$arch" = x86_64 ] || return 0
	need aarch64-linux-gnu-gcc-12 gcc-12-aarch64-linux-gnu
	need qemu-system-x86_64 qemu-system-x86
}

need_for_debug()
{
	# the kernel's objtool is linked with it
	[ -e /usr/include/libelf.h ] || missing+=(libelf-dev)
}

need_for_bench()
{
	need g++ g++
	need fio fio
	[ -e /usr/bin/python3 ] || missing+=(python3)
	/usr/bin/python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
	/usr/bin/python3 -c 'import matplotlib' 2> /dev/null || missing+=(python3-matplotlib)
	# the headers that pip needs where a dependency has no wheel
	compgen -G '/usr/include/python3*/Python.h' > /dev/null || missing+=(python3-dev)
}

install_missing()
{
	[ ${#missing[@]} -eq 0 ] && return
	command -v apt-get > /dev/null ||
		die "this system has no apt-get: install what Debian calls ${missing[*]}"
	can_be_root ||
		die "these packages are missing, and only root or sudo can install them: ${missing[*]}"
	say "installing ${missing[*]}"
	logged apt_install "${missing[@]}" || exit 1
	missing=()
}

# ---- check: what is not just a list of packages ----

# Does this clang have the run-time libraries of libFuzzer and of the sanitizers?
clang_has_runtime()
{
	local lib libs

	libs=$(echo | clang -fsanitize=fuzzer,address -x c -\#\#\# -o /dev/null - 2>&1 |
		grep -o '/[^" ]*libclang_rt\.[^" ]*\.a')
	[ -n "$libs" ] || return 1
	for lib in $libs; do
		[ -e "$lib" ] || return 1
	done
}

# Debian keeps them in a package of their own; Ubuntu 22.04 installs them with clang.
need_clang_runtime()
{
	clang_has_runtime || missing+=("libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev")
}

have_arm64_libraries()
{
	PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig \
		pkg-config --exists liburing libpcre2-8 jansson libedit cmocka
}

install_arm64_libraries()
{
	local had_arm64 id

	id=$(distribution)
	if [ "$id" != debian ]; then
		echo "only Debian has arm64 libraries in its own archive, and this is $id"
		return 1
	fi
	if ! can_be_root; then
		echo "installing arm64 libraries needs root or sudo"
		return 1
	fi
	had_arm64=$(dpkg --print-foreign-architectures | grep -x arm64)
	say "installing libraries of arm64, to test the cross build"
	[ -n "$had_arm64" ] || as_root dpkg --add-architecture arm64
	if ! { apt update && apt install --no-install-recommends \
		lib{uring,pcre2,jansson,edit,cmocka}-dev:arm64 && have_arm64_libraries; } \
		>> "$log" 2>&1 < /dev/null; then
		[ -n "$had_arm64" ] || as_root dpkg --remove-architecture arm64 >> "$log" 2>&1
		echo "libraries of arm64 could not be installed ($log says why)"
		return 1
	fi
}

want_arm64_libraries()
{
	local reason

	[ "$arch" = x86_64 ] || return 0
	have_arm64_libraries && return
	# asked once: 'make clean' asks again
	[ -e "$no_arm64" ] && return
	mkdir -p build
	reason=$(install_arm64_libraries) || echo "$reason" > "$no_arm64"
}

# Wanted, not needed: pip fetches the vocabularies of the tokenizer tests.
want_pip()
{
	[ -d build/vocab ] && return
	command -v pip3 > /dev/null && return
	command -v apt-get > /dev/null && can_be_root || return 0
	say "installing python3-pip, to fetch vocabularies for the tokenizer tests"
	mkdir -p build
	apt_install python3-pip >> "$log" 2>&1 < /dev/null ||
		say "python3-pip could not be installed ($log says why): those tests are skipped"
}

# ---- bench: llama.cpp as pip builds it, with all that this CPU has ----

has_cpu_flag()
{
	grep -qw -m1 "$1" /proc/cpuinfo
}

llama_cmake_args()
{
	if [ "$arch" != x86_64 ]; then
		echo -DGGML_NATIVE=ON
		return
	fi
	echo -DGGML_NATIVE=OFF
	has_cpu_flag avx && echo -DGGML_AVX=ON
	has_cpu_flag avx2 && echo -DGGML_AVX2=ON
	has_cpu_flag bmi2 && echo -DGGML_BMI2=ON
	has_cpu_flag fma && echo -DGGML_FMA=ON
	has_cpu_flag f16c && echo -DGGML_F16C=ON
	has_cpu_flag avx512f && echo -DGGML_AVX512=ON
	has_cpu_flag avx512vbmi && echo -DGGML_AVX512_VBMI=ON
	has_cpu_flag avx512_vnni && echo -DGGML_AVX512_VNNI=ON
	has_cpu_flag avx512_bf16 && echo -DGGML_AVX512_BF16=ON
	return 0
}

make_bench_venv()
{
	local venv=build/bench-venv

	[ -e $venv/complete ] && return
	say "building $llama_cpp in $venv; this takes some minutes"
	rm -rf $venv
	logged /usr/bin/python3 -m venv --system-site-packages $venv || exit 1
	CMAKE_ARGS=$(llama_cmake_args | tr '\n' ' ') CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
		logged $venv/bin/pip install --no-binary llama-cpp-python "$llama_cpp" || exit 1
	touch $venv/complete
}

# ---- vocab ----

# Fails without a word where pip or PyPI cannot be had: the tests that want it are then skipped.
fetch_vocabularies()
{
	local tmp=build/vocab.tmp

	[ -d build/vocab ] && return
	command -v pip3 > /dev/null || return 1
	rm -rf $tmp
	mkdir -p $tmp
	echo "+ pip3 download $llama_cpp" >> "$log"
	# 76 MB, and pip wants what would build it: as wheels, lest it build cmake
	timeout 600 pip3 download -q --no-deps --no-binary llama-cpp-python -d $tmp "$llama_cpp" \
		>> "$log" 2>&1 < /dev/null &&
		tar -xzf $tmp/llama_cpp_python-*.tar.gz -C $tmp --strip-components=4 --wildcards \
			--exclude='*-bert-*' '*/vendor/llama.cpp/models/ggml-vocab-*.gguf*' \
			>> "$log" 2>&1 &&
		rm $tmp/*.tar.gz && mv $tmp build/vocab && return
	rm -rf $tmp
	return 1
}

case ${1-} in
build)
	need_for_build
	install_missing
	;;
check)
	need_for_build
	need_for_check
	need_for_module
	install_missing
	need_clang_runtime
	install_missing
	want_arm64_libraries
	want_pip
	;;
debug)
	need_for_build
	need_for_module
	need_for_debug
	install_missing
	;;
bench)
	need_for_build
	need_for_bench
	install_missing
	make_bench_venv
	;;
vocab)
	mkdir -p build
	fetch_vocabularies
	;;
*)
	die "usage: tools/setup.sh build|check|debug|bench|vocab"
	;;
esac
