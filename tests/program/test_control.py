"""The control socket, and the commands that use it."""

import contextlib
import os
import pwd
import select
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from kquay import (DEADLINE, KQUAY, USAGE, Client, Kquay, connect, once,
                   running, until)
from ports import free_port
from steer import TWO, steered

UNAVAILABLE = 69
NOPERM = 77


def test_status_counts(tmp_path):
    with steered(tmp_path) as s:
        chats = [s.k.client(s.k.listening[0]) for _ in range(3)]
        for c in chats:
            assert c.line() == "welcome!"
        assert s.k.client(s.k.listening[0]).line() == "connection refused"
        echo = s.k.client(s.k.listening[2])
        echo.send("12345678\n")
        assert echo.line() == "12345678"
        chats.pop().close()
        until(lambda: s.service("small chat")["connections"]["now"] == 2,
              "two are left")
        told = s.json("status")
        assert told["pid"] == s.k.p.pid
        assert told["workers"] == 1 and told["generation"] == 1
        assert 0 <= told["uptime"] < 60
        assert abs(told["started"] - time.time()) < 60
        chat, echo = told["services"]
        assert chat["name"] == "small chat" and chat["handler"] == "chat"
        assert chat["listening"] == s.k.listening[:2]
        assert chat["limits"] == {"max_connections": 3,
                                  "max_per_source": None}
        assert chat["connections"] == {"now": 2, "peak": 3, "draining": 0}
        assert chat["accepted"] == 3 and chat["closed"] == 1
        assert chat["refused"]["total"] == chat["refused"]["full"] == 1
        assert chat["ended"]["eof"] == sum(chat["ended"].values()) == 1
        assert echo["bytes"] == {"in": 9, "out": 9}
        assert echo["targets"] == []
        first, _, *rows = s.ask("status").splitlines()
        assert f"pid {s.k.p.pid}" in first
        assert rows[0].split()[:2] == ["SERVICE", "HANDLER"]
        assert rows[1].split()[:7] == ["small", "chat", "chat", "2", "3", "3",
                                       "3"]


def test_connections_are_listed(tmp_path):
    with steered(tmp_path) as s:
        tcp = s.k.client(s.k.listening[0])
        local = s.k.client(f"unix:{tmp_path}/chat.s")
        echo = s.k.client(s.k.listening[2])
        assert tcp.line() == local.line() == "welcome!"
        echo.send("1234\n")
        assert echo.line() == "1234"
        until(lambda: len(s.connections()) == 3, "all are listed")
        told = {c["peer"]: c for c in s.connections()}
        assert told.keys() == {tcp.name(), local.name(), echo.name()}
        one = told[echo.name()]
        assert one["service"] == "echo" and one["to"] is None
        assert one["in"] == one["out"] == 5
        assert 0 <= one["idle"] <= one["age"] + 0.1 < 60
        ids = [c["id"] for c in s.connections()]
        assert ids == sorted(set(ids)) and ids[0] > 0

        def peers(*args):
            return {c["peer"] for c in s.connections(*args)}

        assert peers("--service", "echo") == {echo.name()}
        assert peers("--peer", "127.0.0.0/8") == {tcp.name(), echo.name()}
        assert peers("--peer", "unix") == {local.name()}
        assert peers("--peer", f"uid:{os.getuid()}") == {local.name()}
        assert peers("--peer", "127.0.0.1", "--service", "small chat") == \
            {tcp.name()}
        assert peers("--peer", "10.0.0.0/8") == set()
        rows = s.ask("connections").splitlines()
        assert rows[0].split() == ["ID", "SERVICE", "PEER", "TO", "AGE",
                                   "IDLE", "IN", "OUT"]
        assert len(rows) == 4


def test_idle_is_told(tmp_path):
    # Longer than asking takes where the machine is busy.
    with steered(tmp_path) as s:
        c = s.k.client(s.k.listening[2])
        c.send("x\n")
        assert c.line() == "x"
        until(lambda: s.connections()[0]["idle"] >= 1.5, "it has been idle")
        c.send("x\n")
        assert c.line() == "x"
        until(lambda: s.connections()[0]["idle"] < 1.5, "no longer")
        assert s.connections()[0]["age"] >= 1.5


def test_lists_have_pages(tmp_path):
    with steered(tmp_path) as s:
        clients = [s.k.client(s.k.listening[2]) for _ in range(25)]
        until(lambda: len(s.connections()) == 25, "all are there")
        ids, after = [], ()
        while True:
            page = s.json("connections", "--limit", "10", *after)
            ids += [c["id"] for c in page["connections"]]
            if page["next"] is None:
                break
            assert len(page["connections"]) == 10
            after = ("--after", str(page["next"]))
        assert ids == [c["id"] for c in s.connections()]
        assert len(ids) == len(clients)
        last = s.ask("connections", "--limit", "24").splitlines()[-1]
        assert last == f"1 more: --after {ids[23]}, or --limit N"


