"""Becoming a follower, a candidate: what a change of role resets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._messages import VoteReply
from streambus_raft._types import NO_NODE, NodeId, Role, Term

if TYPE_CHECKING:
    from streambus_raft._state import Node


def become_follower(node: Node, term: Term, leader: NodeId) -> None:
    """Follow ``leader`` (or nobody yet) in ``term``, which is never lower than the present one."""
    assert term >= node.term
    if term > node.term:
        _enter_term(node, term)
    _leave_office(node)
    if leader != node.leader:
        fail_forwarded_reads(node)
    # A mere higher term does not stop the clock: candidates that cannot win, but are quicker, would
    # otherwise keep the one that could from ever campaigning (paper, 5.2: only a leader's word or a
    # granted vote does).
    if leader != NO_NODE or node.role == Role.LEADER:
        node.draw_timeout()
    node.role = Role.FOLLOWER
    node.leader = leader


def become_pre_candidate(node: Node) -> None:
    """Ask around; term and vote stay as they are."""
    _leave_office(node)
    fail_forwarded_reads(node)
    node.role = Role.PRE_CANDIDATE
    node.leader = NO_NODE
    node.votes = {}
    node.draw_timeout(again=True)
    node.grace = False


def become_candidate(node: Node) -> None:
    """Begin a new term and vote for oneself; that vote too counts only when it is durable."""
    _leave_office(node)
    fail_forwarded_reads(node)
    _enter_term(node, Term(node.term + 1))
    node.role = Role.CANDIDATE
    node.leader = NO_NODE
    node.vote = node.id
    node.votes = {}
    node.draw_timeout(again=True)
    node.grace = False
    own = VoteReply(
        node.id, node.id, node.term, pre_vote=False, granted=True, storage_id=node.storage_id
    )
    node.send_durable(own)


def _enter_term(node: Node, term: Term) -> None:
    node.term = term
    node.vote = NO_NODE
    # What waited for the disk was said in an older term; whoever it was for has moved on, too.
    node.gated.clear()


def _leave_office(node: Node) -> None:
    """Forget what only a leader knows; reads that it had promised to answer fail."""
    node.progress = {}
    node.proposed.clear()
    node.proposed_bytes = 0
    node.transfer_target = NO_NODE
    node.rounds_acked = {}
    node.round_times.clear()
    node.round_wanted = False
    for origin, ticket in node.reads_deferred:
        if origin == node.id:
            node.reads_failed.append(ticket)
    for _, _, origin, ticket in node.reads_waiting:
        if origin == node.id:
            node.reads_failed.append(ticket)
    node.reads_deferred.clear()
    node.reads_waiting.clear()


def fail_forwarded_reads(node: Node) -> None:
    """The leader that was asked is not followed any more."""
    node.reads_failed.extend(node.reads_forwarded)
    node.reads_forwarded.clear()
