"""Three brokers or more and their clients in the simulator, with every kind of trouble, checked.

Each broker has a simulated disk and host of its own. Brokers are killed (SIGKILL) or lose their
power (and whatever they had not synced), one or all at once; connections are cut; the network is
partitioned one way, both ways, or splits a broker from all others; clocks jump. Producers send one
record after the other and never send one again. At the end everything is healed, and the log is
read as a whole and compared with what is known:

1. A record acknowledged with ``acks=all`` is there, at the offset that was answered, once.
2. No record is there twice; no record is there that nobody sent.
3. Records of one producer keep their order.
4. What a consumer has read is what the log holds; so nobody read what was not committed.
5. The log reaches at least to every high watermark that any broker ever had.
6. The replicas are equal in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_broker.broker import Doors
from streambus_broker.cluster.broker import ClusterBroker
from streambus_broker.config import BrokerConfig
from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from streambus_client.errors import ClientError
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.support.simulation import Faults, SimulatedProcess, Simulation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS = "10.0.0.100"
TOPIC = "t"
PARTITIONS = 2
PRODUCERS = 3
SETTLE_S = 20.0


class CheckFailedError(AssertionError):
    """The cluster has broken a promise."""


@dataclass(slots=True)
class Sent:
    """One record that a producer tried to send, in the order of trying.

    Attributes:
        offset: Where it was acknowledged; -1 where it was not.
    """

    value: bytes
    partition: int
    acks: object
    offset: int = -1


@dataclass(slots=True)
class Outcome:
    """What a run did; for reports and for comparing two runs."""

    seed: int
    acknowledged: int
    unanswered: int
    kills: int
    power_cuts: int
    partitions: int
    elections: int
    consumed: int
    virtual_s: float
    digest: str
    lines: list[str] = field(repr=False, default_factory=list)


@dataclass(slots=True)
class Host:
    """One broker's machine."""

    node_id: int
    disk: SimulatedFileSystem
    process: SimulatedProcess | None = None
    broker: ClusterBroker | None = None
    starts: int = 0

    @property
    def name(self) -> str:
        """Its address in the network."""
        return f"10.0.0.{self.node_id}"


