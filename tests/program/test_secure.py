"""TLS and the PROXY protocol of services, with openssl, curl and others."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess

import pytest

from kquay import (CONFIG, DEADLINE, USAGE, Client, address, connect, once,
                   running)

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def pair(certs, *names):
    """The options for these certificates."""
    return [word for n in names
            for word in ("--tls-certificate", str(certs / f"{n}.pem"),
                         "--tls-key", str(certs / f"{n}.key"))]


def believing(certs, name=None):
    """A client's context; with a certificate of its own if it has a name."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    if name:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    return context


class Sealed(Client):
    """A client with TLS, over a connection that may have begun already."""

    def __init__(self, where, context, before=b""):
        s = connect(where)
        s.sendall(before)
        self.s = context.wrap_socket(s, server_hostname="localhost")
        self.buffer = b""


def answer(k, text):
    """What comes back from who has had enough of it before its end."""
    c = k.client()
    with contextlib.suppress(OSError):
        c.send(text)
        c.done()
    return c.drain()


def s_client(where, certs, *args, text=b"Q\n"):
    """What openssl s_client says, who types text."""
    host, port = where.rsplit(":", 1)
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile",
         str(certs / "ca.pem"), "-verify_return_error", *map(str, args)],
        input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=DEADLINE, check=False).stdout.decode(errors="replace")


# -- TLS -----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_chat(certs, family, version, tmp_path):
    context = believing(certs)
    context.maximum_version = ssl.TLSVersion[version]
    with running("serve", "chat", "-l", address(family, tmp_path),
                 *pair(certs, "host")) as k:
        a, b = (Sealed(k.where, context) for _ in range(2))
        k.clients += [a, b]
        assert a.line() == b.line() == "welcome!"
        assert a.s.version() == version.replace("_", ".")
        a.send("x" * 8000 + "\nhello\n")
        assert b.line().endswith(": " + "x" * 8000)
        assert b.line().endswith(": hello")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_echo_of_much(certs, family, version, tmp_path):
    """Through openssl, which reads and writes when it likes."""
    much = os.urandom(1 << 20).hex().encode() + b"\n"
    with running("serve", "echo", "-l", address(family, tmp_path),
                 *pair(certs, "host"), "--idle-timeout", "1s") as k:
        to = ["-unix", k.where[5:]] if family == "unix" else \
            ["-connect", k.where]
        r = subprocess.run(
            ["openssl", "s_client", *to, "-quiet", "-no_ign_eof", version,
             "-CAfile", str(certs / "ca.pem"), "-verify_return_error",
             "-nocommands", "-ign_eof"],
            input=much, capture_output=True, timeout=DEADLINE, check=False)
        assert r.stdout == much


def test_names_choose_certificates(certs):
    with running("serve", "echo", "-l", "127.0.0.1:0",
                 *pair(certs, "host", "one", "wild")) as k:
        for name, subject in (("localhost", "localhost"),
                              ("one.example.org", "one"),
                              ("two.example.org", "wild"),
                              ("example.com", "localhost")):
            out = s_client(k.where, certs, "-servername", name)
            assert f"subject=CN = {subject}\n" in out, out
            assert "Verify return code: 0 (ok)" in out


def test_key_in_the_same_file(certs):
    with running("serve", "echo", "-l", "127.0.0.1:0", "--tls-certificate",
                 str(certs / "both.pem")) as k:
        assert "Verify return code: 0 (ok)" in s_client(k.where, certs)


@pytest.mark.parametrize("client", ["ask", "require"])
def test_client_certificates(certs, client):
    with running("serve", "chat", "-l", "127.0.0.1:0", *pair(certs, "host"),
                 "--tls-client", client,
                 "--tls-client-ca", str(certs / "ca.pem")) as k:
        alice = Sealed(k.where, believing(certs, "alice"))
        k.clients.append(alice)
        assert alice.line() == "welcome!"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Sealed(k.where, believing(certs, "mallory")).line()
        nobody = Sealed(k.where, believing(certs))
        if client == "ask":
            assert nobody.line() == "welcome!"
            nobody.close()
        else:
            with pytest.raises(ssl.SSLError, match="certificate required"):
                nobody.line()


