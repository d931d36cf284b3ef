"""The requests and responses, one NamedTuple each; ``_apis`` says which belong together.

Answers about several topics or partitions stand in the order in which the request named them, so
names are not repeated. Every ``error`` is an ErrorCode number; every ``detail`` is a sentence for a
person, or None.
"""

from typing import Annotated, NamedTuple

from streambus_protocol._shape import Int8, Int16, Int32, Int64, Since, UInt16, UInt32

EARLIEST = -2
"""ListOffsets timestamp: the first offset that is kept."""
LATEST = -1
"""ListOffsets timestamp: the offset that the next readable record will have."""
MAX_TIMESTAMP = -3
"""ListOffsets timestamp: the record with the largest timestamp."""

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1


class ErrorResponse(NamedTuple):
    """The body of a frame with the ERROR flag: the request as a whole was not served."""

    error: UInt16
    detail: str | None


# --- Handshake: the first request of every connection -------------------------------------------


class ApiRange(NamedTuple):
    """The versions of one API that a side speaks, both ends included."""

    api: UInt16
    version_min: UInt16
    version_max: UInt16


class HandshakeRequest(NamedTuple):
    """Who the client is. ``cluster_id`` None accepts any cluster."""

    client_name: str
    client_version: str
    cluster_id: str | None


class HandshakeResponse(NamedTuple):
    """What the broker is and speaks. ``frame_bytes_max`` holds from here on."""

    error: UInt16
    detail: str | None
    cluster_id: str
    broker_id: Int32
    broker_version: str
    frame_bytes_max: UInt32
    apis: tuple[ApiRange, ...]


# --- Metadata ------------------------------------------------------------------------------------


class BrokerInfo(NamedTuple):
    """A broker and the address at which clients reach it."""

    broker_id: Int32
    host: str
    port: UInt16
    rack: str | None


class PartitionInfo(NamedTuple):
    """Who serves a partition. ``leader`` is -1 while there is none."""

    error: UInt16
    partition: Int32
    leader: Int32
    leader_epoch: Int32
    replicas: tuple[Int32, ...]
    in_sync: tuple[Int32, ...]


class TopicInfo(NamedTuple):
    """A topic as the metadata knows it; no partitions where ``error`` is set."""

    error: UInt16
    name: str
    topic_id: bytes
    partitions: tuple[PartitionInfo, ...]


class MetadataRequest(NamedTuple):
    """Ask about the topics named, or with None about all."""

    topics: tuple[str, ...] | None


class MetadataResponse(NamedTuple):
    """The cluster as this broker knows it. ``controller`` is -1 while there is none."""

    cluster_id: str
    controller: Int32
    brokers: tuple[BrokerInfo, ...]
    topics: tuple[TopicInfo, ...]


# --- Produce and fetch ---------------------------------------------------------------------------


class ProducePartition(NamedTuple):
    """One batch for one partition."""

    topic: str
    partition: Int32
    batch: bytes


class ProduceRequest(NamedTuple):
    """Append batches. ``acks``: 0 (no response at all), 1 (written), -1 (durable on all in sync).

    ``timeout_ms`` bounds how long an acknowledgement by all may take.
    """

    acks: Int8
    timeout_ms: UInt32
    partitions: tuple[ProducePartition, ...]


class ProducedPartition(NamedTuple):
    """What became of one batch: its first offset, or an error.

    ``append_time_ms`` is -1 unless the leader set the timestamps.
    """

    error: UInt16
    detail: str | None
    base_offset: Int64
    append_time_ms: Int64
    log_start_offset: Int64


class ProduceResponse(NamedTuple):
    """The answers, in the request's order."""

    throttle_ms: UInt32
    partitions: tuple[ProducedPartition, ...]


class FetchPartition(NamedTuple):
    """Read one partition from ``offset`` on. ``leader_epoch`` -1: not checked."""

    topic: str
    partition: Int32
    offset: Int64
    leader_epoch: Int32
    bytes_max: UInt32


class FetchRequest(NamedTuple):
    """Read several partitions; wait until ``bytes_min`` are there, at most ``wait_max_ms``.

    ``bytes_max`` bounds the whole answer, except that one batch always fits. Whoever names its
    ``rack`` may be sent on to a replica there, and be served by a follower (KIP-392).
    """

    wait_max_ms: UInt32
    bytes_min: UInt32
    bytes_max: UInt32
    partitions: tuple[FetchPartition, ...]
    rack: Annotated[str | None, Since(1)] = None


