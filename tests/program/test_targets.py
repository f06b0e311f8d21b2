"""kquay serve relay: which target gets a caller."""

import collections
import contextlib
import socket
import threading
import time

import pytest

from backends import Backend, backends, blackhole, nobody, receive
from kquay import DEADLINE, connect, until
from relays import Failing, fixture_behind, fixture_workers, names, pair, relaying
from stream import RESET


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
        assert f.errors == (f"relay: {who}: {two}: "
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
            before = k.descriptors()
            gone = connect(k.where)
            until(lambda: k.descriptors() > before, "it waits")
            with_it = k.descriptors()
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            gone.close()
            until(lambda: k.descriptors() < with_it, "it has left")
            next_ = k.client()
            first.done()
            assert next_.line() == "a"
            assert a.count == 2


def test_the_queue_of_many(workers):
    """60 callers, of all workers, two at a time."""
    now, most, lock = [0], [0], threading.Lock()
    first, both = [None] * 2, threading.Barrier(2)

    def serve(s):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            waits = first and not first.pop()
        if waits:
            both.wait(DEADLINE)
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
                "--connect-timeout", "300ms", "--retries", 9, "--balance",
                "first", "--retry-timeout", "400ms"]) as f:
            assert f.client().closed()
        last = f.errors.split(": ")[2]
        assert last in holes[:2]


def test_who_leaves_while_it_is_dialled():
    """The attempt ends with its caller."""
    with blackhole() as hole:
        with relaying(hole, options=["--connect-timeout", "1m"]) as k:
            before = k.descriptors()
            c = connect(k.where)
            until(lambda: k.descriptors() == before + 2, "it dials")
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            c.close()
            until(lambda: k.descriptors() == before, "both are gone")


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
        assert f.errors == (f"relay: target {dead} is left "
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
        before = k.descriptors()
        dying.send(b"x")
        assert dying.closed()
        dying.close()
        until(lambda: k.descriptors() == before - 2, "both ends are gone")
        live.done()
        assert live.rest() == b""


def test_limits_of_the_pair():
    with backends("a") as (a,):
        with relaying(a.where, options=["--idle-timeout", "1s"]) as k:
            c = k.client()
            assert c.line() == "a"
            for _ in range(5):
                time.sleep(0.3)
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


def test_a_server_that_takes_its_time():
    """It is not done when its caller's place is another's already."""
    go = threading.Event()
    first = []

    def serve(s):
        if first:
            s.sendall(b"hello\n")
            return
        first.append(s)
        go.wait(DEADLINE)
        receive(s)

    backend = Backend(serve=serve)
    try:
        with relaying(backend.where, options=["-n", 1, "--life-timeout",
                                              "300ms", "--linger", "1m"]) as k:
            c = k.client()
            c.s.settimeout(0.1)
            with contextlib.suppress(OSError):
                while True:
                    c.send(bytes(65536))
            c.s.settimeout(DEADLINE)
            assert c.closed()
            c.close()
            until(lambda: k.client().drain() == b"hello\n", "another one")
            go.set()
    finally:
        backend.close()


def test_a_line_for_each():
    """The log says where to, and whose end was the reason."""
    def serve(s):
        word = s.recv(100)
        s.sendall(word)
        if word == b"die":
            s.recv(100)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif word == b"end":
            receive(s)
        else:
            assert s.recv(100) == b""

    backend = Backend(serve=serve)
    with Failing(backend.where, options=["--log-level", "info",
                                         "--idle-timeout", "200ms"]) as f:
        for word in (b"die", b"end", b"idle"):
            c = f.client()
            c.send(word)
            assert c.s.recv(100) == word
            if word == b"end":
                c.done()
            elif word == b"die":
                c.send("x")
            assert c.closed()
            c.close()
    start, *lines = f.errors.splitlines()
    assert "connections take at most " in start
    assert len(lines) == 3
    assert all(f" to={backend.where} " in line for line in lines)
    assert " why=error error=" in lines[0] and "reset" in lines[0]
    assert lines[1].endswith(" why=eof")
    assert lines[2].endswith(" why=idle")
    assert not backend.errors
    backend.close()


def test_nothing_is_left_behind(workers):
    """600 connections, 30 at a time, some of them refused."""
    with backends("a", "b") as (a, b), nobody() as dead:
        with relaying(a.where, b.where, dead,
                      options=["--fail-limit", "none", "-n", 40,
                               *workers]) as k:
            assert names(k, 3).total() == 3
            before = k.descriptors()
            for _ in range(20):
                clients = [k.client() for _ in range(30)]
                for c in clients:
                    assert c.line() in "ab"
                    c.done()
                    assert c.rest() == b""
                    c.close()
            until(lambda: k.descriptors() == before, "all are closed")


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
