"""kquay serve relay: clients and servers with kquay in between."""

import collections
import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from backends import (Backend, backends, blackhole, listener, nameserver,
                      nobody, receive, text)
from kquay import (CONFIG, DEADLINE, FAMILIES, USAGE, Kquay, address, connect,
                   has_ipv6, once, running, until)

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module", name="certs")
def fixture_certs(tmp_path_factory):
    path = tmp_path_factory.mktemp("certs")
    subprocess.run([os.environ["CERTS"], path], check=True)
    return path


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
    """A kquay that has something to say on standard error."""

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
                status, self.errors = self.k.wait()
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


def descriptors(k):
    return len(os.listdir(f"/proc/{k.p.pid}/fd"))


def sending(s, data, end=True):
    """Send in a thread of its own; then the end of the stream."""
    def run():
        s.sendall(data)
        if end:
            s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# -- bytes ---------------------------------------------------------------------


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


def test_the_client_ends_first(family, behind, tmp_path):
    """A request of 1 MiB and its end, then an answer of 1 MiB."""
    request, answer = os.urandom(MIB), os.urandom(MIB)

    def serve(s):
        assert receive(s) == request
        s.sendall(answer)

    with pair(family, behind, tmp_path, serve) as (k, _):
        c = k.client()
        thread = sending(c.s, request)
        assert c.rest() == answer
        thread.join(DEADLINE)


def test_the_server_ends_first(family, behind, tmp_path):
    request, answer = os.urandom(MIB), os.urandom(MIB)
    got = []

    def serve(s):
        s.sendall(request)
        s.shutdown(socket.SHUT_WR)
        got.append(receive(s))

    with pair(family, behind, tmp_path, serve) as (k, _):
        c = k.client()
        assert c.rest() == request
        c.send(answer)
        c.done()
        until(lambda: got, "the server has the answer")
        assert got == [answer]


@pytest.mark.parametrize("size", [1, 64, 4096, 65536])
def test_pingpong(family, behind, size, tmp_path):
    def serve(s):
        while part := s.recv(65536):
            s.sendall(part)

    with pair(family, behind, tmp_path, serve) as (k, _):
        clients = [k.client() for _ in range(10)]
        for turn in range(20):
            for c in clients:
                c.send(bytes([turn]) * size)
            for c in clients:
                got = b""
                while len(got) < size:
                    got += c.s.recv(size - len(got))
                assert got == bytes([turn]) * size


def test_bulk_both_ways(family, behind, tmp_path):
    """64 MiB each way at the same time."""
    block = os.urandom(MIB)
    sums = []

    def serve(s):
        thread = sending(s, block * 64)
        sums.append(hashlib.sha256(receive(s)).digest())
        thread.join(DEADLINE)

    with pair(family, behind, tmp_path, serve) as (k, _):
        c = k.client()
        thread = sending(c.s, block[::-1] * 64)
        assert c.rest() == block * 64
        thread.join(DEADLINE)
        until(lambda: sums, "the server has all")
        assert sums == [hashlib.sha256(block[::-1] * 64).digest()]


def test_a_caller_that_sends_much_too_early():
    """What it sends before the target is there stays in its socket."""
    with blackhole() as hole:
        with relaying(hole, options=["--connect-timeout", "1m"]) as k:
            before = k.rss()
            c = k.client()
            c.s.setblocking(False)
            sent = [0]

            def stuck():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sent[0] += c.s.send(bytes(65536))
                stuck.turns.append(sent[0])
                return len(set(stuck.turns[-20:])) == 1 < len(stuck.turns) - 20

            stuck.turns = []
            until(stuck, "it cannot send")
            assert sent[0] > 100000
            assert k.rss() - before < MIB


