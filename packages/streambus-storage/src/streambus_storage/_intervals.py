"""Which key ranges were deleted, and when: an immutable map from disjoint ranges to sequences.

Rules:

- Ranges are half-open, sorted and disjoint. Each carries the sequence number of the newest
  range delete over it; what is older than that sequence number, and under it, is gone.
- Immutable: `add` returns a new map, so a reader that holds one sees the deletes of its time
  and no later ones.

Cost: `at` is O(log n), `add` O(n) (a few list copies).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Range = tuple[bytes, bytes]


class Intervals:
    """See the module's rules. Falsy when empty."""

    __slots__ = ("sequences", "starts", "stops")

    def __init__(self, items: Iterable[tuple[bytes, bytes, int]] = ()) -> None:
        """Take ``(start, stop, sequence)``, sorted and disjoint."""
        rows = list(items)
        self.starts = [row[0] for row in rows]
        self.stops = [row[1] for row in rows]
        self.sequences = [row[2] for row in rows]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[bytes, bytes, int]]:
        return zip(self.starts, self.stops, self.sequences, strict=True)

    def at(self, key: bytes) -> int:
        """Return the sequence of the newest delete over ``key``, or -1."""
        index = bisect_right(self.starts, key) - 1
        if index >= 0 and key < self.stops[index]:
            return self.sequences[index]
        return -1

    def _touched(self, start: bytes, stop: bytes) -> tuple[int, int]:
        """Return the index range of the intervals that share a key with [start, stop)."""
        return bisect_right(self.stops, start), bisect_left(self.starts, stop)

    def add(self, start: bytes, stop: bytes, sequence: int) -> Intervals:
        """Return the map with [start, stop) deleted at ``sequence``, newer than all in it."""
        if start >= stop:
            return self
        first, last = self._touched(start, stop)
        middle: list[tuple[bytes, bytes, int]] = [(start, stop, sequence)]
        if first < last:
            if self.starts[first] < start:
                middle.insert(0, (self.starts[first], start, self.sequences[first]))
            if stop < self.stops[last - 1]:
                middle.append((stop, self.stops[last - 1], self.sequences[last - 1]))
        changed = Intervals()
        changed.starts = [*self.starts[:first], *(row[0] for row in middle), *self.starts[last:]]
        changed.stops = [*self.stops[:first], *(row[1] for row in middle), *self.stops[last:]]
        changed.sequences = [
            *self.sequences[:first],
            *(row[2] for row in middle),
            *self.sequences[last:],
        ]
        return changed

    def overlay(self, ranges: list[Range], sequence: int) -> Intervals:
        """Return the map with all ``ranges`` (sorted, disjoint) deleted at ``sequence``."""
        if not ranges:
            return self
        stops = [stop for _, stop in ranges]
        rows = [(start, stop, sequence) for start, stop in ranges]
        for start, stop, older in self:
            first = bisect_right(stops, start)
            last = bisect_left(ranges, (stop, b""), first)
            left = visible(start, stop, ranges[first:last])
            rows.extend((low, high, older) for low, high in left)
        return Intervals(sorted(rows))

    def above(self, sequence: int, start: bytes, stop: bytes) -> list[Range]:
        """Return what of [start, stop) was deleted after ``sequence``, neighbours joined."""
        first, last = self._touched(start, stop)
        found: list[Range] = []
        for index in range(first, last):
            if self.sequences[index] <= sequence:
                continue
            low, high = max(self.starts[index], start), min(self.stops[index], stop)
            if found and found[-1][1] == low:
                found[-1] = (found[-1][0], high)
            else:
                found.append((low, high))
        return found


def flatten(intervals: Intervals) -> list[Range]:
    """Return the ranges without their sequence numbers, neighbours joined."""
    joined: list[Range] = []
    for start, stop, _ in intervals:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def union(left: list[Range], right: list[Range]) -> list[Range]:
    """Return the union of two sorted disjoint lists of ranges, sorted and disjoint."""
    if not left or not right:
        return left or right
    joined: list[Range] = []
    for start, stop in sorted(left + right):
        if joined and start <= joined[-1][1]:
            if stop > joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def visible(start: bytes, stop: bytes, holes: list[Range]) -> list[Range]:
    """Return what is left of [start, stop) without the (sorted, disjoint) holes."""
    if not holes:
        return [(start, stop)] if start < stop else []
    left: list[Range] = []
    for low, high in holes:
        if high <= start:
            continue
        if low >= stop:
            break
        if start < low:
            left.append((start, low))
        start = high
    if start < stop:
        left.append((start, stop))
    return left


def covers(holes: list[Range], start: bytes, stop: bytes) -> bool:
    """Tell whether [start, stop) lies in one of the (sorted, disjoint) holes."""
    index = bisect_right(holes, start, key=lambda hole: hole[0]) - 1
    return index >= 0 and stop <= holes[index][1]


def inside(holes: list[Range], key: bytes) -> bool:
    """Tell whether ``key`` lies in one of the (sorted, disjoint) holes."""
    index = bisect_right(holes, key, key=lambda hole: hole[0]) - 1
    return index >= 0 and key < holes[index][1]
