"""Where a run takes place: the data, the directory, the contenders and the repeats.

Keys are 16 random bytes, values 100 random bytes, both from one seed, so every engine stores
exactly the same pairs. Random keys are the hard case of an LSM tree: every flush overlaps every
other, and no run can be moved without merging. The log workload has its own shape.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.storage import contenders as engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.storage.contenders import Contender, Pair

KEY_BYTES = 16
VALUE_BYTES = 100
ENTRY_BYTES = KEY_BYTES + VALUE_BYTES
BATCH_ENTRIES = 1_000

PAIRS_AT_ONCE = 1_000_000
"""Pairs cut from one piece of random bytes; `random.Random.randbytes` ends at 256 MiB."""

MEMTABLE_BYTES = 16 << 20
CACHE_BYTES = 1 << 30

now = time.perf_counter


def random_pairs(count: int, seed: int) -> list[Pair]:
    """``count`` random pairs in random order; the same seed gives the same pairs."""
    source = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        some = min(count - len(pairs), PAIRS_AT_ONCE)
        keys = source.randbytes(some * KEY_BYTES)
        values = source.randbytes(some * VALUE_BYTES)
        pairs.extend(
            (
                keys[at * KEY_BYTES : (at + 1) * KEY_BYTES],
                values[at * VALUE_BYTES : (at + 1) * VALUE_BYTES],
            )
            for at in range(some)
        )
    return pairs


@dataclass(slots=True)
class Arena:
    """One run: its directory, its size, its contenders by name."""

    directory: Path
    entries: int
    repeats: int
    seed: int
    makers: dict[str, Callable[..., Contender]]
    memtable_bytes: int = MEMTABLE_BYTES
    cache_bytes: int = CACHE_BYTES
    pairs: list[Pair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = random_pairs(self.entries, self.seed)

    def path(self, engine: str, use: str) -> Path:
        """The directory of one engine's database for one use."""
        return self.directory / f"{engine.lower()}-{use}"

    def open(self, engine: str, use: str, **options: int) -> Contender:
        """Open (or create) the database of one engine for one use."""
        given = {"memtable_bytes": self.memtable_bytes, "cache_bytes": self.cache_bytes}
        return self.makers[engine](self.path(engine, use), **{**given, **options})

    @contextmanager
    def fresh(self, engine: str, use: str, **options: int) -> Iterator[Contender]:
        """An empty database, closed and removed afterwards."""
        engines.wipe(self.path(engine, use))
        contender = self.open(engine, use, **options)
        try:
            yield contender
        finally:
            contender.close()
            engines.wipe(self.path(engine, use))

    def load(self, engine: str, use: str, pairs: list[Pair] | None = None) -> None:
        """Build a settled database (flushed and fully compacted) from the pairs, and close it."""
        engines.wipe(self.path(engine, use))
        contender = self.open(engine, use)
        fill(contender, self.pairs if pairs is None else pairs)
        contender.settle()
        contender.close()


def fill(contender: Contender, pairs: list[Pair]) -> None:
    """Write all pairs in batches of 1,000."""
    for start in range(0, len(pairs), BATCH_ENTRIES):
        contender.put_batch(pairs[start : start + BATCH_ENTRIES])
