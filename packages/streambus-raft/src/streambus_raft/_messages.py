"""What nodes say to each other. Pure data; ``_codec`` carries it over a wire.

Every message begins with ``sender``, ``to`` and ``term`` (the sender's, or for pre-votes the one
that is asked about). Networks may lose, repeat, delay and reorder messages: each one can be judged
alone.

``session`` is chosen by a leader for each period in which it replicates to a member, and is echoed
in the replies: a reply to an earlier period (the node was removed and taken in again) does not
count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from streambus_raft._entry import Entry
    from streambus_raft._storage import SnapshotMeta
    from streambus_raft._types import Index, NodeId, Term


class VoteRequest(NamedTuple):
    """A candidate asks for a vote, or (``pre_vote``) whether it would get one in ``term``."""

    sender: NodeId
    to: NodeId
    term: Term
    last_index: Index
    last_term: Term
    pre_vote: bool
    transfer: bool
    """The leader itself asked for this election: do not protect it."""


class VoteReply(NamedTuple):
    """The answer; a granted vote was durable before this was sent.

    ``term`` is the one asked about where ``granted``, else the voter's own.
    """

    sender: NodeId
    to: NodeId
    term: Term
    pre_vote: bool
    granted: bool
    storage_id: int


class AppendRequest(NamedTuple):
    """Entries that follow ``prev_index``; none to ask whether the log matches there."""

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    prev_index: Index
    prev_term: Term
    commit: Index
    entries: list[Entry]


class AppendReply(NamedTuple):
    """What a follower holds.

    Not ``rejected``: everything up to ``index`` matches the leader's log and is durable.
    ``rejected``: nothing was taken, because the entry at ``index`` (the request's ``prev_index``)
    is missing or of another term; ``hint_index`` and ``hint_term`` tell where the logs may meet.
    """

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    rejected: bool
    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    hint_index: Index
    hint_term: Term
    storage_id: int


class Heartbeat(NamedTuple):
    """The leader lives.

    ``commit`` never exceeds what the storage ``storage_id`` acknowledged in this session: a
    follower with that storage and a shorter log knows that it has lost entries.
    """

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    commit: Index
    round: int
    """Counts the leader's rounds; an answer proves that it led when that round was sent. 0: a mere
    notice of ``commit``, which is not answered."""
    storage_id: int
    """0 while it is not known."""


class HeartbeatReply(NamedTuple):
    """Heard."""

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    round: int
    storage_id: int


class SnapshotChunk(NamedTuple):
    """A part of a snapshot, one at a time."""

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    meta: SnapshotMeta
    offset: int
    data: bytes


class SnapshotReply(NamedTuple):
    """How much of the snapshot at ``index`` is durable, or that it is installed (``done``)."""

    sender: NodeId
    to: NodeId
    term: Term
    session: int
    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    offset: int
    done: bool
    storage_id: int


class TimeoutNow(NamedTuple):
    """Leadership is handed over: campaign at once (thesis, section 3.10)."""

    sender: NodeId
    to: NodeId
    term: Term


class ReadRequest(NamedTuple):
    """A follower asks the leader for an index at which a read is linearizable."""

    sender: NodeId
    to: NodeId
    term: Term
    ticket: int


class ReadReply(NamedTuple):
    """Read once ``index`` is applied; ``index`` 0 means that the leader cannot serve the read."""

    sender: NodeId
    to: NodeId
    term: Term
    ticket: int
    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose


class Refusal(NamedTuple):
    """The sender takes no part: it is in quarantine, and says why."""

    sender: NodeId
    to: NodeId
    term: Term
    storage_id: int
    reason: str


Message: TypeAlias = (
    VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
    | TimeoutNow
    | ReadRequest
    | ReadReply
    | Refusal
)
