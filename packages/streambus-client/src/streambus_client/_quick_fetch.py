"""The fetch of one partition in as few steps as there are: a prepared frame, a plain answer.

Whoever asks for one record at a time waits for every step, so these are measured against a bare TCP
echo. Anything out of the ordinary is left to the general way, which judges the same bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgpack

from streambus_protocol import ApiKey, FetchRequest, encode_message

_FRAME = struct.Struct(">IHBBI")
_OFFSET = struct.Struct(">Q")
_FETCH = int(ApiKey.FETCH)
_FRAME_OVERHEAD = 8
_PLACEHOLDER = 2**62 + 1
_UINT_64 = b"\xcf"
_unpack = msgpack.unpackb


class FetchTemplate:
    """The frame of a fetch request for one partition, all but the offset.

    Args:
        request: for one partition, at any offset.
        version: the negotiated version of FETCH.
    """

    __slots__ = ("_head", "_length", "_tail", "_version")

    def __init__(self, request: FetchRequest, version: int) -> None:
        [partition] = request.partitions
        placed = request._replace(partitions=(partition._replace(offset=_PLACEHOLDER),))
        head, found, tail = encode_message(placed, version).partition(
            _UINT_64 + _OFFSET.pack(_PLACEHOLDER)
        )
        assert found, "a fetch request holds its offset"
        self._head = head + _UINT_64
        self._tail = tail
        self._version = version
        self._length = _FRAME_OVERHEAD + len(self._head) + _OFFSET.size + len(tail)

    def frame(self, correlation_id: int, offset: int) -> bytes:
        """Put header and request together."""
        return b"".join(
            (
                _FRAME.pack(self._length, _FETCH, self._version, 0, correlation_id),
                self._head,
                _OFFSET.pack(offset),
                self._tail,
            )
        )


class Fetched(NamedTuple):
    """A plain answer: the partition's high watermark, and whole batches."""

    high_watermark: int
    batches: bytes


def read_fetched(frame: bytes, correlation_id: int) -> Fetched | None:
    """Read the answer to a fetch of one partition, if all of it went well.

    Args:
        frame: what one ``recv`` gave.
        correlation_id: of the request.

    Returns:
        None where anything is out of the ordinary: an error, a partial frame, another layout.
    """
    try:
        length, api, _, flags, answered_id = _FRAME.unpack_from(frame)
        if length != len(frame) - 4 or api != _FETCH or flags != 1 or answered_id != correlation_id:
            return None
        _, ((error, _, high_watermark, _, batches),) = _unpack(frame[12:])
    except (ValueError, TypeError, struct.error, msgpack.UnpackException):
        return None
    if error != 0 or type(high_watermark) is not int or type(batches) is not bytes:
        return None
    return Fetched(high_watermark, batches)
