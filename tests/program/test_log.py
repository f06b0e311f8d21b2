"""The log: a line for each connection, to each kind of place, come what may."""

import contextlib
import datetime
import json
import os
import re
import signal
import socket
import ssl
import struct

import pytest

from kquay import (CONFIG, DEADLINE, FAMILIES, Client, address, connect, once,
                   running, until)
from ports import has_ipv6

NAME = re.compile(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)(?: |$)')


def conf(tmp_path, log, *more, name="echo", listen="127.0.0.1:0", top=""):
    """The arguments for a service with this log."""
    settings = "\n".join(more)
    (tmp_path / "k.conf").write_text(
        f'log = "{log}"\nlog-level = "info"\n{top}\n'
        f'service "{name}" {{\nhandler = "echo"\nlisten = {{"{listen}"}}\n'
        f'{settings}\n}}\n')
    return ("run", "-c", "k.conf")


def parse(line):
    """A line of text as what JSON would have been."""
    fields = {}
    at = 0
    while at < len(line):
        m = NAME.match(line, at)
        assert m, line[at:]
        name, value = m.groups()
        if value.startswith('"'):
            value = re.sub(r"\\(x..|.)", lambda m: {
                "n": "\n", "r": "\r", "t": "\t"}.get(m[1]) or (
                    chr(int(m[1][1:], 16)) if m[1][0] == "x" and len(m[1]) > 1
                    else m[1]), value[1:-1])
        elif name in ("in", "out", "seconds"):
            value = float(value) if name == "seconds" else int(value)
        fields[name] = value
        at = m.end()
    return fields


AT_START = "connections take at most "


def lines(path):
    """But for what is said at the start."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines()
            if AT_START not in line]


def talk(k, text=b"hello\n"):
    """A whole connection; returns how the server names the client."""
    c = k.client()
    name = c.name()
    c.send(text)
    c.done()
    assert c.rest() == text
    c.close()
    return name


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_line_for_each_connection(form, family, tmp_path):
    if family == "tcp6" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    log = tmp_path / "log"
    args = conf(tmp_path, f"file:{log}", listen=address(family, tmp_path),
                top=f'log-format = "{form}"')
    before = datetime.datetime.now(datetime.timezone.utc)
    with running(*args, cwd=tmp_path) as k:
        names = [talk(k, b"x" * i) for i in range(1, 6)]
        until(lambda: len(lines(log)) == 5, "all are in the log")
    after = datetime.datetime.now(datetime.timezone.utc)
    for i, line in enumerate(lines(log)):
        d = json.loads(line) if form == "json" else parse(line)
        at = datetime.datetime.fromisoformat(d.pop("time").replace("Z", "+00:00"))
        assert before.replace(microsecond=0) <= at <= after
        assert 0 <= d.pop("seconds") < DEADLINE
        assert d == {"level": "info", "service": "echo", "peer": names[i],
                     "in": i + 1, "out": i + 1, "why": d["why"]}
        assert "peer" in d["why"] or "end" in d["why"] or "eof" in d["why"]


def test_why_it_ended(tmp_path):
    """A reset, a limit of time, the server's leaving."""
    log = tmp_path / "log"
    args = conf(tmp_path, f"file:{log}", 'idle-timeout = "200ms"',
                'linger = "1s"')
    with running(*args, cwd=tmp_path) as k:
        s = connect(k.where)
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                     struct.pack("ii", 1, 0))
        s.close()
        until(lambda: len(lines(log)) == 1, "the reset")
        s = connect(k.where)
        assert s.recv(1) == b""
        s.close()
        until(lambda: len(lines(log)) == 2, "the limit")
    reset, idle = map(parse, lines(log))
    assert reset["error"] == "Connection reset by peer"
    assert "error" not in idle
    assert len({reset["why"], idle["why"]}) == 2
    assert idle["seconds"] >= 0.2


def test_in_is_from_the_peer(tmp_path):
    log = tmp_path / "log"
    args = conf(tmp_path, f"file:{log}")
    path = tmp_path / "k.conf"
    path.write_text(path.read_text().replace('"echo"\n', '"discard"\n'))
    with running(*args, cwd=tmp_path) as k:
        c = k.client()
        c.send("x" * 100000)
        c.done()
        assert c.rest() == b""
        until(lambda: lines(log), "it is in the log")
    d = parse(lines(log)[0])
    assert (d["in"], d["out"]) == (100000, 0)


def test_tls_and_its_version(tmp_path, certs):
    log = tmp_path / "log"
    args = conf(tmp_path, f"file:{log}",
                f'tls {{ certificate = {{"{certs}/host.pem"}}\n'
                f'key = {{"{certs}/host.key"}} }}')
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with running(*args, cwd=tmp_path) as k:
        with context.wrap_socket(connect(k.where)) as s:
            s.sendall(b"hello")
            assert s.recv(5) == b"hello"
        until(lambda: len(lines(log)) == 1, "it is in the log")
    d = parse(lines(log)[0])
    assert d["tls"] == "TLSv1.3"
    # As they are on the wire: with the handshake.
    assert d["in"] > 100 and d["out"] > 500


