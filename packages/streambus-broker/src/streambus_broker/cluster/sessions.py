"""Which brokers live, as the controller sees it: heartbeats against a clock. Pure.

A new controller knows nothing: every broker gets a whole session from its start on. One whose
connection broke is suspected and has a shorter time left, because a process that died loses its
connections at once and one that lives comes back at once.
"""

from __future__ import annotations


class Sessions:
    """See the module.

    Args:
        timeout_s: Silence after which a session is over.
        suspect_s: The same after a connection broke.
    """

    def __init__(self, timeout_s: float, suspect_s: float) -> None:
        self.timeout_s = timeout_s
        self.suspect_s = min(suspect_s, timeout_s)
        self._ends_s: dict[int, float] = {}

    def heard(self, broker_id: int, now_s: float) -> None:
        """A heartbeat came."""
        self._ends_s[broker_id] = now_s + self.timeout_s

    def suspect(self, broker_id: int, now_s: float) -> None:
        """The broker's connection broke, or it was the leader that fell silent."""
        ends_s = self._ends_s.get(broker_id)
        if ends_s is not None:
            self._ends_s[broker_id] = min(ends_s, now_s + self.suspect_s)

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
