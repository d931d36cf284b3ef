"""Carries out compaction plans; see `_compaction_choice` for what is chosen and why."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from streambus_storage._compaction_choice import Drop, Merge, Move, choose, whole_range
from streambus_storage._errors_io import again, frameless
from streambus_storage._jobs import MergeJob, Merging
from streambus_storage._levels import VersionEdit
from streambus_storage._new_tables import new_tables
from streambus_storage._pacer import Cancelled, Pacer
from streambus_storage._store import Compacting
from streambus_storage._worker_process import Helper, portable
from streambus_storage.errors import BackgroundError, StorageError

if TYPE_CHECKING:
    from streambus_storage._compaction_choice import Plan
    from streambus_storage._levels import Version
    from streambus_storage._store import Store
    from streambus_storage._view import Tables

RETRY_SECONDS = 1.0
"""After a failure that may pass, compaction is tried again so much later, then after twice..."""

RETRY_SECONDS_MAX = 60.0

logger = logging.getLogger("streambus_storage")


class Compactor:
    """The compaction worker of a tree.

    Attributes:
        paused: No new compaction begins while it is set.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.paused = False
        self._retry_seconds = RETRY_SECONDS
        self._error: StorageError | None = None  # of the last compaction
        self._asked: list[tuple[bytes, bytes, list[StorageError | None]]] = []
        self._helper = Helper(store)
        self.worker = store.scheduler.worker("streambus-storage-compaction", self._step)

    def stop(self) -> None:
        """Return when the worker does not run any more."""
        self.worker.stop()
        self._helper.stop()

    def abandon_in_child(self) -> None:  # pragma: no cover - in a forked child: not measured
        """Forget the parent's helper in a forked child."""
        self._helper.abandon()

    def compact(self, start: bytes, stop: bytes) -> None:
        """Bring a range into one level, and return when that is done.

        Raises:
            StorageError: It failed; the tree is as it was.
        """
        store = self._store
        outcome: list[StorageError | None] = []
        with store.manifest_lock:
            self._asked.append((start, stop, outcome))
        self.worker.wake()
        store.scheduler.wait(lambda: bool(outcome) or store.closing or store.failure is not None)
        if outcome and outcome[0] is not None:
            raise again(outcome[0])
        if not outcome:
            store.check_writable()

    def _step(self) -> bool:
        store = self._store
        if store.state is None or store.closing or store.failure is not None:
            return False
        with store.manifest_lock:
            asked = self._asked.pop(0) if self._asked else None
        if asked is None and (self.paused or not store.options.automatic_compaction):
            return False
        error: StorageError | None = None
        worked = False
        try:
            plan, tables = self._plan(asked)
            if plan is not None:
                self._guarded(plan, tables)
                worked = True
        except Cancelled:  # closing, or failed: `compact` sees that by itself
            return False
        except StorageError as exc:
            error = store.background_error = self._error = frameless(exc)
            if asked is None and store.failure is None:
                logger.warning("compaction failed, its inputs are kept: %s", exc)
                self.worker.wake(self._retry_seconds)
                self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
        else:
            self._retry_seconds = RETRY_SECONDS
            store.recovered(self._error)
        if asked is not None:
            asked[2].append(error)
            worked = True
        del asked
        store.scheduler.notify()
        tables = None
        store.remove_unwanted()
        with contextlib.suppress(Cancelled):  # the rest is freed with the tree
            store.remains.clear(self._pacer().tick)
        if not worked:
            idle_seconds = self._helper.rest()
            if idle_seconds is not None:
                self.worker.wake(idle_seconds)
        return worked and error is None

    def _guarded(self, plan: Plan, tables: Tables | None) -> None:
        """Carry a plan out; an error that is none of storage's must not end the worker."""
        try:
            self._carry_out(plan, tables)
        except (StorageError, Cancelled):
            raise
        except Exception as exc:
            raise BackgroundError(f"compaction failed: {exc!r}") from exc

    def _plan(self, asked: tuple[bytes, bytes, Any] | None) -> tuple[Plan | None, Tables | None]:
        """Choose, and reserve the inputs of a merge."""
        store = self._store
        with store.manifest_lock:
            tables = store.present().tables
            plan: Plan | None
            if asked is not None:
                force = store.options.compaction_filter is not None
                plan = whole_range(tables.version, asked[0], asked[1], force=force)
            else:
                plan = choose(tables.version, store.options)
            if isinstance(plan, Merge):
                numbers = frozenset(table.number for _, table in plan.inputs)
                store.compacting = Compacting(plan.lower, plan.upper, numbers)
        return plan, tables

    def _carry_out(self, plan: Plan, tables: Tables | None) -> None:
        store = self._store
        if isinstance(plan, Drop):
            store.install(lambda version: _drop(plan, version))
            store.counters.dropped_tables += len(plan.tables)
        elif isinstance(plan, Move):
            store.install(lambda version: _move(plan, version))
            store.counters.moves += len(plan.tables)
        else:
            assert tables is not None
            try:
                self._merge(plan, tables)
            finally:
                with store.manifest_lock:
                    store.compacting = None

    def _pacer(self) -> Pacer:
        store = self._store
        return Pacer(
            store.scheduler,
            store.options.slice_seconds,
            store.options.compaction_bytes_per_second,
            lambda: store.closing or store.failure is not None,
            store.is_urgent,
        )

    def _merge(self, plan: Merge, tables: Tables) -> None:
        """Merge the inputs into new tables and install them.

        Raises:
            StorageError: Reading, writing or the filter failed; the inputs are kept, and no
                output is left.
            Cancelled: The tree is closing.
        """
        store = self._store
        options = store.options
        merging = Merging(plan, tables, options.compaction_filter)
        entries = sum(table.entries for _, table in plan.inputs)
        job: MergeJob | None = None
        if options.compaction_filter is None and self._helper.takes(entries):
            job = MergeJob.of(store.directory, portable(options), plan, tables.version)
        with new_tables(
            store,
            "compaction",
            pacer=self._pacer(),
            clean=tables.version.sequence,
            write=merging.write,
            helper=self._helper,
            job=job,
        ) as outputs:
            edit = VersionEdit(
                added=[(plan.level, table) for table in outputs],
                removed=[table.number for _, table in plan.inputs],
            )
            store.install(lambda _: edit, release_compacting=True)
        counters = store.counters
        counters.merges += 1
        counters.filtered_entries += merging.filtered
        counters.compaction_bytes += sum(table.size for table in outputs)
        counters.compaction_read_bytes += sum(table.size for _, table in plan.inputs)


def _drop(plan: Drop, version: Version) -> VersionEdit:
    """Return the edit of a drop; a flush may have dropped some of the tables meanwhile."""
    there = {table.number for _, table in version.tables()}
    return VersionEdit(removed=[t.number for t in plan.tables if t.number in there])


def _move(plan: Move, version: Version) -> VersionEdit:
    """Return the edit of a move; a flush may have dropped some of the tables meanwhile."""
    there = {table.number for _, table in version.tables()}
    tables = [table for table in plan.tables if table.number in there]
    return VersionEdit(
        added=[(plan.level, table) for table in tables],
        removed=[table.number for table in tables],
    )
