"""The user, the group and the sandbox of a running kquay.

What the sandbox allows is tried from inside by test_confined.py; here it is
seen from outside, and what a reload may bring.
"""

import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import threading

import pytest

from kquay import CONFIG, KQUAY, USAGE, connect, once, running, until
from process import alive

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")


def status(path, name):
    """A line of /proc/PID/status, or of a thread's."""
    for line in (pathlib.Path(path) / "status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].split()
    return None


def threads_of(k, n):
    """Its threads, once there are n; a sanitizer may have more of its own."""
    threads = list(pathlib.Path(f"/proc/{k.p.pid}/task").iterdir())
    if "KQUAY_SANITIZE" in os.environ:
        return threads if len(threads) >= n else None
    return threads if len(threads) == n else None


def is_confined(pid):
    return status(f"/proc/{pid}", "Seccomp") == ["2"]


@pytest.fixture(scope="module", name="sandbox")
def fixture_sandbox():
    """A sanitizer's build has none, nor has an old kernel."""
    with running("serve", "echo", "-l", "127.0.0.1:0") as k:
        if not is_confined(k.p.pid):
            pytest.skip("there is no sandbox here")


@pytest.fixture(name="folder")
def fixture_folder():
    """One that everybody can come to."""
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name).resolve()
        path.chmod(0o755)
        yield path


class Running:
    """A kquay of a file, which is changed; its log is kept."""

    def __init__(self, folder, text, **kwargs):
        self.file = folder / "kquay.conf"
        self.file.write_text(text)
        with open(folder / "errors", "wb") as errors:
            self.p = subprocess.Popen([KQUAY, "run", "-c", self.file], stdout=subprocess.PIPE,
                                      stderr=errors, cwd=folder, **kwargs)
        self.errors = folder / "errors"
        self.listening = []
        while (line := self.p.stdout.readline()) != b"ready\n":
            assert line, self.errors.read_text()
            self.listening.append(line.decode().split()[-1])

    def reload(self, text):
        """What the log tells about it."""
        before = len(self.errors.read_text())
        # By another file in its place, as editors do.
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)
        self.p.send_signal(signal.SIGHUP)
        return until(lambda: "reloaded: " in (said := self.errors.read_text()[before:])
                     and said, "a reload")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.terminate()
        assert self.p.wait(20) == 0 or exc[0]
        self.p.stdout.close()


def service(listen, more=""):
    return f'service "s" {{\nhandler = echo\nlisten = {{{listen}}}\n{more}}}\n'


def echoes(where, context=None):
    with connect(where) as s:
        if context:
            s = context.wrap_socket(s, server_hostname="localhost")
        s.sendall(b"hello")
        said = s.recv(5)
        s.close()
    return said == b"hello"


# -- the sandbox -------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("handler", ["chat", "echo", "discard", "daytime", "relay"])
def test_all_threads_are_confined(handler):
    options = ["--to", "127.0.0.1:9"] if handler == "relay" else []
    with running("serve", handler, "-l", "127.0.0.1:0", "--workers", "3", *options) as k:
        threads = until(lambda: threads_of(k, 3), "three workers")
        for thread in threads:
            assert status(thread, "Seccomp") == ["2"]
            assert status(thread, "NoNewPrivs") == ["1"]


def test_off():
    with running("serve", "echo", "-l", "127.0.0.1:0", "--sandbox", "off") as k:
        assert status(f"/proc/{k.p.pid}", "Seccomp") == ["0"]
        assert status(f"/proc/{k.p.pid}", "NoNewPrivs") == ["0"]


@pytest.mark.usefixtures("sandbox")
def test_require():
    with running("serve", "echo", "-l", "127.0.0.1:0", "--sandbox", "require") as k:
        assert is_confined(k.p.pid)


def test_programs_are_not_confined():
    with running("serve", "exec", "-l", "127.0.0.1:0", "--", "/bin/sh", "-c",
                 "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status") as k:
        assert k.client().rest() == b"NoNewPrivs:\t0\nSeccomp:\t0\n"


@pytest.mark.parametrize("options", [
    ["exec", "--sandbox", "require", "--", "/bin/cat"],
    ["relay", "--to", "127.0.0.1:9", "--check", "1s", "--check-command", "/bin/true",
     "--sandbox", "require"],
])
def test_programs_and_require(options):
    r = once("serve", options[0], "-l", "127.0.0.1:0", *options[1:])
    assert (r.returncode, r.stdout) == (USAGE, "")
    assert r.stderr.startswith("kquay: sandbox: service ") and "runs programs" in r.stderr


