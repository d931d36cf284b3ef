"""A broker that is to lead, and cannot read who wrote what to its log: others lead meanwhile."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica

TOPIC = "t"


def test_a_leader_that_does_not_know_its_producers_hands_over_until_it_does() -> None:
    cluster = CalmCluster(12)
    bootstrap, hosts = cluster.hosts.bootstrap, cluster.hosts.hosts

    def at(node_id: int) -> tuple[ClusterNode, Replica]:
        node = hosts[node_id].node
        assert node is not None
        (replica,) = node.replicas.values()
        return node, replica

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            for number in range(40):  # several memtables
                await producer.send(TOPIC, b"%d" % number + bytes(3_000))
            (record,) = cluster.controller().node.state.topics[TOPIC].partitions  # type: ignore[union-attr]  # it serves
            first, heir, last = record.replicas
            assert record.leader == first
            node, replica = at(heir)
            stored = replica.stored
            fault = hosts[heir].disk.fail("read", times=None, path="/broker/data")
            stored._forget(stored.log.next_offset)  # what a truncation ends with
            assert fault.hits
            assert not stored.knows_producers
            began_s = cluster.simulation.loop.time()
            await admin.alter_member(first, "maintenance_on")
            await cluster.until(lambda: at(last)[1].leading is not None, "others lead")
            await producer.send(TOPIC, b"meanwhile")
            assert cluster.simulation.loop.time() - began_s < 3.0
            assert node.state.brokers[heir].read_only
            hosts[heir].disk.heal()
            await cluster.until(lambda: not node.state.brokers[heir].read_only, "it knows again")
            await cluster.until(lambda: heir in replica.record.in_sync, "it is in sync again")
            assert stored.knows_producers
            assert not node.unlearnt
            known = at(last)[1].stored.producers
            assert stored.producers.encode(0) == known.encode(0)
            await admin.alter_member(last, "maintenance_on")
            await cluster.until(lambda: replica.leading is not None, "it leads")
            await producer.send(TOPIC, b"after")

    cluster.run(script)
