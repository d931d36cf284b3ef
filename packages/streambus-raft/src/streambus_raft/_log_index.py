"""The log as it is held in memory: the newest entries whole, of the older ones term and place.

Pure bookkeeping without I/O, shared by the storages. Invariants:

- ``start_index`` stands before the first entry; everything up to it is compacted.
- ``_cache`` holds the entries from ``cached_from`` to ``last_index``, without a gap.
- ``_runs`` gives the term of any entry; ``_places`` the record that holds an older one. Where a
  later record overwrote the end of an earlier one, the later place cuts the earlier short.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from streambus_raft._entry import Entry, entries_bytes, limit_bytes
from streambus_raft.errors import CompactedError, UnavailableError

if TYPE_CHECKING:
    from streambus_raft._types import Index, Term

_SLICE_ENTRIES = 4096
"""How many cached entries are looked at at a time for a byte limit."""
_first = itemgetter(0)
_segment_and_position = itemgetter(1, 2)


class Place(NamedTuple):
    """Where a record with entries lies."""

    first: Index
    segment: int
    position: int
    framed_bytes: int


class LogIndex:
    """The entries behind ``(start_index, start_term)``."""

    def __init__(self, start_index: Index, start_term: Term) -> None:
        self.start_index = start_index
        self.start_term = start_term
        self.last_index = start_index
        self.cached_from = start_index + 1
        self.cached_bytes = 0
        self._cache: list[Entry] = []
        self._runs: list[tuple[Index, Term]] = []
        self._places: list[Place] = []

    @property
    def last_term(self) -> Term:
        """The term of the last entry, or what stands before the first."""
        return self._runs[-1][1] if self._runs else self.start_term

    @property
    def first_segment(self) -> int | None:
        """The oldest segment that is still needed for an entry, or None."""
        return self._places[0].segment if self._places else None

    def term(self, index: Index) -> Term:
        """The term of the entry at ``index``; raises as :meth:`LogReader.term` does."""
        if index == self.start_index:
            return self.start_term
        if index < self.start_index:
            raise CompactedError(index, self.start_index + 1)
        if index > self.last_index:
            raise UnavailableError(index, self.last_index)
        if index >= self._runs[-1][0]:
            return self._runs[-1][1]
        return self._runs[bisect_right(self._runs, index, key=_first) - 1][1]

    def append(self, entries: list[Entry], place: Place | None) -> None:
        """Take consecutive entries, dropping whatever is held from the first one's index on.

        Raises:
            UnavailableError: a gap would be left.
            CompactedError: the first one is compacted already.
        """
        first = entries[0].index
        if first <= self.start_index:
            raise CompactedError(first, self.start_index + 1)
        if first > self.last_index + 1:
            raise UnavailableError(first, self.last_index)
        if first <= self.last_index:
            self._truncate(first)
        self._cache += entries
        self.cached_bytes += entries_bytes(entries)
        self.last_index = first + len(entries) - 1
        if place is not None:
            self._places.append(place)
        term = entries[0].term
        if not self._runs or self._runs[-1][1] != term:
            self._runs.append((first, term))
        if entries[-1].term != term:
            for entry in entries:
                if entry.term != term:
                    term = entry.term
                    self._runs.append((entry.index, term))

    def skip(self, last_index: Index, last_term: Term) -> None:
        """Take entries up to ``last_index`` for given, because their segments were dropped.

        They must be compacted before anybody asks for them.
        """
        self._runs.append((self.start_index + 1, last_term))
        self.last_index = last_index
        self.cached_from = last_index + 1

    def _truncate(self, first: Index) -> None:
        """Drop every entry from ``first`` on."""
        if first >= self.cached_from:
            keep = first - self.cached_from
            self.cached_bytes -= entries_bytes(self._cache[keep:])
            del self._cache[keep:]
        else:
            self._cache.clear()
            self.cached_bytes = 0
            self.cached_from = first
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        while self._places and self._places[-1].first >= first:
            self._places.pop()
        self.last_index = first - 1

    def cached(self, start: Index, stop: Index, bytes_max: int) -> list[Entry] | Place:
        """Return entries from ``start``, or the place of the record that must be read for them.

        Raises as :meth:`LogReader.entries` does.
        """
        if start <= self.start_index:
            raise CompactedError(start, self.start_index + 1)
        if stop - 1 > self.last_index or start >= stop:
            raise UnavailableError(max(start, stop - 1), self.last_index)
        if start < self.cached_from:
            return self._places[bisect_right(self._places, start, key=_first) - 1]
        low, high = start - self.cached_from, stop - self.cached_from
        found: list[Entry] = []
        while low < high:
            part = self._cache[low : min(high, low + _SLICE_ENTRIES)]
            room = bytes_max if not found else bytes_max - entries_bytes(found)
            if found and entries_bytes(part[:1]) > room:
                break
            fitting = limit_bytes(part, room)
            found = found + fitting if found else fitting
            if len(fitting) < len(part):
                break
            low += len(part)
        return found

    def valid_until(self, place: Place) -> Index:
        """The last index for which ``place`` is right: the next record took over behind it."""
        at = bisect_right(self._places, place.first, key=_first)
        return self._places[at].first - 1 if at < len(self._places) else self.last_index

    def compact(self, index: Index) -> None:
        """Drop everything up to ``index``, from ``start_index`` to ``last_index``."""
        self.start_term = self.term(index)
        self.start_index = index
        if index >= self.cached_from:
            self._drop_cached(index)
        runs = bisect_right(self._runs, index + 1, key=_first) - 1
        del self._runs[: max(0, runs)]
        if index == self.last_index:
            self._runs.clear()
        places = bisect_right(self._places, index + 1, key=_first) - 1
        del self._places[: max(0, places)]
        if index == self.last_index:
            self._places.clear()

    def evict(self, bytes_max: int, flushed: tuple[int, int]) -> None:
        """Forget the content of older entries if the cache is too large.

        Args:
            bytes_max: What the cache may hold, as ``entries_bytes`` reckons.
            flushed: Segment and position up to which records are in their files; only what can be
                read from there is forgotten.

        Cost: linear in the cache, but it drops up to half of it, so amortized constant.
        """
        if self.cached_bytes <= bytes_max:
            return
        safe = bisect_left(self._places, flushed, key=_segment_and_position)
        if safe:
            middle = self.cached_from + len(self._cache) // 2
            self._drop_cached(min(middle, self.valid_until(self._places[safe - 1])))

    def _drop_cached(self, index: Index) -> None:
        count = index + 1 - self.cached_from
        if count > 0:
            self.cached_bytes -= entries_bytes(self._cache[:count])
            del self._cache[:count]
            self.cached_from = index + 1
