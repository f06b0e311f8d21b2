"""kquay serve exec --io pipes: kquay between the caller and the program."""

import contextlib
import os
import resource
import select
import socket
import ssl
import struct
import subprocess
import time

import pytest

from kquay import (CONFIG, DEADLINE, USAGE, Kquay, address, messages, once,
                   running, until)
from ports import has_ipv6
from process import alive, stat
from test_exec import MIB, PIPES, logged

SANITIZED = "KQUAY_SANITIZE" in os.environ


@pytest.fixture(name="kind", params=("tcp4", "tcp6", "unix", "tls", "tls unix"))
def fixture_kind(request, certs):
    """(family, options of the listener, what makes a client of a Kquay)"""
    name = request.param
    if name == "tcp6" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    if not name.startswith("tls"):
        return name, (), lambda k: k.client()
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    options = ("--tls-certificate", str(certs / "host.pem"),
               "--tls-key", str(certs / "host.key"))
    return ("unix" if name.endswith("unix") else "tcp4", options,
            lambda k: sealed(k, context))


def sealed(k, context):
    c = k.client()
    c.s = context.wrap_socket(c.s, server_hostname="localhost")
    return c


def serving(kind, tmp_path, *words, options=()):
    family, listener, _ = kind
    return running("serve", "exec", "-l", address(family, tmp_path), *listener,
                   *PIPES, *options, "--", *words)


def shell(kind, tmp_path, script, options=()):
    return serving(kind, tmp_path, "sh", "-c", script, options=options)


def exchange(c, data):
    """Send it, and meanwhile receive as much."""
    s, got, sent = c.s, bytearray(), 0
    view = memoryview(data)
    s.setblocking(False)
    deadline = time.monotonic() + DEADLINE
    while len(got) < len(data):
        assert time.monotonic() < deadline, (sent, len(got))
        busy = False
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError,
                                 ssl.SSLWantWriteError):
            if sent < len(data):
                sent += s.send(view[sent:sent + 65536])
                busy = True
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError,
                                 ssl.SSLWantWriteError):
            part = s.recv(65536)
            assert part, "cut off"
            got += part
            busy = True
        if not busy:
            select.select([s], [s] if sent < len(data) else [], [], 1)
    s.settimeout(DEADLINE)
    return bytes(got)


def reset(c):
    """Hang up with a reset."""
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


# -- bytes, and their end ------------------------------------------------------


def test_much_both_ways(kind, tmp_path):
    """8 MiB through cat(1), then the end, which cat answers with its own."""
    data = os.urandom(8 * MIB)
    with serving(kind, tmp_path, "cat") as k:
        c = kind[2](k)
        assert exchange(c, data) == data
        if isinstance(c.s, ssl.SSLSocket):
            c.s.unwrap()  # waits for the other close_notify
        else:
            c.done()
            assert c.rest() == b""
        until(lambda: k.children() == [], "cat is reaped")


def test_openssl(certs):
    """s_client says that it has ended, and still gets the answer."""
    much = os.urandom(MIB)
    with running("serve", "exec", "-l", "127.0.0.1:0", *PIPES,
                 "--tls-certificate", str(certs / "host.pem"), "--tls-key",
                 str(certs / "host.key"), "--", "sh", "-c",
                 f"head -c {MIB} | cksum") as k:
        want = subprocess.run(["cksum"], input=much, capture_output=True,
                              check=True).stdout
        r = subprocess.run(
            ["openssl", "s_client", "-connect", k.where, "-quiet",
             "-nocommands", "-verify_return_error", "-CAfile",
             str(certs / "ca.pem")],
            input=much, capture_output=True, timeout=DEADLINE, check=False)
        assert r.stdout == want
        until(lambda: k.children() == [], "it is reaped")


def test_the_end_of_input(family, tmp_path):
    """It reaches the program, whose output goes on."""
    with shell((family, (), None), tmp_path,
               f"wc -c; head -c {8 * MIB} /dev/zero") as k:
        c = k.client()
        c.send("x" * 100000)
        c.done()
        assert c.line() == "100000"
        assert c.rest() == bytes(8 * MIB)
        until(lambda: k.children() == [], "it is reaped")


