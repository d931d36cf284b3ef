"""An empty follower: how long until it holds what the others have, beside a plain copy."""

from __future__ import annotations

import os
import shutil
import tempfile
import time

from bench.cluster.running import TOPIC, cluster, wait_whole
from bench.report import Row
from streambus_client import Producer

PARTITIONS = 4
VALUE_BYTES = 1_000
BATCH = 200
PIECE_BYTES = 1 << 20
FOLLOWER = 3


def rows(gigabytes: float) -> list[Row]:
    """Fill two brokers while the third is away, and let it come back with nothing."""
    size_bytes = int(gigabytes * 1e9)
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory:
        with cluster(f"{directory}/cluster", PARTITIONS) as brokers:
            server = brokers.servers[FOLLOWER]
            server.stop()
            shutil.rmtree(f"{directory}/cluster/{FOLLOWER}/data")
            _fill(brokers.address, size_bytes)
            began_s = time.monotonic()
            server.start()
            wait_whole(brokers, timeout_s=600.0)
            taken_s = time.monotonic() - began_s
        plain_s = _plain(f"{directory}/plain", size_bytes)
    what = f"an empty follower catches up with {gigabytes:g} GB"
    note = "from its start until it is in sync"
    return [
        Row(what, size_bytes / 1e6 / taken_s, "MB/s", "write + fdatasync",
            size_bytes / 1e6 / plain_s, note=note),
        Row(f"{what}, the time itself", taken_s, "s"),
    ]  # fmt: skip


def _fill(address: str, size_bytes: int) -> None:
    columns = [os.urandom(VALUE_BYTES) for _ in range(BATCH)]
    with Producer(address, acks="all", delivery_timeout_ms=120_000) as producer:
        for number in range(size_bytes // (VALUE_BYTES * BATCH)):
            producer.submit_many(TOPIC, columns, partition=number % PARTITIONS)
        producer.flush()


def _plain(path: str, size_bytes: int) -> float:
    """Seconds of writing so much to one file, synced after each piece."""
    piece = os.urandom(PIECE_BYTES)
    began_s = time.monotonic()
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    for _ in range(size_bytes // PIECE_BYTES):
        os.write(handle, piece)
        os.fdatasync(handle)
    os.close(handle)
    return time.monotonic() - began_s
