"""A producer that is faster than the disks of a cluster is slowed down, and sees no error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_client import Admin, Producer
from tests.cluster.conftest import running_cluster

if TYPE_CHECKING:
    from pathlib import Path

VALUE = b"x" * 100_000


def test_a_write_stall_is_waited_out(tmp_path: Path) -> None:
    with running_cluster(tmp_path, 1, memtable_bytes=1 << 16) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topic("t", partitions=1, replication_factor=1)
        produce = cluster.broker(1).apis.produce
        sent = 0
        with Producer(cluster.bootstrap, acks=1, retries_max=0) as producer:
            while not produce.stalled:
                futures = [producer.submit("t", VALUE) for _ in range(50)]
                sent += len(futures)
                assert [future.result(60).offset for future in futures][-1] == sent - 1
                assert sent < 20_000
        assert not produce.rejected
