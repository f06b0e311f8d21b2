"""What the kernel knows of a process, and waits for what it does."""

import os
import re
import time

DEADLINE = float(os.environ.get("KQUAY_DEADLINE", "20"))


def until(fact, what):
    """Wait for fact() to be true; it is returned."""
    end = time.monotonic() + DEADLINE
    while True:
        value = fact()
        if value:
            return value
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.005)


def stat(pid):
    """/proc/PID/stat from the state on."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()


def alive(pid):
    """Not gone, and not a zombie, which whoever inherits it may not reap."""
    try:
        return stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu(pid):
    """Seconds used."""
    user, system = stat(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Its memory in bytes, without the pages of files."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return 1024 * int(re.search(r"^Anonymous: +(\d+) kB$", f.read(), re.M)[1])


def children(pid):
    """Of its first thread; zombies, too."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(child) for child in f.read().split()]
    except FileNotFoundError:
        return []


def descriptors(pid):
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
