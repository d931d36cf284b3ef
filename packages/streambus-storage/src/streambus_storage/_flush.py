"""Flushing: frozen memtables become tables, oldest first.

One worker flushes, one memtable at a time, so the flush mark only ever rises and no log segment
goes before everything in it, and everything older, is in tables.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from streambus_storage._compaction_choice import place
from streambus_storage._errors_io import again, frameless
from streambus_storage._intervals import flatten
from streambus_storage._jobs import FlushJob, fewest_runs, write_memtable
from streambus_storage._levels import VersionEdit
from streambus_storage._new_tables import new_tables
from streambus_storage._pacer import Cancelled, Pacer
from streambus_storage._worker_process import Helper, portable
from streambus_storage.errors import BackgroundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._memtable import MemTable
    from streambus_storage._store import Store
    from streambus_storage._table_builder import TableBuilder

logger = logging.getLogger("streambus_storage")

RETRY_SECONDS = 0.5
"""After a failure that may pass, such as a full disk, the flush is tried again so much later."""


class Flusher:
    """The flush worker of a tree."""

    def __init__(self, store: Store, after: Callable[[], None]) -> None:
        """``after`` is called when a flush has changed the version."""
        self._store = store
        self._after = after
        self._failures = 0
        self._error: StorageError | None = None  # of the last flush
        self._helper = Helper(store)
        self.worker = store.scheduler.worker("streambus-storage-flush", self._step)

    def wake(self) -> None:
        """Ask for a flush, if there is something to flush."""
        self.worker.wake()

    def stop(self) -> None:
        """Return when the worker does not run any more."""
        self.worker.stop()
        self._helper.stop()

    def abandon_in_child(self) -> None:  # pragma: no cover - in a forked child: not measured
        """Forget the parent's helper in a forked child."""
        self._helper.abandon()

    def _step(self) -> bool:
        store = self._store
        if store.state is None or store.closing or store.failure is not None:
            return False
        try:
            if not self._flush_oldest():
                idle_seconds = self._helper.rest()
                if idle_seconds is not None:
                    self.worker.wake(idle_seconds)
                return False
        except Cancelled:
            return False
        except StorageError as exc:
            store.background_error = self._error = frameless(exc)
            self._failures += 1
            store.scheduler.notify()
            store.remove_unwanted()  # those that somebody still read when they were given up
            if store.failure is None:
                self.worker.wake(RETRY_SECONDS)
            return False
        store.recovered(self._error)
        store.remove_unwanted()
        self._after()
        with contextlib.suppress(Cancelled):  # the rest is freed with the tree
            store.remains.clear(self._pacer().tick)
        return True

    def _flush_oldest(self) -> bool:
        """Flush the oldest frozen memtable; False: there is none."""
        frozen = self._store.present().frozen
        if frozen:
            try:
                self._flush(frozen[-1])
            except (StorageError, Cancelled):
                raise
            except Exception as exc:
                logger.exception("a flush failed, and will be tried again")
                raise BackgroundError(f"flush failed: {exc!r}") from exc
        return bool(frozen)

    def wait(self, memtable: MemTable) -> None:
        """Return when a frozen memtable is in tables.

        Raises:
            StorageError: Its flush failed; it stays frozen, and the flush is tried again.
            ClosedError: The tree was closed meanwhile.
        """
        store = self._store
        failures = self._failures

        def is_settled() -> bool:
            state = store.state
            return (
                state is None
                or memtable not in state.frozen
                or self._failures != failures
                or store.closing
                or store.failure is not None
            )

        self.worker.wake()
        store.scheduler.wait(is_settled)
        store.check_writable()
        if memtable in store.present().frozen:
            assert self._error is not None  # else it would not have settled, or be closed
            raise again(self._error)

    def _flush(self, memtable: MemTable) -> None:
        """Write one memtable to tables and install them.

        Raises:
            StorageError: It failed; no table is left, the memtable stays.
            Cancelled: The tree is closing.
        """
        store = self._store
        pacer = self._pacer()

        def write(builder: TableBuilder, tick: Callable[[int], None]) -> None:
            ordered = fewest_runs(memtable, store.write_lock, tick)
            write_memtable(memtable, ordered, builder, tick)

        with new_tables(
            store,
            "flush",
            pacer=pacer,
            clean=memtable.last_sequence,
            write=write,
            helper=self._helper,
            job=self._job(memtable),
        ) as tables:
            store.install(lambda version: self._edit(version, memtable, tables), flushed=memtable)
        store.counters.flushes += 1
        store.counters.flush_bytes += sum(table.size for table in tables)

    def _pacer(self) -> Pacer:
        store = self._store
        slice_seconds = store.options.slice_seconds
        return Pacer(store.scheduler, slice_seconds, None, lambda: store.closing, store.is_urgent)

    def _job(self, memtable: MemTable) -> FlushJob | None:
        """Return the flush as a job for the helper; None: it is too small, or there is none."""
        store = self._store
        if not self._helper.takes(len(memtable.entries)):
            return None
        length = store.segment_length(memtable.segment)
        if length is None:
            return None
        return FlushJob(
            store.directory,
            portable(store.options),
            memtable.segment,
            length,
            memtable.first_sequence,
            memtable.last_sequence,
        )

    def _edit(self, version: Version, memtable: MemTable, tables: list[TableMeta]) -> VersionEdit:
        """Return the edit that installs a flush; under the manifest lock."""
        compacting = self._store.compacting
        busy = (compacting.lower, compacting.upper) if compacting is not None else None
        edit = VersionEdit(
            added=[(place(version, table, busy), table) for table in tables],
            deleted=flatten(memtable.intervals),
            sequence=memtable.last_sequence,
        )
        if edit.deleted:
            inputs = compacting.inputs if compacting is not None else frozenset()
            covered = version.apply(edit).covered()
            edit.removed = [t.number for t in covered if t.number not in inputs]
            self._store.counters.dropped_tables += len(edit.removed)
        return edit
