"""`Store`: the state that writers, flush and compaction share, and the rules for changing it.

Locks, in the order in which they may be taken:

0. ``hold_lock``: one ingest at a time.
1. ``rotate_lock``: one rotation of memtable and log at a time.
2. ``manifest_lock``: the manifest, `compacting`, and the allocation of file numbers.
3. the group commit's sync lock.
4. ``write_lock``: `state`, `last_sequence`, `segment`, `unsynced`, `snapshots`, appends to the
   log and writes to memtables.

Readers take no lock: they load `state` once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

from streambus_storage._cache import BlockCache
from streambus_storage._errors_io import translated
from streambus_storage._group_commit import GroupCommit
from streambus_storage._manifest_format import ManifestEdit, Segment
from streambus_storage._memtable import MemTable
from streambus_storage._names import manifest_path, segment_path, table_path
from streambus_storage._open_files import OpenFiles
from streambus_storage._pressure import FREE, Dues, Pressure, is_overfull, measure
from streambus_storage._remains import Remains
from streambus_storage._scan import Release
from streambus_storage._scheduler import ThreadScheduler
from streambus_storage._sstable_reader import Table
from streambus_storage._stats import Counters
from streambus_storage._view import Tables, TreeState, View
from streambus_storage._wal_format import encode_mark
from streambus_storage._wal_writer import SegmentWriter
from streambus_storage.errors import (
    ClosedError,
    DiskFullError,
    ReadOnlyError,
    StorageError,
    TreeFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._levels import TableMeta, Version, VersionEdit
    from streambus_storage._manifest import Manifest
    from streambus_storage._manifest_format import ManifestState
    from streambus_storage._options import Options
    from streambus_storage._pressure import Pace
    from streambus_storage._reserve import Reserve
    from streambus_storage._wal_reader import Replayed


UNFINISHED = StorageError("a write that is in the log was interrupted, and could not be finished")
"""The failure of a tree whose memtable lacks what its log holds; see `_writing`."""

CLOSING_SHARE = 8
"""A tree is flushed when it is closed, if this share of a memtable or more waits for that."""


@dataclass(frozen=True, slots=True)
class Compacting:
    """The merge that is running: nothing else may touch its inputs, or place tables within.

    Attributes:
        lower: Least key of its inputs.
        upper: End of their range.
        inputs: Their numbers.
    """

    lower: bytes
    upper: bytes
    inputs: frozenset[int]


class Store:
    """See the module's rules.

    Attributes:
        target: Where a write goes, while the gate is open: the segment and the active memtable.
            Guarded by the write lock.
    """

    target: tuple[SegmentWriter, MemTable]

    def __init__(
        self,
        directory: str,
        options: Options,
        manifest_state: ManifestState,
        replayed: Replayed,
        manifest: Manifest | None,
        segment: SegmentWriter | None,
        reserve: Reserve,
    ) -> None:
        """Begin with what recovery found; without manifest and segment: read-only."""
        self.directory = directory
        self.options = options
        self.file_system = options.file_system
        self.scheduler = options.scheduler or ThreadScheduler()
        self.remains = Remains()
        self.cache = BlockCache(options.cache_bytes, self.remains)
        self.open_files = OpenFiles(options.open_files_max)
        self.counters = Counters()
        self.rotate_lock = threading.Lock()
        self.manifest_lock = threading.Lock()
        self.write_lock = threading.Lock()
        self.manifest = manifest
        self.compacting: Compacting | None = None
        self.closing = False
        self.is_child = False
        self.hold_lock = threading.Lock()
        self.held = False  # True: an ingest keeps writers out
        self.failure: StorageError | None = None
        self.background_error: StorageError | None = None
        self.pace = FREE
        self.dues = Dues()
        self.gate = manifest is None  # True: writers must look closer before they write
        self.last_sequence = replayed.last_sequence
        self.unsynced: list[SegmentWriter] = []  # rotated away, perhaps not synced, oldest first
        self.segment = segment
        self.prepared: SegmentWriter | None = None
        self.reserve = reserve
        self._reserve_lock = threading.Lock()  # guards `reserve`; nothing else is taken under it
        self.rotations = 0
        self.snapshots: SortedList = SortedList()
        self.released: deque[int] = deque()  # snapshots let go; taken out under the write lock
        self.newest_snapshot = -1
        self._unwanted: deque[int] = deque()  # tables whose files may go
        active = self.new_memtable(segment.number if segment else 0, replayed.last_sequence + 1)
        tables = Tables(manifest_state.version, None, self._make_table)
        frozen = tuple(reversed(replayed.memtables))
        for memtable in frozen:
            memtable.remains = self.remains
        self.state: TreeState | None = TreeState(active, frozen, tables)
        if segment is not None:
            self.target = segment, active
        self.commit = GroupCommit(
            self.scheduler, replayed.last_sequence, self._position, self._mark, self.fail
        )

    def _make_table(self, meta: TableMeta) -> Table:
        path = table_path(self.directory, meta.number)
        return Table(self.file_system, path, meta, self.cache, self._unwanted, self.open_files)

    def new_memtable(self, segment: int, first_sequence: int) -> MemTable:
        """Return an empty memtable whose entries will be freed in slices."""
        memtable = MemTable(segment, first_sequence)
        memtable.remains = self.remains
        return memtable

    def abandon_in_child(self) -> None:  # pragma: no cover - in a forked child: not measured
        """Replace the locks in a forked child: who held them does not exist there.

        And remove nothing any more: the files are the parent's.
        """
        self.is_child = True
        self.hold_lock = threading.Lock()
        self.rotate_lock = threading.Lock()
        self.manifest_lock = threading.Lock()
        self.write_lock = threading.Lock()

    # -- what writers and readers ask ------------------------------------------------------

    def present(self) -> TreeState:
        """Return the present state.

        Raises:
            ClosedError: The tree is closed.
        """
        state = self.state
        if state is None:
            raise ClosedError("the tree is closed")
        return state

    def check_open(self) -> None:
        """Raise `ClosedError` if the tree is closed."""
        if self.state is None:
            raise ClosedError("the tree is closed")

    def check_writable(self) -> None:
        """Raise the error that keeps writers out, if there is one."""
        self.check_open()
        if self.closing:
            raise ClosedError("the tree is being closed")
        if self.manifest is None:
            raise ReadOnlyError(f"{self.directory}: opened read-only")
        if self.failure is not None:
            raise TreeFailedError(self.failure) from self.failure

    def view(self, *, ordered: bool) -> tuple[View, Release]:
        """Return a view of this moment, and what gives it back.

        Raises:
            ClosedError: The tree is closed.
        """
        with self.write_lock:
            self.forget_released()
            sequence = self.last_sequence
            view = View(self.present(), sequence, ordered=ordered)
            self.snapshots.add(sequence)
            self.newest_snapshot = sequence
        return view, self._release(sequence)

    def retain(self, sequence: int) -> Release:
        """Keep versions for ``sequence``, which a live snapshot has, beyond that snapshot."""
        with self.write_lock:
            self.forget_released()
            self.snapshots.add(sequence)
            self.newest_snapshot = self.snapshots[-1]
        return self._release(sequence)

    def _release(self, sequence: int) -> Release:
        # Letting go may happen anywhere, in a destructor too: it must not take a lock.
        released = self.released
        return Release(lambda: released.append(sequence))

    def forget_released(self) -> None:
        """Take the snapshots that were let go out of the books. Under the write lock."""
        while self.released:
            self.snapshots.remove(self.released.popleft())
        self.newest_snapshot = self.snapshots[-1] if self.snapshots else -1

    def _position(self) -> tuple[int, list[SegmentWriter]]:
        """Return the last sequence and the segments that may hold unsynced bytes."""
        with self.write_lock:
            writers = [*self.unsynced, self.segment] if self.segment else list(self.unsynced)
            return self.last_sequence, writers

    def _mark(self, durable: int) -> None:
        """Note in the log what is durable, if no later write does it. Under the sync lock."""
        with self.write_lock:
            # Whoever writes next carries the mark for free; without it, damage to the last
            # record could not be told from a torn tail.
            if self.segment is not None and self.last_sequence == durable:
                record = encode_mark(self.segment.seed, durable + 1, durable)
                with contextlib.suppress(OSError):  # only the mark is lost, no data
                    self.segment.file.append(record)
        self.scheduler.notify()

    @contextlib.contextmanager
    def hold_writers(self) -> Iterator[None]:
        """Let no write begin within the block; the flush goes on. One holder at a time.

        Raises:
            ClosedError, TreeFailedError: No write is possible.
        """
        with self.hold_lock:
            self.check_writable()
            self.held = True
            self.gate = True
            try:
                with self.write_lock:  # whoever is writing now, ends
                    pass
                yield
            finally:
                self.held = False
                self.refresh_gate()

    # -- failure and pressure --------------------------------------------------------------

    def fail(self, error: StorageError) -> None:
        """Refuse writes from now on."""
        if self.failure is None or self.failure is UNFINISHED:
            self.failure = error
        self.gate = True
        self.scheduler.notify()

    def recovered(self, error: StorageError | None) -> None:
        """Forget a worker's error, now that its work has succeeded; not another worker's."""
        if self.background_error is error:
            self.background_error = None

    @property
    def pressure(self) -> Pressure:
        """How far the background was behind when that was last looked at."""
        return self.pace.pressure

    def is_urgent(self) -> bool:
        """Tell whether writers wait for flush or compaction."""
        return self.pace.pressure is Pressure.STOP

    def is_overfull(self) -> bool:
        """See `_pressure.is_overfull`."""
        return is_overfull(self.state, self.options)

    def log_is_long(self) -> bool:
        """Tell whether the next open would take long to read the log back."""
        state = self.state
        if state is None or self.closing or self.failure is not None:
            return False
        waiting = sum(memtable.bytes for memtable in state.memtables)
        return waiting * CLOSING_SHARE >= self.options.memtable_bytes

    def measure_pace(self) -> Pace:
        """Compute how far the background is behind, now. Without side effects."""
        return measure(self.state, self.options, prepared=self.prepared is not None)

    def refresh_gate(self) -> None:
        """Recompute how far the background is behind. Call after every change of state."""
        pace = self.pace = self.measure_pace()
        self.gate = (
            pace.pressure is not Pressure.NONE
            or self.failure is not None
            or self.manifest is None
            or self.closing
            or self.held
            or self.state is None
            or self.reserve.spent
        )
        self.scheduler.notify()

    # -- the reserve -------------------------------------------------------------------------

    def take_reserve(self) -> bool:
        """Set the reserve aside, unless it is; return whether it is there."""
        with self._reserve_lock:
            return self.reserve.take()

    def spend_reserve(self) -> bool:
        """Give the reserve up, because the disk is full; return whether there was one."""
        with self._reserve_lock:
            spent = self.reserve.spend()
        self.gate = True  # for puts: what is free now is for those who give space back
        return spent

    # -- the log ---------------------------------------------------------------------------

    def create_segment(self) -> SegmentWriter:
        """Create the next log segment, durable and known to the manifest.

        In a tree that was busy since it was opened, room is set aside for all that it will hold:
        an append that makes a file longer waits for the file system's journal now and then.

        Raises:
            DiskFullError: There is no room.
            StorageIOError: It could not be created.
            TreeFailedError: The manifest could not be synced.
        """
        with self.manifest_lock:
            manifest = self.manifest
            assert manifest is not None
            number = manifest.state.next_segment
            manifest.state.next_segment += 1  # never reuse a number, even of a failed attempt
            room = self.options.memtable_bytes if self.rotations else 0
            try:
                writer = SegmentWriter.create(self.options, self.directory, number, room)
            except OSError as exc:
                path = segment_path(self.directory, number)
                with contextlib.suppress(OSError):
                    self.file_system.unlink(path)
                raise translated(path, "create", exc) from exc
            try:
                self._write_edit(ManifestEdit(segments=[Segment(number)]))
            except BaseException:
                writer.file.close()
                raise
            return writer

    def segment_length(self, number: int) -> int | None:
        """Return how long a segment is that nothing is appended to any more; None: unknown."""
        with self.manifest_lock:
            assert self.manifest is not None
            known = self.manifest.state.segments.get(number)
            if known is not None and known.sealed is not None:
                return known.sealed
        with self.write_lock:
            return next((w.file.size for w in self.unsynced if w.number == number), None)

    # -- the manifest ----------------------------------------------------------------------

    def new_table_path(self) -> tuple[int, str]:
        """Allocate a number for a new table; return it with the path."""
        with self.manifest_lock:
            assert self.manifest is not None
            number = self.manifest.state.next_table
            self.manifest.state.next_table += 1
        return number, table_path(self.directory, number)

    def _write_edit(self, edit: ManifestEdit) -> None:
        """Append an edit to the manifest and sync it. Under the manifest lock.

        Raises:
            DiskFullError: There is no room; nothing has changed.
            TreeFailedError: Nobody knows whether it is on the disk: the tree has failed.
        """
        manifest = self.manifest
        assert manifest is not None
        if self.failure is not None:
            raise TreeFailedError(self.failure) from self.failure
        path = manifest_path(self.directory, manifest.number)
        try:
            manifest.append(edit)
        except OSError as exc:
            error = translated(path, "append", exc)
            if isinstance(error, DiskFullError):
                raise error from exc
            # The edit may have reached the disk whole: keep the files of both states.
            self.fail(error)
            raise TreeFailedError(error) from exc
        try:
            manifest.sync()
            if manifest.wants_roll():
                old = manifest.roll()
                with contextlib.suppress(OSError):  # the next open removes it
                    self.file_system.unlink(manifest_path(self.directory, old))
        except OSError as exc:
            # Both the old and the new state may be on the disk: keep the files of both.
            error = translated(path, "sync", exc)
            self.fail(error)
            raise TreeFailedError(error) from exc

    def install(
        self,
        make_edit: Callable[[Version], VersionEdit],
        *,
        flushed: MemTable | None = None,
        release_compacting: bool = False,
    ) -> None:
        """Change the version: in the manifest first, then for readers.

        Args:
            make_edit: Returns the edit; called under the manifest lock with the present version.
            flushed: The memtable whose content the edit puts into tables.
            release_compacting: The running merge ends with this edit.

        Raises:
            DiskFullError, StorageIOError: Nothing has changed.
            TreeFailedError: The manifest's sync failed; readers see the old version.
        """
        with self.manifest_lock:
            manifest = self.manifest
            assert manifest is not None
            edit = make_edit(manifest.state.version)
            dropped = [flushed.segment] if flushed is not None else []
            self._write_edit(ManifestEdit(version=edit, dropped=dropped))
            if release_compacting:
                self.compacting = None
            version = manifest.state.version
            before = self.present().tables
            tables = Tables(version, before, self._make_table)
            with self.write_lock:
                state = self.present()
                frozen = tuple(table for table in state.frozen if table is not flushed)
                self.state = TreeState(state.active, frozen, tables)
                retired = [
                    writer
                    for writer in self.unsynced
                    if flushed is not None and writer.number == flushed.segment
                ]
            moved = {meta.number for _, meta in edit.added}
            for number in edit.removed:
                if number not in moved:
                    before.by_number[number].give_up()
        if flushed is not None:
            self.commit.advance(flushed.last_sequence, lambda: self._retire(retired))
            with contextlib.suppress(OSError):  # the next open removes it
                self.file_system.unlink(segment_path(self.directory, flushed.segment))
        self.refresh_gate()

    def _retire(self, writers: list[SegmentWriter]) -> None:
        """Close segments whose content is in tables. Under the sync lock."""
        with self.write_lock:
            self.unsynced = [writer for writer in self.unsynced if writer not in writers]
        for writer in writers:
            writer.file.close()

    def remove_unwanted(self) -> None:
        """Remove the files of tables that were given up and that nobody reads any more."""
        while not self.is_child:  # pragma: no branch - true only in a forked child: not measured
            try:
                number = self._unwanted.popleft()
            except IndexError:
                return
            with contextlib.suppress(OSError):  # the next open removes it
                self.file_system.unlink(table_path(self.directory, number))
