"""libkquay's TLS with others': openssl s_client and s_server, and curl.

SEALED names the program.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

SEALED = os.environ["SEALED"]
DEADLINE = 20


class Process:
    """A process and the lines it prints; each can be waited for once."""

    def __init__(self, args, **kwargs):
        self.child = subprocess.Popen(
            [str(a) for a in args], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.PIPE, bufsize=0,
            **kwargs)
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line.decode(errors="replace").rstrip("\r\n"))

    def line(self, pattern):
        """The next line that matches; those before it are dropped."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"never {pattern!r}: {self.seen}")
            self.seen.append(line)
            if re.search(pattern, line):
                return line

    def type(self, text):
        self.child.stdin.write(text.encode())

    def end(self):
        self.child.stdin.close()

    def wait(self):
        return self.child.wait(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        if self.child.poll() is None:
            self.child.terminate()
        self.child.wait(DEADLINE)


def pair(certs, *names):
    return [certs / f for n in names for f in (f"{n}.pem", f"{n}.key")]


class Server(Process):
    def __init__(self, certs, *args):
        super().__init__([SEALED, "serve", *args])
        self.port = self.line(r"^\d+$")

    def __exit__(self, *exc):
        super().__exit__(*exc)
        # SIGTERM ends it well, unless the test has failed already.
        if exc[0] is None:
            assert self.child.returncode == 0


def s_client(certs, server, *args):
    return Process(["openssl", "s_client", "-connect",
                    f"127.0.0.1:{server.port}", "-CAfile", certs / "ca.pem",
                    "-verify_return_error", *args])


# -- openssl s_client ---------------------------------------------------------


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_s_client_talks(certs, version):
    with Server(certs, *pair(certs, "host")) as server:
        with s_client(certs, server, "-" + version, "-servername",
                      "localhost", "-verify_hostname", "localhost") as client:
            client.line("Verify return code: 0")
            client.type("hello there\n")
            client.line("^hello there$")
            server.line(f"^open {'TLSv1.2' if version == 'tls1_2' else 'TLSv1.3'} "
                        ".* name=localhost")
            client.type("Q\n")
            assert client.wait() == 0
            server.line("^close eof$")


def test_names_choose_certificates(certs):
    with Server(certs, *pair(certs, "host", "wild", "one")) as server:
        for name, subject in (("localhost", "localhost"),
                              ("a.example.org", "wild"),
                              ("one.example.org", "one"),
                              ("example.com", "localhost")):
            with s_client(certs, server, "-servername", name) as client:
                client.line(rf"^subject=CN = {subject}$")


def test_client_certificates(certs):
    with Server(certs, "-c", certs / "ca.pem", "-r",
                *pair(certs, "host")) as server:
        with s_client(certs, server, "-cert", certs / "alice.pem", "-key",
                      certs / "alice.key") as client:
            client.line("^Acceptable client certificate CA names")
            client.line("^CN = ca$")
            server.line("^open .* subject=CN=alice,O=Example verified=1")
        with s_client(certs, server) as client:
            client.line("alert certificate required")
            server.line("^refused Protocol error: peer did not return a certificate")
        with s_client(certs, server, "-cert", certs / "mallory.pem", "-key",
                      certs / "mallory.key") as client:
            client.line("alert unknown ca")
            server.line("^refused Permission denied: unable to get local issuer")


def test_alpn(certs):
    with Server(certs, "-a", "chat", *pair(certs, "host")) as server:
        with s_client(certs, server, "-alpn", "http/1.1,chat") as client:
            client.line("^ALPN protocol: chat$")
            server.line("protocol=chat")
        with s_client(certs, server, "-alpn", "http/1.1") as client:
            client.line("alert no application protocol")
            server.line("^refused Protocol error")


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_sessions_are_resumed(certs, tmp_path, version):
    with Server(certs, *pair(certs, "host")) as server:
        for flag, resumed in (("-sess_out", 0), ("-sess_in", 1)):
            with s_client(certs, server, "-" + version, flag,
                          tmp_path / "session") as client:
                client.line("Reused" if resumed else "^New")
                client.type("x\n")
                client.line("^x$")
                server.line(f"^open .* resumed={resumed}$")
                client.type("Q\n")
                client.wait()


def test_renegotiation_is_refused(certs):
    with Server(certs, *pair(certs, "host")) as server:
        with s_client(certs, server, "-tls1_2") as client:
            client.line("Verify return code: 0")
            client.type("R\n")
            client.line("no renegotiation")


def test_key_updates(certs):
    with Server(certs, *pair(certs, "host")) as server:
        with s_client(certs, server, "-tls1_3") as client:
            client.line("Verify return code: 0")
            for command in ("k", "K", "k"):
                client.type(command + "\n")
                client.line("^KEYUPDATE$")
                client.type(f"after {command}\n")
                client.line(f"^after {command}$")


def test_weak_clients_are_refused(certs):
    with Server(certs, *pair(certs, "host")) as server:
        for args, alert in (
                (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
                 "alert protocol version"),
                (["-tls1_2", "-cipher", "AES128-SHA"],
                 "alert handshake failure")):
            with s_client(certs, server, *args) as client:
                client.line(alert)
                server.line("^refused Protocol error")


def test_what_is_not_tls(certs):
    with Server(certs, *pair(certs, "host")) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            server.line("^refused Protocol error: http request$")
            s.settimeout(DEADLINE)
            # An alert, and the end.
            assert s.recv(100)[:1] in (b"\x15", b"")
        with s_client(certs, server) as client:
            client.line("Verify return code: 0")


def test_reload(certs, tmp_path):
    def use(name):
        for end in ("pem", "key"):
            shutil.copy(certs / f"{name}.{end}", tmp_path / f"c.{end}")

    use("host")
    with Server(certs, tmp_path / "c.pem", tmp_path / "c.key") as server:
        with s_client(certs, server) as before:
            before.line("^subject=CN = localhost$")
            before.line("Verify return code: 0")
            shutil.copy(certs / "new.pem", tmp_path / "c.pem")
            server.child.send_signal(signal.SIGHUP)
            server.line("^reload: .*/c.key: not the key of the certificate$")
            with s_client(certs, server) as client:
                client.line("^subject=CN = localhost$")
            use("new")
            server.child.send_signal(signal.SIGHUP)
            server.line("^reload$")
            with s_client(certs, server) as client:
                client.line("^subject=O = new, CN = localhost$")
            before.type("still here\n")
            before.line("^still here$")


# -- curl ----------------------------------------------------------------------


def curl(certs, server, path, *args, host="localhost"):
    return subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", str(DEADLINE),
         "--cacert", certs / "ca.pem", "--resolve",
         f"{host}:{server.port}:127.0.0.1", *args,
         f"https://{host}:{server.port}{path}"],
        capture_output=True, check=False, timeout=2 * DEADLINE)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_gets_much(certs, version):
    with Server(certs, *pair(certs, "host")) as server:
        # Nothing but the close_notify says that this is all.
        r = curl(certs, server, "/8388608", "--tls-max", version)
        assert r.returncode == 0, r.stderr
        assert len(r.stdout) == 8388608
        server.line(f"^open TLSv{version}")
        server.line("^close done$")


