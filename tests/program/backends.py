"""What stands behind a relay: servers in threads of the test, a name server,
and a listener that nobody gets through to.
"""

import collections
import contextlib
import socket
import struct
import threading

from kquay import DEADLINE, until
from ports import free_port

V6 = socket.AF_INET6


def listener(where, backlog=128):
    """A listening socket: 127.0.0.1:0, [::1]:0 or unix:PATH.

    Once it is closed, nobody but the test can come to its port.
    """
    if where.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(where[5:])
    else:
        host, port = where.rsplit(":", 1)
        host = host.strip("[]")
        s = socket.socket(V6 if ":" in host else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(port) or free_port()))
    s.listen(backlog)
    return s


def text(s):
    """Where a socket listens, as kquay has it."""
    if s.family == socket.AF_UNIX:
        return f"unix:{s.getsockname()}"
    host, port = s.getsockname()[:2]
    return f"[{host}]:{port}" if s.family == V6 else f"{host}:{port}"


def receive(s):
    """All that comes before the end of the stream."""
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)


class Backend:
    """A server with a thread for each connection, which calls serve(socket).

    Without serve it says its name, a line, and then echoes.
    """

    def __init__(self, where="127.0.0.1:0", serve=None, name="backend"):
        self.listener = listener(where)
        self.where = text(self.listener)
        self.name = name
        self.serve = serve or self.echo
        self.sockets = []
        self.errors = []
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.where.rsplit(":", 1)[1]

    @property
    def count(self):
        """How many have been accepted."""
        with self.lock:
            return len(self.sockets)

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.settimeout(DEADLINE)
            with self.lock:
                self.sockets.append(s)
            threading.Thread(target=self.run, args=(s,), daemon=True).start()

    def run(self, s):
        try:
            self.serve(s)
        except (OSError, AssertionError) as error:
            self.errors.append(error)
        finally:
            s.close()

    def echo(self, s):
        s.sendall(f"{self.name}\n".encode())
        while part := s.recv(65536):
            s.sendall(part)

    def close(self):
        """Listen no more; connections go on."""
        # A close alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(DEADLINE)


@contextlib.contextmanager
def backends(*names, **kwargs):
    """One for each name, on ports of their own."""
    list_ = [Backend(name=name, **kwargs) for name in names]
    try:
        yield list_
    finally:
        for backend in list_:
            backend.close()


@contextlib.contextmanager
def nobody():
    """Where a connection is refused."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", free_port()))
        yield text(s)


@contextlib.contextmanager
def blackhole():
    """Where a connection is never made: the backlog is full."""
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(listener("127.0.0.1:0", 0))

        def more():
            one = stack.enter_context(socket.socket())
            one.settimeout(0.2)
            try:
                one.connect(s.getsockname())
            except TimeoutError:
                return True
            return False

        until(more, "the backlog is full")
        yield text(s)


class Names:
    """A name server on UDP: names is {"one.test": ["127.0.0.1", "::1"]}.

    What is not there does not exist; with silent set it does not answer, with
    broken it cannot tell.
    """

    def __init__(self, names, ttl=1):
        self.names = names
        self.ttl = ttl
        self.silent = self.broken = False
        self.asked = 0
        self.asked_for = collections.Counter()
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind(("127.0.0.1", 0))
        self.where = text(self.s)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            query, peer = self.s.recvfrom(4096)
            if not query:
                return
            self.asked += 1
            if not self.silent:
                self.s.sendto(self.answer(query), peer)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        at += 5
        kind, = struct.unpack("!H", query[at - 4:at - 2])
        name = ".".join(labels).lower()
        self.asked_for[name] += 1
        records = [self.record(kind, value)
                   for value in self.names.get(name, [])]
        records = [r for r in records if r is not None and not self.broken]
        code = 2 if self.broken else 0 if name in self.names else 3
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1,
                                       len(records), 0, 0)
        return head + query[12:at] + b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(r)) + r
            for r in records)

    @staticmethod
    def record(kind, value):
        """A is 1, AAAA 28, SRV 33: (priority, weight, port, name)."""
        if kind == 33 and isinstance(value, tuple):
            labels = value[3].split(".")
            return struct.pack("!HHH", *value[:3]) + b"".join(
                bytes([len(l)]) + l.encode() for l in labels) + b"\0"
        if isinstance(value, str) and kind == (28 if ":" in value else 1):
            return socket.inet_pton(V6 if ":" in value else socket.AF_INET,
                                    value)
        return None

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", self.s.getsockname())
        self.thread.join(DEADLINE)
        self.s.close()


@contextlib.contextmanager
def nameserver(names, ttl=1):
    server = Names(names, ttl)
    try:
        yield server
    finally:
        server.close()
