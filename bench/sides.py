"""What bench/run and its groups share: servers, their load, and tables."""

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

CPUS = sorted(os.sched_getaffinity(0))
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
MOST = min(FILES, 1 << 20) - 332  # connections beside 200 and some spare ones


@dataclass
class Load:
    """What one column of a table is about."""

    label: str
    command: str  # the load generator and its arguments, but for the times
    unit: str = "us"  # CPU for each exchange, or ms for each GB there and back
    most: dict = field(default_factory=dict)  # label of a server -> its target

    def figure(self, got):
        if self.unit == "us":
            return got["watch_cpu_us_per_op"]
        return 1000 * got["watch_cpu_s_per_gb"]


def say(text):
    print(f"servers: {text}", file=sys.stderr, flush=True)


def pinned(cpu):
    """For Popen: the child runs on one CPU."""
    return lambda: os.sched_setaffinity(0, {cpu})


def listens_at(pid):
    """Port 0 was asked for; the kernel's table says which it became."""
    held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    with open("/proc/net/tcp", encoding="ascii") as rows:
        for row in list(rows)[1:]:
            f = row.split()
            if f[3] == "0A" and f"socket:[{f[9]}]" in held:
                return int(f[1].split(":")[1], 16)
    return sys.exit(f"process {pid} listens nowhere")


