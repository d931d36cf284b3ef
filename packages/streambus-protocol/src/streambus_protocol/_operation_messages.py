"""The messages of operating a cluster at length: copies and their progress, plans, comparisons."""

from typing import NamedTuple

from streambus_protocol._cluster_messages import TopicPartition
from streambus_protocol._shape import Int32, Int64, UInt16, UInt32

# --- Replicas ------------------------------------------------------------------------------------


class DescribeReplicasRequest(NamedTuple):
    """Ask a broker about the replicas of what it leads.

    ``partitions``: which; None for those with a replica that is not in sync, or that is moved.
    """

    partitions: tuple[TopicPartition, ...] | None


class ReplicaProgress(NamedTuple):
    """How far one replica is, as its leader knows it.

    ``state``: ``in_sync``, ``copying``, or ``waiting`` (it does not fetch). ``offset``: up to where
    it has everything on disk, -1 where that is not known. ``copied_bytes`` of ``total_bytes`` are
    there. ``bytes_per_s``: of late.
    """

    broker_id: Int32
    state: str
    offset: Int64
    copied_bytes: Int64
    total_bytes: Int64
    bytes_per_s: Int64


class PartitionReplicas(NamedTuple):
    """The replicas of one partition, the leader's own included.

    ``adding`` and ``removing``: by a reassignment that is under way.
    """

    topic: str
    partition: Int32
    leader: Int32
    replicas: tuple[ReplicaProgress, ...]
    adding: tuple[Int32, ...]
    removing: tuple[Int32, ...]


class DescribeReplicasResponse(NamedTuple):
    """What this broker leads of what was asked for; ``throttle_bytes_per_s`` is -1 for none."""

    error: UInt16
    detail: str | None
    throttle_bytes_per_s: Int64
    partitions: tuple[PartitionReplicas, ...]


class ReplicaDigestRequest(NamedTuple):
    """Ask a broker what its own replica holds between two offsets, committed or not.

    Both are boundaries of batches. Reads ``bytes_max`` and at least one batch; none where the
    offsets are equal.
    """

    topic: str
    partition: Int32
    start_offset: Int64
    stop_offset: Int64
    bytes_max: UInt32


class EpochStart(NamedTuple):
    """A leader epoch, and the offset of its first record."""

    leader_epoch: Int32
    start_offset: Int64


class ReplicaDigestResponse(NamedTuple):
    """The replica's ends and epochs, and a digest of the batches before ``next_offset``.

    ``digest``: XXH3-64 over the batches as they are stored, as 8 bytes, most significant first.
    """

    error: UInt16
    detail: str | None
    log_start_offset: Int64
    high_watermark: Int64
    log_end_offset: Int64
    epochs: tuple[EpochStart, ...]
    next_offset: Int64
    batches: Int64
    size_bytes: Int64
    digest: bytes


# --- Plans ---------------------------------------------------------------------------------------


class PlannedMove(NamedTuple):
    """The replicas of a partition before and after, the preferred leader first."""

    topic: str
    partition: Int32
    before: tuple[Int32, ...]
    after: tuple[Int32, ...]


class RebalanceRequest(NamedTuple):
    """Spread replicas and preferred leaders evenly, with as few moves as possible.

    ``dry_run``: only say how. ``leaders_only``: move no replica.
    """

    dry_run: bool
    leaders_only: bool


class RebalanceResponse(NamedTuple):
    """The plan, begun unless it was a dry run; how many partitions have another leader already."""

    error: UInt16
    detail: str | None
    moves: tuple[PlannedMove, ...]
    elected: Int32


class ReplaceBrokerRequest(NamedTuple):
    """Have another broker take everything over from one, which is removed at the end.

    ``action``: ``begin``, ``plan`` (only say how) or ``cancel`` (``new_id`` is not looked at).
    """

    action: str
    old_id: Int32
    new_id: Int32


class ReplaceBrokerResponse(NamedTuple):
    """What is moved, or what was called off."""

    error: UInt16
    detail: str | None
    moves: tuple[PlannedMove, ...]


# --- Settings of the cluster ---------------------------------------------------------------------


class AlterClusterRequest(NamedTuple):
    """Set settings of the whole cluster; None as a value takes one back. Empty: only ask."""

    settings: dict[str, str | None]


class ClusterSetting(NamedTuple):
    """A setting in force. ``source``: ``cluster`` or ``broker`` (the one that answers)."""

    key: str
    value: str
    source: str


class AlterClusterResponse(NamedTuple):
    """All the settings of the cluster, as they are now."""

    error: UInt16
    detail: str | None
    settings: tuple[ClusterSetting, ...]
