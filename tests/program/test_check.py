"""kquay serve relay: active checks of its targets."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import ssl
import stat
import struct
import termios
import time

import pytest

from backends import Backend, backends, blackhole, listener, nobody, text
from kquay import (CONFIG, DEADLINE, USAGE, address, messages, once, running,
                   until)
from process import alive, children

PING = ("--check-send", "ping\n", "--check-expect", "pong")


class Errors:
    """What a kquay says on standard error, but for what it says of callers."""

    def __init__(self, k):
        self.fd = k.p.stderr.fileno()
        self.buffer = b""
        self.lines = []

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        part = os.read(self.fd, 4096)
        *lines, self.buffer = (self.buffer + part).split(b"\n")
        said = [messages(line.decode()) for line in lines]
        self.lines += [line for line in said
                       if not line.endswith(": no target is up")]
        return part != b""

    def line(self):
        end = time.monotonic() + DEADLINE
        while not self.lines:
            assert self.read(max(end - time.monotonic(), 0)), self.buffer
        return self.lines.pop(0)

    def nothing(self):
        """Nothing has been said so far that was not asked for."""
        while self.read(0):
            pass
        return self.lines == [] and self.buffer == b""

    def say(self, where, state):
        assert self.line() == f"relay: target {where} is {state}"


@contextlib.contextmanager
def checking(*targets, options=(), listen="127.0.0.1:0"):
    """A relay that checks its targets, and what it says."""
    to = [word for t in targets for word in ("--to", str(t))]
    with running("serve", "relay", "-l", listen, *to, *options) as k:
        errors = Errors(k)
        yield k, errors
        if k.p.returncode is None:
            assert errors.nothing()


class Target:
    """A server whose checks the test answers, one by one."""

    def __init__(self, where):
        self.listener = listener(where)
        self.listener.settimeout(DEADLINE)
        self.where = text(self.listener)
        self.waiting = None

    def accept(self, wanted):
        """The next connection that begins with this line."""
        s, _ = self.listener.accept()
        s.settimeout(DEADLINE)
        got = b""
        while not got.endswith(b"\n"):
            part = s.recv(1)
            assert part
            got += part
        assert got == wanted
        return s

    def asked(self):
        """A check waits for its answer; those before have had an effect."""
        if self.waiting is None:
            self.waiting = self.accept(b"ping\n")

    def answer(self, data):
        """Answer the next check, and see it end."""
        self.asked()
        with self.waiting as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert s.recv(1) == b""
        self.waiting = None

    def close(self):
        if self.waiting is not None:
            self.waiting.close()
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture(name="target")
def fixture_target(family, tmp_path):
    made = Target(address(family, tmp_path))
    yield made
    made.close()


def reaches(k, target):
    """A caller's line arrives at the target."""
    target.asked()  # no check is on its way
    c = k.client()
    c.send("hello\n")
    with target.accept(b"hello\n"):
        c.close()


def test_rise_and_fall(target):
    """Down after 3 bad ones in a row, up after 2 good ones, not before."""
    options = ("--check", "5ms", "--check-timeout", "20s", "--check-fall", "3",
               "--check-rise", "2", *PING)
    with checking(target.where, options=options) as (k, errors):
        for good in (1, 0, 0, 1, 0, 0):
            target.answer(b"pong" if good else b"no\n")
        reaches(k, target)
        assert errors.nothing()
        target.answer(b"no\n")
        errors.say(target.where, "down: it ended without that answer")
        for good in (1, 0, 1):
            target.answer(b"pong" if good else b"no\n")
        target.asked()
        assert errors.nothing()
        assert k.client().closed()
        target.answer(b"pong")
        errors.say(target.where, "up")
        reaches(k, target)


def test_the_first_check_decides(target):
    options = ("--check", "5ms", "--check-timeout", "20s", "--check-fall", "9",
               "--check-rise", "2", *PING)
    with checking(target.where, options=options) as (k, errors):
        reaches(k, target)  # nothing is known yet
        target.answer(b"pang")
        errors.say(target.where, "down: it ended without that answer")
        assert k.client().closed()
        target.answer(b"pong")
        target.asked()
        assert errors.nothing()
        target.answer(b"pong")
        errors.say(target.where, "up")


