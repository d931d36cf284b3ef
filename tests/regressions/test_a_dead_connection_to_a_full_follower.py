"""A follower that rests from a full disk notices that the connection to its leader is dead.

What rested was due again every quarter of a second, and that counted as if the leader had been
heard of: with two requests under way, the follower waited for ever on a connection that neither
end had been told was dead, and looked a hundred times a second whether it might ask.
"""

from __future__ import annotations

import asyncio
import errno
from random import Random
from typing import Any

import pytest

from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster


async def send(producer: AsyncProducer, partition: int) -> None:
    while True:
        await producer.send("t", b"full", partition=partition)


@pytest.mark.parametrize("seed", range(4))
def test_a_full_follower_behind_silent_connections_catches_up_with_room(seed: int) -> None:
    cluster = CalmCluster(seed)
    bootstrap, loop = cluster.hosts.bootstrap, cluster.simulation.loop

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=6, replication_factor=3)
            for partition in range(6):
                await producer.send("t", b"before", partition=partition)
            host = cluster.hosts.all[seed % 3]
            node = host.node
            assert node is not None
            host.disk.fail("append", times=None, error=errno.ENOSPC, path="/broker/data")
            sending = [asyncio.create_task(send(producer, each)) for each in range(6)]
            fetchers = node.fetchers._fetchers

            def waiting() -> list[Any]:
                """Connections with two requests under way, by fetchers of which something rests."""
                return [
                    each._link._transport for each in fetchers.values()
                    if each._link is not None and len(each._link._pending) == 2
                    and (each.session.retry_at_s or 0.0) > loop.time()
                ]  # fmt: skip

            ends_s = loop.time() + 60
            while not (dead := waiting()):
                assert loop.time() < ends_s, "this is what the test is about"
                await asyncio.sleep(0.000_2)
            dead[0].silent = dead[0].peer.silent = True
            for each in sending:
                each.cancel()
            for count in range(40):
                await producer.send("t", b"silent", partition=count % 6)
            await asyncio.sleep(1.0)
            host.disk.heal()
            await cluster.until(
                lambda: all(len(one.in_sync) == 3 for one in node.state.topics["t"].partitions),
                "in sync again",
                within_s=15.0,
            )

    cluster.run(script)
