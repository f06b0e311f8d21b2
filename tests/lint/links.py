"""What the documents point at is there: relative links and `paths`.

NAME in a path stands for any.
"""

import glob
import os
import re

import tree

LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:src|include|tests|tools|docs|man|examples|bench)/[\w./*-]*)`")

wrong = []
for path in tree.files(".md"):
    here = os.path.dirname(os.path.join(tree.TOP, path))
    for number, line in tree.lines(path):
        wanted = [os.path.join(here, target) for target in LINK.findall(line)]
        wanted += [os.path.join(tree.TOP, target) for target in PATH.findall(line)]
        for target in wanted:
            if not glob.glob(target.replace("NAME", "*")):
                name = os.path.relpath(target, tree.TOP)
                wrong.append(f"{path}:{number}: there is no {name}")
tree.verdict(wrong)
