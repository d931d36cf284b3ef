"""Carries out operations for the blocking clients, and is their common base."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from streambus_client._blocking._connection import ConnectionPool
from streambus_client._operations import Call, Look, Operation, Session
from streambus_client.errors import ClientClosedError, ClientError

if TYPE_CHECKING:
    from types import TracebackType

    from streambus_client._options import ClientOptions

T = TypeVar("T")


class BlockingClient:
    """A session, its lock, and the connections for all that is neither record nor fetch.

    Args:
        options: of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._session = Session(options, time.monotonic)
        self._lock = threading.RLock()
        self._pool = ConnectionPool(options)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; any number of times. Later calls raise ``ClientClosedError``."""
        self._closed = True
        self._pool.close()

    def _run(self, operation: Operation[T]) -> T:
        """Carry out an operation in the calling thread.

        The generator's own steps run under the lock; requests and pauses do not.
        """
        if self._closed:
            raise ClientClosedError(f"this {type(self).__name__} is closed")
        return run(operation, self._session, self._pool, self._lock)

    def _deadline(self, timeout: float | None = None) -> float:
        if timeout is None:
            timeout = self._session.options.request_timeout_s
        return time.monotonic() + timeout


def run(
    operation: Operation[T], session: Session, pool: ConnectionPool, lock: threading.RLock
) -> T:
    """Carry out an operation: perform what it yields until it returns."""
    reply: Any = None
    failure: ClientError | None = None
    while True:
        try:
            with lock:
                effect = operation.throw(failure) if failure else operation.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        reply, failure = None, None
        if isinstance(effect, Call):
            try:
                look, gives_up = effect.look, None
                if look is not None:
                    gives_up = partial(_carry_out, look, session, pool, lock)
                reply = pool.call(effect, session.cluster.cluster_id, gives_up)
            except ClientError as error:
                failure = error
        else:
            time.sleep(effect.seconds)


def _carry_out(look: Look, session: Session, pool: ConnectionPool, lock: threading.RLock) -> bool:
    return run(look(), session, pool, lock)
