"""Reload and upgrade: under load nobody is lost or refused, every byte is
right, and nothing grows.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from kquay import DEADLINE, Kquay, connect, once, outspoken, until
from workers import all_serve
from process import alive, descriptors

SANITIZED = "KQUAY_SANITIZE" in os.environ
ANSWERS = 2 if SANITIZED else 1


def write(path, text):
    """The file is one or the other, never half of one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


class Talkers:
    """Connections that ask and check each answer, from threads of their own."""

    def __init__(self, where):
        self.where = where
        self.errors = []
        self.rounds = 0
        self.ending = False
        self.threads = []
        self.lock = threading.Lock()

    def start(self, fn, count, *args):
        for i in range(count):
            t = threading.Thread(target=self.guard, args=(fn, i, *args))
            t.start()
            self.threads.append(t)

    def guard(self, fn, *args):
        try:
            fn(*args)
        except (OSError, AssertionError) as e:
            self.errors.append(f"{fn.__name__}: {e!r}")

    def ask(self, s, r):
        text = r.randbytes(r.choice((1, 64, 1000, 9000)))
        s.sendall(text)
        got = b""
        while len(got) < len(text):
            part = s.recv(len(text) - len(got))
            assert part, f"end after {len(got)} of {len(text)} bytes"
            got += part
        assert got == text, "other bytes than were sent"
        with self.lock:
            self.rounds += 1

    def stay(self, seed, count):
        """Connections that are there from the first to the last."""
        r = random.Random(seed)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(connect(r.choice(self.where)))
                       for _ in range(count)]
            while not self.ending:
                self.ask(r.choice(sockets), r)
            for s in sockets:
                self.ask(s, r)
                s.shutdown(socket.SHUT_WR)
                assert s.recv(1) == b""

    def come(self, seed):
        """Connections that come and go."""
        r = random.Random(1000 + seed)
        while not self.ending:
            with connect(r.choice(self.where)) as s:
                self.ask(s, r)
                s.shutdown(socket.SHUT_WR)
                assert s.recv(1) == b""

    def finish(self):
        self.ending = True
        for t in self.threads:
            t.join(DEADLINE)
            assert not t.is_alive()
        assert self.errors == []


def conf(tmp_path, workers, n, backend):
    """Two configurations: all that they have in common is the addresses."""
    relay = f'to = {{"{backend}"}} balance = "{("least", "hash")[n % 2]}"'
    return f"""\
        workers = {workers}
        service "echo" {{
            handler = echo
            listen  = {{"127.0.0.1:0"}}
            max-connections = {2000 + n % 2}
        }}
        service "{("one", "other")[n % 2]}" {{
            handler = relay
            listen  = {{"localhost:0", "unix:{tmp_path}/s"}}
            {relay}
            max-connections = 2000
        }}
        """


class Log:
    """What a running kquay says on standard error, line by line."""

    def __init__(self, k):
        self.lines = []
        self.thread = threading.Thread(target=self.read, args=(k.p.stderr,),
                                       daemon=True)
        self.thread.start()

    def read(self, stream):
        for line in stream:
            self.lines.append(line.decode())

    def count(self, text):
        return sum(text in line for line in self.lines)

    def wait(self, text, count=1):
        until(lambda: self.count(text) >= count, f"{text} in the log")


