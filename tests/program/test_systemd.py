"""Being started by systemd: sockets that it passes on, and word of how we are."""

import os
import signal
import socket
import time

import pytest

from kquay import DEADLINE, Client, once, running


def listener(where):
    """A socket that listens, as systemd has it."""
    s = socket.socket(socket.AF_UNIX if isinstance(where, str)
                      else socket.AF_INET)
    s.bind(where)
    s.listen()
    return s


def passing_on(sockets, names=None):
    """How to start a process that has these from descriptor 3 on."""
    def before_exec():
        fds = [os.dup(s.fileno()) for s in sockets]
        high = [os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]
        for n, fd in enumerate(high):
            os.dup2(fd, 3 + n)
        os.closerange(3 + len(sockets), 200)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(sockets))
        if names:
            os.environ["LISTEN_FDNAMES"] = ":".join(names)
    return {"preexec_fn": before_exec, "close_fds": False}


def echoes(where):
    c = Client(where)
    c.send("hello\n")
    assert c.line() == "hello"
    return c


def test_all_sockets(tmp_path):
    path = f"{tmp_path}/s"
    sockets = [listener(("127.0.0.1", 0)), listener(path)]
    host, port = sockets[0].getsockname()
    with running("serve", "echo", "-l", "systemd:", "--workers", "2",
                 **passing_on(sockets)) as k:
        assert k.listening == [f"{host}:{port}", f"unix:{path}"]
        for where in k.listening:
            echoes(where).close()
    # It is systemd's: its file stays, and a caller waits for the next one.
    assert os.path.exists(path)
    Client(f"unix:{path}").close()


def test_sockets_by_name(tmp_path):
    """Each to its service; two may have the same name."""
    sockets = [listener(f"{tmp_path}/{n}") for n in range(3)]
    (tmp_path / "a.conf").write_text(
        'service a { handler = echo listen = "systemd:main" }\n'
        'service b { handler = chat listen = "systemd:talk" }\n')
    with running("run", "-c", f"{tmp_path}/a.conf",
                 **passing_on(sockets, ["main", "talk", "main"])) as k:
        assert sorted(k.listening) == [f"unix:{tmp_path}/{n}"
                                       for n in range(3)]
        for n in 0, 2:
            echoes(f"unix:{tmp_path}/{n}").close()
        c = Client(f"unix:{tmp_path}/1")
        assert c.line() == "welcome!"


@pytest.mark.parametrize("address", ["systemd:", "systemd:other"])
def test_no_such_socket(address, tmp_path):
    sockets = [listener(f"{tmp_path}/s")] if address != "systemd:" else []
    r = once("serve", "echo", "-l", address, **passing_on(sockets, ["main"]))
    assert (r.returncode, r.stdout) == (1, "")
    assert r.stderr.count("\n") == 1 and address in r.stderr


def test_sockets_of_another(tmp_path):
    """What LISTEN_FDS says is for the process that LISTEN_PID names."""
    r = once("serve", "echo", "-l", "systemd:",
             env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert r.returncode == 1 and "systemd:" in r.stderr


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_notifies(kind, tmp_path):
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = f"{tmp_path}/notify"
    told.bind(path if kind == "path" else "\0" + path)
    told.settimeout(DEADLINE)
    conf = tmp_path / "a.conf"
    text = f'service a {{ handler = echo listen = "unix:{tmp_path}/s" }}\n'
    conf.write_text(text)
    mark = "@" if kind == "abstract" else ""
    env = {**os.environ, "NOTIFY_SOCKET": mark + path}
    with running("run", "-c", str(conf), env=env) as k:
        assert told.recv(4096) == b"READY=1"
        echoes(k.where).close()
        # Whatever comes of a reload, it is over.
        for content in text, "oops\n":
            conf.write_text(content)
            k.signal(signal.SIGHUP)
            assert told.recv(4096).startswith(b"RELOADING=1")
            assert told.recv(4096) == b"READY=1"
        k.signal()
        assert told.recv(4096) == b"STOPPING=1"
        assert k.wait()[0] == 0


def test_nobody_is_told(tmp_path):
    """That nobody listens, or that it is no path, is no reason to fail."""
    for where in f"{tmp_path}/none", "nonsense", "/" + 200 * "x":
        env = {**os.environ, "NOTIFY_SOCKET": where}
        with running("serve", "echo", "-l", "127.0.0.1:0", env=env) as k:
            echoes(k.where).close()


def test_exit_when_idle(tmp_path):
    """Not while somebody is there, and the next caller waits for the next."""
    sockets = [listener(f"{tmp_path}/s")]
    with running("serve", "echo", "-l", "systemd:", "--exit-when-idle",
                 "500ms", **passing_on(sockets)) as k:
        c = echoes(k.where)
        time.sleep(1)
        assert k.p.poll() is None
        c.send("again\n")
        assert c.line() == "again"
        c.close()
        begin = time.monotonic()
        assert k.wait() == (0, "")
        assert time.monotonic() - begin > 0.3
    waits = Client(f"unix:{tmp_path}/s")
    waits.send("hello\n")
    with running("serve", "echo", "-l", "systemd:", **passing_on(sockets)):
        assert waits.line() == "hello"
