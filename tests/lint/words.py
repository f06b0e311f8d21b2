"""Words and marks that do not belong into what is shipped."""

import re

import tree

MARKS = {
    r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b": "a note to oneself: open an issue",
    r"(?<![\w.$})-])/(home|root|Users|mnt|work)/": "a path of one machine",
    r"^(<{7}|={7}|>{7})( |$)": "a merge conflict",
    r"[ \t]+$": "blanks at the end of a line",
    r"\r": "a carriage return",
}
C_ONLY = {
    r"^\s*#\s*if\s+0\b": "code that is switched off",
    r"^\s*//": "comments are /* ... */",
}

wrong = []
for path in tree.files():
    try:
        numbered = list(tree.lines(path))
    except UnicodeDecodeError:
        continue
    is_c = path.endswith((".c", ".h"))
    for number, line in numbered:
        for mark, remark in (MARKS | C_ONLY if is_c else MARKS).items():
            if re.search(mark, line):
                wrong.append(f"{path}:{number}: {remark}")
tree.verdict(wrong)
