"""Where one partition is read: at its leader, or at the replica that the leader preferred. Pure.

Rules (KIP-392):
    1. A consumer that says where it stands asks the leader first. What the leader prefers is read
       from until the time is over, the partition has another leader epoch, or that replica fails or
       refuses; then the leader is asked again.
    2. After a failure the leader is asked for a while without saying where the consumer stands, so
       that it serves by itself: else it would send the consumer back at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streambus_client._cluster import NO_NODE

if TYPE_CHECKING:
    from streambus_client._backoff import Backoff


class ReadPlace:
    """See the module.

    Args:
        backoff: how long the leader serves after a failure.

    Attributes:
        replica: node id of the preferred replica, NO_NODE where the leader is read from.
    """

    __slots__ = ("_backoff", "_leader_epoch", "_until", "replica")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._leader_epoch = -1
        self._until = -math.inf
        self.replica = NO_NODE

    def choose(self, leader: int, leader_epoch: int, now: float) -> int:
        """Node id of the broker to ask now."""
        if self.replica == NO_NODE:
            return leader
        if now < self._until and leader_epoch == self._leader_epoch:
            return self.replica
        self.replica = NO_NODE
        self._until = -math.inf
        return leader

    def prefer(self, replica: int, leader_epoch: int, now: float, lasts_s: float) -> None:
        """The leader of this epoch sent the consumer on."""
        self.replica = replica
        self._leader_epoch = leader_epoch
        self._until = now + lasts_s

    def served(self) -> None:
        """The broker that was asked has answered as it should."""
        if self.replica != NO_NODE:
            self._backoff.succeeded()

    def failed(self, now: float) -> None:
        """The preferred replica failed, refused, or is not known: rule 2."""
        self.replica = NO_NODE
        self._until = now + self._backoff.next_wait_s()

    def keeps_to_leader(self, now: float) -> bool:
        """Whether the leader has to serve by itself."""
        return self.replica == NO_NODE and now < self._until

    def settled_until(self, now: float) -> float:
        """Until when the same broker is asked the same, if nothing happens."""
        return self._until if now < self._until else math.inf
