"""What is measured: a cluster or a plain server, and the programs that stand between client and server. Starts them, ends
them; measures nothing."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib

HOST = "127.0.0.1"
KEYSPACE = "bench"
# A program that does not listen by then has failed.
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
# vtctl says itself what it waits for; this is for when it does not.
VTCTL_SECONDS_MAX = 300


class Path:
    """One way to the server: where to connect, as whom, and whose processor time counts as the middleman's."""

    def __init__(self, name, port, user, password, database, pids):
        self.name = name
        self.port = port
        self.user = user
        self.password = password
        self.database = database
        self.pids = pids
        # Processor time that it takes without any client, as a share of one core.
        self.idle_share = 0.0


def free_port():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode} instead of listening on port {port}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not listen on port {port} after {START_SECONDS_MAX} seconds")


class Place:
    """A scratch directory and the processes in it; leaving the `with` block ends them."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vt-bench-"))
        self.processes = []
        self.cleanups = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for cleanup in reversed(self.cleanups):
            cleanup()
        if os.environ.get("BENCH_KEEP") != "1":
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, command, port):
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        try:
            wait_for_port(port, process)
        except RuntimeError as error:
            said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{error}\n{said}") from None
        return process

    def haproxy(self, server):
        port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(
            f"global\n  maxconn 2000\n  log stderr local0 err\n"
            f"defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n"
            f"listen mysql\n  bind {HOST}:{port}\n  server primary {HOST}:{server.port}\n"
        )
        process = self.start("haproxy", ["haproxy", "-db", "-f", str(config)], port)
        return self.through("HAProxy TCP", server, port, process)

    def mysql_router(self, program, server, shares):
        port = free_port()
        name = "mysqlrouter-sharing" if shares else "mysqlrouter"
        folder = self.folder / name
        folder.mkdir()
        config = folder / "mysqlrouter.conf"
        # Unpacked into a prefix of its own, it would look for its plugins in the system's folders.
        plugins = next(pathlib.Path(program).parent.parent.rglob("mysqlrouter/plugin/routing.so"), None)
        config.write_text(
            f"[DEFAULT]\nlogging_folder={folder}\nruntime_folder={folder}\ndata_folder={folder}\n"
            + (f"plugin_folder={plugins.parent}\n" if plugins else "") +
            "[logger]\nlevel=WARNING\n"
            f"[routing:bench]\nbind_address={HOST}\nbind_port={port}\ndestinations={HOST}:{server.port}\n"
            f"routing_strategy=first-available\nprotocol=classic\nclient_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n"
            f"connection_sharing={int(shares)}\n"
        )
        process = self.start(name, [program, "-c", str(config)], port)
        return self.through("MySQL Router, sharing" if shares else "MySQL Router", server, port, process)

    @staticmethod
    def through(name, server, port, process):
        return Path(name, port, server.user, server.password, server.database, [process.pid])


def vtctl(folder, *arguments):
    program = pathlib.Path(os.environ["VT_BIN_DIR"]) / "vtctl"
    environment = dict(os.environ, VT_LOCAL_DIR=str(folder))
    done = subprocess.run(
        [str(program), *arguments], env=environment, capture_output=True, text=True, timeout=VTCTL_SECONDS_MAX
    )
    if done.returncode != 0:
        raise RuntimeError(f"vtctl {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def free_base_port():
    """A base such that all ports of a local cluster lie below the range that the system gives out by itself."""
    for base in range(16000, 31000, 500):
        with contextlib.ExitStack() as holders, contextlib.suppress(OSError):
            for offset in range(100, 340):
                holder = holders.enter_context(socket.socket())
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                holder.bind((HOST, base + offset))
            return base
    raise RuntimeError("no free range of ports for a local cluster between 16000 and 31000")


def cluster(place, keyspaces=(KEYSPACE,)):
    """Starts a cluster with keyspaces; returns the ways to its primary, into the first: direct, and through our router beside it."""
    folder = place.folder / "cluster"
    place.cleanups.append(lambda: os.environ.get("BENCH_KEEP") == "1" or vtctl(folder, "local", "down", "--purge"))
    vtctl(folder, "local", "up", "--base-port", str(free_base_port()))
    for keyspace in keyspaces:
        vtctl(folder, "keyspace", "create", keyspace)
    tablets = json.loads(vtctl(folder, "tablet", "list", "-o", "json"))
    primary = next(tablet for tablet in tablets if tablet["role"] == "primary")
    config = tomllib.loads((folder / "config" / f"agent-{primary['alias']}.toml").read_text())
    mark = json.loads((folder / "run" / f"agent-{primary['alias']}.json").read_text())
    credentials = tomllib.loads((folder / "config" / "credentials.toml").read_text())
    client = dict(
        line.split("=", 1) for line in (folder / "client.cnf").read_text().splitlines() if "=" in line
    )
    direct = Path("direct", config["mysqld"]["port"], "vt_app", credentials["app"]["password"], keyspaces[0], [])
    router_port = int(config["router"]["listen"].rsplit(":", 1)[1])
    ours = Path("Vitrail", router_port, client["user"], client["password"], keyspaces[0], [mark["pid"]])
    return direct, ours


def plain_server():
    """The server of tests/clients/with-mysqld."""
    environment = os.environ
    return Path(
        "direct", int(environment["VT_PORT"]), environment["VT_USER"], environment["VT_PASSWORD"], environment["VT_KEYSPACE"], []
    )