def test_close_closes_those(tmp_path):
    with steered(tmp_path) as s:
        clients = {}
        for where in (0, 0, 2, 2, 2):
            c = s.k.client(s.k.listening[where])
            clients[c.name()] = c
        until(lambda: len(s.connections()) == 5, "all are there")
        echoes = s.connections("--service", "echo")
        first = echoes[0]
        assert s.ask("close", str(first["id"])) == "closed 1\n"
        assert clients.pop(first["peer"]).line() is None
        assert s.ask("close", str(first["id"])) == "closed 0\n"
        assert s.ask("close", "--service", "echo", "--peer", "::1") == \
            "closed 0\n"
        for c in echoes[1:]:
            clients[c["peer"]].send("still here\n")
            assert clients[c["peer"]].line() == "still here"
        assert s.ask("close", "--service", "echo") == "closed 2\n"
        for c in echoes[1:]:
            assert clients.pop(c["peer"]).line() is None
        assert len(s.connections()) == 2
        assert s.ask("close", "--peer", "127.0.0.0/8") == "closed 2\n"
        for c in clients.values():
            assert c.line() == "welcome!"
            assert c.line() is None


def test_drain_one(tmp_path):
    with steered(tmp_path) as s:
        old = s.k.client(s.k.listening[2])
        old.send("1\n")
        assert old.line() == "1"
        s.ask("drain", "echo")
        with pytest.raises(ConnectionRefusedError):
            s.k.client(s.k.listening[2])
        old.send("2\n")
        assert old.line() == "2"
        told = s.service("echo")
        assert told["listening"] == [] and told["connections"]["now"] == 1
        assert s.k.client(s.k.listening[0]).line() == "welcome!"
        p = s.raw("drain", "nothing")
        assert p.returncode == 1 and "nothing" in p.stderr, p


def test_reload(tmp_path):
    with steered(tmp_path) as s:
        old = s.k.client(s.k.listening[0])
        assert old.line() == "welcome!"
        conf = tmp_path / "k.conf"
        text = conf.read_text()
        conf.write_text(text.replace("handler = chat",
                                     'handler = chat\n welcome = "again"'))
        s.ask("reload")
        new = s.k.client(f"unix:{tmp_path}/chat.s")
        assert new.line() == "again"
        assert s.json("status")["generation"] == 2
        assert s.service("small chat")["connections"] == \
            {"now": 2, "peak": 2, "draining": 1}
        conf.write_text("nonsense")
        p = s.raw("reload")
        assert p.returncode == 1 and "k.conf:1" in p.stderr, p
        assert s.json("status")["generation"] == 2


def test_drain_all_is_the_end(tmp_path):
    with steered(tmp_path) as s:
        c = s.k.client(s.k.listening[2])
        c.send("1\n")
        assert c.line() == "1"
        s.ask("drain", "all")
        c.close()
        assert s.k.wait() == (0, "")
        assert not (tmp_path / "control.s").exists()


def test_a_drained_service_begins_anew(tmp_path):
    with steered(tmp_path) as s:
        s.ask("drain", "small chat")
        until(lambda: len(s.json("status")["services"]) == 1, "it has gone")
        s.ask("reload")
        c = s.k.client(f"unix:{tmp_path}/chat.s")
        assert c.line() == "welcome!"
        assert s.service("small chat")["connections"]["now"] == 1


def test_workers(tmp_path):
    """The sums of four, and connections of whichever worker."""
    with steered(tmp_path, settings="workers = 4") as s:
        clients = {}
        for _ in range(40):
            c = s.k.client(s.k.listening[2])
            c.send("1234567\n")
            assert c.line() == "1234567"
            clients[c.name()] = c
        told = s.json("status")
        assert told["workers"] == 4
        echo = s.service("echo")
        assert echo["connections"]["now"] == echo["accepted"] == 40
        assert echo["bytes"] == {"in": 320, "out": 320}
        assert len(echo["listening"]) == 1
        listed = s.connections()
        assert {c["peer"] for c in listed} == clients.keys()
        assert len({c["id"] for c in listed}) == 40
        assert s.ask("close", str(listed[7]["id"])) == "closed 1\n"
        assert clients.pop(listed[7]["peer"]).line() is None
        assert s.ask("close", "--service", "echo") == "closed 39\n"
        for c in clients.values():
            assert c.line() is None
        until(lambda: s.service("echo")["ended"]["done"] == 40, "all ended")


