#!/bin/sh
#
# The files for systemd and rc are sound: packaging.sh UNIT RC-SCRIPT
#
# KQUAY is the program: the unit is verified with it in the place of the one
# that is not installed yet.
set -eu

unit=$1
rc=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kquay-packaging.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	echo "packaging: $*"
	exit 1
}

for file in "$unit" "$rc"; do
	! grep -n '@[A-Z]*@' "$file" || fail "$file: this was not filled in"
done
sh -n "$rc" || fail "$rc"

if ! command -v systemd-analyze >/dev/null 2>&1; then
	echo "packaging: there is no systemd-analyze, the units are not tried"
	exit 77
fi
sed "s|^\(Exec[A-Za-z]*=\)[^ ]*/kquay |\1$KQUAY |" "$unit" \
    >"$work/kquay.service"
cp "$top/packaging/kquay.socket" "$work"
said=$(systemd-analyze verify --man=no "$work/kquay.service" \
    "$work/kquay.socket" 2>&1) || fail "$said"
# It warns of some mistakes with status 0.
case $said in
*"$work"*) fail "$said" ;;
esac
