"""Clusters of embedded brokers on real sockets, each broker in a thread of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from streambus_broker.config.broker import BrokerConfig
from streambus_broker.embedded import EmbeddedBroker
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streambus_broker.cluster.broker import ClusterBroker
    from streambus_broker.metadata.records import TopicRecord


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
    """Wait for something that comes by itself, and fail if it does not."""
    ends_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > ends_s:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)


class Cluster:
    """Brokers by node id."""

    def __init__(self, path: Path, ports: list[int]) -> None:
        self.path = path
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        self.bootstrap = ",".join(self.addresses)
        self.voters = ",".join(f"{i}@{address}" for i, address in enumerate(self.addresses, 1))
        self.brokers: dict[int, EmbeddedBroker] = {}

    def config(self, node_id: int, **changes: object) -> BrokerConfig:
        """The configuration of one of the first voters."""
        settings: dict[str, object] = {
            "data_dir": str(self.path / str(node_id)), "http": "off", "node_id": node_id,
            "listen": self.addresses[node_id - 1], "voters": self.voters,
            "broker_session_ms": 4000, "leader_balance_ms": 1000, **changes,
        }  # fmt: skip
        return BrokerConfig(**settings)  # type: ignore[arg-type]  # by name

    def start(self, node_id: int, config: BrokerConfig | None = None) -> EmbeddedBroker:
        """Start a broker."""
        broker = EmbeddedBroker(config or self.config(node_id))
        broker.start()
        self.brokers[node_id] = broker
        return broker

    def stop(self, node_id: int) -> None:
        """Stop a broker in good order."""
        self.brokers.pop(node_id).stop()

    def stop_all(self) -> None:
        """Stop all brokers at once."""
        brokers = list(self.brokers.values())
        self.brokers.clear()
        with ThreadPoolExecutor(max(1, len(brokers))) as pool:
            list(pool.map(EmbeddedBroker.stop, brokers))

    def broker(self, node_id: int) -> ClusterBroker:
        """A running broker's inside."""
        inside = self.brokers[node_id].broker
        assert inside is not None
        return inside  # type: ignore[return-value]  # it was configured so

    def wait_ready(self) -> None:
        """Wait until every running broker is ready."""
        for node_id in self.brokers:
            self._wait_ready(node_id)

    def _wait_ready(self, node_id: int) -> None:
        broker = self.broker(node_id)
        wait_until(lambda: broker.health().ready, f"broker {node_id} ready")

    def topic(self, name: str) -> TopicRecord:
        """A topic, as some running broker knows it."""
        state = next(iter(self.brokers.values())).broker.node.state  # type: ignore[union-attr]  # it runs
        wait_until(lambda: name in state.topics, f"topic {name} known to every broker")
        found: TopicRecord = state.topics[name]
        return found

    def record(self, topic: str, partition: int = 0) -> tuple[int, tuple[int, ...]]:
        """Leader and in-sync set of a partition, as some running broker knows them."""
        state = next(iter(self.brokers.values())).broker.node.state  # type: ignore[union-attr]  # it runs
        wait_until(lambda: topic in state.topics, f"topic {topic} known to every broker")
        found = state.topics[topic].partitions[partition]
        return found.leader, found.in_sync


def wait_for_failure(
    cluster: Cluster, node_id: int, config: BrokerConfig | None = None
) -> Exception:
    """Start a broker that is to end by itself, and return what ended it."""
    broker = EmbeddedBroker(config or cluster.config(node_id))
    broker.start()
    inside = broker.broker
    assert inside is not None
    try:
        wait_until(inside.failed.is_set, "the broker ended")
    finally:
        broker.stop()
    assert inside.failure is not None
    return inside.failure


@contextmanager
def running_cluster(path: Path, count: int = 3, **changes: object) -> Iterator[Cluster]:
    """A cluster that is ready, and is stopped at the end."""
    cluster = Cluster(path, free_ports(count))
    try:
        for node_id in range(1, count + 1):
            cluster.start(node_id, cluster.config(node_id, **changes))
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.stop_all()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers."""
    with running_cluster(tmp_path) as running:
        yield running
