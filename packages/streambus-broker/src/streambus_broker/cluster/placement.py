"""Where new replicas go: spread over racks first, then over brokers, by what they carry. Pure.

Every choice takes the broker that carries least; ties go by number, turned by one place for each
partition, so that equal brokers take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(slots=True)
class Load:
    """What one broker carries.

    Attributes:
        broker_id: The broker.
        rack: Where it stands; brokers without a rack count as racks of their own.
        leaders: Partitions that it is the preferred leader of.
        replicas: Partitions that it holds.
        able: Whether it lives. One that does not is chosen last, and never to lead.
    """

    broker_id: int
    rack: str | None
    able: bool = True
    leaders: int = 0
    replicas: int = 0

    @property
    def site(self) -> str | int:
        """What should not hold two replicas of a partition."""
        return self.broker_id if self.rack is None else self.rack


def measure(
    brokers: Iterable[tuple[int, str | None, bool]], assignments: Iterable[Sequence[int]]
) -> list[Load]:
    """Count what brokers carry.

    Args:
        brokers: Number and rack of each broker that may be chosen, and whether it lives.
        assignments: The replicas of every partition there is, preferred leader first.
    """
    ordered = sorted(brokers, key=lambda each: each[0])
    loads = {broker_id: Load(broker_id, rack, able) for broker_id, rack, able in ordered}
    for replicas in assignments:
        for place, broker_id in enumerate(replicas):
            load = loads.get(broker_id)
            if load is not None:
                load.replicas += 1
                load.leaders += not place
    return list(loads.values())


def place(count: int, factor: int, loads: Sequence[Load], turn: int = 0) -> list[tuple[int, ...]]:
    """Choose the replicas of new partitions; the loads are kept up to date.

    Args:
        count: How many partitions.
        factor: Replicas of each, from 1 to the number of brokers.
        loads: The brokers to choose from.
        turn: Where the turning of ties begins.
    """
    return [extend((), factor, loads, turn + index) for index in range(count)]


def extend(
    replicas: tuple[int, ...], factor: int, loads: Sequence[Load], turn: int = 0
) -> tuple[int, ...]:
    """Add replicas up to ``factor``; those that are there stay."""
    by_id = {load.broker_id: load for load in loads}
    sites = {by_id[each].site for each in replicas if each in by_id}
    chosen = list(replicas)
    ranks = {load.broker_id: rank for rank, load in enumerate(loads)}
    size = len(loads)
    while len(chosen) < factor:
        first = not chosen
        free = [load for load in loads if load.broker_id not in chosen]
        load = min(
            free,
            key=lambda one: (
                not one.able,
                one.site in sites,
                one.leaders if first else one.replicas,
                one.replicas,
                (ranks[one.broker_id] - turn - len(chosen)) % size,
            ),
        )
        load.leaders += first
        load.replicas += 1
        sites.add(load.site)
        chosen.append(load.broker_id)
    return tuple(chosen)


def reduce(replicas: tuple[int, ...], factor: int, leader: int) -> tuple[int, ...]:
    """Take replicas away from the end, down to ``factor``; the leader stays."""
    kept = list(replicas[:factor])
    if leader in replicas and leader not in kept:
        kept[-1] = leader
    return tuple(kept)
