"""A log in memory: for tests, and for clusters that may forget everything when all nodes stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from streambus_raft._hard_state import HardState
from streambus_raft._log_index import LogIndex, Place
from streambus_raft._storage import EMPTY_SNAPSHOT, SnapshotMeta, StorageState, Write
from streambus_raft._types import NUMBER_MAX, Index, Term
from streambus_raft.errors import SnapshotGoneError, SnapshotMismatchError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streambus_raft._entry import Entry
    from streambus_raft._membership import Membership


class MemoryLogStorage:
    """The ``LogStorage`` that is durable as long as the object lives.

    A node whose process ends has lost what it acknowledged; take it out of the cluster and in
    again. An object may be handed to a new server after the old one was closed: that is a restart.

    Args:
        storage_id: The identity of this storage; another number for each new one, from 1.
    """

    def __init__(self, storage_id: int) -> None:
        self._storage_id = storage_id
        self._hard_state = HardState()
        self._index = LogIndex(0, Term(0))
        self._stored = (EMPTY_SNAPSHOT, b"")
        self._loss: str | None = None
        self._partial: SnapshotMeta | None = None
        self._partial_data = bytearray()

    def state(self) -> StorageState:
        """See ``LogReader``."""
        return StorageState(
            self._storage_id,
            self._hard_state,
            self._stored[0],
            self._partial,
            len(self._partial_data),
            self._loss,
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
        """See ``LogReader``."""
        found = self._index.cached(start, stop, bytes_max)
        assert not isinstance(found, Place)  # nothing is ever evicted here
        return found

    def snapshot(self) -> SnapshotMeta:
        """See ``LogReader``."""
        return self._stored[0]

    def read_snapshot(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """See ``LogReader``."""
        stored, data = self._stored
        if meta != stored:
            raise SnapshotGoneError(f"the snapshot at {meta.index} is no longer there")
        return data[offset : offset + bytes_max]

    def write(self, write: Write) -> None:
        """See ``LogStorage``."""
        if write.hard_state is not None:
            self._hard_state = write.hard_state
        for piece in write.pieces:
            if piece.offset == 0:
                self._partial = piece.meta
                self._partial_data.clear()
            if self._partial != piece.meta or len(self._partial_data) != piece.offset:
                raise SnapshotMismatchError(piece.meta.index, f"a piece at {piece.offset}")
            self._partial_data += piece.data
        if write.snapshot is not None:
            self._install(write.snapshot)
        if write.entries:
            self._index.append(write.entries, None)

    def _install(self, meta: SnapshotMeta) -> None:
        data = bytes(self._partial_data) if self._partial == meta else b""
        if len(data) != meta.size_bytes or (data and _checksum(data) != meta.checksum):
            raise SnapshotMismatchError(meta.index, "size or checksum is wrong")
        self._stored = (meta, data)
        self._partial = None
        self._partial_data = bytearray()
        self._index = LogIndex(meta.index, meta.term)

    def sync(self) -> None:
        """See ``LogStorage``; there is nothing to wait for."""

    def save_snapshot(
        self, index: Index, membership: Membership, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """See ``LogStorage``."""
        term = self._index.term(index)
        data = b"".join(chunks)
        meta = SnapshotMeta(index, term, membership, len(data), _checksum(data))
        self._stored = (meta, data)
        return meta

    def compact(self, index: Index) -> None:
        """See ``LogStorage``."""
        if index > self._stored[0].index:
            raise StorageError(f"no snapshot covers the log up to {index}")
        if index > self._index.start_index:
            self._index.compact(index)

    def condemn(self, reason: str) -> None:
        """See ``LogStorage``."""
        self._loss = reason

    def sync_soon(self, done: Callable[[StorageError | None], None]) -> None:
        """See ``SelfSyncing``."""
        done(None)

    def close(self) -> None:
        """See ``LogStorage``; the content stays, for a server that is started with it again."""


def _checksum(data: bytes) -> int:
    return xxh3_64_intdigest(data) & NUMBER_MAX
