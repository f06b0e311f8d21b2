"""A headless Chromium, told what to do through a pair of pipes (its DevTools
protocol): each message is a JSON object with a NUL behind it.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--hide-scrollbars",
         "--remote-debugging-pipe")
PATIENCE = 60


class Browser:
    def __init__(self, profile):
        ours, theirs = os.pipe(), os.pipe()
        self.out, self.into = ours[1], theirs[0]
        # Out of the way of 3, which it reads from, and 4, which it writes to.
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
               for fd in (ours[0], theirs[1])]
        os.close(ours[0])
        os.close(theirs[1])
        self.p = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=lambda: (os.dup2(far[0], 3), os.dup2(far[1], 4)),
            pass_fds=(3, 4), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        for fd in far:
            os.close(fd)
        self.buffer = b""
        self.number = 0
        self.events = []
        self.session = None
        page = self.until_page()
        self.session = self.call("Target.attachToTarget", targetId=page,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")

    def until_page(self):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for target in self.call("Target.getTargets")["targetInfos"]:
                if target["type"] == "page":
                    return target["targetId"]
        raise AssertionError("Chromium has no page")

    def call(self, method, **params):
        """The result of a method."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def receive(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            left = max(end - time.monotonic(), 0)
            assert select.select([self.into], [], [], left)[0], "no answer"
            part = os.read(self.into, 1 << 20)
            assert part, "Chromium has gone"
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def size(self, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width,
                  height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme",
             "value": "dark" if dark else "light"}])

    def go(self, url):
        result = self.call("Page.navigate", url=url)
        assert "errorText" not in result, result

    def run(self, script):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script,
                           returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def complaints(self):
        """Errors of scripts and of the security policy so far."""
        self.run("0")
        return [e for e in self.events
                if e.get("method") in ("Runtime.exceptionThrown",
                                       "Log.entryAdded")]

    def requests(self):
        """Addresses of all that the page has asked for."""
        return [e["params"]["request"]["url"] for e in self.events
                if e.get("method") == "Network.requestWillBeSent"]

    def close(self):
        os.close(self.out)
        os.close(self.into)
        # Its children, too: they are a group of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.p.pid, signal.SIGKILL)
        self.p.wait()


@contextlib.contextmanager
def browser(profile):
    b = Browser(profile)
    try:
        yield b
    finally:
        b.close()
