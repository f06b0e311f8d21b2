"""Upgrades that come to nothing: the earlier program goes on as it was."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from kquay import DEADLINE, KQUAY, Kquay, connect, once, until
from workers import all_serve


@contextlib.contextmanager
def started(tmp_path, services, settings=""):
    """A kquay with a control socket, and a file that can be changed."""
    path = tmp_path / "kquay.conf"
    head = f'control = "{tmp_path}/control.s"\n{settings}\n'
    path.write_text(head + services)
    k = Kquay("run", "-c", path, cwd=tmp_path)
    try:
        yield k, lambda more: path.write_text(head + services + more)
    finally:
        k.kill()


def ask(tmp_path, *command):
    return once(*command, "-s", f"{tmp_path}/control.s")


def echoes(where):
    with connect(where) as s:
        s.sendall(b"still")
        return s.recv(5) == b"still"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", ["service", "status"])
def test_one_that_cannot_listen(tmp_path, workers, what):
    """Having inherited the sockets: their files are not the new one's yet."""
    services = f"""
        workers = {workers}
        service a {{ handler = echo listen = {{"unix:a.s", "unix:{tmp_path}/b.s"}} }}
        """
    with started(tmp_path, services) as (k, add), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        add(f'service b {{ handler = echo listen = {{"{where}"}} }}'
            if what == "service" else f'status = "{where}"')
        p = ask(tmp_path, "upgrade")
        assert (p.returncode, "not upgraded" in p.stderr) == (1, True), p
        assert ask(tmp_path, "status").returncode == 0
        for name in ("a.s", "b.s"):
            assert echoes(f"unix:{tmp_path}/{name}")
        k.signal()
        assert k.p.wait(DEADLINE) == 0
        left = {p.name for p in tmp_path.iterdir()}
        assert left == {"kquay.conf"}


def child(k):
    """The one process that k has begun."""
    path = f"/proc/{k.p.pid}/task/{k.p.pid}/children"
    with open(path, encoding="ascii") as f:
        pids = f.read().split()
    assert len(pids) <= 1
    return int(pids[0]) if pids else None


def hang(path):
    """Who reads this file waits for ever."""
    path.unlink()
    os.mkfifo(path)


def test_one_that_hangs(tmp_path):
    services = f'service a {{ handler = echo listen = "unix:{tmp_path}/a.s" }}'
    with started(tmp_path, services, "upgrade-timeout = 100ms") as (k, _):
        hang(tmp_path / "kquay.conf")
        for _ in range(2):
            p = ask(tmp_path, "upgrade")
            assert (p.returncode, "not ready in time" in p.stderr) == (1, True), p
            assert child(k) is None
            assert echoes(k.where)
        k.signal()
        assert k.p.wait(DEADLINE) == 0


def test_one_that_crashes(tmp_path):
    services = f'service a {{ handler = echo listen = "unix:{tmp_path}/a.s" }}'
    with started(tmp_path, services) as (k, _):
        hang(tmp_path / "kquay.conf")
        with subprocess.Popen([KQUAY, "upgrade", "-s", tmp_path / "control.s"],
                              stderr=subprocess.PIPE, text=True) as p:
            os.kill(until(lambda: child(k), "the new program"), signal.SIGSEGV)
            assert "has ended" in p.communicate(timeout=DEADLINE)[1]
            assert p.returncode == 1
        assert echoes(k.where)
        k.signal()
        assert k.p.wait(DEADLINE) == 0


def test_another_mode(tmp_path):
    """The new program has other settings for the sockets that it inherits."""
    path = tmp_path / "kquay.conf"

    def write(mode):
        path.write_text(f"""
            control = "{tmp_path}/control.s" control-mode = {mode}
            service a {{
                handler = echo listen = "unix:{tmp_path}/a.s" mode = {mode}
            }}
            """)

    write("0600")
    k = Kquay("run", "-c", path)
    pid = k.p.pid
    try:
        write("0660")
        p = ask(tmp_path, "upgrade")
        assert p.returncode == 0, p
        pid = int(re.search(r"process (\d+)", p.stdout)[1])
        assert k.p.wait(DEADLINE) == 0
        for name in ("a.s", "control.s"):
            assert (tmp_path / name).stat().st_mode & 0o7777 == 0o660
        assert echoes(k.where)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        k.kill()
    assert not (tmp_path / "control.s").exists()


def has_threads(pid, n):
    """A sanitizer may have one more."""
    there = len(os.listdir(f"/proc/{pid}/task"))
    return there == n or (there > n and "KQUAY_SANITIZE" in os.environ)


