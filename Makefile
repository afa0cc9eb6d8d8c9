# Adwuma: `make` builds all programs into build/, `make help` lists the targets.
# A sanitized build goes to a folder of its own: make SAN=address (also undefined, thread, fuzzer). FAULTS=1 compiles fault
# points in, and does not optimise, since only tests run that.

VERSION := 0.1.0
CC ?= cc
CFLAGS ?= $(if $(FAULTS),-O0,-O2) -g
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
# Most system tests wait for something: many at a time, but fewer where a sanitizer makes them work.
TEST_JOBS ?= $(if $(SAN),4,12)
# These keep processors busy themselves, and measure.
HA_JOBS ?= 2
# Unless somebody has said how many.
SIDE_BY_SIDE = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
B := build$(if $(SAN),/$(SAN))$(if $(FAULTS),/faults)

# TLS to Redis where hiredis has it (Debian 13; not Debian 12).
REDIS_TLS := $(if $(NO_REDIS_TLS),,$(shell pkg-config --exists hiredis_ssl 2>/dev/null && echo hiredis_ssl))
PACKAGES := libcurl hiredis $(REDIS_TLS) libcjson libcrypto libssl inih libmicrohttpd libutf8proc
SAN_address := address,undefined
SAN_fuzzer := address,undefined,fuzzer-no-link
SAN_FLAGS := $(if $(SAN),-fsanitize=$(or $(SAN_$(SAN)),$(SAN)) -fno-omit-frame-pointer -fno-sanitize-recover=all)
HARDEN := -fstack-protector-strong -fPIC $(if $(SAN)$(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
# Clang would need a linker plugin that Debian's clang does not bring.
LTO := $(if $(SAN)$(FAULTS)$(NO_LTO)$(findstring clang,$(CC)),,-flto=auto)
PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

override CFLAGS += -std=c11 -D_GNU_SOURCE -DADWUMA_VERSION='"$(VERSION)"' -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Werror -fvisibility=hidden -pthread -Isrc -Iinclude $(HARDEN) $(LTO) $(SAN_FLAGS) \
	$(if $(FAULTS),-DADWUMA_FAULTS) $(if $(REDIS_TLS),-DADWUMA_REDIS_TLS) $(PACKAGE_CFLAGS)
override LDFLAGS += -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed
LIBS := $(PACKAGE_LIBS) -lm

LAYERS := base text audio settings redis http httpd pool job api queue exec worker
LIB_LAYERS := base text audio settings redis http job api queue exec lib
obj = $(patsubst %.c,$(B)/obj/%.o,$(wildcard $(1)))
# What tests may call: all but the functions main.
COMMON := $(filter-out %/main.o,$(call obj,$(LAYERS:%=src/%/*.c) src/lib/*.c src/cli/*.c)) $(B)/obj/gen/scripts.o
LIB_OBJ := $(call obj,$(LIB_LAYERS:%=src/%/*.c)) $(B)/obj/gen/scripts.o
PROGRAMS := $(B)/adwumad $(B)/adwuma $(B)/adwuma-stubapi
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
BENCH := $(patsubst tests/bench/%.c,$(B)/%,$(wildcard tests/bench/*.c))
FUZZ := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*.c))

.DELETE_ON_ERROR:
.PHONY: all always clean faulty help lint test test-unit test-system test-built demo bench bench-peers chaos fuzz fuzz-built model test-compose test-debian13 test-valkey test-ha compose-demo install uninstall deps
all: $(PROGRAMS) $(B)/libadwuma.a $(B)/libadwuma.so

help:
	@echo "make            programs and library into build/   (SAN=address|undefined|thread: sanitized, into a folder of its own)"
	@echo "make demo       install what is missing, build, run 200 jobs against the stub and show them"
	@echo "make test       install what is missing, build, run all tests"
	@echo "make test-unit, make test-system TESTS='-k words'   the two parts alone, or a choice of the second"
	@echo "make bench      speed and memory beside a bare curl loop, against their goals: BENCH_ROWS=1,3 BENCH_ROUNDS=5 BENCH_SCALE=1"
	@echo "make bench-peers  the same jobs by BullMQ, bee-queue, Sidekiq, Celery and RQ: PEERS='bullmq rq' PEER_JOBS= BENCH_ROUNDS=3"
	@echo "make chaos      kills, stops, cuts and restarts under load, then counts: CHAOS_JOBS=20000 CHAOS_SEED= CHAOS_KILLS= ...; CHAOS_ON=cluster: and masters die"
	@echo "make fuzz       parsers and writers against made-up input, FUZZ_SECONDS=600 each; FUZZ_KEEP=1 adds what was new to the corpus"
	@echo "make model      the protocol on a model, searched by spin: it holds, and without any one of its rules it breaks"
	@echo "make compose-demo  images, Redis, workers and the stub in containers, and a few jobs through them"
	@echo "make test-compose  the same as deployed: 5,000 jobs while containers are killed, restarted, scaled; no root, no secret to be seen"
	@echo "make test-debian13  make test on Debian 13, in a root of its own (as root): scripts/debian13 --help"
	@echo "make test-valkey    unit tests and those of the core (claims, commits, stop, kill) there, with Valkey in place of Redis"
	@echo "make test-ha    beyond one Redis and one host: three hosts one of which is cut off, this version beside the last, Sentinel, Cluster: TESTS='-k words'"
	@echo "make lint       formatting, static analysis, layers"
	@echo "make install    programs, library, manual pages, completion for bash, systemd unit, monitoring: DESTDIR= PREFIX=/usr/local; make uninstall"
	@echo "make clean"

$(B)/adwumad: $(call obj,src/main.c $(LAYERS:%=src/%/*.c)) $(B)/obj/gen/scripts.o
$(B)/adwuma: $(call obj,src/cli/*.c $(LIB_LAYERS:%=src/%/*.c)) $(B)/obj/gen/scripts.o
$(B)/adwuma-stubapi: $(call obj,src/stub/*.c src/httpd/*.c src/base/*.c)
$(PROGRAMS):
	@echo LD $@; $(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ $(LIBS)

# One object with none but the adwuma_ names in sight, so that nothing of ours clashes with names of a program that links it.
$(B)/libadwuma.a: $(LIB_OBJ)
	@rm -f $@
	@echo AR $@; $(CC) $(LTO:%=% -O2 -flinker-output=nolto-rel) -r -nostdlib -o $(B)/obj/adwuma.o $^
	@objcopy --localize-hidden $(B)/obj/adwuma.o
	@ar rcs $@ $(B)/obj/adwuma.o
$(B)/libadwuma.so: $(LIB_OBJ)
	@echo LD $@; $(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libadwuma.so.0 $(if $(SAN),,-Wl,--no-undefined) -o $@ $^ $(LIBS)

# Another compiler or other flags make everything anew. What is not installed is said once and clearly.
$(B)/flags: always
	@pkg-config --exists $(PACKAGES) || { echo "packages are missing: scripts/install-deps installs them" >&2; exit 1; }
	@mkdir -p $(@D)
	@echo $(CC) $(CFLAGS) $(LDFLAGS) $(LIBS) | cmp -s - $@ || echo $(CC) $(CFLAGS) $(LDFLAGS) $(LIBS) > $@

# Scripts travel inside the programs; comment lines stay behind.
$(B)/gen/scripts.c: $(foreach s,turn tick leave stage piece stream exhume,src/lua/$(s).lua) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "redis/scripts.h"'; echo 'const struct embedded_script embedded_scripts[] = {'; \
	for s in turn tick leave stage piece stream exhume; do echo "{\"$$s\","; sed -e '/^[[:space:]]*--/d' -e 's/^[[:space:]]*//' -e 's/\\/\\\\/g' -e 's/"/\\"/g' \
	-e 's/.*/"&\\n"/' src/lua/$$s.lua; echo '},'; done; echo '};'; } > $@
$(B)/obj/gen/scripts.o: $(B)/gen/scripts.c $(B)/flags
	@mkdir -p $(@D)
	@echo CC $<; $(CC) $(CFLAGS) -Wno-overlength-strings -MMD -MP -c -o $@ $<
$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo CC $<; $(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
# Optimised as a whole once, and not for each test again.
$(B)/common.o: $(COMMON)
	@echo LD $@; $(CC) $(LTO:%=% -O2 -flinker-output=nolto-rel) -r -nostdlib -o $@ $^
$(B)/tests/%: tests/unit/%.c $(B)/common.o
	@mkdir -p $(@D)
	@echo LD $@; $(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) -pie -o $@ $(filter-out %.h,$^) $(LIBS) $$(pkg-config --libs check)
$(B)/fuzz/%: tests/fuzz/%.c $(B)/common.o
	@mkdir -p $(@D)
	@echo LD $@; $(CC) $(CFLAGS) -fsanitize=fuzzer -MMD -MP $(LDFLAGS) -pie -o $@ $(filter-out %.h,$^) $(LIBS)
# A worker with fault points stands beside the others.
faulty:
	@$(MAKE) $(B)/faults/adwumad FAULTS=1
$(BENCH): $(B)/%: $(B)/obj/tests/bench/%.o $(B)/libadwuma.a
	@echo LD $@; $(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ $(LIBS)
-include $(wildcard $(addprefix $(B)/,obj/*/*.d obj/*/*/*.d tests/*.d fuzz/*.d))

# On a fresh machine the tools come first, so what needs them runs in a make of its own.
deps:
	scripts/install-deps
test:
	scripts/install-deps test
	$(MAKE) $(SIDE_BY_SIDE) all faulty $(UNIT)
	$(MAKE) test-built
test-built: all
	$(MAKE) test-unit
	$(MAKE) test-system
test-unit: $(UNIT)
	@test -n "$(UNIT)" || { echo "no unit tests found" >&2; exit 1; }
	@printf '%s\n' $(UNIT) | xargs -n 1 -P $$(nproc) env # which runs it
test-system: all faulty
	ADWUMA_BUILD=$(B) $(PYTHON) -m pytest -q -rs -n $(TEST_JOBS) $(if $(SAN),-m "not release") $(TESTS) tests/system
demo:
	scripts/install-deps
	$(MAKE) all
	ADWUMA_BUILD=$(B) scripts/demo
bench:
	scripts/install-deps bench
	$(MAKE) all $(BENCH)
	ADWUMA_BUILD=$(B) scripts/bench
bench-peers:
	scripts/install-deps peers
	$(MAKE) all
	ADWUMA_BUILD=$(B) scripts/bench-peers
chaos:
	scripts/install-deps chaos
	$(MAKE) all
	ADWUMA_BUILD=$(B) scripts/chaos
fuzz:
	scripts/install-deps fuzz
	$(MAKE) CC=clang SAN=fuzzer fuzz-built
fuzz-built: $(FUZZ)
	ADWUMA_BUILD=$(B) scripts/fuzz $(notdir $(FUZZ))
model:
	scripts/install-deps model
	scripts/model
compose-demo:
	scripts/install-deps compose
	scripts/engine scripts/compose-demo
test-compose:
	scripts/install-deps compose
	scripts/engine scripts/test-compose
test-debian13:
	scripts/install-deps debian13
	scripts/debian13
test-valkey:
	scripts/install-deps debian13
	scripts/debian13 --install valkey-server $(MAKE) test-unit test-system TESTS="-m core" ADWUMA_REDIS_SERVER=valkey-server
test-ha:
	scripts/install-deps ha
	$(MAKE) all
	scripts/build-previous
	ADWUMA_BUILD=$(B) $(PYTHON) -m pytest -q -rs -n $(HA_JOBS) $(TESTS) tests/ha
lint:
	scripts/lint

# What stands where, below DESTDIR and PREFIX: install and uninstall go by the same names.
MAN := $(wildcard deploy/man/*.[1-8])
DOCS := adwumad.conf.example kubernetes.md prometheus/alerts.yml prometheus/prometheus.yml grafana/dashboards/adwuma.json \
	grafana/provisioning/dashboards/adwuma.yml grafana/provisioning/datasources/prometheus.yml
INSTALLED := sbin/adwumad bin/adwuma include/adwuma.h lib/libadwuma.a lib/libadwuma.so.0 lib/libadwuma.so lib/pkgconfig/adwuma.pc \
	lib/systemd/system/adwumad.service share/bash-completion/completions/adwuma share/bash-completion/completions/adwumad \
	$(patsubst %,share/doc/adwuma/%,$(DOCS) users.acl users-6.2.acl users.md) $(foreach m,$(MAN),share/man/man$(subst .,,$(suffix $m))/$(notdir $m))
TO := $(DESTDIR)$(PREFIX)
# Text that names its place.
place = sed 's|/usr/local/|$(PREFIX)/|g' $(1) | install -m 644 /dev/stdin $(2)
install: all
	install -d $(sort $(dir $(INSTALLED:%=$(TO)/%)))
	install $(B)/adwumad $(TO)/sbin/
	install $(B)/adwuma $(TO)/bin/
	install -m 644 include/adwuma.h $(TO)/include/
	install -m 644 $(B)/libadwuma.a $(TO)/lib/
	install $(B)/libadwuma.so $(TO)/lib/libadwuma.so.0
	ln -sf libadwuma.so.0 $(TO)/lib/libadwuma.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@REDIS_TLS@|$(REDIS_TLS:%=-l%)|' deploy/adwuma.pc.in | \
		install -m 644 /dev/stdin $(TO)/lib/pkgconfig/adwuma.pc
	$(call place,deploy/systemd/adwumad.service,$(TO)/lib/systemd/system/adwumad.service)
	install -m 644 deploy/bash-completion/adwuma $(TO)/share/bash-completion/completions/
	ln -sf adwuma $(TO)/share/bash-completion/completions/adwumad
	install -m 644 deploy/redis/users.acl deploy/redis/users-6.2.acl $(TO)/share/doc/adwuma/
	$(call place,deploy/redis/README.md,$(TO)/share/doc/adwuma/users.md)
	@for d in $(DOCS); do $(call place,deploy/$$d,$(TO)/share/doc/adwuma/$$d) || exit 1; done
	@for m in $(MAN); do $(call place,$$m,$(TO)/share/man/man$${m##*.}/$${m##*/}) || exit 1; done
	@test -n "$(DESTDIR)" || ldconfig 2>/dev/null || true
# Settings, secrets and whatever else is not ours stays.
uninstall:
	rm -f $(INSTALLED:%=$(TO)/%)
	@cd $(TO)/share/doc 2>/dev/null && rmdir -p $(sort $(dir $(DOCS:%=adwuma/%))) 2>/dev/null || true

clean:
	rm -rf build
