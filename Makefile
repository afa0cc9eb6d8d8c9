# Adwuma: `make` builds all programs into build/, `make help` lists the targets.
# A sanitized build goes to a folder of its own: make SAN=address (also undefined, thread). FAULTS=1 compiles fault points in.

VERSION := 0.1.0
CC ?= cc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
B := build$(if $(SAN),/$(SAN))$(if $(FAULTS),/faults)

PACKAGES := libcurl hiredis libcjson libcrypto libssl inih libmicrohttpd
, := ,
SAN_FLAGS := $(if $(SAN),-fsanitize=$(if $(filter address,$(SAN)),address$(,)undefined,$(SAN)) -fno-omit-frame-pointer -fno-sanitize-recover=all)
HARDEN := -fstack-protector-strong -fPIC -Wl,-z,relro,-z,now,-z,noexecstack $(if $(SAN),,-D_FORTIFY_SOURCE=2)
LTO := $(if $(SAN)$(NO_LTO),,-flto=auto)

override CFLAGS += -std=c11 -D_GNU_SOURCE -DADWUMA_VERSION='"$(VERSION)"' -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Werror -fvisibility=hidden -pthread -Isrc -Iinclude $(HARDEN) $(LTO) $(SAN_FLAGS) \
	$(if $(FAULTS),-DADWUMA_FAULTS) $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
LIBS = $(shell pkg-config --libs $(PACKAGES)) -lm

LAYERS := base settings redis http pool job api queue worker
LIB_LAYERS := base settings redis queue lib
obj = $(patsubst %.c,$(B)/obj/%.o,$(wildcard $(1)))
COMMON := $(call obj,$(LAYERS:%=src/%/*.c) src/lib/*.c src/httpd/*.c) $(B)/obj/gen/scripts.o
LIB_OBJ := $(call obj,$(LIB_LAYERS:%=src/%/*.c)) $(B)/obj/gen/scripts.o
PROGRAMS := $(B)/adwumad $(B)/adwuma $(B)/adwuma-stubapi
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))

.PHONY: all clean help lint test test-unit test-system test-built demo bench install deps
all: $(PROGRAMS) $(B)/libadwuma.a $(B)/libadwuma.so

help:
	@echo "make            programs and library into build/   (SAN=address|undefined|thread: sanitized, into a folder of its own)"
	@echo "make demo       install what is missing, build, run 200 jobs against the stub and show them"
	@echo "make test       install what is missing, build, run all tests"
	@echo "make bench      jobs per second beside a bare curl loop"
	@echo "make lint       formatting, static analysis, layers"
	@echo "make install    DESTDIR= PREFIX=/usr/local"
	@echo "make clean"

$(B)/adwumad: $(call obj,src/main.c $(LAYERS:%=src/%/*.c)) $(B)/obj/gen/scripts.o
$(B)/adwuma: $(call obj,src/cli/*.c) $(LIB_OBJ)
$(B)/adwuma-stubapi: $(call obj,src/stub/*.c src/httpd/*.c src/base/*.c)
$(PROGRAMS):
	@echo LD $@; $(CC) $(CFLAGS) -pie -o $@ $^ $(LIBS)

$(B)/libadwuma.a: $(LIB_OBJ)
	rm -f $@
	gcc-ar rcs $@ $^
$(B)/libadwuma.so: $(LIB_OBJ)
	@echo LD $@; $(CC) $(CFLAGS) -shared -Wl,-soname,libadwuma.so.0 -Wl,--no-undefined -o $@ $^ $(LIBS)

# Scripts travel inside the programs; comment lines stay behind.
$(B)/gen/scripts.c: $(foreach s,turn tick leave stage,src/lua/$(s).lua) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "redis/scripts.h"'; echo 'const struct embedded_script embedded_scripts[] = {'; \
	for s in turn tick leave stage; do echo "{\"$$s\","; sed -e '/^[[:space:]]*--/d' -e 's/^[[:space:]]*//' -e 's/\\/\\\\/g' -e 's/"/\\"/g' \
	-e 's/.*/"&\\n"/' src/lua/$$s.lua; echo '},'; done; echo '};'; } > $@
$(B)/obj/gen/scripts.o: $(B)/gen/scripts.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -Wno-overlength-strings -c -o $@ $<
$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo CC $<; $(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/tests/%: tests/unit/%.c $(COMMON)
	@mkdir -p $(@D)
	@echo LD $@; $(CC) $(CFLAGS) -MMD -MP -o $@ $^ $(LIBS) $(shell pkg-config --libs check)
$(B)/bare: tests/bench/bare.c
	@mkdir -p $(@D)
	@echo LD $@; $(CC) $(CFLAGS) -o $@ $^ $(LIBS)
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# On a fresh machine the tools come first, so what needs them runs in a make of its own.
deps:
	scripts/install-deps
test:
	scripts/install-deps test
	$(MAKE) test-built
test-built: all
	$(MAKE) test-unit
	$(MAKE) test-system
test-unit: $(UNIT)
	@failed=0; for t in $(UNIT); do $$t || failed=1; done; exit $$failed
test-system: all
	ADWUMA_BUILD=$(B) $(PYTHON) -m pytest -q -n 4 tests/system
demo:
	scripts/install-deps
	$(MAKE) all
	scripts/demo
bench:
	scripts/install-deps
	$(MAKE) all $(B)/bare
	ADWUMA_BUILD=$(B) scripts/bench
lint:
	scripts/lint

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install $(B)/adwumad $(DESTDIR)$(PREFIX)/sbin/
	install $(B)/adwuma $(DESTDIR)$(PREFIX)/bin/
	install -m 644 include/adwuma.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 $(B)/libadwuma.a $(DESTDIR)$(PREFIX)/lib/
	install $(B)/libadwuma.so $(DESTDIR)$(PREFIX)/lib/libadwuma.so.0
	ln -sf libadwuma.so.0 $(DESTDIR)$(PREFIX)/lib/libadwuma.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' deploy/adwuma.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/adwuma.pc

clean:
	rm -rf build
