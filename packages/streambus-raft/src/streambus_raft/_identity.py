"""Telling a member's storage from another one under the same name.

A member that lost its disk has forgotten its votes and acknowledgements. If it simply went on, a
majority could decide twice. So each storage draws an identity when it is created, every answer
names it, and the configuration in the log remembers it. Under another storage a voter does not
count, does not vote and does not campaign; it still receives the log. Demoting it to learner
(``ChangeKind.LEARNER``) and promoting it again is how it comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._messages import (
    AppendRequest,
    Heartbeat,
    Message,
    Refusal,
    SnapshotChunk,
    VoteRequest,
)
from streambus_raft._roles import become_follower
from streambus_raft._types import NO_NODE

if TYPE_CHECKING:
    from streambus_raft._membership import Membership
    from streambus_raft._progress import Progress
    from streambus_raft._state import Node
    from streambus_raft._types import NodeId

REASON_CHARACTERS_MAX = 1000
"""As much of a reason as a message may carry."""


def judge_storages(node: Node) -> None:
    """The configuration changed: decide anew which members answer with a storage that counts."""
    current = node.track.current
    for member, progress in node.progress.items():
        known = current.storage_of(member)
        if known is not None and progress.storage_id:
            progress.foreign = known != progress.storage_id
        elif not current.is_voter(member):
            progress.foreign = False


def renew_sessions(node: Node, before: Membership) -> None:
    """Forget by which storage those answered that the configuration sets free of theirs.

    Otherwise the next registration would write down again the storage of a disk that is gone, and
    the new one, which has not answered yet, would stay a stranger.
    """
    after = node.track.current
    for member in node.progress:
        if before.storage_of(member) is not None and after.storage_of(member) is None:
            node.progress[member] = node.new_progress(node.log.last)
            node.rounds_acked.pop(member, None)


def admit_reply(node: Node, member: NodeId, progress: Progress, storage_id: int) -> bool:
    """Whether a reply belongs to the storage that this session was begun with.

    If another storage answers, a new session is begun, so that no late answer of one is taken for
    the other's.
    """
    if progress.storage_id == storage_id:
        return True
    known = node.track.current.storage_of(member)
    if not progress.storage_id:
        progress.storage_id = storage_id
        progress.foreign = known is not None and known != storage_id
        return True
    fresh = node.new_progress(node.log.last + 1)
    fresh.storage_id = storage_id
    if node.track.current.is_voter(member):
        fresh.foreign = storage_id != (progress.storage_id if known is None else known)
    node.progress[member] = fresh
    node.rounds_acked.pop(member, None)
    return False


def enter_quarantine(node: Node, reason: str) -> None:
    """Take no part from now on. Memory stays as it is; nothing further is written or sent."""
    if node.quarantine is not None:
        return
    become_follower(node, node.term, NO_NODE)
    node.quarantine = reason
    node.gated.clear()
    node.messages.clear()


def refuse(node: Node, message: Message) -> None:
    """Tell whoever expects something of this node why it gets nothing."""
    if isinstance(message, AppendRequest | Heartbeat | SnapshotChunk | VoteRequest):
        reason = (node.quarantine or "")[:REASON_CHARACTERS_MAX]
        node.messages.append(Refusal(node.id, message.sender, node.term, node.storage_id, reason))
