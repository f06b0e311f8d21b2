#!/bin/sh
#
# What `make single` writes compiles alone, without a warning, and shows no
# name but those of libkq.map: single.sh CC
#
# So no static name means two things in two files of src/kqueue.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kquay-single.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$top/tools/single" "$work"
cd "$work"
sed -n 's/^\t\([a-z_]*[a-z0-9_]*\);$/\1/p' "$top/src/kqueue/libkq.map" |
    sort >map

for cc in "$1" clang; do
	command -v "$cc" >/dev/null || continue
	"$cc" -c kqueue.c
	"$cc" -std=gnu11 -O2 -Wall -Wextra -Werror -c kqueue.c
	nm -g --defined-only kqueue.o | awk '{ print $3 }' | sort >shown
	if ! comm -23 shown map >other || [ -s other ]; then
		cat other
		echo "single: $cc shows these names, which are not in libkq.map"
		exit 1
	fi
	for name in kqueue kevent close sigaction; do
		grep -qx $name shown || {
			echo "single: there is no $name()"
			exit 1
		}
	done
done
