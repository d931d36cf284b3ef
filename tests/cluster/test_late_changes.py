"""Changes of topics that wait for their turn until nobody wants them any more."""

from __future__ import annotations

import asyncio
from random import Random

from streambus_broker.cluster.peers import connect
from streambus_client import AsyncAdmin
from streambus_protocol import (
    AlterTopicsRequest,
    AlterTopicsResponse,
    ErrorCode,
    TopicAlteration,
)
from tests.cluster.calm import CalmCluster
from tests.cluster.hosts import PORT

_TIMEOUT_MS = 1_500
_LONG_S = 20.0
_AWAY_S = 5.0  # two changes have been tried in vain meanwhile, one after the other


def test_a_change_whose_time_is_over_is_not_made() -> None:
    """Found by reading: it was made when there was a quorum again, and undid what came since."""
    cluster = CalmCluster(6)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        async with AsyncAdmin(hosts.bootstrap, random=Random(1)) as admin:
            await admin.create_topic("t", partitions=1, replication_factor=3)
        asked = next(host for host in hosts.all if host is not cluster.controller())
        others = [host for host in hosts.all if host is not asked]
        assert asked.node is not None
        assert asked.broker is not None
        group = asked.broker.group
        link = await connect(asked.name, PORT, cluster_id=None, expect=None, timeout_s=5.0)
        for host in others:
            hosts.kill(host, power_loss=False)
        await cluster.until(lambda: group.controller is None, "it knows that it is alone")
        given_up = [
            link.ask(
                AlterTopicsRequest(
                    (TopicAlteration("t", -1, {"retention_ms": f"{number}h"}),), _TIMEOUT_MS, False
                ),
                AlterTopicsResponse,
            )
            for number in range(1, 9)
        ]
        await asyncio.sleep(_AWAY_S)
        for host in others:
            hosts.start(host)
        answers = [(await each).topics[0].error for each in given_up]
        link.close()
        assert set(answers) == {ErrorCode.NO_QUORUM, ErrorCode.REQUEST_TIMED_OUT}
        await cluster.ready()
        assert asked.node.state.topics["t"].overrides == {}

    cluster.run(script)


def test_a_controller_that_was_cut_off_does_not_wait_for_ever() -> None:
    """Found by reading: what a leader appended had no end before it heard of another one's log.

    It waited for that with all that comes in turn, and one that was removed meanwhile would never
    have asked the others what became of it.
    """
    cluster = CalmCluster(6)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        async with AsyncAdmin(hosts.bootstrap, random=Random(1)) as admin:
            await admin.create_topic("t", partitions=1, replication_factor=3)
        alone = cluster.controller()
        link = await connect(alone.name, PORT, cluster_id=None, expect=None, timeout_s=5.0)
        for host in hosts.all:
            if host is not alone:
                cluster.simulation.network.partition(host.name, alone.name)
        change = (TopicAlteration("t", -1, {"retention_ms": "1h"}),)
        request = AlterTopicsRequest(change, 60_000, False)
        answer = await link.request(request, AlterTopicsResponse, _LONG_S)
        assert answer.topics[0].error == ErrorCode.REQUEST_TIMED_OUT
        link.close()

    cluster.run(script)
