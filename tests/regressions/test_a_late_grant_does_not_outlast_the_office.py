"""A lease that another controller had granted came when its broker was the controller by then.

Found by reading. A controller acts within half a session of its own, because its successor waits
no longer; the late answer to its last heartbeat as an ordinary broker gave it a whole one again.
"""

from __future__ import annotations

import asyncio

import pytest

from streambus_broker.cluster.lease import DRIFT
from tests.cluster.calm import CalmCluster

_LATE_S = 0.2  # a quarter of a session
_WATCHED_S = 0.5


@pytest.mark.parametrize("seed", range(1, 5))
def test_what_another_controller_granted_counts_no_more(seed: int) -> None:
    cluster = CalmCluster(seed)
    loop = cluster.simulation.loop

    async def script() -> None:
        await cluster.ready()
        former = cluster.controller()
        heir = next(host for host in cluster.hosts.all if host is not former)
        assert former.broker is not None
        assert heir.broker is not None
        group, member = heir.broker.group, heir.broker.member
        cluster.simulation.network.slow(former.name, heir.name, _LATE_S)
        await asyncio.sleep(1.0)
        handing = asyncio.ensure_future(
            former.broker.group.server.transfer_leadership(heir.node_id)
        )
        await cluster.until(lambda: group.is_controller, "it is the controller")
        await asyncio.sleep(0.001)  # it has been told
        ends_s = loop.time() + _WATCHED_S
        while loop.time() < ends_s:
            left_s = member.lease.until_s - heir.broker.node.steady_s()
            assert left_s <= member.office.own_lease_s * (1 - DRIFT) + 1e-9
            await asyncio.sleep(0.001)
        await handing

    cluster.run(script)
