"""What the tests of `kquay serve relay' have in common."""

import collections
import contextlib
import socket
import subprocess
import threading

import pytest

from backends import Backend
from kquay import FAMILIES, Kquay, address, messages, running, until
from ports import free_port, has_ipv6

MIB = 1 << 20


@pytest.fixture(params=FAMILIES, name="behind")
def fixture_behind(request):
    if request.param == "tcp6" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    return request.param


@pytest.fixture(params=(1, 3), name="workers")
def fixture_workers(request):
    return ["--workers", request.param]


def words(targets, options=()):
    return ["serve", "relay", "-l", "127.0.0.1:0",
            *(word for t in targets for word in ("--to", str(t))),
            *map(str, options)]


def relaying(*targets, options=()):
    return running(*words(targets, options))


class Failing:
    """A kquay that has something to say, in its log."""

    def __init__(self, *targets, options=()):
        self.k = Kquay(*words(targets, options))
        self.errors = ""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                for c in self.k.clients:
                    c.close()
                self.k.signal()
                status, errors = self.k.wait()
                self.errors = messages(errors)
                assert status == 0
        finally:
            self.k.kill()

    def client(self, **kwargs):
        return self.k.client(**kwargs)


def names(k, n, **kwargs):
    """How many of n connections, one after the other, each target gets."""
    counts = collections.Counter()
    for _ in range(n):
        c = k.client(**kwargs)
        counts[c.line()] += 1
        c.done()
        assert c.rest() == b""
        c.close()
    return counts


def sending(s, data, end=True):
    """Send in a thread of its own; then the end of the stream."""
    def run():
        s.sendall(data)
        if end:
            s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def pair(family, behind, tmp_path, serve, options=()):
    """A client through a relay to a server of another kind."""
    where = address(behind, tmp_path).replace("/s", "/behind")
    backend = Backend(where, serve)
    try:
        with running("serve", "relay", "-l", address(family, tmp_path),
                     "--to", backend.where, *options) as k:
            yield k, backend
        assert not backend.errors
    finally:
        backend.close()


@contextlib.contextmanager
def s_server(certs, name, *args):
    """openssl s_server, which sends back each line the other way round."""
    port = free_port()
    p = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-rev",
         "-cert", certs / f"{name}.pem", "-key", certs / f"{name}.key",
         "-cert_chain", certs / f"{name}.pem", *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    try:
        def ready():
            with contextlib.suppress(OSError), \
                    socket.create_connection(("127.0.0.1", port)):
                return True
            return False
        until(ready, "s_server listens")
        yield f"127.0.0.1:{port}"
    finally:
        p.kill()
        p.communicate()
