"""A controller whose records cannot be written any more ends its own session, after its lease.

It went on as the controller, and prolonged its lease, but fenced itself at some moment: others
could lead while it still might (simulated seed 5100363).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streambus_storage import TreeFailedError
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode


@pytest.mark.parametrize("seed", range(6))
def test_its_lease_is_over_before_anybody_knows_that_its_session_is(seed: int) -> None:
    cluster = CalmCluster(seed)

    async def script() -> None:
        await cluster.ready()
        host = cluster.controller()
        node = host.node
        assert node is not None
        me = node.me
        assert me is not None
        await asyncio.sleep(0.13 * seed)  # at any moment of the session
        host.failing = True
        node.storage_failed("append", TreeFailedError(OSError("input/output error")))
        others = [each.node for each in cluster.hosts.all if each is not host]

        def is_fenced(other: ClusterNode | None) -> bool:
            assert other is not None
            return other.state.brokers[host.node_id].fenced

        await cluster.until(
            lambda: any(is_fenced(each) for each in others), "its session ends", step_s=0.001
        )
        assert node.lapsed()
        assert cluster.controller() is host

    cluster.run(script)
