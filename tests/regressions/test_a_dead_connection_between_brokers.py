"""Found by the simulator: a connection died without a word to either end (a firewall forgot it).

Nothing that the metadata group's leader sends is answered on the connection that carries it, so
the leader went on writing into it for ever, and the broker behind it was outside the cluster.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.calm import CalmCluster
from tests.cluster.hosts import PORT


@pytest.mark.parametrize("seed", range(3))
def test_a_broker_behind_a_silent_connection_is_back_within_seconds(seed: int) -> None:
    cluster = CalmCluster(seed)

    async def script() -> None:
        await cluster.ready()
        leader = cluster.controller()
        other = next(host for host in cluster.hosts.all if host is not leader)
        for one in list(cluster.simulation.network.transports):
            if (one.local[0], one.remote) == (leader.name, (other.name, PORT)):
                one.silent = one.peer.silent = True
        await asyncio.sleep(6.0)
        for host in cluster.hosts.all:
            assert cluster.has_session(host.node_id)
            node = host.node
            assert node is not None
            assert node.state.living == {1, 2, 3}

    cluster.run(script)
