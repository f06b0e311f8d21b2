"""A real kquay and real clients, for the tests of the program.

KQUAY names the program.  Every wait is for a fact, with a deadline.
"""

import contextlib
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

import process
from process import DEADLINE, until  # noqa: F401 (for those who import this)
from stream import Stream

# Under nohup(1) kquay would ignore it, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

KQUAY = os.environ["KQUAY"]

ROOT = pathlib.Path(__file__).parent.parent.parent

USAGE = 64
CONFIG = 78

# Rows that most tests run on.
FAMILIES = ("tcp4", "tcp6", "unix")


def address(family, tmp_path):
    """What to give to -l."""
    return {
        "tcp4": "127.0.0.1:0",
        "tcp6": "[::1]:0",
        "unix": f"unix:{tmp_path}/s",
    }[family]


def once(*args, **kwargs):
    """Run kquay to its end."""
    return subprocess.run([KQUAY, *args], capture_output=True, text=True,
                          timeout=DEADLINE, stdin=subprocess.DEVNULL,
                          check=False, **kwargs)


def connect(where, source=None):
    """A client of `listening on WHERE`."""
    if where.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        to = where[5:]
    else:
        host, port = where.rsplit(":", 1)
        v6 = host.startswith("[")
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        to = (host.strip("[]"), int(port))
    s.settimeout(DEADLINE)
    if source:
        s.bind((source, 0))
    try:
        s.connect(to)
    except OSError:
        s.close()
        raise
    return s


def messages(errors):
    """What the log says in its lines of text: `SERVICE: what', a line each."""
    return re.sub(r'^time=\S+ level=\w+ service=(\S+) msg="(.*)"$',
                  lambda m: f"{m[1]}: " + re.sub(r"\\(.)", r"\1", m[2]),
                  errors, flags=re.M)


class Client(Stream):
    def __init__(self, where, source=None):
        super().__init__(connect(where, source))

    def name(self):
        """How the server names this one: kquay_peer()."""
        if self.s.family == socket.AF_UNIX:
            return f"unix:{os.getuid()}/{os.getpid()}"
        host, port = self.s.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Kquay:
    """A running kquay that is ready; ends with SIGTERM and exit 0."""

    def __init__(self, *args, **kwargs):
        self.p = subprocess.Popen([KQUAY, *args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, **kwargs)
        self.clients = []
        self.listening = []
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self):
        """Exactly `listening on WHERE` for each socket, then `ready`."""
        end = time.monotonic() + DEADLINE
        out = b""
        while not out.endswith(b"ready\n"):
            left = end - time.monotonic()
            assert select.select([self.p.stdout], [], [], max(left, 0))[0], out
            part = os.read(self.p.stdout.fileno(), 4096)
            assert part, self.p.stderr.read().decode()
            out += part
        lines = out.decode().splitlines()
        for line in lines[:-1]:
            assert line.startswith("listening on "), line
            self.listening.append(line[len("listening on "):])

    @property
    def where(self):
        assert len(self.listening) == 1, self.listening
        return self.listening[0]

    def client(self, where=None, source=None):
        c = Client(where or self.where, source)
        self.clients.append(c)
        return c

    def signal(self, number=signal.SIGTERM):
        self.p.send_signal(number)

    def wait(self):
        """(exit status, standard error)"""
        _, errors = self.p.communicate(timeout=DEADLINE)
        return self.p.returncode, errors.decode()

    def stop(self):
        for c in self.clients:
            c.close()
        self.signal()
        status, errors = self.wait()
        assert status == 0
        # Who is turned away is told of; nothing else is here.
        assert [line for line in errors.splitlines()
                if 'msg="refused ' not in line] == []

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.p.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self):
        """Seconds used."""
        return process.cpu(self.p.pid)

    def children(self):
        """The processes below it, zombies too."""
        return process.children(self.p.pid)

    def descriptors(self):
        return process.descriptors(self.p.pid)

    def kill(self):
        for c in self.clients:
            c.close()
        if self.p.poll() is None:
            self.p.kill()
        self.p.communicate()


@contextlib.contextmanager
def running(*args, **kwargs):
    """A kquay for the time of a block, ended and checked after it."""
    k = Kquay(*args, **kwargs)
    try:
        yield k
        if k.p.returncode is None:
            k.stop()
    finally:
        k.kill()


@contextlib.contextmanager
def outspoken(*args):
    """As running(), and its log may say what it likes."""
    k = Kquay(*args)
    try:
        yield k
        if k.p.poll() is None:
            k.signal()
        assert k.p.wait(DEADLINE) == 0
    finally:
        k.kill()
