"""Requests between brokers that somebody else makes, or that come too late: nothing moves."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from streambus_client import Admin, Producer
from streambus_protocol import (
    BrokerHeartbeatRequest,
    ErrorCode,
    ReplicaDurable,
    ReplicaFetchRequest,
    ReplicaPosition,
    ReplicaProgressRequest,
)
from tests.broker.raw import RawClient
from tests.cluster.conftest import Cluster, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SENT = 10


class Target:
    """A partition with two replicas, one of which is gone: its watermark stands still."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
            admin.create_topic("t", partitions=1, replication_factor=2,
                               config={"min_insync_replicas": "2"})  # fmt: skip
            for number in range(SENT):
                producer.send("t", b"%d" % number)
        self.leader, in_sync = cluster.record("t")
        (self.follower,) = (each for each in in_sync if each != self.leader)
        (self.outsider,) = {1, 2, 3} - set(in_sync)
        cluster.stop(self.follower)
        self.node = cluster.broker(self.leader).node
        brokers = self.node.state.brokers
        wait_until(lambda: brokers[self.follower].fenced, "the follower's session is over")
        with RawClient(self.address) as client:
            # What nobody may take for committed.
            assert client.produce("t", b"more", acks=1).error == 0

    @property
    def address(self) -> str:
        return self.cluster.addresses[self.leader - 1]

    @property
    def replica(self) -> Any:
        return next(each for each in self.node.replicas.values() if each.topic == "t")

    def fetch(self, broker_id: int, epoch: int, incarnation: bytes, **position: int) -> Any:
        """Send the fetch of a follower that claims to have everything, and to have synced it."""
        log = self.replica.stored.log
        claimed = {
            "partition_id": log.partition_id, "leader_epoch": log.leader_epoch,
            "offset": log.next_offset, "last_epoch": log.leader_epoch,
            "durable": log.next_offset, **position,
        }  # fmt: skip
        request = ReplicaFetchRequest(
            broker_id, epoch, incarnation, 0, 1 << 20, (ReplicaPosition(**claimed),), ()
        )
        durable = ReplicaDurable(log.partition_id, log.leader_epoch, log.next_offset)
        with RawClient(self.address) as client:
            answer = client.call(request)
            client.send(ReplicaProgressRequest((durable,)))  # not answered
            client.call(request)  # it was read when this is answered
        return answer

    def unmoved(self) -> None:
        log, record = self.replica.stored.log, self.replica.record
        assert (log.high_watermark, log.next_offset) == (SENT, SENT + 1)
        assert (record.leader, set(record.in_sync)) == (self.leader, {self.leader, self.follower})


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Target]:
    made = Target(cluster)
    made.unmoved()
    yield made
    time.sleep(0.3)  # time for what a leader asks for now and then: another in-sync set, say
    made.unmoved()


def test_a_forged_follower_moves_nothing(target: Target) -> None:
    brokers = target.node.state.brokers
    gone, outsider = brokers[target.follower], brokers[target.outsider]
    for broker_id, epoch, incarnation in (
        (99, 1, b"x" * 16),  # nobody
        (target.follower, gone.epoch, gone.incarnation),  # a session that is over
        (target.follower, gone.epoch + 1, b"x" * 16),  # a guess
        (target.outsider, outsider.epoch - 1, outsider.incarnation),  # an earlier session
        (target.outsider, outsider.epoch, b"x" * 16),  # the right numbers, another process
    ):
        answer = target.fetch(broker_id, epoch, incarnation)
        assert answer.error == ErrorCode.STALE_BROKER_EPOCH, (broker_id, epoch)
        assert answer.partitions == ()
        assert str(broker_id) in answer.detail
    # A session that is yet to come: whoever has it knows more, and is to ask again.
    answer = target.fetch(target.outsider, target.node.state.index + 1_000, b"x" * 16)
    assert answer.error == ErrorCode.OFFSET_NOT_AVAILABLE
    assert answer.partitions == ()
    # A broker in session, of a partition that it does not hold.
    answer = target.fetch(target.outsider, outsider.epoch, outsider.incarnation)
    assert [each.error for each in answer.partitions] == [ErrorCode.INVALID_REQUEST]
    # The leader itself, from outside.
    me = brokers[target.leader]
    answer = target.fetch(target.leader, me.epoch, me.incarnation)
    assert [each.error for each in answer.partitions] == [ErrorCode.INVALID_REQUEST]


def test_a_stale_epoch_is_refused(target: Target) -> None:
    brokers = target.node.state.brokers
    outsider = brokers[target.outsider]
    epoch = target.replica.stored.log.leader_epoch
    with ExitStack() as stack:
        client = stack.enter_context(RawClient(target.address))

        def heartbeat(broker_epoch: int, incarnation: bytes) -> Any:
            controller = target.cluster.broker(target.leader).group.controller
            assert controller is not None
            address = target.cluster.addresses[controller - 1]
            with RawClient(address) as other:
                return other.call(
                    BrokerHeartbeatRequest(target.outsider, broker_epoch, incarnation, 0)
                )

        assert heartbeat(outsider.epoch, outsider.incarnation).error == 0
        for stale in ((outsider.epoch - 1, outsider.incarnation), (outsider.epoch, b"other")):
            answer = heartbeat(*stale)
            assert answer.error == ErrorCode.STALE_BROKER_EPOCH
            assert str(target.outsider) in answer.detail
        answer = heartbeat(target.node.state.index + 1_000, outsider.incarnation)
        assert (answer.error, answer.lease_ms) == (ErrorCode.OFFSET_NOT_AVAILABLE, -1)
        for asked, code in (
            (epoch - 1, ErrorCode.FENCED_LEADER_EPOCH),
            (epoch + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ):
            answer = target.fetch(
                target.outsider, outsider.epoch, outsider.incarnation, leader_epoch=asked
            )
            assert [each.error for each in answer.partitions] == [code]
        assert client.fetch("t", 0).error == 0
