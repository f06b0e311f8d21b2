"""kquay beside the programs that it replaces: relays, and who starts programs.

A peer is run as its manual has it, with its own defaults, one process or
worker, and no log of connections.  What is not installed is left out, and
said; tools/setup bench installs it.  Each has a cgroup, so that the CPU of
children counts; who cannot make one is told so, and goes without the peers
that have children.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from sides import (CPUS, FILES, Bench, Load, Server, calls_table, cpu,
                   cpu_table, middle, number, pinned, plot_data, ratio, say,
                   table, verdict)

PLACES = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/lib/systemd"])
RELAYED = (FILES - 400) * 8 // 17  # two descriptors for each, and kquay an eighth to spare
NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"

HAPROXY = """
global
	nbthread 1
	maxconn {most}
	maxpipes 64
defaults
	mode tcp
	timeout connect 10s
	timeout client 1h
	timeout server 1h
	{more}
listen bench
	bind 127.0.0.1:{port}
	server far 127.0.0.1:{far}
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.{port};
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
stream {{
	proxy_timeout 1h;
	server {{
		listen 127.0.0.1:{port} backlog=4096;
		proxy_pass 127.0.0.1:{far};
	}}
}}
"""

XINETD = """
defaults
{{
	instances = UNLIMITED
	per_source = UNLIMITED
	cps = 0 0
}}
service bench
{{
	type = UNLISTED
	bind = 127.0.0.1
	port = {port}
	protocol = tcp
	socket_type = stream
	wait = no
	user = {user}
	server = {tiny}
}}
"""


def wrote(name, text, **words):
    """The path of a file with this text."""
    path = os.path.join(words["folder"], f"{name}.{words['port']}")
    with open(path, "w", encoding="ascii") as f:
        f.write(text.format(**words))
    return path


def haproxy(more=""):
    return lambda w: ["haproxy", "-db", "-f",
                      wrote("haproxy", HAPROXY, more=more, **w)]


def nginx(w):
    return ["nginx", "-e", "/dev/null", "-p", w["folder"], "-c",
            wrote("nginx", NGINX, module=NGINX_STREAM, files=FILES, **w)]


def socat(w):
    return ["socat", f"TCP-LISTEN:{w['port']},bind=127.0.0.1,reuseaddr,fork,backlog=4096",
            f"TCP:127.0.0.1:{w['far']}"]


def proxyd(w):
    return ["systemd-socket-activate", "-l", f"127.0.0.1:{w['port']}",
            shutil.which("systemd-socket-proxyd", path=PLACES) or "",
            "-c", str(w["most"]), f"127.0.0.1:{w['far']}"]


def kquay_relay(w):
    return [w["kquay"], "serve", "relay", "-l", f"127.0.0.1:{w['port']}",
            "--max-connections", str(w["most"]), "--to", f"127.0.0.1:{w['far']}"]


def tcpserver(w):
    return ["tcpserver", "-RHl0", "-c", "1000", "-b", "4096", "127.0.0.1",
            str(w["port"]), w["tiny"]]


def xinetd(w):
    own = f"{w['folder']}/xinetd.{w['port']}"
    return ["xinetd", "-dontfork", "-pidfile", f"{own}.pid", "-filelog", f"{own}.log",
            "-f", wrote("xinetd", XINETD, user=pwd.getpwuid(os.getuid()).pw_name, **w)]


def socat_exec(w):
    return ["socat", f"TCP-LISTEN:{w['port']},bind=127.0.0.1,reuseaddr,fork,backlog=4096",
            f"EXEC:{w['tiny']}"]


def kquay_exec(w):
    return [w["kquay"], "serve", "exec", "-l", f"127.0.0.1:{w['port']}",
            "--max-connections", "1000", "--", w["tiny"]]


class Kind:
    """One row: what it is called, how it is started, what it needs."""

    def __init__(self, label, start, *needs, children=False, most=RELAYED):
        self.label = label
        self.start = start
        self.needs = needs
        self.children = children  # a process for each connection
        self.most = most          # connections that it is tried with

    def lacks(self):
        for need in self.needs:
            if not (os.path.exists(need) if "/" in need
                    else shutil.which(need, path=PLACES)):
                return f"{need} is not installed"
        if self.children and cgroups() is None:
            return "no cgroup can be made, so its children's CPU would not count"
        return None


RELAYS = [
    Kind("HAProxy", haproxy(), "haproxy"),
    Kind("the same again", haproxy(), "haproxy"),
    Kind("HAProxy, splice", haproxy("option splice-auto"), "haproxy"),
    Kind("nginx", nginx, "nginx", NGINX_STREAM),
    Kind("socat", socat, "socat", children=True, most=1000),
    Kind("systemd-socket-proxyd", proxyd, "systemd-socket-activate",
         "systemd-socket-proxyd", most=1000),
    Kind("kquay", kquay_relay),
]
SPAWNERS = [
    Kind("tcpserver", tcpserver, "tcpserver", children=True),
    Kind("the same again", tcpserver, "tcpserver", children=True),
    Kind("xinetd", xinetd, "xinetd", children=True),
    Kind("socat", socat_exec, "socat", children=True),
    Kind("kquay", kquay_exec, children=True),
]

REQUESTS = [
    Load("request, 1 connection", "kload pingpong -c 1"),
    Load("request, 50", "kload pingpong -c 50"),
    Load("request, 1,000", "kload pingpong -c 1000"),
    Load("connect, exchange, close", "kload rate -c 16"),
]
BULK = [
    Load("up", "kload bulk --how up -c 4 -b {bulk}", "ms/GB"),
    Load("down", "kload bulk --how down -c 4 -b {bulk}", "ms/GB"),
]
SPAWN = [Load("connect, a line, close", "kload rate --how read -c 16")]


def cgroups():
    """The folder in which one makes a cgroup that counts CPU, or None."""
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/unified"):
        mine = os.path.join(root, f"kquay-bench-{os.getpid()}-try")
        counts = ("cpu.stat", "cpuacct.usage")
        with contextlib.suppress(OSError):
            os.mkdir(mine)
            good = any(os.path.exists(os.path.join(mine, c)) for c in counts)
            os.rmdir(mine)
            if good:
                return root
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peer(Server):
    """A program that listens where it is told to, with all of its children."""

    def __init__(self, bench, kind, far=0):
        self.label = kind.label
        self.crowd = None
        self.port = free_port()
        words = {"folder": bench.folder, "port": self.port, "far": far,
                 "most": RELAYED, "tiny": bench.program("tiny"),
                 "kquay": bench.program("../src/program/kquay")}
        command = kind.start(words)
        self.group = None
        root = cgroups()
        if root is not None:
            self.group = os.path.join(root, f"kquay-bench-{os.getpid()}-{self.port}")
            os.mkdir(self.group)
        self.errors = open(os.path.join(bench.folder, f"errors.{self.port}"), "w+b")
        self.process = subprocess.Popen(
            [shutil.which(command[0], path=PLACES), *command[1:]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self.errors, preexec_fn=self.enter)
        Server.running.append(self)
        self.pid = self.process.pid
        self.watch = self.group or str(self.pid)
        self.wait()

    def enter(self):
        pinned(CPUS[0])()
        if self.group is not None:
            with open(os.path.join(self.group, "cgroup.procs"), "w",
                      encoding="ascii") as f:
                f.write("0")

    def wait(self):
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(
                    ("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        self.errors.seek(0)
        sys.exit(f"{self.label}: does not start: {self.errors.read().decode()}")

    def processes(self):
        if self.group is None:
            return [self.pid]
        with open(os.path.join(self.group, "cgroup.procs"), encoding="ascii") as f:
            return [int(pid) for pid in f.read().split()]

    def end(self):
        deadline = time.monotonic() + 20
        while self.group is not None and (left := self.processes()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            if time.monotonic() > deadline:
                sys.exit(f"{self.label}: does not end")
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        self.errors.close()
        if self.group is not None:
            os.rmdir(self.group)
        Server.running.remove(self)


def installed(bench, kinds):
    """Those of the kinds that are wanted and there; and a line on the others."""
    only = bench.args.only.split(",") if bench.args.only else None
    lacking = {k.label: k.lacks() for k in kinds}
    there = [k for k in kinds if not lacking[k.label]
             and (k is kinds[0] or only is None or k.label in only)]
    told = [f"{label}: left out, {why}.\n" for label, why in lacking.items() if why]
    for line in told:
        say(line.strip())
    versions = []
    for k in there:
        found = k.needs and version(k.needs[0])
        if found and found not in versions:
            versions.append(found)
    return there, "\n".join(told + [f"{', '.join(versions)}.\n" if versions else ""])


def version(program):
    """Its name and version, as the program itself says or its package does."""
    done = subprocess.run(
        ["dpkg-query", "-S", shutil.which(program, path=PLACES)],
        capture_output=True, text=True, check=False) if shutil.which("dpkg-query") else None
    if done is None or done.returncode != 0:
        return None
    package = re.split("[:,]", done.stdout)[0]
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}", package],
                          capture_output=True, text=True, check=False)
    return done.stdout or None


def far_end(bench, what):
    return Server("far end", [bench.program("kload"), "backend", "--serve", what,
                              "127.0.0.1:0"], CPUS[-1])


def best(took, loads, of, against, most):
    """A row: the ratio to the best of those, load by load, and the target."""
    cells = []
    for load in loads:
        row = took[load.label]
        means = {a: middle(row[a]) for a in against if a in row}
        means = {a: m for a, m in means.items() if m}
        r = means and of in row and ratio(row, of, min(means, key=means.get))
        bound = most.get(load.label)
        cells.append(f"{r[0]:.2f} [{r[1]:.2f}-{r[2]:.2f}]" if r else "")
        if r and bound:
            cells[-1] += f"; {verdict(r, bound)}"
    return cells


def memory(bench, kinds, far, count):
    """[load][kind] -> bytes for each of so many connections, shared ones shared."""
    loads = {"no byte yet": "--how connect", "64 B each way": "-s 64",
             "16 KiB each way": "-s 16384"}
    held = {name: {} for name in loads}
    for kind in kinds:
        n = min(count, 200 if kind.children else kind.most)
        for name, how in loads.items():
            say(f"{n} idle connections to {kind.label}, {name}")
            server = Peer(bench, kind, far.port)
            # What is allocated once is not for a connection.
            bench.load(server, "kload pingpong -c 1", ["-w", "0", "-d", "0.05"])
            got, _ = bench.load(server, f"kload idle -c {n} {how}", ["-H", "0.5"])
            server.end()
            held[name][kind.label] = got["watch_pss_per_conn"] if got else None
    return held


# The groups, as those of run.


def peers(bench):
    kinds, told = installed(bench, RELAYS)
    labels = [k.label for k in kinds]
    far = far_end(bench, "echo")
    servers = [Peer(bench, k, far.port) for k in kinds]
    took = bench.measure(servers, REQUESTS, cpu)
    calls = bench.system_calls([s for s in servers if s.label != "socat"], REQUESTS)
    for s in servers:
        s.end()
    sink = far_end(bench, "bulk")
    servers = [Peer(bench, k, sink.port) for k in kinds]
    took |= bench.measure(servers, BULK, cpu)
    for s in [*servers, sink]:
        s.end()
    count = 500 if bench.args.quick else min(4000, RELAYED)
    held = memory(bench, [k for k in kinds if k.label != "the same again"], far, count)
    far.end()

    loads = [*REQUESTS, *BULK]
    most = {load.label: 0.95 for load in REQUESTS[:3]}
    most |= {REQUESTS[3].label: 1.00}
    against = [best(took, REQUESTS, "kquay", ["HAProxy", "nginx"], most),
               best(took, BULK, "kquay", ["HAProxy"], {load.label: 0.5 for load in BULK})]
    rows = [["kquay, ratio; target", *(load.label for load in loads)],
            ["to the best of HAProxy and nginx; bulk to HAProxy", *against[0], *against[1]]]
    kept = [[f"Bytes for each of {count:,} idle or less", *held]]
    kept += [[k.label, *(number(row.get(k.label), ",.0f") for row in held.values())]
             for k in kinds if k.label != "the same again"]
    kept.append(["target of kquay", *(
        f"512, {'met' if row['kquay'] <= 512 else 'not met'}"
        if row.get("kquay") is not None else "" for row in held.values())])
    return ([told, cpu_table(took, loads, labels), table(*rows), table(*kept),
             calls_table(calls, [x for x in labels if x != "socat"])],
            {"cpu": took, "calls": calls, "idle": held}, plot_data(took, labels))


def crowds(bench):
    """Requests over more and more connections, all of which talk."""
    kinds, told = installed(bench, [
        k for k in RELAYS
        if not k.children and k.label not in ("the same again", "HAProxy, splice")])
    counts = [1, 10, 100, 1000] + ([] if bench.args.quick else [RELAYED])
    far = far_end(bench, "echo")
    took = {}
    for n in counts:
        servers = [Peer(bench, k, far.port) for k in kinds if k.most >= n]
        load = Load(f"{n:,}", f"kload pingpong -c {n}")
        took |= bench.measure(servers, [load], cpu)
        for s in servers:
            s.end()
    far.end()
    labels = [k.label for k in kinds]
    rows = [["CPU of a request, us", *took, f"{counts[-1]:,} to 100"]]
    for x in labels:
        each = [middle(row.get(x, [])) for row in took.values()]
        flat = each[-1] and each[2] and each[-1] / each[2]
        rows.append([x, *(number(v, ".1f") for v in each), number(flat, ".2f")])
    plot = [" ".join(f'"{x}"' for x in ["connections", *labels])]
    plot += [" ".join([str(n)] + [
        number(middle(took[f"{n:,}"].get(x, [])), ".2f") or "NaN" for x in labels])
        for n in counts]
    return [told, table(*rows)], {"cpu": took}, "\n".join(plot) + "\n"


def spawn(bench):
    kinds, told = installed(bench, SPAWNERS)
    if not kinds or not os.path.exists(bench.program("tiny")):
        return [told, "Nothing was measured.\n"], {}, None
    labels = [k.label for k in kinds]
    servers = [Peer(bench, k) for k in kinds]
    took = bench.measure(servers, SPAWN, cpu)
    for s in servers:
        s.end()
    rows = [["kquay, ratio; target", SPAWN[0].label],
            ["to tcpserver", *best(took, SPAWN, "kquay", ["tcpserver"],
                                   {SPAWN[0].label: 0.6})]]
    return [told, cpu_table(took, SPAWN, labels), table(*rows)], {"cpu": took}, None


GROUPS = {"peers": peers, "crowds": crowds, "exec": spawn}
