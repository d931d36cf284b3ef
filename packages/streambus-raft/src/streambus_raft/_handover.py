"""Giving up leadership: to a chosen successor, or because one's own disk does not keep up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._messages import TimeoutNow
from streambus_raft._replication import send_appends
from streambus_raft._roles import become_follower
from streambus_raft._types import NO_NODE, NodeId
from streambus_raft.errors import TransferError

if TYPE_CHECKING:
    from streambus_raft._state import Node


def start_transfer(node: Node, target: NodeId) -> None:
    """Bring ``target`` up to date and tell it to campaign; proposals are refused meanwhile.

    Raises:
        TransferError: the target is no other voter, takes no part, or a transfer runs already.
    """
    progress = node.progress.get(target)
    if target == node.id:
        raise TransferError(f"node {target} leads already")
    if progress is None or target not in node.track.current.voters:
        raise TransferError(f"node {target} is no voter")
    if progress.foreign or progress.refusal is not None:
        raise TransferError(f"node {target} takes no part")
    if node.transfer_target != NO_NODE:
        raise TransferError(f"a transfer to node {node.transfer_target} is under way")
    node.transfer_target = target
    node.transfer_ticks = 0
    node.transfer_told = False
    send_appends(node, target, progress)
    finish_if_caught_up(node)


def finish_if_caught_up(node: Node) -> None:
    """Tell the target to campaign as soon as it holds the whole log."""
    target = node.transfer_target
    if target == NO_NODE or node.transfer_told:
        return
    progress = node.progress.get(target)
    if progress is None or target not in node.track.current.voters:
        node.transfer_target = NO_NODE
    elif progress.match == node.log.last:
        node.transfer_told = True
        _send_timeout_now(node, target)


def _send_timeout_now(node: Node, target: NodeId) -> None:
    # However late this arrives, its receiver's campaign ignores leases: this term has none any
    # more.
    node.lease_forfeited = True
    node.send(TimeoutNow(node.id, target, node.term))


def tick_transfer(node: Node) -> None:
    """A target that does not take over within an election timeout is given up."""
    if node.transfer_target == NO_NODE:
        return
    node.transfer_ticks += 1
    if node.transfer_ticks >= node.config.election_ticks:
        node.transfer_target = NO_NODE
    elif node.transfer_ticks % node.config.heartbeat_ticks == 0:
        node.transfer_told = False  # it may have been lost
        finish_if_caught_up(node)


def abdicate(node: Node) -> None:
    """Step down at once, and let the voter with the most complete log campaign without waiting."""
    current = node.track.current
    candidates = [
        (each.match, member)
        for member, each in node.progress.items()
        if member in current.voters and each.active and not each.foreign and each.refusal is None
    ]
    if candidates:
        _send_timeout_now(node, max(candidates)[1])
    become_follower(node, node.term, NO_NODE)


def should_abdicate(node: Node) -> bool:
    """Whether this leader's own disk is too slow, and another voter's is not.

    That one has made durable what this one has not. Where the disks of all hang, as those of one
    machine do, nobody would do better, and each election would add to what waits for them.
    """
    voters, stable = node.track.current.voters, node.log.stable
    return node.is_stalled() and any(
        each.match > stable for member, each in node.progress.items() if member in voters
    )
