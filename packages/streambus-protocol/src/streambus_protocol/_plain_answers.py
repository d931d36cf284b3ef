"""The usual answers in one step: one partition, and nothing out of the ordinary.

Who produces or fetches one record at a time waits for every step between two sockets. So the answer
that nearly all of them get is packed, and read, by one struct. The bytes are those of the general
message in the same version, except that offsets always take eight bytes; either side may use the
general codec instead, and a reader leaves to it whatever is not plain.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple

from streambus_protocol._apis import ApiKey
from streambus_protocol._frame import FrameFlags
from streambus_protocol._messages import (
    FetchedPartition,
    FetchResponse,
    ProducedPartition,
    ProduceResponse,
)
from streambus_protocol._schema import encode_message

_PRODUCE, _FETCH = int(ApiKey.PRODUCE), int(ApiKey.FETCH)
_RESPONSE = int(FrameFlags.RESPONSE)
_UNCOUNTED_BYTES = 4  # of a frame: its length field
_UINT_64, _BIN_32 = b"\xcf", b"\xc6"
_OFFSETS = (2**62 + 1, 2**62 + 2)  # nothing else in a message looks like these
_BATCHES = b"\x00the batches' place\x00"
_new_tuple = tuple.__new__


class PlainProduced:
    """The answer to a produce request of one partition where all went well, in one version."""

    __slots__ = ("_before_base", "_before_start", "_behind", "_length", "_struct", "_version")

    def __init__(self, version: int) -> None:
        base, start = _OFFSETS
        answer = ProduceResponse(0, (ProducedPartition(0, None, base, -1, start),))
        before, between, behind = _divided(encode_message(answer, version))
        self._before_base, self._before_start, self._behind = before, between, behind
        self._struct = struct.Struct(f">IHBBI{len(before)}sq{len(between)}sq{len(behind)}s")
        self._length = self._struct.size - _UNCOUNTED_BYTES
        self._version = version

    def frame(self, correlation_id: int, base_offset: int, log_start_offset: int) -> bytes:
        """Put the whole frame together; offsets are 0 or more."""
        return self._struct.pack(
            self._length,
            _PRODUCE,
            self._version,
            _RESPONSE,
            correlation_id,
            self._before_base,
            base_offset,
            self._before_start,
            log_start_offset,
            self._behind,
        )

    def read(self, frame: bytes, correlation_id: int) -> int | None:
        """Give the base offset; None where anything is out of the ordinary.

        Args:
            frame: What one ``recv`` gave.
            correlation_id: Of the request.
        """
        if len(frame) != self._struct.size:
            return None
        length, api, version, flags, answered_id, before, base_offset, between, start, behind = (
            self._struct.unpack(frame)
        )
        if (
            answered_id == correlation_id
            and flags == _RESPONSE
            and before == self._before_base
            and between == self._before_start
            and behind == self._behind
            and length == self._length
            and api == _PRODUCE
            and version == self._version
            and base_offset >= 0 <= start
        ):
            offset: int = base_offset
            return offset
        return None


class Fetched(NamedTuple):
    """A plain answer to a fetch: the partition's high watermark, and whole batches."""

    high_watermark: int
    batches: bytes


class PlainFetched:
    """The answer to a fetch of one partition where all went well, in one version."""

    __slots__ = (
        "_before_batches",
        "_before_start",
        "_before_watermark",
        "_behind",
        "_head_bytes",
        "_length",
        "_struct",
        "_version",
    )

    def __init__(self, version: int) -> None:
        watermark, start = _OFFSETS
        part = FetchedPartition(0, None, watermark, start, _BATCHES)
        message = encode_message(FetchResponse(0, (part,)), version)
        before, between, rest = _divided(message)
        mark = bytes((0xC4, len(_BATCHES))) + _BATCHES
        head, found, self._behind = rest.partition(mark)
        assert found, "a fetch response holds its batches"
        self._before_watermark, self._before_start = before, between
        self._before_batches = head + _BIN_32
        self._struct = struct.Struct(
            f">IHBBI{len(before)}sq{len(between)}sq{len(self._before_batches)}sI"
        )
        self._head_bytes = self._struct.size
        self._length = self._head_bytes + len(self._behind) - _UNCOUNTED_BYTES
        self._version = version

    def frame(
        self, correlation_id: int, high_watermark: int, log_start_offset: int, batches: bytes
    ) -> bytes:
        """Put the whole frame together; offsets are 0 or more."""
        size = len(batches)
        head = self._struct.pack(
            self._length + size,
            _FETCH,
            self._version,
            _RESPONSE,
            correlation_id,
            self._before_watermark,
            high_watermark,
            self._before_start,
            log_start_offset,
            self._before_batches,
            size,
        )
        return b"".join((head, batches, self._behind)) if self._behind else head + batches

    def read(self, frame: bytes, correlation_id: int) -> Fetched | None:
        """Give what was fetched; None where anything is out of the ordinary.

        Args:
            frame: What one ``recv`` gave.
            correlation_id: Of the request.
        """
        head_bytes = self._head_bytes
        if len(frame) < head_bytes:
            return None
        (
            length, api, version, flags, answered_id, before, watermark, between, start, mark, size,
        ) = self._struct.unpack_from(frame)  # fmt: skip
        if (
            answered_id == correlation_id
            and flags == _RESPONSE
            and before == self._before_watermark
            and between == self._before_start
            and mark == self._before_batches
            and length == self._length + size == len(frame) - _UNCOUNTED_BYTES
            and api == _FETCH
            and version == self._version
            and watermark >= 0 <= start
        ):
            stop = head_bytes + size
            if frame[stop:] == self._behind:
                fetched: Fetched = _new_tuple(Fetched, (watermark, frame[head_bytes:stop]))
                return fetched
        return None


plain_produced = cache(PlainProduced)
"""Give the plain answer to a produce request of a version; made once."""
plain_fetched = cache(PlainFetched)
"""Give the plain answer to a fetch of a version; made once."""


def _divided(message: bytes) -> tuple[bytes, bytes, bytes]:
    """Cut a message at its two offsets, their marks left in front of them."""
    first, second = (_UINT_64 + offset.to_bytes(8, "big") for offset in _OFFSETS)
    before, found, rest = message.partition(first)
    assert found, "the message holds its first offset"
    between, found, behind = rest.partition(second)
    assert found, "the message holds its second offset, behind the first"
    return before + _UINT_64, between + _UINT_64, behind
