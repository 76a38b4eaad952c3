"""The router side by side with its peers: rounds of sysbench oltp_point_select over all of them in turn."""

import os
import pathlib
import signal
import statistics
import sys

import measure
import place as places
import report

ROUNDS = 3
PROTOCOLS = [("text", False), ("prepared", True)]
SECONDS_DEFAULT = 360
# Shorter runs say nothing: processor time is counted in hundredths of a second.
RUN_SECONDS_MIN = 2
# Ours holds many clients on few server connections; the peers hold one for each, and the server has not more to give.
IDLE_CLIENTS = 500
IDLE_CLIENTS_OF_PEERS = 100


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


def run_rounds(place, paths, scenarios, seconds):
    """Interleaved, and in another order each round, so that a slow minute hits all of them alike."""
    samples = {(scenario, path.name): [] for scenario in scenarios for path in paths}
    for number in range(ROUNDS):
        for scenario in scenarios:
            _, prepared, threads = scenario
            shift = number % len(paths)
            for path in paths[shift:] + paths[:shift]:
                print(f"bench: round {number + 1} of {ROUNDS}, {scenario[0]}, {threads} clients, {path.name}", file=sys.stderr)
                sample = measure.measure(place.folder, path, threads, prepared, seconds)
                samples[scenario, path.name].append(sample)
    return {key: Result(found) for key, found in samples.items()}


def warn_if_busy():
    load = os.getloadavg()[0]
    cores = os.cpu_count()
    if load > cores / 2:
        print(f"bench: others keep this machine busy (load {load:.1f} on {cores} cores): the figures will say little", file=sys.stderr)


def measure_idle(place, paths):
    memory = {}
    for path in paths:
        if path.name == report.OURS:
            measure.measure_idle_share(path)
    for path in paths:
        if path.pids:
            clients = IDLE_CLIENTS if path.name == report.OURS else IDLE_CLIENTS_OF_PEERS
            print(f"bench: memory of {clients} idle clients, {path.name}", file=sys.stderr)
            memory[path.name] = measure.idle_client_kib(place.folder, path, clients)
    return memory


def main():
    threads = [int(number) for number in os.environ.get("BENCH_THREADS", "1 16").split()]
    scenarios = [(name, prepared, count) for count in threads for name, prepared in PROTOCOLS]
    total_seconds = int(os.environ.get("BENCH_SECONDS", SECONDS_DEFAULT))
    with places.Place() as place:
        warn_if_busy()
        paths = paths_of(place)
        measure.prepare(place.folder, paths[0])
        runs = ROUNDS * len(scenarios) * len(paths)
        seconds = max(RUN_SECONDS_MIN, total_seconds // runs)
        # Before the load, so that no buffers left over from it can be taken for those of idle clients.
        memory = measure_idle(place, paths)
        results = run_rounds(place, paths, scenarios, seconds)
    names = [path.name for path in paths]
    print(report.table(names, scenarios, results) + "\n\n" + report.memory_table(memory))
    if report.OURS not in names:
        return
    ours = paths[names.index(report.OURS)]
    metrics = report.metrics(names, scenarios, results) + report.memory_metrics(memory)
    metrics.append(report.idle_metric(ours.idle_share))
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
