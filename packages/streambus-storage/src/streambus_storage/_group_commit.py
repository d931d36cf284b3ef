"""Group commit: however many writers wait for durability, one sync serves them all.

Rules:

- ``_sync_lock`` is held during a sync; who waits for it finds, when it gets it, that the sync
  it waited for has usually covered its own write. A blocking waiter syncs in its own thread;
  the sync worker does it for callbacks.
- ``durable`` only rises, and is changed under ``_sync_lock``.
- A failed sync is final: `fail` is called, and every waiter gets the error.
- Callbacks run without any lock held.
"""

from __future__ import annotations

import heapq
import logging
import threading
from itertools import count
from typing import TYPE_CHECKING

from streambus_storage._errors_io import translated
from streambus_storage.errors import ClosedError, StorageError, TreeFailedError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._scheduler import Scheduler
    from streambus_storage._wal_writer import SegmentWriter

logger = logging.getLogger("streambus_storage")


class GroupCommit:
    """See the module's rules.

    Attributes:
        durable: Everything up to this sequence number is durable.
        syncs: Number of syncs so far.
        failure: Why no sync is possible any more.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        durable: int,
        unsynced: Callable[[], tuple[int, list[SegmentWriter]]],
        synced: Callable[[int], None],
        fail: Callable[[StorageError], None],
    ) -> None:
        """Begin with everything up to ``durable`` durable.

        Args:
            scheduler: Runs the sync worker.
            durable: Everything up to it is durable.
            unsynced: Returns the last sequence number and the segments that hold what is not
                synced, oldest first.
            synced: Called after a sync, under the sync lock, with the sequence it reached.
            fail: Called with the error that ends it.
        """
        self.durable = durable
        self.syncs = 0
        self.failure: StorageError | None = None
        self._unsynced = unsynced
        self._synced = synced
        self._fail = fail
        self._sync_lock = threading.Lock()
        self._waiters_lock = threading.Lock()  # guards _waiters
        self._waiters: list[tuple[int, int, Callable[[StorageError | None], object]]] = []
        self._order = count()
        self._closed = False  # set under _sync_lock
        self._worker = scheduler.worker("streambus-storage-sync", self._step)

    def wait(self, sequence: int, timeout_seconds: float | None = None) -> None:
        """Return when everything up to ``sequence`` is durable, syncing if need be.

        Raises:
            TreeFailedError: A sync failed, now or before.
            ClosedError: The tree was closed meanwhile, without a last sync.
            WaitTimeoutError: Another's sync took longer than the timeout.
        """
        if self.durable >= sequence:
            return
        if timeout_seconds is None:
            with self._sync_lock:
                self._sync(sequence)
        elif self._sync_lock.acquire(timeout=timeout_seconds):
            try:
                self._sync(sequence)
            finally:
                self._sync_lock.release()
        else:
            raise WaitTimeoutError(f"sequence {sequence} was not durable in {timeout_seconds} s")
        if self._waiters:
            self._worker.wake()

    def _sync(self, sequence: int) -> None:
        """Sync what was written so far, unless ``sequence`` is durable already. Lock held."""
        if self.durable >= sequence:
            return
        if self.failure is not None:
            raise TreeFailedError(self.failure) from self.failure
        if self._closed:
            raise ClosedError("the tree was closed before it was durable")
        last, writers = self._unsynced()
        for writer in writers:
            try:
                writer.sync()
            except OSError as exc:
                self.failure = translated(writer.file.path, "sync", exc)
                self._fail(self.failure)
                raise TreeFailedError(self.failure) from exc
        self.syncs += 1
        self.durable = max(self.durable, last)
        self._synced(last)

    def on_durable(self, sequence: int, callback: Callable[[StorageError | None], object]) -> None:
        """Call ``callback(error or None)`` once, when ``sequence`` is durable or cannot be."""
        with self._waiters_lock:
            heapq.heappush(self._waiters, (sequence, next(self._order), callback))
        self._worker.wake()

    def advance(self, sequence: int, retire: Callable[[], None]) -> None:
        """Note that everything up to ``sequence`` is durable in tables.

        ``retire`` is called under the sync lock: nobody is syncing then.
        """
        with self._sync_lock:
            self.durable = max(self.durable, sequence)
            retire()
        if self._waiters:
            self._worker.wake()

    def _step(self) -> bool:
        """Serve the waiters: sync for the newest, then call those that are served."""
        with self._waiters_lock:
            if not self._waiters:
                return False
            wanted = max(waiter[0] for waiter in self._waiters)
        error: StorageError | None = None
        try:
            with self._sync_lock:
                self._sync(wanted)
        except StorageError as exc:
            error = exc
        self._serve(error)
        return False

    def _serve(self, error: StorageError | None) -> None:
        """Call the waiters whose sequence is durable; with an error, all."""
        while True:
            with self._waiters_lock:
                if not self._waiters:
                    return
                sequence, _, callback = self._waiters[0]
                if sequence > self.durable and error is None:
                    return
                heapq.heappop(self._waiters)
            try:
                callback(None if sequence <= self.durable else error)
            except Exception:
                logger.exception("a callback of on_durable raised")

    def close(self, failure: StorageError | None) -> None:
        """Stop the worker. Who still waits gets what is true: durable, or the error.

        Args:
            failure: Why the tree had failed, if it had.
        """
        self._worker.stop()
        with self._sync_lock:  # the files will be closed: what is not durable now, never will be
            self._closed = True
            self.failure = self.failure or failure
        self._serve(self.failure or ClosedError("the tree was closed before it was durable"))
