"""kquay serve relay: names of targets, what they are told, and TLS."""

import contextlib
import json
import signal
import socket
import ssl
import struct
import threading

import pytest

from backends import Backend, backends, nameserver, receive
from kquay import address, once, running, until
from ports import has_ipv6
from relays import (Failing, fixture_behind, fixture_workers,
                    names, pair, relaying, s_server)


# -- names ---------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--fail-limit", "none"),
                                     ("--check", "50ms")])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_server_on_one_family(host, options, tmp_path):
    """localhost is called at its other address once at most, and that is no
    fault: neither the log nor the status says so."""
    if not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    control = str(tmp_path / "control")
    server = socket.create_server(
        (host, 0), backlog=64,
        family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    where = f"localhost:{server.getsockname()[1]}"

    def status():
        told = json.loads(once("status", "-j", "-s", control).stdout)
        return told["services"][0]

    def serve():
        while True:
            try:
                s, _ = server.accept()
            except OSError:
                return
            s.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with running("serve", "relay", "-l", "127.0.0.1:0", "--control",
                     control, "--to", where, *options) as k:
            def call():
                c = k.client()
                assert c.drain() == b""
                c.close()

            for _ in range(100):
                call()
            if "--check" in options:
                until(lambda: len(status()["targets"]) == 1, "the checks")
            else:
                assert status()["dialled"] <= 101
            told = {t["address"]: t for t in status()["targets"]}
            ours, = (t for where, t in told.items() if host in where)
            assert ours["dialled"] == 100
            for t in told.values():
                assert (t["up"], t["failures"]) == (True, 0), told
            # Then there is none at all: that is a fault, told of both.
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            call()
            if "--check" in options:
                until(lambda: not any(t["up"] for t in status()["targets"]),
                      "it is down")
            k.signal()
            code, errors = k.wait()
            assert code == 0
            assert ("is down" in errors) == ("--check" in options), errors
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


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
        target = f"relay: target app.test:{one.port}: "
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


def test_a_reload_changes_the_names(tmp_path):
    """Who is connected stays, but nobody asks for the old name any more."""
    conf = tmp_path / "kquay.conf"

    def write(name, ns, port):
        conf.write_text(f"""
            service "app" {{
                listen      = {{"unix:{tmp_path}/s"}}
                handler     = "relay"
                to          = {{"{name}:{port}"}}
                nameservers = "{ns.where}"
            }}""")

    with two_with_one_port() as (one, two), \
            nameserver({"old.test": ["127.0.3.1"],
                        "new.test": ["127.0.3.2"]}) as ns:
        write("old.test", ns, one.port)
        with running("run", "-c", str(conf)) as k:
            old = k.client()
            assert old.line() == "one"
            write("new.test", ns, one.port)
            k.signal(signal.SIGHUP)
            until(lambda: names(k, 1) == {"two": 1}, "the new name is used")
            until(lambda: ns.asked_for["new.test"] > 2, "it is asked for")
            before = ns.asked_for["old.test"]
            until(lambda: ns.asked_for["new.test"] > 6, "again and again")
            assert ns.asked_for["old.test"] == before
            old.send("still here\n")
            assert old.line() == "still here"
            k.signal()
            status, errors = k.wait()
            assert status == 0 and "level=error" not in errors, errors


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


def test_srv(workers):
    """Hosts, ports, weights; those of the next priority if none is up."""
    with backends("a", "b", "c") as (a, b, c):
        records = [(20, 0, int(c.port), "c.test"),
                   (10, 3, int(a.port), "a.test"),
                   (10, 1, int(b.port), "b.test")]
        hosts = {f"{n}.test": ["127.0.0.1"] for n in "abc"}
        with nameserver({"_app._tcp.test": records, **hosts}) as ns:
            options = ["--nameservers", ns.where, "--fail-limit", "none",
                       *workers]
            with Failing("_app._tcp.test srv", options=options) as f:
                assert names(f, 12) == {"a": 9, "b": 3}
                old = f.client()
                assert old.line() in "ab"
                ns.names["_app._tcp.test"] = [records[0], records[2]]
                until(lambda: names(f, 2) == {"b": 2}, "a is gone")
                b.close()
                assert names(f, 4) == {"c": 4}
                old.send("still here\n")
                assert old.line() == "still here"
            assert f.errors.count("is gone") == 1
            assert f"127.0.0.1:{a.port} is gone\n" in f.errors


def test_srv_and_tls(certs):
    """The certificate is for the host that the record names."""
    with s_server(certs, "wild") as where:
        port = int(where.rsplit(":", 1)[1])
        names_ = {"_app._tcp.test": [(0, 0, port, "any.example.org")],
                  "any.example.org": ["127.0.0.1"]}
        with nameserver(names_) as ns:
            with relaying("_app._tcp.test srv tls",
                          options=["--nameservers", ns.where, "--to-tls-ca",
                                   certs / "ca.pem"]) as k:
                c = k.client()
                c.send("hello\n")
                assert c.line() == "olleh"


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
