#!/usr/bin/env python3
"""Compile and link every whole program among the examples of a page.

usage: examples.py PAGE COMPILER [ARGUMENT ...]

A program is what stands between .Bd -literal and .Ed, or in Markdown in a
block of C, and has a main().
"""

import re
import subprocess
import sys
import tempfile

page, compiler = sys.argv[1], sys.argv[2:]
with open(page, encoding="utf-8") as source:
    display = r"^```c\n(.*?)^```$" if page.endswith(".md") else \
        r"^\.Bd -literal.*?\n(.*?)^\.Ed$"
    displays = re.findall(display, source.read(), re.M | re.S)
programs = [text for text in displays if re.search(r"^main\(", text, re.M)]
failed = 0
for number, text in enumerate(programs, 1):
    if not page.endswith(".md"):
        text = text.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
    with tempfile.TemporaryDirectory() as folder:
        name = f"{folder}/example{number}.c"
        with open(name, "w", encoding="utf-8") as program:
            program.write(text)
        command = [compiler[0], "-o", f"{folder}/example", name, *compiler[1:]]
        if subprocess.run(command, check=False).returncode != 0:
            print(f"{page}: example {number} does not compile")
            failed += 1
print(f"{page}: {len(programs)} programs")
sys.exit(1 if failed or not programs else 0)