def test_idle_costs_nothing(tmp_path):
    with steered(tmp_path, settings=f"""
            status = "127.0.0.1:{free_port()}"
            workers = 2""") as s:
        assert s.service("echo")["accepted"] == 0
        used = s.k.cpu()
        time.sleep(1)
        assert s.k.cpu() - used <= 0.02


def test_asked_under_load(tmp_path):
    """Connections come and go in four workers while three ask all the time."""
    with steered(tmp_path, settings="workers = 4") as s:
        stop, failed = threading.Event(), []

        def guarded(fn):
            def run():
                try:
                    while not stop.is_set():
                        fn()
                except Exception as e:      # told below, in the test's thread
                    failed.append(e)
            t = threading.Thread(target=run)
            t.start()
            return t

        def talk():
            c = Client(s.k.listening[2])
            c.send("hello\n")
            assert c.line() == "hello"
            c.close()

        threads = [guarded(talk) for _ in range(4)]
        threads += [guarded(lambda: s.json("status")),
                    guarded(lambda: s.json("connections")),
                    guarded(lambda: s.ask("reload"))]
        time.sleep(3)
        stop.set()
        for t in threads:
            t.join()
        assert failed == []
        echo = s.service("echo")
        assert echo["accepted"] > 100 and echo["refused"]["total"] == 0


def test_upgrade(tmp_path):
    """Another process answers on the same control socket, and only it."""
    with steered(tmp_path) as s:
        old = s.k.client(f"unix:{tmp_path}/chat.s")
        assert old.line() == "welcome!"
        s.ask("upgrade")
        pid = s.json("status")["pid"]
        assert pid != s.k.p.pid
        try:
            new = s.k.client(f"unix:{tmp_path}/chat.s")
            assert new.line() == "welcome!"
            new.send("to nobody\n")
            assert s.service("small chat")["connections"]["now"] == 1
            old.close()
            assert s.k.p.wait(timeout=DEADLINE) == 0
            assert (tmp_path / "control.s").is_socket()
            assert s.json("status")["pid"] == pid
        finally:
            os.kill(pid, signal.SIGTERM)
            until(lambda: not (tmp_path / "control.s").exists(),
                  "the new one has ended")


RELAY = """
service "front" {{
    handler = relay
    listen = "127.0.0.1:0"
    to = {{"{up} weight=3", "{down} backup"}}
    check = 100ms
}}
"""


def test_targets(tmp_path):
    with running("serve", "echo", "-l", "127.0.0.2:0") as target:
        down = f"127.0.0.1:{free_port()}"
        with steered(tmp_path, RELAY.format(up=target.where, down=down)) as s:
            def targets():
                return {t["address"]: t
                        for t in s.service("front")["targets"]}

            until(lambda: [t["health"] for t in targets().values()] ==
                  ["up", "down"], "both have been checked")
            c = s.k.client()
            c.send("12345\n")
            assert c.line() == "12345"
            one = targets()[target.where]
            assert one["name"] == f"{target.where} weight=3"
            assert (one["up"], one["weight"], one["connections"],
                    one["dialled"], one["backup"]) == (True, 3, 1, 1, False)
            other = targets()[down]
            assert (other["up"], other["backup"]) == (False, True)
            # Bytes and connections are the caller's alone.
            front = s.service("front")
            assert front["bytes"] == {"in": 6, "out": 6}
            assert front["connections"]["now"] == 1
            assert front["connections"]["peak"] == 1
            assert front["dialled"] >= 1        # and checks
            listed, = s.connections()
            assert listed["peer"] == c.name()
            assert listed["to"] == target.where
            assert (listed["in"], listed["out"]) == (6, 6)
            rows = s.ask("status").splitlines()
            assert any("down, backup" in row for row in rows)
            # Whom the relay has called is none of them.
            assert s.ask("close", "--peer", "127.0.0.2") == "closed 0\n"
            c.send("still here\n")
            assert c.line() == "still here"
            assert s.ask("close", "--service", "front") == "closed 1\n"
            assert c.line() is None
            until(lambda: targets()[target.where]["connections"] == 0,
                  "it is given back")


@pytest.mark.parametrize("command", ["status", "connections", "reload",
                                     "upgrade"])