@contextlib.contextmanager
def echo(tmp_path):
    """What is behind the relay."""
    k = Kquay("serve", "echo", "-l", f"unix:{tmp_path}/echo", "-n", "3000")
    try:
        yield k.where
    finally:
        k.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_under_load(tmp_path, workers):
    path = tmp_path / "kquay.conf"
    reloads = 100 // ANSWERS
    with echo(tmp_path) as backend:
        write(path, conf(tmp_path, workers, 0, backend))
        k = Kquay("run", "-c", path)
        try:
            talkers = Talkers(k.listening)
            talkers.start(talkers.stay, 10, 50 // ANSWERS)
            talkers.start(talkers.come, 4)
            until(lambda: talkers.rounds > 500, "the load")
            told = Log(k)
            fds, memory = [], []
            for n in range(1, reloads + 1):
                write(path, conf(tmp_path, workers, n, backend))
                k.signal(signal.SIGHUP)
                told.wait('msg="reloaded', n)
                fds.append(descriptors(k.p.pid))
                memory.append(k.rss())
                time.sleep(0.05)
                assert talkers.errors == []
            rounds = talkers.rounds
            until(lambda: talkers.rounds > rounds + 100, "they go on")
            talkers.finish()
            half = reloads // 2
            assert max(fds[half:]) <= max(fds[:half]) + 40, fds
            if not SANITIZED:
                assert max(memory[half:]) <= max(memory[:half]) + (8 << 20), memory
            k.signal()
            assert k.p.wait(DEADLINE) == 0
            assert not os.path.exists(tmp_path / "s")
        finally:
            k.kill()


def newest(told, n):
    """The process that the n-th upgrade has begun."""
    told.wait('msg="upgraded: process ', n)
    lines = [line for line in told.lines if "upgraded: process" in line]
    return int(re.search(r"process (\d+)", lines[n - 1])[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_upgrade_under_load(tmp_path, workers):
    path = tmp_path / "kquay.conf"
    upgrades = 10 // ANSWERS
    with echo(tmp_path) as backend:
        write(path, conf(tmp_path, workers, 0, backend))
        k = Kquay("run", "-c", path)
        processes = [k.p.pid]
        try:
            talkers = Talkers(k.listening)
            talkers.start(talkers.stay, 5, 20)
            talkers.start(talkers.come, 4)
            until(lambda: talkers.rounds > 200, "the load")
            told = Log(k)
            for n in range(1, upgrades + 1):
                os.kill(processes[-1], signal.SIGUSR2)
                processes.append(newest(told, n))
                rounds = talkers.rounds
                until(lambda: talkers.rounds > rounds + 50 or talkers.errors,
                      "they go on")
                assert talkers.errors == []
            talkers.finish()
            # The earlier ones end with their last connection.
            assert k.p.wait(DEADLINE) == 0
            until(lambda: not any(map(alive, processes[:-1])), "their end")
            with connect(k.listening[0]) as s:
                s.sendall(b"still")
                assert s.recv(5) == b"still"
            assert os.path.exists(tmp_path / "s")
            os.kill(processes[-1], signal.SIGTERM)
            until(lambda: not alive(processes[-1]), "the last one's end")
            assert not os.path.exists(tmp_path / "s")
        finally:
            for pid in processes[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            k.kill()


def test_an_upgrade_that_fails(tmp_path):
    """The configuration is bad by now: all is as before."""
    path = tmp_path / "kquay.conf"
    write(path, 'service a { handler = echo listen = {"127.0.0.1:0"} }')
    with outspoken("run", "-c", path) as k:
        told = Log(k)
        write(path, "service a { }")
        k.signal(signal.SIGUSR2)
        told.wait('msg="not upgraded')
        with connect(k.where) as s:
            s.sendall(b"still")
            assert s.recv(5) == b"still"
        assert told.count("handler: is missing") == 1


def test_a_bad_reload(tmp_path):
    """An error in the file, an address that is taken: all is as before."""
    path = tmp_path / "kquay.conf"
    good = 'sandbox = off service a { handler = echo listen = {"127.0.0.1:0"} }\n'
    write(path, good)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with outspoken("run", "-c", path) as k:
            told = Log(k)
            for n, (bad, why) in enumerate([
                ("service a { handler = nope }", f"{path}:1: handler: 'nope' is none of"),
                (good + f'service b {{ handler = chat listen = {{"unix:{tmp_path}/b", "127.0.0.1:{port}"}} }}',
                 f"127.0.0.1:{port}: Address already in use"),
                (good + 'service b { handler = chat listen = {"127.0.0.1:0"} }',
                 'service \\"b\\": listen: service \\"a\\" is there already'),
            ], 1):
                write(path, bad)
                k.signal(signal.SIGHUP)
                told.wait('msg="not reloaded: all is as before"', n)
                assert told.count(why) == 1, told.lines
                with connect(k.where) as s:
                    s.sendall(b"still")
                    assert s.recv(5) == b"still"
                assert not os.path.exists(tmp_path / "b")


def test_the_file_changes(tmp_path):
    """With reload-on-change; also when it is gone for a while."""
    path = tmp_path / "kquay.conf"

    def text(welcome):
        return f"""\
            reload-on-change = on
            service a {{
                handler = chat
                listen  = {{"127.0.0.1:0"}}
                welcome = "{welcome}"
            }}
            """

    path.write_text(text("zero"))
    with outspoken("run", "-c", path) as k:
        told = Log(k)
        for n, change in enumerate((path.write_text, lambda t: write(path, t)), 1):
            change(text(f"number {n}"))
            told.wait('msg="reloaded', n)
            assert k.client().line() == f"number {n}"
        path.unlink()
        path.write_text(text("number 3"))
        until(lambda: k.client().line() == "number 3", "the third")


def test_an_idle_end(tmp_path):
    """exit-when-idle: not while somebody is there, nor right after."""
    k = Kquay("serve", "echo", "-l", "127.0.0.1:0", "--exit-when-idle", "300ms")
    try:
        with connect(k.where) as s:
            with pytest.raises(subprocess.TimeoutExpired):
                k.p.wait(0.8)
            s.sendall(b"x")
            assert s.recv(1) == b"x"
        assert k.p.wait(DEADLINE) == 0
    finally:
        k.kill()


def test_drain(tmp_path):
    """Connections may go on for drain-timeout, and then no longer."""
    k = Kquay("serve", "echo", "-l", "127.0.0.1:0", "--drain-timeout", "500ms")
    try:
        with connect(k.where) as s:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            k.signal()
            until(lambda: refused(k.where), "no more callers")
            s.sendall(b"y")
            assert s.recv(1) == b"y"
            assert s.recv(1) == b""
        assert k.p.wait(DEADLINE) == 0
    finally:
        k.kill()


def refused(where):
    try:
        connect(where).close()
    except ConnectionRefusedError:
        return True
    return False


def test_one_worker_of_several(tmp_path):
    """A chat has one loop: it may end before the other workers look at it."""
    path = tmp_path / "kquay.conf"
    control = tmp_path / "control.s"

    def chat(n):
        write(path, f"""workers = 4 control = "{control}" log = none
            service a{n % 3} {{
                handler = {("chat", "echo")[n // 2 % 2]}
                listen = {{"unix:{tmp_path}/a.s", "127.0.0.1:0"}}
                max-connections = {n + 5}
            }}
            service b {{ handler = chat listen = "127.0.0.2:0" }}
            """)

    chat(0)
    k = Kquay("run", "-c", path)
    try:
        for n in range(1, 40):
            chat(n)
            with connect(f"unix:{tmp_path}/a.s") as s:
                s.sendall(b"hello\n")
                p = once("reload", "-s", control)
                assert p.returncode == 0, p
            p = once("drain", "-s", control, "b")
            assert p.returncode == 0, p
        k.signal(signal.SIGHUP)
        k.signal()
        assert k.p.wait(DEADLINE) == 0
    finally:
        k.kill()


def test_descriptors_of_its_own(tmp_path):
    """fd: is for what kquay was started with, not for what it has opened."""
    path = tmp_path / "kquay.conf"
    good = f"""control = "{tmp_path}/control.s"
        service a {{ handler = echo listen = "127.0.0.1:0" }}
        """
    write(path, good)
    k = Kquay("run", "-c", path)
    try:
        folder = f"/proc/{k.p.pid}/fd"
        for fd in os.listdir(folder):
            if not os.readlink(f"{folder}/{fd}").startswith("socket:"):
                continue
            write(path, good +
                  f'service b {{ handler = discard listen = "fd:{fd}" }}')
            p = once("reload", "-s", tmp_path / "control.s")
            assert (p.returncode, "was started with" in p.stderr) == (1, True), p
        with connect(k.where) as s:
            s.sendall(b"still")
            assert s.recv(5) == b"still"
        k.signal()
        assert k.p.wait(DEADLINE) == 0
    finally:
        k.kill()


def test_another_mode(tmp_path):
    """The socket goes on, and who may write to it are others."""
    path = tmp_path / "kquay.conf"
    where = tmp_path / "a.s"
    k = None
    try:
        for mode in (0o600, 0o666, 0o620):
            write(path, f"""control = "{tmp_path}/control.s"
                service a {{ handler = echo listen = "unix:{where}" mode = 0{mode:o} }}
                """)
            if k is None:
                k = Kquay("run", "-c", path)
                inode = where.stat().st_ino
            else:
                p = once("reload", "-s", tmp_path / "control.s")
                assert p.returncode == 0, p
            assert where.stat().st_mode & 0o7777 == mode
            assert where.stat().st_ino == inode
        k.signal()
        assert k.p.wait(DEADLINE) == 0
    finally:
        if k is not None:
            k.kill()


def test_all_workers_serve(tmp_path):
    """One that runs in a single worker has lent it the addresses."""
    path, control = tmp_path / "kquay.conf", tmp_path / "control.s"

    def text(handler):
        return f'''workers = 3 control = "{control}"
            service a {{ handler = {handler}
                listen = {{"127.0.0.1:0", "unix:{tmp_path}/a.s"}} }}
            '''

    for first in ("chat", "echo"):
        write(path, text(first))
        with outspoken("run", "-c", path) as k:
            for handler in ("chat", "echo", "chat", "discard", "echo"):
                write(path, text(handler))
                p = once("reload", "-s", control)
                assert p.returncode == 0, p
                if handler == "echo":
                    for where in k.listening:
                        all_serve(k.p.pid, where)
