"""``hatch run bench broker``: what a broker process costs: memory, start, pauses."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.broker import rows
from bench.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import Row


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
    parts: dict[str, Callable[[], list[Row]]] = {
        "memory": lambda: rows.memory(options.repeats),
        "start": lambda: rows.start(options.repeats, options.gigabytes),
        "pauses": lambda: rows.pauses(options.seconds),
    }
    for part, measure in parts.items():
        if options.only in (None, part):
            report.add(*(replace(row, part=part) for row in measure()))
    return report.finish(strict=options.strict)
