"""kquay serve chat: names, rooms, commands, history, pace."""

import os
import signal
import socket
import struct
import time

import pytest

from kquay import DEADLINE, running, until


def chat(*options):
    return running("serve", "chat", "-l", "127.0.0.1:0", *options)


def come(k, name=None):
    """Somebody new, greeted, and with a name if one is given."""
    c = k.client()
    assert c.line() == "welcome!"
    if name:
        c.send(f"/nick {name}\n")
        assert c.line() == f"* you are {name}"
    return c


def quiet(c):
    """Nothing has come for c: the answer to /help is the next."""
    c.send("/help\n")
    assert c.line().startswith("* /nick NAME")
    while c.line() != "* //...: say what begins with a slash":
        pass


def together(k, room, *names):
    """So many, all in one room, and what they were told of it read."""
    clients = []
    for name in names:
        c = come(k, name)
        c.send(f"/join {room}\n")
        assert c.line() == f"* you are in {room}"
        for other in clients:
            assert other.line() == f"* {name} has come"
        clients.append(c)
    return clients


def test_names():
    with chat() as k:
        a, b = come(k), come(k)
        a.send("/nick anna\n")
        assert a.line() == "* you are anna"
        assert b.line() == f"* {a.name()} is now anna"
        a.send("hello\n")
        assert b.line() == "anna: hello"
        a.send("/nick Anna.2-x_\n")
        assert a.line() == "* you are Anna.2-x_"
        assert b.line() == "* anna is now Anna.2-x_"
        a.send("/quit\n")
        assert a.closed()
        b.send("/nick anna\n")
        assert b.line() == "* you are anna"


def test_names_are_unique():
    """Whatever the case of their letters; a name that is left is free."""
    with chat() as k:
        a, b = come(k, "anna"), come(k)
        for taken in "anna", "ANNA":
            b.send(f"/nick {taken}\n")
            assert b.line() == f"* {taken} is taken"
        b.send("not yet\n")
        assert a.line() == f"{b.name()}: not yet"
        a.send("/nick Anna\n")
        assert a.line() == "* you are Anna"
        a.send("/nick bea\n")
        assert a.line() == "* you are bea"
        assert b.line() == "* anna is now Anna"
        assert b.line() == "* Anna is now bea"
        b.send("/nick anna\n")
        assert b.line() == "* you are anna"


def test_names_of_who_has_left():
    """Are free, and no others."""
    with chat() as k:
        names = [f"anna{n * 7 % 40}" for n in range(40)]
        clients = [come(k, name) for name in names]
        for c in clients[::2]:
            c.s.shutdown(socket.SHUT_WR)
            assert not c.rest().endswith(b"taken\n")
        for _ in range(20):
            come(k)
        last = come(k)
        for n, name in enumerate(names):
            last.send(f"/nick {name}\n")
            assert last.line() == ("* {} is taken" if n % 2 else
                                   "* you are {}").format(name)


@pytest.mark.parametrize("name", [
    "1st", "-x", "a:b", "a/b", "ä", "a\x01", "a\u202eb", "x" * 25, "[::1]:80",
    "*",
])
def test_not_a_name(name):
    with chat() as k:
        a, b = come(k), come(k)
        for command in "nick", "join":
            a.send(f"/{command} {name}\n")
            assert a.line().startswith("* a name is 1 to 24 letters, ")
        a.send("still here\n")
        assert b.line() == f"{a.name()}: still here"


def test_rooms_are_apart():
    with chat() as k:
        lobby = come(k)
        a, b = together(k, "kitchen", "anna", "bert")
        assert lobby.line() == f"* {a.name()} is now anna"
        assert lobby.line() == f"* {b.name()} is now bert"
        a.send("dinner\n")
        assert b.line() == "anna: dinner"
        lobby.send("hello\n")
        quiet(a)
        quiet(b)
        quiet(lobby)
        b.send("/join Lobby\n")
        assert b.line() == "* you are in lobby"
        assert a.line() == "* bert has left"
        b.send("me again\n")
        assert lobby.line() == "bert: me again"


