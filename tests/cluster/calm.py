"""A simulated cluster without trouble of its own, for tests that make one particular trouble."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.cluster.hosts import Host, Hosts
from tests.cluster.shape import Shape
from tests.support.clients import Clients
from tests.support.history import History
from tests.support.simulation import Faults, Simulation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS = "10.0.0.100"


def calm(voters: int = 3, joined: int = 0) -> Shape:
    """Nothing happens by itself."""
    return Shape(
        voters=voters, joined=joined, replication_factor=3, partitions=1, writers=(),
        client_racks=(), duration_s=0.0, spacing_s=1.0, patience=0.0, looks=0.0, troubles={},
        faults=Faults(), sync_s_max=0.002, session_ms=800, lag_ms_max=1000,
        memtable_bytes=64 * 1024,
        drift=0.0,
    )  # fmt: skip


class CalmCluster:
    """Brokers that started together, and one client process.

    Args:
        seed: Decides latencies and elections.
        shape: What the cluster is like.
    """

    def __init__(self, seed: int, shape: Shape | None = None) -> None:
        self.shape = shape or calm()
        self.simulation = Simulation(seed)
        self.hosts = Hosts(self.simulation, self.shape)
        self.history = History(self.shape.partitions, 1)
        self.clients = Clients(self.simulation, self.hosts.bootstrap, self.history)

    def run(self, script: Callable[[], Awaitable[None]], limit_s: float = 300.0) -> None:
        """Start all, run a script in the clients' process, end all."""

        async def main() -> None:
            for host in self.hosts.all:
                self.hosts.start(host)
            process = self.simulation.process("clients", CLIENTS)
            await process.start(self._in_process, script)
            for host in self.hosts.all:
                host.process.kill()
            await asyncio.sleep(0)

        self.simulation.run(main, limit_s=limit_s)

    @staticmethod
    async def _in_process(script: Callable[[], Awaitable[None]]) -> None:
        await script()

    async def until(
        self, holds: Callable[[], Any], what: str, within_s: float = 20.0, step_s: float = 0.02
    ) -> None:
        """Wait for something, with a look each step; fail where it does not come in time."""
        ends_s = self.simulation.loop.time() + within_s
        while not holds():
            assert self.simulation.loop.time() < ends_s, f"{what}: not within {within_s:g} s"
            await asyncio.sleep(step_s)

    async def ready(self) -> None:
        """Wait until every broker has a session."""
        await self.until(
            lambda: all(self.has_session(host.node_id) for host in self.hosts.all), "sessions"
        )

    def has_session(self, node_id: int) -> bool:
        """Whether a broker has a session, by its own knowledge."""
        node = self.hosts.hosts[node_id].node
        return node is not None and node.me is not None

    def controller(self) -> Host:
        """The broker that leads the metadata group."""
        for host in self.hosts.all:
            if host.node is not None and host.broker and host.broker.group.is_controller:
                return host
        raise AssertionError("there is no controller")