@pytest.mark.parametrize("options, client, says", [
    (["--tls-alpn", "chat", "--tls-alpn", "h2"], ["-alpn", "h2,chat"],
     "ALPN protocol: chat\n"),
    (["--tls-alpn", "chat"], ["-alpn", "h2"],
     "alert no application protocol"),
    (["--tls-min-version", "1.3"], ["-tls1_2"], "alert protocol version"),
    (["--tls-min-version", "1.3"], [], "New, TLSv1.3"),
    ([], ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version"),
    ([], ["-tls1_2", "-cipher", "AES256-SHA"], "alert handshake failure"),
    (["--tls-ciphers", "AES256-SHA"], ["-tls1_2", "-cipher", "AES256-SHA"],
     "Cipher is AES256-SHA\n"),
    (["--tls-suites", "TLS_CHACHA20_POLY1305_SHA256"], ["-tls1_3"],
     "Cipher is TLS_CHACHA20_POLY1305_SHA256\n"),
])
def test_policy(certs, options, client, says):
    with running("serve", "echo", "-l", "127.0.0.1:0",
                 *pair(certs, "rsa"), *options) as k:
        assert says in s_client(k.where, certs, *client)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_are_resumed(certs, version, tmp_path):
    """Also where the caller comes to another address of the service."""
    with running("serve", "chat", "-l", "127.0.0.1:0", "-l", "127.0.0.1:0",
                 *pair(certs, "host")) as k:
        session = tmp_path / "session"
        args = ["openssl", "s_client", "-CAfile", str(certs / "ca.pem"),
                version, "-connect"]
        for where, flag, says in ((k.listening[0], "-sess_out", "New, TLS"),
                                  (k.listening[1], "-sess_in", "Reused, TLS")):
            # The ticket of TLS 1.3 comes with the first bytes.
            with subprocess.Popen([*args, where, flag, str(session)],
                                  stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL) as p:
                out = b""
                while b"welcome!" not in out:
                    part = os.read(p.stdout.fileno(), 4096)
                    assert part, out
                    out += part
                p.communicate(b"Q\n", timeout=DEADLINE)
            assert says in out.decode(), out


def test_curl(certs):
    with running("serve", "echo", "-l", "127.0.0.1:0", *pair(certs, "host"),
                 "--idle-timeout", "500ms") as k:
        port = k.where.rsplit(":", 1)[1]
        r = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--http0.9", "--cacert",
             str(certs / "ca.pem"), "--max-time", str(DEADLINE), "-d",
             "a body", f"https://127.0.0.1:{port}/path"],
            capture_output=True, timeout=2 * DEADLINE, check=False)
        assert r.returncode == 0, r.stderr
        assert r.stdout.startswith(b"POST /path HTTP/1.1\r\n")
        assert r.stdout.endswith(b"\r\n\r\na body")


def test_garbage_is_refused(certs):
    """And the next one is served."""
    with running("serve", "chat", "-l", "127.0.0.1:0",
                 *pair(certs, "host")) as k:
        for text in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, b"\x16\x03\x01",
                     b"\x16\x03\x01\xff\xff" + b"\xff" * 70000):
            assert b"welcome" not in answer(k, text)
        c = Sealed(k.where, believing(certs))
        k.clients.append(c)
        assert c.line() == "welcome!"


# -- the PROXY protocol -----------------------------------------------------------


def header(version, family):
    """A header, and how it calls the peer."""
    if version == "v1" and family == "tcp4":
        return (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n",
                "192.0.2.7:4711")
    if version == "v1":
        return (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n",
                "[2001:db8::7]:4711")
    if family == "tcp4":
        body = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1")
        body += struct.pack("!HH", 4711, 80)
        return V2 + struct.pack("!BBH", 0x21, 0x11, len(body)) + body, \
            "192.0.2.7:4711"
    body = b"".join(socket.inet_pton(socket.AF_INET6, a)
                    for a in ("2001:db8::7", "2001:db8::1"))
    body += struct.pack("!HH", 4711, 80)
    return V2 + struct.pack("!BBH", 0x21, 0x21, len(body)) + body, \
        "[2001:db8::7]:4711"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("said", ["tcp4", "tcp6"])
def test_proxy(certs, family, said, version, tls, tmp_path):
    text, name = header(version, said)
    with running("serve", "chat", "-l", address(family, tmp_path),
                 "--proxy-protocol", "on",
                 *(pair(certs, "host") if tls else [])) as k:
        if tls:
            a, b = (Sealed(k.where, believing(certs), text) for _ in range(2))
            k.clients += [a, b]
        else:
            a, b = k.client(), k.client()
            a.send(text)
            b.send(text)
        assert a.line() == b.line() == "welcome!"
        a.send("hello\n")
        assert b.line() == f"{name}: hello"


@pytest.mark.parametrize("text", [b"GET / HTTP/1.0\r\n\r\n", b"PROXY \r\n",
                                  b"PROXY TCP4 1.2.3.4\r\n", V2 + b"\xff" * 4,
                                  b"hello\n" + b"x" * 300])
def test_no_header_no_service(text):
    with running("serve", "chat", "-l", "127.0.0.1:0",
                 "--proxy-protocol", "on") as k:
        assert b"welcome" not in answer(k, text)


