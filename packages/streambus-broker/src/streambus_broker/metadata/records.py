"""What the cluster knows: immutable records and their stored form (msgpack arrays).

A field added later stands at the end and has a default, so that a newer broker reads what an older
one wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

import msgpack

FORMAT_VERSION = 1
"""Version of everything under the data directory; a broker refuses any other."""


class PartitionRecord(NamedTuple):
    """One partition. A tuple: a death changes ten thousand of them at once.

    Attributes:
        partition_id: Number within the cluster, from 1, never reused.
        replicas: Brokers that hold it, the preferred leader first.
        leader: Broker that leads it; -1 while there is none.
        leader_epoch: Rises with every change of leader, and with every start of the only one.
        in_sync: Replicas that have everything up to the high watermark.
        partition_epoch: Rises with every change of the record; requests to change it name it.
        adding: Replicas that a reassignment adds; they are among ``replicas``.
        removing: Replicas that leave when those are in sync; they are among ``replicas`` too.
    """

    partition_id: int
    replicas: tuple[int, ...]
    leader: int
    leader_epoch: int
    in_sync: tuple[int, ...]
    partition_epoch: int = 0
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One topic.

    Attributes:
        name: Its name.
        topic_id: 16 random bytes: a topic created again under the same name has others.
        partitions: Its partitions, by number.
        overrides: Settings that differ from the broker's defaults, already typed.
    """

    name: str
    topic_id: bytes
    partitions: tuple[PartitionRecord, ...]
    overrides: dict[str, int | bool | str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Encode the record."""
        packed: bytes = msgpack.packb([self.name, self.topic_id, self.partitions, self.overrides])
        return packed

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Decode a record.

        Raises:
            ValueError: It is not one.
        """
        try:
            name, topic_id, partitions, overrides = msgpack.unpackb(data)[:4]
            return cls(name, topic_id, tuple(map(_partition, partitions)), overrides)
        except (TypeError, ValueError, msgpack.UnpackException) as exc:
            raise ValueError(f"not a topic record: {exc}") from exc


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """What is known once for the whole cluster.

    Attributes:
        cluster_id: Random text that keeps strangers out.
        next_partition_id: The id that the next new partition will have.
        generation: How often the only broker has started; its leader epoch on a single node.
        reclaiming: Partitions of deleted topics whose records are not yet removed.
        next_producer_id: Where the next block of producer ids begins, on a single node.
    """

    cluster_id: str
    next_partition_id: int = 1
    generation: int = 0
    reclaiming: tuple[int, ...] = ()
    next_producer_id: int = 1

    def encode(self) -> bytes:
        """Encode the record."""
        packed: bytes = msgpack.packb(_row(self))
        return packed

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Decode a record.

        Raises:
            ValueError: It is not one.
        """
        try:
            cluster_id, next_partition_id, generation, reclaiming, *more = msgpack.unpackb(data)
            return cls(cluster_id, next_partition_id, generation, tuple(reclaiming), *more[:1])
        except (TypeError, ValueError, msgpack.UnpackException) as exc:
            raise ValueError(f"not a cluster record: {exc}") from exc


def _row(record: Any) -> list[Any]:
    return [getattr(record, each.name) for each in fields(record)]


def _partition(row: list[Any]) -> PartitionRecord:
    values: list[Any] = [tuple(each) if isinstance(each, list) else each for each in row[:8]]
    return PartitionRecord(*values)
