"""Which replica a consumer should read from: the closest one, by rack. Pure.

A consumer that says where it stands is sent from the leader to a follower there (KIP-392), so that
its records do not travel between racks a second time. The leader is asked first, and again every
few minutes, since only it knows who holds what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class InSyncReplica(NamedTuple):
    """A member of the in-sync set as its leader sees it.

    Attributes:
        broker_id: The broker that holds it.
        rack: Where that stands; None where nobody said.
        serving: Whether that has a session and is not about to end it.
        log_end: The end of its log as it last said; UNKNOWN (-1) while it does not follow.
    """

    broker_id: int
    rack: str | None
    serving: bool
    log_end: int


def closest_replica(
    rack: str, offset: int, leader: InSyncReplica, followers: Iterable[InSyncReplica]
) -> int:
    """Choose the broker that a consumer reads from.

    It is the leader if that stands in the consumer's rack, or if no follower there holds what is
    asked for; else of these followers the one that holds most.

    Args:
        rack: Where the consumer stands.
        offset: What it wants to read next. A follower that ends before it would have it wait.
        leader: The leader itself.
        followers: The other members of the in-sync set.
    """
    if leader.rack == rack:
        return leader.broker_id
    there = [
        each for each in followers
        if each.rack == rack and each.serving and each.log_end >= offset
    ]  # fmt: skip
    most = max(there, key=lambda each: (each.log_end, -each.broker_id), default=leader)
    return most.broker_id
