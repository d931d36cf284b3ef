"""Operating a cluster by its front doors: the administrator and the command."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from streambus_broker.embedded import EmbeddedBroker
from streambus_client import Admin, Producer, TopicPartition
from streambus_client._cli import cluster as cluster_command
from streambus_client._cli import topic as topic_command
from streambus_client.errors import BrokerError
from tests.cluster.conftest import Cluster, wait_until


def run(command: object, *arguments: str) -> tuple[int, str]:
    """Run a sub-command; exit code and output."""
    result = CliRunner().invoke(command.app, list(arguments))  # type: ignore[attr-defined]  # a module
    return result.exit_code, result.output


def test_a_cluster_is_operated_by_its_commands(cluster: Cluster) -> None:
    where = ("-b", cluster.bootstrap)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topic("t", partitions=1, replication_factor=2)
        for number in range(20):
            producer.send("t", b"%d" % number)
        leader, in_sync = cluster.record("t")
        (other,) = (each for each in in_sync if each != leader)
        (outside,) = {1, 2, 3} - set(in_sync)

        code, output = run(cluster_command, "members", *where, "-o", "json")
        members = json.loads(output)
        assert code == 0
        assert {each["node_id"]: each["role"] for each in members} == dict.fromkeys(
            (1, 2, 3), "voter"
        )

        assert run(cluster_command, "maintenance", str(leader), *where)[0] == 0
        wait_until(lambda: cluster.record("t")[0] == other, "leadership moved away")
        assert run(cluster_command, "maintenance", str(leader), "--off", *where)[0] == 0
        assert run(cluster_command, "rebalance", *where)[0] == 0
        wait_until(lambda: cluster.record("t")[0] == leader, "leadership given back")

        moved = f"0:{outside},{leader}"
        assert run(topic_command, "alter", "t", "--assignment", moved, *where)[0] == 0
        wait_until(lambda: set(cluster.record("t")[1]) == {outside, leader}, "replica moved")
        log = cluster.broker(outside).node.logs["t", 0]
        wait_until(lambda: log.next_offset == 20, "records copied")
        assert run(topic_command, "alter", "t", "-r", "3", *where)[0] == 0
        wait_until(lambda: len(cluster.record("t")[1]) == 3, "third replica")
        assert run(cluster_command, "check", *where)[0] == 0

        with pytest.raises(BrokerError, match="not in this cluster"):
            admin.reassign({TopicPartition("t", 0): (1, 9)})
        with pytest.raises(BrokerError, match="holds 1 partitions"):
            admin.alter_member(outside, "remove")
        with pytest.raises(BrokerError, match="no reassignment"):
            admin.reassign({TopicPartition("t", 0): None})
    controller = cluster.broker(1).group.controller
    successor = next(each for each in (1, 2, 3) if each != controller)
    assert run(cluster_command, "transfer-leader", str(successor), *where)[0] == 0
    wait_until(lambda: cluster.broker(1).group.controller == successor, "controller moved")


def test_a_dead_broker_shows_in_the_check(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=2, replication_factor=3)
    cluster.stop(3)
    code, output = run(cluster_command, "check", "-b", cluster.bootstrap, "-o", "json")
    assert code == 8
    assert {each["problem"] for each in json.loads(output)} == {"under_replicated"}


def test_the_metrics_tell_of_replication(cluster: Cluster) -> None:
    from streambus_broker.observe.metrics import Metrics

    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3)
    with Producer(cluster.bootstrap) as producer:
        producer.send("t", b"x")
    leader = cluster.record("t")[0]
    metrics = Metrics(cluster.broker(leader))
    small, detail = metrics.page("small").decode(), metrics.page("detail").decode()
    assert "streambus_partitions_led 1.0" in small
    assert 'streambus_brokers{state="alive"} 3.0' in small
    assert 'streambus_troubled_partitions{problem="offline"} 0.0' in small
    assert detail.count("streambus_replica_lag_records{") == 2
    assert "kafka_brokers 3.0" in metrics.page("kafka").decode()


def test_a_broker_on_its_own_is_all_of_its_cluster() -> None:
    with EmbeddedBroker() as broker, Admin(broker.address) as admin:
        admin.create_topic("t", partitions=3)
        described = admin.describe_cluster()
        assert [(each.node_id, each.state, each.leaders) for each in described.members] == [
            (described.controller, "alive", 3)
        ]
        assert described.troubles == ()
