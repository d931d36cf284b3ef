"""Handshake, versions and correlation, without a socket."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_client._connection import ConnectionCore
from streambus_client.errors import (
    ProtocolViolationError,
    TopicNotFoundError,
    UnsupportedByBrokerError,
    WrongClusterError,
)
from streambus_protocol import (
    ApiKey,
    ApiRange,
    ErrorCode,
    ErrorResponse,
    FrameDecoder,
    FrameFlags,
    HandshakeRequest,
    HandshakeResponse,
    MetadataRequest,
    MetadataResponse,
    ProducePartition,
    ProduceRequest,
    decode_message,
    encode_frame,
    encode_message,
    supported_ranges,
)

RESPONSE = int(FrameFlags.RESPONSE)


def greeting(
    correlation_id: int = 1,
    *,
    error: ErrorCode = ErrorCode.NONE,
    apis: tuple[ApiRange, ...] = supported_ranges(),
) -> bytes:
    message = HandshakeResponse(error, "no", "cluster", 1, "0.1", 1 << 24, apis)
    body = encode_message(message, 0)
    return encode_frame(ApiKey.HANDSHAKE, 0, RESPONSE, correlation_id, body)


def metadata(correlation_id: int) -> bytes:
    body = encode_message(MetadataResponse("cluster", 1, (), ()), 0)
    return encode_frame(ApiKey.METADATA, 0, RESPONSE, correlation_id, body)


def connected() -> ConnectionCore:
    core = ConnectionCore("here:1", "me", None)
    core.handshake()
    core.receive(greeting())
    return core


def test_handshake_says_who_is_there() -> None:
    core = ConnectionCore("here:1", "me", "cluster")
    [frame] = FrameDecoder().receive(core.handshake())
    request = decode_message(HandshakeRequest, frame.body, frame.version)
    assert request.client_name.endswith("/me")
    assert request.cluster_id == "cluster"
    core.receive(greeting())
    assert core.broker is not None
    assert core.broker.cluster_id == "cluster"


def test_refused_handshake_is_a_typed_error() -> None:
    core = ConnectionCore("here:1", "me", "other")
    core.handshake()
    with pytest.raises(WrongClusterError):
        core.receive(greeting(error=ErrorCode.WRONG_CLUSTER))


def test_error_frame_for_the_handshake_is_a_typed_error() -> None:
    core = ConnectionCore("here:1", "me", None)
    core.handshake()
    body = encode_message(ErrorResponse(ErrorCode.UNSUPPORTED_VERSION, "too old"), 0)
    flags = int(FrameFlags.RESPONSE | FrameFlags.ERROR)
    with pytest.raises(UnsupportedByBrokerError, match="too old"):
        core.receive(encode_frame(ApiKey.HANDSHAKE, 0, flags, 1, body))


def test_api_that_the_broker_does_not_speak_is_named() -> None:
    core = ConnectionCore("here:1", "me", None)
    core.handshake()
    core.receive(greeting(apis=(ApiRange(ApiKey.METADATA, 0, 0),)))
    with pytest.raises(ProtocolViolationError, match="FETCH"):
        core.version(ApiKey.FETCH)


@given(cuts=st.lists(st.integers(0, 400), max_size=8), order=st.permutations([0, 1, 2]))
def test_answers_find_their_requests_however_the_bytes_come(
    cuts: list[int], order: list[int]
) -> None:
    core = connected()
    ids = [core.request(MetadataRequest(None))[0] for _ in range(3)]
    stream = b"".join(metadata(ids[number]) for number in order)
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    answers = [
        answer
        for start, stop in itertools.pairwise(edges)
        for answer in core.receive(stream[start:stop])
    ]
    assert [answer.correlation_id for answer in answers] == [ids[number] for number in order]
    assert all(type(answer.message) is MetadataResponse for answer in answers)
    assert core.waiting_count == 0


def test_error_frame_ends_its_request_only() -> None:
    core = connected()
    correlation_id, _ = core.request(MetadataRequest(("x",)))
    body = encode_message(ErrorResponse(ErrorCode.UNKNOWN_TOPIC, "gone"), 0)
    flags = int(FrameFlags.RESPONSE | FrameFlags.ERROR)
    [answer] = core.receive(encode_frame(ApiKey.METADATA, 0, flags, correlation_id, body))
    assert isinstance(answer.error, TopicNotFoundError)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x00",
        metadata(999),
        encode_frame(ApiKey.METADATA, 0, 0, 2, b""),
        encode_frame(ApiKey.METADATA, 0, RESPONSE, 2, b"\xc1"),
        encode_frame(ApiKey.FETCH, 0, RESPONSE, 2, b"\x90"),
    ],
)
def test_garbage_is_a_violation(data: bytes) -> None:
    core = connected()
    core.request(MetadataRequest(None))
    with pytest.raises(ProtocolViolationError, match="here:1"):
        core.receive(data)


def test_unanswered_request_does_not_wait() -> None:
    core = connected()
    request = ProduceRequest(0, 1, (ProducePartition("t", 0, b""),))
    core.request(request, answered=False)
    assert core.waiting_count == 0


def test_correlation_ids_wrap() -> None:
    core = connected()
    core._last_id = 0xFFFFFFFF
    assert core.next_id() == 0