class FetchedPartition(NamedTuple):
    """Whole batches, one behind the other; the first may begin before the offset asked for.

    With a ``preferred_read_replica`` there are none: go on reading from that broker. -1: go on
    here.
    """

    error: UInt16
    detail: str | None
    high_watermark: Int64
    log_start_offset: Int64
    batches: bytes
    preferred_read_replica: Annotated[Int32, Since(1)] = -1


class FetchResponse(NamedTuple):
    """The answers, in the request's order."""

    throttle_ms: UInt32
    partitions: tuple[FetchedPartition, ...]


class OffsetQuery(NamedTuple):
    """Which offset: EARLIEST, LATEST, MAX_TIMESTAMP, or the first at or after ``timestamp_ms``."""

    topic: str
    partition: Int32
    timestamp_ms: Int64


class ListOffsetsRequest(NamedTuple):
    """Ask for offsets by time."""

    partitions: tuple[OffsetQuery, ...]


class FoundOffset(NamedTuple):
    """The offset and its record's timestamp; both -1 where no record is that late."""

    error: UInt16
    detail: str | None
    offset: Int64
    timestamp_ms: Int64
    leader_epoch: Int32


class ListOffsetsResponse(NamedTuple):
    """The answers, in the request's order."""

    partitions: tuple[FoundOffset, ...]


# --- Topics --------------------------------------------------------------------------------------


class NewTopic(NamedTuple):
    """A topic to create. ``replication_factor`` -1: the cluster's default.

    ``topic_id``: 16 bytes that no other topic has; none: the broker draws them. Who asks again,
    because it was not answered, says the same ones: if its topic was made by then, that is fine.
    """

    name: str
    partitions: Int32
    replication_factor: Int16
    config: dict[str, str]
    topic_id: Annotated[bytes, Since(1)] = b""


class CreateTopicsRequest(NamedTuple):
    """Create topics, or with ``validate_only`` say whether they could be."""

    topics: tuple[NewTopic, ...]
    timeout_ms: UInt32
    validate_only: bool


class TopicResult(NamedTuple):
    """What became of one topic."""

    error: UInt16
    detail: str | None


class CreateTopicsResponse(NamedTuple):
    """The answers, in the request's order."""

    topics: tuple[TopicResult, ...]


class DeleteTopicsRequest(NamedTuple):
    """Delete topics with all their records, or say whether they could be.

    ``topic_ids``: of these topics, in their order, or none. A topic with another id is not meant:
    it was made since, and is left alone.
    """

    topics: tuple[str, ...]
    timeout_ms: UInt32
    validate_only: bool
    topic_ids: Annotated[tuple[bytes, ...], Since(1)] = ()


class DeleteTopicsResponse(NamedTuple):
    """The answers, in the request's order."""

    topics: tuple[TopicResult, ...]


class TopicAlteration(NamedTuple):
    """A change: more partitions (-1: as many as now), and settings (None: back to the default)."""

    name: str
    partitions: Int32
    config: dict[str, str | None]


class AlterTopicsRequest(NamedTuple):
    """Change topics; each change is carried out whole or not at all."""

    topics: tuple[TopicAlteration, ...]
    timeout_ms: UInt32
    validate_only: bool


class AlterTopicsResponse(NamedTuple):
    """The answers, in the request's order."""

    topics: tuple[TopicResult, ...]


class TopicSetting(NamedTuple):
    """A setting in force. ``source``: ``topic``, ``broker`` or ``default``."""

    name: str
    value: str
    source: str


class TopicSettings(NamedTuple):
    """All the settings of one topic, and its id."""

    error: UInt16
    detail: str | None
    settings: tuple[TopicSetting, ...]
    topic_id: Annotated[bytes, Since(1)] = b""


class DescribeTopicsRequest(NamedTuple):
    """Ask for the settings of topics."""

    topics: tuple[str, ...]


class DescribeTopicsResponse(NamedTuple):
    """The answers, in the request's order."""

    topics: tuple[TopicSettings, ...]


# --- Cluster -------------------------------------------------------------------------------------


class HealthRequest(NamedTuple):
    """Ask this broker how it is."""


class ComponentHealth(NamedTuple):
    """One part of a broker. ``status``: ``ok``, ``degraded`` or ``failed``."""

    name: str
    status: str
    reason: str | None


class HealthResponse(NamedTuple):
    """How this broker is, part by part."""

    broker_id: Int32
    live: bool
    ready: bool
    uptime_ms: Int64
    components: tuple[ComponentHealth, ...]
