"""kquay serve chat: greeting, talk, refusal."""

import os
import shutil
import socket
import subprocess
import time

import pytest

from kquay import DEADLINE, address, running, until
from ports import has_ipv6


def test_greets(family, tmp_path):
    with running("serve", "chat", "-l", address(family, tmp_path)) as k:
        assert k.client().line() == "welcome!"


@pytest.mark.parametrize("text, said", [
    ("Hello, you.", ["Hello, you."]),
    ("two\nlines", ["two", "lines"]),
    ("Grüß Gott", ["Grüß Gott"]),
    ("100% %s", ["100% %s"]),
])
def test_welcome_text(text, said, tmp_path):
    with running("serve", "chat", "-l", ":0", "--welcome", text) as k:
        c = k.client(k.listening[0])
        assert [c.line() for _ in said] == said


def test_longest_texts(family, tmp_path):
    """They come whole."""
    with running("serve", "chat", "-l", address(family, tmp_path), "-n", "1",
                 "-w", "w" * 4096, "-r", "r" * 4096) as k:
        assert k.client().line() == "w" * 4096
        assert k.client().rest() == b"r" * 4096 + b"\n"


def test_no_welcome():
    with running("serve", "chat", "-l", "127.0.0.1:0", "-w", "") as k:
        a, b = k.client(), k.client()
        met(a, b)
        assert b.line() == f"{a.name()}: first"


def met(a, b):
    """a says `first`, once b is surely there: b has spoken before."""
    b.send("here\n")
    assert a.line() == f"{b.name()}: here"
    a.send("first\n")


def test_all_families_talk(tmp_path):
    """Each line goes to everyone else, whichever socket they came by."""
    listen = ["-l", "127.0.0.1:0", "-l", f"unix:{tmp_path}/s"]
    if has_ipv6():
        listen += ["-l", "[::1]:0"]
    with running("serve", "chat", *listen) as k:
        clients = [k.client(where) for where in k.listening * 2]
        for c in clients:
            assert c.line() == "welcome!"
        for n, c in enumerate(clients):
            c.send(f"I am number {n}\n")
            for other in clients:
                if other is not c:
                    assert other.line() == f"{c.name()}: I am number {n}"
        # Nobody has heard themselves: the next each hears is somebody else's.
        clients[0].send("end\n")
        for other in clients[1:]:
            assert other.line() == f"{clients[0].name()}: end"


@pytest.mark.parametrize("sent, heard", [
    (b"\n", ""),
    (b"a\r\n", "a"),
    (b"tab\there\n", "tab\there"),
    (b"a: b: c\n", "a: b: c"),
    (b"%n%s\n", "%n%s"),
    (b"x" * 8000 + b"\n", "x" * 8000),
    ("Grüße\n".encode(), "Grüße"),
])
def test_lines(sent, heard):
    with running("serve", "chat", "-l", "127.0.0.1:0") as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        a.send(sent)
        assert b.line() == f"{a.name()}: {heard}"


def test_line_in_pieces_and_many_at_once():
    with running("serve", "chat", "-l", "127.0.0.1:0") as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        a.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"in pieces\n":
            a.send(bytes([byte]))
        assert b.line() == f"{a.name()}: in pieces"
        a.send("".join(f"{n}\n" for n in range(2000)))
        for n in range(2000):
            assert b.line() == f"{a.name()}: {n}"


def test_last_line_needs_no_end():
    with running("serve", "chat", "-l", "127.0.0.1:0") as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        a.send("bye")
        a.done()
        assert b.line() == f"{a.name()}: bye"
        assert a.closed()


def test_line_too_long_is_dropped():
    with running("serve", "chat", "-l", "127.0.0.1:0", "--max-line",
                 "100") as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        a.send("y" * 90 + "\n")
        assert b.line() == f"{a.name()}: " + "y" * 90
        a.send("z" * 5000 + "\n")
        assert a.closed()