@pytest.mark.usefixtures("sandbox")
def test_relay_to_a_name_and_back(folder):
    """Names are looked up and UNIX sockets called from inside."""
    with running("serve", "echo", "-l", "localhost:0", "-l", f"unix:{folder}/s") as far:
        port = far.listening[0].rsplit(":", 1)[1]
        for to in (f"localhost:{port}", f"unix:{folder}/s"):
            with running("serve", "relay", "-l", "127.0.0.1:0", "--to", to) as k:
                assert is_confined(k.p.pid)
                assert echoes(k.where)


# -- reloads ---------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
def test_reload_within(folder, certs):
    """New addresses, renewed certificates and files in the folders of old."""
    (folder / "tls").mkdir()
    (folder / "run").mkdir()

    def use(name):
        for end in ("pem", "key"):
            shutil.copy(certs / f"{name}.{end}", folder / "tls" / f"new.{end}")
            (folder / "tls" / f"new.{end}").rename(folder / "tls" / f"c.{end}")

    def text(listen, name="c"):
        return service(listen, f'tls {{ certificate = "tls/{name}.pem" key = "tls/{name}.key" }}\n')

    def subject(where):
        with connect(where) as s, context.wrap_socket(s, server_hostname="localhost") as t:
            return dict(pair[0] for pair in t.getpeercert()["subject"])

    context = ssl.create_default_context(cafile=certs / "ca.pem")
    use("host")
    with Running(folder, text('"127.0.0.1:0", "unix:run/a"')) as k:
        assert is_confined(k.p.pid)
        assert echoes(k.listening[0], context)
        use("new")
        # The text is as before: it is the certificate that changes.
        k.reload(text('"127.0.0.1:0", "unix:run/a"'))
        assert subject(k.listening[0]) == {"organizationName": "new", "commonName": "localhost"}
        shutil.copy(certs / "rsa.pem", folder / "tls" / "rsa.pem")
        shutil.copy(certs / "rsa.key", folder / "tls" / "rsa.key")
        said = k.reload(text('"127.0.0.1:0", "unix:run/b"', "rsa"))
        assert "not reloaded" not in said
        assert echoes(f"unix:{folder}/run/b", context)
        assert subject(k.listening[0]) == {"commonName": "localhost"}
        until(lambda: not (folder / "run" / "a").exists(), "the old socket to go")
        # One that cannot be used changes nothing.
        (folder / "tls" / "rsa.pem").write_text("no certificate\n")
        said = k.reload(text('"127.0.0.1:0", "unix:run/b"', "rsa"))
        assert 'kquay.conf:4: service \\"s\\": tls-certificate: tls/rsa.pem: ' in said
        assert "not reloaded: all is as before" in said
        assert subject(k.listening[0]) == {"commonName": "localhost"}
    assert os.listdir(folder / "run") == []


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("more, says", [
    ('"127.0.0.1:0", "unix:../other/s"', "/other: the sandbox has the folders of the start only"),
    ('"127.0.0.1:0"', "tls-certificate: ../other/c.pem: Permission denied (the sandbox has"),
    ('"127.0.0.1:0"', "the sandbox has no programs"),
])
def test_reload_outside(folder, certs, more, says):
    """It is refused with the reason, and all is as before."""
    # What is in the folder of the file can be read.
    for name in ("conf", "run", "other"):
        (folder / name).mkdir()
    shutil.copy(certs / "both.pem", folder / "other" / "c.pem")
    after = service(more, 'tls { certificate = "../other/c.pem" }\n' if "c.pem" in says else "")
    if "programs" in says:
        after = after.replace("echo", 'exec command = "/bin/cat"')
    with Running(folder / "conf", service('"127.0.0.1:0", "unix:../run/s"')) as k:
        said = k.reload(after)
        assert says in said
        assert "not reloaded: all is as before" in said
        assert echoes(k.listening[0])
        assert echoes(f"unix:{folder}/run/s")
    assert os.listdir(folder / "other") == ["c.pem"]


