"""A broker process whose small disk is full: others lead and serve, and it resumes by itself."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from streambus_broker.demo.cluster import ClusterProcesses
from streambus_client import Admin, Consumer, Producer, TopicPartition
from streambus_client.errors import ClientError
from tests.chaos.disk import SmallDisk, missing
from tests.cluster.conftest import wait_until
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60.0
DISK_BYTES = 64 << 20
FULL = 2
NOWHERE = {TopicPartition("t", 1_000_000 + number): (9,) for number in range(20_000)}
"""A reassignment that is refused, and stands in the metadata log nevertheless: 200 KB of it."""


@pytest.mark.skipif(bool(missing()), reason=missing() or "there are small disks")
@pytest.mark.timeout(300)  # processes on a busy machine
def test_a_process_with_a_full_disk_resumes_without_a_restart(tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    log = tmp_path / str(FULL) / "broker.log"
    with ExitStack() as stack:
        disk = SmallDisk(tmp_path / str(FULL), DISK_BYTES)
        stack.callback(disk.close)
        cluster = ClusterProcesses(str(tmp_path), addresses, "t")
        stack.callback(cluster.stop)
        cluster.start()
        others = ",".join(each for number, each in enumerate(addresses, 1) if number != FULL)
        admin = stack.enter_context(Admin(others))
        producer = stack.enter_context(Producer(others, acks="all"))
        admin.create_topic("t", partitions=3, replication_factor=3)
        cluster.wait_in_sync(PATIENCE_S)
        for partition in range(3):
            producer.send("t", b"before", partition=partition)

        def state() -> str:
            with suppress(ClientError):  # the controller may be the one that stands still
                members = {each.node_id: each for each in admin.describe_cluster().members}
                return members[FULL].state
            return "unknown"

        disk.fill()
        # Room for a little metadata is set aside; that is used up first.
        for _ in range(20):
            if state() == "fenced":
                break
            with suppress(ClientError):
                admin.reassign(NOWHERE)
        wait_until(lambda: state() == "fenced", "others go on without it", PATIENCE_S)
        for partition in range(3):
            producer.send("t", b"full", partition=partition)
        assert all(one.leader not in (-1, FULL) for one in admin.describe_topic("t").partitions)
        with Consumer(others, "t", start="earliest") as consumer:
            found = [record.value for record in consumer.poll(max_records=6, timeout=10)]
            while len(found) < 6:
                found += [record.value for record in consumer.poll(timeout=10)]
        assert sorted(each or b"" for each in found) == [b"before"] * 3 + [b"full"] * 3
        cluster.check()  # its process lives
        disk.empty()
        wait_until(lambda: state() == "alive", "a session again", PATIENCE_S)
        cluster.wait_in_sync(PATIENCE_S)
        cluster.check()
        assert "stands still" in log.read_text()


@pytest.mark.skipif(bool(missing()), reason=missing() or "there are small disks")
@pytest.mark.timeout(300)  # processes on a busy machine
def test_a_process_whose_records_have_no_room_is_led_by_others_until_it_has(tmp_path: Path) -> None:
    """The two trees lie on disks of their own, so that the metadata still has room."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    with ExitStack() as stack:
        records = tmp_path / str(FULL) / "data" / "data"
        disk = SmallDisk(records, DISK_BYTES)
        stack.callback(disk.close)
        (records / "lost+found").rmdir()  # a tree begins in an empty directory
        flags = ("--memtable-bytes", "1MiB", "--leader-balance-ms", "2000")
        cluster = ClusterProcesses(str(tmp_path), addresses, "t", flags=flags)
        stack.callback(cluster.stop)
        cluster.start()
        admin = stack.enter_context(Admin(cluster.address))
        producer = stack.enter_context(Producer(cluster.address, acks="all"))
        admin.create_topic("t", partitions=3, replication_factor=3)
        cluster.wait_in_sync(PATIENCE_S)

        def state() -> str:
            return {each.node_id: each for each in admin.describe_cluster().members}[FULL].state

        def leaders() -> list[int]:
            return [one.leader for one in admin.describe_topic("t").partitions]

        wait_until(lambda: FULL in leaders(), "it leads one of three", PATIENCE_S)
        disk.fill()
        value, sent = b"x" * 100_000, 0
        ends_s = time.monotonic() + PATIENCE_S
        while state() != "read_only" and time.monotonic() < ends_s:
            for partition in range(3):  # none of these fails, whoever leads
                producer.send("t", value, partition=partition)
                sent += 1
        assert state() == "read_only"
        assert FULL not in leaders()
        healths = {each.node_id: each for each in admin.health()}
        assert not healths[FULL].ready
        assert all(each.ready for node, each in healths.items() if node != FULL)
        for partition in range(3):
            producer.send("t", value, partition=partition)
            sent += 1
        assert FULL not in leaders()
        cluster.check()
        disk.empty()
        wait_until(lambda: state() == "alive", "it has tried, and found room", PATIENCE_S)
        cluster.wait_in_sync(PATIENCE_S)
        wait_until(lambda: FULL in leaders(), "it leads again", PATIENCE_S)
        for partition in range(3):
            producer.send("t", value, partition=partition)
            sent += 1
        with Consumer(cluster.address, "t", start="earliest") as consumer:
            found, ends_s = 0, time.monotonic() + PATIENCE_S
            while found < sent and time.monotonic() < ends_s:
                found += len(consumer.poll(timeout=5))
        assert found == sent
        cluster.check()
