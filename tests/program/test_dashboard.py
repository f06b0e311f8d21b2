"""The page with the plots, in a real browser."""

import json
import os
import pathlib
import threading
import time

import pytest

from browser import CHROMIUM, browser
from kquay import Client, until
from ports import free_port
from steer import steered

pytestmark = pytest.mark.skipif(CHROMIUM is None,
                                reason="this machine has no Chromium")

SERVICES = """
service "echo" { handler = echo listen = "127.0.0.1:0" }
service "<b>small</b>" {
    handler = chat
    listen = {"127.0.0.1:0", "unix:chat.s"}
    max-connections = 2
    refusal = "full"
}
"""

TABLE = """(id) => [...document.querySelectorAll(`#${id} tbody tr`)].map(
    (tr) => [...tr.cells].map((td) => td.firstChild?.textContent ?? ""))"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as b:
        yield b


@pytest.fixture
def page(tmp_path, chromium):
    port = free_port()
    with steered(tmp_path, SERVICES, f'status = "localhost:{port}"') as s:
        s.url = f"http://localhost:{port}/"
        s.browser = chromium
        chromium.events.clear()
        chromium.size(1280, 900)
        chromium.go(s.url)
        until(lambda: chromium.run(
            "document.getElementById('live')?.textContent") == "live",
            "the page is live")
        yield s
        # Or it would complain into the next test that nobody answers.
        chromium.go("about:blank")


def table(page, name):
    return page.browser.run(f"({TABLE})({json.dumps(name)})")


def tiles(page):
    return dict(page.browser.run(
        "[...document.querySelectorAll('.tile')].map((t) => "
        "[t.children[0].textContent, t.children[1].textContent])"))


def legend(page, title):
    """What stands under the plot: {service: value}."""
    return dict(page.browser.run(
        "[...[...document.querySelectorAll('.card')].find((c) => "
        f"c.querySelector('h3').textContent.startsWith({json.dumps(title)}))"
        ".querySelectorAll('li')].map((li) => [li.children[1].textContent, "
        "li.children[2].textContent])"))


def inked(page, number):
    """How many different colors the plot with this number has."""
    return page.browser.run(f"""(() => {{
        const c = document.querySelectorAll('canvas')[{number}];
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return new Set(new Uint32Array(d.data.buffer)).size;
    }})()""")


def test_it_shows_the_numbers(page):
    echoes = [page.k.client(page.k.listening[0]) for _ in range(5)]
    chats = [page.k.client(page.k.listening[1]) for _ in range(3)]
    assert [c.line() for c in chats] == ["welcome!", "welcome!", "full"]
    echoes[0].send("x" * 9999 + "\n")
    assert echoes[0].line() == "x" * 9999
    until(lambda: tiles(page)["Connections"] == "7", "the tile")
    rows = until(lambda: [r for r in table(page, "services")
                          if r[2] == "2"] and table(page, "services"),
                 "the table")
    assert rows == [
        ["echo", "echo", "5", "5", "5", "0", "0", "9.8 KiB", "9.8 KiB",
         page.k.listening[0]],
        # What is in a name is text.
        ["<b>small</b>", "chat", "2", "2", "2", "1", "0", "0 B", "18 B",
         ", ".join(page.k.listening[1:])],
    ]
    until(lambda: legend(page, "Connections") ==
          {"echo": "5", "<b>small</b>": "2"}, "the legend")
    for c in echoes[1:]:
        c.close()
    until(lambda: table(page, "services")[0][2] == "1", "four have gone")


def test_it_draws(page):
    empty = [inked(page, n) for n in range(6)]
    stop = threading.Event()

    def load():
        while not stop.is_set():
            c = Client(page.k.listening[0])
            c.send("hello\n")
            assert c.line() == "hello"
            c.close()
            stop.wait(0.01)

    t = threading.Thread(target=load)
    t.start()
    try:
        until(lambda: legend(page, "New connections")["echo"] not in ("0", "–"),
              "a rate")
        until(lambda: legend(page, "Received")["echo"] not in ("0 B/s", "–"),
              "another rate")
        until(lambda: all(inked(page, n) > 5 for n in range(6)), "lines")
    finally:
        stop.set()
        t.join()
    assert empty is not None


def test_it_asks_nobody_else_and_breaks_no_rule(page):
    seen = page.browser.requests
    until(lambda: page.url + "status.json" in seen(), "it asks")
    assert {r for r in seen() if not r.startswith(page.url)} == set()
    assert page.browser.complaints() == []


def test_pause_and_spans(page):
    run = page.browser.run
    run("document.querySelectorAll('#spans input')[2].click()")
    assert run("document.querySelectorAll('#spans input')[2].checked")
    run("document.getElementById('pause').click()")
    assert run("document.getElementById('pause').ariaPressed") == "true"
    # The numbers go on.
    page.k.client(page.k.listening[0])
    until(lambda: tiles(page)["Connections"] == "1", "the tile")
    run("document.getElementById('pause').click()")
    assert run("document.getElementById('pause').ariaPressed") == "false"
    assert page.browser.complaints() == []


@pytest.mark.parametrize("width", [360, 768, 1920])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits(page, width, dark):
    b = page.browser
    b.size(width, 800, dark)
    until(lambda: b.run("innerWidth") == width, "the size")
    assert b.run("document.documentElement.scrollWidth") <= width
    light = sum(map(int, b.run(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")))
    assert (light < 200) == dark
    assert b.run("[...document.querySelectorAll('canvas')].slice(0, 6).every("
                 "(c) => c.width > 200 && c.height > 100)")


def test_everything_has_a_name(page):
    """For who does not see the plots."""
    assert page.browser.run("[...document.querySelectorAll('canvas')].every("
                            "(c) => c.role === 'img' && c.ariaLabel !== '')")
    assert page.browser.run("document.documentElement.lang") == "en"
    assert page.browser.run("[...document.querySelectorAll('th')].every("
                            "(c) => c.scope === 'col')")


def test_it_tells_when_nobody_answers(page):
    page.k.stop()
    until(lambda: page.browser.run(
        "document.getElementById('live').textContent").startswith(
            "no answer since "), "it is told")
    assert page.browser.run("document.getElementById('live').className") == \
        "bad"
    page.browser.go("about:blank")