def test_nobody_listens(command, tmp_path):
    p = once(command, "-s", str(tmp_path / "none.s"))
    assert p.returncode == UNAVAILABLE
    assert p.stderr == (f"kquay: {tmp_path}/none.s: no kquay listens there "
                        "(see -s and the setting control)\n")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "none.s"))
    assert once(command, "-s", str(tmp_path / "none.s")).returncode == \
        UNAVAILABLE


@pytest.mark.parametrize("args, why", [
    (("status", "--jason"), "no such option: --jason"),
    (("status", "--limit", "3"), "no such option: --limit"),
    (("status", "now"), "unexpected argument: now"),
    (("status", "-s"), "a value is missing after -s"),
    (("connections", "--limit", "0"), "'0' is no number from 1 to 10000"),
    (("connections", "--after", "x"), "'x' is no number"),
    (("close",), "say which"),
    (("close", "7", "x"), "'x' is no number"),
    (("drain",), "name one service, or all"),
    (("drain", "a", "b"), "name one service, or all"),
    (("status", "-s", "x" * 200), "too long"),
])
def test_usage(args, why):
    p = once(*args)
    assert p.returncode == USAGE, p
    assert why in p.stderr and p.stderr.count("\n") == 1, p


@pytest.mark.parametrize("command", ["status", "connections", "close", "drain",
                                     "reload", "upgrade"])
def test_help(command):
    p = once(command, "--help")
    assert p.returncode == 0 and p.stderr == ""
    assert p.stdout.startswith(f"usage: kquay {command} ")
    assert "--socket PATH" in p.stdout


def test_an_answer_that_cannot_be_printed(tmp_path):
    with steered(tmp_path) as s, open("/dev/full", "w") as full:
        p = subprocess.run([KQUAY, "status", "-s", s.socket], stdout=full,
                           stderr=subprocess.PIPE, text=True, check=False)
        assert p.returncode == 1 and "standard output" in p.stderr


# What the client makes of one who is no kquay.
@pytest.mark.parametrize("answer, why", [
    (b"", "no answer that makes sense"),
    (b"ok", "no answer that makes sense"),
    (b"ok -1\n", "no answer that makes sense"),
    (b"ok 99999999999999999999999\n", "no answer that makes sense"),
    (b"HTTP/1.1 200 OK\r\n", "no answer that makes sense"),
    (b"x" * 5000, "no answer that makes sense"),
    (b"ok 10\n12345", "the answer is cut off"),
    (b"error 9\n12345\n", "the answer is cut off"),
    (b"error 8\n\x1b[2Jbad\n", "?[2Jbad"),
])
def test_strange_answers(answer, why, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve():
            c, _ = listener.accept()
            with c:
                c.recv(4096)
                c.sendall(answer)

        t = threading.Thread(target=serve)
        t.start()
        p = once("status", "-s", str(tmp_path / "s"))
        t.join()
    assert p.returncode == 1
    assert why in p.stderr and p.stderr.count("\n") == 1, p


# -- who may ask ---------------------------------------------------------------

def as_nobody(*args):
    nobody = pwd.getpwnam("nobody")

    def become():
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    return once(*args, preexec_fn=become)


def open_up(path):
    """Let others search the folders on the way."""
    for folder in [path, *path.parents]:
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o011)


root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def test_mode(tmp_path):
    with steered(tmp_path) as s:
        assert stat.S_IMODE(os.stat(s.socket).st_mode) == 0o600
    with steered(tmp_path, settings='control-mode = "0640"') as s:
        assert stat.S_IMODE(os.stat(s.socket).st_mode) == 0o640


@root_only
def test_others_may_not_ask(tmp_path):
    open_up(tmp_path)
    with steered(tmp_path) as s:
        p = as_nobody("status", "-s", s.socket)
        assert p.returncode == NOPERM and "Permission denied" in p.stderr, p
        # The file alone does not decide it.
        os.chmod(s.socket, 0o666)
        p = as_nobody("status", "-s", s.socket)
        assert (p.returncode, p.stderr) == (1, "kquay: permission denied\n")
        assert p.stdout == ""


@root_only
def test_others_may_ask_where_the_mode_says_so(tmp_path):
    open_up(tmp_path)
    with steered(tmp_path, settings='control-mode = "0666"') as s:
        p = as_nobody("status", "-s", s.socket)
        assert p.returncode == 0, p


