"""The PROXY protocol with HAProxy on both sides of libkquay.

PROXIED names the server of proxied.c, whose head says what it tells.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest

PROXIED = os.environ["PROXIED"]
HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
DEADLINE = 20

needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not there")


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module", name="folder")
def fixture_folder(tmp_path_factory):
    """Where an authority, a server and a client have their certificates."""
    folder = tmp_path_factory.mktemp("proxy")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    for name, subject in (("server", "/CN=localhost"), ("client", "/O=Example, Inc./CN=alice")):
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{name}.crt")
        (folder / f"{name}.pem").write_bytes(
            (folder / f"{name}.crt").read_bytes() + (folder / f"{name}.key").read_bytes()
        )
    return folder


@pytest.fixture(scope="module", name="ports")
def fixture_ports(folder):
    """Of the server: for PROXY headers, plain, with TLS."""
    with subprocess.Popen([PROXIED, folder], stdout=subprocess.PIPE, text=True) as server:
        yield [int(port) for port in server.stdout.readline().split()]
        server.terminate()
        assert server.wait(DEADLINE) == 0


FRONTENDS = {
    # name: (bind options, server options)
    "v1": ("", "send-proxy"),
    "v2": ("", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    "tls": (
        "ssl crt {folder}/server.pem ca-file {folder}/ca.pem verify optional alpn echo",
        "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c",
    ),
    "accept": ("accept-proxy", "send-proxy-v2 proxy-v2-options crc32c"),
    "unix": ("accept-proxy", "send-proxy"),
    "checked": ("", "send-proxy-v2 check check-send-proxy inter 50ms"),
}


@pytest.fixture(scope="module", name="frontends")
def fixture_frontends(folder, ports):
    """HAProxy's port for each of FRONTENDS.  The sockets are made here, so
    that nobody else can take their ports."""
    sockets = {}
    text = "defaults\n mode tcp\n timeout client 20s\n timeout server 20s\n timeout connect 5s\n"
    for name, (bind, server) in FRONTENDS.items():
        sockets[name] = socket.create_server(("127.0.0.1", 0))
        where = f"unix@{folder}/proxied" if name == "unix" else f"127.0.0.1:{ports[0]}"
        text += f"""
listen {name}
 bind fd@{sockets[name].fileno()} {bind.format(folder=folder)}
 unique-id-format id-of-%cp
 server s {where} {server}
"""
    (folder / "haproxy.cfg").write_text(text)
    command = [HAPROXY, "-db", "-f", folder / "haproxy.cfg"]
    with open(folder / "haproxy.log", "wb") as log, subprocess.Popen(
        command, stderr=log, stdout=log, pass_fds=[s.fileno() for s in sockets.values()]
    ) as haproxy:
        yield {name: s.getsockname()[1] for name, s in sockets.items()}
        haproxy.terminate()
        haproxy.wait(DEADLINE)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def line(s):
    got = b""
    while not got.endswith(b"\n"):
        part = s.recv(4096)
        assert part, f"the end after {got}"
        got += part
    return got.decode().rstrip("\n")


def me(s):
    host, port = s.getsockname()[:2]
    return f"{host}:{port}"


def with_tls(s, folder, cert=None):
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["echo"])
    if cert:
        context.load_cert_chain(folder / f"{cert}.pem")
    return context.wrap_socket(s, server_hostname="www.example.org")


@needs_haproxy
@pytest.mark.parametrize("name", ["v1", "v2", "checked"])
def test_haproxy_tells_of_its_client(frontends, name):
    for _ in range(3):
        with connect(frontends[name]) as s:
            want = f"peer {me(s)} local 127.0.0.1:{frontends[name]}"
            if name == "v2":
                want += f" id=id-of-{s.getsockname()[1]}"
            assert line(s) == want


@needs_haproxy
@pytest.mark.parametrize("cert", [None, "client"])
def test_haproxy_tells_of_tls(frontends, folder, cert):
    with connect(frontends["tls"]) as plain:
        peer = me(plain)
        with with_tls(plain, folder, cert) as s:
            told = line(s)
            assert told.startswith(f"peer {peer} local 127.0.0.1:{frontends['tls']} ")
            assert " alpn=echo" in told
            assert " version=TLSv1.3" in told and f" cipher={s.cipher()[0]}" in told
            assert (" cn=alice" in told) == (cert is not None)
            assert re.search(r" ssl=(\w+) verify=0", told)[1] == ("7" if cert else "1")


@needs_haproxy
@pytest.mark.parametrize("name", ["accept", "unix"])
@pytest.mark.parametrize("version", [1, 2])
def test_haproxy_is_told(frontends, ports, name, version):
    """From us to HAProxy, which tells us in turn."""
    with connect(ports[1]) as s:
        assert line(s) == f"peer {me(s)} local 127.0.0.1:{ports[1]}"
        s.sendall(f"{version} 127.0.0.1 {frontends[name]}\n".encode())
        assert line(s) == f"peer {me(s)} local 127.0.0.1:{ports[1]}"


@needs_haproxy
def test_haproxy_is_told_of_tls(frontends, folder, ports):
    """Its check of the sum holds with all the fields of ours."""
    with with_tls(connect(ports[2]), folder, "client") as s:
        assert line(s) == f"peer {me(s)} local 127.0.0.1:{ports[2]}"
        s.sendall(f"2 127.0.0.1 {frontends['accept']}\n".encode())
        assert line(s).startswith(f"peer {me(s)} local 127.0.0.1:{ports[2]}")


@needs_haproxy
def test_haproxy_refuses_who_tells_nothing(frontends, ports):
    with connect(ports[1]) as s:
        line(s)
        s.sendall(f"0 127.0.0.1 {frontends['accept']}\nx\n".encode())
        with pytest.raises(AssertionError, match="the end"):
            line(s)


@pytest.mark.parametrize("cert", [None, "client"])
def test_we_tell_of_tls(folder, ports, cert):
    with with_tls(connect(ports[2]), folder, cert) as s:
        assert line(s) == f"peer {me(s)} local 127.0.0.1:{ports[2]}"
        s.sendall(f"2 127.0.0.1 {ports[0]}\n".encode())
        want = (
            f"peer {me(s)} local 127.0.0.1:{ports[2]} alpn=echo authority=www.example.org "
            f"version=TLSv1.3{' cn=alice' if cert else ''} cipher={s.cipher()[0]} "
            f"ssl={'7' if cert else '1'} verify=0"
        )
        assert line(s) == want


def test_over_a_unix_socket(folder, ports):
    with connect(ports[1]) as s:
        line(s)
        for version in 1, 2:
            s.sendall(f"{version} {folder}/proxied -\n".encode())
            assert line(s) == f"peer {me(s)} local 127.0.0.1:{ports[1]}"
