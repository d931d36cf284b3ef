"""One connection to one broker with a task that reads it, and the connections by address.

Rules:
    1. Answers are read by the connection's own task, so a caller that is cancelled while it waits
       does no harm; one that is cancelled while it writes closes the connection.
    2. Requests may overlap; each waits for its own answer.
    3. Only what anyio's TCP streams offer is used, so that a simulated loop can carry it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute

from streambus_client._connection import Answer, ConnectionCore
from streambus_client._operations import OVERDUE_S, Looks
from streambus_client.errors import (
    ClientError,
    ConnectionLostError,
    RequestTimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import SocketStream, TaskGroup

    from streambus_client._addresses import Address
    from streambus_client._operations import Call
    from streambus_client._options import ClientOptions

RECEIVE_BYTES = 256 * 1024
_LOST = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Reply:
    """The answer to one request: not there, there, or never to come."""

    __slots__ = ("_event", "answer", "error", "on_done")

    def __init__(self, on_done: Callable[[], None] | None) -> None:
        self.answer: Answer | None = None
        self.error: ClientError | None = None
        self.on_done = on_done
        self._event: anyio.Event | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.answer is not None or self.error is not None

    def end(self, answer: Answer | None, error: ClientError | None) -> None:
        """End it, once; tells who waits."""
        self.answer, self.error = answer, error
        if self._event is not None:
            self._event.set()
        if self.on_done is not None:
            self.on_done()

    async def wait(self) -> None:
        """Wait for the end."""
        if not self.done:
            self._event = anyio.Event()
            await self._event.wait()

    def message(self) -> Any:
        """The message, or raise why there is none. Only after the end."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        if self.answer.error is not None:
            raise self.answer.error
        return self.answer.message


class AsyncConnection:
    """A connection, after ``open``.

    Args:
        address: of the broker.
        options: of the client.
        cluster_id: refuse another cluster; None accepts any.
    """

    def __init__(self, address: Address, options: ClientOptions, cluster_id: str | None) -> None:
        self.address = address
        self.name = str(address)
        self.core = ConnectionCore(self.name, options.client_id, cluster_id)
        self.closed = False
        self._options = options
        self._replies: dict[int, Reply] = {}
        self._send_lock = anyio.Lock(fast_acquire=True)  # writing yields anyway
        self._stream: SocketStream | None = None

    async def open(self, tasks: TaskGroup, timeout_s: float) -> None:
        """Connect, shake hands, and start reading in ``tasks``, all within ``timeout_s``.

        Raises:
            ConnectionLostError: it could not be opened, or not in time.
            ProtocolViolationError: the other side is no broker.
        """
        try:
            with anyio.fail_after(timeout_s):
                self._stream = await anyio.connect_tcp(self.address.host, self.address.port)
                raw = self._stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - not Django's
                if isinstance(raw, socket.socket):
                    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._stream.send(self.core.handshake())
                while self.core.broker is None:
                    self.core.receive(await self._stream.receive(RECEIVE_BYTES))
        except TimeoutError as error:
            await self.close("it took too long")
            raise ConnectionLostError(self.name, "connecting took too long") from error
        except _LOST as error:
            await self.close(reason_of(error))
            raise ConnectionLostError(self.name, reason_of(error)) from error
        except BaseException:
            await self.close("opening was interrupted")
            raise
        tasks.start_soon(self._read)

    async def begin(
        self,
        message: tuple[Any, ...],
        *,
        answered: bool = True,
        on_done: Callable[[], None] | None = None,
    ) -> Reply:
        """Send a request; its answer comes into the reply.

        Raises:
            ConnectionLostError: it could not be written.
        """
        reply = Reply(on_done)
        correlation_id, frame = self.core.request(message, answered=answered)
        if answered:
            self._replies[correlation_id] = reply
        try:
            async with self._send_lock:
                if self.closed or self._stream is None:  # also while the lock was waited for
                    raise anyio.ClosedResourceError
                await self._stream.send(frame)
        except _LOST as error:
            self._replies.pop(correlation_id, None)
            await self.close(reason_of(error))
            raise ConnectionLostError(self.name, reason_of(error)) from error
        except BaseException:
            self._replies.pop(correlation_id, None)
            await self.close("a request was interrupted while it was written")
            raise
        return reply

    async def call(
        self,
        message: tuple[Any, ...],
        timeout_s: float,
        *,
        answered: bool = True,
        gives_up: Callable[[], Awaitable[bool]] | None = None,
    ) -> Any:
        """Send a request and wait for its answer; None without ``answered``.

        Called now and then while the answer is overdue, ``gives_up`` says whether it is waited for
        no longer.

        Raises:
            ConnectionLostError: before or while waiting.
            RequestTimedOutError: no answer in time; the connection is closed.
            ClientError: the broker refused the request as a whole.
        """
        with anyio.move_on_after(timeout_s):
            reply = await self.begin(message, answered=answered)
            if not answered:
                return None
            if gives_up is not None:
                await self._watch(reply, gives_up)
            await reply.wait()
            return reply.message()
        await self.close("a request was not answered in time")
        raise RequestTimedOutError(f"{self.name} did not answer within {timeout_s:.3g} s")

    async def _watch(self, reply: Reply, gives_up: Callable[[], Awaitable[bool]]) -> None:
        """Wait until an answer has come, or close the connection where it is given up."""
        looks = Looks(anyio.current_time() + OVERDUE_S)
        while not reply.done:
            with anyio.move_on_at(looks.at):
                await reply.wait()
            if not reply.done:
                if await gives_up() and not reply.done:
                    await self.close("it does not answer, and others lead")
                looks.done(anyio.current_time())

    async def close(self, reason: str) -> None:
        """Close it, any number of times; who waits for an answer gets ``ConnectionLostError``."""
        self.closed = True
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            reply.end(None, ConnectionLostError(self.name, reason))
        stream, self._stream = self._stream, None
        if stream is not None:
            await anyio.aclose_forcefully(stream)

    async def _read(self) -> None:
        stream = self._stream
        try:
            while stream is not None and not self.closed:
                data = await stream.receive(RECEIVE_BYTES)
                for answer in self.core.receive(data):
                    reply = self._replies.pop(answer.correlation_id, None)
                    if reply is not None:
                        reply.end(answer, None)
        except _LOST as error:
            await self.close(reason_of(error))
        except ClientError as error:
            for reply in self._replies.values():
                reply.end(None, error)
            self._replies.clear()
            await self.close(str(error))


