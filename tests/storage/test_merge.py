"""Merging slices against merging dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from streambus_storage._merge import Slice, Source, merge

if TYPE_CHECKING:
    from collections.abc import Iterator

tables = st.lists(
    st.dictionaries(st.integers(0, 60).map(lambda n: b"%02d" % n), st.integers(), min_size=1),
    min_size=1,
    max_size=6,
)


def source(table: dict[bytes, int], step: int, *, reverse: bool) -> Source:
    ordered = sorted(table)

    def begin() -> Iterator[Slice]:
        begins = range(0, len(ordered), step)
        for at in reversed(begins) if reverse else begins:
            keys = ordered[at : at + step]
            yield keys, [table[key] for key in keys]

    return Source(ordered[0], ordered[-1] + b"\0", begin)


@given(tables, st.integers(1, 5), st.booleans())
def test_merge_shows_the_newest_of_each_key(
    newest_first: list[dict[bytes, int]], step: int, reverse: bool
) -> None:
    expected: dict[bytes, int] = {}
    for table in reversed(newest_first):
        expected.update(table)
    found: list[tuple[bytes, Any]] = []
    sources = [source(table, step, reverse=reverse) for table in newest_first]
    for keys, values in merge(sources, reverse=reverse):
        assert keys == sorted(keys)
        pairs = list(zip(keys, values, strict=True))
        found += reversed(pairs) if reverse else pairs
    assert found == sorted(expected.items(), reverse=reverse)


def test_merge_begins_no_source_before_it_is_reached() -> None:
    begun: list[int] = []

    def counted(number: int) -> Source:
        inner = source({b"%04d" % (number * 10 + at): at for at in range(10)}, 10, reverse=False)

        def begin() -> Iterator[Slice]:
            begun.append(number)
            return inner.begin()

        return Source(inner.lower, inner.upper, begin)

    merged = merge([counted(number) for number in range(1000)])
    next(merged)
    assert begun == [0]
    next(merged)
    assert begun == [0, 1]
