"""The writing side of a log's directory: what is queued, and how it gets to the disk in order.

``LogWriter.append`` and ``LogWriter.queue`` only take note, on the thread that owns the log;
``LogWriter.flush`` carries out what is queued, in order, and may run on another thread. Where a
record will lie is known as soon as it is appended, so segments are begun by position, before
anything is written.

Order on the disk, and why it is safe to stop between any two calls: data before the name that
leads to it, a snapshot before the record that drops the log it replaces, a compaction's record
before the segments that it makes superfluous are removed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from streambus_raft._log_creation import encode_opening
from streambus_raft._log_recovery import segment_name
from streambus_raft._segment import SEGMENT_BYTES_LIMIT, encode_record, framed_bytes
from streambus_raft._storage import SnapshotMeta, SnapshotPiece
from streambus_raft.errors import StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from streambus_raft._files import AppendFile, FileSystem
    from streambus_raft._log_records import CheckpointRecord
    from streambus_raft._snapshot_files import SnapshotFiles


class _Rotate(NamedTuple):
    """Begin a new segment."""

    number: int
    opening: bytes


class InstallStep(NamedTuple):
    """The arrived snapshot is complete: check it and make it count."""

    meta: SnapshotMeta


class DropStep(NamedTuple):
    """No entry lies in a segment below this one any more: remove those."""

    segment: int


class LogWriter:
    """Appends records to the segments of one directory.

    One caller at a time may be in :meth:`flush`, and one in the other methods.

    Args:
        files: The door to the file system.
        directory: The log's.
        segment_bytes: Size at which a new segment is begun.
        snapshots: Where arriving pieces go.
        snapshot_lock: Held while snapshots are written.
        checkpoint: Tells, for the opening of a new segment, what all before it amounts to.

    Attributes:
        sync_count: How many syncs of segments succeeded.
        written_bytes: How many bytes were written to segments.
        synced: The segment that was synced last, and up to which position.
        number: The segment that the next record will lie in.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: str,
        segment_bytes: int,
        snapshots: SnapshotFiles,
        snapshot_lock: threading.Lock,
        checkpoint: Callable[[], CheckpointRecord],
    ) -> None:
        self.sync_count = 0
        self.written_bytes = 0
        self.synced = (0, 0)
        self.number = 0
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._snapshots = snapshots
        self._snapshot_lock = snapshot_lock
        self._checkpoint = checkpoint
        self._position = 0
        """Where in segment ``number`` the next record will lie."""
        self._queue: deque[bytes | SnapshotPiece | _Rotate | InstallStep | DropStep] = deque()
        # What lies in the files already, as far as :meth:`flush` has come:
        self._file: AppendFile | None = None
        self._file_number = 0
        self._file_position = 0
        self._dirty = False

    def open(self, number: int, position: int) -> None:
        """Go on at the end of a segment that was read back; make durable what was read there.

        Raises:
            OSError: the disk failed.
        """
        self.number = self._file_number = number
        self._position = self._file_position = position
        self._file = self._files.open_append(self._path(segment_name(number)))
        self._file.sync()  # what was read may only have been in the kernel's memory so far
        self._files.sync_directory(self._directory)
        self.synced = (number, position)

    def close(self) -> None:
        """Let go of the file; what is queued is not written any more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    # --- what is to be written ---

    def append(self, body: bytes) -> tuple[int, int]:
        """Queue a record and return where it will lie; begin a new segment if this one is full.

        Raises:
            StorageError: it is larger than any segment; nothing was queued.
        """
        size = framed_bytes(len(body))
        if self._position + size > self._segment_bytes:
            opening = encode_opening(self.number + 1, self._position, self._checkpoint())
            if self._position > len(opening):  # else the record itself is larger than a segment
                self.number += 1
                self._position = len(opening)
                self._queue.append(_Rotate(self.number, opening))
        position = self._position
        if position + size > SEGMENT_BYTES_LIMIT:
            raise StorageError(f"a record of {size} bytes does not fit into any segment")
        synced_number, synced = self.synced
        known = synced if synced_number == self.number else 0
        self._queue.append(encode_record(body, self.number, position, known))
        self._position += size
        return self.number, position

    def queue(self, *steps: SnapshotPiece | InstallStep | DropStep) -> None:
        """Queue what is to be done after the records so far and before those that follow."""
        self._queue.extend(steps)

    # --- writing it ---

    def flush(self) -> None:
        """Carry out everything that is queued, with one sync for all records in a row.

        Raises:
            OSError: the disk failed; what was queued is lost or not, nobody knows.
            StorageError: an arriving snapshot does not fit.
        """
        queue, parts = self._queue, []
        for _ in range(len(queue)):
            step = queue.popleft()
            if isinstance(step, bytes):
                parts.append(step)
                continue
            self._put(parts)
            parts = []
            if isinstance(step, _Rotate):
                self._rotate(step)
                continue
            self._sync()  # a piece must not outlive the term it came in
            if isinstance(step, SnapshotPiece):
                with self._snapshot_lock:
                    self._snapshots.add_piece(step)
                if not queue or not isinstance(queue[0], SnapshotPiece):
                    self._snapshots.sync_pieces()
            elif isinstance(step, InstallStep):
                with self._snapshot_lock:
                    self._snapshots.complete(step.meta)
            else:
                self._drop_below(step.segment)
        self._put(parts)
        self._sync()

    def _put(self, parts: list[bytes]) -> None:
        if parts:
            assert self._file is not None
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._dirty = True
            self._file.write(data)
            self._file_position += len(data)
            self.written_bytes += len(data)

    def _sync(self) -> None:
        if self._dirty:
            assert self._file is not None
            self._file.sync()
            self._dirty = False
            self.sync_count += 1
            self.synced = (self._file_number, self._file_position)

    def _rotate(self, step: _Rotate) -> None:
        """Close the full segment, durable, and make the next one durable before its use."""
        self._sync()
        assert self._file is not None
        self._file.close()
        self._file = self._files.open_append(self._path(segment_name(step.number)))
        self._file_number, self._file_position = step.number, 0
        self._put([step.opening])
        self._sync()
        self._files.sync_directory(self._directory)

    def _drop_below(self, segment: int) -> None:
        """Remove the segments that no entry lies in any more, oldest first."""
        limit = segment_name(segment)
        names = self._files.list_directory(self._directory)
        dropped = [name for name in names if name.endswith(".seg") and name < limit]
        for name in dropped:
            self._files.unlink(self._path(name))
        if dropped:
            self._files.sync_directory(self._directory)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"
