"""Who may call, and how often: allow, deny, rate."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from kquay import (CONFIG, FAMILIES, USAGE, Client, address, connect, once,
                   running, until)
from ports import has_ipv6

ME = os.getuid()
OTHER = 65534
try:
    MY_NAME = pwd.getpwuid(ME).pw_name
except KeyError:
    MY_NAME = str(ME)
REFUSAL = "not you"


def echo(family, tmp_path, *options):
    if family == "tcp6" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    return running("serve", "echo", "-l", address(family, tmp_path),
                   "--refusal", REFUSAL, *options)


def served(client, header="", refusal=REFUSAL):
    """Does it get its echo (True), or the refusal (False)?"""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send(header + "hello\n")
    answer = client.line()
    assert answer in ("hello", refusal)
    return answer == "hello"


def call(k, where=None, source=None, header=""):
    client = Client(where or k.where, source)
    try:
        return served(client, header)
    finally:
        client.close()


def proxied(source):
    """A header of a proxy that speaks for that address."""
    kind, to = ("TCP6", "2001:db8::ffff") if ":" in source else \
        ("TCP4", "192.0.2.255")
    return f"PROXY {kind} {source} {to} 4711 80\r\n"


@pytest.mark.parametrize("family, options, yes", [
    ("tcp4", ["--allow", "127.0.0.0/8"], True),
    ("tcp4", ["--allow", "127.0.0.1"], True),
    ("tcp4", ["--allow", "10.0.0.0/8"], False),
    ("tcp4", ["--allow", "10.0.0.0/8", "--allow", "127.0.0.1"], True),
    ("tcp4", ["--allow", "all"], True),
    ("tcp4", ["--allow", "unix"], False),
    ("tcp4", ["--allow", "::/0"], False),
    ("tcp4", ["--deny", "127.0.0.0/8"], False),
    ("tcp4", ["--deny", "10.0.0.0/8"], True),
    ("tcp4", ["--deny", "all"], False),
    ("tcp4", ["--allow", "all", "--deny", "127.0.0.1"], False),
    ("tcp4", ["--allow", f"uid:{ME}"], False),
    ("tcp6", ["--allow", "::1"], True),
    ("tcp6", ["--allow", "::/0"], True),
    ("tcp6", ["--allow", "0.0.0.0/0"], False),
    ("tcp6", ["--allow", "::2/127"], False),
    ("tcp6", ["--deny", "::/64"], False),
    ("unix", ["--allow", "unix"], True),
    ("unix", ["--allow", "0.0.0.0/0", "--allow", "::/0"], False),
    ("unix", ["--deny", "unix"], False),
    ("unix", ["--allow", f"uid:{ME}"], True),
    ("unix", ["--allow", f"uid:{MY_NAME}"], True),
    ("unix", ["--allow", f"uid:{ME + 1}"], False),
    ("unix", ["--deny", f"uid:{ME}", "--allow", "unix"], False),
    ("unix", ["--allow", f"gid:{os.getgid()}"], True),
    ("unix", ["--allow", f"gid:{os.getgid() + 1}"], False),
    ("unix", ["--deny", f"gid:{os.getgid()}"], False),
])
def test_who_may_call(family, options, yes, tmp_path):
    with echo(family, tmp_path, *options) as k:
        assert call(k) is yes
        assert call(k) is yes


def test_another_address_of_the_same_net(tmp_path):
    with echo("tcp4", tmp_path, "--allow", "127.0.0.0/30",
              "--deny", "127.0.0.3") as k:
        for last, yes in ((1, True), (2, True), (3, False), (4, False)):
            assert call(k, source=f"127.0.0.{last}") is yes


AS_SOMEBODY = """
import os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b"hello\\n")
except BrokenPipeError:
    pass
print(s.makefile().readline(), end="")
"""


def call_as(uid, k):
    r = subprocess.run([sys.executable, "-c", AS_SOMEBODY, k.where[5:],
                        str(uid)], capture_output=True, text=True, check=True,
                       timeout=20)
    assert r.stdout in ("hello\n", f"{REFUSAL}\n")
    return r.stdout == "hello\n"


@pytest.fixture(name="public")
def fixture_public():
    """A folder for every user, which a tmp_path is not."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


@pytest.mark.skipif(ME != 0, reason="only root can be somebody else")
def test_users_are_told_apart(public):
    with echo("unix", public, "--mode", "666", "--allow", "unix",
              "--deny", f"uid:{OTHER}") as k:
        assert call(k)
        assert not call_as(OTHER, k)
        assert call_as(OTHER - 1, k)
    with echo("unix", public, "--mode", "666", "--rate", "1/h") as k:
        assert call(k)
        assert not call(k)
        assert call_as(OTHER, k)
        assert not call_as(OTHER, k)


