"""Something happened: wakes all that wait, remembers nothing."""

from __future__ import annotations

import asyncio

import anyio


class Signal:
    """A condition without a lock, for the tasks of one loop.

    A task that checks its state and then waits, without an await in between, misses nothing.
    Every batch and every answer passes through one, so on asyncio a waiter is a bare future and a
    timer; an event in a cancel scope costs three times as much.
    """

    __slots__ = ("_event", "_waiters")

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[bool], None] = {}
        self._event: anyio.Event | None = None  # on any other loop

    def notify(self) -> None:
        """Wake every task that waits now."""
        if self._waiters:
            waiters, self._waiters = self._waiters, {}
            for waiter in waiters:
                _end(waiter, True)
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the next ``notify``; False when the time is over first."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return await self._wait_elsewhere(timeout_s)
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters[waiter] = None
        timer = None if timeout_s is None else loop.call_later(timeout_s, _end, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    async def _wait_elsewhere(self, timeout_s: float | None) -> bool:
        if self._event is None:
            self._event = anyio.Event()
        event = self._event
        if timeout_s is None:
            await event.wait()
            return True
        with anyio.move_on_after(timeout_s):
            await event.wait()
        return event.is_set()


def _end(waiter: asyncio.Future[bool], woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)