def test_a_slow_reader(family, behind, tmp_path):
    """It costs what is under way, not what there is to come."""
    block = os.urandom(65536)
    sent = []

    def serve(s):
        for _ in range(512):
            s.sendall(block)
            sent.append(len(block))

    with pair(family, behind, tmp_path, serve) as (k, backend):
        before = k.rss()
        c = k.client()
        until(lambda: backend.count == 1 and sent, "the server sends")
        state = []

        def stuck():
            """Nothing has gone for 20 looks."""
            state.append(len(sent))
            return len(state) > 20 and len(set(state[-20:])) == 1

        until(stuck, "the server cannot send")
        assert len(sent) < 512
        assert k.rss() - before < MIB
        assert c.rest() == block * 512


@pytest.mark.parametrize("size", [0, 5, 300000])
def test_what_comes_before_the_target_is_there(size):
    """The client's first bytes, and its end, go to the second target."""
    data = os.urandom(size)
    got = []
    backend = Backend(serve=lambda s: got.append(receive(s)))
    with blackhole() as hole:
        with relaying(hole, backend.where,
                      options=["--connect-timeout", "300ms"]) as k:
            c = k.client()
            thread = sending(c.s, data)
            assert c.rest() == b""
            thread.join(DEADLINE)
            assert got == [data]
    backend.close()


# -- who gets it ---------------------------------------------------------------


def test_the_next_one_if_it_is_refused():
    with backends("a") as (a,), nobody() as dead:
        with relaying(dead, a.where, options=["--fail-limit", "none"]) as k:
            assert names(k, 20) == {"a": 20}


def test_all_are_down():
    with nobody() as one, nobody() as two:
        with Failing(one, two, options=["--fail-limit", "none"]) as f:
            c = f.client()
            who = c.name()
            assert c.closed()
        assert f.errors == (f'kquay: service "relay": {who}: {two}: '
                            "Connection refused; no other target is up\n")


def test_the_last_one_says_why():
    with nobody() as one, nobody() as two:
        with Failing(one, two, options=["--retries", "none"]) as f:
            assert f.client().closed()
        assert f"{one}: Connection refused" in f.errors
        assert two not in f.errors


@pytest.mark.parametrize("retries", [1, 2])
def test_retries(retries):
    with contextlib.ExitStack() as stack:
        dead = [stack.enter_context(nobody()) for _ in range(4)]
        with Failing(*dead, options=["--retries", retries, "--fail-limit",
                                     "none", "--balance", "first"]) as f:
            assert f.client().closed()
        assert f": {dead[retries]}: Connection refused\n" in f.errors


def test_a_unix_socket_that_is_not_there(tmp_path):
    with Failing(f"unix:{tmp_path}/no") as f:
        assert f.client().closed()
    assert "No such file or directory" in f.errors


def test_backup():
    with backends("a", "spare") as (a, spare):
        with relaying(f"{spare.where} backup", a.where,
                      options=["--fail-limit", "none"]) as k:
            assert names(k, 10) == {"a": 10}
            a.close()
            assert names(k, 10) == {"spare": 10}


def test_weights(workers):
    with backends("a", "b", "c") as (a, b, c):
        with relaying(f"{a.where} weight=5", f"{b.where} weight=3",
                      f"{c.where} weight=2", options=workers) as k:
            assert names(k, 10) == {"a": 5, "b": 3, "c": 2}
            assert names(k, 90) == {"a": 45, "b": 27, "c": 18}


def test_round_robin_is_smooth():
    with backends("a", "b", "c") as (a, b, c):
        with relaying(f"{a.where} weight=5", b.where, c.where) as k:
            order = "".join(next(iter(names(k, 1))) for _ in range(7))
            assert order == "aabacaa"


def test_least():
    with backends("a", "b", "c") as (a, b, c):
        with relaying(a.where, b.where, f"{c.where} weight=2",
                      options=["--balance", "least"]) as k:
            clients = [k.client() for _ in range(40)]
            by_name = collections.defaultdict(list)
            for one in clients:
                by_name[one.line()].append(one)
            assert {n: len(l) for n, l in by_name.items()} == {
                "a": 10, "b": 10, "c": 20}
            for one in by_name["b"]:
                one.done()
                assert one.rest() == b""
            again = collections.Counter(k.client().line() for _ in range(10))
            assert again == {"b": 10}


