"""Clients of a broker that was stopped with SIGSTOP: others answer, and they go on with those.

Every client here would wait for two minutes for what was asked of the paused broker.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from streambus_broker.demo.cluster import local_addresses
from streambus_broker.demo.server import ServerProcess
from streambus_client import Admin, Producer
from streambus_client.errors import ClientError
from tests.client.both import Shell, ready, run_on
from tests.cluster.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0
NEVER_MS = 120_000
RACKS = {1: "a", 2: "b", 3: "c"}


class Brokers:
    """Three processes in three racks."""

    def __init__(self, path: Path) -> None:
        self.addresses = dict(enumerate(local_addresses(3), 1))
        self.address = ",".join(self.addresses.values())
        voters = ",".join(f"{node}@{address}" for node, address in self.addresses.items())
        flags = ("--voters", voters, "--broker-session-ms", "2000", "--leader-balance-ms", "600000")
        self.servers = {
            node: ServerProcess(
                str(path / str(node)),
                address,
                (*flags, "--node-id", str(node), "--rack", RACKS[node]),
            )
            for node, address in self.addresses.items()
        }

    def start(self) -> None:
        """Start all of them."""
        for server in self.servers.values():
            server.launch()
        for server in self.servers.values():
            server.wait_listening()
        self.wait_whole()

    def wait_whole(self) -> None:
        """Wait until all are ready and in sync."""

        def whole() -> bool:
            try:
                with Admin(self.address) as admin:
                    healths = admin.health()
                    return (
                        len(healths) == 3
                        and all(each.ready for each in healths)
                        and admin.cluster().healthy
                    )
            except ClientError:
                return False

        wait_until(whole, "all brokers", PATIENCE_S)

    def make_topic(self, topic: str) -> int:
        """Make a topic on all brokers; return the leader of its partition."""
        with Admin(self.address) as admin:
            admin.create_topic(topic, partitions=1, replication_factor=3)
        self.wait_whole()
        with Admin(self.address) as admin:
            return admin.describe_topic(topic).partitions[0].leader

    @contextmanager
    def paused(self, node: int) -> Iterator[str]:
        """Stop one for as long as the block lasts; gives the addresses of the others."""
        self.servers[node].pause()
        try:
            yield ",".join(each for key, each in self.addresses.items() if key != node)
        finally:
            self.servers[node].resume()
            self.wait_whole()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    made = Brokers(tmp_path_factory.mktemp("paused"))
    try:
        made.start()
        yield made
    finally:
        for server in made.servers.values():
            server.ask_to_stop()
        for server in made.servers.values():
            server.stop()


def send(address: str, topic: str, *values: bytes) -> None:
    """Send to whoever leads by now."""
    with Producer(address, delivery_timeout_ms=PATIENCE_S * 1000) as producer:
        for value in values:
            producer.send(topic, value)


async def read(consumer: Any, count: int) -> list[bytes]:
    """Read so many records, within the test's patience."""
    found: list[bytes] = []
    ends_s = time.monotonic() + PATIENCE_S
    while len(found) < count:
        found += [each.value for each in await ready(consumer.poll(timeout=5.0))]
        assert time.monotonic() < ends_s, f"read {found}"
    return found


@pytest.mark.parametrize("shell", ["blocking", "asyncio"])
@pytest.mark.parametrize("who", ["leader", "closest"])
def test_a_consumer_goes_on_when_the_broker_that_it_reads_from_is_paused(
    who: str, shell: str, brokers: Brokers
) -> None:
    topic = f"read-{who}-{shell}"
    leader = brokers.make_topic(topic)
    node = leader if who == "leader" else next(each for each in (3, 2, 1) if each != leader)
    send(brokers.address, topic, b"1", b"2")

    async def scenario(shell: Shell) -> None:
        async with shell.consumer(
            brokers.address, topic, start="earliest",
            client_rack="" if who == "leader" else RACKS[node],
            request_timeout_ms=NEVER_MS, connect_timeout_ms=NEVER_MS,
        ) as consumer:  # fmt: skip
            assert await read(consumer, 2) == [b"1", b"2"]
            await ready(consumer.poll(timeout=1.0))  # a fetch waits there
            with brokers.paused(node) as others:
                send(others, topic, b"3")
                assert await read(consumer, 1) == [b"3"]

    run_on(shell, scenario)


@pytest.mark.parametrize("shell", ["blocking", "asyncio"])
def test_metadata_and_offsets_are_had_from_others_than_a_paused_broker(
    shell: str, brokers: Brokers
) -> None:
    topic = f"ask-{shell}"
    leader = brokers.make_topic(topic)
    send(brokers.address, topic, b"1")

    async def scenario(shell: Shell) -> None:
        options = {"request_timeout_ms": NEVER_MS, "connect_timeout_ms": NEVER_MS}
        first = ",".join(sorted(brokers.address.split(","), key=brokers.addresses[leader].__ne__))
        async with (
            shell.admin(brokers.addresses[leader], **options) as asked,
            shell.admin(first, **options) as fresh,
        ):
            await ready(asked.list_topics())  # it asks this one first from now on
            with brokers.paused(leader):
                began_s = time.monotonic()
                for admin in (asked, fresh):
                    assert topic in [each.name for each in await ready(admin.list_topics())]
                    found = await ready(admin.offsets(topic))
                    assert [each.latest for each in found] == [1]
                assert time.monotonic() - began_s < PATIENCE_S

    run_on(shell, scenario)


@pytest.mark.parametrize("shell", ["blocking", "asyncio"])
def test_a_producer_sends_again_to_whoever_leads_when_its_leader_is_paused(
    shell: str, brokers: Brokers
) -> None:
    """Alone or in a batch, on a connection that goes on to look alive; each is written once."""
    topic = f"write-{shell}"
    leader = brokers.make_topic(topic)

    async def scenario(shell: Shell) -> None:
        options = {
            "request_timeout_ms": NEVER_MS, "connect_timeout_ms": NEVER_MS,
            "delivery_timeout_ms": NEVER_MS,
        }  # fmt: skip
        async with (
            shell.producer(brokers.address, **options) as alone,
            shell.producer(brokers.address, **options) as batches,
        ):
            await ready(alone.send(topic, b"1"))
            await ready((await ready(batches.submit(topic, b"2"))).result())
            began_s = time.monotonic()
            with brokers.paused(leader):
                await ready(alone.send(topic, b"3"))
                future = await ready(batches.submit(topic, b"4"))
                await ready(batches.flush())
                assert time.monotonic() - began_s < PATIENCE_S
                await ready(future.result())
        async with shell.consumer(brokers.address, topic, start="earliest") as consumer:
            assert await read(consumer, 4) == [b"1", b"2", b"3", b"4"]
            assert await ready(consumer.poll(timeout=1.0)) == []

    run_on(shell, scenario)