def test_sources_are_those_of_the_header(certs):
    with running("serve", "chat", "-l", "127.0.0.1:0", "-s", "1",
                 "--proxy-protocol", "on") as k:
        def come(source):
            c = k.client()
            c.send(f"PROXY TCP4 {source} 198.51.100.1 4711 80\r\n")
            return c
        first, second = come("192.0.2.1"), come("192.0.2.2")
        assert first.line() == second.line() == "welcome!"
        assert come("192.0.2.1").line() == "connection refused"


def test_curl_is_a_proxy(certs):
    with running("serve", "echo", "-l", "127.0.0.1:0", "--proxy-protocol",
                 "on", *pair(certs, "host"), "--idle-timeout", "500ms") as k:
        port = k.where.rsplit(":", 1)[1]
        r = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--http0.9", "--cacert",
             str(certs / "ca.pem"), "--haproxy-protocol",
             "--max-time", str(DEADLINE), f"https://127.0.0.1:{port}/path"],
            capture_output=True, timeout=2 * DEADLINE, check=False)
        assert r.returncode == 0, r.stderr
        assert r.stdout.startswith(b"GET /path HTTP/1.1\r\n")


def test_exec_knows_whom_the_proxy_means():
    """And not a byte behind the header is lost."""
    with running("serve", "exec", "-l", "127.0.0.1:0", "--proxy-protocol",
                 "on", "--", "/bin/sh", "-c",
                 "echo $TCPREMOTEIP $TCPREMOTEPORT; cat") as k:
        c = k.client()
        c.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nmore\n")
        c.done()
        assert c.rest() == b"192.0.2.7 4711\nmore\n"


# -- what is wrong is said -----------------------------------------------------------


@pytest.mark.parametrize("section, line, says", [
    ('certificate = "host.pem"\nkey = "new.key"', 5,
     "tls-key: new.key: not the key of the certificate"),
    ('certificate = "host.pem"\nkey = "missing.key"', 5,
     "tls-key: missing.key: No such file or directory"),
    ('certificate = "missing.pem"', 4,
     "tls-certificate: missing.pem: No such file or directory"),
    ('certificate = "garbage"', 4, r"tls-certificate: garbage: "),
    ('certificate = "host.pem"\nkey = "locked.key"', 5,
     r"tls-key: locked.key: "),
    ('\nciphers = "nonsense"\ncertificate = "both.pem"', 5,
     "tls-ciphers: nonsense: "),
    ('certificate = "both.pem"\nsuites = "nonsense"', 5,
     "tls-suites: nonsense: "),
    ('certificate = "both.pem"\nclient = ask\nclient-ca = "garbage"', 6,
     "tls-client-ca: garbage: "),
    ('certificate = "both.pem"\nalpn = {"h2", ""}', 5,
     "tls-alpn: '': is not the name of a protocol"),
    ('certificate = {"host.pem", "both.pem"}\nkey = "host.key"', 5,
     "tls-key: takes one for each tls-certificate"),
])
def test_check(certs, section, line, says, tmp_path):
    for name in ("host.pem", "host.key", "new.key", "both.pem", "locked.key"):
        shutil.copy(certs / name, tmp_path / name)
    (tmp_path / "garbage").write_text("no certificate\n")
    (tmp_path / "k.conf").write_text(
        'service "s" {\nhandler = echo listen = "127.0.0.1:0"\ntls {\n'
        f"{section}\n}}\n}}\n")
    r = once("check", "-c", "k.conf", cwd=tmp_path)
    assert (r.returncode, r.stdout) == (CONFIG, "")
    assert r.stderr.startswith(f"k.conf:{line}: ")
    assert says in r.stderr
    assert r.stderr.count("\n") == 1


def test_exec_takes_no_tls(certs):
    r = once("serve", "exec", *pair(certs, "host"), "--", "/bin/cat")
    assert (r.returncode, r.stdout) == (USAGE, "")
    assert r.stderr.startswith("kquay: tls-certificate: ")


def test_printed_reads_the_same(certs, tmp_path):
    (tmp_path / "k.conf").write_text(
        'service "s" { handler = echo listen = "127.0.0.1:0"\n'
        f'tls {{ certificate = {{"{certs}/host.pem", "{certs}/one.pem"}}\n'
        f'key = "{certs}/host.key" }}\n proxy-protocol = on\n'
        f'tls {{ key += {{"{certs}/one.key"}} min-version = 1.3\n'
        f'client = require client-ca = "{certs}/ca.pem" alpn = h2 }}\n }}\n')
    first = once("check", "-v", "-c", str(tmp_path / "k.conf"))
    assert first.stderr == ""
    assert re.search(r"\ttls \{\n\t\tcertificate = \{.*host.pem\", .*one.pem",
                     first.stdout)
    (tmp_path / "k.conf").write_text(first.stdout)
    again = once("check", "-v", "-c", str(tmp_path / "k.conf"))
    assert again.stdout == first.stdout
