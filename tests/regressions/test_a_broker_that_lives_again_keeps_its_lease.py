"""A new controller takes nobody for dead who died under an earlier session, and lives in this one.

Seen from one broker, another one can be gone for long after it is back: it died, and before the two
could connect again the link between them failed. Once that broker is the controller, the other one
holds a lease that its predecessor granted. To suspect it would end its session within the lease.
"""

from __future__ import annotations

import asyncio

from tests.cluster.calm import CalmCluster, calm


def test_who_lives_again_out_of_sight_is_not_fenced_within_its_lease() -> None:
    cluster = CalmCluster(3, calm(voters=5))
    fenced_when: list[bool] = []

    async def script() -> None:
        await cluster.ready()
        loop, hosts = cluster.simulation.loop, cluster.hosts
        network = cluster.simulation.network
        controller = cluster.controller()
        successor, other, third = [each for each in hosts.all if each is not controller][:3]
        assert successor.broker is not None
        assert controller.broker is not None
        hosts.kill(other, power_loss=False)
        gone = successor.broker.group.transport
        await cluster.until(lambda: other.node_id in gone.gone, "it is gone")
        network.partition(successor.name, other.name)
        hosts.start(other)
        await cluster.until(lambda: cluster.has_session(other.node_id), "a session again")
        node, watcher = other.node, third.node
        assert node is not None
        assert watcher is not None
        await cluster.until(lambda: not node.lapsed(), "a lease")
        assert other.node_id in gone.gone
        epoch = node.state.brokers[other.node_id].epoch
        await controller.broker.group.server.transfer_leadership(successor.node_id)
        ends_s = loop.time() + 20
        while not watcher.state.brokers[other.node_id].fenced:
            assert watcher.state.brokers[other.node_id].epoch == epoch
            assert loop.time() < ends_s, "nobody hears of it: its session ends"
            await asyncio.sleep(0.005)
        fenced_when.append(node.lapsed())

    cluster.run(script)
    assert fenced_when == [True], "it was fenced within its lease"
