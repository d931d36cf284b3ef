"""A broker and its clients in the simulator, killed and restarted at random points, and checked.

One run of one seed: a broker on a simulated disk and network, several producers and a consumer.
The broker is killed (SIGKILL) or loses its power (and whatever it had not synced) again and again;
connections are cut and the network partitioned. What must hold then: `tests.support.history`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from streambus_broker.broker import Broker
from streambus_broker.config import BrokerConfig
from streambus_broker.doors import Doors
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.support.clients import Clients, Writing
from tests.support.history import History
from tests.support.simulation import Faults, SimulatedProcess, Simulation

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

BROKER, CLIENTS = "10.0.0.1", "10.0.0.2"
ADDRESS = f"{BROKER}:9092"
PARTITIONS = 2
PRODUCERS = (Writing(1, 200), Writing("all", 200), Writing("all", 50, records_max=8))


@dataclass(slots=True)
class Outcome:
    """What a run did; for reports and for comparing two runs."""

    seed: int
    acknowledged: int
    unanswered: int
    kills: int
    power_cuts: int
    consumed: int
    virtual_s: float
    digest: str
    counts: Counter[str]
    lines: list[str] = field(repr=False, default_factory=list)


class Scenario:
    """One run; see the module.

    Args:
        seed: Decides everything.
        duration_s: Virtual seconds of trouble.
        keep_trace: Keep the trace as text.
    """

    def __init__(self, seed: int, duration_s: float = 8.0, *, keep_trace: bool = False) -> None:
        self.simulation = Simulation(
            seed, Faults(split_probability=0.2, reset_probability=0.001), keep_trace=keep_trace
        )
        self.random = self.simulation.random
        self.disk = SimulatedFileSystem()
        self.duration_s = duration_s
        self.broker: SimulatedProcess
        self.kills = 0
        self.history = History(PARTITIONS, len(PRODUCERS), forgetful=True)
        self.clients = Clients(self.simulation, ADDRESS, self.history)

    def run(self) -> Outcome:
        """Run and check.

        Raises:
            CheckFailedError: A record is lost, doubled, reordered or strange.
        """
        history = self.history
        history.check(self.simulation.run(self._script, limit_s=600))
        return Outcome(
            self.simulation.seed, history.acknowledged_count, history.unanswered_count, self.kills,
            history.power_cuts, history.consumed_count, self.simulation.loop.time(),
            self.simulation.digest, self.simulation.counts, self.simulation.lines,
        )  # fmt: skip

    # --- the script ----------------------------------------------------------------------------

    async def _script(self) -> list[list[bytes]]:
        process = self.simulation.process("clients", CLIENTS)
        clients = self.clients
        self._start_broker()
        await process.start(clients.create_topic)
        tasks = [process.start(clients.produce, *each) for each in enumerate(PRODUCERS)]
        tasks.append(process.start(self._consume))
        await self._make_trouble()
        clients.stopping = True
        self.simulation.network.heal()
        for task in tasks:
            await task
        result: list[list[bytes]] = await process.start(clients.read_everything)
        return result

    async def _consume(self) -> None:
        await self.clients.consume(2, out_of_range="latest")

    def _start_broker(self) -> None:
        self.simulation.network.set_down(BROKER, down=False)
        self.broker = self.simulation.process(f"broker-{self.kills}", BROKER)
        serving = self.broker.start(
            self._serve, self.broker, self.disk, Random(self.random.random())
        )
        serving.add_done_callback(self._broker_ended)

    def _broker_ended(self, serving: asyncio.Task[None]) -> None:
        """A broker serves until it is killed; the loop reports what this raises."""
        if not serving.cancelled():
            serving.result()

    async def _serve(
        self, process: SimulatedProcess, disk: SimulatedFileSystem, random: Random
    ) -> None:
        loop = self.simulation.loop

        def later(run: Callable[[], object]) -> None:
            # A sync takes its time: this is when an acknowledgement waits and a kill hurts.
            loop.call_later(random.uniform(0.000_1, 0.02), run)

        def scheduler() -> SimulatedScheduler:
            return SimulatedScheduler(random.getrandbits(32), clock=SimulatedClock(), defer=later)

        doors = Doors(process.wall_clock_ms, random, disk, scheduler)
        config = BrokerConfig(
            data_dir="/broker",
            listen=ADDRESS,
            http="off",
            insecure=True,
            memtable_bytes=64 * 1024,
            tail_cache_bytes=random.choice((0, 4096, 1 << 20)),
        )
        async with Broker(config, doors=doors):
            await asyncio.sleep(1e9)

    async def _make_trouble(self) -> None:
        random, network = self.random, self.simulation.network
        end_s = self.simulation.loop.time() + self.duration_s
        while self.simulation.loop.time() < end_s:
            await asyncio.sleep(random.expovariate(1.5))
            trouble = random.random()
            if trouble < 0.6:
                await self._kill(power_loss=random.random() < 0.5)
            elif trouble < 0.8:
                self.simulation.happened("cut")
                network.cut(BROKER, CLIENTS)
            else:
                self.simulation.happened("one way")
                network.block(*random.sample((BROKER, CLIENTS), 2))
                await asyncio.sleep(random.uniform(0, 0.5))
                network.heal()

    async def _kill(self, *, power_loss: bool) -> None:
        """End the broker between two instructions; what it had not synced may go, too."""
        self.kills += 1
        self.simulation.counts["power" if power_loss else "kill"] += 1
        self.broker.kill(power_loss=power_loss)
        if power_loss:
            self.history.power_cuts += 1
            self.simulation.network.set_down(BROKER, down=True)
        self.disk = self.disk.power_cut(self.random, "random" if power_loss else "keep")
        await asyncio.sleep(self.random.uniform(0, 0.5))
        self._start_broker()
