"""Found by the simulator: a joining broker was killed when it was a member, and knew nothing else.

Its directory told that it was a member, and not yet where the others are; so it asked nobody again,
could answer none of the leader's messages, and never came back. (The first mend of it was lost for
want of this test.)
"""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.calm import CalmCluster, calm


@pytest.mark.parametrize("seed", range(3))
def test_a_joining_broker_that_was_killed_early_comes_back(seed: int) -> None:
    cluster = CalmCluster(seed, calm(joined=1))

    async def script() -> None:
        joining = cluster.hosts.hosts[4]

        def knows_only_that_it_is_a_member() -> bool:
            broker = joining.broker
            if broker is None or broker.node.state.brokers:
                return False
            # What the log says, committed or not, is what a new life begins with.
            return 4 in broker.group.membership.members()

        while not knows_only_that_it_is_a_member():
            assert not cluster.has_session(4), "that moment has passed unnoticed"
            await asyncio.sleep(0.000_1)
        await asyncio.sleep(0.01)  # a sync, and nothing more
        cluster.hosts.kill(joining, power_loss=False)
        await asyncio.sleep(0.1)
        cluster.hosts.start(joining)
        await cluster.until(lambda: cluster.has_session(4), "broker 4 is back", within_s=3.0)

    cluster.run(script)
