"""What the operators of a simulated cluster do while everything else goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING

from streambus_client import AsyncAdmin, TopicPartition
from streambus_client.errors import ClientError
from tests.support.clients import TOPIC

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Literal

    from tests.cluster.hosts import Host, Hosts
    from tests.cluster.shape import Shape
    from tests.support.simulation import SimulatedProcess, Simulation

    MemberAction = Literal["promote", "demote"]

_ADMIN_S = 3.0


class Operators:
    """See the module; a part of the nemesis.

    Args:
        simulation: The world.
        hosts: The machines.
        shape: What the cluster is like.
        process: From where they ask.

    Attributes:
        asking: How many requests are under way.
    """

    def __init__(
        self, simulation: Simulation, hosts: Hosts, shape: Shape, process: SimulatedProcess
    ) -> None:
        self.simulation = simulation
        self.hosts = hosts
        self.shape = shape
        self._process = process
        self._random = simulation.random
        self._tasks: list[asyncio.Task[Any]] = []
        self.asking = 0

    def _later(self, trouble: Coroutine[Any, Any, None]) -> None:
        """Let a trouble go on while the next one may begin."""
        task = asyncio.ensure_future(trouble)
        task.add_done_callback(lambda done: done.cancelled() or done.result())
        self._tasks.append(task)

    def _any(self) -> Host:
        return self._random.choice(self.hosts.all)

    async def _transfer(self) -> None:
        node_id = self._any().node_id
        self._ask(lambda admin: admin.alter_member(node_id, "transfer"))

    async def _elect(self) -> None:
        self._ask(lambda admin: admin.elect_leaders())

    async def _reassign(self) -> None:
        brokers = [host.node_id for host in self.hosts.all]
        target = self._random.sample(brokers, self.shape.replication_factor)
        partition = self._random.randrange(self.shape.partitions)
        where = TopicPartition(TOPIC, partition)
        self._ask(lambda admin: admin.reassign({where: target}))
        if self._random.random() < 0.3:
            self._later(self._call_off(lambda admin: admin.reassign({where: None})))

    async def _vote(self) -> None:
        """A broker gets a vote, or loses it."""
        action: MemberAction = self._random.choice(("promote", "demote"))
        node_id = self._any().node_id
        if action == "demote" and self.hosts.rebuilding is not None:
            return  # of the voters that are left a majority may be one whose disk is lost
        self._ask(lambda admin: admin.alter_member(node_id, action))

    async def _replace(self) -> None:
        """A broker takes everything over from another, which is removed, and joins anew."""
        if self.hosts.rebuilding is not None:
            return  # as in `_vote`
        brokers = [host.node_id for host in self.hosts.all]
        old, new = self._random.sample(brokers, 2)
        self._ask(lambda admin: admin.replace_broker(old, new))
        if self._random.random() < 0.3:
            self._later(self._call_off(lambda admin: admin.cancel_replacement(old)))

    async def _remove(self) -> None:
        """A broker that holds nothing is removed; it joins anew."""
        held = {
            each
            for host in self.hosts.all if host.node is not None
            for replica in host.node.replicas.values()
            for each in replica.record.replicas
        }  # fmt: skip
        free = [host.node_id for host in self.hosts.all if host.node_id not in held]
        if free and self.hosts.rebuilding is None:
            node_id = self._random.choice(free)
            self._ask(lambda admin: admin.alter_member(node_id, "remove"))

    async def _call_off(self, request: Any) -> None:
        await asyncio.sleep(self._random.random())
        self._ask(request)

    def _ask(self, request: Any) -> None:
        random = Random(self._random.random())

        async def ask() -> None:
            async with AsyncAdmin(
                self.hosts.bootstrap,
                request_timeout_ms=1000,
                connect_timeout_ms=500,
                random=random,
            ) as admin:
                with contextlib.suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(_ADMIN_S):
                        await request(admin)

        def done(_: object) -> None:
            self.asking -= 1

        self.asking += 1
        task = self._process.start(ask)
        task.add_done_callback(done)
        self._tasks.append(task)
