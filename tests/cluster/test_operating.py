"""Operating a cluster by its front doors: the administrator and the command."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from streambus_broker.cluster.member import RemovedBrokerError
from streambus_broker.embedded import EmbeddedBroker
from streambus_broker.log.keys import batch_key
from streambus_client import Admin, Producer, TopicPartition
from streambus_client._cli import cluster as cluster_command
from streambus_client._cli import topic as topic_command
from streambus_client.errors import BrokerError, ClientError
from tests.cluster.conftest import Cluster, wait_for_failure, wait_until
from tests.support.ports import free_ports


def run(command: object, *arguments: str) -> tuple[int, str]:
    """Run a sub-command; exit code and standard output."""
    result = CliRunner().invoke(command.app, list(arguments))  # type: ignore[attr-defined]  # a module
    return result.exit_code, result.stdout


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

        code, output = run(cluster_command, "maintenance", str(leader), *where, "-o", "json")
        assert code == 0
        assert json.loads(output) == {
            "broker": leader, "action": "maintenance_on", "outcome": "is in maintenance"
        }  # fmt: skip
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
        with pytest.raises(BrokerError, match="there is no broker 9 in this cluster"):
            admin.alter_member(9, "remove")
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
    state = cluster.broker(1).node.state
    wait_until(lambda: state.brokers[3].fenced, "the death noticed")
    code, output = run(cluster_command, "health", "-b", cluster.bootstrap, "-o", "json")
    assert code == 8
    away = f"broker 3 at {cluster.addresses[2]} is away: nothing is heard of it"
    assert away in json.loads(output)["problems"]


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


def joined(cluster: Cluster, node_id: int = 4) -> None:
    """Start one more broker, which joins."""
    (port,) = free_ports(1)
    config = cluster.config(1)
    cluster.start(
        node_id,
        dataclasses.replace(
            config, node_id=node_id, voters="", join=cluster.addresses[0],
            listen=f"127.0.0.1:{port}", data_dir=str(cluster.path / str(node_id)),
        ),
    )  # fmt: skip
    cluster.wait_ready()


def test_a_broker_takes_everything_over_from_a_dead_one(cluster: Cluster) -> None:
    joined(cluster)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topic("t", partitions=4, replication_factor=3)
        for number in range(200):
            producer.send("t", b"%d" % number)
        placed = [each.replicas for each in cluster.topic("t").partitions]
        assert any(3 in replicas for replicas in placed)
        cluster.stop(3)
        code, output = run(cluster_command, "replace", "3", "4", "--yes", "-b", cluster.bootstrap)
        assert code == 0, output
        moved = [each.replicas for each in admin.describe_topic("t").partitions]
        for before, after in zip(placed, moved, strict=True):
            assert 3 not in after
            assert len(after) == 3
            if 3 in before and 4 not in before:
                assert after == tuple(4 if each == 3 else each for each in before)
        assert {each.node_id: each.role for each in admin.describe_cluster().members} == (
            dict.fromkeys((1, 2, 4), "voter")
        )
        for number in range(200):
            producer.send("t", b"%d" % number)
    assert run(cluster_command, "check", "-b", cluster.bootstrap)[0] == 0
    ended = wait_for_failure(cluster, 3)
    assert isinstance(ended, RemovedBrokerError)
    assert "was removed from this cluster" in str(ended)


def test_a_replacement_is_planned_and_called_off(cluster: Cluster) -> None:
    joined(cluster)
    where = ("-b", cluster.bootstrap)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topic("t", partitions=1, replication_factor=3)
        placed = cluster.topic("t").partitions[0].replicas
        old = next(each for each in placed if each != cluster.record("t")[0])
        (new,) = {1, 2, 3, 4} - set(placed)
        producer.submit_many("t", [b"x" * 10_000] * 300)
        producer.flush()
        assert run(cluster_command, "settings", *where, "-c",
                   "replication_throttle_bytes_per_s=10KiB")[0] == 0  # fmt: skip
        plan = admin.replace_broker(old, new, dry_run=True)
        assert [set(each.before) - set(each.after) for each in plan] == [{old}]
        assert cluster.topic("t").partitions[0].adding == ()
        with pytest.raises(BrokerError, match="cannot replace itself"):
            admin.replace_broker(old, old)
        with pytest.raises(BrokerError, match="no broker 9"):
            admin.replace_broker(old, 9)
        admin.replace_broker(old, new)

        def copying() -> bool:
            copies = admin.copy_progress().copies
            return bool(copies) and 0 < copies[0].copied_bytes < copies[0].total_bytes

        wait_until(copying, "a part of the copy")
        (copy,) = admin.copy_progress().copies
        assert (copy.node_id, copy.adding, copy.state) == (new, True, "copying")
        assert copy.total_bytes > 3_000_000 > copy.bytes_per_s
        assert admin.copy_progress().throttle_bytes_per_s == 10 * 1024
        code, output = run(cluster_command, "copies", *where)
        assert code == 0
        assert "KiB/s" in output
        described = json.loads(run(topic_command, "describe", "t", *where, "-o", "json")[1])
        (shown,) = described["copies"]
        assert (shown["node_id"], shown["state"]) == (new, "copying")
        (partition,) = described["partitions"]
        assert (partition["adding"], partition["removing"]) == ([new], [old])
        assert "copying" in run(topic_command, "describe", "t", *where)[1]
        assert run(cluster_command, "replace", str(old), "--cancel", *where)[0] == 0
        wait_until(lambda: cluster.topic("t").partitions[0].replicas == placed, "gone back")
        node = cluster.broker(new).node
        wait_until(lambda: not node.replicas, "the copy dropped")
        admin.alter_cluster({"replication_throttle_bytes_per_s": None})
        admin.reassign({TopicPartition("t", 0): (*placed, new)})
        wait_until(lambda: len(cluster.record("t")[1]) == 4, "copied without a limit")
        everywhere = (*placed, new)

        def compared() -> bool:  # only what the new one knows to be committed is compared
            size_bytes, differences = admin.compare_replicas(TopicPartition("t", 0), everywhere)
            assert differences == ()
            return size_bytes > 3_000_000

        wait_until(compared, "everything compared")


def test_a_broker_is_added_and_takes_its_share(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=8, replication_factor=3)
        with pytest.raises(BrokerError, match="no broker 4"):
            admin.alter_member(4, "promote")
        joined(cluster)
        code, output = run(cluster_command, "add", "4", "-b", cluster.bootstrap)
        assert code == 0, output
        plan = admin.rebalance(dry_run=True)
        assert sum(len(set(each.after) - set(each.before)) for each in plan) == 6
        assert all(each.adding == () for each in cluster.topic("t").partitions)
        code, output = run(cluster_command, "rebalance", "-b", cluster.bootstrap)
        assert code == 0, output
        wait_until(
            lambda: {each.replicas for each in admin.describe_cluster().members} == {6},
            "replicas spread",
        )
        wait_until(
            lambda: {each.leaders for each in admin.describe_cluster().members} == {2},
            "leaders spread",
        )
        assert admin.rebalance() == ()


def test_a_replica_that_differs_is_found(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3)
        with Producer(cluster.bootstrap) as producer:
            for number in range(50):
                producer.send("t", b"%d" % number)
        follower = next(each for each in (1, 2, 3) if each != cluster.record("t")[0])
        node = cluster.broker(follower).node
        log = node.logs["t", 0]
        wait_until(lambda: log.high_watermark == 50, "the follower knows the watermark")
        key = batch_key(log.partition_id, 20)
        stored = node.store.tree.get(key)
        other = node.store.tree.get(batch_key(log.partition_id, 21))
        assert stored is not None
        assert other is not None
        node.store.tree.put(key, stored[:32] + other[32:])
        code, output = run(cluster_command, "check", "-b", cluster.bootstrap, "-o", "json")
        assert code == 8
        (row,) = json.loads(output)
        assert (row["broker"], row["offset"]) == (follower, 20)
        assert run(cluster_command, "check", "--quick", "-b", cluster.bootstrap)[0] == 0


def test_topics_have_the_clusters_defaults(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("three")
        assert len(cluster.topic("three").partitions[0].replicas) == 3
        admin.alter_cluster({"default_replication_factor": 2, "default_partitions": 5})
        admin.create_topic("two")
        assert [len(each.replicas) for each in cluster.topic("two").partitions] == [2] * 5
        admin.alter_cluster({"default_replication_factor": 4})
        with pytest.raises(ClientError, match="factor 4, and 3 brokers may take replicas"):
            admin.create_topic("four")
        with pytest.raises(ClientError, match="is not a known setting"):
            admin.alter_cluster({"default_factor": 4})
        admin.alter_cluster({"default_replication_factor": None})
        cluster.stop(3)
        admin.create_topic("while one is away".replace(" ", "-"))
        record = cluster.topic("while-one-is-away").partitions[0]
        assert set(record.replicas) == {1, 2, 3}
        assert set(record.in_sync) == {1, 2}
