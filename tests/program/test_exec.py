"""kquay serve exec: a program for each connection."""

import os
import pwd

import pytest

from kquay import (CONFIG, USAGE, Client, Kquay, address, messages, once,
                   running, until)
from process import alive

MIB = 1 << 20
PIPES = ("--io", "pipes")


def serving(family, tmp_path, *words, options=()):
    return running("serve", "exec", "-l", address(family, tmp_path), *options,
                   "--", *words)


def test_the_socket_is_standard_input_and_output(family, tmp_path):
    """8 MiB through cat(1): every byte, and the end both ways."""
    data = os.urandom(8 * MIB)
    with serving(family, tmp_path, "cat") as k:
        c = k.client()
        c.send("hello\n")
        assert c.line() == "hello"
        pid, = k.children()
        other = k.client()
        reader = os.fork()
        if reader == 0:
            other.send(data)
            other.done()
            os._exit(0)
        assert other.rest() == data
        assert os.waitpid(reader, 0)[1] == 0
        c.done()
        assert c.rest() == b""
        until(lambda: k.children() == [], "the children are reaped")
        assert not alive(pid)


def test_what_ucspi_says(family, tmp_path):
    with serving(family, tmp_path, "env") as k:
        c = k.client()
        name = c.s.getsockname()
        told = dict(line.split("=", 1)
                    for line in c.rest().decode().splitlines())
        if family == "unix":
            assert told["PROTO"] == "UNIX"
            assert told["UNIXLOCALPATH"] == f"{tmp_path}/s"
            assert told["UNIXREMOTEEUID"] == str(os.getuid())
            assert told["UNIXREMOTEEGID"] == str(os.getgid())
            assert told["UNIXREMOTEPID"] == str(os.getpid())
        else:
            host, port = k.where.rsplit(":", 1)
            assert told["PROTO"] == "TCP"
            assert told["TCPREMOTEIP"] == name[0]
            assert told["TCPREMOTEPORT"] == str(name[1])
            assert told["TCPLOCALIP"] == host.strip("[]")
            assert told["TCPLOCALPORT"] == port


def test_environment_and_directory(tmp_path):
    os.environ["KQUAY_TEST_OURS"] = "ours"
    os.environ["PROTO"] = "a lie"
    try:
        with serving("tcp4", tmp_path, "sh", "-c",
                     'echo "$A $KQUAY_TEST_OURS $PROTO $(pwd)"',
                     options=("-e", "A=1=2", "-e", "KQUAY_TEST_OURS=theirs",
                              "-d", str(tmp_path))) as k:
            assert k.client().line() == f"1=2 theirs TCP {tmp_path}"
    finally:
        del os.environ["KQUAY_TEST_OURS"], os.environ["PROTO"]


def test_each_child_begins_clean(tmp_path):
    """Own group, no signal ignored or blocked, three descriptors."""
    # A shell blocks signals for a moment; what it becomes does not.
    script = ('cut -d" " -f5 /proc/self/stat; ls /proc/$$/fd; '
              'exec grep -E "^Sig(Ign|Blk)" /proc/self/status')
    with serving("tcp4", tmp_path, "sh", "-c", script) as k:
        group, *fds, blocked, ignored = (
            k.client().rest().decode().splitlines())
        assert int(group) != os.getpgid(k.p.pid)
        assert int(blocked.split()[1], 16) == 0
        # 32 and 33 are glibc's own.
        assert int(ignored.split()[1], 16) & ~(3 << 31) == 0
        assert [fd for fd in fds if int(fd) < 10] == ["0", "1", "2"], fds


@pytest.mark.parametrize("where, want", [("socket", b"to you\n"),
                                         ("discard", b"")])
def test_errors(where, want, tmp_path):
    with serving("tcp4", tmp_path, "sh", "-c", "echo to you >&2",
                 options=("--errors", where)) as k:
        assert k.client().rest() == want


def test_errors_are_ours_and_an_ill_end_is_told(tmp_path):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--", "sh", "-c",
              'read x; echo to all >&2; eval "$x"')
    c = k.client()
    c.send("exit 3\n")
    assert c.rest() == b""
    d = k.client()
    d.send("kill -SEGV $$\n")
    d.rest()
    e = k.client()
    e.send("exit 0\n")
    e.rest()
    until(lambda: k.children() == [], "the children are reaped")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    lines = errors.splitlines()
    assert lines.count("to all") == 3
    told = [line.split(" service=exec ")[1] for line in lines
            if line.startswith("time=")]
    assert f'msg="{c.name()}: exit status 3"' in told
    assert f'msg="{d.name()}: ended by Segmentation fault"' in told
    assert len(lines) == 5, lines


