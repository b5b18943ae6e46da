#!/bin/bash
# SPDX-License-Identifier: MIT
#
# docs/example.c against the *installed* library, shared and static, as another project would
# build it: with pkg-config alone.
#
#	tests/example.sh MODEL
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh
model=$1
root=$tap_dir/root
export PKG_CONFIG_PATH=$root/lib/pkgconfig

build_shared()
{
	# shellcheck disable=SC2046
	cc -Wall -Wextra -Werror -o "$1" docs/example.c $(pkg-config --cflags --libs weir)
}

# weir's own library alone: those of the system stay shared
build_static()
{
	# shellcheck disable=SC2046
	cc -Wall -Wextra -Werror -o "$1" docs/example.c $(pkg-config --cflags weir) \
		"$root/lib/libweir.a" \
		$(pkg-config --static --libs weir | sed 's/-lweir//')
}

runs_without_libweir()
{
	! ldd "$1" | grep -q libweir
}

attempt make --no-print-directory -s install PREFIX="$root"
is "make install PREFIX=DIR" $status 0

attempt build_shared "$tap_dir/shared"
is "it compiles against the shared library" $status 0
attempt env LD_LIBRARY_PATH="$root/lib" "$tap_dir/shared" "$model" "It is a truth"
is "it runs" $status 0
shared=$out
ok "it writes text" [ ${#shared} -gt 40 ]

attempt build_static "$tap_dir/static"
is "it compiles against the static library" $status 0
ok "it needs no libweir.so then" runs_without_libweir "$tap_dir/static"
attempt "$tap_dir/static" "$model" "It is a truth"
is "it runs, too" $status 0
is "both write the same text" "$out" "$shared"

attempt env LD_LIBRARY_PATH="$root/lib" "$tap_dir/shared" /nonexistent.gguf "x"
is "a missing model makes it fail" $status 1
like "and the sentence names the file" "$err" '^example: .*/nonexistent\.gguf'

if command -v c++ > /dev/null; then
	echo '#include <weir/weir.h>
		int main() { weir_options o = WEIR_OPTIONS_INIT; return o.size && weir_version() ? 0 : 1; }' \
		> "$tap_dir/e.cc"
	# shellcheck disable=SC2046
	attempt c++ -Wall -Werror -o "$tap_dir/cc" "$tap_dir/e.cc" $(pkg-config --cflags --libs weir)
	is "the header is C++ too" $status 0
else
	skip "the header is C++ too" "no C++ compiler is installed"
fi
done_testing
