"""What a command of the metadata changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streambus_broker.metadata.registry import Changes

if TYPE_CHECKING:
    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.metadata.records import PartitionRecord, TopicRecord


@dataclass(frozen=True, slots=True)
class ClusterChanges(Changes):
    """What a command changes, and what it answers.

    Attributes:
        brokers: Brokers in their new form.
        removed: Brokers that are no more.
        next_producer_id: The first id not yet handed out; None where unchanged.
        settings: The settings of the cluster; None where unchanged.
        answer: What the proposer is told beside success; a value that msgpack holds.
        warnings: Sentences that an operator must see.
    """

    brokers: tuple[BrokerRecord, ...] = ()
    removed: tuple[int, ...] = ()
    next_producer_id: int | None = None
    settings: dict[str, int] | None = None
    answer: Any = None
    warnings: tuple[str, ...] = ()


def with_partitions(topic: TopicRecord, changed: dict[int, PartitionRecord]) -> TopicRecord:
    """The topic with some of its partitions changed."""
    partitions = list(topic.partitions)
    for number, record in changed.items():
        partitions[number] = record
    return replace(topic, partitions=tuple(partitions))
