# The front door: meson and ninja do the work, see meson.build and HACKING.md.
#
#	make			build everything
#	make run		build the program, then serve examples/kquay.conf
#	make check		build, then run the tests; one line of figures at the end
#	  SUITE=conformance	  of one suite: unit, program, lint, ...; HACKING.md
#	  TEST=name		  one test
#	  SANITIZE=address,undefined  or thread: in a build of its own
#	  WERROR=1		  warnings are errors
#	make conformance	count the rules of kqueue(2) and their tests, and run
#				those as root and not, shared, static and as one file
#	make fuzz		random calls against a model, by libFuzzer (clang)
#	  SECONDS=3600		  for so long
#	make soak		2,000 callers of a server at once, for a minute
#	  SECONDS=3600		  for so long
#	  SANITIZE=address,undefined
#	make check-ports	build and run on musl, i386 and aarch64, and with clang
#	make bench		measure; prints ratios, never fails on a figure
#	make install		[prefix=/usr/local] [DESTDIR=]
#	  ALIAS=1		  libkq also as libkqueue, for who asks for that
#	make uninstall		what the last make install has put there
#	make single		dist/kqueue.c and dist/sys/event.h: libkq as one file
#	make clean		remove dist and every build folder
#
# run, check, conformance, fuzz, soak, check-ports and bench install what they need
# themselves (tools/setup).
prefix = /usr/local
DESTDIR =
ALIAS =
SANITIZE =
SECONDS = 3600
SUITE =
TEST =
WERROR =

comma = ,
BUILD = build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(WERROR),-werror)
PREFIX = $(abspath $(prefix))
REPORT = $(BUILD)/meson-logs/testlog.json

# A sanitizer ends the test at its first finding and says where.
SETUP = $(if $(WERROR),--werror) \
    $(if $(SANITIZE),-Db_sanitize=$(SANITIZE) -Db_lundef=false \
    '-Dc_args=-fno-sanitize-recover=all -fno-omit-frame-pointer')
CONFIGURED = [ -e $(BUILD)/build.ninja ] || meson setup $(SETUP) $(BUILD) \
    $$([ ! -e $(BUILD)/meson-private/coredata.dat ] || echo --reconfigure)

# Locals stay on the stack, where a test looks for them.  ThreadSanitizer wants
# an address space that is not laid out too randomly.  A test that measures
# memory or time finds the sanitizer's name in KQUAY_SANITIZE.
TESTENV = PYTEST_ADDOPTS=-rs $(if $(SANITIZE),KQUAY_SANITIZE=$(SANITIZE) \
    ASAN_OPTIONS=detect_stack_use_after_return=0 \
    UBSAN_OPTIONS=print_stacktrace=1 \
    TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$(CURDIR)/tests/tsan.supp \
    $(if $(findstring thread,$(SANITIZE)),$(if $(NOASLR),setarch -R)))
NOASLR = $(shell setarch -R true 2>/dev/null && echo yes)
# Most tests wait more than they work.
JOBS = $(shell echo $$((2 * $$(nproc))))
PATIENCE = $(if $(SANITIZE),-t 4)
TESTARGS = --print-errorlogs --num-processes $(JOBS) $(PATIENCE) \
    $(if $(SANITIZE),--no-suite lint) $(if $(SUITE),--suite $(SUITE)) $(TEST)

# The folder that is in the way of an installation, or nothing.
CANNOT_WRITE = $(shell d=$(DESTDIR)$(PREFIX); \
    while [ ! -e "$$d" ]; do d=$$(dirname "$$d"); done; \
    [ -w "$$d" ] || echo "$$d")

# What sudo has made in somebody's build folder is his again, or his next make
# could not write there.
GIVE_BACK = [ "$$(id -u)" -ne 0 ] || chown -fhR --reference=. $(BUILD) || :

.PHONY: all run check conformance fuzz soak check-ports bench install single uninstall clean help

all:
	@tools/setup build
	@$(CONFIGURED)
	@ninja -C $(BUILD)

run:
	@tools/setup build
	@$(CONFIGURED)
	@ninja -C $(BUILD) src/program/kquay
	@exec $(BUILD)/src/program/kquay run -c examples/kquay.conf

check:
	@tools/setup build check
	@$(CONFIGURED)
	@ninja -C $(BUILD)
	@rm -f $(REPORT) $(REPORT:.json=-again.json)
	@$(TESTENV) meson test -C $(BUILD) --no-rebuild $(TESTARGS) || \
	    $(TESTENV) tools/again $(BUILD) testlog $(PATIENCE) || :
	@tools/report $(REPORT)

# What libFuzzer finds out goes into build-fuzz/corpus, where it goes on from.
FUZZ = build-fuzz/tests/fuzz
FUZZ_CFLAGS = -O1 -fsanitize=fuzzer-no-link -fno-sanitize-recover=all
fuzz:
	@tools/setup build check fuzz
	@[ -e build-fuzz/build.ninja ] || CC=clang meson setup -Dfuzz=true \
	    -Db_sanitize=address,undefined -Db_lundef=false \
	    '-Dc_args=$(FUZZ_CFLAGS)' build-fuzz
	@ninja -C build-fuzz tests/fuzz/kevent_model tests/fuzz/libfuzzer_model
	@mkdir -p build-fuzz/corpus
	@ASAN_OPTIONS=detect_stack_use_after_return=0:detect_leaks=0 \
	    $(FUZZ)/kevent_model -x build-fuzz/corpus \
	    tests/fuzz/kevent_model.corpus
	@cd build-fuzz && ASAN_OPTIONS=detect_stack_use_after_return=0 \
	    tests/fuzz/libfuzzer_model -max_len=2048 -len_control=0 \
	    -rss_limit_mb=0 -timeout=60 -max_total_time=$(SECONDS) corpus

conformance:
	@tools/setup build
	@tools/conformance

soak:
	@tools/setup build check
	@$(CONFIGURED)
	@ninja -C $(BUILD) tests/unit/t_server_soak
	@$(TESTENV) SOAK_S=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) \
	    $(BUILD)/tests/unit/t_server_soak

check-ports:
	@tools/setup build ports
	@tools/ports $(PORT)

bench:
	@tools/setup build bench
	@$(CONFIGURED)
	@ninja -C $(BUILD) bench

install: all
	@[ -z "$(CANNOT_WRITE)" ] || { echo "make install: $(CANNOT_WRITE) is" \
	    "not yours to write: sudo make install, or prefix=FOLDER" >&2; \
	    exit 1; }
	@[ "$$(cat $(BUILD)/prefix 2>/dev/null)" = "$(PREFIX) $(ALIAS)" ] || \
	    { meson configure $(BUILD) -Dprefix=$(PREFIX) \
	    -Dlibkqueue_alias=$(if $(ALIAS),true,false) && \
	    ninja -C $(BUILD) && echo "$(PREFIX) $(ALIAS)" >$(BUILD)/prefix; }
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild
	@$(GIVE_BACK)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || /sbin/ldconfig

single:
	@tools/single dist

uninstall:
	@ninja -C $(BUILD) uninstall
	@$(GIVE_BACK)

clean:
	@rm -rf build build-* dist

help:
	@sed -n 's/^#\t//p' Makefile
