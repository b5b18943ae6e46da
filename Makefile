# SPDX-License-Identifier: MIT
#
# weir. `make help` lists the targets. GNU make; one makefile, no recursion for the objects. What is
# built lands in $(B): build/ natively, build/arm64/ crosswise, build/asan/ and build/tsan/ with a
# sanitizer. The kernel module is built by the kernel's own makefiles (Kbuild), in a copy there.

VERSION := 0.1.0
SOVERSION := 0

# ---- which machine ----
normal_arch = $(patsubst aarch64,arm64,$(patsubst x86_64,x86_64,$(1)))
HOST_ARCH := $(call normal_arch,$(shell uname -m))
ARCH ?= $(HOST_ARCH)
override ARCH := $(call normal_arch,$(ARCH))
ifneq ($(filter-out x86_64 arm64,$(ARCH)),)
$(error ARCH=$(ARCH) is not supported: use x86_64 or arm64)
endif

B := build
ifneq ($(ARCH),$(HOST_ARCH))
B := build/$(ARCH)
triplet_arm64 := aarch64-linux-gnu
triplet_x86_64 := x86_64-linux-gnu
CROSS_COMPILE ?= $(triplet_$(ARCH))-
export PKG_CONFIG_LIBDIR ?= /usr/lib/$(triplet_$(ARCH))/pkgconfig:/usr/share/pkgconfig
endif
ifeq ($(origin CC),default)
CC := $(CROSS_COMPILE)gcc
endif
LD := $(CROSS_COMPILE)ld
AR := $(CROSS_COMPILE)ar
OBJCOPY := $(CROSS_COMPILE)objcopy
CLANG ?= clang
PKG_CONFIG ?= pkg-config

# ---- how ----
ifdef SAN
ifeq ($(filter asan tsan,$(SAN)),)
$(error SAN=$(SAN) is not known: use asan or tsan)
endif
B := $(B)/$(SAN)
san_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
san_tsan := -fsanitize=thread -fno-omit-frame-pointer
endif

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man

PACKAGES := liburing libpcre2-8 jansson libedit
pkg_cflags := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
pkg_libs := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)

CFLAGS ?= -O2 -g
# -ffp-contract=off: the same sums on every compiler, so that output does not depend on it.
WEIR_CFLAGS := -std=gnu11 -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wno-unused-parameter -fPIC -fvisibility=hidden -ffp-contract=off \
	-fno-strict-aliasing -pthread $(san_$(SAN)) $(pkg_cflags)
WEIR_CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DWEIR_VERSION='"$(VERSION)"' \
	-I. -Iuserspace -Iinclude -MMD -MP
LDFLAGS ?=
WEIR_LDFLAGS := -pthread $(san_$(SAN))
LIBS := $(pkg_libs) -lm

