"""The values that callers receive. All immutable; none holds a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]
"""Record headers: name and value pairs in order; a name may occur more than once."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Write it as ``topic[partition]``."""
        return f"{self.topic}[{self.partition}]"


class RecordMetadata(NamedTuple):
    """Where an acknowledged record is.

    Attributes:
        topic: the topic it was sent to.
        partition: the partition that was chosen.
        offset: its offset; -1 with ``acks=0``, where nobody answers.
        timestamp_ms: its timestamp, milliseconds since 1970-01-01 UTC.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class RecordRange(NamedTuple):
    """Where a run of records that were submitted together is.

    Attributes:
        topic: the topic.
        partition: the partition.
        first_offset: of the first of them; -1 with ``acks=0``.
        record_count: how many, at consecutive offsets.
    """

    topic: str
    partition: int
    first_offset: int
    record_count: int


class Record(NamedTuple):
    """One consumed record.

    Attributes:
        topic: where it came from.
        partition: the same.
        offset: its position in the partition.
        timestamp_ms: milliseconds since 1970-01-01 UTC.
        key: None is no key, which differs from an empty one.
        value: None is no value (a tombstone), which differs from an empty one.
        headers: name and value pairs, in the producer's order.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class RecordColumns(NamedTuple):
    """A batch of consumed records, a column each; all columns have the same length.

    Attributes:
        topic: where they came from.
        partition: the same.
        offsets: ascending; a range where they are consecutive.
        timestamps_ms: milliseconds since 1970-01-01 UTC.
        keys: as in ``Record``.
        values: as in ``Record``.
        headers: as in ``Record``, or None where no record has any.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[tuple[tuple[str, bytes | None], ...]] | None

    def records(self) -> Iterator[Record]:
        """Go through the batch a record at a time."""
        headers = self.headers or [()] * len(self.values)
        for offset, timestamp_ms, key, value, pairs in zip(
            self.offsets, self.timestamps_ms, self.keys, self.values, headers, strict=True
        ):
            yield Record(self.topic, self.partition, offset, timestamp_ms, key, value, pairs)


class Timestamp(NamedTuple):
    """A place to start: the first record at or after this time.

    Attributes:
        ms: milliseconds since 1970-01-01 UTC.
    """

    ms: int


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """One broker of the cluster: its id, and where clients reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How one part of a broker is: ``ok``, ``degraded`` or ``failed``, and why."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """How one broker is, in its own words.

    Attributes:
        node_id: which broker.
        live: it answers.
        ready: it serves.
        uptime_ms: since it started.
        components: its parts.
    """

    node_id: int
    live: bool
    ready: bool
    uptime_ms: int
    components: tuple[ComponentStatus, ...]


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster as one broker sees it.

    Attributes:
        cluster_id: which cluster this is.
        controller: node id of the controller; -1 where none is known.
        brokers: those that are alive, by node id.
        topic_count: how many topics there are.
        partition_count: partitions of all of them.
        offline: partitions without a leader: neither written nor read at the moment.
        under_replicated: partitions with fewer replicas in sync than assigned.
    """

    cluster_id: str
    controller: int
    brokers: tuple[BrokerInfo, ...]
    topic_count: int
    partition_count: int
    offline: tuple[TopicPartition, ...]
    under_replicated: tuple[TopicPartition, ...]

    @property
    def healthy(self) -> bool:
        """Whether every partition has a leader and all its replicas in sync."""
        return not self.offline and not self.under_replicated


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition of a described topic.

    Attributes:
        partition: its number, from 0.
        leader: node id of the leader; -1 where there is none at the moment.
        leader_epoch: grows with every change of leader.
        replicas: node ids that hold it.
        in_sync: those of them that have everything.
        earliest: offset of the first record kept.
        latest: offset that the next record will get.
    """

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    earliest: int
    latest: int


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """One topic in full.

    Attributes:
        name: its name.
        partitions: by number.
        config: the settings that apply, as text.
        config_sources: for each of them ``topic``, ``broker`` or ``default``.
        replication_factor: replicas of each partition.
    """

    name: str
    partitions: tuple[PartitionInfo, ...]
    config: Mapping[str, str]
    config_sources: Mapping[str, str]
    replication_factor: int


@dataclass(frozen=True, slots=True)
class TopicListing:
    """One line of a list of topics."""

    name: str
    partition_count: int
    replication_factor: int


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """The ends of one partition, and optionally the offset for a time.

    Attributes:
        partition: its number.
        earliest: offset of the first record kept.
        latest: offset that the next record will get.
        at_time: offset of the first record at or after the time asked for; None where no time was
            asked for, ``latest`` where there is no such record.
    """

    partition: int
    earliest: int
    latest: int
    at_time: int | None = None
