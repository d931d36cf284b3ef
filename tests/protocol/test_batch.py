"""Batches keep every record exactly, and are refused whole when anything in them is wrong."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from streambus_protocol import (
    BATCH_HEADER_BYTES,
    RECORDS_MAX,
    BatchFlags,
    Codec,
    ProducerStamp,
    check_batch,
    check_produced_batch,
    decode_columns,
    encode_batch,
    flatten_headers,
    iterate_batches,
    read_batch_header,
    set_append_time,
    stamp_batch,
)
from streambus_protocol._batch_header import CHECKED_HEADER, PREFIX
from streambus_protocol.errors import (
    BatchError,
    BatchTooLargeError,
    CorruptBatchError,
    InvalidRecordError,
    UnsupportedBatchError,
    UnsupportedCodecError,
)

optional_bytes = st.none() | st.binary(max_size=40)
header_pairs = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), optional_bytes), max_size=4
)
records = st.lists(
    st.tuples(optional_bytes, optional_bytes, st.integers(-(10**9), 10**12), header_pairs),
    min_size=1,
    max_size=20,
)
codecs = st.sampled_from(list(Codec))


@given(records, codecs, st.integers(0, 2**50), st.integers(0, 2**40))
def test_batch_round_trips(rows: list[Any], codec: Codec, offset: int, time_ms: int) -> None:
    values, keys, deltas, headers = (list(column) for column in zip(*rows, strict=True))
    producer = ProducerStamp(7, 1, 100)
    data = encode_batch(
        values,
        keys,
        base_timestamp_ms=time_ms,
        timestamp_deltas=deltas,
        flat_headers=[flatten_headers(pairs) or None for pairs in headers],
        codec=codec,
        producer=producer,
    )
    header = check_produced_batch(data, 10**6)
    columns = decode_columns(stamp_batch(data, offset, 3))
    assert columns.values == values
    assert columns.keys == keys
    assert list(columns.offsets) == list(range(offset, offset + len(rows)))
    assert list(columns.timestamps_ms) == [time_ms + delta for delta in deltas]
    assert [columns.headers(i) for i in range(len(rows))] == [tuple(pairs) for pairs in headers]
    assert header.max_timestamp_ms == time_ms + max(deltas)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == producer
    assert columns.header.leader_epoch == 3
    assert columns.header.next_offset == columns.header.last_offset + 1 == offset + len(rows)


def test_batch_of_plain_values_has_only_one_column() -> None:
    columns = decode_columns(encode_batch([b"", None, b"x"], base_timestamp_ms=5))
    assert columns.values == [b"", None, b"x"]
    assert columns[2:] == (None, None, None, None)
    assert list(columns.timestamps_ms) == [5, 5, 5]
    assert columns.headers(1) == ()


def test_batch_with_gaps_keeps_its_offsets() -> None:
    data = encode_batch([b"a", b"b"], base_timestamp_ms=0, offset_deltas=[0, 6], base_offset=10)
    assert decode_columns(data).offsets == [10, 16]
    assert read_batch_header(data).next_offset == 17
    with pytest.raises(CorruptBatchError, match="gaps"):
        check_produced_batch(data, 10**6)


def test_batch_stamped_keeps_its_checksum_and_append_time_renews_it() -> None:
    data = encode_batch([b"a", b"b"], base_timestamp_ms=1, timestamp_deltas=[0, 9])
    stamped = stamp_batch(data, 2**40, 2**20)
    assert check_batch(stamped)[3:] == check_batch(data)[3:]
    timed = set_append_time(stamped, 777)
    assert list(decode_columns(timed).timestamps_ms) == [777, 777]
    assert check_batch(timed).base_offset == 2**40


@given(st.data())
def test_batch_with_any_changed_byte_is_refused(data: st.DataObject) -> None:
    batch = bytearray(encode_batch([b"value", b"v2"], [b"k", None], base_timestamp_ms=9))
    at = data.draw(st.integers(12, len(batch) - 1))
    batch[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BatchError):
        check_batch(bytes(batch))


@given(st.integers(0, 200))
def test_batch_cut_short_is_refused(length: int) -> None:
    batch = encode_batch([b"v" * 200], base_timestamp_ms=0)
    with pytest.raises(CorruptBatchError):
        check_batch(batch[:length])


@given(st.binary(max_size=300))
def test_batch_of_garbage_is_refused_by_a_typed_error(data: bytes) -> None:
    with pytest.raises(BatchError):
        check_batch(data)


def forge(columns: Any, **fields: int) -> bytes:
    """A batch with a right checksum and any content."""
    payload = columns if isinstance(columns, bytes) else msgpack.packb(columns)
    header = {
        "length": BATCH_HEADER_BYTES + len(payload), "magic": 1, "codec": 0, "flags": 0,
        "record_count": 2, "last_offset_delta": 1, "columns_length": len(payload),
        "base_timestamp_ms": 0, "max_timestamp_ms": 0, "producer_id": -1, "base_sequence": -1,
        "producer_epoch": -1, "reserved": 0,
    } | fields  # fmt: skip
    checked = CHECKED_HEADER.pack(*header.values()) + payload
    return PREFIX.pack(0, 0, xxh3_64_intdigest(checked)) + checked


VALUES = [b"a", b"b"]


@pytest.mark.parametrize(
    "columns",
    [
        b"\xc1",
        7,
        [VALUES, None, None, None],
        [None, None, None, None, None],
        [[b"a"], None, None, None, None],
        [["a", "b"], None, None, None, None],
        [VALUES, [b"k"], None, None, None],
        [VALUES, ["k", b"k"], None, None, None],
        [VALUES, 5, None, None, None],
        [VALUES, None, [0, "x"], None, None],
        [VALUES, None, [0, 2**63], None, None],
        [VALUES, None, None, [["h"], None], None],
        [VALUES, None, None, [[b"h", b"v"], None], None],
        [VALUES, None, None, [["h", "v"], None], None],
        [VALUES, None, None, ["hv", None], None],
        [VALUES, None, None, None, [0, 2]],
        [VALUES, None, None, None, [1, 1]],
        [VALUES, None, None, None, [1, 0]],
    ],
    ids=repr,
)
def test_batch_whose_columns_do_not_fit_is_refused(columns: Any) -> None:
    with pytest.raises(CorruptBatchError):
        decode_columns(forge(columns))


def test_batch_whose_offsets_end_elsewhere_is_refused() -> None:
    with pytest.raises(CorruptBatchError, match="end elsewhere"):
        decode_columns(forge([VALUES, None, None, None, None], last_offset_delta=5))
    with pytest.raises(CorruptBatchError, match="end elsewhere"):
        decode_columns(forge([VALUES, VALUES, None, None, None], last_offset_delta=5))


def test_batch_of_nested_arrays_is_refused() -> None:
    bomb = b"\xdd" + (10**6).to_bytes(4, "big")
    with pytest.raises(CorruptBatchError):
        decode_columns(forge(bomb * 1000, record_count=RECORDS_MAX, last_offset_delta=RECORDS_MAX))


@pytest.mark.parametrize("filling", [b"\x90", b"\x80"], ids=["lists", "maps"])
def test_batch_of_small_objects_takes_no_memory(filling: bytes) -> None:
    count = 60_000
    column = b"\xdc" + count.to_bytes(2, "big") + filling * count
    batch = forge(b"\x95" + column * 5, record_count=count, last_offset_delta=count - 1)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatchError):
            decode_columns(batch)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_batch_that_expands_too_far_is_refused_by_the_broker() -> None:
    data = encode_batch([bytes(100_000)], base_timestamp_ms=0, codec=Codec.ZSTD)
    assert len(data) < 1000
    with pytest.raises(BatchTooLargeError, match="decompressed"):
        check_produced_batch(data, 20_000)
    assert check_produced_batch(data, 30_000).record_count == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"magic": 2}, UnsupportedBatchError),
        ({"flags": 0x8000}, UnsupportedBatchError),
        ({"reserved": 1}, UnsupportedBatchError),
        ({"codec": 9}, UnsupportedCodecError),
        ({"record_count": 0}, CorruptBatchError),
        ({"record_count": RECORDS_MAX + 1, "last_offset_delta": RECORDS_MAX}, CorruptBatchError),
        ({"last_offset_delta": 0}, CorruptBatchError),
        ({"columns_length": 3}, CorruptBatchError),
        ({"codec": int(Codec.ZSTD), "columns_length": 2**32 - 1}, BatchTooLargeError),
    ],
)
def test_batch_with_a_wrong_header_is_refused(
    fields: dict[str, int], error: type[BatchError]
) -> None:
    with pytest.raises(error):
        decode_columns(forge([VALUES, None, None, None, None], **fields))


def test_batch_of_a_producer_is_exactly_one_data_batch() -> None:
    batch = encode_batch([b"a"], base_timestamp_ms=0)
    with pytest.raises(BatchTooLargeError) as caught:
        check_produced_batch(batch, 50)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (len(batch), 50)
    with pytest.raises(CorruptBatchError, match="follow"):
        check_produced_batch(batch + b"x", 1000)
    with pytest.raises(UnsupportedBatchError, match="control"):
        check_produced_batch(
            encode_batch([b"a"], base_timestamp_ms=0, flags=BatchFlags.CONTROL), 1000
        )


def test_batches_behind_each_other_are_walked_over() -> None:
    batches = [encode_batch([b"x" * n], base_timestamp_ms=0, base_offset=n) for n in range(5)]
    walked = list(iterate_batches(b"".join(batches)))
    assert [header.base_offset for header, _ in walked] == [0, 1, 2, 3, 4]
    assert [bytes(view) for _, view in walked] == batches
    assert decode_columns(walked[3][1]).values == [b"xxx"]
    with pytest.raises(CorruptBatchError):
        list(iterate_batches(b"".join(batches) + b"rest"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": []},
        {"values": ["text"]},
        {"values": [b"v"], "keys": ["text"]},
        {"values": [b"v"], "keys": [b"a", b"b"]},
        {"values": [b"v"], "timestamp_deltas": [1.5]},
        {"values": [b"v"], "timestamp_deltas": [2**63]},
        {"values": [b"v"], "flat_headers": [["h", 1]]},
        {"values": [b"v"], "flat_headers": [["\ud800", b""]]},
        {"values": [b"v"], "offset_deltas": [1]},
        {"values": [b"v"] * (RECORDS_MAX + 1)},
    ],
    ids=lambda arguments: repr(arguments)[:60],
)
def test_records_that_are_none_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecordError):
        encode_batch(**arguments, base_timestamp_ms=0)
    assert decode_columns(encode_batch([b"next"], base_timestamp_ms=0)).values == [b"next"]


def test_headers_that_are_none_are_refused() -> None:
    assert flatten_headers([("a", b"1"), ("a", None)]) == ["a", b"1", "a", None]
    for wrong in [(b"name", b"v"), ("name", "v")]:
        with pytest.raises(InvalidRecordError):
            flatten_headers([wrong])  # type: ignore[list-item]  # a user's mistake


def test_headers_up_to_the_limit_survive_beside_few_records() -> None:
    most = [(f"h{i}", b"v") for i in range(1000)]
    flat = [flatten_headers(most)]
    columns = decode_columns(encode_batch([b"a"], base_timestamp_ms=0, flat_headers=flat))
    assert columns.headers(0) == tuple(most)
    with pytest.raises(InvalidRecordError, match="1001 headers"):
        flatten_headers([*most, ("more", None)])
    with pytest.raises(InvalidRecordError, match="1000 at most"):
        encode_batch([b"a"], base_timestamp_ms=0, flat_headers=[[*flat[0], "more", None]])


def test_batch_that_compression_would_enlarge_stays_plain() -> None:
    data = encode_batch([b"a"], base_timestamp_ms=0, codec=Codec.GZIP)
    assert read_batch_header(data).codec == Codec.NONE
    long = encode_batch([b"a" * 1000], base_timestamp_ms=0, codec=Codec.GZIP)
    assert read_batch_header(long).codec == Codec.GZIP
    assert decode_columns(long).values == [b"a" * 1000]
