"""Spreading what there is evenly over the brokers, with as few moves as possible. Pure.

First replicas: as long as one broker holds at least two more than another, one of them moves, a
follower rather than a preferred leader, and never so that a rack gets a second replica of a
partition that had them on different racks. Then preferred leaders: they change places with another
replica of their partition, along a chain of partitions where need be, which copies nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streambus_broker.cluster.placement import Load

Where = tuple[str, int]
"""Topic and partition."""


def rebalance(
    loads: list[Load], assignments: Mapping[Where, tuple[int, ...]], *, leaders_only: bool = False
) -> dict[Where, tuple[int, ...]]:
    """The partitions that are to have other replicas, or their replicas in another order.

    Args:
        loads: The brokers that may take part; others keep what they have.
        assignments: The replicas of each partition, the preferred leader first.
        leaders_only: Move no replica.
    """
    planned = dict(assignments)
    sites = {load.broker_id: load.site for load in loads}
    if not leaders_only:
        while _move_one(planned, sites):
            pass
    while _hand_on_one(planned, sites):
        pass
    return {where: now for where, now in planned.items() if now != assignments[where]}


def _move_one(planned: dict[Where, tuple[int, ...]], sites: Mapping[int, str | int]) -> bool:
    """Move one replica from a broker that holds more to one that holds less, if that helps."""
    counts = dict.fromkeys(sites, 0)
    for replicas in planned.values():
        for each in replicas:
            if each in counts:
                counts[each] += 1
    ordered = sorted(sites, key=lambda each: (counts[each], each))
    for full in reversed(ordered):
        held = sorted(
            (where for where, replicas in planned.items() if full in replicas),
            key=lambda where: (planned[where][0] == full, where),
        )
        for spare in ordered:
            if counts[full] - counts[spare] < 2:
                break
            for where in held:
                replicas = planned[where]
                if spare not in replicas and _keeps_racks(replicas, full, spare, sites):
                    planned[where] = tuple(spare if each == full else each for each in replicas)
                    return True
    return False


def _keeps_racks(
    replicas: tuple[int, ...], leaves: int, comes: int, sites: Mapping[int, str | int]
) -> bool:
    before = {sites.get(each, each) for each in replicas}
    after = {sites.get(comes if each == leaves else each, each) for each in replicas}
    return len(after) >= len(before)


def _hand_on_one(planned: dict[Where, tuple[int, ...]], sites: Mapping[int, str | int]) -> bool:
    """Hand one preferred leadership on, along the shortest chain that evens the counts."""
    counts = dict.fromkeys(sites, 0)
    led: dict[int, list[Where]] = {each: [] for each in sites}
    for where, replicas in planned.items():
        if replicas[0] in counts:
            counts[replicas[0]] += 1
            led[replicas[0]].append(where)
    for full in sorted(sites, key=lambda each: (-counts[each], each)):
        came_by: dict[int, Where] = {}
        seen, queue = {full}, deque([full])
        while queue:
            broker = queue.popleft()
            if counts[full] - counts[broker] >= 2:
                while broker != full:
                    where = came_by[broker]
                    leader, *rest = planned[where]
                    rest[rest.index(broker)] = leader
                    planned[where] = (broker, *rest)
                    broker = leader
                return True
            for where in led[broker]:
                for each in planned[where][1:]:
                    if each in sites and each not in seen:
                        seen.add(each)
                        came_by[each] = where
                        queue.append(each)
    return False
