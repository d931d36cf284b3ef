"""A leader that throttles a copy looks after it now and then, however much is written."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from streambus_broker.cluster.replica_sessions import ReplicaSessions

TOPIC = "t"
_RATE = 2_000  # bytes per second: the follower needs minutes
_RECORDS = 300
_LOOKS_PER_S_MAX = 20  # ten, and whatever the long polls add


def _counted(sessions: ReplicaSessions) -> list[None]:
    """Note each look at what is due to a follower."""
    looks: list[None] = []
    gather = sessions._gather

    def counting(session: Any) -> Any:
        looks.append(None)
        return gather(session)

    sessions._gather = counting  # type: ignore[method-assign]  # of this one broker
    return looks


def test_the_looks_do_not_add_up_with_what_is_written() -> None:
    """Found by reading: each append began to look ten times a second, for as long as it takes."""
    cluster = CalmCluster(5)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(hosts.bootstrap, random=Random(1)) as admin,
            AsyncProducer(hosts.bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.alter_cluster({"replication_throttle_bytes_per_s": _RATE})
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            state = cluster.controller().node.state  # type: ignore[union-attr]  # it serves
            leader, _, follower = map(
                hosts.hosts.__getitem__, state.topics[TOPIC].partitions[0].replicas
            )
            assert leader.node is not None
            (replica,) = leader.node.replicas.values()
            hosts.kill(follower, power_loss=False)
            await cluster.until(lambda: len(replica.record.in_sync) == 2, "the others go on")
            for _ in range(100):
                await producer.send(TOPIC, bytes(5_000))
            hosts.start(follower)
            await cluster.until(lambda: cluster.has_session(follower.node_id), "it is back")
            await asyncio.sleep(1.0)
            for _ in range(_RECORDS):
                await producer.send(TOPIC, b"x")
            looks = _counted(leader.node.sessions)
            await asyncio.sleep(5.0)
            assert follower.node_id not in replica.record.in_sync, "it is still copied"
            assert len(looks) <= 5 * _LOOKS_PER_S_MAX

    cluster.run(script)