class Scenario:
    """One run; see the module.

    Args:
        seed: Decides everything.
        duration_s: Virtual seconds of trouble.
        brokers: How many.
        keep_trace: Keep the trace as text.
    """

    def __init__(
        self, seed: int, duration_s: float = 20.0, brokers: int = 3, *, keep_trace: bool = False
    ) -> None:
        self.simulation = Simulation(
            seed, Faults(split_probability=0.1, reset_probability=0.000_3), keep_trace=keep_trace
        )
        self.random = self.simulation.random
        self.hosts = {each: Host(each, SimulatedFileSystem()) for each in range(1, brokers + 1)}
        self.bootstrap = ",".join(f"{host.name}:9092" for host in self.hosts.values())
        self.voters = ",".join(f"{each}@{host.name}:9092" for each, host in self.hosts.items())
        self.duration_s = duration_s
        self.kills = self.power_cuts = self.partitions = 0
        self.sent: list[list[Sent]] = [[] for _ in range(PRODUCERS)]
        self.consumed: dict[tuple[int, int], bytes] = {}
        self.consumed_count = 0
        self.watermarks = [0] * PARTITIONS
        self.epochs: dict[int, int] = {}
        self.stopping = False

    def run(self) -> Outcome:
        """Run and check.

        Raises:
            CheckFailedError: A promise is broken.
        """
        logs = self.simulation.run(self._script, limit_s=self.duration_s + 600)
        self._check(logs)
        sent = [one for each in self.sent for one in each]
        acknowledged = sum(one.offset >= 0 for one in sent)
        return Outcome(
            self.simulation.seed, acknowledged, len(sent) - acknowledged, self.kills,
            self.power_cuts, self.partitions, sum(self.epochs.values()), self.consumed_count,
            self.simulation.loop.time(), self.simulation.digest, self.simulation.lines,
        )  # fmt: skip

    # --- the script ----------------------------------------------------------------------------

    async def _script(self) -> list[list[bytes]]:
        clients = self.simulation.process("clients", CLIENTS)
        for host in self.hosts.values():
            self._start(host)
        watching = asyncio.create_task(self._watch())
        await clients.start(self._create_topic)
        tasks = [clients.start(self._produce, number) for number in range(PRODUCERS)]
        tasks.append(clients.start(self._consume))
        await self._make_trouble()
        self.stopping = True
        self.simulation.trace("heal")
        self.simulation.network.heal()
        for task in tasks:
            await task
        await self._settle()
        watching.cancel()
        self._check_replicas()
        result: list[list[bytes]] = await clients.start(self._read_everything)
        for host in self.hosts.values():
            assert host.process is not None
            host.process.kill()  # a shutdown in good order has tests of its own
        await asyncio.sleep(0)
        return result

    def _start(self, host: Host) -> None:
        host.starts += 1
        self.simulation.network.set_down(host.name, down=False)
        host.process = self.simulation.process(f"broker-{host.node_id}.{host.starts}", host.name)
        host.process.clock_skew_ms = self.random.choice((0, 0, -3_600_000, 3_600_000))
        self.simulation.trace(f"start {host.process.name}")
        serving = host.process.start(self._serve, host, Random(self.random.random()))
        serving.add_done_callback(_ended)

    async def _serve(self, host: Host, random: Random) -> None:
        loop = self.simulation.loop

        def later(run: Callable[[], object]) -> None:
            # A sync takes its time: this is when an acknowledgement waits and a kill hurts.
            loop.call_later(random.uniform(0.000_1, 0.02), run)

        def scheduler() -> SimulatedScheduler:
            return SimulatedScheduler(random.getrandbits(32), clock=SimulatedClock(), defer=later)

        assert host.process is not None
        doors = Doors(host.process.wall_clock_ms, random, host.disk, scheduler)
        config = BrokerConfig(
            data_dir="/broker",
            listen=f"{host.name}:9092",
            http="off",
            insecure=True,
            node_id=host.node_id,
            voters=self.voters,
            broker_session_ms=1000,
            replica_lag_ms_max=2000,
            leader_balance_ms=3000,
            memtable_bytes=64 * 1024,
            tail_cache_bytes=random.choice((0, 4096, 1 << 20)),
        )
        host.broker = ClusterBroker(config, doors=doors)
        async with host.broker as broker:
            await broker.failed.wait()
            raise AssertionError(f"broker {host.node_id} gave up: {broker.failure}")

    async def _watch(self) -> None:
        """See every high watermark and every leader epoch that there is."""
        while True:
            await asyncio.sleep(0.01)
            for host in self.hosts.values():
                if host.broker is None or host.process is None or not host.process.alive:
                    continue
                node = getattr(host.broker, "node", None)
                for replica in list(node.replicas.values()) if node is not None else ():
                    log, number = replica.stored.log, replica.partition
                    if log.high_watermark > self.watermarks[number]:
                        self.watermarks[number] = log.high_watermark
                    epoch = replica.record.leader_epoch
                    self.epochs[number] = max(self.epochs.get(number, 0), epoch)

    async def _make_trouble(self) -> None:
        random = self.random
        end_s = self.simulation.loop.time() + self.duration_s
        while self.simulation.loop.time() < end_s:
            await asyncio.sleep(random.expovariate(0.8))
            trouble = random.random()
            if trouble < 0.4:
                await self._kill(random.choice(list(self.hosts.values())))
            elif trouble < 0.6:
                hosts = list(self.hosts.values())
                random.shuffle(hosts)
                power_loss = random.random() < 0.7
                for host in hosts:
                    await self._kill(host, power_loss=power_loss, again_after_s=0.0)
                await asyncio.sleep(random.uniform(0, 1))
                for host in hosts:
                    self._start(host)
            elif trouble < 0.7:
                one, other = random.sample([*self._names(), CLIENTS], 2)
                self.simulation.network.cut(one, other)
            else:
                await self._partition()

    async def _kill(
        self, host: Host, *, power_loss: bool | None = None, again_after_s: float | None = None
    ) -> None:
        """End a broker between two instructions; what it had not synced may go, too."""
        random = self.random
        if power_loss is None:
            power_loss = random.random() < 0.5
        assert host.process is not None
        self.kills += 1
        self.power_cuts += power_loss
        host.process.kill(power_loss=power_loss)
        host.broker = None
        if power_loss:
            self.simulation.network.set_down(host.name, down=True)
        host.disk = host.disk.power_cut(random, "random" if power_loss else "keep")
        if again_after_s is None:
            await asyncio.sleep(random.choice((0.0, 0.3, 2.0)) * random.random())
            self._start(host)

    async def _partition(self) -> None:
        """Block ways between hosts for a while: one, both, or all of one broker's."""
        random, network = self.random, self.simulation.network
        self.partitions += 1
        names = self._names()
        one = random.choice(names)
        others = [each for each in [*names, CLIENTS] if each != one]
        kind = random.random()
        if kind < 0.4:
            blocked = [(one, each) for each in others] + [(each, one) for each in others]
        elif kind < 0.7:
            other = random.choice(others)
            blocked = [(one, other), (other, one)]
        else:
            blocked = [(one, random.choice(others))]
        self.simulation.trace(f"block {blocked}")
        for ways in blocked:
            network.block(*ways)
        await asyncio.sleep(random.choice((0.05, 0.5, 3.0)) * random.random())
        self.simulation.trace("heal")
        network.heal()

    def _names(self) -> list[str]:
        return [host.name for host in self.hosts.values()]

    async def _settle(self) -> None:
        """Wait until every broker is ready and every replica in sync, as it must come to be."""
        loop = self.simulation.loop
        ends_s = loop.time() + SETTLE_S
        while True:
            await asyncio.sleep(0.1)
            problem = self._unsettled()
            if problem is None:
                return
            if loop.time() > ends_s:
                self._fail(f"not settled {SETTLE_S:g} s after everything was healed: {problem}")

    def _unsettled(self) -> str | None:
        for host in self.hosts.values():
            node = getattr(host.broker, "node", None)
            if node is None or not hasattr(host.broker, "address") or node.me is None:
                return f"broker {host.node_id} has no session"
            for replica in node.replicas.values():
                if len(replica.record.in_sync) < len(replica.record.replicas):
                    return f"broker {host.node_id} sees {replica.record}"
                log = replica.stored.log
                if log.high_watermark < log.next_offset:
                    return f"broker {host.node_id}: {log}"
        return None

    def _check_replicas(self) -> None:
        """Equal offsets in the end; what they hold is read from each in turn by the leaders."""
        for number in range(PARTITIONS):
            ends = set()
            for host in self.hosts.values():
                assert host.broker is not None
                ends.add(host.broker.node.logs[TOPIC, number].next_offset)
            if len(ends) != 1:
                self._fail(f"replicas of partition {number} end at {sorted(ends)}")
            images = {self._image(host, number) for host in self.hosts.values()}
            if len(images) != 1:
                self._fail(f"replicas of partition {number} differ")

    def _image(self, host: Host, number: int) -> bytes:
        assert host.broker is not None
        node = host.broker.node
        log = node.logs[TOPIC, number]
        if log.log_start_offset == log.next_offset:
            return b""
        return node.store.read(log, log.log_start_offset, 1 << 30)

    # --- the clients ---------------------------------------------------------------------------

    async def _create_topic(self) -> None:
        async with AsyncAdmin(self.bootstrap, random=Random(1)) as admin:
            await _until_done(
                lambda: admin.create_topic(
                    TOPIC, partitions=PARTITIONS, replication_factor=min(3, len(self.hosts))
                )
            )

    async def _produce(self, number: int) -> None:
        """Send one record after the other; one that fails is never sent again."""
        random = Random(self.random.random())
        sent = self.sent[number]
        acks: Any = "all" if number else 1
        async with AsyncProducer(
            self.bootstrap,
            acks=acks,
            retries_max=0,
            request_timeout_ms=3_000,
            connect_timeout_ms=1_000,
            random=random,
            now_ms=self.simulation.wall_clock_ms,
        ) as producer:
            while not self.stopping:
                name = b"%d-%d" % (number, len(sent))
                record = Sent(name, random.randrange(PARTITIONS), acks)
                sent.append(record)
                padding = b"." * random.choice((0, 10, 3_000))
                try:
                    done = await producer.send(
                        TOPIC, record.value + padding, partition=record.partition
                    )
                    record.offset = done.offset
                    self.simulation.trace("acked", name, record.partition, done.offset)
                except ClientError as error:
                    self.simulation.trace("failed", name, type(error).__name__)
                    await asyncio.sleep(random.uniform(0, 0.1))
                await asyncio.sleep(random.expovariate(100))

    async def _consume(self) -> None:
        async with AsyncConsumer(
            self.bootstrap,
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
                try:
                    records = await consumer.poll(timeout=0.5)
                except ClientError:
                    await asyncio.sleep(0.05)
                    continue
                for record in records:
                    self.consumed_count += 1
                    assert record.value is not None
                    place = (record.partition, record.offset)
                    name = _name(record.value)
                    if self.consumed.setdefault(place, name) != name:
                        self._fail(f"{place} was {self.consumed[place]!r} and is {name!r}")

    async def _read_everything(self) -> list[list[bytes]]:
        logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        async with AsyncConsumer(
            self.bootstrap, TOPIC, start="earliest", fetch_wait_ms=10, random=Random(3)
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
        by_value: dict[bytes, tuple[int, int]] = {}
        for partition, log in enumerate(logs):
            if len(log) < self.watermarks[partition]:
                self._fail(
                    f"partition {partition} ends at {len(log)}, its high watermark was at"
                    f" {self.watermarks[partition]}"
                )
            for offset, value in enumerate(log):
                if value in by_value:
                    self._fail(f"{value!r} is at {by_value[value]} and {(partition, offset)}")
                by_value[value] = (partition, offset)
        known = {one.value for each in self.sent for one in each}
        if strange := by_value.keys() - known:
            self._fail(f"nobody sent {sorted(strange)[:3]}")
        for each in self.sent:
            self._check_producer(each, by_value)
        for (partition, offset), value in self.consumed.items():
            log = logs[partition]
            if offset >= len(log) or log[offset] != value:
                self._fail(f"a consumer read {value!r} at {partition}/{offset}; it is not there")

    def _check_producer(self, sent: list[Sent], by_value: dict[bytes, tuple[int, int]]) -> None:
        last = [-1] * PARTITIONS
        for one in sent:
            place = by_value.get(one.value)
            if one.offset >= 0 and one.acks == "all" and place != (one.partition, one.offset):
                self._fail(f"{one} was acknowledged; it is at {place}")
            if place is not None:
                if place[1] <= last[place[0]]:
                    self._fail(f"{one.value!r} at {place} comes before an earlier one")
                last[place[0]] = place[1]

    def _fail(self, problem: str) -> None:
        raise CheckFailedError(f"seed {self.simulation.seed}: {problem}")


def _ended(serving: asyncio.Task[None]) -> None:
    """A broker serves until it is killed; the loop reports what this raises."""
    if not serving.cancelled():
        serving.result()


def _name(value: bytes) -> bytes:
    return value.rstrip(b".")


async def _until_done(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try again until it works: a broker may be dead at any moment."""
    while True:
        with contextlib.suppress(ClientError):
            return await attempt()
        await asyncio.sleep(0.05)
