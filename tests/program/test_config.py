"""kquay check: what it accepts, what it refuses, and where.

conf/NAME.conf and conf/NAME.ok are a pair: a file, and what `kquay check -v`
says of it.  With KQUAY_UPDATE in the environment the .ok files are written
instead of compared; read the difference before you keep it.
"""

import os
import pathlib
import re
import textwrap

import pytest

from kquay import CONFIG, once

HERE = pathlib.Path(__file__).parent
PAIRS = sorted((HERE / "conf").glob("*.conf"))


def check(path, *options):
    path = pathlib.Path(path)
    return once("check", *options, "-c", path.name, cwd=path.parent,
                env={**os.environ, "KQUAY_SET": "a variable"})


@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.stem)
def test_pair(path):
    r = check(path, "-v")
    got = f"exit {r.returncode}\n{r.stdout}{r.stderr}"
    ok = path.with_suffix(".ok")
    if "KQUAY_UPDATE" in os.environ:
        ok.write_text(got)
    assert got == ok.read_text()
    assert r.returncode == (CONFIG if path.stem.startswith("bad_") else 0)
    assert (r.stdout == "") == (r.returncode != 0)


@pytest.mark.parametrize("path", [p for p in PAIRS
                                  if not p.stem.startswith("bad_")],
                         ids=lambda p: p.stem)
def test_printed_reads_the_same(path, tmp_path):
    """What check -v prints is a file with the same settings."""
    first = check(path, "-v").stdout
    (tmp_path / "again.conf").write_text(first)
    assert check(tmp_path / "again.conf", "-v").stdout == first


def test_config_and_command_line_agree(tmp_path):
    """A setting says the same in the file and as an option."""
    out = once("serve", "chat", "--help").stdout
    (tmp_path / "a.conf").write_text('service a { handler = chat listen = ":1" }')
    outside = re.findall(r"^([\w-]+) =", check(tmp_path / "a.conf", "-v").stdout, re.M)
    assert "workers" in outside
    for name in re.findall(r"--([\w-]+) [\w\"]", out):
        section, in_file = re.fullmatch(r"(?:(tls)-)?(.*)", name).groups()
        setting = f'{in_file} = "\\001"'
        if section:
            setting = f"{section} {{ {setting} }}"
        inside = setting if name not in outside else ""
        (tmp_path / "a.conf").write_text(textwrap.dedent(f"""\
            service "chat" {{
                handler = chat
                listen = "localhost:1"
                {inside}
            }}
            {setting if name in outside else ""}
            """))
        from_file = check(tmp_path / "a.conf").stderr.replace(
            'service "chat": ', "")
        from_option = once("serve", "chat", f"--{name}", "\001").stderr \
            if name not in ("welcome", "refusal") else ""
        assert re.sub(r"^a.conf:\d: ", "", from_file) == \
            from_option.replace("kquay: ", ""), name


def test_check_opens_nothing(tmp_path):
    (tmp_path / "a.conf").write_text(
        'service a { handler = echo listen = {"unix:s", "no.such.invalid:1"} '
        "max-connections = 10000000 }")
    assert check(tmp_path / "a.conf").returncode == 0
    assert os.listdir(tmp_path) == ["a.conf"]


CONTROLS = "".join(map(chr, [*range(1, 32), 127]))


@pytest.mark.parametrize("text, lines", [
    ('service "%s" { }\n', 1),
    ('service a { handler = "%s" }\n', 1),
    ('service a { handler = echo listen = "unix:%s" mode = "%s" }\n', 2),
    ('service a { handler = chat "%s" = 1 }\n', 1),
    ('"%s" = 1\n', 1),
])
def test_complaints_are_lines(text, lines, tmp_path):
    """What the file has cannot act on the terminal, nor look like a line."""
    for c in CONTROLS:
        (tmp_path / "a.conf").write_text(text.replace("%s", f"x{c}y"))
        r = check(tmp_path / "a.conf")
        assert (r.returncode, r.stdout) == (CONFIG, "")
        assert r.stderr.count("\n") >= lines, r.stderr
        for line in r.stderr.splitlines():
            assert line.startswith("a.conf:") and line.isprintable(), repr(line)


