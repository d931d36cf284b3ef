"""One blocking socket to one broker, and the connections of one client by address.

Rules:
    1. The socket stays in blocking mode; timeouts are the kernel's (``SO_RCVTIMEO``), so that a
       request costs one ``send`` and one ``recv`` and nothing else.
    2. Whatever interrupts a request, Ctrl-C included, closes the connection: its answer could
       otherwise be taken for another's. The next request opens a new one.
    3. No thread, no socket and no state at import: forking after import is safe.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from streambus_client._blocking._spin import Spin, may_spin
from streambus_client._connection import Answer, ConnectionCore
from streambus_client._operations import OVERDUE_S, Looks
from streambus_client.errors import (
    ConnectionLostError,
    ProtocolViolationError,
    RequestTimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_client._addresses import Address
    from streambus_client._operations import Call
    from streambus_client._options import ClientOptions

RECEIVE_BYTES_MIN = 16 * 1024
RECEIVE_BYTES_MAX = 1024 * 1024
"""How much is asked for at once: little, so that little is allocated, until answers are large."""
_SHORT_ANSWER_BYTES = 4096
_TIMEVAL = struct.Struct("ll")
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class BlockingConnection:
    """A connection after its handshake. One thread at a time, which holds ``lock``.

    Args:
        address: of the broker.
        options: of the client.
        cluster_id: refuse another cluster; None accepts any.
        timeout_s: for connecting, handshake included; seconds.
        opening: told of this connection before it shakes hands, so that ``shut`` can cut it off.

    Raises:
        ConnectionLostError: it could not be opened.
        RequestTimedOutError: the handshake was not answered within the connect timeout.
        ProtocolViolationError: the other side is no broker.
    """

    def __init__(
        self,
        address: Address,
        options: ClientOptions,
        cluster_id: str | None,
        timeout_s: float,
        opening: Callable[[BlockingConnection], None],
    ) -> None:
        self.address = address
        self.name = str(address)
        self.lock = threading.Lock()
        self.core = ConnectionCore(self.name, options.client_id, cluster_id)
        self.closed = False
        self._timeout_s: float | None = None
        self._receive_bytes = RECEIVE_BYTES_MIN
        self._spin = Spin() if may_spin() else None
        try:
            self.socket = socket.create_connection(address, timeout=timeout_s)
        except OSError as error:
            raise ConnectionLostError(self.name, _reason(error)) from error
        try:
            opening(self)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _DONT_WAIT:
                self.socket.settimeout(None)
                self.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(options.request_timeout_s)
                )
            self.send_bytes(self.core.handshake())
            self._receive_until(1, time.monotonic() + timeout_s)
        except BaseException:
            self.close()
            raise

    def call(
        self,
        message: tuple[Any, ...],
        timeout_s: float,
        *,
        answered: bool = True,
        gives_up: Callable[[], bool] | None = None,
    ) -> Any:
        """Send a request and wait for its answer; nothing else may be under way.

        Without ``answered`` it does not wait and gives None. For ``gives_up`` see ``finish``.

        Raises:
            ConnectionLostError: before or while waiting.
            RequestTimedOutError: no answer in time.
            ClientError: the broker refused the request as a whole.
        """
        if answered:
            return self.finish(self.begin(message), timeout_s, gives_up)
        _, frame = self.core.request(message, answered=False)
        self.send_bytes(frame)
        return None

    def begin(self, message: tuple[Any, ...]) -> int:
        """Send a request; ``finish`` waits for its answer."""
        try:
            correlation_id, frame = self.core.request(message)
            self.send_bytes(frame)
        except BaseException:
            self.close()
            raise
        return correlation_id

    def finish(
        self,
        correlation_id: int,
        timeout_s: float,
        gives_up: Callable[[], bool] | None = None,
        *,
        overdue_s: float = OVERDUE_S,
    ) -> Any:
        """Wait for the answer to a request that was begun.

        Args:
            correlation_id: of the request.
            timeout_s: seconds.
            gives_up: called now and then while the answer is overdue; where it gives True, it is
                waited for no longer.
            overdue_s: in how many seconds that is first.

        Raises:
            ClientError: as for ``call``.
        """
        now = time.monotonic()
        watch = None if gives_up is None else (Looks(now + overdue_s), gives_up)
        try:
            answer = self._receive_until(correlation_id, now + timeout_s, watch)
        except BaseException:
            self.close()
            raise
        if answer.error is not None:
            raise answer.error
        return answer.message

    def exchange(self, frame: bytes, timeout_s: float) -> bytes | None:
        """Send a prepared request and give the first bytes of its answer.

        Two system calls, and while the broker is expected to answer at once some looks in between.

        Returns:
            None when the time is over; the answer may still come.

        Raises:
            ConnectionLostError: the connection ended; it is closed.
        """
        try:
            if timeout_s != self._timeout_s:
                self._set_timeout(timeout_s)
            self.socket.sendall(frame)
        except OSError as error:
            self.close()
            raise ConnectionLostError(self.name, _reason(error)) from error
        except BaseException:
            self.close()
            raise
        try:
            spin = self._spin
            data = spin and spin.receive(self.socket, _SHORT_ANSWER_BYTES)
            if data is None:
                data = self.socket.recv(_SHORT_ANSWER_BYTES)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            self.close()
            raise ConnectionLostError(self.name, _reason(error)) from error
        except BaseException:
            self.close()
            raise
        if not data:
            self.close()
            raise ConnectionLostError(self.name, "the broker closed it")
        return data

    def finish_with(self, data: bytes, correlation_id: int, timeout_s: float) -> Any:
        """As ``finish``, where the first bytes of the answer were already read."""
        try:
            answers = self.core.receive(data)
            if answers:
                answer = self._expected(answers, correlation_id)
            else:
                answer = self._receive_until(correlation_id, time.monotonic() + timeout_s)
        except BaseException:
            self.close()
            raise
        if answer.error is not None:
            raise answer.error
        return answer.message

    def send_bytes(self, frame: bytes) -> None:
        """Write all of ``frame``.

        Raises:
            ConnectionLostError: it could not be written; the connection is closed.
        """
        try:
            self.socket.sendall(frame)
        except OSError as error:
            self.close()
            raise ConnectionLostError(self.name, _reason(error)) from error
        except BaseException:
            self.close()
            raise

    def receive_bytes(self, timeout_s: float) -> bytes | None:
        """Read what is there, waiting for the first byte; None when the time is over.

        Raises:
            ConnectionLostError: the connection ended.
        """
        try:
            if timeout_s <= 0 and _DONT_WAIT:
                data = self.socket.recv(self._receive_bytes, _DONT_WAIT)
            else:
                if timeout_s != self._timeout_s:
                    self._set_timeout(timeout_s)
                data = self.socket.recv(self._receive_bytes)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            self.close()
            raise ConnectionLostError(self.name, _reason(error)) from error
        if not data:
            self.close()
            raise ConnectionLostError(self.name, "the broker closed it")
        if len(data) == self._receive_bytes:
            self._receive_bytes = min(2 * self._receive_bytes, RECEIVE_BYTES_MAX)
        elif len(data) < RECEIVE_BYTES_MIN // 2:
            self._receive_bytes = RECEIVE_BYTES_MIN
        return data

    def receive(self, timeout_s: float) -> list[Answer]:
        """Read once and give the answers that are now whole; empty when the time is over."""
        data = self.receive_bytes(timeout_s)
        if data is None:
            return []
        try:
            return self.core.receive(data)
        except BaseException:
            self.close()
            raise

    def receive_first(self, data: bytes) -> list[Answer]:
        """As ``receive``, for bytes that were read already."""
        try:
            return self.core.receive(data)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket; any number of times."""
        self.closed = True
        with contextlib.suppress(OSError, AttributeError):
            self.socket.close()

    def shut(self) -> None:
        """Close from another thread; who waits on the socket gets ``ConnectionLostError``."""
        with contextlib.suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def _receive_until(
        self,
        correlation_id: int,
        deadline: float,
        watch: tuple[Looks, Callable[[], bool]] | None = None,
    ) -> Answer:
        """Receive until an answer is whole, or the time is over, or it is given up."""
        until = deadline if watch is None else min(watch[0].at, deadline)
        while True:
            answers = self.receive(max(until - time.monotonic(), 0.0))
            if answers:
                return self._expected(answers, correlation_id)
            now = time.monotonic()
            if now >= deadline:
                self.close()
                raise RequestTimedOutError(f"{self.name} did not answer in time")
            if watch is not None and now >= until:
                looks, gives_up = watch
                if gives_up():
                    self.close()
                    raise RequestTimedOutError(f"{self.name} does not answer, and others lead")
                looks.done(time.monotonic())
                until = min(looks.at, deadline)

    def _expected(self, answers: list[Answer], correlation_id: int) -> Answer:
        if len(answers) != 1 or answers[0].correlation_id != correlation_id:
            raise ProtocolViolationError(f"{self.name} sent more answers than were asked for")
        return answers[0]

    def _set_timeout(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        if not _DONT_WAIT or sys.platform == "win32":
            self.socket.settimeout(max(timeout_s, 0.001))
            return
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))


