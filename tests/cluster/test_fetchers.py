"""The follower's side of replication, where there is nothing to follow, or something goes wrong."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from tests.cluster.hosts import Host

_LONG_S = 15.0


def _leader_of(cluster: CalmCluster, topic: str) -> Host:
    node = cluster.controller().node
    assert node is not None
    return cluster.hosts.hosts[node.state.topics[topic].partitions[0].leader]


def test_a_follower_of_nothing_rests_until_there_is_something() -> None:
    cluster = CalmCluster(2)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=1, replication_factor=3)
            await producer.send("t", b"x")
            leader = _leader_of(cluster, "t").node
            assert leader is not None
            assert len(leader.sessions) == 2
            await admin.delete_topic("t")
            await asyncio.sleep(_LONG_S)
            assert len(leader.sessions) == 0
            for number in range(3):  # every broker leads one
                name = f"u{number}"
                await admin.create_topic(name, partitions=1, replication_factor=3)
                await producer.send(name, b"x")

    cluster.run(script)


def test_a_dead_leader_is_not_dialled_for_ever() -> None:
    cluster = CalmCluster(3)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=1, replication_factor=3)
            await producer.send("t", b"x")
            dead = _leader_of(cluster, "t")
            cluster.hosts.kill(dead, power_loss=False)
            await producer.send("t", b"x")
            complaints: list[str] = []
            cluster.hosts.heard = lambda _host, operation, _event: complaints.append(operation)
            for host in cluster.hosts.all:
                if host.node is not None:
                    fetcher = host.node.fetchers._fetchers.get(dead.node_id)
                    if fetcher is not None:
                        fetcher._problem = ""  # so that it would complain once more
            await asyncio.sleep(_LONG_S)
            assert "follow" not in complaints

    cluster.run(script)


def test_an_unforeseen_error_does_not_end_the_following() -> None:
    """Found by reading: the task ended without a word, and its partitions stayed behind."""
    cluster = CalmCluster(4)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=1, replication_factor=3)
            await producer.send("t", b"x")
            leader = _leader_of(cluster, "t")
            follower = next(host for host in cluster.hosts.all if host is not leader)
            assert follower.node is not None
            session = follower.node.fetchers._fetchers[leader.node_id].session
            received = session.received

            def wrong(*_: Any) -> Any:
                session.received = received  # type: ignore[method-assign]  # once
                raise RuntimeError("as in a test")

            session.received = wrong  # type: ignore[method-assign,assignment]  # once
            await producer.send("t", b"y")
            (replica,) = follower.node.replicas.values()
            await cluster.until(lambda: replica.stored.durable == 2, "it follows")
            assert follower.node.server.unexpected_errors == 1

    cluster.run(script)
