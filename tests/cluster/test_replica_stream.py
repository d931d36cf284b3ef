"""A follower on a slow line: every batch is sent to it once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster, calm
from tests.cluster.watch import SENT_WHAT_DOES_NOT_FIT
from tests.support.clients import TOPIC

if TYPE_CHECKING:
    from tests.cluster.hosts import Host

SENT = 200


@pytest.mark.parametrize("seed", range(3))
def test_what_is_on_its_way_is_not_sent_again(seed: int) -> None:
    # Two partitions of each leader: a request for one finds that the other has grown, too, since
    # its last records were sent.
    random = Random(seed)
    cluster = CalmCluster(seed, replace(calm(), partitions=6))
    events: list[str] = []

    def heard(_host: Host, _operation: str, event: str) -> None:
        events.append(event)

    cluster.hosts.heard = heard

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        names = [each.name for each in cluster.hosts.all]
        for one in names:
            for other in names:
                if one != other:
                    cluster.simulation.network.slow(one, other, 0.1)
        async with (
            AsyncProducer(cluster.hosts.bootstrap, acks=1, random=random) as producer,
            AsyncAdmin(cluster.hosts.bootstrap, random=random) as admin,
        ):
            for number in range(SENT):
                await producer.send(TOPIC, b"%d" % number, partition=random.randrange(6))
                await asyncio.sleep(0.03 * random.random())
                if number % 20 == 10:  # whoever follows one more asks while its last request waits
                    await admin.create_topic(f"other{number}", partitions=3, replication_factor=3)
        nodes = [host.node for host in cluster.hosts.all if host.node is not None]
        await cluster.until(
            lambda: all(
                sum(each.stored.log.high_watermark for each in node.replicas.values()) == SENT
                for node in nodes
            ),
            "everything is committed",
        )

    cluster.run(script)
    assert SENT_WHAT_DOES_NOT_FIT not in events
