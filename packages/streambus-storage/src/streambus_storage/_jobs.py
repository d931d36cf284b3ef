"""What the background turns into tables: a memtable, or tables that are to be merged.

The work itself, whoever does it: a worker thread of the tree, or a helper process
(`_worker_process`), which gets a job by value and reads what it needs from the files. A frozen
memtable need not be sent: its log segment holds the same writes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streambus_storage._cache import BlockCache
from streambus_storage._keys import END_OF_KEYS
from streambus_storage._memtable import MemTable, merge_runs
from streambus_storage._merge import Source, merge
from streambus_storage._names import segment_path, table_path
from streambus_storage._open_files import OpenFiles
from streambus_storage._options import LEVELS, FilterVerdict
from streambus_storage._sstable_reader import Pending, Table
from streambus_storage._table_builder import bytes_of
from streambus_storage._view import Tables, resolve
from streambus_storage._wal_format import WalRecord, check_wal_header
from streambus_storage._wal_reader import fill, scan_segment
from streambus_storage.errors import CorruptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from streambus_storage._compaction_choice import Merge
    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._memtable import Ordered
    from streambus_storage._merge import Slice
    from streambus_storage._options import CompactionFilter, Options
    from streambus_storage._table_builder import TableBuilder

SLICE_KEYS = 1024
"""Keys merged and sorted at once: well under a millisecond."""


class CompactionFilterError(StorageError):
    """The compaction filter raised, or returned no verdict. The inputs were kept."""


def fewest_runs(
    memtable: MemTable, lock: AbstractContextManager[object], tick: Callable[[int], None]
) -> Ordered:
    """Return the runs of a memtable that nobody writes to any more, merged under ``lock``."""
    while True:
        with lock:
            ordered, more = memtable.ordered(), memtable.catch_up()
        if not more:
            return ordered
        tick(0)


def write_memtable(
    memtable: MemTable, ordered: Ordered, builder: TableBuilder, tick: Callable[[int], None]
) -> None:
    """Hand a frozen memtable to a builder: the newest version of each key, deletes included.

    Raises:
        OSError: Writing failed.
    """
    entries, intervals = memtable.entries, memtable.intervals
    for keys in merge_runs(ordered, b"", END_OF_KEYS, SLICE_KEYS):
        tick(0)
        found = list(map(entries.__getitem__, keys))
        if intervals:
            alive = [entry[0] > intervals.at(key) for key, entry in zip(keys, found, strict=True)]
            found = [entry for entry, lives in zip(found, alive, strict=True) if lives]
            keys = [key for key, lives in zip(keys, alive, strict=True) if lives]
        if keys:
            builder.add(keys, [entry[1] for entry in found])


class Merging:
    """Carries out one merge.

    Attributes:
        filtered: Entries that the compaction filter removed.
    """

    def __init__(self, plan: Merge, tables: Tables, decide: CompactionFilter | None) -> None:
        self.filtered = 0
        self._plan = plan
        self._tables = tables
        self._decide = decide

    def write(self, builder: TableBuilder, tick: Callable[[int], None]) -> None:
        """Hand the merged entries to a builder.

        Raises:
            CorruptionError, StorageIOError: An input cannot be read.
            CompactionFilterError: The filter failed.
            OSError: Writing failed.
        """
        for keys, values in merge(self._inputs()):
            kept = self._keep(keys, values)
            tick(bytes_of(*kept))
            if kept[0]:
                builder.add(*kept)

    def _inputs(self) -> list[Source]:
        """Return the inputs as sources, newest first; disjoint ones of a level as one."""
        chains: list[list[TableMeta]] = []
        level_of_last = 0
        for level, table in self._plan.inputs:
            if level and level == level_of_last:
                chains[-1].append(table)
            else:
                chains.append([table])
            level_of_last = level
        tables, plan = self._tables, self._plan
        return [
            tables.source(
                [tables.by_number[table.number] for table in chain], plan.lower, plan.upper
            )
            for chain in chains
        ]

    def _keep(self, keys: list[bytes], values: list[Any]) -> Slice:
        """Apply the filter, and leave out deletes under which nothing older lies."""
        kinds = set(map(type, values))
        if Pending in kinds:
            values = [resolve(value) for value in values]
        if self._decide is not None:
            values = self._filter(self._decide, keys, values)
            kinds.add(type(None))
        if type(None) not in kinds:
            return keys, values
        below = range(self._plan.level + 1, LEVELS)
        if not self._tables.version.is_empty_between(keys[0], keys[-1] + b"\x00", below):
            return keys, values
        alive = [pair for pair in zip(keys, values, strict=True) if pair[1] is not None]
        return [pair[0] for pair in alive], [pair[1] for pair in alive]

    def _filter(self, decide: CompactionFilter, keys: list[bytes], values: list[Any]) -> list[Any]:
        """Turn what the filter removes into deletes: no older version may come to light."""
        kept: list[Any] = []
        for key, value in zip(keys, values, strict=True):
            if value is None:
                kept.append(None)
                continue
            try:
                verdict = decide(key, value)
            except Exception as exc:
                raise CompactionFilterError(
                    f"the compaction filter raised at key {key!r}: {exc!r}"
                ) from exc
            if verdict is FilterVerdict.KEEP:
                kept.append(value)
            elif verdict is FilterVerdict.REMOVE:
                kept.append(None)
                self.filtered += 1
            else:
                raise CompactionFilterError(f"the compaction filter returned {verdict!r}")
        return kept


@dataclass(frozen=True, slots=True)
class FlushJob:
    """A memtable to be written by a helper process.

    Attributes:
        directory: Of the tree.
        options: Of the tree, without what only it can use.
        segment: Number of the log segment that holds the memtable's writes.
        length: Of the segment: what lies behind it a failed append may have left.
        first_sequence: Of the memtable.
        last_sequence: Of the memtable.
    """

    directory: str
    options: Options
    segment: int
    length: int
    first_sequence: int
    last_sequence: int

    def write(self, builder: TableBuilder, tick: Callable[[int], None]) -> None:
        """Read the segment back and hand its writes to a builder.

        Raises:
            CorruptionError: The segment does not hold what it should.
            OSError: Reading or writing failed.
        """
        path = segment_path(self.directory, self.segment)
        file = self.options.file_system.open_read(path)
        try:
            data = file.read(0, self.length)
        finally:
            file.close()
        memtable = MemTable(self.segment, self.first_sequence)
        seed = check_wal_header(data, self.segment, path)
        for item in scan_segment(data, seed, self.first_sequence):
            if isinstance(item, WalRecord) and not item.is_mark:
                fill(memtable, item)
                tick(0)
        del data
        if memtable.last_sequence != self.last_sequence:
            reason = f"its last write is {memtable.last_sequence}, not {self.last_sequence}"
            raise CorruptionError(path, self.length, reason)
        ordered = fewest_runs(memtable, contextlib.nullcontext(), tick)
        write_memtable(memtable, ordered, builder, tick)

    @property
    def clean(self) -> int:
        """Range deletes up to this sequence number are carried out in the new tables."""
        return self.last_sequence


@dataclass(frozen=True, slots=True)
class MergeJob:
    """Tables to be merged by a helper process.

    Attributes:
        directory: Of the tree.
        options: Of the tree, without what only it can use.
        plan: What to merge.
        version: What it needs of the version that the plan was made for.
    """

    directory: str
    options: Options
    plan: Merge
    version: Version

    @classmethod
    def of(cls, directory: str, options: Options, plan: Merge, version: Version) -> MergeJob:
        """Make a job of a plan. A tree may have thousands of tables: only some of them are sent."""
        levels: list[list[TableMeta]] = [[] for _ in range(LEVELS)]
        for level, table in plan.inputs:
            levels[level].append(table)
        if any(table.tombstones for _, table in plan.inputs):  # a delete asks what lies below it
            for level in range(plan.level + 1, LEVELS):
                levels[level] = version.overlapping(level, plan.lower, plan.upper)
        return cls(directory, options, plan, replace(version, levels=tuple(map(tuple, levels))))

    def write(self, builder: TableBuilder, tick: Callable[[int], None]) -> None:
        """Open the inputs and hand the merged entries to a builder; raises as `Merging.write`."""
        cache, files = BlockCache(0), OpenFiles(self.options.open_files_max)
        file_system = self.options.file_system

        def make(meta: TableMeta) -> Table:
            path = table_path(self.directory, meta.number)
            return Table(file_system, path, meta, cache, deque(), files)

        Merging(self.plan, Tables(self.version, None, make), None).write(builder, tick)

    @property
    def clean(self) -> int:
        """Range deletes up to this sequence number are carried out in the new tables."""
        return self.version.sequence


Job = FlushJob | MergeJob
