"""A broker process that is replaced while clients use it: it ends, soon, and says why."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from streambus_broker.demo.cluster import ClusterProcesses
from streambus_broker.demo.server import ServerProcess
from streambus_client import Admin, Consumer, Producer
from tests.cluster.conftest import wait_until
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60.0
NEVER = ("--shutdown-timeout-ms", "600000")
"""Whoever waits for this is noticed."""


@pytest.mark.timeout(300)  # processes on a busy machine
def test_a_replaced_process_ends_with_an_error_and_its_reason(tmp_path: Path) -> None:
    *addresses, joining = (f"127.0.0.1:{port}" for port in free_ports(4))
    with ExitStack() as stack:
        cluster = ClusterProcesses(str(tmp_path), addresses, "t", flags=NEVER)
        stack.callback(cluster.stop)
        cluster.start()
        flags = ("--node-id", "4", "--join", addresses[0], *NEVER)
        fourth = ServerProcess(str(tmp_path / "4"), joining, flags)
        stack.callback(fourth.stop)
        fourth.start()
        where = f"{cluster.address},{joining}"
        admin = stack.enter_context(Admin(where))
        wait_until(lambda: len(admin.cluster().brokers) == 4, "the fourth joined", PATIENCE_S)
        admin.create_topic("t", partitions=6, replication_factor=3)
        cluster.wait_in_sync(PATIENCE_S)
        producer = stack.enter_context(Producer(where, acks="all"))
        consumer = stack.enter_context(Consumer(where, "t", start="earliest"))
        for number in range(60):
            producer.send("t", b"%d" % number, partition=number % 6)
        found = 0
        while found < 60:
            found += len(consumer.poll(timeout=5))
        leading = {one.leader for one in admin.describe_topic("t").partitions}
        assert 2 in leading
        admin.replace_broker(2, 4)
        code = cluster.servers[2].wait_ended(PATIENCE_S)
        for number in range(60):
            producer.send("t", b"%d" % number, partition=number % 6)
        while found < 120:
            found += len(consumer.poll(timeout=5))
        cluster.wait_in_sync(PATIENCE_S)
    log = (tmp_path / "2" / "broker.log").read_text()
    assert code == 1
    assert log.rstrip().endswith(
        "broker 2 was removed from this cluster; to have it back, empty its data directory and"
        " start it with --join, under this node id or another one"
    )
