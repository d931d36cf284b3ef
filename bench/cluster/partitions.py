"""What many partitions cost: memory, start, failover. Each has three replicas and one record."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cluster.failover import Kill, gap_rows, kill_leader
from bench.cluster.running import (
    TOPIC,
    VALUE,
    cluster,
    create_topic,
    send_somehow,
    wait_whole,
)
from bench.report import Row, Sample
from streambus_client import Producer

if TYPE_CHECKING:
    from streambus_broker.demo.cluster import ClusterProcesses

_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured with one number of partitions.

    Attributes:
        partitions: How many.
        created_s: Until a topic with so many was created and whole.
        memory_mib: Resident memory of the largest broker.
        started_s: From exec of all three until the first acknowledged record.
        whole_s: From the same until all replicas were in sync.
        kills: Kills of the broker that leads most.
    """

    partitions: int
    created_s: float
    memory_mib: float
    started_s: float
    whole_s: float
    kills: tuple[Kill, ...]


def measure(partitions: int, kills: int) -> Cost:
    """Measure all of it on a new cluster."""
    with (
        tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory,
        cluster(directory, partitions=0) as brokers,
    ):
        began_s = time.monotonic()
        create_topic(brokers, partitions)
        wait_whole(brokers)
        created_s = time.monotonic() - began_s
        _fill(brokers.address, partitions)
        time.sleep(_SETTLE_S)
        memory = [server.memory_bytes() or 0 for server in brokers.servers.values()]
        made = tuple(kill_leader(brokers) for _ in range(kills))
        started_s, whole_s = _start_again(brokers)
    return Cost(partitions, created_s, max(memory) / (1 << 20), started_s, whole_s, made)


def _fill(address: str, partitions: int) -> None:
    with Producer(address, acks="all", delivery_timeout_ms=120_000) as producer:
        for partition in range(partitions):
            producer.submit(TOPIC, VALUE, partition=partition)
        producer.flush()


def _start_again(brokers: ClusterProcesses) -> tuple[float, float]:
    """Stop all and start all; seconds to the first record, and until all are in sync."""
    brokers.stop()
    began_s = time.monotonic()
    for server in brokers.servers.values():
        server.launch()
    for server in brokers.servers.values():
        server.wait_listening()
    with Producer(brokers.address, acks="all", delivery_timeout_ms=120_000) as producer:
        send_somehow(producer, 0)
    started_s = time.monotonic() - began_s
    wait_whole(brokers)
    return started_s, time.monotonic() - began_s


def rows(cost: Cost) -> list[Row]:
    """The rows of one number of partitions."""
    many = f"{cost.partitions:,} partitions"
    whole = Sample(tuple(each.whole_s for each in cost.kills))
    found = [
        Row(f"{many}: a topic created, all replicas in sync", cost.created_s, "s"),
        Row(f"{many}: memory of the largest broker", cost.memory_mib, "MiB"),
        Row(f"{many}: start of all three to the first acknowledged record", cost.started_s, "s"),
        Row(f"{many}: start of all three until all replicas are in sync", cost.whole_s, "s"),
    ]
    if cost.kills:
        found += [
            *gap_rows(f"{many}: ", cost.kills),
            Row(f"{many}: the killed one back, until all replicas are in sync", whole.median, "s",
                sample=whole),
        ]  # fmt: skip
    return found
