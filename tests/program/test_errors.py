"""What goes wrong: one clear line, its exit status, and nothing left behind."""

import os
import pathlib
import resource
import socket
import subprocess
import tempfile

import pytest

from kquay import CONFIG, DEADLINE, KQUAY, ROOT, USAGE, connect, once, running
from ports import has_ipv6

CHAT = ("serve", "chat")
EXAMPLE = ROOT / "examples" / "kquay.conf"


@pytest.mark.parametrize("args, says", [
    (("bogus",), "no such command: bogus"),
    (("--bogus",), "no such option: --bogus"),
    (("serve",), "the handler is missing: chat, echo, discard"),
    (("serve", "-l", ":0"), "'-l' is none of the handlers: chat, echo, discard"),
    (("serve", "smtp"), "'smtp' is none of the handlers: chat, echo, discard"),
    ((*CHAT, "--bogus"), "no such option: --bogus"),
    ((*CHAT, "-x"), "no such option: -x"),
    ((*CHAT, "-nx"), "max-connections: 'x' is not a number"),
    ((*CHAT, "-l"), "a value is missing after -l"),
    ((*CHAT, "--listen"), "a value is missing after --listen"),
    ((*CHAT, "more"), "unexpected argument: more"),
    (("serve", "echo", "--welcome", "x"), "no such option: --welcome"),
    ((*CHAT, "-l", "8080"), "listen: '8080': the port is missing"),
    ((*CHAT, "-l", "::1:80"), "an IPv6 address takes brackets"),
    ((*CHAT, "-l", "[::1]"), "the port is missing"),
    ((*CHAT, "-l", "[::1"), "the ] is missing"),
    ((*CHAT, "-l", "a:65536"), "the port is not in 0 to 65535"),
    ((*CHAT, "-l", "a:nosuchport"), "no such port"),
    ((*CHAT, "-l", "unix:"), "the path is missing"),
    ((*CHAT, "-l", "unix:" + "x" * 108), "the path is too long"),
    ((*CHAT, "-l", "fd:-1"), "fd: takes the number of a descriptor"),
    ((*CHAT, "-l", "fd: 3"), "fd: takes the number of a descriptor"),
    ((*CHAT, "-l", "fd:+3"), "fd: takes the number of a descriptor"),
    ((*CHAT, "-l", "unix:a\nready"), "'unix:a?ready': the path has a control"),
    ((*CHAT, "-n", "0"), "max-connections: '0' is out of range (1 to 10000000)"),
    ((*CHAT, "--idle-timeout", "30x"), "is not a time, such as 500ms, 30s"),
    ((*CHAT, "--idle-timeout", "0"), "out of range (1ms to 24d, or \"none\")"),
    ((*CHAT, "--idle-timeout", "99999999999999999999d"), "out of range"),
    ((*CHAT, "--max-line", "1"), "max-line: '1' is out of range (80 to 16M)"),
    ((*CHAT, "--max-line", "8k", "--max-output", "8k"), "max-output: must be"),
    ((*CHAT, "-w", "x" * 4097), "welcome: is longer than 4096 bytes"),
    (("serve", "echo", "--refusal", "x" * 4097), "refusal: is longer than 4096"),
    ((*CHAT, "-w", "x" * 2048, "--max-line", "1k", "--max-output", "2k"),
     "max-output: must be larger than welcome"),
    ((*CHAT, "--mode", "rw"), "mode: 'rw' is not an octal mode"),
    ((*CHAT, "--when-full", "x"), "when-full: 'x' is none of refuse, wait"),
    ((*CHAT, "-n", "1\n\033[2J"), "max-connections: '1??[2J' is not a number"),
    ((*CHAT, "-n", "9" * 5000), "max-connections: '99999"),
    ((*CHAT, "-l", "9" * 5000), "listen: '99999"),
    (("run", "-v"), "no such option: -v"),
    (("run", "--verbose"), "no such option: --verbose"),
    (("run", "-c"), "a value is missing after -c"),
    (("check", "file"), "unexpected argument: file"),
    (("\033[2J\n",), "no such command: ?[2J?"),
    (("serve", "\r\n"), "'??' is none of the handlers"),
    ((*CHAT, "--\033\n"), "no such option: --??"),
    ((*CHAT, "-\033"), "no such option: -?"),
    (("check", "\033\n"), "unexpected argument: ??"),
])
def test_usage(args, says):
    r = once(*args)
    assert r.returncode == USAGE
    one_line(r, says)