def test_behind_a_proxy(tmp_path):
    """It is the caller of the header who counts."""
    with echo("tcp4", tmp_path, "--proxy-protocol", "on",
              "--allow", "192.0.2.0/24", "--allow", "2001:db8::/32",
              "--deny", "192.0.2.66") as k:
        for source, yes in (("192.0.2.1", True), ("192.0.2.66", False),
                            ("192.0.3.1", False), ("2001:db8::1", True),
                            ("2001:db9::1", False),
                            ("::ffff:192.0.2.1", True)):
            assert call(k, header=proxied(source)) is yes, source


@pytest.mark.parametrize("family", FAMILIES)
def test_rate(family, tmp_path):
    with echo(family, tmp_path, "--rate", "1/h burst 3") as k:
        assert [call(k) for _ in range(5)] == [True] * 3 + [False] * 2


def test_each_source_has_its_rate(tmp_path):
    with echo("tcp4", tmp_path, "--rate", "2/h") as k:
        for last in (1, 2, 3):
            source = f"127.0.0.{last}"
            assert [call(k, source=source) for _ in range(3)] == \
                [True, True, False]


def test_addresses_of_one_service(tmp_path):
    """One rate for all of them, but another source on each."""
    if not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with echo("tcp4", tmp_path, "-l", "127.0.0.1:0", "-l", "[::1]:0",
              "-l", f"unix:{tmp_path}/s", "--rate", "2/h") as k:
        assert [call(k, where) for where in k.listening * 2] == \
            [True, True, True, True, False, False, True, True]


def test_rate_behind_a_proxy(tmp_path):
    with echo("tcp4", tmp_path, "--proxy-protocol", "on", "--rate", "1/h",
              "--rate-v6-prefix", "48") as k:
        for source, yes in (("192.0.2.1", True), ("192.0.2.1", False),
                            ("192.0.2.2", True),
                            ("::ffff:192.0.2.2", False),
                            ("2001:db8:1::1", True),
                            ("2001:db8:1:ffff::2", False),
                            ("2001:db8:2::1", True)):
            assert call(k, header=proxied(source)) is yes, source


def test_the_denied_cost_no_token(tmp_path):
    with echo("tcp4", tmp_path, "--proxy-protocol", "on", "--rate", "1/h",
              "--deny", "192.0.2.1") as k:
        for _ in range(5):
            assert not call(k, header=proxied("192.0.2.1"))
        assert call(k, header=proxied("192.0.2.2"))


def test_tokens_come_back(tmp_path):
    with echo("tcp4", tmp_path, "--rate", "10/s burst 2") as k:
        assert call(k) and call(k)
        until(lambda: call(k), "a token has come")


def test_delay(tmp_path):
    """Served in their turn, not before; over the burst, refused at once."""
    with echo("tcp4", tmp_path, "--rate", "4/s burst 3",
              "--when-rate", "delay") as k:
        begin = time.monotonic()
        clients = [k.client() for _ in range(6)]
        for c in clients:
            c.send("hello\n")
        assert not call(k)
        refused = time.monotonic() - begin
        for i, c in enumerate(clients):
            assert c.line() == "hello"
            if refused < 0.2: # as it is unless the machine sleeps
                assert time.monotonic() - begin >= 0.25 * (i - 2) - 0.02
        # Another source does not wait for them.
        assert call(k, source="127.0.0.2")


def test_who_is_delayed_has_a_slot(tmp_path):
    with echo("tcp4", tmp_path, "--rate", "1/h burst 1", "--when-rate",
              "delay", "--max-connections", "2") as k:
        first, waiting = k.client(), k.client()
        assert served(first)
        waiting.send("hello\n")
        until(lambda: not call(k, source="127.0.0.2"), "it has the last slot")
        first.close()
        until(lambda: call(k, source="127.0.0.3"), "the other slot is free")
        # It waits, but does not keep the program from ending.
        begin = time.monotonic()
        k.signal(signal.SIGTERM)
        assert k.wait()[0] == 0
        assert time.monotonic() - begin < 60
        assert waiting.drain() == b""


def test_workers_share_a_rate(tmp_path):
    (tmp_path / "k.conf").write_text("""
        workers = 3
        service "echo" {
            handler = "echo"
            listen = {"127.0.0.1:0"}
            refusal = "not you"
            rate = "1/h burst 10"
        }""")
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        assert sum(call(k) for _ in range(40)) == 10