@pytest.mark.usefixtures("sandbox")
def test_log_is_rotated(folder):
    """The new file is made from inside, in the folder of the old."""
    (folder / "log").mkdir()
    text = 'log = "file:log/l"\nlog-level = debug\n' + service('"127.0.0.1:0"')
    with Running(folder, text) as k:
        first = folder / "log" / "l"
        until(lambda: "sandbox: seccomp" in first.read_text(), "the first line")
        first.rename(folder / "log" / "l.1")
        k.p.send_signal(signal.SIGHUP)
        until(first.exists, "a new log")
        assert echoes(k.listening[0])
        until(lambda: "peer=127.0.0.1:" in first.read_text(), "the connection's line")


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("user", ["", pytest.param("nobody", marks=as_root)])
def test_page_and_upgrade(folder, user):
    """Who is asked is confined, too, and so is who is upgraded to."""
    (folder / "run").mkdir()
    if user:
        os.chown(folder / "run", NOBODY, NOBODY)
    text = (f'user = "{user}"\ncontrol = "run/control"\nstatus = "unix:run/status"\n'
            + service('"127.0.0.1:0", "unix:run/s"'))
    with Running(folder, text) as k:
        pids = [k.p.pid]
        for _ in range(3):
            until(lambda: is_confined(pids[-1]), "the sandbox")
            for thread in pathlib.Path(f"/proc/{pids[-1]}/task").iterdir():
                assert status(thread, "Seccomp") == ["2"]
                assert status(thread, "Uid")[0] == str(NOBODY if user else os.getuid())
            assert echoes(k.listening[0]) and echoes(f"unix:{folder}/run/s")
            page = subprocess.run(
                ["curl", "-sS", "--unix-socket", folder / "run" / "status",
                 "http://localhost/metrics"],
                capture_output=True, check=False, timeout=20)
            assert page.returncode == 0 and page.stdout.startswith(b"# "), page
            told = once("status", "-s", str(folder / "run" / "control"))
            assert ", sandbox: seccomp, Landlock " in told.stdout.splitlines()[0]
            told = once("upgrade", "-s", str(folder / "run" / "control"))
            assert (told.returncode, told.stderr) == (0, ""), k.errors.read_text()
            pids.append(int(re.search(r"process (\d+) serves", told.stdout)[1]))
            until(lambda: not alive(pids[-2]), "the one before to end")
        os.kill(pids[-1], signal.SIGTERM)
        until(lambda: not alive(pids[-1]), "the last one to end")
    assert os.listdir(folder / "run") == []


# -- another user -------------------------------------------------------------


@as_root
@pytest.mark.parametrize("options, gid, groups", [
    (["--user", "nobody"], pwd.getpwuid(NOBODY).pw_gid, None),
    (["--user", "nobody", "--group", "daemon"], 1, [1]),
])
def test_root_becomes_nobody(folder, options, gid, groups):
    """Having opened what only root can, and for good."""
    (folder / "ours").mkdir(0o700)
    (folder / "theirs").mkdir()
    os.chown(folder / "theirs", NOBODY, gid)
    port = next(n for n in range(700, 1024) if is_free(n))
    with running("serve", "echo", "-l", f"127.0.0.1:{port}", "-l", f"unix:{folder}/ours/s",
                 "-l", f"unix:{folder}/theirs/s", "-m", "0660", "--workers", "2",
                 *options) as k:
        for thread in until(lambda: threads_of(k, 2), "two workers"):
            assert status(thread, "Uid") == [str(NOBODY)] * 4
            assert status(thread, "Gid") == [str(gid)] * 4
            assert status(thread, "CapPrm") == status(thread, "CapEff") == ["0" * 16]
            if groups:
                assert status(thread, "Groups") == [str(g) for g in groups]
        for name in ("ours", "theirs"):
            st = (folder / name / "s").stat()
            assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (NOBODY, gid, 0o660)
        for where in k.listening:
            assert echoes(where)
    # It may remove what is in its own folder; the other is replaced.
    assert os.listdir(folder / "theirs") == []
    with running("serve", "echo", "-l", f"unix:{folder}/ours/s") as k:
        assert echoes(k.where)
    assert os.listdir(folder / "ours") == []


def is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@as_root
def test_reload_as_nobody(folder, certs):
    """What nobody may open can be had, and what not keeps all as it is."""
    for name in ("host", "new"):
        for end in ("pem", "key"):
            shutil.copy(certs / f"{name}.{end}", folder / f"{name}.{end}")
            (folder / f"{name}.{end}").chmod(0o600 if name == "new" else 0o644)

    def text(name):
        return 'user = "nobody"\n' + service(
            '"127.0.0.1:0"', f'tls {{ certificate = "{name}.pem" key = "{name}.key" }}\n')

    context = ssl.create_default_context(cafile=certs / "ca.pem")
    with Running(folder, text("host")) as k:
        said = k.reload(text("new"))
        assert "new.pem: Permission denied" in said
        assert echoes(k.listening[0], context)
        for end in ("pem", "key"):
            (folder / f"new.{end}").chmod(0o644)
        assert "not reloaded" not in k.reload(text("new"))
        assert echoes(k.listening[0], context)


