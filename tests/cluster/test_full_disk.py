"""A broker whose metadata finds no room: it stands still, others lead, and it resumes by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from random import Random
from typing import TYPE_CHECKING

import pytest

from streambus_broker.cluster.raft_log import TreeLogStorage
from streambus_client import AsyncAdmin, AsyncConsumer, AsyncProducer
from streambus_client.errors import ClientError
from streambus_raft import (
    Entry,
    EntryKind,
    HardState,
    NodeId,
    SnapshotMeta,
    SnapshotPiece,
    Term,
    Write,
    bootstrap_snapshot,
    new_membership,
)
from streambus_raft.errors import StorageFullError
from streambus_storage import LSMTree, Options, StorageIOError, WriteStallError
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from tests.cluster.hosts import Host

TOPIC = "t"


def fill(host: Host) -> None:
    """Leave no room where a broker keeps its metadata."""
    host.disk.fail("append", times=None, error=errno.ENOSPC, path="/broker/meta", effect="partial")


@pytest.mark.parametrize("role", ["controller", "follower"])
def test_a_broker_without_room_for_metadata_resumes_by_itself(role: str) -> None:
    cluster = CalmCluster(3)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        host = controller
        if role == "follower":
            host = next(each for each in cluster.hosts.all if each is not controller)
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=6, replication_factor=3)
            await producer.send(TOPIC, b"before", partition=0)
            fill(host)
            await admin.create_topic("meanwhile", partitions=1)
            broker = host.broker
            assert broker is not None
            await cluster.until(lambda: broker.group.full is not None, "it stands still")
            assert not broker.health().ready
            assert "no room for metadata" in str(broker.health())
            for partition in range(6):  # whoever led it
                await producer.send(TOPIC, b"full", partition=partition)
            found = 0
            while found < 7:
                found += len(await consumer.poll(timeout=5))
            others = [each for each in cluster.hosts.all if each is not host]
            state = others[0].node.state  # type: ignore[union-attr]  # it serves
            await cluster.until(lambda: state.brokers[host.node_id].fenced, "others go on alone")
            assert all(one.leader != host.node_id for one in state.topics[TOPIC].partitions)
            host.disk.heal()
            await cluster.until(lambda: cluster.has_session(host.node_id), "a session again")
            await cluster.until(lambda: broker.health().ready, "it is ready")
            await cluster.until(
                lambda: all(len(one.in_sync) == 3 for one in state.topics[TOPIC].partitions),
                "in sync again",
            )
            assert "meanwhile" in broker.node.state.topics
            assert (host.starts, broker.failure) == (1, None)

    cluster.run(script)


@pytest.mark.parametrize("role", ["controller", "follower"])
def test_a_leader_without_room_for_records_hands_over_until_it_has_room(role: str) -> None:
    cluster = CalmCluster(5)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        host = controller
        if role == "follower":
            host = next(each for each in cluster.hosts.all if each is not controller)
        broker = host.broker
        assert broker is not None
        number = host.node_id
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=6, replication_factor=3)
            for partition in range(6):
                await producer.send(TOPIC, b"before", partition=partition)
            state = broker.node.state
            partitions = state.topics[TOPIC].partitions
            led = [each for each, one in enumerate(partitions) if one.leader == number]
            assert led
            host.disk.fail("append", times=None, error=errno.ENOSPC, path="/broker/data")
            began_s = cluster.simulation.loop.time()
            for partition in led:
                await producer.send(TOPIC, b"full", partition=partition)
            assert cluster.simulation.loop.time() - began_s < 2.0, "nobody waits for a session"
            assert state.brokers[number].read_only
            assert not broker.health().ready
            members = {each.node_id: each for each in (await admin.describe_cluster()).members}
            assert members[number].state == "read_only"
            # Neither balancing, which comes every 3 s, nor an operator makes it lead again.
            for _ in range(20):
                assert all(one.leader != number for one in state.topics[TOPIC].partitions)
                await admin.elect_leaders()
                for partition in led:
                    await producer.send(TOPIC, b"on", partition=partition)
                await asyncio.sleep(0.4)
            assert all(number not in one.in_sync for one in state.topics[TOPIC].partitions)
            found = 0
            while found < 6 + 21 * len(led):
                found += len(await consumer.poll(timeout=5))
            host.disk.heal()
            await cluster.until(
                lambda: all(state.topics[TOPIC].partitions[each].leader == number for each in led),
                "it leads again",
            )
            assert broker.health().ready
            for partition in range(6):
                await producer.send(TOPIC, b"after", partition=partition)
            assert (host.starts, broker.failure) == (1, None)

    cluster.run(script)


def test_a_leader_without_an_heir_is_read_from_and_refuses_until_it_has_room() -> None:
    cluster = CalmCluster(6)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(
                bootstrap, acks="all", random=Random(2), delivery_timeout_ms=3000
            ) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=1)
            await producer.send(TOPIC, b"before")
            state = cluster.controller().broker.node.state  # type: ignore[union-attr]  # it serves
            leader = state.topics[TOPIC].partitions[0].leader
            host = cluster.hosts.hosts[leader]
            host.disk.fail("append", times=None, error=errno.ENOSPC, path="/broker/data")
            with pytest.raises(ClientError):
                await producer.send(TOPIC, b"refused")
            assert state.brokers[leader].read_only
            assert state.topics[TOPIC].partitions[0].leader == leader
            assert [each.value for each in await consumer.poll(timeout=5)] == [b"before"]
            host.disk.heal()
            await cluster.until(lambda: not state.brokers[leader].read_only, "it has room")
            await producer.send(TOPIC, b"after")
            assert [each.value for each in await consumer.poll(timeout=5)][-1] == b"after"

    cluster.run(script)


@pytest.mark.parametrize("role", ["controller", "follower"])
def test_a_broker_whose_log_stops_hands_over_and_keeps_nobody_else_from_leading(role: str) -> None:
    """A controller was stopped like any other: it prolonged nobody's lease, and fenced nobody."""
    cluster = CalmCluster(7)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        host = controller
        if role == "follower":
            host = next(each for each in cluster.hosts.all if each is not controller)
        number, session_s = host.node_id, cluster.shape.session_ms / 1000
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic(TOPIC, partitions=3, replication_factor=3)
            for partition in range(3):
                await producer.send(TOPIC, b"before", partition=partition)
            state = controller.broker.node.state  # type: ignore[union-attr]  # it serves
            host.disk.fail("sync", times=None, error=errno.EIO, path="/broker/data")
            began_s = cluster.simulation.loop.time()
            for partition in range(3):
                await producer.send(TOPIC, b"meanwhile", partition=partition)
            assert cluster.simulation.loop.time() - began_s < session_s
            await cluster.until(lambda: state.brokers[number].fenced, "it is let go")
            assert state.brokers[number].read_only
            for partition in range(30):
                began_s = cluster.simulation.loop.time()
                await producer.send(TOPIC, b"on", partition=partition % 3)
                assert cluster.simulation.loop.time() - began_s < session_s
                await asyncio.sleep(session_s / 5)
            cluster.hosts.kill(host, power_loss=False)
            host.disk.heal()
            cluster.hosts.start(host)
            await cluster.until(lambda: cluster.has_session(number), "a session again")
            state = host.node.state  # type: ignore[union-attr]  # it serves
            await cluster.until(
                lambda: any(one.leader == number for one in state.topics[TOPIC].partitions),
                "it has tried, and leads",
            )

    cluster.run(script)


