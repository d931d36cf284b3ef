"""Reading the log back: the fast way equals the slow one, and the verdict on bad places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streambus_storage._wal_format import (
    WAL_HEADER_BYTES,
    WalRecord,
    decode_record,
    encode_delete,
    encode_mark,
    encode_put,
    encode_wal_header,
    wal_seed,
)
from streambus_storage._wal_reader import judge, scan_segment

HEADER = encode_wal_header(3, 99)
SEED = wal_seed(HEADER)

operations = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "delete", "mark"]), st.binary(max_size=4)),
    max_size=30,
)


def log_of(steps: list[tuple[str, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes | None]]]:
    parts, sequence = [HEADER], 1
    expected: list[tuple[bytes, bytes | None]] = []
    for kind, key in steps:
        if kind == "put":
            parts.append(encode_put(SEED, sequence, sequence // 2, key, key * 2))
            expected.append((key, key * 2))
        elif kind == "delete":
            parts.append(encode_delete(SEED, sequence, sequence // 2, key))
            expected.append((key, None))
        else:
            parts.append(encode_mark(SEED, sequence, sequence - 1))
            continue
        sequence += 1
    return b"".join(parts), expected


def read(data: bytes) -> tuple[list[tuple[bytes, bytes | None]], int, str, int]:
    found: list[tuple[bytes, bytes | None]] = []
    records = 0
    for item in scan_segment(data, SEED, 1):
        if isinstance(item, WalRecord):
            found += zip(item.keys, item.values, strict=True)
            records += item.joined
            continue
        return found, item[0], item[1], records
    raise AssertionError("a scan ends with its end")


@given(operations)
def test_scan_joins_runs_of_puts_without_changing_anything(steps: list[tuple[str, bytes]]) -> None:
    data, expected = log_of(steps)
    assert read(data) == (expected, len(data), "", len(steps))


@given(operations, st.data())
def test_scan_ends_where_the_first_bad_record_begins(
    steps: list[tuple[str, bytes]], choice: st.DataObject
) -> None:
    data, expected = log_of(steps)
    if len(data) == WAL_HEADER_BYTES:
        return
    at = choice.draw(st.integers(WAL_HEADER_BYTES, len(data) - 1))
    bad = bytearray(data)
    bad[at] ^= 1 << choice.draw(st.integers(0, 7))
    offset = WAL_HEADER_BYTES
    while True:  # by single records
        record = decode_record(data, offset, SEED)
        assert isinstance(record, WalRecord)
        if record.end > at:
            break
        offset = record.end
    found, end, reason, _ = read(bytes(bad))
    assert (end, bool(reason)) == (offset, True)
    assert found == expected[: len(found)]
    assert read(data[:at])[1] == offset


def test_judge_takes_for_damage_only_what_had_been_durable() -> None:
    assert judge("x", 50, "bad", last=5, durable=5, sealed=None) is None
    assert judge("x", 50, "bad", last=5, durable=6, sealed=None) is not None
    assert judge("x", 50, "bad", last=5, durable=0, sealed=51) is not None
    assert judge("x", 51, "bad", last=5, durable=0, sealed=51) is None
