"""Replicas are spread over racks and brokers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.placement import extend, measure, place, reduce


@given(
    st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=7),
    st.integers(1, 5),
    st.integers(1, 40),
)
def test_every_partition_has_its_replicas_on_different_sites(
    racks: list[str | None], factor: int, count: int
) -> None:
    factor = min(factor, len(racks))
    loads = measure([(each, rack, True) for each, rack in enumerate(racks, 1)], [])
    site_of = {load.broker_id: load.site for load in loads}
    for replicas in place(count, factor, loads):
        assert len(set(replicas)) == factor
        sites = {site_of[each] for each in replicas}
        assert len(sites) == min(factor, len(set(site_of.values())))


@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 60))
def test_without_racks_leaders_and_replicas_are_even(brokers: int, factor: int, count: int) -> None:
    factor = min(factor, brokers)
    placed = place(count, factor, measure([(each, None, True) for each in range(brokers)], []))
    leaders = Counter(replicas[0] for replicas in placed)
    replicas = Counter(each for replicas in placed for each in replicas)
    assert max(leaders.values()) - min(leaders[each] for each in range(brokers)) <= 1
    assert max(replicas.values()) - min(replicas[each] for each in range(brokers)) <= factor


def test_an_empty_broker_is_filled_first() -> None:
    loads = measure([(1, None, True), (2, None, True), (3, None, True)], [(1, 2), (2, 1)] * 3)
    assert [replicas[0] for replicas in place(3, 1, loads)] == [3, 3, 3]


def test_replicas_are_added_on_new_racks_and_taken_without_the_leader() -> None:
    loads = measure([(1, "a", True), (2, "a", True), (3, "b", True)], [])
    assert extend((1,), 2, loads) == (1, 3)
    assert reduce((1, 2, 3), 2, leader=3) == (1, 3)
    assert reduce((1, 2, 3), 2, leader=1) == (1, 2)