def test_nobody_forges_a_line(tmp_path):
    """A name is the least that an attacker could choose."""
    name = 'x" level=error\n{"a\u202e\x1b[2J'
    quoted = name.replace('"', '\\"').replace("\n", "\\n")
    for form in ("text", "json"):
        log = tmp_path / f"log.{form}"
        args = conf(tmp_path, f"file:{log}", name=quoted,
                    top=f'log-format = "{form}"')
        with running(*args, cwd=tmp_path) as k:
            talk(k)
            until(lambda: lines(log), "it is in the log")
        text = log.read_bytes()
        assert text.count(b"\n") == 2 and len(lines(log)) == 1
        assert b"\x1b" not in text and "\u202e".encode() not in text
    assert json.loads(lines(log)[0])["service"] == name
    d = parse(lines(tmp_path / "log.text")[0])
    assert d["level"] == "info"


def whole(text, form=parse):
    """How many connections the lines tell of, those that are lost included."""
    told = lost = 0
    assert text.endswith("\n")
    for line in text.splitlines():
        d = form(line)
        if AT_START in d.get("msg", ""):
            continue
        if "msg" in d:
            m = re.fullmatch(r"(\d+) lines? lost", d["msg"])
            assert m, line
            lost += int(m[1])
        else:
            assert d["service"] == "echo"
            told += 1
    return told, lost


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pipe_that_nobody_reads(workers, tmp_path):
    """The server does not wait for who reads its log."""
    n = 3000
    with running(*conf(tmp_path, "stderr", top=f"workers = {workers}"),
                 cwd=tmp_path) as k:
        for i in range(n):
            with contextlib.closing(connect(k.where)) as s:
                s.sendall(b"hello")
                assert s.recv(5) == b"hello"
        os.set_blocking(k.p.stderr.fileno(), False)
        text = b""

        def all_are_told():
            nonlocal text
            text += k.p.stderr.read() or b""
            return text.endswith(b"\n") and sum(whole(text.decode())) == n

        until(all_are_told, "every connection is told, or lost")
        told, lost = whole(text.decode())
        assert told > 100
        assert lost > 100
        # And from now on all are.
        talk(k)
        until(lambda: k.p.stderr.read(), "the next line")


def test_a_reader_that_has_gone(tmp_path):
    with running(*conf(tmp_path, "stderr"), cwd=tmp_path) as k:
        talk(k)
        k.p.stderr.close()
        k.p.stderr = open(os.devnull, "rb")
        for _ in range(500):
            talk(k)


def test_a_full_disk(tmp_path):
    with running(*conf(tmp_path, "file:/dev/full"), cwd=tmp_path) as k:
        for _ in range(1000):
            talk(k)


def test_a_disk_that_has_room_again(tmp_path):
    log = tmp_path / "log"
    log.symlink_to("/dev/full")
    n = 1500
    with running(*conf(tmp_path, f"file:{log}"), cwd=tmp_path) as k:
        for _ in range(n):
            talk(k)
        log.unlink()
        k.signal(signal.SIGHUP)
        until(lambda: log.exists() and log.stat().st_size > 0 and
              sum(whole("".join(line + "\n" for line in lines(log)
                                if "service=" in line or "lost" in line))) == n,
              "every connection is told, or lost")


def test_rotation(tmp_path):
    log, old = tmp_path / "log", tmp_path / "log.1"
    with running(*conf(tmp_path, f"file:{log}"), cwd=tmp_path) as k:
        first = talk(k)
        until(lambda: lines(log), "the first line")
        assert log.stat().st_mode & 0o777 == 0o640
        log.rename(old)
        second = talk(k)
        until(lambda: len(lines(old)) == 2, "the name does not matter yet")
        k.signal(signal.SIGHUP)
        until(log.exists, "it is opened anew")
        third = talk(k)
        until(lambda: any(third in line for line in lines(log)), "the third")
        # What was there is not written over.
        k.signal(signal.SIGHUP)
        fourth = talk(k)
        until(lambda: any(fourth in line for line in lines(log)), "the fourth")
        assert any(third in line for line in lines(log))
    assert [parse(line)["peer"] for line in lines(old) if "peer=" in line] == \
        [first, second]


