"""Plans, copies and their progress, settings of the cluster. Generators, as in ``_operations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streambus_client._admin_operations import at_controller, cluster_info
from streambus_client._operations import Call
from streambus_client._types import TopicPartition
from streambus_client.errors import BrokerUnreachableError, ConnectionLostError, error_for
from streambus_protocol import (
    AlterClusterRequest,
    DescribeReplicasRequest,
    RebalanceRequest,
    ReplaceBrokerRequest,
)
from streambus_protocol import TopicPartition as NamedPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streambus_client._operations import Operation, Session


@dataclass(frozen=True, slots=True)
class ReplicaCopy:
    """How far one replica of a partition is.

    Attributes:
        partition: which.
        node_id: the broker that holds it.
        leader: the broker that it copies from.
        state: ``in_sync``, ``copying``, or ``waiting`` (it does not fetch).
        adding: whether a reassignment brings it here.
        copied_bytes: what it has on disk.
        total_bytes: what the leader has; grows while records are written.
        bytes_per_s: how fast it is copied, over the last ten seconds.
    """

    partition: TopicPartition
    node_id: int
    leader: int
    state: str
    adding: bool
    copied_bytes: int
    total_bytes: int
    bytes_per_s: int

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at this rate; None where nothing moves."""
        return _seconds_left(self)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Everything that is copied in a cluster at the moment.

    Attributes:
        copies: replicas that are not in sync yet, or that a reassignment adds.
        copied_bytes: of all of them.
        total_bytes: the same.
        bytes_per_s: the same.
        throttle_bytes_per_s: of each leader; -1 for none.
    """

    copies: tuple[ReplicaCopy, ...]
    copied_bytes: int
    total_bytes: int
    bytes_per_s: int
    throttle_bytes_per_s: int

    @property
    def seconds_left(self) -> float | None:
        """How long all of it takes at this rate; None where nothing moves."""
        return _seconds_left(self)


@dataclass(frozen=True, slots=True)
class ReplicaMove:
    """A partition and its replicas before and after, the preferred leader first."""

    partition: TopicPartition
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterSetting:
    """A setting of the cluster. ``source``: ``cluster``, or ``broker`` where that decides."""

    key: str
    value: str
    source: str


def _seconds_left(copied: ReplicaCopy | CopyProgress) -> float | None:
    missing = copied.total_bytes - copied.copied_bytes
    if not missing:
        return 0.0
    return missing / copied.bytes_per_s if copied.bytes_per_s else None


def _code(answer: Any) -> tuple[int, str | None]:
    return answer.error, answer.detail


def copy_progress(
    session: Session, partitions: Iterable[TopicPartition] | None, deadline: float
) -> Operation[CopyProgress]:
    """Ask every broker how far the copies of what it leads are."""
    info = yield from cluster_info(session, deadline)
    named = None
    if partitions is not None:
        named = tuple(NamedPartition(where.topic, where.partition) for where in partitions)
    found: list[ReplicaCopy] = []
    throttle = -1
    for broker in info.brokers:
        address = session.cluster.brokers.get(broker.node_id)
        if address is None:
            continue
        left_s = max(0.001, min(session.options.request_timeout_s, deadline - session.clock()))
        try:
            answer = yield Call(address, DescribeReplicasRequest(named), left_s)
        except (BrokerUnreachableError, ConnectionLostError):
            continue  # it is going or gone, and leads nothing for long
        if answer.error:
            raise error_for(answer.error, f"broker {broker.node_id}", answer.detail or "")
        throttle = answer.throttle_bytes_per_s
        for place in answer.partitions:
            for each in place.replicas:
                adding = each.broker_id in place.adding
                if each.state == "in_sync" and not adding and named is None:
                    continue
                found.append(
                    ReplicaCopy(
                        TopicPartition(place.topic, place.partition),
                        each.broker_id,
                        place.leader,
                        each.state,
                        adding,
                        each.copied_bytes,
                        each.total_bytes,
                        each.bytes_per_s,
                    )
                )
    return CopyProgress(
        tuple(sorted(found, key=lambda one: (one.partition, one.node_id))),
        sum(one.copied_bytes for one in found),
        sum(one.total_bytes for one in found),
        sum(one.bytes_per_s for one in found),
        throttle,
    )


def rebalance(
    session: Session, dry_run: bool, leaders_only: bool, deadline: float
) -> Operation[tuple[ReplicaMove, ...]]:
    """Spread replicas and leaders evenly."""
    request = RebalanceRequest(dry_run, leaders_only)
    answer = yield from at_controller(session, request, "the cluster", _code, deadline)
    return _moves(answer.moves)


def replace_broker(
    session: Session, action: str, old_id: int, new_id: int, deadline: float
) -> Operation[tuple[ReplicaMove, ...]]:
    """Begin, plan or cancel a replacement."""
    request = ReplaceBrokerRequest(action, old_id, new_id)
    subject = f"replacing broker {old_id}"
    answer = yield from at_controller(session, request, subject, _code, deadline)
    return _moves(answer.moves)


def alter_cluster(
    session: Session, settings: Mapping[str, object | None], deadline: float
) -> Operation[tuple[ClusterSetting, ...]]:
    """Set settings of the cluster, and give all of them."""
    text = {key: None if value is None else str(value) for key, value in settings.items()}
    request = AlterClusterRequest(text)
    answer = yield from at_controller(session, request, "the cluster", _code, deadline)
    return tuple(ClusterSetting(*each) for each in answer.settings)


def _moves(moves: Sequence[Any]) -> tuple[ReplicaMove, ...]:
    return tuple(
        ReplicaMove(TopicPartition(each.topic, each.partition), each.before, each.after)
        for each in moves
    )
