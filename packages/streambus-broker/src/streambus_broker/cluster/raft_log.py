"""The metadata group's log on the ``meta`` tree: what Raft has to remember, synced by the tree.

Everything lies under ``raft/``; every write of the core is one atomic batch. The log behind the
last snapshot is held in memory too: the metadata is small, and snapshots keep its log short.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_raft import (
    EMPTY_SNAPSHOT,
    NUMBER_MAX,
    Entry,
    HardState,
    Membership,
    NodeId,
    SnapshotMeta,
    SnapshotPiece,
    StorageState,
    Term,
    Write,
    decode_membership,
    limit_bytes,
)
from streambus_raft.errors import (
    CompactedError,
    SnapshotGoneError,
    SnapshotMismatchError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from streambus_storage import DiskFullError, WriteBatch, WriteStallError
from streambus_storage import StorageError as TreeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from streambus_storage import LSMTree

_ID = b"raft/id"
_HARD = b"raft/hard"
_START = b"raft/start"
_SNAPSHOT = b"raft/snapshot"
_SNAPSHOT_DATA = b"raft/snapshot-data"
_PARTIAL = b"raft/partial"
_PARTIAL_DATA = b"raft/partial-data"
_LOSS = b"raft/loss"
_LOG = b"raft/log/"
_LOG_END = b"raft/log0"


def _entry_key(index: int) -> bytes:
    return _LOG + index.to_bytes(8, "big")


def _pack_meta(meta: SnapshotMeta) -> bytes:
    packed: bytes = msgpack.packb(
        [meta.index, meta.term, meta.membership.encode(), meta.size_bytes, meta.checksum]
    )
    return packed


def _unpack_meta(data: bytes | None) -> SnapshotMeta | None:
    if data is None:
        return None
    index, term, membership, size_bytes, checksum = msgpack.unpackb(data)
    return SnapshotMeta(index, Term(term), decode_membership(membership), size_bytes, checksum)


class TreeLogStorage:
    """``LogStorage`` and ``SelfSyncing`` of streambus_raft; see the module.

    Args:
        tree: The ``meta`` tree; the caller closes it.
        random: Draws the storage's identity, once.

    Raises:
        StorageFullError: It is new, and there is no room to begin it.
        StorageError: The tree cannot be read, or what it holds makes no sense.
    """

    def __init__(self, tree: LSMTree, random: Random) -> None:
        self._tree = tree
        self._entries: list[Entry] = []
        self._start_index = 0
        self._start_term = Term(0)
        try:
            self._load(random)
        except DiskFullError as exc:
            raise StorageFullError(str(exc)) from exc
        except (TreeError, msgpack.UnpackException, ValueError, TypeError) as exc:
            raise StorageError(f"the metadata log cannot be read: {exc}") from exc

    def _load(self, random: Random) -> None:
        tree = self._tree
        stored = tree.get(_ID)
        if stored is None:
            self._id = random.randrange(1, NUMBER_MAX)
            tree.put(_ID, self._id.to_bytes(8, "big"), sync=True)
        else:
            self._id = int.from_bytes(stored, "big")
        hard = tree.get(_HARD)
        self._hard = HardState() if hard is None else _hard_state(msgpack.unpackb(hard))
        self._snapshot = _unpack_meta(tree.get(_SNAPSHOT)) or EMPTY_SNAPSHOT
        self._data = tree.get(_SNAPSHOT_DATA) or b""
        self._partial = _unpack_meta(tree.get(_PARTIAL))
        self._partial_data = bytearray(tree.get(_PARTIAL_DATA) or b"")
        loss = tree.get(_LOSS)
        self._loss = None if loss is None else loss.decode()
        start = tree.get(_START)
        if start is not None:
            self._start_index, term = msgpack.unpackb(start)
            self._start_term = Term(term)
        for key, value in tree.scan(_LOG, _LOG_END):
            index = int.from_bytes(key[len(_LOG) :], "big")
            term, kind, data = msgpack.unpackb(value)
            if index != self._start_index + len(self._entries) + 1:
                raise ValueError(f"entry {index} does not follow the one before it")
            self._entries.append(Entry(index, term, kind, data))

    # --- reading -------------------------------------------------------------------------------

    def state(self) -> StorageState:
        """See ``LogReader``."""
        return StorageState(
            self._id,
            self._hard,
            self._snapshot,
            self._partial,
            len(self._partial_data),
            self._loss,
        )

    def first_index(self) -> int:
        """See ``LogReader``."""
        return self._start_index + 1

    def last_index(self) -> int:
        """See ``LogReader``."""
        return self._start_index + len(self._entries)

    def term(self, index: int) -> Term:
        """See ``LogReader``."""
        if index == self._start_index:
            return self._start_term
        if index < self._start_index:
            raise CompactedError(index, self.first_index())
        if index > self.last_index():
            raise UnavailableError(index, self.last_index())
        return self._entries[index - self._start_index - 1].term

    def term_before(self, term: int) -> int:
        """The term of the last entry that is older than a term; 0 where the log begins with it."""
        index = self.last_index()
        while index > self._start_index and self.term(index) >= term:
            index -= 1
        return self.term(index)

    def entries(self, start: int, stop: int, bytes_max: int) -> list[Entry]:
        """See ``LogReader``."""
        if start <= self._start_index:
            raise CompactedError(start, self.first_index())
        if stop - 1 > self.last_index() or start >= stop:
            raise UnavailableError(max(start, stop - 1), self.last_index())
        low = start - self._start_index - 1
        return limit_bytes(self._entries[low : low + stop - start], bytes_max)

    def snapshot(self) -> SnapshotMeta:
        """See ``LogReader``."""
        return self._snapshot

    def read_snapshot(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """See ``LogReader``."""
        if meta != self._snapshot:
            raise SnapshotGoneError(f"the snapshot at {meta.index} is no longer there")
        return self._data[offset : offset + bytes_max]

    # --- writing -------------------------------------------------------------------------------

    def write(self, write: Write) -> None:
        """See ``LogStorage``."""
        batch = WriteBatch()
        if write.hard_state is not None:
            batch.put(_HARD, msgpack.packb(list(write.hard_state)))
        partial, received = self._partial, self._partial_data
        if write.pieces:
            partial, received = _with_pieces(partial, received, write.pieces)
            batch.put(_PARTIAL, _pack_meta(partial))
            batch.put(_PARTIAL_DATA, bytes(received))
        start, end = self._start_index, self.last_index()
        if write.snapshot is not None:
            data = _whole(write.snapshot, partial, received)
            _put_snapshot(write.snapshot, data, batch)
            start = end = write.snapshot.index
        if write.entries:
            _put_entries(write.entries, start, end, batch)
        self._write(batch)
        # Only what was taken over is remembered: a write that found no room is made again.
        self._hard = write.hard_state or self._hard
        self._partial, self._partial_data = partial, received
        if write.snapshot is not None:
            self._begin_at(write.snapshot, data)
        if write.entries:
            del self._entries[write.entries[0].index - self._start_index - 1 :]
            self._entries += write.entries

    def _begin_at(self, meta: SnapshotMeta, data: bytes) -> None:
        """Begin the log anew behind a snapshot."""
        self._snapshot, self._data = meta, data
        self._partial, self._partial_data = None, bytearray()
        self._entries = []
        self._start_index, self._start_term = meta.index, meta.term

    def save_snapshot(
        self, index: int, membership: Membership, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """See ``LogStorage``."""
        term = self.term(index)
        data = b"".join(chunks)
        meta = SnapshotMeta(index, term, membership, len(data), _checksum(data))
        batch = WriteBatch()
        batch.put(_SNAPSHOT, _pack_meta(meta))
        batch.put(_SNAPSHOT_DATA, data)
        self._write(batch, sync=True)
        self._snapshot, self._data = meta, data
        return meta

    def compact(self, index: int) -> None:
        """See ``LogStorage``."""
        if index > self._snapshot.index:
            raise StorageError(f"no snapshot covers the log up to {index}")
        if index <= self._start_index:
            return
        term = self.term(index)
        batch = WriteBatch()
        batch.delete_range(_entry_key(self._start_index + 1), _entry_key(index + 1))
        batch.put(_START, msgpack.packb([index, term]))
        self._write(batch)
        del self._entries[: index - self._start_index]
        self._start_index, self._start_term = index, term

    def _write(self, batch: WriteBatch, *, sync: bool = False) -> None:
        try:
            self._tree.write(batch, sync=sync)
        except (DiskFullError, WriteStallError) as exc:  # nothing was written
            raise StorageFullError(str(exc)) from exc
        except TreeError as exc:
            raise StorageError(f"the metadata log cannot be written: {exc}") from exc

    def sync(self) -> None:
        """See ``LogStorage``."""
        try:
            self._tree.sync()
        except TreeError as exc:
            raise StorageError(f"the metadata log cannot be synced: {exc}") from exc

    def sync_soon(self, done: Callable[[StorageError | None], None]) -> None:
        """See ``SelfSyncing``."""

        def synced(error: TreeError | None) -> None:
            done(None if error is None else StorageError(f"the metadata log: {error}"))

        try:
            self._tree.on_durable(self._tree.last_sequence, synced)
        except TreeError as exc:
            synced(exc)

    def condemn(self, reason: str) -> None:
        """See ``LogStorage``."""
        self._loss = reason
        with contextlib.suppress(TreeError):  # it may be the tree that has failed
            self._tree.put(_LOSS, reason.encode(), sync=True)

    def close(self) -> None:
        """See ``LogStorage``; the tree is its owner's to close."""


