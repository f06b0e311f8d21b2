"""Real servers behind a relay, under their own clients: Redis, PostgreSQL,
and nginx and HAProxy, to which PROXY headers are sent and which send them.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from kquay import DEADLINE, connect, running, until
from ports import free_port

SANITIZED = "KQUAY_SANITIZE" in os.environ
# How many times less there is to do where everything takes longer.
LESS = 10 if SANITIZED else 1


def needed(name, *places):
    """Where a program is, or skip with the reason that it is not there."""
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"], "/usr/sbin"]))
    if not found:
        pytest.skip(f"{name} is not on this machine")
    return found


@contextlib.contextmanager
def process(args, up, **kwargs):
    """A server of somebody else's, from when up() until the end of this."""
    p = subprocess.Popen(list(map(str, args)), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
    try:
        until(lambda: p.poll() is not None or up(), f"{args[0]} is up")
        assert p.poll() is None, p.stdout.read().decode()
        yield p
    finally:
        p.terminate()
        p.communicate(timeout=DEADLINE)


def answers(where):
    def up():
        try:
            connect(where).close()
        except OSError:
            return False
        return True

    return up


def run(*args, **kwargs):
    r = subprocess.run(list(map(str, args)), capture_output=True, text=True,
                       timeout=6 * DEADLINE, check=False, **kwargs)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout + r.stderr


# How a relay is reached, and how it reaches its target.
SIDES = pytest.mark.parametrize("front, behind", [
    ("tcp4", "tcp"), ("tcp6", "unix"), ("unix", "tcp"), ("unix", "unix"),
])


def listen(front, path):
    return {"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": f"unix:{path}"}[front]


def host_port(where):
    host, port = where.rsplit(":", 1)
    return host.strip("[]"), port


# -- Redis -------------------------------------------------------------------


@pytest.fixture(name="redis", scope="module")
def fixture_redis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redis")
    port = free_port()
    args = [needed("redis-server"), "--port", port, "--bind", "127.0.0.1",
            "--unixsocket", folder / "s", "--save", "", "--dir", folder]
    with process(args, answers(f"127.0.0.1:{port}")):
        yield {"tcp": f"127.0.0.1:{port}", "unix": f"unix:{folder}/s"}


def redis_benchmark(reach, *options, requests=10000):
    tool = needed("redis-benchmark")
    out = run(tool, *reach, "-n", requests // LESS, "-c", 50, "-d", 100, "-q", *options)
    assert "rror" not in out, out
    assert len(re.findall(r"requests per second", out)) == 4


TESTS = ("-t", "ping,set,get")


@SIDES
@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis(redis, front, behind, pipeline, tmp_path):
    with running("serve", "relay", "-l", listen(front, tmp_path / "r"),
                 "--to", redis[behind], "--workers", "2") as k:
        where = k.where
        reach = ("-s", where[5:]) if front == "unix" else \
            ("-h", host_port(where)[0], "-p", host_port(where)[1])
        redis_benchmark(reach, *TESTS, "-P", pipeline)


def test_redis_with_connections_each(redis):
    """A connection for each request, which Redis closes or the client."""
    with running("serve", "relay", "-l", "127.0.0.1:0", "--to", redis["tcp"]) as k:
        host, port = host_port(k.where)
        redis_benchmark(("-h", host, "-p", port), *TESTS, "-k", 0, requests=2000)


def test_redis_with_tls(redis, certs):
    """TLS into one relay and out to another, which ends it."""
    with running("serve", "relay", "-l", "127.0.0.1:0", "--to", redis["tcp"],
                 "--tls-certificate", f"{certs}/host.pem", "--tls-key", f"{certs}/host.key") as inner, \
         running("serve", "relay", "-l", "127.0.0.1:0", "--to", f"{inner.where} tls",
                 "--to-tls-verify", "off") as outer:
        host, port = host_port(outer.where)
        redis_benchmark(("-h", host, "-p", port), *TESTS, requests=4000)


def test_redis_large_values(redis):
    """What is spliced."""
    with running("serve", "relay", "-l", "127.0.0.1:0", "--to", redis["tcp"]) as k:
        host, port = host_port(k.where)
        out = run(needed("redis-benchmark"), "-h", host, "-p", port, "-n", 200 // LESS,
                  "-c", 10, "-d", 3_000_000, "-q", "-t", "set,get")
        assert "rror" not in out, out


# -- PostgreSQL --------------------------------------------------------------


def postgres_bin():
    """Debian does not put its servers where commands are looked for."""
    return sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)


@pytest.fixture(name="postgres", scope="module")
def fixture_postgres(tmp_path_factory):
    initdb = needed("initdb", *postgres_bin())
    needed("pgbench", *postgres_bin())
    folder = tmp_path_factory.mktemp("postgres")
    data = folder / "data"
    data.mkdir()
    become = {}
    if os.geteuid() == 0:
        become = {"user": "postgres", "group": "postgres", "extra_groups": []}
        # A tmp_path is root's alone.
        shutil.rmtree(data)
        folder = pathlib.Path(run("mktemp", "-d").strip())
        data = folder / "data"
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    run(initdb, "-D", data, "-A", "trust", "-U", "tester", "-N", cwd="/", **become)
    args = [needed("postgres", *postgres_bin()), "-D", data, "-p", port, "-k", folder,
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60"]
    unix = f"unix:{folder}/.s.PGSQL.{port}"
    try:
        ready = [needed("pg_isready", *postgres_bin()), "-q", "-h", folder, "-p", str(port)]
        with process(args, lambda: subprocess.call(ready) == 0, cwd="/", **become):
            pgbench("127.0.0.1", port, "-i", "-s", "1")
            yield {"tcp": f"127.0.0.1:{port}", "unix": unix, "port": port}
    finally:
        if become:
            shutil.rmtree(folder)


def pgbench(host, port, *options):
    return run(needed("pgbench", *postgres_bin()), "-h", host, "-p", port, "-U", "tester",
               *options, "postgres")


@SIDES
def test_postgres(postgres, front, behind, tmp_path):
    """20 clients, and again with a connection for each transaction."""
    path = tmp_path / f".s.PGSQL.{postgres['port']}"
    with running("serve", "relay", "-l", listen(front, path), "--to", postgres[behind],
                 "--balance", "least") as k:
        host, port = (tmp_path, postgres["port"]) if front == "unix" else host_port(k.where)
        for options in (("-t", 200 // LESS), ("-t", 20 // LESS, "-C"), ("-t", 200 // LESS, "-S")):
            out = pgbench(host, port, "-c", 20, "-j", 2, "-n", *options)
            assert "number of failed transactions: 0 (0.000%)" in out, out


# -- nginx and HAProxy, PROXY headers either way -----------------------------


def configured(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


@contextlib.contextmanager
def nginx(tmp_path, text, module=""):
    path = configured(tmp_path, "nginx.conf", f"""\
        daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log stderr;
        {module}
        events {{ }}
        {text}
        """)
    with process([needed("nginx"), "-p", tmp_path, "-c", path, "-e", "stderr"],
                 lambda: (tmp_path / "nginx.pid").exists()):
        yield


def says(where, *options):
    return run("curl", "-sS", *options, f"http://{where}/")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_is_told_who_calls(tmp_path, version):
    port = free_port()
    with nginx(tmp_path, f"""\
            http {{
                access_log off;
                server {{
                    listen 127.0.0.1:{port} proxy_protocol;
                    location / {{
                        return 200 "$proxy_protocol_addr to $proxy_protocol_server_addr";
                    }}
                }}
            }}"""), \
         running("serve", "relay", "-l", "127.0.0.1:0", "-l", "[::1]:0",
                 "--to", f"127.0.0.1:{port}", "--send-proxy", version) as k:
        v4, v6 = k.listening
        assert says(v4) == "127.0.0.1 to 127.0.0.1"
        assert says(v4, "--interface", "127.0.0.9") == "127.0.0.9 to 127.0.0.1"
        assert says(v6) == "::1 to ::1"


def test_nginx_tells_who_calls(tmp_path):
    """A stream of nginx's in front, with a header of version 1."""
    port = free_port()
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if not os.path.exists(module):
        pytest.skip("nginx's stream module is not on this machine")
    with running("serve", "exec", "-l", "127.0.0.1:0", "--proxy-protocol", "on",
                 "--", "/bin/sh", "-c", "echo $TCPREMOTEIP") as k, \
         nginx(tmp_path, f"""\
            stream {{
                server {{
                    listen 127.0.0.1:{port};
                    proxy_pass {k.where};
                    proxy_protocol on;
                }}
            }}""", f"load_module {module};"):
        for source in ("127.0.0.1", "127.0.0.7"):
            with connect(f"127.0.0.1:{port}", source) as s:
                assert s.recv(100) == f"{source}\n".encode()


@contextlib.contextmanager
def haproxy(tmp_path, text, where):
    path = configured(tmp_path, "haproxy.cfg", f"""\
defaults
    timeout connect 10s
    timeout client 10s
    timeout server 10s
{text}
""")
    with process([needed("haproxy"), "-db", "-f", path], answers(where)):
        yield


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxy_on_both_sides(tmp_path, version, option):
    """HAProxy, kquay, HAProxy: who calls the first the last one knows."""
    first, last = free_port(), free_port()
    with haproxy(tmp_path, f"""\
frontend last
    mode http
    bind 127.0.0.1:{last} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%ci to %fi"
""", f"127.0.0.1:{last}"), \
         running("serve", "relay", "-l", "127.0.0.1:0", "--proxy-protocol", "on",
                 "--to", f"127.0.0.1:{last}", "--send-proxy", version) as k:
        (tmp_path / "first").mkdir()
        with haproxy(tmp_path / "first", f"""\
listen first
    mode tcp
    bind 127.0.0.1:{first}
    server kquay {k.where} {option}
""", f"127.0.0.1:{first}"):
            for source in ("127.0.0.1", "127.0.0.8"):
                assert says(f"127.0.0.1:{first}", "--interface", source) == f"{source} to 127.0.0.1"
