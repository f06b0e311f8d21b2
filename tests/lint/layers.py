"""#include lines keep to their floor.

Floor 1 sees libc, floor 2 kqueue(2) and its own kquay.h, floor 3 kquay.h and
the libraries it needs; none sees another's private header, and nothing above
floor 1 sees what only Linux has, except in a file that is named so.
"""

import os
import re

import tree

LIBC = set(
    """
    alloca assert ctype dirent dlfcn err errno fcntl features fnmatch getopt glob grp
    ifaddrs inttypes langinfo libgen limits link locale malloc math mqueue
    netdb paths poll pthread pty pwd regex sched semaphore setjmp signal spawn
    stdarg stdatomic stdbool stddef stdint stdio stdlib string strings syslog
    sysexits termios time ucontext unistd utmp wchar wctype
    """.split()
)
LIBC_FOLDERS = ("sys/", "net/", "netinet/", "arpa/")
LINUX = re.compile(
    r"linux/|asm/|netpacket/|sys/(epoll|eventfd|inotify|prctl|sendfile|signalfd|syscall|timerfd|xattr)\.h"
)
BSD = {"sys/queue.h", "sys/tree.h", "md5.h", "vis.h", "libutil.h"}


def libc(name):
    return (
        name.removesuffix(".h") in LIBC
        or name.startswith(LIBC_FOLDERS)
        or bool(LINUX.match(name))
    )


def portable(name):
    return (libc(name) or name in BSD) and not LINUX.match(name)


# For each folder: which <headers> it may see.  A file *_linux.c or linux*.c
# holds what is Linux's own and may see that as well.
MAY_SEE = {
    "include/sys/": lambda name: name in ("stddef.h", "stdint.h"),
    "include/": lambda name: name == "sys/event.h" or portable(name),
    "src/kqueue/": lambda name: name not in BSD and libc(name),
    "src/server/resolve.c": lambda name: name == "ares.h" or portable(name),
    "src/server/tls": lambda name: name.startswith("openssl/") or portable(name),
    "src/server/": lambda name: name == "kquay.h" or portable(name),
    "src/program/sandbox_linux.c": lambda name: name == "seccomp.h" or portable(name),
    "src/program/http.c": lambda name: name in ("kquay.h", "microhttpd.h")
    or portable(name),
    "src/program/": lambda name: name in ("kquay.h", "confuse.h") or portable(name),
    "examples/": lambda name: name == "kquay.h" or portable(name),
    "tests/conformance/": lambda name: name == "check.h" or libc(name),
}
INCLUDE = re.compile(r'\s*#\s*include\s+(?:<([^>]+)>|"([^"]+)")')


def rule_for(path):
    for folder in MAY_SEE:
        if path.startswith(folder):
            return MAY_SEE[folder]
    return lambda name: True


def is_linux_file(path):
    base = os.path.basename(path)
    return base.startswith("linux") or base.rsplit(".", 1)[0].endswith("_linux")


def finding(path, system, own):
    """What is wrong with one #include, or None."""
    if own:
        folder = os.path.dirname(path)
        white_box = path.startswith(("tests/unit/", "tests/fuzz/", "tests/fault/"))
        if "/" in own and not white_box:
            return f'"{own}" reaches into another folder'
        there = os.path.exists(os.path.join(tree.TOP, folder, own))
        if not there and not white_box:
            return f'"{own}" is not in {folder}/; a public header wants <>'
        return None
    if is_linux_file(path) and LINUX.match(system):
        return None
    return None if rule_for(path)(system) else f"<{system}> is not for this floor"


wrong = []
for path in tree.files(".c", ".h", under=("include/", "src/", "examples/", "tests/")):
    for number, line in tree.lines(path):
        if match := INCLUDE.match(line):
            if remark := finding(path, *match.groups()):
                wrong.append(f"{path}:{number}: {remark}")
tree.verdict(wrong)
