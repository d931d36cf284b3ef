"""Compression keeps every byte; decompression never takes more memory than was agreed."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_protocol import Codec
from streambus_protocol._codec import compress, decompress
from streambus_protocol.errors import (
    BatchError,
    BatchTooLargeError,
    CorruptBatchError,
    UnsupportedCodecError,
)

codecs = st.sampled_from(list(Codec))
REAL_CODECS = [codec for codec in Codec if codec is not Codec.NONE]


@given(codecs, st.binary(max_size=5000))
def test_codec_round_trips(codec: Codec, data: bytes) -> None:
    assert bytes(decompress(codec, compress(codec, data), len(data))) == data


@given(codecs, st.binary(max_size=300), st.integers(0, 5000))
def test_codec_of_garbage_is_refused_by_a_typed_error(
    codec: Codec, data: bytes, size_bytes: int
) -> None:
    with suppress(BatchError):
        assert len(decompress(codec, data, size_bytes)) == size_bytes


@pytest.mark.parametrize("codec", REAL_CODECS, ids=lambda codec: codec.name)
def test_codec_bomb_takes_no_memory(codec: Codec) -> None:
    bomb = compress(codec, bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(BatchTooLargeError):
            decompress(codec, bomb, 64 * 1024 * 1024, size_bytes_max=1024 * 1024)
        with pytest.raises(CorruptBatchError):
            decompress(codec, bomb, 1000, size_bytes_max=1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", list(Codec), ids=lambda codec: codec.name)
def test_codec_refuses_a_wrong_declared_size(codec: Codec) -> None:
    data = compress(codec, b"x" * 100)
    for declared in (99, 101):
        with pytest.raises(CorruptBatchError):
            decompress(codec, data, declared)


def test_codec_names() -> None:
    assert Codec.parse("ZStd") is Codec.ZSTD
    assert Codec.parse(Codec.LZ4) is Codec.LZ4
    for wrong in ("brotli", 7):
        with pytest.raises(UnsupportedCodecError, match="use none, gzip"):
            Codec.parse(wrong)  # type: ignore[arg-type]  # a user's mistake
    for function in (compress, lambda codec, data: decompress(codec, data, 1)):
        with pytest.raises(UnsupportedCodecError):
            function(9, b"x")
