"""Every error that this package raises, below one root.

An error says which side erred only by where it is raised: a broker that meets one while it decodes
a request answers with ``error.code`` and goes on; a client that meets one in a response closes the
connection, because it can no longer know what the following bytes mean.
"""

from __future__ import annotations

from streambus_protocol._error_code import ErrorCode


class ProtocolError(Exception):
    """The root: bytes or values that the protocol does not allow.

    Attributes:
        code: the error code that a broker answers with.
    """

    code: ErrorCode = ErrorCode.MALFORMED_REQUEST

    @property
    def retriable(self) -> bool:
        """Whether sending the same again may succeed."""
        return self.code.retriable


class MalformedFrameError(ProtocolError):
    """A frame's header contradicts itself; the stream cannot be read any further."""


class FrameTooLargeError(ProtocolError):
    """A frame declares more bytes than the receiver accepts; nothing of it was buffered.

    Attributes:
        length_bytes: what the frame declares.
        limit_bytes: what the receiver accepts at this point of the connection.
    """

    code = ErrorCode.FRAME_TOO_LARGE

    def __init__(self, length_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"a frame of {length_bytes} bytes is over the limit of {limit_bytes} bytes: "
            "send smaller requests, or raise the limit at the receiver"
        )
        self.length_bytes = length_bytes
        self.limit_bytes = limit_bytes


class MalformedMessageError(ProtocolError):
    """A body is not what its type and version declare.

    Attributes:
        message_type: the name of the message.
        where: the path of the field, such as ``partitions[2].offset``.
    """

    def __init__(self, message_type: str, where: str, problem: str) -> None:
        super().__init__(f"{message_type}{'.' + where if where else ''}: {problem}")
        self.message_type = message_type
        self.where = where


class UnsupportedApiError(ProtocolError):
    """A frame asks for an API number that this side does not know."""

    code = ErrorCode.UNSUPPORTED_API

    def __init__(self, api: int) -> None:
        super().__init__(f"API {api} is unknown here: upgrade this side, or do not use it")
        self.api = api


class UnsupportedVersionError(ProtocolError):
    """The two sides share no version of an API, or a frame names one outside the range."""

    code = ErrorCode.UNSUPPORTED_VERSION

    def __init__(self, api: str, asked: str, supported: str) -> None:
        super().__init__(f"{api}: {asked} is not supported, {supported} is: upgrade the older side")
        self.api = api


class BatchError(ProtocolError):
    """The root of what can be wrong with a record batch."""

    code = ErrorCode.CORRUPT_BATCH


class CorruptBatchError(BatchError):
    """A batch is cut short, has a wrong checksum, or columns that do not fit its header."""


class UnsupportedBatchError(BatchError):
    """A batch has a magic number, a flag or a reserved field that this version does not know."""

    code = ErrorCode.UNSUPPORTED_VERSION


class UnsupportedCodecError(BatchError):
    """A batch names a compression codec that does not exist."""

    code = ErrorCode.UNSUPPORTED_CODEC

    def __init__(self, codec: object) -> None:
        super().__init__(f"codec {codec!r} is unknown: use none, gzip, snappy, lz4 or zstd")
        self.codec = codec


class BatchTooLargeError(BatchError):
    """A batch, compressed or not, is larger than the limit.

    Attributes:
        size_bytes: the size that was found or declared.
        limit_bytes: the limit.
    """

    code = ErrorCode.MESSAGE_TOO_LARGE

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{what} of {size_bytes} bytes is over the limit of {limit_bytes} bytes")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InvalidRecordError(ProtocolError):
    """A record that a caller wants to encode is not one; nothing was encoded."""

    code = ErrorCode.INVALID_REQUEST