class _Slot:
    __slots__ = ("connection", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: BlockingConnection | None = None


class ConnectionPool:
    """One connection for each address, opened when first needed and again when lost. Thread-safe.

    Args:
        options: of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._slots: dict[Address, _Slot] = {}
        self._closed = False

    def connect(
        self, address: Address, cluster_id: str | None, timeout_s: float
    ) -> BlockingConnection:
        """Give the open connection to an address.

        Args:
            address: of a broker.
            cluster_id: refuse another cluster; None accepts any.
            timeout_s: seconds for connecting, at most the client's connect timeout.

        Raises:
            ConnectionLostError: it could not be opened, or the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise ConnectionLostError(str(address), "the client was closed")
            slot = self._slots.setdefault(address, _Slot())
        timeout_s = min(timeout_s, self._options.connect_timeout_s)
        with _within(slot.lock, timeout_s, str(address)):
            if slot.connection is None or slot.connection.closed:
                slot.connection = None
                slot.connection = BlockingConnection(
                    address, self._options, cluster_id, timeout_s, partial(self._opening, slot)
                )
            return slot.connection

    def _opening(self, slot: _Slot, connection: BlockingConnection) -> None:
        slot.connection = connection
        if self._closed:
            raise ConnectionLostError(connection.name, "the client was closed")

    def call(
        self, call: Call, cluster_id: str | None, gives_up: Callable[[], bool] | None = None
    ) -> Any:
        """Carry out a call on its address's connection; ``gives_up`` carries out its look."""
        connect_s = min(call.timeout_s, call.connect_s)
        connection = self.connect(call.address, cluster_id, connect_s)
        with _within(connection.lock, call.timeout_s, connection.name):
            if connection.closed:
                raise ConnectionLostError(connection.name, "closed by another request")
            return connection.call(
                call.request, call.timeout_s, answered=call.answered, gives_up=gives_up
            )

    def close(self) -> None:
        """Close every connection; a thread that waits on one gets ``ConnectionLostError``."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
        for slot in slots:
            if slot.connection is not None:
                slot.connection.shut()


@contextlib.contextmanager
def _within(lock: threading.Lock, timeout_s: float, name: str) -> Iterator[None]:
    """Hold a lock, if it can be had in time: whoever has it may wait for a broker that is paused.

    Raises:
        RequestTimedOutError: it cannot.
    """
    if not lock.acquire(timeout=timeout_s):
        raise RequestTimedOutError(f"{name} has not answered another request")
    try:
        yield
    finally:
        lock.release()


def _timeval(seconds: float) -> bytes:
    """A kernel timeout; 0 would be none at all."""
    micros = max(int(seconds * 1_000_000), 1000)
    return _TIMEVAL.pack(micros // 1_000_000, micros % 1_000_000)


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
