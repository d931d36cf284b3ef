"""Troubles of the simulated cluster that aim at one decision: `nemesis` makes them with the others.

Each of them brings about what happens seldom by itself: a heartbeat in the moment in which a
session is ended, a change of controllers while one of them sleeps, a request that arrives long
after its sender has given it up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random
    from typing import Any

    from streambus_broker.cluster.member import Member
    from tests.cluster.hosts import Host, Hosts
    from tests.cluster.shape import Shape
    from tests.support.simulation import SimulatedProcess, Simulation

_LOOK_S = 0.005


class AimedTroubles:
    """See the module; a part of `nemesis.Nemesis`, which says what the attributes are."""

    simulation: Simulation
    hosts: Hosts
    shape: Shape
    _random: Random
    _process: SimulatedProcess

    if TYPE_CHECKING:

        def _later(self, trouble: Coroutine[Any, Any, None]) -> None: ...
        def _ask(self, request: Any) -> None: ...
        def _some_leader(self) -> tuple[Host, int] | None: ...
        def _some_pair(self) -> tuple[Host, Host, int] | None: ...
        def _names(self) -> list[str]: ...
        def _kill_now(self, host: Host, *, power_loss: bool) -> None: ...
        async def _again(self, host: Host, within_s: float | None = None) -> None: ...
        async def _block(self, ways: list[tuple[str, str]], seconds: float) -> None: ...

    @property
    def _session_s(self) -> float:
        return self.shape.session_ms / 1000

    def _controller(self) -> tuple[Host, Member] | None:
        """The broker that leads the metadata group in the latest term, and what it does there."""
        found = [
            (host.broker.group.term, host.node_id)
            for host in self.hosts.all
            if host.node is not None and host.broker is not None and host.broker.group.is_controller
        ]  # fmt: skip
        if not found:
            return None
        host = self.hosts.hosts[max(found)[1]]
        assert host.broker is not None
        return host, host.broker.member

    def _subject(self) -> tuple[Host, Member, Host] | None:
        """The controller, what it does, and another broker whose process runs."""
        found = self._controller()
        if found is None:
            return None
        others = [
            host for host in self.hosts.all
            if host is not found[0] and host.node is not None and host.process.runs
        ]  # fmt: skip
        return (*found, self._random.choice(others)) if others else None

    async def _until(self, holds: Callable[[], bool], within_s: float) -> bool:
        ends_s = self.simulation.loop.time() + within_s
        while not holds():
            if self.simulation.loop.time() > ends_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    # --- sessions and leases -------------------------------------------------------------------

    async def _nap(self) -> None:
        """A broker sleeps until its session is being ended, and wakes before that is carried out.

        The command takes its time: the controller's word reaches the others late.
        """
        found = self._subject()
        if found is not None:
            self._later(self._sleep_in(*found))

    async def _sleep_in(self, controller: Host, member: Member, sleeper: Host) -> None:
        network, process = self.simulation.network, sleeper.process
        others = [each for each in self.hosts.all if each is not controller]
        for each in others:
            network.slow(controller.name, each.name, self._session_s / 8)
        process.pause()

        def is_over() -> bool:
            node = controller.node
            return node is None or sleeper.node_id in member.sessions.over(node.steady_s())

        await self._until(is_over, 2 * self._session_s)
        await asyncio.sleep(self._random.uniform(0.03, 0.1))
        process.resume()
        await asyncio.sleep(self._session_s / 2)
        for each in others:
            network.slow(controller.name, each.name, 0.0)

    async def _late_grant(self) -> None:
        """The controller's answers come late to one broker; then nothing passes between the two."""
        found = self._subject()
        if found is None:
            return
        controller, _, other = found

        async def delay() -> None:
            network = self.simulation.network
            late_s = self._session_s * self._random.uniform(0.3, 0.8)
            network.slow(controller.name, other.name, late_s)
            await asyncio.sleep(2 * late_s)
            way = (other.name, controller.name)  # what the controller has said yet still arrives
            await self._block([way], 1.5 * self._session_s)
            network.slow(controller.name, other.name, 0.0)

        self._later(delay())

    async def _handover(self) -> None:
        """The office of the controller passes on, once or twice, and one of the brokers sleeps."""
        self._later(self._hand_over())

    async def _hand_over(self) -> None:
        former: list[Host] = []
        for _ in range(self._random.choice((1, 2))):
            found = self._subject()
            if found is None:
                return
            former.append(found[0])
            to = found[2].node_id
            self._ask(lambda admin, to=to: admin.alter_member(to, "transfer"))

            def is_there(to: int = to) -> bool:
                there = self._controller()
                return there is not None and there[0].node_id == to

            if not await self._until(is_there, 0.5):
                return
        now = self._controller()
        candidates = [each for each in self.hosts.all if now is None or each is not now[0]]
        sleeper = former[-1] if self._random.random() < 0.6 else self._random.choice(candidates)
        process = sleeper.process
        process.pause()
        await asyncio.sleep(self._session_s * self._random.uniform(0.5, 1.5))
        process.resume()

    async def _no_route(self) -> None:
        """Two brokers lose each other, and are told so at once by a router that has no way."""
        found = self._subject()
        if found is not None:
            controller, _, other = found
            self._later(self._lose_route(controller.name, other.name))

    async def _lose_route(self, one: str, other: str) -> None:
        network = self.simulation.network
        ways = [(one, other), (other, one)]
        for way in ways:
            network.block(*way)
        network.no_route.update(ways)
        network.cut(one, other)
        await asyncio.sleep(self._session_s * self._random.uniform(0.3, 1.0))
        network.no_route.difference_update(ways)
        network.unblock(ways)

    # --- logs ----------------------------------------------------------------------------------

    async def _seesaw(self) -> None:
        """Two replicas take records of their own in turn, each while the other is away."""
        found = self._some_pair()
        if found is not None:
            leader, follower, _ = found
            self._later(self._rock(leader, follower))

    async def _rock(self, first: Host, second: Host) -> None:
        network, session_s = self.simulation.network, self.shape.session_ms / 1000
        others = [each for each in self._names() if each not in (first.name, second.name)]
        crowded = self.shape.replication_factor > 2
        if crowded:  # nobody else follows: the two are the last of the in-sync set, and stay in it
            aside = _ways([first.name, second.name], others)
            await self._block(aside, self.shape.lag_ms_max / 1000 + session_s)
        alone = _ways([first.name], [second.name, *others])
        for way in alone:
            network.block(*way)
        for other in others if crowded else ():  # it votes, and follows late
            network.slow(second.name, other, 0.2)
        ends_s = self.simulation.loop.time() + 4 * session_s
        while not self._has_written_alone(second) and self.simulation.loop.time() < ends_s:
            await asyncio.sleep(0.01)
        self._kill_now(second, power_loss=False)
        network.unblock(alone)
        for other in others if crowded else ():
            network.slow(second.name, other, 0.0)
        await self._again(second, session_s * self._random.choice((2.0, 4.0)))

    @staticmethod
    def _has_written_alone(host: Host) -> bool:
        replicas = () if host.node is None else host.node.replicas.values()
        return any(
            each.leading is not None and each.stored.epochs.latest == each.stored.log.leader_epoch
            for each in replicas
        )

    # --- clients -------------------------------------------------------------------------------

    async def _late_send(self) -> None:
        """What clients send to a leader arrives when they have given it up, and sent other things.

        One way is slow for a moment; what is on it stays there, what is sent later is faster.
        """
        found = self._some_leader()
        if found is None:
            return
        leader, clients = found[0].name, self._process.host
        network, late_s = self.simulation.network, self._random.uniform(1.6, 2.2)
        network.slow(clients, leader, late_s)

        async def hurry() -> None:
            await asyncio.sleep(self._random.choice((0.05, 0.3)))
            network.slow(clients, leader, 0.0)
            await asyncio.sleep(late_s)  # a run does not end before

        self._later(hurry())


def _ways(ones: list[str], others: list[str]) -> list[tuple[str, str]]:
    """Both ways between each of the ones and each of the others."""
    return [way for a in ones for b in others for way in ((a, b), (b, a))]