def test_max_connections_is_a_limit_of_children(family, tmp_path):
    with serving(family, tmp_path, "cat",
                 options=("-n", "2", "--refusal", "full")) as k:
        a, b = k.client(), k.client()
        until(lambda: len(k.children()) == 2, "two children")
        assert k.client().rest() == b"full\n"
        a.done()
        assert a.rest() == b""
        until(lambda: len(k.children()) == 1, "one is gone")
        d = k.client()
        d.send("x\n")
        assert d.line() == "x"
        b.send("y\n")
        assert b.line() == "y"


def test_life_timeout_ends_the_group(tmp_path):
    """First SIGTERM, and after linger SIGKILL, for all of the group."""
    script = 'trap "" TERM; sh -c "echo \\$\\$; sleep 1000" & wait; wait'
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--life-timeout", "200ms",
              "--linger", "200ms", "--", "sh", "-c", script)
    c = k.client()
    inner = int(c.line())
    assert c.drain() == b""
    until(lambda: k.children() == [], "the child is reaped")
    until(lambda: not alive(inner), "its child is gone, too")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert "Killed" in errors


def test_a_child_that_heeds_sigterm(tmp_path):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--life-timeout", "100ms",
              "--linger", "1h", "--", "sleep", "1000")
    assert k.client().rest() == b""
    until(lambda: k.children() == [], "the child is reaped")
    k.signal()
    assert k.wait()[0] == 0


@pytest.mark.parametrize("io", [(), PIPES])
def test_sigterm_waits_for_the_children(io):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *io, "--", "cat")
    c = k.client()
    c.send("a\n")
    assert c.line() == "a"
    k.signal()
    until(lambda: not connects(k), "nobody listens")
    c.send("still there\n")
    assert c.line() == "still there"
    c.done()
    assert c.rest() == b""
    assert k.wait() == (0, "")


def connects(k):
    try:
        Client(k.where).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("io", [(), PIPES])
def test_a_second_sigterm_does_not_wait(io):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", *io, "--", "cat")
    c = k.client()
    c.send("a\n")
    assert c.line() == "a"
    pid, = k.children()
    k.signal()
    # Two at once may be one.
    until(lambda: not connects(k), "nobody listens")
    k.signal()
    assert k.wait()[0] == 0
    c.drain()
    until(lambda: not alive(pid), "the child is gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("limit", ["0s", "200ms"])
@pytest.mark.parametrize("io", ["socket", "pipes"])
def test_drain_timeout(io, limit):
    """What has not ended by then is killed."""
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--io", io,
              "--drain-timeout", limit, "--", "sh", "-c", "echo a; exec cat")
    try:
        c = k.client()
        assert c.line() == "a"
        pid, = k.children()
        k.signal()
        assert c.drain() == b""
        assert k.wait()[0] == 0
        until(lambda: not alive(pid), "the child is gone")
    finally:
        k.kill()


def test_as_another_user(tmp_path):
    nobody = pwd.getpwnam("nobody")
    with serving("tcp4", tmp_path, "sh", "-c", "id -u; id -g; id -G",
                 options=("-u", "nobody")) as k:
        c = k.client()
        assert c.line() == str(nobody.pw_uid)
        assert c.line() == str(nobody.pw_gid)
        assert "0" not in c.line().split()
        assert c.rest() == b""
        until(lambda: k.children() == [], "the child is reaped")
    with serving("tcp4", tmp_path, "sh", "-c", "id -u; id -G",
                 options=("-g", "daemon")) as k:
        c = k.client()
        assert c.line() == "0"
        assert c.line() == "1"


@pytest.mark.parametrize("args, wrong", [
    ((), "serve exec: the command is missing after -- "
     "(see kquay serve exec --help)"),
    (("--", "/no/such/program"), "command: /no/such/program: No such file"),
    (("--", "no-such-program"), "command: no-such-program: No such file"),
    (("--", "/etc/passwd"), "command: /etc/passwd: Permission denied"),
    (("-e", "A", "--", "cat"), "environment: 'A' is not NAME=VALUE"),
    (("-e", "=A", "--", "cat"), "environment: '=A' is not NAME=VALUE"),
    (("-t", "1s", "--", "cat"), "idle-timeout: "),
    (("-u", "no-such-user", "--", "cat"), "user"),
    (("-g", "no-such-group", "--", "cat"), "group"),
])
def test_what_is_wrong_is_told_at_once(args, wrong):
    done = once("serve", "exec", "-l", "127.0.0.1:0", *args)
    assert done.returncode == USAGE
    assert done.stdout == ""
    assert done.stderr.startswith("kquay: ") and wrong in done.stderr
    assert done.stderr.count("\n") == 1


