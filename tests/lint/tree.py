"""The source tree, as the lints see it: the files that belong to kquay."""

import os
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP = 77


def files(*suffixes, under=("",)):
    """Paths from the top of the tree, in order: what git does not ignore, or, in
    a tree without git, what lies there apart from build folders."""
    in_git = os.path.exists(os.path.join(TOP, ".git")) and shutil.which("git")
    paths = (tracked() if in_git else None) or walk()
    return sorted(
        path
        for path in paths
        if path.startswith(tuple(under))
        and path.endswith(suffixes or "")
        and os.path.exists(os.path.join(TOP, path))
    )


def tracked():
    """What git does not ignore, or nothing if git will not say."""
    listed = subprocess.run(
        ["git", "-C", TOP, "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
    )
    return listed.stdout.split("\0")[:-1]


def walk():
    for folder, folders, names in os.walk(TOP):
        inside = os.path.relpath(folder, TOP)
        folders[:] = [
            f
            for f in folders
            if f not in (".git", "__pycache__", ".pytest_cache")
            and not (inside == "." and f.startswith("build"))
        ]
        for name in names:
            yield os.path.normpath(os.path.join(inside, name))


def text(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def lines(path):
    """(number, line) of a file, from 1."""
    return enumerate(text(path).splitlines(), 1)


def skip(reason):
    print(reason)
    sys.exit(SKIP)


def verdict(findings):
    """Print what was found and leave with the status of a test."""
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