def test_curl_puts_much(certs, tmp_path):
    (tmp_path / "much").write_bytes(os.urandom(8 << 20))
    with Server(certs, *pair(certs, "host")) as server:
        r = curl(certs, server, "/", "-T", tmp_path / "much")
        assert r.returncode == 0, r.stderr
        assert r.stdout == b"thanks\n"


def test_curl_checks_names(certs):
    with Server(certs, *pair(certs, "host", "wild")) as server:
        assert curl(certs, server, "/1", host="a.example.org").stdout == b"x"
        r = curl(certs, server, "/1", host="example.org")
        assert r.returncode == 60, r.stderr


def test_curl_shows_a_certificate(certs):
    with Server(certs, "-c", certs / "ca.pem", "-r",
                *pair(certs, "host")) as server:
        r = curl(certs, server, "/1", "--cert", certs / "alice.pem", "--key",
                 certs / "alice.key")
        assert r.stdout == b"x", r.stderr
        server.line("subject=CN=alice,O=Example verified=1")
        assert curl(certs, server, "/1").returncode != 0


# -- openssl s_server ------------------------------------------------------------


@contextlib.contextmanager
def s_server(certs, *args):
    """Its port; it sends each line back the other way round."""
    with Process(["openssl", "s_server", "-accept", "127.0.0.1:0", "-rev",
                  "-cert", certs / "host.pem", "-cert_chain",
                  certs / "middle.pem", "-key", certs / "host.key",
                  *args]) as server:
        yield server.line("^ACCEPT 127.0.0.1:").rpartition(":")[2]


def dial(certs, port, *args, ca="ca", name="localhost"):
    return Process([SEALED, "dial", "-c", certs / f"{ca}.pem", "-n", name,
                    "127.0.0.1", port, *args])


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_s_server_is_dialled(certs, version):
    with s_server(certs, "-" + version) as port:
        with dial(certs, port) as client:
            client.line("^open .* subject=CN=localhost verified=1")
            client.line("^line olleh$")
            client.line("^close done$")
            assert client.wait() == 0


def test_s_server_is_not_believed(certs):
    with s_server(certs) as port:
        with dial(certs, port, ca="ca2") as client:
            client.line("^close error Permission denied: unable to get "
                        "(local )?issuer certificate$")
        with dial(certs, port, name="example.com") as client:
            client.line("^close error Permission denied: hostname mismatch$")


def test_s_server_asks_for_a_certificate(certs):
    with s_server(certs, "-Verify", "3", "-CAfile", certs / "ca.pem",
                  "-verify_return_error") as port:
        with dial(certs, port, *pair(certs, "alice")) as client:
            client.line("^line olleh$")
        with dial(certs, port) as client:
            client.line("^close error Protocol error: .*alert")
