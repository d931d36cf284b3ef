"""A clock that moves only when told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SimulatedClock:
    """Monotonic virtual time in seconds.

    Args:
        read: where the time comes from, if somebody else owns it (a simulated event loop's
            ``time``). Such a clock cannot be advanced from here: `advance` and `advance_to`
            leave it alone, and say so by returning False.
    """

    __slots__ = ("_now", "_read")

    def __init__(self, read: Callable[[], float] | None = None) -> None:
        self._now = 0.0
        self._read = read

    def now(self) -> float:
        """The present time in seconds."""
        return self._now if self._read is None else self._read()

    def advance(self, seconds: float) -> bool:
        """Move forward by ``seconds`` (0 or more); False if the clock belongs to somebody else."""
        return self.advance_to(self.now() + seconds)

    def advance_to(self, moment: float) -> bool:
        """Move forward to ``moment``; a moment in the past changes nothing.

        Returns:
            False if the clock belongs to somebody else, and was not moved.
        """
        if self._read is not None:
            return False
        self._now = max(self._now, moment)
        return True
