"""From the start to the end of the process: addresses, signals, files."""

import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from kquay import (KQUAY, DEADLINE, Client, Kquay, address, connect, running,
                   until)
from ports import free_port, has_ipv6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handler", ["chat", "echo", "discard"])
def test_ends_in_order(handler, number, family, tmp_path):
    """Exit 0, connections closed, the port free, the socket's file gone."""
    k = Kquay("serve", handler, "-l", address(family, tmp_path))
    c = k.client()
    if handler == "chat":
        assert c.line() == "welcome!"
    if handler == "echo":
        c.send("x\n")
        assert c.line() == "x"
    k.signal(number)
    assert k.wait() == (0, "")
    # Nobody knows whether discard has accepted it already.
    assert (c.drain() if handler == "discard" else c.rest()) == b""
    assert not os.path.exists(tmp_path / "s")
    with pytest.raises(OSError):
        connect(k.where)


def test_nobody_there():
    k = Kquay("serve", "chat", "-l", "127.0.0.1:0")
    k.signal()
    assert k.wait() == (0, "")


def slow_reader(k):
    """A connection with output that does not leave."""
    c = k.client()
    c.s.setblocking(False)
    sent = 0
    end = None
    while end is None or time.monotonic() < end:
        try:
            sent += c.s.send(b"x" * 65536)
            end = None
        except BlockingIOError:
            end = end or time.monotonic() + 0.3
    c.s.settimeout(DEADLINE)
    return c, sent


def test_drain_delivers_what_is_queued(family, tmp_path):
    k = Kquay("serve", "echo", "-l", address(family, tmp_path))
    c, sent = slow_reader(k)
    k.signal()
    until(lambda: refuses(k.where), "nothing listens")
    assert k.p.poll() is None
    got = len(c.drain())
    # What the server had read comes back; the rest it never took.
    assert 65536 <= got <= sent
    c.close()
    assert k.wait() == (0, "")


def refuses(where):
    try:
        connect(where).close()
    except OSError:
        return True
    return False


def test_second_signal_ends_at_once(family, tmp_path):
    k = Kquay("serve", "echo", "-l", address(family, tmp_path), "--linger",
              "none")
    slow_reader(k)
    k.signal()
    until(lambda: refuses(k.where), "nothing listens")
    assert k.p.poll() is None
    begin = time.monotonic()
    k.signal()
    assert k.wait() == (0, "")
    assert time.monotonic() - begin < 3
    assert not os.path.exists(tmp_path / "s")


def test_linger_bounds_the_drain():
    k = Kquay("serve", "echo", "-l", "127.0.0.1:0", "--linger", "500ms")
    slow_reader(k)
    begin = time.monotonic()
    k.signal()
    assert k.wait() == (0, "")
    assert 0.4 < time.monotonic() - begin < 5


def test_ignored_signal_stays_ignored():
    k = Kquay("serve", "chat", "-l", "127.0.0.1:0", preexec_fn=lambda:
              signal.signal(signal.SIGINT, signal.SIG_IGN))
    for _ in range(50):
        k.signal(signal.SIGINT)
        assert k.client().line() == "welcome!"
    k.stop()


def test_closed_standard_output():
    """Who started it may have gone; the service stays."""
    port = free_port()
    r, w = os.pipe()
    os.close(r)
    with subprocess.Popen([KQUAY, "serve", "chat", "-l",
                           f"127.0.0.1:{port}"], stdout=w) as p:
        os.close(w)
        until(lambda: not refuses(f"127.0.0.1:{port}"), "it listens")
        p.terminate()
        assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_closed_standard_descriptors(closed, tmp_path):
    """None of our own comes under such a number, where a message would go."""
    where = f"unix:{tmp_path}/s"
    with subprocess.Popen([KQUAY, "serve", "chat", "-l", where],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          preexec_fn=lambda: [os.close(n) for n in closed]) as p:
        try:
            until(lambda: not refuses(where), "it listens")
            for n in closed:
                assert os.readlink(f"/proc/{p.pid}/fd/{n}") == "/dev/null"
        finally:
            p.terminate()
        assert p.wait(DEADLINE) == 0


def test_default_address():
    """localhost:8080, which only one at a time can have."""
    if not all(refuses(w) for w in ("127.0.0.1:8080", "[::1]:8080")):
        pytest.skip("port 8080 is in use")
    with running("serve", "chat") as k:
        assert "127.0.0.1:8080" in k.listening
        assert all(w.endswith(":8080") for w in k.listening)
        assert k.client("127.0.0.1:8080").line() == "welcome!"