def test_nobody_is_sent_to_who_is_down():
    """All callers go to the other; when it is back, to both again."""
    with Target("127.0.0.1:0") as target, backends("other") as (other,):
        options = ("--check", "5ms", "--check-timeout", "20s", "--check-fall",
                   "1", "--check-rise", "1", *PING)

        def serve(s):
            s.sendall(b"pong other\n")
            s.recv(1)

        other.serve = serve
        with checking(target.where, other.where, options=options) as (k, errors):
            target.answer(b"no\n")
            errors.say(target.where, "down: it ended without that answer")
            target.asked()
            for _ in range(20):
                c = k.client()
                assert c.line() == "pong other"
                c.close()
            target.answer(b"pong")
            errors.say(target.where, "up")
            target.asked()
            callers = [k.client() for _ in range(2)]
            for c in callers:
                c.send("hello\n")
            target.accept(b"hello\n").close()


def test_a_port_that_closes_and_opens(family, tmp_path):
    backend = Backend(address(family, tmp_path))
    where = backend.where
    options = ("--check", "5ms", "--check-fall", "2", "--check-rise", "2")
    with checking(where, options=options) as (k, errors):
        assert k.client().line() == "backend"
        until(lambda: backend.count > 5, "checks")
        backend.close()
        errors.say(where, "down: Connection refused")
        assert k.client().closed()
        if family == "unix":
            os.unlink(where[5:])
        again = Backend(where)
        errors.say(where, "up")
        assert k.client().line() == "backend"
        k.stop()
        again.close()


@pytest.mark.parametrize("version, header", (
    ("v1", b"PROXY UNKNOWN\r\n"),
    ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0"),  # LOCAL
))
def test_a_proxy_header_of_nobody(version, header):
    """A target that wants one gets one, about no client."""
    def serve(s):
        got = b""
        while not got.endswith(b"ping\n"):
            part = s.recv(64)
            if not part:
                return  # kquay has ended
            got += part
        assert got.startswith(header)
        s.sendall(b"pong")

    backend = Backend(serve=serve)
    options = ("--check", "5ms", "--check-fall", "1", "--send-proxy", version,
               *PING)
    with checking(backend.where, options=options) as (_, errors):
        until(lambda: backend.count >= 5, "checks")
        assert errors.nothing()
    backend.close()
    assert [e for e in backend.errors
            if not isinstance(e, ConnectionResetError)] == []


# -- what hangs ----------------------------------------------------------------


def test_no_connection_in_time():
    options = ("--check", "5ms", "--check-timeout", "100ms")
    with blackhole() as where:
        with checking(where, options=options) as (_, errors):
            errors.say(where, "down: no connection in time")


@pytest.mark.parametrize("answer", (b"", b"pon", b"po" * 20000),
                         ids=("nothing", "a part", "much"))
def test_no_answer_in_time(target, answer):
    """It sends something else, or nothing, and keeps the connection."""
    options = ("--check", "5ms", "--check-timeout", "500ms", *PING)
    with checking(target.where, options=options) as (_, errors):
        target.asked()
        target.waiting.sendall(answer)
        errors.say(target.where, "down: no such answer in time")
        with contextlib.suppress(ConnectionResetError):
            assert target.waiting.recv(1) == b""


def test_an_answer_in_pieces(target):
    """Behind other text, and cut in two."""
    options = ("--check", "5ms", "--check-timeout", "20s", "--check-fall", "1",
               *PING)
    with checking(target.where, options=options) as (_, errors):
        for cut in range(1, 4):
            target.asked()
            target.waiting.setblocking(True)
            target.waiting.sendall(b"x" * 9000 + b"pong"[:cut])
            # What it has read it has looked at.
            until(lambda: unread(target.waiting) == 0, "it is read")
            target.answer(b"pong"[cut:])
        target.asked()
        assert errors.nothing()


def unread(s):
    """Bytes that the peer's kernel has not acknowledged."""
    return struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"\0" * 4))[0]


def test_many_that_hang():
    """More than are checked at a time: all have their turn."""
    options = ("--check", "5ms", "--check-timeout", "200ms", *PING)
    n = 150
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(listener("0.0.0.0:0", 4096))
        port = s.getsockname()[1]
        wheres = [f"127.0.1.{i + 1}:{port}" for i in range(n)]
        with checking(*wheres, options=options) as (k, errors):
            down = {errors.line().split("target ")[1].split(" ")[0]
                    for _ in range(n)}
            assert down == set(wheres)
            # 64 of them at a time, the pipe to us and what is always open.
            assert len(os.listdir(f"/proc/{k.p.pid}/fd")) < 100


