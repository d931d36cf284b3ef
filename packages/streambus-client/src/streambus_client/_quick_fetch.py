"""The fetch of one partition in as few steps as there are: its frame, prepared but for the offset.

Whoever asks for one record at a time waits for every step, so these are measured against a bare TCP
echo.
"""

from __future__ import annotations

import struct

from streambus_protocol import ApiKey, FetchRequest, encode_message

_FRAME = struct.Struct(">IHBBI")
_OFFSET = struct.Struct(">Q")
_FETCH = int(ApiKey.FETCH)
_FRAME_OVERHEAD = 8
_PLACEHOLDER = 2**62 + 1
_UINT_64 = b"\xcf"


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
