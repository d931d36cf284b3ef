"""One test, both shells: drives a blocking client as if it were an async one.

``ready(client.method(...))`` is awaited in the test; on the blocking shell the result is there
already, on the async one it is awaited. So every scenario is written once.
"""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from streambus_client import (
    Admin,
    AsyncAdmin,
    AsyncConsumer,
    AsyncProducer,
    Consumer,
    Producer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator

SHELLS = ["blocking", "asyncio", "uvloop", "trio"]


class Shell:
    """Makes clients of one shell, and waits for what they give."""

    def __init__(self, name: str) -> None:
        self.blocking = name == "blocking"

    def producer(self, *arguments: Any, **options: Any) -> Any:
        return self._client(Producer, AsyncProducer, arguments, options)

    def consumer(self, *arguments: Any, **options: Any) -> Any:
        return self._client(Consumer, AsyncConsumer, arguments, options)

    def admin(self, *arguments: Any, **options: Any) -> Any:
        return self._client(Admin, AsyncAdmin, arguments, options)

    @asynccontextmanager
    async def _client(
        self, blocking: Any, awaited: Any, arguments: Any, options: Any
    ) -> AsyncIterator[Any]:
        if self.blocking:
            with blocking(*arguments, **options) as client:
                yield client
        else:
            async with awaited(*arguments, **options) as client:
                yield client

    async def iterate(self, things: Any) -> AsyncGenerator[Any, None]:
        if self.blocking:
            iterator: Iterator[Any] = iter(things)
            for thing in iterator:
                yield thing
        else:
            async for thing in things:
                yield thing


async def ready(result: Any) -> Any:
    """The result of a method of either shell."""
    return await result if inspect.isawaitable(result) else result


def run_on(name: str, scenario: Callable[[Shell], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a shell."""
    if name == "uvloop":
        anyio.run(partial(scenario, Shell(name)), backend_options={"use_uvloop": True})
    else:
        backend = "trio" if name == "trio" else "asyncio"
        anyio.run(partial(scenario, Shell(name)), backend=backend)
