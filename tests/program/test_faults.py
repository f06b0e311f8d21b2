"""What goes wrong around a running program: it costs what it must, nothing
spins, the log says so, and all is well again by itself.
"""

import contextlib
import os
import resource
import signal
import socket
import ssl
import time

import pytest

from kquay import DEADLINE, Kquay, connect, outspoken, running, until

SANITIZED = "KQUAY_SANITIZE" in os.environ
MIB = 1 << 20


def spent(k, seconds=1):
    """Seconds of CPU in so many."""
    before = k.cpu()
    time.sleep(seconds)
    return k.cpu() - before


def asks(where):
    """Is there somebody who answers?"""
    try:
        with connect(where) as s:
            s.sendall(b"hello")
            return s.recv(5) == b"hello"
    except OSError:
        return False


def descriptors(pid, soft=None):
    """The limit of a running process; set if soft is given."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if soft is not None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, before[1]))
    return before[0]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer opens files, too")
def test_no_descriptors_left():
    """Callers are turned away, and nobody spins."""
    with running("serve", "echo", "-l", "127.0.0.1:0") as target, \
         outspoken("serve", "relay", "-l", "127.0.0.1:0", "--to", target.where) as k:
        assert asks(k.where)
        open_now = len(os.listdir(f"/proc/{k.p.pid}/fd"))
        # The queue has its descriptors at 960 and above, where it may.
        lowest_free = next(n for n in range(3, 2000)
                           if not os.path.exists(f"/proc/{k.p.pid}/fd/{n}"))
        before = descriptors(k.p.pid, lowest_free + 9)
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(connect(k.where)) for _ in range(40)]
            assert spent(k) < 0.5
            turned_away = sum(ended(s) for s in callers)
            assert turned_away >= 30
        descriptors(k.p.pid, before)
        until(lambda: asks(k.where), "callers are served again")
        until(lambda: len(os.listdir(f"/proc/{k.p.pid}/fd")) <= open_now + 2, "nothing leaks")


def ended(s):
    """Has the other end closed or reset it?"""
    s.setblocking(False)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


FRONTS = {
    "tls": lambda certs: ("--tls-certificate", f"{certs}/host.pem", "--tls-key", f"{certs}/host.key"),
    "proxy": lambda certs: ("--proxy-protocol", "on"),
}


def hello(front, where):
    """A caller that does as it should."""
    with connect(where) as s:
        if front == "proxy":
            s.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        elif front == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            s = context.wrap_socket(s)
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
        s.close()


@pytest.mark.parametrize("front", FRONTS)
def test_half_open_clients(front, certs):
    """Ten thousand who connect and say nothing: they cost little, others are
    served, and in the end they are closed."""
    count = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 200)
    if SANITIZED:
        count //= 10
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft[1], soft[1]))
    try:
        with outspoken("serve", "echo", "-l", "127.0.0.1:0", "-n", str(count + 100),
                             *FRONTS[front](certs)) as k:
            hello(front, k.where)
            before = k.rss()
            with contextlib.ExitStack() as stack:
                sources = [f"127.0.0.{n}" for n in range(1, 6)]
                callers = [stack.enter_context(connect(k.where, sources[n % 5]))
                           for n in range(count)]
                hello(front, k.where)
                if not SANITIZED:
                    # TLS has its memory from the first byte on.
                    assert k.rss() - before < count * 1024 + 4 * MIB
                    assert spent(k) < 0.5
                hello(front, k.where)
                until(lambda: all(ended(s) for s in callers[::97]), "they are closed")
            hello(front, k.where)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)


def test_a_target_that_dies_and_comes_back(tmp_path):
    """Its callers are closed, others go nowhere until it is there again."""
    where = f"unix:{tmp_path}/target"
    target = Kquay("serve", "echo", "-l", where)
    try:
        with outspoken("serve", "relay", "-l", "127.0.0.1:0", "--to", where,
                             "--fail-time", "200ms") as k, \
             contextlib.ExitStack() as stack:
            callers = [stack.enter_context(connect(k.where)) for _ in range(50)]
            for s in callers:
                s.sendall(b"hello")
                assert s.recv(5) == b"hello"
            target.p.send_signal(signal.SIGKILL)
            target.p.wait()
            until(lambda: all(ended(s) for s in callers), "they are closed")
            for _ in range(20):
                assert not asks(k.where)
            assert spent(k, 0.5) < 0.25
            target.kill()
            target = Kquay("serve", "echo", "-l", where)
            until(lambda: asks(k.where), "it is back")
    finally:
        target.kill()


def test_a_target_that_hangs(tmp_path):
    """It accepts and says nothing: idle-timeout ends that, for both."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = "127.0.0.1:%d" % silent.getsockname()[1]
        with outspoken("serve", "relay", "-l", "127.0.0.1:0", "--to", where,
                             "--idle-timeout", "300ms") as k, connect(k.where) as s:
            s.sendall(b"hello")
            behind, _ = silent.accept()
            with behind:
                behind.settimeout(DEADLINE)
                assert behind.recv(5) == b"hello"
                assert s.recv(1) == b""
                assert behind.recv(1) == b""


def test_a_target_that_resets():
    with socket.create_server(("127.0.0.1", 0)) as rude:
        where = "127.0.0.1:%d" % rude.getsockname()[1]
        with outspoken("serve", "relay", "-l", "127.0.0.1:0", "--to", where) as k, \
             connect(k.where) as s:
            s.sendall(b"hello")
            behind, _ = rude.accept()
            behind.recv(5)
            behind.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            behind.close()
            until(lambda: ended(s), "the caller is told")


def test_a_target_that_trickles():
    """A byte at a time, and each arrives when it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        where = "127.0.0.1:%d" % slow.getsockname()[1]
        with running("serve", "relay", "-l", "127.0.0.1:0", "--to", where,
                     "--idle-timeout", "2s") as k, connect(k.where) as s:
            behind, _ = slow.accept()
            with behind:
                for byte in b"trickle":
                    behind.sendall(bytes([byte]))
                    assert s.recv(10) == bytes([byte])
