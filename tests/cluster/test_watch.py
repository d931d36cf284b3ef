"""What the simulator takes for a record that a consumer must not be given."""

from __future__ import annotations

from random import Random

import pytest

from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from tests.cluster.calm import CalmCluster
from tests.cluster.watch import Watch
from tests.support.history import CheckFailedError, Reader

TOPIC = "t"


def test_what_was_given_was_committed_though_who_knew_it_is_gone() -> None:
    """A move ended, or the leader died, while the answer was on its way: none knows it any more."""
    cluster = CalmCluster(4)
    bootstrap, hosts = cluster.hosts.bootstrap, cluster.hosts
    watch = Watch(hosts, cluster.history)  # which is not run: it sees what is given, and no more

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            for value in (b"0", b"1"):
                await producer.send(TOPIC, value)
            found = await consumer.poll(timeout=5)
            assert [each.value for each in found] == [b"0", b"1"]
            for host in hosts.all:
                hosts.kill(host, power_loss=False)
        assert watch.reads.committed(0) == 2
        reader = Reader("reader")
        for offset in range(2):
            cluster.history.read(reader, 0, offset, b"%d" % offset)
        with pytest.raises(CheckFailedError, match="reads 0/2, which is committed up to 2"):
            cluster.history.read(reader, 0, 2, b"2")

    cluster.run(script)


def test_a_record_that_only_its_leader_holds_was_not_committed() -> None:
    cluster = CalmCluster(4)
    bootstrap, hosts = cluster.hosts.bootstrap, cluster.hosts
    Watch(hosts, cluster.history)

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks=1, random=Random(2)) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            await producer.send(TOPIC, b"0")
            (found,) = await consumer.poll(timeout=5)
            reader = Reader("reader")
            cluster.history.read(reader, 0, found.offset, b"0")
            node = cluster.controller().node
            assert node is not None
            leader = node.state.topics[TOPIC].partitions[0].leader
            for host in hosts.all:
                if host.node_id != leader:
                    host.process.pause()
            await producer.send(TOPIC, b"1")
            with pytest.raises(CheckFailedError, match="reads 0/1, which is committed up to 1"):
                cluster.history.read(reader, 0, 1, b"1")

    cluster.run(script)
