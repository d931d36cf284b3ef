"""Every seeded bug can still be planted: its place is there, once, and inside a function."""

from __future__ import annotations

import pytest

from tests.cluster.mutant import Mutant
from tests.cluster.mutant_list import MUTANTS
from tests.cluster.mutant_planting import changed_functions


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_changes_a_function(mutant: Mutant) -> None:
    assert changed_functions(mutant)


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len(MUTANTS) >= 40


def test_a_place_that_is_gone_is_reported() -> None:
    with pytest.raises(LookupError, match="0 places"):
        changed_functions(Mutant("gone", "cluster.leader", "no such code", "", ""))
    with pytest.raises(LookupError, match="no function"):
        changed_functions(Mutant("none", "cluster.leader", "UNKNOWN = -1", "UNKNOWN = -2", ""))
