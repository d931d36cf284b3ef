"""The newest batches of every partition, in memory up to a limit in bytes for all together.

Consumers at the end of a log are served from here without touching the tree. The values are the
same objects that the tree's memtable holds, so that they cost memory only once it was flushed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import NamedTuple

_ENTRY_OVERHEAD_BYTES = 200  # two lists, a deque slot and the bytes object, on CPython 3.11
_SHRINK_SHARE = 32  # of the limit: freed at once when it is reached
_COMPACT_AT = 512  # forgotten entries at the head of a list before it is cut


class _Tail:
    """The entries of one partition; those before ``head`` are forgotten."""

    __slots__ = ("base_offsets", "head", "next_offset", "values")

    def __init__(self) -> None:
        self.base_offsets: list[int] = []
        self.values: list[bytes] = []
        self.head = 0
        self.next_offset = -1


class TailCut(NamedTuple):
    """What a read found.

    Attributes:
        values: Stored values (totals in front), the first holding the offset asked for.
        size_bytes: Their length together.
    """

    values: list[bytes]
    size_bytes: int


class TailCache:
    """See the module.

    Args:
        bytes_max: What all entries together may take; 0 keeps nothing.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        self._tails: dict[int, _Tail] = {}
        self._order: deque[tuple[_Tail, int]] = deque()

    def add(self, partition_id: int, base_offset: int, next_offset: int, value: bytes) -> None:
        """Remember a batch that was just appended; the oldest entries make room."""
        if not self.bytes_max:
            return
        tail = self._tails.get(partition_id)
        if tail is None:
            tail = self._tails[partition_id] = _Tail()
        elif tail.next_offset != base_offset:  # a gap: nothing before it may be served
            self._forget_all(tail)
        tail.base_offsets.append(base_offset)
        tail.values.append(value)
        tail.next_offset = next_offset
        size_bytes = len(value) + _ENTRY_OVERHEAD_BYTES
        self._order.append((tail, size_bytes))
        self.held_bytes += size_bytes
        if self.held_bytes > self.bytes_max:
            self._shrink()

    def end_of(self, partition_id: int) -> int:
        """The offset behind a partition's last remembered batch; -1 where none is remembered."""
        tail = self._tails.get(partition_id)
        return -1 if tail is None or tail.head == len(tail.values) else tail.next_offset

    def read(
        self, partition_id: int, offset: int, stop_offset: int, bytes_max: int
    ) -> TailCut | None:
        """Read batches from the one that holds ``offset`` on.

        Args:
            partition_id: The partition.
            offset: The first offset wanted.
            stop_offset: Batches that begin here or later are not given.
            bytes_max: Stop before a batch that would exceed it, except for the first.

        Returns:
            None where the cache does not reach back to ``offset``.
        """
        tail = self._tails.get(partition_id)
        if tail is None:
            return None
        bases, values = tail.base_offsets, tail.values
        count = len(bases)
        index = bisect_right(bases, offset) - 1
        if index < tail.head or offset >= tail.next_offset:
            return None
        value = values[index]
        found, size_bytes = [value], len(value)
        index += 1
        while index < count and bases[index] < stop_offset:
            value = values[index]
            if size_bytes + len(value) > bytes_max:
                break
            found.append(value)
            size_bytes += len(value)
            index += 1
        return TailCut(found, size_bytes)

    def forget(self, partition_id: int) -> None:
        """Drop a partition's entries: it was deleted, or its log was cut."""
        tail = self._tails.pop(partition_id, None)
        if tail is not None:
            self._forget_all(tail)

    def _shrink(self) -> None:
        """Forget the oldest entries, some more than needed: many at once cost less each."""
        order, held_bytes = self._order, self.held_bytes
        target_bytes = self.bytes_max - self.bytes_max // _SHRINK_SHARE
        touched: dict[int, _Tail] = {}
        while held_bytes > target_bytes and order:
            tail, size_bytes = order.popleft()
            held_bytes -= size_bytes
            head = tail.head
            if head < len(tail.values):
                tail.values[head] = b""
                tail.head = head + 1
                touched[id(tail)] = tail
        self.held_bytes = held_bytes
        for tail in touched.values():
            if tail.head >= _COMPACT_AT and tail.head * 2 >= len(tail.values):
                del tail.base_offsets[: tail.head], tail.values[: tail.head]
                tail.head = 0

    def _forget_all(self, tail: _Tail) -> None:
        """Free the values; their slots in the order leave one by one, with nothing behind them."""
        kept = deque(entry for entry in self._order if entry[0] is not tail)
        self.held_bytes = sum(size_bytes for _, size_bytes in kept)
        self._order = kept
        tail.base_offsets.clear()
        tail.values.clear()
        tail.head = 0
