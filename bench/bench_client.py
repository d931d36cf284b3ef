"""``hatch run bench client``: the client and the broker together, seen from a user's program.

Rows and targets are those of the design's budget: ``send`` and fetch against a blocking TCP echo,
batched produce and consume against Redis Streams and NATS JetStream where these are installed.
"""

from __future__ import annotations

import argparse
import sys

from bench.client import latency, throughput
from bench.report import Report


def main(arguments: list[str]) -> int:
    """Run the suite; returns an exit code."""
    parser = argparse.ArgumentParser(prog="hatch run bench client", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each measurement")
    parser.add_argument("--sends", type=int, default=3000, help="round trips in each round")
    parser.add_argument("--records", type=int, default=1_000_000, help="records in each round")
    parser.add_argument(
        "--baseline-records", type=int, default=100_000, help="the same for the other systems"
    )
    parser.add_argument("--only", choices=["latency", "throughput"], help="half of the suite")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args(arguments)
    report = Report(
        "client",
        title="Client and broker",
        options={"value_bytes": 100, "records": options.records, "repeats": options.repeats},
    )
    if options.only != "throughput":
        report.add(*latency.rows(options.repeats, options.sends))
    if options.only != "latency":
        rows, missing = throughput.rows(options.repeats, options.records, options.baseline_records)
        report.add(*rows)
        if missing:
            print(f"not installed, so not compared: {', '.join(missing)}", file=sys.stderr)
    return report.finish(save=options.only is None, strict=options.strict)
