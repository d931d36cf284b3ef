"""The short way of a single send puts the same bytes together as the general one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_client._accumulator import PendingBatch
from streambus_client._encoding import (
    ProduceTemplate,
    check_column,
    encode_pending,
    encode_record,
)
from streambus_client.errors import InvalidArgumentError
from streambus_protocol import (
    ApiKey,
    ProducePartition,
    ProduceRequest,
    decode_columns,
)


@given(
    topic=st.text(min_size=1, max_size=40),
    partition=st.integers(0, 2**31 - 1),
    acks=st.sampled_from([-1, 0, 1]),
    size=st.sampled_from([0, 1, 100, 255, 256, 257, 65535, 65536, 70000]),
    correlation_id=st.integers(0, 2**32 - 1),
)
def test_prepared_frame_says_what_the_general_one_says(
    topic: str, partition: int, acks: int, size: int, correlation_id: int
) -> None:
    from streambus_protocol import FrameDecoder, decode_message

    batch = b"x" * size
    prepared = ProduceTemplate(topic, partition, acks, 30_000, 0).frame(correlation_id, batch)
    [frame] = FrameDecoder().receive(prepared)
    assert (frame.api, frame.flags, frame.correlation_id) == (ApiKey.PRODUCE, 0, correlation_id)
    assert decode_message(ProduceRequest, frame.body, 0) == ProduceRequest(
        acks, 30_000, (ProducePartition(topic, partition, batch),)
    )


@given(
    value=st.none() | st.binary(max_size=300),
    key=st.none() | st.binary(max_size=300),
    timestamp_ms=st.integers(0, 2**50),
)
def test_frame_of_one_record_is_that_of_its_batch(
    value: bytes | None, key: bytes | None, timestamp_ms: int
) -> None:
    template = ProduceTemplate("orders", 3, 1, 30_000, 0)
    general = template.frame(9, encode_record(value, key, None, timestamp_ms, 0))
    assert template.record_frame(9, value, key, timestamp_ms) == general


def test_pending_batch_keeps_keys_headers_times_and_its_bytes() -> None:
    batch = PendingBatch("t", 0, 1000, 0.0, 1.0)
    batch.add(None, b"", None, 1000, 10)
    batch.add(b"k", None, [("h", b"1"), ("h", None)], 990, 10)
    data = encode_pending(batch, 0)
    columns = decode_columns(data)
    assert columns.values == [b"", None]
    assert columns.keys == [None, b"k"]
    assert list(columns.timestamps_ms) == [1000, 990]
    assert columns.headers(1) == (("h", b"1"), ("h", None))
    assert encode_pending(batch, 0) is data, "a retry sends the same bytes"


def test_wrong_types_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="value is str, not bytes; encode it first"):
        encode_record("text", None, None, 1, 0)  # type: ignore[arg-type]  # the point
    with pytest.raises(InvalidArgumentError, match=r"values\[2\] is str, not bytes; encode it"):
        check_column("values", [b"", None, "x"])
