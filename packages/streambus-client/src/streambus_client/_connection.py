"""One connection, without its socket: handshake, versions, and which answer belongs to what.

Rules:
    1. Bytes in, answers out; the shells move the bytes.
    2. The first request is the handshake; no other is made before it was answered.
    3. Correlation ids count up and wrap at 32 bits; an answer with an unknown one is a violation.
    4. After any error that this module raises the stream is out of step: close the connection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streambus_client._tracing import frame_context
from streambus_client._version import __version__
from streambus_client.errors import ClientError, ProtocolViolationError, error_for
from streambus_protocol import (
    APIS,
    FRAME_BYTES_MAX,
    Api,
    ApiKey,
    ErrorCode,
    ErrorResponse,
    Frame,
    FrameDecoder,
    FrameFlags,
    HandshakeRequest,
    HandshakeResponse,
    ProtocolError,
    api_of,
    decode_message,
    encode_frame,
    encode_message,
    negotiate,
    version_for,
)
from streambus_protocol.errors import UnsupportedVersionError

CLIENT_NAME = "streambus-client-python"
ANSWER_BYTES_MAX = 4 * FRAME_BYTES_MAX
"""What this side accepts: one batch always fits an answer, whatever the limits asked for."""

_CORRELATION_MASK = 0xFFFFFFFF
_RESPONSE, _ERROR = int(FrameFlags.RESPONSE), int(FrameFlags.ERROR)  # an int tests bits faster
_TRACED = int(FrameFlags.TRACED)


class Answer(NamedTuple):
    """What came back for a request: a message, or the error that the broker answered with."""

    correlation_id: int
    message: Any
    error: ClientError | None


class ConnectionCore:
    """The state of one connection.

    Args:
        address: for messages.
        client_id: sent in the handshake.
        cluster_id: refuse a broker of another cluster; None accepts any.
    """

    def __init__(self, address: str, client_id: str, cluster_id: str | None) -> None:
        self._address = address
        self._client_id = client_id
        self._cluster_id = cluster_id
        self._decoder = FrameDecoder(ANSWER_BYTES_MAX)
        self._waiting: dict[int, tuple[Api, int]] = {}
        self._last_id = 0
        self._versions: dict[int, int] = {}
        self.broker: HandshakeResponse | None = None

    @property
    def waiting_count(self) -> int:
        """How many requests have not been answered."""
        return len(self._waiting)

    def version(self, key: ApiKey) -> int:
        """The version that was negotiated for an API.

        Raises:
            ProtocolViolationError: the two sides share none.
        """
        try:
            return version_for(self._versions, key)
        except UnsupportedVersionError as error:
            raise ProtocolViolationError(f"{self._address}: {error}") from error

    def next_id(self) -> int:
        """A correlation id that no request under way has."""
        self._last_id = (self._last_id + 1) & _CORRELATION_MASK
        return self._last_id

    def handshake(self) -> bytes:
        """The bytes that open the connection."""
        request = HandshakeRequest(
            f"{CLIENT_NAME}/{self._client_id}", __version__, self._cluster_id
        )
        correlation_id = self.next_id()
        api = APIS[ApiKey.HANDSHAKE]
        self._waiting[correlation_id] = (api, api.version_max)
        body = encode_message(request, api.version_max)
        return encode_frame(api.key, api.version_max, 0, correlation_id, body)

    def request(self, message: tuple[Any, ...], *, answered: bool = True) -> tuple[int, bytes]:
        """Encode a request.

        Args:
            message: one of the protocol's request types.
            answered: False for a produce request with ``acks=0``, which gets no answer.

        Returns:
            Its correlation id, and the bytes to send.

        Raises:
            ProtocolViolationError: the broker speaks no common version of it.
        """
        api = api_of(type(message))
        version = self.version(api.key)
        correlation_id = self.next_id()
        if answered:
            self._waiting[correlation_id] = (api, version)
        body = encode_message(message, version)
        context = frame_context.get()
        flags = _TRACED if context else 0
        return correlation_id, encode_frame(api.key, version, flags, correlation_id, context + body)

    def expect(self, correlation_id: int, key: ApiKey) -> None:
        """Wait for the answer to a request that was encoded elsewhere, under ``next_id``."""
        self._waiting[correlation_id] = (APIS[key], self.version(key))

    def receive(self, data: bytes) -> list[Answer]:
        """Take the next bytes of the stream and give the answers that are now whole.

        Raises:
            ProtocolViolationError: the bytes are not what a StreamBus broker sends.
            BrokerError: the handshake was refused, or the broker has something to say about the
                connection as a whole.
        """
        try:
            frames = self._decoder.receive(data)
        except ProtocolError as error:
            raise ProtocolViolationError(
                f"{self._address} does not speak StreamBus ({error}): check the address"
            ) from error
        return [self._answer(frame) for frame in frames]

    def _answer(self, frame: Frame) -> Answer:
        expected = self._waiting.pop(frame.correlation_id, None)
        if not frame.flags & _RESPONSE:
            raise ProtocolViolationError(f"{self._address} sent a request instead of an answer")
        try:
            if frame.flags & _ERROR:
                problem = decode_message(ErrorResponse, frame.body, 0)
                refused = error_for(problem.error, f"broker {self._address}", problem.detail or "")
                if expected is None or self.broker is None:
                    raise refused
                return Answer(frame.correlation_id, None, refused)
            if expected is None or expected[0].key != frame.api:
                raise ProtocolViolationError(
                    f"{self._address} answered request {frame.correlation_id}, which is not waiting"
                )
            message = decode_message(expected[0].response, frame.body, expected[1])
        except ProtocolError as error:
            raise ProtocolViolationError(f"{self._address}: {error}") from error
        if type(message) is HandshakeResponse:
            self._greeted(message)
        return Answer(frame.correlation_id, message, None)

    def _greeted(self, message: HandshakeResponse) -> None:
        if message.error != ErrorCode.NONE:
            raise error_for(message.error, f"broker {self._address}", message.detail or "")
        self.broker = message
        self._versions = negotiate(message.apis)
