"""Linearizable reads without writing to the log (thesis, section 6.4).

A read gets the commit index of the moment it arrives. It may be answered once a quorum has
confirmed, in answers to a round of heartbeats sent *after* that moment, that this leader still led.
A leader that has not committed an entry of its term yet does not know the true commit: its reads
wait for that.

A lease saves the round: for some time after a quorum was asked none of it helps another candidate,
so nobody else can lead. It rests on clocks that run about equally fast, and is given up for the
rest of the term as soon as somebody was told to campaign regardless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._messages import ReadReply, ReadRequest
from streambus_raft._quorum import quorum_value
from streambus_raft._ready import ReadState
from streambus_raft._types import NO_NODE, Index, NodeId, Role

if TYPE_CHECKING:
    from streambus_raft._state import Node


def start_read(node: Node) -> int:
    """A read of this node's own; its ticket comes back in a ready, answered or failed."""
    ticket = node.next_ticket
    node.next_ticket += 1
    if node.role == Role.LEADER:
        _enqueue(node, node.id, ticket)
    elif node.leader != NO_NODE:
        node.reads_forwarded[ticket] = node.ticks
        node.send(ReadRequest(node.id, node.leader, node.term, ticket))
    else:
        node.reads_failed.append(ticket)
    return ticket


def pending_reads(node: Node) -> int:
    """Reads that are neither answered nor failed."""
    return len(node.reads_deferred) + len(node.reads_waiting) + len(node.reads_forwarded)


def handle_read_request(node: Node, message: ReadRequest) -> None:
    """A follower's read."""
    known = message.sender in node.progress
    if node.role != Role.LEADER or not known or _is_full(node):
        node.send(ReadReply(node.id, message.sender, node.term, message.ticket, 0))
        return
    _enqueue(node, message.sender, message.ticket)


def _is_full(node: Node) -> bool:
    return pending_reads(node) >= node.config.pending_reads_max


def handle_read_reply(node: Node, message: ReadReply) -> None:
    """The leader's answer to a forwarded read."""
    if node.reads_forwarded.pop(message.ticket, None) is None:
        node.ignored += 1
    elif message.index:
        node.reads.append(ReadState(message.ticket, message.index))
    else:
        node.reads_failed.append(message.ticket)


def _enqueue(node: Node, origin: NodeId, ticket: int) -> None:
    if not node.committed_in_term():
        node.reads_deferred.append((origin, ticket))
        return
    node.reads_waiting.append((node.round + 1, node.commit, origin, ticket))
    node.round_wanted = True


def enqueue_deferred(node: Node) -> None:
    """The first entry of the term is committed: reads that waited for it may go on."""
    deferred, node.reads_deferred = node.reads_deferred, []
    for origin, ticket in deferred:
        _enqueue(node, origin, ticket)


def begin_round(node: Node) -> int:
    """Number a new round of heartbeats. Its time is that of the last tick: rather too early."""
    node.round += 1
    node.round_wanted = False
    node.round_times.append((node.round, node.now))
    return node.round


def acknowledge_round(node: Node, member: NodeId, number: int) -> None:
    """A member that counts has answered a round."""
    if number > node.round:
        node.ignored += 1
    elif number > node.rounds_acked.get(member, 0):
        node.rounds_acked[member] = number


def _confirmed_round(node: Node) -> int:
    """The last round that a quorum of the configuration in force has answered."""
    return quorum_value(node.track.current, {**node.rounds_acked, node.id: node.round})


def release_reads(node: Node) -> None:
    """Answer the reads whose round a quorum has confirmed."""
    if not node.reads_waiting and len(node.round_times) < 2:
        return
    confirmed = _confirmed_round(node)
    while node.reads_waiting and node.reads_waiting[0][0] <= confirmed:
        _, index, origin, ticket = node.reads_waiting.popleft()
        if origin == node.id:
            node.reads.append(ReadState(ticket, index))
        else:
            node.send(ReadReply(node.id, origin, node.term, ticket, index))
    while len(node.round_times) > 1 and node.round_times[1][0] <= confirmed:
        node.round_times.popleft()


def expire_forwarded(node: Node) -> None:
    """Request or answer were lost: let the reader ask again."""
    if not node.reads_forwarded:
        return
    limit = node.ticks - node.config.election_ticks
    late = [ticket for ticket, since in node.reads_forwarded.items() if since <= limit]
    for ticket in late:
        del node.reads_forwarded[ticket]
    node.reads_failed.extend(late)


def set_clock(node: Node, now_seconds: float) -> None:
    """Take over the time of a tick; a clock that went back proves nothing about earlier rounds."""
    if now_seconds < node.now:
        node.round_times.clear()
    node.now = now_seconds


def confirmed_at(node: Node) -> float | None:
    """When the last round began that a quorum has answered to this leader; None for none yet."""
    if not node.committed_in_term() or not node.round_times:
        return None
    number, started = node.round_times[0]
    return started if number <= _confirmed_round(node) else None


def lease_index(node: Node, now_seconds: float) -> Index | None:
    """The commit, if nobody else can have committed more until ``now_seconds``; else None."""
    if not node.config.check_quorum or node.lease_forfeited or now_seconds < node.now:
        return None
    started = confirmed_at(node)
    if started is None:
        return None
    return node.commit if now_seconds < started + node.config.lease_seconds else None
