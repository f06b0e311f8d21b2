"""No function over 80 lines, no file over 800.

A function or file that must be longer is listed here with its reason; there
are three places at most.
"""

import re

import tree

FUNCTION = 80
FILE = 800
LONGER = {
    # "path" or "path:function": reason
    "bench/kload.c": "a load generator in one file, to be copied to another machine",
    "include/kquay.h": "the whole of an interface is read, and included, as one",
}
MOST_LONGER = 3

# KNF has a function's name and its braces in the first column.
NAME = re.compile(r"(?:START_TEST\()?(\w+)\b")


def functions(path):
    """(name, first line of the body, number of lines) of each function."""
    name, start = None, None
    for number, line in tree.lines(path):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield name, start, number - start + 1
            start = None
        elif start is None and (match := NAME.match(line)) and "(" in line:
            name = match[1]


def too_long(path):
    """(key, remark) of what is over a limit in one file."""
    count = len(tree.text(path).splitlines())
    if count > FILE:
        yield path, f"{path}: {count} lines, over {FILE}"
    for name, start, size in functions(path):
        if size > FUNCTION:
            yield f"{path}:{name}", f"{path}:{start}: {name}() has {size} lines, over {FUNCTION}"


long = [found for path in tree.files(".c", ".h", ".py") for found in too_long(path)]
wrong = [remark for key, remark in long if key not in LONGER and key.split(":")[0] not in LONGER]
wrong += [f"{key}: listed as longer, but is not" for key in LONGER if key not in dict(long)]
if len(LONGER) > MOST_LONGER:
    wrong.append(f"{len(LONGER)} places are listed as longer, over {MOST_LONGER}")
tree.verdict(wrong)
