"""Found by the simulator: a follower came into the in-sync set without all that was committed.

A leader that has asked for a larger in-sync set counts both sets until the answer comes. It forgot
that when another partition of the same topic changed meanwhile: what was committed by the old set
alone from then on, the new member need not have. Had it been elected then, acknowledged records
would have been lost. The same in small: between the decision to ask and the asking, a turn of the
loop could pass.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.calm import CalmCluster
from tests.support.clients import Writing


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_in_sync_has_what_is_committed_at_every_moment(seed: int) -> None:
    cluster = CalmCluster(seed)
    joined = 0

    async def script() -> None:
        nonlocal joined
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        writing = asyncio.create_task(cluster.clients.produce(0, Writing("all", 2000)))
        for _ in range(6):
            await cluster.until(lambda: look() == 3, "somebody leads, with all in sync")
            leader, follower = roles()
            ways = [(leader, follower), (follower, leader)]
            for way in ways:
                cluster.simulation.network.block(*way)
            await cluster.until(lambda: look() == 2, "the follower leaves the set")
            cluster.simulation.network.unblock(ways)
            await cluster.until(lambda: look() == 3, "the follower joins it again", 30.0)
            joined += 1
            for _ in range(200):
                look()
                await asyncio.sleep(0.000_1)
        cluster.clients.stopping = True
        await writing

    def roles() -> tuple[str, str]:
        for host in cluster.hosts.all:
            for replica in () if host.node is None else host.node.replicas.values():
                if replica.leading is not None:
                    stay = (host, cluster.controller())
                    other = next(each for each in cluster.hosts.all if each not in stay)
                    return host.name, other.name
        raise AssertionError("nobody leads")

    def look() -> int:
        """See that all in sync have what is committed; return how many they are."""
        size = 0
        for host in cluster.hosts.all:
            for replica in () if host.node is None else host.node.replicas.values():
                leading = replica.leading
                if leading is not None:
                    size = len(leading.in_sync)
                    for member in leading.in_sync - {leading.broker_id}:
                        durable = leading.followers[member].durable
                        assert durable < 0 or durable >= leading.high_watermark
        return size

    cluster.run(script)
    assert joined == 6


def test_a_change_of_something_else_does_not_answer_an_open_request() -> None:
    cluster = CalmCluster(1)

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        writing = asyncio.create_task(cluster.clients.produce(0, Writing("all", 50)))
        await asyncio.sleep(1.0)
        host, replica = next(
            (host, replica)
            for host in cluster.hosts.all if host.node is not None
            for replica in host.node.replicas.values() if replica.leading is not None
        )  # fmt: skip
        assert host.node is not None
        assert replica.leading is not None
        replica.leading.asked((1, 2, 3, 99))  # nobody has anything of 99 yet
        host.node.adopt_all()
        watermark = replica.leading.high_watermark
        await asyncio.sleep(0.5)
        assert replica.leading.high_watermark == watermark
        assert replica.stored.log.next_offset > watermark
        replica.leading.refused()
        cluster.clients.stopping = True
        await writing

    cluster.run(script)
