"""Which brokers live, as the controller sees it: heartbeats against a clock. Pure.

A new controller knows nothing: every broker gets a whole session from its start on; only its
predecessor, which was silent already, gets a part of one. A broker whose connection broke and at
whose address nobody listens any more is suspected and has a short time left: that is what a process
that died leaves behind, and never one that is paused or cut off, which may still believe that it
leads (`lease`).
"""

from __future__ import annotations


class Sessions:
    """See the module.

    Args:
        timeout_s: Silence after which a session is over.
        suspect_s: The same of a broker that is suspected.
    """

    def __init__(self, timeout_s: float, suspect_s: float) -> None:
        self.timeout_s = timeout_s
        self.suspect_s = min(suspect_s, timeout_s)
        self._ends_s: dict[int, float] = {}

    def heard(self, broker_id: int, now_s: float) -> None:
        """A heartbeat came."""
        self._ends_s[broker_id] = now_s + self.timeout_s

    def suspect(self, broker_id: int, now_s: float, left_s: float | None = None) -> None:
        """The broker is likely dead: it has this long to be heard, by default `suspect_s`."""
        ends_s = self._ends_s.get(broker_id)
        if ends_s is not None:
            left_s = self.suspect_s if left_s is None else left_s
            self._ends_s[broker_id] = min(ends_s, now_s + left_s)

    def follow(self, living: set[int], now_s: float) -> None:
        """Watch these brokers and no others; new ones have a whole session."""
        for broker_id in set(self._ends_s) - living:
            del self._ends_s[broker_id]
        for broker_id in living - set(self._ends_s):
            self._ends_s[broker_id] = now_s + self.timeout_s

    def over(self, now_s: float) -> list[int]:
        """The brokers whose session is over, in order."""
        return sorted(each for each, ends_s in self._ends_s.items() if ends_s <= now_s)

    def clear(self) -> None:
        """This broker is not the controller any more."""
        self._ends_s.clear()