def test_in_a_configuration(tmp_path):
    conf = tmp_path / "kquay.conf"
    conf.write_text('service "e" {\n  handler = "exec"\n'
                    '  listen = {"127.0.0.1:0"}\n'
                    '  command = {"sh", "-c", "echo $0 $A", "a b"}\n'
                    '  environment = {"A=c"}\n}\n')
    printed = once("check", "-v", "-c", str(conf))
    assert '\tcommand = {"sh", "-c", "echo \\$0 \\$A", "a b"}\n' in (
        printed.stdout)
    again = tmp_path / "again.conf"
    again.write_text(printed.stdout)
    for file in (conf, again):
        with running("run", "-c", str(file)) as k:
            assert k.client().line() == "a b c"
    conf.write_text('service "e" {\n  handler = "exec"\n'
                    '  listen = {"127.0.0.1:0"}\n}\n')
    done = once("check", "-c", str(conf))
    assert done.returncode == CONFIG
    assert 'service "e": command: is missing' in done.stderr


def test_many(family, tmp_path):
    """300 children, 30 at a time: no descriptor and no process is left."""
    with serving(family, tmp_path, "cat", options=("-n", "40")) as k:
        c = k.client()
        c.send("x\n")
        assert c.line() == "x"
        before = k.descriptors()
        for _ in range(10):
            clients = [k.client() for _ in range(30)]
            for i, one in enumerate(clients):
                one.send(f"{i}\n")
                one.done()
            for i, one in enumerate(clients):
                assert one.rest() == f"{i}\n".encode()
                one.close()
            until(lambda: len(k.children()) == 1, "all are reaped")
        assert k.descriptors() == before


def test_the_peer_hangs_up(tmp_path):
    """That is the command's to notice: here by its end of input."""
    with serving("tcp4", tmp_path, "cat") as k:
        c = k.client()
        c.send("x\n")
        assert c.line() == "x"
        c.close()
        until(lambda: k.children() == [], "the child is reaped")


def logged(errors):
    """What the log says of programs, without the time and the peer."""
    return [line.split(": ", 2)[2] for line in messages(errors).splitlines()]


@pytest.mark.parametrize("script, lines", [
    ("echo one >&2; echo two >&2", ["one", "two"]),
    ("printf 'no end' >&2", ["no end"]),
    ("printf 'a\\n\\nb' >&2", ["a", "", "b"]),
    ("printf '%01200d\\n' 7 >&2", ["0" * 511, "0" * 511, "0" * 177 + "7"]),
    ("exec 2>&-; sleep 0.1", []),
    ("(exec <&- >&-; sleep 2; echo late >&2) & echo now >&2", ["now"]),
    ("seq 300 >&2", [str(n) for n in range(1, 301)]),
])
def test_errors_in_the_log(script, lines):
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--errors", "log", "--",
              "sh", "-c", script)
    c = k.client()
    name = c.name()
    c.rest()
    until(lambda: k.children() == [], "the child is reaped")
    k.signal()
    code, errors = k.wait()
    assert code == 0
    assert logged(errors) == lines
    assert all(line.startswith(f"exec: {name}: ")
               for line in messages(errors).splitlines())


def test_errors_in_the_log_are_harmless():
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--errors", "log", "--",
              "sh", "-c", "printf 'a\\033[2Jb\\0c\\377\\n' >&2")
    k.client().rest()
    until(lambda: k.children() == [], "the child is reaped")
    k.signal()
    errors = k.wait()[1]
    assert errors.count("\n") == 1 and errors.strip("\n").isprintable()


def test_no_descriptors_are_left_of_errors():
    k = Kquay("serve", "exec", "-l", "127.0.0.1:0", "--errors", "log", "--",
              "sh", "-c", "echo x >&2")

    before = k.descriptors()
    for _ in range(50):
        k.client().rest()
    until(lambda: k.children() == [] and k.descriptors() == before, "as before")
    k.signal()
    code, errors = k.wait()
    assert code == 0 and logged(errors) == ["x"] * 50
