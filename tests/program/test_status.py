"""The status page over HTTP: metrics, JSON, and what is not there."""

import contextlib
import json
import re
import select
import shutil
import socket
import subprocess
import time

import pytest

import metrics
from kquay import CONFIG, DEADLINE, connect, once, until
from ports import free_port
from steer import TWO, curl, steered

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "deny",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@pytest.fixture
def page(tmp_path):
    port = free_port()
    with steered(tmp_path, settings=f'status = "127.0.0.1:{port}"') as s:
        s.port = port
        s.url = f"http://127.0.0.1:{port}"
        yield s


@pytest.mark.parametrize("path, kind", [
    ("/", "text/html; charset=utf-8"),
    ("/dashboard.js", "text/javascript; charset=utf-8"),
    ("/dashboard.css", "text/css; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ("/status.json", "application/json"),
    ("/health", "text/plain; charset=utf-8"),
])
def test_paths(page, path, kind):
    code, headers, body = curl(page.url + path)
    assert code == 200 and headers["content-type"] == kind
    assert len(body.encode()) == int(headers["content-length"]) > 0
    for name, value in HEADERS.items():
        assert headers[name] == value
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    # HEAD is the same without the body.
    if path.startswith(("/d", "/i")) or path == "/":
        code, head, body = curl("--head", page.url + path)
        assert (code, body) == (200, "")
        assert {k: v for k, v in head.items() if k != "date"} == \
            {k: v for k, v in headers.items() if k != "date"}


def test_what_is_not_there(page):
    for path in ("/nothing", "/../etc/passwd", "/%2e%2e/x", "/metrics/",
                 "/index.html", "/" + "x" * 4000):
        assert curl("--path-as-is", page.url + path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"):
        code, headers, _ = curl("-X", method, page.url + "/metrics")
        assert (code, headers["allow"]) == (405, "get, head")
    code, headers, _ = curl("-d", "x" * 100000, "-H", "Expect:",
                            page.url + "/metrics")
    assert code == 405
    assert curl(page.url + "/health?x=1")[0] == 200


def test_a_name_that_is_not_ours(page):
    """A foreign page that a browser takes to be ours learns nothing."""
    for host in ("localhost", "127.0.0.1", "[::1]", f"localhost:{page.port}",
                 f"[::1]:{page.port}"):
        assert curl("-H", f"Host: {host}", page.url + "/metrics")[0] == 200
    for host in ("rebound.example", f"rebound.example:{page.port}",
                 "192.0.2.1", "localhost.example", "[::2]"):
        code, _, body = curl("-H", f"Host: {host}", page.url + "/metrics")
        assert code == 421 and "kquay" not in body, host


def test_health(page):
    assert curl(page.url + "/health")[2] == "ok\n"


def test_json_is_what_the_command_prints(page):
    c = page.k.client(page.k.listening[0])
    assert c.line() == "welcome!"
    told = json.loads(curl(page.url + "/status.json")[2])
    same = page.json("status")
    for one in (told, same):
        del one["uptime"]
    assert told == same
    assert told["services"][0]["connections"]["now"] == 1


def test_metrics(page):
    chats = [page.k.client(page.k.listening[0]) for _ in range(4)]
    for c in chats[:3]:
        assert c.line() == "welcome!"
    assert chats[3].line() == "connection refused"
    echo = page.k.client(page.k.listening[2])
    echo.send("12345\n")
    assert echo.line() == "12345"
    chats[0].close()
    until(lambda: page.service("small chat")["connections"]["now"] == 2,
          "two are left")
    # An answer holds for 0.2 s.
    m = until(lambda: read(page, "kquay_connections", 2), "it is told")
    chat = {"service": "small chat"}
    assert metrics.value(m, "kquay_connections_peak", **chat) == 3
    assert metrics.value(m, "kquay_connections_limit", **chat) == 3
    assert metrics.value(m, "kquay_accepted_total", **chat) == 3
    assert metrics.value(m, "kquay_refused_total", reason="full", **chat) == 1
    assert metrics.value(m, "kquay_refused_total", reason="rate", **chat) == 0
    assert metrics.value(m, "kquay_closed_total", why="eof", **chat) == 1
    assert metrics.value(m, "kquay_received_bytes_total", service="echo") == 6
    assert metrics.value(m, "kquay_sent_bytes_total", service="echo") == 6
    assert metrics.value(m, "kquay_workers") == 1
    assert metrics.value(m, "kquay_generation") == 1
    assert abs(metrics.value(m, "kquay_start_time_seconds") - time.time()) < 60
    assert [dict(labels) for labels in m["kquay_info"]] == \
        [{"version": page.json("status")["version"]}]


def read(page, name, value):
    m = metrics.parse(curl(page.url + "/metrics")[2])
    return m if metrics.value(m, name, service="small chat") == value else None


def test_labels_are_escaped(tmp_path):
    port = free_port()
    name = r'a \"b\" \\ {x=\"y\"} ä'
    with steered(tmp_path, TWO.replace("small chat", name),
                 f'status = "127.0.0.1:{port}"'):
        text = curl(f"http://127.0.0.1:{port}/metrics")[2]
        m = metrics.parse(text)
        assert metrics.value(m, "kquay_connections",
                             service='a "b" \\ {x="y"} ä') == 0
        if shutil.which("promtool"):
            p = subprocess.run(["promtool", "check", "metrics"], input=text,
                               text=True, capture_output=True, check=False)
            assert p.returncode == 0, p


def test_unix_socket(tmp_path):
    with steered(tmp_path, settings=f'status = "unix:{tmp_path}/page.s"'):
        assert curl("--unix-socket", str(tmp_path / "page.s"),
                    "http://localhost/health")[2] == "ok\n"


def test_both_families(tmp_path):
    port = free_port()
    with steered(tmp_path, settings=f'status = "localhost:{port}"') as s:
        for host in ("127.0.0.1", "[::1]"):
            try:
                connect(f"{host}:{port}").close()
            except OSError:
                assert host == "[::1]"
                continue
            code, _, body = curl(f"http://{host}:{port}/status.json")
            assert code == 200
            assert json.loads(body)["pid"] == s.k.p.pid


@pytest.mark.parametrize("address", ["*:0", ":0", "0.0.0.0:0", "[::]:0",
                                     "192.0.2.1:8081", "www.example:80"])
def test_others_only_if_it_is_said(address, tmp_path):
    conf = tmp_path / "k.conf"
    conf.write_text(f'status = "{address}"\n{TWO}')
    p = once("check", "-c", "k.conf", cwd=tmp_path)
    assert p.returncode == CONFIG and "status-public" in p.stderr, p
    conf.write_text(f'status = "{address}"\nstatus-public = on\n{TWO}')
    p = once("check", "-c", "k.conf", cwd=tmp_path)
    assert p.returncode == 0, p


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "k.conf").write_text(f'status = "127.0.0.1:{port}"\n{TWO}')
        p = once("run", "-c", "k.conf", cwd=tmp_path)
        assert p.returncode == 1
        assert p.stderr == (f"kquay: status: 127.0.0.1:{port}: "
                            "Address already in use\n")


def test_keep_alive(page):
    with connect(f"127.0.0.1:{page.port}") as c:
        for _ in range(3):
            c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                part = c.recv(4096)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("garbage", [
    b"\0" * 1000 + b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01" + b"x" * 512,
])
def test_garbage(page, garbage):
    with connect(f"127.0.0.1:{page.port}") as c:
        try:
            c.sendall(garbage)
            c.shutdown(socket.SHUT_WR)
            answer = b""
            while part := c.recv(65536):
                answer += part
        except OSError:
            answer = b""
    assert not re.match(rb"HTTP/1.1 2", answer), answer
    assert curl(page.url + "/health")[0] == 200


def test_who_is_never_done(page):
    """A byte now and then holds a place for some seconds, not for ever."""
    end = time.monotonic() + DEADLINE
    places = 32
    slow = [connect(f"127.0.0.1:{page.port}") for _ in range(places)]
    poll = select.poll()
    for c in slow:
        c.sendall(b"GET /health HTTP/1.1\r\nx: ")
        poll.register(c, select.POLLIN | select.POLLHUP)
    with connect(f"127.0.0.1:{page.port}") as c:
        with contextlib.suppress(ConnectionResetError):
            assert c.recv(1) == b""  # there is no place for one more
    while len(poll.poll(200)) < places:
        assert time.monotonic() < end, "all are closed"
        for c in slow:
            with contextlib.suppress(OSError):
                c.send(b"y")
    assert curl(page.url + "/health")[0] == 200
    for c in slow:
        c.close()


def test_a_crowd(page):
    """200 who say nothing; who has something to ask comes when they go."""
    before = page.k.rss()
    crowd = [connect(f"127.0.0.1:{page.port}") for _ in range(200)]
    used = page.k.cpu()
    time.sleep(1)
    assert page.k.cpu() - used <= 0.1
    assert page.k.rss() < before + (8 << 20)
    for c in crowd:
        c.close()
    until(lambda: subprocess.run(
        ["curl", "-sf", page.url + "/health"], capture_output=True,
        timeout=DEADLINE, check=False).stdout == b"ok\n", "it answers again")
    # The services do not mind.
    assert page.k.client(page.k.listening[0]).line() == "welcome!"


def test_the_end_waits_for_nobody(page):
    """SIGTERM while a client keeps its connection to the page."""
    with connect(f"127.0.0.1:{page.port}") as c:
        c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert c.recv(4096).startswith(b"HTTP/1.1 200")
        page.k.stop()
