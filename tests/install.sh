#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What `make install` puts where, with DESTDIR and PREFIX as a packager uses them.
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh
dest=$tap_dir/dest

files_under()
{
	(cd "$1" && find . ! -type d | sort | tr '\n' ' ')
}

# Names that the shared library gives to others
exported()
{
	nm -D --defined-only "$1" | awk '{ print $3 }' | sort
}

# Names that the static library would add to a program
exported_static()
{
	nm --defined-only --extern-only "$1" | awk 'NF == 3 { print $3 }' | sort
}

only_weir_names()
{
	[ -n "$1" ] && ! grep -v '^weir_' <<< "$1"
}

attempt make --no-print-directory -s install DESTDIR="$dest" PREFIX=/opt/weir
is "make install DESTDIR= PREFIX=" $status 0
is "it prints nothing" "$out$err" ""
is "nothing outside the prefix" "$(ls "$dest") $(ls "$dest/opt")" "opt weir"
for file in bin/weir lib/libweir.a lib/libweir.so lib/pkgconfig/weir.pc include/weir/weir.h \
	share/man/man1/weir.1; do
	ok "$file" [ -f "$dest/opt/weir/$file" ]
done
is "libweir.so leads to its version" "$(readlink "$dest/opt/weir/lib/libweir.so")" libweir.so.0
attempt "$dest/opt/weir/bin/weir" --version
is "the installed program runs" $status 0

prefix=$(PKG_CONFIG_PATH=$dest/opt/weir/lib/pkgconfig pkg-config --variable=prefix weir)
is "weir.pc holds the prefix of this installation" "$prefix" /opt/weir
like "weir.pc holds the version that the program says" "$out" \
	"$(PKG_CONFIG_PATH=$dest/opt/weir/lib/pkgconfig pkg-config --modversion weir)"

names=$(exported "$dest/opt/weir/lib/libweir.so")
ok "the shared library exports weir_* alone" only_weir_names "$names"
is "the static library has the same names" "$(exported_static "$dest/opt/weir/lib/libweir.a")" "$names"
is "every function of weir.h is there" \
	"$(comm -23 <(grep -oE '^WEIR_API .*' include/weir/weir.h | grep -oE 'weir_[a-z]+\(' | tr -d '(' | sort -u) \
		<(echo "$names"))" ""

before=$(files_under "$dest")
attempt make --no-print-directory -s install DESTDIR="$dest" PREFIX=/opt/weir
is "installing over it works" "$status $(files_under "$dest")" "0 $before"
done_testing
