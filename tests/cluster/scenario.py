"""A cluster of brokers and its clients in the simulator, with every kind of trouble, checked.

Each broker has a simulated disk and host of its own. What a run looks like is drawn from its seed
(`shape`), what goes wrong is `nemesis`, what nobody may ever see is `watch`, and what clients may
rely on is `tests.support.history`. At the end everything is healed; then every broker must come to
have a session, every replica must be in sync, all of them equal, and the whole log is read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streambus_storage import StorageError
from tests.cluster.hosts import Host, Hosts
from tests.cluster.nemesis import Nemesis
from tests.cluster.shape import Shape, draw
from tests.cluster.watch import Watch
from tests.support.clients import Clients
from tests.support.history import CheckFailedError, History
from tests.support.simulation import Simulation

if TYPE_CHECKING:
    from collections import Counter

    from streambus_broker.cluster.replica import Replica

CLIENTS = "10.0.0.100"
SETTLE_S = 30.0
_LIMIT_S = 120.0
"""What a run takes beside its troubles, at most; where something hangs, it ends here."""


@dataclass(slots=True)
class Outcome:
    """What a run did; for reports and for comparing two runs."""

    seed: int
    brokers: int
    acknowledged: int
    unanswered: int
    consumed: int
    followed: int
    elections: int
    virtual_s: float
    digest: str
    counts: Counter[str]
    lines: list[str] = field(repr=False, default_factory=list)


class Scenario:
    """One run; see the module.

    Args:
        seed: Decides everything.
        duration_s: Virtual seconds of trouble; None leaves it to the seed.
        shape: Overrules the seed.
        keep_trace: Keep the trace as text.
    """

    def __init__(
        self,
        seed: int,
        duration_s: float | None = None,
        *,
        shape: Shape | None = None,
        keep_trace: bool = False,
    ) -> None:
        self.simulation = Simulation(seed, keep_trace=keep_trace)
        self.shape = shape or draw(self.simulation.random, duration_s)
        self.simulation.network.use(self.shape.faults)
        self.hosts = Hosts(self.simulation, self.shape)
        self.history = History(self.shape.partitions, len(self.shape.writers))
        self.clients = Clients(self.simulation, self.hosts.bootstrap, self.history)
        self.watch = Watch(self.hosts, self.history)

    def run(self) -> Outcome:
        """Run and check.

        Raises:
            CheckFailedError: A promise is broken.
            SimulationError, TimeoutError: As for `Simulation.run`.
        """
        self.simulation.trace(str(self.shape))
        logs = self.simulation.run(self._script, limit_s=self.shape.duration_s + _LIMIT_S)
        history = self.history
        history.check(logs)
        return Outcome(
            self.simulation.seed, self.shape.brokers, history.acknowledged_count,
            history.unanswered_count, history.consumed_count, self.watch.reads.served,
            sum(self.watch.epochs.values()), self.simulation.loop.time(), self.simulation.digest,
            self.simulation.counts, self.simulation.lines,
        )  # fmt: skip

    async def _script(self) -> list[list[bytes]]:
        clients, shape = self.clients, self.shape
        process = self.simulation.process("clients", CLIENTS)
        nemesis = Nemesis(self.simulation, self.hosts, shape, clients, process, self.watch)
        for host in self.hosts.all:
            self.hosts.start(host)
        watching = asyncio.create_task(self.watch.run())
        watching.add_done_callback(_report)
        await self._settle(0)
        await process.start(self._create_topic)
        tasks = [process.start(clients.produce, *each) for each in enumerate(shape.writers)]
        tasks += [process.start(self._consume, *each) for each in enumerate(shape.client_racks)]
        tasks.append(process.start(clients.watch_ends, 0.3))
        for task in tasks:
            task.add_done_callback(_report)
        await nemesis.run()
        await nemesis.heal()
        await asyncio.sleep(0.5)  # still under load
        clients.stopping = True
        for task in tasks:
            await task
        await self._settle(1)
        await self._compare()
        logs: list[list[bytes]] = await process.start(clients.read_everything)
        watching.cancel()
        for host in self.hosts.all:
            host.process.kill()  # a shutdown in good order is one of the troubles
        await asyncio.sleep(0)
        return logs

    async def _consume(self, number: int, rack: str | None) -> None:
        # It comes back to the leader now and then, as others do after some minutes.
        await self.clients.consume(number, client_rack=rack or "", metadata_age_ms_max=1_000)

    async def _create_topic(self) -> None:
        await self.clients.create_topic(replication_factor=self.shape.replication_factor)

    # --- the end -------------------------------------------------------------------------------

    async def _settle(self, topics: int) -> None:
        """Wait until every broker is ready and every replica in sync, as it must come to be."""
        loop = self.simulation.loop
        ends_s = loop.time() + SETTLE_S
        while True:
            await asyncio.sleep(0.1)
            problem = self._unsettled(topics)
            if problem is None:
                return
            if loop.time() > ends_s:
                raise CheckFailedError(f"not settled after {SETTLE_S:g} s of health: {problem}")

    def _unsettled(self, topics: int) -> str | None:
        for host in self.hosts.all:
            node = host.node
            if node is None or node.me is None:
                return f"broker {host.node_id} has no session"
            if node.lapsed():
                return f"broker {host.node_id} has no lease"
            if len(node.state.topics) != topics:
                return f"broker {host.node_id} knows {len(node.state.topics)} topics"
            replaced = [each for each in node.state.brokers.values() if each.replaced_by >= 0]
            if replaced:
                return f"broker {host.node_id} sees {replaced} being replaced"
            if len(node.state.living) != self.shape.brokers:
                return f"broker {host.node_id} sees {node.state.living} alive"
            for replica in node.replicas.values():
                record, log = replica.record, replica.stored.log
                if len(record.in_sync) < len(record.replicas) or record.removing or record.adding:
                    return f"broker {host.node_id} sees {record}"
                if log.high_watermark < log.next_offset:
                    return f"broker {host.node_id}: {log}"
        return None

    async def _compare(self) -> None:
        """See that all replicas are equal to the last byte.

        What lay on a damaged disk and was read by nobody is found out now; that broker is rebuilt,
        and all are compared again.
        """
        for host in self.hosts.all:
            if host.damaged and not self._sound(host):
                self.hosts.wipe(host, "its damage was found by reading everything")
                self.hosts.kill(host, power_loss=False)
                self.hosts.start(host)
                await asyncio.sleep(1.0)
                await self._settle(1)
        images: dict[int, bytes] = {}
        for host in self.hosts.all:
            for replica in self._replicas(host):
                image = self._image(host, replica)
                if images.setdefault(replica.partition, image) != image:
                    raise CheckFailedError(f"replicas of partition {replica.partition} differ")

    def _sound(self, host: Host) -> bool:
        """Whether everything on a damaged disk that is read is as it was written."""
        try:
            for replica in self._replicas(host):
                self._image(host, replica)
        except StorageError as error:
            self.simulation.trace("found", host.node_id, str(error))
            return False
        return True

    @staticmethod
    def _replicas(host: Host) -> list[Replica]:
        assert host.node is not None
        return list(host.node.replicas.values())

    @staticmethod
    def _image(host: Host, replica: Replica) -> bytes:
        assert host.node is not None
        log = replica.stored.log
        if log.log_start_offset == log.next_offset:
            return b""
        end = log.next_offset
        return host.node.store.read(log, log.log_start_offset, 1 << 30, stop_offset=end)


def _report(task: asyncio.Task[Any]) -> None:
    """What ends a client, or the watch, ends the run: at once."""
    if not task.cancelled():
        task.result()
