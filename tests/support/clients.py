"""Clients of simulated brokers: they write and read without end, and take notes in a `History`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from streambus_client.errors import ClientError, TopicExistsError
from tests.support.history import PADDING, CheckFailedError, History, Reader, Sent, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.simulation import Simulation

TOPIC = "t"
_TIMEOUTS: dict[str, Any] = {"request_timeout_ms": 1_500, "connect_timeout_ms": 700}
_SIZES = (0, 10, 3_000)
_DELIVERY_MS = 4_000
_QUIET_S = 0.1  # after a failure, at most


@dataclass(frozen=True, slots=True)
class Writing:
    """How one producer writes.

    Attributes:
        acks: 1 or "all".
        rate: Batches a second, about.
        records_max: Records in a batch, at most; 1 sends them one by one.
        retries: Whether a record is sent again until its deadline.
    """

    acks: Any = "all"
    rate: float = 100.0
    records_max: int = 1
    retries: bool = False


class Clients:
    """See the module; all of them live in one process.

    Args:
        simulation: The world.
        bootstrap: The brokers' addresses.
        history: Where notes are taken.

    Attributes:
        stopping: Set to have all of them end.
        acknowledged: Called with each record that was acknowledged.
    """

    def __init__(self, simulation: Simulation, bootstrap: str, history: History) -> None:
        self.simulation = simulation
        self.bootstrap = bootstrap
        self.history = history
        self.stopping = False
        self.acknowledged: Callable[[Sent], None] = lambda _: None

    async def create_topic(self, **settings: Any) -> None:
        """Create the topic, however often that takes."""

        async def create() -> None:
            with contextlib.suppress(TopicExistsError):  # an earlier try's answer was lost
                await admin.create_topic(TOPIC, partitions=self.history.partitions, **settings)

        async with AsyncAdmin(self.bootstrap, random=Random(1), **_TIMEOUTS) as admin:
            await until_done(create)

    async def produce(self, number: int, writing: Writing) -> None:
        """Write until stopped."""
        random = Random(self.simulation.random.random())
        async with AsyncProducer(
            self.bootstrap,
            acks=writing.acks,
            linger_ms=2,
            retries_max=None if writing.retries else 0,
            delivery_timeout_ms=_DELIVERY_MS,
            random=random,
            now_ms=self.simulation.wall_clock_ms,
            **_TIMEOUTS,
        ) as producer:
            while not self.stopping:
                if writing.records_max == 1:
                    done = await self._send(producer, number, writing, random)
                else:
                    done = await self._submit(producer, number, writing, random)
                if not done:
                    await asyncio.sleep(_QUIET_S * random.random())
                await asyncio.sleep(random.expovariate(writing.rate))

    def _next(self, number: int, writing: Writing, random: Random) -> tuple[Sent, bytes]:
        partition = random.randrange(self.history.partitions)
        record = self.history.sending(number, partition, writing.acks)
        return record, record.name + PADDING * random.choice(_SIZES)

    async def _send(
        self, producer: AsyncProducer, number: int, writing: Writing, random: Random
    ) -> bool:
        record, value = self._next(number, writing, random)
        try:
            done = await producer.send(TOPIC, value, partition=record.partition)
        except ClientError as error:
            self.simulation.trace("failed", record.name, type(error).__name__)
            return False
        self._acknowledge(record, done.offset)
        return True

    async def _submit(
        self, producer: AsyncProducer, number: int, writing: Writing, random: Random
    ) -> bool:
        count = random.randint(1, writing.records_max)
        futures = []
        done = True
        for _ in range(count):
            record, value = self._next(number, writing, random)
            try:
                future = await producer.submit(TOPIC, value, partition=record.partition)
            except ClientError as error:
                self.simulation.trace("failed", record.name, type(error).__name__)
                done = False
            else:
                futures.append((record, future))
        for record, future in futures:
            try:
                self._acknowledge(record, (await future).offset)
            except ClientError as error:
                self.simulation.trace("failed", record.name, type(error).__name__)
                done = False
        return done

    def _acknowledge(self, record: Sent, offset: int) -> None:
        record.offset = offset
        self.simulation.trace("acked", record.name, record.partition, offset)
        self.acknowledged(record)

    async def consume(self, number: int, **options: Any) -> None:
        """Read from the beginning until stopped."""
        reader = Reader(f"consumer {number}")
        async with AsyncConsumer(
            self.bootstrap,
            TOPIC,
            start="earliest",
            fetch_wait_ms=200,
            prefetch_bytes_max=0,
            random=Random(number),
            **_TIMEOUTS,
            **options,
        ) as consumer:
            while not self.stopping:
                reader.power_cuts = self.history.power_cuts
                try:
                    records = await consumer.poll(max_records=100_000, timeout=0.5)
                except ClientError as error:
                    self.simulation.trace("not read", number, type(error).__name__)
                    await asyncio.sleep(0.05)
                    continue
                for record in records:
                    assert record.value is not None
                    name = name_of(record.value)
                    self.history.read(reader, record.partition, record.offset, name)

    async def watch_ends(self, pause_s: float) -> None:
        """Ask where the log ends, again and again, until stopped."""
        async with AsyncConsumer(self.bootstrap, TOPIC, random=Random(4), **_TIMEOUTS) as consumer:
            while not self.stopping:
                await asyncio.sleep(pause_s)
                with contextlib.suppress(ClientError):
                    for where, end in (await consumer.latest()).items():
                        self.history.told(where.partition, end)

    async def read_everything(self) -> list[list[bytes]]:
        """Read the whole log; give the names of its records by partition.

        Raises:
            CheckFailedError: Offsets are left out.
        """
        logs: list[list[bytes]] = [[] for _ in range(self.history.partitions)]
        async with AsyncConsumer(
            self.bootstrap, TOPIC, start="earliest", fetch_wait_ms=10, random=Random(3), **_TIMEOUTS
        ) as consumer:
            latest = await until_done(consumer.latest)
            total = sum(latest.values())
            while sum(map(len, logs)) < total:
                for record in await consumer.poll(timeout=5):
                    log = logs[record.partition]
                    if record.offset != len(log):
                        raise CheckFailedError(f"offset {record.offset} where {len(log)} follows")
                    assert record.value is not None
                    log.append(name_of(record.value))
        return logs


async def until_done(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try again until it works: a broker may be dead at any moment."""
    while True:
        with contextlib.suppress(ClientError):
            return await attempt()
        await asyncio.sleep(0.05)
