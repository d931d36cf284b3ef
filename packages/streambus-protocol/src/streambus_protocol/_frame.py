"""Frames: how messages are cut out of a byte stream.

A frame is a fixed header of 12 bytes, big-endian, and a body (``docs/formats/frame.md``)::

    u32 length           bytes after this field: 8 + body
    u16 api              which request (a response repeats it)
    u8  version          of that API's message
    u8  flags            see FrameFlags
    u32 correlation_id   a response repeats its request's

Nothing is buffered for a frame whose declared length is over the limit, and a limit may change in
the middle of a connection (it is small before the handshake).
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import NamedTuple

from streambus_protocol.errors import FrameTooLargeError, MalformedFrameError

HEADER = struct.Struct(">IHBBI")
HEADER_BYTES = HEADER.size
_LENGTH_FIELD_BYTES = 4
_LENGTH_MIN = HEADER_BYTES - _LENGTH_FIELD_BYTES

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""What a receiver accepts by default: length field, header and body together stay below this."""

HANDSHAKE_FRAME_BYTES_MAX = 64 * 1024
"""What a broker accepts before a connection has shown that it speaks the protocol."""


class FrameFlags(IntFlag):
    """What the header's flag byte says; the other bits are reserved and must be 0."""

    RESPONSE = 1
    ERROR = 2
    """The body is an ErrorResponse: the request as a whole could not be served."""
    TRACED = 4
    """A trace context of 25 bytes precedes the body (see ``_trace``)."""


_new_tuple = tuple.__new__
_LONG_FRAME_BYTES = 64 * 1024
"""From this length on a frame's pieces are kept as they came."""
_PIECE_BYTES_MIN = 4096
"""Smaller pieces are gathered."""
_KNOWN_FLAGS = int(FrameFlags.RESPONSE | FrameFlags.ERROR | FrameFlags.TRACED)


class Frame(NamedTuple):
    """One frame as it was received.

    Attributes:
        api: the API number, 0 to 65535, not checked.
        version: 0 to 255, not checked.
        flags: an int of FrameFlags bits, known ones only.
        correlation_id: 0 to 2**32 - 1.
        body: the bytes behind the header (trace context included where flagged).
    """

    api: int
    version: int
    flags: int
    correlation_id: int
    body: bytes


def encode_frame(api: int, version: int, flags: int, correlation_id: int, body: bytes) -> bytes:
    """Put a header before ``body``; the caller keeps to the receiver's limit."""
    return HEADER.pack(_LENGTH_MIN + len(body), api, version, flags, correlation_id) + body


class _LongFrame:
    """A long frame whose header has come: its body's pieces, until they are joined once."""

    __slots__ = ("header", "missing", "pieces")

    def __init__(self, header: tuple[int, int, int, int], missing: int) -> None:
        self.header = header
        self.missing = missing
        self.pieces: list[bytes | bytearray | memoryview] = []

    def add(self, data: bytes | memoryview) -> None:
        """Take a piece that does not complete the body."""
        self.missing -= len(data)
        if len(data) >= _PIECE_BYTES_MIN:
            self.pieces.append(data)
        elif self.pieces and type(self.pieces[-1]) is bytearray:
            self.pieces[-1] += data  # who sends byte by byte costs no object for each
        else:
            self.pieces.append(bytearray(data))

    def finish(self, data: memoryview) -> Frame:
        """Take the last piece and give the frame."""
        self.pieces.append(data)
        frame: Frame = _new_tuple(Frame, (*self.header, b"".join(self.pieces)))
        return frame


class FrameDecoder:
    """Bytes in, frames out; one for each direction of a connection. Not thread-safe.

    A long frame is copied once: its pieces are kept as they came, and joined when it is whole.
    After an error the stream is out of step: every later call raises the same error again.
    """

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._pending = bytearray()
        self._long: _LongFrame | None = None
        self._long_bytes = 0
        self._error: MalformedFrameError | FrameTooLargeError | None = None

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        if self._long is not None:
            return self._long_bytes - self._long.missing
        return len(self._pending)

    def receive(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream and give every frame that is now whole.

        Args:
            data: the bytes as they came, any number of them.

        Raises:
            FrameTooLargeError: a frame declares more than ``frame_bytes_max``.
            MalformedFrameError: a frame is shorter than its header, or has reserved flags set.
            (Frames before the bad one in the same ``data`` are not delivered: a peer that sends
            garbage is closed.)
        """
        if self._error is not None:
            raise self._error
        frames: list[Frame] = []
        position, end = 0, len(data)
        long = self._long
        if long is not None:
            if end < long.missing:
                long.add(data)
                return frames
            position = long.missing
            frames.append(long.finish(memoryview(data)[:position]))
            self._long = None
        elif self._pending:
            pending = self._pending
            pending += data
            if len(pending) < self._needed(pending):
                return frames
            data = bytes(pending)
            end = len(data)
            pending.clear()
        while end - position >= HEADER_BYTES:
            length, api, version, flags, correlation_id = HEADER.unpack_from(data, position)
            if length < _LENGTH_MIN or length > self.frame_bytes_max or flags & ~_KNOWN_FLAGS:
                self._refuse(length, flags)
            stop = position + _LENGTH_FIELD_BYTES + length
            if stop > end:
                if length >= _LONG_FRAME_BYTES:
                    self._long_bytes = stop - position
                    position += HEADER_BYTES
                    self._long = _LongFrame((api, version, flags, correlation_id), stop - position)
                    # A view keeps all of the data: right where it is most of it, as usual.
                    most = 2 * position <= end
                    self._long.add(memoryview(data)[position:] if most else data[position:])
                    return frames
                break
            body = data[position + HEADER_BYTES : stop]
            frames.append(_new_tuple(Frame, (api, version, flags, correlation_id, body)))
            position = stop
        if position < end:
            self._pending += data[position:] if position else data
            self._needed(self._pending)
        return frames

    def _needed(self, pending: bytearray) -> int:
        """Bytes until the first pending frame is whole; judges its length once it is known.

        Of a long frame its header will do.
        """
        if len(pending) < _LENGTH_FIELD_BYTES:
            return _LENGTH_FIELD_BYTES
        length = int.from_bytes(pending[:_LENGTH_FIELD_BYTES], "big")
        if length < _LENGTH_MIN or length > self.frame_bytes_max:
            self._refuse(length, 0)
        return HEADER_BYTES if length >= _LONG_FRAME_BYTES else length + _LENGTH_FIELD_BYTES

    def _refuse(self, length: int, flags: int) -> None:
        self._pending.clear()
        if length > self.frame_bytes_max:
            self._error = FrameTooLargeError(length, self.frame_bytes_max)
        elif length < _LENGTH_MIN:
            self._error = MalformedFrameError(
                f"a frame declares {length} bytes, fewer than the {_LENGTH_MIN} of its own header"
            )
        else:
            self._error = MalformedFrameError(f"a frame has reserved flags set: 0x{flags:02x}")
        raise self._error
