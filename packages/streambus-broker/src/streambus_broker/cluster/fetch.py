"""FETCH in a cluster: leaders send consumers on to the closest replica, and followers serve them.

A follower serves only consumers that say where they stand: these come back to the leader by
themselves. It never gives more than is committed as far as it knows, and a consumer that is ahead
of what it knows waits here until the leader has told more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.api.fetch import NO_REPLICA, FetchApi
from streambus_broker.cluster.closest import InSyncReplica, closest_replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.api.fetch import FetchLane, FetchResult
    from streambus_broker.cluster.leader import LeaderReplication
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.log.partition import PartitionLog
    from streambus_protocol import FetchPartition


class ClusterFetchApi(FetchApi):
    """The handler and its counters.

    Attributes:
        sent_on: How often a consumer was sent from a leader here to a closer replica.
        follower_reads: Answers with records that a follower here gave.
        follower_read_bytes: Bytes of batches in them.
        follower_refusals: Fetches of consumers with a rack that a follower here refused.
    """

    _node: ClusterNode
    sent_on = 0
    follower_reads = 0
    follower_read_bytes = 0
    follower_refusals = 0

    def serves(self, log: PartitionLog, rack: str | None) -> bool:
        """As a leader within the lease; as a follower in step, whoever says where it stands."""
        node = self._node
        if log.leads:
            return not node.lapsed()
        replica = node.replicas.get(log.partition_id)
        return rack is not None and replica is not None and node.follows_in_step(replica)

    def may_repeat(self, rack: str) -> bool:
        """Only where a leader would never send the consumer on: they stand in one rack."""
        return rack == self._node.config.rack

    def closer(self, log: PartitionLog, offset: int, rack: str) -> int:
        """Choose and count another broker for a consumer of a partition that is led here."""
        node = self._node
        replica, me = node.replicas.get(log.partition_id), node.me
        if replica is None or replica.leading is None or me is None or rack == node.config.rack:
            return NO_REPLICA
        leader = InSyncReplica(me.broker_id, me.rack, serving=True, log_end=log.next_offset)
        chosen = closest_replica(rack, offset, leader, self._followers(replica.leading))
        if chosen == me.broker_id:
            return NO_REPLICA
        self.sent_on += 1
        node.sessions.read_from(chosen)
        return chosen

    def _followers(self, leading: LeaderReplication) -> Iterator[InSyncReplica]:
        """The in-sync followers."""
        brokers = self._node.state.brokers
        for broker_id, known in leading.followers.items():
            broker = brokers.get(broker_id)
            if broker is not None and broker_id in leading.in_sync:
                serving = not (broker.fenced or broker.leaving)
                yield InSyncReplica(broker_id, broker.rack, serving, known.fetched)

    def _read_one(
        self, wanted: FetchPartition, room_bytes: int, rack: str | None, *, first: bool
    ) -> FetchResult:
        result = super()._read_one(wanted, room_bytes, rack, first=first)
        if rack is not None:
            self._count(wanted, result)
        return result

    def _answer_again(self, lane: FetchLane, correlation_id: int, body: bytes) -> bytes | None:
        before_bytes = self.record_bytes
        answer = super()._answer_again(lane, correlation_id, body)
        if answer is not None and not lane.log.leads:
            self.follower_reads += 1
            self.follower_read_bytes += self.record_bytes - before_bytes
        return answer

    def _count(self, wanted: FetchPartition, result: FetchResult) -> None:
        """Count what was read as a follower."""
        log = self._node.logs.get((wanted.topic, wanted.partition))
        if log is None or log.leads:
            return
        self.follower_refusals += bool(result[0])
        if result[4]:
            self.follower_reads += 1
            self.follower_read_bytes += len(result[4])
