"""A simulated log storage: what a power cut takes is exactly what was not synced.

The memory of the storage (what the core reads) and its disk (what a restart finds) are two images.
``write`` goes to memory and to a queue, ``sync`` moves the queue to the disk. A crash keeps a
prefix of the queue, chosen by the caller, and of the first lost write at most a beginning: the
contract of ``Write``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from streambus_raft._entry import Entry, limit_bytes
from streambus_raft._hard_state import HardState
from streambus_raft._storage import EMPTY_SNAPSHOT, SnapshotMeta, StorageState, Write
from streambus_raft.errors import (
    CompactedError,
    SnapshotGoneError,
    StorageError,
    UnavailableError,
)

if TYPE_CHECKING:
    from streambus_raft._membership import Membership
    from streambus_raft._types import Index, Term


class Image:
    """One complete state of a log: in memory, or on the disk."""

    __slots__ = (
        "entries",
        "hard_state",
        "loss",
        "offset",
        "partial",
        "received",
        "snapshot",
        "term",
    )

    def __init__(self, snapshot: SnapshotMeta) -> None:
        self.hard_state = HardState()
        self.snapshot = snapshot
        self.offset: Index = snapshot.index + 1
        """Where ``entries`` begin; the last compacted entry is one before, of ``term``."""
        self.term: Term = snapshot.term
        self.entries: list[Entry] = []
        self.partial: SnapshotMeta | None = None
        self.received = b""
        self.loss: str | None = None

    @property
    def last(self) -> Index:
        """The last entry's index."""
        return self.offset + len(self.entries) - 1

    def apply(self, write: Write, parts: int = 4, entries_max: int | None = None) -> None:
        """Take over the first ``parts`` of a write's four parts; of its entries at most some."""
        if write.hard_state is not None and parts > 0:
            self.hard_state = write.hard_state
        if parts > 1:
            for piece in write.pieces:
                if piece.offset == 0:
                    self.partial, self.received = piece.meta, b""
                if self.partial != piece.meta or len(self.received) != piece.offset:
                    raise StorageError(f"a piece at {piece.offset} does not fit")
                self.received += piece.data
        if write.snapshot is not None and parts > 2:
            self._install(write.snapshot)
        if write.entries and parts > 3:
            self._append(write.entries[:entries_max])

    def _install(self, meta: SnapshotMeta) -> None:
        if self.partial != meta or len(self.received) != meta.size_bytes:
            raise StorageError("the snapshot is not complete")
        self.snapshot, self.partial = meta, None
        self.offset, self.term, self.entries = meta.index + 1, meta.term, []

    def _append(self, entries: list[Entry]) -> None:
        if not entries:
            return
        keep = entries[0].index - self.offset
        if not 0 <= keep <= len(self.entries):
            raise StorageError(f"entry {entries[0].index} does not follow {self.last}")
        del self.entries[keep:]
        self.entries.extend(entries)


class SimulatedDisk:
    """A ``LogStorage`` without a disk; see the module.

    Args:
        storage_id: this storage's identity.
        snapshot: where the log begins, see ``bootstrap_snapshot``.
    """

    def __init__(self, storage_id: int, snapshot: SnapshotMeta = EMPTY_SNAPSHOT) -> None:
        self.storage_id = storage_id
        self.memory = Image(snapshot)
        self.disk = Image(snapshot)
        self.unsynced: list[Write] = []
        self.contents: dict[SnapshotMeta, bytes] = {snapshot: b""}
        """The bytes of complete snapshots; kept for transfers that are under way."""

    # What the core reads

    def state(self) -> StorageState:
        image = self.memory
        return StorageState(
            self.storage_id,
            image.hard_state,
            image.snapshot,
            image.partial,
            len(image.received) if image.partial else 0,
            image.loss,
        )

    def first_index(self) -> Index:
        return self.memory.offset

    def last_index(self) -> Index:
        return self.memory.last

    def term(self, index: Index) -> Term:
        position = index - self.memory.offset
        if position == -1:
            return self.memory.term
        if position < 0:
            raise CompactedError(index, self.memory.offset)
        if position >= len(self.memory.entries):
            raise UnavailableError(index, self.memory.last)
        return self.memory.entries[position].term

    def entries(self, start: Index, stop: Index, bytes_max: int) -> list[Entry]:
        first = start - self.memory.offset
        if first < 0:
            raise CompactedError(start, self.memory.offset)
        if stop - 1 > self.memory.last:
            raise UnavailableError(stop - 1, self.memory.last)
        return limit_bytes(self.memory.entries[first : stop - self.memory.offset], bytes_max)

    def snapshot(self) -> SnapshotMeta:
        return self.memory.snapshot

    def read_snapshot(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        if meta not in self.contents:
            raise SnapshotGoneError(f"the snapshot at {meta.index} is gone")
        return self.contents[meta][offset : offset + bytes_max]

    # What its owner writes

    def write(self, write: Write) -> None:
        self.memory.apply(write)
        if write.snapshot is not None:
            self.contents[write.snapshot] = self.memory.received
        self.unsynced.append(write)

    def sync(self) -> None:
        self.sync_first(len(self.unsynced))

    def sync_first(self, count: int) -> None:
        """Make the oldest ``count`` writes durable."""
        for write in self.unsynced[:count]:
            self.disk.apply(write)
        del self.unsynced[:count]

    def save_snapshot(self, index: Index, membership: Membership, data: bytes) -> SnapshotMeta:
        meta = SnapshotMeta(index, self.term(index), membership, len(data), checksum(data))
        if index < self.memory.snapshot.index:
            raise StorageError(f"a snapshot at {self.memory.snapshot.index} is there already")
        self.contents[meta] = data
        self.memory.snapshot = self.disk.snapshot = meta
        return meta

    def compact(self, index: Index) -> None:
        for image in (self.memory, self.disk):
            count = index + 1 - image.offset
            if count <= 0:
                continue
            if index > image.snapshot.index or count > len(image.entries):
                raise StorageError(f"no snapshot covers {index}")
            image.term = image.entries[count - 1].term
            image.offset += count
            del image.entries[:count]
        # The one before stays, for transfers that are under way.
        old = sorted({meta.index for meta in self.contents})[:-2]
        for meta in [each for each in self.contents if each.index in old]:
            del self.contents[meta]

    def condemn(self, reason: str) -> None:
        self.memory.loss = self.disk.loss = reason

    def close(self) -> None:
        self.unsynced.clear()

    # What happens to it

    def crash(self, kept: int, parts: int, entries_max: int) -> None:
        """Lose power.

        Args:
            kept: how many of the writes that were not synced are on the disk nevertheless.
            parts: how many parts of the next one are, 0 to 4.
            entries_max: how many entries, if even some of those are.
        """
        self.sync_first(min(kept, len(self.unsynced)))
        if self.unsynced:
            self.disk.apply(self.unsynced[0], parts, entries_max)
        self.unsynced.clear()
        memory = Image(self.disk.snapshot)
        for name in Image.__slots__:
            setattr(memory, name, getattr(self.disk, name))
        memory.entries = list(self.disk.entries)
        self.memory = memory


def checksum(data: bytes) -> int:
    """What ``SnapshotMeta.checksum`` holds for these bytes."""
    return int(xxhash.xxh3_64_intdigest(data)) & (2**63 - 1)
