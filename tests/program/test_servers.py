"""The programs of examples/ that are servers of libkquay's, with real clients.

KQUAY_EXAMPLES names the folder with the built programs.
"""

import os
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

import pytest

from test_examples import Client, caller, listening, start, until  # noqa: F401 (a fixture)


def lines(c, *want):
    """Exactly these lines come next."""
    text = "".join(f"{line}\n" for line in want).encode()
    got = c.recv(len(text))
    assert got == text


def ends(server):
    server.p.send_signal(signal.SIGTERM)
    assert server.p.wait(10) == 0


class Tls(Client):
    """A client with TLS that believes everybody."""

    def __init__(self, port):
        super().__init__(socket.AF_INET, ("127.0.0.1", port))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.s = context.wrap_socket(self.s)


def enter(c, name):
    assert c.recv(11) == b"your name: "
    c.send(f"{name}\n".encode())
    lines(c, "you are in lobby")


def rooms(connect):
    alice, bob, carol = connect(), connect(), connect()
    enter(alice, "alice")
    enter(bob, "bob")
    lines(alice, "bob enters")
    enter(carol, "carol")
    lines(alice, "carol enters")
    lines(bob, "carol enters")
    bob.send(b"hello\n")
    lines(alice, "bob: hello")
    lines(carol, "bob: hello")
    bob.send(b"/join attic\n")
    lines(alice, "bob leaves")
    lines(carol, "bob leaves")
    lines(bob, "you are in attic")
    bob.send(b"anybody?\n/nonsense\n")
    lines(bob, "/join ROOM, /who or /quit")
    carol.send(b"/join attic\n")
    lines(alice, "carol leaves")
    lines(bob, "carol enters")
    lines(carol, "you are in attic")
    carol.send(b"/quit\n")
    lines(bob, "carol has gone")
    assert carol.rest() == b""
    alice.send(b"/who\n")
    host, port = alice.s.getsockname()
    lines(alice, f"alice from {host}:{port}")
    nobody = connect()
    assert nobody.recv(11) == b"your name: "
    nobody.send(b"x" * 40 + b"\n")
    assert nobody.recv(24) == b"a shorter name, please: "
    nobody.s.close()


def test_rooms(start):
    server = start("rooms", "0")
    rooms(server.connect)
    ends(server)


def test_rooms_with_tls(start, tmp_path):
    pem = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True)
    pem.write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
    server = start("rooms", "0", str(pem))
    rooms(lambda: Tls(server.listens()))
    ends(server)


def test_rooms_without_a_certificate(start, tmp_path):
    server = start("rooms", "0", str(tmp_path / "missing.pem"))
    assert server.p.wait(10) == 1
    until(lambda: b"missing.pem" in server.err, "a word about the file")


def test_keyvalue(start):
    server = start("keyvalue", "0")
    c = server.connect()
    for request, answer in (
        ("GET a", "NONE"), ("SET a 1", "OK"), ("GET a", "VALUE 1"),
        ("SET a two words", "OK"), ("GET a", "VALUE two words"), ("COUNT", "1"),
        ("SET b ", "OK"), ("GET b", "VALUE "), ("COUNT", "2"), ("DEL a", "OK"),
        ("DEL a", "NONE"), ("GET a", "NONE"), ("COUNT", "1"), ("", "ERROR"),
        ("GET", "ERROR"), ("GET a b", "ERROR"), ("SET a", "ERROR"), ("NONSENSE a", "ERROR"),
        ("SET long " + "x" * 60000, "OK"), ("GET long", "VALUE " + "x" * 60000),
    ):
        c.send(f"{request}\r\n".encode())
        lines(c, answer)
    # Many at once, of two clients, who see the same.
    c.send("".join(f"SET k{i} v{i}\n" for i in range(5000)).encode())
    lines(c, *["OK"] * 5000)
    other = server.connect()
    other.send("".join(f"GET k{i}\n" for i in range(5000)).encode())
    lines(other, *[f"VALUE v{i}" for i in range(5000)])
    ends(server)


def test_threads(start):
    server = start("threads", "0", "4")
    until(lambda: len(listening(server.p.pid)) >= 4, "four that listen")
    clients = [server.connect() for _ in range(40)]
    for size in 0, 1, 5, 1000, 200000:
        frame = struct.pack(">I", size) + os.urandom(size)
        for c in clients:
            c.send(frame)
        for c in clients:
            assert c.recv(len(frame)) == frame
    clients[0].send(b"\xff\xff\xff\xff")  # over inmax
    assert clients[0].rest() == b""
    ends(server)
    until(lambda: server.out == b"200 messages\n", "its last word")


@pytest.fixture(name="public")
def fixture_public():
    """A folder for every user; a tmp_path is root's alone as soon as another
    pytest starts."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


def test_notes(start, public):
    path = f"{public}/s"
    server = start("notes", path)

    def call():
        return caller(path)

    a, b = call(), call()
    uid = os.getuid()
    lines(a, f"hello {uid}")
    lines(b, f"hello {uid}")
    server.said(f"user {uid}, process {os.getpid()}\n", 2)
    a.send(b"put milk, bread\n")
    lines(a, "ok")
    b.send(b"get\nlist\nput " + b"x" * 1001 + b"\nnonsense\n")
    lines(b, "milk, bread", f"{uid} milk, bread", "no", "no")
    if uid == 0:
        # Another user has a note of its own, and no list.
        told = subprocess.run(
            ["python3", "-c", "import os, socket, sys\nos.setuid(4242)\ns = socket.socket(socket.AF_UNIX)\n"
             "s.connect(sys.argv[1])\ns.sendall(b'get\\nput mine\\nget\\nlist\\n')\ns.shutdown(1)\n"
             "while part := s.recv(4096): print(part.decode(), end='')", path],
            check=True, capture_output=True, text=True, timeout=10).stdout
        assert told == "hello 4242\n\nok\nmine\nno\n"
        a.send(b"list\n")
        lines(a, f"{uid} milk, bread", "4242 mine")
    ends(server)
    assert not os.path.exists(path)


def behind(start, listener, *options):
    """A forwarder to the listener, and a function that calls through it:
    both ends of the connection."""
    server = start("forward", *options, "0", "localhost", str(listener.getsockname()[1]))

    def call():
        client = server.connect()
        s, _ = listener.accept()
        s.settimeout(10)
        return client, s

    return server, call


def test_forward(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, call = behind(start, listener)
        client, s = call()
        client.send(b"question")
        assert s.recv(100) == b"question"
        s.sendall(b"answer")
        assert client.recv(6) == b"answer"
        # Much, both ways, and each half closed on its own.
        text = os.urandom(8 << 20)
        sender = threading.Thread(target=lambda: (client.send(text), client.s.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b"".join(iter(lambda: s.recv(1 << 20), b""))
        sender.join()
        assert got == text
        sender = threading.Thread(target=lambda: (s.sendall(text), s.close()))
        sender.start()
        assert client.rest() == text
        sender.join()
        ends(server)


def test_forward_tells_who_it_is(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, call = behind(start, listener, "-p")
        client, s = call()
        client.send(b"x")
        header = b""
        while not header.endswith(b"x"):
            header += s.recv(100)
        assert header.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
        host, port = client.s.getsockname()
        assert header[16:20] == socket.inet_aton(host) and header[24:26] == struct.pack(">H", port)
        s.close()
        ends(server)


def test_forward_to_nobody(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, _ = behind(start, listener)
    assert server.connect().rest() == b""
    ends(server)
