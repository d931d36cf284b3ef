from __future__ import annotations

from streambus_broker.log.waits import Wait, WaitSet


def test_a_wait_is_due_when_enough_has_arrived_in_any_of_its_partitions() -> None:
    waits = WaitSet()
    wait = Wait("a", 100, (1, 2))
    waits.add(wait)
    assert waits.grown(1, 60) == []
    assert waits.grown(3, 60) == []
    assert waits.grown(2, 40) == [wait]
    assert wait.over
    assert waits.count == 0
    assert waits.by_partition == {}


def test_growth_answers_only_those_that_have_enough() -> None:
    waits = WaitSet()
    small, large = Wait("small", 1, (1,)), Wait("large", 1000, (1,))
    waits.add(large)
    waits.add(small)
    assert waits.grown(1, 10) == [small]
    assert waits.by_partition == {1: [large]}


def test_removing_twice_is_harmless() -> None:
    waits = WaitSet()
    wait = Wait("a", 1, (1,))
    waits.add(wait)
    waits.remove(wait)
    waits.remove(wait)
    assert waits.count == 0


def test_a_partition_or_everything_can_be_emptied() -> None:
    waits = WaitSet()
    both, other = Wait("both", 1, (1, 2)), Wait("other", 1, (2,))
    waits.add(both)
    waits.add(other)
    assert waits.all_of(1) == [both]
    assert waits.all_of(1) == []
    assert waits.everything() == [other]
    assert waits.everything() == []
