"""What a broker answers about the cluster while it lags behind, or cannot know."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from streambus_broker.cluster.peers import connect
from streambus_client import AsyncAdmin
from streambus_protocol import ErrorCode, MetadataRequest, MetadataResponse
from tests.cluster.calm import CalmCluster
from tests.cluster.hosts import PORT

_LATE_S = 0.15


def test_operators_hear_of_what_was_acknowledged_before_wherever_they_ask() -> None:
    cluster = CalmCluster(4)
    hosts, network = cluster.hosts, cluster.simulation.network

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        late = next(host for host in hosts.all if host is not controller)
        network.slow(controller.name, late.name, _LATE_S)
        async with (
            AsyncAdmin(f"{controller.name}:{PORT}", random=Random(1)) as admin,
            AsyncAdmin(f"{late.name}:{PORT}", random=Random(2)) as listed,
            AsyncAdmin(f"{late.name}:{PORT}", random=Random(3)) as described,
        ):
            await admin.create_topic("t", partitions=5, replication_factor=3)
            assert late.node is not None
            assert "t" not in late.node.state.topics, "it lags behind"
            found = await asyncio.gather(listed.cluster(), described.describe_cluster())
            assert [each.partition_count for each in found] == [5, 5]

    cluster.run(script)


def _creating(seed: int) -> CalmCluster:
    """A cluster whose brokers create what is asked for."""
    cluster = CalmCluster(seed)
    plain = cluster.hosts._config
    cluster.hosts._config = lambda *given: replace(  # type: ignore[method-assign]  # a setting
        plain(*given), auto_create_topics=True
    )
    return cluster


def test_topics_that_are_asked_for_without_a_quorum_wait_in_a_queue_with_an_end() -> None:
    """Found by reading: whoever asked again and again made it longer, for as long as it took."""
    cluster = _creating(10)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        asked, *others = hosts.all
        for host in others:
            hosts.kill(host, power_loss=False)
        assert asked.node is not None
        assert asked.broker is not None
        asked.node.leads_until_s = float("inf")
        link = await connect(asked.name, PORT, cluster_id=None, expect=None, timeout_s=5.0)
        answers = [link.ask(MetadataRequest((f"n{n}",)), MetadataResponse) for n in range(1_100)]
        await cluster.until(lambda: any(each.done() for each in answers), "some are refused")
        assert len(asked.broker.apis.topics._jobs) <= 1_000
        assert sum(each.done() for each in answers) >= 90
        link.close()

    cluster.run(script)


def test_who_cannot_know_says_so_whatever_others_ask_meanwhile() -> None:
    """Found by reading: requests that overlapped wrote over what the others were to be told."""
    cluster = _creating(9)
    hosts = cluster.hosts

    async def script() -> None:
        await cluster.ready()
        asked, *others = hosts.all
        for host in others:
            hosts.kill(host, power_loss=False)
        assert asked.node is not None
        asked.node.leads_until_s = float("inf")  # else it says at once that it was left alone

        async def ask(after_s: float) -> int:
            await asyncio.sleep(after_s)
            link = await connect(asked.name, PORT, cluster_id=None, expect=None, timeout_s=5.0)
            try:
                answer = await link.request(MetadataRequest(("new",)), MetadataResponse, 20.0)
            finally:
                link.close()
            return answer.topics[0].error

        codes = await asyncio.gather(*[ask(0.5 * number) for number in range(8)])
        assert set(codes) == {ErrorCode.LEADER_NOT_AVAILABLE}

    cluster.run(script)
