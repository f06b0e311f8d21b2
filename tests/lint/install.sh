#!/bin/sh
#
# What `make install` puts down is complete: install.sh BUILD PREFIX
#
# Everything lies where it is promised; a program finds <sys/event.h> and
# <kquay.h> through pkg-config alone, and runs linked either way; the programs
# in README.md build.
set -eu

build=$1
prefix=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kquay-install.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	echo "install: $*"
	exit 1
}

# A log of an earlier `make install` stays: `make uninstall` goes by it.
log=$build/meson-logs/install-log.txt
[ ! -e "$log" ] || cp -p "$log" "$work/install-log.txt"
DESTDIR=$work/root meson install -C "$build" --no-rebuild --quiet
rm -f "$log"
[ ! -e "$work/install-log.txt" ] || cp -p "$work/install-log.txt" "$log"

cd "$work/root$prefix"
for file in include/kq/sys/event.h include/kquay.h \
    lib/libkq.so lib/libkq.a lib/libkquay.so lib/libkquay.a \
    lib/pkgconfig/kq.pc lib/pkgconfig/kquay.pc bin/kquay \
    lib/cmake/kq/kqConfig.cmake lib/cmake/kq/kqConfigVersion.cmake \
    lib/cmake/kquay/kquayConfig.cmake \
    lib/cmake/kquay/kquayConfigVersion.cmake \
    share/man/man2/kqueue.2 share/man/man3/kquay.3 \
    share/man/man5/kquay.conf.5 share/man/man8/kquay.8 \
    share/kquay/kquay.socket share/kquay/kquay.logrotate \
    share/kquay/full.conf; do
	[ -e $file ] || fail "no $prefix/$file"
done

# Only who asks for it gets it (-Dlibkqueue_alias, see alias.sh).
[ ! -e lib/libkqueue.so ] || fail "lib/libkqueue.so is there"

# The static libraries hide what the shared ones do.
for map in src/kqueue/libkq.map src/server/libkquay.map; do
	name=$(basename $map .map)
	python3 "$top/tests/lint/symbols.py" "$top/$map" "lib/$name.a" ||
	    fail "lib/$name.a"
done

cat >"$work/kq.c" <<'END'
#include <sys/event.h>

int
main(void)
{
	struct kevent ev;
	int kq = kqueue();

	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, &ev);
	if (kq == -1 || kevent(kq, &ev, 1, 0, 0, 0) == -1)
		return 1;
	EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, &ev);
	return kevent(kq, &ev, 1, &ev, 1, 0) != 1 || ev.udata != &ev;
}
END
cp "$top/tests/unit/t_server_close.c" "$work/kquay.c"

export PKG_CONFIG_PATH="$PWD/lib/pkgconfig" KQ_STRICT=0
sed -i "s|^prefix=.*|prefix=$PWD|" lib/pkgconfig/*.pc
for name in kq kquay; do
	# The flags are words, some of them empty.
	# shellcheck disable=SC2046
	cc -Wall -Wextra -Werror -o "$work/$name-shared" "$work/$name.c" \
	    $(pkg-config --cflags --libs $name) || fail "$name: shared"
	LD_LIBRARY_PATH=$PWD/lib "$work/$name-shared" ||
	    fail "$name: the shared program fails"
	# shellcheck disable=SC2046
	cc -static -o "$work/$name-static" "$work/$name.c" \
	    $(pkg-config --static --cflags --libs $name) 2>"$work/static" || {
		cat "$work/static"
		fail "$name: static"
	}
	"$work/$name-static" || fail "$name: the static program fails"
done

# The same by CMake, from the place where it has been put.
if command -v cmake >/dev/null 2>&1; then
	if ! cmake -S "$top/tests/lint/cmake" -B "$work/cmake" \
	    -DSOURCES="$work" -DCMAKE_PREFIX_PATH="$PWD" >"$work/log" 2>&1 ||
	    ! cmake --build "$work/cmake" >>"$work/log" 2>&1; then
		cat "$work/log"
		fail "CMake"
	fi
	for program in kq-shared kq-static kquay-shared; do
		LD_LIBRARY_PATH=$PWD/lib "$work/cmake/$program" ||
		    fail "$program, built by CMake, fails"
	done
else
	echo "install: there is no cmake, its package files are not tried"
fi

# Also where the linker sees libkquay alone.
cc -I"$PWD/include" -I"$PWD/include/kq" -o "$work/kquay-alone" \
    "$work/kquay.c" -L"$PWD/lib" -Wl,-rpath-link,"$PWD/lib" -lkquay ||
    fail "kquay: alone"
LD_LIBRARY_PATH=$PWD/lib "$work/kquay-alone" ||
    fail "kquay: the program linked with libkquay alone fails"

# ```c blocks of the README, one file each.
awk -v dir="$work" '
	/^```c$/ { n++; inside = 1; next }
	/^```$/ { inside = 0 }
	inside { print > (dir "/readme-" n ".c") }
' "$top/README.md"
for source in "$work"/readme-*.c; do
	# shellcheck disable=SC2046
	cc -Wall -Wextra -Werror -o "${source%.c}" "$source" \
	    $(pkg-config --cflags --libs kquay) || fail "README.md: $source"
done

# The header alone, as C++ sees it, where there is a C++ compiler.
if command -v c++ >/dev/null 2>&1; then
	for header in sys/event.h kquay.h; do
		echo "#include <$header>" >"$work/header.cc"
		# shellcheck disable=SC2046
		c++ -Wall -Werror -fsyntax-only "$work/header.cc" \
		    $(pkg-config --cflags kquay) || fail "$header is not C++"
	done
fi

# The program finds its libraries without help.
status=0
env -u LD_LIBRARY_PATH bin/kquay >"$work/usage" 2>&1 || status=$?
[ $status -eq 64 ] || {
	cat "$work/usage"
	fail "bin/kquay without arguments: status $status instead of 64"
}
