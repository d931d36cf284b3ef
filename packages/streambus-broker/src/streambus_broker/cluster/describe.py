"""The cluster at a glance: members, and partitions that need attention. Pure, over the metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.cluster import votes
from streambus_broker.cluster.election import min_in_sync_of
from streambus_protocol import (
    ClusterMember,
    DescribeClusterResponse,
    ErrorCode,
    PartitionTrouble,
)
from streambus_raft.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.state import ClusterState
    from streambus_broker.metadata.records import PartitionRecord

TROUBLE_MAX = 1_000  # partitions in one answer; the count is told besides


ANSWERING = ("alive", "maintenance", "read_only")
"""States of brokers that have a session and go on."""


def member_state(broker: BrokerRecord) -> str:
    """One word for how a broker stands."""
    if broker.fenced:
        return "fenced"
    if broker.leaving:
        return "leaving"
    if broker.read_only:
        return "read_only"
    return "maintenance" if broker.maintenance else "alive"


def problem_of(record: PartitionRecord, living: set[int], min_in_sync: int) -> str | None:
    """The worst that is wrong with a partition, or None."""
    in_sync = sum(each in living for each in record.in_sync)
    if record.leader < 0:
        return "offline"
    if in_sync < min_in_sync:
        return "under_min_in_sync"
    if record.adding or record.removing:
        return "reassigning"
    return "under_replicated" if in_sync < len(record.replicas) else None


def troubles(state: ClusterState) -> Iterator[PartitionTrouble]:
    """Every partition that needs attention."""
    living = state.living
    for topic in state.topics.values():
        for number, record in enumerate(topic.partitions):
            problem = problem_of(record, living, min_in_sync_of(record, topic.overrides))
            if problem is not None:
                in_sync = tuple(each for each in record.in_sync if each in living)
                yield PartitionTrouble(
                    topic.name, number, problem, record.leader, record.replicas, in_sync,
                    record.adding, record.removing,
                )  # fmt: skip


def describe_cluster(state: ClusterState, group: MetadataGroup) -> DescribeClusterResponse:
    """The answer to DESCRIBE_CLUSTER; before this broker takes part, only what group it is of."""
    try:
        status = group.server.metrics().status
    except StoppedError:
        error, detail = ErrorCode.NO_QUORUM, "this broker is starting"
        return DescribeClusterResponse(error, detail, "", group.name, -1, 0, 0, (), 0, ())
    leaders: dict[int, int] = {}
    replicas: dict[int, int] = {}
    partitions = 0
    for topic in state.topics.values():
        for record in topic.partitions:
            partitions += 1
            leaders[record.leader] = leaders.get(record.leader, 0) + 1
            for each in record.replicas:
                replicas[each] = replicas.get(each, 0) + 1
    membership = status.membership
    members = []
    for broker in sorted(state.brokers.values(), key=lambda each: each.broker_id):
        number = broker.broker_id
        voter = number in membership.voters
        role = "voter" if voter else "learner" if number in membership.members() else "none"
        members.append(
            ClusterMember(
                number,
                broker.host,
                broker.port,
                broker.rack,
                broker.epoch,
                member_state(broker),
                role,
                leaders.get(number, 0),
                replicas.get(number, 0),
                votes.lag(status, number) if group.is_controller else -1,
                votes.pending(state, status, broker) if group.is_controller else None,
                broker.replaced_by,
            )
        )
    trouble = []
    for found in troubles(state):
        trouble.append(found)
        if len(trouble) == TROUBLE_MAX:
            break
    controller = group.controller
    return DescribeClusterResponse(
        0,
        None,
        state.cluster.cluster_id,
        group.name,
        -1 if controller is None else controller,
        group.term,
        state.index,
        tuple(members),
        partitions,
        tuple(trouble),
    )
