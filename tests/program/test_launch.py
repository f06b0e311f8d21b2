"""How kquay serve exec starts a program: as whom, with which signals, and what
is told if it cannot.
"""

import grp
import os
import pwd
import shutil
import signal
import tempfile

import pytest

from kquay import Kquay, running, until

SANITIZED = "KQUAY_SANITIZE" in os.environ
LESS = 10 if SANITIZED else 1
# The thread sanitizer's vfork() is fork(): launch() is back before execve() is.
KNOWS_WHY = os.environ.get("KQUAY_SANITIZE") != "thread"

root = pytest.mark.skipif(os.geteuid() != 0,
                          reason="only root can be somebody else")


def serving(*words, options=()):
    return running("serve", "exec", "-l", "127.0.0.1:0", *options, "--", *words)


def told(why):
    return why if KNOWS_WHY else "exit status 127"


def of_one_caller(*args):
    """What is said of it, who got nothing."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *args)
    assert k.client().drain() == b""
    k.signal()
    code, errors = k.wait()
    assert code == 0
    return errors


def somebody():
    """A user who is in several groups, if there is one; else nobody."""
    for group in grp.getgrall():
        for name in group.gr_mem:
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            if user.pw_uid != 0 and group.gr_gid != user.pw_gid:
                return user
    return pwd.getpwnam("nobody")


def status(pid, *names):
    """Those lines of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        lines = dict(line.rstrip("\n").split(":", 1) for line in f)
    return [lines[name].split() for name in names]


@root
def test_somebody_else_in_a_folder_of_his():
    """With his groups and nothing of root's; and we stay who we are."""
    user = somebody()
    with (tempfile.TemporaryDirectory() as home,
          serving("sh", "-c", "pwd; exec cat /proc/self/status",
                  options=("-u", user.pw_name, "-d", home)) as k):
        shutil.chown(home, user.pw_uid, user.pw_gid)
        us = status(k.p.pid, "Uid", "Gid", "Groups", "CapEff")
        for _ in range(20):
            where, *lines = k.client().rest().decode().splitlines()
            assert where == home
            his = {line.split(":")[0]: line.split()[1:] for line in lines}
            assert his["Uid"] == [str(user.pw_uid)] * 4
            assert his["Gid"] == [str(user.pw_gid)] * 4
            assert sorted(map(int, his["Groups"])) == sorted(
                set(os.getgrouplist(user.pw_name, user.pw_gid)))
            assert int(his["CapEff"][0], 16) == 0
        for task in os.listdir(f"/proc/{k.p.pid}/task"):
            assert status(task, "Uid", "Gid", "Groups", "CapEff") == us


@root
def test_a_user_who_may_not_run_it(tmp_path):
    """Told, and the connection closed: not a child of root's."""
    tmp_path.chmod(0o700)
    script = tmp_path / "secret"
    script.write_text("#!/bin/sh\nid -u\n")
    script.chmod(0o755)
    assert of_one_caller("-u", "nobody", "--", str(script)).endswith(
        told(f'{script}: Permission denied') + '"\n')


@root
def test_a_folder_that_he_may_not_enter(tmp_path):
    """That root may does not help him."""
    tmp_path.chmod(0o700)
    assert of_one_caller("-u", "nobody", "-d", str(tmp_path), "--",
                         "pwd").endswith(told("pwd: Permission denied") + '"\n')


def test_what_cannot_be_started_is_told(tmp_path):
    """And leaves nothing behind; what can be then is."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--", str(script))
    before = k.descriptors()
    for _ in range(20):
        assert k.client().drain() == b""
    until(lambda: k.children() == [], "nothing is left to be reaped")
    until(lambda: k.descriptors() == before, "no descriptor is left open")
    good = tmp_path / "good"
    good.write_text("#!/bin/sh\necho here I am\n")
    good.chmod(0o755)
    good.rename(script)
    assert k.client().line() == "here I am"
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert errors.count(told(f"{script}: No such file or directory")) == 20


SIGNALS = ("SigBlk", "SigIgn", "SigCgt")


def test_signals_are_as_by_default():
    """Whatever we catch or ignore ourselves."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--", "cat",
              "/proc/self/status", preexec_fn=lambda: [
                  signal.signal(n, signal.SIG_IGN)
                  for n in (signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)])
    lines = k.client().rest().decode().splitlines()
    assert sum(line.startswith(SIGNALS) for line in lines) == len(SIGNALS)
    for line in lines:
        if line.startswith(SIGNALS):
            # 32 and 33 are the C library's own.
            assert int(line.split()[1], 16) & ~(3 << 31) == 0, line
    k.stop()


def test_signals_while_programs_are_started(tmp_path):
    """2,000 programs, and signals all the time: each one is heard that asks for
    a reload, and none goes to a program.
    """
    conf = tmp_path / "kquay.conf"

    def configure(number):
        new = tmp_path / "new.conf"
        new.write_text('service "e" {\n  handler = "exec"\n'
                       '  listen = {"127.0.0.1:0"}\n'
                       '  command = {"sh", "-c", "echo $N"}\n'
                       f'  environment = {{"N={number}"}}\n}}\n')
        new.rename(conf)

    configure(0)
    k = Kquay("run", "-c", str(conf))
    for number in range(1, 200 // LESS + 1):
        configure(number)
        clients = []
        for i in range(10):
            clients.append(k.client())
            k.signal(signal.SIGHUP if i == 5 else signal.SIGCHLD)
        lines = [c.line() for c in clients]
        assert set(lines) <= {str(number - 1), str(number)}
        until(lambda n=str(number): k.client().line() == n,
              "the signal was heard")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert "level=error" not in errors
    assert "ended by" not in errors and "exit status" not in errors
