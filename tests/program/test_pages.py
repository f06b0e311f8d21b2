"""The pages of the manual, the documents and the program say the same.

Every setting is described where it belongs, with its default, and no other
is; every configuration that is shown is a good one.
"""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from kquay import DEADLINE, ROOT, once

CONF = (ROOT / "man" / "kquay.conf.5").read_text()
PAGE = (ROOT / "man" / "kquay.8").read_text()
MIGRATION = (ROOT / "docs" / "migration.md").read_text()
README = (ROOT / "README.md").read_text()


def parts(text, macro):
    """What follows each heading, by heading."""
    found = re.split(rf"^\.{macro} (.*)\n", text, flags=re.M)
    return dict(zip(found[1::2], found[2::2]))


def entries(text):
    """The settings that are described, by the name of their option."""
    found = re.split(r"^\.It Ic (?:([\w-]+) \{ )?([\w-]+) = .*\n", text,
                     flags=re.M)
    return {f"{section}-{name}" if section else name: body
            for section, name, body in zip(found[1::3], found[2::3],
                                           found[3::3])}


def plain(text):
    """Without the macros that set a word apart."""
    text = re.sub(r"^\.(?:Ql|Cm|Ar|Ic|Dv|Pa) ", "", text, flags=re.M)
    text = text.replace("\\(dq", '"').replace("\\e", "\\").replace("\\&", "")
    return " ".join(text.split()).replace(" .", ".")


def commands():
    return re.findall(r"^  (\w+) ", once("--help").stdout.split("\n\n")[1], re.M)


def handlers():
    return re.findall(r"^  (\w+) ", once("serve", "--help").stdout, re.M)


def options(handler):
    """(letter, name, default) of each, as --help has them."""
    out = once("serve", handler, "--help").stdout
    return re.findall(r"^  (?:-(\w), |    )--([\w-]+) .*?(?: \[(.*)\])?$", out,
                      re.M)


HANDLERS = handlers()
SECTIONS = parts(CONF, "Sh")
OF_HANDLERS = parts(SECTIONS["HANDLERS"], "Ss")
OF_ALL = SECTIONS["SETTINGS OF EVERY SERVICE"]
OF_PROGRAM = SECTIONS["SETTINGS OF THE PROGRAM"]


def common():
    return set.intersection(*({name for _, name, _ in options(h)}
                              for h in HANDLERS))


def test_handlers():
    assert list(OF_HANDLERS) == HANDLERS
    for handler in HANDLERS:
        assert f".Cm {handler} " in PAGE


def test_commands():
    described = re.findall(r"^\.It Cm (\w+)", PAGE, re.M)
    shown = re.findall(r"^\.Nm\n\.Cm (\w+)", PAGE, re.M)
    assert [c for c in described if c in commands()] == shown == commands()


def outside(tmp_path):
    """The settings of the program itself."""
    (tmp_path / "a.conf").write_text('service a { handler = echo listen = ":1" }')
    printed = once("check", "-v", "-c", "a.conf", cwd=tmp_path).stdout
    return set(re.findall(r"^([\w-]+) = ", printed, re.M))


def test_settings_of_every_service(tmp_path):
    assert set(entries(OF_ALL)) == common() - outside(tmp_path) | {"handler"}


def test_settings_of_the_program(tmp_path):
    assert set(entries(OF_PROGRAM)) == outside(tmp_path)


@pytest.mark.parametrize("handler", HANDLERS)
def test_settings_of_handlers(handler):
    own = {name for _, name, _ in options(handler)} - common()
    # exec takes the names of some of the program's for its own.
    taken = {"user", "group"} if handler == "exec" else set()
    assert set(entries(OF_HANDLERS[handler])) == own | taken


@pytest.mark.parametrize("handler", HANDLERS)
def test_defaults(handler):
    bodies = entries(OF_PROGRAM) | entries(OF_ALL) | \
        entries(OF_HANDLERS[handler])
    for _, name, default in options(handler):
        body = plain(bodies[name])
        if default not in ("", '""'):
            assert default in body.partition("Default:")[2], name


def test_files():
    """Where the program looks by itself, if it is built for no other place."""
    where, = re.findall(r"--socket PATH .*\[(.*)\]",
                        once("status", "--help").stdout)
    assert f"\n.It Pa {where}\n" in PAGE
    assert f".Pa {where}\n" in CONF


def test_environment():
    """What the program asks for stands in ENVIRONMENT."""
    sources = [path.read_text()
               for path in (ROOT / "src" / "program").glob("*.c")]
    asked = {name for text in sources
             for name in re.findall(r'(?:getenv|number_of)\("(\w+)"\)', text)}
    listed = " ".join(re.findall(r"^\.It Ev (.*)",
                                 parts(PAGE, "Sh")["ENVIRONMENT"], re.M))
    assert {"PATH", "NOTIFY_SOCKET"} <= asked <= set(re.findall(r"\w+", listed))


def test_letters():
    """Those that kquay(8) lists are those that there are."""
    there = {(letter, name) for handler in HANDLERS
             for letter, name, _ in options(handler) if letter}
    there |= {pair for command in commands() if command != "serve"
              for pair in re.findall(r"^  -(\w), --([\w-]+)",
                                     once(command, "--help").stdout, re.M)}
    there.add(("h", "help"))
    listed = re.findall(r"^\.It Fl (\w) , Fl Fl ([\w-]+)", PAGE, re.M)
    assert set(listed) == there


