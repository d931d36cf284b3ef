"""`Options`: every knob of a tree, with unit, range and reason for its default."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_storage._filesystem import FileSystem, RealFileSystem
from streambus_storage.errors import InvalidArgumentError, InvalidTypeError

if TYPE_CHECKING:
    from streambus_storage._scheduler import Scheduler

KEY_BYTES_MAX = 65_535
"""Longest key. Keys are held in memory by indexes and filters; a limit on everything."""

VALUE_BYTES_MAX = 1 << 30
"""Longest value, and longest encoded batch: record lengths are 32 bits wide, with room."""

LEVELS = 6
"""Level 0 (flushed, may overlap) and levels 1 to 5 (sorted, disjoint)."""


class FilterVerdict(enum.Enum):
    """What a compaction filter decides about one entry."""

    KEEP = "keep"
    REMOVE = "remove"


CompactionFilter = Callable[[bytes, bytes], FilterVerdict]
"""``filter(key, value)``, called in the background for the newest stored version of a key."""

KeyPartitioner = Callable[[bytes], bytes]
"""Maps a key to the prefix that names its partition. Must not fall as keys rise."""

MIB = 1 << 20


_LEAST = {
    "memtable_bytes": 1024,
    "memtables_max": 1,
    "block_bytes": 64,
    "raw_value_bytes": 64,
    "table_bytes": 1024,
    "partition_bytes": 1,
    "level0_trigger": 1,
    "level0_slow": 1,
    "level0_stop": 1,
    "level1_bytes": 1024,
    "level_multiplier": 2,
    "holes_max": 1,
    "filter_bits_per_key": 0,
    "cache_bytes": 0,
    "open_files_max": 1,
    "reserve_bytes": 0,
    "slice_seconds": 0,
    "stall_seconds_max": 0,
}
"""The least value of each option that is a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a tree behaves. Immutable; any of it may differ from one opening to the next.

    Attributes:
        memtable_bytes: Size at which the memtable is frozen and flushed, ≥ 1 KiB. Keys and
            values count, plus what Python needs for each entry.
        memtables_max: Frozen memtables that may wait for their flush before writers stall, ≥ 1.
        block_bytes: Target size of a table's block, ≥ 64. Larger blocks scan faster and make a
            cold point read dearer.
        raw_value_bytes: Values at least this long, ≥ 64, lie raw and contiguous in the table,
            outside of blocks, so that `LSMTree.locate` can name their place.
        table_bytes: Target size of a table file, ≥ 1 KiB.
        partition_bytes: A partition's entries get table files of their own, when a file would
            hold at least this many bytes of it, ≥ 1. Below it, neighbours share files.
        level0_trigger: Overlap depth of level 0 at which it is merged, ≥ 1. Depth, not
            number of files: disjoint files cost a reader nothing.
        level0_slow: Overlap depth from which on writers are held to a rate: 64 MiB/s at first,
            and less with each table more, so that compaction keeps up. See `_pressure`.
        level0_stop: Overlap depth at which writes wait.
        level1_bytes: Target size of level 1; each level below holds `level_multiplier` times
            as much.
        level_multiplier: See `level1_bytes`, ≥ 2.
        holes_max: Holes that range deletes may leave in one table before it is rewritten, ≥ 1.
        filter_bits_per_key: Size of the bloom filters, 0 (none) to 32; 10 lets about 2 % through.
        cache_bytes: Limit of the cache of decoded blocks, ≥ 0. Its contents count as stored,
            plus what Python needs for each entry.
        open_files_max: Table files open at once, ≥ 1; one that is read again is opened again.
        compression: None, ``"lz4"`` or ``"zstd"`` for blocks (never for raw values); needs the
            extra ``streambus-storage[compression]``. Tables written otherwise stay readable.
        compaction_filter: Decides which entries compaction removes. It must be deterministic.
            What it removes may come out of reads at any time, and only of reads of views
            opened later.
        key_partitioner: Output files are split where its result changes; see
            `partition_bytes`.
        compaction_bytes_per_second: Limit for reads and writes of compaction; None: no limit.
        slice_seconds: Background work holds the interpreter for about this long at a time,
            before it lets other threads run.
        reserve_bytes: Room kept back on the disk, ≥ 0, 0 for none. When the disk is full it lets
            range deletes through, and the tables under them go; see docs/storage.md.
        helper_processes: Large flushes and merges are done by helper processes, one for each of the
            two, which come when they are needed and go when they are idle: the interpreter that
            the tree lives in is then free for others. Off, or where a helper cannot work (the
            file system or the scheduler is not the real one, the key partitioner cannot be
            pickled, there is a compaction filter for a merge): worker threads do it all.
        stall_seconds_max: A stalled write fails with `WriteStallError` after so long. 0: no write
            ever waits; one that would have to, be it for its turn at a lower rate, is refused.
        automatic_compaction: Off: only `LSMTree.compact` compacts.
        file_system: The door to the disk.
        randomness: The door to randomness: salts that keep the records of one log segment from
            being taken for those of another. Seed it where runs must repeat.
        scheduler: The door to threads and clock; None: one of its own for each tree.
    """

    memtable_bytes: int = 64 * MIB
    memtables_max: int = 4
    block_bytes: int = 16 * 1024
    raw_value_bytes: int = 4096
    table_bytes: int = 64 * MIB
    partition_bytes: int = 256 * 1024
    level0_trigger: int = 4
    level0_slow: int = 16
    level0_stop: int = 32
    level1_bytes: int = 256 * MIB
    level_multiplier: int = 10
    holes_max: int = 64
    filter_bits_per_key: int = 10
    cache_bytes: int = 32 * MIB
    open_files_max: int = 512
    compression: str | None = None
    compaction_filter: CompactionFilter | None = None
    key_partitioner: KeyPartitioner | None = None
    compaction_bytes_per_second: int | None = None
    slice_seconds: float = 0.001
    reserve_bytes: int = 4 * MIB
    helper_processes: bool = True
    stall_seconds_max: float = 120.0
    automatic_compaction: bool = True
    file_system: FileSystem = field(default_factory=RealFileSystem)
    randomness: random.Random = field(default_factory=random.SystemRandom)
    scheduler: Scheduler | None = None

    def __post_init__(self) -> None:
        """Refuse values of a wrong type or out of range.

        Raises:
            InvalidTypeError: A number is none, a function cannot be called.
            InvalidArgumentError: A value is out of the range that its description gives.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            kind = (int, float) if name.endswith(("_seconds", "_seconds_max")) else int
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InvalidTypeError(f"{name} must be a number, not {value!r}")
            if not value >= least:  # so that NaN is refused, too
                raise InvalidArgumentError(f"{name} must be at least {least}, not {value!r}")
        for name in ("compaction_filter", "key_partitioner"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise InvalidTypeError(f"{name} must be a function or None, not {value!r}")
        if self.filter_bits_per_key > 32:
            raise InvalidArgumentError(
                f"filter_bits_per_key must be at most 32, not {self.filter_bits_per_key}"
            )
        if not self.level0_trigger <= self.level0_slow <= self.level0_stop:
            raise InvalidArgumentError("level0_trigger <= level0_slow <= level0_stop must hold")
        if self.compression not in (None, "lz4", "zstd"):
            raise InvalidArgumentError(
                f"compression must be None, 'lz4' or 'zstd', not {self.compression!r}"
            )
        rate: object = self.compaction_bytes_per_second
        if rate is not None and (not isinstance(rate, int) or isinstance(rate, bool)):
            raise InvalidTypeError(f"compaction_bytes_per_second must be an int, not {rate!r}")
        if rate is not None and rate < 1:
            raise InvalidArgumentError(
                f"compaction_bytes_per_second must be positive or None, not {rate}"
            )
