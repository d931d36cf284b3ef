"""A disk that fills up, on the simulated file system: retriable refusals, reads, and recovery."""

from __future__ import annotations

import asyncio
import errno
from random import Random

import pytest

from streambus_broker.broker import Broker
from streambus_broker.config import BrokerConfig
from streambus_broker.doors import Doors
from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from streambus_client.errors import BrokerUnavailableError, ClientError
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.support.simulation import Simulation

HOST = "10.0.0.1"
ADDRESS = f"{HOST}:9092"


class World:
    """A broker on a simulated disk; `broker` is there once it serves."""

    def __init__(self) -> None:
        self.simulation = Simulation(1)
        self.disk = SimulatedFileSystem()
        self.broker: Broker

    async def serve(self) -> None:
        loop = self.simulation.loop

        def scheduler() -> SimulatedScheduler:
            return SimulatedScheduler(
                1, clock=SimulatedClock(), defer=lambda run: loop.call_later(0.001, run)
            )

        doors = Doors(self.simulation.wall_clock_ms, Random(1), self.disk, scheduler)
        config = BrokerConfig(data_dir="/b", listen=ADDRESS, http="off", insecure=True)
        async with Broker(config, doors=doors) as self.broker:
            async with AsyncAdmin(ADDRESS) as admin:
                await admin.create_topic("t", partitions=1)
            await asyncio.sleep(1e9)

    def start(self) -> None:
        self.simulation.process("broker", HOST).start(self.serve)

    async def values(self) -> list[bytes | None]:
        async with AsyncConsumer(ADDRESS, "t", start="earliest") as consumer:
            found = []
            while records := await consumer.poll(timeout=1):
                found += [record.value for record in records]
            return found


def test_a_full_disk_refuses_retriably_serves_reads_and_resumes_by_itself() -> None:
    world = World()

    async def clients() -> None:
        async with AsyncProducer(ADDRESS, acks="all", retries_max=0) as producer:
            await producer.send("t", b"before")
            world.disk.capacity_bytes = world.disk.used_bytes + 100
            with pytest.raises(BrokerUnavailableError) as caught:
                for _ in range(10):
                    await producer.send("t", b"x" * 1_000)
            assert caught.value.retriable
            assert world.broker.health().ready is False
            assert "storage" in str(world.broker.health())
            assert await world.values() == [b"before"]
            world.disk.capacity_bytes = None
            await producer.send("t", b"after")
            assert world.broker.health().ready is True
        async with AsyncProducer(ADDRESS, acks="all") as patient:
            world.disk.capacity_bytes = world.disk.used_bytes + 100
            loop = asyncio.get_running_loop()
            loop.call_later(5, setattr, world.disk, "capacity_bytes", None)
            await patient.send("t", b"x" * 1_000)  # retried until there is room
        assert await world.values() == [b"before", b"after", b"x" * 1_000]

    async def main() -> None:
        world.start()
        await asyncio.sleep(1)
        await world.simulation.process("clients", "10.0.0.2").start(clients)

    world.simulation.run(main, limit_s=600)


def test_nothing_is_acknowledged_after_a_failed_sync() -> None:
    world = World()

    async def clients() -> None:
        async with AsyncProducer(ADDRESS, acks="all", retries_max=0) as producer:
            await producer.send("t", b"before")
            world.disk.fail("sync", error=errno.EIO, path="/b/data")
            with pytest.raises(ClientError):
                await producer.send("t", b"not durable")
            for _ in range(3):  # the disk works again, but nobody knows what it has lost
                with pytest.raises(ClientError):
                    await producer.send("t", b"refused")
        health = world.broker.health()
        assert health.ready is False
        assert "restart the broker" in str(health)

    async def main() -> None:
        world.start()
        await asyncio.sleep(1)
        await world.simulation.process("clients", "10.0.0.2").start(clients)

    world.simulation.run(main, limit_s=600)
