"""A broker and its clients in the simulator, killed and restarted at random points, and a checker.

One run of one seed: a broker on a simulated disk and network, several producers and a consumer.
The broker is killed (SIGKILL) or loses its power (and whatever it had not synced) again and again;
connections are cut and the network partitioned. At the end the log is read as a whole and compared
with what the producers know:

1. A record acknowledged with ``acks=all`` is there, at the offset that was answered, once.
2. So is one acknowledged with ``acks=1``, unless the power went afterwards.
3. No record is there twice; no record is there that nobody sent.
4. Records of one producer keep their order.
5. What a consumer has read is what the log holds, unless the power went.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_broker.broker import Broker, Doors
from streambus_broker.config import BrokerConfig
from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from streambus_client.errors import ClientError
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.support.simulation import Faults, SimulatedProcess, Simulation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BROKER, CLIENTS = "10.0.0.1", "10.0.0.2"
ADDRESS = f"{BROKER}:9092"
TOPIC = "t"
PARTITIONS = 2
PRODUCERS = 3


class CheckFailedError(AssertionError):
    """The log is not what it must be."""


@dataclass(slots=True)
class Sent:
    """One record that a producer tried to send, in the order of trying.

    Attributes:
        offset: Where it was acknowledged; -1 where it was not.
        power_cuts: How many power cuts there had been when it was sent.
    """

    value: bytes
    partition: int
    acks: object
    offset: int = -1
    power_cuts: int = 0


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
        self.kills = self.power_cuts = 0
        self.sent: list[list[Sent]] = [[] for _ in range(PRODUCERS)]
        self.consumed: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.consumed_count = 0
        self.stopping = False

    def run(self) -> Outcome:
        """Run and check.

        Raises:
            CheckFailedError: A record is lost, doubled, reordered or strange.
        """
        log = self.simulation.run(self._script, limit_s=600)
        self._check(log)
        sent = [one for each in self.sent for one in each]
        acknowledged = sum(one.offset >= 0 for one in sent)
        return Outcome(
            self.simulation.seed,
            acknowledged,
            len(sent) - acknowledged,
            self.kills,
            self.power_cuts,
            self.consumed_count,
            self.simulation.loop.time(),
            self.simulation.digest,
            self.simulation.lines,
        )

    # --- the script ----------------------------------------------------------------------------

    async def _script(self) -> list[list[bytes]]:
        clients = self.simulation.process("clients", CLIENTS)
        self._start_broker()
        await clients.start(self._create_topic)
        tasks = [clients.start(self._produce, number) for number in range(PRODUCERS)]
        tasks.append(clients.start(self._consume))
        await self._make_trouble()
        self.stopping = True
        self.simulation.network.heal()
        for task in tasks:
            await task
        result: list[list[bytes]] = await clients.start(self._read_everything)
        return result

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
                network.cut(BROKER, CLIENTS)
            else:
                network.block(*random.sample((BROKER, CLIENTS), 2))
                await asyncio.sleep(random.uniform(0, 0.5))
                network.heal()

    async def _kill(self, *, power_loss: bool) -> None:
        """End the broker between two instructions; what it had not synced may go, too."""
        self.kills += 1
        self.broker.kill(power_loss=power_loss)
        if power_loss:
            self.power_cuts += 1
            self.simulation.network.set_down(BROKER, down=True)
        self.disk = self.disk.power_cut(self.random, "random" if power_loss else "keep")
        await asyncio.sleep(self.random.uniform(0, 0.5))
        self._start_broker()

    # --- the clients ---------------------------------------------------------------------------

    async def _create_topic(self) -> None:
        async with AsyncAdmin(ADDRESS, random=Random(1)) as admin:
            await _until_done(lambda: admin.create_topic(TOPIC, partitions=PARTITIONS))

    async def _produce(self, number: int) -> None:
        """Send one record after the other; one that fails is never sent again."""
        random = Random(self.random.random())
        sent = self.sent[number]
        acks: Any = "all" if number else 1
        async with AsyncProducer(
            ADDRESS,
            acks=acks,
            retries_max=0,
            request_timeout_ms=3_000,
            connect_timeout_ms=1_000,
            random=random,
            now_ms=self.simulation.wall_clock_ms,
        ) as producer:
            while not self.stopping:
                name = b"%d-%d" % (number, len(sent))
                record = Sent(name, random.randrange(PARTITIONS), acks, -1, self.power_cuts)
                sent.append(record)
                padding = b"." * random.choice((0, 10, 3_000))
                try:
                    done = await producer.send(
                        TOPIC, record.value + padding, partition=record.partition
                    )
                    record.offset = done.offset
                except ClientError:
                    await asyncio.sleep(random.uniform(0, 0.1))
                await asyncio.sleep(random.expovariate(200))

    async def _consume(self) -> None:
        async with AsyncConsumer(
            ADDRESS,
            TOPIC,
            start="earliest",
            out_of_range="latest",
            fetch_wait_ms=200,
            prefetch_bytes_max=0,
            request_timeout_ms=3_000,
            connect_timeout_ms=1_000,
            random=Random(2),
        ) as consumer:
            while not self.stopping:
                power_cuts = self.power_cuts
                try:
                    records = await consumer.poll(timeout=0.5)
                except ClientError:
                    await asyncio.sleep(0.05)
                    continue
                for record in records:
                    self.consumed_count += 1
                    assert record.value is not None
                    place = (record.partition, record.offset)
                    self.consumed[place] = (_name(record.value), power_cuts)

    async def _read_everything(self) -> list[list[bytes]]:
        logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        async with AsyncConsumer(
            ADDRESS, TOPIC, start="earliest", fetch_wait_ms=10, random=Random(3)
        ) as consumer:
            latest = await _until_done(consumer.latest)
            total = sum(latest.values())
            while sum(map(len, logs)) < total:
                for record in await consumer.poll(timeout=5):
                    log = logs[record.partition]
                    if record.offset != len(log):
                        raise CheckFailedError(f"offset {record.offset} where {len(log)} follows")
                    assert record.value is not None
                    log.append(_name(record.value))
        return logs

    # --- the checker ---------------------------------------------------------------------------

    def _check(self, logs: list[list[bytes]]) -> None:
        places = [(p, offset) for p, log in enumerate(logs) for offset in range(len(log))]
        by_value: dict[bytes, tuple[int, int]] = {}
        for partition, offset in places:
            value = logs[partition][offset]
            if value in by_value:
                self._fail(f"{value!r} is at {by_value[value]} and at {(partition, offset)}")
            by_value[value] = (partition, offset)
        known = {one.value for each in self.sent for one in each}
        if strange := by_value.keys() - known:
            self._fail(f"nobody sent {sorted(strange)[:3]}")
        for each in self.sent:
            self._check_producer(each, by_value)
        for (partition, offset), (value, power_cuts) in self.consumed.items():
            log = logs[partition]
            if power_cuts == self.power_cuts and (offset >= len(log) or log[offset] != value):
                self._fail(f"a consumer read {value!r} at {partition}/{offset}; it is not there")

    def _check_producer(self, sent: list[Sent], by_value: dict[bytes, tuple[int, int]]) -> None:
        last = [-1] * PARTITIONS
        for one in sent:
            place = by_value.get(one.value)
            safe = one.acks == "all" or one.power_cuts == self.power_cuts
            if one.offset >= 0 and safe and place != (one.partition, one.offset):
                self._fail(f"{one} was acknowledged; it is at {place}")
            if place is not None:
                if place[1] <= last[place[0]]:
                    self._fail(f"{one.value!r} at {place} comes before an earlier one")
                last[place[0]] = place[1]

    def _fail(self, problem: str) -> None:
        raise CheckFailedError(f"seed {self.simulation.seed}: {problem}")


def _name(value: bytes) -> bytes:
    return value.rstrip(b".")


async def _until_done(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try again until it works: the broker may be dead at any moment."""
    while True:
        with contextlib.suppress(ClientError):
            return await attempt()
        await asyncio.sleep(0.05)
