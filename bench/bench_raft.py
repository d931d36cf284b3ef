"""``hatch run bench raft``: proposals per second, latency, failover and catching up.

The baseline is PySyncObj in the same run, in turns. In memory means: all nodes in one process, no
disk. On disk means: three processes over loopback; ours acknowledges after ``fdatasync`` on a
majority, PySyncObj writes its journal without any sync.

    hatch run bench raft                               # everything, about six minutes
    hatch run bench raft --only memory --seconds 1
    hatch run bench raft --only failover --kills 20

A part that is measured alone replaces its own rows in the results, and leaves those of the others.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bench.raft import catching_up, in_process, plots, processes, pysyncobj_contender, simulating
from bench.report import (
    RESULTS,
    Report,
    Row,
    Sample,
    Target,
    at_least,
    at_most,
    interleave,
    ratio_at_least,
    ratio_at_most,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.raft.workload import Load

PARTS = ("memory", "sizes", "disk", "failover", "catchup", "simulator")
SIZES = {"16 B": 16, "1 KiB": 1024, "64 KiB": 65536}


def main(arguments: list[str]) -> int:
    """Run the parts asked for, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="hatch run bench raft", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100, help="to catch up with")
    parser.add_argument("--no-save", action="store_true", help="leave results and plots alone")
    given = parser.parse_args(arguments)
    options = {"seconds": given.seconds, "repeats": given.repeats, "kills": given.kills}
    report = Report("raft", "Raft beside PySyncObj", options)
    parts: dict[str, Callable[[Report, argparse.Namespace], None]] = {
        "memory": memory,
        "sizes": sizes,
        "disk": disk,
        "failover": failover,
        "catchup": catch_up,
        "simulator": simulator,
    }
    for name in given.only:
        print(f"measuring: {name}", flush=True)
        before = len(report.rows)
        parts[name](report, given)
        report.rows[before:] = [replace(row, part=name) for row in report.rows[before:]]
    verdict = report.finish(save=not given.no_save)
    if not given.no_save:
        plots.draw(RESULTS / "raft.json")
    return verdict


