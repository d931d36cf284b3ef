"""Three real brokers: they form, replicate, fail over, and keep strangers out."""

from __future__ import annotations

import shutil
import time

import pytest

from streambus_broker.config.broker import BrokerConfig
from streambus_broker.errors import BrokerError, ConfigError, StoredStateError
from streambus_client import Admin, Consumer, Producer
from streambus_client.errors import ClientError
from tests.cluster.conftest import Cluster, wait_until
from tests.support.ports import free_ports


def values(cluster: Cluster, topic: str, count: int) -> list[bytes]:
    """Read so many records from the beginning."""
    found: list[bytes] = []
    with Consumer(cluster.bootstrap, topic, start="earliest") as consumer:
        ends_s = time.monotonic() + 40  # they may have to wait for a leader
        while len(found) < count and time.monotonic() < ends_s:
            found += [record.value or b"" for record in consumer.poll(timeout=1.0)]
    return found


def test_records_are_on_every_replica_and_survive_their_leader(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3)
    sent = [b"%d" % i for i in range(50)]
    with Producer(cluster.bootstrap, acks="all") as producer:
        for value in sent:
            producer.send("t", value)
        logs = [cluster.broker(n).node.logs["t", 0] for n in cluster.brokers]
        assert {log.next_offset for log in logs} == {50}
        leader, _ = cluster.record("t")
        cluster.stop(leader)
        for value in sent:
            producer.send("t", value)
    assert values(cluster, "t", 100) == sent * 2
    cluster.start(leader)
    cluster.wait_ready()
    wait_until(lambda: len(cluster.record("t")[1]) == 3, "the old leader in sync again")


def test_below_the_minimum_nothing_is_acknowledged(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3,
                           config={"min_insync_replicas": "3"})  # fmt: skip
    leader, _ = cluster.record("t")
    with Producer(cluster.bootstrap, acks="all", delivery_timeout_ms=3000) as producer:
        producer.send("t", b"with three")
        cluster.stop(next(n for n in cluster.brokers if n != leader))
        with pytest.raises(ClientError):
            producer.send("t", b"with two")


def test_a_fourth_broker_joins_and_holds_partitions(cluster: Cluster) -> None:
    (port,) = free_ports(1)
    joining = BrokerConfig(
        data_dir=str(cluster.path / "4"), http="off", node_id=4, listen=f"127.0.0.1:{port}",
        join=cluster.addresses[0], broker_session_ms=4000,
    )  # fmt: skip
    cluster.start(4, joining)
    cluster.wait_ready()
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=4)
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send("t", b"x")
    assert cluster.broker(4).node.logs["t", 0].next_offset == 1


def test_another_brokers_directory_is_refused(cluster: Cluster) -> None:
    cluster.stop(3)
    cluster.stop(2)
    with pytest.raises(StoredStateError, match="belongs to node"):
        cluster.start(3, cluster.config(3, data_dir=str(cluster.path / "2")))


def test_other_voters_are_another_cluster(cluster: Cluster) -> None:
    cluster.stop(3)
    voters = f"{cluster.voters},9@127.0.0.1:1"
    with pytest.raises(StoredStateError, match="other voters"):
        cluster.start(3, cluster.config(3, voters=voters))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"voters": "1@a:1,1@b:2"}, "twice"),
        ({"voters": "1@a:1,2@a:1"}, "twice"),
        ({"voters": "one"}, "ID@HOST:PORT"),
        ({"voters": "1@a:0"}, "port 0"),
        ({"voters": "2@a:1"}, "not among the voters"),
        ({"voters": "1@a:1", "join": "b:2"}, "together with voters"),
    ],
)
def test_a_wrong_configuration_is_refused(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        BrokerConfig(node_id=1, **settings)  # type: ignore[arg-type]  # by name


def test_a_cluster_that_cannot_be_reached_is_named(tmp_path: object) -> None:
    config = BrokerConfig(
        data_dir=f"{tmp_path}/x", http="off", node_id=4, listen="127.0.0.1:0", join="127.0.0.1:1"
    )
    from streambus_broker.embedded import EmbeddedBroker

    with pytest.raises(BrokerError, match=r"cannot join the cluster at 127\.0\.0\.1:1"):
        EmbeddedBroker(config).start()


def test_a_broker_that_lost_its_disk_is_rebuilt(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3)
    sent = [b"%d" % number for number in range(20)]
    with Producer(cluster.bootstrap) as producer:
        for value in sent:
            producer.send("t", value)
    cluster.stop(3)
    shutil.rmtree(cluster.path / "3")
    state = cluster.broker(1).node.state
    wait_until(lambda: state.brokers[3].fenced, "the loss noticed")
    cluster.start(3)
    wait_until(lambda: cluster.broker(3).health().ready, "the empty broker taken in")
    wait_until(lambda: len(cluster.record("t")[1]) == 3, "the empty broker in sync")
    assert cluster.broker(3).node.logs["t", 0].next_offset == 20

    def votes() -> bool:
        membership = cluster.broker(1).group.membership
        return 3 in membership.voters and (
            membership.storage_of(3) == cluster.broker(3).group.storage_id  # type: ignore[arg-type]  # a node id
        )

    wait_until(votes, "a vote of its new disk's, by itself")
