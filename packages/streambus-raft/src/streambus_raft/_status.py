"""A copy of what a node knows, for people and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_raft._reads import pending_reads

if TYPE_CHECKING:
    from streambus_raft._membership import Membership
    from streambus_raft._progress import ProgressState
    from streambus_raft._state import Node
    from streambus_raft._types import Index, NodeId, Role, Term


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member as its leader sees it."""

    match: Index
    """Durable there up to here."""
    next: Index
    state: ProgressState
    active: bool
    """Heard from since the last check for a quorum."""
    foreign: bool
    """It answers with another storage than the one it is known by: demote it to learner, and
    promote it when it has caught up."""
    refusal: str | None
    """Why it takes no part, in its own words."""
    snapshot_offset: int
    """Bytes of a snapshot that it is known to hold, while one is being sent."""
    inflight_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """One node; a copy, nothing in it changes any more."""

    node_id: NodeId
    storage_id: int
    role: Role
    term: Term
    vote: NodeId
    leader: NodeId
    """``NO_NODE`` while none is known."""
    first: Index
    last: Index
    stable: Index
    """Durable here up to here."""
    commit: Index
    applied: Index
    membership: Membership
    """In force, committed or not."""
    membership_index: Index
    membership_pending: bool
    """It is not committed, or it is joint."""
    quarantine: str | None
    """Why this node takes no part."""
    uncommitted_bytes: int
    pending_reads: int
    transfer_target: NodeId
    ignored: int
    """Messages that had no effect because they were out of date or from a stranger."""
    members: dict[NodeId, MemberStatus]
    """At the leader: everybody else."""


def status_of(node: Node) -> Status:
    """Copy it."""
    track = node.track
    return Status(
        node_id=node.id,
        storage_id=node.storage_id,
        role=node.role,
        term=node.term,
        vote=node.vote,
        leader=node.leader,
        first=node.log.first(),
        last=node.log.last,
        stable=node.log.stable,
        commit=node.commit,
        applied=node.applied,
        membership=track.current,
        membership_index=track.index,
        membership_pending=track.index > node.commit or track.current.is_joint,
        quarantine=node.quarantine,
        uncommitted_bytes=node.proposed_bytes,
        pending_reads=pending_reads(node),
        transfer_target=node.transfer_target,
        ignored=node.ignored,
        members={
            member: MemberStatus(
                match=each.match,
                next=each.next,
                state=each.state,
                active=each.active,
                foreign=each.foreign,
                refusal=each.refusal,
                snapshot_offset=each.snapshot_offset,
                inflight_bytes=each.window.bytes_sent,
            )
            for member, each in node.progress.items()
        },
    )
