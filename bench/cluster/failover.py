"""The leader is killed with SIGKILL: until the next record is acknowledged by all in sync.

And it is paused with SIGSTOP, which leaves its connections open: until a producer that was
connected to it has its next record acknowledged, and until a consumer that waited there has it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.cluster.running import TOPIC, busiest, cluster, send_somehow, wait_whole
from bench.report import Row, Sample, at_most
from streambus_client import Admin, Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_broker.demo.cluster import ClusterProcesses

DELIVERY_TIMEOUT_MS = 60_000
_WAITS_S = 1.0


class Pause(NamedTuple):
    """One pause.

    Attributes:
        acked_s: Until the next record of a producer that was connected was acknowledged.
        read_s: Until a consumer that waited there had it.
        controlled: Whether the paused broker was the controller besides.
    """

    acked_s: float
    read_s: float
    controlled: bool


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


def pause_leader(brokers: ClusterProcesses, *, controller: bool) -> Pause:
    """Pause the broker that leads most, while a producer and a consumer use it.

    Args:
        brokers: The cluster.
        controller: Whether it is to be the controller, too; control is handed over if need be.
    """
    leader = busiest(brokers)
    if controller != leader.controls:
        others = [node for node in brokers.servers if node != leader.node]
        with Admin(brokers.address) as admin:
            admin.alter_member(leader.node if controller else others[0], "transfer")
        wait_whole(brokers)
        leader = busiest(brokers)
    server = brokers.servers[leader.node]
    acked_s: list[float] = []

    def send() -> None:
        send_somehow(producer, leader.partition)
        acked_s.append(time.monotonic() - began_s)

    with (
        Consumer(brokers.address, start="latest") as consumer,
        Producer(brokers.address, delivery_timeout_ms=DELIVERY_TIMEOUT_MS) as producer,
    ):
        consumer.assign([(TOPIC, leader.partition)])
        consumer.poll(timeout=_WAITS_S)
        send_somehow(producer, leader.partition)
        while not consumer.poll(timeout=1.0):
            pass
        began_s = time.monotonic()
        server.pause()
        try:
            sender = threading.Thread(target=send)
            sender.start()
            while not consumer.poll(timeout=1.0):
                pass
            read_s = time.monotonic() - began_s
            sender.join()
        finally:
            server.resume()
    wait_whole(brokers)
    return Pause(acked_s[0], read_s, leader.controls)


def rows(kills: int) -> tuple[list[Row], list[Kill]]:
    """Median and longest over some kills, and each of them."""
    with (
        tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory,
        cluster(directory) as brokers,
    ):
        made = [kill_leader(brokers) for _ in range(kills)]
        paused = [pause_leader(brokers, controller=number % 2 == 1) for number in range(kills // 2)]
    return gap_rows("", made) + pause_rows(paused), made


def pause_rows(pauses: Sequence[Pause]) -> list[Row]:
    """Median and longest of some pauses, for a producer and for a consumer."""
    if not pauses:
        return []
    controllers = sum(each.controlled for each in pauses)
    found = []
    for what, sample in (
        ("the next acknowledged record", Sample(tuple(each.acked_s for each in pauses))),
        ("a consumer has it", Sample(tuple(each.read_s for each in pauses))),
    ):
        found += [
            Row(f"leader paused until {what}, median", sample.median, "s", sample=sample,
                note=f"{controllers} of {len(pauses)} controllers"),
            Row(f"leader paused until {what}, max", sample.high, "s", target=at_most(3.0)),
        ]  # fmt: skip
    return found


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
