"""Every seeded bug can still be planted: its place is there, once, and inside a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.mutant import Mutant
from tests.cluster.mutant_list import MUTANTS
from tests.cluster.mutant_planting import changed_functions
from tests.cluster.mutant_tries import Record, Try, attempt
from tests.cluster.mutants import misses_max

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_record_is_shared_and_goes_on(tmp_path: Path) -> None:
    one, other = MUTANTS[:2]
    path = tmp_path / "tries.json"
    mine, theirs = Record(path, MUTANTS), Record(path, MUTANTS)
    mine.add(one, Try(1, found=True, cpu_s=1.5, seeds=3, how="seed 5"))
    theirs.add(other, Try(1, found=False, cpu_s=60.0, seeds=99, how=""))
    mine.add(one, Try(2, found=False, cpu_s=60.0, seeds=99, how=""))
    found = Record(path, MUTANTS)
    assert (found.tried[one.name].found, found.tried[one.name].misses) == (1, 1)
    assert found.tried[one.name].median_s == pytest.approx(30.75)
    assert found.tried[other.name].misses == 1
    found.forget(one)
    assert not Record(path, MUTANTS).tried[one.name].tries


def test_tries_of_another_change_do_not_count(tmp_path: Path) -> None:
    path, one = tmp_path / "tries.json", MUTANTS[0]
    Record(path, MUTANTS).add(one, Try(1, found=True, cpu_s=1.0, seeds=1, how=""))
    changed = Record(path, [one._replace(new="something else")])
    assert not changed.tried[one.name].tries


def test_a_try_finds_and_leaves_this_process_alone() -> None:
    (mutant,) = (each for each in MUTANTS if each.name == "records-not-synced")
    before = [function.__code__ for function, _ in changed_functions(mutant)]
    outcome = attempt(mutant, 1, 60.0)
    assert outcome.found
    assert outcome.how.startswith("seed 10000")
    assert [function.__code__ for function, _ in changed_functions(mutant)] == before


def test_one_of_twenty_may_miss() -> None:
    assert [misses_max(tries) for tries in (1, 19, 20, 39, 40)] == [0, 0, 1, 1, 2]
