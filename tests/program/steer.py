"""A running kquay that can be asked: by its commands, and over HTTP."""

import contextlib
import json
import socket
import subprocess

from kquay import DEADLINE, once, running

TWO = """
service "small chat" {
    handler = chat
    listen = {"127.0.0.1:0", "unix:chat.s"}
    max-connections = 3
}
service "echo" {
    handler = echo
    listen = {"127.0.0.2:0"}
    max-connections = 2000
}
"""


class Steered:
    def __init__(self, k, folder):
        self.k = k
        self.folder = folder
        self.socket = str(folder / "control.s")

    def raw(self, command, *args):
        """The process of a command that has ended."""
        return once(command, "-s", self.socket, *args)

    def ask(self, command, *args):
        """What a command prints; it must succeed."""
        p = self.raw(command, *args)
        assert (p.returncode, p.stderr) == (0, ""), p
        return p.stdout

    def json(self, command, *args):
        return json.loads(self.ask(command, "--json", *args))

    def service(self, name):
        """What is told of a service."""
        s, = [s for s in self.json("status")["services"] if s["name"] == name]
        return s

    def connections(self, *args):
        return self.json("connections", *args)["connections"]

    def dial(self):
        """A connection to the control socket."""
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE)
        s.connect(self.socket)
        return s

    def say(self, request):
        """What the control socket answers to these bytes and the end."""
        with self.dial() as s:
            with contextlib.suppress(BrokenPipeError):
                s.sendall(request)
                s.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := s.recv(65536):
                    answer += part
        return answer


@contextlib.contextmanager
def steered(tmp_path, services=TWO, settings=""):
    (tmp_path / "k.conf").write_text(
        f'control = "{tmp_path}/control.s"\nlog = none\n{settings}\n{services}')
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        yield Steered(k, tmp_path)


def curl(*args):
    """(status code, headers in lower case, body)"""
    p = subprocess.run(["curl", "-sS", "-i", "--http1.1", *args],
                       capture_output=True, timeout=DEADLINE, check=False)
    assert p.returncode == 0, p
    head, body = p.stdout.split(b"\r\n\r\n", 1)
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), headers, body.decode()