def test_the_end_of_output(kind, tmp_path):
    """It reaches the caller, whose input goes on."""
    into = tmp_path / "input"
    data = os.urandom(MIB)
    with shell(kind, tmp_path, f"echo out; exec >&-; head -c {MIB} >{into}"
               ) as k:
        c = kind[2](k)
        assert c.rest() == b"out\n"
        assert len(k.children()) == 1
        c.send(data)
        until(lambda: k.children() == [], "the program has ended")
        assert into.read_bytes() == data


def test_input_that_nobody_reads(kind, tmp_path):
    """It costs no byte of the output."""
    with shell(kind, tmp_path, "exec <&-; echo hello; seq 20000") as k:
        c = kind[2](k)
        # It may be over before all has been sent; ssl has a name for that, too.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError,
                                 ssl.SSLEOFError):
            c.send(b"x" * MIB)
        assert c.line() == "hello"
        assert c.rest().split() == [b"%d" % n for n in range(1, 20001)]
        until(lambda: k.children() == [], "it is reaped")


def test_the_last_of_a_program_that_has_ended(family, tmp_path):
    """Left in the pipe for a caller that does not read, and read then."""
    with shell((family, (), None), tmp_path, "head -c 60000 /dev/zero") as k:
        c = k.client()
        until(lambda: k.children() == [], "the program has ended")
        assert c.rest() == bytes(60000)


def test_who_else_has_the_output(family, tmp_path):
    """A child that the program leaves behind holds up nobody."""
    with shell((family, (), None), tmp_path,
               "sleep 20 2>/dev/null & echo $!") as k:
        c = k.client()
        pid = int(c.rest())
        os.kill(pid, 9)
        until(lambda: k.children() == [], "it is reaped")


# -- memory --------------------------------------------------------------------


def test_a_caller_that_does_not_read(kind, tmp_path):
    """The program waits, and kquay holds no more than it may."""
    with serving(kind, tmp_path, "yes",
                 options=("--log", "none", "--errors", "discard")) as k:
        c = kind[2](k)
        assert c.line() == "y"
        before = k.rss()
        pid, = k.children()
        until(lambda: asleep(pid), "it cannot write")
        # A sanitizer keeps what is freed.
        assert k.rss() - before < (32 * MIB if SANITIZED else MIB)
        for _ in range(64):
            assert set(c.s.recv(65536)) == set(b"y\n")


def test_a_program_that_does_not_read(kind, tmp_path):
    with shell(kind, tmp_path, "echo $$; exec sleep 1000",
               options=("--log", "none")) as k:
        c = kind[2](k)
        pid = int(c.line())
        before = k.rss()
        c.s.settimeout(0.3)
        with pytest.raises(TimeoutError):
            for _ in range(1024):
                c.send(b"x" * 65536)
        assert k.rss() - before < MIB
        os.kill(pid, 9)
        until(lambda: k.children() == [], "it is reaped")


def asleep(pid):
    """It waits, and has for a moment."""
    one = stat(pid)
    time.sleep(0.05)
    two = stat(pid)
    return one[0] == two[0] == "S" and one[11:13] == two[11:13]


# -- standard error ------------------------------------------------------------


def test_errors_in_the_log(tmp_path):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "--errors", "log",
              "--", "sh", "-c", "echo one >&2; echo out; echo two >&2; exit 3")
    c = k.client()
    name = c.name()
    assert c.rest() == b"out\n"
    until(lambda: k.children() == [], "the child is reaped")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert logged(errors) == ["one", "two", "exit status 3"]
    assert all(line.startswith(f"exec: {name}: ")
               for line in messages(errors).splitlines())


def test_errors_to_the_peer(kind, tmp_path):
    with shell(kind, tmp_path, "echo one; echo two >&2",
               options=("--errors", "socket")) as k:
        assert kind[2](k).rest() == b"one\ntwo\n"
        until(lambda: k.children() == [], "it is reaped")


