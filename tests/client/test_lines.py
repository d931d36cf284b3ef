"""Lines in and out, byte for byte."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_client import Record
from streambus_client._cli._lines import (
    Format,
    LineSplitter,
    LineTooLongError,
    LineWriter,
    split_keys,
)
from streambus_client._cli._options import parse_start, parse_time, unescape
from streambus_client._types import Timestamp


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_what_is_split_is_written_again_to_the_byte(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    splitter = LineSplitter()
    lines: list[bytes | None] = []
    for start, stop in itertools.pairwise(edges):
        lines += splitter.feed(data[start:stop])
    open_ended = [False] * len(lines)
    last = splitter.last()
    if last is not None:
        lines.append(last)
        open_ended.append(True)
    writer = LineWriter()
    middle = len(lines) // 2
    written = b""
    for part in (slice(0, middle), slice(middle, None)):
        if lines[part]:
            written += writer.values(("t", 0), lines[part], open_ended[part])
    assert written == data
    assert b"\n".join(line or b"" for line in lines) + (b"" if last else b"\n") == data or not lines


def test_newline_is_put_in_where_another_partition_follows_an_open_line() -> None:
    writer = LineWriter()
    assert writer.values(("t", 0), [b"a"], [True]) == b"a"
    assert writer.values(("t", 1), [b"b"], []) == b"\nb\n"
    assert writer.values(("t", 1), [b"c"], [True]) == b"c"
    assert writer.values(("t", 1), [b"d"], []) == b"d\n"


def test_null_value_is_an_empty_line() -> None:
    assert LineWriter().values(("t", 0), [None, b"x"], []) == b"\nx\n"


def test_endless_line_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from streambus_client._cli import _lines

    monkeypatch.setattr(_lines, "LINE_BYTES_MAX", 10)
    splitter = LineSplitter()
    splitter.feed(b"a\n12345")
    with pytest.raises(LineTooLongError, match="line 2"):
        splitter.feed(b"678901")


def test_keys_are_cut_at_the_first_separator() -> None:
    keys, values = split_keys([b"k:v:w", b"none", b":empty"], b":")
    assert keys == [b"k", None, b""]
    assert values == [b"v:w", b"none", b"empty"]


def test_format_fields_and_escapes() -> None:
    record = Record("t", 2, 7, 1234, b"k\xff", None, (("h", b"1"), ("g", None)))
    template = Format(unescape(r"%t[%p]@%o %T %k=%v %h 100%%\n\x00\\n"))
    assert template.write(record) == b"t[2]@7 1234 k\xff= h=1,g 100%\n\0\\n"
    with pytest.raises(ValueError, match="%z"):
        Format(b"%z")
    with pytest.raises(ValueError, match="%"):
        Format(b"%")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("start", "earliest"),
        ("end", "latest"),
        ("17", 17),
        ("@1700000000000", Timestamp(1700000000000)),
        ("@2023-11-14T22:13:20", Timestamp(1700000000000)),
        ("@2023-11-14T23:13:20+01:00", Timestamp(1700000000000)),
    ],
)
def test_starts_are_read(text: str, start: object) -> None:
    assert parse_start(text) == start


def test_times_are_read() -> None:
    assert parse_time("2023-11-14") == Timestamp(1699920000000)