def test_no_arguments():
    r = once()
    assert r.returncode == USAGE
    assert r.stdout == "" and r.stderr.startswith("usage: kquay serve ")


def one_line(r, says):
    assert r.stdout == ""
    assert r.stderr.startswith("kquay: ") and r.stderr.endswith("\n")
    assert r.stderr.count("\n") == 1, r.stderr
    assert says in r.stderr


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("file, says", [
    ("missing.conf", "missing.conf: No such file or directory"),
    (".", ".: Is a directory"),
    ("a\nb\033", "a?b?: No such file or directory"),
])
def test_config_file(command, file, says, tmp_path):
    r = once(command, "-c", file, cwd=tmp_path)
    assert r.returncode == CONFIG
    one_line(r, says)


@pytest.mark.parametrize("args", [
    ("--help",), ("--version",), ("serve", "--help"), ("serve", "chat", "-h"),
    ("run", "--help"), ("check", "-v", "-c", str(EXAMPLE)),
], ids=" ".join)
def test_full_disk(args):
    with open("/dev/full", "w", encoding="ascii") as full:
        r = subprocess.run([KQUAY, *args], stdout=full, stderr=subprocess.PIPE,
                           text=True, check=False, timeout=DEADLINE)
    assert (r.returncode, r.stderr) == \
        (1, "kquay: standard output: No space left on device\n")


def test_run_wants_a_right_file(tmp_path):
    """As check: every error, and nothing is opened."""
    (tmp_path / "a.conf").write_text(
        'service a { handler = echo listen = "unix:s" }\n'
        'service b { handler = echo listen = "unix:t" mode = 9 }\n'
        'service c { handler = ekko }\n')
    r = once("run", "-c", "a.conf", cwd=tmp_path)
    assert (r.returncode, r.stdout) == (CONFIG, "")
    assert [line.split(" ")[0] for line in r.stderr.splitlines()] == \
        ["a.conf:2:", "a.conf:3:"]
    assert os.listdir(tmp_path) == ["a.conf"]


@pytest.fixture(params=["serve", "run"])
def start(request, tmp_path):
    """start(ADDRESS...): what kquay says when it cannot listen on the last."""
    def serve(*addresses, **kwargs):
        args = [arg for a in addresses for arg in ("-l", a)]
        return once("serve", "echo", *args, cwd=tmp_path, **kwargs)

    def run(*addresses, **kwargs):
        (tmp_path / "kquay.conf").write_text("".join(
            f'service "{n}" {{ handler = echo listen = {{"{a}"}} }}\n'
            for n, a in enumerate(addresses)))
        r = once("run", "-c", "kquay.conf", cwd=tmp_path, **kwargs)
        os.unlink(tmp_path / "kquay.conf")
        return r

    return serve if request.param == "serve" else run


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_address_in_use(start, host, tmp_path):
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with running("serve", "chat", "-l", f"{host}:0") as k:
        r = start("unix:first.s", k.where)
        assert r.returncode == 1
        one_line(r, f"{k.where}: Address already in use")
        assert os.listdir(tmp_path) == []
        assert k.client().line() == "welcome!"


