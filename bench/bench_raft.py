"""``hatch run bench raft``: proposals per second, latency, failover and catching up.

The baseline is PySyncObj in the same run, in turns. In memory means: all nodes in one process, no
disk. On disk means: three processes over loopback; ours acknowledges after ``fdatasync`` on a
majority, PySyncObj writes its journal without any sync.

    hatch run bench raft                               # everything, about six minutes
    hatch run bench raft --only memory --seconds 1
    hatch run bench raft --only failover --kills 20
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from typing import TYPE_CHECKING

from bench.raft import catching_up, in_process, processes, pysyncobj_contender, simulating
from bench.report import (
    Report,
    Row,
    Sample,
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
    parser.add_argument("--no-save", action="store_true", help="leave the results file alone")
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
        parts[name](report, given)
    return report.finish(save=not given.no_save and set(given.only) == set(PARTS))


class Loads:
    """Keeps the whole of each measurement, where the scaffold wants one number."""

    def __init__(self) -> None:
        self.taken: dict[str, list[Load]] = {}

    def keep(self, name: str, call: Callable[[], Load]) -> Callable[[], float]:
        """Measure, remember, and return the rate."""

        def measured() -> float:
            load = call()
            self.taken.setdefault(name, []).append(load)
            return load.per_second

        return measured

    def latency(self, name: str) -> Sample:
        """The medians of the repeats, in microseconds."""
        return Sample(tuple(load.p50_us for load in self.taken[name]))


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
    loads = Loads()
    calls = {"ours": loads.keep("ours", ours), "PySyncObj": loads.keep("PySyncObj", theirs)}
    rates = interleave(calls, repeats=given.repeats)
    if latency:
        mine, other = loads.latency("ours"), loads.latency("PySyncObj")
        row = Row(what, mine.median, "µs", "PySyncObj", other.median, ratio_at_most(1.0))
    else:
        mine, other = rates["ours"], rates["PySyncObj"]
        p99 = statistics.median(load.p99_us for load in loads.taken["ours"]) / 1000
        failed = {name: sum(load.failures for load in taken) for name, taken in loads.taken.items()}
        note = f"p50 {loads.latency('ours').median / 1000:.1f} ms, p99 {p99:.1f} ms"
        if any(failed.values()):
            note += f"; failed: ours {failed['ours']}, PySyncObj {failed['PySyncObj']}"
        row = Row(
            what,
            mine.median,
            "/s",
            "PySyncObj",
            other.median,
            ratio_at_least(5.0) if goal else None,
            note,
            mine,
            other,
        )
        if goal:
            report.add(
                Row(f"{what}, the figure itself", mine.median, "/s", target=at_least(100_000))
            )
    report.add(row)


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
                loads = Loads()
                call = loads.keep(
                    "ours",
                    partial(in_process.load, nodes, clients, size, given.seconds / 2),
                )
                rates = interleave({"ours": call}, repeats=given.repeats)["ours"]
                p50 = loads.latency("ours").median
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
        tempfile.TemporaryDirectory() as mine,
        tempfile.TemporaryDirectory() as other,
        processes.Processes(mine) as ours,
        processes.Processes(other, "bench.raft.pysyncobj_contender") as theirs,
    ):
        for name, size in SIZES.items():
            for clients in (1, 1000):
                versus(
                    report,
                    f"on disk, 3 processes, {name}, {clients:,} client{'s' * (clients > 1)}",
                    given,
                    partial(processes.load, ours, clients, size, given.seconds),
                    partial(processes.load, theirs, clients, size, given.seconds),
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
