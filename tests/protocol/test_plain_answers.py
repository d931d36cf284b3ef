"""The answers that are packed in one step say what the general ones say, in every version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_protocol import (
    APIS,
    ApiKey,
    ErrorCode,
    FetchedPartition,
    FetchResponse,
    Frame,
    FrameDecoder,
    FrameFlags,
    PlainFetched,
    PlainProduced,
    ProducedPartition,
    ProduceResponse,
    decode_message,
    encode_frame,
    encode_message,
    plain_fetched,
    plain_produced,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCE, FETCH = APIS[ApiKey.PRODUCE], APIS[ApiKey.FETCH]
produce_versions = st.integers(PRODUCE.version_min, PRODUCE.version_max)
fetch_versions = st.integers(FETCH.version_min, FETCH.version_max)
ids = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**63 - 1)


def only(frame: bytes) -> Frame:
    [one] = FrameDecoder().receive(frame)
    return one


@given(produce_versions, ids, offsets, offsets)
def test_plain_produced_is_the_general_answer(
    version: int, correlation_id: int, base: int, start: int
) -> None:
    plain = plain_produced(version)
    frame = plain.frame(correlation_id, base, start)
    api, answered_version, flags, answered_id, body = only(frame)
    assert (api, answered_version, flags, answered_id) == (
        ApiKey.PRODUCE,
        version,
        FrameFlags.RESPONSE,
        correlation_id,
    )
    expected = ProduceResponse(0, (ProducedPartition(0, None, base, -1, start),))
    assert decode_message(ProduceResponse, body, version) == expected
    assert plain.read(frame, correlation_id) == base


@given(fetch_versions, ids, offsets, offsets, st.binary(max_size=300))
def test_plain_fetched_is_the_general_answer(
    version: int, correlation_id: int, watermark: int, start: int, batches: bytes
) -> None:
    plain = plain_fetched(version)
    frame = plain.frame(correlation_id, watermark, start, batches)
    api, answered_version, flags, answered_id, body = only(frame)
    assert (api, answered_version, flags, answered_id) == (
        ApiKey.FETCH,
        version,
        FrameFlags.RESPONSE,
        correlation_id,
    )
    expected = FetchResponse(0, (FetchedPartition(0, None, watermark, start, batches),))
    assert decode_message(FetchResponse, body, version) == expected
    assert plain.read(frame, correlation_id) == (watermark, batches)


@given(ids, offsets, st.integers(0, 2**31 - 1))
def test_an_answer_that_sends_the_consumer_on_is_not_plain(
    correlation_id: int, watermark: int, replica: int
) -> None:
    part = FetchedPartition(0, None, watermark, 2**40, b"", replica)
    body = encode_message(FetchResponse(0, (part,)), FETCH.version_max)
    frame = encode_frame(ApiKey.FETCH, FETCH.version_max, 1, correlation_id, body)
    assert plain_fetched(FETCH.version_max).read(frame, correlation_id) is None


def produced(*, error: int = 0, correlation_id: int = 3, flags: int = 1, count: int = 1) -> bytes:
    parts = (ProducedPartition(error, None, 2**40, -1, 2**41),) * count
    body = encode_message(ProduceResponse(0, parts), 0)
    return encode_frame(ApiKey.PRODUCE, 0, flags, correlation_id, body)


def fetched(*, error: int = 0, correlation_id: int = 3, flags: int = 1, count: int = 1) -> bytes:
    parts = (FetchedPartition(error, None, 2**40, 2**41, b"x" * 70_000),) * count
    body = encode_message(FetchResponse(0, parts), 0)
    return encode_frame(ApiKey.FETCH, 0, flags, correlation_id, body)


@pytest.mark.parametrize(
    ("plain", "made"), [(PlainProduced(0), produced), (PlainFetched(0), fetched)]
)
def test_anything_else_is_left_to_the_general_decoder(
    plain: PlainProduced | PlainFetched, made: Callable[..., bytes]
) -> None:
    good = made()
    assert plain.read(good, 3) is not None
    others = [
        made(error=ErrorCode.NOT_LEADER),
        made(correlation_id=4),
        made(flags=FrameFlags.RESPONSE | FrameFlags.ERROR),
        made(count=2),
    ]
    for frame in [*others, good[:-1], good + b"x", good[:12], good[:5], b""]:
        assert plain.read(frame, 3) is None


@given(st.data(), st.sampled_from([ApiKey.PRODUCE, ApiKey.FETCH]))
def test_a_changed_byte_is_never_read_as_something_else(data: st.DataObject, api: ApiKey) -> None:
    """What the short way still accepts, the general decoder reads in the same way."""
    if api is ApiKey.PRODUCE:
        frame = plain_produced(0).frame(3, 100, 7)
    else:
        frame = plain_fetched(0).frame(3, 100, 7, b"batches")
    place = data.draw(st.integers(0, len(frame) - 1))
    changed = frame[:place] + bytes((data.draw(st.integers(0, 255)),)) + frame[place + 1 :]
    if api is ApiKey.PRODUCE:
        offset = plain_produced(0).read(changed, 3)
        if offset is not None:
            answer = decode_message(ProduceResponse, only(changed).body, 0)
            assert answer.partitions[0].base_offset == offset
    else:
        found = plain_fetched(0).read(changed, 3)
        if found is not None:
            part = decode_message(FetchResponse, only(changed).body, 0).partitions[0]
            assert (part.high_watermark, part.batches) == found