@pytest.mark.parametrize("io", ["socket", "pipes"])
def test_errors_without_end(io, tmp_path):
    """Whoever writes too much waits for the log, and the log for nobody."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--io", io, "--errors",
              "log", "--log", f"file:{tmp_path}/log", "--life-timeout", "500ms",
              "--", "sh", "-c", "exec yes >&2")
    try:
        c = k.client()
        pid = until(lambda: k.children(), "it runs")[0]
        until(lambda: os.path.getsize(f"{tmp_path}/log") > MIB, "it writes")
        before = k.rss()
        other = k.client()
        until(lambda: not alive(pid), "it is told to end")
        assert k.rss() - before < 2 * MIB
        c.close()
        other.close()
        until(lambda: k.children() == [], "both are reaped")
        k.signal()
        assert k.wait()[0] == 0
    finally:
        k.kill()
    log = (tmp_path / "log").read_text()
    assert log.count(': y"') > 1000
    assert "ended by Terminated" in log


# -- limits --------------------------------------------------------------------


def test_the_end_of_input_ignored(tmp_path):
    """Until life-timeout: SIGTERM, and after linger SIGKILL, for the group."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "--life-timeout",
              "300ms", "--linger", "200ms", "--", "sh", "-c",
              'trap "" TERM; sh -c "echo \\$\\$; sleep 1000" & wait; wait')
    c = k.client()
    inner = int(c.line())
    c.done()
    assert c.drain() == b""
    until(lambda: k.children() == [], "the child is reaped")
    until(lambda: not alive(inner), "its child is gone, too")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert "Killed" in errors


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_a_caller_that_is_gone(trap, tmp_path):
    with running("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "--linger",
                 "200ms" if trap else "1h", "--log", "none", "--", "sh", "-c",
                 trap + "echo; sleep 1000 & wait; wait") as k:
        c = k.client()
        assert c.line() == ""
        reset(c)
        until(lambda: k.children() == [], "the child is reaped")