def test_the_end_does_not_wait(tmp_path):
    """Checks that hang, of each kind, do not keep kquay from its end."""
    script = executable(tmp_path, "sleep 1000 & sleep 1000")
    slow = ("--check", "5ms", "--check-timeout", "1000s")
    with Target("127.0.0.1:0") as target, blackhole() as hole:
        with checking(target.where, hole, options=(*slow, *PING)) as (k, _):
            target.asked()
            ends_at_once(k)
        with checking(target.where, options=(
                *slow, "--check-command", script)) as (k, _):
            commands = until(k.children, "the command")
            its = until(lambda: children(commands[0]), "its child")
            both = [*commands, *its]
            ends_at_once(k)
        until(lambda: not any(alive(pid) for pid in both), "all are gone")


def ends_at_once(k):
    began = time.monotonic()
    k.signal()
    assert k.wait() == (0, "")
    assert time.monotonic() - began < 5


# -- TLS -----------------------------------------------------------------------


def tls_backend(certs, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")

    def serve(s):
        with context.wrap_socket(s, server_side=True) as t:
            if t.recv(5) == b"ping\n":
                t.sendall(b"pong\n")
                t.recv(1)
            else:
                t.sendall(b"hello\n")

    return Backend(serve=serve)


def test_tls(certs):
    """A check does what a caller's connection does, and says what is wrong."""
    options = ("--check", "20ms", "--to-tls-ca", str(certs / "ca.pem"),
               "--to-tls-servername", "localhost", *PING)
    good, bad = tls_backend(certs, "new"), tls_backend(certs, "mallory")
    plain = Backend()
    with contextlib.ExitStack() as stack:
        for b in (good, bad, plain):
            stack.callback(b.close)
        targets = [f"{b.where} tls" for b in (good, bad, plain)]
        with checking(*targets, options=options) as (k, errors):
            lines = sorted(errors.line() for _ in range(2))
            wanted = sorted([(bad.where, "certificate"), (plain.where, "")])
            for line, (where, why) in zip(sorted(lines), wanted):
                assert f"target {where} is down: " in line
                assert why in line
            before = good.count
            until(lambda: good.count > before + 5, "more checks")
            for _ in range(6):
                c = k.client()
                c.send("hello")
                assert c.line() == "hello"


# -- commands ------------------------------------------------------------------


def executable(tmp_path, text_):
    path = tmp_path / "script"
    path.write_text(f"#!/bin/sh\n{text_}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_command(tmp_path):
    """Its exit status is the answer; it knows whom it is about."""
    flag, told = tmp_path / "up", tmp_path / "told"
    script = executable(
        tmp_path, 'env >"$2.new"; mv "$2.new" "$2"; echo noise; test -e "$1"')
    options = ("--check", "10ms", "--check-fall", "2", "--check-rise", "2",
               "--check-command", script, "--check-command", str(flag),
               "--check-command", str(told))
    with backends("one") as (one,):
        with checking(one.where, options=options) as (k, errors):
            errors.say(one.where, "down: exit status 1")
            assert k.client().closed()
            flag.touch()
            errors.say(one.where, "up")
            assert k.client().line() == "one"
            flag.unlink()
            errors.say(one.where, "down: exit status 1")
    env = dict(line.split("=", 1) for line in told.read_text().splitlines()
               if "=" in line)
    assert env["KQUAY_TARGET"] == one.where
    assert env["KQUAY_TARGET_HOST"] == "127.0.0.1"
    assert env["KQUAY_TARGET_PORT"] == one.port
    assert env["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("text_, why", (
    ("kill -TERM $$", "the command was ended by Terminated"),
    ("sleep 1000", "the command took too long"),
    ("exit 3", "exit status 3"),
))
def test_how_a_command_ends(tmp_path, text_, why):
    options = ("--check", "10ms", "--check-timeout", "200ms",
               "--check-command", executable(tmp_path, text_))
    with nobody() as where:
        with checking(where, options=options) as (_, errors):
            errors.say(where, f"down: {why}")


def test_what_a_command_leaves_behind(tmp_path):
    """goes with it: nothing gathers, no zombies either."""
    pids = tmp_path / "pids"
    script = executable(tmp_path, f'sleep 1000 & echo $! >>"{pids}"')
    options = ("--check", "1ms", "--check-command", script)
    with nobody() as where:
        with checking(where, options=options) as (k, _):
            until(lambda: pids.exists() and
                  len(pids.read_text().split()) >= 20, "20 checks")
            assert len(k.children()) <= 1
            started = [int(pid) for pid in pids.read_text().split()]
            assert sum(map(alive, started)) <= 1
            k.stop()
    until(lambda: not any(map(alive, started)), "the last is gone")


# -- for ever ------------------------------------------------------------------


def test_a_thousand_checks_leak_nothing(family, tmp_path):
    """Good ones and bad ones by turns."""
    def serve(s):
        if backend.count % 2:
            s.sendall(b"pong")
        s.recv(64)

    backend = Backend(address(family, tmp_path), serve)
    options = ("--check", "1ms", "--check-timeout", "20s", "--check-fall", "2",
               *PING)
    with checking(backend.where, options=options) as (k, errors):
        folder = f"/proc/{k.p.pid}/fd"
        until(lambda: backend.count >= 50, "50 checks")
        before = len(os.listdir(folder))
        until(lambda: backend.count >= 1050, "1000 checks")
        assert len(os.listdir(folder)) <= before + 1
        assert errors.nothing()
    backend.close()


def test_what_hinders_us_says_nothing_about_them():
    """An address of ours that we have not: said once, and nobody is down."""
    options = ("--check", "2ms", "--check-fall", "1", "--source", "192.0.2.1")
    with backends("one", "two") as both:
        with checking(*(b.where for b in both), options=options) as (k, errors):
            assert errors.line().endswith(
                " cannot be checked: Cannot assign requested address")
            before = woken(k)
            until(lambda: woken(k) > before + 50, "more checks")
            assert errors.nothing()


def test_a_reload_ends_the_checks_of_before(tmp_path):
    """While a caller stays with the target that is checked no more."""
    conf = tmp_path / "kquay.conf"
    text_ = ('service r {{ handler = relay listen = "unix:{0}/s" to = "{1}"\n'
             'check = 5ms check-expect = "b" }}\n')

    def serve(s):
        s.sendall(b"backend\n")
        s.recv(1)

    old, new = Backend(serve=serve), Backend(serve=serve)
    with contextlib.ExitStack() as stack:
        stack.callback(old.close)
        stack.callback(new.close)
        conf.write_text(text_.format(tmp_path, old.where))
        k = stack.enter_context(running("run", "-c", str(conf)))
        caller = k.client()
        assert caller.line() == "backend"
        until(lambda: old.count > 5, "checks")
        conf.write_text(text_.format(tmp_path, new.where))
        k.signal(signal.SIGHUP)
        until(lambda: new.count > 5, "checks of the other")
        before = old.count
        until(lambda: new.count > 50, "more")
        assert old.count <= before + 1  # that was on its way
        caller.s.setblocking(False)
        with pytest.raises(BlockingIOError):
            caller.s.recv(1)
        k.signal()
        status, errors = k.wait()
        assert status == 0 and errors.count("\n") == 1, errors


def woken(k):
    """How often the process has waited for something."""
    with open(f"/proc/{k.p.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f
                    if line.startswith("voluntary_ctxt_switches"))


# -- settings ------------------------------------------------------------------


@pytest.mark.parametrize("options, why", (
    (("--check-send", "ping"), "check-send: without check-expect nobody looks "
     "at the answer"),
    (("--check-command", "true", "--check-expect", "x"), "check-command: its "
     "exit status is the answer; check-expect is for checks without a command"),
    (("--check-command", "/nowhere/at all"), "check-command: /nowhere/at all: "
     "No such file or directory"),
    (("--check-rise", "0"), "check-rise: '0' is out of range (1 to 1000)"),
))
def test_settings_that_do_not_fit(options, why):
    done = once("serve", "relay", "-l", "127.0.0.1:0", "--to", "127.0.0.1:1",
                "--check", "1s", *options)
    assert why in done.stderr
    assert done.returncode in (USAGE, CONFIG)