# -- what is shown ----------------------------------------------------------


def here(text, folder):
    """The same, on this machine: with files, programs and rights it has."""
    for name in set(re.findall(r"/etc/kquay/([\w.-]+)", text)):
        parts = ["host.key"] if name.endswith(".key") else \
            ["ca.pem"] if name in ("ca.pem", "members.pem") else \
            ["host.pem", "host.key"]
        (folder / f"of.{name}").write_text(
            "".join((folder / part).read_text() for part in parts))
    text = text.replace("/etc/kquay/", f"{folder}/of.")
    for program in set(re.findall(r'command += \{"(/[^"]*)"', text)):
        if not os.access(program, os.X_OK):
            text = text.replace(f'"{program}"', '"/bin/sh"')
    if os.geteuid() != 0:
        text = re.sub(r"^\s*(user|group) += .*\n", "", text, flags=re.M)
    return text


def meaning(text, folder):
    """What kquay check -v says of a configuration, which must be good."""
    (folder / "shown.conf").write_text(here(text, folder))
    r = once("check", "-v", "-c", "shown.conf", cwd=folder)
    assert (r.returncode, r.stderr) == (0, ""), text
    return r.stdout


def file_of(command):
    """The service of `kquay serve ...`, as it would be in a file."""
    # $'a\n' of newer shells, which shlex does not know.
    plain_quotes = re.sub(r"\$'(.*?)'", lambda m: shlex.quote(
        m[1].encode().decode("unicode_escape")), command)
    kquay, serve, handler, *words = shlex.split(plain_quotes)
    assert (kquay, serve) == ("kquay", "serve"), command
    long = {f"--{name}" for _, name, _ in options(handler)}
    short = {f"-{letter}": f"--{name}"
             for letter, name, _ in options(handler) if letter}
    outside, lines = [], [f"handler = {handler}"]
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--":
            break
        option = short.get(option, option)
        assert option in long, f"{option}: {command}"
        section, tls, name = option[2:].rpartition("tls-")
        where = outside if name in entries(OF_PROGRAM) and \
            name not in entries(OF_HANDLERS[handler]) else lines
        where.append(setting(section + tls[:-1], name, words.pop(0)))
    lines += [setting("", "command", word) for word in words]
    return "\n".join([*outside, f'service "{handler}" {{', *lines, "}\n"])


def setting(section, name, value):
    quoted = "".join(c if c.isprintable() and c not in '"\\$'
                     else f"\\x{ord(c):02x}" for c in value)
    line = f'{name} = "{quoted}"'
    return f"{section} {{ {line} }}" if section else line


def displays(page):
    for text in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", page, re.M | re.S):
        yield text.replace("\\e", "\\").replace("\\(dq", '"')


def test_configurations_of_pages(certs):
    shown = [text for page in (CONF, PAGE) for text in displays(page)
             if re.search(r"^service \"", text, re.M) and "SETTING" not in text]
    assert sum(bool(meaning(text, certs)) for text in shown) >= 5


def test_commands_of_pages(certs):
    found = [command for text in displays(PAGE)
             for command in commands_in(text.replace("$ kquay", "kquay"))]
    assert sum(bool(meaning(file_of(c), certs)) for c in found) >= 5


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.conf")),
                         ids=lambda p: p.stem)
def test_examples(path, certs):
    """They are good, and what check -v says of them means the same."""
    said = meaning(path.read_text(), certs)
    assert meaning(said, certs) == said


def blocks(text):
    """(language, text) of each fenced block, in their order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def commands_in(text):
    """Those of a block of shell that serve."""
    return [line for line in text.replace("\\\n", " ").splitlines()
            if line.startswith("kquay serve ") and "--help" not in line]


def without_name(text):
    text = re.sub(r"^# .*\n", "", text, flags=re.M)
    return re.sub(r"^service .* \{$", "service {", text, flags=re.M)


def test_migration(certs):
    """Each file is good, and says what the command before it says."""
    before, pairs, files = [], 0, 0
    for language, text in blocks(MIGRATION):
        if language == "conf":
            files += 1
            said = meaning(text, certs)
            for command in before:
                assert without_name(meaning(file_of(command), certs)) == \
                    without_name(said), command
                pairs += 1
        before = commands_in(text) if language == "sh" else []
    assert pairs >= 8 and files > pairs


@pytest.mark.skipif(shutil.which("haproxy") is None,
                    reason="there is no haproxy")
def test_haproxy_of_migration(tmp_path):
    """What kquay is compared with is what HAProxy takes."""
    shown = [text for language, text in blocks(MIGRATION)
             if language == "haproxy"]
    assert len(shown) == 2
    for text in shown:
        (tmp_path / "haproxy.cfg").write_text(text)
        subprocess.run(["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"],
                       check=True, timeout=DEADLINE)


def test_readme(certs):
    for language, text in blocks(README):
        if language == "conf":
            meaning(text, certs)
        for command in commands_in(text) if language == "sh" else []:
            meaning(file_of(command), certs)
