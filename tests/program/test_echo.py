"""kquay serve echo and kquay serve discard."""

import os
import threading
import time

import pytest

from kquay import DEADLINE, address, running, until

MIB = 1 << 20


def test_echo(family, tmp_path):
    with running("serve", "echo", "-l", address(family, tmp_path)) as k:
        c = k.client()
        for text in (b"x", b"hello\n", b"\0\xff" * 1000, b"end"):
            c.send(text)
            got = b""
            while len(got) < len(text):
                got += c.s.recv(65536)
            assert got == text


def test_half_close_keeps_every_byte(family, tmp_path):
    """8 MiB, then shut down, then read: all of it comes back."""
    data = os.urandom(8 * MIB)
    with running("serve", "echo", "-l", address(family, tmp_path)) as k:
        c = k.client()

        def send():
            c.send(data)
            c.done()

        sender = threading.Thread(target=send)
        sender.start()
        # Only when nothing moves any more does the reader begin.
        until(still(k), "the server stops reading")
        assert c.rest() == data
        sender.join()


def still(k):
    """Has the server used no time for a while?"""
    last = [k.cpu(), time.monotonic()]

    def fact():
        now = k.cpu()
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > 0.3

    return fact


@pytest.mark.skipif(os.environ.get("KQUAY_SANITIZE") == "thread",
                    reason="ThreadSanitizer's own memory grows")
def test_slow_reader_costs_little_memory(family, tmp_path):
    data = os.urandom(8 * MIB)
    with running("serve", "echo", "-l", address(family, tmp_path)) as k:
        first = k.client()
        first.send("x")
        assert first.s.recv(1) == b"x"
        before = k.rss()
        c = k.client()
        sender = threading.Thread(target=c.send, args=(data,))
        sender.start()
        until(still(k), "the server stops reading")
        assert k.rss() - before < MIB
        # The others are served meanwhile.
        first.send("y")
        assert first.s.recv(1) == b"y"
        got = 0
        while got < len(data):
            part = c.s.recv(65536)
            assert part == data[got:got + len(part)]
            got += len(part)
        sender.join()


def test_many_at_once(family, tmp_path):
    with running("serve", "echo", "-l", address(family, tmp_path)) as k:
        clients = [k.client() for _ in range(200)]
        for turn in range(5):
            for n, c in enumerate(clients):
                c.send(f"{turn} {n}\n")
            for n, c in enumerate(clients):
                assert c.line() == f"{turn} {n}"


def test_sudden_end(family, tmp_path):
    """A peer that goes without reading costs its own connection alone."""
    with running("serve", "echo", "-l", address(family, tmp_path)) as k:
        c = k.client()
        for _ in range(50):
            rude = k.client()
            rude.send(b"x" * 100000)
            rude.close()
        c.send("fine\n")
        assert c.line() == "fine"


def test_discard(family, tmp_path):
    with running("serve", "discard", "-l", address(family, tmp_path)) as k:
        c = k.client()
        c.send(os.urandom(8 * MIB))
        c.done()
        assert c.rest() == b""


@pytest.mark.parametrize("handler", ["echo", "discard"])
def test_refusal_is_silent(handler):
    with running("serve", handler, "-l", "127.0.0.1:0", "-n", "1") as k:
        first = k.client()
        first.send("x")
        if handler == "echo":
            assert first.s.recv(1) == b"x"
        assert k.client().closed()


def test_refusal_text():
    with running("serve", "echo", "-l", "127.0.0.1:0", "-n", "1",
                 "--refusal", "later") as k:
        first = k.client()
        first.send("x")
        assert first.s.recv(1) == b"x"
        assert k.client().rest() == b"later\n"


@pytest.mark.parametrize("handler", ["echo", "discard"])
def test_idle_timeout(handler, family, tmp_path):
    """Who moves no byte is closed; who does is not."""
    with running("serve", handler, "-l", address(family, tmp_path),
                 "--idle-timeout", "400ms") as k:
        begin = time.monotonic()
        idle, busy = k.client(), k.client()
        ended = []
        watcher = threading.Thread(
            target=lambda: ended.append((idle.drain(), time.monotonic())))
        watcher.start()
        while watcher.is_alive() or time.monotonic() - begin < 1.5:
            assert time.monotonic() - begin < DEADLINE
            busy.send("I am here\n")
            assert handler != "echo" or busy.line() == "I am here"
            time.sleep(0.05)
        assert ended[0][0] == b""
        assert 0.4 <= ended[0][1] - begin < 5
        busy.send("still\n")
        busy.done()
        assert busy.rest() == (b"still\n" if handler == "echo" else b"")


def test_life_timeout(family, tmp_path):
    """Whatever one does."""
    with running("serve", "echo", "-l", address(family, tmp_path),
                 "--life-timeout", "500ms") as k:
        begin = time.monotonic()
        c = k.client()
        try:
            while time.monotonic() - begin < DEADLINE:
                c.send("x\n")
                if c.line() is None:
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert 0.5 <= time.monotonic() - begin < 5
