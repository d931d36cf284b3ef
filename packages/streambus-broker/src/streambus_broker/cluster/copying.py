"""How far copies of partitions are, in bytes, as their leader knows it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streambus_protocol import PartitionReplicas, ReplicaProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica

WINDOW_S = 10.0
"""Time over which a rate is taken: long enough to be steady, short enough to follow a throttle."""


class Rate:
    """Bytes per second of late. Pure."""

    __slots__ = ("_began_s", "_taken")

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int]] = deque()
        self._began_s = 0.0

    def took(self, size_bytes: int, now_s: float) -> None:
        """Count bytes; those of one moment in one entry."""
        self._forget(now_s)
        if not self._taken:
            self._began_s = now_s
        if self._taken and now_s - self._taken[-1][0] < 0.1:
            at_s, before = self._taken[-1]
            self._taken[-1] = (at_s, before + size_bytes)
        else:
            self._taken.append((now_s, size_bytes))

    def bytes_per_s(self, now_s: float) -> int:
        """The mean over the window, or since the beginning where that is shorter."""
        self._forget(now_s)
        if not self._taken:
            return 0
        span_s = min(WINDOW_S, max(1.0, now_s - self._began_s))
        return int(sum(size for _, size in self._taken) / span_s)

    def _forget(self, now_s: float) -> None:
        while self._taken and self._taken[0][0] < now_s - WINDOW_S:
            self._taken.popleft()


def is_copied(replica: Replica) -> bool:
    """Whether a partition led here is moved, or has a replica that is not in sync."""
    leading, record = replica.leading, replica.record
    if leading is None:
        return False
    return bool(record.adding or record.removing) or len(leading.in_sync) < len(record.replicas)


def progress_of(node: ClusterNode, replica: Replica) -> PartitionReplicas:
    """The replicas of a partition that this broker leads. Cost: a search in the log for each.

    Raises:
        StorageError: The log cannot be read.
    """
    leading, record, log = replica.leading, replica.record, replica.stored.log
    assert leading is not None
    now_s = node.loop.time()
    total_bytes = log.size_bytes
    found = []
    for broker_id in record.replicas:
        if broker_id == leading.broker_id:
            found.append(
                ReplicaProgress(broker_id, "in_sync", leading.durable, total_bytes, total_bytes, 0)
            )
            continue
        follower = leading.followers.get(broker_id)
        offset = -1 if follower is None else follower.durable
        copied_bytes = 0
        if offset >= log.next_offset:
            copied_bytes = total_bytes
        elif offset > log.log_start_offset:
            position = node.store.end_before(log, offset)[1]
            copied_bytes = max(0, position - log.start_position)
        rate = node.sessions.rates.get((log.partition_id, broker_id))
        state = "in_sync" if broker_id in leading.in_sync else "copying"
        if offset < 0:
            state = "waiting"
        found.append(
            ReplicaProgress(
                broker_id, state, offset, copied_bytes, total_bytes,
                0 if rate is None or state != "copying" else rate.bytes_per_s(now_s),
            )
        )  # fmt: skip
    return PartitionReplicas(
        replica.topic, replica.partition, leading.broker_id, tuple(found), record.adding,
        record.removing,
    )  # fmt: skip


def copies(node: ClusterNode) -> Iterator[tuple[PartitionReplicas, ReplicaProgress]]:
    """Every replica that is copied from this broker now, with its partition.

    Raises:
        StorageError: A log cannot be read.
    """
    for replica in node.replicas.values():
        if is_copied(replica):
            partition = progress_of(node, replica)
            for each in partition.replicas:
                if each.state != "in_sync":
                    yield partition, each
