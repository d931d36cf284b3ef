"""Frames on a connection between two servers: length, kind, checksum, payload.

Pure. ``docs/formats/raft-wire.md`` describes frame, greeting and messages. The checksum is xxh3-64
of the payload, seeded with the kind. Limits are checked as soon as the length is known, before
memory is taken for what it promises.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_raft._types import NUMBER_MAX
from streambus_raft.errors import MessageMalformedError, MessageTooLargeError

MAGIC: Final = "streambus-raft"
VERSION: Final = 1
GREETING_BYTES_MAX: Final = 8 * 1024
_HEAD: Final = struct.Struct("<IBQ")  # payload length, kind, checksum
HEAD_BYTES: Final = _HEAD.size


class FrameKind(IntEnum):
    """What a frame's payload is."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    MESSAGE = 4
    FORWARD = 5


class RefusalCode(IntEnum):
    """Why a greeting is refused."""

    VERSION = 1
    CLUSTER = 2
    WRONG_NODE = 3
    BUSY = 4


class Hello(NamedTuple):
    """The first frame of whoever opened the connection.

    Attributes:
        version: The format version it speaks.
        cluster: Its cluster.
        sender: Its node id.
        to: Which node it believes to be speaking to.
    """

    version: int
    cluster: str
    sender: int
    to: int


def encode_frame(kind: FrameKind, payload: bytes) -> bytes:
    """Frame a payload. Cost: one copy."""
    return _HEAD.pack(len(payload), kind, xxh3_64_intdigest(payload, kind)) + payload


def encode_hello(hello: Hello) -> bytes:
    """Encode the whole first frame."""
    return encode_frame(FrameKind.HELLO, msgpack.packb((MAGIC, *hello)))


def decode_hello(payload: bytes | memoryview) -> Hello:
    """Decode a first frame's payload.

    Raises:
        MessageMalformedError: it is no greeting of this protocol.
    """
    fields = _unpack(payload)
    types = [type(field) for field in fields]
    if types != [str, int, str, int, int] or fields[0] != MAGIC:
        raise MessageMalformedError("no greeting of this protocol")
    hello = Hello(*fields[1:])  # type: ignore[arg-type]  # the types were just compared
    if not 0 < hello.sender <= NUMBER_MAX or not 0 < hello.to <= NUMBER_MAX:
        raise MessageMalformedError("a greeting names a node out of range")
    return hello


def encode_refused(code: RefusalCode, text: str) -> bytes:
    """Encode the whole frame that refuses a greeting."""
    return encode_frame(FrameKind.REFUSED, msgpack.packb((int(code), text)))


def decode_refused(payload: bytes | memoryview) -> tuple[int, str]:
    """Decode why the greeting was refused.

    Raises:
        MessageMalformedError: it is nothing of the kind.
    """
    fields = _unpack(payload)
    if [type(field) for field in fields] != [int, str]:
        raise MessageMalformedError("a refusal has another shape")
    return fields  # type: ignore[return-value]  # the types were just compared


def _unpack(payload: bytes | memoryview) -> tuple[object, ...]:
    try:
        fields = msgpack.unpackb(payload, use_list=False)
    except (ValueError, msgpack.UnpackException) as exc:
        raise MessageMalformedError(f"no msgpack: {exc}") from exc
    return fields if isinstance(fields, tuple) else ()


class FrameReader:
    """Cuts a stream of bytes into frames.

    Args:
        bytes_max: Longest frame that is accepted; can be changed between calls.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes and return the frames they complete, as kind and payload.

        Raises:
            MessageTooLargeError: a frame promises to be longer than ``bytes_max``.
            MessageMalformedError: a checksum is wrong, or a frame is empty. The stream has lost its
                place and must be closed, in both cases.
        """
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        position, size = 0, len(buffer)
        while size - position >= HEAD_BYTES:
            length, kind, checksum = _HEAD.unpack_from(buffer, position)
            if length > self.bytes_max:
                raise MessageTooLargeError(length, self.bytes_max)
            if length == 0:
                raise MessageMalformedError("an empty frame")
            start = position + HEAD_BYTES
            end = start + length
            if end > size:
                break
            payload = bytes(memoryview(buffer)[start:end])
            if xxh3_64_intdigest(payload, kind) != checksum:
                raise MessageMalformedError("a frame's checksum does not match")
            frames.append((kind, payload))
            position = end
        if position:
            del buffer[:position]
        return frames
