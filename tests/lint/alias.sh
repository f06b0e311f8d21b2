#!/bin/sh
#
# With -Dlibkqueue_alias=true a program that asks for libkqueue gets libkq:
# alias.sh
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kquay-alias.XXXXXX")
trap 'rm -rf "$work"' EXIT

build() {
	meson setup "$work/build" "$top" --prefix="$work/root" -Dfloors=1 \
	    -Dtests=disabled -Dlibkqueue_alias=true &&
	    meson install -C "$work/build"
}

if ! build >"$work/log" 2>&1; then
	tail -20 "$work/log"
	exit 1
fi

cat >"$work/program.c" <<'END'
#include <sys/event.h>

int
main(void)
{
	struct kevent ev;
	int kq = kqueue();

	EV_SET(&ev, 7, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, 0);
	return kevent(kq, &ev, 1, &ev, 1, 0) != 1 || ev.ident != 7;
}
END

export PKG_CONFIG_PATH="$work/root/lib/pkgconfig" LD_LIBRARY_PATH="$work/root/lib"
# By pkg-config; then as a configure script does that has never heard of it.
# shellcheck disable=SC2046
cc -o "$work/asked" "$work/program.c" $(pkg-config --cflags --libs libkqueue)
cc -I"$work/root/include/kqueue" -o "$work/told" "$work/program.c" \
    -L"$work/root/lib" -lkqueue
cc -static -I"$work/root/include/kqueue" -o "$work/static" "$work/program.c" \
    -L"$work/root/lib" -lkqueue
for program in asked told static; do
	"$work/$program" || {
		echo "alias: $program fails"
		exit 1
	}
done

# Floor 1 is all there is.
[ ! -e "$work/root/include/kquay.h" ] || {
	echo "alias: -Dfloors=1 has installed kquay.h"
	exit 1
}
