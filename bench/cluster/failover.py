"""The leader is killed with SIGKILL: until the next record is acknowledged by all in sync.

And it is paused with SIGSTOP, which leaves its connections open: until a consumer that waited for
its answer has the next record.
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.cluster.running import TOPIC, busiest, cluster, send_somehow, wait_whole
from bench.report import Row, Sample, at_most
from streambus_client import Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_broker.demo.cluster import ClusterProcesses

DELIVERY_TIMEOUT_MS = 60_000
_WAITS_S = 1.0


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


def pause_leader(brokers: ClusterProcesses) -> float:
    """Pause the broker that leads most; seconds until a consumer has read on from another one."""
    leader = busiest(brokers)
    server = brokers.servers[leader.node]
    others = ",".join(each.address for node, each in brokers.servers.items() if node != leader.node)
    with Consumer(brokers.address, start="latest") as consumer:
        consumer.assign([(TOPIC, leader.partition)])
        consumer.poll(timeout=_WAITS_S)
        began_s = time.monotonic()
        server.pause()
        try:
            with Producer(others, delivery_timeout_ms=DELIVERY_TIMEOUT_MS) as producer:
                send_somehow(producer, leader.partition)
            while not consumer.poll(timeout=1.0):
                pass
            gap_s = time.monotonic() - began_s
        finally:
            server.resume()
    wait_whole(brokers)
    return gap_s


def rows(kills: int) -> tuple[list[Row], list[Kill]]:
    """Median and longest over some kills, and each of them."""
    with (
        tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory,
        cluster(directory) as brokers,
    ):
        made = [kill_leader(brokers) for _ in range(kills)]
        paused = Sample(tuple(pause_leader(brokers) for _ in range(kills // 4)))
    found = gap_rows("", made)
    if paused.values:
        what = "leader paused until a consumer has the next record"
        found += [
            Row(f"{what}, median", paused.median, "s", note=f"of {len(paused.values)}",
                sample=paused),
            Row(f"{what}, max", paused.high, "s", target=at_most(3.0)),
        ]  # fmt: skip
    return found, made


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
