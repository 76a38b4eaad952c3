"""The router side by side with its peers: rounds of sysbench over all of them in turn, then clients that idle, come and go."""

import os
import pathlib
import resource
import signal
import statistics
import sys

import measure
import place as places
import report

ROUNDS = 3
TEXT, PREPARED = ["--db-ps-mode=disable"], ["--db-ps-mode=auto"]
MIXED_THREADS = 16
LARGE_ROWS = 1000
# Length of a row of sysbench's table in such an answer: 119 characters, their length, the packet's header.
LARGE_ROW_BYTES = 124
SECONDS_DEFAULT = 360
# Shorter runs say nothing: processor time is counted in hundredths of a second.
RUN_SECONDS_MIN = 2
# Ours holds many clients on few server connections; the peers hold one for each, and the server has not more to give.
IDLE_CLIENTS = 10_000
IDLE_CLIENTS_OF_PEERS = 100
# What a process may have open, here and in the agent, besides connections of clients.
FILES_BESIDES = 500
# A storm: short connections, and how many of them at a time.
ARRIVALS = 5_000
ARRIVALS_AT_ONCE = 64


class Result:
    """The best of all rounds: what disturbs a run on a shared machine only ever makes it slower."""

    def __init__(self, samples):
        self.queries_per_second = max(sample.queries_per_second for sample in samples)
        self.p50_us = min(sample.p50_us for sample in samples)
        # The tail is noise to its core: its median tells more than its best.
        self.p99_us = statistics.median(sample.p99_us for sample in samples)
        costs = [sample.cpu_us for sample in samples if sample.cpu_us is not None]
        self.cpu_us = min(costs) if costs else None


def paths_of(place):
    """All ways to the server; the first is the direct one."""
    if "VT_SERVER_PID" in os.environ:
        direct, ours = places.plain_server(), []
    else:
        direct, router = places.cluster(place)
        ours = [router]
    paths = [direct, *ours, place.haproxy(direct)]
    if program := os.environ.get("BENCH_MYSQLROUTER"):
        paths += [place.mysql_router(program, direct, shares) for shares in (False, True)]
    return paths


def scenarios(threads):
    found = [
        measure.Scenario(f"point select, {name}", "oltp_point_select", options, count)
        for count in threads
        for name, options in [("text", TEXT), ("prepared", PREPARED)]
    ]
    found.append(measure.Scenario("reads and writes, prepared", "oltp_read_write", PREPARED, MIXED_THREADS))
    ranges = [f"--range-size={LARGE_ROWS}", "--point-selects=0", "--simple-ranges=1", "--sum-ranges=0", "--order-ranges=0"]
    options = [*TEXT, *ranges, "--distinct-ranges=0", "--skip-trx=on"]
    large = measure.Scenario(f"answers of {LARGE_ROWS} rows, text", "oltp_read_only", options, 1, LARGE_ROWS * LARGE_ROW_BYTES)
    return [*found, large]


def run_rounds(place, paths, chosen, seconds):
    """Interleaved, and in another order each round, so that a slow minute hits all of them alike."""
    samples = {(scenario, path.name): [] for scenario in chosen for path in paths}
    for number in range(ROUNDS):
        for scenario in chosen:
            shift = number % len(paths)
            for path in paths[shift:] + paths[:shift]:
                print(f"bench: round {number + 1} of {ROUNDS}, {scenario.label}, {path.name}", file=sys.stderr)
                samples[scenario, path.name].append(measure.measure(place.folder, path, scenario, seconds))
    return {key: Result(found) for key, found in samples.items()}


def warn_if_busy():
    load = os.getloadavg()[0]
    cores = os.cpu_count()
    if load > cores / 2:
        print(f"bench: others keep this machine busy (load {load:.1f} on {cores} cores): the figures will say little", file=sys.stderr)


def idle_clients():
    """How many may be had of what is wanted: each is a file here and one in the agent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(IDLE_CLIENTS, hard - FILES_BESIDES)


def measure_idle(paths):
    memory = {}
    for path in paths:
        if path.name == report.OURS:
            measure.measure_idle_share(path)
    for path in paths:
        if path.pids:
            clients = idle_clients() if path.name == report.OURS else IDLE_CLIENTS_OF_PEERS
            print(f"bench: memory of {clients} idle clients, {path.name}", file=sys.stderr)
            memory[path.name] = (clients, measure.idle_client_kib(path, clients))
    return memory


def measure_arrivals(paths):
    arrivals = {}
    for path in paths:
        print(f"bench: {ARRIVALS} short connections, {ARRIVALS_AT_ONCE} at a time, {path.name}", file=sys.stderr)
        arrivals[path.name] = measure.measure_arrivals(path, ARRIVALS, ARRIVALS_AT_ONCE)
    return arrivals


def main():
    chosen = scenarios([int(number) for number in os.environ.get("BENCH_THREADS", "1 16 64").split()])
    total_seconds = int(os.environ.get("BENCH_SECONDS", SECONDS_DEFAULT))
    with places.Place() as place:
        warn_if_busy()
        paths = paths_of(place)
        measure.prepare(place.folder, paths[0])
        runs = ROUNDS * len(chosen) * len(paths)
        seconds = max(RUN_SECONDS_MIN, total_seconds // runs)
        # Before the load, so that no buffers left over from it can be taken for those of idle clients.
        memory = measure_idle(paths)
        results = run_rounds(place, paths, chosen, seconds)
        arrivals = measure_arrivals(paths)
    names = [path.name for path in paths]
    print("\n\n".join([report.table(names, chosen, results), report.memory_table(memory), report.arrivals_table(arrivals)]))
    if report.OURS not in names:
        return
    ours = paths[names.index(report.OURS)]
    metrics = report.metrics(names, chosen, results) + report.memory_metrics(memory) + report.arrival_metrics(arrivals)
    metrics += [report.idle_metric(ours.idle_share), *report.throughput_metrics(chosen, results)]
    print(report.goals(metrics))
    output = pathlib.Path(os.environ["BENCH_OUTPUT"])
    report.write(output, metrics)
    print(f"bench: figures in {output}", file=sys.stderr)


if __name__ == "__main__":
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: told to stop"))
    try:
        main()
    except (RuntimeError, OSError) as error:
        sys.exit(f"bench: {error}")
