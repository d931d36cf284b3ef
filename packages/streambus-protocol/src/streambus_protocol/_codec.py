"""Compression of a batch's columns, and the one place where anything is decompressed.

Decompression writes into a buffer of the size that the batch declares, which was checked against
the cap before: a bomb cannot make it larger, whatever its own frame claims (``zstandard`` and the
``output_len`` of cramjam do not hold such a cap).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import cramjam

from streambus_protocol.errors import BatchTooLargeError, CorruptBatchError, UnsupportedCodecError

if TYPE_CHECKING:
    from collections.abc import Callable

DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024
"""The cap by default: 4 times the largest frame."""


class Codec(IntEnum):
    """How a batch's columns are compressed; the number is the batch header's codec field."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

    @classmethod
    def parse(cls, name: str | Codec) -> Codec:
        """Read a codec's name as users write it, in any case.

        Raises:
            UnsupportedCodecError: there is no such codec.
        """
        if isinstance(name, Codec):
            return name
        try:
            return cls[name.upper()]
        except (KeyError, AttributeError):
            raise UnsupportedCodecError(name) from None


_COMPRESS: dict[int, Callable[[bytes], object]] = {
    Codec.GZIP: cramjam.gzip.compress,
    Codec.SNAPPY: cramjam.snappy.compress,
    Codec.LZ4: cramjam.lz4.compress,
    Codec.ZSTD: cramjam.zstd.compress,
}
_DECOMPRESS_INTO: dict[int, Callable[[bytes | memoryview, bytearray], int]] = {
    Codec.GZIP: cramjam.gzip.decompress_into,
    Codec.SNAPPY: cramjam.snappy.decompress_into,
    Codec.LZ4: cramjam.lz4.decompress_into,
    Codec.ZSTD: cramjam.zstd.decompress_into,
}


def compress(codec: int, data: bytes) -> bytes:
    """Compress ``data``; with Codec.NONE it is given back as it is.

    Raises:
        UnsupportedCodecError: there is no such codec.
    """
    if codec == Codec.NONE:
        return data
    function = _COMPRESS.get(codec)
    if function is None:
        raise UnsupportedCodecError(codec)
    return bytes(function(data))  # type: ignore[call-overload, no-any-return]  # a cramjam.Buffer


def decompress(
    codec: int,
    data: bytes | memoryview,
    size_bytes: int,
    size_bytes_max: int = DECOMPRESSED_BYTES_MAX,
) -> bytes | bytearray | memoryview:
    """Decompress to exactly ``size_bytes``.

    Args:
        codec: a Codec number as it was received.
        data: the compressed bytes.
        size_bytes: the size that the sender declares.
        size_bytes_max: the most that the receiver is willing to take memory for.

    Raises:
        BatchTooLargeError: more is declared than ``size_bytes_max``; no memory was taken.
        CorruptBatchError: the data is damaged, or its size is not the declared one.
        UnsupportedCodecError: there is no such codec.
    """
    if size_bytes > size_bytes_max:
        raise BatchTooLargeError("decompressed columns", size_bytes, size_bytes_max)
    if codec == Codec.NONE:
        if len(data) != size_bytes:
            raise CorruptBatchError(f"{len(data)} bytes of columns where {size_bytes} are declared")
        return data
    function = _DECOMPRESS_INTO.get(codec)
    if function is None:
        raise UnsupportedCodecError(codec)
    buffer = bytearray(size_bytes)
    try:
        written = function(data, buffer)
    except Exception as error:
        raise CorruptBatchError(f"{Codec(codec).name.lower()} data is damaged: {error}") from error
    if written != size_bytes:
        raise CorruptBatchError(f"decompressed to {written} bytes where {size_bytes} are declared")
    return buffer
