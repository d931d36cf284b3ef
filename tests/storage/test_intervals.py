"""Range deletes as intervals, against a model of single keys."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streambus_storage._intervals import (
    Intervals,
    covers,
    flatten,
    inside,
    union,
    visible,
)

KEYS = [bytes((letter,)) for letter in range(20)]
edges = st.integers(0, 19)
ranges = st.tuples(edges, edges).map(lambda pair: (KEYS[min(pair)], KEYS[max(pair)]))


def built(deletes: list[tuple[bytes, bytes]]) -> Intervals:
    intervals = Intervals()
    for sequence, (start, stop) in enumerate(deletes, 1):
        intervals = intervals.add(start, stop, sequence)
    return intervals


def model(deletes: list[tuple[bytes, bytes]]) -> dict[bytes, int]:
    newest: dict[bytes, int] = {}
    for sequence, (start, stop) in enumerate(deletes, 1):
        newest.update({key: sequence for key in KEYS if start <= key < stop})
    return newest


def assert_sound(intervals: Intervals) -> None:
    rows = list(intervals)
    assert all(start < stop for start, stop, _ in rows)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(rows))


@given(st.lists(ranges, max_size=12))
def test_intervals_know_the_newest_delete_of_every_key(deletes: list[tuple[bytes, bytes]]) -> None:
    intervals, expected = built(deletes), model(deletes)
    assert_sound(intervals)
    assert {key: intervals.at(key) for key in KEYS} == {k: expected.get(k, -1) for k in KEYS}
    flat = flatten(intervals)
    assert all(inside(flat, key) == (key in expected) for key in KEYS)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(flat))


@given(st.lists(ranges, max_size=8), st.lists(ranges, max_size=8))
def test_intervals_overlay_equals_adding_one_by_one(
    older: list[tuple[bytes, bytes]], newer: list[tuple[bytes, bytes]]
) -> None:
    joined = flatten(built(newer))
    overlaid = built(older).overlay(joined, 100)
    assert_sound(overlaid)
    expected = model(older) | dict.fromkeys(model(newer), 100)
    assert {key: overlaid.at(key) for key in KEYS} == {k: expected.get(k, -1) for k in KEYS}


@given(st.lists(ranges, max_size=10), edges, ranges)
def test_intervals_above_a_sequence_are_clipped_to_the_range(
    deletes: list[tuple[bytes, bytes]], sequence: int, within: tuple[bytes, bytes]
) -> None:
    found = built(deletes).above(sequence, *within)
    expected = {k for k, s in model(deletes).items() if s > sequence and within[0] <= k < within[1]}
    assert {key for key in KEYS if inside(found, key)} == expected


@given(st.lists(ranges, max_size=8), st.lists(ranges, max_size=8), ranges)
def test_union_and_visible_agree_with_sets(
    left: list[tuple[bytes, bytes]], right: list[tuple[bytes, bytes]], whole: tuple[bytes, bytes]
) -> None:
    joined = union(flatten(built(left)), flatten(built(right)))
    gone = set(model(left)) | set(model(right))
    assert {key for key in KEYS if inside(joined, key)} == gone
    shown = visible(*whole, joined)
    assert {k for k in KEYS if inside(shown, k)} == {
        k for k in KEYS if whole[0] <= k < whole[1] and k not in gone
    }
    if whole[0] < whole[1]:
        assert covers(joined, *whole) == (not shown)
