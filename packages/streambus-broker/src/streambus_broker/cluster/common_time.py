"""What most brokers take for the time, so that one wrong clock deletes nothing. Pure.

A broker that starts under a wrong clock has nothing to compare it with. So every heartbeat says
what its broker takes for the time, and is answered with what most of them do; records are deleted
by age only by the earlier of the two, and not at all before the first such answer.

Clocks are kept as what they are ahead of this machine's steady clock, and so go on between two
heartbeats. What is on its way for a moment makes a clock late by that, never early.
"""

from __future__ import annotations

UNKNOWN_MS = -1


class CommonTime:
    """See the module. Times are milliseconds since 1970, steady ones seconds."""

    __slots__ = ("_agreed_ahead_ms", "_ahead_ms")

    def __init__(self) -> None:
        self._ahead_ms: dict[int, int] = {}
        self._agreed_ahead_ms: int | None = None

    # --- the controller ------------------------------------------------------------------------

    def heard(self, broker_id: int, says_ms: int, now_s: float) -> None:
        """A broker, this one included, says what the time is."""
        if says_ms >= 0:
            self._ahead_ms[broker_id] = says_ms - int(now_s * 1000)

    def agreed_ms(self, brokers: set[int], now_s: float) -> int:
        """The lower median of what these brokers say; UNKNOWN_MS before most of them have.

        With up to half of the clocks ahead it is not ahead.
        """
        known = sorted(ahead for each, ahead in self._ahead_ms.items() if each in brokers)
        if 2 * len(known) <= len(brokers):
            return UNKNOWN_MS
        return known[(len(known) - 1) // 2] + int(now_s * 1000)

    def left(self) -> None:
        """This broker is not the controller any more."""
        self._ahead_ms.clear()

    # --- every broker --------------------------------------------------------------------------

    def told(self, agreed_ms: int, now_s: float) -> None:
        """The controller says what most take for the time, if it knows."""
        if agreed_ms >= 0:
            self._agreed_ahead_ms = agreed_ms - int(now_s * 1000)

    def earlier_ms(self, own_ms: int, now_s: float) -> int | None:
        """The earlier of the own time and the common one; None while that is not known."""
        if self._agreed_ahead_ms is None:
            return None
        return min(own_ms, self._agreed_ahead_ms + int(now_s * 1000))
