"""What the core reads from a log storage, and what its owner writes into it.

The core only ever calls ``LogReader``; whoever drives the core hands each ``Write`` of a ``Ready``
to ``LogStorage.write``, in order, and reports it as persisted once ``sync`` has returned (or at
once, where nothing in it asks for it). Every method may raise ``StorageError``; a driver reports
such a failure by ``storage_failed`` and never retries: after a failed sync nobody knows what is on
the disk. The one exception is a ``write`` that was refused whole, for lack of room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from streambus_raft._membership import Membership
from streambus_raft._types import Index, Term

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_raft._entry import Entry
    from streambus_raft._hard_state import HardState


class SnapshotMeta(NamedTuple):
    """What a snapshot is; two snapshots with equal facts have equal bytes.

    The one with index 0 is where every log begins: it has no bytes and carries the configuration
    that the cluster started from (none for a node that waits to be taken in).
    """

    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    """The last entry whose effects it holds."""
    term: Term
    """That entry's term."""
    membership: Membership
    """The configuration in force at ``index``."""
    size_bytes: int
    checksum: int
    """xxh3-64 over the bytes, modulo 2**63."""


EMPTY_SNAPSHOT = SnapshotMeta(0, Term(0), Membership(), 0, 0)


class SnapshotPiece(NamedTuple):
    """A part of a snapshot that arrives from a leader."""

    meta: SnapshotMeta
    offset: int
    """Where it belongs, in bytes. At 0 a new transfer begins: whatever was received of another
    snapshot is dropped."""
    data: bytes


class StorageState(NamedTuple):
    """What a storage knows when it is opened."""

    storage_id: int
    """The identity of this storage, 1 to ``NUMBER_MAX``: drawn at random when it was created."""
    hard_state: HardState
    snapshot: SnapshotMeta
    """The newest complete snapshot; ``index`` 0 where there is none."""
    partial: SnapshotMeta | None = None
    """A snapshot of which only a beginning is durable."""
    partial_bytes: int = 0
    """How much of ``partial`` is durable."""
    loss: str | None = None
    """Set by a storage that knows it has lost what was durable: why. The node stays in
    quarantine."""


class Write(NamedTuple):
    """All that has to become durable for one ``Ready``, in this order.

    It is all or a beginning: after a crash the storage holds the effects of a prefix of the
    sequence of writes, and of the first of the lost ones at most a beginning in the order of these
    fields.
    """

    sequence: int
    """Counts up by one; report it by ``RaftCore.persisted`` when everything up to it is durable."""
    hard_state: HardState | None
    """Replaces the previous one."""
    pieces: tuple[SnapshotPiece, ...]
    """To be added to the partial snapshot."""
    snapshot: SnapshotMeta | None
    """The partial snapshot is complete: check its size and checksum, make it *the* snapshot, drop
    the whole log, and begin the log anew behind it. (Log entries never survive it: the core only
    asks for it where the log does not hold the snapshot's last entry.)"""
    entries: list[Entry]
    """To be appended; whatever the log holds from the first one's index on is dropped before."""
    must_sync: bool
    """Whether anybody depends on it; a mere move of the commit hint does not need a sync."""


class LogReader(Protocol):
    """What the core reads; synchronously, so keep the tail of the log in memory."""

    def state(self) -> StorageState:
        """What is durable at present; called once, when the core is made."""
        ...

    def first_index(self) -> Index:
        """The first entry that can be read: one after the compacted ones."""
        ...

    def last_index(self) -> Index:
        """The last entry; ``first_index() - 1`` where the log is empty."""
        ...

    def term(self, index: Index) -> Term:
        """The term of an entry from ``first_index() - 1`` to ``last_index()``.

        Raises:
            CompactedError: ``index`` lies before that.
            UnavailableError: ``index`` lies behind that.
        """
        ...

    def entries(self, start: Index, stop: Index, bytes_max: int) -> list[Entry]:
        """The entries from ``start`` up to and without ``stop``.

        At least one, and then as many as ``limit_bytes`` allows. The list is the caller's to keep.

        Raises:
            CompactedError: ``start`` was compacted.
            UnavailableError: ``stop - 1`` lies behind the end.
        """
        ...

    def snapshot(self) -> SnapshotMeta:
        """The newest complete snapshot; never older than the compacted entries need it to be."""
        ...

    def read_snapshot(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """A part of the bytes of a snapshot.

        Raises:
            SnapshotGoneError: that snapshot is no longer there.
        """
        ...


class LogStorage(LogReader, Protocol):
    """The whole of it: the part that the driver of a core calls."""

    def write(self, write: Write) -> None:
        """Take over one write, in order. Durable only after the next ``sync``.

        Raises:
            StorageFullError: there is no room now, and everything is as it was before the call.
                The same write may be made again, and no other.
            StorageError: the write, or an earlier one, failed; no later one is accepted.
        """
        ...

    def sync(self) -> None:
        """Make everything written durable. May be called from another thread than ``write``."""
        ...

    def save_snapshot(
        self, index: Index, membership: Membership, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """Make a snapshot of this node's own state machine durable, and return its facts.

        May be called from another thread than the rest.

        Args:
            index: what the state machine has applied; from ``snapshot().index`` to the commit.
            membership: ``RaftCore.membership_at(index)``.
            chunks: the bytes, in pieces of any size; ``(data,)`` where they are one.
        """
        ...

    def compact(self, index: Index) -> None:
        """Drop the entries up to and with ``index``, which a snapshot must cover."""
        ...

    def condemn(self, reason: str) -> None:
        """Write down that this storage must not be used any more; ``state().loss`` says so then.

        Best effort where the storage itself has failed; never raises.
        """
        ...

    def close(self) -> None:
        """Release everything; what was not synced may be lost."""
        ...


def bootstrap_snapshot(membership: Membership) -> SnapshotMeta:
    """The beginning of a new cluster's log: give the same to the storage of each first member."""
    return EMPTY_SNAPSHOT._replace(membership=membership)
