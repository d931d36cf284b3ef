"""What a follower had on a disk that is gone counted for its successor, which was taken in with it.

Found by reading. A follower whose machine lost its power left a connection behind of which its
leader did not know that it was dead. What it had said there still counted when it had registered
anew, on another disk: the leader asked for it to be in sync in its new session, and it could have
been elected with nothing (KIP-903).
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from streambus_client import AsyncAdmin, AsyncProducer
from streambus_client.errors import ClientError
from tests.cluster.calm import CalmCluster

TOPIC = "t"
_SILENCE_S = 2.0  # the last answer to the dead connection has been sent


def test_a_follower_with_another_disk_is_taken_in_only_when_it_holds_everything() -> None:
    cluster = CalmCluster(21)
    hosts, network = cluster.hosts, cluster.simulation.network

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(hosts.bootstrap, random=Random(1)) as admin,
            AsyncProducer(hosts.bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            for _ in range(10):
                await producer.send(TOPIC, b"x")
            state = cluster.controller().node.state  # type: ignore[union-attr]  # it serves
            leader, keeper, follower = map(
                hosts.hosts.__getitem__, state.topics[TOPIC].partitions[0].replicas
            )
            with contextlib.suppress(ClientError):  # it is that already
                await admin.alter_member(keeper.node_id, "transfer")
            await cluster.until(lambda: cluster.controller() is keeper, "it is the controller")
        assert leader.node is not None
        (replica,) = leader.node.replicas.values()
        assert replica.leading is not None
        hosts.kill(follower, power_loss=True)
        await cluster.until(lambda: len(replica.record.in_sync) == 2, "the others go on")
        await asyncio.sleep(_SILENCE_S)
        hosts.wipe(follower, "its disk is gone")
        network.slow(follower.name, leader.name, 0.5)
        hosts.start(follower)
        await cluster.until(lambda: len(replica.record.in_sync) == 3, "it is taken in")
        assert follower.node is not None
        (copy,) = follower.node.replicas.values()
        assert copy.stored.durable == 10

    cluster.run(script)
