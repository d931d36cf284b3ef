"""``hatch run bench cluster [--kills N] [--sends N] [--batched N]``: three brokers on one machine.

Latency and throughput of ``acks=all`` with replication factor 3 beside one broker, and beside the
plain floor: the same bytes written and fdatasynced to three files at once. Failover: the leader is
killed with SIGKILL, and the time is taken until the next record is acknowledged by all in sync.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.report import Report, Row, Sample, at_most, percentile
from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_broker.demo.server import ServerProcess
from streambus_client import Admin, Producer
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC = "bench"
VALUE = b"x" * 100
BATCH = 1_000


def single_sends(address: str, count: int) -> list[float]:
    """Seconds of each of ``count`` blocking sends."""
    taken = []
    with Producer(address, acks="all") as producer:
        producer.send(TOPIC, VALUE)
        for _ in range(count):
            began = time.perf_counter()
            producer.send(TOPIC, VALUE)
            taken.append(time.perf_counter() - began)
    return taken


def batched(address: str, count: int) -> float:
    """Records per second of one producer that submits columns."""
    columns = [VALUE] * BATCH
    with Producer(address, acks="all") as producer:
        producer.send(TOPIC, VALUE)
        began = time.perf_counter()
        for _ in range(count // BATCH):
            producer.submit_many(TOPIC, columns)
        producer.flush()
        return count // BATCH * BATCH / (time.perf_counter() - began)


def three_files(directory: str, count: int) -> list[float]:
    """Seconds of writing and syncing one value to three files at once."""
    handles = [
        os.open(f"{directory}/floor-{number}", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for number in range(3)
    ]

    def one(handle: int) -> None:
        os.write(handle, VALUE)
        os.fdatasync(handle)

    taken = []
    with ThreadPoolExecutor(3) as pool:
        for _ in range(count):
            began = time.perf_counter()
            list(pool.map(one, handles))
            taken.append(time.perf_counter() - began)
    for handle in handles:
        os.close(handle)
    return taken


def failovers(cluster: ClusterProcesses, kills: int) -> list[float]:
    """Seconds from each kill of the leader to the next acknowledged record."""
    taken = []
    for _ in range(kills):
        with Producer(cluster.address, acks="all", delivery_timeout_ms=60_000) as producer:
            producer.send(TOPIC, VALUE)
            cluster.kill()
            while True:
                try:
                    producer.send(TOPIC, VALUE)
                    break
                except ClientError as error:
                    if not error.retriable:
                        raise
            taken.append(time.monotonic() - cluster.started_s)
        if not cluster.bring_back():
            raise RuntimeError("the killed broker did not come back")
        cluster.killed_node = 0
    return taken


def histogram(values: Sequence[float], width_s: float = 0.25) -> str:
    """Counts by quarters of a second."""
    counts: dict[int, int] = {}
    for value in values:
        counts[int(value / width_s)] = counts.get(int(value / width_s), 0) + 1
    return ", ".join(
        f"{slot * width_s:.2f}–{(slot + 1) * width_s:.2f} s: {counts[slot]}"
        for slot in sorted(counts)
    )


def main(arguments: list[str]) -> int:
    """Measure, print the table, keep the results."""
    parser = argparse.ArgumentParser(prog="bench cluster")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sends", type=int, default=500)
    parser.add_argument("--batched", type=int, default=200_000)
    options = parser.parse_args(arguments)
    report = Report("cluster", title="Three brokers, one machine", options=vars(options))
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory:
        floor = three_files(directory, options.sends)
        server = ServerProcess(f"{directory}/single")
        server.start()
        try:
            with Admin(server.address) as admin:
                admin.create_topic(TOPIC, partitions=1)
            alone = single_sends(server.address, options.sends)
            alone_rate = batched(server.address, options.batched)
        finally:
            server.stop()
        cluster = ClusterProcesses(f"{directory}/cluster", local_addresses(3), TOPIC)
        cluster.start()
        try:
            with Admin(cluster.address) as admin:
                admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            replicated = single_sends(cluster.address, options.sends)
            rate = batched(cluster.address, options.batched)
            gaps = failovers(cluster, options.kills)
        finally:
            cluster.stop()
    for name, baseline in (("one broker", alone), ("write + fdatasync of three files", floor)):
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            report.add(
                Row(
                    f"send, acks=all, 3 replicas, {label}",
                    percentile(replicated, share) * 1e3,
                    "ms",
                    name,
                    percentile(baseline, share) * 1e3,
                )
            )
    report.add(
        Row("produce, batched, acks=all, 3 replicas", rate, "records/s", "one broker", alone_rate)
    )
    if gaps:
        sample = Sample(tuple(gaps))
        report.add(
            Row("leader killed to next record, median", sample.median, "s", target=at_most(1.0),
                note=histogram(gaps), sample=sample),
            Row("leader killed to next record, max", max(gaps), "s", target=at_most(3.0)),
        )  # fmt: skip
    whole = (options.kills, options.sends, options.batched) == (20, 500, 200_000)
    return report.finish(save=whole)
