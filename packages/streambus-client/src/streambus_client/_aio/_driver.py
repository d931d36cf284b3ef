"""Carries out operations for the async clients, and is their common base."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from streambus_client._aio._connection import AsyncConnectionPool
from streambus_client._operations import Call, Look, Operation, Session
from streambus_client.errors import ClientClosedError, ClientError

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from streambus_client._options import ClientOptions

T = TypeVar("T")


class AsyncClient:
    """A session and its connections; a task group while the ``async with`` block is open.

    Args:
        options: of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._session = Session(options, anyio.current_time)
        self._pool = AsyncConnectionPool(options)
        self._tasks: TaskGroup | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        with contextlib.suppress(RuntimeError):  # on asyncio: asked twice for each record
            self._session.clock = asyncio.get_running_loop().time
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = self._open_tasks()
        try:
            await self._leave(exc_type)
        finally:
            with anyio.CancelScope(shield=True):
                await self._shut()
            tasks.cancel_scope.cancel()
            self._tasks = None
            await tasks.__aexit__(None, None, None)

    async def close(self) -> None:
        """Close the connections; any number of times. Later calls raise ``ClientClosedError``."""
        with anyio.CancelScope(shield=True):
            await self._shut()

    async def _leave(self, exc_type: type[BaseException] | None) -> None:
        """What leaving the block does before everything is shut."""

    async def _shut(self) -> None:
        self._closed = True
        await self._pool.close()

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise ClientClosedError(
                f"{type(self).__name__} works inside of its `async with` block only"
            )
        return self._tasks

    def _check_open(self) -> None:
        self._open_tasks()
        if self._closed:
            raise ClientClosedError(f"this {type(self).__name__} is closed")

    async def _run(self, operation: Operation[T], pool: AsyncConnectionPool | None = None) -> T:
        """Carry out an operation: perform what it yields until it returns."""
        self._check_open()
        tasks = self._open_tasks()
        pool = pool or self._pool
        reply: Any = None
        failure: ClientError | None = None
        while True:
            try:
                effect = operation.throw(failure) if failure else operation.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply, failure = None, None
            if isinstance(effect, Call):
                try:
                    cluster_id, look = self._session.cluster.cluster_id, effect.look
                    gives_up = None if look is None else partial(self._carry_out, look, pool)
                    reply = await pool.call(effect, cluster_id, tasks, gives_up)
                except ClientError as error:
                    failure = error
            else:
                await anyio.sleep(effect.seconds)

    async def _carry_out(self, look: Look, pool: AsyncConnectionPool) -> bool:
        return await self._run(look(), pool)

    def _deadline(self, timeout: float | None = None) -> float:
        if timeout is None:
            timeout = self._session.options.request_timeout_s
        return self._session.clock() + timeout
