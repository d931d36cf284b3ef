"""Staying awake for a moment after a request, because the next one is often near.

A client that sends one record at a time answers an answer with its next request, some ten
microseconds later. A loop that has fallen asleep by then has to be woken, with its core, which
takes longer than the request itself: on two virtual cores a round trip took 75 µs, and takes 43
with a vigil, for less CPU time than before (the kernel's way to sleep and back is no shorter).
Hypervisors do the same under the name of halt polling.

Rules:

- Bounded: the loop stays awake for `busy_poll_us` after the last request, by default 50.
- Not where the process has one core only: a vigil would keep the client from sending.
- Given up for the next `REST_REQUESTS` requests after one in which nothing came, so that a request
  now and then costs a thirtieth of a vigil.
- Everything else on the loop, and every other thread, goes on in between.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REST_REQUESTS = 30


class Vigil:
    """See the module.

    Args:
        call_soon: The event loop's.
        clock_ns: A monotonic clock, real also where the loop's is not.
        awake_ns: How long to stay awake; 0 for never.

    Attributes:
        last_ns: When the last request was served; set by who serves.
        may_begin: Whether `begin` is to be called after a request.
    """

    __slots__ = (
        "_awake_ns",
        "_began_ns",
        "_call_soon",
        "_clock_ns",
        "_rest",
        "last_ns",
        "may_begin",
    )

    def __init__(
        self, call_soon: Callable[..., object], clock_ns: Callable[[], int], awake_ns: int
    ) -> None:
        self._call_soon = call_soon
        self._clock_ns = clock_ns
        self._awake_ns = awake_ns
        self._began_ns = 0
        self._rest = 0
        self.last_ns = 0
        self.may_begin = awake_ns > 0

    def begin(self) -> None:
        """Stay awake from now on, unless it was in vain lately."""
        if self._rest:
            self._rest -= 1
            return
        self.may_begin = False
        self._began_ns = self.last_ns
        self._call_soon(self._look)

    def _look(self) -> None:
        """Turn the loop once more, or let it sleep."""
        if self._clock_ns() - self.last_ns < self._awake_ns:
            self._call_soon(self._look)
            return
        self.may_begin = True
        if self.last_ns == self._began_ns:
            self._rest = REST_REQUESTS


def core_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
