"""How long a broker may act as a leader without being told that it still is one. Pure.

A broker that was paused or cut off cannot know that others were elected in its place. So it acts as
a leader only within a *lease*, whose end lies before the earliest moment at which anybody else may
be: whoever finds its lease over refuses, before it answers anything that waited in its sockets.

- The controller counts a session from the moment when a heartbeat *came*; the broker counts its
  lease from the moment when it *sent* that heartbeat, which is earlier.
- A new controller gives everybody a whole session from its own start. The former one may not know
  of it yet and still answer heartbeats. So a grant does not reach further than a session after the
  last moment at which the controller is known to have been in office: when it began a round of
  questions that a majority then answered in its term. Nobody was elected before that.
- The controller's own lease is half a session from that same moment, and its successor waits as
  long before it fences it.
- Clocks only ever measure how much time has passed, on one machine; they may run apart by `DRIFT`.

All times are seconds of a steady clock: one that never jumps, and goes on while the machine sleeps.
"""

from __future__ import annotations

import math

DRIFT = 0.1
"""How much faster one broker's clock may run than another's, as a fraction of a lease."""
CONTROLLER_SHARE = 0.5
"""The controller's own lease, and the patience of its successor with it, in sessions."""
NEVER_S = -math.inf


class SessionLease:
    """One broker's lease.

    Attributes:
        until_s: When it ends; `NEVER_S` before the first heartbeat was answered.
    """

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s = NEVER_S

    def granted(self, asked_s: float, lasts_s: float) -> None:
        """A heartbeat sent at ``asked_s`` was answered with so many seconds; 0 grants nothing."""
        if lasts_s > 0:
            self.until_s = max(self.until_s, asked_s + lasts_s * (1 - DRIFT))

    def shortened(self, now_s: float, left_s: float) -> None:
        """The broker became the controller: what others granted counts for so long at most."""
        self.until_s = min(self.until_s, now_s + left_s * (1 - DRIFT))

    def ended(self) -> None:
        """The session is over, as the controller says."""
        self.until_s = NEVER_S

    def holds(self, now_s: float) -> bool:
        """Whether the broker may act as a leader."""
        return now_s < self.until_s


class Office:
    """What the controller knows of its own being in office.

    Args:
        session_s: How long a session lasts.
    """

    __slots__ = ("_confirmed_s", "session_s")

    def __init__(self, session_s: float) -> None:
        self.session_s = session_s
        self._confirmed_s = NEVER_S

    @property
    def own_lease_s(self) -> float:
        """How long the controller may act after it was confirmed, and its successor waits."""
        return self.session_s * CONTROLLER_SHARE

    def confirmed(self, asked_s: float) -> None:
        """A majority has answered what was asked at ``asked_s``, in the term that still goes on."""
        self._confirmed_s = max(self._confirmed_s, asked_s)

    def left(self) -> None:
        """Another one is the controller, or nobody."""
        self._confirmed_s = NEVER_S

    def holds(self, now_s: float) -> bool:
        """Whether it may judge others: one that has slept must not fence those it did not hear."""
        return now_s < self._confirmed_s + self.own_lease_s

    def grant_s(self, now_s: float) -> float:
        """How long a broker whose heartbeat came now may act as a leader; 0 for not at all."""
        return max(0.0, self._confirmed_s + self.session_s - now_s)