def test_the_socket_of_a_dead_one_is_replaced(tmp_path):
    (tmp_path / "k.conf").write_text(f'control = "{tmp_path}/control.s"\n'
                                     + TWO)
    k = Kquay("run", "-c", "k.conf", cwd=tmp_path)
    k.signal(signal.SIGKILL)
    k.kill()
    assert (tmp_path / "control.s").is_socket()
    with steered(tmp_path) as s:
        assert s.json("status")["pid"] == s.k.p.pid
        # That of a living one is not.
        p = once("run", "-c", "k.conf", cwd=tmp_path)
        assert p.returncode == 1 and "in use" in p.stderr, p
        assert s.json("status")["pid"] == s.k.p.pid
    assert not (tmp_path / "control.s").exists()


# -- whoever talks to it ----------------------------------------------------------

@pytest.mark.parametrize("request_, answer", [
    (b"\n", b"error 27\nan empty request: try help\n"),
    (b"GET / HTTP/1.1\r\n\r\n", b"error 31\nGET: no such request: try help\n"),
    (b"status\0json\n", b"error 11\na NUL byte\n"),
    (b"status \x1b[2J\n", b"error 20\na control character\n"),
    (b"close peer nowhere\n", b"error 111\npeer: 'nowhere': none of an address"),
    (b"\xff\xfe\n", b"error 30\n\xff\xfe: no such request: try help\n"),
])
def test_garbage(request_, answer, tmp_path):
    with steered(tmp_path) as s:
        assert s.say(request_).startswith(answer)
        assert s.json("status")["pid"] == s.k.p.pid


def test_too_much_garbage(tmp_path):
    with steered(tmp_path) as s:
        assert s.say(b"x" * 100000) == b""
        assert s.say(os.urandom(100000).replace(b"\n", b"")) == b""
        assert s.say(b"help") != b""            # the end ends a line, too
        assert s.say(b"help\nstatus\n").startswith(b"ok ")
        assert s.json("status")["pid"] == s.k.p.pid


def test_who_does_not_wait_for_the_answer(tmp_path):
    with steered(tmp_path) as s:
        for _ in range(200):
            with s.dial() as c:
                c.sendall(b"status json\n")
        assert s.json("status")["pid"] == s.k.p.pid


def test_who_does_not_read(tmp_path):
    """An answer that no buffer takes, for many who leave it there."""
    with steered(tmp_path) as s:
        clients = [s.k.client(s.k.listening[2]) for _ in range(1500)]
        until(lambda: s.service("echo")["connections"]["now"] == len(clients),
              "all are there")
        deaf = [s.dial() for _ in range(20)]
        for c in deaf:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.sendall(b"connections json limit 10000\n")
        before = s.k.rss()
        assert len(s.connections("--limit", "10000")) == len(clients)
        used = s.k.cpu()
        time.sleep(1)
        assert s.k.cpu() - used <= 0.05
        for c in deaf:
            c.close()
        assert s.k.rss() < before + (48 << 20)


def test_long_lists_leave_room_for_callers(tmp_path):
    """They come one after the other, and a caller's turn is between them."""
    path, lists = f"{tmp_path}/c", 60
    with contextlib.ExitStack() as stack:
        k = stack.enter_context(running(
            "serve", "echo", "-l", f"unix:{tmp_path}/s", "--control", path))
        for _ in range(800):
            caller = stack.enter_context(connect(k.where))
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"
        clients = [stack.enter_context(connect(f"unix:{path}"))
                   for _ in range(lists)]
        poll = select.poll()
        for s in clients:
            poll.register(s, select.POLLIN)
            s.sendall(b"connections\n")
        echoes = 0
        while len(poll.poll(0)) < lists:
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"
            echoes += 1
        assert echoes > lists // 4
        for s in clients:
            with s.makefile("rb") as answer:
                assert answer.readline().startswith(b"ok ")
                assert len(answer.readlines()) == 801


def test_a_crowd(tmp_path):
    """1000 who say nothing, and one who has something to ask."""
    with steered(tmp_path) as s:
        crowd = [s.dial() for _ in range(1000)]
        before = s.k.rss()
        used, begun = s.k.cpu(), time.monotonic()
        assert s.json("status")["pid"] == s.k.p.pid
        assert time.monotonic() - begun < DEADLINE * 2
        assert s.k.cpu() - used <= 0.5
        assert s.k.rss() < before + (8 << 20)
        for c in crowd:
            c.close()


def test_many_at_once(tmp_path):
    """Each gets its answer, whole."""
    with steered(tmp_path) as s:
        crowd = [s.dial() for _ in range(300)]
        for c in crowd[::2]:
            c.sendall(b"status json\n")
        for c in crowd[1::2]:
            c.sendall(b"help\n")
        for c in crowd:
            answer = b""
            while part := c.recv(65536):
                answer += part
            head, body = answer.split(b"\n", 1)
            assert head == b"ok %d" % len(body)
            c.close()
