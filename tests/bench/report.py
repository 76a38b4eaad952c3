"""Figures into a table, into ratios with goals, into a file. Measures nothing."""

import json

OURS = "Vitrail"
HAPROXY = "HAProxy TCP"
SHARING = "MySQL Router, sharing"

# metric, unit, attribute of a result
FIGURES = [
    ("queries per second", "1/s", "queries_per_second"),
    ("p50", "us", "p50_us"),
    ("p99", "us", "p99_us"),
    ("processor time per query", "us", "cpu_us"),
]

# Goals of the design, for point selects: figure, clients, peer, the ratio that is still good. Less is better in all of them.
POINT_SELECT = "oltp_point_select"
GOALS = [
    ("p50_us", 1, HAPROXY, 1.0),
    ("cpu_us", 16, HAPROXY, 1.0),
    ("cpu_us", 16, SHARING, 0.6),
]
IDLE_KIB_MAX = 8
# Of long answers, through one core.
GIGABYTES_PER_CORE_MIN = 1
IDLE_PERCENT_MAX = 1


def aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def table(names, scenarios, results):
    """One block for each scenario, one line for each way to the server; ratios are to the direct way."""
    blocks = []
    for scenario in scenarios:
        direct = results[scenario, names[0]]
        rows = [[scenario.label, "queries/s", "of direct", "p50 us", "over direct", "p99 us", "cpu us/query"]]
        for name in names:
            found = results[scenario, name]
            rows.append([
                f"  {name}",
                f"{found.queries_per_second:.0f}",
                f"{found.queries_per_second / direct.queries_per_second:.2f}",
                f"{found.p50_us:.0f}",
                f"{found.p50_us - direct.p50_us:+.0f}",
                f"{found.p99_us:.0f}",
                "-" if found.cpu_us is None else f"{found.cpu_us:.1f}",
            ])
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def metrics(names, scenarios, results):
    """Ours against every peer, in every figure that both have."""
    found = []
    for scenario in scenarios:
        for metric, unit, attribute in FIGURES:
            ours = getattr(results[scenario, OURS], attribute)
            for peer_name in names:
                peer = getattr(results[scenario, peer_name], attribute)
                if peer_name == OURS or not peer:
                    continue
                goal = next(
                    (limit for figure, threads, name, limit in GOALS
                     if (figure, threads, name) == (attribute, scenario.threads, peer_name) and scenario.script == POINT_SELECT),
                    None,
                )
                ratio = ours / peer
                found.append({
                    "metric": f"{scenario.label}, {metric}",
                    "unit": unit,
                    "ours": round(ours, 2),
                    "peer": round(peer, 2),
                    "peer_name": peer_name,
                    "ratio": round(ratio, 3),
                    "goal": None if goal is None else f"<= {goal}",
                    "met": None if goal is None else ratio <= goal,
                })
    return found


def memory_table(memory):
    rows = [["memory per idle client", "KiB"]]
    rows += [[f"  {name}, {clients} clients", f"{kib:.1f}"] for name, (clients, kib) in memory.items()]
    return aligned(rows)


def memory_metrics(memory):
    clients, ours = memory[OURS]
    return [
        {
            "metric": f"memory per idle client, {clients} clients",
            "unit": "KiB",
            "ours": round(ours, 2),
            "peer": round(kib, 2),
            "peer_name": name,
            "ratio": round(ours / kib, 3) if kib > 0 else None,
            "goal": f"<= {IDLE_KIB_MAX} KiB",
            "met": ours <= IDLE_KIB_MAX,
        }
        for name, (_, kib) in memory.items()
        if name == SHARING
    ]


def arrivals_table(arrivals):
    rows = [["short connections", "1/s", "cpu us each", "not served"]]
    for name, found in arrivals.items():
        cpu = "-" if found.cpu_us is None else f"{found.cpu_us:.0f}"
        rows.append([f"  {name}", f"{found.per_second:.0f}", cpu, str(found.failed)])
    return aligned(rows)


def arrival_metrics(arrivals):
    ours = arrivals[OURS]
    found = [
        {
            "metric": "short connection, processor time",
            "unit": "us",
            "ours": round(ours.cpu_us, 2),
            "peer": round(peer.cpu_us, 2),
            "peer_name": name,
            "ratio": round(ours.cpu_us / peer.cpu_us, 3),
            "goal": None,
            "met": None,
        }
        for name, peer in arrivals.items()
        if name != OURS and peer.cpu_us
    ]
    failed = {
        "metric": "short connections that were not served",
        "unit": "",
        "ours": ours.failed,
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "goal": "0",
        "met": ours.failed == 0,
    }
    return [*found, failed]


def throughput_metrics(scenarios, results):
    """Of long answers: what one core of the middleman passes on."""
    found = []
    for scenario in scenarios:
        if not scenario.answer_bytes:
            continue
        gigabytes = scenario.answer_bytes / results[scenario, OURS].cpu_us / 1e3
        peer = results[scenario, HAPROXY].cpu_us if (scenario, HAPROXY) in results else None
        peer_gigabytes = scenario.answer_bytes / peer / 1e3 if peer else None
        found.append({
            "metric": f"{scenario.label}, through one core",
            "unit": "GB/s",
            "ours": round(gigabytes, 3),
            "peer": peer_gigabytes and round(peer_gigabytes, 3),
            "peer_name": HAPROXY if peer_gigabytes else None,
            "ratio": peer_gigabytes and round(gigabytes / peer_gigabytes, 3),
            "goal": f">= {GIGABYTES_PER_CORE_MIN} GB/s",
            "met": gigabytes >= GIGABYTES_PER_CORE_MIN,
        })
    return found


def idle_metric(share):
    percent = share * 100
    return {
        "metric": "agent without clients, of one core",
        "unit": "%",
        "ours": round(percent, 2),
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "goal": f"<= {IDLE_PERCENT_MAX} %",
        "met": percent <= IDLE_PERCENT_MAX,
    }


def goals(found):
    rows = [["goal", "ours", "peer", "", "ratio", "goal", ""]]
    for metric in found:
        if metric["goal"] is not None:
            rows.append([
                metric["metric"], f"{metric['ours']:.1f}",
                "-" if metric["peer"] is None else f"{metric['peer']:.1f}", metric["peer_name"] or "-",
                "-" if metric["ratio"] is None else f"{metric['ratio']:.2f}", metric["goal"], "met" if metric["met"] else "NOT MET",
            ])
    return "\n" + aligned(rows)


def write(output, found):
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=2) + "\n")
