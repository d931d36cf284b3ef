"""``hatch run simulate raft [--seeds N] [--first S] [--minutes M] | --seed S [--trace]``.

Runs one simulation for each seed and prints how much was simulated, how fast, and what went wrong
on the way. A seed that breaks a rule is run again and printed as a conversation; the exit code is 1
then. With ``--servers`` it plays whole servers, on disks that lose power at any call.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from streambus_raft.testing import Simulation, format_trace, plan_of
from tests.raft.power_cuts import simulate as simulate_power_cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_raft.testing import Report

LINES_SHOWN = 120
"""The end of a failing seed's conversation."""


def main(arguments: list[str]) -> int:
    """Run the command; 0 if every seed held, else 1."""
    parser = argparse.ArgumentParser(prog="simulate raft", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--minutes", type=float, default=None, help="stop after this long")
    parser.add_argument(
        "--keep-going", action="store_true", help="name each seed that fails in a line, and go on"
    )
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument(
        "--servers", action="store_true", help="play whole servers, and cut their power"
    )
    options = parser.parse_args(arguments)
    if options.servers:
        seeds = range(options.first, options.first + options.seeds)
        return run_servers([options.seed] if options.seed is not None else seeds, options.minutes)
    if options.seed is not None:
        return run_one(options.seed, trace=options.trace)
    return run_many(options.first, options.seeds, options.minutes, keep_going=options.keep_going)


def run_one(seed: int, *, trace: bool) -> int:
    """Run a seed alone, and print it."""
    simulation = Simulation(plan_of(seed), tracing=True)
    print(simulation.plan)
    failure: AssertionError | None = None
    report: Report | None = None
    try:
        report = simulation.run()
    except AssertionError as exc:
        failure = exc
    lines = list(format_trace(simulation.lines))
    if trace or failure is not None:
        print(*(lines if trace else lines[-LINES_SHOWN:]), sep="\n")
    print(report if failure is None else f"seed {seed}: {type(failure).__name__}: {failure}")
    return 0 if failure is None else 1


def run_many(first: int, count: int, minutes: float | None, *, keep_going: bool) -> int:
    """Run seed after seed; stop at the first that breaks a rule, or only count it."""
    faults: Counter[str] = Counter()
    began, spoke = time.monotonic(), time.monotonic()
    cpu = time.process_time()
    seconds = events = operations = committed = done = 0
    failed: list[int] = []
    for seed in range(first, first + count):
        try:
            report = Simulation(plan_of(seed)).run()
        except AssertionError as exc:
            if not keep_going:
                print(f"seed {seed} fails, after {done} that held:")
                return run_one(seed, trace=False)
            failed.append(seed)
            print(f"seed {seed} fails: {type(exc).__name__}: {first_line(exc)}", flush=True)
            continue
        done += 1
        seconds += int(report.seconds)
        events += report.events
        operations += report.operations
        committed += report.committed
        faults.update(report.faults)
        now = time.monotonic()
        if now - spoke > 30:
            spoke = now
            print(f"  {done} seeds hold, {len(failed)} fail, the last was {seed}", flush=True)
        if minutes is not None and now - began > minutes * 60:
            break
    used = time.process_time() - cpu
    print(f"seeds {first} to {first + done + len(failed) - 1}: {done} seeds hold", end="")
    print(f", {len(failed)} fail: {failed}" if failed else ", none fails")
    print(
        f"simulated {seconds / 3600:.2f} h in {used:.1f} CPU seconds:"
        f" {seconds / used:.0f} simulated hours in a CPU hour"
    )
    print(f"{events} events, {operations} client operations, {committed} entries committed")
    print("faults:", ", ".join(f"{name} {number}" for name, number in faults.most_common()))
    return 1 if failed else 0


def run_servers(seeds: Sequence[int], minutes: float | None) -> int:
    """Play whole servers, seed after seed; 0 if every one held, else 1."""
    logging.getLogger("streambus_raft").setLevel(logging.CRITICAL)  # every cut is logged, at length
    began, spoke = time.monotonic(), time.monotonic()
    cpu = time.process_time()
    seconds, cuts, acknowledged = 0.0, 0, 0
    held: list[int] = []
    failed: list[int] = []
    for seed in seeds:
        try:
            report = simulate_power_cuts(seed)
        except Exception as exc:  # noqa: BLE001  # whatever goes wrong is what is looked for
            failed.append(seed)
            print(f"seed {seed} fails: {type(exc).__name__}: {exc}", flush=True)
            continue
        held.append(seed)
        seconds += report.seconds
        cuts += report.cuts
        acknowledged += report.acknowledged
        now = time.monotonic()
        if now - spoke > 30:
            spoke = now
            print(f"  {len(held)} seeds hold, {len(failed)} fail, the last was {seed}", flush=True)
        if minutes is not None and now - began > minutes * 60:
            break
    tried = [*held, *failed]
    print(f"seeds {min(tried)} to {max(tried)}: {len(held)} seeds hold", end="")
    print(f", {len(failed)} fail: {failed}" if failed else ", none fails")
    print(f"simulated {seconds:.0f} s in {time.process_time() - cpu:.1f} CPU seconds")
    print(f"{cuts} power cuts, {acknowledged} commands acknowledged")
    return 1 if failed else 0


def first_line(failure: AssertionError) -> str:
    """What failed; the facts follow when the seed is run alone."""
    return str(failure).partition("\n")[0]
