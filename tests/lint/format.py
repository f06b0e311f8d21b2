"""Every .c file is as clang-format 14 and .clang-format lay it out.

Headers are laid out by hand: they are read as tables.
"""

import os
import shutil
import subprocess

import tree

tool = shutil.which("clang-format-14")
if tool is None:
    tree.skip("clang-format-14 is not here, and other versions differ")

sources = tree.files(".c", under=("src/", "examples/", "tests/", "bench/"))
told = subprocess.run(
    [tool, "--dry-run", "--Werror", "--ferror-limit=1", *sources],
    cwd=tree.TOP,
    capture_output=True,
    text=True,
)
wrong = sorted({line.split(":")[0] for line in told.stderr.splitlines() if ": error:" in line})
if told.returncode != 0 and not wrong:
    wrong = [told.stderr]
tree.verdict([f"{path}: run clang-format-14 -i {path}" for path in wrong])
