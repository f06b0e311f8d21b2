"""The programs of examples/, each driven as the server that it is.

KQUAY_EXAMPLES names the folder with the built programs.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import threading

import pytest

from ports import free_port, has_ipv6
from process import DEADLINE, cpu, stat, until
from stream import Stream

EXAMPLES = os.environ["KQUAY_EXAMPLES"]
NUSERS = 10


def listening(pid):
    """(family, port) of each TCP socket that the process listens on."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            m = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
        if m:
            inodes.add(m[1])
    found = []
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        if not os.path.exists(f"/proc/net/{table}"):
            continue
        with open(f"/proc/net/{table}", encoding="ascii") as rows:
            for row in rows.readlines()[1:]:
                f = row.split()
                if f[3] == "0A" and f[9] in inodes:
                    found.append((family, int(f[1].split(":")[1], 16)))
    return found


def caller(path):
    """A client of the UNIX socket there, once somebody listens: bind() makes
    the file before that."""
    def fact():
        try:
            return Client(socket.AF_UNIX, str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    return until(fact, path)


class Client(Stream):
    def __init__(self, family, address):
        super().__init__(socket.socket(family, socket.SOCK_STREAM))
        self.s.settimeout(DEADLINE)
        self.s.connect(address)


class Program:
    """A running example; its standard output is collected."""

    def __init__(self, name, *args, cwd):
        path = os.path.join(EXAMPLES, name)
        if not os.path.exists(path):
            pytest.skip(f"{name} is not built")
        self.cwd = cwd
        self.out = b""
        self.err = b""
        self.clients = []
        self.p = subprocess.Popen(
            [path, *args], cwd=cwd, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.readers = [
            threading.Thread(target=self.collect, args=(self.p.stdout, "out")),
            threading.Thread(target=self.collect, args=(self.p.stderr, "err"))]
        for r in self.readers:
            r.start()

    def collect(self, stream, name):
        while part := os.read(stream.fileno(), 65536):
            setattr(self, name, getattr(self, name) + part)

    def said(self, text, times=1):
        text = text.encode() if isinstance(text, str) else text
        until(lambda: self.out.count(text) >= times,
              f"{times} x {text!r} in {self.out[-500:]!r}")

    def listens(self, family=socket.AF_INET):
        """The port; waits until it is there."""
        return until(lambda: [port for f, port in listening(self.p.pid)
                              if f == family], "listening")[0]

    def connect(self, kind="v4"):
        if kind == "v4":
            c = Client(socket.AF_INET, ("127.0.0.1", self.listens()))
        elif kind == "v6":
            port = self.listens(socket.AF_INET6)
            c = Client(socket.AF_INET6, ("::1", port))
        else:
            c = caller(self.cwd / "local.s")
        self.clients.append(c)
        return c

    def stop(self):
        """Suspended, until cont(): what comes now comes all at once."""
        os.kill(self.p.pid, signal.SIGSTOP)
        until(lambda: stat(self.p.pid)[0] == "T", "a stop")

    def cont(self):
        os.kill(self.p.pid, signal.SIGCONT)

    def at_rest(self):
        """Not spinning: what is left to report does not burn the CPU."""
        before = cpu(self.p.pid)
        try:
            self.p.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
        assert self.p.poll() is None
        assert cpu(self.p.pid) - before < 0.1

    def end(self):
        for c in self.clients:
            c.close()
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        for r in self.readers:
            r.join()
        for stream in (self.p.stdin, self.p.stdout, self.p.stderr):
            stream.close()


@pytest.fixture
def start(tmp_path):
    programs = []

    def run(name, *args):
        programs.append(Program(name, *args, cwd=tmp_path))
        return programs[-1]

    yield run
    for p in programs:
        p.end()


ARGS = {"minimal": ["0"], "welcome": ["0"],
        "welcome_all": ["*", "0"], "chat": ["0"]}
have_v6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this host")
WELCOME = [("welcome", "v4"), ("welcome_all", "v4"),
           pytest.param("welcome_all", "v6", marks=have_v6),
           ("welcome_all", "unix")]
SERVERS = [("minimal", "v4"), *WELCOME]


@pytest.mark.parametrize("name,kind", WELCOME)
def test_greets_prints_and_answers(start, name, kind):
    server = start(name, *ARGS[name])
    c = server.connect(kind)
    assert c.recv(9) == b"welcome!\n"
    server.said("connected: ")
    c.send(b"hello\n")
    assert c.recv(6) == b"hello\n"
    server.said("hello\n")
    c.close()
    server.said("disconnected: ")
    server.at_rest()


def test_minimal_prints(start):
    server = start("minimal", "0")
    a, b = server.connect(), server.connect()
    server.said("connection\n", 2)
    a.send(b"from a\n")
    server.said("from a\n")
    b.send(b"from b\n")
    server.said("from b\n")
    a.close()
    server.said("disconnect\n")
    b.send(b"still here\n")
    server.said("still here\n")
    server.at_rest()


@pytest.mark.parametrize("name,kind", SERVERS)
def test_unread_client_does_not_spin(start, name, kind):
    """A filter tested in flags never reads, and is reported for ever."""
    server = start(name, *ARGS[name])
    server.connect(kind).send(b"abc\n")
    server.said("abc\n")
    server.at_rest()


@pytest.mark.parametrize("name,kind", WELCOME)
def test_refuses_when_full_and_closes(start, name, kind):
    server = start(name, *ARGS[name])
    inside = [server.connect(kind) for _ in range(NUSERS)]
    for c in inside:
        assert c.recv(9) == b"welcome!\n"
    for _ in range(3):
        assert server.connect(kind).rest() == b"connection refused\n"
    server.said("connection refused", 3)
    inside[4].close()
    server.said("disconnected: ")
    assert server.connect(kind).recv(9) == b"welcome!\n"
    inside[0].send(b"x")
    assert inside[0].recv(1) == b"x"


@pytest.mark.parametrize("name,kind", SERVERS)
def test_bytes_before_eof_are_read(start, name, kind):
    """EV_EOF comes together with the last bytes; closing on it loses them."""
    server = start(name, *ARGS[name])
    body = bytes(97 + i % 26 for i in range(100_000))
    server.connect(kind).close()
    server.said("disconnect")
    server.stop()  # so that bytes and end are one event
    c = server.connect(kind)
    c.send(body)
    c.done()
    server.cont()
    if name != "minimal":
        assert c.rest() == b"welcome!\n" + body
    server.said("disconnect", 2)
    assert body in server.out


@pytest.mark.parametrize("name,kind", WELCOME)
def test_half_close_gets_every_byte(start, name, kind):
    """8 MiB sent, our side shut, and only then read: nothing is dropped."""
    server = start(name, *ARGS[name])
    c = server.connect(kind)
    body = os.urandom(1 << 20) * 8

    def feed():
        c.send(body)
        c.done()

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = c.rest()
    feeder.join()
    assert got == b"welcome!\n" + body


@pytest.mark.parametrize("name,kind", WELCOME)
def test_slow_reader_stops_nobody_else(start, name, kind):
    server = start(name, *ARGS[name])
    slow = server.connect(kind)
    slow.s.setblocking(False)
    # Until it takes no more: everything between us is full.
    sent = 0
    quiet = 0

    def full():
        nonlocal sent, quiet
        try:
            sent += slow.s.send(b"y" * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
        return quiet > 20

    until(full, "a full connection")
    other = server.connect(kind)
    assert other.recv(9) == b"welcome!\n"
    other.send(b"quick\n")
    assert other.recv(6) == b"quick\n"
    server.at_rest()
    slow.s.settimeout(DEADLINE)
    assert slow.recv(9 + sent) == b"welcome!\n" + b"y" * sent


@pytest.mark.parametrize("name,kind", SERVERS)
def test_descriptor_is_reused(start, name, kind):
    """close() took the old client's events along; the new one is heard."""
    server = start(name, *ARGS[name])
    for i in range(1, 21):
        c = server.connect(kind)
        c.send(f"number {i}.\n".encode())
        server.said(f"number {i}.\n")
        c.close()
        server.said("disconnect", i)
    numbers = re.findall(rb"\bconnected: (\d+)", server.out)
    assert len(set(numbers)) == (0 if name == "minimal" else 1)
    server.at_rest()


@pytest.mark.parametrize("name,kind", SERVERS)
def test_signal_ends_the_wait_not_the_server(start, name, kind):
    server = start(name, *ARGS[name])
    c = server.connect(kind)
    c.send(b"before\n")
    server.said("before\n")
    for _ in range(3):
        server.stop()
        server.cont()
    c.send(b"after\n")
    server.said("after\n")


@pytest.mark.parametrize("name,kind", SERVERS)
def test_reset_costs_one_connection(start, name, kind):
    server = start(name, *ARGS[name])
    stay = server.connect(kind)
    stay.send(b"stay\n")
    server.said("stay\n")
    for i in range(1, 4):
        c = server.connect(kind)
        c.send(b"gone\n")
        server.said("gone\n", i)
        c.reset()
        server.said("disconnect", i)
    stay.send(b"here\n")
    server.said("here\n")
    server.at_rest()


@pytest.mark.parametrize("name,kind", WELCOME)
def test_writing_to_who_has_gone_costs_one_connection(start, name, kind):
    """The greeting meets a closed connection: EPIPE, and no SIGPIPE."""
    server = start(name, *ARGS[name])
    server.connect(kind).close()
    server.said("disconnected: ")
    server.stop()
    c = server.connect(kind)
    c.done()
    c.reset()
    server.cont()
    assert server.connect(kind).recv(9) == b"welcome!\n"


@pytest.mark.parametrize("name,kind", SERVERS)
def test_out_of_descriptors_waits(start, name, kind):
    server = start(name, *ARGS[name])
    first = server.connect(kind)
    first.send(b"first\n")
    server.said("first\n")
    used = {int(fd) for fd in os.listdir(f"/proc/{server.p.pid}/fd")}
    free = min(set(range(len(used) + 1)) - used)
    resource.prlimit(server.p.pid, resource.RLIMIT_NOFILE, (free, 256))
    late = server.connect(kind)
    late.send(b"late\n")
    if name != "minimal":
        until(lambda: b"Too many open files" in server.err, "a warning")
    server.at_rest()
    first.send(b"second\n")
    server.said("second\n")
    if name == "minimal":
        first.close()  # it waits for that
    else:
        # The shortage ends elsewhere and nothing tells: it looks again.
        resource.prlimit(server.p.pid, resource.RLIMIT_NOFILE, (256, 256))
    server.said("late\n")


@have_v6
def test_welcome_all_has_one_port_in_both_families(start):
    port = free_port()
    server = start("welcome_all", "*", str(port))
    until(lambda: sorted(listening(server.p.pid)) ==
          [(socket.AF_INET, port), (socket.AF_INET6, port)], "both families")


def test_welcome_all_leaves_no_file(start, tmp_path):
    server = start("welcome_all", "localhost", "0")
    server.connect("unix")
    os.kill(server.p.pid, signal.SIGTERM)
    assert server.p.wait(DEADLINE) == 0
    assert not (tmp_path / "local.s").exists()


def test_welcome_all_takes_a_dead_socket_not_a_live_one(start, tmp_path):
    path = tmp_path / "local.s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    server = start("welcome_all", "localhost", "0")
    until(lambda: server.listens(), "listening")

    def greeted():
        try:
            c = Client(socket.AF_UNIX, str(path))
        except ConnectionRefusedError:
            return False
        server.clients.append(c)
        return c.recv(9) == b"welcome!\n"

    until(greeted, "a greeting")
    second = start("welcome_all", "localhost", "0")
    assert second.p.wait(DEADLINE) == 1
    until(lambda: b"in use" in second.err, "the reason")
    assert greeted()


def test_onequeue_reports_everything(start):
    p = start("onequeue", "20")
    p.said("worker: 500500, note 42\n")
    p.said("timer: ", 3)
    p.p.stdin.write(b"typed\n")
    p.p.stdin.flush()
    p.said("input: typed\n")
    os.kill(p.p.pid, signal.SIGUSR1)
    p.said("signal: User defined signal 1, 1\n")
    os.kill(p.p.pid, signal.SIGUSR1)
    p.said("signal: User defined signal 1, 1\n", 2)
    p.p.stdin.close()
    assert p.p.wait(DEADLINE) == 0


def test_onequeue_ends_on_sigterm(start):
    p = start("onequeue", "20")
    p.said("timer: ")
    os.kill(p.p.pid, signal.SIGTERM)
    p.said("signal: Terminated, 1\n")
    assert p.p.wait(DEADLINE) == 0


def test_chat_passes_lines_on(start, tmp_path):
    server = start("chat", "0")
    kinds = ["v4", "unix"]
    if os.path.exists("/proc/net/if_inet6"):
        kinds.append("v6")
    people = [server.connect(kind) for kind in kinds]
    for c in people:
        assert c.recv(9) == b"welcome!\n"
    for speaker in people:
        speaker.send(b"hello all\n")
        for c in people:
            if c is speaker:
                continue
            line = b""
            while not line.endswith(b"\n"):
                line += c.recv(1)
            assert line.endswith(b": hello all\n")
    more = [server.connect() for _ in range(NUSERS - len(people))]
    for c in more:
        assert c.recv(9) == b"welcome!\n"
    assert server.connect().rest() == b"connection refused\n"
    os.kill(server.p.pid, signal.SIGTERM)
    assert server.p.wait(DEADLINE) == 0
    assert not (tmp_path / "local.s").exists()


@pytest.mark.skipif("KQUAY_SANITIZE" in os.environ,
                    reason="the sanitizer's close() is the first")
def test_chat_closes_through_libkq(tmp_path):
    """Linked with libkquay alone, it must not get libc's close()."""
    env = {**os.environ, "LD_DEBUG": "bindings", "LD_BIND_NOW": "1",
           "LD_DEBUG_OUTPUT": str(tmp_path / "ld")}
    p = subprocess.Popen([f"{EXAMPLES}/chat", "0", str(tmp_path / "s")],
                         env=env)
    until(lambda: os.path.exists(tmp_path / "s"), "it listens")
    p.terminate()
    assert p.wait(DEADLINE) == 0
    bound = (tmp_path / f"ld.{p.pid}").read_text()
    to = re.findall(r"libkquay\.so\S* \[0\] to (\S+) \[0\]: "
                    r"normal symbol `(close|dup2|fcntl|shutdown)'", bound)
    assert "close" in {name for _, name in to}
    assert all("libkq.so" in library for library, _ in to), to