def versus(
    report: Report,
    what: str,
    given: argparse.Namespace,
    ours: Callable[[], Load],
    theirs: Callable[[], Load],
    *,
    goal: bool = False,
    latency: bool = False,
) -> None:
    """Measure in turns and add a row: the rate, or for a single client the latency."""
    loads: dict[str, list[Load]] = {"ours": [], "PySyncObj": []}

    def keep(name: str, call: Callable[[], Load]) -> Callable[[], float]:
        def measured() -> float:
            loads[name].append(call())
            return loads[name][-1].per_second

        return measured

    calls = {"ours": keep("ours", ours), "PySyncObj": keep("PySyncObj", theirs)}
    interleave(calls, repeats=given.repeats)
    lost = sum(math.isnan(load.per_second) for load in loads["PySyncObj"])
    loads["PySyncObj"] = [each for each in loads["PySyncObj"] if not math.isnan(each.per_second)]
    notes = [f"PySyncObj broke down in {lost} of {given.repeats} runs"] if lost else []
    if latency:
        samples = {name: Sample(tuple(each.p50_us for each in loads[name])) for name in loads}
        target: Target | None = ratio_at_most(1.0)
    else:
        samples = {name: Sample(tuple(each.per_second for each in loads[name])) for name in loads}
        target = ratio_at_least(5.0) if goal else None
        p50 = statistics.median(load.p50_us for load in loads["ours"]) / 1000
        p99 = statistics.median(load.p99_us for load in loads["ours"]) / 1000
        notes.insert(0, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        notes += [
            f"{name}: {failures} failed proposals"
            for name in loads
            if (failures := sum(load.failures for load in loads[name]))
        ]
        if goal:
            figure = samples["ours"].median
            report.add(Row(f"{what}, the figure itself", figure, "/s", target=at_least(100_000)))
    mine, other = samples["ours"], samples["PySyncObj"]
    baseline = other.median if other.values else None
    unit, note = "µs" if latency else "/s", "; ".join(notes)
    report.add(Row(what, mine.median, unit, "PySyncObj", baseline, target, note, mine, other))


def memory(report: Report, given: argparse.Namespace) -> None:
    """The library alone: three nodes in one process."""
    for clients in (1, 1000):
        versus(
            report,
            f"in memory, 3 nodes, 16 B, {clients:,} client{'s' * (clients > 1)}",
            given,
            partial(in_process.load, 3, clients, 16, given.seconds),
            partial(pysyncobj_contender.load, clients, 16, given.seconds),
            goal=clients > 1,
            latency=clients == 1,
        )


def sizes(report: Report, given: argparse.Namespace) -> None:
    """Other numbers of nodes, other sizes, the loop of the standard library."""
    for nodes in (1, 3, 5):
        for name, size in SIZES.items():
            for clients in (1, 1000):
                taken = [
                    in_process.load(nodes, clients, size, given.seconds / 2)
                    for _ in range(given.repeats)
                ]
                rates = Sample(tuple(load.per_second for load in taken))
                p50 = statistics.median(load.p50_us for load in taken)
                what = f"in memory, {nodes} node{'s' * (nodes > 1)}, {name}, {clients:,} clients"
                report.add(Row(what, rates.median, "/s", note=f"p50 {p50:,.0f} µs", sample=rates))
    plain = interleave(
        {"ours": lambda: in_process.load(3, 1000, 16, given.seconds, uvloop=False).per_second},
        repeats=given.repeats,
    )["ours"]
    report.add(
        Row("in memory, 3 nodes, 16 B, 1,000 clients, asyncio", plain.median, "/s", sample=plain)
    )


def disk(report: Report, given: argparse.Namespace) -> None:
    """Three processes with durable logs."""
    with (
        tempfile.TemporaryDirectory() as directory,
        processes.Processes(directory) as ours,
    ):
        for name, size in SIZES.items():
            for clients in (1, 1000):
                versus(
                    report,
                    f"on disk, 3 processes, {name}, {clients:,} client{'s' * (clients > 1)}",
                    given,
                    partial(processes.load, ours, clients, size, given.seconds),
                    partial(processes.load_theirs, clients, size, given.seconds),
                    latency=clients == 1,
                )


def failover(report: Report, given: argparse.Namespace) -> None:
    """The leader is killed: until the next write is acknowledged."""
    with (
        tempfile.TemporaryDirectory() as directory,
        processes.Processes(directory, tick_seconds=0.03) as nodes,
    ):
        gaps = processes.failovers(nodes, given.kills)
    sample = Sample(tuple(gaps))
    what = "leader killed: until the next acknowledged write"
    note = "tick 30 ms, election after 10 to 20 ticks"
    report.add(
        Row(f"{what}, median", sample.median, "s", target=at_most(1), note=note, sample=sample)
    )
    report.add(Row(f"{what}, longest", sample.high, "s", target=at_most(3), sample=sample))


def catch_up(report: Report, given: argparse.Namespace) -> None:
    """An empty follower joins a cluster with much to tell."""
    for way in ("log", "snapshot"):
        times: list[float] = []
        for _ in range(given.repeats):
            with tempfile.TemporaryDirectory() as directory:
                times.append(
                    catching_up.seconds(directory, given.megabytes, by_snapshot=way == "snapshot")
                )
        sample = Sample(tuple(given.megabytes / each for each in times))
        what = f"catching up with {given.megabytes} MB by {way}"
        report.add(Row(what, sample.median, "MB/s", sample=sample))


def simulator(report: Report, given: argparse.Namespace) -> None:
    """Whole clusters in virtual time, every kind of fault, every rule checked after each event."""
    rates = [simulating.hours_per_cpu_hour(100 * repeat, 100) for repeat in range(given.repeats)]
    sample = Sample(tuple(rates))
    what = "simulated hours in a CPU hour, with faults"
    report.add(Row(what, sample.median, "h", target=at_least(500), sample=sample))
