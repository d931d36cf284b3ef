"""Connections from one broker to another: the client's protocol, spoken by a broker.

A `PeerConnection` is one connection with its handshake done; `request` waits for the answer,
`post` sends what is not answered. Everything is on the event loop; nothing is retried here.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any, TypeVar, cast

from streambus_broker._version import __version__
from streambus_broker.errors import BrokerError
from streambus_protocol import (
    ApiKey,
    ErrorCode,
    ErrorResponse,
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

if TYPE_CHECKING:
    from streambus_protocol import Frame

_ERROR = int(FrameFlags.ERROR)
_ResponseT = TypeVar("_ResponseT", bound=tuple[Any, ...])
_QUEUED_BYTES_MAX = 64 * 1024 * 1024
_BETWEEN_BROKERS = (
    ApiKey.RAFT_MESSAGES,
    ApiKey.BROKER_HEARTBEAT,
    ApiKey.REPLICA_FETCH,
    ApiKey.REPLICA_PROGRESS,
    ApiKey.DESCRIBE_CLUSTER,
    ApiKey.ALTER_MEMBER,
)
"""Without a common version of each of these two brokers are not of one cluster."""


class PeerError(BrokerError):
    """Another broker cannot be reached, broke off, or refused; try again later.

    Attributes:
        code: What it answered, INTERNAL where it did not answer at all.
        refused: Whether its host lives and nobody listens there.
    """

    def __init__(
        self, problem: str, code: int = ErrorCode.INTERNAL, *, refused: bool = False
    ) -> None:
        self.code = code
        self.refused = refused
        super().__init__(problem)


class PeerConnection(asyncio.Protocol):
    """See the module. Made by `connect`.

    Attributes:
        cluster_id: The other side's cluster; empty while that is not formed.
        broker_id: The other side's node id.
        closed: Set when the connection ended.
        heard_s: When something came last, by the loop's clock.
    """

    def __init__(self) -> None:
        self.cluster_id = ""
        self.broker_id = -1
        self.closed = asyncio.Event()
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._pending: dict[int, tuple[asyncio.Future[Any], type[Any] | None, int]] = {}
        self._correlation = 0
        self._versions: dict[int, int] = {}
        self._loop = asyncio.get_running_loop()
        self.heard_s = self._loop.time()

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what still waits."""
        self.closed.set()
        self._fail_all(PeerError(f"the connection broke: {exc or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        """Take answers."""
        self.heard()
        try:
            for frame in self._decoder.receive(data):
                self._take(frame)
        except ProtocolError as exc:
            self._fail_all(PeerError(f"it sent what is no answer: {exc}", exc.code))
            self.close()

    def _take(self, frame: Frame) -> None:
        waiting = self._pending.pop(frame.correlation_id, None)
        if waiting is None:
            return
        future, response, version = waiting
        if future.done():
            return
        if frame.flags & _ERROR:
            error = decode_message(ErrorResponse, frame.body, 0)
            future.set_exception(PeerError(error.detail or "refused", error.error))
        elif response is None:
            future.set_result(None)
        else:
            future.set_result(decode_message(response, frame.body, version))

    def _fail_all(self, error: PeerError) -> None:
        pending, self._pending = self._pending, {}
        for future, _, _ in pending.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever waits hears of it; nobody need wait

    def heard(self) -> None:
        """Take note that the other side has answered, on this connection or another one."""
        self.heard_s = self._loop.time()

    # --- use -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection."""
        self.closed.set()
        if self._transport is not None:
            self._transport.abort()

    @property
    def queued_bytes(self) -> int:
        """What was written and has not left this host."""
        return self._transport.get_write_buffer_size()

    def ask(
        self, request: tuple[Any, ...], response: type[_ResponseT]
    ) -> asyncio.Future[_ResponseT]:
        """Send a request; the future gives its answer or `PeerError`."""
        return self._ask(request, response)

    def _ask(self, request: tuple[Any, ...], response: type[Any] | None) -> asyncio.Future[Any]:
        """As `ask`; None where it only matters that an answer comes."""
        future: asyncio.Future[Any] = self._loop.create_future()
        api = api_of(type(request))
        if self.closed.is_set():
            future.set_exception(PeerError("the connection is closed"))
            future.exception()  # as in `_fail_all`
            return future
        try:
            version = 0 if api.key == ApiKey.HANDSHAKE else version_for(self._versions, api.key)
        except ProtocolError as exc:
            future.set_exception(PeerError(str(exc), exc.code))
            return future
        self._correlation = (self._correlation + 1) & 0xFFFFFFFF
        self._pending[self._correlation] = (future, response, version)
        body = encode_message(request, version)
        self._transport.write(encode_frame(api.key, version, 0, self._correlation, body))
        return future

    async def request(
        self, request: tuple[Any, ...], response: type[_ResponseT], timeout_s: float
    ) -> _ResponseT:
        """Send a request and wait for its answer.

        Raises:
            PeerError: The connection broke, the time ran out, or the whole request was refused.
        """
        answer: _ResponseT = await self._within(timeout_s, self._ask(request, response))
        return answer

    @staticmethod
    async def _within(timeout_s: float, answer: asyncio.Future[Any]) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise PeerError(f"no answer within {timeout_s:g} s") from None

    def post(self, request: tuple[Any, ...]) -> bool:
        """Send what is not answered; False where it was dropped."""
        api = api_of(type(request))
        version = self._versions.get(api.key)
        if self.closed.is_set() or version is None or self.queued_bytes > _QUEUED_BYTES_MAX:
            return False
        self._transport.write(
            encode_frame(api.key, version, 0, 0, encode_message(request, version))
        )
        return True

    async def probe(self, timeout_s: float) -> None:
        """See whether the other side still answers on this connection.

        Raises:
            PeerError: It does not.
        """
        await self._within(timeout_s, self._ask(_hello(self.cluster_id or None), None))

    async def _greet(self, cluster_id: str | None, timeout_s: float) -> None:
        answer = await self.request(_hello(cluster_id), HandshakeResponse, timeout_s)
        if answer.error:
            raise PeerError(answer.detail or "the handshake was refused", answer.error)
        self.cluster_id = answer.cluster_id
        self.broker_id = answer.broker_id
        self._versions = negotiate(answer.apis)
        _check_versions(answer, self._versions)
        self._decoder.frame_bytes_max = max(answer.frame_bytes_max, self._decoder.frame_bytes_max)


def _hello(cluster_id: str | None) -> HandshakeRequest:
    return HandshakeRequest("streambus-broker", __version__, cluster_id)


def _check_versions(answer: HandshakeResponse, versions: dict[int, int]) -> None:
    """Refuse a broker with which nothing could be done.

    Raises:
        PeerError: It is on its own, or of a release too far from this one.
    """
    if ApiKey.RAFT_MESSAGES not in {each.api for each in answer.apis}:
        raise PeerError(
            "it is a broker on its own, and belongs to no cluster", ErrorCode.UNSUPPORTED_API
        )
    missing = [key.name for key in _BETWEEN_BROKERS if key not in versions]
    if missing:
        raise PeerError(
            f"it is StreamBus {answer.broker_version}, this broker is {__version__}: they share no"
            f" version of {', '.join(missing)}; upgrade the older one",
            ErrorCode.UNSUPPORTED_VERSION,
        )


def _is_refusal(error: OSError) -> bool:  # asyncio's TimeoutError is one
    """Whether nobody listens, at any of the addresses that the name has."""
    if error.errno is not None:
        return error.errno == errno.ECONNREFUSED
    # Where asyncio has tried several addresses, it tells of them in one sentence alone.
    tried = str(error).count("[Errno ")
    return 0 < tried == str(error).count(f"[Errno {errno.ECONNREFUSED}]")


async def connect(
    host: str,
    port: int,
    *,
    cluster_id: str | None,
    expect: int | None,
    timeout_s: float,
) -> PeerConnection:
    """Connect to another broker.

    Args:
        host: Where.
        port: Where.
        cluster_id: The cluster that it must belong to; None while that is not known.
        expect: The node id that it must have; None for any.
        timeout_s: How long connecting and greeting may take, each.

    Raises:
        PeerError: It cannot be reached, or is another one.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            _, peer = await loop.create_connection(PeerConnection, host, port)
    except (OSError, TimeoutError) as exc:
        refused = _is_refusal(exc)
        why = "nobody listens there" if refused else str(exc) or f"no answer in {timeout_s:g} s"
        raise PeerError(f"{host}:{port} cannot be reached: {why}", refused=refused) from exc
    try:
        try:
            await peer._greet(cluster_id or None, timeout_s)
        except PeerError as exc:
            raise PeerError(f"{host}:{port}: {exc}", exc.code) from exc
        if expect is not None and peer.broker_id != expect:
            raise PeerError(f"{host}:{port} is broker {peer.broker_id}, not {expect}")
        if cluster_id and peer.cluster_id and peer.cluster_id != cluster_id:
            raise PeerError(
                f"{host}:{port} belongs to cluster {peer.cluster_id}, not {cluster_id}",
                ErrorCode.WRONG_CLUSTER,
            )
    except BaseException:
        peer.close()
        raise
    return peer
