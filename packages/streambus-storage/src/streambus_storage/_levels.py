"""`Version`: which tables make up the tree, immutable and pure.

Rules:

- Level 0 is ordered newest first, and its tables may overlap. Every deeper level is ordered by
  key, and its tables are disjoint. Where two tables hold the same key, the one in the lower
  numbered level is newer.
- A table holds one version of a key at most. Older versions live only in memtables and tables
  that a snapshot still holds on to.
- ``holes`` are the range deletes. One with sequence s hides everything under it in the tables
  whose ``clean`` is less than s: those that were made before the delete.
- No table lies wholly in its holes unless it is being compacted: such a table is dropped, unread.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streambus_storage._intervals import Intervals, Range, covers
from streambus_storage._options import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class TableMeta:
    """What the manifest knows about a table.

    Attributes:
        number: Names its file; greater for younger files.
        size: Of the file, in bytes.
        entries: Number of entries, deletes included.
        tombstones: Deletes among them.
        lower: Its first key.
        upper: The end of its range, exclusive.
        clean: Range deletes up to this sequence number are already carried out in it.
    """

    number: int
    size: int
    entries: int
    tombstones: int
    lower: bytes
    upper: bytes
    clean: int

    def overlaps(self, start: bytes, stop: bytes) -> bool:
        """Tell whether the table's range shares a key with [start, stop)."""
        return self.lower < stop and start < self.upper


@dataclass(slots=True)
class VersionEdit:
    """The difference between a version and the next.

    Attributes:
        added: (level, table) to add.
        removed: Numbers of tables to remove. A number both removed and added is moved.
        deleted: Ranges deleted, at `sequence`.
        sequence: Everything up to this sequence number is in tables, or None: as before.
    """

    added: list[tuple[int, TableMeta]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    deleted: list[Range] = field(default_factory=list)
    sequence: int | None = None


class VersionError(Exception):
    """An edit that does not fit its version: the manifest is damaged, or our code is."""


@dataclass(frozen=True, slots=True)
class Version:
    """See the module's rules.

    Attributes:
        levels: The tables of each level, in the order that the rules give.
        holes: Range deletes that still hide something.
        sequence: Everything up to this sequence number is in the tables.
    """

    levels: tuple[tuple[TableMeta, ...], ...] = ((),) * LEVELS
    holes: Intervals = field(default_factory=Intervals)
    sequence: int = 0

    def tables(self) -> Iterator[tuple[int, TableMeta]]:
        """Yield (level, table) for all tables, newest level first."""
        for level, tables in enumerate(self.levels):
            for table in tables:
                yield level, table

    def level_bytes(self, level: int) -> int:
        """Return the size of all files of a level."""
        return sum(table.size for table in self.levels[level])

    def overlapping(self, level: int, start: bytes, stop: bytes) -> list[TableMeta]:
        """Return the tables of a level that share a key with [start, stop), in its order."""
        tables = self.levels[level]
        if level == 0:
            return [table for table in tables if table.overlaps(start, stop)]
        first = bisect_right(tables, start, key=lambda table: table.upper)
        last = bisect_left(tables, stop, key=lambda table: table.lower)
        return list(tables[first:last])

    def is_empty_between(self, start: bytes, stop: bytes, levels: Iterable[int]) -> bool:
        """Tell whether no table of these levels shares a key with [start, stop)."""
        return not any(self.overlapping(level, start, stop) for level in levels)

    def holes_in(self, table: TableMeta) -> list[Range]:
        """Return the ranges of a table that range deletes hide."""
        if not self.holes:
            return []
        return self.holes.above(table.clean, table.lower, table.upper)

    def covered(self) -> list[TableMeta]:
        """Return the tables that lie wholly under range deletes."""
        if not self.holes:
            return []
        found: list[TableMeta] = []
        for start, stop, _ in self.holes:
            for level in range(LEVELS):
                found.extend(
                    table
                    for table in self.overlapping(level, start, stop)
                    if covers(self.holes_in(table), table.lower, table.upper)
                )
        return list(dict.fromkeys(found))

    def apply(self, edit: VersionEdit) -> Version:
        """Return the next version.

        Raises:
            VersionError: The edit removes what is not there, or adds an overlap below level 0.
        """
        levels = list(self.levels)
        gone = set(edit.removed)
        missing = gone - {table.number for _, table in self.tables()} if gone else set()
        if missing:
            raise VersionError(f"tables {sorted(missing)} are not there to be removed")
        if gone:
            levels = [tuple(t for t in tables if t.number not in gone) for tables in levels]
        for level in range(LEVELS):
            added = [table for where, table in edit.added if where == level]
            if not added:
                continue
            if level == 0:
                joined = sorted((*levels[0], *added), key=lambda table: table.number, reverse=True)
            else:
                joined = sorted((*levels[level], *added), key=lambda table: table.lower)
                for left, right in itertools.pairwise(joined):
                    if right.lower < left.upper:
                        raise VersionError(
                            f"tables {left.number} and {right.number} overlap in level {level}"
                        )
            levels[level] = tuple(joined)
        sequence = self.sequence if edit.sequence is None else edit.sequence
        if sequence < self.sequence:
            raise VersionError(f"the flush mark would go back to {sequence}")
        holes = self.holes.overlay(edit.deleted, sequence)
        changed = Version(tuple(levels), holes, sequence)
        return replace(changed, holes=changed.needed_holes()) if holes else changed

    def needed_holes(self) -> Intervals:
        """Return the range deletes under which older tables still lie."""
        return Intervals(
            row
            for row in self.holes
            if any(
                table.clean < row[2]
                for level in range(LEVELS)
                for table in self.overlapping(level, row[0], row[1])
            )
        )