def test_workers():
    """However many there are, all meet."""
    with chat("--workers", "4") as k:
        clients = [come(k, f"anna{n}") for n in range(12)]
        last = come(k)
        last.send("/who\n")
        told = [last.line(), last.line()]
        assert " ".join(line.removeprefix("* in lobby: ") for line in told) \
            == " ".join([f"anna{n}" for n in range(12)] + [last.name()])
        last.send("to all\n")
        for c in clients:
            while (line := c.line()).endswith(tuple("0123456789")):
                assert " is now anna" in line
            assert line == f"{last.name()}: to all"


def test_reload(tmp_path):
    """A chat that was changed goes on, and another one begins."""
    conf = tmp_path / "a.conf"
    text = 'service chat { handler = chat listen = "unix:%s/s" history = %d }\n'
    conf.write_text(text % (tmp_path, 1))
    with running("run", "-c", str(conf)) as k:
        a, b = come(k, "anna"), come(k)
        conf.write_text(text % (tmp_path, 2))
        k.signal(signal.SIGHUP)

        def new():
            c = come(k)
            c.send("/who\n")
            return "anna" not in c.line()
        until(new, "another chat")
        a.send("still here\n")
        assert b.line() == "anna: still here"
        k.signal()
        status, errors = k.wait()
        assert status == 0 and errors.count("\n") == 1, errors


def test_names_hold_in_all_rooms():
    with chat() as k:
        together(k, "kitchen", "anna")
        b = come(k)
        b.send("/nick anna\n")
        assert b.line() == "* anna is taken"


def test_who_leaves_is_missed():
    """But not in the lobby, where nobody needs to know of commands."""
    with chat() as k:
        a, b, c = together(k, "kitchen", "anna", "bert", "cleo")
        b.close()
        assert a.line() == c.line() == "* bert has left"
        a.send("/quit\n")
        assert a.closed()
        assert c.line() == "* anna has left"
        d, e = come(k), come(k)
        d.close()
        quiet(e)


def test_commands_mean_themselves():
    with chat() as k:
        a, b = come(k), come(k)
        for line, answer in [
                ("/", "* no such command; /help lists them"),
                ("/no", "* no such command; /help lists them"),
                ("/nickanna", "* no such command; /help lists them"),
                ("/nick", "* /nick NAME: be called NAME"),
                ("/nick  \t", "* /nick NAME: be called NAME"),
                ("/join", "* /join ROOM: go to ROOM, which is made if need be"),
                ("/join lobby", "* you are in lobby"),
                ("/nick \t anna bert", "* you are anna")]:
            a.send(f"{line}\n")
            assert a.line() == answer
        assert b.line() == f"* {a.name()} is now anna"
        for line, heard in [("//nick x", "/nick x"), (" /nick x", " /nick x"),
                            ("//", "/")]:
            a.send(f"{line}\n")
            assert b.line() == f"anna: {heard}"


def test_who():
    with chat() as k:
        a, b = come(k, "anna"), come(k)
        b.send("/who\n")
        assert b.line() == f"* in lobby: anna {b.name()}"
        a.send("/join kitchen\n")
        assert a.line() == "* you are in kitchen"
        a.send("/who\n")
        assert a.line() == "* in kitchen: anna"


def test_who_of_many(tmp_path):
    """In lines of a width, and no more than has place."""
    with running("serve", "chat", "-l", f"unix:{tmp_path}/s", "--max-line",
                 "80", "--max-output", "1024") as k:
        names = [f"anna{n:04}" for n in range(100)]
        for name in names:
            come(k, name).close
        last = k.clients[-1]
        last.send("/who\n/quit\n")
        lines = last.rest().decode().splitlines()
        assert all(len(line) <= 80 for line in lines)
        told = [name for line in lines[:-1]
                for name in line.removeprefix("* in lobby: ").split(" ")]
        assert 30 < len(told) < 80 and told == names[:len(told)]
        assert lines[-1] == f"* and {100 - len(told)} more"


