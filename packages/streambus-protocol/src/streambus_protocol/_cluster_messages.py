"""The messages of a cluster: brokers among themselves, its operation, and idempotent producers.

Requests between brokers name the sender with the epoch of its session and its incarnation (random
bytes that only brokers know), so that a stranger cannot pretend to be a replica.
"""

from typing import Annotated, NamedTuple

from streambus_protocol._shape import Int32, Int64, Since, UInt16, UInt32


class NoResponse(NamedTuple):
    """The request is not answered."""


# --- Idempotent producers ------------------------------------------------------------------------


class InitProducerIdRequest(NamedTuple):
    """Ask for a producer id. With an id and epoch of before: for the next epoch of that id."""

    producer_id: Int64
    producer_epoch: Int32


class InitProducerIdResponse(NamedTuple):
    """A producer id that nobody else has, and the epoch to begin with."""

    error: UInt16
    detail: str | None
    producer_id: Int64
    producer_epoch: Int32


class EpochQuery(NamedTuple):
    """Where does ``leader_epoch`` end in this partition?"""

    topic: str
    partition: Int32
    leader_epoch: Int32


class OffsetForLeaderEpochRequest(NamedTuple):
    """Ask leaders where epochs end, to find out whether a log was truncated."""

    partitions: tuple[EpochQuery, ...]


class EpochEndOffset(NamedTuple):
    """The largest epoch at or below the one asked for, and its end; both -1 for none."""

    error: UInt16
    detail: str | None
    leader_epoch: Int32
    end_offset: Int64


class OffsetForLeaderEpochResponse(NamedTuple):
    """The answers, in the request's order."""

    partitions: tuple[EpochEndOffset, ...]


# --- Operating a cluster -------------------------------------------------------------------------


class DescribeClusterRequest(NamedTuple):
    """Ask for members, the metadata group and the partitions that need attention."""


class ClusterMember(NamedTuple):
    """A broker. ``state``: ``alive``, ``fenced``, ``leaving``, ``maintenance`` or ``read_only``.

    ``role`` in the metadata group: ``voter``, ``learner`` or ``none``. ``metadata_lag``: entries of
    the metadata that it has not yet, -1 where the answering broker does not know. ``pending``: what
    is to become of its role, and what that waits for. ``replaced_by``: who takes over from it.
    """

    broker_id: Int32
    host: str
    port: UInt16
    rack: str | None
    epoch: Int64
    state: str
    role: str
    leaders: Int32
    replicas: Int32
    metadata_lag: Annotated[Int64, Since(1)] = -1
    pending: Annotated[str | None, Since(1)] = None
    replaced_by: Annotated[Int32, Since(1)] = -1


class PartitionTrouble(NamedTuple):
    """A partition that needs attention.

    ``problem``: ``offline``, ``under_min_in_sync``, ``under_replicated`` or ``reassigning``.
    """

    topic: str
    partition: Int32
    problem: str
    leader: Int32
    replicas: tuple[Int32, ...]
    in_sync: tuple[Int32, ...]
    adding: tuple[Int32, ...]
    removing: tuple[Int32, ...]


class DescribeClusterResponse(NamedTuple):
    """The cluster as this broker knows it; ``controller`` is -1 while it knows none.

    ``raft_group`` names the metadata group; a broker that joins has to know it.
    """

    error: UInt16
    detail: str | None
    cluster_id: str
    raft_group: str
    controller: Int32
    term: Int64
    applied: Int64
    members: tuple[ClusterMember, ...]
    partitions: Int32
    trouble: tuple[PartitionTrouble, ...]


class AlterMemberRequest(NamedTuple):
    """Change a member.

    ``action``: ``add`` (to the metadata group, as a learner at ``host`` and ``port``), ``promote``
    (to voter, as soon as it has caught up), ``demote``, ``remove``, ``maintenance_on``,
    ``maintenance_off``, ``transfer`` (make it the controller).
    """

    action: str
    broker_id: Int32
    host: str
    port: UInt16


class AlterMemberResponse(NamedTuple):
    """What became of it."""

    error: UInt16
    detail: str | None


