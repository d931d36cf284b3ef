"""A durable log in a directory of its own; needs no other package.

How it works: :meth:`FileLogStorage.write` only encodes and queues, so the event loop is never held
up by a disk; :meth:`FileLogStorage.sync` carries out what is queued, in order, with one
``fdatasync`` for all of it (group commit), and may be called from another thread (``_log_writer``).
Whatever was written can be read at once. ``docs/formats/raft-log.md`` has the bytes.

A failed write or sync is final: the kernel may have dropped what it could not write, so nothing
that was written since the last good sync is known to exist. Everything later is refused.
"""

from __future__ import annotations

import contextlib
import os.path
import threading
from typing import TYPE_CHECKING, Final

from streambus_raft._entry import ENTRY_OVERHEAD_BYTES, entries_bytes, limit_bytes
from streambus_raft._files import RealFileSystem
from streambus_raft._log_creation import create_log, read_identity
from streambus_raft._log_index import LogIndex, Place
from streambus_raft._log_records import (
    CheckpointRecord,
    EntriesRecord,
    RecordError,
    decode_log_record,
    encode_compact,
    encode_entries,
    encode_hard_state,
    encode_reset,
)
from streambus_raft._log_recovery import TornTail, recover_log, segment_name
from streambus_raft._log_writer import DropStep, InstallStep, LogWriter
from streambus_raft._segment import SEGMENT_BYTES_LIMIT, decode_record, framed_bytes
from streambus_raft._snapshot_files import SnapshotFiles
from streambus_raft._storage import EMPTY_SNAPSHOT, SnapshotMeta, StorageState, Write
from streambus_raft._types import NUMBER_MAX, Index, Term
from streambus_raft.errors import (
    ConfigError,
    ForeignStorageError,
    LogDamagedError,
    StorageError,
    StorageFailedError,
    StorageLockedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_raft._entry import Entry
    from streambus_raft._files import DirectoryLock, FileSystem
    from streambus_raft._membership import Membership

SEGMENT_BYTES_MIN: Final = 4096
SEGMENT_BYTES_DEFAULT: Final = 64 << 20
CACHE_BYTES_DEFAULT: Final = 64 << 20
CONDEMNED: Final = "condemned"
RECORD_ENTRIES_BYTES: Final = 1 << 20
"""Entries are split into records of about this size, so that an old one is read back cheaply."""


class FileLogStorage:
    """The ``LogStorage`` in a directory.

    Opening reads the log back; it blocks, so open before the event loop starts or in a thread.
    ``write`` and the reading methods belong to one thread; ``sync`` and ``save_snapshot`` may be
    called from others.

    Args:
        directory: Created if it is not there. Nothing else may live in it.
        node_id: Whose log this is; opening it for another node is refused.
        cluster: Of which cluster; opening it for another one is refused.
        create: Whether to begin a new log where there is none. A node that has taken part before
            should say False, so that an emptied disk is noticed at once.
        segment_bytes: Size at which a new segment is begun, from 4 KiB to 4 GiB.
        cache_bytes: How much of the newest entries is kept in memory; older ones are read back
            from their segments when a slow follower needs them.
        files: The door to the file system; the operating system's by default.

    Attributes:
        torn: What a crash had left unfinished and opening cut off, or None.

    Raises:
        StorageLockedError: another process, or another object, has the directory open.
        StorageMissingError: there is no log and ``create`` is False.
        ForeignStorageError: the log belongs to another node or cluster.
        LogDamagedError: something that was durable is not as it was; nothing was changed.
        StorageFailedError: the disk failed.
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        node_id: int,
        cluster: str = "raft",
        create: bool = True,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        cache_bytes: int = CACHE_BYTES_DEFAULT,
        files: FileSystem | None = None,
    ) -> None:
        if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_LIMIT:
            limits = f"{SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_LIMIT}"
            raise ConfigError(f"segment_bytes is {segment_bytes}; it must be from {limits}")
        if cache_bytes < 0 or not 0 < node_id <= NUMBER_MAX:
            raise ConfigError(f"cache_bytes {cache_bytes} or node_id {node_id} is out of range")
        self.directory = os.path.abspath(os.fspath(directory))
        self.torn: TornTail | None = None
        self._files: FileSystem = files or RealFileSystem()
        self._cache_bytes = cache_bytes
        self._flush_lock = threading.Lock()
        self._index_lock = threading.Lock()
        self._snapshot_lock = threading.Lock()
        self._failure: StorageError | None = None
        self._loss: str | None = None
        self._closed = False
        self._lock: DirectoryLock | None = None
        self._pending_snapshot: SnapshotMeta | None = None
        self._snapshots = SnapshotFiles(self._files, self.directory)
        self._writer = LogWriter(
            self._files,
            self.directory,
            segment_bytes,
            self._snapshots,
            self._snapshot_lock,
            self._checkpoint,
        )
        try:
            self._files.make_directory(self.directory)
            self._lock = self._files.lock(self._path("lock"))
            self._open(node_id, cluster, create)
        except BlockingIOError:
            raise StorageLockedError(self.directory) from None
        except OSError as exc:
            self._release()
            raise StorageFailedError(self.directory, exc) from exc
        except BaseException:
            self._release()
            raise

    # --- opening ---

    def _open(self, node_id: int, cluster: str, create: bool) -> None:
        identity = read_identity(self._files, self.directory)
        if identity is None:
            identity = create_log(self._files, self.directory, node_id, cluster, create=create)
        if (identity.node_id, identity.cluster) != (node_id, cluster):
            raise ForeignStorageError(
                self.directory, identity.node_id, identity.cluster, node_id, cluster
            )
        self._identity = identity
        recovered = recover_log(self._files, self.directory)
        self.torn = recovered.torn
        self._snapshots.recover()
        self._hard_state = recovered.hard_state
        self._index = recovered.log
        if not recovered.segments:
            self._loss = f"{self.directory} has its identity file, but the log itself is gone"
            return
        self._writer.open(recovered.segments[-1], recovered.position)
        for number in recovered.leftovers:
            self._files.unlink(self._path(segment_name(number)))
        self._reconcile()
        if CONDEMNED in self._files.list_directory(self.directory):
            reason = self._files.read(self._path(CONDEMNED)).decode(errors="replace")
            self._loss = f"condemned: {reason}"

    def _reconcile(self) -> None:
        """Finish the installation of a snapshot that a crash interrupted."""
        snapshot, index = self.snapshot(), self._index
        if index.start_index > snapshot.index:
            problem = f"it begins behind {index.start_index}, its snapshot is at {snapshot.index}"
            raise LogDamagedError(self.directory, 0, problem)
        if snapshot.index > index.last_index or (index.term(snapshot.index) != snapshot.term):
            self._writer.append(encode_reset(snapshot.index, snapshot.term))
            self._index = LogIndex(snapshot.index, snapshot.term)
            self._writer.flush()

    def _checkpoint(self) -> CheckpointRecord:
        index = self._index
        return CheckpointRecord(
            self._hard_state,
            index.start_index,
            index.start_term,
            index.last_index,
            index.last_term,
        )

    @property
    def sync_count(self) -> int:
        """How many syncs of the log succeeded."""
        return self._writer.sync_count

    @property
    def written_bytes(self) -> int:
        """How many bytes were written to segments."""
        return self._writer.written_bytes

    # --- what the core reads ---

    def state(self) -> StorageState:
        """See ``LogReader``."""
        partial = self._snapshots.partial
        return StorageState(
            storage_id=self._identity.storage_id,
            hard_state=self._hard_state,
            snapshot=self.snapshot(),
            partial=partial.meta if partial else None,
            partial_bytes=partial.size_bytes if partial else 0,
            loss=self._loss,
        )

    def first_index(self) -> Index:
        """See ``LogReader``."""
        return self._index.start_index + 1

    def last_index(self) -> Index:
        """See ``LogReader``."""
        return self._index.last_index

    def term(self, index: Index) -> Term:
        """See ``LogReader``."""
        return self._index.term(index)

    def entries(self, start: Index, stop: Index, bytes_max: int) -> list[Entry]:
        """See ``LogReader``; entries older than the cache are read from their segments, checked."""
        found = self._index.cached(start, stop, bytes_max)
        if isinstance(found, list):
            return found
        result: list[Entry] = []
        room = bytes_max
        while True:
            if isinstance(found, Place):
                until = min(stop, self._index.valid_until(found) + 1)
                read = self._read_place(found)
                part = read[start - read[0].index : until - read[0].index]
            else:
                part = found
            fitting = limit_bytes(part, room)
            size = entries_bytes(fitting)
            if result and size > room:
                return result
            result += fitting
            start += len(fitting)
            room -= size
            if start >= stop or len(fitting) < len(part) or room < ENTRY_OVERHEAD_BYTES:
                return result
            found = self._index.cached(start, stop, room)

    def _read_place(self, place: Place) -> list[Entry]:
        path = self._path(segment_name(place.segment))
        try:
            data = self._files.read(path, place.position, place.framed_bytes)
        except OSError as exc:
            raise StorageFailedError(path, exc) from exc
        body = decode_record(data, place.segment, place.position)
        try:
            record = decode_log_record(body or b"")
        except RecordError as exc:
            raise LogDamagedError(path, place.position, str(exc)) from exc
        if not isinstance(record, EntriesRecord):
            raise LogDamagedError(path, place.position, "the entries are gone")
        return record.entries

    def snapshot(self) -> SnapshotMeta:
        """See ``LogReader``."""
        newest = self._snapshots.newest or EMPTY_SNAPSHOT
        pending = self._pending_snapshot
        return newest if pending is None or pending.index < newest.index else pending

    def read_snapshot(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """See ``LogReader``; every block that is touched is checked."""
        try:
            return self._snapshots.read(meta, offset, bytes_max)
        except OSError as exc:
            raise StorageFailedError(self.directory, exc) from exc

    # --- what the driver calls ---

    def write(self, write: Write) -> None:
        """See ``LogStorage``. Only queues; the disk is touched by :meth:`sync`."""
        self._usable()
        with self._index_lock:
            if write.hard_state is not None:
                self._writer.append(encode_hard_state(write.hard_state))
                self._hard_state = write.hard_state
            self._writer.queue(*write.pieces)
            if write.snapshot is not None:
                meta = write.snapshot
                self._writer.queue(InstallStep(meta))
                self._pending_snapshot = meta
                self._writer.append(encode_reset(meta.index, meta.term))
                self._index = LogIndex(meta.index, meta.term)
            if write.entries:
                self._append(write.entries)

    def _append(self, entries: list[Entry]) -> None:
        while entries:
            part = limit_bytes(entries, RECORD_ENTRIES_BYTES)
            body = encode_entries(part)
            number, position = self._writer.append(body)
            place = Place(part[0].index, number, position, framed_bytes(len(body)))
            self._index.append(part, place)
            if len(part) == len(entries):
                break
            entries = entries[len(part) :]
        self._index.evict(self._cache_bytes, self._writer.synced)

    def sync(self) -> None:
        """See ``LogStorage``. Blocks for the disk.

        Raises:
            StorageFailedError: this or an earlier sync failed; final.
        """
        with self._flush_lock:
            self._usable()
            try:
                self._writer.flush()
            except OSError as exc:
                self._failure = StorageFailedError(self.directory, exc)
                raise self._failure from exc
            except StorageError as exc:
                self._failure = exc
                raise

    def save_snapshot(
        self, index: Index, membership: Membership, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """See ``LogStorage``. Blocks for the disk; call it in a thread of its own.

        After failure of the disk while writing: the log itself goes on, without the snapshot.
        """
        self._usable()
        with self._index_lock:
            term = self._index.term(index)
        try:
            with self._snapshot_lock:
                meta = self._snapshots.save(index, term, membership, chunks)
                self._snapshots.remove_older(meta.index)
        except OSError as exc:
            raise StorageFailedError(self.directory, exc) from exc
        return meta

    def compact(self, index: Index) -> None:
        """See ``LogStorage``. Space is given back by the next sync, in whole segments."""
        self._usable()
        if index > self.snapshot().index:
            raise StorageError(f"no snapshot covers the log up to {index}")
        if index <= self._index.start_index:
            return
        with self._index_lock:
            self._writer.append(encode_compact(index, self._index.term(index)))
            self._index.compact(index)
            first_needed = self._index.first_segment
        self._writer.queue(DropStep(self._writer.number if first_needed is None else first_needed))

    def condemn(self, reason: str) -> None:
        """See ``LogStorage``: a file beside the log says so to every later opening.

        After a failed sync the kernel may show bytes that are not on the disk; until a power cut
        makes it forget them, an opening must not believe what it reads. So it matters that the file
        is there for the next process, even if it cannot be made durable.
        """
        if self._loss is None:
            self._loss = reason
        with contextlib.suppress(Exception):  # best effort: it never raises
            file = self._files.open_append(self._path(CONDEMNED))
            try:
                file.write(reason.encode())
                file.sync()
                self._files.sync_directory(self.directory)
            finally:
                file.close()

    def close(self) -> None:
        """Make what is queued durable if that is still possible, and release everything."""
        if self._closed:
            return
        try:
            with self._flush_lock:
                if self._failure is None and self._loss is None:
                    # The record tells the next opening that everything before it was durable.
                    self._writer.flush()
                    self._writer.append(encode_hard_state(self._hard_state))
                    self._writer.flush()
        except OSError as exc:
            raise StorageFailedError(self.directory, exc) from exc
        finally:
            self._closed = True
            self._release()

    def _usable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise StorageError("the storage is closed")
        if self._loss is not None:
            raise StorageError(self._loss)

    def _release(self) -> None:
        self._snapshots.close()
        self._writer.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"