def test_one_family_in_use(start, tmp_path):
    """If one address of a name cannot be had, none is taken."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = start("unix:first.s", f":{port}")
        assert r.returncode == 1
        one_line(r, "Address already in use")
        assert os.listdir(tmp_path) == []
        if has_ipv6():
            with pytest.raises(ConnectionRefusedError):
                connect(f"[::1]:{port}")


def test_live_unix_socket(start, tmp_path):
    with running("serve", "chat", "-l", f"unix:{tmp_path}/live.s") as k:
        before = os.stat(tmp_path / "live.s")
        r = start("unix:first.s", f"unix:{tmp_path}/live.s")
        assert r.returncode == 1
        one_line(r, f"unix:{tmp_path}/live.s: Address already in use")
        assert os.listdir(tmp_path) == ["live.s"]
        assert os.stat(tmp_path / "live.s").st_ino == before.st_ino
        assert k.client().line() == "welcome!"


def test_same_address_twice(start, tmp_path):
    r = start("unix:a.s", "unix:a.s")
    assert r.returncode == 1
    one_line(r, "unix:a.s: Address already in use")
    assert os.listdir(tmp_path) == []


def test_file_in_the_way(start, tmp_path):
    (tmp_path / "file").write_text("precious")
    r = start("unix:first.s", "unix:file")
    assert r.returncode == 1
    one_line(r, "unix:file: ")
    assert (tmp_path / "file").read_text() == "precious"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("where, says", [
    ("unix:missing/s", "unix:missing/s: No such file or directory"),
    ("192.0.2.1:0", "192.0.2.1:0: Cannot assign requested address"),
    ("no-such-name.invalid:1", "no-such-name.invalid"),
])
def test_cannot_listen(start, where, says, tmp_path):
    r = start("unix:first.s", where)
    assert r.returncode == 1
    one_line(r, says)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where, says", [
    ("fd:99", "fd:99: Bad file descriptor"),
    ("fd:0", "fd:0: not a listening stream socket"),
])
def test_bad_descriptor(start, where, says, tmp_path):
    r = start("unix:first.s", where)
    assert r.returncode == 1
    one_line(r, says)
    assert os.listdir(tmp_path) == []


def test_descriptor_that_does_not_listen(start):
    with socket.socket() as s:
        r = start(f"fd:{s.fileno()}", pass_fds=[s.fileno()])
        assert r.returncode == 1
        one_line(r, "not a listening stream socket")


def test_descriptor_of_another_type(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(f"{tmp_path}/packets")
        s.listen()
        r = start(f"fd:{s.fileno()}", pass_fds=[s.fileno()])
        assert r.returncode == 1
        one_line(r, "not a listening stream socket")


def test_descriptor_twice(start):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        r = start(*[f"fd:{s.fileno()}"] * 2, pass_fds=[s.fileno()])
        assert r.returncode == 1
        one_line(r, "given twice")


def as_nobody():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_no_permission():
    """Seen as nobody, who may not write there."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        if not reachable_as_nobody(pathlib.Path(folder),
                                   pathlib.Path(KQUAY).resolve()):
            pytest.skip("the program is not open to others")
        r = once("serve", "echo", "-l", f"unix:{folder}/s", cwd="/",
                 preexec_fn=as_nobody)
        assert r.returncode == 1
        one_line(r, f"unix:{folder}/s: Permission denied")
        assert os.listdir(folder) == []


def reachable_as_nobody(*paths):
    return all(p.stat().st_mode & 0o001
               for path in paths for p in (path, *path.parents))


def limit(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptor_limit(tmp_path):
    """Too small: both numbers, and what to do."""
    r = once("serve", "echo", "-l", "unix:s", "-n", "500", cwd=tmp_path,
             preexec_fn=limit(100, 200))
    assert r.returncode == CONFIG
    one_line(r, "500 connections take")
    assert "the limit is 200" in r.stderr
    assert "lower max-connections to 1" in r.stderr
    assert "ulimit -n 5" in r.stderr
    assert os.listdir(tmp_path) == []


def test_descriptor_limit_of_all_services(tmp_path):
    (tmp_path / "a.conf").write_text("".join(
        f'service "{n}" {{ handler = echo listen = "unix:{n}.s" '
        "max-connections = 100 }\n" for n in range(3)))
    r = once("run", "-c", "a.conf", cwd=tmp_path, preexec_fn=limit(250, 250))
    assert r.returncode == CONFIG
    one_line(r, "300 connections take")
    assert os.listdir(tmp_path) == ["a.conf"]


def test_limit_is_raised_and_holds(tmp_path):
    """The soft limit goes up, and then all places can be taken."""
    with running("serve", "chat", "-l", "unix:s", "-n", "150", cwd=tmp_path,
                 preexec_fn=limit(32, 200)) as k:
        where = f"unix:{tmp_path}/s"
        for _ in range(150):
            assert k.client(where).line() == "welcome!"
        assert k.client(where).line() == "connection refused"
