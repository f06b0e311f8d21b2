"""The programs among the examples of the manual, each compiled and run.

KQUAY_MANUAL is the folder with the pages, KQUAY_COMPILE how to compile; a
port that a program names is 0 here, so that it is free.
"""

import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import time

import pytest

# test_examples.py wants to know where they are; here there are none.
os.environ.setdefault("KQUAY_EXAMPLES", "")

from test_examples import Client, caller, listening, until  # noqa: E402

MANUAL = os.environ["KQUAY_MANUAL"]
COMPILE = shlex.split(os.environ["KQUAY_COMPILE"])
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"


def said(program, sent, want):
    c = program.connect()
    c.send(sent)
    assert c.recv(len(want)) == want


def clock(program):
    c = program.connect()
    told = int(c.recv(11))
    assert abs(told - time.time()) < 10


def hello_user(program):
    path = program.folder / "hello.s"
    c = caller(path)
    assert c.rest() == b"hello, user %d\n" % os.getuid()


DIALOGUES = {
    "kquay": lambda p: said(p, b"", b"welcome!\n"),
    "kquay_new": clock,
    "kquay_conn": hello_user,
    "kquay_frame": lambda p: said(p, struct.pack(">I", 5) + b"hello", struct.pack(">I", 5) + b"olleh"),
    "kquay_proxy": lambda p: said(p, V1, b"hello 192.0.2.1:4711, this is ?\n"),
    "kquay_team": lambda p: said(p, b"hello", b"hello"),
}


class Program:
    """A running example."""

    def __init__(self, page, folder):
        with open(f"{MANUAL}/{page}.3", encoding="utf-8") as f:
            displays = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", f.read(), re.M | re.S)
        text = next(d for d in displays if re.search(r"^main\(", d, re.M))
        text = text.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
        self.folder = folder
        (folder / "example.c").write_text(re.sub(r'(kquay\w*_listen\(.*?)"\d+"', r'\1"0"', text))
        subprocess.run([COMPILE[0], "-o", folder / "example", folder / "example.c", *COMPILE[1:]], check=True)
        self.p = subprocess.Popen([folder / "example"], cwd=folder)

    def connect(self):
        port = until(lambda: [port for f, port in listening(self.p.pid) if f == socket.AF_INET], "listening")[0]
        return Client(socket.AF_INET, ("127.0.0.1", port))

    def end(self):
        self.p.send_signal(signal.SIGTERM)
        return self.p.wait(10)


@pytest.mark.parametrize("page", DIALOGUES)
def test_example(page, tmp_path):
    program = Program(page, tmp_path)
    try:
        DIALOGUES[page](program)
        assert program.end() == 0
    finally:
        program.p.kill()
