"""Reads on their way: which ask for a confirmation, which wait for their index.

Pure bookkeeping. All reads of one loop turn share one ticket, so the leader confirms them together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from streambus_raft._event_loop import Waiter


class PendingRead(NamedTuple):
    """Somebody waits for the answer to ``query``, until ``deadline_tick`` at the latest."""

    query: Any
    waiter: Waiter[Any]
    deadline_tick: int


class Reading:
    """The reads of one node."""

    def __init__(self) -> None:
        self._fresh: list[PendingRead] = []
        self._asked: dict[int, list[PendingRead]] = {}
        self._retry: list[PendingRead] = []
        self._confirmed: deque[tuple[int, list[PendingRead]]] = deque()

    @property
    def pending_count(self) -> int:
        """Reads that are not answered yet."""
        groups = [*self._asked.values(), *(reads for _, reads in self._confirmed)]
        return len(self._fresh) + len(self._retry) + sum(map(len, groups))

    @property
    def has_fresh(self) -> bool:
        """Whether a confirmation is to be asked for."""
        return bool(self._fresh)

    def add(self, read: PendingRead) -> None:
        """Put a read into the next group."""
        self._fresh.append(read)

    def take_fresh(self) -> list[PendingRead]:
        """The reads that a confirmation is to be asked for now."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def asked(self, ticket: int, reads: list[PendingRead]) -> None:
        """A confirmation was asked for."""
        self._asked[ticket] = reads

    def confirmed(self, ticket: int, index: int) -> None:
        """The reads of ``ticket`` may be answered once ``index`` is applied."""
        reads = self._asked.pop(ticket, None)
        if reads is not None:
            self._confirmed.append((index, reads))

    def failed(self, ticket: int) -> None:
        """No confirmation will come: ask again at the next tick."""
        self._retry += self._asked.pop(ticket, ())

    def due(self, applied: int) -> list[PendingRead]:
        """Take out the reads that may be answered now."""
        if not self._confirmed:
            return []
        due: list[PendingRead] = []
        later: deque[tuple[int, list[PendingRead]]] = deque()
        for index, reads in self._confirmed:
            if index <= applied:
                due += reads
            else:
                later.append((index, reads))
        self._confirmed = later
        return due

    def tick(self, tick: int) -> list[PendingRead]:
        """Ask again for what failed; take out and return what has waited for too long."""
        if not self._retry:
            return []
        retry, self._retry = self._retry, []
        self._fresh = [read for read in retry if read.deadline_tick > tick] + self._fresh
        return [read for read in retry if read.deadline_tick <= tick]

    def take_all(self) -> list[PendingRead]:
        """Everything that waits, because it cannot be answered any more."""
        reads = [*self._fresh, *self._retry]
        for group in self._asked.values():
            reads += group
        for _, group in self._confirmed:
            reads += group
        self._fresh, self._retry = [], []
        self._asked.clear()
        self._confirmed.clear()
        return reads
