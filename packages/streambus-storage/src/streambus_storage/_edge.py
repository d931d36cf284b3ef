"""The first or the last entry of a range, without a view of its own.

A scan needs a view that later writes do not change, and that costs more than the search itself.
One entry does not: the memtables are asked under the write lock, where nothing changes, and
tables never change. Where the answer is not at hand (the entry in question is deleted, large, or
near a range delete), the caller scans.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streambus_storage._memtable import MemTable
    from streambus_storage._sstable_reader import Table
    from streambus_storage._view import Tables

Found = tuple[bytes, Any]
"""A key with what is stored: bytes, a place, or None for a deleted one."""


class Undecided(Exception):  # noqa: N818 - not an error: the caller scans then
    """Raised where only a scan can tell."""


def edges_of_memtables(
    memtables: Sequence[MemTable], low: bytes, high: bytes, *, last: bool
) -> list[Found]:
    """Return the first (or last) entry in [low, high) of each memtable, in their order.

    Call under the write lock.

    Raises:
        Undecided: There are range deletes.
    """
    found: list[Found] = []
    memtables[0].catch_up()  # the active one; the others will be flushed soon
    for memtable in memtables:
        if memtable.intervals:
            raise Undecided
        best: bytes | None = None
        for run in memtable.ordered().runs:
            at = bisect_left(run, high) - 1 if last else bisect_left(run, low)
            if 0 <= at < len(run) and low <= run[at] < high:
                key = run[at]
                if best is None or (key > best if last else key < best):
                    best = key
        if best is not None:
            found.append((best, memtable.entries[best][1]))
    return found


def edges_of_tables(tables: Tables, low: bytes, high: bytes, *, last: bool) -> Iterator[Found]:
    """Yield the first (or last) entry in [low, high) of each sorted sequence, newest first.

    Raises:
        Undecided: There are range deletes in a table that is asked.
        CorruptionError, StorageIOError: A table cannot be read.
    """
    for table in tables.level0:
        if table.lower < high and low < table.upper:
            yield from _edge_of_table(tables, table, low, high, last=last)
    for uppers, row in tables.levels:
        # Its first key is the table's lower bound, its last one just below the upper.
        at = bisect_right(uppers, low)
        if last:
            at = max(at, bisect_left(row, high, at, key=_lower) - 1)
        if at < len(row) and row[at].lower < high:
            yield from _edge_of_table(tables, row[at], low, high, last=last)


def _lower(table: Table) -> bytes:
    return table.lower


def _edge_of_table(
    tables: Tables, table: Table, low: bytes, high: bytes, *, last: bool
) -> Iterator[Found]:
    if table.number in tables.holes:
        raise Undecided
    found = table.edge(low, high, last=last)
    if found is not None:
        yield found


def nearest(found: list[Found], *, last: bool) -> tuple[bytes, bytes] | None:
    """Return the least (or greatest) key's entry; of equal keys the first, which is the newest.

    Raises:
        Undecided: That entry is not a value that can be handed out.
    """
    best: Found | None = None
    for entry in found:
        if best is None or (entry[0] > best[0] if last else entry[0] < best[0]):
            best = entry
    if best is not None and type(best[1]) is not bytes:
        raise Undecided
    return best
