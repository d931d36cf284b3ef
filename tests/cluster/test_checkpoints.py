"""What replicas know of their producers is noted now and then, and holds nobody up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

from streambus_broker.log.keys import state_key
from streambus_client import AsyncAdmin, AsyncProducer
from tests.cluster.calm import CalmCluster, calm

_PARTITIONS = 20


def test_the_loop_turns_between_two_notes() -> None:
    """Found by reading: a thousand busy partitions held up everybody every five seconds."""
    cluster = CalmCluster(8, replace(calm(), partitions=_PARTITIONS))

    async def script() -> None:
        await cluster.ready()
        bootstrap = cluster.hosts.bootstrap
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic("t", partitions=_PARTITIONS, replication_factor=3)
            for partition in range(_PARTITIONS):
                await producer.send("t", b"x", partition=partition)
        node = cluster.controller().node
        assert node is not None
        loop, tree = cluster.simulation.loop, node.store.tree
        marks = {state_key(partition_id) for partition_id in node.replicas}
        put, turned, noted = tree.put, [True], 0

        def noting(key: bytes, value: Any, **options: Any) -> int:
            nonlocal noted
            if key in marks:
                assert turned, "the loop has turned since the last one"
                noted += 1
                turned.clear()
                loop.call_soon(turned.append, True)
            return put(key, value, **options)

        tree.put = noting  # type: ignore[method-assign,assignment]  # of this one tree
        await cluster.until(lambda: noted == _PARTITIONS, "all are noted")
        await asyncio.sleep(0)

    cluster.run(script)