class Server:
    """A process that listens, and those who are connected to it and idle."""

    running = []

    def __init__(self, label, command, cpu=CPUS[0]):
        self.label = label
        self.crowd = None
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, preexec_fn=pinned(cpu))
        Server.running.append(self)
        if self.process.stdout.readline() != b"ready\n":
            sys.exit(f"{command[0]}: does not start")
        self.pid = self.process.pid
        self.watch = str(self.pid)  # whose CPU it is
        self.port = listens_at(self.pid)

    def fill(self, bench, count):
        """Idle connections, for as long as the server runs."""
        say(f"{count} idle connections to {self.label}")
        self.crowd = subprocess.Popen(
            [bench.program("kload"), "idle", "-c", str(count), "-H", "100000",
             f"127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, preexec_fn=pinned(CPUS[-1]))
        deadline = time.monotonic() + 60
        while len(os.listdir(f"/proc/{self.pid}/fd")) < count:
            if self.crowd.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.label}: no {count} connections")
            time.sleep(0.05)

    def end(self):
        for process in filter(None, (self.crowd, self.process)):
            process.kill()
            process.wait()
        self.process.stdout.close()
        Server.running.remove(self)


class Bench:
    """Where the programs are, and how long to use them."""

    def __init__(self, args, folder):
        self.args = args
        self.folder = folder
        self.seconds = "0.3" if args.quick else "0.7"
        self.rounds = 3 if args.quick else 7
        self.words = {"pem": os.path.join(folder, "server.pem"),
                      "bulk": "64M" if args.quick else "256M"}

    def program(self, name):
        return os.path.join(self.args.build, "bench", name)

    def command(self, text):
        name, *rest = text.format(**self.words).split()
        return [self.program(name), *rest]

    def start(self, side):
        return Server(side[0], [*self.command(side[1]), "127.0.0.1:0"])

    def chosen(self, sides):
        """Those of the sides that are wanted and were built."""
        only = self.args.only.split(",") if self.args.only else None
        return [s for i, s in enumerate(sides)
                if os.path.exists(self.command(s[1])[0])
                and (i == 0 or only is None or s[0] in only)]

    def load(self, server, command, times=(), before=()):
        """The load generator's figures, or None if it failed; what it said."""
        done = subprocess.run(
            [*before, *self.command(command), *times, "--json",
             "--watch", server.watch, f"127.0.0.1:{server.port}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=pinned(CPUS[-1]), check=False)
        told = done.stderr.decode()
        if done.returncode != 0:
            say(f"{server.label}, {command}: failed: {told.strip()}")
            return None, told
        return json.loads(done.stdout), told

    def measure(self, servers, loads, figure):
        """figure(load, got): [load][server] -> list by round."""
        took = {load.label: {s.label: [] for s in servers} for load in loads}
        for turn in range(self.rounds):
            for load in loads:
                say(f"round {turn + 1} of {self.rounds}: {load.label}")
                for i in range(len(servers)):
                    s = servers[(i + turn) % len(servers)]
                    got, _ = self.load(
                        s, load.command, ["-w", "0.1", "-d", self.seconds])
                    took[load.label][s.label].append(
                        figure(load, got) if got else None)
        return took

    def system_calls(self, servers, loads):
        """[load][server] -> system calls of an exchange, as perf counts."""
        made = {load.label: {} for load in loads if load.unit == "us"}
        if not shutil.which("perf"):
            return made
        for s in servers:
            say(f"system calls of {s.label}")
            for load in loads:
                if load.unit != "us":
                    continue
                perf = ["perf", "stat", "-x", ",", "-e",
                        "raw_syscalls:sys_enter", "-p", str(s.pid), "--"]
                got, told = self.load(
                    s, load.command, ["-w", "0", "-d", self.seconds], perf)
                for line in told.splitlines():
                    count = line.split(",")[0]
                    if "raw_syscalls" in line and count.isdigit() and got:
                        made[load.label][s.label] = int(count) / got["ops"]
        return made

    def idle(self, sides, tool, count):
        """Server -> bytes of its memory for each idle connection."""
        held = {}
        for side in sides:
            say(f"{count} idle connections to {side[0]}")
            server = self.start(side)
            got, _ = self.load(server, f"{tool} idle -c {count}",
                               ["-H", "0.2"] if tool == "kload" else [])
            server.end()
            held[side[0]] = got["watch_rss_per_conn"] if got else None
        return held


def cpu(load, got):
    return load.figure(got)


def middle(values):
    """The median of what there is, or None."""
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(took, label, base):
    """Median and quartiles of the ratios to base, or None."""
    ratios = [a / b for a, b in zip(took[label], took[base]) if a and b]
    if len(ratios) < 3:
        return None
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), low, high


def verdict(got, most):
    if not got or most is None:
        return ""
    return f"{most:.2f}, {'met' if round(got[0], 2) <= most else 'not met'}"


def number(value, form):
    return "" if value is None else format(value, form)


def table(*rows):
    """A table in Markdown: a name, then figures."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines) + "\n"


def busy():
    """Which share of the CPUs is taken while nothing is measured, in percent."""
    def ticks():
        with open("/proc/stat", encoding="ascii") as f:
            return [int(n) for n in f.readline().split()[1:9]]

    before = ticks()
    time.sleep(1)
    spent = [b - a for a, b in zip(before, ticks())]
    return 100 * (1 - (spent[3] + spent[4]) / max(1, sum(spent)))


def machine():
    """One line for those who read the figures."""
    u = platform.uname()
    return (f"{u.system} {u.release}, {u.machine}, {len(CPUS)} CPUs, of which other work "
            f"took {busy():.0f} % when this began.\n")


def cpu_table(took, loads, labels):
    """Of the reference what it took, of the others the ratios to that."""
    base = labels[0]
    names = [load.label + ("" if load.unit == "us" else ", a GB") for load in loads]
    rows = [["CPU, ratio", *names]]
    rows.append([base] + [
        number(middle(took[load.label][base]), ".1f")
        + (" us" if load.unit == "us" else " ms") for load in loads])
    for label in labels[1:]:
        of = [label in took[load.label] and ratio(took[load.label], label, base)
              for load in loads]
        rows.append([label, *(f"{r[0]:.2f} [{r[1]:.2f}-{r[2]:.2f}]" if r else "" for r in of)])
        if any(label in load.most for load in loads):
            rows.append([f"target of {label}", *(
                verdict(r, load.most.get(label)) for r, load in zip(of, loads))])
    return table(*rows)


def calls_table(made, labels):
    if not any(made.values()):
        return "System calls: perf(1) cannot count them here.\n"
    rows = [["System calls", *made]]
    for label in labels:
        rows.append([label, *(number(row.get(label), ".1f") for row in made.values())])
    return table(*rows)


def plot_data(took, labels):
    """For servers.gp: loads in the head, then a line for each server."""
    lines = [" ".join(f'"{name}"' for name in ["", *took])]
    for label in labels[1:]:
        ratios = [label in row and ratio(row, label, labels[0]) for row in took.values()]
        cells = [f"{r[0]:.3f}" if r else "NaN" for r in ratios]
        name = label.replace(" ", "\\n", 1)
        lines.append(f'"{name}" {" ".join(cells)}')
    return "\n".join(lines) + "\n"