@pytest.mark.parametrize("options, text", [
    ([], "connection refused"),
    (["--refusal", "Sorry."], "Sorry."),
    (["-r", ""], None),
])
def test_one_too_many(options, text, family, tmp_path):
    with running("serve", "chat", "-l", address(family, tmp_path),
                 "--max-connections", "2", *options) as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        for _ in range(3):
            c = k.client()
            assert c.line() == text
            if text is not None:
                assert c.line() is None
        a.close()
        # The place of a becomes free when the server has seen the end.
        until(lambda: k.client().line() == "welcome!", "a free place")
        b.send("still here\n")


def test_when_full_wait():
    with running("serve", "chat", "-l", "127.0.0.1:0", "-n", "1",
                 "--when-full", "wait") as k:
        a = k.client()
        assert a.line() == "welcome!"
        b = k.client()
        b.s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            b.line()
        b.s.settimeout(DEADLINE)
        a.close()
        assert b.line() == "welcome!"


def test_max_per_source():
    """127.0.0.1 is full, 127.0.0.2 is not; neither are UNIX sockets."""
    with running("serve", "chat", "-l", "0.0.0.0:0", "-s", "2") as k:
        where = "127.0.0.1:" + k.where.rsplit(":", 1)[1]
        mine = [k.client(where) for _ in range(2)]
        assert [c.line() for c in mine] == ["welcome!"] * 2
        assert k.client(where).line() == "connection refused"
        assert k.client(where, source="127.0.0.2").line() == "welcome!"
        mine[0].close()
        until(lambda: k.client(where).line() == "welcome!", "a free place")


def test_who_does_not_read_is_dropped(tmp_path):
    """max-output bounds what is queued for one; the others go on."""
    with running("serve", "chat", "-l", f"unix:{tmp_path}/s", "-n", "3",
                 "--max-output", "32k") as k:
        a, b, lazy = k.client(), k.client(), k.client()
        assert a.line() == b.line() == lazy.line() == "welcome!"
        line = "x" * 8000
        sent = 0
        while k.client().line() == "connection refused":
            a.send(f"{line}\n")
            sent += len(line)
            assert b.line() == f"{a.name()}: {line}"
            # The kernel takes some, too.
            assert sent < 32768 + 2 * lazy.s.getsockopt(socket.SOL_SOCKET,
                                                        socket.SO_SNDBUF)
        assert sent > 32768
        assert len(lazy.drain()) <= sent + 1000


def test_idle_timeout():
    """What one hears counts as much as what one says."""
    with running("serve", "chat", "-l", "127.0.0.1:0", "-t", "500ms") as k:
        a, b = k.client(), k.client()
        assert a.line() == b.line() == "welcome!"
        begin = time.monotonic()
        while time.monotonic() - begin < 1.2:
            a.send("x\n")
            assert b.line() == f"{a.name()}: x"
            time.sleep(0.05)
        assert a.closed() and b.closed()


@pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc")
def test_nc(tmp_path):
    """The way the manual says to try it."""
    args = ["-l", "127.0.0.1:0", "-l", f"unix:{tmp_path}/s"]
    with running("serve", "chat", *args) as k:
        port = k.listening[0].rsplit(":", 1)[1]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(["nc", "127.0.0.1", port], **pipes) as tcp, \
                subprocess.Popen(["nc", "-U", f"{tmp_path}/s"], **pipes) as un:
            assert tcp.stdout.readline() == b"welcome!\n"
            assert un.stdout.readline() == b"welcome!\n"
            tcp.stdin.write(b"hello\n")
            tcp.stdin.flush()
            heard = un.stdout.readline().decode()
            assert heard.startswith("127.0.0.1:") and heard.endswith(": hello\n")
            un.stdin.write(b"hi\n")
            un.stdin.flush()
            assert tcp.stdout.readline().decode() == \
                f"unix:{os.getuid()}/{un.pid}: hi\n"
            k.signal()
            assert k.wait() == (0, "")
            # nc stays until its own input ends, too.
            assert tcp.communicate(timeout=DEADLINE)[0] == b""
            assert un.communicate(timeout=DEADLINE)[0] == b""
    assert not os.path.exists(f"{tmp_path}/s")
