"""What a server tells about itself, as typed values that are copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streambus_raft._status import Status
    from streambus_raft._transport import TransportMetrics


class Leadership(NamedTuple):
    """Who leads, as far as a node knows.

    Attributes:
        leader: The leader's node id, or None while none is known.
        term: The node's term.
        is_leader: Whether the node itself leads.
    """

    leader: int | None
    term: int
    is_leader: bool


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """One server at one moment.

    Attributes:
        status: What the core knows: role, term, indexes, membership, and at the leader its members.
        applied_index: Up to where the state machine has applied.
        commands_applied: Commands applied since the start of the server.
        proposals_pending: Groups of proposals that wait for their end.
        reads_pending: Reads that wait for their answer.
        sessions: Open client sessions.
        snapshots_saved: Snapshots written since the start.
        snapshots_failed: Snapshots that could not be written.
        snapshots_restored: Snapshots of a leader that were restored since the start.
        messages_rejected: Messages that were refused for what they said.
        failure: Why the node takes no part any more, or None.
        full: Why the node stands still until its storage has room, or None.
        transport: What the transport counted, if it counts.
    """

    status: Status
    applied_index: int
    commands_applied: int
    proposals_pending: int
    reads_pending: int
    sessions: int
    snapshots_saved: int
    snapshots_failed: int
    snapshots_restored: int
    messages_rejected: int
    failure: str | None
    full: str | None
    transport: TransportMetrics | None
