"""kquay serve relay: clients and servers with kquay in between."""

import contextlib
import hashlib
import os
import resource
import socket

import pytest

from backends import Backend, backends, blackhole, receive
from kquay import CONFIG, DEADLINE, USAGE, once, running, until
from process import memory
from relays import (MIB, fixture_behind, pair, relaying,
                    s_server, sending, words)


# -- bytes ---------------------------------------------------------------------


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


@pytest.mark.skipif("KQUAY_SANITIZE" in os.environ,
                    reason="a sanitizer has memory of its own")
def test_idle_pairs_take_little_memory(tmp_path):
    """Of each caller 64 bytes have gone there and back."""
    count = 4000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count + 200:
        pytest.skip(f"no more than {hard} descriptors")
    # With this glibc would write to all that calloc(3) returns.
    env = {k: v for k, v in os.environ.items() if k != "MALLOC_PERTURB_"}

    def start(where, *options):
        return stack.enter_context(running(
            "serve", *options, "-l", f"unix:{tmp_path}/{where}", "-n", str(count + 8), env=env))

    def call():
        c = k.client()
        c.send("x" * 63 + "\n")
        assert c.line() == "x" * 63

    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        behind = start("behind", "echo")
        k = start("front", "relay", "--to", behind.where)
        call()  # what is allocated once is not for a connection
        before = memory(k.p.pid)
        for _ in range(count):
            call()
        each = (memory(k.p.pid) - before) / count
        # Less than this is no measurement.
        assert 200 < each < 420


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
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        s.recv(1)
        for _ in range(512):
            s.sendall(block)
            sent.append(len(block))

    with pair(family, behind, tmp_path, serve) as (k, backend):
        before = k.rss()
        c = k.client()
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        # No byte may come before its kernel knows that it has little room.
        c.send("!")
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
    ([], "kquay: serve relay: --to TARGET is missing "
     "(see kquay serve relay --help)"),
    (["--to", "a:80", "-n", "7000001"],
     "max-connections: a relay has 7000000 at most"),
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
