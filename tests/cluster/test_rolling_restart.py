"""Every broker is restarted, one after the other, under load: no send fails, nothing is lost."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from streambus_broker.demo.cluster import ClusterProcesses
from streambus_client import Admin, Consumer, Producer
from tests.cluster.conftest import wait_until
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = "t"
PARTITIONS = 3
PATIENCE_S = 60.0


class Load(threading.Thread):
    """Sends to one partition, one record after the other; each must be acknowledged."""

    def __init__(self, servers: str, partition: int) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.failures: list[Exception] = []
        self.enough = threading.Event()
        self._servers, self._partition = servers, partition

    def run(self) -> None:
        with Producer(self._servers, acks="all") as producer:
            while not self.enough.wait(0.005):
                try:
                    producer.send(TOPIC, b"%d" % self.sent, partition=self._partition)
                except Exception as error:  # noqa: BLE001 - each of them is what must not be
                    self.failures.append(error)
                    return
                self.sent += 1


@pytest.mark.timeout(300)  # it starts six processes, and a busy machine takes its time
def test_a_rolling_restart_fails_no_send(tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    cluster = ClusterProcesses(str(tmp_path), addresses, TOPIC)
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        with Admin(cluster.address) as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        loads = [Load(cluster.address, number) for number in range(PARTITIONS)]
        for load in loads:
            stack.callback(load.join, PATIENCE_S)
            stack.callback(load.enough.set)
            load.start()

        def moves_on() -> None:
            before = [load.sent for load in loads]
            wait_until(
                lambda: (
                    any(load.failures for load in loads)
                    or all(load.sent > count for load, count in zip(loads, before, strict=True))
                ),
                "every partition takes records",
                PATIENCE_S,
            )

        moves_on()
        for server in cluster.servers.values():
            server.stop()  # SIGTERM
            moves_on()  # without it
            server.start()
            cluster.wait_in_sync(PATIENCE_S)
            moves_on()
        for load in loads:
            load.enough.set()
            load.join(PATIENCE_S)
            assert not load.is_alive()
            assert load.failures == []
            assert load.sent > 10
        found: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
        with Consumer(cluster.address, TOPIC, start="earliest") as consumer:
            for batch in consumer.batches(timeout=10):
                found[batch.partition] += [value or b"" for value in batch.values]
                if sum(map(len, found.values())) >= sum(load.sent for load in loads):
                    break
        for number, load in enumerate(loads):
            assert found[number] == [b"%d" % each for each in range(load.sent)]
