"""How long it takes to open: after a crash with a long write-ahead log, and with much data."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
from functools import partial
from typing import TYPE_CHECKING

from bench.report import Row, Sample, interleave
from bench.storage import contenders as engines
from bench.storage.arena import BATCH_ENTRIES, ENTRY_BYTES, Arena, now, random_pairs
from bench.storage.points import WRITERS, rows

if TYPE_CHECKING:
    from bench.storage.contenders import Pair

WAL_BYTES = 64 << 20
ROOMY_BYTES = 256 << 20  # a memtable that the whole log fits into, so that nothing is flushed
LARGE_VALUE_BYTES = 1_000


def _write_and_die(arena: Arena, name: str, pairs: list[Pair]) -> None:
    """In a child process: write without flushing, and end as SIGKILL would end it."""
    contender = arena.open(name, "crash", memtable_bytes=ROOMY_BYTES)
    for start in range(0, len(pairs), BATCH_ENTRIES):
        contender.put_batch(pairs[start : start + BATCH_ENTRIES])
    os._exit(0)


def after_crash(arena: Arena) -> list[Row]:
    """Open a database whose process died with 64 MiB in its write-ahead log, and get one key."""
    pairs = random_pairs(WAL_BYTES // ENTRY_BYTES, arena.seed + 2)
    names = [name for name in WRITERS if name in arena.makers]
    fork = multiprocessing.get_context("fork")
    for name in names:
        engines.wipe(arena.path(name, "crash"))
        child = fork.Process(target=_write_and_die, args=(arena, name, pairs))
        child.start()
        child.join()
        assert child.exitcode == 0, (name, child.exitcode)

    def measure(name: str) -> float:
        scratch = arena.path(name, "reopen")
        engines.wipe(scratch)
        shutil.copytree(arena.path(name, "crash"), scratch)
        start = now()
        contender = arena.open(name, "reopen", memtable_bytes=ROOMY_BYTES)
        found = contender.get(pairs[-1][0])
        taken = now() - start
        assert found == pairs[-1][1], name
        contender.close()
        engines.wipe(scratch)
        return taken * 1e3

    samples = interleave({n: partial(measure, n) for n in names}, repeats=arena.repeats)
    for name in names:
        engines.wipe(arena.path(name, "crash"))
    return rows("open after a crash, 64 MiB of WAL", samples, "ms", {}, f"{len(pairs):,} entries")


def with_much_data(arena: Arena, gib: float) -> list[Row]:
    """Open a large closed database with a cold page cache, and get one key.

    Ascending keys and 1,000-byte values, so that loading takes minutes and not hours; what is
    measured, opening, depends on the count of files and entries and not on their order.
    """
    count = int(gib * 2**30 / (8 + LARGE_VALUE_BYTES))
    names = [name for name in WRITERS if name in arena.makers]
    source = random.Random(arena.seed)
    value = source.randbytes(LARGE_VALUE_BYTES)

    def load(name: str) -> None:
        engines.wipe(arena.path(name, "large"))
        contender = arena.open(name, "large", memtable_bytes=64 << 20)
        for start in range(0, count, BATCH_ENTRIES):
            stop = min(count, start + BATCH_ENTRIES)
            contender.put_batch([(at.to_bytes(8, "big"), value) for at in range(start, stop)])
        contender.close()

    def measure(name: str) -> float:
        engines.drop_page_cache(arena.path(name, "large"))
        key = source.randrange(count).to_bytes(8, "big")
        start = now()
        contender = arena.open(name, "large", memtable_bytes=64 << 20)
        found = contender.get(key)
        taken = now() - start
        assert found == value, name
        contender.close()
        return taken * 1e3

    samples: dict[str, Sample] = {}
    for name in names:  # one at a time: three copies of 10 GB need not fit on the disk together
        load(name)
        samples[name] = Sample(tuple(measure(name) for _ in range(arena.repeats)))
        engines.wipe(arena.path(name, "large"))
    note = f"{count:,} entries of {LARGE_VALUE_BYTES:,} bytes, cold, and one get"
    return rows(f"open with {gib:g} GiB", samples, "ms", {}, note)
