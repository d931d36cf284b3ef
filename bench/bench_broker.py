"""``hatch run bench broker``: what a broker process costs: memory, start, pauses."""

from __future__ import annotations

import argparse

from bench.broker import rows
from bench.report import Report


def main(arguments: list[str]) -> int:
    """Run the suite; returns an exit code."""
    parser = argparse.ArgumentParser(prog="hatch run bench broker", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each measurement")
    parser.add_argument(
        "--seconds", type=float, default=10, help="how long to produce at full rate"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=10, help="data on disk for the start; 0 leaves it out"
    )
    parser.add_argument("--only", choices=["memory", "start", "pauses"], help="one part alone")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args(arguments)
    report = Report(
        "broker",
        title="Broker process",
        options={"repeats": options.repeats, "gigabytes": options.gigabytes},
    )
    if options.only in (None, "memory"):
        report.add(*rows.memory(options.repeats))
    if options.only in (None, "start"):
        report.add(*rows.start(options.repeats, options.gigabytes))
    if options.only in (None, "pauses"):
        report.add(*rows.pauses(options.seconds))
    return report.finish(save=options.only is None, strict=options.strict)
