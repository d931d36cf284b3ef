"""Carries out compaction plans; see `_compaction_choice` for what is chosen and why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streambus_storage._compaction_choice import Drop, Merge, Move, choose, whole_range
from streambus_storage._errors_io import translated
from streambus_storage._levels import VersionEdit
from streambus_storage._merge import Source, merge
from streambus_storage._options import LEVELS, FilterVerdict
from streambus_storage._pacer import Cancelled, Pacer
from streambus_storage._sstable_reader import Pending
from streambus_storage._store import Compacting
from streambus_storage._table_builder import TableBuilder
from streambus_storage._view import resolve
from streambus_storage.errors import BackgroundError, StorageError

if TYPE_CHECKING:
    from streambus_storage._compaction_choice import Plan
    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._merge import Slice
    from streambus_storage._store import Store
    from streambus_storage._view import Tables

RETRY_SECONDS = 1.0
"""After a failure that may pass, compaction is tried again so much later, then after twice..."""

RETRY_SECONDS_MAX = 60.0

logger = logging.getLogger("streambus_storage")


class CompactionFilterError(StorageError):
    """The compaction filter raised, or returned no verdict. The inputs were kept."""


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
        self.worker = store.scheduler.worker("streambus-storage-compaction", self._step)

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
            raise outcome[0]
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
            error = store.background_error = self._error = exc
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

    def _merge(self, plan: Merge, tables: Tables) -> None:
        """Merge the inputs into new tables and install them.

        Raises:
            StorageError: Reading, writing or the filter failed; the inputs are kept, and no
                output is left.
            Cancelled: The tree is closing.
        """
        store = self._store
        options = store.options
        pacer = Pacer(
            store.scheduler,
            options.slice_seconds,
            options.compaction_bytes_per_second,
            lambda: store.closing or store.failure is not None,
            store.is_urgent,
        )
        clean = tables.version.sequence
        builder = TableBuilder(store.file_system, options, store.new_table_path, clean, pacer.tick)
        try:
            try:
                for keys, values in merge(_inputs(plan, tables)):
                    pacer.tick(sum(map(len, keys)))
                    kept = self._keep(keys, values, plan, tables.version)
                    if kept[0]:
                        builder.add(*kept)
                outputs = builder.finish()
                if outputs:
                    store.file_system.sync_directory(store.directory)
            except OSError as exc:
                raise translated(exc.filename or store.directory, "compaction", exc) from exc
            edit = VersionEdit(
                added=[(plan.level, table) for table in outputs],
                removed=[table.number for _, table in plan.inputs],
            )
            store.install(lambda _: edit, release_compacting=True)
        except BaseException:
            # After a failed manifest sync the edit may be on the disk: keep the outputs then.
            if store.failure is None:
                builder.abandon()
            raise
        counters = store.counters
        counters.merges += 1
        counters.compaction_bytes += sum(table.size for table in outputs)
        counters.compaction_read_bytes += sum(table.size for _, table in plan.inputs)

    def _keep(self, keys: list[bytes], values: list[Any], plan: Merge, version: Version) -> Slice:
        """Apply the filter, and leave out deletes under which nothing older lies."""
        kinds = set(map(type, values))
        if Pending in kinds:
            values = [resolve(value) for value in values]
        chosen = self._store.options.compaction_filter
        if chosen is not None:
            values = self._filter(keys, values)
            kinds.add(type(None))
        if type(None) not in kinds:
            return keys, values
        below = range(plan.level + 1, LEVELS)
        if not version.is_empty_between(keys[0], keys[-1] + b"\x00", below):
            return keys, values
        alive = [pair for pair in zip(keys, values, strict=True) if pair[1] is not None]
        return [pair[0] for pair in alive], [pair[1] for pair in alive]

    def _filter(self, keys: list[bytes], values: list[Any]) -> list[Any]:
        """Turn what the filter removes into deletes: no older version may come to light."""
        decide = self._store.options.compaction_filter
        assert decide is not None
        kept: list[Any] = []
        for key, value in zip(keys, values, strict=True):
            if value is None:
                kept.append(None)
                continue
            try:
                verdict = decide(key, value)
            except Exception as exc:
                raise CompactionFilterError(
                    f"the compaction filter raised at key {key!r}: {exc!r}"
                ) from exc
            if verdict is FilterVerdict.KEEP:
                kept.append(value)
            elif verdict is FilterVerdict.REMOVE:
                kept.append(None)
                self._store.counters.filtered_entries += 1
            else:
                raise CompactionFilterError(f"the compaction filter returned {verdict!r}")
        return kept


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


def _inputs(plan: Merge, tables: Tables) -> list[Source]:
    """Return the inputs as sources, newest first; disjoint ones of a level as one."""
    chains: list[list[TableMeta]] = []
    level_of_last = 0
    for level, table in plan.inputs:
        if level and level == level_of_last:
            chains[-1].append(table)
        else:
            chains.append([table])
        level_of_last = level
    return [
        tables.source([tables.by_number[table.number] for table in chain], plan.lower, plan.upper)
        for chain in chains
    ]
