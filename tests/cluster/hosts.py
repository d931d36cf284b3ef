"""The machines of a simulated cluster: a disk each, and a broker that starts, dies and starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_broker.cluster.broker import ClusterBroker, JoinError
from streambus_broker.cluster.member import DuplicateBrokerError, RemovedBrokerError
from streambus_broker.config import BrokerConfig
from streambus_broker.doors import Doors
from streambus_broker.errors import DataDirectoryError
from streambus_broker.observe.logs import Logger, LogSink
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.log.partition import PartitionLog
    from tests.cluster.shape import Shape
    from tests.support.simulation import SimulatedProcess, Simulation

PORT = 9092
_RETRY_S = 0.2
_GRACE_S = 5.0
_EXPECTED = (JoinError, DuplicateBrokerError)
"""What ends a broker whose disk is fine: nobody to join answers, or its former life is not over."""


_Heard = Callable[[str, str], None]
"""Told the operation and the event of a log line."""


class _NotedLogs(LogSink):
    """Has a broker's log lines stand in the text of the trace, and others hear them."""

    def __init__(self, simulation: Simulation, node_id: int, heard: _Heard) -> None:
        super().__init__(None, simulation.wall_clock_ms)
        self._simulation = simulation
        self._node_id = node_id
        self._heard = heard

    def take(
        self,
        level: str,
        component: str,
        operation: str,
        event: str,
        facts: dict[str, Any],
        *,
        sparse: bool = False,
    ) -> None:
        """Take one event."""
        del sparse
        self._heard(operation, event)
        if not self._simulation.keep_trace:
            return
        shown = " ".join(f"{key}={value}" for key, value in facts.items())
        self._simulation.note(f"[{self._node_id}] {level} {component}/{operation}: {event} {shown}")


class _SimulatedBroker(ClusterBroker):
    """A broker whose log is part of the trace."""

    def __init__(
        self, config: BrokerConfig, doors: Doors, simulation: Simulation, heard: _Heard
    ) -> None:
        self._noted = _NotedLogs(simulation, config.node_id, heard)
        super().__init__(config, doors=doors)

    def logger(self, component: str) -> Logger:
        """Make the logger of a component."""
        return Logger(component, self._noted, "debug")


class Host:
    """One broker's machine.

    Attributes:
        node_id: The broker's.
        disk: What it has on disk; another object after each loss of power.
        process: The broker's process, alive or not.
        broker: The broker, from the moment that it is open until its process ends.
        serving: Whether its program runs.
        damaged: Whether its disk was damaged, and not emptied since.
        failing: Whether its disk fails, so that the broker may give up at any time.
        full: Whether its disk was full at some time in its process's life.
        wiped: Whether its disk was emptied at some time.
        removed: How often it was told that it was removed; it was emptied then, and joins anew.
        skew_ms: What its wall clock is ahead.
        rate: How fast its steady clock runs, 1 for as time does.
        lowest: By partition, what its high watermark may not fall below.
        lapsed_s: Until when its broker's lease lasted, where it was over when it was looked at.
        read_without_lease: Whether its broker, as a leader, gave records to clients although its
            lease was over.
    """

    def __init__(self, node_id: int, *, joins: bool) -> None:
        self.node_id = node_id
        self.joins = joins
        self.disk = SimulatedFileSystem()
        self.process: SimulatedProcess
        self.broker: ClusterBroker | None = None
        self.serving = False
        self.damaged = False
        self.failing = False
        self.full = False
        self.wiped = False
        self.removed = 0
        self.skew_ms = 0
        self.rate = 1.0
        self.starts = 0
        self.stopping = asyncio.Event()
        self.lowest: dict[object, int] = {}
        self.lapsed_s: float | None = None
        self.read_without_lease = False

    @property
    def name(self) -> str:
        """Its address in the network."""
        return f"10.0.0.{self.node_id}"

    @property
    def alive(self) -> bool:
        """Whether its broker's process lives, be it paused."""
        return self.process.alive

    @property
    def node(self) -> ClusterNode | None:
        """What its broker knows; None while that does not serve."""
        return None if self.broker is None or not self.process.alive else self.broker.node