@pytest.mark.parametrize("sent, heard", [
    (b"\033[2J", b"?[2J"),
    (b"a\rb", b"a?b"),
    (b"a\0b\a\b\x7f", b"a?b???"),
    (b"\x9b31m \x80 \xa0 \xff", b"?31m ? \xa0 \xff"),
    (b"\xc2\x9b31m \xc2\xa0", b"??31m \xc2\xa0"),
    (b"\xe0\x80\x9b \xc1\x9b \xf0\x80\x80\x9b", b"\xe0?? \xc1? \xf0???"),
    (b"\xed\x9f\xbf \xed\xa0\x80 \xf4\x8f\xbf\xbf \xf4\x90\x80\x80",
     b"\xed\x9f\xbf \xed\xa0? \xf4\x8f\xbf\xbf \xf4???"),
    ("tab\tÄ€😀 Û".encode(), "tab\tÄ€😀 Û".encode()),
    (b"cut \xe2\x82", b"cut \xe2?"),
    ("\u202eturned\u2028".encode(), b"???turned???"),
    ("👨\u200d👩\u200d👧 نامه\u200cای".encode(),) * 2,
])
def test_no_control_of_terminals(sent, heard):
    with chat() as k:
        a, b = come(k, "anna"), come(k)
        a.send(sent + b"\n")
        while b"\n" not in b.buffer:
            b.buffer += b.s.recv(4096)
        assert b.buffer == b"anna: " + heard + b"\n"


def history(k, room=None):
    """What somebody new is shown, in this room or in the lobby."""
    c = come(k)
    if room:
        c.send(f"/join {room}\n")
    c.send("/quit\n")
    lines = c.rest().decode().splitlines()
    return lines[lines.index(f"* you are in {room}") + 1:] if room else lines


def test_no_history_by_itself():
    with chat() as k:
        come(k).send("first\n/quit\n")
        until(lambda: k.clients[-1].closed(), "the end")
        assert history(k) == []


def test_history():
    with chat("--history", "3") as k:
        a, b = come(k, "anna"), come(k)
        assert history(k) == []
        for n in range(5):
            a.send(f"line {n}\n")
            assert b.line() == f"anna: line {n}"
        assert history(k) == [f"anna: line {n}" for n in (2, 3, 4)]
        a.send("/nick bert\n")
        assert b.line() == "* anna is now bert"
        a.close()
        b.close()
        # The lobby lasts, and what was said was said by anna.
        assert history(k) == [f"anna: line {n}" for n in (2, 3, 4)]


def test_history_of_rooms():
    """A room and its history end with the last who is in it."""
    with chat("--history", "3") as k:
        a, b = together(k, "kitchen", "anna", "bert")
        a.send("dinner\n")
        assert b.line() == "anna: dinner"
        assert history(k) == []
        assert history(k, "kitchen") == ["anna: dinner"]
        b.send("/join KITCHEN\n")
        for line in "* {} has come", "* {} has left":
            assert b.line() == line.format(k.clients[-1].name())
        assert b.line() == "* you are in kitchen"
        a.send("/quit\n")
        b.send("/join lobby\n")
        assert a.rest().endswith(b"has left\n")
        until(lambda: b.line() == "* you are in lobby", "the lobby")
        assert history(k, "kitchen") == []


def test_history_is_bounded():
    """By max-history for all rooms: what is oldest goes."""
    with chat("--history", "1000", "--max-history", "8k") as k:
        a, b = together(k, "kitchen", "anna", "bert")
        a.send("of the kitchen\n")
        assert b.line() == "anna: of the kitchen"
        c = come(k, "cleo")
        for n in range(100):
            c.send(f"{n:03}" + "x" * 997 + "\n")
        c.send("/join hall\n")
        assert c.line() == "* you are in hall"
        lines = history(k)
        assert [line[6:9] for line in lines] == [
            f"{n:03}" for n in range(100 - len(lines), 100)]
        assert 6 <= len(lines) <= 8
        assert history(k, "kitchen") == []


