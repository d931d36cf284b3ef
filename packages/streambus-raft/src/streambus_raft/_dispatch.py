"""What each kind of message means to a node in its present term and role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft import _election, _reads, _replication, _snapshots
from streambus_raft._identity import admit_reply, enter_quarantine, refuse
from streambus_raft._messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    Refusal,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from streambus_raft._roles import become_follower
from streambus_raft._types import NO_NODE, NUMBER_MAX, Role

if TYPE_CHECKING:
    from streambus_raft._state import Node

_FROM_LEADER = (AppendRequest, Heartbeat, SnapshotChunk)
_TO_LEADER = (AppendReply, HeartbeatReply, SnapshotReply)


def step_message(node: Node, message: Message) -> None:
    """Judge a message by its term first, then by its kind."""
    if node.quarantine is not None:
        refuse(node, message)
        return
    if isinstance(message, Refusal):
        _note_refusal(node, message)
        return
    if message.term > node.term:
        if not _enter_higher_term(node, message):
            return
    elif message.term < node.term:
        _answer_lower_term(node, message)
        return
    if isinstance(message, _FROM_LEADER):
        _from_leader(node, message)
    elif isinstance(message, _TO_LEADER):
        _to_leader(node, message)
    elif isinstance(message, VoteRequest):
        _election.handle_vote_request(node, message)
    elif isinstance(message, VoteReply):
        _election.handle_vote_reply(node, message)
    elif isinstance(message, ReadRequest):
        _reads.handle_read_request(node, message)
    elif isinstance(message, ReadReply):
        _reads.handle_read_reply(node, message)
    else:
        _timeout_now(node, message)


def _enter_higher_term(node: Node, message: Message) -> bool:
    """Follow into the message's term, if it gives reason to; says whether to go on with it."""
    if message.term >= NUMBER_MAX:
        # Nobody counts that far: a node that believed it could never campaign again.
        node.ignored += 1
        return False
    if isinstance(message, VoteRequest):
        if not message.transfer and node.protects_leader():
            node.ignored += 1
            return False
        if message.pre_vote:
            return True
    elif isinstance(message, VoteReply) and message.pre_vote and message.granted:
        return True
    leader = message.sender if isinstance(message, _FROM_LEADER) else NO_NODE
    become_follower(node, message.term, leader)
    return True


def _answer_lower_term(node: Node, message: Message) -> None:
    """Tell a leader or candidate of the past about the present term; drop all else.

    Without an answer a leader could go on for ever beside a node that has moved on to a later term
    and, because of pre-vote or a leader's protection, cannot win it (etcd issue 5468).
    """
    if isinstance(message, _FROM_LEADER):
        node.send(
            AppendReply(
                node.id,
                message.sender,
                node.term,
                message.session,
                rejected=True,
                index=0,
                hint_index=0,
                hint_term=node.term,
                storage_id=node.storage_id,
            )
        )
    elif isinstance(message, VoteRequest):
        node.send(
            VoteReply(
                node.id,
                message.sender,
                node.term,
                message.pre_vote,
                granted=False,
                storage_id=node.storage_id,
            )
        )
    elif isinstance(message, ReadReply):
        # Its leader confirmed that it led after the question was asked: the answer still holds.
        _reads.handle_read_reply(node, message)
    else:
        node.ignored += 1


def _from_leader(node: Node, message: AppendRequest | Heartbeat | SnapshotChunk) -> None:
    if node.role == Role.LEADER:
        # Two leaders of one term cannot be: somebody answers in another's name.
        node.ignored += 1
        return
    if node.role != Role.FOLLOWER or node.leader != message.sender:
        become_follower(node, message.term, message.sender)
    node.elapsed_ticks = 0
    node.grace = False
    reason = None
    if isinstance(message, AppendRequest):
        reason = _replication.handle_append(node, message)
    elif isinstance(message, Heartbeat):
        reason = _replication.handle_heartbeat(node, message)
    else:
        _snapshots.handle_chunk(node, message)
    if reason is not None:
        enter_quarantine(node, reason)
        refuse(node, message)


def _to_leader(node: Node, message: AppendReply | HeartbeatReply | SnapshotReply) -> None:
    progress = node.progress.get(message.sender)
    if node.role != Role.LEADER or progress is None or message.session != progress.session:
        node.ignored += 1
        return
    if not admit_reply(node, message.sender, progress, message.storage_id):
        node.ignored += 1
        return
    progress.refusal = None
    progress.active = not progress.foreign
    if isinstance(message, AppendReply):
        _replication.handle_append_reply(node, message, progress)
    elif isinstance(message, HeartbeatReply):
        if not progress.foreign:
            _reads.acknowledge_round(node, message.sender, message.round)
        _replication.handle_heartbeat_reply(node, message, progress)
    elif _snapshots.handle_snapshot_reply(node, message, progress):
        _replication.advance_commit(node)
        _replication.send_appends(node, message.sender, progress)


def _note_refusal(node: Node, message: Refusal) -> None:
    progress = node.progress.get(message.sender)
    if progress is None:
        node.ignored += 1
    else:
        progress.refusal = message.reason


def _timeout_now(node: Node, message: TimeoutNow) -> None:
    """The leader hands over: campaign at once, and ask the others not to protect it."""
    if node.role == Role.LEADER or message.sender != node.leader:
        node.ignored += 1
        return
    _election.campaign(node, transfer=True)