@as_root
def test_the_log_is_the_users(folder):
    """A file that was made is given, as an upgrade opens it; no other is."""
    (folder / "run").mkdir()
    os.chown(folder / "run", NOBODY, NOBODY)
    log = folder / "k.log"
    text = 'user = "nobody"\nlog = "file:k.log"\ncontrol = "run/control"\n' + service('"127.0.0.1:0"')
    with Running(folder, text) as k:
        assert (log.stat().st_uid, log.stat().st_mode & 0o777) == (NOBODY, 0o640)
        told = once("upgrade", "-s", str(folder / "run" / "control"))
        assert (told.returncode, told.stderr) == (0, ""), k.errors.read_text()
        assert echoes(k.listening[0])
        until(lambda: not alive(k.p.pid), "the one before to end")
        assert once("drain", "-s", str(folder / "run" / "control"), "all").returncode == 0
    log.unlink()
    (folder / "other").touch(mode=0o600)
    log.symlink_to("other")
    with Running(folder, text):
        assert (folder / "other").stat().st_uid == os.getuid()


@pytest.mark.parametrize("setting, says", [
    ('user = "no-such-user"', "k.conf:1: user: there is no 'no-such-user'"),
    ('group = "no-such-group"', "k.conf:1: group: there is no 'no-such-group'"),
    ("sandbox = maybe", "k.conf:1: sandbox: 'maybe' is none of off, on, require"),
])
def test_check(tmp_path, setting, says):
    (tmp_path / "k.conf").write_text(setting + "\n" + service('"127.0.0.1:0"'))
    r = once("check", "-c", "k.conf", cwd=tmp_path)
    assert (r.returncode, r.stderr) == (CONFIG, says + "\n")


@as_root
def test_a_user_of_its_own_takes_root(tmp_path):
    (tmp_path / "k.conf").write_text(
        'sandbox = off\nuser = "nobody"\nservice "s" {\nhandler = exec\n'
        'listen = "127.0.0.1:0"\ncommand = "/bin/cat"\nuser = "daemon"\n}\n')
    r = once("check", "-c", "k.conf", cwd=tmp_path)
    assert (r.returncode, r.stdout) == (CONFIG, "")
    assert r.stderr.startswith('k.conf:2: user: service "s" has a user of its own')


@as_root
def test_programs_are_the_user(folder):
    (folder / "k.conf").write_text(
        'user = "nobody"\nservice "s" { handler = exec listen = "127.0.0.1:0"\n'
        'command = {"/usr/bin/id", "-u"} }\n')
    with running("run", "-c", str(folder / "k.conf")) as k:
        assert k.client().rest() == b"%d\n" % NOBODY


@as_root
def test_only_root_can(tmp_path):
    tmp_path.chmod(0o755)
    r = once("serve", "echo", "-l", "127.0.0.1:0", "--user", "daemon", user=NOBODY, group=NOBODY,
             extra_groups=[])
    assert (r.returncode, r.stdout) == (1, "")
    assert r.stderr == "kquay: user: only root can become another\n"


@as_root
def test_nobody_is_nobody():
    """Who already is that user has nothing to do."""
    gid = pwd.getpwuid(NOBODY).pw_gid
    with running("serve", "echo", "-l", "127.0.0.1:0", "--user", "nobody", user=NOBODY, group=gid,
                 extra_groups=[gid]) as k:
        assert echoes(k.where)


# -- keys --------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
@as_root
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_keys_are_not_dumped(folder, certs, tls):
    """Who may not be looked into has a folder of root's in /proc."""
    shutil.copy(certs / "both.pem", folder / "both.pem")
    (folder / "both.pem").chmod(0o644)
    options = ["--tls-certificate", f"{folder}/both.pem"] if tls else []
    with running("serve", "echo", "-l", "127.0.0.1:0", "--sandbox", "off", *options, user=NOBODY,
                 group=NOBODY, extra_groups=[]) as k:
        owner = os.stat(f"/proc/{k.p.pid}/environ").st_uid
        limits = pathlib.Path(f"/proc/{k.p.pid}/limits").read_text()
        core = next(line.split()[4] for line in limits.splitlines()
                    if line.startswith("Max core file size"))
        assert owner == (0 if tls else NOBODY)
        assert core == "0" or not tls


def test_many_callers_at_once():
    """A worker that is confined takes what it takes unconfined."""
    with running("serve", "echo", "-l", "127.0.0.1:0", "--workers", "2") as k:
        done = []

        def call():
            for _ in range(50):
                assert echoes(k.where)
            done.append(1)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(done) == 8
