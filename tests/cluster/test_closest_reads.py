"""Three broker processes in three racks: a consumer reads from the follower in its own."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from streambus_broker.demo.cluster import local_addresses
from streambus_broker.demo.server import ServerProcess
from streambus_client import Admin, Producer
from streambus_client.errors import ClientError
from streambus_protocol import ErrorCode, FetchPartition, FetchRequest
from tests.broker.raw import RawClient
from tests.client.both import Shell, ready, run_on
from tests.client.test_command_line import streambus
from tests.cluster.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0
RACKS = {1: "a", 2: "b", 3: "c"}


class RackedCluster:
    """Brokers 1, 2 and 3 in racks a, b and c."""

    def __init__(self, path: Path) -> None:
        addresses = local_addresses(6)
        self.addresses = dict(enumerate(addresses[:3], 1))
        self._http = dict(enumerate(addresses[3:], 1))
        voters = ",".join(f"{node}@{address}" for node, address in self.addresses.items())
        self.address = ",".join(self.addresses.values())
        self.servers = {
            node: ServerProcess(
                str(path / str(node)),
                address,
                ("--node-id", str(node), "--voters", voters, "--rack", RACKS[node],
                 "--http", self._http[node], "--broker-session-ms", "6000"),
            )
            for node, address in self.addresses.items()
        }  # fmt: skip

    def start(self) -> None:
        """Start all of them."""
        for server in self.servers.values():
            server.launch()
        for server in self.servers.values():
            server.wait_listening()
        with Admin(self.address) as admin:
            wait_until(lambda: len(admin.cluster().brokers) == 3, "all brokers", PATIENCE_S)
            told = {each.node_id: each.rack for each in admin.cluster().brokers}
            assert told == RACKS, "the metadata tells where brokers stand"

    def make_topic(self, topic: str) -> tuple[int, int]:
        """Make a topic with one partition on all brokers; return its leader, and a follower."""
        with Admin(self.address) as admin:
            admin.create_topic(topic, partitions=1, replication_factor=3)
        leader = self.wait_in_sync(topic)
        return leader, next(node for node in self.servers if node != leader)

    def wait_in_sync(self, topic: str) -> int:
        """Wait until all replicas are in sync; return the leader."""
        leaders: list[int] = []

        def in_sync() -> bool:
            with contextlib.suppress(ClientError), Admin(self.address) as admin:
                (partition,) = admin.describe_topic(topic).partitions
                leaders[:] = [partition.leader]
                return len(partition.in_sync) == 3
            return False

        wait_until(in_sync, "all replicas in sync", PATIENCE_S)
        return leaders[0]

    def metric(self, node: int, name: str) -> float:
        """A counter of one broker."""
        url = f"http://{self._http[node]}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = answer.read().decode()
        found = re.search(rf"^streambus_{name} (\S+)$", page, re.MULTILINE)
        assert found is not None, f"{name} is not among the metrics"
        return float(found[1])

    def stop(self) -> None:
        """End all processes."""
        for server in self.servers.values():
            server.ask_to_stop()
        for server in self.servers.values():
            server.stop()


@pytest.fixture(scope="module")
def racked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackedCluster]:
    cluster = RackedCluster(tmp_path_factory.mktemp("racks"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Reading:
    """What one consumer has read: offset after offset, or the test ends."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.count = 0

    async def read_to(self, count: int) -> None:
        """Read until there are so many."""
        ends_s = time.monotonic() + PATIENCE_S
        while self.count < count:
            assert time.monotonic() < ends_s, f"{self.count} of {count} read"
            for record in await ready(self.consumer.poll(max_records=50, timeout=1.0)):
                assert (record.offset, record.value) == (self.count, b"%d" % self.count)
                self.count += 1


def produce(producer: Producer, topic: str, begin: int, end: int) -> None:
    """Send numbered records, some to a batch."""
    for first in range(begin, end, 10):
        for number in range(first, first + 10):
            producer.submit(topic, b"%d" % number)
        producer.flush()


@pytest.mark.parametrize("shell", ["blocking", "asyncio"])
def test_a_follower_serves_and_its_death_costs_no_record(shell: str, racked: RackedCluster) -> None:
    topic = f"death-{shell}"
    leader, follower = racked.make_topic(topic)

    async def scenario(shell: Shell) -> None:
        with Producer(racked.address) as producer:
            produce(producer, topic, 0, 300)
            async with shell.consumer(
                racked.address, topic, start="earliest", client_rack=RACKS[follower],
                fetch_bytes_max=500, prefetch_bytes_max=500, fetch_wait_ms=200,
                metadata_age_ms_max=1000,
            ) as consumer:  # fmt: skip
                sent_on = racked.metric(leader, "preferred_read_replica_answers_total")
                by_leader = racked.metric(leader, "fetched_bytes_total")
                reads = racked.metric(follower, "follower_reads_total")
                read_bytes = racked.metric(follower, "follower_read_bytes_total")
                refused = racked.metric(follower, "follower_refusals_total")
                reading = Reading(consumer)
                await reading.read_to(300)
                assert racked.metric(leader, "preferred_read_replica_answers_total") > sent_on
                if racked.metric(follower, "follower_refusals_total") == refused:
                    assert racked.metric(leader, "fetched_bytes_total") == by_leader
                assert racked.metric(follower, "follower_reads_total") > reads + 1
                assert racked.metric(follower, "follower_read_bytes_total") > read_bytes + 300
                produce(producer, topic, 300, 600)
                await reading.read_to(400)  # it has a request under way, and records in hand
                racked.servers[follower].kill()
                await reading.read_to(600)
                produce(producer, topic, 600, 700)
                await reading.read_to(700)
                assert racked.metric(leader, "fetched_bytes_total") > by_leader
                racked.servers[follower].start()
                racked.wait_in_sync(topic)
                written = 700
                while not racked.metric(follower, "follower_reads_total"):
                    assert written < 100_000, "the consumer comes back to its follower"
                    produce(producer, topic, written, written + 10)
                    written += 10
                    await reading.read_to(written)

    run_on(shell, scenario)


