"""Asking for votes, giving them, and taking office.

Rules:

- A vote is durable before anybody hears of it, one's own included (paper, figure 2).
- A pre-vote changes nothing at the voter, and counts for nothing but the decision to campaign
  (thesis, section 9.6).
- A node that has heard from a leader within ``election_ticks`` does not help others into office,
  and does not even learn of their term; unless the leader itself asked for it (thesis, section
  4.2.3).
- Whoever is asked votes by its log and its vote alone, whatever it believes about who is a voter
  and by which storage: its configuration may be older than the asker's. The candidate counts those
  voters, with those storages, that its own log names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._entry import Entry, EntryKind
from streambus_raft._messages import VoteReply, VoteRequest
from streambus_raft._quorum import VoteResult, vote_result
from streambus_raft._replication import append_as_leader, broadcast_appends, reconcile_progress
from streambus_raft._roles import become_candidate, become_follower, become_pre_candidate
from streambus_raft._types import NO_NODE, Role, Term

if TYPE_CHECKING:
    from streambus_raft._state import Node
    from streambus_raft._types import NodeId

_TURN_TICKS = 2
"""After a leader's death is known, each voter leaves the one before it so much time to win."""


def may_campaign(node: Node) -> bool:
    """Whether this node is a voter whose storage is its own and keeps up."""
    return (
        node.quarantine is None
        and node.track.may_campaign(node.id, node.commit)
        and not node.is_other_storage()
        and not node.is_stalled()
        and node.log.base is None
    )


def time_out(node: Node) -> None:
    """Nothing was heard of a leader for long enough: campaign, or at least forget that leader.

    Who may not campaign starts to wait anew here. Did it go on following, it would, for a part of
    every wait, refuse to help a successor into office for the sake of a leader that is gone.
    """
    if node.config.priority and may_campaign(node):
        campaign(node)
    else:
        become_follower(node, node.term, NO_NODE)
        node.draw_timeout()


def leader_gone(node: Node, leader: NodeId) -> None:
    """The leader's process has ended: protect it no more, and campaign soon.

    The voters take turns, by id, two ticks after one another: did all of them campaign at once,
    none would win. Who is late to learn of it has protected the dead leader until then.
    """
    if node.role == Role.LEADER or node.leader != leader:
        return
    become_follower(node, node.term, NO_NODE)
    current = node.track.current
    rank = sum(1 for each in current.voters if each < node.id and each != leader)
    node.timeout_ticks = min(node.timeout_ticks, node.elapsed_ticks + 1 + _TURN_TICKS * rank)


def campaign(node: Node, *, transfer: bool = False) -> None:
    """Try to become leader; with pre-vote only after asking whether that could succeed."""
    if node.role == Role.LEADER or not may_campaign(node):
        return
    if node.config.pre_vote and not transfer:
        become_pre_candidate(node)
        _request_votes(node, Term(node.term + 1), pre_vote=True, transfer=False)
        _count(node, node.id, granted=True)
    else:
        become_candidate(node)
        _request_votes(node, node.term, pre_vote=False, transfer=transfer)


def _request_votes(node: Node, term: Term, *, pre_vote: bool, transfer: bool) -> None:
    current = node.track.current
    for voter in sorted({*current.voters, *current.outgoing}):
        if voter == node.id:
            continue
        request = VoteRequest(
            node.id, voter, term, node.log.last, node.log.last_term, pre_vote, transfer
        )
        if pre_vote:
            node.send(request)
        else:
            node.send_durable(request)


def handle_vote_request(node: Node, message: VoteRequest) -> None:
    """Grant or refuse; a real request of a higher term was already taken as the present term."""
    fits = node.log.is_up_to_date(message.last_index, message.last_term)
    free = node.leader == NO_NODE and node.vote in (NO_NODE, message.sender)
    if message.pre_vote:
        granted = fits and (message.term > node.term or (message.term == node.term and free))
    else:
        voted = node.vote == message.sender
        granted = message.term == node.term and fits and (voted or free)
    if granted and not message.pre_vote:
        node.vote = message.sender
        node.elapsed_ticks = 0
    node.send_durable(
        VoteReply(
            node.id,
            message.sender,
            message.term if granted else node.term,
            message.pre_vote,
            granted,
            node.storage_id,
        )
    )


def handle_vote_reply(node: Node, message: VoteReply) -> None:
    """Count an answer to the present campaign; anything else is out of date."""
    if message.pre_vote:
        asked = Term(node.term + 1) if message.granted else node.term
        expected = node.role == Role.PRE_CANDIDATE and message.term <= asked
        if message.granted and message.term != asked:
            expected = False
    else:
        expected = node.role == Role.CANDIDATE and message.term == node.term
    known = node.track.current.storage_of(message.sender)
    if not expected or (known is not None and known != message.storage_id):
        node.ignored += 1
        return
    _count(node, message.sender, granted=message.granted)


def _count(node: Node, voter: int, *, granted: bool) -> None:
    node.votes.setdefault(voter, granted)  # type: ignore[arg-type]  # a sender is a NodeId
    result = vote_result(node.track.current, node.votes)
    if result == VoteResult.PENDING:
        return
    if result == VoteResult.LOST:
        become_follower(node, node.term, NO_NODE)
    elif node.role == Role.PRE_CANDIDATE:
        become_candidate(node)
        _request_votes(node, node.term, pre_vote=False, transfer=False)
    else:
        _become_leader(node)


def _become_leader(node: Node) -> None:
    """Take office: open the term with an entry of its own, which commits all before it."""
    node.role = Role.LEADER
    node.leader = node.id
    node.votes = {}
    node.elapsed_ticks = 0
    node.heartbeat_elapsed_ticks = 0
    node.lease_forfeited = False
    node.round = 0
    node.sessions = 0
    node.term_start = node.log.last + 1
    append_as_leader(node, [Entry(node.term_start, node.term, EntryKind.NOOP, b"")])
    for member in node.track.current.members():
        if member != node.id:
            node.progress[member] = node.new_progress(node.term_start)
    reconcile_progress(node)
    broadcast_appends(node)
