"""A short slice of `simulate cluster`: every kind of trouble over a few seeds."""

from __future__ import annotations

import pytest

from tests.cluster.scenario import Scenario


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_doubled_or_reordered(seed: int) -> None:
    outcome = Scenario(seed, 6.0).run()
    assert outcome.acknowledged > 50
    assert outcome.consumed > 0


def test_a_seed_repeats_exactly_and_another_differs() -> None:
    one, again, other = (Scenario(seed, 3.0).run() for seed in (100, 100, 101))
    assert one == again
    assert one.digest != other.digest
