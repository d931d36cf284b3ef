"""Pacing of background work: short slices, a limit on bytes per second, and a way to stop it.

Python threads share one interpreter lock, and a thread that wants it waits for up to the
switch interval (5 ms). Background work therefore gives it up by itself: after every slice it
sleeps for a moment, long enough that a waiting thread wakes up and gets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._scheduler import Scheduler

YIELD_SECONDS = 0.000_1
"""Sleep between slices: above the time in which a sleeping thread wakes up (about 50 µs)."""


class Cancelled(Exception):  # noqa: N818 - not an error: the tree is closing
    """Raised by `Pacer.tick` when the work is to end without a result."""


class Pacer:
    """Counts time and bytes of one piece of background work.

    Attributes:
        cancelled: Tells that the work is not wanted any more.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        slice_seconds: float,
        bytes_per_second: int | None,
        cancelled: Callable[[], bool],
        urgent: Callable[[], bool],
    ) -> None:
        """Begin a slice.

        Args:
            scheduler: Tells the time, and sleeps.
            slice_seconds: How long to work between two sleeps.
            bytes_per_second: Limit; None: none.
            cancelled: Tells that the work is not wanted any more.
            urgent: Tells that writers wait for it: then it does not sleep for their sake.
        """
        self._scheduler = scheduler
        self._slice_seconds = slice_seconds
        self._bytes_per_second = bytes_per_second
        self.cancelled = cancelled
        self._urgent = urgent
        self._slice_end = scheduler.now() + slice_seconds
        self._owed_seconds = 0.0

    def tick(self, done_bytes: int = 0) -> None:
        """Account for ``done_bytes`` and let others run if the slice is over.

        Raises:
            Cancelled: The work is not wanted any more.
        """
        if self.cancelled():
            raise Cancelled
        if self._bytes_per_second is not None:
            self._owed_seconds += done_bytes / self._bytes_per_second
        if self._scheduler.now() < self._slice_end and self._owed_seconds < 0.01:
            return
        if self._urgent():
            return
        self._scheduler.pause(max(YIELD_SECONDS, min(self._owed_seconds, 0.1)))
        self._owed_seconds = max(0.0, self._owed_seconds - 0.1)
        self._slice_end = self._scheduler.now() + self._slice_seconds
