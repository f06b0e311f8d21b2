"""A library exports what its map lists, no less and no more.

    symbols.py MAP LIBRARY

MAP is a linker version script, LIBRARY the shared or the static library.
What the archive cannot take over from libc stands in it as libkq_NAME.
"""

import re
import subprocess
import sys

import tree


def listed(path):
    with open(path, encoding="utf-8") as f:
        script = re.sub(r"/\*.*?\*/|#[^\n]*", "", f.read(), flags=re.S)
    public = re.findall(r"global:(.*?)(?:local:|\})", script, re.S)
    return {name.strip() for part in public for name in part.split(";") if name.strip()}


def exported(path):
    dynamic = [] if path.endswith(".a") else ["-D"]
    told = subprocess.run(
        ["nm", *dynamic, "--defined-only", "--extern-only", "--format=posix", path],
        capture_output=True,
        text=True,
        check=True,
    )
    prefix = "libkq_" if path.endswith(".a") else ""
    rows = (line.split() for line in told.stdout.splitlines())
    return {
        row[0].split("@")[0].removeprefix(prefix)
        for row in rows
        if len(row) >= 2 and row[1] in "TDBRWViGSu"
    }


wanted, found = listed(sys.argv[1]), exported(sys.argv[2])
tree.verdict(
    [f"{name}: exported, but not in the map" for name in sorted(found - wanted)]
    + [f"{name}: in the map, but not exported" for name in sorted(wanted - found)]
)
