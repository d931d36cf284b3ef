"""The log workload: keys (partition, offset), appended, synced by group commit, retired in front.

The baseline writes the same bytes to one file and calls ``fdatasync`` as often: the least that
any durable log must do. All sync after every megabyte, as a broker under load does when many
producers wait for one group commit. A second baseline does what any engine with a log and tables
must do: beside the log, a thread writes the same bytes once more, 64 MiB and a sync at a time.
"""

from __future__ import annotations

import os
import random
import threading
from functools import partial
from typing import TYPE_CHECKING

from bench.report import Row, interleave, ratio_at_least
from bench.storage import contenders as engines
from bench.storage.arena import now
from bench.storage.points import OURS, bytes_written
from streambus_storage import LSMTree, Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.storage.arena import Arena

GROUP_BYTES = 1 << 20
COPY_BYTES = 64 << 20
"""What the tree flushes at once, too."""

TWICE = "the same bytes twice"

KEPT_SHARE = 0.5
"""Retention keeps this share of what was written; the rest is range-deleted meanwhile."""


def partition_of(key: bytes) -> bytes:
    """The key partitioner: the partition's number."""
    return key[:4]


def _key(partition: int, offset: int) -> bytes:
    return partition.to_bytes(4, "big") + offset.to_bytes(8, "big")


def _append_to_tree(
    arena: Arena, values: list[bytes], count: int, prefixes: int, found: dict[str, float]
) -> float:
    """MB/s through the tree; leaves write amplification and what was left in ``found``."""
    path = arena.path(OURS, "log")
    engines.wipe(path)
    size = len(values[0])
    before = bytes_written()
    tree = LSMTree.open(str(path), Options(key_partitioner=partition_of))
    try:
        offsets = [0] * prefixes
        low = [0] * prefixes
        group = max(1, GROUP_BYTES // size)
        keep = max(1, int(count * KEPT_SHARE) // prefixes)
        put = tree.put
        start = now()
        for number in range(count):
            partition = number % prefixes
            offset = offsets[partition]
            put(_key(partition, offset), values[number % len(values)])
            offsets[partition] = offset + 1
            if number % group == group - 1:
                tree.sync()
            # Retention, as a broker runs it: now and then, a partition at a time.
            if offset - low[partition] >= keep + max(16, keep // 8):
                tree.delete_range(_key(partition, 0), _key(partition, offset - keep))
                low[partition] = offset - keep
        tree.sync()
        taken = now() - start
    finally:
        tree.close()
    found["amplification"] = (bytes_written() - before) / (count * (size + 12))
    found["kept"] = engines.bytes_on_disk(path) / (count * (size + 12))
    engines.wipe(path)
    return count * size / taken / 1e6


def _append_to_file(
    arena: Arena,
    values: list[bytes],
    count: int,
    appended: Callable[[int], object] = int,
) -> float:
    """MB/s of plain write and fdatasync; ``appended`` is told the number of each value."""
    path = arena.directory / "plain.log"
    size = len(values[0])
    group = max(1, GROUP_BYTES // size)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        start = now()
        for number in range(count):
            os.write(descriptor, values[number % len(values)])
            if number % group == group - 1:
                os.fdatasync(descriptor)
            appended(number)
        os.fdatasync(descriptor)
        taken = now() - start
    finally:
        os.close(descriptor)
        path.unlink()
    return count * size / taken / 1e6


def _append_twice(arena: Arena, values: list[bytes], count: int) -> float:
    """MB/s of plain write and fdatasync, while a thread writes all of it once more."""
    path = arena.directory / "second.log"
    size = len(values[0])
    at_once = COPY_BYTES // size
    ready = threading.Semaphore(0)
    parts = count // at_once

    def copy() -> None:
        for part in range(parts):
            ready.acquire()
            copied = path.with_suffix(f".{part}")
            descriptor = os.open(copied, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number in range(at_once):
                os.write(descriptor, values[number % len(values)])
            os.fdatasync(descriptor)
            os.close(descriptor)

    def full(number: int) -> None:
        if number % at_once == at_once - 1:
            ready.release()

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        return _append_to_file(arena, values, count, full)
    finally:
        thread.join()
        for part in range(parts):
            path.with_suffix(f".{part}").unlink()


def log_rows(arena: Arena, total_bytes: int) -> list[Row]:
    """Throughput and write amplification for 64 KiB and 1 KiB values under 1, 100, 10⁴ prefixes."""
    made: list[Row] = []
    source = random.Random(arena.seed)
    for size, share in ((64 << 10, 1.0), (1 << 10, 0.25)):
        count = int(total_bytes * share) // size
        values = [source.randbytes(size) for _ in range(min(count, 256))]
        for prefixes in (1, 100, 10_000):
            found: dict[str, float] = {}
            samples = interleave(
                {
                    OURS: partial(_append_to_tree, arena, values, count, prefixes, found),
                    "write + fdatasync": partial(_append_to_file, arena, values, count),
                    TWICE: partial(_append_twice, arena, values, count),
                },
                repeats=arena.repeats,
            )
            mine, plain = samples[OURS], samples["write + fdatasync"]
            what = f"log of {size >> 10} KiB values, {prefixes:,} prefixes"
            note = f"{count:,} appends, a sync each MiB, retention keeps {KEPT_SHARE:.0%}"
            target = ratio_at_least(0.6) if size == 64 << 10 else None
            made.append(
                Row(
                    what,
                    mine.median,
                    "MB/s",
                    "write + fdatasync",
                    plain.median,
                    target,
                    note,
                    mine,
                    plain,
                )
            )
            twice = samples[TWICE]
            made.append(
                Row(what, mine.median, "MB/s", TWICE, twice.median, None, note, mine, twice)
            )
            made.append(amplification_row(what, found, target is not None))
    return made


def amplification_row(what: str, found: dict[str, float], bounded: bool) -> Row:
    """Bytes handed to write calls for each byte of key and value; flush and moves included."""
    from bench.report import at_most

    note = f"on disk at the end: {found['kept']:.2f} of what was written"
    target = at_most(2.1) if bounded else None
    return Row(
        f"write amplification, {what}", found["amplification"], "×", target=target, note=note
    )
