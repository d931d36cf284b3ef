"""Which brokers live, as the controller sees it: heartbeats against a clock. Pure.

A new controller knows nothing: every broker gets a whole session from its start on; only its
predecessor, which was silent already, gets a part of one. A broker whose connection broke and at
whose address nobody listens any more is suspected and has a short time left: that is what a process
that died leaves behind, and never one that is paused or cut off, which may still believe that it
leads (`lease`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        self._epochs: dict[int, int] = {}
        self._ending: set[int] = set()
        self._heard: set[int] = set()

    def heard(self, broker_id: int, now_s: float) -> bool:
        """A heartbeat came; return whether the session goes on: it does not once `end` said so."""
        if broker_id in self._ending:
            return False
        self._ends_s[broker_id] = now_s + self.timeout_s
        self._heard.add(broker_id)
        return True

    def is_silent(self, broker_id: int) -> bool:
        """Whether nothing was heard of it in this office: nobody has granted it a lease here."""
        return broker_id not in self._heard

    def suspect(self, broker_id: int, now_s: float, left_s: float | None = None) -> None:
        """The broker is likely dead: it has this long to be heard, by default `suspect_s`."""
        ends_s = self._ends_s.get(broker_id)
        if ends_s is not None:
            left_s = self.suspect_s if left_s is None else left_s
            self._ends_s[broker_id] = min(ends_s, now_s + left_s)

    def follow(self, living: Mapping[int, int], now_s: float) -> None:
        """Watch these sessions and no others; new ones have a whole session's time.

        Args:
            living: Broker to epoch: one that registered anew has nothing to do with its past.
            now_s: The time.
        """
        if living == self._epochs:
            return
        for broker_id in set(self._ends_s) - set(living):
            self._forget(broker_id)
        for broker_id, epoch in living.items():
            if self._epochs.get(broker_id) != epoch:
                self._forget(broker_id)
                self._ends_s[broker_id] = now_s + self.timeout_s
        self._epochs = dict(living)

    def _forget(self, broker_id: int) -> None:
        self._ends_s.pop(broker_id, None)
        self._ending.discard(broker_id)

    def next_end_s(self) -> float:
        """When the first session is over, unless it is heard of before; infinity for none."""
        return min(self._ends_s.values(), default=math.inf)

    def over(self, now_s: float) -> list[int]:
        """The brokers whose session is over, in order."""
        return sorted(each for each, ends_s in self._ends_s.items() if ends_s <= now_s)

    def end(self, broker_id: int, now_s: float) -> bool:
        """Decide that a session ends, if it is over; return whether it is.

        From here on no heartbeat prolongs it: the command that says so is on its way, and may take
        long, or be carried out when nobody expects it any more.
        """
        if self._ends_s.get(broker_id, now_s + 1) > now_s:
            return False
        self._ending.add(broker_id)
        return True

    def spare(self, broker_id: int, now_s: float) -> None:
        """A session that was to end certainly did not: it goes on if it is heard of soon."""
        self._ending.discard(broker_id)
        if broker_id in self._ends_s:
            self._ends_s[broker_id] = now_s + self.suspect_s

    def clear(self) -> None:
        """This broker is not the controller any more."""
        self._ends_s.clear()
        self._epochs.clear()
        self._ending.clear()
        self._heard.clear()