def by_source(k, sources):
    where = {}
    for source in sources:
        c = k.client(source=source)
        where[source] = c.line()
        c.close()
    return where


def test_hash():
    """The same source gets the same target, and keeps it if another goes."""
    sources = [f"127.0.1.{i}" for i in range(1, 101)]
    with backends("a", "b", "c") as list_:
        targets = [b.where for b in list_]
        options = ["--balance", "hash"]
        with relaying(*targets, options=options) as k:
            first = by_source(k, sources)
            assert by_source(k, sources) == first
        counts = collections.Counter(first.values())
        assert set(counts) == {"a", "b", "c"} and min(counts.values()) > 15
        with relaying(*reversed(targets), options=options) as k:
            assert by_source(k, sources) == first
        with relaying(*targets[1:], options=options) as k:
            less = by_source(k, sources)
    for source, name in first.items():
        if name == "a":
            assert less[source] in ("b", "c")
        else:
            assert less[source] == name


def test_hash_by_weight():
    sources = [f"127.0.2.{i}" for i in range(1, 251)]
    with backends("a", "b") as (a, b):
        with relaying(f"{a.where} weight=4", b.where,
                      options=["--balance", "hash"]) as k:
            counts = collections.Counter(by_source(k, sources).values())
    assert 165 < counts["a"] < 235


def test_first(workers):
    with backends("a", "b") as (a, b):
        with relaying(f"{a.where} max=2", b.where,
                      options=["--balance", "first", *workers]) as k:
            clients = []
            for name in ("a", "a", "b", "b"):
                clients.append(k.client())
                assert clients[-1].line() == name
            clients[0].done()
            assert clients[0].rest() == b""
            assert k.client().line() == "a"


def test_max_per_target(workers):
    with backends("a", "b") as (a, b):
        with Failing(a.where, b.where, options=["--max-per-target", 2,
                                                *workers]) as f:
            got = collections.Counter(f.client().line() for _ in range(4))
            assert got == {"a": 2, "b": 2}
            assert f.client().closed()
        assert f.errors.endswith(": no target has room\n")


# -- the queue -----------------------------------------------------------------


def test_the_queue_is_in_order():
    with backends("a") as (a,):
        with Failing(a.where, options=["--max-per-target", 1,
                                       "--queue", 3]) as f:
            clients = []
            for i in range(4):
                clients.append(f.client())
                clients[i].send(f"{i}\n")
                if i == 0:
                    assert clients[0].line() == "a"
            # The queue is full once a fifth is turned away.
            assert f.client().closed()
            for i, c in enumerate(clients):
                if i > 0:
                    assert c.line() == "a"
                assert c.line() == str(i)
                assert a.count == i + 1
                c.done()
                assert c.rest() == b""
        assert f.errors.count("\n") == 1
        assert f.errors.endswith(": no target has room\n")


def test_the_queue_has_a_limit_of_time(workers):
    with backends("a") as (a,):
        with Failing(a.where, options=["--max-per-target", 1, "--queue", 9,
                                       "--queue-timeout", "200ms",
                                       *workers]) as f:
            first = f.client()
            assert first.line() == "a"
            begun = time.monotonic()
            assert f.client().closed()
            assert time.monotonic() - begun >= 0.19
            first.send("still here\n")
            assert first.line() == "still here"
        assert f.errors.endswith(": no target has room in time\n")


def test_who_leaves_the_queue():
    """A caller that is reset there is not served, the next one is."""
    with backends("a") as (a,):
        with relaying(a.where, options=["--max-per-target", 1, "--queue", 9,
                                        "--queue-timeout", "1m"]) as k:
            first = k.client()
            assert first.line() == "a"
            before = descriptors(k)
            gone = connect(k.where)
            until(lambda: descriptors(k) > before, "it waits")
            with_it = descriptors(k)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            gone.close()
            until(lambda: descriptors(k) < with_it, "it has left")
            next_ = k.client()
            first.done()
            assert next_.line() == "a"
            assert a.count == 2


