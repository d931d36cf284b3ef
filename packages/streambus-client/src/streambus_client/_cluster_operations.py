"""The operations on a cluster's members and replicas. Generators, as in ``_operations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from streambus_client._admin_operations import at_controller
from streambus_protocol import (
    AlterMemberRequest,
    DescribeClusterRequest,
    ElectLeadersRequest,
    PartitionMove,
    ReassignRequest,
    SetReplicationFactorRequest,
)
from streambus_protocol import TopicPartition as NamedPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streambus_client._operations import Operation, Session
    from streambus_client._types import TopicPartition

MemberAction = Literal[
    "promote", "demote", "remove", "transfer", "maintenance_on", "maintenance_off"
]


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A broker of a cluster.

    Attributes:
        state: ``alive``, ``fenced``, ``leaving``, ``maintenance`` or ``read_only`` (its storage
            takes no writes: it leads only where nobody else can).
        role: in the metadata group: ``voter``, ``learner`` or ``none``.
        epoch: of its present or last session.
        leaders: partitions that it leads.
        replicas: partitions that it holds.
        metadata_lag: entries of the metadata that it lacks; -1 where nobody knows.
        pending: what is to become of its role, and what that waits for.
        replaced_by: who takes over from it, -1 for nobody.
    """

    node_id: int
    host: str
    port: int
    rack: str | None
    epoch: int
    state: str
    role: str
    leaders: int
    replicas: int
    metadata_lag: int = -1
    pending: str | None = None
    replaced_by: int = -1


@dataclass(frozen=True, slots=True)
class PartitionTrouble:
    """A partition that needs attention.

    Attributes:
        problem: ``offline``, ``under_min_in_sync``, ``under_replicated`` or ``reassigning``.
        adding: replicas that a reassignment adds.
        removing: replicas that leave when those are in sync.
    """

    topic: str
    partition: int
    problem: str
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """A cluster with its members, as its controller sees it.

    Attributes:
        term: of the metadata group.
        applied: position in the metadata log up to which the controller has applied.
        partition_count: of all topics.
        troubles: partitions that need attention, a thousand at most.
    """

    cluster_id: str
    controller: int
    term: int
    applied: int
    members: tuple[ClusterMember, ...]
    partition_count: int
    troubles: tuple[PartitionTrouble, ...]


@dataclass(frozen=True, slots=True)
class Election:
    """What an election did.

    Attributes:
        elected: how many partitions have another leader now.
        warnings: what an operator must know.
    """

    elected: int
    warnings: tuple[str, ...]


def _code(answer: Any) -> tuple[int, str | None]:
    return answer.error, answer.detail


def describe_cluster(session: Session, deadline: float) -> Operation[ClusterDescription]:
    """Members, and partitions that need attention."""
    request = DescribeClusterRequest()
    answer = yield from at_controller(session, request, "the cluster", _code, deadline)
    return ClusterDescription(
        answer.cluster_id,
        answer.controller,
        answer.term,
        answer.applied,
        tuple(ClusterMember(*member) for member in answer.members),
        answer.partitions,
        tuple(PartitionTrouble(*trouble) for trouble in answer.trouble),
    )


def alter_member(
    session: Session, node_id: int, action: MemberAction, deadline: float
) -> Operation[None]:
    """Change one member."""
    request = AlterMemberRequest(action, node_id, "", 0)
    yield from at_controller(session, request, f"broker {node_id}", _code, deadline)


def reassign(
    session: Session,
    moves: Mapping[TopicPartition, Sequence[int] | None],
    deadline: float,
) -> Operation[None]:
    """Begin or cancel moves of partitions."""
    request = ReassignRequest(
        tuple(
            PartitionMove(where.topic, where.partition, None if to is None else tuple(to))
            for where, to in moves.items()
        )
    )
    subject = ", ".join(map(str, list(moves)[:3]))
    yield from at_controller(session, request, subject, _code, deadline)
    for where in moves:
        session.cluster.mark_stale(where.topic)


def set_replication_factor(
    session: Session, topic: str, factor: int, deadline: float
) -> Operation[None]:
    """Begin to give every partition of a topic so many replicas."""
    request = SetReplicationFactorRequest(topic, factor)
    yield from at_controller(session, request, f"topic {topic!r}", _code, deadline)
    session.cluster.mark_stale(topic)


def elect_leaders(
    session: Session,
    partitions: Iterable[TopicPartition] | None,
    unclean: bool,
    deadline: float,
) -> Operation[Election]:
    """Elect leaders anew."""
    chosen = None
    if partitions is not None:
        chosen = tuple(NamedPartition(where.topic, where.partition) for where in partitions)
    request = ElectLeadersRequest(chosen, unclean)
    answer = yield from at_controller(session, request, "the election", _code, deadline)
    return Election(answer.elected, tuple(answer.warnings))
