"""Found by the simulator: a broker joined before the group's leader had registered as a broker.

It never learned where the leader was, so it answered none of its messages and never became a
member, however often it asked.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.calm import CalmCluster, calm


@pytest.mark.parametrize("seed", range(3))
def test_a_broker_that_joins_at_any_moment_becomes_a_member(seed: int) -> None:
    cluster = CalmCluster(seed, calm(joined=1))

    async def script() -> None:
        joining = cluster.hosts.hosts[4]
        while joining.broker is None:
            await asyncio.sleep(0.000_1)
        # As if the leader had not been registered when this broker asked for the members.
        joining.broker.group.transport.forget_peer(cluster.controller().node_id)
        await cluster.until(lambda: cluster.has_session(4), "broker 4 is a member")

    cluster.run(script)