def test_the_queue_of_many(workers):
    """60 callers, of all workers, two at a time."""
    now, most, lock = [0], [0], threading.Lock()

    def serve(s):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        word = receive(s)
        with lock:
            now[0] -= 1
        s.sendall(word)

    backend = Backend(serve=serve)
    with relaying(backend.where, options=["--max-per-target", 2, "--queue", 60,
                                          *workers]) as k:
        clients = [k.client() for _ in range(60)]
        for i, c in enumerate(clients):
            c.send(f"{i}\n")
            c.done()
        for i, c in enumerate(clients):
            assert c.line() == str(i)
            assert c.rest() == b""
    assert most == [2]
    backend.close()


# -- failures ------------------------------------------------------------------


def test_connect_timeout():
    with backends("a") as (a,), blackhole() as hole:
        with relaying(hole, a.where,
                      options=["--connect-timeout", "200ms", "--balance",
                               "first", "--fail-limit", "none"]) as k:
            begun = time.monotonic()
            assert k.client().line() == "a"
            assert 0.19 <= time.monotonic() - begun < 5


def test_connect_timeout_of_all():
    with blackhole() as hole:
        with Failing(hole, options=["--connect-timeout", "200ms"]) as f:
            assert f.client().closed()
        assert f"Connection timed out" in f.errors


def test_retry_timeout():
    """Each may take 300 ms, but none begins after 400."""
    with contextlib.ExitStack() as stack:
        holes = [stack.enter_context(blackhole()) for _ in range(4)]
        with Failing(*holes, options=[
                "--connect-timeout", "300ms", "--retries", 9,
                "--retry-timeout", "400ms"]) as f:
            begun = time.monotonic()
            assert f.client().closed()
            assert 0.55 < time.monotonic() - begun < 1.1


def test_who_leaves_while_it_is_dialled():
    """The attempt ends with its caller."""
    with blackhole() as hole:
        with relaying(hole, options=["--connect-timeout", "1m"]) as k:
            before = descriptors(k)
            c = connect(k.where)
            until(lambda: descriptors(k) == before + 2, "it dials")
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            c.close()
            until(lambda: descriptors(k) == before, "both are gone")


def test_a_target_that_fails_is_left_alone(workers):
    with backends("b") as (b,), nobody() as dead:
        with Failing(dead, b.where, options=["--fail-limit", 2, "--fail-time",
                                             "1m", *workers]) as f:
            assert names(f, 6) == {"b": 6}
            a = Backend(dead, name="a")
            try:
                assert names(f, 10) == {"b": 10}
            finally:
                a.close()
        assert f.errors == (f'kquay: service "relay": target {dead} is left '
                            "alone: Connection refused\n")


def test_and_tried_again():
    with backends("b") as (b,), nobody() as dead:
        with Failing(dead, b.where, options=["--fail-limit", 1, "--fail-time",
                                             "100ms"]) as f:
            assert names(f, 2) == {"b": 2}
            a = Backend(dead, name="a")
            try:
                until(lambda: names(f, 1) == {"a": 1}, "it is back")
            finally:
                a.close()
        assert f.errors.endswith(f"target {dead} is back\n")


def test_the_only_target_is_never_left_alone():
    with nobody() as dead:
        with Failing(dead, options=["--fail-limit", 1, "--fail-time",
                                    "1m"]) as f:
            for _ in range(3):
                assert f.client().closed()
            a = Backend(dead, name="a")
            try:
                assert names(f, 5) == {"a": 5}
            finally:
                a.close()