def test_all_workers_serve(tmp_path):
    """However many the program before had."""
    services = f'''service a {{ handler = echo
        listen = {{"127.0.0.1:0", "unix:{tmp_path}/a.s"}} }}
        '''
    with started(tmp_path, services, "workers = 3") as (k, _):
        path = tmp_path / "kquay.conf"
        pid = k.p.pid
        try:
            for workers in (3, 3, 4, 2, 1, 3):
                text = path.read_text()
                path.write_text(re.sub("workers = .", f"workers = {workers}",
                                       text))
                p = ask(tmp_path, "upgrade")
                assert p.returncode == 0, p
                pid = int(re.search(r"process (\d+)", p.stdout)[1])
                until(lambda: has_threads(pid, workers), "its threads")
                for where in k.listening:
                    all_serve(pid, where)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("sandbox", ["on", "off"])
@pytest.mark.parametrize("workers", [1, 2])
def test_addresses_that_are_no_more(tmp_path, workers, sandbox):
    """The files of UNIX sockets go with them, the control socket's, too."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    text = '''
        workers = {}
        sandbox = {}
        control = "{}/control.s"
        status = "{}:{}/c/status.s"
        service a {{ handler = echo
            listen = {{"127.0.0.1:0", "unix:{}/one.s", "unix:{}/b/two.s"}} }}
        '''
    path = tmp_path / "kquay.conf"
    path.write_text(text.format(workers, sandbox, tmp_path, "unix", tmp_path,
                                tmp_path, tmp_path))
    k = Kquay("run", "-c", path)
    pid = k.p.pid
    try:
        # Somebody has put a file of their own there: that stays.
        (tmp_path / "c" / "status.s").unlink()
        (tmp_path / "c" / "status.s").write_text("mine")
        path.write_text(f'''
            workers = {workers}
            sandbox = {sandbox}
            control = "{tmp_path}/a/control.s"
            service a {{ handler = echo listen = {{"unix:{tmp_path}/one.s"}} }}
            ''')
        p = ask(tmp_path, "upgrade")
        assert p.returncode == 0, p
        pid = int(re.search(r"process (\d+)", p.stdout)[1])
        assert k.p.wait(DEADLINE) == 0
        left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
        assert left == {"kquay.conf", "one.s", "a", "a/control.s", "b", "c",
                        "c/status.s"}
        assert (tmp_path / "c" / "status.s").read_text() == "mine"
        assert echoes(f"unix:{tmp_path}/one.s")
        with pytest.raises(ConnectionRefusedError):
            connect(k.listening[0])
        os.kill(pid, signal.SIGTERM)
        until(lambda: not (tmp_path / "one.s").exists(), "its end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        k.kill()


def test_more_addresses_than_an_environment_has_room_for(tmp_path):
    """One variable has room for 128 KiB, and a pipe for 64 KiB."""
    names = [f"unix:{tmp_path}/{i}".ljust(112, "x") for i in range(1300)]
    assert sum(map(len, names)) > 140000
    listen = ", ".join(f'"{name}"' for name in names)
    services = f"service a {{ handler = echo listen = {{{listen}}} }}"
    with started(tmp_path, services) as (k, _):
        pid = k.p.pid
        # What both print is more than a pipe holds, too.
        reader = threading.Thread(target=k.p.stdout.read)
        reader.start()
        try:
            p = ask(tmp_path, "upgrade")
            assert p.returncode == 0, p
            pid = int(re.search(r"process (\d+)", p.stdout)[1])
            assert k.p.wait(DEADLINE) == 0
            for name in names[::100] + names[-1:]:
                assert echoes(name)
            os.kill(pid, signal.SIGTERM)
            until(lambda: {p.name for p in tmp_path.iterdir()} ==
                  {"kquay.conf"}, "its end")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            k.p.kill()
            reader.join()


def test_many(tmp_path):
    """Each is confined as the one before, however many there were."""
    services = f'service a {{ handler = echo listen = "unix:{tmp_path}/a.s" }}'

    def state():
        p = ask(tmp_path, "status", "--json")
        assert p.returncode == 0, p
        return json.loads(p.stdout)

    def filters(pid):
        """Of system calls; None: this kernel does not say how many."""
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return re.search(r"^Seccomp_filters:\s+(\d+)", f.read(), re.M)

    with started(tmp_path, services) as (k, _):
        first = state()
        pid = k.p.pid
        count = filters(pid)
        try:
            for _ in range(20):
                p = ask(tmp_path, "upgrade")
                assert p.returncode == 0, p
                before, pid = pid, int(re.search(r"process (\d+)", p.stdout)[1])
                assert before != pid
            assert count is None or filters(pid)[1] == count[1]
            last = state()
            assert (last["pid"], last["sandbox"]) == (pid, first["sandbox"])
            assert echoes(k.where)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    assert not (tmp_path / "a.s").exists()