def test_a_reload_changes_who_may_call(tmp_path):
    text = """
        service "echo" {
            handler = "echo"
            listen = {"127.0.0.1:0"}
            refusal = "not you"
            %s
        }"""
    conf = tmp_path / "k.conf"
    conf.write_text(text % "")
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        c = k.client()
        assert served(c)
        conf.write_text(text % 'deny = {"127.0.0.0/8"}')
        k.signal(signal.SIGHUP)
        until(lambda: not call(k), "the list is in force")
        assert served(c)  # who was in stays in
        conf.write_text(text % 'allow = {"127.0.0.0/8"}')
        k.signal(signal.SIGHUP)
        until(lambda: call(k), "the list is in force")
        k.signal()
        assert k.wait()[0] == 0


def test_a_reload_gives_no_tokens(tmp_path):
    text = """
        service "echo" {
            handler = "echo"
            listen = {"127.0.0.1:0"}
            refusal = "%s"
            rate = "%s"
        }"""
    conf = tmp_path / "k.conf"
    conf.write_text(text % ("not you", "2/h"))
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        assert [call(k) for _ in range(3)] == [True, True, False]
        conf.write_text(text % ("changed", "2/h"))
        k.signal(signal.SIGHUP)
        until(lambda: k.client().line() == "changed", "the new one is there")
        conf.write_text(text % ("changed", "3/h"))
        k.signal(signal.SIGHUP)
        until(lambda: served(k.client(), refusal="changed"),
              "which a new rate does")
        k.signal()
        assert k.wait()[0] == 0


@pytest.mark.parametrize("option, value, wrong", [
    ("allow", "localhost", "none of an address, a network such as "
     "192.0.2.0/24 or 2001:db8::/32, uid:, gid:, unix and all"),
    ("deny", "10.0.0.1/8", "has bits set after the prefix; the network is "
     "10.0.0.0/8"),
    ("allow", "10.0.0.0/33", "the prefix is not in 0 to 32"),
    ("allow", "uid:no-such-user", "there is no such user"),
    ("deny", "gid:no-such-group", "there is no such group"),
])
def test_mistakes(option, value, wrong, tmp_path):
    r = once("serve", "echo", f"--{option}", value)
    assert r.returncode == USAGE
    assert r.stderr == f"kquay: {option}: '{value}': {wrong}\n"
    (tmp_path / "k.conf").write_text(
        'service "x" {\n handler = "echo"\n listen = {":0"}\n'
        f' {option} = {{"all",\n "{value}"}}\n}}\n')
    r = once("check", "-c", "k.conf", cwd=tmp_path)
    assert r.returncode == CONFIG
    assert r.stderr == f"k.conf:5: {option}: '{value}': {wrong}\n"


def test_many_networks(tmp_path):
    """A list as an operator's script makes it; callers do not notice it."""
    nets = ", ".join(f'"10.{i >> 8}.{i & 255}.0/24"' for i in range(20000)
                     if i != 5)
    (tmp_path / "k.conf").write_text(f"""
        service "echo" {{
            handler = "echo"
            listen = {{"127.0.0.1:0"}}
            refusal = "not you"
            proxy-protocol = "on"
            deny = {{{nets}}}
        }}""")
    with running("run", "-c", "k.conf", cwd=tmp_path) as k:
        for i in range(200):
            assert not call(k, header=proxied(f"10.{i >> 2}.{i}.1")) or i == 5
        assert call(k, header=proxied("10.0.5.77"))
        assert call(k, header=proxied("11.0.0.1"))


@pytest.mark.parametrize("limit", ["max-connections", "rate"])
def test_a_crowd_is_one_line_a_second(limit, tmp_path):
    """Refusals are told, but cannot fill a disk."""
    options = {"max-connections": ("-n", "1"), "rate": ("--rate", "1/h")}
    k = echo("tcp4", tmp_path, *options[limit])
    with k as running_one:
        first = connect(running_one.where)
        begin = time.monotonic()
        until(lambda: not call(running_one), "it is refused")
        for _ in range(200):
            assert not call(running_one)
        lasted = time.monotonic() - begin
        first.close()
        running_one.signal()
        status, errors = running_one.wait()
    assert status == 0
    lines = errors.splitlines()
    assert 1 <= len(lines) <= lasted + 2
    for line in lines:
        assert "level=notice service=echo msg=\"refused " in line
        assert line.endswith(f" the last for: {limit}\"")