def test_records_reach_a_consumer_at_the_end_of_the_log_soon(racked: RackedCluster) -> None:
    """A follower is told what is committed when it is, not when its long poll is over."""
    leader, follower = racked.make_topic("soon")
    del leader

    async def scenario(shell: Shell) -> None:
        with Producer(racked.address) as producer:
            produce(producer, "soon", 0, 10)
            async with shell.consumer(
                racked.address, "soon", start="earliest", client_rack=RACKS[follower],
                fetch_wait_ms=30_000,
            ) as consumer:  # fmt: skip
                reads = racked.metric(follower, "follower_reads_total")
                refused = racked.metric(follower, "follower_refusals_total")
                reading = Reading(consumer)
                await reading.read_to(10)
                took_s = []
                for number in range(10, 60):
                    producer.send("soon", b"%d" % number)
                    began_s = time.monotonic()
                    await reading.read_to(number + 1)
                    took_s.append(time.monotonic() - began_s)
                # Half a second for each, if it were told with the answer to its next long poll; the
                # middle one, because a busy machine may make any of them late.
                assert statistics.median(took_s) < 0.3, took_s
                if racked.metric(follower, "follower_refusals_total") == refused:
                    assert racked.metric(follower, "follower_reads_total") >= reads + 50

    run_on("blocking", scenario)


def test_followers_serve_only_who_says_where_it_stands(racked: RackedCluster) -> None:
    leader, follower = racked.make_topic("plain")
    with Producer(racked.address) as producer:
        produce(producer, "plain", 0, 10)
    sent_on = racked.metric(leader, "preferred_read_replica_answers_total")

    async def scenario(shell: Shell) -> None:
        async with shell.consumer(racked.address, "plain", start="earliest") as consumer:
            await Reading(consumer).read_to(10)

    run_on("blocking", scenario)
    assert racked.metric(leader, "preferred_read_replica_answers_total") == sent_on
    wanted = (FetchPartition("plain", 0, 0, -1, 1 << 20),)
    with RawClient(racked.addresses[follower]) as client:

        def fetch(version: int, rack: str | None, offset: int = 0) -> Any:
            asked = (wanted[0]._replace(offset=offset),)
            request = FetchRequest(0, 1, 1 << 20, asked, rack)
            client.socket.sendall(client.encode(request, version))
            return client.receive().partitions[0]

        assert fetch(0, None).error == ErrorCode.NOT_LEADER
        assert fetch(1, None).error == ErrorCode.NOT_LEADER

        def in_step(offset: int) -> Any:
            """Its answer when it is in step: on a busy machine it may be out of touch."""
            answers = []

            def serves() -> bool:
                answers.append(fetch(1, "x", offset))
                return bool(answers[-1].error != ErrorCode.NOT_LEADER)

            wait_until(serves, "the follower in step", PATIENCE_S)
            return answers[-1]

        wait_until(lambda: in_step(0).high_watermark == 10, "all of it told to the follower")
        found = in_step(0)
        assert (found.error, found.preferred_read_replica) == (0, -1)
        assert found.batches
        assert in_step(10).error == 0
        assert in_step(11).error == ErrorCode.OFFSET_NOT_AVAILABLE
    with RawClient(racked.addresses[leader]) as client:
        told = fetch(1, RACKS[follower])
        assert (told.error, told.preferred_read_replica, told.batches) == (0, follower, b"")
        for rack in (RACKS[leader], "elsewhere", None):
            told = fetch(1, rack)
            assert (told.error, told.preferred_read_replica) == (0, -1)
            assert told.batches == found.batches


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_command_reads_in_a_rack(
    by: str, racked: RackedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"command-{by}"
    _, follower = racked.make_topic(topic)
    with Producer(racked.address) as producer:
        produce(producer, topic, 0, 20)
    reads = racked.metric(follower, "follower_reads_total")
    options = ["--client-rack", RACKS[follower]] if by == "option" else []
    if by == "environment":
        monkeypatch.setenv("STREAMBUS_CLIENT_RACK", RACKS[follower])

    def served() -> bool:
        done = streambus("consume", topic, "-o", "start", "-e", *options, address=racked.address)
        assert (done.returncode, done.stdout.split()) == (0, [b"%d" % i for i in range(20)])
        return racked.metric(follower, "follower_reads_total") > reads

    wait_until(served, "records from the follower", PATIENCE_S)
