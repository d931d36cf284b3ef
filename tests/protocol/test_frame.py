"""Frames survive any division of the stream; what is not a frame is refused before it is held."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_protocol import Frame, FrameDecoder, FrameFlags, encode_frame
from streambus_protocol.errors import FrameTooLargeError, MalformedFrameError

frames = st.builds(
    Frame,
    api=st.integers(0, 2**16 - 1),
    version=st.integers(0, 255),
    flags=st.integers(0, 7),
    correlation_id=st.integers(0, 2**32 - 1),
    body=st.binary(max_size=300),
)


@given(st.lists(frames, max_size=8), st.data())
def test_frames_survive_any_division_of_the_stream(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(*frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder = FrameDecoder()
    received: list[Frame] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.receive(stream[start:stop])
    assert received == sent
    assert decoder.pending_bytes == 0


long_frames = st.builds(
    Frame,
    api=st.just(2),
    version=st.just(0),
    flags=st.integers(0, 7),
    correlation_id=st.integers(0, 2**32 - 1),
    body=st.integers(0, 300_000).map(lambda size: bytes(range(251)) * (size // 251)),
)


@given(st.lists(frames | long_frames, min_size=1, max_size=4), st.data())
def test_long_frames_survive_any_division_of_the_stream(
    sent: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(*frame) for frame in sent)
    near = st.sampled_from([0, 1, 4, 11, 12, 13, 4095, 4096])
    cuts = data.draw(st.lists(st.integers(0, len(stream)) | near, max_size=12))
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    decoder = FrameDecoder()
    received: list[Frame] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.receive(stream[start:stop])
        whole = sum(12 + len(frame.body) for frame in received)
        assert decoder.pending_bytes == stop - whole
    assert received == sent


def test_long_frame_byte_by_byte_costs_no_object_for_each() -> None:
    decoder = FrameDecoder()
    frame = encode_frame(2, 1, 1, 7, bytes(100_000))
    tracemalloc.start()
    try:
        for index in range(len(frame) - 1):
            assert decoder.receive(frame[index : index + 1]) == []
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 200_000
    assert decoder.receive(frame[-1:]) == [Frame(2, 1, 1, 7, bytes(100_000))]


def test_frame_byte_by_byte() -> None:
    decoder = FrameDecoder()
    frame = encode_frame(2, 1, FrameFlags.RESPONSE, 7, b"body")
    arrived = [decoder.receive(frame[i : i + 1]) for i in range(len(frame))]
    assert arrived[:-1] == [[]] * (len(frame) - 1)
    assert arrived[-1] == [Frame(2, 1, 1, 7, b"body")]


def test_frame_over_the_limit_is_refused_by_its_first_four_bytes() -> None:
    decoder = FrameDecoder(frame_bytes_max=1000)
    with pytest.raises(FrameTooLargeError) as caught:
        decoder.receive((2**31).to_bytes(4, "big"))
    assert caught.value.length_bytes == 2**31
    assert caught.value.limit_bytes == 1000
    assert decoder.pending_bytes == 0
    with pytest.raises(FrameTooLargeError):
        decoder.receive(b"more")


def test_frame_limit_may_grow_in_the_middle_of_a_connection() -> None:
    decoder = FrameDecoder(frame_bytes_max=50)
    assert decoder.receive(encode_frame(0, 0, 0, 1, b"small")) != []
    decoder.frame_bytes_max = 10_000
    assert decoder.receive(encode_frame(0, 0, 0, 2, bytes(9_000))) != []


@pytest.mark.parametrize("length", [0, 1, 7])
def test_frame_shorter_than_its_header_is_refused(length: int) -> None:
    with pytest.raises(MalformedFrameError, match="fewer than the 8"):
        FrameDecoder().receive(length.to_bytes(4, "big") + bytes(8))


def test_frame_with_reserved_flags_is_refused() -> None:
    with pytest.raises(MalformedFrameError, match="0x80"):
        FrameDecoder().receive(encode_frame(0, 0, 0x80, 0, b""))


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_garbage_never_holds_more_than_the_limit(pieces: list[bytes]) -> None:
    decoder = FrameDecoder(frame_bytes_max=100)
    try:
        for piece in pieces:
            decoder.receive(piece)
            assert decoder.pending_bytes <= 104
    except (FrameTooLargeError, MalformedFrameError):
        assert decoder.pending_bytes == 0