def test_history_leaves_place():
    """Half of max-output at most, and the newest."""
    with chat("--history", "1000", "--max-output", "32k") as k:
        a = come(k, "anna")
        for n in range(100):
            a.send(f"{n:03}" + "x" * 997 + "\n")
        a.send("/join hall\n")
        assert a.line() == "* you are in hall"
        lines = history(k)
        assert len(lines) == 16
        assert lines[-1].startswith("anna: 099x")


@pytest.mark.skipif("KQUAY_SANITIZE" in os.environ,
                    reason="a sanitizer keeps what was freed")
def test_memory_of_rooms():
    """Who goes from room to room leaves nothing behind."""
    with chat("--history", "100", "--max-rate", "none") as k:
        a = come(k, "anna")

        def wander(times):
            for n in range(times):
                a.send(f"/join room{n}\n" + 50 * "something to keep\n")
                assert a.line() == f"* you are in room{n}"
        wander(200)
        before = k.rss()
        wander(2000)
        assert k.rss() - before < 512 * 1024


def test_pace():
    """Over max-rate is not read from; nothing is lost, others go on."""
    with chat("--max-rate", "20/s burst 5") as k:
        a, b, c = come(k, "anna"), come(k), come(k)
        begin = time.monotonic()
        a.send("".join(f"{n}\n" for n in range(15)))
        for n in range(15):
            assert b.line() == f"anna: {n}"
        took = time.monotonic() - begin
        # 5 at once, and 10 more at 20 in a second.
        assert 0.45 < took < DEADLINE
        for n in range(15):
            assert c.line() == f"anna: {n}"
        c.send("and I\n")
        assert a.line() == b.line() == f"{c.name()}: and I"


def test_pace_after_a_pause():
    """No more than the burst, however long it was."""
    with chat("--max-rate", "20/s burst 2") as k:
        a, b = come(k, "anna"), come(k)
        a.send("first\n")
        assert b.line() == "anna: first"
        time.sleep(0.5)
        begin = time.monotonic()
        a.send("".join(f"{n}\n" for n in range(8)))
        for n in range(8):
            assert b.line() == f"anna: {n}"
        assert time.monotonic() - begin > 0.25


def test_pace_of_commands():
    with chat("--max-rate", "1/s burst 2") as k:
        a = come(k)
        a.send("/who\n/who\n/who\n")
        a.line(), a.line()
        a.s.settimeout(0.3)
        with pytest.raises(TimeoutError):
            a.line()
        a.s.settimeout(DEADLINE)
        assert a.line() == f"* in lobby: {a.name()}"


def test_end_while_waiting():
    """Of one's own, and of the service."""
    with chat("--max-rate", "2/s burst 1") as k:
        a, b = come(k, "anna"), come(k, "bert")
        a.send("one\ntwo\nthree\n")
        a.done()
        for text in "one", "two", "three":
            assert b.line() == f"anna: {text}"
        assert a.rest().startswith(b"* ")
        b.send("1\n2\n3\n4\n")
        k.stop()


def test_reset_while_waiting():
    """Who breaks off then is found out by who talks; the timer goes, too."""
    with chat("--max-rate", "1/s burst 4", "-n", "2") as k:
        a, b = come(k), come(k)
        for _ in range(3):
            a.send("1\n2\n3\n4\n5\n")
            for n in range(1, 5):
                assert b.line() == f"{a.name()}: {n}"
            a.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                           struct.pack("ii", 1, 0))
            a.close()
            b.send("anybody?\n")
            a = until(lambda: came(k), "a free place")
        a.send("done\n")
        assert b.line() == f"{a.name()}: done"


def came(k):
    c = k.client()
    return c if c.line() == "welcome!" else None


def test_nobody_listens():
    """Who does not read is dropped, whatever room it is in."""
    with chat("--max-output", "32k") as k:
        a, lazy, b = together(k, "kitchen", "anna", "lazy", "bert")
        lazy.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line = "x" * 8000
        for _ in range(2000):
            a.send(f"{line}\n")
            heard = b.line()
            if heard == "* lazy has left":
                break
            assert heard == f"anna: {line}"
        else:
            raise AssertionError("lazy is still there")
        assert a.line() == "* lazy has left"
