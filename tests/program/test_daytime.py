"""kquay serve daytime: RFC 867."""

import os
import re
import time

import pytest

from kquay import USAGE, address, once, running

RFC = "%A, %B %d, %Y %H:%M:%S-%Z"


def told(k):
    """The line, without its end, after which there is nothing more."""
    text = k.client().rest().decode()
    assert text.endswith("\r\n")
    assert "\n" not in text[:-1]
    return text[:-2]


def now(form, clock=time.localtime):
    """What the time was, between before and after."""
    return {time.strftime(form, clock(t)) for t in
            range(int(time.time()) - 2, int(time.time()) + 1)}


def test_daytime(family, tmp_path):
    with running("serve", "daytime", "-l", address(family, tmp_path)) as k:
        assert told(k) in now(RFC)
        assert told(k) in now(RFC)


@pytest.mark.parametrize("options, zone", [
    ([], "CET|CEST"), (["--utc", "off"], "CET|CEST"), (["-u", "on"], "GMT"),
])
def test_zones(options, zone):
    env = {**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    with running("serve", "daytime", "-l", "127.0.0.1:0", *options,
                 env=env) as k:
        line = told(k)
        assert re.search(rf"-({zone})$", line)
        if zone == "GMT":
            assert line in now(RFC.replace("%Z", "GMT"), time.gmtime)


@pytest.mark.parametrize("form", ["%s", "it is %H:%M", "%%", "%Y-%m-%dT%H%z"])
def test_format(form):
    with running("serve", "daytime", "-l", "127.0.0.1:0", "-f", form) as k:
        assert told(k) in now(form)


@pytest.mark.parametrize("form, wrong", [
    ("", "makes no line of 1 to 256 bytes"),
    ("%Y-%m-%d" * 30, "makes no line of 1 to 256 bytes"),
    ("%c" * 100, "makes no line of 1 to 256 bytes"),
    ("a%nb", "makes more than one line, or a control character"),
    ("a\033[2J", "makes more than one line, or a control character"),
])
def test_bad_formats(form, wrong):
    r = once("serve", "daytime", "-l", "127.0.0.1:0", "--format", form)
    assert (r.returncode, r.stdout) == (USAGE, "")
    assert r.stderr == f"kquay: format: {wrong}\n"


def test_what_is_sent_is_ignored():
    with running("serve", "daytime", "-l", "127.0.0.1:0") as k:
        c = k.client()
        c.send(b"x" * 100000)
        assert c.rest().decode()[:-2] in now(RFC)
