"""Comparing the replicas of a partition with each other. Generators, as in ``_operations``.

What is committed must be the same on every replica, to the byte: batches are copied as they are.
Compared is what all of them hold and know to be committed, by digests of ranges; where two differ
the range is divided until the batch is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streambus_client._operations import Call
from streambus_client.errors import ClientError
from streambus_protocol import ReplicaDigestRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_client._operations import Operation, Session
    from streambus_client._types import TopicPartition

RANGE_BYTES = 8 * 1024 * 1024
"""Read by one request: a few milliseconds of a broker's time."""
ANSWER_S = 30.0
"""For one range; a broker that does not answer by then is told of."""
DIFFERENCES_MAX = 10
"""Told of one partition; what follows the first ones seldom says more."""


@dataclass(frozen=True, slots=True)
class ReplicaDifference:
    """What is wrong with a replica.

    Attributes:
        partition: which.
        node_id: the broker that holds it.
        problem: in words.
        offset: where, -1 where that does not say anything.
    """

    partition: TopicPartition
    node_id: int
    problem: str
    offset: int


def compare_replicas(
    session: Session, partition: TopicPartition, replicas: Sequence[int], deadline: float
) -> Operation[tuple[int, tuple[ReplicaDifference, ...]]]:
    """Compare replicas; give the bytes that were compared, and the differences.

    A replica that cannot be asked, or that is damaged, is a difference too.
    """
    found: list[ReplicaDifference] = []

    def ask(node_id: int, start: int, stop: int, bytes_max: int) -> Operation[Any]:
        address = session.cluster.brokers.get(node_id)
        problem = f"broker {node_id} does not live"
        if address is not None:
            request = ReplicaDigestRequest(
                partition.topic, partition.partition, start, stop, bytes_max
            )
            left_s = max(0.001, min(ANSWER_S, deadline - session.clock()))
            try:
                answer = yield Call(address, request, left_s)
            except ClientError as error:
                problem = str(error)
            else:
                if not answer.error:
                    return answer
                problem = answer.detail or f"error {answer.error}"
                found.append(ReplicaDifference(partition, node_id, problem, answer.next_offset))
                return None
        found.append(ReplicaDifference(partition, node_id, problem, -1))
        return None

    ends = {}
    for node_id in replicas:
        answer = yield from ask(node_id, 0, 0, 1)
        if answer is not None:
            ends[node_id] = answer
    if len(ends) < 2:
        return 0, tuple(found)
    first, *others = ends
    start = max(each.log_start_offset for each in ends.values())
    stop = min(each.high_watermark for each in ends.values())
    found += _other_epochs(partition, ends, start, stop)
    compared_bytes, step = 0, RANGE_BYTES
    while start < stop and len(found) < DIFFERENCES_MAX and others:
        mine = yield from ask(first, start, stop, step)
        if mine is None:
            return compared_bytes, tuple(found)
        differ = []
        for node_id in list(others):
            theirs = yield from ask(node_id, start, mine.next_offset, 2**32 - 1)
            if theirs is None:
                others.remove(node_id)
            elif theirs.digest != mine.digest:
                differ.append(node_id)
        if differ and mine.batches > 1:
            step = max(1, mine.size_bytes // 16)
            continue
        found += [
            ReplicaDifference(
                partition, node_id, f"holds another batch than broker {first} there", start
            )
            for node_id in differ
        ]
        compared_bytes += mine.size_bytes
        start = mine.next_offset
        if not differ:
            step = min(RANGE_BYTES, step * 4)
    return compared_bytes, tuple(found)


def _other_epochs(
    partition: TopicPartition, ends: dict[int, Any], start: int, stop: int
) -> list[ReplicaDifference]:
    """Replicas that tell other leader epochs between two offsets than the first one does."""
    first, *others = ends
    known = _epochs(ends[first], start, stop)
    return [
        ReplicaDifference(
            partition, node_id, f"tells other leader epochs than broker {first}", start
        )
        for node_id in others
        if _epochs(ends[node_id], start, stop) != known
    ]


def _epochs(answer: Any, start: int, stop: int) -> list[tuple[int, int]]:
    """Epochs that have records there, with where they begin, but not before ``start``."""
    ordered = [*answer.epochs]
    ends = [each.start_offset for each in ordered[1:]] + [stop]
    return (
        [
            (each.leader_epoch, max(start, each.start_offset))
            for each, end in zip(ordered, ends, strict=True)
            if each.start_offset < stop and end > start
        ]
        if ordered
        else []
    )