# ---- what ----
kernel_srcs := $(wildcard kernels/*.c kernels/cpu/*.c)
kernel_srcs += $(if $(filter x86_64,$(ARCH)),$(wildcard kernels/cpu/x86/*.c))
kernel_srcs += $(if $(filter arm64,$(ARCH)),$(wildcard kernels/cpu/arm/*.c))
lib_srcs := $(wildcard $(addsuffix /*.c,$(addprefix userspace/,base gguf text stream model decode)))
lib_srcs += kmod/weir_sched.c kmod/weir_depth.c $(kernel_srcs)
cli_srcs := $(wildcard userspace/cli/*.c)
unit_srcs := $(wildcard tests/unit/test_*.c)
fuzz_srcs := $(wildcard tests/fuzz/fuzz_*.c)

objs = $(patsubst %.c,$(B)/obj/%.o,$(1))
kernel_objs := $(call objs,$(kernel_srcs))
lib_objs := $(call objs,$(lib_srcs))
cli_objs := $(call objs,$(cli_srcs))
unit_progs := $(patsubst tests/unit/%.c,$(B)/tests/%,$(unit_srcs))
fuzz_progs := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(fuzz_srcs))

avx2_flags := -mavx2 -mfma -mf16c
avx512_flags := $(avx2_flags) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi

.PHONY: all
all: $(B)/weir $(B)/libweir.so.$(SOVERSION) $(B)/libweir.a

$(B)/obj/%_avx2.o: isa_flags := $(avx2_flags)
$(B)/obj/%_avx512.o: isa_flags := $(avx512_flags)
# Long templates, which sanitizers take minutes to instrument; tests put inaccessible pages around
# what these kernels read and write.
$(B)/obj/kernels/cpu/x86/packed%_avx512.o: isa_flags := $(avx512_flags) -fno-sanitize=all
$(B)/obj/%_dotprod.o: isa_flags := -march=armv8.2-a+dotprod+fp16
$(B)/obj/%_i8mm.o: isa_flags := -march=armv8.2-a+dotprod+fp16+i8mm

compile = $(CC) $(WEIR_CPPFLAGS) $(CPPFLAGS) $(WEIR_CFLAGS) $(CFLAGS)
fuzz_compile = $(CLANG) $(WEIR_CPPFLAGS) $(fuzz_cflags)

# Written anew only when the compiler or its flags change: then every object is made anew.
write_if_changed = @mkdir -p $(@D); s='$(subst ','\'',$(1))'; \
	[ "$$s" = "$$(cat $@ 2>/dev/null)" ] || echo "$$s" > $@
.PHONY: FORCE
$(B)/flags: FORCE
	$(call write_if_changed,$(compile))
build/fuzz/flags: FORCE
	$(call write_if_changed,$(fuzz_compile))

# The freestanding tests are built without any library, for arm64 too.
needs_libraries := $(filter-out kernel-tests golden-tests neon-counts neon-counts-prog,$(or $(MAKECMDGOALS),all))
$(B)/obj/%.o: %.c Makefile $(B)/flags | $(if $(needs_libraries),deps-present)
	@mkdir -p $(@D)
	$(compile) $(isa_flags) -c -o $@ $<

# Tests, cli and bench reach the inside; programs of others link libweir.{a,so}.
$(B)/libweir-internal.a: $(lib_objs)
	@rm -f $@
	$(AR) rcs $@ $^

# One object in which only the public names (WEIR_API) are left global.
$(B)/obj/libweir-public.o: $(lib_objs)
	$(LD) -r -o $@ $^
	$(OBJCOPY) --localize-hidden $@

$(B)/libweir.a: $(B)/obj/libweir-public.o
	@rm -f $@
	$(AR) rcs $@ $<

$(B)/libweir.so.$(SOVERSION): $(lib_objs)
	$(CC) -shared -Wl,-soname,libweir.so.$(SOVERSION) $(if $(SAN),,-Wl,-z,defs) \
		$(WEIR_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
	@ln -sf libweir.so.$(SOVERSION) $(B)/libweir.so

$(B)/weir: $(cli_objs) $(B)/libweir-internal.a
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Says which packages are missing instead of a page of compiler errors.
.PHONY: deps-present
deps-present:
	@$(PKG_CONFIG) --exists $(PACKAGES) || { \
		echo "weir: development packages are missing for $(ARCH): run" \
		     "'tools/setup.sh $(if $(filter $(ARCH),$(HOST_ARCH)),build,check)', or install liburing," \
		     "PCRE2, jansson and libedit for it" >&2; exit 1; }

.PHONY: setup
setup:
	@tools/setup.sh build

# ---- install ----
.PHONY: install
install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)/weir \
		$(DESTDIR)$(MANDIR)/man1
	install -m 755 $(B)/weir $(DESTDIR)$(BINDIR)/
	install -m 644 docs/weir.1 $(DESTDIR)$(MANDIR)/man1/
	install -m 644 $(B)/libweir.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(B)/libweir.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/
	ln -sf libweir.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libweir.so
	install -m 644 include/weir/weir.h $(DESTDIR)$(INCLUDEDIR)/weir/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' include/weir/weir.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/weir.pc

# ---- the kernel module ----
KDIR ?= /lib/modules/$(shell uname -r)/build
UDEVDIR ?= /lib/udev/rules.d
SYSUSERSDIR ?= /usr/lib/sysusers.d
DOCDIR ?= $(PREFIX)/share/doc/weir

module_srcs := Kbuild kmod/probe.sh $(filter-out %/weir_config.h,$(wildcard kmod/*.[ch])) \
	$(wildcard include/uapi/linux/*.h)
module_dir := $(CURDIR)/$(B)/module
# Without BTF, which would need pahole, and the kernel's vmlinux, and serves nothing here.
kbuild = $(MAKE) --no-print-directory -C $(KDIR) M=$(module_dir) CONFIG_DEBUG_INFO_BTF_MODULES= \
	$(if $(CROSS_COMPILE),ARCH=$(ARCH) CROSS_COMPILE=$(CROSS_COMPILE))

kernel_config_x86_64 := X86_64
kernel_config_arm64 := ARM64
ifeq ($(origin KDIR),file)
no_headers = there are no kernel headers in $(KDIR): install linux-headers-$$(uname -r) (Debian, \
	Ubuntu) or nvidia-l4t-kernel-headers (JetPack), or name their directory with KDIR=
else
no_headers = KDIR=$(KDIR) is no directory of kernel headers: it has no include/config/kernel.release
endif
.PHONY: headers-present
headers-present:
	@[ -e $(KDIR)/include/config/kernel.release ] || { echo "weir: $(no_headers)" >&2; exit 1; }
	@grep -q '^CONFIG_$(kernel_config_$(ARCH))=y' $(KDIR)/include/config/auto.conf || { \
		echo "weir: the kernel headers in $(KDIR) are not for $(ARCH): give KDIR= or ARCH=" >&2; \
		exit 1; }

.PHONY: modules
modules: headers-present
	@mkdir -p $(module_dir)
	@cp -au --parents $(module_srcs) $(module_dir)
	+$(kbuild) modules
	@cp $(module_dir)/weir.ko $(B)/

# Kbuild runs depmod only where it finds a System.map, which packages of headers do not have.
# Nor the key of whoever built the kernel.
no_kernel_key = $(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=)
.PHONY: modules_install
modules_install: modules module-config
	+$(kbuild) $(no_kernel_key) $(if $(DESTDIR),INSTALL_MOD_PATH=$(abspath $(DESTDIR))) modules_install
	$(if $(DESTDIR),,depmod $$(cat $(KDIR)/include/config/kernel.release))

# What belongs to the device whoever builds the module.
.PHONY: module-config
module-config:
	install -d $(DESTDIR)$(UDEVDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(DOCDIR)/modprobe.d \
		$(DESTDIR)$(INCLUDEDIR)/linux
	install -m 644 packaging/60-weir.rules $(DESTDIR)$(UDEVDIR)/
	install -m 644 packaging/weir.sysusers $(DESTDIR)$(SYSUSERSDIR)/weir.conf
	install -m 644 packaging/modprobe.d/weir.conf.example $(DESTDIR)$(DOCDIR)/modprobe.d/
	install -m 644 include/uapi/linux/weir.h $(DESTDIR)$(INCLUDEDIR)/linux/

# The sources where DKMS looks for them; `dkms install weir/$(VERSION)` builds them.
dkms_dir := $(DESTDIR)/usr/src/weir-$(VERSION)
.PHONY: dkms
dkms: module-config
	install -d $(dkms_dir)
	cp --parents $(module_srcs) $(dkms_dir)
	sed 's/^PACKAGE_VERSION=.*/PACKAGE_VERSION="$(VERSION)"/' packaging/dkms.conf > $(dkms_dir)/dkms.conf

.PHONY: modules_clean
modules_clean:
	rm -rf $(module_dir) $(B)/weir.ko

.PHONY: lint
lint:
	@tests/lint.sh

# ---- demo ----
DEMO_MODEL := tools/demo-model/weir-demo.gguf
.PHONY: demo
demo:
	@tools/setup.sh build
	@$(MAKE) --no-print-directory -s all
	@tools/demo.sh $(B)/weir $(DEMO_MODEL)

# ---- tests ----
.PHONY: check
check:
	@tools/setup.sh check
	@tests/check.sh

# The module on a kernel that watches itself, whose memory fails: see docs/module.md.
.PHONY: check-debug
check-debug:
	@tools/setup.sh debug
	@$(MAKE) --no-print-directory -s all
	@tests/debug/run.sh

$(B)/tests/%: $(B)/obj/tests/unit/%.o $(B)/libweir-internal.a
	@mkdir -p $(@D)
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

# Freestanding: also built for arm64 where no library of that machine is installed.
$(B)/tests/test_kernels: $(call objs,$(wildcard tests/kernels/*.c)) $(kernel_objs)
	@mkdir -p $(@D)
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) $(if $(CROSS_COMPILE),-static) -o $@ $^ -lm

$(B)/tests/golden: $(B)/obj/tests/golden/golden.o
	@mkdir -p $(@D)
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) $(if $(CROSS_COMPILE),-static) -o $@ $^ -lm

$(B)/tests/neon_weir: $(B)/obj/tests/bench/neon_weir.o $(kernel_objs)
	@mkdir -p $(@D)
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) $(if $(CROSS_COMPILE),-static) -o $@ $^ -lm

$(B)/tests/stream_bench: $(B)/obj/tests/bench/stream_bench.o $(B)/libweir-internal.a
	@mkdir -p $(@D)
	$(CC) $(WEIR_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

.PHONY: unit-tests kernel-tests golden-tests
unit-tests: $(unit_progs)
kernel-tests: $(B)/tests/test_kernels
golden-tests: $(B)/tests/golden

# ---- fuzz: libFuzzer, always with clang, always with its own objects ----
fuzz_cflags := -std=gnu11 -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined -ffp-contract=off -fno-strict-aliasing -pthread $(pkg_cflags)
fuzz_lib_objs := $(patsubst %.c,build/fuzz/obj/%.o,$(lib_srcs))

build/fuzz/obj/%_avx2.o: isa_flags := $(avx2_flags)
build/fuzz/obj/%_avx512.o: isa_flags := $(avx512_flags)
build/fuzz/obj/kernels/cpu/x86/packed%_avx512.o: isa_flags := $(avx512_flags) -fno-sanitize=all
build/fuzz/obj/%_dotprod.o: isa_flags := -march=armv8.2-a+dotprod+fp16
build/fuzz/obj/%_i8mm.o: isa_flags := -march=armv8.2-a+dotprod+fp16+i8mm
build/fuzz/obj/%.o: %.c Makefile build/fuzz/flags
	@mkdir -p $(@D)
	$(fuzz_compile) $(isa_flags) -c -o $@ $<

build/fuzz/libweir.a: $(fuzz_lib_objs)
	@rm -f $@
	$(AR) rcs $@ $^

build/fuzz/%: build/fuzz/obj/tests/fuzz/%.o build/fuzz/libweir.a
	$(CLANG) -fsanitize=fuzzer,address,undefined -pthread -o $@ $^ $(LIBS)

.PHONY: fuzz fuzz-progs
fuzz-progs: $(fuzz_progs)
FUZZ_SECONDS ?= 1800
fuzz: fuzz-progs
	@for p in $(fuzz_progs); do tests/fuzz/run.sh $$p $(FUZZ_SECONDS) || exit 1; done

# ---- benchmarks ----
.PHONY: bench
bench:
	@tools/setup.sh bench
	@$(MAKE) --no-print-directory -s all build/tests/stream_bench
	@build/bench-venv/bin/python tests/bench/bench.py $(BENCH_ARGS)

.PHONY: neon-counts neon-counts-prog
neon-counts-prog: $(B)/tests/neon_weir
neon-counts:
	@tests/bench/neon.py $(NEON_ARGS)

# ---- the rest ----
.PHONY: format clean help
format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build

help:
	@echo 'make                 build build/weir, libweir.so, libweir.a'
	@echo 'make demo            install what is missing, build, and stream the shipped model'
	@echo 'make check           install what is missing and run every test'
	@echo 'make check-debug     test the module on a debug kernel (20 to 40 minutes; not part of check)'
	@echo 'make bench           compare with llama.cpp and write docs/benchmarks.md'
	@echo 'make neon-counts     count the NEON kernels'\'' instructions (docs/neon.md)'
	@echo 'make install         DESTDIR= and PREFIX= as usual (PREFIX=$(PREFIX))'
	@echo 'make modules         build build/weir.ko for the running kernel, or for KDIR='
	@echo 'make modules_install install it, its udev rule and group; DESTDIR= as usual'
	@echo 'make modules_clean   remove what make modules built'
	@echo 'make dkms            install its sources for DKMS'
	@echo 'make lint            sparse, W=1 and checkpatch over the module (fetches kernel headers and sources once)'
	@echo 'make ARCH=arm64      cross build into build/arm64/'
	@echo 'make SAN=asan|tsan   build with a sanitizer into build/asan/ or build/tsan/'
	@echo 'make fuzz            every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) seconds'
	@echo 'make setup           install what a build needs (Debian, Ubuntu)'
	@echo 'make format          clang-format over the whole tree'
	@echo 'make clean           remove build/'

-include $(shell find $(B)/obj build/fuzz/obj -name '*.d' 2>/dev/null)
.SECONDARY:
.DELETE_ON_ERROR:
