"""Small work that must not wait behind a flush or a merge.

- The next log segment is prepared: that takes several syncs, and a writer must not wait for them.
- The reserve is set aside (`_reserve`).
- A tree that its block cache can hold is read ahead by the system when it is opened.
- Tables that lie wholly under range deletes go, without a flush: the deletes are in the log, which
  is synced first, and an edit of the manifest is all it takes. So space comes back in a tree that
  nobody writes to, and on a disk that is full.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streambus_storage._errors_io import frameless
from streambus_storage._intervals import Intervals, covers, flatten, union
from streambus_storage._levels import VersionEdit
from streambus_storage._options import LEVELS
from streambus_storage.errors import DiskFullError, StorageError

if TYPE_CHECKING:
    from streambus_storage._intervals import Range
    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._store import Store

RETRY_SECONDS = 0.5
"""After a failure that may pass, such as a full disk, it is tried again so much later."""

SWEEP_SECONDS = 1.0
"""Range deletes are gathered for so long: a sweep costs two syncs."""


class Housekeeper:
    """One worker of a tree; see the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._error: StorageError | None = None  # of the last step
        self._cold = True  # nothing was read ahead yet
        self._swept = 0  # range deletes up to this sequence number were looked at
        self.worker = store.scheduler.worker("streambus-storage-housekeeping", self._step)

    def wake(self) -> None:
        """Ask for a new segment, if one is needed."""
        self.worker.wake()

    def sweep_soon(self) -> None:
        """Ask for a sweep: a range was deleted. At once if the disk was full."""
        self.worker.wake(0.0 if self._store.reserve.spent else SWEEP_SECONDS)

    def stop(self) -> None:
        """Return when the worker does not run any more."""
        self.worker.stop()

    def _step(self) -> bool:
        store = self._store
        if store.state is None or store.closing or store.failure is not None:
            return False
        if self._cold:
            self._cold = False
            self._read_ahead()
        store.remove_unwanted()  # those that somebody still read when they were given up
        try:
            self._sweep()
            store.take_reserve()
            self._prepare()
        except StorageError as exc:
            store.background_error = self._error = frameless(exc)
            store.scheduler.notify()
            if store.failure is None:
                self.worker.wake(RETRY_SECONDS)
            return False
        store.recovered(self._error)
        store.refresh_gate()
        return False

    def _prepare(self) -> None:
        """Create the next log segment, unless there is one.

        Raises:
            StorageError: It could not be created.
        """
        store = self._store
        # Under the rotation's lock: segments must be used in the order of their numbers.
        with store.rotate_lock:
            if store.prepared is None and not store.closing:
                store.prepared = store.create_segment()

    def _read_ahead(self) -> None:
        """Have a small tree brought into memory: in long runs, not a block at a time as it is read.

        One that is larger than the block cache is left to its readers: who reads single keys of
        it wants single blocks, and for a scan the system reads ahead by itself.
        """
        store = self._store
        tables = store.present().tables.by_number.values()
        if sum(table.meta.size for table in tables) > store.options.cache_bytes:
            return
        for table in tables:
            # Whoever reads the table will say what is wrong with it.
            with contextlib.suppress(OSError):
                file = store.file_system.open_read(table.path)
                try:
                    file.prefetch()
                finally:
                    file.close()

    # -- the sweep -------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Drop the tables under the range deletes that are in memtables only.

        Raises:
            StorageError: The log could not be synced, or the manifest not be written.
        """
        store = self._store
        newest = self._newest_range_delete()
        if newest <= self._swept:
            return
        if self._covered(store.present().tables.version, newest):
            store.commit.wait(newest)  # a delete that a loss of power undoes must not cost a table
            try:
                store.install(lambda version: self._edit(version, newest))
            except DiskFullError:
                if not store.spend_reserve():
                    raise
                store.install(lambda version: self._edit(version, newest))
            store.remove_unwanted()
        self._swept = newest

    def _newest_range_delete(self) -> int:
        """Return the sequence number of the newest range delete in a memtable, or 0."""
        found = 0
        for memtable in self._store.present().memtables:
            found = max(found, *memtable.intervals.sequences, 0)
        return found

    def _covered(self, version: Version, newest: int) -> list[TableMeta]:
        """Return the tables that lie wholly under range deletes, those of memtables included.

        Every table is older than every memtable, so a range delete in a memtable hides all of it.
        Under the manifest lock; without it the answer is a guess.
        """
        deleted: list[Range] = []
        for memtable in self._store.present().memtables:
            rows = [row for row in memtable.intervals if row[2] <= newest]
            deleted = union(deleted, flatten(Intervals(rows)))
        found = [
            table
            for start, stop in deleted
            for level in range(LEVELS)
            for table in version.overlapping(level, start, stop)
            if covers(union(version.holes_in(table), deleted), table.lower, table.upper)
        ]
        return list(dict.fromkeys(found))

    def _edit(self, version: Version, newest: int) -> VersionEdit:
        """Return the edit that drops them; under the manifest lock."""
        store = self._store
        inputs = store.compacting.inputs if store.compacting is not None else frozenset()
        gone = [t.number for t in self._covered(version, newest) if t.number not in inputs]
        store.counters.dropped_tables += len(gone)
        return VersionEdit(removed=gone)
