"""``hatch run simulate storage``: power cuts at every file-system call, over many seeds.

hatch run simulate storage --seeds 200            # 200 seeds from 1 on
hatch run simulate storage --minutes 10           # as many as fit
hatch run simulate storage --seed 17 --trace      # one seed, with everything it did
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.storage.cuts import BrokenPromiseError, Run

TARGET_CUTS_PER_CPU_HOUR = 100_000


def main(arguments: list[str]) -> int:
    """Run the seeds, print cuts, seeds and cuts per CPU-hour; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="hatch run simulate storage", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one seed only")
    parser.add_argument("--minutes", type=float, help="stop after so long, whatever --seeds says")
    parser.add_argument("--operations", type=int, default=60, help="writes in each run")
    parser.add_argument("--trace", action="store_true", help="print what the run does")
    parser.add_argument("--keep-going", action="store_true", help="report every broken seed")
    given = parser.parse_args(arguments)
    seeds: range = range(given.first, given.first + given.seeds)
    if given.seed is not None:
        seeds = range(given.seed, given.seed + 1)
    elif given.minutes is not None:
        seeds = range(given.first, sys.maxsize)
    began_wall, began_cpu = time.monotonic(), time.process_time()
    cuts = done = broken = 0
    for seed in seeds:
        if given.minutes is not None and time.monotonic() - began_wall > given.minutes * 60:
            break
        run = Run(seed, operations=given.operations, log=[] if given.trace else None)
        try:
            cuts += run.execute()
        except BrokenPromiseError as violation:
            print(f"BROKEN {violation}", file=sys.stderr)
            broken += 1
            if not given.keep_going:
                _print_trace(run)
                raise
        done += 1
        _print_trace(run)
    cpu_hours = (time.process_time() - began_cpu) / 3600
    rate = cuts / cpu_hours if cpu_hours else 0.0
    print(
        f"{cuts:,} power cuts over {done} seeds in {time.monotonic() - began_wall:.1f} s: "
        f"{rate:,.0f} cuts per CPU-hour (target {TARGET_CUTS_PER_CPU_HOUR:,}), {broken} broken"
    )
    return 1 if broken else 0


def _print_trace(run: Run) -> None:
    for number, line in enumerate(run.log or ()):
        print(f"{number:4} {line}")
