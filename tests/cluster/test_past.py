"""A broker that starts goes through the metadata's past again: nothing of that may cost records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_client import Admin, Consumer, Producer, TopicPartition
from tests.cluster.conftest import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Cluster

T0 = TopicPartition("t", 0)


def move(admin: Admin, cluster: Cluster, node_id: int) -> None:
    """Have one broker alone hold the partition, and lead it."""
    admin.reassign({T0: [node_id]})

    def arrived() -> bool:
        (record,) = cluster.topic("t").partitions
        return (record.replicas, record.leader) == ((node_id,), node_id)

    wait_until(arrived, f"the partition on broker {node_id}")


def test_a_partition_that_left_and_came_back_survives_a_restart(cluster: Cluster) -> None:
    """Simulated seed 604124: going away again, in the past, took what had come back."""
    sent = [b"%d" % number for number in range(20)]
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=1)
        with Producer(cluster.bootstrap) as producer:
            for value in sent:
                producer.send("t", value)
        home = cluster.record("t")[0]
        away = home % 3 + 1
        move(admin, cluster, away)
        move(admin, cluster, home)
    cluster.stop(home)
    cluster.start(home)
    cluster.wait_ready()
    with Consumer(cluster.bootstrap) as consumer:
        consumer.assign([T0])
        consumer.seek("t", 0, "earliest")
        found: list[bytes | None] = []
        while len(found) < len(sent):
            records = consumer.poll(timeout=20.0)
            assert records, f"{len(found)} of {len(sent)} records were left"
            found.extend(record.value for record in records)
    assert found == sent
    wait_until(lambda: cluster.broker(away).node.store.partition_ids() == [], "its space back")
