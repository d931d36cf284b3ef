"""``hatch run bench cluster``: three brokers on one machine.

    hatch run bench cluster                          # everything, about a quarter of an hour
    hatch run bench cluster --only failover --kills 20
    hatch run bench cluster --only catchup --gigabytes 0.2 --no-save
    hatch run bench cluster --only partitions --partitions 10 1000

Latency and throughput of ``acks=all`` stand beside one broker and beside the plain floor, the same
bytes written and fdatasynced to three files at once; failover, catching up of an empty follower,
and many partitions are figures of their own.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.cluster import catching_up, failover, latency, partitions, plots
from bench.report import Report
from streambus_broker.demo.server import BrokerDiedError
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from bench.report import Row

PARTS = ("latency", "failover", "catchup", "partitions")


def main(arguments: list[str]) -> int:
    """Measure the parts asked for, print the table, keep results and plots."""
    parser = argparse.ArgumentParser(
        prog="hatch run bench cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3, help="of latency and throughput")
    parser.add_argument("--sends", type=int, default=300, help="single sends in a round")
    parser.add_argument("--batched", type=int, default=300_000, help="records in a round")
    parser.add_argument("--kills", type=int, default=20, help="of the failover")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="to catch up with")
    parser.add_argument("--partitions", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--kills-each", type=int, default=10, help="with each number of partitions")
    parser.add_argument("--no-save", action="store_true", help="leave results and plots alone")
    given = parser.parse_args(arguments)
    options = {
        "rounds": given.rounds, "sends": given.sends, "batched": given.batched,
        "kills": given.kills, "gigabytes": given.gigabytes, "kills_each": given.kills_each,
    }  # fmt: skip
    report = Report("cluster", title="Three brokers, one machine", options=options)
    save, failed = not given.no_save, False

    def add(part: str, rows: list[Row]) -> None:
        report.add(*(replace(row, part=part) for row in rows))
        for row in rows:
            beside = f" ({row.baseline_name} {row.baseline:.4g})" if row.baseline else ""
            print(f"{row.what}: {row.figure:.4g} {row.unit}{beside}", flush=True)

    if "latency" in given.only:
        add("latency", latency.rows(given.sends, given.batched, given.rounds))
    if "failover" in given.only:
        rows, kills = failover.rows(given.kills)
        add("failover", rows)
        if save:
            plots.gaps(kills)
    if "catchup" in given.only:
        add("catchup", catching_up.rows(given.gigabytes))
    if "partitions" in given.only:
        costs = []
        for count in sorted(given.partitions):
            try:
                costs.append(partitions.measure(count, given.kills_each))
            except (ClientError, BrokerDiedError, TimeoutError) as error:
                print(f"{count:,} partitions could not be measured: {error}", flush=True)
                failed = True
            else:
                add("partitions", partitions.rows(costs[-1]))
        if save and costs:
            plots.many(costs)
    return report.finish(save=save) or failed