def test_a_target_dies_in_mid_stream(family, behind, tmp_path):
    def serve(s):
        word = s.recv(100)
        s.sendall(word)
        if word == b"die":
            s.recv(100)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        receive(s)

    with pair(family, behind, tmp_path, serve) as (k, _):
        live, dying = k.client(), k.client()
        for c, word in ((live, b"live"), (dying, b"die")):
            c.send(word)
            assert c.s.recv(100) == word
        before = descriptors(k)
        dying.send(b"x")
        assert dying.closed()
        dying.close()
        until(lambda: descriptors(k) == before - 2, "both ends are gone")
        live.done()
        assert live.rest() == b""


def test_limits_of_the_pair():
    with backends("a") as (a,):
        with relaying(a.where, options=["--idle-timeout", "300ms"]) as k:
            c = k.client()
            assert c.line() == "a"
            for _ in range(5):
                time.sleep(0.1)
                c.send("x\n")
                assert c.line() == "x"
            assert c.closed()
        with relaying(a.where, options=["--life-timeout", "300ms"]) as k:
            c = k.client()
            assert c.line() == "a"
            begun = time.monotonic()
            with contextlib.suppress(OSError):
                while True:
                    c.send("x\n")
                    if c.line() is None:
                        break
            assert 0.2 < time.monotonic() - begun < 5


def test_nothing_is_left_behind(workers):
    """600 connections, 30 at a time, some of them refused."""
    with backends("a", "b") as (a, b), nobody() as dead:
        with relaying(a.where, b.where, dead,
                      options=["--fail-limit", "none", "-n", 40,
                               *workers]) as k:
            assert names(k, 3).total() == 3
            before = descriptors(k)
            for _ in range(20):
                clients = [k.client() for _ in range(30)]
                for c in clients:
                    assert c.line() in "ab"
                    c.done()
                    assert c.rest() == b""
                    c.close()
            until(lambda: descriptors(k) == before, "all are closed")


def test_it_drains():
    """SIGTERM: nobody new, and who is there may finish."""
    with backends("a") as (a,):
        with relaying(a.where) as k:
            c = k.client()
            assert c.line() == "a"
            c.send("before\n")
            assert c.line() == "before"
            k.signal()
            assert c.drain() == b""
            assert k.wait() == (0, "")


# -- names ---------------------------------------------------------------------


@contextlib.contextmanager
def two_with_one_port():
    """127.0.3.1 and 127.0.3.2."""
    one = Backend("127.0.3.1:0", name="one")
    two = Backend(f"127.0.3.2:{one.port}", name="two")
    try:
        yield one, two
    finally:
        one.close()
        two.close()


def test_every_address_of_a_name(workers):
    with two_with_one_port() as (one, two), \
            nameserver({"app.test": ["127.0.3.1", "127.0.3.2"]}) as ns:
        with relaying(f"app.test:{one.port}",
                      options=["--nameservers", ns.where, *workers]) as k:
            assert names(k, 10) == {"one": 5, "two": 5}


def test_addresses_come_and_go():
    """Old connections stay; what nobody can tell stays as it was."""
    with two_with_one_port() as (one, two), \
            nameserver({"app.test": ["127.0.3.1"]}) as ns:
        with Failing(f"app.test:{one.port}",
                     options=["--nameservers", ns.where]) as f:
            old = f.client()
            assert old.line() == "one"
            ns.names = {"app.test": ["127.0.3.2"]}
            until(lambda: names(f, 1) == {"two": 1}, "the new address")
            assert names(f, 5) == {"two": 5}
            old.send("still here\n")
            assert old.line() == "still here"
            ns.broken = True
            asked = ns.asked
            until(lambda: ns.asked >= asked + 4, "it asks, twice")
            assert names(f, 5) == {"two": 5}
        target = f'kquay: service "relay": target app.test:{one.port}: '
        assert f.errors == (f"{target}127.0.3.2:{one.port} is new\n"
                            f"{target}127.0.3.1:{one.port} is gone\n")