def test_a_leader_whose_disk_hangs_hands_over_until_it_answers() -> None:
    cluster = CalmCluster(8)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        host = next(each for each in cluster.hosts.all if each is not controller)
        number, loop = host.node_id, cluster.simulation.loop
        async with (
            AsyncAdmin(bootstrap, random=Random(1)) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
        ):
            await admin.create_topic(TOPIC, partitions=3, replication_factor=3)
            for partition in range(3):
                await producer.send(TOPIC, b"before", partition=partition)
            state = controller.broker.node.state  # type: ignore[union-attr]  # it serves
            partitions = state.topics[TOPIC].partitions
            (led,) = (each for each, one in enumerate(partitions) if one.leader == number)
            usual, host.process.thread_s = host.process.thread_s, lambda: 15.0
            began_s = loop.time()
            await producer.send(TOPIC, b"meanwhile", partition=led)
            limit_s = cluster.shape.lag_ms_max / 1000
            assert limit_s / 2 < loop.time() - began_s < 2 * limit_s + 1.0
            assert state.brokers[number].read_only
            host.process.thread_s = usual
            await cluster.until(lambda: not state.brokers[number].read_only, "it answers")
            await cluster.until(
                lambda: state.topics[TOPIC].partitions[led].leader == number, "it leads again"
            )
            await producer.send(TOPIC, b"after", partition=led)
            assert host.starts == 1

    cluster.run(script)


