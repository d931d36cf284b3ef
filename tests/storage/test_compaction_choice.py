"""What is chosen for compaction, and that every choice keeps the tree's rules."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streambus_storage import Options
from streambus_storage._compaction_choice import (
    DEEPEST,
    Drop,
    Merge,
    Move,
    choose,
    closure,
    depth,
    place,
    targets,
    whole_range,
)
from streambus_storage._jobs import MergeJob
from streambus_storage._levels import TableMeta, Version, VersionEdit

OPTIONS = Options(level0_trigger=3, level1_bytes=1024, level_multiplier=2, holes_max=2)


def table(number: int, lower: int, upper: int, size: int = 100, clean: int = 0) -> TableMeta:
    return TableMeta(number, size, 10, 0, b"%04d" % lower, b"%04d" % upper, clean)


def version(*added: tuple[int, TableMeta]) -> Version:
    return Version().apply(VersionEdit(added=list(added), sequence=1))


def test_choose_reads_none_of_a_thousand_disjoint_tables_of_level_0() -> None:
    rows = [(0, table(n, 2 * n, 2 * n + 1)) for n in range(1, 1001)]
    assert choose(version(*rows[:15]), OPTIONS) is None
    many = version(*rows)
    assert depth(many.levels[0])[0] == 1
    plan = choose(many, OPTIONS)
    assert isinstance(plan, Move)
    assert (len(plan.tables), plan.level) == (1000, DEEPEST)


def test_choose_moves_only_what_overlaps_nothing_anywhere() -> None:
    rows = [(0, table(n, 10 * n, 10 * n + 5)) for n in range(1, 20)]
    overlapped = (0, table(30, 12, 13))
    below = (DEEPEST, table(31, 21, 22))
    plan = choose(version(*rows, overlapped, below), OPTIONS)
    assert isinstance(plan, Move)
    assert sorted(t.number for t in plan.tables) == list(range(3, 20))


def test_choose_merges_only_the_deep_place_of_level_0() -> None:
    deep = [(0, table(n, 100, 200)) for n in (1, 2, 3)]
    apart = [(0, table(n, 1000 * n, 1000 * n + 1)) for n in (4, 5)]
    plan = choose(version(*deep, *apart), OPTIONS)
    assert isinstance(plan, Merge)
    assert [t.number for _, t in plan.inputs] == [3, 2, 1]
    assert plan.level == DEEPEST


def test_choose_takes_what_overlaps_the_inputs_of_level_0_too() -> None:
    plan = choose(
        version(
            (0, table(3, 100, 200)),
            (0, table(2, 100, 250)),
            (0, table(1, 150, 220)),
            (0, table(4, 240, 300)),
            (DEEPEST, table(9, 290, 400)),
            (DEEPEST, table(10, 500, 600)),
        ),
        OPTIONS,
    )
    assert isinstance(plan, Merge)
    assert [t.number for _, t in plan.inputs] == [4, 3, 2, 1, 9]


def test_choose_drops_covered_tables_first() -> None:
    before = version((DEEPEST, table(1, 10, 20)), (DEEPEST, table(2, 20, 30)))
    after = before.apply(VersionEdit(deleted=[(b"0010", b"0020")], sequence=5))
    plan = choose(after, OPTIONS)
    assert plan == Drop((table(1, 10, 20),))


def test_choose_moves_a_table_that_overlaps_nothing_below() -> None:
    full = version(
        (DEEPEST - 1, table(1, 0, 10, size=5000)), (DEEPEST, table(2, 50, 60, size=5000))
    )
    assert choose(full, OPTIONS) == Move((table(1, 0, 10, size=5000),), DEEPEST)


def test_choose_rewrites_a_table_with_many_holes() -> None:
    holes = [(b"%04d" % at, b"%04d" % (at + 1)) for at in (11, 13, 15)]
    before = version((DEEPEST, table(1, 10, 20)))
    plan = choose(before.apply(VersionEdit(deleted=holes, sequence=5)), OPTIONS)
    assert isinstance(plan, Merge)
    assert plan.level == DEEPEST


def test_place_is_the_deepest_level_only_where_nothing_overlaps() -> None:
    present = version((DEEPEST, table(1, 10, 20)))
    assert place(present, table(2, 20, 30), None) == DEEPEST
    assert place(present, table(2, 19, 30), None) == 0
    assert place(present, table(2, 20, 30), (b"0025", b"0026")) == 0


def test_targets_skip_levels_that_are_not_worth_having() -> None:
    assert targets(version(), OPTIONS).base == DEEPEST
    large = version((DEEPEST, table(1, 0, 9, size=10_000)))
    assert targets(large, OPTIONS).base == 1
    assert targets(version((DEEPEST, table(1, 0, 9, size=3000))), OPTIONS).base == DEEPEST - 2


def test_whole_range_is_nothing_to_do_where_it_lies_clean_in_one_level() -> None:
    present = version((DEEPEST, table(1, 10, 20)), (DEEPEST, table(2, 20, 30)))
    assert whole_range(present, b"", b"9", force=False) is None
    forced = whole_range(present, b"0010", b"0015", force=True)
    assert forced is not None
    assert [t.number for _, t in forced.inputs] == [1]


tables = st.lists(
    st.tuples(st.integers(0, 90), st.integers(1, 30), st.integers(50, 3000)), max_size=14
)


@given(tables, st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40)), max_size=3))
def test_every_plan_can_be_carried_out_and_planning_ends(
    flushed: list[tuple[int, int, int]], deletes: list[tuple[int, int]]
) -> None:
    present, number = Version(), 0
    steps = [("flush", row) for row in flushed] + [("delete", (*row, 0)) for row in deletes]
    for sequence, (kind, (lower, width, size)) in enumerate(steps, 1):
        number = sequence
        if kind == "flush":
            new = table(number, lower, lower + width, size, clean=sequence)
            added = [(place(present, new, None), new)]
            present = present.apply(VersionEdit(added=added, sequence=sequence))
        else:
            gone = [(b"%04d" % lower, b"%04d" % (lower + width))]
            present = present.apply(VersionEdit(deleted=gone, sequence=sequence))
    for _ in range(200):
        plan = choose(present, OPTIONS)
        if plan is None:
            break
        if isinstance(plan, Drop):
            edit = VersionEdit(removed=[t.number for t in plan.tables])
        elif isinstance(plan, Move):
            edit = VersionEdit(
                added=[(plan.level, t) for t in plan.tables],
                removed=[t.number for t in plan.tables],
            )
        else:
            taken = {t.number for _, t in plan.inputs}
            newest_level = min(level for level, _ in plan.inputs)
            # Nothing newer goes past what is left behind, and the output has room in its level.
            for level in range(newest_level, plan.level + 1):
                for left in present.overlapping(level, plan.lower, plan.upper):
                    if left.number in taken:
                        continue
                    assert level != plan.level
                    for above, newer in plan.inputs:
                        if above < level or (level == 0 and newer.number > left.number):
                            assert not left.overlaps(newer.lower, newer.upper)
            number += 1
            size = sum(t.size for _, t in plan.inputs)
            merged = TableMeta(number, size, 10, 0, plan.lower, plan.upper, present.sequence)
            edit = VersionEdit(added=[(plan.level, merged)], removed=list(taken))
        present = present.apply(edit)  # raises on overlaps below level 0
    else:
        raise AssertionError("200 compactions, and no end")


@given(tables, st.integers(0, 100), st.integers(1, 20))
def test_closure_leaves_no_overlap_behind(
    flushed: list[tuple[int, int, int]], lower: int, width: int
) -> None:
    rows = [(0, table(n, low, low + wide)) for n, (low, wide, _) in enumerate(flushed, 1)]
    present = version(*rows)
    taken = closure(present, b"%04d" % lower, b"%04d" % (lower + width), range(1))
    numbers = {t.number for _, t in taken}
    for left in present.levels[0]:
        if left.number not in numbers:
            assert not any(left.overlaps(t.lower, t.upper) for _, t in taken)


def test_merge_job_takes_along_what_it_needs_of_the_version_and_no_more() -> None:
    upper = [(1, table(n, 100 * n, 100 * n + 50)) for n in range(1, 4)]
    middle = [(2, table(n, 100 * n, 100 * n + 50)) for n in range(11, 14)]
    deepest = [(DEEPEST, table(n, 100 * (n - 20), 100 * (n - 20) + 50)) for n in range(21, 24)]
    whole = version(*upper, *middle, *deepest)
    plan = Merge((upper[1],), 2, upper[1][1].lower, upper[1][1].upper, "asked for")
    job = MergeJob.of("/t", OPTIONS, plan, whole)
    assert list(job.version.tables()) == [upper[1]]
    assert job.clean == whole.sequence
    deletes = replace(upper[1][1], tombstones=1)
    plan = replace(plan, inputs=((1, deletes),))
    job = MergeJob.of("/t", OPTIONS, plan, whole)
    assert list(job.version.tables()) == [(1, deletes), deepest[1]]