def test_a_name_that_goes_and_comes():
    with backends("a") as (a,), nameserver({}) as ns:
        with Failing(f"app.test:{a.port}",
                     options=["--nameservers", ns.where]) as f:
            assert f.client().closed()
            ns.names = {"app.test": ["127.0.0.1"]}

            def served():
                c = f.client()
                return c.drain() if c.done() else c.drain() == b"a\n"

            until(served, "the name is there")
        assert "there is no such name" in f.errors
        assert "no target is up" in f.errors


def test_who_comes_before_the_name_is_known():
    """It waits for the answer."""
    with backends("a") as (a,), \
            nameserver({"app.test": ["127.0.0.1"]}) as ns:
        ns.silent = True
        with relaying(f"app.test:{a.port}",
                      options=["--nameservers", ns.where]) as k:
            c = k.client()
            until(lambda: ns.asked > 0, "it asks")
            ns.silent = False
            assert c.line() == "a"


# -- PROXY and TLS -------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_send_proxy(family, version, tmp_path):
    """The target is told who has called, and whom."""
    got = []

    def serve(s):
        got.append(receive(s))

    with pair(family, "tcp4", tmp_path, serve,
              ["--send-proxy", version]) as (k, _):
        c = k.client()
        peer, local = c.s.getsockname(), c.s.getpeername()
        c.send("hello")
        c.done()
        assert c.rest() == b""
        where = k.where
    data, = got
    assert data.endswith(b"hello")
    head = data[:-5]
    if version == "v1":
        if family == "unix":
            assert head == b"PROXY UNKNOWN\r\n"
        else:
            kind = "TCP6" if family == "tcp6" else "TCP4"
            assert head == (f"PROXY {kind} {peer[0]} {local[0]} {peer[1]} "
                            f"{local[1]}\r\n").encode()
        return
    assert head[:12] == b"\r\n\r\n\0\r\nQUIT\n"
    family_byte = {"tcp4": 0x11, "tcp6": 0x21, "unix": 0x31}[family]
    assert head[12] == 0x21 and head[13] == family_byte
    if family == "unix":
        assert where[5:].encode() in head
    else:
        number = socket.AF_INET6 if family == "tcp6" else socket.AF_INET
        packed = [socket.inet_pton(number, a[0]) for a in (peer, local)]
        assert head[16:].startswith(
            b"".join(packed) + struct.pack("!HH", peer[1], local[1]))


@contextlib.contextmanager
def s_server(certs, name, *args):
    """openssl s_server, which sends back each line the other way round."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
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


def test_tls_to_the_target(certs):
    with s_server(certs, "host") as where:
        with relaying(f"{where} tls",
                      options=["--to-tls-ca", certs / "ca.pem"]) as k:
            c = k.client()
            c.send("hello\n")
            assert c.line() == "olleh"


@pytest.mark.parametrize("options, wrong", [
    (["--to-tls-ca", "ca2.pem"], "issuer certificate"),
    (["--to-tls-ca", "ca.pem", "--to-tls-servername", "other.test"],
     "hostname mismatch"),
])
def test_a_target_that_is_somebody_else(certs, options, wrong):
    options = [certs / o if o.endswith(".pem") else o for o in options]
    with s_server(certs, "host") as where:
        with Failing(f"{where} tls", options=options) as f:
            assert f.client().closed()
        assert wrong in f.errors
        with relaying(f"{where} tls",
                      options=["--to-tls-verify", "off"]) as k:
            c = k.client()
            c.send("hello\n")
            assert c.line() == "olleh"


def test_our_certificate(certs):
    with s_server(certs, "host", "-Verify", "1", "-verify_return_error",
                  "-CAfile", certs / "ca.pem") as where:
        with relaying(f"{where} tls", options=[
                "--to-tls-ca", certs / "ca.pem", "--to-tls-certificate",
                certs / "alice.pem", "--to-tls-key",
                certs / "alice.key"]) as k:
            c = k.client()
            c.send("hello\n")
            assert c.line() == "olleh"


def sealed(certs, cert, name):
    """A server with TLS: a backend that says its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / f"{cert}.pem", certs / f"{cert}.key")

    def serve(s):
        with context.wrap_socket(s, server_side=True) as tls:
            tls.sendall(f"{name}\n".encode())
            tls.recv(1)

    return Backend(serve=serve, name=name)


