"""Which of a kquay's threads serve callers."""

import collections
import os
import re

from kquay import connect, until


def waits(pid):
    """How often each thread has waited."""
    told = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as f:
            told[task] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)",
                                       f.read(), re.M)[1])
    return told


def all_serve(pid, where):
    """Every thread of an echo gets some of many callers.  One that gets none
    may still be about to wait, which is once."""
    before = waits(pid)
    callers = collections.deque()

    def one_more():
        callers.append(connect(where))
        if len(callers) > 100:
            callers.popleft().close()
        for _ in range(2):
            callers[-1].sendall(b"hello")
            assert callers[-1].recv(5) == b"hello"
        return all(n >= before.setdefault(task, n) + 5
                   for task, n in waits(pid).items())

    try:
        until(one_more, f"all threads serve {where}")
    finally:
        for s in callers:
            s.close()
