"""How late the event loop is: the time by which a timer misses its moment."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_S = 0.1
_RECENT_TURNS = 100  # with the interval: what "recent" means, in tenths of a second


class LoopLag:
    """Measures by a timer of 100 ms; plain numbers, read when metrics are scraped.

    Attributes:
        turns: Timers that fired.
        total_s: Their lateness together, in seconds.
        recent_max_s: The largest lateness of the last ten to twenty seconds.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.total_s = 0.0
        self.recent_max_s = 0.0
        self._coming_max_s = 0.0
        self._turned_s = time.monotonic()

    def since_turn_s(self) -> float:
        """Seconds since the loop last turned; callable from any thread."""
        return time.monotonic() - self._turned_s

    async def watch(self, each_second: Callable[[], None]) -> None:
        """Measure, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            late_s = max(0.0, loop.time() - due_s)
            self._turned_s = time.monotonic()
            self.turns += 1
            self.total_s += late_s
            self._coming_max_s = max(self._coming_max_s, late_s)
            self.recent_max_s = max(self.recent_max_s, late_s)
            if self.turns % _RECENT_TURNS == 0:
                self.recent_max_s, self._coming_max_s = self._coming_max_s, 0.0
            if self.turns % 10 == 0:
                each_second()