class AsyncConnectionPool:
    """One connection for each address, opened when first needed and again when lost.

    Args:
        options: of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._connections: dict[Address, AsyncConnection] = {}
        self._locks: dict[Address, anyio.Lock] = {}
        self._closed = False

    async def connect(
        self, address: Address, cluster_id: str | None, tasks: TaskGroup, timeout_s: float
    ) -> AsyncConnection:
        """Give the open connection to an address.

        Args:
            address: of a broker.
            cluster_id: refuse another cluster; None accepts any.
            tasks: where the reading task goes.
            timeout_s: seconds for connecting, at most the client's connect timeout.

        Raises:
            ConnectionLostError: it could not be opened, or the pool is closed.
        """
        connection = self._connections.get(address)
        if connection is not None and not connection.closed:
            return connection
        timeout_s = min(timeout_s, self._options.connect_timeout_s)
        lock = self._locks.setdefault(address, anyio.Lock())
        with anyio.move_on_after(timeout_s) as waiting:
            await lock.acquire()
        if waiting.cancelled_caught:
            raise ConnectionLostError(str(address), "it has not answered another connection")
        try:
            connection = self._connections.get(address)
            if connection is not None and not connection.closed:
                return connection
            if self._closed:
                raise ConnectionLostError(str(address), "the client was closed")
            connection = AsyncConnection(address, self._options, cluster_id)
            await connection.open(tasks, timeout_s)
            self._connections[address] = connection
            return connection
        finally:
            lock.release()

    async def call(
        self,
        call: Call,
        cluster_id: str | None,
        tasks: TaskGroup,
        gives_up: Callable[[], Awaitable[bool]] | None = None,
    ) -> Any:
        """Carry out a call on its address's connection; ``gives_up`` carries out its look."""
        connect_s = min(call.timeout_s, call.connect_s)
        connection = await self.connect(call.address, cluster_id, tasks, connect_s)
        return await connection.call(
            call.request, call.timeout_s, answered=call.answered, gives_up=gives_up
        )

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for connection in list(self._connections.values()):
            await connection.close("the client was closed")


def reason_of(error: BaseException) -> str:
    """Why a stream ended, for a message."""
    if isinstance(error, anyio.EndOfStream):
        return "the broker closed it"
    cause = error.__cause__ if isinstance(error, anyio.BrokenResourceError) else None
    error = cause or error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
