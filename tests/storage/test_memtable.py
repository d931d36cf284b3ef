"""The memtable against a list of everything that was ever written."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_storage._memtable import MemTable, merge_runs

if TYPE_CHECKING:
    from streambus_storage._intervals import Intervals

keys = st.integers(0, 30).map(lambda number: b"%02d" % number)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.binary(max_size=3)),
        st.tuples(st.just("delete"), keys, st.none()),
        st.tuples(st.just("range"), keys, keys),
        st.tuples(st.just("snapshot"), st.none(), st.none()),
        st.tuples(st.just("order"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(operations)
def test_memtable_shows_every_snapshot_its_own_moment(
    steps: list[tuple[str, bytes | None, bytes | None]],
) -> None:
    table = MemTable(1, 1)
    present: dict[bytes, bytes | None] = {}
    moments: list[tuple[int, Intervals, dict[bytes, bytes | None]]] = []
    sequence = 0
    for kind, first, second in steps:
        newest = moments[-1][0] if moments else -1
        if kind == "snapshot":
            moments.append((sequence, table.intervals, dict(present)))
        elif kind == "order":
            table.ordered()
            table.catch_up()
        elif kind == "range":
            assert first is not None
            assert second is not None
            sequence += 1
            table.delete_range(sequence, first, second)
            present.update({key: None for key in present if first <= key < second})
        else:
            assert first is not None
            sequence += 1
            table.put(sequence, first, second, newest)
            present[first] = second
    moments.append((sequence, table.intervals, dict(present)))
    ordered = table.ordered()
    for moment, intervals, expected in moments:
        for key in expected:
            known, value = table.at(key, moment, intervals)
            assert known
            assert value == expected[key]
        for reverse in (False, True):
            found: list[tuple[bytes, bytes | None]] = []
            for part in table.slices(
                ordered, moment, intervals, b"05", b"25", reverse=reverse, keys_max=3
            ):
                pairs = list(zip(*part, strict=True))
                found += reversed(pairs) if reverse else pairs
            within = {k: v for k, v in expected.items() if b"05" <= k < b"25"}
            assert found == sorted(within.items(), reverse=reverse)


@pytest.mark.parametrize("asked_after", [0, 1, 10_000, 25_000])
def test_memtable_merges_runs_of_any_order(asked_after: int) -> None:
    seed = 11
    print("seed", seed)
    source = random.Random(seed)
    table = MemTable(1, 1)
    written = [source.randbytes(4) for _ in range(20_000)] + [b"z%06d" % n for n in range(5_000)]
    for sequence, key in enumerate(written, 1):
        if sequence == asked_after:
            table.ordered()
        table.put(sequence, key, b"", -1)
    before = table.ordered()
    more = True
    while more:
        held = set(map(id, table.ordered().runs))
        more = table.catch_up()
        ordered = table.ordered()
        # Nobody pays for more than 8,192 keys at once, and what was late is merged like the rest.
        assert sum(len(run) for run in ordered.runs if id(run) not in held) <= 8_192
    assert len(ordered.runs) < 12
    for part in (before, ordered):  # who holds the runs of before the merging goes on with them
        assert sorted(key for run in part.runs for key in run) == sorted(set(written))
    merged = [key for part in merge_runs(ordered, b"", b"\xff" * 9, 100) for key in part]
    assert merged == sorted(set(written))
    backwards = [
        key
        for part in merge_runs(ordered, b"", b"\xff" * 9, 100, reverse=True)
        for key in reversed(part)
    ]
    assert backwards == merged[::-1]


def test_memtable_leaves_long_runs_as_they_are_when_it_catches_up() -> None:
    table = MemTable(1, 1)
    written = [b"%d%06d" % (run, number) for run in range(8, 0, -1) for number in range(2_048)]
    for sequence, key in enumerate(written, 1):
        table.put(sequence, key, b"", -1)
    assert len(table.ordered().runs) == 8
    assert table.catch_up()
    assert not table.catch_up()
    ordered = table.ordered()
    assert len(ordered.runs) == 8
    merged = [key for part in merge_runs(ordered, b"", b"9", 1 << 10) for key in part]
    assert merged == sorted(written)


def test_memtable_drops_versions_that_no_snapshot_can_see() -> None:
    table = MemTable(1, 1)
    for sequence in range(1, 100):
        table.put(sequence, b"k", b"%d" % sequence, 50)
    versions = 0
    entry = table.entries[b"k"]
    while True:
        versions += 1
        if len(entry) < 3:
            break
        entry = entry[2]
    assert versions == 51  # 1 to 50, which the snapshot at 50 kept as it came, and the newest


def test_memtable_columns_equal_single_puts() -> None:
    one, many = MemTable(1, 1), MemTable(1, 1)
    columns = [b"b", b"a", b"c"], [b"1", None, b"3"]
    for repeat in range(2):  # the second time all keys are there already
        many.put_columns(1 + 3 * repeat, *columns, 9, -1)
        for at, (key, value) in enumerate(zip(*columns, strict=True)):
            one.put(1 + 3 * repeat + at, key, value, -1)
    assert one.entries == many.entries
    assert one.last_sequence == many.last_sequence == 6
