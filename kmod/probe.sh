#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# probe.sh OUTPUT CFLAGS...: writes OUTPUT, a header that says what the kernel has whose flags
# these are. $CC compiles; $FORCE holds NAME=y and NAME=n that override what is found.
#
# Each probe is two fragments of C: how weir.ko does it where the feature is there, and how where
# it is not. The first that compiles is the answer, and where neither does, something else is
# wrong and the build stops: a probe never says no because a header could not be read. Two
# controls check the compiler and its flags first.

set -u
out=$1
shift
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# compiles NAME INCLUDES BODY CFLAGS...
compiles()
{
	file=$tmp/$1.c
	{
		for h in $2; do
			echo "#include <linux/$h.h>"
		done
		printf '%s\n' "$3"
	} > "$file"
	shift 3
	$CC "$@" -Werror -Wno-unused-function -Wno-missing-prototypes \
		-Wno-missing-declarations -fsyntax-only "$file" > "$tmp/log" 2>&1
}

if ! compiles control_yes 'module fs' 'int probe(struct file *f) { return f->f_flags; }' "$@"; then
	echo "weir: the kernel's headers cannot be compiled against:" >&2
	cat "$tmp/log" >&2
	exit 1
fi
if compiles control_no 'module fs' 'int probe(struct file *f) { return f->no_such_member; }' "$@"
then
	echo "weir: the compiler accepts what is not there; probing says nothing" >&2
	exit 1
fi

# probe NAME INCLUDES NEW OLD CFLAGS...: leaves y or n in $answer
probe()
{
	name=$1 includes=$2 new=$3 old=$4
	shift 4
	if compiles "$name" "$includes" "$new" "$@"; then
		answer=y
	elif compiles "$name" "$includes" "$old" "$@"; then
		answer=n
	else
		echo "weir: neither way of $name compiles with this kernel:" >&2
		cat "$tmp/log" >&2
		exit 1
	fi
	for f in ${FORCE:-}; do
		[ "${f%%=*}" = "$name" ] && answer=${f#*=}
	done
	if [ "$answer" = y ]; then
		echo "#define HAVE_$name 1"
	else
		echo "/* no HAVE_$name */"
	fi
}

{
	echo "/* Written by probe.sh. */"
	# 5.16: a completion has one result
	probe KI_COMPLETE_2ARGS 'fs' \
		'void d(struct kiocb *k, long r); void p(struct kiocb *k) { k->ki_complete = d; }' \
		'void d(struct kiocb *k, long r, long s); void p(struct kiocb *k) { k->ki_complete = d; }' \
		"$@"
	# 6.0: whether a file can do direct I/O is a mode of the open file
	probe FMODE_CAN_ODIRECT 'fs' \
		'fmode_t p(struct file *f) { return f->f_mode & FMODE_CAN_ODIRECT; }' \
		'int p(struct file *f) { return f->f_mapping->a_ops->direct_IO != NULL; }' "$@"
	# 6.3: flags of a mapping are set by functions
	probe VM_FLAGS_SET 'mm' \
		'void p(struct vm_area_struct *v) { vm_flags_set(v, VM_DONTDUMP); }' \
		'void p(struct vm_area_struct *v) { v->vm_flags |= VM_DONTDUMP; }' "$@"
	# 6.7: a shrinker is allocated
	probe SHRINKER_ALLOC 'mm shrinker' \
		'struct shrinker *p(void) { return shrinker_alloc(0, "x"); }' \
		'void p(struct shrinker *s) { unregister_shrinker(s); }' "$@"
	# 6.0 to 6.6: it is not, but has a name
	if [ "$answer" = n ]; then
		probe REGISTER_SHRINKER_FMT 'mm shrinker' \
			'int p(struct shrinker *s) { return register_shrinker(s, "x"); }' \
			'int p(struct shrinker *s) { return register_shrinker(s); }' "$@"
	fi
	# 6.13: a timer is set up by one function
	probe HRTIMER_SETUP 'hrtimer' \
		'void p(struct hrtimer *t, enum hrtimer_restart (*f)(struct hrtimer *))
{ hrtimer_setup(t, f, CLOCK_MONOTONIC, HRTIMER_MODE_REL); }' \
		'void p(struct hrtimer *t) { hrtimer_init(t, CLOCK_MONOTONIC, HRTIMER_MODE_REL); }' \
		"$@"
	# 6.9: a folio knows how often it is mapped
	probe LARGE_MAPCOUNT 'mm' \
		'int p(struct folio *f) { return atomic_read(&f->_large_mapcount) + folio_mapcount(f); }' \
		'int p(struct page *p) { return page_mapcount(p); }' "$@"
	# 6.3 to 6.8: it does not, but mapping it as a whole is not counted in its parts
	if [ "$answer" = n ]; then
		probe NR_PAGES_MAPPED 'mm' \
			'int p(struct folio *f) { return atomic_read(&f->_nr_pages_mapped); }' \
			'int p(struct page *p) { return page_mapcount(p); }' "$@"
		# 5.18 asks the folio how often it is mapped as a whole; 6.3 took the other way away
		probe ENTIRE_MAPCOUNT 'mm' \
			'int p(struct folio *f) { return folio_entire_mapcount(f); }' \
			'int p(struct page *p) { return compound_mapcount(p); }' "$@"
	fi
	# until 6.12 a namespace is an identifier; a string would compile too, and name another one
	probe IMPORT_NS_IDENT 'module' 'MODULE_IMPORT_NS(DMA_BUF);' 'MODULE_IMPORT_NS("DMA_BUF");' "$@"
} > "$tmp/config.h" || exit 1
cmp -s "$tmp/config.h" "$out" || cp "$tmp/config.h" "$out"
