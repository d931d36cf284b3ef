"""The leader is killed with SIGKILL: until the next record is acknowledged by all in sync."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.cluster.running import busiest, cluster, send_somehow, wait_whole
from bench.report import Row, Sample, at_most
from streambus_client import Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_broker.demo.cluster import ClusterProcesses

DELIVERY_TIMEOUT_MS = 60_000


class Kill(NamedTuple):
    """One kill.

    Attributes:
        gap_s: Until the next record was acknowledged, in a partition that the broker led.
        whole_s: From its start again until all replicas were in sync.
        controlled: Whether it was the controller besides.
    """

    gap_s: float
    whole_s: float
    controlled: bool


def kill_leader(brokers: ClusterProcesses) -> Kill:
    """Kill the broker that leads most, and bring it back."""
    leader = busiest(brokers)
    server = brokers.servers[leader.node]
    with Producer(brokers.address, acks="all", delivery_timeout_ms=DELIVERY_TIMEOUT_MS) as producer:
        send_somehow(producer, leader.partition)
        began_s = time.monotonic()
        server.kill()
        send_somehow(producer, leader.partition)
        gap_s = time.monotonic() - began_s
    began_s = time.monotonic()
    server.start()
    wait_whole(brokers)
    return Kill(gap_s, time.monotonic() - began_s, leader.controls)


def rows(kills: int) -> tuple[list[Row], list[Kill]]:
    """Median and longest over some kills, and each of them."""
    with (
        tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory,
        cluster(directory) as brokers,
    ):
        made = [kill_leader(brokers) for _ in range(kills)]
    return gap_rows("", made), made


def gap_rows(prefix: str, kills: Sequence[Kill]) -> list[Row]:
    """Shortest, median and longest of some kills; how many met the controller stands beside."""
    gaps = Sample(tuple(each.gap_s for each in kills))
    controllers = sum(each.controlled for each in kills)
    what, of = f"{prefix}leader killed to next record", f"{controllers} of {len(kills)} controllers"
    return [
        Row(f"{what}, min", gaps.low, "s"),
        Row(f"{what}, median", gaps.median, "s", target=at_most(1.0),
            note=f"{of}; {histogram(gaps.values)}", sample=gaps),
        Row(f"{what}, max", gaps.high, "s", target=at_most(3.0)),
    ]  # fmt: skip


def histogram(values: Sequence[float], width_s: float = 0.25) -> str:
    """Counts by quarters of a second."""
    counts: dict[int, int] = {}
    for value in values:
        counts[int(value / width_s)] = counts.get(int(value / width_s), 0) + 1
    return ", ".join(
        f"{slot * width_s:.2f}–{(slot + 1) * width_s:.2f} s: {counts[slot]}"
        for slot in sorted(counts)
    )