def _with_pieces(
    partial: SnapshotMeta | None, received: bytearray, pieces: Iterable[SnapshotPiece]
) -> tuple[SnapshotMeta, bytearray]:
    """A partial snapshot as it is with more pieces; what was given stays as it is."""
    received = bytearray(received)
    for piece in pieces:
        if piece.offset == 0:
            partial = piece.meta
            received.clear()
        if partial != piece.meta or len(received) != piece.offset:
            raise SnapshotMismatchError(piece.meta.index, f"a piece at {piece.offset}")
        received += piece.data
    assert partial is not None
    return partial, received


def _whole(meta: SnapshotMeta, partial: SnapshotMeta | None, received: bytearray) -> bytes:
    """The bytes of a snapshot that was received."""
    data = bytes(received) if partial == meta else b""
    if len(data) != meta.size_bytes or (data and _checksum(data) != meta.checksum):
        raise SnapshotMismatchError(meta.index, "size or checksum is wrong")
    return data


def _put_snapshot(meta: SnapshotMeta, data: bytes, batch: WriteBatch) -> None:
    batch.put(_SNAPSHOT, _pack_meta(meta))
    batch.put(_SNAPSHOT_DATA, data)
    batch.delete(_PARTIAL)
    batch.delete(_PARTIAL_DATA)
    batch.delete_range(_LOG, _LOG_END)
    batch.put(_START, msgpack.packb([meta.index, meta.term]))


def _put_entries(entries: list[Entry], start: int, end: int, batch: WriteBatch) -> None:
    """Put entries behind a log that holds what follows ``start``, up to and with ``end``."""
    first = entries[0].index
    if first <= start:
        raise CompactedError(first, start + 1)
    if first > end + 1:
        raise UnavailableError(first, end)
    if first <= end:
        batch.delete_range(_entry_key(first), _LOG_END)
    for entry in entries:
        row = [entry.term, int(entry.kind), entry.data]
        batch.put(_entry_key(entry.index), msgpack.packb(row))


def _hard_state(row: Any) -> HardState:
    term, vote, commit = row
    return HardState(Term(term), NodeId(vote), commit)


def _checksum(data: bytes) -> int:
    return xxh3_64_intdigest(data) & NUMBER_MAX
