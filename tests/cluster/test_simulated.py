"""A short slice of `simulate cluster`: every kind of trouble over a few seeds."""

from __future__ import annotations

import pytest

from tests.cluster.scenario import Scenario


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_nothing_acknowledged_is_lost_doubled_or_reordered(first: int) -> None:
    outcomes = [Scenario(seed).run() for seed in range(first, first + 6)]
    assert sum(outcome.acknowledged for outcome in outcomes) > 100
    assert sum(outcome.consumed for outcome in outcomes) > 100
    assert sum(outcome.followed for outcome in outcomes) > 20


def test_a_seed_repeats_exactly_and_another_differs() -> None:
    one, again, other = (Scenario(seed, 3.0).run() for seed in (100, 100, 101))
    assert one == again
    assert one.digest != other.digest


def test_a_kept_trace_changes_nothing_and_has_the_words_of_the_brokers() -> None:
    silent, told = Scenario(7, 2.0).run(), Scenario(7, 2.0, keep_trace=True).run()
    assert silent.digest == told.digest
    assert any("broker registered" in line for line in told.lines)