def test_max_connections_is_a_limit_of_children(tmp_path):
    """Those whose callers are gone count as well."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "-n", "1",
              "--linger", "1h", "--", "sh", "-c",
              "trap '' TERM; echo $$; sleep 1000 & wait; wait")
    try:
        c = k.client()
        pid = int(c.line())
        assert k.client().drain() == b""
        reset(c)

        def turned_away():
            # At first it is the place of the caller that is not free.
            return b"max-connections: programs" in log()

        def log():
            nonlocal seen
            k.client().drain()
            while select.select([k.p.stderr], [], [], 0)[0]:
                seen += os.read(k.p.stderr.fileno(), 65536)
            return seen
        seen = b""
        until(turned_away, "there is no room")
        assert k.children() == [pid]
        os.killpg(pid, 9)
        until(lambda: k.children() == [], "it is reaped")
        assert int(k.client().line()) != pid
        k.signal()
        k.signal()
        until(lambda: k.p.poll() is not None or k.signal(), "it ends")
    finally:
        k.kill()


def test_idle_timeout(kind, tmp_path):
    with serving(kind, tmp_path, "cat", options=("-t", "200ms", "--log", "none")) as k:
        c = kind[2](k)
        c.send("x\n")
        assert c.line() == "x"
        begun = time.monotonic()
        c.drain()
        assert time.monotonic() - begun > 0.1
        until(lambda: k.children() == [], "the child is reaped")


def test_many_at_once(family, tmp_path):
    """200, three times: no descriptor and no process is left."""
    with serving((family, (), None), tmp_path, "cat",
                 options=("--errors", "log", "-n", "250")) as k:
        before = k.descriptors()
        for _ in range(3):
            clients = [k.client() for _ in range(200)]
            for i, c in enumerate(clients):
                c.send(f"{i}\n")
            for i, c in enumerate(clients):
                assert c.line() == str(i)
            assert len(k.children()) == 200
            for c in clients:
                c.done()
            for c in clients:
                assert c.rest() == b""
                c.close()
            until(lambda: k.children() == [], "all are reaped")
            until(lambda: k.descriptors() == before, "as before")


def test_workers(tmp_path):
    with running("serve", "exec", "-l", "127.0.0.1:0", "--workers", "3", *PIPES,
                 "--", "cat") as k:
        clients = [k.client() for _ in range(30)]
        for i, c in enumerate(clients):
            c.send(f"{i}\n")
            c.done()
        for i, c in enumerate(clients):
            assert c.rest() == f"{i}\n".encode()
        until(lambda: every_child(k) == [], "all are reaped")


def every_child(k):
    """Of all threads."""
    found = []
    for task in os.listdir(f"/proc/{k.p.pid}/task"):
        with open(f"/proc/{k.p.pid}/task/{task}/children",
                  encoding="ascii") as f:
            found += f.read().split()
    return found


def test_descriptors_are_counted():
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    args = ("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "--errors", "log")
    r = once(*args, "-n", "60", "--", "cat", preexec_fn=few)
    assert (r.returncode, r.stdout) == (CONFIG, "")
    assert "60 connections take" in r.stderr
    lower = r.stderr.split("lower max-connections to ")[1].split()[0]
    with running(*args, "-n", lower, "--", "cat", preexec_fn=few) as k:
        clients = [k.client() for _ in range(int(lower))]
        for c in clients:
            c.send("x\n")
        for c in clients:
            assert c.line() == "x"


# -- with what else there is ---------------------------------------------------


def test_behind_a_proxy_and_tls(certs):
    with running("serve", "exec", "-l", "127.0.0.1:0", *PIPES,
                 "--proxy-protocol", "on", "--tls-certificate",
                 str(certs / "host.pem"), "--tls-key", str(certs / "host.key"),
                 "--", "env") as k:
        context = ssl.create_default_context(cafile=certs / "ca.pem")
        c = k.client()
        c.send("PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n")
        c.s = context.wrap_socket(c.s, server_hostname="localhost")
        told = c.rest().decode().splitlines()
        assert "TCPREMOTEIP=192.0.2.1" in told
        assert "TCPREMOTEPORT=4711" in told
        assert "TCPLOCALPORT=443" in told
        until(lambda: k.children() == [], "it is reaped")


def test_bytes_are_counted(tmp_path):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *PIPES, "--log-level",
              "info", "--", "wc", "-c")
    c = k.client()
    c.send("x" * 4711)
    c.done()
    assert c.rest() == b"4711\n"
    c.close()
    until(lambda: k.children() == [], "the child is reaped")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert " in=4711 out=5 " in errors + " "


def test_a_reload_leaves_no_zombie(tmp_path):
    """What is cut off by one is killed, and reaped."""
    conf = tmp_path / "kquay.conf"

    def write(word):
        conf.write_text('log = none\nservice "e" {\n  handler = "exec"\n  io = pipes\n'
                        '  listen = {"127.0.0.1:0"}\n  retire-timeout = 0s\n'
                        f'  command = {{"sh", "-c", "echo {word}; cat"}}\n}}\n')
    write("one")
    with running("run", "-c", str(conf)) as k:
        c = k.client()
        assert c.line() == "one"
        pid, = k.children()
        write("two")
        k.signal(1)
        assert c.drain() == b""
        until(lambda: k.children() == [], "it is reaped")
        assert not alive(pid)
        assert k.client().line() == "two"


def test_what_tls_and_idle_timeout_need(certs):
    for options, name in (
            (("--tls-certificate", str(certs / "host.pem"), "--tls-key",
              str(certs / "host.key")), "tls-certificate"),
            (("-t", "1s"), "idle-timeout")):
        r = once("serve", "exec", "-l", "127.0.0.1:0", *options, "--", "cat")
        assert (r.returncode, r.stdout) == (USAGE, "")
        assert r.stderr.startswith(f"kquay: {name}: ")
        assert "unless io is pipes" in r.stderr
