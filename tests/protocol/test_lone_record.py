"""The batch of one record is read the short way, or left to the general decoder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from streambus_protocol import (
    Codec,
    ProducerStamp,
    decode_columns,
    encode_batch,
    read_lone_record,
    stamp_batch,
)
from streambus_protocol._batch_header import CHECKED_FROM, PREFIX
from streambus_protocol.errors import BatchError

short = st.binary(max_size=255)


@given(short, st.none() | short, st.integers(-(2**40), 2**50), st.integers(0, 2**60))
def test_a_plain_record_is_what_the_general_decoder_gives(
    value: bytes, key: bytes | None, time_ms: int, offset: int
) -> None:
    producer = ProducerStamp(9, 1, 5)
    batch = encode_batch(
        [value], None if key is None else [key], base_timestamp_ms=time_ms, producer=producer
    )
    batch = stamp_batch(batch, offset, 4)
    assert read_lone_record(batch) == (offset, time_ms, key, value)
    columns = decode_columns(batch)
    assert (columns.keys or [None], columns.values) == ([key], [value])
    assert (list(columns.offsets), list(columns.timestamps_ms)) == ([offset], [time_ms])


def test_anything_else_is_left_to_the_general_decoder() -> None:
    plain = encode_batch([b"v"], base_timestamp_ms=5)
    assert read_lone_record(plain) is not None
    for batch in [
        encode_batch([b"v", b"w"], base_timestamp_ms=5),
        encode_batch([None], base_timestamp_ms=5),
        encode_batch([b"v"], [None], base_timestamp_ms=5),
        encode_batch([b"v" * 256], base_timestamp_ms=5),
        encode_batch([b"v"], [b"k" * 256], base_timestamp_ms=5),
        encode_batch([b"v"], base_timestamp_ms=5, timestamp_deltas=[1]),
        encode_batch([b"v"], base_timestamp_ms=5, flat_headers=[["h", b"1"]]),
        encode_batch([b"v" * 200], base_timestamp_ms=5, codec=Codec.ZSTD),
        encode_batch([b"v"], base_timestamp_ms=5, flags=4),
        encode_batch([b"v"], base_timestamp_ms=5, offset_deltas=[0]),
        plain + b"x",
        plain + plain,
        plain[:-1],
        plain[:72],
        b"",
    ]:
        assert read_lone_record(batch) is None


@given(st.data(), short, st.none() | short, st.booleans())
def test_what_is_read_of_changed_bytes_is_what_the_general_decoder_reads(
    data: st.DataObject, value: bytes, key: bytes | None, mend_checksum: bool
) -> None:
    batch = encode_batch([value], None if key is None else [key], base_timestamp_ms=5)
    changed = bytearray(batch)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(12, len(batch) - 1))] = data.draw(st.integers(0, 255))
    if mend_checksum:
        digest = xxh3_64_intdigest(bytes(changed[CHECKED_FROM:]))
        PREFIX.pack_into(changed, 0, 0, -1, digest)
    record = read_lone_record(bytes(changed))
    if record is None:
        return
    try:
        columns = decode_columns(bytes(changed))
    except BatchError as error:
        raise AssertionError("the short way read what the general one refuses") from error
    assert (list(columns.offsets), columns.values) == ([record.offset], [record.value])
    assert (columns.keys or [None], list(columns.timestamps_ms)) == (
        [record.key],
        [record.timestamp_ms],
    )
