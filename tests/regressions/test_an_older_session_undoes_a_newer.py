"""A follower that connected anew stayed out of the in-sync set: its older session ended later.

Found by ``simulate cluster``: the leader noticed the end of the broken connection after the new
one had fetched, and forgot what the follower held. Nothing made the follower say it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_client import Admin, Producer
from tests.cluster.conftest import running_cluster, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_followers_that_connect_anew_again_and_again_stay_in_sync(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topic("t", partitions=1, replication_factor=3)
        leader = cluster.record("t")[0]
        inside = cluster.broker(leader)
        followers = [each for each in cluster.brokers if each != leader]
        with Producer(cluster.bootstrap) as producer:
            for _ in range(5):
                producer.send("t", b"x")
                for follower in followers:
                    node = cluster.broker(follower).node
                    node.loop.call_soon_threadsafe(node.fetchers.reconnect)
        (replica,) = inside.node.replicas.values()
        leading = replica.leading
        assert leading is not None
        wait_until(
            lambda: all(
                known.durable == leading.log_end == 5 for known in leading.followers.values()
            ),
            "every follower known to hold everything",
        )