def test_a_stall_of_a_followers_storage_is_no_failure() -> None:
    """A failure of its own is: it stays until a trial has passed, which nothing else tells it."""
    cluster = CalmCluster(9)

    async def script() -> None:
        await cluster.ready()
        broker = cluster.hosts.all[0].broker
        assert broker is not None
        stall = WriteStallError(1.0, "compaction is behind")
        code, _ = broker.node.storage_failed("follow", stall)
        assert code.retriable
        assert broker.health().ready
        broker.node.storage_failed("read", StorageIOError("/x", "read", OSError(errno.EIO, "no")))
        assert not broker.health().ready
        await cluster.until(lambda: broker.health().ready, "a trial has passed")

    cluster.run(script)


def test_without_room_anywhere_the_cluster_stands_still_and_resumes() -> None:
    cluster = CalmCluster(4)
    bootstrap = cluster.hosts.bootstrap

    async def script() -> None:
        await cluster.ready()
        async with (
            AsyncAdmin(bootstrap, random=Random(1), request_timeout_ms=3000) as admin,
            AsyncProducer(bootstrap, acks="all", random=Random(2)) as producer,
            AsyncConsumer(bootstrap, TOPIC, start="earliest", random=Random(3)) as consumer,
        ):
            await admin.create_topic(TOPIC, partitions=1, replication_factor=3)
            await producer.send(TOPIC, b"before")
            for host in cluster.hosts.all:
                fill(host)
            # What needs no change of metadata goes on.
            await producer.send(TOPIC, b"full")
            assert [each.value for each in await consumer.poll(timeout=5)] == [b"before", b"full"]
            with pytest.raises(ClientError) as caught:
                await admin.create_topic("refused", partitions=1)
            assert caught.value.retriable
            await asyncio.sleep(20)
            for host in cluster.hosts.all:
                assert host.broker is not None
                assert host.broker.failure is None
                host.disk.heal()
            await producer.send(TOPIC, b"after")
            await cluster.ready()
            with contextlib.suppress(ClientError):  # the first try may have come through yet
                await admin.create_topic("refused", partitions=1)
            assert {each.name for each in await admin.list_topics()} == {TOPIC, "refused"}

    cluster.run(script)


def test_a_write_of_the_metadata_log_that_found_no_room_has_changed_nothing() -> None:
    disk = SimulatedFileSystem()

    def opened() -> LSMTree:
        scheduler = SimulatedScheduler(1, clock=SimulatedClock())
        return LSMTree.open("/meta", Options(file_system=disk, scheduler=scheduler))

    membership = new_membership((NodeId(1), NodeId(2), NodeId(3)))
    begin = bootstrap_snapshot(membership)

    def entries(first: int, last: int, term: int) -> list[Entry]:
        return [
            Entry(index, Term(term), EntryKind.COMMAND, b"%d of %d" % (index, term))
            for index in range(first, last + 1)
        ]

    later = SnapshotMeta(9, Term(3), membership, 3, 0)
    writes = [
        Write(1, None, (SnapshotPiece(begin, 0, b""),), begin, [], must_sync=True),
        Write(2, HardState(Term(1), NodeId(2), 0), (), None, entries(1, 4, 1), must_sync=True),
        Write(3, HardState(Term(2), NodeId(3), 2), (), None, entries(3, 6, 2), must_sync=True),
        Write(4, None, (SnapshotPiece(later, 0, b"ab"),), None, [], must_sync=True),
        Write(5, None, (SnapshotPiece(later, 2, b"c"),), None, entries(7, 7, 2), must_sync=True),
    ]

    def seen(storage: TreeLogStorage) -> tuple[object, ...]:
        first, last = storage.first_index(), storage.last_index()
        held = storage.entries(first, last + 1, 1 << 20) if first <= last else []
        return storage.state(), first, last, held

    with opened() as tree:
        storage = TreeLogStorage(tree, Random(1))
        for write in writes:
            before = seen(storage)
            disk.fail("append", times=None, error=errno.ENOSPC, effect="partial")
            for _ in range(2):
                with pytest.raises(StorageFullError):
                    storage.write(write)
                assert seen(storage) == before
            disk.heal()
            storage.write(write)
            assert seen(storage) != before
        after = seen(storage)
    with opened() as tree:
        assert seen(TreeLogStorage(tree, Random(2))) == after
