"""What a program can name is in the manual, and the other way round.

Every function of a header is in the NAME and in the SYNOPSIS of a page, every
constant in some page, and the pages name no other.  What `make install` calls
a page is what its NAME says.  The variables of the environment that the
libraries ask for, and no others, are in an ENVIRONMENT.
"""

import re

import tree

# A header, its pages, what its functions and its constants are called.
PARTS = (
    (
        "include/sys/event.h",
        ["man/kqueue.2"],
        r"kqueue[1x]?|kevent",
        r"(?:EV|EVFILT|NOTE|VQ|KQUEUE)_[A-Z0-9_]+",
    ),
    (
        "include/kquay.h",
        tree.files(".3", under=("man/",)),
        r"kquay_\w+",
        r"KQUAY_[A-Z0-9_]+",
    ),
)
# Defined because FreeBSD's header has them; a program needs none of them.
UNTOLD = {"EV_DROP", "EV_FLAG1", "EV_FLAG2"}
UNTOLD |= {"NOTE_PDATAMASK", "NOTE_PCTRLMASK", "NOTE_FFCTRLMASK"}
# The page says that they are not there.
ABSENT = {"EVFILT_LIO", "KQUEUE_CPONFORK"}


def section(page, name):
    found = re.search(rf"^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)", page, re.M | re.S)
    return found.group(1) if found else ""


def told_in(texts, pattern):
    return {name for text in texts for name in re.findall(pattern, text, re.M)}


def compare(header, pages, function, constant):
    source = re.sub(r"/\*.*?\*/", "", tree.text(header), flags=re.S)
    # Not the types of callbacks, whose name is followed by a parenthesis, too.
    types = set(re.findall(rf"^typedef .*\b({function})\(", source, re.M))
    functions = set(re.findall(rf"\b({function})\(", source)) - types
    constants = set(re.findall(rf"^\t({constant})\b", source, re.M))
    macro = rf"^#define\s+({constant})(?:[ \t]+\S|\()"
    constants |= set(re.findall(macro, source, re.M))

    texts = [re.sub(r"^\.Dt .*", "", tree.text(page), flags=re.M) for page in pages]
    for what, macro in ("NAME", r"\.Nm"), ("SYNOPSIS", r"\.F[no]"):
        parts = [section(text, what) for text in texts]
        for name in functions - told_in(parts, rf"^{macro} ({function})\b"):
            yield f"{header}: {name}() is in the {what} of no page"
    for name in constants - told_in(texts, rf"\b{constant}\b") - UNTOLD:
        yield f"{header}: {name} is in no page"

    for page, text in zip(pages, texts):
        called = told_in([text], rf"^\.F[no] ({function})\b")
        for name in called - functions - types:
            yield f"{page}: {name}() is not in {header}"
        for name in told_in([text], rf"\b{constant}\b") - constants - ABSENT:
            # A name may stand for several, as in "KQUAY_TLS_1_*".
            if not any(other.startswith(name) for other in constants):
                yield f"{page}: {name} is not in {header}"


def installed():
    build = tree.text("man/meson.build")
    listed = re.findall(r"'(kquay\w*)\.3': \[(.*?)\]", build, re.S)
    for page, others in listed:
        named = told_in([section(tree.text(f"man/{page}.3"), "NAME")], r"^\.Nm (\w+)")
        for name in (named | {page}) ^ ({page} | set(re.findall(r"\w+", others))):
            yield f"man/{page}.3: {name}: not both in its NAME and man/meson.build"
    pages = set(tree.files(".3", under=("man/",)))
    for path in pages - {f"man/{page}.3" for page, _ in listed}:
        yield f"{path}: not in man/meson.build"


def variables():
    sources = tree.files(".c", under=("src/kqueue/", "src/server/"))
    asked = told_in(map(tree.text, sources), r'getenv\("(KQ\w+)"\)')
    pages = [tree.text(path) for path in tree.files(".2", ".3", under=("man/",))]
    parts = [section(page, "ENVIRONMENT") for page in pages]
    for name in asked ^ told_in(parts, r"^\.It Ev (\w+)"):
        yield f"{name}: not both in a getenv() and an ENVIRONMENT"


wrong = [*installed(), *variables()]
for part in PARTS:
    wrong += compare(*part)
tree.verdict(sorted(wrong))
