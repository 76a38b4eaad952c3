"""One sysbench run: queries per second, percentiles, processor time of the middleman. Starts nothing else."""

import os
import re
import subprocess
import time

TABLE_ROWS = 10_000
# Beyond the asked-for time sysbench needs this long at most to connect and to end.
SLACK_SECONDS = 30
PREPARE_SECONDS_MAX = 120
# Connecting this many clients must not take longer.
CONNECT_SECONDS_MAX = 30
# What a connection needed only while it was opened has been given back by then.
SETTLE_SECONDS = 2
# Long enough to see a tenth of a hundredth of a core.
IDLE_SECONDS = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


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


def sysbench(folder, path, arguments, seconds_max):
    command = ["sysbench", f"--config-file={options_file(folder, path)}", "oltp_point_select", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max)
    if done.returncode != 0:
        raise RuntimeError(f"sysbench through {path.name} failed: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def prepare(folder, path):
    sysbench(folder, path, ["cleanup"], PREPARE_SECONDS_MAX)
    sysbench(folder, path, ["prepare"], PREPARE_SECONDS_MAX)


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


def measure(folder, path, threads, prepared, seconds):
    arguments = [
        f"--threads={threads}",
        f"--time={seconds}",
        f"--db-ps-mode={'auto' if prepared else 'disable'}",
        "--histogram=on",
        "--percentile=99",
        "run",
    ]
    before = cpu_ticks(path.pids)
    output = sysbench(folder, path, arguments, seconds + SLACK_SECONDS)
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


def idle_client_kib(folder, path, clients):
    """Memory of the middleman for one client that is connected and asks nothing."""
    before = resident_kib(path.pids)
    command = [
        "sysbench", f"--config-file={options_file(folder, path)}", "oltp_point_select", f"--threads={clients}", "--rate=1",
        f"--time={CONNECT_SECONDS_MAX + SLACK_SECONDS}", "--db-ps-mode=disable", "run",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + CONNECT_SECONDS_MAX
        while established(path.port) < clients:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{clients} idle clients cannot be connected through {path.name}")
            time.sleep(0.1)
        time.sleep(SETTLE_SECONDS)
        return (resident_kib(path.pids) - before) / clients
    finally:
        process.kill()
        process.wait()
