"""The log as the core sees it: what the storage holds, and behind it what is not yet durable.

Invariants::

    entries below ``offset``        are read from the storage; all of them are durable
    entries from ``offset`` on      are in ``tail``
    ``stable``                      the last durable index of *this* log; never counts an entry that
                                    was replaced, even when its old version was written (ABA)
    ``handed``                      the last index that was put into a ``Write``
    offset - 1 <= stable <= handed <= last

While a received snapshot is being installed, ``base`` stands for it, nothing below it is read, and
``stable`` is 0: nothing is durable before the snapshot is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streambus_raft._entry import ENTRY_OVERHEAD_BYTES, Entry, limit_bytes
from streambus_raft.errors import CompactedError, UnavailableError

if TYPE_CHECKING:
    from streambus_raft._storage import LogReader, SnapshotMeta
    from streambus_raft._types import Index, Term


class Log:
    """Reads from a storage and keeps what the storage does not have yet."""

    def __init__(self, storage: LogReader) -> None:
        self.storage = storage
        self.last: Index = storage.last_index()
        self.last_term: Term = storage.term(self.last)
        self.offset: Index = self.last + 1
        self.tail: list[Entry] = []
        self.stable: Index = self.last
        self.handed: Index = self.last
        self.base: SnapshotMeta | None = None
        # Writes under way: [sequence, last index that becomes durable by it], oldest first.
        self._writes: deque[list[int]] = deque()

    def first(self) -> Index:
        """The first entry that can be read."""
        return self.storage.first_index() if self.base is None else self.base.index + 1

    def term(self, index: Index) -> Term:
        """The term of an entry, or of the last compacted one.

        Raises:
            CompactedError, UnavailableError: there is no such entry.
        """
        if index == self.last:
            return self.last_term
        if index >= self.offset:
            if index > self.last:
                raise UnavailableError(index, self.last)
            return self.tail[index - self.offset].term
        if self.base is not None:
            if index == self.base.index:
                return self.base.term
            raise CompactedError(index, self.base.index + 1)
        return self.storage.term(index)

    def matches(self, index: Index, term: Term) -> bool:
        """Whether the entry at ``index`` is here and of ``term``; the empty log matches at 0."""
        if index > self.last:
            return False
        try:
            return self.term(index) == term
        except CompactedError:
            return False

    def entries(self, start: Index, stop: Index, bytes_max: int) -> list[Entry]:
        """At least one entry from ``start`` up to and without ``stop``, within ``bytes_max``.

        Raises:
            CompactedError: ``start`` was compacted.
        """
        # An entry costs at least its overhead, so no more than this many can fit.
        stop = min(stop, start + bytes_max // ENTRY_OVERHEAD_BYTES + 1)
        if start >= self.offset:
            first, last = start - self.offset, stop - self.offset
            part = self.tail if (first, last) == (0, len(self.tail)) else self.tail[first:last]
            chosen = limit_bytes(part, bytes_max)
            return chosen[:] if chosen is self.tail else chosen
        if start < self.first():
            raise CompactedError(start, self.first())
        return self.storage.entries(start, min(stop, self.offset), bytes_max)

    def append(self, entries: list[Entry]) -> None:
        """Add entries that follow the last one."""
        assert entries[0].index == self.last + 1
        self.tail.extend(entries)
        self.last = entries[-1].index
        self.last_term = entries[-1].term

    def append_command(self, term: Term, data: bytes) -> Index:
        """Add one entry of kind ``COMMAND``, and return its index."""
        self.last += 1
        self.last_term = term
        self.tail.append(Entry(self.last, term, 0, data))
        return self.last

    def truncate(self, start: Index) -> None:
        """Drop the entries from ``start`` on, which must be here; others are appended next."""
        if start > self.offset:
            del self.tail[start - self.offset :]
        else:
            self.tail.clear()
            self.offset = start
        self.last_term = self.term_before(start)
        self.last = start - 1
        self.handed = min(self.handed, self.last)
        self._forget_durable(self.last)

    def term_before(self, start: Index) -> Term:
        """The term of the entry before ``start``."""
        return self.term(start - 1)

    def restore(self, meta: SnapshotMeta) -> None:
        """Forget everything: the log begins anew behind a snapshot that is being installed."""
        self.base = meta
        self.tail.clear()
        self.offset = meta.index + 1
        self.last, self.last_term = meta.index, meta.term
        self.handed = meta.index
        self._forget_durable(0)

    def _forget_durable(self, last: Index) -> None:
        self.stable = min(self.stable, last)
        for write in self._writes:
            write[1] = min(write[1], last)

    def take_unwritten(self, sequence: int) -> list[Entry]:
        """The entries that no ``Write`` has had; from now on they belong to write ``sequence``."""
        taken = self.tail[max(self.handed + 1 - self.offset, 0) :]
        self.handed = self.last
        self._writes.append([sequence, self.last])
        return taken

    def persisted(self, sequence: int) -> None:
        """Everything up to write ``sequence`` is durable: it can be read from the storage now."""
        while self._writes and self._writes[0][0] <= sequence:
            last = self._writes.popleft()[1]
            if self.base is not None and last >= self.base.index:
                self.base = None
            self.stable = max(self.stable, last)
        durable = self.stable + 1 - self.offset
        if durable > 0:
            del self.tail[:durable]
            self.offset += durable

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Whether a log that ends there is at least as complete as this one (paper, 5.4.1)."""
        return last_term > self.last_term or (
            last_term == self.last_term and last_index >= self.last
        )

    def meeting_point(self, index: Index, term: Term) -> tuple[Index, Term]:
        """The last entry up to ``index`` whose term is at most ``term``: logs may agree there.

        Skips a whole term in one exchange of messages instead of one entry (paper, end of 5.3).
        Cost: linear in the entries skipped.
        """
        index = min(index, self.last)
        while True:
            try:
                found = self.term(index)
            except CompactedError:
                return index, term
            if found <= term:
                return index, found
            index -= 1

    def find_conflict(self, entries: list[Entry]) -> int:
        """How many of ``entries``, which follow a matching one, are here already."""
        if entries and entries[0].index == self.last + 1:
            return 0
        same = 0
        for entry in entries:
            if entry.index > self.last or self.term(entry.index) != entry.term:
                break
            same += 1
        return same
