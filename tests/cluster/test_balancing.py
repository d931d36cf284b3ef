"""Spreading replicas and leaders: even at the end, by few moves, racks kept; rates of copies."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.balancing import Where, rebalance
from streambus_broker.cluster.copying import WINDOW_S, Rate
from streambus_broker.cluster.placement import Load

Assignments = dict[Where, tuple[int, ...]]


def loads(brokers: int, racks: int = 0) -> list[Load]:
    return [Load(each, f"r{each % racks}" if racks else None) for each in range(1, brokers + 1)]


def assigned(*replicas: tuple[int, ...]) -> Assignments:
    return {("t", number): each for number, each in enumerate(replicas)}


def held(assignments: Assignments) -> Counter[int]:
    return Counter(each for replicas in assignments.values() for each in replicas)


def led(assignments: Assignments) -> Counter[int]:
    return Counter(replicas[0] for replicas in assignments.values())


def test_what_is_even_stays() -> None:
    assert rebalance(loads(3), assigned((1, 2, 3), (2, 3, 1), (3, 1, 2))) == {}
    assert rebalance(loads(3), {}) == {}


def test_a_new_broker_gets_followers_before_leaders() -> None:
    before = assigned((1, 2), (2, 1), (1, 2))
    planned = rebalance(loads(3), before)
    after = {**before, **planned}
    assert sorted(held(after).values()) == [2, 2, 2]
    moved = [set(after[where]) - set(before[where]) for where in planned]
    assert sum(map(len, moved)) == 2
    assert sorted(led(after).values()) == [1, 1, 1]


def test_leadership_alone_is_handed_on_along_a_chain() -> None:
    # 1 leads two, 3 none, and only 2 shares a partition with both.
    before = assigned((1, 2), (1, 2), (2, 3))
    planned = rebalance(loads(3), before, leaders_only=True)
    after = {**before, **planned}
    assert {where: set(each) for where, each in after.items()} == {
        where: set(each) for where, each in before.items()
    }
    assert sorted(led(after).values()) == [1, 1, 1]


def test_brokers_that_may_not_take_part_keep_what_they_have() -> None:
    before = assigned((9, 1), (9, 1), (9, 1), (9, 1))
    after = {**before, **rebalance(loads(2), before)}
    assert held(after) == {9: 4, 1: 2, 2: 2}
    assert led(after)[9] == 4  # nobody but an operator takes it from one in maintenance


def test_racks_are_kept() -> None:
    racks = [Load(1, "a"), Load(2, "b"), Load(3, "b")]
    before = assigned((1, 2), (1, 2), (1, 2), (1, 2))
    after = {**before, **rebalance(racks, before)}
    assert all(1 in replicas for replicas in after.values())  # else both were on rack b
    assert held(after) == {1: 4, 2: 2, 3: 2}


@given(
    st.integers(1, 6), st.integers(0, 3),
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True), max_size=24),
)  # fmt: skip
def test_whatever_there_is_becomes_even_and_nothing_is_lost(
    brokers: int, racks: int, replicas: list[list[int]]
) -> None:
    before = assigned(*(tuple(each) for each in replicas))
    sites = {load.broker_id: load.site for load in loads(brokers, racks)}
    after = {**before, **rebalance(loads(brokers, racks), before)}
    assert after.keys() == before.keys()
    for where, now in after.items():
        assert len(set(now)) == len(now) == len(before[where])
        spread = {sites.get(each, each) for each in now}
        assert len(spread) >= len({sites.get(each, each) for each in before[where]})
    if not racks and all(each <= brokers for one in replicas for each in one):
        counts = [held(after)[each] for each in sites]
        factor_one = all(len(each) < brokers for each in replicas)
        if factor_one:
            assert max(counts) - min(counts) <= 1
    assert rebalance(loads(brokers, racks), after) == {}


# --- the rate of a copy --------------------------------------------------------------------------


def test_a_rate_is_a_mean_over_the_window() -> None:
    rate = Rate()
    assert rate.bytes_per_s(5.0) == 0
    for second in range(30):
        rate.took(1_000, float(second))
    assert 900 <= rate.bytes_per_s(29.0) <= 1_200
    for tenth in range(100):
        rate.took(1_000, 29.0 + tenth / 10)
    assert 9_000 <= rate.bytes_per_s(39.0) <= 11_000


def test_a_rate_begins_at_once_and_ends_with_its_window() -> None:
    rate = Rate()
    rate.took(4_000, 100.0)
    assert rate.bytes_per_s(100.0) == 4_000  # not divided by a moment
    assert rate.bytes_per_s(104.0) == 1_000
    assert rate.bytes_per_s(100.0 + WINDOW_S + 0.1) == 0
    rate.took(500, 200.0)  # a copy that goes on later begins anew
    assert rate.bytes_per_s(200.0) == 500


def test_bytes_of_one_moment_are_counted_together() -> None:
    rate = Rate()
    for _ in range(10_000):
        rate.took(1, 7.0)
    assert rate.bytes_per_s(7.0) == 10_000
    assert len(rate._taken) == 1