def asks_for(k, certs, server, piecemeal=False):
    """Who answers a TLS client that wants this server, and knows it."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.check_hostname = server is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server)
    s = k.client().s
    while True:
        try:
            return tls.read(100).decode().strip()
        except ssl.SSLWantReadError:
            hello = outgoing.read()
            if piecemeal:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in hello:
                    s.sendall(bytes([byte]))
            else:
                s.sendall(hello)
            data = s.recv(65536)
            assert data, "closed"
            incoming.write(data)


def test_by_server_name(certs):
    """The targets' own certificates, and TLS not looked into."""
    one, wild, rest = (sealed(certs, *pair) for pair in (
        ("one", "one"), ("wild", "wild"), ("host", "rest")))
    try:
        with relaying(f"{wild.where} sni=*.example.org", rest.where,
                      f"{one.where} sni=One.example.org,two.example.org") as k:
            for turn in range(3):
                assert asks_for(k, certs, "one.example.org", turn) == "one"
                assert asks_for(k, certs, "any.example.org", turn) == "wild"
                assert asks_for(k, certs, "localhost", turn) == "rest"
    finally:
        for backend in (one, wild, rest):
            backend.close()


def talks_tls(k, certs, server):
    """As asks_for(), where TLS ends at the relay."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    c = k.client()
    with context.wrap_socket(c.s, server_hostname=server) as tls:
        c.s = tls
        c.send("hello\n")
        return c.line(), c.line()


def test_tls_ends_here(certs, behind, tmp_path):
    """And the name that it was asked for is known by that."""
    where = address(behind, tmp_path)
    options = [word for name in ("host", "wild")
               for word in ("--tls-certificate", certs / f"{name}.pem",
                            "--tls-key", certs / f"{name}.key")]
    a, b = Backend(where, name="a"), Backend(name="b")
    try:
        with relaying(a.where, options=options) as k:
            assert talks_tls(k, certs, "localhost") == ("a", "hello")
        with relaying(a.where, f"{b.where} sni=*.example.org",
                      options=options) as k:
            assert talks_tls(k, certs, "localhost") == ("a", "hello")
            assert talks_tls(k, certs, "any.Example.org") == ("b", "hello")
    finally:
        a.close()
        b.close()


def test_tls_on_both_sides(certs):
    with s_server(certs, "host") as where:
        with relaying(f"{where} tls", options=[
                "--to-tls-ca", certs / "ca.pem", "--tls-certificate",
                certs / "host.pem", "--tls-key", certs / "host.key"]) as k:
            context = ssl.create_default_context(cafile=certs / "ca.pem")
            c = k.client()
            c.s = context.wrap_socket(c.s, server_hostname="localhost")
            c.send("hello\n")
            assert c.line() == "olleh"


def test_no_target_for_a_server_name(certs):
    backend = sealed(certs, "one", "one")
    try:
        with Failing(f"{backend.where} sni=one.example.org") as f:
            with pytest.raises((AssertionError, OSError)):
                asks_for(f, certs, "other.example.org")
            c = f.client()
            c.send("no TLS at all\n")
            assert c.closed()
            c = f.client()
            c.done()
            assert c.closed()
        assert "no target is up for other.example.org\n" in f.errors
        assert f.errors.count("no target is up\n") == 2
        assert backend.count == 0
    finally:
        backend.close()


def test_who_does_not_say_a_name(certs):
    backend = sealed(certs, "one", "one")
    try:
        with Failing(f"{backend.where} sni=one.example.org",
                     options=["--connect-timeout", "200ms"]) as f:
            assert f.client().closed()
        assert "it did not say which server it wants" in f.errors
    finally:
        backend.close()


# -- settings ------------------------------------------------------------------


@pytest.mark.parametrize("target, wrong", [
    ("", "to: '': the address is missing"),
    ("weight=3", "to: 'weight=3': the port is missing"),
    ("localhost", "to: 'localhost': the port is missing"),
    (":80", "to: ':80': the host is missing, such as localhost:8080"),
    ("fd:3", "to: 'fd:3': nobody can connect to a descriptor"),
    ("a:0", "to: 'a:0': the port is not in 1 to 65535"),
    ("a:99999", "to: 'a:99999': the port is not in 0 to 65535"),
    ("a:80 weight=0", "to: 'weight=0' is not a number from 1 to 1000"),
    ("a:80 weight=+1", "to: 'weight=+1' is not a number from 1 to 1000"),
    ("a:80 max=x", "to: 'max=x' is not a number from 1 to 10000000"),
    ("a:80 Backup", "to: 'a:80 Backup': 'Backup' is none of weight=N"),
    ("a:80 sni=", "to: 'a:80 sni=': sni: '' is not a host name"),
    ("a:80 sni=a,*b", "sni: '*b' is not a host name"),
    ("a:80 srv", "to: 'a:80': is no name of SRV records"),
    ("unix:", "to: 'unix:': the path is missing"),
])
def test_wrong_targets(target, wrong):
    done = once(*words([target]))
    assert done.returncode == USAGE
    assert wrong in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options, wrong", [
    ([], "to: is missing"),
    (["--to", "a:80", "--source", "localhost"],
     "source: 'localhost': is not an address"),
    (["--to", "a:80", "--nameservers", "ns.test"],
     "nameservers: 'ns.test': is no list of ADDRESS[:PORT]"),
    (["--to", "a:80", "--to-tls-ca", "x"],
     "to-tls-ca: no target has the word tls"),
    (["--to", "a:80 tls", "--to-tls-ca", "/no/such"],
     "to-tls-ca: /no/such: No such file or directory"),
    (["--to", "a:80 tls", "--to-tls-key", "x"],
     "to-tls-key: takes a to-tls-certificate"),
    (["--to", "unix:x tls"],
     "to: 'unix:x tls': TLS to a UNIX socket takes to-tls-servername"),
    (["--to", "a:80", "--retries", "16"],
     "retries: '16' is out of range (0 to 15"),
])
def test_wrong_settings(options, wrong):
    done = once("serve", "relay", *options)
    assert done.returncode == USAGE
    assert wrong in done.stderr
    assert done.stderr.count("\n") == 1


def test_from_a_file(tmp_path, certs):
    """As `kquay check -v' prints it, too."""
    conf = tmp_path / "kquay.conf"
    with s_server(certs, "host") as where, backends("spare") as (spare,):
        conf.write_text(f"""
            service "app" {{
                listen  = {{"127.0.0.1:0"}}
                handler = "relay"
                to      = {{"{where} weight=2 tls", "{spare.where} backup"}}
                balance = least
                queue   = 5
                to-tls {{
                    ca         = "{certs}/ca.pem"
                    servername = "localhost"
                }}
            }}""")
        printed = once("check", "-v", "-c", str(conf))
        assert printed.returncode == 0
        again = tmp_path / "again.conf"
        again.write_text(printed.stdout)
        assert once("check", "-v", "-c", str(again)).stdout == printed.stdout
        for file in (conf, again):
            with running("run", "-c", str(file)) as k:
                c = k.client()
                c.send("hello\n")
                assert c.line() == "olleh"


def test_an_error_in_a_file(tmp_path):
    conf = tmp_path / "kquay.conf"
    conf.write_text('service "x" {\n listen = {"127.0.0.1:0"}\n'
                    ' handler = "relay"\n to = {"a:80", "b"}\n}\n')
    done = once("check", "-c", str(conf))
    assert done.returncode == CONFIG
    assert f"{conf}:4: " in done.stderr and "the port is missing" in done.stderr