def test_another_log_by_reload(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with running(*conf(tmp_path, f"file:{one}"), cwd=tmp_path) as k:
        first = talk(k)
        until(lambda: lines(one), "the first line")
        conf(tmp_path, f"file:{two}", top='log-format = "json"')
        k.signal(signal.SIGHUP)
        until(two.exists, "the other one")
        second = talk(k)
        until(lambda: any(second in line for line in lines(two)), "the second")
        assert not any(second in line for line in lines(one))
        assert any(first in line for line in lines(one))
        for line in lines(two):
            json.loads(line)


@pytest.mark.parametrize("other", [False, True])
def test_a_reload_that_cannot_open_the_log(other, tmp_path):
    """It is refused in one line, and the log is what it was; nothing is lost."""
    log, broken = tmp_path / "log", tmp_path / ("two" if other else "log")
    old = tmp_path / "log.1"
    control = tmp_path / "control"
    top = f'control = "{control}"'
    with running(*conf(tmp_path, f"file:{log}", top=top), cwd=tmp_path) as k:
        talk(k)
        log.rename(old)
        broken.mkdir()
        conf(tmp_path, f"file:{broken}", 'idle-timeout = "2h"', top=top)
        done = once("reload", "-s", control)
        assert done.returncode == 1
        assert done.stderr == f"kquay: log: {broken}: Is a directory\n"
        name = talk(k)
        until(lambda: any(name in line for line in lines(old)), "it is told")
        told = [parse(line).get("msg") for line in lines(old)]
        assert f"kquay: log: {broken}: Is a directory" in told
        assert "not reloaded: all is as before" in told
        # And once it can be.
        broken.rmdir()
        done = once("reload", "-s", control)
        assert (done.returncode, done.stderr) == (0, "")
        name = talk(k)
        until(lambda: any(name in line for line in lines(broken)), "the new")


@contextlib.contextmanager
def datagrams(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(path))
        s.settimeout(DEADLINE)
        yield s


def about(s, name):
    """The first datagram that has this in it."""
    while True:
        text = s.recv(8192).decode()
        if name in text:
            return text


@pytest.mark.parametrize("form", ["text", "json"])
def test_syslog(form, tmp_path):
    with datagrams(tmp_path / "dev-log") as s, \
            running(*conf(tmp_path, f"syslog:{tmp_path}/dev-log",
                          top=f'log-format = "{form}"'), cwd=tmp_path) as k:
        name = talk(k)
        text = about(s, name)
        m = re.fullmatch(r"<30>(\w{3} [ \d]\d [\d:]{8}) kquay\[(\d+)\]: (.*)",
                         text)
        assert m, text
        assert int(m[2]) == k.p.pid
        d = json.loads(m[3]) if form == "json" else parse(m[3])
        assert (d["service"], d["peer"], d["in"]) == ("echo", name, 6)


def test_syslog_that_is_started_anew(tmp_path):
    path = tmp_path / "dev-log"
    with contextlib.ExitStack() as stack:
        with datagrams(path) as s:
            k = stack.enter_context(running(
                *conf(tmp_path, f"syslog:{path}"), cwd=tmp_path))
            name = talk(k)
            assert about(s, name)
        path.unlink()
        missed = talk(k)
        with datagrams(path) as s:
            assert about(s, missed)
            name = talk(k)
            assert about(s, name)


def test_journald(tmp_path):
    with datagrams(tmp_path / "journal") as s, \
            running(*conf(tmp_path, f"journald:{tmp_path}/journal"),
                    cwd=tmp_path) as k:
        name = talk(k)
        text = about(s, f"KQUAY_PEER={name}\n")
    fields = dict(line.split("=", 1) for line in text.splitlines())
    assert fields["PRIORITY"] == "6"
    assert fields["SYSLOG_IDENTIFIER"] == "kquay"
    assert fields["KQUAY_SERVICE"] == "echo"
    assert (fields["KQUAY_IN"], fields["KQUAY_OUT"]) == ("6", "6")
    assert parse(fields["MESSAGE"])["peer"] == name


def test_the_level_decides(tmp_path):
    log = tmp_path / "log"
    args = conf(tmp_path, f"file:{log}")
    (tmp_path / "k.conf").write_text((tmp_path / "k.conf").read_text().replace(
        '"info"', '"notice"'))
    with running(*args, cwd=tmp_path) as k:
        talk(k)
        talk(k)
    assert not any("peer=" in line for line in lines(log))


def test_none(tmp_path):
    with running(*conf(tmp_path, "none"), cwd=tmp_path) as k:
        talk(k)
        k.signal()
        assert k.wait() == (0, "")


@pytest.mark.parametrize("target, wrong", [
    ("stdout", "none of stderr, syslog, journald, file:PATH and none"),
    ("", "none of stderr, syslog, journald, file:PATH and none"),
    ("file:", "the path is missing"),
    ("syslog:/" + "x" * 120, "the path is too long for a UNIX socket"),
])
def test_mistakes(target, wrong, tmp_path):
    conf(tmp_path, target)
    r = once("check", "-c", "k.conf", cwd=tmp_path)
    assert r.returncode == CONFIG
    assert r.stderr == f"k.conf:1: log: '{target}': {wrong}\n"


@pytest.mark.parametrize("target", ["file:{}/no/log", "syslog:{}/none",
                                    "journald:{}/none"])
def test_what_cannot_be_opened(target, tmp_path):
    target = target.format(tmp_path)
    r = once(*conf(tmp_path, target), cwd=tmp_path)
    assert r.returncode == 1
    assert r.stdout == ""
    path = target.split(":", 1)[1]
    assert f"{path}: No such file or directory\n" in r.stderr
    assert len(r.stderr.splitlines()) == 1
