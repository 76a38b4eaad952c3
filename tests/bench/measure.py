"""One run of clients: queries per second, percentiles, processor time and memory of the middleman. Starts nothing else."""

import concurrent.futures
import os
import re
import subprocess
import time

import client

TABLE_ROWS = 10_000
# Beyond the asked-for time sysbench needs this long at most to connect and to end.
SLACK_SECONDS = 30
PREPARE_SECONDS_MAX = 120
# Connecting idle clients must not take longer.
CONNECT_SECONDS_MAX = 120
# Processes of clients that come and go: the machine has as many cores for them as for all others.
PROCESSES = 2
# What a connection needed only while it was opened has been given back by then.
SETTLE_SECONDS = 2
# Long enough to see a tenth of a hundredth of a core.
IDLE_SECONDS = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Scenario:
    """What clients do. `answer_bytes` is the length of an answer, where that is what the scenario is about."""

    def __init__(self, what, script, options, threads, answer_bytes=None):
        self.what = what
        self.script = script
        self.options = options
        self.threads = threads
        self.answer_bytes = answer_bytes

    @property
    def label(self):
        return f"{self.what}, {self.threads} client{'s' if self.threads > 1 else ''}"


class Sample:
    def __init__(self, queries_per_second, p50_us, p99_us, cpu_us):
        self.queries_per_second = queries_per_second
        self.p50_us = p50_us
        self.p99_us = p99_us
        # Processor time of the middleman for each query; None where there is no middleman.
        self.cpu_us = cpu_us


def options_file(folder, path):
    """sysbench's options with the password, in a file: arguments can be read by everybody."""
    file = folder / f"{path.name.replace(' ', '-').replace(',', '')}.options"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(
            f"mysql-host=127.0.0.1\nmysql-port={path.port}\nmysql-user={path.user}\nmysql-password={path.password}\n"
            f"mysql-db={path.database}\ntables=1\ntable-size={TABLE_ROWS}\n"
        )
    return file


def sysbench(folder, path, script, arguments, seconds_max):
    command = ["sysbench", f"--config-file={options_file(folder, path)}", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max)
    if done.returncode != 0:
        raise RuntimeError(f"sysbench through {path.name} failed: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def prepare(folder, path):
    sysbench(folder, path, "oltp_point_select", ["cleanup"], PREPARE_SECONDS_MAX)
    sysbench(folder, path, "oltp_point_select", ["prepare"], PREPARE_SECONDS_MAX)


def cpu_ticks(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            # The name in parentheses may hold blanks; utime and stime are the 12th and 13th fields behind it.
            fields = stat.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total


def percentile(histogram, share):
    """The latency in us below which this share of the queries lies."""
    wanted = share * sum(count for _, count in histogram)
    seen = 0
    for value, count in histogram:
        seen += count
        if seen >= wanted:
            return value * 1000
    raise RuntimeError("sysbench printed no histogram")


def measure(folder, path, scenario, seconds):
    arguments = [
        f"--threads={scenario.threads}",
        f"--time={seconds}",
        *scenario.options,
        "--histogram=on",
        "--percentile=99",
        "run",
    ]
    before = cpu_ticks(path.pids)
    output = sysbench(folder, path, scenario.script, arguments, seconds + SLACK_SECONDS)
    ticks = cpu_ticks(path.pids) - before
    queries = int(re.search(r"^\s+total:\s+(\d+)$", output, re.M).group(1))
    lasted = float(re.search(r"total time:\s+([\d.]+)s", output).group(1))
    histogram = [
        (float(value), int(count)) for value, count in re.findall(r"^\s*([\d.]+) \|[* ]*\s(\d+)$", output, re.M)
    ]
    # What an agent does anyway, watching its server, is not the price of a query.
    busy_seconds = max(0.0, ticks / TICKS_PER_SECOND - path.idle_share * lasted)
    cpu_us = busy_seconds * 1e6 / queries if path.pids else None
    return Sample(queries / lasted, percentile(histogram, 0.5), percentile(histogram, 0.99), cpu_us)


def measure_idle_share(path):
    """The share of one core that a middleman takes while nobody asks anything."""
    before, started = cpu_ticks(path.pids), time.monotonic()
    time.sleep(IDLE_SECONDS)
    ticks = cpu_ticks(path.pids) - before
    path.idle_share = ticks / TICKS_PER_SECOND / (time.monotonic() - started)


def resident_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            total += int(re.search(r"^VmRSS:\s+(\d+) kB", status.read(), re.M).group(1))
    return total


def established(port):
    """Connections that somebody accepted on this port."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01")


def idle_client_kib(path, clients):
    """Memory of the middleman for one client that is connected and asks nothing."""
    before = resident_kib(path.pids)
    connected = []
    deadline = time.monotonic() + CONNECT_SECONDS_MAX
    try:
        while len(connected) < clients:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{clients} idle clients cannot be connected through {path.name} in time")
            connected.append(client.connect(path))
        time.sleep(SETTLE_SECONDS)
        return (resident_kib(path.pids) - before) / clients
    finally:
        for connection in connected:
            connection.close()


class Arrivals:
    """Clients that come, ask once and leave."""

    def __init__(self, per_second, cpu_us, failed):
        self.per_second = per_second
        self.cpu_us = cpu_us
        self.failed = failed


def measure_arrivals(path, connections, at_once):
    """So many short connections, so many at a time."""
    before, started = cpu_ticks(path.pids), time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
        share = connections // PROCESSES
        done = list(pool.map(client.come_and_go, [path] * PROCESSES, [share] * PROCESSES, [at_once // PROCESSES] * PROCESSES))
    lasted = time.monotonic() - started
    ticks = cpu_ticks(path.pids) - before
    busy_seconds = max(0.0, ticks / TICKS_PER_SECOND - path.idle_share * lasted)
    served = sum(done)
    cpu_us = busy_seconds * 1e6 / max(1, served) if path.pids else None
    return Arrivals(served / lasted, cpu_us, share * PROCESSES - served)
