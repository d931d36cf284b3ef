"""The mathematics of majorities, for simple and joint configurations.

A joint configuration decides what both its majorities decide (paper, section 6). A configuration
without voters decides nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streambus_raft._membership import Membership
    from streambus_raft._types import NodeId


class VoteResult(IntEnum):
    """How an election stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority_value(voters: Sequence[NodeId], values: Mapping[NodeId, int]) -> int:
    """The largest number that a majority of ``voters`` has reached; a missing one stands at 0."""
    if not voters:
        return 0
    ascending = sorted([values.get(voter, 0) for voter in voters])
    return ascending[(len(ascending) - 1) // 2]


def quorum_value(membership: Membership, values: Mapping[NodeId, int]) -> int:
    """The largest number that a quorum of the configuration has reached: an index, or a round."""
    reached = majority_value(membership.voters, values)
    if membership.outgoing:
        reached = min(reached, majority_value(membership.outgoing, values))
    return reached


def _majority_vote(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    needed = len(voters) // 2 + 1
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= needed:
        return VoteResult.WON
    if refused > len(voters) - needed:
        return VoteResult.LOST
    return VoteResult.PENDING


def vote_result(membership: Membership, votes: Mapping[NodeId, bool]) -> VoteResult:
    """How an election stands after ``votes``; those of others than voters do not count."""
    first = _majority_vote(membership.voters, votes)
    if not membership.outgoing:
        return first
    second = _majority_vote(membership.outgoing, votes)
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.WON if first == second == VoteResult.WON else VoteResult.PENDING


def has_quorum(membership: Membership, alive: Mapping[NodeId, bool]) -> bool:
    """Whether those marked as alive are enough to decide."""
    return vote_result(membership, alive) == VoteResult.WON
