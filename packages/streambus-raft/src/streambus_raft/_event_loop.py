"""The one place that knows which event loop carries us: a waiter, and a wake-up from a thread.

A proposal must not cost an anyio event (two objects, three checkpoints); a future does. asyncio
has one, and this gives trio its like. Everything else in the package speaks anyio.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    import trio

T = TypeVar("T")


class Waiter(Protocol[T]):
    """An answer that one task awaits and some callback gives, once, on the loop's thread."""

    def done(self) -> bool:
        """Whether it was answered, or whoever awaited it was cancelled."""

    def set_result(self, value: T) -> None:
        """Answer. Only when not :meth:`done`."""

    def set_exception(self, exception: BaseException) -> None:
        """Answer with a failure. Only when not :meth:`done`."""

    def __await__(self) -> Generator[Any, Any, T]: ...


class EventLoop(Protocol):
    """What the shell needs of the running event loop."""

    def create_waiter(self) -> Waiter[Any]:
        """Make an unanswered waiter."""

    def time(self) -> float:
        """Seconds of the loop's clock, as ``anyio.current_time`` has them."""

    async def sleep(self, seconds: float) -> None:
        """Let others run for a time, as ``anyio.sleep`` does."""

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        """Run ``callback`` on the loop's thread soon; silently not at all if the loop is gone."""


def running_event_loop() -> EventLoop:
    """Return the door to the loop that runs the current task."""
    try:
        return _AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return _TrioLoop()  # anyio knows no third


async def run_blocking(call: Callable[..., T], *args: Any) -> T:
    """Run what blocks in a worker thread, and see it through even if the caller is cancelled.

    On asyncio by the loop's own executor and not anyio's threads, so that a simulated loop, whose
    executor runs inline, stays deterministic.
    """
    with anyio.CancelScope(shield=True):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            result = await anyio.to_thread.run_sync(call, *args)
        else:
            result = await loop.run_in_executor(None, call, *args)
    return result


class _AsyncioLoop:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.create_waiter: Callable[[], Waiter[Any]] = loop.create_future
        self.time: Callable[[], float] = loop.time
        self.sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise


class _TrioLoop:
    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        self._token: trio.lowlevel.TrioToken = self._trio.lowlevel.current_trio_token()

    def create_waiter(self) -> Waiter[Any]:
        return _TrioWaiter(self._trio.lowlevel)

    def time(self) -> float:
        return float(self._trio.current_time())

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(callback, *args)


class _TrioWaiter(Generic[T]):
    __slots__ = ("_done", "_exception", "_lowlevel", "_task", "_value")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._task: Any = None
        self._done = False
        self._value: Any = None
        self._exception: BaseException | None = None

    def done(self) -> bool:
        return self._done

    def set_result(self, value: T) -> None:
        self._value = value
        self._finish()

    def set_exception(self, exception: BaseException) -> None:
        self._exception = exception
        self._finish()

    def _finish(self) -> None:
        assert not self._done
        self._done = True
        if self._task is not None:
            self._lowlevel.reschedule(self._task)
            self._task = None

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        self._done = True
        return self._lowlevel.Abort.SUCCEEDED

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._done:
            self._task = self._lowlevel.current_task()
            yield from self._lowlevel.wait_task_rescheduled(self._abort).__await__()
        if self._exception is not None:
            raise self._exception
        result: T = self._value
        return result


class Signal:
    """Wakes one task, however often it was set meanwhile: one wake-up for a whole batch."""

    __slots__ = ("_is_set", "_loop", "_waiter")

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: Waiter[None] | None = None

    @property
    def is_set(self) -> bool:
        """Whether it was set since the task waited last."""
        return self._is_set

    def set(self) -> None:
        """Wake the waiting task, or the next that waits. Only on the loop's thread."""
        if not self._is_set:
            self._is_set = True
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until it is set, and take it back. One task at a time."""
        if not self._is_set:
            self._waiter = self._loop.create_waiter()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_set = False
