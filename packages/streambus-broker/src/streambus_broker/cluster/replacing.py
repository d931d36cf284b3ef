"""One broker takes everything over from another: pure functions over the metadata.

Beginning moves every replica of the old broker to the new one, in its place among the replicas, so
that preferred leadership goes along; a partition that the new one holds already gets another
broker. The old broker is marked, which keeps new replicas away from it. When it holds nothing any
more the controller gives its vote to the new one and removes it (see `votes`). Until then it can
be called off: what is not finished goes back, what is finished stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster import election, placement, reassignment
from streambus_broker.cluster.brokers import NOBODY
from streambus_broker.cluster.changes import ClusterChanges, with_partitions
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.cluster import commands as c
    from streambus_broker.cluster.state import ClusterState
    from streambus_broker.metadata.records import PartitionRecord


class Move(NamedTuple):
    """A partition and the replicas that it is to have."""

    topic: str
    number: int
    record: PartitionRecord
    target: tuple[int, ...]


def plan(state: ClusterState, old_id: int, new_id: int) -> list[Move]:
    """Where everything that a broker holds is to go.

    Raises:
        CommandError: One of the two is unknown, the new one cannot take replicas, or a partition
            that it holds already finds no other broker.
    """
    old, new = state.broker(old_id), state.broker(new_id)
    if old_id == new_id:
        raise _refused(f"broker {old_id} cannot replace itself; name another one")
    if not new.leads or not new.takes_replicas:
        raise _refused(
            f"broker {new_id} cannot take over: it has no session, is in maintenance, or is being"
            " replaced itself"
        )
    if old.replaced_by not in (NOBODY, new_id):
        raise _refused(f"broker {old_id} is being replaced by {old.replaced_by}; cancel that first")
    if any(each.replaced_by == old_id for each in state.brokers.values()):
        raise _refused(f"broker {old_id} is just replacing another one; cancel that first")
    loads = [each for each in state.loads() if each.able and each.broker_id != old_id]
    moves = []
    for name, number, record in held_by(state, old_id):
        now = reassignment.target_of(record)
        if old_id not in now:
            continue  # it is on its way out already
        if new_id not in now:
            target = tuple(new_id if each == old_id else each for each in now)
        else:
            rest = tuple(each for each in now if each != old_id)
            if not any(each.broker_id not in rest for each in loads):
                raise _refused(
                    f"broker {new_id} holds {name}[{number}] already, and there is no other broker"
                    f" that could take it over from {old_id}; add one, or lower the replication"
                    " factor"
                )
            (fresh,) = set(placement.extend(rest, len(now), loads)) - set(rest)
            target = tuple(fresh if each == old_id else each for each in now)
        moves.append(Move(name, number, record, target))
    return moves


def begin(state: ClusterState, command: c.ReplaceBroker) -> ClusterChanges:
    """Begin to replace a broker; again, for what was placed on it meanwhile.

    Raises:
        CommandError: As `plan`.
    """
    changed: dict[str, dict[int, PartitionRecord]] = {}
    moves = plan(state, command.old_id, command.new_id)
    for name, number, record, target in moves:
        overrides = state.topics[name].overrides
        moved = reassignment.begin(record, target, state.electable(), overrides)
        changed.setdefault(name, {})[number] = moved
    old = replace(state.broker(command.old_id), replaced_by=command.new_id)
    topics = tuple(with_partitions(state.topics[name], some) for name, some in changed.items())
    return ClusterChanges(topics, brokers=(old,), answer=len(moves))


def cancelled(state: ClusterState, old_id: int) -> list[Move]:
    """What goes back if a replacement is called off.

    Raises:
        CommandError: The broker is unknown, or not being replaced.
    """
    if state.broker(old_id).replaced_by == NOBODY:
        raise CommandError(ErrorCode.NO_REASSIGNMENT, f"broker {old_id} is not being replaced")
    return [
        Move(name, number, record, _back(record, old_id))
        for name, number, record in held_by(state, old_id)
        if old_id in record.removing
    ]


def cancel(state: ClusterState, command: c.CancelReplace) -> ClusterChanges:
    """Call a replacement off.

    Raises:
        CommandError: As `cancelled`.
    """
    changed: dict[str, dict[int, PartitionRecord]] = {}
    moves = cancelled(state, command.old_id)
    for name, number, record, before in moves:
        ordered = record._replace(replicas=(*before, *record.adding))
        changed.setdefault(name, {})[number] = reassignment.cancel(
            election.with_in_sync(ordered, record.in_sync),
            state.electable(),
            state.topics[name].overrides,
        )
    old = replace(state.broker(command.old_id), replaced_by=NOBODY)
    topics = tuple(with_partitions(state.topics[name], some) for name, some in changed.items())
    return ClusterChanges(topics, brokers=(old,), answer=len(moves))


def _back(record: PartitionRecord, old_id: int) -> tuple[int, ...]:
    """The replicas as they were, each in its place: the old broker where the new one stands."""
    settled = reassignment.settled(record)
    back = tuple(
        old_id if each in record.adding else each for each in reassignment.target_of(record)
    )
    return back if sorted(back) == sorted(settled) else settled


def held_by(state: ClusterState, broker_id: int) -> Iterator[tuple[str, int, PartitionRecord]]:
    """The partitions that a broker holds."""
    for topic in state.topics.values():
        for number, record in enumerate(topic.partitions):
            if broker_id in record.replicas:
                yield topic.name, number, record


def _refused(problem: str) -> CommandError:
    return CommandError(ErrorCode.INVALID_REQUEST, problem)