def test_localhost_is_both_families():
    with running("serve", "chat", "-l", "localhost:0") as k:
        hosts = [w.rsplit(":", 1)[0] for w in k.listening]
        assert sorted(hosts) == (["127.0.0.1", "[::1]"] if has_ipv6()
                                 else ["127.0.0.1"])
        assert len({w.rsplit(":", 1)[1] for w in k.listening}) == 1
        for where in k.listening:
            assert Client(where).line() == "welcome!"


@pytest.mark.parametrize("every", [":0", "*:0"])
def test_every_address(every):
    with running("serve", "chat", "-l", every) as k:
        hosts = sorted(w.rsplit(":", 1)[0] for w in k.listening)
        assert hosts == (["0.0.0.0", "[::]"] if has_ipv6() else ["0.0.0.0"])
        port = k.listening[0].rsplit(":", 1)[1]
        assert Client(f"127.0.0.1:{port}").line() == "welcome!"
        if has_ipv6():
            assert Client(f"[::1]:{port}").line() == "welcome!"


def test_unix_relative_path_and_mode(tmp_path):
    with running("serve", "chat", "-l", "unix:local.s", cwd=tmp_path) as k:
        assert k.listening == ["unix:local.s"]
        mode = stat.S_IMODE(os.stat(tmp_path / "local.s").st_mode)
        assert mode == 0o600
    assert not os.path.exists(tmp_path / "local.s")


@pytest.mark.parametrize("mode", ["0600", "660", "0666", "0777", "0"])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_mode(mode, umask, tmp_path):
    with running("serve", "chat", "-l", f"unix:{tmp_path}/s", "-m", mode,
                 preexec_fn=lambda: os.umask(umask)):
        got = stat.S_IMODE(os.stat(tmp_path / "s").st_mode)
        assert got == int(mode, 8)


def test_dead_unix_socket_is_replaced(tmp_path):
    k = Kquay("serve", "chat", "-l", f"unix:{tmp_path}/s")
    k.kill()
    assert stat.S_ISSOCK(os.stat(tmp_path / "s").st_mode)
    with running("serve", "chat", "-l", f"unix:{tmp_path}/s") as again:
        assert again.client().line() == "welcome!"
    assert not os.path.exists(tmp_path / "s")


def test_somebody_elses_file_stays(tmp_path):
    """What has taken the socket's place by the end is not removed."""
    k = Kquay("serve", "chat", "-l", f"unix:{tmp_path}/s")
    os.unlink(tmp_path / "s")
    (tmp_path / "s").write_text("mine")
    k.stop()
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_inherited_socket(kind, tmp_path):
    with socket.socket(kind) as s:
        s.bind(("127.0.0.1", 0) if kind == socket.AF_INET else
               str(tmp_path / "s"))
        s.listen()
        with running("serve", "chat", "-l", f"fd:{s.fileno()}",
                     pass_fds=[s.fileno()]) as k:
            if kind == socket.AF_INET:
                assert k.where == f"127.0.0.1:{s.getsockname()[1]}"
            assert k.client().line() == "welcome!"
        # It is the parent's: it listens on, and its file stays.
        if kind == socket.AF_UNIX:
            assert os.path.exists(tmp_path / "s")


def test_many_listeners(tmp_path):
    args = []
    for n in range(20):
        args += ["-l", f"unix:{tmp_path}/{n}", "-l", "127.0.0.1:0"]
    with running("serve", "chat", *args) as k:
        assert len(k.listening) == 40
        for where in k.listening:
            assert k.client(where).line() == "welcome!"
    assert os.listdir(tmp_path) == []


def test_idle_costs_nothing(tmp_path):
    """Nobody does anything: no time is used, whatever timeouts there are."""
    with running("serve", "chat", "-l", f"unix:{tmp_path}/s", "-t", "10m",
                 "--life-timeout", "1h") as k:
        assert k.client().line() == "welcome!"
        used = k.cpu()
        time.sleep(1)
        assert k.cpu() - used <= 0.02


def test_version_and_help():
    for args in (["--version"], ["-V"]):
        out = subprocess.run([KQUAY, *args], capture_output=True, text=True,
                             check=True).stdout
        assert re.fullmatch(r"kquay \d+\.\d+\.\d+\n", out)
    for args in (["--help"], ["-h"], ["serve", "--help"], ["run", "--help"],
                 ["check", "-h"], ["serve", "chat", "--help"]):
        r = subprocess.run([KQUAY, *args], capture_output=True, text=True,
                           check=True)
        assert r.stdout.startswith("usage: kquay") and r.stderr == ""
