"""Virtual time: a heap of events, run one after another. No threads, no coroutines, no waiting."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


EVENTS_MAX = 300_000
"""In one simulation; what needs more is caught in a circle."""


class EndlessError(AssertionError):
    """Events beget events without end."""


class Kernel:
    """Runs events in the order of their time; those of one time in the order they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the simulation began."""
        self.events = 0
        """How many were run."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call ``action`` in ``delay`` seconds, 0 or more. There is no taking back."""
        self._planned += 1
        heappush(self._heap, (self.now + delay, self._planned, action, arguments))

    def run_until(self, time: float) -> None:
        """Run everything that is due by ``time``, and let it be that time."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, action, arguments = heappop(heap)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise EndlessError(f"{EVENTS_MAX} events, and no end at {self.now:.3f} s")
            action(*arguments)
        self.now = time
