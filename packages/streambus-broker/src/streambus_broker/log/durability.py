"""Tell callers on the event loop when their writes are durable: one sync for all that wait.

While a sync is under way, further waiters gather; when it ends, those that it covered are told, in
order, and one more sync is asked for the rest. So there is at most one request to the tree at a
time, whatever the number of waiters.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from streambus_storage import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from streambus_storage import LSMTree


class DurabilityQueue:
    """See the module.

    Args:
        tree: The tree whose writes are waited for.
        loop: The event loop on which callers are told.
        told: Called after each round of calls; the place to flush what they have written.
    """

    def __init__(
        self, tree: LSMTree, loop: asyncio.AbstractEventLoop, told: Callable[[], None]
    ) -> None:
        self.syncs = 0
        self.sync_ns_total = 0
        self.sync_ns_last = 0
        self._tree = tree
        self._loop = loop
        self._told = told
        self._waiting: deque[tuple[int, Callable[[Exception | None], Any]]] = deque()
        self._asked_ns = 0
        self._asked_sequence = -1
        self._idle = True

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def under_way(self) -> int | None:
        """The number of the sync that has no end yet; None while there is none."""
        return None if self._idle else self.syncs

    def when_durable(self, sequence: int, call: Callable[[Exception | None], Any]) -> None:
        """Call ``call(error)`` on the loop once everything up to ``sequence`` is durable.

        Args:
            sequence: What the write returned; never lower than in the call before.
            call: Gets None, or why it will never be durable.
        """
        self._waiting.append((sequence, call))
        if self._idle:
            self._ask()

    def _ask(self) -> None:
        self._idle = False
        self._asked_sequence = self._waiting[-1][0]
        self._asked_ns = time.perf_counter_ns()
        try:
            self._tree.on_durable(self._asked_sequence, self._from_sync_thread)
        except StorageError as error:  # it refuses writes already
            self._loop.call_soon(self._synced, error)

    def _from_sync_thread(self, error: StorageError | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._synced, error)
        except RuntimeError:  # the loop was closed while the last sync was under way
            return

    def _synced(self, error: Exception | None) -> None:
        self.sync_ns_last = time.perf_counter_ns() - self._asked_ns
        self.sync_ns_total += self.sync_ns_last
        self.syncs += 1
        waiting, covered = self._waiting, self._asked_sequence
        while waiting and (waiting[0][0] <= covered or error is not None):
            waiting.popleft()[1](error)
        if waiting:
            self._ask()
        else:
            self._idle = True
        self._told()
