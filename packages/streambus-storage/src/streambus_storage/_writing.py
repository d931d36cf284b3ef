"""Writing: the log first, then the memtable, then visible; and what happens when one is full.

A write is atomic: its one record is in the log whole or not at all, and readers see all of it or
nothing. The log's order is the order of the sequence numbers and of visibility, because all
three are made under the write lock.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from streambus_storage._errors_io import again, translated
from streambus_storage._options import VALUE_BYTES_MAX
from streambus_storage._pressure import Pressure
from streambus_storage._store import UNFINISHED
from streambus_storage._view import TreeState
from streambus_storage._wal_format import (
    encode_batch,
    encode_batch_payload,
    encode_delete,
    encode_put,
    put_parts,
)
from streambus_storage._wal_reader import apply_batch
from streambus_storage.errors import (
    ClosedError,
    DiskFullError,
    InvalidArgumentError,
    StorageError,
    TreeFailedError,
    WriteStallError,
)

if TYPE_CHECKING:
    from streambus_storage._batch import WriteBatch
    from streambus_storage._flush import Flusher
    from streambus_storage._housekeeping import Housekeeper
    from streambus_storage._memtable import MemTable
    from streambus_storage._scheduler import Worker
    from streambus_storage._store import Store
    from streambus_storage._wal_format import RangeOperation
    from streambus_storage._wal_writer import SegmentWriter

PARTS_BYTES = 8192
"""From this length on a value is written beside its header, instead of joined to it."""

FREEING_BYTES_MAX = 16_384
"""A batch with range deletes and no more than this gives space back: it may use the reserve."""

FINISH_ATTEMPTS = 3
"""An interrupted write is finished after so many more interruptions at most."""

FREEING_FACTOR = 8
"""On a full disk range deletes go on until the memtable has so many times its size."""


class Writer:
    """The write path of a tree. Thread-safe: see the store's locks."""

    def __init__(
        self, store: Store, flusher: Flusher, compactor: Worker, housekeeper: Housekeeper
    ) -> None:
        self._store = store
        self._flusher = flusher
        self._housekeeper = housekeeper
        self._compactor = compactor
        self._memtable_bytes = store.options.memtable_bytes

    def _admit(self) -> None:
        """Look closer, the gate having closed since it was passed. Under the write lock.

        Raises:
            ClosedError, ReadOnlyError, TreeFailedError: No write is possible.
        """
        store = self._store
        while store.held:  # an ingest began: wait outside of the lock
            store.write_lock.release()
            try:
                store.scheduler.wait(lambda: not store.held or store.closing)
            finally:
                store.write_lock.acquire()
        store.check_writable()

    def put(self, key: bytes, value: bytes | None) -> int:
        """Write one put, or a delete (None); return its sequence number. See `LSMTree.put`."""
        store = self._store
        if store.gate:
            self._pass_gate(len(key) + (len(value) if value is not None else 0))
        with store.write_lock:
            if store.gate:
                self._admit()
            segment, active = store.target
            sequence = store.last_sequence + 1
            seed, durable = segment.seed, store.commit.durable
            file = segment.file
            size = file.size
            try:
                if value is None:
                    file.append(encode_delete(seed, sequence, durable, key))
                elif len(value) < PARTS_BYTES:
                    file.append(encode_put(seed, sequence, durable, key, value))
                else:
                    file.append_parts(put_parts(seed, sequence, durable, key, value))
                active.put(sequence, key, value, store.newest_snapshot)
            except OSError as exc:
                raise self._append_failed(exc) from exc
            except BaseException:
                if file.size != size:
                    store.failure, store.gate = store.failure or UNFINISHED, True
                    self._finish(sequence, [key], [value], [])
                raise
            store.last_sequence = sequence
        if active.bytes >= self._memtable_bytes:
            self._rotate_if_full()
        return sequence

    def write(self, batch: WriteBatch) -> int:
        """Write a batch; return the sequence number of its last operation. See `LSMTree.write`."""
        store = self._store
        keys, values, ranges = list(batch.keys), list(batch.values), list(batch.ranges)
        operations = len(keys) + len(ranges)
        if not operations:
            if store.gate:
                self._pass_gate(0)
            return store.last_sequence
        payload = encode_batch_payload(keys, values, ranges)
        size = len(payload)
        frees = bool(ranges) and size <= FREEING_BYTES_MAX
        if store.gate:
            self._pass_gate(size, frees=frees)
        if size > VALUE_BYTES_MAX:  # pragma: no cover - a test would need gigabytes of memory
            raise InvalidArgumentError(
                f"a batch of {size} bytes: the longest has {VALUE_BYTES_MAX}"
            )
        with store.write_lock:
            if store.gate:
                self._admit()
            segment, active = store.target
            sequence = store.last_sequence + 1
            record = encode_batch(segment.seed, sequence, store.commit.durable, payload)
            begin = segment.file.size
            try:
                self._append(segment, record, frees=frees)
                snapshot = store.newest_snapshot
                if ranges:
                    apply_batch(active, sequence, keys, values, ranges, snapshot)
                else:
                    active.put_columns(sequence, keys, values, size, snapshot)
            except BaseException:
                if segment.file.size != begin:
                    store.failure, store.gate = store.failure or UNFINISHED, True
                    self._finish(sequence, keys, values, ranges)
                raise
            last = store.last_sequence = sequence + operations - 1
        if ranges:
            self._housekeeper.sweep_soon()
        if active.bytes >= self._memtable_bytes:
            self._rotate_if_full()
        return last

    def _finish(
        self,
        sequence: int,
        keys: list[bytes],
        values: list[bytes | None],
        ranges: list[RangeOperation],
    ) -> None:
        """Finish a write that was interrupted, by a signal's handler that raised, say.

        Its record is in the log: the next one must not have the same sequence number. What was
        done of it is done again, which changes nothing. Until that has succeeded, the tree counts
        as failed: one more signal may come at any place. Under the write lock.
        """
        store = self._store
        for _ in range(FINISH_ATTEMPTS):
            try:
                apply_batch(store.target[1], sequence, keys, values, ranges, store.newest_snapshot)
                store.last_sequence = sequence + len(keys) + len(ranges) - 1
                if store.failure is UNFINISHED:
                    store.failure = None
            except BaseException:  # noqa: BLE001,S112 - the first one is raised in the end
                continue
            return

    def _append(self, segment: SegmentWriter, record: bytes, *, frees: bool) -> None:
        """Append a batch; one that ``frees`` space may use the reserve. Under the write lock.

        Raises:
            DiskFullError, TreeFailedError: Nothing was written.
        """
        try:
            try:
                segment.file.append(record)
            except OSError as exc:
                full = isinstance(translated(segment.file.path, "append", exc), DiskFullError)
                if not (frees and full and self._store.spend_reserve()):
                    raise
                segment.file.append(record)
        except OSError as exc:
            raise self._append_failed(exc) from exc

    def _append_failed(self, exc: OSError) -> StorageError:
        """Say what a failed append means. Under the write lock; nothing was written.

        A full disk is survivable: the garbage behind the log's end is overwritten by the next
        record. After any other error nobody knows what the file's end looks like.
        """
        store = self._store
        segment = store.segment
        assert segment is not None
        error = translated(segment.file.path, "append", exc)
        if isinstance(error, DiskFullError):
            return error
        store.failure = store.failure or error
        store.gate = True
        return TreeFailedError(error)

    # -- rotation --------------------------------------------------------------------------

    def _rotate_if_full(self) -> None:
        """Rotate; if the next segment is not ready the memtable grows on, up to twice its size."""
        store = self._store
        if store.prepared is None:
            self._housekeeper.wake()
            if store.prepared is None:
                store.gate = store.gate or store.is_overfull()
                return
        # The write that led here is done: it must not fail now, because a segment cannot be made
        # or because another thread closes the tree.
        with contextlib.suppress(ClosedError):
            self.rotate(force=False, create=False)

    def rotate(self, *, force: bool, create: bool = True) -> MemTable | None:
        """Freeze the memtable and go on in a new log segment.

        Args:
            force: Even if it is not full (but not if it is empty).
            create: Create the segment if none is prepared; else nothing is done then.

        Returns:
            The newest frozen memtable that holds writes; None: there is none.

        Raises:
            StorageError: The next segment could not be created; everything is as before.
            ClosedError: The tree is being closed.
        """
        newest, fresh = self._freeze(force=force, create=create)
        if fresh:
            # No state is held here: what runs now may remove the files of an older one.
            self._store.refresh_gate()
            self._housekeeper.wake()
            self._flusher.wake()
        return newest

    def _freeze(self, *, force: bool, create: bool) -> tuple[MemTable | None, bool]:
        """Do the rotation; return the newest frozen memtable, and whether it is a new one."""
        store = self._store
        with store.rotate_lock:  # `closing` is set under it
            if store.closing:
                raise ClosedError("the tree is being closed")
            least = 1 if force else self._memtable_bytes
            if store.present().active.bytes < least or not (create or store.prepared):
                frozen = store.present().frozen
                return (frozen[0] if frozen else None), False
            # No state is held while this takes its time: the files of an older one may go.
            following = store.prepared or store.create_segment()
            with store.write_lock:
                state = store.present()
                old, active = store.segment, state.active
                assert old is not None
                user_bytes = active.user_bytes
                fresh = store.new_memtable(following.number, store.last_sequence + 1)
                rotated = TreeState(fresh, (active, *state.frozen), state.tables)
                # No calls from here on: a signal's handler could raise in the middle of it.
                store.counters.log_bytes += old.file.size
                store.counters.user_bytes += user_bytes
                store.rotations += 1
                store.unsynced = [*store.unsynced, old]
                store.prepared = None
                store.segment = following
                store.state = rotated
                store.target = following, fresh
        return active, True

    # -- the gate --------------------------------------------------------------------------

    def _pass_gate(self, size: int, *, frees: bool = False) -> None:
        """Look closer: closed, failed, full, or behind? Return when a write may go on.

        Args:
            size: Of the write, in bytes.
            frees: The write gives space back: it need not wait for flushes that need some.

        Raises:
            ClosedError, ReadOnlyError, TreeFailedError: No write is possible.
            DiskFullError: There is no room.
            WriteStallError: Flush and compaction did not catch up in time.
        """
        store = self._store
        store.check_writable()
        if store.held:
            store.scheduler.wait(lambda: not store.held or store.closing)
            store.check_writable()
        if (store.reserve.spent or self._lacks_room()) and self._may_grow(frees):
            return
        if store.reserve.spent and not frees and not store.take_reserve():
            path = store.reserve.path
            raise DiskFullError(path, "append", OSError(errno.ENOSPC, "the reserve is spent"))
        if store.pressure is Pressure.SLOW and not store.dues.seconds(store.scheduler.now()):
            store.dues.add(size, store.pace, store.scheduler.now())  # its turn: nothing to look at
            return
        if store.is_overfull() and (store.prepared is not None or self._lacks_room()):
            self.rotate(force=False, create=not frees)
        store.refresh_gate()
        if store.pressure is Pressure.STOP:
            self._housekeeper.wake()
            self._flusher.wake()
            self._compactor.wake()
            if store.pressure is Pressure.STOP:
                self._stall(frees)
        elif store.pressure is Pressure.SLOW:
            self._slow_down()
            store.dues.add(size, store.pace, store.scheduler.now())
        store.check_writable()

    def _lacks_room(self) -> bool:
        """Tell whether the background has met a full disk, and has not gone on since."""
        return isinstance(self._store.background_error, DiskFullError)

    def _may_grow(self, frees: bool) -> bool:
        """Tell whether a write goes on though the disk is full: it ``frees``, and is in bounds."""
        return frees and self._store.present().active.bytes < FREEING_FACTOR * self._memtable_bytes

    def _check_room(self, frees: bool) -> None:
        """Raise `DiskFullError` if a wait is in vain, because the background has no room."""
        error = self._store.background_error
        if isinstance(error, DiskFullError) and not self._may_grow(frees):
            raise again(error)

    def _slow_down(self) -> None:
        """Wait for this write's turn, where writers are held to a rate; not for more than that.

        Raises:
            WriteStallError: It is not its turn, and `stall_seconds_max` is 0.
        """
        store = self._store
        begin = store.scheduler.now()
        seconds = store.dues.seconds(begin)
        if not seconds:
            return
        store.counters.slowdowns += 1
        seconds = min(seconds, store.options.stall_seconds_max)
        if not seconds:
            raise WriteStallError(0.0, "writers are slowed down until compaction catches up")
        store.scheduler.wait(
            lambda: store.pressure is not Pressure.SLOW or store.closing or store.held, seconds
        )
        store.counters.slowdown_seconds += store.scheduler.now() - begin

    def _stall(self, frees: bool) -> None:
        """Wait until the pressure falls, at most `stall_seconds_max`. Raises as `_pass_gate`."""
        store = self._store
        self._check_room(frees)
        begin = store.scheduler.now()
        timeout = store.options.stall_seconds_max
        passed = store.scheduler.wait(
            lambda: (
                # Measured, not remembered: of two threads that refresh it the slower one may
                # have written down what was true before the other's work was done.
                store.measure_pace().pressure is not Pressure.STOP
                or store.closing
                or store.failure is not None
                or self._lacks_room()
            ),
            timeout,
        )
        waited = store.scheduler.now() - begin
        counters = store.counters
        counters.stalls += 1
        counters.stall_seconds += waited
        counters.stall_seconds_longest = max(counters.stall_seconds_longest, waited)
        store.check_writable()
        self._check_room(frees)
        if not passed:
            state = store.present()
            raise WriteStallError(
                waited,
                f"{len(state.frozen)} memtables wait for their flush, "
                f"{len(state.tables.level0)} tables are in level 0",
            )
