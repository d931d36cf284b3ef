"""Pauses of an event loop that shares its process with a busy tree.

A task writes as fast as it can, giving way after each millisecond of work, as a broker's
connections do; meanwhile memtables fill, are flushed and compacted in the background. The tree
is opened with ``stall_seconds_max=0``: a write that would have to wait for the background is
refused at once, and the task tries again a millisecond later, so back-pressure never blocks the
loop. A stall is how late the loop comes to a timer, beyond the writer's own slice. The same loop
with the writer replaced by equal busy work, and no tree, says what the machine itself costs.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

from bench.report import Row, at_most, percentile
from bench.storage import contenders as engines
from bench.storage.arena import now
from bench.storage.log_workload import _key, partition_of
from bench.storage.points import OURS
from streambus_storage import LSMTree, Options, WriteStallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.storage.arena import Arena

SLICE_S = 0.001
TICK_S = 0.001


async def _measure(work: Callable[[], None], seconds: float) -> list[float]:
    """Run ``work`` in slices for so long; return by how many ms each timer came late."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    end = now() + seconds

    async def produce() -> None:
        while now() < end:
            stop = now() + SLICE_S
            try:
                while now() < stop:
                    work()
            except WriteStallError:
                await asyncio.sleep(TICK_S)
            await asyncio.sleep(0)

    async def tick() -> None:
        while now() < end:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            late.append(max(0.0, loop.time() - due - SLICE_S) * 1e3)

    await asyncio.gather(produce(), tick())
    return late


def stalls(arena: Arena, seconds: float) -> tuple[list[Row], dict[str, list[float]]]:
    """Rows for random small writes and for log appends; and all the pauses, for the plot."""
    source = random.Random(arena.seed)
    series: dict[str, list[float]] = {}

    def idle() -> None:
        source.randbytes(2_000)

    written: dict[str, float] = {}
    series["no tree, busy loop"] = asyncio.run(_measure(idle, seconds))
    for name, options, make in (
        (
            "100-byte values, random keys",
            Options(memtable_bytes=8 << 20, stall_seconds_max=0),
            _random_writer,
        ),
        (
            "64 KiB log appends, 100 prefixes",
            Options(key_partitioner=partition_of, stall_seconds_max=0),
            _log_writer,
        ),
    ):
        path = arena.path(OURS, "stalls")
        engines.wipe(path)
        tree = LSMTree.open(str(path), options)
        try:
            series[name] = asyncio.run(_measure(make(tree, source), seconds))
            stats = tree.stats()
        finally:
            tree.close()
            engines.wipe(path)
        written[name] = stats.user_bytes / seconds / 1e6
        print(
            f"{name}: {stats.flushes} flushes, {stats.merges} merges, {stats.moves} moves, "
            f"{stats.stalls + stats.slowdowns} refused writes",
            file=sys.stderr,
        )
    rows: list[Row] = []
    plain = series["no tree, busy loop"]
    for name, late in list(series.items())[1:]:
        for what, share, target in (
            ("p50", 0.5, None),
            ("p99.9", 0.999, at_most(2)),
            ("max", 1.0, at_most(10)),
        ):
            rows.append(
                Row(
                    f"loop stall {what}, {name}",
                    percentile(late, share),
                    "ms",
                    "no tree",
                    percentile(plain, share),
                    target,
                    f"{len(late):,} ticks in {seconds:g} s of writing {written[name]:.0f} MB/s",
                )
            )
    return rows, series


def _random_writer(tree: LSMTree, source: random.Random) -> Callable[[], None]:
    value = source.randbytes(100)

    def work() -> None:
        for _ in range(20):
            tree.put(source.randbytes(16), value)

    return work


def _log_writer(tree: LSMTree, source: random.Random) -> Callable[[], None]:
    value = source.randbytes(64 << 10)
    offsets = [0] * 100
    count = 0

    def work() -> None:
        nonlocal count
        partition = count % 100
        sequence = tree.put(_key(partition, offsets[partition]), value)
        offsets[partition] += 1
        count += 1
        if count % 16 == 0:
            tree.on_durable(sequence, _ignore)

    return work


def _ignore(error: object) -> None:
    """The durability callback of a measurement that only watches the loop."""
