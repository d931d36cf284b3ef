"""Merging sorted sources, a slice at a time.

A slice is ``(keys, values)``: two lists, ascending, beside each other. A source yields slices in
ascending order, or (for a reverse scan) in descending order of slices, each slice ascending
within. Merging works on whole slices: up to the smallest of the sources' last keys everything
is known, so those parts are joined by a dict (newest last, so it wins) and one sort that finds
runs; where only one source has keys, its slice is handed on untouched. That is 10 to 100 ns per
key, where a heap takes 300.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Slice = tuple[list[bytes], list[Any]]


class PlainSlice(tuple[list[bytes], list[Any]]):
    """A slice whose values are all bytes: nobody has to look at each of them again."""

    __slots__ = ()


class Source(NamedTuple):
    """A sorted source that is not begun before the merge reaches it.

    Attributes:
        lower: No key of it is less.
        upper: No key of it is greater or equal.
        begin: Starts it.
    """

    lower: bytes
    upper: bytes
    begin: Callable[[], Iterator[Slice]]


class _Head:
    """A begun source: its present slice, of which [low, high) is not used up."""

    __slots__ = ("high", "keys", "low", "rank", "slices", "values")

    def __init__(self, rank: int, slices: Iterator[Slice]) -> None:
        self.rank = rank
        self.slices = slices
        self.keys: list[bytes] = []
        self.values: list[Any] = []
        self.low = self.high = 0

    def fill(self) -> bool:
        """Fetch the next slice if the present one is used up; False: there is none."""
        while self.low >= self.high:
            following = next(self.slices, None)
            if following is None:
                return False
            self.keys, self.values = following
            self.low, self.high = 0, len(self.keys)
        return True

    def take(self, low: int, high: int) -> Slice:
        """Return a part of the slice; the whole without a copy."""
        if low == 0 and high == len(self.keys):
            return self.keys, self.values
        return self.keys[low:high], self.values[low:high]


def merge(sources: Sequence[Source], *, reverse: bool = False) -> Iterator[Slice]:
    """Yield the merged slices of ``sources``, which are given newest first.

    Where sources hold the same key, the newest's value is yielded, deletes (None) included.
    """
    if len(sources) == 1:
        yield from sources[0].begin()
        return
    step = _step_back if reverse else _step_forward
    waiting = sorted(
        enumerate(sources),
        key=lambda item: item[1].upper if reverse else item[1].lower,
        reverse=not reverse,
    )  # the next to begin is the last in the list
    heads: list[_Head] = []
    while waiting or heads:
        while waiting and _is_due(waiting[-1][1], heads, reverse=reverse):
            rank, source = waiting.pop()
            head = _Head(rank, source.begin())
            if head.fill():
                heads.append(head)
        if not heads:
            continue
        if len(heads) == 1 and not waiting:
            head = heads[0]
            yield head.take(head.low, head.high)
            yield from head.slices
            return
        parts = step(heads)
        heads = [head for head in heads if head.fill()]
        yield _join(parts)


def _is_due(source: Source, heads: list[_Head], *, reverse: bool) -> bool:
    """Tell whether a source must be begun before the present slices are used."""
    if not heads:
        return True
    if reverse:
        return source.upper > max(head.keys[head.low] for head in heads)
    return source.lower <= min(head.keys[head.high - 1] for head in heads)


def _step_forward(heads: list[_Head]) -> list[tuple[int, Slice]]:
    """Take from all heads what is up to the least of their last keys."""
    edge = min(head.keys[head.high - 1] for head in heads)
    parts: list[tuple[int, Slice]] = []
    for head in heads:
        cut = bisect_right(head.keys, edge, head.low, head.high)
        if cut > head.low:
            parts.append((head.rank, head.take(head.low, cut)))
            head.low = cut
    return parts


def _step_back(heads: list[_Head]) -> list[tuple[int, Slice]]:
    """Take from all heads what is from the greatest of their first keys on."""
    edge = max(head.keys[head.low] for head in heads)
    parts: list[tuple[int, Slice]] = []
    for head in heads:
        cut = bisect_left(head.keys, edge, head.low, head.high)
        if cut < head.high:
            parts.append((head.rank, head.take(cut, head.high)))
            head.high = cut
    return parts


def _join(parts: list[tuple[int, Slice]]) -> Slice:
    """Join parts of the same key range into one slice; the lowest rank is the newest."""
    if len(parts) == 1:
        return parts[0][1]
    joined: dict[bytes, Any] = {}
    for _, (keys, values) in sorted(parts, key=lambda part: part[0], reverse=True):
        joined.update(zip(keys, values, strict=True))
    ordered = sorted(joined)
    return ordered, list(map(joined.__getitem__, ordered))
