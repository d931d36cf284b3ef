"""A broker that ends while it still leads waits for its clients, and not for its followers."""

from __future__ import annotations

from random import Random

from streambus_client import AsyncAdmin, AsyncProducer
from streambus_storage import CorruptionError
from tests.cluster.calm import CalmCluster

_SOON_S = 0.5  # half of the shutdown_timeout_ms of simulated brokers


def test_followers_of_what_it_leads_do_not_hold_it_up() -> None:
    """Found by trying: their long polls, one after the other, took its whole shutdown timeout."""
    cluster = CalmCluster(3)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(hosts.bootstrap, random=Random(1)) as admin,
            AsyncProducer(hosts.bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=1, replication_factor=3)
            await producer.send("t", b"x")
            state = cluster.controller().node.state  # type: ignore[union-attr]  # it serves
            host = hosts.hosts[state.topics["t"].partitions[0].leader]
            assert host.node is not None
            assert host.node.sessions.waiting_count == 2
            process, host.damaged = host.process, True  # so that it is rebuilt
            began_s = cluster.simulation.loop.time()
            host.node.damaged(CorruptionError("/broker/data/1", 0, "as one finds it"))
            await cluster.until(lambda: not process.alive, "it ends")
            assert cluster.simulation.loop.time() - began_s < _SOON_S

    cluster.run(script)
