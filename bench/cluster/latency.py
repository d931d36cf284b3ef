"""``acks=all`` with three replicas: beside one broker, and beside plain files, in turns.

Synced is the default: every acknowledged record is on three disks. Unsynced is the same with all
directories in memory (tmpfs), where a sync has nothing to do: what is left is the way of a record
through three processes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.cluster.running import TOPIC, VALUE, cluster
from bench.report import Row, Sample, interleave, percentile
from streambus_broker.demo.server import ServerProcess
from streambus_client import Admin, Producer

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1_000
FILES = 3
MEMORY = "/dev/shm"


def rows(sends: int, batched: int, rounds: int) -> list[Row]:
    """All rows: synced, and unsynced where there is a file system in memory."""
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory:
        found = _compared(directory, "", sends, batched, rounds)
    if os.path.ismount(MEMORY) and os.access(MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(prefix="streambus-bench-", dir=MEMORY) as directory:
            found += _compared(directory, ", unsynced (in memory)", sends, batched, rounds)
    else:
        print(f"nothing unsynced: there is no {MEMORY}")
    return found


def _compared(directory: str, kind: str, sends: int, batched: int, rounds: int) -> list[Row]:
    one, three, plain = "one broker", "three brokers", f"write + fdatasync of {FILES} files"
    singly: dict[str, list[float]] = {one: [], three: [], plain: []}
    with _single(f"{directory}/single") as alone, cluster(f"{directory}/cluster") as brokers:
        for _ in range(rounds):
            singly[plain] += plain_singly(directory, sends)
            singly[one] += send_singly(alone, sends)
            singly[three] += send_singly(brokers.address, sends)
        rates = interleave(
            {
                one: lambda: send_batched(alone, batched),
                three: lambda: send_batched(brokers.address, batched),
                plain: lambda: plain_batched(directory, batched),
            },
            repeats=rounds,
        )
    found = []
    for name in (one, plain):
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            figure, baseline = (percentile(singly[each], share) * 1e3 for each in (three, name))
            what = f"send, acks=all, 3 replicas{kind}, {label}"
            found.append(Row(what, figure, "ms", name, baseline))
    what = f"produce, batched, acks=all, 3 replicas{kind}"
    return found + [_rate(what, rates, three, name) for name in (one, plain)]


def _rate(what: str, rates: dict[str, Sample], ours: str, other: str) -> Row:
    mine, theirs = rates[ours], rates[other]
    note = f"pieces of {BATCH:,} records, one after the other" if "files" in other else ""
    return Row(
        what, mine.median, "records/s", other, theirs.median,
        note=note, sample=mine, baseline_sample=theirs,
    )  # fmt: skip


@contextlib.contextmanager
def _single(directory: str) -> Iterator[str]:
    server = ServerProcess(directory)
    server.start()
    try:
        with Admin(server.address) as admin:
            admin.create_topic(TOPIC, partitions=1)
        yield server.address
    finally:
        server.stop()


def send_singly(address: str, count: int) -> list[float]:
    """Seconds of each of ``count`` blocking sends."""
    taken = []
    with Producer(address, acks="all") as producer:
        producer.send(TOPIC, VALUE)
        for _ in range(count):
            began = time.perf_counter()
            producer.send(TOPIC, VALUE)
            taken.append(time.perf_counter() - began)
    return taken


def send_batched(address: str, count: int) -> float:
    """Records per second of one producer that submits columns."""
    columns = [VALUE] * BATCH
    with Producer(address, acks="all") as producer:
        producer.send(TOPIC, VALUE)
        began = time.perf_counter()
        for _ in range(count // BATCH):
            producer.submit_many(TOPIC, columns)
        producer.flush()
        return count // BATCH * BATCH / (time.perf_counter() - began)


def plain_singly(directory: str, count: int) -> list[float]:
    """Seconds of writing and syncing one value to three files at once."""
    return _written(directory, VALUE, count)


def plain_batched(directory: str, count: int) -> float:
    """Records per second, a batch's bytes written and synced to three files at once."""
    return count / sum(_written(directory, VALUE * BATCH, count // BATCH))


def _written(directory: str, piece: bytes, count: int) -> list[float]:
    """Seconds of each of ``count`` times of writing and syncing a piece to three files at once."""
    handles = [
        os.open(f"{directory}/floor-{number}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        for number in range(FILES)
    ]

    def one(handle: int) -> None:
        os.write(handle, piece)
        os.fdatasync(handle)

    taken = []
    with ThreadPoolExecutor(FILES) as pool:
        for _ in range(count):
            began = time.perf_counter()
            list(pool.map(one, handles))
            taken.append(time.perf_counter() - began)
    for handle in handles:
        os.close(handle)
    return taken
