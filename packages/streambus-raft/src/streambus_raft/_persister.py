"""Makes writes durable away from the event loop: one thread, one sync for all that waits."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from streambus_raft.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_raft._event_loop import EventLoop
    from streambus_raft._storage import LogStorage

    Done = Callable[[int, StorageError | None], None]


@runtime_checkable
class SelfSyncing(Protocol):
    """A ``LogStorage`` may bring this too, if it has a better way than a thread that waits."""

    def sync_soon(self, done: Callable[[StorageError | None], None]) -> None:
        """Make everything written so far durable, then call ``done``, exactly once.

        With None when it is durable, with the failure otherwise; from any thread, or before
        returning. Calls end in the order in which they were made.
        """


class Persister:
    """Syncs a storage on request.

    Args:
        storage: What is written to.
        loop: Where to report.
        done: Called on the loop's thread with the sequence up to which everything is durable, and
            the failure or None. Before :meth:`request` returns if the storage can do that.
    """

    def __init__(self, storage: LogStorage, loop: EventLoop, done: Done) -> None:
        self._storage = storage
        self._loop = loop
        self._done = done
        self._sync_soon = storage.sync_soon if isinstance(storage, SelfSyncing) else None
        self._requests: SimpleQueue[int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._home = threading.get_ident()
        if self._sync_soon is None:
            self._thread = threading.Thread(target=self._run, name="raft-persister", daemon=True)
            self._thread.start()

    def request(self, sequence: int) -> None:
        """Ask for everything up to ``sequence``, which was just written, to be made durable."""
        if self._sync_soon is None:
            self._requests.put(sequence)
        else:
            self._sync_soon(_Report(self, sequence))

    def stop(self) -> None:
        """End the thread once it has done what was asked; blocks for that."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            sequence = self._requests.get()
            while True:  # whatever was asked for meanwhile shares the sync
                if sequence is None:
                    return
                try:
                    sequence, last = self._requests.get_nowait(), sequence
                except Empty:
                    break
                if sequence is None:
                    self._requests.put(None)
                    sequence = last
                    break
            failure: StorageError | None = None
            try:
                self._storage.sync()
            except StorageError as exc:
                failure = exc
            except Exception as exc:  # noqa: BLE001 - a storage of somebody else's
                failure = StorageError(f"sync failed: {exc!r}")
            self._loop.call_soon_threadsafe(self._done, sequence, failure)


class _Report:
    """Carries the end of a sync to the loop's thread; directly if it is there already."""

    __slots__ = ("_persister", "_sequence")

    def __init__(self, persister: Persister, sequence: int) -> None:
        self._persister = persister
        self._sequence = sequence

    def __call__(self, failure: StorageError | None) -> None:
        persister = self._persister
        if threading.get_ident() == persister._home:
            persister._done(self._sequence, failure)
        else:
            persister._loop.call_soon_threadsafe(persister._done, self._sequence, failure)