class Hosts:
    """All machines of a cluster.

    Args:
        simulation: The world.
        shape: How many there are, and what they are like.

    Attributes:
        hosts: All of them, by node id.
        all: The same in order; not to be changed.
        bootstrap: Where clients begin.
        rebuilding: Whose disk was damaged or emptied, until all is in sync again: one at a time.
        opened: Told of each broker when it is open.
        given: Told of a log that clients are about to be given something of, and at which broker.
        heard: Told what a broker logs: its operation, and the event.
    """

    def __init__(self, simulation: Simulation, shape: Shape) -> None:
        self.simulation = simulation
        self.shape = shape
        self.hosts = {
            each: Host(each, joins=each > shape.voters) for each in range(1, shape.brokers + 1)
        }
        self.all = list(self.hosts.values())
        for host in self.all:
            host.rate += simulation.random.choice((-1, 0, 1)) * shape.drift
        self.bootstrap = ",".join(f"{host.name}:{PORT}" for host in self.all)
        self.rebuilding: Host | None = None
        self.opened: Callable[[Host], None] = lambda _: None
        self.given: Callable[[ClusterNode, PartitionLog], None] = lambda _node, _log: None
        self.heard: Callable[[Host, str, str], None] = lambda _host, _operation, _event: None
        self._voters = ",".join(
            f"{host.node_id}@{host.name}:{PORT}" for host in self.all if not host.joins
        )

    def start(self, host: Host) -> None:
        """Start the broker; where its directory is refused as damaged, on an emptied one."""
        simulation = self.simulation
        host.starts += 1
        simulation.network.set_down(host.name, down=False)
        name = f"broker-{host.node_id}.{host.starts}"
        host.process = simulation.process(name, host.name)
        host.process.clock_skew_ms = host.skew_ms
        host.stopping = asyncio.Event()
        host.lowest = {}
        host.lapsed_s = None
        host.serving = True
        simulation.trace("start", name)
        random = Random(simulation.random.random())
        serving = host.process.start(self._serve, host, random)
        serving.add_done_callback(lambda done: self._ended(host, done))

    def kill(self, host: Host, *, power_loss: bool, mode: str = "random") -> None:
        """End a broker between two instructions; what it had not synced may go, too."""
        host.process.kill(power_loss=power_loss)
        host.broker = None
        if power_loss:
            self.simulation.network.set_down(host.name, down=True)
            host.disk = host.disk.power_cut(self.simulation.random, mode)  # type: ignore[arg-type]  # a mode by name
        else:
            host.disk = host.disk.process_kill()
            host.disk.capacity_bytes = None
        host.failing = host.full = False

    async def stop(self, host: Host) -> None:
        """Shut a broker down in good order, or kill it where that takes too long."""
        process, loop = host.process, self.simulation.loop
        host.stopping.set()
        ends_s = loop.time() + _GRACE_S
        while process.alive and host.serving and loop.time() < ends_s:
            await asyncio.sleep(0.02)
        if host.process is process:
            self.kill(host, power_loss=False)

    def wipe(self, host: Host, why: str) -> None:
        """Do what an operator does with a damaged directory: empty it."""
        self.simulation.happened("rebuilt", host.node_id, why)
        host.disk = SimulatedFileSystem()
        host.damaged = False
        host.wiped = True

    def _empty(self, host: Host) -> None:
        """Have a removed broker begin anew: it held nothing, so nobody counted on its disk."""
        if host.damaged:
            self.wipe(host, "it was removed from the cluster")
        else:
            host.disk = SimulatedFileSystem()

    # --- a broker's life -----------------------------------------------------------------------

    async def _serve(self, host: Host, random: Random) -> None:
        loop = self.simulation.loop
        sync_s_max = self.shape.sync_s_max

        # A sync takes its time, before the disk has everything and after: this is when an
        # acknowledgement waits and a kill hurts.
        def later(run: Callable[[], object]) -> None:
            loop.call_later(0.000_1 + sync_s_max / 2 * random.random(), run)

        host.process.thread_s = lambda: sync_s_max / 2 * random.random()

        def scheduler() -> SimulatedScheduler:
            return SimulatedScheduler(random.getrandbits(32), clock=SimulatedClock(), defer=later)

        doors = Doors(
            host.process.wall_clock_ms,
            random,
            host.disk,
            scheduler,
            steady_s=lambda: loop.time() * host.rate,
        )

        def heard(operation: str, event: str) -> None:
            self.heard(host, operation, event)

        broker = _SimulatedBroker(self._config(host, random), doors, self.simulation, heard)
        async with broker:
            host.broker = broker
            self._watch_reads(host, broker.node)
            self.opened(host)
            failed = asyncio.ensure_future(broker.failed.wait())
            stopped = asyncio.ensure_future(host.stopping.wait())
            await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
            stopped.cancel()
        host.broker = None
        if broker.failure is not None:
            raise broker.failure

    def _watch_reads(self, host: Host, node: ClusterNode) -> None:
        """Tell what clients are given; note where a leader gives it without a lease."""
        read = node.store.read

        def watched(log: PartitionLog, *arguments: Any, **options: Any) -> bytes:
            if options.get("stop_offset") is None:  # else a follower asks
                if log.leads and node.lapsed():
                    host.read_without_lease = True
                self.given(node, log)
            return read(log, *arguments, **options)

        node.store.read = watched  # type: ignore[method-assign]  # of this one broker's store

    def _config(self, host: Host, random: Random) -> BrokerConfig:
        shape = self.shape
        others = [each for each in self.all if each is not host]
        living = [each for each in others if each.node is not None and each.node.me is not None]
        first = (living or others)[0]
        return BrokerConfig(
            data_dir="/broker",
            listen=f"{host.name}:{PORT}",
            http="off",
            insecure=True,
            node_id=host.node_id,
            rack=f"r{1 + (host.node_id - 1) % 3}",
            voters="" if host.joins else self._voters,
            join=f"{first.name}:{PORT}" if host.joins else "",
            broker_session_ms=shape.session_ms,
            replica_lag_ms_max=shape.lag_ms_max,
            leader_balance_ms=3000,
            shutdown_timeout_ms=1000,
            memtable_bytes=shape.memtable_bytes,
            tail_cache_bytes=random.choice((0, 4096, 1 << 20)),
        )

    def _ended(self, host: Host, serving: asyncio.Task[None]) -> None:
        """A broker's life is over: it was shut down, or it gave up and is started again."""
        host.serving = False
        error = serving.exception()
        if error is None:
            return
        # One that runs stands still while there is no room; one that starts may need some.
        no_room = host.full and isinstance(error, DataDirectoryError)
        removed = isinstance(error, RemovedBrokerError)
        # Of damage a broker says so: whoever operates it has to know that it is to be emptied.
        damage = host.damaged and isinstance(error, DataDirectoryError)
        trouble = host.failing or damage or no_room or removed
        if not trouble and not isinstance(error, _EXPECTED):
            raise error
        self.simulation.happened("gave up", host.node_id, type(error).__name__, str(error)[:200])
        host.process.kill()
        host.broker = None
        if removed:
            host.removed += 1
            host.joins = True
            self._empty(host)
        self.simulation.loop.call_later(_RETRY_S, self._start_again, host, host.process)

    def _start_again(self, host: Host, ended: SimulatedProcess) -> None:
        """What an operator, or whoever restarts failed programs, does."""
        if host.process is not ended:
            return  # somebody was faster
        if host.damaged:
            self.wipe(host, "it refused to go on")
        self.kill(host, power_loss=False)
        self.start(host)
