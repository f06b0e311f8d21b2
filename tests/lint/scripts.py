"""Every shell script parses and pleases shellcheck; every Python file parses."""

import ast
import os
import re
import shutil
import subprocess

import tree


def interpreter(path):
    """sh, bash or python3, from the first line or the file's name."""
    first = tree.text(path).split("\n", 1)[0]
    if match := re.match(r"#!\s*(?:/usr/bin/env\s+|/bin/|/usr/bin/)(\w+)", first):
        return match[1]
    return {".py": "python3", ".sh": "sh"}.get(os.path.splitext(path)[1])


def complaints(path, kind):
    if kind == "python3":
        try:
            ast.parse(tree.text(path), path)
        except SyntaxError as e:
            return [f"{path}:{e.lineno}: {e.msg}"]
        return []
    commands = [[kind, "-n", path]]
    if shutil.which("shellcheck"):
        commands.append(["shellcheck", "-f", "gcc", path])
    found = []
    for command in commands:
        told = subprocess.run(command, cwd=tree.TOP, capture_output=True, text=True)
        if told.returncode != 0:
            found += (told.stdout + told.stderr).splitlines()
    return found


wrong = []
for path in tree.files():
    if path.endswith((".svg", ".png", ".dat")):
        continue
    kind = interpreter(path)
    if kind in ("sh", "bash", "python3"):
        wrong += complaints(path, kind)
        has_line = tree.text(path).startswith("#!")
        runs = os.access(os.path.join(tree.TOP, path), os.X_OK)
        if has_line != runs:
            wrong.append(f"{path}: a #! line and permission to run go together")
tree.verdict(wrong)