def test_control_characters_are_printed_as_escapes(tmp_path):
    for c in CONTROLS:
        (tmp_path / "a.conf").write_text(
            f'service "x{c}1" {{ handler = chat listen = ":1" '
            f'welcome = "{c}f" }}\n')
        first = check(tmp_path / "a.conf", "-v").stdout
        assert all(line.strip("\t").isprintable() for line in first.split("\n"))
        (tmp_path / "a.conf").write_text(first)
        assert check(tmp_path / "a.conf", "-v").stdout == first
        escape = {"\n": "\\n", "\t": "\\t"}.get(c, f"\\x{ord(c):02x}")
        assert f'service "x{escape}1"' in first
        assert f'welcome = "{escape}f"' in first


def test_long_and_binary_files(tmp_path):
    many = "".join(f'service "s{n}" {{ handler = echo listen = ":{n}" }}\n'
                   for n in range(1, 3000))
    (tmp_path / "a.conf").write_text(many)
    assert check(tmp_path / "a.conf").returncode == 0
    (tmp_path / "a.conf").write_text(many + "oops = 1\n")
    r = check(tmp_path / "a.conf")
    assert r.stderr == "a.conf:3000: no such setting 'oops'\n"
    (tmp_path / "a.conf").write_bytes(b"\n" * (4 << 20))
    r = check(tmp_path / "a.conf")
    assert r.stderr == "a.conf: there is no service in it\n"
    (tmp_path / "a.conf").write_bytes(b"\n" * ((4 << 20) + 1))
    r = check(tmp_path / "a.conf")
    assert (r.returncode, r.stderr) == \
        (CONFIG, "kquay: a.conf: File too large\n")
    (tmp_path / "a.conf").write_bytes(b"service\0")
    r = check(tmp_path / "a.conf")
    assert (r.returncode, r.stderr) == \
        (CONFIG, "kquay: a.conf: holds a NUL byte\n")


@pytest.mark.parametrize("handler", ["chat", "echo", "discard", "daytime",
                                     "exec", "relay"])
def test_what_has_no_limit_by_default(handler, tmp_path):
    """Each has its reason in kquay.conf(5)."""
    more = {"exec": "command = cat", "relay": 'to = "localhost:1"'}
    (tmp_path / "a.conf").write_text(
        f'service "a" {{ handler = {handler} listen = ":1"\n'
        f'{more.get(handler, "")} }}\n')
    printed = check(tmp_path / "a.conf", "-v").stdout
    none = set(re.findall(r'^\t*([a-z-]+) = "none"$', printed, re.M))
    want = {"max-per-source", "life-timeout", "keepalive", "rate", "client",
            "exit-when-idle"}
    if handler == "exec":
        want |= {"idle-timeout"}
    if handler == "relay":
        # In no queue is nobody; a target's share is max-connections.
        want |= {"queue", "max-per-target", "check", "send-proxy"}
    assert none == want


def bounds(path):
    """What check -v says of memory, in bytes."""
    unit = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return [float(n) * unit[u] for n, u in
            re.findall(r"^# .*: at most ([\d.]+)([kMG]?)B of memory$",
                       check(path, "-v").stdout, re.M)]


def test_memory_is_bounded(tmp_path):
    """By the limits that are set, for each service and in all."""
    def of(**settings):
        more = "".join(f"  {k.replace('_', '-')} = {v}\n"
                       for k, v in settings.items())
        (tmp_path / "a.conf").write_text(
            "log = none\n"
            'service "a" {\n  handler = chat\n  listen = ":1"\n' + more +
            '}\nservice "b" {\n  handler = discard\n  listen = ":2"\n'
            "  max-connections = 10\n}\n")
        one, other, both = bounds(tmp_path / "a.conf")
        assert abs(both - one - other) < both / 10
        return one
    few = of(max_connections=100, max_output="1M")
    assert 100 << 20 < few < 130 << 20
    assert 9 < of(max_connections=1000, max_output="1M") / few < 11
    assert of(max_connections=100, max_output="2M") - few > 90 << 20
