"""kquay run: several services in one process."""

import os
import signal
import threading
import time

from kquay import ROOT, Kquay, running, until

THREE = """
service "small chat" {
    handler = chat
    listen = {"127.0.0.1:0", "unix:chat.s"}
    welcome = "small"
    max-connections = 2
}
service "echo" {
    handler = echo
    listen = {"unix:echo.s"}
    idle-timeout = 500ms
}
service "large chat" {
    handler = chat
    listen = {"unix:large.s"}
    welcome = "large"
}
"""


def write(tmp_path, text=THREE):
    (tmp_path / "k.conf").write_text(text)
    return ("run", "-c", "k.conf")


def test_services_are_apart(tmp_path):
    """Limits, timeouts and talk are each service's own."""
    with running(*write(tmp_path), cwd=tmp_path) as k:
        assert [w.rsplit(":", 1)[0] if w[0] == "1" else w
                for w in k.listening] == \
            ["127.0.0.1", "unix:chat.s", "unix:echo.s", "unix:large.s"]
        a = k.client(k.listening[0])
        b = k.client(f"unix:{tmp_path}/chat.s")
        large = [k.client(f"unix:{tmp_path}/large.s") for _ in range(4)]
        echo = k.client(f"unix:{tmp_path}/echo.s")
        assert a.line() == b.line() == "small"
        assert [c.line() for c in large] == ["large"] * 4
        assert k.client(k.listening[0]).line() == "connection refused"
        large[0].send("for the large one\n")
        a.send("for the small one\n")
        assert b.line() == f"{a.name()}: for the small one"
        for c in large[1:]:
            assert c.line() == f"{large[0].name()}: for the large one"
        echo.send("back\n")
        assert echo.line() == "back"
        assert echo.line() is None      # idle; the chats are not
        a.send("again\n")
        assert b.line() == f"{a.name()}: again"
    assert os.listdir(tmp_path) == ["k.conf"]


def test_all_drain(tmp_path):
    """The first to finish waits for the last."""
    k = Kquay(*write(tmp_path, THREE.replace("500ms", "none")), cwd=tmp_path)
    slow = k.client(f"unix:{tmp_path}/echo.s")
    fast = k.client(f"unix:{tmp_path}/large.s")
    assert fast.line() == "large"
    slow.s.settimeout(0.5)
    try:
        while True:
            slow.send(b"x" * 4096)
    except TimeoutError:
        pass
    slow.s.settimeout(20)
    k.signal()
    assert fast.line() is None
    assert k.p.poll() is None
    assert len(slow.drain()) > 65536
    assert k.wait() == (0, "")
    assert os.listdir(tmp_path) == ["k.conf"]


def test_second_signal(tmp_path):
    k = Kquay(*write(tmp_path, THREE.replace("500ms", "none\n linger = none")),
              cwd=tmp_path)
    slow = k.client(f"unix:{tmp_path}/echo.s")
    slow.s.settimeout(0.5)
    try:
        while True:
            slow.send(b"x" * 4096)
    except TimeoutError:
        pass
    k.signal()
    until(lambda: os.listdir(tmp_path) == ["k.conf"], "the sockets are gone")
    assert k.p.poll() is None
    k.signal(signal.SIGINT)
    assert k.wait() == (0, "")


def test_many_services_under_load(tmp_path):
    """No service waits for another: each answers while all are busy."""
    n = 20
    text = "".join(f'service "{i}" {{ handler = echo listen = "unix:{i}.s" '
                   "max-connections = 20 }\n" for i in range(n))
    with running(*write(tmp_path, text), cwd=tmp_path) as k:
        clients = [k.client(f"unix:{tmp_path}/{i}.s") for i in range(n)]
        failed = []

        def talk(c):
            try:
                for turn in range(100):
                    c.send(f"{turn}\n")
                    assert c.line() == str(turn)
            except Exception as e:      # told below, in the test's thread
                failed.append(e)

        threads = [threading.Thread(target=talk, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert failed == []


def test_idle_costs_nothing(tmp_path):
    with running(*write(tmp_path), cwd=tmp_path) as k:
        c = k.client(f"unix:{tmp_path}/large.s")
        assert c.line() == "large"
        used = k.cpu()
        time.sleep(1)
        assert k.cpu() - used <= 0.02


def test_the_example(tmp_path):
    """examples/kquay.conf as it is, with ports that are surely free."""
    text = (ROOT / "examples" / "kquay.conf").read_text()
    assert text.count("localhost:8080") == 1
    (tmp_path / "k.conf").write_text(text.replace("localhost:8080",
                                                  "localhost:0"))
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        assert k.listening[-1] == "unix:local.s"
        clients = [k.client(w) for w in k.listening[:-1]]
        clients.append(k.client(f"unix:{tmp_path}/local.s"))
        for c in clients:
            assert c.line() == "welcome!"
        clients[0].send("hello\n")
        for c in clients[1:]:
            assert c.line() == f"{clients[0].name()}: hello"
    assert os.listdir(tmp_path) == ["k.conf"]
