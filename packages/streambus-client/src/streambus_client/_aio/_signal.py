"""Something happened: wakes all that wait, remembers nothing."""

from __future__ import annotations

import anyio


class Signal:
    """A condition without a lock, for the tasks of one loop.

    A task that checks its state and then waits, without an await in between, misses nothing.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake every task that waits now."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the next ``notify``; False when the time is over first."""
        if self._event is None:
            self._event = anyio.Event()
        event = self._event
        if timeout_s is None:
            await event.wait()
            return True
        with anyio.move_on_after(timeout_s):
            await event.wait()
        return event.is_set()
