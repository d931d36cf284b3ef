"""What a reader sees: memtables and tables at one moment.

`TreeState` is the present: one immutable object, replaced whole under the tree's write lock, so
that a reader takes it by one attribute load. `View` is one moment: the state, the sequence
number, and the range deletes of then. Whoever holds either keeps its tables' files alive.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from streambus_storage._intervals import Range, flatten, inside, union, visible
from streambus_storage._merge import Slice, Source
from streambus_storage._options import LEVELS
from streambus_storage._sstable_reader import MISSING, Missing, Pending, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._block import StoredValue
    from streambus_storage._intervals import Intervals
    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._memtable import MemTable, Ordered


class Level(NamedTuple):
    """The tables of a level below 0, ordered by key, with their upper bounds for bisection."""

    uppers: list[bytes]
    tables: list[Table]


class Tables:
    """A version with its open tables. Immutable.

    Attributes:
        version: What it shows.
        level0: Tables of level 0, newest first.
        levels: The non-empty levels below it, newest first.
        holes: For each table number that has any: its ranges under range deletes.
        by_number: All tables.
    """

    __slots__ = ("by_number", "holes", "level0", "levels", "version")

    def __init__(
        self, version: Version, before: Tables | None, make: Callable[[TableMeta], Table]
    ) -> None:
        old = before.by_number if before is not None else {}
        self.version = version
        self.by_number: dict[int, Table] = {}
        for _, meta in version.tables():
            self.by_number[meta.number] = old.get(meta.number) or make(meta)
        rows = [[self.by_number[meta.number] for meta in tables] for tables in version.levels]
        self.level0 = rows[0]
        self.levels = [
            Level([table.upper for table in rows[level]], rows[level])
            for level in range(1, LEVELS)
            if rows[level]
        ]
        self.holes: dict[int, list[Range]] = {}
        for start, stop, _ in version.holes:
            for level in range(LEVELS):
                for meta in version.overlapping(level, start, stop):
                    if meta.number not in self.holes:
                        holes = version.holes_in(meta)
                        if holes:
                            self.holes[meta.number] = holes

    def find(self, key: bytes) -> tuple[Table | None, StoredValue]:
        """Return (table, what it holds) of the newest table that knows ``key``; (None, None)."""
        holes = self.holes
        for table in self.level0:
            if table.lower <= key < table.upper:
                found = self._look(table, key) if holes else table.get(key)
                if found is not MISSING:
                    return table, found  # type: ignore[return-value]  # MISSING is one of a kind
        for uppers, tables in self.levels:
            at = bisect_right(uppers, key)
            if at < len(tables):
                table = tables[at]
                if table.lower <= key:
                    found = self._look(table, key) if holes else table.get(key)
                    if found is not MISSING:
                        return table, found  # type: ignore[return-value]  # as above
        return None, None

    def _look(self, table: Table, key: bytes) -> StoredValue | Missing:
        holes = self.holes.get(table.number)
        if holes is not None and inside(holes, key):
            return MISSING
        return table.get(key)

    def sources(
        self, start: bytes, stop: bytes, deleted: list[Range], *, reverse: bool, keep: bool = True
    ) -> Iterator[Source]:
        """Yield the tables as sources of [start, stop) without ``deleted``, newest first."""
        for table in self.level0:
            if table.lower < stop and start < table.upper:
                yield self._source([table], start, stop, deleted, reverse=reverse, keep=keep)
        for uppers, tables in self.levels:
            first = bisect_right(uppers, start)
            last = first
            while last < len(tables) and tables[last].lower < stop:
                last += 1
            if first < last:
                chain = tables[first:last]
                yield self._source(chain, start, stop, deleted, reverse=reverse, keep=keep)

    def _source(
        self,
        chain: list[Table],
        start: bytes,
        stop: bytes,
        deleted: list[Range],
        *,
        reverse: bool,
        keep: bool,
    ) -> Source:
        low, high = max(start, chain[0].lower), min(stop, chain[-1].upper)
        return Source(
            low, high, lambda: self._chain(chain, low, high, deleted, reverse=reverse, keep=keep)
        )

    def source(self, chain: list[Table], start: bytes, stop: bytes) -> Source:
        """Return disjoint tables as one source, for compaction: it leaves the cache alone."""
        return self._source(chain, start, stop, [], reverse=False, keep=False)

    def _chain(
        self,
        chain: list[Table],
        start: bytes,
        stop: bytes,
        deleted: list[Range],
        *,
        reverse: bool,
        keep: bool,
    ) -> Iterator[Slice]:
        """Yield the slices of disjoint tables, one after the other, around the holes."""
        for table in reversed(chain) if reverse else chain:
            holes = union(self.holes.get(table.number, []), deleted)
            ranges = visible(max(start, table.lower), min(stop, table.upper), holes)
            for low, high in reversed(ranges) if reverse else ranges:
                yield from table.slices(low, high, reverse=reverse, keep=keep)


class TreeState:
    """The present of a tree. Immutable.

    Attributes:
        active: The memtable that is written to.
        frozen: Memtables that wait for their flush, newest first.
        memtables: All of them, newest first.
        tables: The rest.
    """

    __slots__ = ("active", "frozen", "memtables", "tables")

    def __init__(self, active: MemTable, frozen: tuple[MemTable, ...], tables: Tables) -> None:
        self.active = active
        self.frozen = frozen
        self.memtables = (active, *frozen)
        self.tables = tables


class MemView(NamedTuple):
    """A memtable at one moment: it, and the range deletes in it of then."""

    memtable: MemTable
    intervals: Intervals
    ordered: Ordered | None


class View:
    """One moment of a tree; see the module. Reading it needs no lock.

    Attributes:
        sequence: What was written later is not seen.
    """

    __slots__ = ("memtables", "sequence", "tables")

    def __init__(self, state: TreeState, sequence: int, *, ordered: bool) -> None:
        """Capture ``state``. Call under the tree's write lock; ``ordered``: it will be scanned."""
        self.sequence = sequence
        self.tables = state.tables
        state.active.catch_up()  # the others will be flushed soon
        self.memtables = [
            MemView(memtable, memtable.intervals, memtable.ordered() if ordered else None)
            for memtable in state.memtables
            if memtable.entries or memtable.intervals
        ]

    def find(self, key: bytes) -> tuple[Table | None, StoredValue]:
        """Return (table, stored value); the table is None for what is in a memtable or nowhere."""
        for memtable, intervals, _ in self.memtables:
            known, value = memtable.at(key, self.sequence, intervals)
            if known:
                return None, value
        return self.tables.find(key)

    def sources(
        self, start: bytes, stop: bytes, *, reverse: bool, keep: bool = True
    ) -> list[Source]:
        """Return everything that may hold keys of [start, stop), newest first."""
        found: list[Source] = []
        deleted: list[Range] = []
        for view in self.memtables:
            for low, high in visible(start, stop, deleted):
                found.append(self._memtable_source(view, low, high, reverse=reverse))
            if view.intervals:
                deleted = union(deleted, flatten(view.intervals))
        found.extend(self.tables.sources(start, stop, deleted, reverse=reverse, keep=keep))
        return found

    def _memtable_source(
        self, view: MemView, start: bytes, stop: bytes, *, reverse: bool
    ) -> Source:
        ordered = view.ordered
        assert ordered is not None, "the view was not made for scanning"
        return Source(
            start,
            stop,
            lambda: view.memtable.slices(
                ordered, self.sequence, view.intervals, start, stop, reverse=reverse
            ),
        )


def resolve(value: Any) -> Any:
    """Return a value of a slice, read from its table if that is still pending."""
    return value.read() if type(value) is Pending else value
