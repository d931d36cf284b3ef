"""`LSMTree`, the class around which this package revolves.

Theory of operation: a write goes to the log (`_wal_writer`), then to the memtable
(`_memtable`), and is visible (`_writing`). A full memtable is frozen and flushed to table files
(`_flush`, `_table_builder`, `_sstable_writer`); compaction (`_compaction_choice`,
`_compaction_worker`) keeps them in shape. The manifest (`_manifest`) says which files make up
the tree; `_store` holds what all of these share. A read takes the present `TreeState`
(`_view`) and asks memtables, then tables, newest first. Opening is `_recovery`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, overload

from streambus_storage import _fork
from streambus_storage._batch import WriteBatch
from streambus_storage._checkpoint import write_checkpoint
from streambus_storage._closing import abandon, release_files, seal
from streambus_storage._compaction_worker import Compactor
from streambus_storage._directories import as_path
from streambus_storage._edge import Undecided, edges_of_memtables, edges_of_tables, nearest
from streambus_storage._flush import Flusher
from streambus_storage._housekeeping import Housekeeper
from streambus_storage._ingest import ingest
from streambus_storage._keys import END_OF_KEYS, as_key, as_range, as_value
from streambus_storage._options import KEY_BYTES_MAX, VALUE_BYTES_MAX, Options
from streambus_storage._reading import Readable
from streambus_storage._recovery import open_store
from streambus_storage._snapshot import Snapshot
from streambus_storage._sstable_reader import ValueLocation
from streambus_storage._stats import TreeStats, collect
from streambus_storage._verify import VerifyReport, verify_store
from streambus_storage._writing import Writer
from streambus_storage.errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidTypeError,
    StorageError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from streambus_storage._block import RawValue
    from streambus_storage._filesystem import Buffer
    from streambus_storage._pressure import Pressure
    from streambus_storage._recovery import Opened
    from streambus_storage._scan import Pair, Release
    from streambus_storage._sstable_reader import Table
    from streambus_storage._view import View
    from streambus_storage._wal_reader import RecoveryReport

    T = TypeVar("T")


class LSMTree(Readable):
    """An ordered map from bytes to bytes on disk. Open it with `LSMTree.open`.

    Thread-safe: all methods may be called from any thread. After a fork, the child's copy is
    closed; the parent's goes on. Durability: a write has reached the operating system when it
    returns, so the death of the process loses nothing; only with ``sync=True``, or after
    `wait_durable`, does it also survive the loss of power.

    Attributes:
        path: The directory.
        recovery: What the opening found in the write-ahead log.
    """

    def __init__(self, path: str, opened: Opened) -> None:
        """Use `LSMTree.open`."""
        self.path = path
        self.recovery: RecoveryReport = opened.report
        self._lock = opened.lock
        self._store = opened.store
        self._compactor = Compactor(self._store)
        self._flusher = Flusher(self._store, self._compactor.worker.wake)
        self._housekeeper = Housekeeper(self._store)
        self._writer = Writer(self._store, self._flusher, self._compactor.worker, self._housekeeper)
        if self._lock is not None:
            _fork.watch(self)
            self._store.refresh_gate()
            self._housekeeper.wake()
            self._flusher.wake()
            self._compactor.worker.wake()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        options: Options | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
    ) -> LSMTree:
        """Open the tree in a directory.

        Args:
            path: The directory.
            options: How it behaves; all defaults if None.
            create: Create directory and tree if there is none.
            read_only: Take no lock and change nothing: any number of readers beside a writer.
                What they see is the moment of their opening.

        Raises:
            InvalidTypeError: The path is no path, or the options are no `Options`.
            InvalidArgumentError: The path is empty, or has a NUL in it.
            NotATreeError: There is no tree, and create is False or other files are there.
            LockedError: It is open for writing, in this process or another.
            CorruptionError: A file is damaged or missing.
            FormatVersionError: It was written by a later version.
            StorageIOError: The system refused; DiskFullError: there is no room.
        """
        directory = as_path(path)
        if options is None:
            options = Options()
        elif not isinstance(options, Options):
            raise InvalidTypeError(f"options must be Options, not {type(options).__name__}")
        opened = open_store(directory, options, create=create, read_only=read_only)
        return cls(directory, opened)

    def __enter__(self) -> LSMTree:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._store.state is None else "open"
        return f"<LSMTree {self.path!r} {state}>"

    # -- writing ---------------------------------------------------------------------------

    def put(self, key: Buffer, value: Buffer, *, sync: bool = False) -> int:
        """Store ``value`` under ``key``; return the write's sequence number.

        Args:
            key: Up to `KEY_BYTES_MAX` bytes; the empty key is allowed.
            value: Up to `VALUE_BYTES_MAX` bytes.
            sync: Return only when the write is durable (and all before it).

        Raises:
            InvalidTypeError: Key or value are not bytes-like.
            InvalidArgumentError: One of them is too long.
            ClosedError, ReadOnlyError: The tree is not open for writing; nothing was written.
            DiskFullError: There is no room; nothing was written.
            WriteStallError: Flush and compaction are too far behind; nothing was written.
            TreeFailedError: Nothing was written; or, with sync, the write is in the log, but
                nobody knows whether it will survive.

        After a failure of another kind than these (a KeyboardInterrupt, say) the write may have
        been done or not.
        """
        if type(key) is not bytes or len(key) > KEY_BYTES_MAX:
            key = as_key(key)
        if type(value) is not bytes or len(value) > VALUE_BYTES_MAX:
            value = as_value(value)
        sequence = self._writer.put(key, value)
        if sync:
            self._store.commit.wait(sequence)
        return sequence

    def delete(self, key: Buffer, *, sync: bool = False) -> int:
        """Remove ``key``, whether it is there or not; else as `put`."""
        sequence = self._writer.put(as_key(key), None)
        if sync:
            self._store.commit.wait(sequence)
        return sequence

    def delete_range(self, start: Buffer, stop: Buffer, *, sync: bool = False) -> int:
        """Remove all keys with start <= key < stop; else as `put`.

        Cost: independent of the number of keys. Tables that lie wholly in the range are
        removed unread, in the background, about a second later. That needs no room on the
        disk but for `Options.reserve_bytes`.

        Raises:
            InvalidArgumentError: start is after stop.
        """
        batch = WriteBatch()
        first, end = as_range(start, stop)
        batch.delete_range(first, end)
        return self.write(batch, sync=sync)

    def write(self, batch: WriteBatch, *, sync: bool = False) -> int:
        """Write a batch atomically; return the sequence number of its last operation.

        An empty batch writes nothing, and returns the last sequence number there is.
        Raises as `put`; InvalidTypeError: it is no `WriteBatch`.
        """
        if not isinstance(batch, WriteBatch):
            raise InvalidTypeError(f"a batch must be a WriteBatch, not {type(batch).__name__}")
        sequence = self._writer.write(batch)
        if sync:
            self._store.commit.wait(sequence)
        return sequence

    @contextlib.contextmanager
    def batch(self, *, sync: bool = False) -> Iterator[WriteBatch]:
        """Collect operations, and write them at the end of the block; not if it raises."""
        collected = WriteBatch()
        yield collected
        self.write(collected, sync=sync)

    def ingest(self, items: Iterable[tuple[Buffer, Buffer]]) -> int:
        """Load many entries, in strictly ascending order of keys, straight into tables.

        Atomic: all are there, durable, or none. Newer than everything written before. Writers
        wait while the memtables are flushed, so this is for bulk loads.

        Returns:
            Sequence number of the load.

        Raises:
            InvalidArgumentError: The keys do not ascend; nothing was loaded.
            StorageError: As for `put`.
        """
        return ingest(self._store, self._writer, self._flusher, items)

    @property
    def pressure(self) -> Pressure:
        """How far flush and compaction are behind: what the next write has to expect.

        `Pressure.SLOW`: writers are held to a rate, and a write may be delayed by up to a second;
        `Pressure.STOP`: it waits. An event loop, which must do neither, opens the tree with
        ``stall_seconds_max=0``: such a write is refused at once, and tried again a little later.
        """
        return self._store.pressure

    @property
    def background_error(self) -> StorageError | None:
        """What flush or compaction failed with last; None if it went on since.

        Whatever it was is tried again. Damage does not heal by that: what the damaged table holds
        cannot be read, and nothing is merged that overlaps it.
        """
        return self._store.background_error

    # -- durability ------------------------------------------------------------------------

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last write; 0 in an empty tree."""
        return self._store.last_sequence

    @property
    def durable_sequence(self) -> int:
        """Everything up to this sequence number survives the loss of power."""
        return self._store.commit.durable

    def sync(self) -> None:
        """Make everything written so far durable.

        Raises:
            ClosedError: The tree is closed.
            TreeFailedError: It failed, which is final for writes.
        """
        self._store.check_open()
        self._store.commit.wait(self._store.last_sequence)

    def wait_durable(self, sequence: int, timeout: float | None = None) -> None:
        """Return when everything up to ``sequence`` is durable, syncing if nobody else does.

        Args:
            sequence: What a write returned.
            timeout: In seconds; for a sync by another thread. (One's own takes what it takes.)

        Raises:
            InvalidTypeError, InvalidArgumentError: No write has returned this yet.
            ClosedError, TreeFailedError: As `sync`.
            WaitTimeoutError: The timeout passed.
        """
        self._check_sequence(sequence)
        self._store.commit.wait(sequence, timeout)

    def on_durable(self, sequence: int, callback: Callable[[StorageError | None], object]) -> None:
        """Ask for a sync, and call ``callback(error)`` once when ``sequence`` is durable.

        ``error`` is None then, else why it will not be. The callback runs in the sync thread;
        from an event loop, give it ``loop.call_soon_threadsafe``. Many callers share one sync.

        Raises:
            InvalidTypeError, InvalidArgumentError: No write has returned this sequence number yet,
                or the callback cannot be called.
            ClosedError: The tree is closed.
        """
        if not callable(callback):
            raise InvalidTypeError(f"a callback must be callable, not {type(callback).__name__}")
        self._check_sequence(sequence)
        self._store.commit.on_durable(sequence, callback)

    def _check_sequence(self, sequence: int) -> None:
        store = self._store
        store.check_open()
        if not isinstance(sequence, int):
            raise InvalidTypeError(f"a sequence number is an int, not {type(sequence).__name__}")
        if sequence > store.last_sequence:
            raise InvalidArgumentError(
                f"sequence number {sequence} was not written yet: the last is {store.last_sequence}"
            )

    # -- reading ---------------------------------------------------------------------------

    @overload
    def get(self, key: Buffer) -> bytes | None: ...
    @overload
    def get(self, key: Buffer, default: T) -> bytes | T: ...
    def get(self, key: Buffer, default: object = None) -> object:
        """Return the value of ``key``, or ``default``.

        Raises:
            InvalidTypeError: The key is not bytes-like.
            InvalidArgumentError: It is too long.
            ClosedError: The tree is closed.
            CorruptionError: What holds the key is damaged.
            StorageIOError: It cannot be read.
        """
        if type(key) is not bytes or len(key) > KEY_BYTES_MAX:
            key = as_key(key)
        state = self._store.state
        if state is None:
            raise ClosedError("the tree is closed")
        for memtable in state.memtables:
            if memtable.intervals.starts:
                known, value = memtable.newest(key)
                if known:
                    return default if value is None else value
            else:
                entry = memtable.entries.get(key)
                if entry is not None:
                    value = entry[1]
                    return default if value is None else value
        table, found = state.tables.find(key)
        if type(found) is bytes:
            return found
        if found is None:
            return default
        assert table is not None
        return table.read_raw(found)  # type: ignore[arg-type]  # neither bytes nor None

    def _locate(self, key: Buffer) -> tuple[Table | None, bytes | RawValue | None]:
        checked = as_key(key)
        state = self._store.present()
        for memtable in state.memtables:
            known, value = memtable.newest(checked)
            if known:
                return None, value
        return state.tables.find(checked)

    def __contains__(self, key: Buffer) -> bool:
        return self._locate(key)[1] is not None

    def get_view(self, key: Buffer) -> memoryview | None:
        """Return the value of ``key`` as a memoryview, or None; no copy is made of it.

        Raises as `get`.
        """
        value = self.get(key)
        return None if value is None else memoryview(value)

    def locate(self, key: Buffer) -> ValueLocation | None:
        """Return where the value lies raw in a file, for sendfile or a reader of its own.

        Only values of at least `Options.raw_value_bytes` that were flushed have such a place;
        None for all others: use `get` then. The file stays at least until the value is
        overwritten or deleted, or its table compacted; hold a snapshot to be sure.

        Raises as `get`. The bytes there are not checked: `get` does that.
        """
        table, found = self._locate(key)
        if table is None or found is None or type(found) is bytes:
            return None
        return ValueLocation(table.path, found.offset, found.length)  # type: ignore[union-attr]  # no bytes: a table has it

    def multi_get(self, keys: Iterable[Buffer]) -> list[bytes | None]:
        """Return the values of many keys at one moment, None where there is none."""
        with self.snapshot() as moment:
            return moment.multi_get(keys)

    def snapshot(self) -> Snapshot:
        """Return a view of this moment that later writes do not change; close it when done."""
        view, release = self._store.view(ordered=True)
        return Snapshot(view, release, self._store)

    def _capture(self) -> tuple[View, Release, Callable[[], None]]:
        view, release = self._store.view(ordered=True)
        return view, release, self._store.check_open

    def _edge(self, low: bytes, high: bytes, *, last: bool) -> Pair | None:
        try:
            with self._store.write_lock:
                state = self._store.present()
                found = edges_of_memtables(state.memtables, low, high, last=last)
            return nearest(
                [*found, *edges_of_tables(state.tables, low, high, last=last)], last=last
            )
        except Undecided:
            return super()._edge(low, high, last=last)

    # -- care ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all memtables to tables, and return when that is done.

        Raises:
            ClosedError, ReadOnlyError, TreeFailedError: No write is possible.
            StorageError: The flush failed; nothing is lost, and it is tried again.
        """
        store = self._store
        store.check_writable()
        newest = self._writer.rotate(force=True)
        if newest is not None:
            self._flusher.wait(newest)
        store.remove_unwanted()

    def compact(self, start: Buffer | None = None, stop: Buffer | None = None) -> None:
        """Flush, then bring the tables of a range into one level, and return when done.

        Raises as `flush`, and:
            CorruptionError: An input is damaged; all inputs are kept.
            CompactionFilterError: The filter raised; all inputs are kept.
        """
        first, end = as_range(
            b"" if start is None else start, END_OF_KEYS[:-1] if stop is None else stop
        )
        self.flush()
        self._compactor.compact(first, END_OF_KEYS if stop is None else end)

    def pause_compaction(self) -> None:
        """Begin no further compaction until `resume_compaction`. A running one ends."""
        self._store.check_writable()
        self._compactor.paused = True

    def resume_compaction(self) -> None:
        """Take compaction up again."""
        self._store.check_writable()
        self._compactor.paused = False
        self._compactor.worker.wake()

    def checkpoint(self, directory: str | os.PathLike[str]) -> None:
        """Write an independent copy of the tree into a new directory, by hard links.

        It holds everything written before the call, durable. On another file system the files
        are copied.

        Raises:
            InvalidTypeError: It is no path.
            InvalidArgumentError: The directory exists, or no directory can have this name.
            StorageError: It failed; what was begun is removed.
        """
        write_checkpoint(self, self._store, as_path(directory))

    def verify(self) -> VerifyReport:
        """Read and check every block of every table; damage is reported, not raised."""
        return verify_store(self._store)

    def stats(self) -> TreeStats:
        """Return counters and sizes of this moment."""
        return collect(self._store)

    def close(self) -> None:
        """Make everything durable, stop the background, and give lock and files back.

        What would take long to read back from the log is flushed first. Closing twice does
        nothing.

        Raises:
            TreeFailedError: The last sync failed. The tree is closed all the same.
            StorageIOError: The manifest could not be written at the end; closed all the same.
        """
        store = self._store
        if self._lock is not None and store.log_is_long():
            with contextlib.suppress(StorageError):  # then the next open reads the log
                self.flush()
        with store.rotate_lock:
            if store.closing:
                return
            store.closing = True
        try:
            if self._lock is not None:
                store.refresh_gate()
                self._housekeeper.stop()
                self._flusher.stop()
                self._compactor.stop()
                seal(store)
        finally:
            store.commit.close(store.failure)
            release_files(store, self._lock)
            _fork.forget(self)

    def abandon_in_child(self) -> None:  # pragma: no cover - in a forked child: not measured
        """Close this copy of the tree in a forked child: no lock is taken, nothing written."""
        self._flusher.abandon_in_child()
        self._compactor.abandon_in_child()
        assert self._lock is not None, "only trees that are open for writing are watched"
        abandon(self._store, self._lock)
