#!/bin/sh
#
# Have spin look at every interleaving of a model: there must be no error, and
# with each FAULT_ that the model names there must be one.
#
#	check.sh MODEL.pml [-DNAME=VALUE]...
set -eu

model=$1
name=$(basename "$model" .pml)
shift

if ! command -v spin >/dev/null 2>&1; then
	echo "skipped: spin is not installed"
	exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$model" "$dir"
cd "$dir"

# verify OPTIMIZE OPTION...: prints what the verifier says.
verify() {
	optimize=$1
	shift
	rm -f pan*
	spin -a "$@" "$name.pml" >spin.out 2>&1 || { cat spin.out; return 1; }
	${CC:-cc} "$optimize" -w -DSAFETY -DCOLLAPSE -DVECTORSZ=512 -DMEMLIM=2000 \
	    -o pan pan.c
	./pan -m100000
}

figure() {
	sed -n "s/$1/\\1/p" result | head -n 1
}

verify -O2 "$@" >result || { cat result; exit 1; }
if ! grep -q 'errors: 0$' result ||
    grep -Eq 'not completed|max search depth too small|out of memory' result
then
	cat result
	[ ! -e "$name.pml.trail" ] || spin -t -p -g "$name.pml" | tail -n 200
	exit 1
fi
echo "$name: $(figure '^ *\(.*\) states, stored$') states," \
    "depth $(figure '.*depth reached \([0-9]*\).*'), no error"

missed=
faults=$(grep -o 'FAULT_[A-Z]*[A-Z]' "$model" | sort -u)
for fault in $faults; do
	verify -O0 -D"$fault" "$@" >result || { cat result; exit 1; }
	if grep -q 'errors: [1-9]' result; then
		echo "$name: $fault: $(sed -n 's/^pan:1: //p' result)"
	else
		echo "$name: $fault: no error was found"
		missed=yes
	fi
done
[ -z "$missed" ]