class PartitionMove(NamedTuple):
    """The brokers that are to hold a partition; None cancels what is under way."""

    topic: str
    partition: Int32
    replicas: tuple[Int32, ...] | None


class ReassignRequest(NamedTuple):
    """Move partitions in the background, all or none."""

    moves: tuple[PartitionMove, ...]


class ReassignResponse(NamedTuple):
    """Whether it has begun."""

    error: UInt16
    detail: str | None


class SetReplicationFactorRequest(NamedTuple):
    """Give every partition of a topic so many replicas; the cluster chooses where."""

    topic: str
    replication_factor: Int32


class SetReplicationFactorResponse(NamedTuple):
    """Whether it has begun."""

    error: UInt16
    detail: str | None


class TopicPartition(NamedTuple):
    """A partition by name."""

    topic: str
    partition: Int32


class ElectLeadersRequest(NamedTuple):
    """Elect preferred leaders; with ``unclean`` anybody alive, which may lose records."""

    partitions: tuple[TopicPartition, ...] | None
    unclean: bool


class ElectLeadersResponse(NamedTuple):
    """How many partitions have another leader now, and what an operator must know."""

    error: UInt16
    detail: str | None
    elected: Int32
    warnings: tuple[str, ...]


# --- Between brokers -----------------------------------------------------------------------------


class ReplicaPosition(NamedTuple):
    """Where a follower's log of one partition stands.

    ``offset``: its end; ``last_epoch``: of its last record, -1 for none; ``durable``: up to where
    it is synced.
    """

    partition_id: Int64
    leader_epoch: Int32
    offset: Int64
    last_epoch: Int32
    durable: Int64


class ReplicaFetchRequest(NamedTuple):
    """Follow partitions: those whose position changed, those that are followed no more.

    The others of the session (one for each connection) stay as they are. Waits until there is
    something, at most ``wait_max_ms``.
    """

    broker_id: Int32
    broker_epoch: Int64
    incarnation: bytes
    wait_max_ms: UInt32
    bytes_max: UInt32
    partitions: tuple[ReplicaPosition, ...]
    forgotten: tuple[Int64, ...]


class ReplicaData(NamedTuple):
    """What is new in one partition.

    ``diverging_end`` 0 or more: the logs differ; there the leader's part of ``diverging_epoch``
    ends, and nothing else is said.
    """

    partition_id: Int64
    error: UInt16
    leader_epoch: Int32
    high_watermark: Int64
    log_start_offset: Int64
    diverging_epoch: Int32
    diverging_end: Int64
    batches: bytes


class ReplicaFetchResponse(NamedTuple):
    """The partitions that have something new; none where the wait ran out."""

    error: UInt16
    detail: str | None
    partitions: tuple[ReplicaData, ...]


class ReplicaDurable(NamedTuple):
    """A follower has synced a partition up to there."""

    partition_id: Int64
    leader_epoch: Int32
    durable: Int64


class ReplicaProgressRequest(NamedTuple):
    """What a follower has synced since its last fetch; on that fetch's connection, not answered."""

    partitions: tuple[ReplicaDurable, ...]


class BrokerHeartbeatRequest(NamedTuple):
    """A broker lives; to the controller.

    ``time_ms``: what it takes for the time, milliseconds since 1970; -1 where it does not say.
    """

    broker_id: Int32
    broker_epoch: Int64
    incarnation: bytes
    applied: Int64
    time_ms: Annotated[Int64, Since(2)] = -1


class BrokerHeartbeatResponse(NamedTuple):
    """Heard; or why the session is over.

    ``lease_ms``: for how long after it sent the request the broker may act as a leader; -1 where
    the controller does not say, which means its whole session. ``time_ms``: what most brokers take
    for the time; -1 where that is not known.
    """

    error: UInt16
    detail: str | None
    lease_ms: Annotated[Int32, Since(1)] = -1
    time_ms: Annotated[Int64, Since(2)] = -1


class RaftMessagesRequest(NamedTuple):
    """Messages of the metadata group, each as its library encodes it; not answered."""

    sender: Int32
    messages: tuple[bytes, ...]
